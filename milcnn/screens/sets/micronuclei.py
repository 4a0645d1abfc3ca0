"""Micronuclei: tiles of images of real nuclei, labelled by whether they contain a micronucleus.

49 images (RPE-1, U2OS, HeLa, HFF, MCC13; 20× and 40×, 8 and 16 bit) with hand-drawn masks of nuclei and micronuclei
are in the package mnfinder 1.2.3 (DiPeso, Hatch et al., MIT licence; ``pip install --no-deps mnfinder==1.2.3``), which
is not imported. The published split is kept, except that an image in two sets is left out of the earlier one (training
2022-05-26_RPE1 1 is also test 2023-05-31_misc 1, with other masks). A micronucleus is small, 16 px in the median at
20×, and few objects of a tile are micronuclei.
"""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tifffile
from pydantic import Field
from skimage.filters import threshold_otsu
from skimage.io import imread
from skimage.measure import label

from milcnn.columns import BATCH, FIELD_KEY, LABEL, SPLIT, WELL
from milcnn.screens.download import MIRROR
from milcnn.screens.screen import Screen
from milcnn.screens.sets.common import Row
from milcnn.settings import Settings

POSITIVE, NEGATIVE, NUCLEUS = "micronucleus", "none", "nucleus"
PUBLISHED_SETS = {"training": "train", "validation": "validation", "test": "test"}  # their name: our name
DARK, BRIGHT = 1_000, 11_000  # grey values of the background and of a typical nucleus after scaling


class MicronucleiSettings(Settings):
    """Size of a tile, and what makes it positive."""

    tile: int = Field(128, ge=32, le=512)  # px, side of a tile
    minimum_pixels: int = Field(10, ge=1)  # true px of micronuclei in a positive tile; fewer are only a rim
    source: Literal["auto", "package", "mirror"] = "auto"


@dataclass(frozen=True)
class Source:
    """One image, with its published set and its acquisition. Its masks are in folders beside the images."""

    image: Path
    name: str
    published_set: str
    dataset: str


def micronuclei_screen(settings: MicronucleiSettings) -> Screen:
    """The screen of tiles; ``read`` gives (1, tile, tile) uint16, ``truth`` micronuclei first, then nuclei."""
    sources = {source.name: source for source in without_repeats(find_sources(settings.source))}
    tables = zip(*(tile_tables(source, settings) for source in sources.values()), strict=True)
    fields, objects = (pd.concat(parts, ignore_index=True) for parts in tables)
    side = settings.tile

    def read(row: Row) -> np.ndarray:
        return scaled_image(sources[row[WELL]].image)[None, row["y"] : row["y"] + side, row["x"] : row["x"] + side]

    def truth(row: Row) -> np.ndarray:
        return true_objects(sources[row[WELL]], row["y"], row["x"], side)[0]

    return Screen(fields, ["DNA"], [NEGATIVE, POSITIVE], read, truth=truth, objects=objects, protocol="well")


def find_sources(where: str = "auto") -> list[Source]:
    """The images of the installed package mnfinder, else of the mirror. Raises FileNotFoundError for none."""
    if where != "mirror" and (sources := package_sources()):
        return sources
    if where != "package" and (sources := mirror_sources()):
        return sources
    raise FileNotFoundError(
        "micronuclei: no images; install them with 'pip install --no-deps mnfinder==1.2.3', or set "
        f"{MIRROR} to a folder that has a folder 'micronuclei', in it or beside it, with images/ and mn_masks/."
    )


def package_sources() -> list[Source]:
    """mnfinder/<set>-data/<dataset>/images/<stem>.tif."""
    spec = find_spec("mnfinder")
    if spec is None or spec.origin is None:
        return []
    return [
        Source(path, f"{name}_{path.parts[-3]}_{re.sub(r'[ .]', '-', path.stem)}", name, path.parts[-3])
        for name in PUBLISHED_SETS
        for path in sorted(Path(spec.origin).parent.glob(f"{name}-data/*/images/*.tif"))
    ]


def mirror_sources() -> list[Source]:
    """micronuclei/images/<set>_<date>_<cells>_<stem>.tif, in the mirror or beside it."""
    mirror = os.environ.get(MIRROR, "")
    folders = [Path(mirror), Path(mirror).parent] if mirror and "://" not in mirror else []
    paths = [sorted(folder.glob("micronuclei/images/*.tif")) for folder in folders]
    sources = []
    for path in next(filter(None, paths), []):
        name, *words = path.stem.split("_")
        if name not in PUBLISHED_SETS or len(words) < 3:
            allowed = ", ".join(PUBLISHED_SETS)
            raise ValueError(f"{path}: its name must start with one of {allowed}, a date and a cell line; rename it.")
        sources.append(Source(path, path.stem, name, "_".join(words[:2])))
    return sources


def without_repeats(sources: list[Source]) -> list[Source]:
    """``sources`` without images that have the same pixels as one in a later set (training, validation, test)."""
    kept: dict[str, Source] = {}
    for source in sorted(sources, key=lambda source: -list(PUBLISHED_SETS).index(source.published_set)):
        kept.setdefault(sha256(tifffile.imread(source.image).tobytes()).hexdigest(), source)
    return sorted(kept.values(), key=lambda source: source.name)


def tile_tables(source: Source, settings: MicronucleiSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per whole tile of an image, side by side from the top left; and one row per object of each tile.

    ``Metadata_Well`` is the image, ``_Site`` the tile, ``_Plate`` the set and acquisition; ``y``, ``x`` the corner in
    px; ``pixels`` the true px of micronuclei; ``fraction`` the share of the tile's objects that are micronuclei.
    """
    side, split = settings.tile, PUBLISHED_SETS[source.published_set]
    height, width = hand_drawn_masks(source)[0].shape
    corners = [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    rows, objects = [], []
    for site, (y, x) in enumerate(corners, start=1):
        truth, n_small = true_objects(source, y, x, side)
        key = (f"{split}_{source.dataset}", source.name, site)
        pixels = int(((truth > 0) & (truth <= n_small)).sum())
        name = POSITIVE if pixels >= settings.minimum_pixels else NEGATIVE
        rows.append((*key, source.dataset, name, split, y, x, pixels, n_small / max(1, truth.max())))
        objects += [(*key, k, POSITIVE if k <= n_small else NUCLEUS) for k in range(1, truth.max() + 1)]
    columns = [*FIELD_KEY, BATCH, LABEL, SPLIT, "y", "x", "pixels", "fraction"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(objects, columns=[*FIELD_KEY, "object", "class"])


def true_objects(source: Source, y: int, x: int, side: int) -> tuple[np.ndarray, int]:
    """The objects of a tile, (side, side) uint16, and how many of them, the first ones, are micronuclei.

    Objects are the connected parts of the masks inside the tile. A px in both masks belongs to the micronucleus.
    """
    micronuclei, nuclei = (mask[y : y + side, x : x + side] for mask in hand_drawn_masks(source))
    small, n_small = label(micronuclei, return_num=True)
    large = label(nuclei & ~micronuclei)
    return np.where(small > 0, small, large + n_small * (large > 0)).astype(np.uint16), n_small


@lru_cache(maxsize=8)
def hand_drawn_masks(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Masks of micronuclei and of nuclei, each (H, W) bool."""
    shape = tifffile.imread(source.image).shape
    masks = []
    for kind in ("mn", "nucleus"):
        path = source.image.parents[1] / f"{kind}_masks" / f"{source.image.stem}.png"
        mask = imread(path)
        mask = mask[..., 0] if mask.ndim == 3 else mask  # RGBA in the package, red inside
        if mask.shape != shape:
            raise ValueError(f"{path}: {mask.shape} is not the shape of its image, {shape}; correct it.")
        masks.append(mask > 0)
    return masks[0], masks[1]


@lru_cache(maxsize=8)
def scaled_image(path: Path) -> np.ndarray:
    """An image of 8 or 16 bit as (H, W) uint16, scaled to background 1,000 and typical nucleus 11,000.

    Background and nucleus are the medians below and above Otsu's threshold of the whole image. So bit depth, exposure
    and offset no longer distinguish the images.
    """
    image = tifffile.imread(path)
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: {image.shape} {image.dtype} is not one page of 8 or 16 bit; convert it.")
    if image.min() == image.max():
        raise ValueError(f"{path}: all its pixels are {image.min()}; remove it.")
    bright = image > threshold_otsu(image)
    dark, nucleus = np.median(image[~bright]), np.median(image[bright])
    scaled = DARK + (BRIGHT - DARK) * (image - dark) / (nucleus - dark)
    return scaled.clip(0, 65535).round().astype(np.uint16)
