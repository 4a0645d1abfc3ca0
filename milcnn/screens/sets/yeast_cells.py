"""Single yeast cells tiled into fields of known composition: a small substitute for whole fields.

The cells are those of DeepLoc (Kraus et al. 2017), in HDF5: ``data1`` (N, 8192) has 64 × 64 px of GFP, then of RFP;
``Index1`` (N, 19) marks the localisation of each cell. Larger sets continue with ``data2``, ``Index2``, …
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from pydantic import Field
from skimage.filters import threshold_otsu

from milcnn.columns import LABEL, SITE, SPLIT, class_names, join_labels, labels_of
from milcnn.paths import in_root
from milcnn.screens.problems import ScreenError
from milcnn.screens.screen import Screen
from milcnn.screens.sets.common import Fraction, Row, list_objects, plan_fields
from milcnn.screens.sets.yeast import CHANNELS, LOCALISATIONS
from milcnn.settings import Settings

CELL_SIDE = 64  # px of a cell's image
TERMS = [*LOCALISATIONS, "DEAD", "GHOST"]  # the columns of Index<k>, in DeepLoc's order
FILES = {split: f"data/raw/deeploc/Chong_{part}_set.hdf5" for split, part in [("train", "train"), ("test", "valid")]}


class YeastCellsSettings(Settings):
    """Where the cells are, and how fields are built from them."""

    cells: dict[str, str] = Field(FILES, min_length=2)  # one HDF5 file per split, so no cell is in two splits
    terms: list[str] = Field(TERMS)  # names of the columns of Index<k>
    classes: list[str] = Field([name for name in LOCALISATIONS if name != "CYTOPLASM"], min_length=2)
    background: str = "CYTOPLASM"  # class of all other cells of a field; never a label
    side: int = Field(8, ge=2, le=32)  # cells in a row and in a column of a field
    fields_per_class: dict[str, int] = Field({"train": 48, "test": 24}, min_length=2)  # by split
    fractions: list[Fraction] = Field(
        [0.1, 0.25, 0.5, 1.0], min_length=1
    )  # of cells with a label; the fields take turns
    two_labels: float = Field(0.3, ge=0, le=1)  # share of fields that have a second label
    seed: int = 0


@dataclass(frozen=True)
class YeastCells:
    """Single cells in one HDF5 file, counted through all its ``data<k>``."""

    path: Path
    classes: np.ndarray  # (N,) str
    lengths: list[int]  # N of each data<k>

    def crops(self, cells: np.ndarray) -> np.ndarray:
        """The images of ``cells`` (n,), (n, 2, 64, 64) in the file's dtype: GFP, RFP."""
        unique, back = np.unique(cells, return_inverse=True)  # h5py needs increasing rows
        with h5py.File(self.path) as file:  # opened each time: an open file does not survive a fork
            parts = [
                file[f"data{k}"][unique[(unique >= start) & (unique < stop)] - start]
                for k, (start, stop) in enumerate(pairwise(np.cumsum([0, *self.lengths])), start=1)
            ]
        return np.concatenate(parts)[back].reshape(-1, len(CHANNELS), CELL_SIDE, CELL_SIDE)


def yeast_cells_screen(settings: YeastCellsSettings) -> Screen:
    """Multi-label fields of tiled cells. Raises ScreenError if a file or the cells of a class are missing."""
    cells = {split: load_cells(in_root(path), settings.terms) for split, path in settings.cells.items()}
    problems = [
        f"{part.path}: has no cell of {name}; leave the class out, or set 'terms'."
        for part in cells.values()
        for name in [*settings.classes, settings.background]
        if name not in part.classes
    ]
    unpaired = sorted(set(settings.fields_per_class) ^ set(settings.cells))
    problems += [f"'{split}': is in only one of 'cells' and 'fields_per_class'; add it to both." for split in unpaired]
    if problems:
        raise ScreenError(problems)
    fields = field_table(settings)
    classes = class_names(fields, multilabel=True)
    objects = list_objects(fields, lambda row: chosen_cells(row, settings, cells)[:1])

    def crops(row: Row) -> np.ndarray:
        return cells[row[SPLIT]].crops(chosen_cells(row, settings, cells)[1])

    read, truth = (lambda row: mosaic(crops(row), settings.side)), (lambda row: mosaic_truth(crops(row), settings.side))
    return Screen(fields, CHANNELS, classes, read, truth=truth, objects=objects, multilabel=True)


def load_cells(path: Path, terms: list[str]) -> YeastCells:
    """The classes of the cells in a DeepLoc file; the images stay on disk."""
    if not path.exists():
        raise ScreenError([f"{path}: no such file; unpack DeepLoc_full_datasets.zip there, or set 'cells'."])
    with h5py.File(path) as file:
        pairs = [(file[f"data{k}"], file[f"Index{k}"]) for k in range(1, len(file) + 1) if f"data{k}" in file]
        shapes = [(data.shape, index.shape) for data, index in pairs]
        width = len(CHANNELS) * CELL_SIDE**2
        if not shapes or any(d != (i[0], width) or i[1] != len(terms) for d, i in shapes):
            raise ScreenError([f"{path}: not data<k> (N, {width}) with Index<k> (N, {len(terms)}), but {shapes}."])
        index = np.concatenate([index[:] for _, index in pairs])
    return YeastCells(path, np.array(terms)[index.argmax(axis=1)], [data[0] for data, _ in shapes])


def field_table(settings: YeastCellsSettings) -> pd.DataFrame:
    """One row per field: key, labels, split, the fraction of its cells that carry a label, and seed."""
    fields = plan_fields(settings.fields_per_class, settings.classes)
    rng = np.random.default_rng(settings.seed)
    labels = []
    for name in fields[LABEL]:
        others = [other for other in settings.classes if other != name]
        second = [str(rng.choice(others))] if rng.random() < settings.two_labels else []
        labels.append(join_labels([name, *second]))
    fractions = np.take(settings.fractions, fields[SITE] - 1, mode="wrap")
    return fields.assign(**{LABEL: labels}, fraction=fractions, seed=range(len(fields)))


def chosen_cells(row: Row, settings: YeastCellsSettings, cells: dict[str, YeastCells]) -> list[np.ndarray]:
    """Class of each cell of a field, and its number in its file, both (side²,), row by row."""
    rng = np.random.default_rng([settings.seed, row["seed"]])
    labels = labels_of(row[LABEL], multilabel=True)
    total = settings.side**2
    positives = max(len(labels), round(row["fraction"] * total))
    names = [labels[k % len(labels)] for k in range(positives)] + [settings.background] * (total - positives)
    classes = rng.permutation(np.array(names))
    numbers = np.empty(total, int)
    for name in np.unique(classes):
        here = classes == name
        numbers[here] = rng.choice(np.flatnonzero(cells[row[SPLIT]].classes == name), np.count_nonzero(here))
    return [classes, numbers]


def mosaic(crops: np.ndarray, side: int) -> np.ndarray:
    """(side², C, T, T) side by side, row by row: (C, side T, side T)."""
    _, channels, tile, _ = crops.shape
    grid = crops.reshape(side, side, channels, tile, tile)
    return grid.transpose(2, 0, 3, 1, 4).reshape(channels, side * tile, side * tile)


def mosaic_truth(crops: np.ndarray, side: int) -> np.ndarray:
    """(H, W) uint16: k where the RFP of the k-th cell, which fills the cell, is above Otsu's threshold of its tile."""
    masks = np.stack([rfp > (threshold_otsu(rfp) if np.ptp(rfp) else np.inf) for rfp in crops[:, 1]])
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint16)
    return mosaic((masks * numbers[:, None, None])[:, None].astype(np.uint16), side)[0]
