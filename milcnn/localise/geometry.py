"""Where instances lie: the centre of the receptive field of each, and maps enlarged by these centres.

Output i of a convolution or pooling of kernel k, stride s and padding p has its middle at pixel
i · s − p + (k − 1) / 2 of its input. Over all layers this gives c₀ + i · S, the centre of instance i in px of the
field: 67 + 32 i for the paper's trunk without padding, 31 + 32 i with. A plain resize would misplace the maps.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milcnn.network.model import MILCNN


def layer_windows(trunk: nn.Module) -> Iterator[tuple[int, int, int]]:
    """Kernel, stride and padding of each layer of ``trunk`` with a window (square, undilated), in order.

    The shortcut of a residual block (``downsample``) has the centres of its block.
    """
    for name, layer in trunk.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and "downsample" not in name:
            kernel, stride, padding = (np.ravel(size)[0] for size in (layer.kernel_size, layer.stride, layer.padding))
            yield int(kernel), int(stride), int(padding)


def stride_of(trunk: nn.Module) -> int:
    """px of the field between neighbouring outputs of ``trunk``."""
    return int(np.prod([stride for _, stride, _ in layer_windows(trunk)]))


def axis_centres(trunk: nn.Module, length: int) -> np.ndarray:
    """Centres (n,) float64, in px, of the outputs of ``trunk`` along an axis of ``length`` px; maybe none."""
    first, jump = 0.0, 1
    for kernel, stride, padding in layer_windows(trunk):
        first += jump * ((kernel - 1) / 2 - padding)
        jump *= stride
        length = max(0, (length + 2 * padding - kernel) // stride + 1)
    return first + jump * np.arange(length)


def instance_centres(model: MILCNN, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows ys (h,) and columns xs (w,), in px, of the middles of the instances of a field of ``size`` (H, W)."""
    height, width = size
    return axis_centres(model.trunk, height), axis_centres(model.trunk, width)


def least_side(trunk: nn.Module) -> int:
    """px of the smallest field that has an instance: the receptive field, less what is padded."""
    side = 1
    for kernel, stride, padding in reversed(list(layer_windows(trunk))):
        side = max(1, (side - 1) * stride + kernel - 2 * padding)
    return side


def padded_to_instance(model: MILCNN, fields: Tensor, pad: bool = False) -> tuple[Tensor, tuple[slice, slice]]:
    """``fields`` (B, C, H, W), with ``pad`` reflected until they have an instance, and the slices where they are then.

    Without ``pad`` a field that is too small for an instance raises ValueError.
    """
    least = least_side(model.trunk)
    size = fields.shape[-2:]
    missing = [max(0, least - side) for side in size]
    if any(missing) and not pad:
        raise ValueError(f"fields: {size[0]} × {size[1]} px, but one instance takes {least} px; give pad=True.")
    before = [short // 2 for short in missing]
    (top, left), (bottom, right) = before, [short - start for short, start in zip(missing, before, strict=True)]
    inside = slice(top, top + size[0]), slice(left, left + size[1])
    return reflected(fields, top, bottom, left, right), inside


def reflected(fields: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """``fields`` (B, C, H, W) continued by reflection, repeatedly where a margin (px) is wider than the field."""
    rows, columns = (
        np.pad(np.arange(side), margin, mode="reflect" if side > 1 else "edge")
        for side, margin in zip(fields.shape[-2:], ((top, bottom), (left, right)), strict=True)
    )
    return fields[:, :, rows][:, :, :, columns]


def enlarged(maps: Tensor, ys: np.ndarray, xs: np.ndarray, size: Sequence[int]) -> Tensor:
    """Maps (B, h, w) with values at rows ``ys`` and columns ``xs`` (px), linearly interpolated to (B, H, W)."""
    rows, columns = (
        torch.as_tensor(interpolation_weights(centres, length), dtype=maps.dtype, device=maps.device)
        for centres, length in zip((ys, xs), size, strict=True)
    )
    return rows @ maps @ columns.T


def interpolation_weights(centres: np.ndarray, length: int) -> np.ndarray:
    """Share (length, n) of each of n values at ``centres`` in the value of each pixel; rows sum to 1."""
    return np.stack([np.interp(np.arange(length), centres, one) for one in np.eye(len(centres))], axis=1)


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Maps (B, H, W) smoothed by a Gaussian of ``sigma`` px, cut at 3 σ, reflected at the border."""
    reach = round(3 * sigma)
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.softmax(-0.5 * (steps / sigma) ** 2, dim=0)
    padded = reflected(maps[:, None], reach, reach, reach, reach)
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]
