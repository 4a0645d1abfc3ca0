"""Turn a raw field into a prepared one: read, crop, correct, reduce.

The correction of a plate is estimated first, from a sample of its fields.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from joblib import cpu_count
from pydantic import Field, model_validator

from milcnn.columns import FIELD_KEY, PLATE
from milcnn.prepare import illumination
from milcnn.prepare.illumination import Correction, Illumination, block_mean, pixel_grid
from milcnn.prepare.quality import foreground_thresholds, peaks, saturation
from milcnn.roles import is_control
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

FEWEST = 8  # fields that an illumination function needs


class PrepareSettings(Settings):
    """How raw fields become prepared fields. The defaults store the raw pixels."""

    illumination: Illumination = "none"  # average over the fields of a plate; its smooth part is divided out
    smoothing: float = Field(default=0.1, gt=0, le=0.5)  # width of that smoothing, share of the shorter side
    scaling: Literal["none", "control", "plate"] = "none"  # fields whose quantiles set the scale of a plate
    sampled: int = Field(default=64, ge=1)  # fields per plate, at most, for each of the two estimates
    crop: list[Annotated[int, Field(gt=0)]] = Field(default=[])  # px, height and width of the centre; empty keeps all
    downscale: int = Field(default=1, ge=1, le=16)  # blocks of this side, in px, become one pixel
    saturated_at: int = 0  # grey value of a saturated camera; 0: found from the pixels of each plate
    workers: int = Field(default=0, ge=0)  # fields read at once; 0 is one per core

    @model_validator(mode="after")
    def crop_has_two_sides(self) -> Self:
        if len(self.crop) not in (0, 2):
            raise ValueError(f"crop: {self.crop} is not empty or [height, width]")
        return self


def parallel(task: Callable, rows: pd.DataFrame, workers: int) -> Iterator:
    """``task`` of each row, in order. It uses threads: numpy, FFT and file reading release the lock."""
    with ThreadPoolExecutor(workers or cpu_count()) as pool:
        yield from pool.map(task, (row for _, row in rows.iterrows()))


def crop_corner(shape: tuple[int, ...], settings: PrepareSettings) -> tuple[int, int]:
    """The pixel (y, x) where the crop starts. Raises ValueError if the crop is larger than the field."""
    if not settings.crop:
        return 0, 0
    y, x = (length - kept for length, kept in zip(shape[-2:], settings.crop, strict=True))
    if min(y, x) < 0:
        raise ValueError(f"crop: {settings.crop} px is more than a field of {shape[-2]} × {shape[-1]} px.")
    return y // 2, x // 2


def cropped(array: np.ndarray, settings: PrepareSettings) -> np.ndarray:
    """The centre of the last two axes, of size ``settings.crop``."""
    y, x = crop_corner(array.shape, settings)
    height, width = settings.crop or array.shape[-2:]
    return array[..., y : y + height, x : x + width]


def read_raw(screen: Screen, row: pd.Series, like: np.ndarray | None = None) -> np.ndarray:
    """The raw field (C, H, W) of ``row``.

    Raises ValueError for wrong channels, NaN or infinite pixels, and another shape or dtype than ``like``.
    """
    field = np.asarray(screen.read(row))
    name = ", ".join(f"{column.removeprefix('Metadata_').lower()} {row[column]}" for column in FIELD_KEY)
    if field.ndim != 3 or len(field) != len(screen.channels):
        channels = f"{len(screen.channels)} channels ({', '.join(screen.channels)})"
        raise ValueError(f"{name}: its array has shape {field.shape}, not {channels} × height × width.")
    if field.dtype.kind == "f" and not np.isfinite(field).all():
        raise ValueError(f"{name}: some pixels are NaN or infinite; correct or leave out this field.")
    if like is not None and (field.shape, field.dtype) != (like.shape, like.dtype):
        difference = f"{field.dtype} of {field.shape}, but the first field of the plate is {like.dtype} of {like.shape}"
        raise ValueError(f"{name}: {difference}; all fields of a plate need one size and dtype.")
    return field


def plate_statistics(
    screen: Screen, rows: pd.DataFrame, settings: PrepareSettings, first: np.ndarray
) -> tuple[Correction, np.ndarray, np.ndarray]:
    """Correction, foreground thresholds (C,) and the grey values of saturation (C,) of a plate.

    They come from a sample of its fields, which must be like ``first``.
    """
    height, width = cropped(first, settings).shape[1:]

    def look(row: pd.Series) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]:
        field = cropped(read_raw(screen, row, first), settings)
        side = max(1, min(height, width) // illumination.GRID)
        # a reduced field of 1024 px has 1/64 of its pixels, so the sample fits in memory
        reduced = block_mean(field, side) if settings.illumination != "none" else None
        grid = pixel_grid(field).copy()
        return reduced, grid, foreground_thresholds(grid), peaks(field)

    def sample(rows: pd.DataFrame) -> Iterator[tuple]:
        evenly_spaced = np.linspace(0, len(rows) - 1, min(settings.sampled, len(rows))).round().astype(int)
        return zip(*parallel(look, rows.iloc[np.unique(evenly_spaced)], settings.workers), strict=True)

    reduced, grids, thresholds, found = sample(rows)
    zero = illumination.no_light(first.dtype, min(grid.min() for grid in grids))
    light = gain = offset = None
    if settings.illumination != "none":
        light = plate_light(rows, screen.channels, np.stack(reduced) - zero, settings, (height, width))
    if settings.scaling != "none":
        controls = rows[is_control(rows)]
        if settings.scaling == "control" and 0 < len(controls) < len(rows):
            _, grids, _, _ = sample(controls)
        even = Correction(None if light is None else pixel_grid(light), zero)
        pixels = [even.apply(grid).reshape(len(grid), -1) for grid in grids]
        gain, offset = illumination.plate_scale(np.concatenate(pixels, axis=1))
    full = saturation(np.stack(found), first.dtype, zero)
    if settings.saturated_at:
        full = np.full(len(first), float(settings.saturated_at))
    # the median: one glowing field does not make the others empty
    return Correction(light, zero, gain, offset), np.median(thresholds, axis=0), full


def plate_light(
    rows: pd.DataFrame, channels: list[str], reduced: np.ndarray, settings: PrepareSettings, shape: tuple[int, int]
) -> np.ndarray:
    """The uneven illumination (C, H, W) of a plate, from its ``reduced`` fields (N, C, h, w) in which 0 is no light.

    Raises ValueError for too few fields, and for a channel that is mostly below 0.
    """
    plate = f"plate {rows[PLATE].iloc[0]}"
    if len(rows) < FEWEST:
        few = f"{len(rows)} fields are too few to separate uneven light from cells"
        raise ValueError(f"{plate}: {few}; illumination needs {FEWEST}, else set illumination to none.")
    for channel, values in zip(channels, reduced.swapaxes(0, 1), strict=True):
        if values.mean() + values.std() < 0:
            what = f"channel {channel} is below 0 (mean {values.mean():.0f}), so its light is not known"
            raise ValueError(f"{plate}: {what}; export the raw counts, or set illumination to none.")
    average: Literal["mean", "median"] = "median" if settings.illumination == "median" else "mean"
    return illumination.illumination_function(reduced, average, settings.smoothing, shape)


def stored(raw: np.ndarray, correction: Correction, downscale: int) -> tuple[np.ndarray, float]:
    """The field as it is stored, and the share of pixels clipped to its dtype: the raw dtype, uint16 if scaled."""
    if correction.illumination is None and correction.gain is None and downscale == 1:
        return raw, 0.0
    values, dtype = correction.apply(raw), raw.dtype if correction.gain is None else np.dtype(np.uint16)
    if downscale > 1:
        values = block_mean(values, downscale)
    if dtype.kind == "f":
        return values.astype(dtype), 0.0
    np.rint(values, out=values)
    kept = values.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return kept.astype(dtype), np.count_nonzero(kept != values) / values.size


def prepared_truth(labels: np.ndarray, settings: PrepareSettings, dtype: np.dtype) -> np.ndarray:
    """Object labels (H, W), cropped and reduced like the pixels: the label in the middle of each block."""
    step, labels = settings.downscale, cropped(labels, settings)
    height, width = (length // step * step for length in labels.shape)
    return labels[step // 2 : height : step, step // 2 : width : step].astype(dtype)
