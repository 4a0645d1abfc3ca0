"""Prepared fields: what ``fields.prepare`` writes once and everything else reads.

A prepared study is a folder:

- ``fields.csv``: one row a field: the columns of ``Screen.fields``; ``Metadata_Split``, see
  ``splits``; ``index``, its row in the arrays of its plate; and its quality, see ``quality``;
- ``plates/<plate>.npy``: (N, C, H, W) in the dtype of the files, or uint16 where plates were scaled,
  one array a plate; and ``plates/<plate>.json``, see ``plates``;
- ``truth/<plate>.npy``: (N, H, W) uint8 or uint16, 0 for background and k for the k-th object, and
  ``objects.csv``, see ``Screen``; only where the truth is known;
- ``skipped.csv``: fields that the screen left out, with ``reason``; only where it tells;
- ``prepared.json``: study, channels, classes, pixel_size (µm or null), the settings, and the mean
  and standard deviation of each channel over the training fields. It is written last.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL, LABEL_MARK, PLATE, SPLIT
from milcnn.files import read_table


def array_path(folder: Path, kind: str, plate: str) -> Path:
    """The array of ``kind`` (plates or truth) of a plate."""
    return folder / kind / f"{plate}.npy"


@dataclass(frozen=True)
class Prepared:
    """A prepared study; the arrays are memory-mapped and read-only."""

    folder: Path
    study: str
    channels: list[str]
    classes: list[str]
    mean: list[float]
    std: list[float]
    pixel_size: float | None
    multilabel: bool = False  # a field may have several labels, written A|B
    protocol: str = "field"  # what training and test fields do not share
    settings: dict = field(default_factory=dict)  # of preprocessing.PrepareSettings

    @cached_property
    def fields(self) -> pd.DataFrame:
        return read_table(self.folder / "fields.csv")

    def with_fields(self, fields: pd.DataFrame) -> "Prepared":
        """This study with another table of its fields, such as fewer of them."""
        other = replace(self)
        other.__dict__["fields"] = fields  # where a cached_property keeps its value
        return other

    @property
    def has_truth(self) -> bool:
        return (self.folder / "objects.csv").exists()

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row an object of the truth; see ``Screen``."""
        return read_table(self.folder / "objects.csv")

    def of(self, split: str) -> pd.DataFrame:
        """The rows of ``fields`` in ``split`` (train, validation or test)."""
        return self.fields[self.fields[SPLIT] == split].reset_index(drop=True)

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        """The fields of ``rows``, in their order, (B, C, H, W)."""
        return self._stack("plates", rows)

    def truth(self, rows: pd.DataFrame) -> np.ndarray:
        """The object labels of ``rows``, (B, H, W) uint16."""
        return self._stack("truth", rows).astype(np.uint16, copy=False)

    def labelled_mask(self, rows: pd.DataFrame) -> np.ndarray:
        """True where a pixel belongs to an object of the class of its field's label, (B, H, W) bool.

        Of several labels the first; nowhere when the truth is not known.
        """
        if not self.has_truth:
            fields = self.pixels(rows)
            return np.zeros((len(fields), *fields.shape[2:]), bool)
        keyed = rows[FIELD_KEY].assign(wanted=first_label(rows))
        objects = self.objects.merge(keyed, on=FIELD_KEY)
        wanted = objects[objects["class"] == objects["wanted"]].groupby(FIELD_KEY)["object"].apply(list)
        keys = zip(*(rows[column] for column in FIELD_KEY), strict=True)
        pairs = zip(self.truth(rows), keys, strict=True)
        return np.stack([np.isin(truth, wanted.get(key, [])) for truth, key in pairs])

    def label_share(self) -> pd.Series:
        """Share of the objects of each field that carry its label; empty where the truth is not known."""
        if not self.has_truth:
            return pd.Series(dtype=float)
        objects = self.objects.merge(self.fields[[*FIELD_KEY, LABEL]], on=FIELD_KEY)
        return (objects["class"] == objects[LABEL]).groupby([objects[key] for key in FIELD_KEY]).mean()

    def targets(self, rows: pd.DataFrame) -> np.ndarray:
        """The class index of each of ``rows``, (B,) int64; of several labels that of the first."""
        return pd.Categorical(first_label(rows), categories=self.classes).codes.astype(np.int64)

    def _stack(self, kind: str, rows: pd.DataFrame) -> np.ndarray:
        names = rows[PLATE].unique()
        stacks = {name: np.load(array_path(self.folder, kind, name), mmap_mode="r") for name in names}
        return np.stack([stacks[name][index] for name, index in zip(rows[PLATE], rows["index"], strict=True)])


def first_label(rows: pd.DataFrame) -> pd.Series:
    """The label of each field, of several the first."""
    return rows[LABEL].str.split(LABEL_MARK, regex=False).str[0]


def load_prepared(folder: Path, study: str | None = None) -> Prepared:
    """Open the prepared study in ``folder``. Raises FileNotFoundError, or ValueError when it is another."""
    path = folder / "prepared.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no prepared fields; run the prepare stage first.")
    prepared = Prepared(folder=folder, **json.loads(path.read_text()))
    if study is not None and prepared.study != study:
        raise ValueError(f"{path}: holds study '{prepared.study}', not '{study}'.")
    return prepared
