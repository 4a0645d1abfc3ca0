"""Scoring by OpenVINO gives the output of the model."""

import builtins

import pytest
import torch

from milcnn.network.fast import openvino_scorer
from milcnn.network.model import MILCNN, ModelSettings, Output

pytest.importorskip("openvino", reason="OpenVINO is optional")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # of torch.export itself


@pytest.fixture
def model() -> MILCNN:
    torch.manual_seed(0)
    settings = ModelSettings(study="s", channels=["a", "b"], classes=["x", "y", "z"], width=0.1, normalisation="batch")
    return MILCNN(settings, [100.0, 200.0], [10.0, 20.0]).eval()


def largest_gap(ours: Output, true: Output) -> float:
    """Of the scores z, in units of the largest."""
    return ((ours.scores - true.scores).abs().max() / true.scores.abs().max()).item()


@pytest.mark.parametrize("side", [160, 200])
def test_float32_is_the_same_within_rounding(model, side):
    fields = torch.randint(0, 400, (2, 2, side, side)).to(torch.uint16)
    score = openvino_scorer(model)
    with torch.inference_mode():
        expected = model(fields)
    for name, ours, true in zip(Output._fields, score(fields), expected, strict=True):
        torch.testing.assert_close(ours, true, rtol=1e-3, atol=1e-4, msg=name)
    torch.testing.assert_close(score(fields).bags, expected.bags)  # compiled by now


def test_bfloat16_gives_nearly_the_same_scores(model):
    fields = torch.randint(0, 400, (4, 2, 160, 160)).to(torch.uint16)
    with torch.inference_mode():
        expected = model(fields)
    ours = openvino_scorer(model, "bfloat16")(fields)
    assert largest_gap(ours, expected) < 0.03  # 8 bits of mantissa, six layers; a CPU without bfloat16 has 0
    assert ours.instances.dtype == torch.float32


@pytest.mark.parametrize("side", [160, 200])
@pytest.mark.parametrize("calibrated_at", [200, 240])  # px, of fields of another size too
def test_int8_gives_nearly_but_not_exactly_the_same_scores(model, side, calibrated_at):
    pytest.importorskip("nncf", reason="NNCF is optional")
    fields = torch.randint(0, 400, (2, 2, side, side)).to(torch.uint16)
    with torch.inference_mode():
        expected = model(fields)
    ours = openvino_scorer(model, "int8", torch.randint(0, 400, (5, 2, calibrated_at, calibrated_at)).to(torch.uint16))(
        fields
    )
    assert 1e-6 < largest_gap(ours, expected) < 0.05


def test_the_largest_value_of_the_calibration_fields_is_in_range(model):
    """One bright field among eight: a range that is their mean would cut it off."""
    pytest.importorskip("nncf", reason="NNCF is optional")
    fields = torch.randint(0, 400, (8, 2, 160, 160)).to(torch.uint16)
    fields[-1] = fields[-1].float().mul(20).to(torch.uint16)
    with torch.inference_mode():
        expected = model(fields[-1:])
    ours = openvino_scorer(model, "int8", fields)(fields[-1:])
    torch.testing.assert_close(ours.profiles, expected.profiles, rtol=0.1, atol=0.05 * expected.profiles.max().item())


def test_int8_needs_fields_to_calibrate_on(model):
    with pytest.raises(ValueError, match="precision: 'int8' needs calibration"):
        openvino_scorer(model, "int8")


@pytest.mark.parametrize(
    ("absent", "sentence"),
    [
        ("openvino", "scoring by OpenVINO needs it; run 'pip install openvino'"),
        ("nncf", "scoring in int8 needs NNCF; run 'pip install nncf'"),
    ],
)
def test_a_missing_package_is_named(model, monkeypatch, absent, sentence):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == absent:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    fields = torch.zeros(1, 2, 160, 160)
    with pytest.raises(ImportError, match=sentence):
        openvino_scorer(model, "int8", fields)(fields)
