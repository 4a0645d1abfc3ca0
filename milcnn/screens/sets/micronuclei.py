"""Micronuclei: tiles of real nuclear stain, labelled by whether they hold a micronucleus.

49 images (RPE-1, U2OS, HeLa, HFF, MCC13; 20× and 40×, 8 and 16 bit) with hand-drawn masks of nuclei and
micronuclei come with the package mnfinder 1.2.3 (DiPeso, Hatch et al., MIT licence; ``pip install --no-deps
mnfinder==1.2.3``). It is located, never imported. The published split into training, validation and
test images is kept, with one exception: an image that is in two sets (in 1.2.3, training
2022-05-26_RPE1 1 is test 2023-05-31_misc 1, masked twice) is left out of the earlier one.

A micronucleus is small, 16 px in the median at 20×, and few of a tile's objects are micronuclei.
"""

import os
import re
from dataclasses import dataclass
from functools import lru_cache, partial
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

from milcnn.columns import FIELD_KEY, LABEL, SPLIT
from milcnn.screens.download import MIRROR
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

POSITIVE, NEGATIVE, NUCLEUS = "micronucleus", "none", "nucleus"
SPLITS = {"training": "train", "validation": "validation", "test": "test"}  # theirs: ours
DARK, BRIGHT = 1_000, 11_000  # grey values of the background and of a typical nucleus, once scaled


class MicronucleiSettings(Settings):
    """Size of a tile, and what makes it positive."""

    tile: int = Field(128, ge=32, le=512)  # px, side of a tile
    # true px of micronuclei from which on a tile is positive: with fewer there is only the rim of one
    minimum_pixels: int = Field(10, ge=1)
    source: Literal["auto", "package", "mirror"] = "auto"


@dataclass(frozen=True)
class Source:
    """One image with its masks, and the published set and acquisition that it is of."""

    name: str
    split: str
    dataset: str
    image: Path
    micronuclei: Path
    nuclei: Path


def micronuclei_screen(settings: MicronucleiSettings) -> Screen:
    """The screen of tiles; ``read`` gives (1, tile, tile) uint16, ``truth`` micronuclei first, then nuclei."""
    sources = {source.name: source for source in unleaked(find_sources(settings.source))}
    tables = [tile_table(source, settings) for source in sources.values()]
    fields = pd.concat([fields for fields, _ in tables], ignore_index=True)
    objects = pd.concat([objects for _, objects in tables], ignore_index=True)
    return Screen(
        fields=fields,
        channels=["DNA"],
        classes=[NEGATIVE, POSITIVE],
        read=partial(read_tile, sources=sources, side=settings.tile),
        truth=lambda row: true_objects(sources[row["Metadata_Well"]], row["y"], row["x"], settings.tile)[0],
        protocol="well",
        objects=objects,
    )


def find_sources(where: str = "auto") -> list[Source]:
    """The images of the installed package mnfinder, else of the mirror. Raises FileNotFoundError for none."""
    if where != "mirror" and (spec := find_spec("mnfinder")) and spec.origin:
        folder = Path(spec.origin).parent
        paths = sorted(folder.glob("*-data/*/images/*.tif"))
        found = [source for path in paths if (source := of_package(path)) is not None]
        if found:
            return found
    mirror = os.environ.get(MIRROR, "")
    if where != "package" and mirror and "://" not in mirror:
        for folder in (Path(mirror) / "micronuclei", Path(mirror).parent / "micronuclei"):
            found = [of_mirror(path) for path in sorted(folder.glob("images/*.tif"))]
            if found:
                return found
    raise FileNotFoundError(
        "micronuclei: no images; install them with 'pip install --no-deps mnfinder==1.2.3', or set "
        f"{MIRROR} to a folder that holds, or lies beside, a folder 'micronuclei' with images/ and mn_masks/."
    )


def of_package(path: Path) -> Source | None:
    """mnfinder/<set>-data/<dataset>/images/<stem>.tif; None for a set that is none of ours."""
    dataset, split = path.parents[1].name, path.parents[2].name.removesuffix("-data")
    masks = {kind: path.parents[1] / f"{kind}_masks" / f"{path.stem}.png" for kind in ("mn", "nucleus")}
    name = f"{split}_{dataset}_{re.sub(r'[ .]', '-', path.stem)}"
    return Source(name, split, dataset, path, masks["mn"], masks["nucleus"]) if split in SPLITS else None


def of_mirror(path: Path) -> Source:
    """micronuclei/images/<set>_<date>_<cells>_<stem>.tif."""
    words = path.stem.split("_")
    if words[0] not in SPLITS or len(words) < 4:
        raise ValueError(f"{path}: its name does not start with one of {', '.join(SPLITS)}, a date and a cell line.")
    masks = {kind: path.parents[1] / f"{kind}_masks" / f"{path.stem}.png" for kind in ("mn", "nucleus")}
    return Source(path.stem, words[0], "_".join(words[1:3]), path, masks["mn"], masks["nucleus"])


def unleaked(sources: list[Source]) -> list[Source]:
    """``sources`` without an image whose very pixels are also in a later set (training, validation, test)."""
    kept: dict[str, Source] = {}
    for source in sorted(sources, key=lambda source: -list(SPLITS).index(source.split)):
        kept.setdefault(sha256(tifffile.imread(source.image).tobytes()).hexdigest(), source)
    return sorted(kept.values(), key=lambda source: source.name)


def tile_table(source: Source, settings: MicronucleiSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a whole tile of an image, side by side from the top left; and one row an object of each.

    ``Metadata_Well`` is the image, ``_Site`` the tile, ``_Plate`` its published set and acquisition;
    ``y``, ``x`` the corner in px; ``pixels`` the true px of micronuclei; ``fraction`` the share of the
    tile's objects that are micronuclei.
    """
    side = settings.tile
    height, width = hand_drawn_masks(source)[0].shape
    corners = [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    rows, objects = [], []
    for site, (y, x) in enumerate(corners, start=1):
        truth, n_micronuclei = true_objects(source, y, x, side)
        key = (f"{SPLITS[source.split]}_{source.dataset}", source.name, site)
        pixels = int(((truth > 0) & (truth <= n_micronuclei)).sum())
        fraction = n_micronuclei / max(1, truth.max())
        name = POSITIVE if pixels >= settings.minimum_pixels else NEGATIVE
        rows.append((*key, source.dataset, name, SPLITS[source.split], y, x, pixels, fraction))
        numbers = range(1, truth.max() + 1)
        objects += [(*key, k, POSITIVE if k <= n_micronuclei else NUCLEUS) for k in numbers]
    columns = [*FIELD_KEY, "Metadata_Batch", LABEL, SPLIT, "y", "x", "pixels", "fraction"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(objects, columns=[*FIELD_KEY, "object", "class"])


def true_objects(source: Source, y: int, x: int, side: int) -> tuple[np.ndarray, int]:
    """The objects of a tile, (side, side) uint16, and how many of them, the first ones, are micronuclei.

    Objects are the connected parts of the masks inside the tile; a px that is in both is of the micronucleus.
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
    for path in (source.micronuclei, source.nuclei):
        mask = imread(path)
        mask = mask[..., 0] if mask.ndim == 3 else mask  # the package's are RGBA, red inside
        if mask.shape != shape:
            raise ValueError(f"{path}: {mask.shape} is not the shape of its image {source.image.name}, {shape}.")
        masks.append(mask > 0)
    return masks[0], masks[1]


def read_tile(row: pd.Series, sources: dict[str, Source], side: int) -> np.ndarray:
    """The tile (1, side, side) uint16 of a row of ``tile_table``, scaled with the whole of its image."""
    y, x = row["y"], row["x"]
    return scaled_image(sources[row["Metadata_Well"]].image)[None, y : y + side, x : x + side]


@lru_cache(maxsize=8)
def scaled_image(path: Path) -> np.ndarray:
    """An image of 8 or 16 bit as (H, W) uint16 in which background is 1,000 and a typical nucleus 11,000.

    Background and nucleus are the medians below and above Otsu's threshold of the whole image: medians
    do not follow single bright nuclei, and 8 bit, 16 bit, exposure and offset no longer tell images apart.
    """
    image = tifffile.imread(path)
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: {image.shape} {image.dtype} is not one page of 8 or 16 bit.")
    if image.min() == image.max():
        raise ValueError(f"{path}: all its pixels are {image.min()}; remove it.")
    bright = image > threshold_otsu(image)
    dark, nucleus = np.median(image[~bright]), np.median(image[bright])
    scaled = DARK + (BRIGHT - DARK) * (image - dark) / (nucleus - dark)
    return scaled.clip(0, 65535).round().astype(np.uint16)
