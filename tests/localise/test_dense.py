"""Maps at several scales, against functions with a known mean; the sharp map."""

import numpy as np
import pytest
import torch

from milcnn.localise import dense, maps
from milcnn.localise.masks import cell_foreground
from milcnn.network.model import MILCNN, ModelSettings


def network(padding):
    torch.manual_seed(0)
    settings = ModelSettings(
        study="s", channels=["a", "b"], classes=["x", "y"], width=0.25, padding=padding, dropout=0, dropout_dense=0
    )
    return MILCNN(settings, mean=[3.0, 1.0], std=[2.0, 4.0]).eval()


@pytest.fixture(scope="module", params=["valid", "same"])
def model(request):
    return network(request.param)


@pytest.fixture(scope="module")
def fields():
    return torch.rand(2, 2, 300, 340, generator=torch.Generator().manual_seed(1)) * 8


def test_multi_scale_averages_over_scales(model):
    ramp = torch.linspace(0, 1, 200).expand(1, 1, 160, 200)

    def brighter_where_larger(model, fields, class_index):
        return fields[:, 0] + fields.shape[-2] / 160

    found = dense.multi_scale(brighter_where_larger, model, ramp, 0, scales=(0.9, 1))
    torch.testing.assert_close(found[..., 3:-3], (0.95 + ramp[:, 0])[..., 3:-3], rtol=0, atol=2e-3)


def test_multi_scale_continues_a_field_that_gets_too_small_but_refuses_one_that_is(model):
    fields = torch.rand(1, 2, 136, 150, generator=torch.Generator().manual_seed(0))
    found = dense.multi_scale(maps.class_map, model, fields, 0, scales=(0.5,))
    half = torch.nn.functional.interpolate(fields, [68, 75], mode="bilinear", antialias=True)
    expected = maps.class_map(model, half, 0, pad=True)
    expected = torch.nn.functional.interpolate(expected[:, None], [136, 150], mode="bilinear", antialias=True)[:, 0]
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="give pad=True"):
        dense.multi_scale(maps.class_map, model, fields[..., :60], 0)


@pytest.fixture
def cells():
    """A field with three bright discs on noise, and where they are."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:192, :224]
    discs = np.any([(rows - y) ** 2 + (columns - x) ** 2 < 15**2 for y, x in [(40, 50), (120, 80), (100, 180)]], axis=0)
    image = np.stack([0.3 * discs, 4 * discs]) + 10 + 0.05 * rng.standard_normal((2, *discs.shape))
    return torch.from_numpy(image[None].astype(np.float32)), discs


def test_the_sharp_map_is_bright_on_foreground_alone_and_a_blank_field_is_dark(model, cells):
    fields, _ = cells
    both = torch.cat([fields, torch.full_like(fields, 10.0)])
    found = dense.sharp_map(model, both, 0)
    assert found.shape == (2, 192, 224)
    assert found[0].max() > 0
    assert not found[0][~cell_foreground(fields.numpy())[0]].any()
    assert not found[1].any()


def test_the_sharp_map_of_a_small_field_is_refused_or_padded(cells):
    settings = ModelSettings(study="s", channels=["a", "b"], classes=["x", "y"], width=0.1)
    small = cells[0][:, :, :100]
    with pytest.raises(ValueError, match="fields: 100 × 224 px, but one instance takes 135 px"):
        dense.sharp_map(MILCNN(settings), small, 0)
    assert dense.sharp_map(MILCNN(settings), small, 0, pad=True).shape == (1, 100, 224)


def test_maps_are_smoothed_by_the_gaussian_of_their_docstring(monkeypatch):
    point = torch.zeros(1, 65, 65)
    point[0, 32, 32] = 1
    for name in ("jacobian_map", "layer_cam"):
        monkeypatch.setattr(dense, name, lambda *_, **__: point)
    found = dense.evidence_map(None, None, 0)[0].double()
    distance = (torch.arange(65.0) - 32).double()
    assert (found.sum(0) * distance**2).sum() / found.sum() == pytest.approx(4.0**2, rel=0.03)
