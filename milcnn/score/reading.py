"""The fields of a plate as the network gets them: read in threads, corrected as ``prepare`` does, quality measured."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Semaphore
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from milcnn.columns import CONTROL, PLATE
from milcnn.prepare import quality
from milcnn.prepare.illumination import Correction
from milcnn.prepare.preprocessing import PrepareSettings, cropped, plate_statistics, read_raw, stored
from milcnn.roles import plate_references
from milcnn.screens.screen import Screen

Done = TypeVar("Done")


class Unreadable(Exception):
    """A field that cannot be read; why is in the ``reasons`` of its plate."""


class ReadField(NamedTuple):
    """A field (C, H, W) as the network gets it, and its quality by column."""

    row: pd.Series
    pixels: np.ndarray
    quality: dict[str, float | None]


@dataclass(frozen=True)
class Clock:
    """Seconds of each part of the work, summed over threads."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


@dataclass(frozen=True)
class OpenPlate:
    """A plate with what corrects its fields. Its screen notes in ``reasons``, by ``index``, why a field is not read."""

    screen: Screen
    how: PrepareSettings
    reasons: dict[int, str]
    correction: Correction
    thresholds: np.ndarray  # (C,), of the foreground
    full: np.ndarray  # (C,), grey value of a saturated camera
    shape: tuple[int, ...]  # of a prepared field
    clock: Clock
    cores: Semaphore  # held by a thread that computes

    def look(self, row: pd.Series) -> ReadField | None:
        """The field of ``row``; None if it cannot be read."""
        try:
            with self.clock("read"):
                raw = cropped(self.screen.read(row), self.how)
        except Unreadable:
            return None
        with self.cores, self.clock("correct"):
            pixels, clipped = stored(raw, self.correction, self.how.downscale)
        with self.cores, self.clock("quality"):
            measures = quality.measure_quality(raw, self.thresholds, self.screen.channels, self.full)
        return ReadField(row, pixels, measures | {"Quality_Clipped": clipped})

    def looks(self, rows: pd.DataFrame) -> list[ReadField]:
        """Those fields of ``rows`` that can be read."""
        return [look for _, row in rows.iterrows() if (look := self.look(row)) is not None]


def in_threads(work: Callable[[pd.DataFrame], Done], parts: Iterable[pd.DataFrame], threads: int) -> Iterator[Done]:
    """``work`` of each of ``parts``, in order, by one thread more than ``threads``, since one may wait for a disk.

    At most so many parts wait to be taken, so memory does not grow with their number.
    """
    waiting: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(threads + 1) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def open_plate(screen: Screen, rows: pd.DataFrame, how: PrepareSettings, strict: bool = False) -> OpenPlate:
    """The plate of ``rows``, its correction estimated from a sample of the fields that can be read.

    Raises ValueError if none can be read or its light is not known, and, if ``strict``, for one that cannot be read.
    """
    reasons: dict[int, str] = {}
    first: np.ndarray | None = None

    def read(row: pd.Series) -> np.ndarray:
        try:
            return read_raw(screen, row, first)
        except (ValueError, OSError) as error:
            if strict:
                raise
            reasons[row["index"]] = " ".join(str(error).split())
            raise Unreadable from None

    careful, clock = replace(screen, read=read), Clock()
    # as in prepare: scored controls of the study's own plates do not scale them
    scaling = rows.assign(**{CONTROL: plate_references(rows)}) if how.scaling == "control" else rows
    with clock("plate"):
        while len(usable := scaling[~scaling["index"].isin(reasons)]):
            try:
                first = read(usable.iloc[0]) if first is None else first
                correction, thresholds, full = plate_statistics(careful, usable, how, first)
                example, _ = stored(cropped(first, how), correction, how.downscale)
                cores = Semaphore(how.workers)
                return OpenPlate(careful, how, reasons, correction, thresholds, full, example.shape, clock, cores)
            except Unreadable:
                continue  # without this field
    raise nothing_to_read(rows, reasons)


def nothing_to_read(rows: pd.DataFrame, reasons: dict[int, str]) -> ValueError:
    return ValueError(f"plate {rows[PLATE].iloc[0]}: no field can be read; the first: {next(iter(reasons.values()))}")
