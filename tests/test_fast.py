"""Scoring by OpenVINO gives what the model gives."""

import builtins

import pytest
import torch

from milcnn.fast import openvino_scorer
from milcnn.model import MILCNN, ModelSettings, Output

pytest.importorskip("openvino", reason="OpenVINO is optional")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # of torch.export itself


@pytest.fixture
def model() -> MILCNN:
    torch.manual_seed(0)
    settings = ModelSettings(study="s", channels=["a", "b"], classes=["x", "y", "z"], width=0.1, normalisation="batch")
    return MILCNN(settings, [100.0, 200.0], [10.0, 20.0]).eval()


@pytest.mark.parametrize("side", [160, 200])
def test_float32_is_the_same_within_rounding(model, side):
    fields = torch.randint(0, 400, (2, 2, side, side)).to(torch.uint16)
    score = openvino_scorer(model)
    with torch.inference_mode():
        expected = model(fields)
    for name, found, true in zip(Output._fields, score(fields), expected, strict=True):
        torch.testing.assert_close(found, true, rtol=1e-3, atol=1e-4, msg=name)
    torch.testing.assert_close(score(fields).bags, expected.bags)  # compiled by now


def test_bfloat16_gives_nearly_the_same_maps(model):
    fields = torch.randint(0, 400, (4, 2, 160, 160)).to(torch.uint16)
    with torch.inference_mode():
        expected = model(fields)
    found = openvino_scorer(model, "bfloat16")(fields)
    assert (found.instances - expected.instances).abs().max() < 0.02
    assert found.instances.dtype == torch.float32


def test_without_openvino_a_sentence_says_so(model, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == "openvino":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="scoring by OpenVINO needs it; run 'pip install openvino'"):
        openvino_scorer(model)
