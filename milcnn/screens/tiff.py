"""The pages of a TIFF: which are planes, whether they are whole, and their pixels."""

import logging
import math
from typing import Literal, NamedTuple

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from milcnn.screens.metadata import Fault, flex_factors

DTYPES = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"]
FLEX = 65200  # the tag with the XML of an Opera .flex
PAGES_IN_MEMORY = 8  # times the size of a page: files that are read whole for one page
BYTES: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
GREY = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.PALETTE}
COLOUR = {PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR}
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs of broken files becomes one sentence here


class Plane(NamedTuple):
    """One plane: colour ``colour`` of a page, multiplied with ``factor``."""

    page: TiffPage
    colour: int = 0
    factor: float | None = None

    @property
    def dtype(self) -> str:
        return str(self.page.dtype) if self.factor is None else "uint16"

    def pixels(self) -> np.ndarray:
        """(H, W). A factor other than 1 cuts to whole numbers, as Bio-Formats does."""
        image = page_pixels(self.page)
        if self.page.samplesperpixel > 1:
            image = np.take(image, self.colour, axis=self.page.axes.index("S"))
        image = image.reshape(self.page.imagelength, self.page.imagewidth)
        if self.factor is None:
            return image.astype(image.dtype.newbyteorder("="), copy=False)
        values = image * np.float64(self.factor)
        if values.max() >= 2**16:
            raise Fault(f"the Factor of a plane is too large for 16 bits ({self.factor}); export it as TIFF.")
        return values.astype(np.uint16)


def page_pixels(page: TiffPage) -> np.ndarray:
    """The pixels of a page. libtiff halves the time of LZW, but needs the whole file: not a long stack."""
    file, size = page.parent.filehandle, sum(page.databytecounts)
    grey = page.samplesperpixel == 1 and page.bitspersample in (8, 16, 32)
    if page.compression != COMPRESSION.LZW or not grey or file.size > PAGES_IN_MEMORY * size:
        return page.asarray()
    import imagecodecs  # only here: screens without image files do without it

    file.seek(0)
    pixels: np.ndarray = imagecodecs.tiff_decode(file.read(), index=page.index)
    return pixels


def tiff_planes(tif: TiffFile, size: int) -> list[Plane]:
    """All planes of a file of ``size`` bytes. Raises Fault for pixels that are missing or mean no grey values.

    Reduced copies (pyramids, thumbnails), masks and alpha are no planes.
    """
    pages = [page.aspage() for page in tif.pages]
    if (pointer := tif.pages.next_page_offset) is not None:
        tif.filehandle.seek(pointer)
        if int.from_bytes(tif.filehandle.read(tif.tiff.offsetsize), BYTES[tif.byteorder]) >= size:
            raise Fault(f"truncated (after {len(pages)} pages); copy it again.")
    pages = [page for page in pages if not page.is_reduced and not page.is_mask] or pages
    for page in pages:
        refuse_odd(page)
        refuse_incomplete(page, size)
    return [
        Plane(page, colour, factor)
        for page, factor in zip(pages, page_factors(pages), strict=True)
        for colour in range(colours_of(page))
    ]


def page_factors(pages: list[TiffPage]) -> list[float | None]:
    """What each page of an Opera .flex is multiplied with; None where no file of Opera tells it."""
    text = pages[0].tags.valueof(FLEX)
    found = flex_factors(text if isinstance(text, str) else bytes(text).decode("latin-1")) if text else []
    factors: list[float | None] = [*found]
    if len(set(factors)) < 2:  # one for all
        return (factors or [None])[:1] * len(pages)
    if len(factors) != len(pages):
        raise Fault(f"not one Factor for each page ({len(factors)} for {len(pages)} pages); export it as TIFF.")
    return factors


def colours_of(page: TiffPage) -> int:
    """The number of planes in a page: 1 for grey, 3 for RGB. Alpha is none."""
    return page.samplesperpixel - sum(int(kind) in (1, 2) for kind in page.extrasamples)


def refuse_odd(page: TiffPage) -> None:
    """Raise Fault if the numbers of a page are no grey values or colours."""
    if str(page.dtype) not in DTYPES:
        kind = "1 bit" if page.bitspersample == 1 else f"{page.dtype or f'{page.bitspersample} bit'}"
        raise Fault(f"a kind of number that cannot be read ({kind}); save it as 8 or 16 bits, or as float32.")
    if 262 not in page.tags:  # the tag is missing: 0 is black
        return
    kind = getattr(page.photometric, "name", str(page.photometric))
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        raise Fault("inverted grey values, 0 is white; invert it, and save it with 0 as black.")
    if page.photometric not in GREY | COLOUR:
        raise Fault(f"neither grey nor RGB ({kind}); save it as grey.")
    if page.photometric == PHOTOMETRIC.PALETTE and (np.diff(np.asarray(page.colormap, float)) < 0).any():
        raise Fault("a palette of colours in place of grey values; save it as grey.")


def refuse_incomplete(page: TiffPage, size: int) -> None:
    """Raise Fault if a strip or tile of a page lies beyond the end of the file, or was never written."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) < math.prod(page.chunked) or len(offsets) != len(counts) or not all(counts) or not all(offsets):
        raise Fault(f"a part that was never written (page {page.index}); copy or export it again.")
    if (end := max(map(sum, zip(offsets, counts, strict=True)))) > size:
        raise Fault(f"truncated ({size} of {end} bytes); copy it again.")
    needed = page.imagelength * page.imagewidth * page.samplesperpixel * page.bitspersample // 8
    if page.compression == COMPRESSION.NONE and sum(counts) < needed:
        raise Fault(f"pixels are missing ({sum(counts)} of {needed} bytes in page {page.index}); export it again.")
