"""Make grey values comparable: correct the uneven illumination and the scale of each plate.

Both are estimated from a sample of the plate's fields. Both are linear in the grey value, so a channel of a plate
becomes ``((raw − zero) / illumination + zero) · gain + offset``, see ``no_light`` for ``zero``.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

GRID = 128  # px, about the shorter side of the reduced fields
SCALE_QUANTILES = (0.01, 0.995)  # of the reference pixels: background, and the bright end of ordinary cells
COMMON_RANGE = (2_000, 12_000)  # grey values that these two quantiles get
Illumination = Literal["none", "mean", "median"]


@dataclass(frozen=True)
class Correction:
    """The correction of one plate; None means no such correction."""

    illumination: np.ndarray | None = None  # (C, H, W) float32 with mean 1 in each channel
    zero: float = 0.0  # grey value of no light
    gain: np.ndarray | None = None  # (C,) float32
    offset: np.ndarray | None = None

    def apply(self, field: np.ndarray) -> np.ndarray:
        """``field`` (C, H, W) corrected, not rounded: float32, or float64 if the raw dtype has more than 16 bits."""
        values: np.ndarray = field.astype(np.float32 if field.dtype.itemsize <= 2 else np.float64)
        if self.illumination is not None:
            values -= self.zero
            values /= self.illumination
            values += self.zero
        if self.gain is not None and self.offset is not None:
            values *= self.gain[:, None, None]
            values += self.offset[:, None, None]
        return values


def no_light(dtype: np.dtype, lowest: float) -> float:
    """The grey value of no light in a plate whose lowest value is ``lowest``: 0, or −32,768 in some files of int16.

    Olympus Scan^R writes unsigned counts less 32,768 as int16. Ordinary signed data, from which a background was
    subtracted, are never below −16,384.
    """
    return -(2.0**15) if dtype == np.int16 and lowest < -(2**14) else 0.0


def block_mean(field: np.ndarray, side: int) -> np.ndarray:
    """Mean of each ``side`` × ``side`` block of a field (C, H, W), float32. Incomplete blocks are left out."""
    height, width = (length // side for length in field.shape[1:])
    # rows first: whole rows are summed at the speed of memory
    rows = field[:, : height * side].reshape(len(field), height, side, -1).mean(axis=2, dtype=np.float32)
    return rows[..., : width * side].reshape(len(field), height, width, side).mean(axis=3, dtype=np.float32)


def pixel_grid(field: np.ndarray) -> np.ndarray:
    """A regular grid of the pixels of a field (C, H, W), about ``GRID`` on the shorter side, in its dtype."""
    step = max(1, min(field.shape[1:]) // GRID)
    return field[:, ::step, ::step]


def local_linear_fit(image: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth an image (H, W) by local linear regression with Gaussian weights of width ``sigma`` px.

    Far from the edges this is a Gaussian filter. At the edges a Gaussian filter flattens a slope; the plane fitted
    in each pixel keeps it (Hastie, Tibshirani, Friedman 2009, section 6.1.1).
    """
    weighted = partial(gaussian_filter, sigma=sigma, mode="constant", truncate=4.0)
    y, x = np.indices(image.shape, dtype=np.float64) / sigma
    basis = [np.ones(image.shape), y, x]
    # normal equations of value = a + b·y + c·x in every pixel
    normal = np.stack([np.stack([weighted(p * q) for q in basis], axis=-1) for p in basis], axis=-2)
    right = np.stack([weighted(p * image) for p in basis], axis=-1)
    planes = np.linalg.solve(normal, right[..., None])[..., 0]
    return planes[..., 0] + planes[..., 1] * y + planes[..., 2] * x


def illumination_function(
    reduced: np.ndarray, how: Literal["mean", "median"], smoothing: float, shape: tuple[int, int]
) -> np.ndarray:
    """The uneven illumination of a plate, (C, H, W) float32 with mean 1 in each channel.

    The mean or median of ``reduced`` fields (N, C, h, w), see ``block_mean``, is smoothed and enlarged to ``shape``.
    ``smoothing`` is the width as a share of the shorter side. After Singh et al. 2014, doi 10.1111/jmi.12178. A camera
    offset counts as light, because the two cannot be separated here. A channel without light gets 1.
    """
    average = (np.median if how == "median" else np.mean)(reduced.astype(np.float64), axis=0)
    functions = []
    for channel in average:
        smooth = local_linear_fit(channel, smoothing * min(channel.shape))
        # a mean belongs to the centre of its block, not to a corner: grid_mode
        large: np.ndarray = zoom(smooth, np.divide(shape, smooth.shape), order=1, mode="nearest", grid_mode=True)
        # in very dark places a division would only amplify noise
        large = large.clip(min=0.05 * large.mean())
        functions.append(large / large.mean() if large.mean() > 0 else np.ones(shape))
    return np.stack(functions).astype(np.float32)


def plate_scale(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset (C,) that bring a plate's reference pixels to the common range.

    ``samples`` (C, n) are grey values of the reference fields after the illumination correction. Their 1 % quantile
    becomes 2,000 and their 99.5 % quantile 12,000. In uint16 this leaves room for −0.2 to +6.3 times the distance of
    the two; values beyond are clipped and counted in ``Quality_Clipped``. A constant channel is only shifted.
    """
    low, high = np.quantile(samples, SCALE_QUANTILES, axis=1)
    gain = np.divide(COMMON_RANGE[1] - COMMON_RANGE[0], high - low, out=np.ones_like(low), where=high > low)
    return gain.astype(np.float32), (COMMON_RANGE[0] - low * gain).astype(np.float32)
