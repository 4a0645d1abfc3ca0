"""From maps to masks and cells: Otsu's threshold, the foreground of a field, its cells."""

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.feature import peak_local_max
from skimage.filters import threshold_li, threshold_otsu
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import relabel_sequential, watershed

from milcnn.localise.denoise import DenoiseSettings, denoise
from milcnn.settings import Settings

EMPTY = float("inf")  # the threshold of a map that nothing is above
BACKGROUND = 5  # percentile of the pixels of a channel that is taken as its background
# A field is blank unless its bright pixels stand out from the dark ones twice: the mean of the bright less that of the
# dark by BLANK standard deviations of the dark, and less their median by CALM root mean squares of the darker half of
# them. Where cells crowd, their dim rims spread the dark pixels upwards alone, and the darker half stays calm; under
# uneven light it does not; where few photons fall it is calm, for it is all 0. The field is smoothed by SOFT px first.
# Noise, few photons and uneven light stay below 3.3 or below 6.1; fields of cells are above 4.2 and above 13, but for
# those that cells cover by more than three quarters
BLANK, CALM, SOFT = 3.7, 9.0, 1.5


class CellSettings(Settings):
    """How large the cells of a study are, in px of its prepared fields."""

    radius: float = Field(8.0, gt=0)  # of a nucleus, or of a cell where no nuclear stain is told
    smallest: int = Field(50, ge=1)  # px, area below which an object is debris


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
    """What is brighter than background in a field (C, H, W), (H, W) float32 ≥ 0.

    Each channel less its background, in its standard deviations; summed over channels: neither gain nor
    offset of a channel matters.
    """
    values = field.reshape(len(field), -1).astype(np.float32)
    values -= np.percentile(values, BACKGROUND, axis=1, keepdims=True).astype(np.float32)
    spread = values.std(axis=1, keepdims=True)
    return (values / np.where(spread > 0, spread, 1)).sum(axis=0).clip(min=0).reshape(field.shape[1:])


def brightness_threshold(bright: np.ndarray) -> float:
    """Minimum cross-entropy threshold (Li and Tam 1998) of ``brightness``; ``EMPTY`` on a blank field.

    Otsu's would lie too high: few bright nuclei outweigh the dim rims of cells.
    """
    if np.ptp(bright) == 0:
        return EMPTY
    threshold = float(threshold_li(bright))
    inside = bright > threshold
    soft = gaussian_filter(bright, SOFT)
    dark, bright_mean = soft[~inside], soft[inside].mean()
    middle = np.median(dark)
    calm = np.sqrt(np.mean((dark[dark <= middle] - middle) ** 2))
    stands_out = bright_mean - dark.mean() > BLANK * dark.std() and bright_mean - middle > CALM * calm
    return threshold if stands_out else EMPTY


def foreground_probability(fields: np.ndarray) -> np.ndarray:
    """Brightness of ``fields`` (B, C, H, W) as a probability, (B, H, W) float32: 1/2 at its threshold; 0 if blank."""
    bright = np.stack([brightness(field) for field in fields])
    return as_probability(bright, np.array([brightness_threshold(one) for one in bright]))


def cell_foreground(fields: np.ndarray, settings: DenoiseSettings | None = None) -> np.ndarray:
    """The cells of whatever class, of ``fields`` (B, C, H, W), (B, H, W) bool; nothing on a blank field.

    Needs no network: the brightness of the image above its threshold, denoised.
    """
    probability = torch.from_numpy(foreground_probability(fields))
    return denoise(probability, torch.from_numpy(fields), settings).mask.numpy()


def split_cells(mask: np.ndarray, nuclei: np.ndarray | None, settings: CellSettings) -> np.ndarray:
    """The cells of a ``mask`` (H, W) bool, (H, W) uint16: 0 for background and k for the k-th cell.

    Watershed (Meyer 1991) from the peaks of a landscape, smoothed by half a radius and at least a radius
    apart. The landscape is the image of the nuclear stain ``nuclei`` (H, W), or, where there is None, the distance
    to the border of the mask, which parts only cells that are round. Smaller pieces than
    ``settings.smallest`` are left out.
    """
    mask = remove_small_objects(mask, max_size=settings.smallest - 1)
    if not mask.any():
        return np.zeros(mask.shape, np.uint16)
    landscape = distance_transform_edt(mask) if nuclei is None else nuclei
    smooth = gaussian_filter(landscape.astype(np.float32), settings.radius / 2)
    # a peak for each piece of the mask, however dim
    peaks = peak_local_max(
        smooth, min_distance=max(1, round(settings.radius)), labels=label(mask), exclude_border=False
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return whole_cells(watershed(-smooth, seeds, mask=mask), settings)


def whole_cells(cells: np.ndarray, settings: CellSettings) -> np.ndarray:
    """``cells`` (H, W) without those below ``settings.smallest`` px, numbered 1 … n, uint16."""
    areas = np.bincount(cells.ravel())
    kept = np.where(areas[cells] >= settings.smallest, cells, 0)
    return relabel_sequential(kept)[0].astype(np.uint16)


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
