"""What is written inside a TIFF about its pages: the channel of each, the stack they belong to, the pixel size.

OME-XML: ``TiffData`` says which page holds which channel; it may also be in a companion file beside the images. See
https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html. ImageJ: the labels of a hyperstack.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

MICROMETRES = {"nm": 1e-3, "um": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
MICROMETRES |= {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "meter": 1e6, "angstrom": 1e-4}  # OME-Zarr
NOT_A_NAME = re.compile(r"[./\\:#]|^\d*$")  # an ImageJ label with one of these names a file or a slice, not a channel


class Fault(ValueError):
    """What is wrong with an open file, without its path: 'what (detail); advice.'"""


@dataclass(frozen=True)
class Metadata:
    """The channel of each page, '' where it has no name, an empty list where no page has one; µm of a pixel or None.

    ``stack`` tells in words that a channel has several planes, as in '2 channels × 3 z-planes × 1 time points'.
    ``places`` has the channel, z plane and time point of each page, from 0; it is empty if one is not known.
    """

    names: list[str]
    pixel_size: float | None = None
    stack: str = ""
    places: tuple[tuple[int, int, int], ...] = ()


class Place(NamedTuple):
    """A plane of an OME image, and the page of the file in which it is."""

    file: str  # its name; '' is the file that has the OME-XML
    page: int
    image: int
    channel: int
    z: int
    time: int
    name: str  # of the channel; '' for none
    pixel_size: float | None


def ome_root(xml: str | bytes) -> Element:
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise Fault(f"broken OME-XML ({error}); export it again.") from None


def metadata_file(xml: str) -> str:
    """The name of the file that has the OME-XML of this one, '' if it has its own."""
    only = ome_root(xml).find("{*}BinaryOnly")
    return "" if only is None else only.get("MetadataFile", "").replace("\\", "/").rpartition("/")[2]


def ome_places(xml: str | bytes) -> dict[str, list[Place]]:
    """The planes that an OME-XML tells of, by the name of their file. Raises Fault if it is broken."""
    root = ome_root(xml)
    places: dict[str, list[Place]] = {}
    for number, image in enumerate(root.iterfind("{*}Image")):
        for pixels in image.iterfind("{*}Pixels"):
            for place in image_places(number, pixels, root.get("UUID", "")):
                places.setdefault(place.file, []).append(place)
    return places


def image_places(image: int, pixels: Element, own: str) -> Iterator[Place]:
    """The planes of one image; ``own`` is the UUID of the file that has the XML."""
    names = [(channel.get("Name") or "").strip() for channel in pixels.iterfind("{*}Channel")]
    size = in_micrometres(pixels.get("PhysicalSizeX", ""), pixels.get("PhysicalSizeXUnit", "µm"))
    axes = pixels.get("DimensionOrder", "XYCZT")[2:]
    sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "ZT"} | {
        "C": len(names) or int(pixels.get("SizeC", 1))
    }
    for block in [*pixels.iterfind("{*}TiffData")] or [Element("TiffData")]:
        file = file_of(block, own)
        page, position = int(block.get("IFD", 0)), 0
        for axis in reversed(axes):  # the first axis changes fastest
            position = position * sizes[axis] + int(block.get(f"First{axis}", 0))
        left = math.prod(sizes.values()) - position
        count = int(block.get("PlaneCount", 1 if "IFD" in block.attrib else left))
        for step in range(min(count, left)):
            at, rest = {}, position + step
            for axis in axes:
                rest, at[axis] = divmod(rest, sizes[axis])
            name = names[at["C"]] if names else ""
            yield Place(file, page + step, image, at["C"], at["Z"], at["T"], name, size)


def file_of(block: Element, own: str) -> str:
    """The name of the file that a ``TiffData`` means, '' for the file that has the XML."""
    owner = block.find("{*}UUID")
    if owner is None or own == (owner.text or "").strip() != "":
        return ""
    return (owner.get("FileName") or owner.text or "").replace("\\", "/").rpartition("/")[2]


def of_file(places: dict[str, list[Place]], file: str, pages: int) -> Metadata:
    """The metadata of a file of this name with so many pages. Raises Fault if a page has two channels."""
    mine = [*places.get("", []), *places.get(file, [])]
    if not mine and len(places) == 1:  # the only file was renamed
        mine = next(iter(places.values()))
    if any(place.page >= pages for place in mine):  # it tells of another file
        return Metadata([], next((place.pixel_size for place in mine if place.pixel_size), None))
    names = [""] * pages
    channels: dict[int, tuple[int, int]] = {}
    for place in mine:
        own = place.image, place.channel
        if channels.setdefault(place.page, own) != own:
            raise Fault(f"two channels in one page of its OME-XML (page {place.page}); export it again.")
        names[place.page] = place.name
    counts = [len({place[at] for place in mine}) for at in range(3, 6)]
    size = next((place.pixel_size for place in mine if place.pixel_size), None)
    at = {place.page: (place.channel, place.z, place.time) for place in mine}
    found = tuple(at[page] for page in range(pages)) if len(at) == pages else ()
    return Metadata(names if any(names) else [], size, stack_in_words(*counts), found)


def stack_in_words(channels: int, z: int, times: int) -> str:
    """The planes of a file in words, '' if it has one for each channel."""
    return f"{channels} channels × {z} z-planes × {times} time points" if max(z, times) > 1 else ""


def imagej_metadata(facts: dict, resolution: tuple[int, int], pages: int) -> Metadata:
    """The metadata of an ImageJ stack; ``resolution`` is the pixels in one unit, as a fraction."""
    channels, z, times = (int(facts.get(key, 1)) for key in ("channels", "slices", "frames"))
    if facts.get("images", 1) > pages:
        raise Fault(f"a large ImageJ stack without pages ({facts['images']} planes); save it as OME-TIFF.")
    labels = [str(label).strip() for label in facts.get("Labels", [])]
    if len(labels) != pages or channels < 2 or any(NOT_A_NAME.search(label) for label in labels):
        labels = []
    # a stack without channels often has them as slices
    stack = stack_in_words(channels, z, times) if channels > 1 else ""
    pixels, units = resolution
    size = in_micrometres(str(units / pixels) if pixels else "", str(facts.get("unit", "")))
    places = [(page % channels, page // channels % z, page // (channels * z)) for page in range(pages)]
    return Metadata(labels, size, stack, tuple(places) if pages == channels * z * times else ())


def in_micrometres(size: str, unit: str) -> float | None:
    """A length in µm; None for no length, and for a unit that is no length, such as pixel."""
    unit = unit.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u")
    try:
        length = float(size) * MICROMETRES[unit.lower() if len(unit) > 2 else unit]
    except (ValueError, KeyError):
        return None
    return length if 0 < length < math.inf else None


def flex_factors(xml: str) -> list[float]:
    """What each plane of an Opera .flex is multiplied with, in the order of its pages; an empty list if not told."""
    arrays = ElementTree.fromstring(xml).iter("Array")
    return [float(array.get("Factor", 1)) for array in arrays]
