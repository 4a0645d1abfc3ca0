"""From raw grey values to comparable ones: uneven illumination and the scale of each plate.

Both are estimated from a bounded number of a plate's fields and are linear in the grey value, so
that one plate and channel is corrected as ``(raw / illumination) · gain + offset``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

GRID = 128  # px, about the shorter side of the reduced fields that an illumination function comes from
SCALE_QUANTILES = (0.01, 0.995)  # of the reference pixels: background, and the bright end of ordinary cells
COMMON = (2_000, 12_000)  # grey values that the two quantiles are brought to
Illumination = Literal["none", "mean", "median"]


@dataclass(frozen=True)
class Correction:
    """What is done to the fields of one plate.

    ``illumination`` is (C, H, W) float32 with mean 1 a channel, or None; ``gain`` and ``offset``
    are (C,), or None. With gain and offset the result is uint16, else it keeps the dtype.
    """

    illumination: np.ndarray | None = None
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def idle(self) -> bool:
        return self.illumination is None and self.gain is None

    def apply(self, field: np.ndarray) -> np.ndarray:
        """``field`` (C, H, W), or a grid of it (see ``every``), not rounded: float32, float64 beyond 16 bit."""
        values = field.astype(np.float32 if field.dtype.itemsize <= 2 else np.float64)
        if self.illumination is not None:
            values /= self.illumination
        if self.gain is not None:
            values *= self.gain[:, None, None]
            values += self.offset[:, None, None]
        return values

    def dtype(self, raw: np.dtype) -> np.dtype:
        """What the corrected fields are stored in."""
        return raw if self.gain is None else np.dtype(np.uint16)


def block_mean(field: np.ndarray, side: int) -> np.ndarray:
    """Mean of each ``side`` × ``side`` block of a field (C, H, W), float32; a rest of a block is left out."""
    height, width = (length // side for length in field.shape[1:])
    # rows first: whole rows are summed at the speed of memory
    rows = field[:, : height * side].reshape(len(field), height, side, -1).mean(axis=2, dtype=np.float32)
    return rows[..., : width * side].reshape(len(field), height, width, side).mean(axis=3, dtype=np.float32)


def every(field: np.ndarray) -> np.ndarray:
    """A regular grid of the pixels of a field (C, H, W), about ``GRID`` a side, in its dtype."""
    step = max(1, min(field.shape[1:]) // GRID)
    return field[:, ::step, ::step]


def local_linear_fit(image: np.ndarray, sigma: float) -> np.ndarray:
    """Local linear regression of an image (H, W) with Gaussian weights of width ``sigma`` px.

    Inside it is the Gaussian filter. At the edges, where a Gaussian filter flattens a slope, the
    plane that is fitted in each pixel keeps it (Hastie, Tibshirani, Friedman 2009, section 6.1.1).
    """

    def weighted(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, sigma, mode="constant", truncate=4.0)

    y, x = (axis / sigma for axis in np.indices(image.shape, dtype=np.float64))
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

    ``reduced`` (N, C, h, w) are fields as ``block_mean`` made them. Mean or median over the fields,
    smoothed (``smoothing`` is the width as a share of the shorter side), enlarged to ``shape``.
    After Singh et al. 2014, doi 10.1111/jmi.12178. An offset of the camera is not told from light:
    it is divided like light. A channel without light gets 1.
    """
    average = (np.median if how == "median" else np.mean)(reduced.astype(np.float64), axis=0)
    functions = []
    for channel in average:
        smooth = local_linear_fit(channel, smoothing * min(channel.shape))
        factors = [length / reduced_length for length, reduced_length in zip(shape, smooth.shape, strict=True)]
        # block centres, not corners, are where the means stand: grid_mode
        large = zoom(smooth, factors, order=1, mode="nearest", grid_mode=True)
        # where hardly any light fell the quotient would only enlarge noise
        large = large.clip(min=0.05 * large.mean())
        functions.append(large / large.mean() if large.mean() > 0 else np.ones(shape))
    return np.stack(functions).astype(np.float32)


def plate_scale(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset (C,) that bring the quantiles of the reference pixels to the common range.

    ``samples`` (C, n) are the illumination-corrected grey values of the reference fields of one
    plate. Their 1 % quantile becomes 2,000 and their 99.5 % quantile 12,000, in every plate and
    channel, whatever its gain and background. In uint16 this leaves room for values of −0.2 and
    +6.3 times the distance of the two quantiles; what lies beyond is clipped, and counted in
    ``Quality_Clipped``. A constant channel is only shifted.
    """
    low, high = np.quantile(samples, SCALE_QUANTILES, axis=1)
    gain = np.divide(COMMON[1] - COMMON[0], high - low, out=np.ones_like(low), where=high > low)
    return gain.astype(np.float32), (COMMON[0] - low * gain).astype(np.float32)
