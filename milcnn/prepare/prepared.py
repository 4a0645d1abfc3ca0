"""A prepared study. ``fields.prepare`` writes it once; all later stages read it.

It is a folder with these files:

- ``fields.csv``: one row per field. Columns: those of ``Screen.fields``; ``Metadata_Split``, see ``splits``;
  ``index``, the row of the field in the arrays of its plate; quality measures and flags, see ``quality``.
- ``plates/<plate>.npy``: the pixels (N, C, H, W) in the dtype of the raw files, or uint16 if the plate was scaled.
- ``plates/<plate>.json``: the record of the plate, see ``plates``.
- ``truth/<plate>.npy``: the object labels (N, H, W), uint8 or uint16; 0 is background, k is object k.
- ``objects.csv``: one row per object, see ``Screen``. Like ``truth``, only if the truth is known.
- ``skipped.csv``: the fields that the screen left out, with ``reason``; only if the screen lists them.
- ``prepared.json``: the other attributes of ``Prepared``. It is written last.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL, LABEL_MARK, PLATE, SPLIT, labels_of
from milcnn.files import read_table


def array_path(folder: Path, kind: str, plate: str) -> Path:
    """The file of one array of a plate; ``kind`` is plates or truth."""
    return folder / kind / f"{plate}.npy"


@dataclass(frozen=True)
class Prepared:
    """A prepared study. Its arrays are memory-mapped and read-only."""

    folder: Path
    study: str
    channels: list[str]
    classes: list[str]
    mean: list[float]  # of each channel over the training fields
    std: list[float]
    pixel_size: float | None  # µm
    multilabel: bool = False  # a field may have several labels, written A|B
    protocol: str = "field"  # what training and test fields do not share
    settings: dict = field(default_factory=dict)  # of preprocessing.PrepareSettings

    @cached_property
    def fields(self) -> pd.DataFrame:
        return read_table(self.folder / "fields.csv")

    def with_fields(self, fields: pd.DataFrame) -> "Prepared":
        """The same study with another table of fields, for example fewer fields."""
        other = replace(self)
        other.__dict__["fields"] = fields  # here a cached_property keeps its value
        return other

    @property
    def has_truth(self) -> bool:
        return (self.folder / "objects.csv").exists()

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row per object of the truth, see ``Screen``."""
        return read_table(self.folder / "objects.csv")

    def of(self, split: str) -> pd.DataFrame:
        """The rows of ``fields`` in ``split`` (train, validation or test)."""
        return self.fields[self.fields[SPLIT] == split].reset_index(drop=True)

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        """The fields of ``rows``, in the same order, (B, C, H, W)."""
        return self._stack("plates", rows)

    def channel_levels(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over all pixels of ``rows``, (C,) each; a deviation of 0 is 1."""
        records = {name: read_record(self.folder, name) for name in rows[PLATE].unique()}
        pairs = zip(rows[PLATE], rows["index"], strict=True)
        entries = [records[name]["fields"][index] | {"pixels": records[name]["pixels"]} for name, index in pairs]
        mean, std = channel_statistics(pd.DataFrame(entries))
        return np.array(mean), np.array(std)

    def truth(self, rows: pd.DataFrame) -> np.ndarray:
        """The object labels of ``rows``, (B, H, W) uint16."""
        return self._stack("truth", rows).astype(np.uint16, copy=False)

    def labelled_mask(self, rows: pd.DataFrame) -> np.ndarray:
        """True for pixels of objects that have the class of their field's label, (B, H, W) bool.

        If a field has several labels, those of objects of any of them. All are False if the truth is not known.
        """
        if not self.has_truth:
            fields = self.pixels(rows)
            return np.zeros((len(fields), *fields.shape[2:]), bool)
        objects = self.objects.merge(rows[FIELD_KEY].assign(label=rows[LABEL], row=range(len(rows))), on=FIELD_KEY)
        labelled = objects[self._carries(objects["class"], objects["label"])].groupby("row")["object"].apply(list)
        return np.stack([np.isin(truth, labelled.get(row, [])) for row, truth in enumerate(self.truth(rows))])

    def first_label(self, rows: pd.DataFrame) -> pd.Series:
        """The label of each of ``rows``; in a study of several labels the first."""
        return rows[LABEL].str.split(LABEL_MARK, regex=False).str[0] if self.multilabel else rows[LABEL]

    def label_share(self) -> pd.Series:
        """The share of objects in each field that have its label. Empty if the truth is not known."""
        if not self.has_truth:
            return pd.Series(dtype=float)
        objects = self.objects.merge(self.fields[[*FIELD_KEY, LABEL]], on=FIELD_KEY)
        carries = self._carries(objects["class"], objects[LABEL])
        return carries.groupby([objects[key] for key in FIELD_KEY]).mean()

    def _carries(self, classes: pd.Series, labels: pd.Series) -> pd.Series:
        """Whether objects of ``classes`` carry ``labels``, bool; where there can be several, any of them."""
        if not self.multilabel:
            return classes == labels
        pairs = zip(classes, labels.fillna(""), strict=True)
        own = [not {*labels_of(name, True)}.isdisjoint(labels_of(label, True)) for name, label in pairs]
        return pd.Series(own, classes.index, bool)

    def targets(self, rows: pd.DataFrame) -> np.ndarray:
        """The class index of each of ``rows``, (B,) int64, −1 without a label. Of several labels the first counts."""
        return pd.Index(self.classes).get_indexer(self.first_label(rows)).astype(np.int64)

    def _stack(self, kind: str, rows: pd.DataFrame) -> np.ndarray:
        plates = {name: np.load(array_path(self.folder, kind, name), mmap_mode="r") for name in rows[PLATE].unique()}
        return np.stack([plates[name][index] for name, index in zip(rows[PLATE], rows["index"], strict=True)])


def read_record(folder: Path, plate: str) -> dict:
    """The record of a plate, see ``plates``."""
    return json.loads((folder / "plates" / f"{plate}.json").read_text(encoding="utf-8"))


def load_prepared(folder: Path, study: str | None = None) -> Prepared:
    """Open the prepared study in ``folder``.

    Raises FileNotFoundError if there is none, and ValueError if it is not ``study``.
    """
    path = folder / "prepared.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no prepared fields here; run the prepare stage first.")
    prepared = Prepared(folder=folder, **json.loads(path.read_text(encoding="utf-8")))
    if study is not None and prepared.study != study:
        raise ValueError(f"{path}: this is study '{prepared.study}', not '{study}'; check the folder.")
    return prepared


def channel_statistics(entries: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over the fields of ``entries``, in float64."""
    total, squares = (sum(map(np.array, entries[column]), np.float64(0)) for column in ("sum", "squares"))
    mean = total / entries["pixels"].sum()
    std = np.sqrt(squares / entries["pixels"].sum() - mean**2)
    # a constant channel stays at 0: do not divide by 0
    return mean.tolist(), np.where(std > 0, std, 1).tolist()
