"""From maps to masks and cells: Otsu's threshold, the foreground of a field, means over cells."""

import numpy as np
import torch
from skimage.filters import threshold_otsu

from milcnn.baselines.foreground import foreground
from milcnn.localise.denoise import DenoiseSettings, denoise

EMPTY = float("inf")  # a threshold that no value exceeds
TINY = 1e-6  # a threshold is above 0
BACKGROUND = 5  # percentile of the pixels of a channel that is taken as its background


def otsu_threshold(values: np.ndarray) -> float:
    """Otsu's threshold of a map or of scores of any shape; ``EMPTY`` where they are constant."""
    values = np.asarray(values, np.float64)  # 256 bins do not fit between neighbouring numbers of float32
    return float(threshold_otsu(values)) if np.ptp(values) > 0 else EMPTY


def otsu_mask(maps: np.ndarray) -> np.ndarray:
    """True where a map (H, W) is above its Otsu threshold; nowhere for a constant map."""
    return maps > otsu_threshold(maps)


def as_probability(maps: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """m / (m + t) of ``maps`` m (B, H, W) ≥ 0 and their thresholds ``limits`` t (B,) > 0, float32: 1/2 at t, 0 at 0."""
    return (maps / (maps + limits[:, None, None])).astype(np.float32)


def brightness(field: np.ndarray) -> np.ndarray:
    """Sum over channels of each channel minus its background, in standard deviations, (H, W) float32 ≥ 0."""
    values = field.reshape(len(field), -1).astype(np.float32)
    values -= np.percentile(values, BACKGROUND, axis=1, keepdims=True).astype(np.float32)
    spread = values.std(axis=1, keepdims=True)
    return (values / np.where(spread > 0, spread, 1)).sum(axis=0).clip(min=0).reshape(field.shape[1:])


def foreground_probability(fields: np.ndarray) -> np.ndarray:
    """Brightness of ``fields`` (B, C, H, W) as a probability, (B, H, W) float32: 1/2 at its ``foreground`` level.

    0 in a blank field, and 1 in one without a background.
    """
    bright = np.stack([brightness(field) for field in fields])
    levels = np.array([foreground(one)[1] for one in bright])
    probability = as_probability(bright, np.maximum(levels, TINY))
    probability[levels == -np.inf] = 1
    return probability


def cell_foreground(fields: np.ndarray, settings: DenoiseSettings | None = None) -> np.ndarray:
    """The cells of whatever class, of ``fields`` (B, C, H, W), (B, H, W) bool; nothing on a blank field.

    Needs no network: the brightness of the image above its threshold, denoised.
    """
    probability = torch.from_numpy(foreground_probability(fields))
    return denoise(probability, torch.from_numpy(fields), settings).mask.numpy()


def cell_means(cells: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Mean of each of ``maps`` (K, H, W) in each of the n cells of ``cells`` (H, W), (n, K) float64.

    In the order of the numbers that occur in ``cells``.
    """
    flat, n = cells.ravel(), int(cells.max()) + 1
    areas = np.bincount(flat, minlength=n)
    present = np.flatnonzero(areas[1:]) + 1
    return np.stack([np.bincount(flat, one.ravel(), n)[present] / areas[present] for one in maps], axis=1)


def labelled_cells(cells: np.ndarray, maps: np.ndarray, threshold: float) -> np.ndarray:
    """``cells`` (H, W) in which the mean of a class's map (H, W) is above ``threshold``; numbers stay."""
    present = np.unique(cells[cells > 0])
    return np.where(np.isin(cells, present[cell_means(cells, maps[None])[:, 0] > threshold]), cells, 0)
