"""Sharper maps, without a label more: shifted and scaled copies of a field, and maps combined.

``sharp_map`` is the recipe that was best on validation fields. ``shift_averaged`` and ``multi_scale`` take
it or any function of ``maps``.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from milcnn.localise.geometry import (
    enlarged,
    gaussian_blur,
    instance_centres,
    least_side,
    padded_to_instance,
    reflected,
    stride_of,
)
from milcnn.localise.maps import Mapping, class_selector, jacobian_map, layer_cam
from milcnn.localise.masks import cell_foreground
from milcnn.network.model import MILCNN

MAP_SMOOTHING = 4.0  # px, σ of the Gaussian; an eighth of the stride, a third of the radius of a nucleus at 10×


@torch.inference_mode()
def dense_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, stride: int = 8) -> Tensor:
    """The class map p_i with an instance every ``stride`` px, up to the border, (B, H, W) in [0, 1].

    The field, continued by reflection, is shifted by every multiple of ``stride`` below the stride of
    the network; the instances of all shifts interleave. Raises ValueError when ``stride`` does not
    divide that of the network.
    """
    model.eval()
    step, shifts = shifts_of(model, stride)
    fields = fields.to(model.mean.device)
    size = fields.shape[-2:]
    first = [int(centres[0]) for centres in instance_centres(model, (least_side(model.trunk),) * 2)]
    counts = [-(-side // step) for side in size]
    lengths = [count * step + least_side(model.trunk) - 1 for count in counts]
    after = [length + shifts[-1] - before - side for length, before, side in zip(lengths, first, size, strict=True)]
    wide = reflected(fields, first[0], after[0], first[1], after[1])
    grid = fields.new_zeros((len(fields), *(count * len(shifts) for count in counts)), dtype=torch.float32)
    for (i, down), (j, right) in product(enumerate(shifts), repeat=2):
        output = model(wide[..., down : down + lengths[0], right : right + lengths[1]])
        grid[:, i :: len(shifts), j :: len(shifts)] = output.instances[
            class_selector(fields, class_index, fields.device)
        ]
    ys, xs = (stride * torch.arange(length).numpy() for length in grid.shape[-2:])
    return enlarged(grid, ys, xs, size)


def shifts_of(model: MILCNN, stride: int) -> tuple[int, range]:
    """The stride of ``model`` and the multiples of ``stride`` below it; ValueError when it is no divisor."""
    step = stride_of(model.trunk)
    if step % stride:
        raise ValueError(f"stride: {stride} does not divide the network's {step}; give a divisor, such as {step // 4}.")
    return step, range(0, step, stride)


def shift_averaged(
    mapping: Mapping, model: MILCNN, fields: Tensor, class_index: int | Tensor, stride: int = 8
) -> Tensor:
    """Mean of the map of a field, continued by reflection, over shifts by multiples of ``stride``, (B, H, W)."""
    step, shifts = shifts_of(model, stride)
    height, width = fields.shape[-2:]
    wide = reflected(fields, step, step, step, step)
    total = torch.zeros(len(fields), height, width, device=model.mean.device)
    for down, right in product(shifts, repeat=2):
        maps = mapping(model, wide[..., down : down + height + step, right : right + width + step], class_index)
        total += maps[:, step - down : step - down + height, step - right : step - right + width]
    return total / len(shifts) ** 2


def multi_scale(
    mapping: Mapping,
    model: MILCNN,
    fields: Tensor,
    class_index: int | Tensor,
    scales: Sequence[float] = (0.8, 1.0, 1.25),
) -> Tensor:
    """Mean of the maps of a field at ``scales``, each brought back to the size of the field, (B, H, W).

    A field that is too small for an instance once it is made smaller is continued by reflection there.
    """
    size = fields.shape[-2:]
    maps = []
    for scale in scales:
        zoomed = [round(scale * side) for side in size]
        scaled = F.interpolate(fields.float(), zoomed, mode="bilinear", antialias=True)
        scaled, inside = padded_to_instance(model, scaled, pad=scale < 1)
        found = mapping(model, scaled, class_index)[:, *inside]
        maps.append(F.interpolate(found[:, None], size, mode="bilinear", antialias=True)[:, 0])
    return torch.stack(maps).mean(dim=0)


def sharp_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """``evidence_map`` on the foreground (``masks.foreground``, which knows no label), (B, H, W) float32, ≥ 0."""
    bright = torch.from_numpy(cell_foreground(fields.cpu().numpy())).to(model.mean.device)
    return evidence_map(model, fields, class_index, pad=pad) * bright


def evidence_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """√(Jacobian map · LayerCAM), each smoothed by a Gaussian, (B, H, W) float32, ≥ 0.

    For means over cells, which are foreground already; elsewhere ``sharp_map``. The Jacobian map is sharp but lights
    up edges, LayerCAM fills cells but spills over: a pixel needs both. Recipe and σ were chosen on the truth of
    validation fields of ``simulated`` and ``digits``; no test field was looked at.
    """
    jacobian = gaussian_blur(jacobian_map(model, fields, class_index, pad=pad), MAP_SMOOTHING)
    evidence = gaussian_blur(layer_cam(model, fields, class_index, pad=pad), MAP_SMOOTHING)
    return (jacobian * evidence).sqrt()
