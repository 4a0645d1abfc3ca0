"""Faster scoring on a CPU: the trunk by OpenVINO; scores, pooling and class layer by PyTorch, in float32."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from milcnn.network.model import MILCNN, Output

if TYPE_CHECKING:
    import openvino

Precision = Literal["float32", "bfloat16", "int8"]


class Features(nn.Module):
    """Fields (B, channels, H, W) float32 → features (B, D, h, w)."""

    def __init__(self, model: MILCNN):
        super().__init__()
        self.model = model

    def forward(self, fields: Tensor) -> Tensor:
        return self.model.features(fields)


def openvino_scorer(
    model: MILCNN, precision: Precision = "float32", calibration: Tensor | None = None
) -> Callable[[Tensor], Output]:
    """``model`` as a function from fields (B, channels, H, W), in any dtype, to the output of the model.

    ``precision`` is that of the trunk; ``benchmarks/scoring.py`` has speed and error of each. ``float32`` gives the
    same within rounding. ``bfloat16`` gives the same labels and instance probabilities up to 0.06 off; it pays only on
    CPUs that multiply faster in it, and not all with AVX-512 BF16 do. ``int8`` gives nearly the same labels, some
    instances of p near 1/2 far off, two to three times as fast; it takes the range of each layer from
    ``calibration`` (n, channels, H, W), some training fields. The first fields of each shape take seconds to compile.
    Raises ImportError when OpenVINO, or for ``int8`` NNCF, is not installed, ValueError for ``int8`` without
    ``calibration``.
    """
    try:
        import openvino
    except ImportError:
        raise ImportError("scoring by OpenVINO needs it; run 'pip install openvino'.") from None
    if precision != "int8":
        calibration = None
    elif calibration is None:
        raise ValueError("precision: 'int8' needs calibration; give some training fields.")
    model = model.eval()
    hint = "bf16" if precision == "bfloat16" else "f32"
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled: dict[torch.Size, Callable] = {}

    @torch.no_grad()
    def score(fields: Tensor) -> Output:
        if fields.shape not in compiled:
            graph = openvino.convert_model(torch.export.export(Features(model), (fields.float(),)))
            if calibration is not None:
                graph = quantised(graph, calibration)
            graph.reshape(list(fields.shape))
            compiled[fields.shape] = openvino.compile_model(graph, "CPU", options)
        features = torch.from_numpy(compiled[fields.shape](fields.float().numpy())[0])
        return model.pooled(features, model.scores(features))

    return score


def quantised(graph: "openvino.Model", calibration: Tensor) -> "openvino.Model":
    """``graph`` with convolutions in int8, by NNCF; the first, which sees the pixels, is left out.

    The range of each layer is its minimum to its maximum over the ``calibration`` fields. NNCF's default is a mean over
    fields: it cuts off a bright speck of an unseen plate, and p there is wrong by up to 1. Weights use half of their
    range: a CPU without VNNI adds pairs of products in 16 bits, which the full range overflows.
    """
    try:
        import nncf
    except ImportError:
        raise ImportError("scoring in int8 needs NNCF; run 'pip install nncf'.") from None
    nncf.set_log_level(logging.ERROR)
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
    fields = [field.float().numpy() for field in calibration.split(1)]
    graph.reshape(list(fields[0].shape))  # they may be of another size than those to score
    ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    advanced = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=ranges, overflow_fix=nncf.OverflowFix.ENABLE
    )
    ignored = nncf.IgnoredScope(names=[nodes[0].get_friendly_name()])
    return nncf.quantize(
        graph, nncf.Dataset(fields), subset_size=len(fields), ignored_scope=ignored, advanced_parameters=advanced
    )
