"""Quality of raw fields: focus, saturation and foreground of each channel, and flags.

The measures follow Bray et al. 2012, doi 10.1177/1087057111420292, and CellProfiler's MeasureImageQuality.
Columns of ``fields.csv``, where ``<c>`` is a channel:

- ``Quality_Focus_<c>``: slope of the log power spectrum, see ``power_slope``. Lower is more blurred.
- ``Quality_Saturation_<c>``: share of pixels at the grey value of a saturated camera, see ``saturation``.
- ``Quality_Foreground_<c>``: share of pixels above the median ``foreground_thresholds`` of a sample of the plate.
- ``Quality_Clipped``: share of stored pixels, over all channels, that the correction moved out of the dtype's range.
- ``Flag_blurred``, ``Flag_saturated``, ``Flag_empty``: True if any channel has the defect, see ``flags``.
"""

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import fft
from scipy.stats import norm
from skimage.filters import threshold_li

from milcnn.columns import PLATE, of_channels
from milcnn.settings import Settings

MEASURES = ["Focus", "Saturation", "Foreground"]  # of each channel, in the order of the table
BELOW = 16  # grey values below a peak that its pixels are compared with
BLOCK = 64  # rows of a field at once, so that they fit in the cache of a core


class QualitySettings(Settings):
    """Limits of the flags. Flags only warn: no field is left out because of them."""

    blurred_below: float = Field(default=-5.0, lt=0)  # focus, in robust standard deviations from the plate's median
    saturated_above: float = Field(default=0.02, ge=0, le=1)  # share of pixels
    empty_below: float = Field(default=0.005, ge=0, le=1)  # share of foreground pixels


def power_slope(image: np.ndarray) -> float | None:
    """Slope of log power against log spatial frequency of an image (H, W); None if the image is constant.

    The power |FFT|² is summed over rings one frequency step (1 / shorter side) wide, from 2 steps to an eighth of the
    shorter side, as in CellProfiler's PowerLogLogSlope. White noise has a slope of +1, because a ring grows with its
    radius. Edges have about −1. Blurred images have less.
    """
    side = min(image.shape)
    if side < 16 or np.ptp(image) == 0:
        return None
    reach = max(side // 8, 4)
    mean = np.float32(image.mean())
    # only low frequencies count, so drop columns before the second transform, which costs more
    width = min(reach * image.shape[1] // side + 2, image.shape[1] // 2 + 1)
    blocks = (image[y : y + BLOCK].astype(np.float32) for y in range(0, len(image), BLOCK))
    spectrum = fft.fft(np.concatenate([fft.rfft(block - mean, axis=1)[:, :width] for block in blocks]), axis=0)
    power = spectrum.real**2 + spectrum.imag**2
    power[:, 1:] *= 2  # the conjugate half that rfft leaves out
    y, x = fft.fftfreq(len(image))[:, None] * side, np.arange(width) / image.shape[1] * side
    rings = np.sqrt(y**2 + x**2).astype(np.intp)
    sums = np.bincount(rings.ravel(), power.ravel(), minlength=reach)[2:reach]
    if not (sums > 0).all():
        return None
    return float(np.polyfit(np.log(np.arange(2, reach) + 0.5), np.log(sums), 1)[0])


def foreground_thresholds(grid: np.ndarray) -> np.ndarray:
    """The minimum cross-entropy threshold (Li and Tam 1998) of each channel of ``grid`` (C, h, w), (C,)."""
    return np.array([threshold_li(values) if np.ptp(values) > 0 else values.flat[0] for values in grid])


def peaks(field: np.ndarray) -> np.ndarray:
    """The largest value of each channel of a field (C, H, W), the number of pixels at it and just below it, (C, 3)."""
    found = []
    for image in field:
        top = float(image.max())
        near = image[image >= top - BELOW]
        found.append((top, np.count_nonzero(near == top), np.count_nonzero(near < top)))
    return np.array(found)


def saturation(found: np.ndarray, dtype: np.dtype, zero: float) -> np.ndarray:
    """The grey value of a saturated camera in each channel of a plate, (C,); infinite for float.

    ``found`` (N, C, 3) are the ``peaks`` of N fields. It is the largest of the dtype, or what a camera of fewer bits
    gives: the largest value of all, counted from ``zero``, if it is one of ``all_ones``, and if at least 10 pixels have
    it, more than the values just below.
    """
    if dtype.kind not in "ui":
        return np.full(found.shape[1], np.inf)
    full = np.full(found.shape[1], float(np.iinfo(dtype).max))
    for channel, own in enumerate(found.transpose(1, 0, 2)):
        top = own[:, 0].max()
        _, at_top, below = own[own[:, 0] == top].sum(axis=0)
        if at_top >= 10 and at_top > below and all_ones(int(top - zero)):
            full[channel] = top
    return full


def all_ones(value: int) -> bool:
    """True for 2^k − 1 of 8 bits or more, as 4,095, also if it is shifted to fill 16 bits, as 65,520."""
    bits = f"{max(value, 0):b}"
    ones = bits.rstrip("0") if len(bits) == 16 else bits
    return len(ones) >= 8 and "0" not in ones


def measure_quality(
    field: np.ndarray, thresholds: np.ndarray, channels: list[str], full: np.ndarray
) -> dict[str, float | None]:
    """Focus, saturation and foreground of a raw field (C, H, W), by column.

    ``thresholds`` and ``full``, the grey value of a saturated camera, are those of each channel of the plate, (C,).
    """
    row: dict[str, float | None] = {}
    for name, image, threshold, top in zip(channels, field, thresholds, full, strict=True):
        row[f"Quality_Focus_{name}"] = power_slope(image)
        row[f"Quality_Saturation_{name}"] = np.count_nonzero(image >= top) / image.size
        row[f"Quality_Foreground_{name}"] = np.count_nonzero(image > threshold) / image.size
    return row


def flags(fields: pd.DataFrame, settings: QualitySettings) -> pd.DataFrame:
    """``Flag_blurred``, ``Flag_saturated`` and ``Flag_empty`` of each row of ``fields``, bool.

    A field is blurred if its focus is far below that of its plate, by median and 1.4826 × MAD.
    """
    focus = of_channels(fields, "Focus")
    distance = focus - focus.groupby(fields[PLATE]).transform("median")
    sd = distance.abs().groupby(fields[PLATE]).transform("median") / norm.ppf(0.75)
    rules = {
        "Flag_blurred": distance / sd.where(sd > 0) < settings.blurred_below,  # none if the focus does not vary
        "Flag_saturated": of_channels(fields, "Saturation") > settings.saturated_above,
        "Flag_empty": of_channels(fields, "Foreground") < settings.empty_below,
    }
    return pd.DataFrame({name: rule.any(axis=1) for name, rule in rules.items()})
