"""Localisation: from a label on the field to the pixels that carry it.

The class map p_i is coarse, one value an instance. ``maps`` has what brings it to the pixels, the
Jacobian map of Kraus 2016 among them; ``dense`` what sharpens any map; ``geometry`` where instances lie.
"""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skimage.filters import threshold_otsu
from sklearn.metrics import average_precision_score
from tqdm.auto import tqdm

from milcnn import model as models
from milcnn.fields import Prepared
from milcnn.localise.dense import dense_map, foreground, multi_scale, sharp_map, shift_averaged
from milcnn.localise.geometry import instance_centres
from milcnn.localise.maps import class_map, grad_cam, gradient_map, guided, jacobian_map, layer_cam
from milcnn.screens.screen import FIELD_KEY, LABEL

BATCH = 16  # fields at once


def otsu_mask(maps: np.ndarray) -> np.ndarray:
    """True where a map (H, W) is above its Otsu threshold; nowhere for a constant map."""
    return maps > threshold_otsu(maps) if np.ptp(maps) > 0 else np.zeros(maps.shape, bool)


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
