"""Faster scoring on a CPU: the trunk by OpenVINO; scores, pooling and the class layer by PyTorch, in float32."""

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
    """``model`` as a function from fields (B, channels, H, W), of any dtype, to what the model gives.

    ``precision`` is that of the trunk; ``benchmarks/scoring.py`` has speed and error of each:

    - ``float32`` gives the same within rounding;
    - ``bfloat16`` the same labels, and instance probabilities up to 0.06 off; pays only on CPUs that multiply in
      it faster than in float32, which AVX-512 BF16 alone does not promise;
    - ``int8`` nearly the same labels, some instances of p near 1/2 far off, and two to three times the speed.
      ``calibration`` (n, channels, H, W) are some training fields: the range of each layer is what it is on them.

    Fields of one shape are compiled for once, in seconds. Raises ImportError when OpenVINO, or for ``int8`` NNCF,
    is not installed, and ValueError for ``int8`` without ``calibration``.
    """
    try:
        import openvino
    except ImportError:
        raise ImportError("scoring by OpenVINO needs it; run 'pip install openvino'.") from None
    if precision == "int8" and calibration is None:
        raise ValueError("precision: 'int8' needs calibration; give some training fields.")
    model = model.eval()
    hint = "bf16" if precision == "bfloat16" else "f32"
    threads = torch.get_num_threads()
    compiled: dict[torch.Size, Callable] = {}

    @torch.no_grad()
    def score(fields: Tensor) -> Output:
        if fields.shape not in compiled:
            graph = openvino.convert_model(torch.export.export(Features(model), (fields.float(),)))
            graph.reshape(list(fields.shape))
            if precision == "int8":
                graph = quantised(graph, calibration)
            settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
            compiled[fields.shape] = openvino.compile_model(graph, "CPU", settings)
        features = torch.from_numpy(compiled[fields.shape](fields.float().numpy())[0])
        return model.judged(features, model.scores(features))

    return score


def quantised(graph: "openvino.Model", calibration: Tensor) -> "openvino.Model":
    """``graph`` with convolutions in int8, by NNCF, but the first, which sees the pixels.

    The range of each layer is from its least to its largest value on the ``calibration`` fields: with NNCF's
    default, a mean over fields, a bright speck of an unseen plate is cut off, and p there is wrong by up to 1.
    Weights take half of their range: without VNNI a CPU adds products in pairs to 16 bits, and whole ones overflow.
    """
    try:
        import nncf
    except ImportError:
        raise ImportError("scoring in int8 needs NNCF; run 'pip install nncf'.") from None
    nncf.set_log_level(logging.ERROR)
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
    batch = graph.inputs[0].get_shape()[0]
    fields = [part.float().numpy() for part in calibration.split(batch) if len(part) == batch]
    advanced = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX,
        overflow_fix=nncf.OverflowFix.ENABLE,
    )
    return nncf.quantize(
        graph,
        nncf.Dataset(fields),
        subset_size=len(fields),
        ignored_scope=nncf.IgnoredScope(names=[nodes[0].get_friendly_name()]),
        advanced_parameters=advanced,
    )
