"""Reads microscope images: TIFF, OME-TIFF, Opera .flex and PNG, on disk or inside a zip, and OME-Zarr.

A *plane* is one 2-D grey image: a page of a TIFF, or a colour of an RGB image. Planes are numbered from 0. Reduced
copies of a page and alpha are no planes.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO

import numpy as np
import pandas as pd
import tifffile

from milcnn.columns import page_column, path_column
from milcnn.screens.metadata import (
    Fault,
    Metadata,
    Place,
    imagej_metadata,
    in_micrometres,
    metadata_file,
    of_file,
    ome_places,
    stack_in_words,
)
from milcnn.screens.opening import ImageError, in_one_sentence, opened, split_zip
from milcnn.screens.tiff import Plane, tiff_planes
from milcnn.screens.zarr_image import ZarrImage, is_zarr, zarr_image

TIFF = {".tif", ".tiff", ".flex"}
PNG_TAIL = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"  # the last chunk of every whole PNG


@dataclass(frozen=True)
class Header:
    """Height, width and dtype of each plane of a file, and what its metadata say.

    ``channels`` are the names of the planes, '' where one has none, an empty list where all have none. ``pixel_size``
    is in µm, None if unknown. ``stack`` tells in words that a channel has several planes. ``colours`` is True if the
    planes are the colours of one image. ``places`` has the channel, z plane and time point of each plane, if known.
    """

    planes: list[tuple[int, int, str]]
    channels: list[str]
    pixel_size: float | None = None
    stack: str = ""
    colours: bool = False
    places: tuple[tuple[int, int, int], ...] = ()


def read_header(path: str) -> Header:
    """Read the header of an image file, not its pixels. Raises ImageError, which names the file."""
    if is_zarr(path):
        with in_one_sentence(path):
            return zarr_header(zarr_image(path), whole=True)
    with opened(path) as (handle, size):
        if not is_tiff(path):
            return png_header(handle)
        with tifffile.TiffFile(handle, size=size) as tif:
            return tiff_header(path, tif, tiff_planes(tif, size))


def read_plane(path: str, page: int | str | None = None, channel: str = "") -> np.ndarray:
    """A plane of a file; see ``read_planes``."""
    return read_planes(path, [(page, channel)])[0]


def read_planes(path: str, wanted: list[tuple[int | str | None, str]]) -> list[np.ndarray]:
    """Planes of a file by page and channel, see ``plane_number``; each (H, W) in the file's dtype.

    Raises ImageError, which names the file, if it cannot be read, if a pixel is NaN or infinite, or if an image in
    colours is needed as grey and its colours differ.
    """
    if is_zarr(path):
        with in_one_sentence(path):
            image = zarr_image(path)
            header = zarr_header(image)
            numbers = [plane_number(header, *plane) for plane in wanted]
            read = image.planes([number or 0 for number in numbers])
            return [one_plane(read.__getitem__, header, number) for number in numbers]
    with opened(path) as (handle, size):
        if not is_tiff(path):
            header, images = png_header(handle), png_planes(handle)
            return [one_plane(images.__getitem__, header, plane_number(header, *plane)) for plane in wanted]
        with tifffile.TiffFile(handle, size=size) as tif:
            planes = tiff_planes(tif, size)
            header = tiff_header(path, tif, planes)
            numbers = [plane_number(header, *plane) for plane in wanted]
            return [one_plane(lambda number: planes[number].pixels(), header, number) for number in numbers]


def one_plane(pixels: Callable[[int], np.ndarray], header: Header, number: int | None) -> np.ndarray:
    """The plane ``number``, or the grey image that was saved in colours."""
    image, *others = map(pixels, range(len(header.planes)) if number is None else [number])
    if any((other != image).any() for other in others):
        raise Fault("colours that differ; save it as grey, or number a colour, 0 to 2, in Page_<channel>.")
    if image.dtype.kind == "f" and (bad := np.count_nonzero(~np.isfinite(image))):
        raise Fault(f"pixels that are NaN or infinite ({bad}); export the raw counts.")
    return image


def plane_number(header: Header, page: int | str | None, channel: str, count: int | None = None) -> int | None:
    """The number of a channel's plane in a file; None: the grey image that was saved in colours.

    ``page`` is the number of the plane, or its name in the metadata. None is the only plane of the file, else the one
    that has the name of the channel. ``count`` is the number of planes that the file must have, None for any. Raises
    Fault if there is no such plane.
    """
    has, names = len(header.planes), header.channels
    if header.stack and not isinstance(page, int):
        advice = "save one plane a channel, such as the maximum, or number the planes in Page_<channel>"
        raise Fault(f"several planes of a channel ({header.stack}); {advice}.")
    if isinstance(page, str) or (page is None and channel in names and has > 1):
        name = page or channel
        if names.count(name) != 1:
            what = f"more than one plane named {name}" if name in names else f"no plane named {name}"
            raise Fault(f"{what} ({', '.join(names) or 'no names'}); choose others in 'channels', or correct the file.")
        page = names.index(name)
    expected = count or (1 if page is None else page + 1)
    if page is None and header.colours and expected == 1:
        return None
    if has < expected or (has != expected and (count or page is None)):
        raise Fault(f"wrong number of pages ({has}, not {expected}); correct the table or the file.")
    return page or 0


def is_tiff(path: str) -> bool:
    """True for a TIFF, False for a PNG, by the suffix. Raises ImageError for any other suffix."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in {*TIFF, ".png"}:
        raise ImageError(f"{path}: files of type '{suffix}' cannot be read; convert it to TIFF, OME-TIFF or PNG.")
    return suffix in TIFF


def tiff_header(path: str, tif: tifffile.TiffFile, planes: list[Plane]) -> Header:
    """The header of an open TIFF with these planes."""
    facts = tiff_metadata(path, tif)
    shapes = [(plane.page.imagelength, plane.page.imagewidth, plane.dtype) for plane in planes]
    pages = [plane.page.index for plane in planes]
    names = [facts.names[page] for page in pages] if facts.names and len(set(pages)) == len(pages) else []
    colours = len(pages) == 3 and len(set(pages)) == 1
    places = facts.places if len(facts.places) == len(pages) else ()
    return Header(shapes, names, facts.pixel_size, facts.stack, colours, places)


def tiff_metadata(path: str, tif: tifffile.TiffFile) -> Metadata:
    """What the OME-XML of a file, that of the file it points to, or ImageJ say of its pages."""
    pages = len(tif.pages)
    if tif.ome_metadata is not None:
        places = ome_places(tif.ome_metadata)
        if other := metadata_file(tif.ome_metadata):
            other = PurePosixPath(path).with_name(other).as_posix()
            container, _ = split_zip(other)
            places = companion(other, os.stat(container).st_mtime_ns) if os.path.exists(container) else {}
        return of_file(places, PurePosixPath(path).name, pages)
    if tif.imagej_metadata is not None:
        return imagej_metadata(tif.imagej_metadata, tif.pages.first.tags.valueof("XResolution", (0, 1)), pages)
    if tif.is_metaseries:  # ImageXpress
        told = (tif.metaseries_metadata or {}).get("PlaneInfo", {})
        length, unit = str(told.get("spatial-calibration-x", "")), str(told.get("spatial-calibration-units", ""))
        return Metadata([], in_micrometres(length, unit) if told.get("spatial-calibration-state") else None)
    return Metadata([])


@lru_cache(maxsize=64)  # one file tells of all files of a plate
def companion(path: str, modified: int) -> dict[str, list[Place]]:
    """What another file, OME-XML or OME-TIFF, tells of the files beside it."""
    with opened(path) as (handle, size):
        if PurePosixPath(path).suffix.lower() in TIFF:
            with tifffile.TiffFile(handle, size=size) as tif:
                places = ome_places(tif.ome_metadata or "<OME/>")
        else:
            places = ome_places(handle.read())
    return {file: found for file, found in places.items() if file}


def zarr_header(image: ZarrImage, whole: bool = False) -> Header:
    """The header of an OME-Zarr image. With ``whole``, raises Fault for a plane that was never written."""
    times, channels, depth = image.counts
    names = [name for name in image.names for _ in range(depth)] * times
    if whole and (lost := list(image.unwritten())):
        shown = f"{len(lost)} of {times * channels * depth}, as {names[lost[0]] if names else f'plane {lost[0]}'}"
        raise Fault(f"planes that were never written ({shown}); copy or convert it again, or delete the row.")
    places = tuple((c, z, t) for t, c, z in np.ndindex(image.counts))
    stack = stack_in_words(channels, depth, times)
    plane = (*image.size, image.array.dtype.newbyteorder("=").name)
    return Header([plane] * len(places), names, image.pixel_size, stack, places=places)


def png_header(handle: IO[bytes]) -> Header:
    head = handle.read(26)
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    handle.seek(-len(PNG_TAIL), os.SEEK_END)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or handle.read() != PNG_TAIL:
        raise Fault("truncated or not a PNG; copy or export it again.")
    if colour == 3 or depth not in (8, 16):
        kind = "palette" if colour == 3 else f"{depth} bit"
        raise Fault(f"not a grey or RGB PNG of 8 or 16 bits ({kind}); save it as one of these.")
    colours = bool(colour & 2)
    return Header([(height, width, f"uint{depth}")] * (3 if colours else 1), [], colours=colours)


def png_planes(handle: IO[bytes]) -> list[np.ndarray]:
    """The planes of a PNG, each (H, W); alpha is none."""
    import imagecodecs  # only here, as in ``tiff``

    handle.seek(0)
    image = np.atleast_3d(imagecodecs.png_decode(handle.read()))
    return list(np.moveaxis(image, 2, 0)[: 3 if image.shape[2] > 2 else 1])


def read_field(row: pd.Series, channels: list[str]) -> np.ndarray:
    """One field (C, H, W) from ``Path_<channel>`` and ``Page_<channel>``, if there is one, of its row.

    Raises ImageError if a file cannot be read, or if the channels differ in size or dtype.
    """
    files: dict[str, list[str]] = {}  # each is opened once
    for name in channels:
        files.setdefault(row[path_column(name)], []).append(name)
    images: dict[str, np.ndarray] = {}
    for path, names in files.items():
        read = read_planes(path, [(as_page(row.get(page_column(name))), name) for name in names])
        images |= zip(names, read, strict=True)
    planes = [images[name] for name in channels]
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
        kinds = ", ".join(f"{name} {plane.shape} {plane.dtype}" for name, plane in zip(channels, planes, strict=True))
        file = row[path_column(channels[0])]
        raise ImageError(f"{file}: the channels of this field differ ({kinds}); export them with one size and dtype.")
    return np.stack(planes)


def as_page(cell: float | str | None) -> int | str | None:
    """A cell of ``Page_<channel>``; None if it is empty."""
    return cell if cell is None or isinstance(cell, str) else None if np.isnan(cell) else int(cell)
