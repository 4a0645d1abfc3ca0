"""Every map, against captum on the same network, and what must not matter."""

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop, LayerActivation, LayerGradientXActivation
from scipy.ndimage import map_coordinates
from torch import nn

from milcnn.localise import geometry, maps

SIZE = (160, 192)
CLASSES = torch.tensor([2, 0])
MAPS = [maps.class_map, maps.jacobian_map, maps.layer_cam]


@pytest.fixture(scope="module")
def fields():
    return torch.rand(2, 2, *SIZE, generator=torch.Generator().manual_seed(1)) * 8


class Signal(nn.Module):
    """Σ start · z of each standardised field, with start = P_i · p_ij held fixed: a scalar to explain, (B,)."""

    def __init__(self, model, fields):
        super().__init__()
        self.trunk, self.scores = model.trunk, model.scores
        output = model(fields)
        self.start = torch.zeros_like(output.scores)
        for field, label in enumerate(CLASSES):
            self.start[field, label] = (output.bags[field, label] * output.instances[field, label]).detach()

    def forward(self, pixels):
        return (self.scores(self.trunk(pixels)) * self.start).sum(dim=(1, 2, 3))


@pytest.fixture
def signal(model, fields):
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # captum needs the inputs of ReLUs unchanged
    yield Signal(model, fields)
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = True


@pytest.fixture
def pixels(model, fields):
    return ((fields - model.mean) / model.std).requires_grad_()


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
def test_jacobian_map_is_captums_guided_back_propagation(model, fields, signal, pixels):
    expected = GuidedBackprop(signal).attribute(pixels).sum(1).clamp(min=0)
    assert expected.max() > 1e-3
    torch.testing.assert_close(maps.jacobian_map(model, fields, CLASSES), expected, rtol=1e-4, atol=1e-7)


def at_centres(found, part):
    """The values of maps (B, H, W) where the values of ``part`` of the trunk lie, (B, h, w)."""
    centres = [geometry.axis_centres(part, side) for side in SIZE]
    at = np.stack(np.meshgrid(*centres, indexing="ij"))
    return np.stack([map_coordinates(one.numpy(), at, order=1) for one in found])


@pytest.mark.parametrize(("stride", "layer"), [(4, 7), (8, 11), (32, 20)])
def test_layer_cam_is_positive_gradient_times_activation(model, fields, signal, pixels, stride, layer):
    part = signal.trunk[: layer + 1]
    product = LayerGradientXActivation(signal, part[-1]).attribute(pixels).detach()
    features = LayerActivation(signal, part[-1]).attribute(pixels).detach()
    # before a maximum and its ReLU features may be negative, and have no gradient there
    assert (product[features < 0] == 0).all(), "so the sign of the product is that of the gradient"
    expected = product.clamp(min=0).sum(1) / stride**2
    assert expected.max() > 0
    found = maps.layer_cam(model, fields, CLASSES, stride=stride)
    np.testing.assert_allclose(at_centres(found, part), expected, rtol=1e-3, atol=1e-7)


def test_a_stride_that_the_trunk_does_not_have_is_refused(model, fields):
    with pytest.raises(ValueError, match="no features of stride 5; use one of 2, 4, 8, 16, 32"):
        maps.layer_cam(model, fields, 0, stride=5)


@pytest.mark.parametrize("mapping", MAPS)
def test_a_batch_gives_what_its_fields_give_one_by_one(mapping, model, fields):
    together = mapping(model, fields, CLASSES)
    assert together.shape == (2, *SIZE)
    assert together.dtype == torch.float32
    assert together.min() >= 0
    assert together.max() > 0
    alone = [mapping(model, fields[i : i + 1], int(CLASSES[i])) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("mapping", MAPS)
def test_the_model_is_left_as_it_was(mapping, model, fields):
    before = model(fields).logits.detach()
    mapping(model, fields, 0)
    assert torch.equal(model(fields).logits.detach(), before)
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    assert all(relu.inplace for relu in relus)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    assert not fields.requires_grad


@pytest.mark.parametrize("mapping", MAPS)
def test_frozen_weights_and_images_as_the_camera_gives_them(mapping, model, fields):
    counts = (fields * 1000).to(torch.uint16)
    expected = mapping(model, counts.float(), 1)
    for weight in model.parameters():
        weight.requires_grad_(False)
    found = mapping(model, counts, 1)
    for weight in model.parameters():
        weight.requires_grad_(True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mapping", MAPS)
def test_a_small_field_is_refused_or_padded(mapping, model, fields):
    small = fields[:, :, :50, :90]
    with pytest.raises(ValueError, match="fields: 50 × 90 px, but one instance takes 63 px"):
        mapping(model, small, 1)
    assert mapping(model, small, 1, pad=True).shape == (2, 50, 90)


def test_class_map_holds_the_instances_at_their_centres(model, fields):
    found = maps.class_map(model, fields, CLASSES)
    instances = model(fields).instances[torch.arange(2), CLASSES].detach()
    np.testing.assert_allclose(at_centres(found, model.trunk), instances, rtol=1e-5)
    assert found.min() == instances.min()
    assert found.max() == instances.max()
