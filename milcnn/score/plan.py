"""What is scored, by which networks: the settings that a worker gets, the screen that they name, its check."""

import hashlib
import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from joblib import cpu_count
from pydantic import Field

from milcnn.columns import FIELD_KEY, LABEL, PLATE, SPLIT, UNLABELLED
from milcnn.evaluate.responding_fraction import cells_in_view
from milcnn.files import write_json
from milcnn.network.fast import Precision
from milcnn.prepare.plates import CODE
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.roles import is_control
from milcnn.screens.checks import file_problems, row_problems
from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.problems import Problem, ScreenError
from milcnn.screens.screen import Screen
from milcnn.screens.sets.kinds import open_screen
from milcnn.screens.zarr_image import image_files
from milcnn.settings import Settings

SETTINGS_FILE = "settings.json"
HASH = b"milcnn_hash"  # key of a plate's file
ROOM = sorted(Path(__file__).parent.glob("*.py"))  # the code of scoring


class ScoreSettings(Settings):
    """All that a worker gets besides the name of a plate: names of files, and how to score."""

    prepared: str  # folder of the study that the networks learnt from
    runs: list[str] = Field(min_length=1)  # folders of its runs, scored as one
    output: str  # folder of the scores
    kind: str = "manifest"  # of the screen to score
    screen: dict[str, Any] = Field({})  # its settings
    own: bool = False  # it is the screen of the study itself: its sets are known
    where: str = ""  # pandas' query: which fields are scored; the light and the scale of a plate are of all its fields
    cells_per_field: float = Field(0, ge=0)  # for the responding fraction; 0: one cell an instance
    precision: Precision | None = None  # by OpenVINO; None by PyTorch
    device: str = "auto"
    threads: int = Field(0, ge=0)  # fields read and scored at once; 0: as many as there are cores
    masks: bool = False  # write cells and class maps of each field, as OME-TIFF
    segmentation: dict[str, Any] = Field({})  # of these cells, see baselines.segment
    strict: bool = False  # stop at a field that cannot be read


@lru_cache(maxsize=2)
def screen_of(settings: str) -> Screen:
    """The screen of ``ScoreSettings`` as JSON, once a process; ``Metadata_Split``, and ``index``, the row on its plate.

    Raises ScreenError for a table that cannot be understood, and for other channels than the networks have.
    """
    own = ScoreSettings.model_validate_json(settings)
    study = load_prepared(Path(own.prepared))
    if own.kind == "manifest":
        screen = manifest_screen(ManifestSettings(**own.screen), labelled=False)
    else:
        screen = open_screen(own.kind, **own.screen)
    fields = screen.fields.drop(columns=SPLIT, errors="ignore").reset_index(drop=True)
    sets = study.fields if own.own else study.fields.iloc[:0]
    known = {tuple(map(str, key)): split for *key, split in sets[[*FIELD_KEY, SPLIT]].itertuples(index=False)}
    fields[SPLIT] = [known.get(tuple(map(str, key)), UNLABELLED) for key in fields[FIELD_KEY].itertuples(index=False)]
    fields["index"] = fields.groupby(PLATE).cumcount()
    if screen.channels != study.channels:
        channels = f"{screen.channels} are not those of the networks, {study.channels}"
        raise ScreenError([f"channels: {channels}; give the columns or files of the new screen these names."])
    return replace(screen, fields=fields)


def write_settings(settings: ScoreSettings) -> None:
    """``settings.json`` beside the scores: what they were made from."""
    write_json(settings.model_dump(), Path(settings.output) / SETTINGS_FILE)


def read_settings(folder: Path) -> ScoreSettings | None:
    """What the scores in ``folder`` were made from; None if that does not say it."""
    path = folder / SETTINGS_FILE
    return ScoreSettings.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


def scored_screen(folder: Path) -> Screen | None:
    """The screen whose scores are in ``folder``; None if that does not say it."""
    settings = read_settings(folder)
    return screen_of(settings.model_dump_json()) if settings else None


def preprocessing_of(study: Prepared, threads: int = 0) -> PrepareSettings:
    """How the fields of ``study`` were prepared, and those to score are."""
    return PrepareSettings(**study.settings, workers=threads or cpu_count())


def control_class(study: Prepared) -> str:
    """The class of the negative controls of ``study``; '' if they are not a class, or a field has several labels."""
    controls = study.fields[is_control(study.fields) & study.fields[LABEL].isin(study.classes)]
    return "" if study.multilabel or controls.empty else controls[LABEL].mode()[0]


def in_view(settings: ScoreSettings, study: Prepared) -> float:
    """How many cells an instance sees, see ``responding_fraction``; 1 where their number in a field is not known."""
    side = int(np.sqrt(study.pixels(study.fields.iloc[:1])[0, 0].size))
    return cells_in_view(settings.cells_per_field, side) if settings.cells_per_field else 1.0


def scored(fields: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of ``fields`` that ``where`` selects. Raises ValueError for a query that pandas cannot answer."""
    try:
        return fields.query(where) if where else fields
    except Exception as error:
        columns = ", ".join(fields)
        raise ValueError(f"where: '{where}' is no query ({error}); the columns are {columns}.") from None


def check(screen: Screen, strict: bool) -> list[Problem | str]:
    """The problems of the images, from every header. Raises ScreenError for a table that makes no sense.

    With ``strict`` problems of the images are raised too. Else their fields get no scores, but a reason.
    """
    problems = [*screen.problems, *row_problems(screen.fields)]
    files = screen.read_from(screen.fields)
    of_files = file_problems(files, screen.channels, screen.planes, not screen.given_pixel_size)
    if problems or (strict and of_files):
        raise ScreenError([*problems, *of_files])
    return of_files


def fingerprint(settings: ScoreSettings, rows: pd.DataFrame, files: pd.DataFrame) -> str:
    """SHA-256 of all that the scores of a plate depend on: networks, settings, code, table, size and time of images.

    ``rows`` are those of the plate, ``files`` what they are read from.
    """
    said = settings.model_dump_json(exclude={"output", "threads", "strict", "runs", "prepared"})
    digest = hashlib.sha256((said + weights_hash(settings)).encode())
    for path in [*CODE, *ROOM]:
        digest.update(path.read_bytes())
    columns = [column for column in files if column.startswith("Path_")]
    paths = dict.fromkeys(str(path) for column in columns for path in files[column])
    digest.update(json.dumps([rows.to_csv(index=False), files.to_csv(index=False)]).encode())
    digest.update(json.dumps([sizes_and_times(path) for path in paths]).encode())
    return digest.hexdigest()


def weights_hash(settings: ScoreSettings) -> str:
    """SHA-256 of the networks, their validation predictions and the facts of their study."""
    digest = hashlib.sha256((Path(settings.prepared) / "prepared.json").read_bytes())
    for path in [Path(run) / name for run in settings.runs for name in ("model.safetensors", "predictions.csv")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sizes_and_times(path: str) -> list[tuple[int, int]]:
    """Size and time of each file of an image; none where it is not there."""
    try:
        return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, image_files(path))]
    except OSError:
        return []


def fields_of_plate(screen: Screen, plate: str) -> pd.DataFrame:
    """The fields of ``plate``."""
    return screen.fields[screen.fields[PLATE].astype(str) == plate]


def plate_file(settings: ScoreSettings, plate: str) -> Path:
    return Path(settings.output) / f"{plate}.parquet"


def is_scored(settings: ScoreSettings, screen: Screen, plate: str) -> bool:
    """Whether the scores of ``plate`` are there, made from what there is now."""
    path, rows = plate_file(settings, plate), fields_of_plate(screen, plate)
    if not path.exists():
        return False
    known = (pq.read_schema(path).metadata or {}).get(HASH, b"")
    return known.decode() == fingerprint(settings, rows, screen.read_from(rows))
