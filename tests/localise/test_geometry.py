"""Centres of instances, against the pixels that move them; maps enlarged by them, against SciPy."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter
from torch import nn

from milcnn.localise import geometry
from milcnn.network.model import MILCNN, ModelSettings


def network(trunk="paper", padding="valid"):
    torch.manual_seed(0)
    norm = "batch" if trunk == "residual" else "none"
    settings = ModelSettings(
        study="s", channels=["a"], classes=["x", "y"], width=0.1, trunk=trunk, padding=padding, normalisation=norm,
        dropout=0, dropout_dense=0,
    )  # fmt: skip
    return MILCNN(settings).eval()


def whole_support(model):
    """``model`` with positive weights, without ReLU and with averages for maxima: every pixel that can count, does."""
    for name, layer in list(model.trunk.named_modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.MaxPool2d):
            mean = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
            model.trunk.set_submodule(name, mean)
    return model


def support(model, size, i, j):
    """First and last row and column of the pixels that instance (i, j) depends on."""
    pixels = torch.ones(1, 1, *size, requires_grad=True)
    model.double()(pixels.double()).scores[0, 0, i, j].backward()
    ys, xs = pixels.grad[0, 0].nonzero().T.numpy()
    return ys.min(), ys.max(), xs.min(), xs.max()


CASES = [("paper", "valid", (450, 391), 5), ("paper", "same", (450, 391), 6), ("residual", "valid", (1029, 1060), 15)]


@pytest.mark.parametrize(("trunk", "padding", "size", "i"), CASES)
def test_an_instance_lies_in_the_middle_of_the_pixels_that_count_for_it(trunk, padding, size, i):
    model = whole_support(network(trunk, padding))
    ys, xs = geometry.instance_centres(model, size)
    assert model(torch.ones(1, 1, *size)).scores.shape[2:] == (len(ys), len(xs))
    top, bottom, left, right = support(model, size, i, i)
    assert top > 0, "the border must not cut the receptive field"
    assert bottom < size[0] - 1
    assert (top + bottom) / 2 == ys[i]
    assert (left + right) / 2 == xs[i]


@pytest.mark.parametrize("size", [(159, 200), (256, 231), (135, 300)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_as_many_centres_as_instances_at_any_size(padding, size):
    model = network(padding=padding)
    assert tuple(map(len, geometry.instance_centres(model, size))) == model(torch.zeros(1, 1, *size)).scores.shape[2:]


def test_an_impulse_moved_by_the_stride_moves_the_map_by_one():
    model = network()
    fields = torch.zeros(2, 1, 391, 391)
    fields[0, 0, 163, 195] = fields[1, 0, 195, 227] = 50
    one, other = model(fields).scores
    assert one.std() > 0
    torch.testing.assert_close(other[:, 1:, 1:], one[:, :-1, :-1])


@pytest.mark.parametrize(("padding", "least"), [("valid", 135), ("same", 63)])
def test_least_side_is_the_smallest_field_with_an_instance(padding, least):
    model = network(padding=padding)
    assert geometry.least_side(model.trunk) == least
    assert model(torch.zeros(1, 1, least, least)).scores.shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 1, least, least - 1))


def test_a_field_smaller_than_an_instance_is_refused_or_padded():
    fields = torch.arange(40.0 * 150).view(1, 1, 40, 150)
    with pytest.raises(ValueError, match=r"fields: 40 × 150 px, but one instance takes 135 px; give pad=True"):
        geometry.padded_to_instance(network(), fields)
    padded, inside = geometry.padded_to_instance(network(), fields, pad=True)
    assert padded.shape == (1, 1, 135, 150)
    torch.testing.assert_close(padded[..., *inside], fields)
    torch.testing.assert_close(padded, torch.from_numpy(np.pad(fields, ((0, 0), (0, 0), (47, 48), (0, 0)), "reflect")))


def test_enlarged_is_linear_between_centres_and_flat_outside():
    maps = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    ys, xs = np.array([4.0, 12.0, 20.0]), np.array([3.5, 11.5, 19.5, 27.5])
    large = geometry.enlarged(maps, ys, xs, (25, 33))
    at = np.stack(np.meshgrid(np.arange(25).clip(4, 20), np.arange(33).clip(3.5, 27.5), indexing="ij"), axis=-1)
    expected = [RegularGridInterpolator((ys, xs), one.numpy())(at) for one in maps]
    np.testing.assert_allclose(large, np.stack(expected), rtol=1e-5)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_smoothed_is_a_gaussian(sigma):
    maps = np.random.default_rng(0).random((2, 30, 41))
    expected = [gaussian_filter(one, sigma, mode="mirror", truncate=3) for one in maps]
    np.testing.assert_allclose(geometry.gaussian_blur(torch.from_numpy(maps), sigma), expected, rtol=1e-6)
