"""Reads microscope images: TIFF, OME-TIFF, Opera .flex and PNG, on disk or inside a zip.

A *plane* is one 2-D grey image: a page of a TIFF, or a colour of an RGB image. Planes are numbered from 0.
The path of a file inside a zip is the path of the zip, a slash and the name in the zip.
"""

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO

import numpy as np
import pandas as pd
import tifffile
from skimage.io import imread

from milcnn.columns import page_column, path_column

TIFF = {".tif", ".tiff", ".flex"}
PNG_TAIL = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"  # the last chunk of every whole PNG
_OPENING = Lock()


class ImageError(ValueError):
    """One sentence about a file that cannot be read: "file: what is wrong (what differs from file to file); advice."."""


@dataclass(frozen=True)
class Header:
    """Height, width and dtype of each plane of a file, its channel names and its pixel size in µm.

    Channel names and pixel size come from the OME metadata; without it, ``channels`` is empty and
    ``pixel_size`` is None.
    """

    planes: list[tuple[int, int, str]]
    channels: list[str]
    pixel_size: float | None


def read_header(path: str) -> Header:
    """Read the header of an image file, not its pixels. Raises ImageError, which names the file."""
    with opened(path) as (handle, size):
        if size == 0:
            raise ImageError(f"{path}: is empty (0 bytes); copy or export it again.")
        return tiff_header(path, handle, size) if is_tiff(path) else png_header(path, handle)


def read_plane(path: str, plane: int = 0) -> np.ndarray:
    """Plane ``plane`` of a file, (H, W) in the file's dtype.

    Raises ImageError, which names the file, if it cannot be read or if a pixel is NaN or infinite.
    """
    with opened(path) as (handle, size):
        image = tiff_plane(handle, size, plane) if is_tiff(path) else png_plane(handle, plane)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = np.count_nonzero(~np.isfinite(image))
        raise ImageError(f"{path}: {bad} pixels of plane {plane} are NaN or infinite; export the raw counts.")
    return image


def is_tiff(path: str) -> bool:
    """True for a TIFF, False for a PNG, by the suffix. Raises ImageError for any other suffix."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in {*TIFF, ".png"}:
        raise ImageError(f"{path}: files of type '{suffix}' cannot be read; convert it to TIFF, OME-TIFF or PNG.")
    return suffix in TIFF


@contextmanager
def opened(path: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file on disk or in a zip; gives the open file and its size in bytes.

    Any error while it is read becomes one ImageError that names the file.
    """
    container, member = split_zip(path)
    try:
        if member is None:
            with open(path, "rb") as handle:
                yield handle, os.fstat(handle.fileno()).st_size
            return
        archive = open_zip(container)
        if member not in archive.NameToInfo:
            raise ImageError(f"{container}: has no such file ('{member}'); correct the path in the table.")
        with archive.open(member) as handle:
            yield handle, archive.getinfo(member).file_size
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; copy it there or correct the table.") from None
    except Exception as error:  # a broken file can make a decoder raise any error
        detail = " ".join(str(error).split())[:120]
        raise ImageError(f"{path}: truncated or not an image ({detail}); copy or export it again.") from error


def split_zip(path: str) -> tuple[str, str | None]:
    """The path of the zip and the name in it; for a file outside a zip, ``path`` and None."""
    at = path.lower().find(".zip/")
    return (path, None) if at < 0 else (path[: at + 4], path[at + 5 :])


def open_zip(path: str | Path) -> zipfile.ZipFile:
    """A zip, opened once in each process. Its files are read in place, never unpacked to disk.

    Raises ImageError if the zip is incomplete or if a name in it points outside its folder.
    """
    status = os.stat(path)
    with _OPENING:  # all threads share one handle
        return _open_zip(str(path), status.st_size, status.st_mtime_ns, os.getpid())


# each process needs its own handle: a forked process would move the file position of its parent
@lru_cache(maxsize=128)
def _open_zip(path: str, size: int, modified: int, process: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ImageError(f"{path}: not a whole zip, perhaps a broken download; delete and download it again.") from None
    for name in archive.namelist():
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            archive.close()
            raise ImageError(f"{path}: its file '{name}' points outside the zip's folder; do not use this zip.")
    return archive


def tiff_header(path: str, handle: IO[bytes], size: int) -> Header:
    with tifffile.TiffFile(handle, size=size) as tif:
        pages = [page.aspage() for page in tif.pages]
        colours = [page for page in pages for _ in range(page.samplesperpixel)]  # one for grey, three for RGB
        planes = [(page.imagelength, page.imagewidth, str(page.dtype)) for page in colours]
        end = max(max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) for page in pages)
        if end > size:
            raise ImageError(f"{path}: truncated ({size} of {end} bytes); copy it again.")
        return Header(planes, *ome_facts(tif))


def tiff_plane(handle: IO[bytes], size: int, plane: int) -> np.ndarray:
    with tifffile.TiffFile(handle, size=size) as tif:
        colours = tif.pages.first.samplesperpixel
        page = tif.pages[plane // colours].aspage()
        image = page.asarray()
        if colours > 1:
            return np.take(image, plane % colours, axis=page.axes.index("S"))
        return image.reshape(page.imagelength, page.imagewidth)


def ome_facts(tif: tifffile.TiffFile) -> tuple[list[str], float | None]:
    """Channel names and pixel size (µm) from the OME metadata; an empty list and None without it."""
    if tif.ome_metadata is None:
        return [], None
    image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    scale = {"µm": 1, "nm": 1e-3, "mm": 1e3}.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = pixels.get("PhysicalSizeX")
    names = [str(channel["Name"]) for channel in channels if "Name" in channel]
    return names, float(size) * scale if size and scale else None


def png_header(path: str, handle: IO[bytes]) -> Header:
    head = handle.read(26)
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    handle.seek(-len(PNG_TAIL), os.SEEK_END)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or handle.read() != PNG_TAIL:
        raise ImageError(f"{path}: truncated or not a PNG; copy or export it again.")
    if (colour, depth) not in {(0, 8), (0, 16), (2, 8)}:
        raise ImageError(f"{path}: not a grey PNG of 8 or 16 bits or an RGB PNG of 8 bits; save it as one of these.")
    return Header([(height, width, f"uint{depth}")] * (3 if colour else 1), [], None)


def png_plane(handle: IO[bytes], plane: int) -> np.ndarray:
    image = imread(handle)
    return np.take(image, plane, axis=2) if image.ndim == 3 else image


def read_field(row: pd.Series, channels: list[str]) -> np.ndarray:
    """One field (C, H, W) from ``Path_<channel>`` and ``Page_<channel>`` (0 without this column) of its row.

    Raises ImageError if a file cannot be read, or if the channels differ in size or dtype.
    """
    planes = [read_plane(row[path_column(name)], int(row.get(page_column(name), 0))) for name in channels]
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
        kinds = ", ".join(f"{name} {plane.shape} {plane.dtype}" for name, plane in zip(channels, planes, strict=True))
        file = row[path_column(channels[0])]
        raise ImageError(f"{file}: the channels of this field differ ({kinds}); export them with one size and dtype.")
    return np.stack(planes)
