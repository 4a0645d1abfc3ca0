"""Packages of the BioImage Model Zoo (bioimage.io, format 0.5): for its tools, and for Fiji and QuPath."""

import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch import Tensor

from milcnn.export.absent import needed
from milcnn.export.card import citation, licence_of
from milcnn.export.graphs import OPSET, FieldMaps, Graph, WholeOutput, write_onnx, write_torchscript
from milcnn.export.trained_run import TrainedRun
from milcnn.files import written_whole
from milcnn.localise.geometry import least_side
from milcnn.localise.maps import all_class_maps
from milcnn.network.dimensions import STRIDE

ADJECTIVES = ["amiable", "bright", "calm", "daring", "eager", "fair", "gentle", "happy", "honest", "jolly", "kind"]
ANIMALS = {"badger": "🦡", "beaver": "🦫", "hedgehog": "🦔", "otter": "🦦", "owl": "🦉", "squid": "🦑", "sloth": "🦥"}
MEANING = {
    "pixels": "grey values as the study prepared them; the standardisation is inside",
    "p": "mean of the instance probabilities of each class",
    "P": "pooled probability of each class",
    "y": "probability of each class after the class layer",
    "maps": "probability of each class at each place",
}
COVER_SIDE = 256  # px; a cover is twice as wide as high


def nickname(name: str) -> tuple[str, str]:
    """An adjective and an animal for ``name``, the same each time, as the zoo has them; and the emoji of the animal."""
    number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    animal = list(ANIMALS)[number % len(ANIMALS)]
    return f"{ADJECTIVES[number // len(ANIMALS) % len(ADJECTIVES)]}-{animal}", ANIMALS[animal]


def write_full_package(run: TrainedRun, path: Path) -> None:
    """A package with p̄, P, y and the class maps of fields of any size; see ``write_package``."""
    write_package(run, WholeOutput(run.model, run.temperature), path)


def write_maps_package(run: TrainedRun, path: Path) -> None:
    """A package with the class maps at the size of the field, one input and one output, batch 1.

    It is for Fiji (deepImageJ) and QuPath, and also has TorchScript; see ``write_package``.
    """
    write_package(run, FieldMaps(run.model), path)


@torch.inference_mode()
def write_package(run: TrainedRun, graph: Graph, path: Path) -> None:
    """Write the zip ``path``: weights, test tensors of part of the first test field, cover, description, documentation.

    Raises ImportError without ``bioimageio.spec``, ValueError for a package that breaks the rules of the zoo.
    """
    needed("onnx", "bioimageio.spec")
    from bioimageio.spec import save_bioimageio_package

    field = torch.from_numpy(run.prepared.pixels(run.prepared.of("test").iloc[:1])).float()
    pixels = small_part(run, field)
    outputs = graph(pixels)
    tensors = dict(zip(("pixels", *graph.names), (pixels, *([outputs] if graph.one else outputs)), strict=True))
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bioimageio.spec about advice
        folder = Path(name)
        write_onnx(graph, folder / "model.onnx", {})
        if isinstance(graph, FieldMaps):
            write_torchscript(graph, folder / "model.pt")
        for tensor, values in tensors.items():
            np.save(folder / f"{tensor}.npy", values.numpy())
        cover(run, field).save(folder / "cover.jpg", quality=90)
        told = description(run, graph, tensors)
        (folder / "README.md").write_text(f"# {told['name']}\n\n{documentation(run, graph)}\n", encoding="utf-8")
        YAML(typ="safe", pure=True).dump(told, folder / "rdf.yaml")
        with written_whole(path) as temporary:
            save_bioimageio_package(folder / "rdf.yaml", output_path=temporary)


def description(run: TrainedRun, graph: Graph, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The content of ``rdf.yaml``, see https://github.com/bioimage-io/spec-bioimage-io."""
    kind = "class maps" if graph.one else "all outputs"
    name, emoji = nickname(f"{run.name} {kind}")
    cited = citation()
    paper = cited["references"][0]
    weights: dict[str, Any] = {"onnx": {"source": "model.onnx", "opset_version": OPSET}}
    if graph.one:
        torch_version = torch.__version__.partition("+")[0]
        weights["torchscript"] = {"source": "model.pt", "pytorch_version": torch_version, "parent": "onnx"}
    licence = licence_of(run.model.settings.study)
    return {
        "type": "model",
        "format_version": "0.5.4",
        "id": name,
        "id_emoji": emoji,
        "name": f"{run.name.replace('.', '_')} ({kind})",
        "description": f"MIL-CNN of study {run.model.settings.study}, {kind}: which cells of a field show which class",
        "authors": [{"name": author["name"]} for author in cited["authors"]],
        "cite": [{"text": f"{paper['title']}, {paper['journal']} {paper['year']}", "doi": paper["doi"]}],
        **({"license": licence} if licence else {}),
        "tags": ["2d", "fluorescence-light-microscopy", "image-classification", "multiple-instance-learning", "cells"],
        "covers": ["cover.jpg"],
        "documentation": "README.md",
        "inputs": [tensor_description(run, graph, "pixels", tensors["pixels"])],
        "outputs": [tensor_description(run, graph, name, tensors[name]) for name in graph.names],
        "weights": weights,
    }


def tensor_description(run: TrainedRun, graph: Graph, name: str, values: Tensor) -> dict[str, Any]:
    """Axes, channel names, pixel size, test file of one tensor."""
    own = run.model.settings
    names = own.channels if name == "pixels" else own.classes
    axes: list[dict[str, Any]] = [{"type": "batch", "size": 1} if graph.one else {"type": "batch"}]
    axes.append({"type": "channel", "channel_names": [axis_name(one) for one in names]})
    if values.ndim == 4:
        axes += [space_axis(run, graph.one, name, axis) for axis in "yx"]
    data = {"type": "float32"} if name == "pixels" else {"type": "float32", "range": [0.0, 1.0]}
    described = {"id": name, "description": MEANING[name], "axes": axes, "data": data}
    return described | {"test_tensor": {"source": f"{name}.npy"}}


def space_axis(run: TrainedRun, field_size: bool, name: str, axis: str) -> dict[str, Any]:
    """Height or width of a tensor. Maps have the size of the field, or else a value a stride.

    These have sizes a stride apart, for which the zoo can say how large the maps are.
    """
    pixel, smallest = run.prepared.pixel_size or 1.0, smallest_sides(run)["yx".index(axis)]
    described: dict[str, Any] = {"type": "space", "id": axis, "scale": pixel}
    if run.prepared.pixel_size:
        described["unit"] = "micrometer"
    if name == "pixels":
        least, step = (least_side(run.model.trunk), 1) if field_size else (smallest, STRIDE)
        return described | {"size": {"min": least, "step": step}}
    reference = {"tensor_id": "pixels", "axis_id": axis, "offset": 0 if field_size else 1 - smallest // STRIDE}
    return described | {"size": reference, "scale": pixel if field_size else pixel * STRIDE}


def smallest_sides(run: TrainedRun) -> list[int]:
    """Height and width, px, with one instance; those of the study's fields are a multiple of the stride larger."""
    least = least_side(run.model.trunk)
    return [least + (length - least) % STRIDE for length in run.field_size]


def small_part(run: TrainedRun, field: Tensor) -> Tensor:
    """Two instances, one below the other, of ``field`` (1, channels, H, W), from where a class is most probable.

    As test tensors, a whole field would be many times larger than the weights.
    """
    likely = run.model(field).instances[0].amax(dim=0)
    place = divmod(int(likely.argmax()), likely.shape[1])
    height, width = smallest_sides(run)
    size = min(height + STRIDE, field.shape[2]), width
    top, left = (min(STRIDE * n, whole - side) for n, whole, side in zip(place, field.shape[2:], size, strict=True))
    return field[:, :, top : top + size[0], left : left + size[1]]


def axis_name(name: str) -> str:
    """A name of a channel or class as the zoo takes it: letters, digits and underscores, not a digit first."""
    clean = "".join(letter if letter.isalnum() else "_" for letter in name)
    return clean if clean.isidentifier() else f"class_{clean}"


def cover(run: TrainedRun, pixels: Tensor) -> Image.Image:
    """A field (1, channels, H, W), the mean of its channels, beside the map of its most probable class."""
    field = ((pixels[0] - run.model.mean) / run.model.std).mean(dim=0).numpy()
    low, high = np.percentile(field, (1, 99.5))
    chosen = int(run.model(pixels).logits.argmax())
    pair = ((field - low) / max(high - low, 1e-6)).clip(0, 1), all_class_maps(run.model, pixels)[0, chosen].numpy()
    halves = [
        Image.fromarray((matplotlib.colormaps[colours](half)[..., :3] * 255).astype(np.uint8)).resize([COVER_SIDE] * 2)
        for half, colours in zip(pair, ("gray", "magma"), strict=True)
    ]
    return Image.fromarray(np.concatenate([np.asarray(half) for half in halves], axis=1))


def documentation(run: TrainedRun, graph: Graph) -> str:
    """What the package says of itself, shorter than the model card."""
    own = run.model.settings
    number, least = "One field" if graph.one else "Any number of fields", least_side(run.model.trunk)
    trained = " × ".join(map(str, run.field_size))
    size = f"{run.prepared.pixel_size:.4g} µm" if run.prepared.pixel_size else "not known"
    return "\n".join(
        [
            f"A MIL-CNN with pooling `{own.pooling}`, trained by milcnn on labels of fields of study `{own.study}`.",
            f"Channels, in this order: {', '.join(own.channels)}. Classes: {', '.join(own.classes)}.",
            f"{number}, of any size from {least} px. Training fields had {trained} px. Pixel size: {size}.",
            "Pixels have the grey values of the study's prepared fields.",
            "",
            "The model card beside this package in the export has scores, data, split and limits.",
            "",
            "## Validation",
            "",
            "The test tensors are part of a test field; the model card has the scores of all test fields.",
        ]
    )
