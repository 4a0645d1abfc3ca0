"""One plate of a prepared study: its arrays and its record.

The record, ``plates/<plate>.json``, is written last. It has ``fingerprint``, see ``plate_fingerprint``; ``pixels``, the
number of pixels in one channel of a prepared field; ``corner``, the (y, x) of the raw field where the crop starts; and
``fields``, one entry per field in the order of the array, with ``quality`` by column, ``sum`` and ``squares`` of each
channel, and the ``objects`` in its truth.
"""

import errno
import hashlib
import json
import os
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
from milcnn.roles import is_control
from milcnn.screens.screen import Screen
from milcnn.screens.zarr_image import image_files

KEPT = 2**29  # bytes of raw fields of a plate that are kept in memory until they are written
CODE = [Path(str(module.__file__)) for module in (illumination, quality, preprocessing)]


def reading_once(read: Callable[[pd.Series], np.ndarray]) -> Callable[[pd.Series], np.ndarray]:
    """``read`` for the rows of one plate, whose fields it keeps until ``KEPT`` bytes are full; safe in threads.

    The fields for the fingerprint and for the statistics of a plate are read before all are written.
    """
    fields: dict[int, np.ndarray] = {}

    def read_once(row: pd.Series) -> np.ndarray:
        field = fields.get(row["index"])
        if field is None:
            field = np.asarray(read(row))
            if (len(fields) + 1) * field.nbytes <= KEPT:
                fields[row["index"]] = field
        return field

    return read_once


def plate_fingerprint(screen: Screen, rows: pd.DataFrame, settings: PrepareSettings, origin: object) -> str:
    """SHA-256 of everything that the arrays of a plate depend on.

    These are the settings, the rows of the table, size and time of the files in its ``Path_`` columns, ``origin`` (how
    the screen was made, as JSON) and the code of this stage. The first and the last field are hashed as well, because
    a reader can change without a trace in the others.
    """
    rows_read = screen.read_from(rows)
    columns = [column for column in rows_read if column.startswith("Path_")]
    paths = dict.fromkeys(str(path) for column in columns for path in rows_read[column])
    status = [os.stat(file) for path in paths for file in image_files(path)]
    scaled_to = is_control(rows).tolist() if settings.scaling == "control" else []
    table = rows_read.to_csv(index=False)
    facts = [settings.model_dump_json(exclude={"workers"}), screen.channels, origin, table, scaled_to]
    text = json.dumps([facts, [(file.st_size, file.st_mtime_ns) for file in status]], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for code in CODE:
        digest.update(code.read_bytes())
    for _, row in rows.iloc[[0, -1]].iterrows():
        for read in filter(None, (screen.read, screen.truth)):
            array = np.ascontiguousarray(read(row))
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def finished(folder: Path, plate: str, fingerprint: str, with_truth: bool) -> dict | None:
    """The record of a plate if ``folder`` has all its files and this fingerprint, else None."""
    path = folder / "plates" / f"{plate}.json"
    kinds = ["plates", "truth"] if with_truth else ["plates"]
    if not all(file.exists() for file in (path, *(array_path(folder, kind, plate) for kind in kinds))):
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record if record["fingerprint"] == fingerprint else None


def write_plate(
    screen: Screen, rows: pd.DataFrame, settings: PrepareSettings, folder: Path, fingerprint: str, bar: tqdm
) -> dict:
    """Read and write all fields of a plate; return its record, see the head of this module.

    Each field is written at its place in the file, not through a memory map: memory does not grow with the plate, and
    a full disk is an OSError, not a bus error. An error, also one of ``Screen.read``, leaves no file of this plate.
    """
    plate = str(rows[PLATE].iloc[0])
    first = read_raw(screen, rows.iloc[0])
    correction, thresholds, full = preprocessing.plate_statistics(screen, rows, settings, first)
    example, _ = stored(cropped(first, settings), correction, settings.downscale)
    examples = {"plates": example}
    if screen.truth is not None:
        examples["truth"] = np.zeros(example.shape[1:], truth_dtype(screen, plate))
    needed = len(rows) * sum(array.nbytes for array in examples.values())
    with room_for(folder, plate, needed), ExitStack() as stack:
        write = {
            kind: stack.enter_context(stack_file(array_path(folder, kind, plate), len(rows), array))
            for kind, array in examples.items()
        }

        def write_field(row: pd.Series) -> dict:
            raw = cropped(read_raw(screen, row, first), settings)
            pixels, clipped = stored(raw, correction, settings.downscale)
            write["plates"](row["index"], pixels)
            measures = quality.measure_quality(raw, thresholds, screen.channels, full)
            entry = {"quality": measures | {"Quality_Clipped": clipped}} | channel_sums(pixels)
            if screen.truth is not None:
                labels = prepared_truth(screen.truth(row), settings, examples["truth"].dtype)
                write["truth"](row["index"], labels)
                entry["objects"] = np.unique(labels[labels > 0]).tolist()
            return entry

        fields = []
        for entry in parallel(write_field, rows, settings.workers):
            fields.append(entry)
            bar.update()
    corner = preprocessing.crop_corner(first.shape, settings)
    record = {"fingerprint": fingerprint, "pixels": example[0].size, "corner": corner, "fields": fields}
    with room_for(folder, plate, 0):
        write_json(record, folder / "plates" / f"{plate}.json")
    return record


@contextmanager
def stack_file(path: Path, length: int, example: np.ndarray) -> Iterator[Callable[[int, np.ndarray], None]]:
    """A .npy file of ``length`` arrays like ``example``; yields ``write(position, array)``, safe in threads."""
    with written_whole(path) as temporary:
        offset = open_memmap(temporary, "w+", example.dtype, (length, *example.shape)).offset

        def write(position: int, array: np.ndarray) -> None:
            with temporary.open("r+b") as file:
                file.seek(offset + position * example.nbytes)
                file.write(np.ascontiguousarray(array).data)

        yield write


@contextmanager
def room_for(folder: Path, what: str, needed: int) -> Iterator[None]:
    """Raise OSError in one sentence if fewer than ``needed`` bytes are free, or when the disk fills up."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if needed > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, "too few bytes are free")
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sizes = f"{what} needs {needed / 1e9:.1f} GB, {shutil.disk_usage(folder).free / 1e9:.1f} GB are free"
        advice = "make room and start again: finished plates are kept, and the previous study is unchanged"
        raise OSError(errno.ENOSPC, f"{folder}: the disk is full ({sizes}); {advice}") from error


def truth_dtype(screen: Screen, plate: str) -> np.dtype:
    """uint8 if no field of the plate has more than 255 objects, else uint16."""
    if screen.objects is None:
        return np.dtype(np.uint16)
    numbers = screen.objects.loc[screen.objects[PLATE].astype(str) == plate, "object"]
    return np.dtype(np.uint8 if len(numbers) and numbers.max() < 256 else np.uint16)


def channel_sums(field: np.ndarray) -> dict[str, list[float]]:
    """``sum`` and ``squares`` of each channel in float64; exact for integers up to 2^53."""
    sums = np.zeros((2, len(field)))
    for y in range(0, field.shape[1], quality.BLOCK):
        for index, channel in enumerate(field[:, y : y + quality.BLOCK]):
            values = channel.ravel().astype(np.float64)
            sums[:, index] += values.sum(), values @ values
    return {"sum": sums[0].tolist(), "squares": sums[1].tolist()}
