"""Prepared fields: what ``prepare`` writes once and everything else reads.

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
import shutil
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from milcnn import plates, quality, splits
from milcnn.files import read_table, write_json, write_table
from milcnn.quality import QualitySettings
from milcnn.screens.columns import FIELD_KEY, LABEL, LABEL_MARK, PLATE, SPLIT
from milcnn.screens.screen import Screen
from milcnn.splits import SplitSettings
from milcnn.survey import PrepareSettings


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
    settings: dict = field(default_factory=dict)  # of survey.PrepareSettings

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
        stacks = {name: np.load(plates.array_path(self.folder, kind, name), mmap_mode="r") for name in names}
        return np.stack([stacks[name][index] for name, index in zip(rows[PLATE], rows["index"], strict=True)])


def first_label(rows: pd.DataFrame) -> pd.Series:
    """The label of each field, of several the first."""
    return rows[LABEL].str.split(LABEL_MARK, regex=False).str[0]


def load(folder: Path, study: str | None = None) -> Prepared:
    """Open the prepared study in ``folder``. Raises FileNotFoundError, or ValueError when it is another."""
    path = folder / "prepared.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no prepared fields; run the prepare stage first.")
    prepared = Prepared(folder=folder, **json.loads(path.read_text()))
    if study is not None and prepared.study != study:
        raise ValueError(f"{path}: holds study '{prepared.study}', not '{study}'.")
    return prepared


def prepare(
    screen: Screen,
    study: str,
    folder: Path,
    settings: PrepareSettings | None = None,
    split_settings: SplitSettings | None = None,
    quality_settings: QualitySettings | None = None,
    origin: object = None,
) -> Prepared:
    """Read every field of ``screen`` and write it to ``folder``, in the layout told above.

    Work is done in ``.<folder>.part`` beside ``folder`` and moved once all of it is there: until then
    what was prepared before stays as it was. An interrupted call goes on where it stopped: plates
    that are finished, here or there, are kept while everything they depend on is unchanged (see
    ``plates.fingerprint``; ``origin`` is what made the screen, such as its kind and settings). A new
    split changes the table only. Raises SplitError, OSError when the disk is full, and whatever
    ``Screen.read`` raises.
    """
    settings = settings or PrepareSettings()
    fields = splits.split_screen(screen, split_settings or SplitSettings())
    fields = fields.assign(index=fields.groupby(PLATE).cumcount())
    part = folder.with_name(f".{folder.name}.part")
    records = write_plates(screen, folder, part, settings, origin)
    entries = [
        records[str(plate)]["fields"][index] for plate, index in zip(fields[PLATE], fields["index"], strict=True)
    ]
    measures = pd.DataFrame([entry["quality"] for entry in entries], index=fields.index)[
        quality.columns(screen.channels)
    ]
    fields = pd.concat([fields, measures.astype(float)], axis=1)
    fields = pd.concat([fields, quality.flags(fields, quality_settings or QualitySettings())], axis=1)
    mean, std = channel_statistics(records, fields[fields[SPLIT] == "train"])
    facts = {
        "study": study,
        "channels": screen.channels,
        "classes": screen.classes,
        "pixel_size": screen.pixel_size and screen.pixel_size * settings.downscale,
        "multilabel": screen.multilabel,
        "mean": mean,
        "std": std,
        "settings": settings.model_dump(exclude={"workers"}),
    }
    with plates.room_for(part, "the tables", 0):
        write_table(fields, part / "fields.csv")
        if screen.objects is not None:
            write_table(objects_left(screen.objects, fields, records, settings), part / "objects.csv")
        if screen.skipped is not None:
            write_table(screen.skipped, part / "skipped.csv")
        write_json(facts, part / "prepared.json")
    move_in(part, folder, list(records))
    return load(folder, study)


def write_plates(
    screen: Screen, folder: Path, part: Path, settings: PrepareSettings, origin: object
) -> dict[str, dict]:
    """The record of each plate, of which those that are nowhere finished are written to ``part``."""
    for left in part.glob("*/.*.part*"):  # of a process that was killed
        left.unlink()
    table = screen.fields.assign(index=screen.fields.groupby(PLATE).cumcount())
    records = {}
    with tqdm(total=len(table), desc="prepare", unit="field") as bar:
        for plate, rows in table.groupby(table[PLATE].astype(str), sort=False):
            if Path(plate).name != plate:
                raise ValueError(f"plate '{plate}': names a file once prepared; give it a name without '/'.")
            mark = plates.fingerprint(screen, rows, settings, origin)
            found = [plates.finished(place, plate, mark, screen.truth is not None) for place in (folder, part)]
            records[plate] = next(filter(None, found), None)
            if records[plate] is None:
                records[plate] = plates.write_plate(screen, rows, settings, part, mark, bar)
            else:
                bar.update(len(rows))
    return records


def move_in(part: Path, folder: Path, names: list[str]) -> None:
    """Move all of ``part`` to its place in ``folder``, and remove plates that are not of ``names``.

    Only renames: a crash in between leaves no ``prepared.json``, and every record that is there
    beside arrays that it tells the truth about.
    """
    (folder / "prepared.json").unlink(missing_ok=True)
    for record in part.glob("plates/*.json"):
        plates.record_path(folder, record.stem).unlink(missing_ok=True)
    last = [*part.glob("plates/*.json"), part / "prepared.json"]
    for path in [*(path for path in part.rglob("*") if path.is_file() and path not in last), *last]:
        target = folder / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    for path in [*folder.glob("plates/*"), *folder.glob("truth/*")]:
        if path.suffix in (".npy", ".json") and path.stem not in names:
            path.unlink()
    shutil.rmtree(part)


def objects_left(
    objects: pd.DataFrame, fields: pd.DataFrame, records: dict[str, dict], settings: PrepareSettings
) -> pd.DataFrame:
    """``objects`` that have a pixel left after the cut, with ``y`` and ``x``, where told, in prepared pixels."""
    if not settings.crop and settings.downscale == 1:
        return objects
    seen = [records[str(row[PLATE])]["fields"][row["index"]]["objects"] for _, row in fields.iterrows()]
    left = fields[FIELD_KEY].assign(object=seen).explode("object").dropna().astype({"object": objects["object"].dtype})
    objects = objects.merge(left, on=[*FIELD_KEY, "object"])
    corners = np.array([records[str(plate)]["corner"] for plate in objects[PLATE]]).reshape(-1, 2)
    for axis, start in zip(("y", "x"), corners.T, strict=True):
        if axis in objects:
            objects[axis] = (objects[axis] - start) / settings.downscale
    return objects


def channel_statistics(records: dict[str, dict], rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over the fields of ``rows``, in float64."""
    count, total, squares = 0, 0.0, 0.0
    for plate, index in zip(rows[PLATE].astype(str), rows["index"], strict=True):
        entry = records[plate]["fields"][index]
        count += records[plate]["pixels"]
        total += np.array(entry["sum"])
        squares += np.array(entry["squares"])
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    # a constant channel carries nothing: leave it at 0 instead of dividing by 0
    return mean.tolist(), np.where(std > 0, std, 1).tolist()
