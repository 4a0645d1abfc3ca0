"""One plate of a prepared study: its arrays and its record.

A finished plate is ``plates/<plate>.npy``, ``truth/<plate>.npy`` where the truth is known, and
``plates/<plate>.json``, its record. The record is written last and has ``fingerprint``, which tells
everything that the arrays depend on; ``pixels``, their number in a field and channel; ``corner``, the
(y, x) of the raw field that was cut at; and ``fields``, one entry a field in the order of the array:
its ``quality`` by column, ``sum`` and ``squares`` a channel, and the ``objects`` that are in its truth.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from tqdm.auto import tqdm

from milcnn.columns import PLATE
from milcnn.files import write_json, written_whole
from milcnn.prepare import illumination, preprocessing, quality
from milcnn.prepare.prepared import array_path
from milcnn.prepare.preprocessing import PrepareSettings, cropped, parallel, prepared_truth, read_raw, stored
from milcnn.prepare.quality import row_blocks
from milcnn.screens.screen import Screen

CODE = [Path(module.__file__) for module in (illumination, quality, preprocessing)]


def record_path(folder: Path, plate: str) -> Path:
    return folder / "plates" / f"{plate}.json"


def plate_fingerprint(screen: Screen, rows: pd.DataFrame, settings: PrepareSettings, origin: object) -> str:
    """SHA-256 of all that the arrays of a plate depend on.

    The settings, the table's rows, size and time of the files in its ``Path_`` columns, ``origin``
    (whatever else made the screen, as JSON), the code of this stage, and, since a reader can change
    without a trace in any of these, the first and the last field as read.
    """
    told = [settings.model_dump_json(exclude={"workers"}), screen.channels, origin, rows.to_csv(index=False)]
    paths = [path for column in rows if column.startswith("Path_") for path in rows[column]]
    digest = hashlib.sha256(json.dumps([told, [stamp(path) for path in paths]], sort_keys=True, default=str).encode())
    for path in CODE:
        digest.update(path.read_bytes())
    for _, row in rows.iloc[[0, -1]].iterrows():
        for read in (screen.read, screen.truth) if screen.truth is not None else (screen.read,):
            array = np.ascontiguousarray(read(row))
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def stamp(path: object) -> tuple[int, int] | None:
    """Size and time of a file; None for what is no file of its own, as a member of a zip."""
    try:
        status = Path(str(path)).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def finished(folder: Path, plate: str, mark: str, with_truth: bool) -> dict | None:
    """The record of a plate that ``folder`` holds whole and with this fingerprint, else None."""
    kinds = ["plates", "truth"] if with_truth else ["plates"]
    path = record_path(folder, plate)
    if not path.exists() or not all(array_path(folder, kind, plate).exists() for kind in kinds):
        return None
    record = json.loads(path.read_text())
    return record if record["fingerprint"] == mark else None


def write_plate(
    screen: Screen, rows: pd.DataFrame, settings: PrepareSettings, folder: Path, mark: str, bar: tqdm
) -> dict:
    """Read and write all fields of a plate; return its record, see the head of this module.

    Fields are written one by one at their places in the file, not through a memory map: memory does
    not grow with the plate, and a full disk is an error, not a bus error. Raises OSError when the
    disk is full, and whatever ``Screen.read`` raises; nothing of this plate is then left.
    """
    plate = str(rows[PLATE].iloc[0])
    found = preprocessing.plate_statistics(screen, rows, settings)
    example, _ = stored(cropped(found.first, settings), found, settings)
    kinds = {"plates": example}
    if screen.truth is not None:
        kinds["truth"] = np.zeros(example.shape[1:], truth_dtype(screen, plate))
    with room_for(folder, plate, len(rows) * sum(array.nbytes for array in kinds.values())), ExitStack() as stack:
        put = {
            kind: stack.enter_context(stack_file(array_path(folder, kind, plate), len(rows), array))
            for kind, array in kinds.items()
        }

        def field(row: pd.Series) -> dict:
            raw = cropped(read_raw(screen, row, found.first), settings)
            pixels, clipped = stored(raw, found, settings)
            put["plates"](row["index"], pixels)
            measures = quality.measure_quality(raw, found.threshold, screen.channels, settings.saturated_at)
            entry = {"quality": measures | {"Quality_Clipped": clipped}} | sums_of(pixels)
            if screen.truth is not None:
                labels = prepared_truth(screen, row, settings, kinds["truth"].dtype)
                put["truth"](row["index"], labels)
                entry["objects"] = np.unique(labels[labels > 0]).tolist()
            return entry

        fields = []
        for entry in parallel(field, rows, settings.workers):
            fields.append(entry)
            bar.update()
    corner = preprocessing.corner(found.first.shape, settings)
    record = {"fingerprint": mark, "pixels": example[0].size, "corner": corner, "fields": fields}
    with room_for(folder, plate, 0):
        write_json(record, record_path(folder, plate))
    return record


@contextmanager
def stack_file(path: Path, length: int, example: np.ndarray) -> Iterator[Callable[[int, np.ndarray], None]]:
    """A .npy file of ``length`` arrays like ``example``; gives ``put(position, array)``, safe in threads."""
    with written_whole(path) as temporary:
        offset = open_memmap(temporary, "w+", example.dtype, (length, *example.shape)).offset

        def put(position: int, array: np.ndarray) -> None:
            with temporary.open("r+b") as file:
                file.seek(offset + position * example.nbytes)
                file.write(np.ascontiguousarray(array))

        yield put


@contextmanager
def room_for(folder: Path, what: str, needed: int) -> Iterator[None]:
    """Raise OSError in one sentence when ``needed`` bytes are not free, or when the disk fills up."""

    def full(free: int) -> OSError:
        return OSError(
            errno.ENOSPC,
            f"{folder}: the disk is full ({what} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free); make room "
            "and start again: finished plates are kept, and what was prepared before is untouched",
        )

    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise full(free)
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full(shutil.disk_usage(folder).free) from error


def truth_dtype(screen: Screen, plate: str) -> np.dtype:
    """uint8 where no field of the plate has more than 255 objects, else uint16."""
    if screen.objects is None:
        return np.dtype(np.uint16)
    numbers = screen.objects.loc[screen.objects[PLATE].astype(str) == plate, "object"]
    return np.dtype(np.uint8 if len(numbers) and numbers.max() < 256 else np.uint16)


def sums_of(field: np.ndarray) -> dict[str, list[float]]:
    """``sum`` and ``squares`` of each channel; exact for integers, which float64 holds up to 2^53."""
    total, squares = np.zeros(len(field)), np.zeros(len(field))
    for band in row_blocks(field.shape[1]):  # bands of rows stay in the cache of a core
        for index, channel in enumerate(field[:, band]):
            values = channel.ravel().astype(np.float64)
            total[index] += values.sum()
            squares[index] += values @ values
    return {"sum": total.tolist(), "squares": squares.tolist()}
