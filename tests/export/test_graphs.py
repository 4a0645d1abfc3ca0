"""ONNX Runtime and TorchScript compute what PyTorch does, from pixels as they are."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import milcnn
from milcnn.evaluate.calibration import scaled
from milcnn.export import graphs
from milcnn.export.graphs import FieldMaps, WholeOutput, facts_of_network, write_onnx, write_torchscript
from milcnn.localise.geometry import least_side
from milcnn.localise.maps import all_class_maps
from milcnn.network.model import MILCNN, ModelSettings
from tests.export.conftest import RUN

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and onnxscript about themselves
SIZES = [(1, 63, 64), (3, 129, 97), (2, 200, 331)]  # fields, height, width; not the size of the export


def saturated(pooling: str, **settings) -> MILCNN:
    """A network whose scores go far beyond those at which a sigmoid is 0 or 1."""
    torch.manual_seed(0)
    own = ModelSettings(study="s", channels=["a", "b"], classes=["x", "y", "z"], width=0.1, pooling=pooling, **settings)
    model = MILCNN(own, mean=[30.0, 10.0], std=[20.0, 40.0]).eval()
    with torch.no_grad():
        model.scores.weight.mul_(100)
    return model


def run_onnx(path, pixels):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels.numpy()})


@pytest.mark.parametrize("size", SIZES)
def test_the_exported_network_computes_the_same_at_any_size(run, exported, size):
    """Against the network as it was trained, not the copy that is exported."""
    n, *sides = size
    pixels = torch.randint(0, 256, (n, 1, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    with torch.inference_mode():
        own = run.model(pixels)
    y = (own.logits / run.temperature).softmax(1)
    expected = own.instances.mean(dim=(2, 3)), own.bags, y, own.instances
    found = run_onnx(exported / "model.onnx", pixels.float())
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)


def test_y_is_what_milcnn_scores(exported):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 96, 130)).astype(np.uint8)
    found = run_onnx(exported / "model.onnx", torch.from_numpy(pixels).float())[2]
    np.testing.assert_allclose(found, milcnn.load(RUN).scores(pixels).y, rtol=0, atol=1e-5)


def test_the_file_says_what_goes_in_and_comes_out(run, exported):
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(float)", ["batch", 1, "height", "width"])
    assert [output.name for output in session.get_outputs()] == ["p", "P", "y", "maps"]
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == run.model.settings.classes
    assert json.loads(facts["channels"]) == ["digit"]
    assert facts["least_side_px"] == "63"
    assert float(facts["temperature"]) == pytest.approx(run.temperature, rel=1e-5)
    assert facts_of_network(run.model, 0.65, 1)["pixel_size_um"] == "0.65"


def test_the_file_is_small_sound_and_names_no_folder_of_this_machine(run, exported):
    content = (exported / "model.onnx").read_bytes()
    assert len(content) < 3 * 4 * sum(tensor.numel() for tensor in run.model.state_dict().values())
    onnx.checker.check_model(onnx.load(exported / "model.onnx"), full_check=True)
    assert b".py" not in content


@pytest.mark.parametrize(
    ("pooling", "settings"),
    [
        ("power", {"multilabel": True, "normalisation": "batch"}),  # log σ of scores far below 0
        ("gated_attention", {"padding": "same", "normalisation": "group"}),
    ],
)
def test_other_networks_compute_the_same(tmp_path, pooling, settings):
    model = saturated(pooling, **settings)
    write_onnx(WholeOutput(model, 2.0), tmp_path / "model.onnx", {})
    pixels = graphs.example_pixels(model, (least_side(model.trunk) + 61, least_side(model.trunk) + 35), 3)
    with torch.inference_mode():
        own = model(pixels)
    assert own.scores.min() < -50
    expected = own.bags, scaled(model.probabilities(own.logits).numpy(), 2.0, model.settings.multilabel)
    for ours, theirs in zip(expected, run_onnx(tmp_path / "model.onnx", pixels)[1:3], strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)


def test_a_pooling_that_onnx_cannot_express_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pooling 'quantile' cannot be written as ONNX"):
        write_onnx(WholeOutput(saturated("quantile"), 1.0), tmp_path / "model.onnx", {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch, run):
    monkeypatch.setattr(graphs, "largest_difference", lambda graph, path: float("nan"))
    with pytest.raises(ValueError, match="off PyTorch"):
        write_onnx(FieldMaps(run.model), tmp_path / "model.onnx", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_maps_at_field_size_are_the_class_maps(tmp_path, padding):
    """In both formats, at sizes that the export did not see: one instance, odd sizes, a border without an instance."""
    model = saturated("mean", padding=padding)
    write_onnx(FieldMaps(model), tmp_path / "maps.onnx", {})
    write_torchscript(FieldMaps(model), tmp_path / "maps.pt")
    traced, least = torch.jit.load(tmp_path / "maps.pt"), least_side(model.trunk)
    for extra in ((0, 0), (31, 66), (200, 1)):
        fields = graphs.example_pixels(model, (least + extra[0], least + extra[1]), 1)
        expected = all_class_maps(model, fields)
        assert expected.shape[2:] == fields.shape[2:]
        np.testing.assert_allclose(run_onnx(tmp_path / "maps.onnx", fields)[0], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(traced(fields), expected, rtol=0, atol=1e-5)


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch, tmp_path, run):
    monkeypatch.setattr("milcnn.export.absent.find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(ImportError, match=r"needs onnxscript; run 'pip install onnxscript'"):
        write_onnx(WholeOutput(run.model, 1.0), tmp_path / "model.onnx", {})
