"""Planes of microscope files: TIFF, OME-TIFF, Opera .flex and PNG, on disk or inside a zip.

A *plane* is one 2-D grey image: a page of a TIFF, or a colour of an RGB image; planes are counted
from 0. A file inside a zip has the path of the zip, a slash and its name there.
"""

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import BinaryIO

import numpy as np
import pandas as pd
import tifffile
from skimage.io import imread

from milcnn.columns import page_column, path_column

TIFF = {".tif", ".tiff", ".flex"}
PNG_TAIL = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"  # the last chunk of every whole PNG
_OPENING = Lock()


class ImageError(ValueError):
    """One sentence about a file that cannot be read as it is."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself: (height, width, dtype) of each plane, and what OME metadata tells.

    ``pixel_size`` is in µm; ``channels`` is empty and ``pixel_size`` None where the file is silent.
    """

    planes: list[tuple[int, int, str]]
    channels: list[str]
    pixel_size: float | None


def read_header(path: str) -> Header:
    """The header of an image file, without its pixels. Raises ImageError, which names the file."""
    with readable(path), opened(path) as (handle, size):
        if size == 0:
            raise ImageError(f"{path}: is empty (0 bytes); copy or export it again.")
        return kind_of(path, tiff_header, png_header)(path, handle, size)


def read_plane(path: str, plane: int = 0) -> np.ndarray:
    """Plane ``plane`` of a file, (H, W) in the file's dtype.

    Raises ImageError, which names the file, when it cannot be read or holds values that are not finite.
    """
    with readable(path), opened(path) as (handle, size):
        image = kind_of(path, tiff_plane, png_plane)(handle, size, plane)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = np.count_nonzero(~np.isfinite(image))
        raise ImageError(f"{path}: {bad} pixels of plane {plane} are NaN or infinite; export the raw counts.")
    return image


def kind_of(path: str, tiff: Callable, png: Callable) -> Callable:
    """``tiff`` or ``png``, by the suffix of ``path``."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in {*TIFF, ".png"}:
        raise ImageError(f"{path}: '{suffix}' is not read here; use TIFF, OME-TIFF, .flex or PNG.")
    return tiff if suffix in TIFF else png


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn whatever a broken file makes its reader raise into one sentence that names the file."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; copy it there or correct the table.") from None
    except Exception as error:  # a corrupt file can make a decoder raise anything
        detail = " ".join(str(error).split())[:120]
        raise ImageError(f"{path}: truncated or not an image ({detail}); copy or export it again.") from error


@contextmanager
def opened(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file on disk or in a zip, opened for reading, and its size in bytes."""
    container, member = split_zip(path)
    if member is None:
        with open(path, "rb") as handle:
            yield handle, os.fstat(handle.fileno()).st_size
        return
    archive = open_zip(container)
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise ImageError(f"{container}: holds no '{member}'.") from None
    with archive.open(info) as handle:
        yield handle, info.file_size


def split_zip(path: str) -> tuple[str, str | None]:
    """The zip and the name in it, or ``path`` itself and None."""
    at = path.lower().find(".zip/")
    return (path, None) if at < 0 else (path[: at + 4], path[at + 5 :])


def open_zip(path: str | Path) -> zipfile.ZipFile:
    """A zip, opened once in each process; nothing is ever unpacked from it.

    Raises ImageError when it is not whole, or names a file outside its own folder.
    """
    status = os.stat(path)
    with _OPENING:  # threads that ask at once get one handle
        return _open_zip(str(path), status.st_size, status.st_mtime_ns, os.getpid())


# a forked process needs its own handle: a shared one would move the file position of the other
@lru_cache(maxsize=128)
def _open_zip(path: str, size: int, modified: int, process: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ImageError(f"{path}: not a whole zip, half downloaded perhaps; delete it and fetch it again.") from None
    for name in archive.namelist():
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            archive.close()
            raise ImageError(f"{path}: its file '{name}' points outside the zip's folder; do not use this zip.")
    return archive


def tiff_header(path: str, handle: BinaryIO, size: int) -> Header:
    with tifffile.TiffFile(handle, size=size) as tif:
        pages = list(tif.pages)
        planes = [(page.imagelength, page.imagewidth, str(page.dtype)) for page in pages for _ in range(samples(page))]
        end = max(max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) for page in pages)
        if end > size:
            raise ImageError(f"{path}: truncated, {size} of {end} bytes are there; copy it again.")
        return Header(planes, *ome_facts(tif))


def tiff_plane(handle: BinaryIO, size: int, plane: int) -> np.ndarray:
    with tifffile.TiffFile(handle, size=size) as tif:
        colours = samples(tif.pages[0])
        page = tif.pages[plane // colours]
        image = page.asarray()
        if colours > 1:
            return np.take(image, plane % colours, axis=page.axes.index("S"))
        return image.reshape(page.imagelength, page.imagewidth)


def samples(page: tifffile.TiffPage) -> int:
    """Colours of a page: 1 for grey, 3 for RGB."""
    return page.samplesperpixel


def ome_facts(tif: tifffile.TiffFile) -> tuple[list[str], float | None]:
    """Channel names and pixel size (µm) from the OME metadata of a file that has any."""
    if not tif.is_ome:
        return [], None
    image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    scale = {"µm": 1, "nm": 1e-3, "mm": 1e3}.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = pixels.get("PhysicalSizeX")
    names = [str(channel["Name"]) for channel in channels if "Name" in channel]
    return names, float(size) * scale if size and scale else None


def png_header(path: str, handle: BinaryIO, size: int) -> Header:
    head = handle.read(26)
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    handle.seek(-len(PNG_TAIL), os.SEEK_END)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or handle.read() != PNG_TAIL:
        raise ImageError(f"{path}: truncated or not a PNG; copy it again.")
    if (colour, depth) not in {(0, 8), (0, 16), (2, 8)}:
        raise ImageError(f"{path}: neither grey of 8 or 16 bit nor RGB of 8 bit; save it as one of these.")
    return Header([(height, width, f"uint{depth}")] * (3 if colour else 1), [], None)


def png_plane(handle: BinaryIO, size: int, plane: int) -> np.ndarray:
    image = imread(handle)
    return np.take(image, plane, axis=2) if image.ndim == 3 else image


def read_field(row: pd.Series, channels: list[str]) -> np.ndarray:
    """One field (C, H, W) from the ``Path_<channel>`` and ``Page_<channel>`` (0 where absent) of its row.

    Raises ImageError when a file cannot be read, or the channels differ in size or dtype.
    """
    planes = [read_plane(row[path_column(name)], int(row.get(page_column(name), 0))) for name in channels]
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
        kinds = ", ".join(f"{name} {plane.shape} {plane.dtype}" for name, plane in zip(channels, planes, strict=True))
        raise ImageError(f"{row[path_column(channels[0])]}: its field's channels differ in size or dtype: {kinds}.")
    return np.stack(planes)
