"""Prepared fields: what ``prepare`` writes once and everything else reads.

A prepared study is a folder:

- ``fields.csv``: one row a field: the columns of ``Screen.fields`` and ``index``, its row in the
  arrays of its plate;
- ``plates/<plate>.npy``: (N, C, H, W) in the dtype of the files, one array a plate;
- ``truth/<plate>.npy``: (N, H, W) uint16, or uint8 where that is enough, 0 for background and k for
  the k-th object, and ``objects.csv``, see ``Screen``; only where the truth is known;
- ``prepared.json``: study, channels, classes, pixel_size (µm or null), and the mean and standard
  deviation of each channel over the training fields. It is written last.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from tqdm.auto import tqdm

from milcnn.files import read_table, write_json, write_table, written_whole
from milcnn.screens.screen import FIELD_KEY, LABEL, PLATE, SPLIT, Screen


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

    @cached_property
    def fields(self) -> pd.DataFrame:
        return read_table(self.folder / "fields.csv").astype({LABEL: str, PLATE: str})

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row an object of the truth; see ``Screen``."""
        return read_table(self.folder / "objects.csv").astype({"class": str, PLATE: str})

    def of(self, split: str) -> pd.DataFrame:
        """The rows of ``fields`` in ``split`` (train, validation or test)."""
        return self.fields[self.fields[SPLIT] == split].reset_index(drop=True)

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        """The fields of ``rows``, in their order, (B, C, H, W)."""
        return self._stack("plates", rows)

    def truth(self, rows: pd.DataFrame) -> np.ndarray:
        """The object labels of ``rows``, (B, H, W) uint16."""
        return self._stack("truth", rows)

    def labelled_mask(self, rows: pd.DataFrame) -> np.ndarray:
        """True where a pixel belongs to an object of the class of its field's label, (B, H, W) bool."""
        objects = self.objects.merge(rows[[*FIELD_KEY, LABEL]], on=FIELD_KEY)
        wanted = objects[objects["class"] == objects[LABEL]].groupby(FIELD_KEY)["object"].apply(list)
        keys = zip(*(rows[column] for column in FIELD_KEY), strict=True)
        return np.stack(
            [np.isin(truth, wanted.get(key, [])) for truth, key in zip(self.truth(rows), keys, strict=True)]
        )

    def targets(self, rows: pd.DataFrame) -> np.ndarray:
        """The class index of each of ``rows``, (B,) int64."""
        return pd.Categorical(rows[LABEL], categories=self.classes).codes.astype(np.int64)

    def _stack(self, kind: str, rows: pd.DataFrame) -> np.ndarray:
        plates = {plate: np.load(self.folder / kind / f"{plate}.npy", mmap_mode="r") for plate in rows[PLATE].unique()}
        pairs = zip(rows[PLATE], rows["index"], strict=True)
        return np.stack([plates[plate][index] for plate, index in pairs])


def load(folder: Path, study: str | None = None) -> Prepared:
    """Open the prepared study in ``folder``. Raises FileNotFoundError, or ValueError when it is another."""
    path = folder / "prepared.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no prepared fields; run the prepare stage first.")
    prepared = Prepared(folder=folder, **json.loads(path.read_text()))
    if study is not None and prepared.study != study:
        raise ValueError(f"{path}: holds study '{prepared.study}', not '{study}'.")
    return prepared


def prepare(screen: Screen, study: str, folder: Path) -> Prepared:
    """Read every field of ``screen`` once and write it to ``folder``, in the layout told above."""
    (folder / "prepared.json").unlink(missing_ok=True)  # the folder is incomplete from here on
    fields = screen.fields.assign(index=screen.fields.groupby(PLATE).cumcount())
    for plate, rows in tqdm(fields.groupby(PLATE, sort=False), desc="prepare", unit="plate"):
        write_stack(folder / "plates" / f"{plate}.npy", [screen.read(row) for _, row in rows.iterrows()])
        if screen.truth is not None:
            truth = [screen.truth(row) for _, row in rows.iterrows()]
            if max(labels.max() for labels in truth) < 256:
                truth = [labels.astype(np.uint8) for labels in truth]
            write_stack(folder / "truth" / f"{plate}.npy", truth)
    write_table(fields, folder / "fields.csv")
    if screen.objects is not None:
        write_table(screen.objects, folder / "objects.csv")
    mean, std = channel_statistics(folder, fields[fields[SPLIT] == "train"])
    facts = {"channels": screen.channels, "classes": screen.classes, "pixel_size": screen.pixel_size}
    write_json({"study": study, "mean": mean, "std": std, **facts}, folder / "prepared.json")
    return load(folder, study)


def write_stack(path: Path, arrays: list[np.ndarray]) -> None:
    """Write equally shaped arrays as one .npy file with a leading axis."""
    with written_whole(path) as temporary:
        stack = open_memmap(temporary, "w+", arrays[0].dtype, (len(arrays), *arrays[0].shape))
        for position, array in enumerate(arrays):
            stack[position] = array
        stack.flush()


def channel_statistics(folder: Path, rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over the fields of ``rows``, in float64."""
    count, total, squares = 0, 0.0, 0.0
    for plate, members in rows.groupby(PLATE, sort=False):
        stack = np.load(folder / "plates" / f"{plate}.npy", mmap_mode="r")
        for index in members["index"]:
            field = stack[index].astype(np.float64)
            count += field[0].size
            total += field.sum(axis=(1, 2))
            squares += (field**2).sum(axis=(1, 2))
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    # a constant channel carries nothing: leave it at 0 instead of dividing by 0
    return mean.tolist(), np.where(std > 0, std, 1).tolist()
