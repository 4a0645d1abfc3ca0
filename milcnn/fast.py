"""Faster scoring on a CPU: the trunk by OpenVINO; scores, pooling and the class layer by PyTorch, in float32."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from milcnn.model import MILCNN, Output

Precision = Literal["float32", "bfloat16"]


class Features(nn.Module):
    """Fields (B, channels, H, W) float32 → features (B, D, h, w)."""

    def __init__(self, model: MILCNN):
        super().__init__()
        self.model = model

    def forward(self, fields: Tensor) -> Tensor:
        return self.model.features(fields)


def openvino_scorer(model: MILCNN, precision: Precision = "float32") -> Callable[[Tensor], Output]:
    """``model`` as a function from fields (B, channels, H, W), of any dtype, to what the model gives.

    ``precision`` is that of the trunk: ``float32`` gives the same within rounding; ``bfloat16`` the same
    labels, but instance probabilities that are up to 0.03 off, and pays only on CPUs that compute in it
    (AVX-512 BF16, AMX); ``benchmarks/scoring.py`` has the numbers. Fields of one shape are compiled for once, in
    seconds. Raises ImportError when OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise ImportError("scoring by OpenVINO needs it; run 'pip install openvino'.") from None
    model = model.eval()
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    threads = torch.get_num_threads()
    compiled: dict[torch.Size, Callable] = {}

    @torch.no_grad()
    def score(fields: Tensor) -> Output:
        if fields.shape not in compiled:
            graph = openvino.convert_model(torch.export.export(Features(model), (fields.float(),)))
            settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
            compiled[fields.shape] = openvino.compile_model(graph, "CPU", settings)
        features = torch.from_numpy(compiled[fields.shape](fields.float().numpy())[0])
        return model.judged(features, model.scores(features))

    return score
