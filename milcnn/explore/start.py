"""Opening the explorer on a study, on prepared fields, or on scored plates."""

from pathlib import Path

import pandas as pd

from milcnn.baselines.segment import SegmentSettings
from milcnn.explore.explorer import Explorer
from milcnn.explore.shown import shown_study, shown_tables
from milcnn.files import read_table
from milcnn.network.model import MILCNN, load_model
from milcnn.parameters import section_of
from milcnn.paths import in_root
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.score.plan import scored_screen
from milcnn.screens.screen import Screen


def explore(
    study: str | Path | Prepared,
    network: MILCNN | None = None,
    predictions: pd.DataFrame | None = None,
    profiles: pd.DataFrame | None = None,
    marks: Path | None = None,
    screen: Screen | None = None,
) -> Explorer:
    """A plate to click through, its fields, what a network sees in them, and their cells.

    ``study`` is one of three:

    - the name of a trained study: its prepared fields and its first Noisy-AND run, or ``network`` and the tables given;
      its cells are segmented as in ``05_localise``;
    - prepared fields: ``network`` draws the class maps; ``predictions`` and ``profiles`` are the two tables of
      ``predict_fields``;
    - the folder that ``milcnn score`` wrote; ``screen`` is what was scored, where the folder does not say it.

    ``marks`` is the CSV of the fields that are marked; for the name of a study it is ``marks.csv`` beside its table, or
    in ``data/<study>`` where it has none. Raises FileNotFoundError for what is not there.
    """
    if isinstance(study, Path):
        return Explorer(shown_tables(study, SegmentSettings(**{}), screen or scored_screen(study)), marks)
    if isinstance(study, str):
        prepared = load_prepared(in_root(f"data/prepared/{study}"), study)
        network, predictions, profiles = opened_run(study) if network is None else (network, predictions, profiles)
        marks = marks or marks_file(study)
    else:
        prepared = study
    return Explorer(shown_study(prepared, network, predictions, profiles, segmentation_of(prepared.study)), marks)


def opened_run(study: str) -> tuple[MILCNN, pd.DataFrame, pd.DataFrame | None]:
    """Network, predictions and profiles of the first run of ``study``: of Noisy-AND, if there is one."""
    folder = in_root(f"models/{study}")
    runs = sorted(path.parent for path in folder.glob("*-*/model.safetensors"))
    if not runs:
        raise FileNotFoundError(f"{folder}: no trained network here; run the train stage of {study} first.")
    run = next((path for path in runs if path.name.startswith("noisy_and-")), runs[0])
    profiles = run / "features.parquet"
    network = load_model(run / "model.safetensors", study)
    return network, read_table(run / "predictions.csv"), read_table(profiles) if profiles.exists() else None


def segmentation_of(study: str) -> SegmentSettings:
    """How ``05_localise`` finds the cells of ``study``."""
    return SegmentSettings(**section_of(study, "localise").get("segmentation", {}))


def marks_file(study: str) -> Path:
    """``marks.csv`` beside the table of ``study``, or in ``data/<study>`` where it has none."""
    table = section_of(study, "prepare").get("screen_settings", {}).get("table")
    return in_root(table).parent / "marks.csv" if table else in_root(f"data/{study}/marks.csv")
