"""Quality of raw fields: focus, saturation, emptiness; measures a channel, and flags from them.

After Bray et al. 2012, doi 10.1177/1087057111420292, and CellProfiler's MeasureImageQuality. Columns
of ``fields.csv``, one a channel ``<c>``:

- ``Quality_Focus_<c>``: slope of the log power spectrum, see ``power_slope``; lower is blurrier;
- ``Quality_Saturation_<c>``: share of pixels at the largest value of the dtype (or ``saturated_at``);
- ``Quality_Foreground_<c>``: share of pixels above the plate's threshold, the median of those of a sample
  of its fields, see ``thresholds``;
- ``Quality_Clipped``, of all channels: share of stored pixels that left the range of the dtype in correction;
- ``Flag_blurred``, ``Flag_saturated``, ``Flag_empty``: true when any channel is; see ``flags``.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import fft
from scipy.stats import median_abs_deviation
from skimage.filters import threshold_li

from milcnn.columns import PLATE, of_channels
from milcnn.settings import Settings


class QualitySettings(Settings):
    """Beyond what a field is flagged. Flags are columns to look at; no field is left out by them."""

    blurred_below: float = Field(-5.0, lt=0)  # focus, in robust standard deviations from the plate's median
    saturated_above: float = Field(0.02, ge=0, le=1)  # share of pixels
    empty_below: float = Field(0.005, ge=0, le=1)  # share of pixels that are foreground


def columns(channels: list[str]) -> list[str]:
    """The measures, in the order of the table."""
    measures = [f"Quality_{measure}_{name}" for measure in ("Focus", "Saturation", "Foreground") for name in channels]
    return [*measures, "Quality_Clipped"]


def row_blocks(height: int, rows: int = 64) -> Iterator[slice]:
    """The rows of a field, some at a time."""
    return (slice(start, start + rows) for start in range(0, height, rows))


@lru_cache(maxsize=4)
def rings(shape: tuple[int, int], columns: int) -> np.ndarray:
    """The ring of each of the first columns of a half spectrum, row by row: its frequency in 1 / shorter side."""
    side = min(shape)
    y = fft.fftfreq(shape[0])[:, None] * side
    x = np.arange(columns)[None] / shape[1] * side
    return np.sqrt(y**2 + x**2).astype(np.intp).ravel()


def power_slope(image: np.ndarray) -> float | None:
    """Slope of log power against log spatial frequency of an image (H, W); None where it is constant.

    The power |FFT|² is summed over rings one frequency step (1 / shorter side) wide, from 2 steps to
    an eighth of the shorter side, as CellProfiler's PowerLogLogSlope. White noise has +1, since a
    ring grows with its radius; edges have about −1; a blurred image less.
    """
    side = min(image.shape)
    if side < 16 or np.ptp(image) == 0:
        return None
    reach = max(side // 8, 4)
    mean = np.float32(image.mean())
    # only low frequencies are asked for: cut the columns before the second, costlier transform
    width = min(reach * image.shape[1] // side + 2, image.shape[1] // 2 + 1)
    half = [fft.rfft(image[band].astype(np.float32) - mean, axis=1)[:, :width] for band in row_blocks(len(image))]
    spectrum = fft.fft(np.concatenate(half), axis=0)
    power = spectrum.real**2 + spectrum.imag**2
    power[:, 1:] *= 2  # the conjugate half that rfft leaves out
    radii = np.arange(2, reach)
    sums = np.bincount(rings(image.shape, width), power.ravel(), minlength=reach)[2:reach]
    if not (sums > 0).all():
        return None
    return float(np.polyfit(np.log(radii + 0.5), np.log(sums), 1)[0])


def foreground_thresholds(grid: np.ndarray) -> np.ndarray:
    """The minimum cross-entropy threshold (Li and Tam 1998) of each channel of ``grid`` (C, h, w), (C,)."""
    return np.array([threshold_li(values) if np.ptp(values) > 0 else values.flat[0] for values in grid])


def measure_quality(
    field: np.ndarray, threshold: np.ndarray, channels: list[str], full: int
) -> dict[str, float | None]:
    """Focus, saturation and foreground of a raw field (C, H, W), by column.

    ``full`` is the grey value at which the camera saturates; 0 is the largest of an integer dtype
    (a float field is then never saturated).
    """
    if not full:
        full = np.iinfo(field.dtype).max if field.dtype.kind in "ui" else np.inf
    row: dict[str, float | None] = {}
    for name, image, limit in zip(channels, field, threshold, strict=True):
        row[f"Quality_Focus_{name}"] = power_slope(image)
        row[f"Quality_Saturation_{name}"] = np.count_nonzero(image >= full) / image.size
        row[f"Quality_Foreground_{name}"] = np.count_nonzero(image > limit) / image.size
    return row


def flags(fields: pd.DataFrame, settings: QualitySettings) -> pd.DataFrame:
    """``Flag_blurred``, ``Flag_saturated`` and ``Flag_empty`` of each row of ``fields``, bool.

    Blurred is a focus far below that of the fields of its plate, by median and 1.4826 × MAD.
    """
    focus = of_channels(fields, "Focus")
    distance = focus.groupby(fields[PLATE]).transform(robust_z)
    return pd.DataFrame(
        {
            "Flag_blurred": (distance < settings.blurred_below).any(axis=1),
            "Flag_saturated": (of_channels(fields, "Saturation") > settings.saturated_above).any(axis=1),
            "Flag_empty": (of_channels(fields, "Foreground") < settings.empty_below).any(axis=1),
        }
    )


def robust_z(values: pd.Series) -> pd.Series:
    """Distance from the median in robust standard deviations; 0 where they do not vary."""
    known = values.dropna()
    spread = median_abs_deviation(known, scale="normal") if len(known) else 0
    return (values - known.median()) / spread if spread > 0 else 0 * values
