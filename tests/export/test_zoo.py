"""Packages of the BioImage Model Zoo: other people's test passes without a network, and they say what is in them."""

import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from milcnn.export.zoo import axis_name, nickname, small_part, write_maps_package
from milcnn.localise.maps import all_class_maps
from milcnn.network.model import MILCNN, ModelSettings, save_model
from milcnn.prepare.prepared import Prepared
from tests.export.conftest import RUN

OFFLINE = ["unshare", "--map-root-user", "--net"]  # a process without any network


def content(path: Path, name: str):
    with zipfile.ZipFile(path) as package, package.open(name) as file:
        return np.load(file) if name.endswith(".npy") else yaml.safe_load(file)


@pytest.fixture(scope="module")
def bioimageio(environment):
    """The command, in an environment of its own: bioimageio.core 0.11 breaks with pydantic 2.14. It borrows torch."""
    python = environment("bioimageio.core", "pydantic<2.14", "onnxruntime")
    (packages,) = python.parents[1].glob("lib/*/site-packages")
    (packages / "torch.pth").write_text(str(Path(torch.__file__).parents[1]))
    return python.with_name("bioimageio")


@pytest.mark.environment
@pytest.mark.parametrize(("name", "weights"), [("zoo-full.zip", ["onnx"]), ("zoo-maps.zip", ["onnx", "torchscript"])])
def test_the_test_of_the_zoo_passes_without_a_network(exported, bioimageio, name, weights, tmp_path):
    """It computes the test outputs anew with each kind of weights, for sizes and batches that the package allows."""
    can = shutil.which("unshare") and subprocess.run([*OFFLINE, "true"], check=False).returncode == 0
    command = [*(OFFLINE if can else []), bioimageio, "test", exported / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in weights:
        assert f"Testing inference with '{kind}'" in done.stderr


def test_the_package_for_fiji_has_one_input_and_one_output_of_the_same_size(exported):
    told = content(exported / "zoo-maps.zip", "rdf.yaml")
    (pixels,), (maps,) = told["inputs"], told["outputs"]
    for tensor, names in ((pixels, ["digit"]), (maps, [f"class_{k}" for k in range(1, 10)])):
        assert [axis["type"] for axis in tensor["axes"]] == ["batch", "channel", "space", "space"]
        assert tensor["axes"][0]["size"] == 1
        assert tensor["axes"][1]["channel_names"] == names
    for axis, of_map in zip(pixels["axes"][2:], maps["axes"][2:], strict=True):
        assert axis["size"] == {"min": 63, "step": 1}
        assert of_map["size"] == {"tensor_id": "pixels", "axis_id": axis["id"], "offset": 0}
        assert of_map["scale"] == axis["scale"]


def test_test_tensors_are_part_of_a_test_field_and_its_maps(run, exported):
    field = run.prepared.pixels(run.prepared.of("test"))[0, 0]
    pixels = content(exported / "zoo-maps.zip", "pixels.npy")
    assert pixels.shape == (1, 1, 96, 64)  # two instances, 32 px apart: 64 and 96 are multiples of 32 below 96
    assert any((field[:, left : left + 64] == pixels[0, 0]).all() for left in range(33))
    expected = all_class_maps(run.model, torch.from_numpy(pixels))
    np.testing.assert_allclose(content(exported / "zoo-maps.zip", "maps.npy"), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_part_of_a_field_is_where_a_class_is_most_probable(run):
    """Fields have two columns of instances, the part has one: the left for some fields, the right for others."""
    sides = set()
    for field in torch.from_numpy(run.prepared.pixels(run.prepared.fields)).float().split(1):
        left = 32 * int(run.model(field).instances.amax(dim=(0, 1, 2)).argmax())
        torch.testing.assert_close(small_part(run, field), field[..., left : left + 64])
        sides.add(left)
    assert sides == {0, 32}


class NoisyFields(Prepared):
    """Fields of three channels that no program can compress well."""

    def pixels(self, rows):
        return np.random.default_rng(0).integers(0, 4096, (len(rows), 3, 256, 256)).astype(np.uint16)


@pytest.mark.filterwarnings("ignore")  # of torch and onnxscript about themselves
@pytest.mark.parametrize("width", [0.25, 1])
def test_a_package_is_at_most_three_times_as_large_as_the_weights(run, width, tmp_path):
    torch.manual_seed(0)
    names = {"channels": ["a", "b", "c"], "classes": list("tuvwxyz")}
    model = MILCNN(ModelSettings(study="s", width=width, padding="same", **names), [2000.0] * 3, [1000.0] * 3).eval()
    fields = NoisyFields(tmp_path, "s", *names.values(), model.mean, model.std, 0.5).with_fields(run.prepared.fields)
    write_maps_package(replace(run, model=model, prepared=fields), tmp_path / "maps.zip")
    save_model(model, tmp_path / "model.safetensors")
    assert (tmp_path / "maps.zip").stat().st_size < 3 * (tmp_path / "model.safetensors").stat().st_size


def test_every_file_of_the_sample_is_at_most_three_times_as_large_as_the_weights(exported):
    sizes = {path.name: path.stat().st_size for path in exported.iterdir()}
    assert max(sizes.values()) < 3 * (RUN / "model.safetensors").stat().st_size, sizes


def test_the_full_package_says_how_large_the_maps_of_a_field_are(run, exported):
    told = content(exported / "zoo-full.zip", "rdf.yaml")
    assert [output["id"] for output in told["outputs"]] == ["p", "P", "y", "maps"]
    size, maps = told["inputs"][0]["axes"][2]["size"], told["outputs"][3]["axes"][2]
    for steps in range(4):
        side = size["min"] + steps * size["step"]
        with torch.inference_mode():
            (rows, _) = run.model(torch.zeros(1, 1, side, side)).instances.shape[2:]
        assert side * 1 // maps["scale"] + maps["size"]["offset"] == rows == steps + 1


def test_packages_have_a_cover_and_a_name_of_their_own(exported):
    names = set()
    for name in ("zoo-full.zip", "zoo-maps.zip"):
        told = content(exported / name, "rdf.yaml")
        names.add(told["id"])
        with zipfile.ZipFile(exported / name) as package, package.open("cover.jpg") as file:
            image = np.asarray(Image.open(file))
        assert image.shape == (256, 512, 3)
        assert min(image[:, :256].std(), image[:, 256:].std()) > 10
    assert len(names) == 2


def test_names_are_the_same_each_time_and_fit_the_zoo():
    assert nickname("digits-noisy_and-0 class maps") == nickname("digits-noisy_and-0 class maps")
    assert axis_name("β-arrestin 2") == "β_arrestin_2"
    assert axis_name("9") == "class_9"
