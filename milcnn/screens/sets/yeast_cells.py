"""Single yeast cells tiled into fields of known composition: a small substitute for whole fields.

The cells are DeepLoc's (Kraus et al. 2017), in HDF5: ``data1`` (N, 8192) holds 64 × 64 px of GFP, then
of RFP, and ``Index1`` (N, 19) which localisation each cell was given; larger sets go on with
``data2``, ``Index2``, …
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import pandas as pd
from pydantic import Field
from skimage.filters import threshold_otsu

from milcnn.columns import FIELD_KEY, LABEL, PLATE, SITE, SPLIT, WELL, class_names, join_labels, labels_of
from milcnn.paths import in_root
from milcnn.screens.screen import Screen, ScreenError
from milcnn.screens.sets.yeast import CHANNELS, LOCALISATIONS
from milcnn.settings import Settings

TILE = 64  # px, side of a cell's image
TERMS = [*LOCALISATIONS, "DEAD", "GHOST"]  # the columns of Index<k>, in DeepLoc's order
FILES = {split: f"data/raw/deeploc/Chong_{part}_set.hdf5" for split, part in [("train", "train"), ("test", "valid")]}


class YeastCellsSettings(Settings):
    """Where the cells are, and how fields are put together from them."""

    cells: dict[str, str] = Field(FILES, min_length=2)  # HDF5 by split, so that no cell is in two
    terms: list[str] = Field(TERMS)  # what the columns of Index<k> are called
    classes: list[str] = Field([name for name in LOCALISATIONS if name != "CYTOPLASM"], min_length=2)
    background: str = "CYTOPLASM"  # what all other cells of a field are; never a label
    side: int = Field(8, ge=2, le=32)  # cells in a row and in a column of a field
    fields_per_class: dict[str, int] = Field({"train": 48, "test": 24}, min_length=2)  # by split
    # of the cells of a field, those that carry a label; its fields go through them in turn
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.1, 0.25, 0.5, 1.0], min_length=1)
    two_labels: float = Field(0.3, ge=0, le=1)  # share of fields that have a second label
    seed: int = 0


@dataclass(frozen=True)
class YeastCells:
    """Single cells in one HDF5 file: the class of each, over all its ``data<k>`` in turn."""

    path: Path
    classes: np.ndarray  # (N,) str
    lengths: list[int]  # N of each data<k>

    def crops(self, cells: np.ndarray) -> np.ndarray:
        """The images of ``cells`` (n,), (n, 2, 64, 64) in the file's dtype: GFP, RFP."""
        unique, back = np.unique(cells, return_inverse=True)  # h5py wants increasing rows
        starts = np.cumsum([0, *self.lengths])
        with h5py.File(self.path) as file:  # opened anew: a handle does not outlive a fork
            parts = [
                file[f"data{k}"][unique[(unique >= start) & (unique < stop)] - start]
                for k, (start, stop) in enumerate(pairwise(starts), start=1)
            ]
        return np.concatenate(parts)[back].reshape(-1, len(CHANNELS), TILE, TILE)


def yeast_cells_screen(settings: YeastCellsSettings) -> Screen:
    """Multi-label fields of tiled cells. Raises ScreenError when a file or a class lacks cells."""
    cells = {split: load_cells(in_root(path), settings.terms) for split, path in settings.cells.items()}
    wanted = [*settings.classes, settings.background]
    lacking = [
        f"{held.path}: holds no cell of {name}; leave the class out, or set 'terms'."
        for held in cells.values()
        for name in wanted
        if name not in held.classes
    ]
    strange = set(settings.fields_per_class) ^ set(settings.cells)
    lacking += [f"'{split}': is in one of 'cells' and 'fields_per_class', not in both." for split in sorted(strange)]
    if lacking:
        raise ScreenError(lacking)
    fields = field_table(settings)
    return Screen(
        fields=fields,
        channels=CHANNELS,
        classes=class_names(fields, multilabel=True),
        read=lambda row: mosaic(cells[row[SPLIT]].crops(draw(row, settings, cells)[1]), settings.side),
        truth=lambda row: mosaic_truth(cells[row[SPLIT]].crops(draw(row, settings, cells)[1]), settings.side),
        objects=object_table(fields, settings, cells),
        multilabel=True,
    )


def load_cells(path: Path, terms: list[str]) -> YeastCells:
    """The classes of the cells in a DeepLoc file; their images stay on disk."""
    if not path.exists():
        raise ScreenError([f"{path}: no such file; unpack DeepLoc_full_datasets.zip there, or set 'cells'."])
    with h5py.File(path) as file:
        names = [f"data{k}" for k in range(1, len(file) + 1) if f"data{k}" in file]
        shapes = [(file[name].shape, file[name.replace("data", "Index")].shape) for name in names]
        width = len(CHANNELS) * TILE**2
        if not shapes or any(d != (i[0], width) or i[1] != len(terms) for d, i in shapes):
            raise ScreenError([f"{path}: not data<k> (N, {width}) with Index<k> (N, {len(terms)}), but {shapes}."])
        index = np.concatenate([file[name.replace("data", "Index")][:] for name in names])
    return YeastCells(path, np.array(terms)[index.argmax(axis=1)], [data[0] for data, _ in shapes])


def field_table(settings: YeastCellsSettings) -> pd.DataFrame:
    """One row a field: split, labels, the fraction of cells that carry one, and its seed."""
    rng = np.random.default_rng(settings.seed)
    rows = []
    for split, count in settings.fields_per_class.items():
        for name in settings.classes:
            others = [other for other in settings.classes if other != name]
            for site in range(count):
                second = [str(rng.choice(others))] if rng.random() < settings.two_labels else []
                fraction = settings.fractions[site % len(settings.fractions)]
                rows.append((split, f"{split}-{name}", site + 1, join_labels([name, *second]), split, fraction))
    fields = pd.DataFrame(rows, columns=[PLATE, WELL, SITE, LABEL, SPLIT, "fraction"])
    return fields.assign(seed=range(len(fields)))


def draw(row: pd.Series, settings: YeastCellsSettings, cells: dict[str, YeastCells]) -> tuple[np.ndarray, np.ndarray]:
    """Class and number in its file of each cell of a field, both (side²,), row by row."""
    rng = np.random.default_rng([settings.seed, row["seed"]])
    labels = labels_of(row[LABEL], multilabel=True)
    total = settings.side**2
    positives = max(len(labels), round(row["fraction"] * total))
    classes = np.array(
        [labels[k % len(labels)] for k in range(positives)] + [settings.background] * (total - positives)
    )
    classes = rng.permutation(classes)
    held = cells[row[SPLIT]]
    numbers = np.empty(total, int)
    for name in np.unique(classes):
        numbers[classes == name] = rng.choice(np.flatnonzero(held.classes == name), np.count_nonzero(classes == name))
    return classes, numbers


def object_table(fields: pd.DataFrame, settings: YeastCellsSettings, cells: dict[str, YeastCells]) -> pd.DataFrame:
    """One row a cell: its field, ``object`` (its number in the truth) and ``class``."""
    rows = []
    for _, row in fields.iterrows():
        key = [row[column] for column in FIELD_KEY]
        rows += [(*key, k, name) for k, name in enumerate(draw(row, settings, cells)[0], start=1)]
    return pd.DataFrame(rows, columns=[*FIELD_KEY, "object", "class"])


def mosaic(crops: np.ndarray, side: int) -> np.ndarray:
    """(side², C, T, T) side by side, row by row: (C, side T, side T)."""
    _, channels, tile, _ = crops.shape
    grid = crops.reshape(side, side, channels, tile, tile)
    return grid.transpose(2, 0, 3, 1, 4).reshape(channels, side * tile, side * tile)


def mosaic_truth(crops: np.ndarray, side: int) -> np.ndarray:
    """(H, W) uint16: k where the RFP of the k-th cell, which fills it, is over Otsu's threshold of its tile."""
    masks = np.stack([rfp > (threshold_otsu(rfp) if np.ptp(rfp) else np.inf) for rfp in crops[:, 1]])
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint16)
    return mosaic((masks * numbers[:, None, None])[:, None].astype(np.uint16), side)[0]
