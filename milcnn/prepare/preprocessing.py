"""How a raw field of a plate becomes a prepared one: read, cut, correct, reduce.

What depends on the plate is estimated first, from a bounded sample of its fields.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydantic import Field, model_validator

from milcnn.columns import FIELD_KEY, PLATE
from milcnn.prepare import illumination, quality
from milcnn.prepare.illumination import Correction, Illumination, block_mean, every
from milcnn.roles import is_control
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

FEWEST = 8  # fields that an illumination function can be averaged from


class PrepareSettings(Settings):
    """From a raw to a prepared field: cut, correct, reduce. The defaults store what was read."""

    illumination: Illumination = "none"  # average over the fields of a plate whose smooth part is divided out
    smoothing: float = Field(0.1, gt=0, le=0.5)  # width of that smoothing, share of the shorter side
    scaling: Literal["none", "control", "plate"] = "none"  # fields whose quantiles set the scale of a plate
    sampled: int = Field(64, ge=1)  # fields a plate, at most, that each of the two is estimated from
    crop: list[Annotated[int, Field(gt=0)]] = Field([])  # px, height and width of the centre; empty is all
    downscale: int = Field(1, ge=1, le=16)  # blocks of so many px a side become one
    saturated_at: int = Field(0, ge=0)  # grey value at which the camera saturates; 0 is the largest of the dtype
    workers: int = Field(0, ge=0)  # fields read at once; 0 is one a core

    @model_validator(mode="after")
    def crop_has_two_sides(self) -> Self:
        if len(self.crop) not in (0, 2):
            raise ValueError(f"crop: {self.crop} is not empty or [height, width]")
        return self


@dataclass(frozen=True)
class PlateStatistics:
    """What a sample of a plate's fields tells: its correction, and the foreground threshold a channel."""

    correction: Correction
    threshold: np.ndarray
    first: np.ndarray  # the first raw field, which all others must be like
    shape: tuple[int, ...]  # of a cut field


def name_of(row: pd.Series) -> str:
    return ", ".join(f"{column.removeprefix('Metadata_').lower()} {row[column]}" for column in FIELD_KEY)


def parallel(task: Callable, rows: pd.DataFrame, workers: int) -> Iterator:
    """``task`` of each row, in order. Threads: numpy, FFT and file reading all release the lock."""
    pool = Parallel(n_jobs=workers or -1, backend="threading", return_as="generator")
    return pool(delayed(task)(row) for _, row in rows.iterrows())


def cropped(array: np.ndarray, settings: PrepareSettings) -> np.ndarray:
    """The centre of the last two axes, as large as ``settings.crop`` says."""
    if not settings.crop:
        return array
    y, x = corner(array.shape, settings)
    return array[..., y : y + settings.crop[0], x : x + settings.crop[1]]


def corner(shape: tuple[int, ...], settings: PrepareSettings) -> tuple[int, int]:
    """The pixel (y, x) that the centre cut starts at. Raises ValueError when it is larger than the field."""
    if not settings.crop:
        return 0, 0
    spare = [length - kept for length, kept in zip(shape[-2:], settings.crop, strict=True)]
    if min(spare) < 0:
        raise ValueError(f"crop: {settings.crop} px is more than a field of {shape[-2]} × {shape[-1]} px.")
    return spare[0] // 2, spare[1] // 2


def read_raw(screen: Screen, row: pd.Series, like: np.ndarray | None = None) -> np.ndarray:
    """The raw field (C, H, W) of ``row``.

    Raises ValueError for a wrong number of channels, for pixels that are NaN or infinite, and where
    size or dtype differ from ``like``, the first field of its plate.
    """
    field = np.asarray(screen.read(row))
    if field.ndim != 3 or len(field) != len(screen.channels):
        raise ValueError(
            f"{name_of(row)}: read as {field.shape}, not as {len(screen.channels)} channels "
            f"({', '.join(screen.channels)}) × height × width."
        )
    if field.dtype.kind == "f" and not np.isfinite(field).all():
        raise ValueError(f"{name_of(row)}: has pixels that are NaN or infinite; mend or leave out this field.")
    if like is not None and (field.shape, field.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"{name_of(row)}: {field.dtype} of {field.shape}, where the plate begins with {like.dtype} of "
            f"{like.shape}; all fields of a plate need one size and dtype."
        )
    return field


def evenly_spaced(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most ``limit`` of ``rows``, evenly spread over the plate."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))]


def plate_statistics(screen: Screen, rows: pd.DataFrame, settings: PrepareSettings) -> PlateStatistics:
    """Estimate the correction of a plate from a bounded sample of its fields."""
    first = read_raw(screen, rows.iloc[0])
    shape = cropped(first, settings).shape
    side = max(1, min(shape[1:]) // illumination.GRID)

    def look(row: pd.Series) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        field = cropped(read_raw(screen, row, first), settings)
        # a reduced field of 1024 px has 1/64 of its pixels: the sample fits in memory
        reduced = block_mean(field, side) if settings.illumination != "none" else None
        return reduced, every(field).copy(), quality.foreground_thresholds(every(field))

    reduced, grids, limits = zip(*parallel(look, evenly_spaced(rows, settings.sampled), settings.workers), strict=True)
    threshold = np.median(limits, axis=0)  # one field that glows does not make the others empty
    correction = Correction()
    if settings.illumination != "none":
        if len(rows) < FEWEST:
            raise ValueError(
                f"plate {rows[PLATE].iloc[0]}: {len(rows)} fields are too few to tell uneven light from cells "
                f"(illumination needs {FEWEST}); set illumination to none."
            )
        light = illumination.illumination_function(
            np.stack(reduced), settings.illumination, settings.smoothing, shape[1:]
        )
        correction = Correction(light)
    if settings.scaling != "none":
        chosen = reference(rows, settings.scaling)
        if len(chosen) < len(rows):
            grids = [grid for _, grid, _ in parallel(look, evenly_spaced(chosen, settings.sampled), settings.workers)]
        on_grid = Correction(None if correction.illumination is None else every(correction.illumination))
        gain, offset = illumination.plate_scale(pooled([on_grid.apply(grid) for grid in grids]))
        correction = replace(correction, gain=gain, offset=offset)
    return PlateStatistics(correction, threshold, first, shape)


def pooled(grids: list[np.ndarray]) -> np.ndarray:
    """The pixels (C, n) of grids (C, h, w)."""
    return np.concatenate([grid.reshape(len(grid), -1) for grid in grids], axis=1)


def reference(rows: pd.DataFrame, scaling: str) -> pd.DataFrame:
    """The control fields of a plate, or all of its fields where it has none or ``scaling`` is ``plate``."""
    controls = rows[is_control(rows)]
    return controls if scaling == "control" and len(controls) else rows


def finish(values: np.ndarray, dtype: np.dtype, downscale: int) -> tuple[np.ndarray, float]:
    """Corrected values as they are stored, and the share of pixels that had to be clipped."""
    if downscale > 1:
        values = block_mean(values, downscale)
    if dtype.kind == "f":
        return values.astype(dtype), 0.0
    limits = np.iinfo(dtype)
    np.rint(values, out=values)
    kept = values.clip(limits.min, limits.max)
    return kept.astype(dtype), np.count_nonzero(kept != values) / values.size


def stored(raw: np.ndarray, found: PlateStatistics, settings: PrepareSettings) -> tuple[np.ndarray, float]:
    """The field as it is stored, and its clipped share; untouched where nothing is asked for."""
    if found.correction.idle and settings.downscale == 1:
        return raw, 0.0
    return finish(found.correction.apply(raw), found.correction.dtype(raw.dtype), settings.downscale)


def prepared_truth(screen: Screen, row: pd.Series, settings: PrepareSettings, dtype: np.dtype) -> np.ndarray:
    """The object labels of a field, cut and reduced like its pixels: the label in the middle of each block."""
    step = settings.downscale
    labels = cropped(screen.truth(row), settings)
    height, width = (length // step * step for length in labels.shape)
    return labels[step // 2 : height : step, step // 2 : width : step].astype(dtype)
