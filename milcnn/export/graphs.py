"""A trained network as ONNX and TorchScript: pixels in, probabilities and class maps out, standardisation inside."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from milcnn.export.absent import needed
from milcnn.files import written_whole
from milcnn.localise.geometry import axis_centres, least_side, stride_of
from milcnn.network.model import MILCNN
from milcnn.network.predict import inference_copy

OPSET = 20
LARGEST_DIFFERENCE = 1e-5  # of p, P and y between ONNX Runtime and PyTorch


class Graph(nn.Module):
    """What is exported of a network: its copy for scoring, pixels of any height and width to outputs."""

    names: tuple[str, ...]  # of the outputs
    one: bool  # field at a time, not a batch

    def __init__(self, model: MILCNN):
        super().__init__()
        self.model = inference_copy(model).eval()
        self.eval()

    def example(self, extra: tuple[int, int], n: int) -> Tensor:
        """Random pixels float32 of ``n`` fields, or one, ``extra`` px larger than the smallest that it takes."""
        side = least_side(self.model.trunk)
        return example_pixels(self.model, (side + extra[0], side + extra[1]), 1 if self.one else n)


class WholeOutput(Graph):
    """Pixels (B, channels, H, W) float32 → p̄, P, y (B, C) and the class maps p (B, C, h, w), float32 in [0, 1].

    y is at ``temperature``, as in ``score.trained.Scores``: of the logits divided by it.
    The pixels have the unit of the fields that the network learnt from. p̄ is the mean of the instance probabilities, P
    the pooled probability, y the probability after the class layer: the columns ``p_``, ``P_`` and ``y_`` of
    ``score.trained.Trained.score``.
    """

    names = ("p", "P", "y", "maps")
    one = False

    def __init__(self, model: MILCNN, temperature: float):
        super().__init__(model)
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        output = self.model(pixels)
        y = self.model.probabilities(output.logits / self.temperature)
        return output.instances.mean(dim=(2, 3)), output.bags, y, output.instances


class FieldMaps(Graph):
    """Pixels (1, channels, H, W) float32 → class maps (1, C, H, W), float32 in [0, 1]: ``maps.all_class_maps``."""

    names = ("maps",)
    one = True

    def __init__(self, model: MILCNN):
        super().__init__(model)
        self.first, self.stride = float(axis_centres(model.trunk, least_side(model.trunk))[0]), stride_of(model.trunk)

    def forward(self, pixels: Tensor) -> Tensor:
        instances = self.model(pixels).instances
        rows, columns = (self.shares(pixels.shape[axis], instances.shape[axis]) for axis in (2, 3))
        return rows @ instances @ columns.T

    def shares(self, length: int, n: int) -> Tensor:
        """``geometry.interpolation_weights`` (length, n) in operations that ONNX has, for a length known later.

        Pixel i is at t = (i − c₀) / S, cut to [0, n − 1]; instance k has the share max(0, 1 − |t − k|) in it.
        """
        pixels, instances = torch.arange(length, dtype=torch.float32), torch.arange(n, dtype=torch.float32)
        t = torch.minimum(((pixels - self.first) / self.stride).clamp(min=0), instances[-1])
        return (1 - (t[:, None] - instances).abs()).clamp(min=0)


def example_pixels(model: MILCNN, size: tuple[int, int], n: int = 2) -> Tensor:
    """Random pixels (n, channels, H, W) float32 around the mean of the training fields."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(n, len(model.settings.channels), *size, generator=generator)
    return model.mean + model.std * (2 * noise - 0.5)


def facts_of_network(model: MILCNN, pixel_size: float | None, temperature: float) -> dict[str, str]:
    """What an ONNX file says of itself: texts; lists are JSON. ``pixel_size`` in µm, '' where it is not known."""
    own = model.settings
    return {
        "study": own.study,
        "channels": json.dumps(own.channels),
        "classes": json.dumps(own.classes),
        "multilabel": json.dumps(own.multilabel),
        "pooling": own.pooling,
        "pixel_size_um": str(pixel_size or ""),
        "least_side_px": str(least_side(model.trunk)),
        "temperature": f"{temperature:.6g}",
    }


def write_onnx(graph: Graph, path: Path, facts: dict[str, str]) -> None:
    """Write ``graph`` to one file; its input is ``pixels``, its outputs have its ``names``, ``facts`` are its metadata.

    What ONNX Runtime computes is compared with PyTorch before the file gets its name. Raises ImportError without the
    extra ``export``, ValueError for a pooling that ONNX cannot express, or whose p, P or y differ by more than
    ``LARGEST_DIFFERENCE``.
    """
    needed("onnx", "onnxscript", "onnxruntime")
    pooling = graph.model.settings.pooling
    try:
        program = translated(graph)
    except torch.onnx.errors.OnnxExporterError:
        raise ValueError(f"pooling '{pooling}' cannot be written as ONNX; train another one.") from None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the folders of this machine
    program.model.metadata_props.update(facts)
    with written_whole(path) as temporary:
        program.save(str(temporary), external_data=False)
        if not (off := largest_difference(graph, temporary)) <= LARGEST_DIFFERENCE:  # NaN is not
            raise ValueError(f"{path}: with pooling '{pooling}' ONNX Runtime is {off:.1e} off PyTorch; not written.")


def translated(graph: Graph) -> torch.onnx.ONNXProgram:
    """``graph`` as torch translates it to ONNX."""
    pixels = graph.example((96, 96), 2)  # several instances: an axis of one would become a constant
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells that torchvision is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about torch
        program = torch.onnx.export(
            graph, (pixels,), dynamo=True, opset_version=OPSET, verbose=False, optimize=True,
            input_names=["pixels"], output_names=list(graph.names),
            dynamic_shapes={"pixels": {2: "height", 3: "width"} | ({} if graph.one else {0: "batch"})},
            custom_translation_table={torch.ops.aten.log_sigmoid.default: log_sigmoid},
        )  # fmt: skip
    return cast(torch.onnx.ONNXProgram, program)


def log_sigmoid(z: Any) -> Any:
    """log σ(z) = −softplus(−z). torch writes log(σ(z)), which ONNX Runtime makes −∞ for z far below 0."""
    from onnxscript import opset20

    return opset20.Neg(opset20.Softplus(opset20.Neg(z)))


@torch.inference_mode()
def largest_difference(graph: Graph, path: Path) -> float:
    """The largest |ONNX Runtime − PyTorch| on random pixels: of p, P and y, or where there are none of the maps."""
    import onnxruntime

    pixels = graph.example((37, 70), 3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs, ours = session.run(None, {"pixels": pixels.numpy()}), graph(pixels)
    pairs = zip([ours] if graph.one else ours[:3], theirs, strict=False)
    return float(np.max([np.abs(own.numpy() - their).max() for own, their in pairs]))


def write_torchscript(graph: FieldMaps, path: Path) -> None:
    """Write ``graph`` as TorchScript, by tracing."""
    with warnings.catch_warnings(), written_whole(path) as temporary:
        warnings.simplefilter("ignore")  # torch advises against TorchScript; Fiji's tools read it
        torch.jit.save(torch.jit.trace(graph, graph.example((96, 96), 1)), str(temporary))
