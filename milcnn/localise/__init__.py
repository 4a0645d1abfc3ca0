"""Localisation: from a label on the field to the pixels that carry it.

The class map p_i is coarse, one value an instance. The Jacobian map brings it to the pixels: guided
back-propagation from the class map, as in Kraus 2016, section 3.5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from milcnn import model as models
from milcnn.fields import Prepared
from milcnn.masks import otsu_mask as otsu_mask
from milcnn.model import MILCNN
from milcnn.screens.screen import FIELD_KEY, LABEL

BATCH = 16  # fields at once


@contextmanager
def guided(model: nn.Module) -> Iterator[None]:
    """Within the block every ReLU of ``model`` passes only positive derivatives back."""

    def rectify(module: nn.Module, grad_input: tuple[Tensor, ...], grad_output: tuple[Tensor, ...]):
        return (grad_input[0].clamp(min=0),)

    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    in_place = [relu.inplace for relu in relus]
    hooks = [relu.register_full_backward_hook(rectify) for relu in relus]
    for relu in relus:
        relu.inplace = False  # a backward hook needs the input unchanged
    try:
        yield
    finally:
        for relu, hook, was in zip(relus, hooks, in_place, strict=True):
            hook.remove()
            relu.inplace = was


def jacobian_map(model: MILCNN, fields: Tensor, class_index: int | Tensor) -> Tensor:
    """Guided back-propagation of class i to the pixels, (B, H, W) float32, ≥ 0.

    ``fields`` (B, channels, H, W); ``class_index`` i is one class for all or one a field, (B,). The
    backward signal starts as P_i · p_ij at the scores z_ij of class i and 0 elsewhere (at z, not at
    p, where a saturated sigmoid would stop it); each ReLU rectifies the derivative on its way down;
    the derivative with respect to the standardised pixels is summed over channels, and what is
    negative (less pixel, more class) is set to 0.
    """
    model.eval()
    device = model.mean.device
    pixels = fields.to(device).float().detach().requires_grad_()
    classes = torch.as_tensor(class_index, device=device).expand(len(pixels))
    with guided(model), torch.enable_grad():
        output = model(pixels)
        item = torch.arange(len(pixels), device=device)
        start = torch.zeros_like(output.scores)
        chosen = output.bags[item, classes][:, None, None] * output.instances[item, classes]
        start[item, classes] = chosen.detach()
        (gradient,) = torch.autograd.grad(output.scores, pixels, start)
    return (gradient * model.std).sum(dim=1).clamp(min=0)


@torch.inference_mode()
def class_map(model: MILCNN, fields: Tensor, class_index: int | Tensor) -> Tensor:
    """The instance probabilities of class i, enlarged to the field, (B, H, W) float32 in [0, 1]."""
    output = model.eval()(fields.to(model.mean.device))
    classes = torch.as_tensor(class_index, device=output.instances.device).expand(len(fields))
    chosen = output.instances[torch.arange(len(fields)), classes]
    return F.interpolate(chosen[:, None], fields.shape[-2:], mode="bilinear")[:, 0]


def pixel_average_precision(truth: np.ndarray, maps: np.ndarray) -> float:
    """Average precision of the pixels of a map (H, W) against a boolean truth (H, W).

    NaN when no pixel is true. A map that knows nothing scores the share of true pixels.
    """
    return float(average_precision_score(truth.ravel(), maps.ravel())) if truth.any() else float("nan")


def score_runs(
    runs: Path, prepared: Prepared, rows: pd.DataFrame, poolings: list[str], seeds: list[int], device: torch.device
) -> pd.DataFrame:
    """Pixel average precision of both maps of every field of ``rows`` by every network in ``runs``.

    One row a ``method``, ``seed``, ``map`` (class or jacobian) and field: ``average_precision`` and
    ``base_rate``, the share of pixels of objects that carry the label.
    """
    truth = prepared.labelled_mask(rows)
    targets = torch.from_numpy(prepared.targets(rows))
    scores = []
    for pooling, seed in tqdm(list(product(poolings, seeds)), desc="localise", unit="network"):
        model = models.load(runs / f"{pooling}-{seed}" / "model.safetensors", prepared.study, device)
        for start in range(0, len(rows), BATCH):
            part = np.s_[start : start + BATCH]
            pixels = torch.from_numpy(prepared.pixels(rows[part]))
            for name, mapping in (("class", class_map), ("jacobian", jacobian_map)):
                maps = mapping(model, pixels, targets[part]).cpu().numpy()
                precision = [pixel_average_precision(*pair) for pair in zip(truth[part], maps, strict=True)]
                table = rows[[*FIELD_KEY, LABEL]][part].assign(method=pooling, seed=seed, map=name)
                rate = truth[part].mean(axis=(1, 2))
                scores.append(table.assign(average_precision=precision, base_rate=rate))
    return pd.concat(scores, ignore_index=True)
