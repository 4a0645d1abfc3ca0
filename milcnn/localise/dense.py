"""Sharper maps without another label: maps of a field at several scales, and two maps combined."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from milcnn.localise.geometry import gaussian_blur, padded_to_instance
from milcnn.localise.maps import Mapping, jacobian_map, layer_cam
from milcnn.localise.masks import cell_foreground
from milcnn.network.model import MILCNN

MAP_SMOOTHING = 4.0  # px, σ of the Gaussian; an eighth of the stride, a third of the radius of a nucleus at 10×


def multi_scale(
    mapping: Mapping,
    model: MILCNN,
    fields: Tensor,
    class_index: int | Tensor,
    scales: Sequence[float] = (0.8, 1.0, 1.25),
) -> Tensor:
    """Mean of the maps of a field at ``scales``, each brought back to the size of the field, (B, H, W).

    A scaled-down field that is too small for an instance is continued by reflection.
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
    """``evidence_map`` on the foreground (``masks.cell_foreground``), 0 elsewhere, (B, H, W) float32, ≥ 0."""
    bright = torch.from_numpy(cell_foreground(fields.cpu().numpy())).to(model.mean.device)
    return evidence_map(model, fields, class_index, pad=pad) * bright


def evidence_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """√(Jacobian map · LayerCAM), each smoothed by a Gaussian, (B, H, W) float32, ≥ 0.

    The Jacobian map is sharp but also shows edges; LayerCAM fills cells but spreads beyond them: a pixel needs both.
    Recipe and σ were chosen on the truth of validation fields of ``simulated`` and ``digits``, not of test fields.
    """
    jacobian = gaussian_blur(jacobian_map(model, fields, class_index, pad=pad), MAP_SMOOTHING)
    evidence = gaussian_blur(layer_cam(model, fields, class_index, pad=pad), MAP_SMOOTHING)
    return (jacobian * evidence).sqrt()
