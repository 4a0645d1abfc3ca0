"""``milcnn score``: a trained network of a study on any screen, labels not needed, a Parquet file a plate.

    milcnn score STUDY --images FOLDER

scores the plates in a folder or table as the fields of the study were prepared, to ``data/scores/<study>/``; see
``milcnn.score.plate`` for the files. Without ``--images`` and ``--table`` it scores the screen of the study itself. A
plate that has its file, made from the same networks, settings and images, is not scored again.
"""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow.parquet import ParquetFile

from milcnn.columns import PLATE
from milcnn.files import write_table
from milcnn.parameters import StageError, read_study
from milcnn.paths import ROOT, in_root
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.roles import fields_in_use
from milcnn.score import plan
from milcnn.score.engines import EngineSettings, score_plates
from milcnn.score.estimate import estimate
from milcnn.score.unseen import ensure_reference
from milcnn.screens.problems import by_kind
from milcnn.screens.screen import Screen
from milcnn.study.new import from_root

SCREEN_KEYS = ("table", "images", "platemap", "pattern")  # of the screen to score
SUMMARY_FILE = "summary.csv"  # the plates of the last call
OF_OTHER = (*SCREEN_KEYS, "left_out", "strip")  # settings of the study's own screen that do not fit another


def score_as_told(
    study: str, run: str, engine: str, workers: int, scheduler: str, estimate: bool, **given: Any
) -> None:
    """``score`` as the command line tells it."""
    where = EngineSettings.model_validate({"kind": engine, "workers": workers, "scheduler": scheduler})
    score(study, run, where, estimate, **given)


def score(study: str, run: str, engine: EngineSettings, only_estimate: bool = False, **given: Any) -> None:
    """Score what ``given`` names, keys of ``ScoreSettings`` and ``SCREEN_KEYS``; print a line a plate and the summary.

    Raises StageError if a plate failed, after all others are scored; ScreenError for a table, or if ``strict`` for
    images, that cannot be used; FileNotFoundError for a study or run that is not there.
    """
    settings = settings_of(study, run, {key: value for key, value in given.items() if value is not None})
    screen = plan.screen_of(settings.model_dump_json())
    plates = list(dict.fromkeys(plan.scored(screen.fields, settings.where)[PLATE].astype(str)))
    if not plates:
        raise StageError(f"where: '{settings.where}' selects no field.")
    tell_problems(plan.check(screen, settings.strict), settings, screen)
    ensure_reference(settings)
    if only_estimate:
        print(estimate(settings, plates).to_string(float_format="{:.3g}".format))
        return
    plan.write_settings(settings)
    todo = [plate for plate in plates if not plan.is_scored(settings, screen, plate)]
    print(f"{study}: {len(plates)} plates, {len(plates) - len(todo)} have their file; scores in {settings.output}")
    failed = {}
    for number, log in enumerate(score_plates(settings, todo, engine), start=1):
        if "error" in log:
            failed[log["plate"]] = log["error"]
            print(f"{number} of {len(todo)}: {log['plate']}: {log['error']}", flush=True)
        else:
            lacking = f", {log['without_scores']} without scores" if log["without_scores"] else ""
            print(f"{number} of {len(todo)}: {log['plate']}: {log['fields']} fields{lacking}", flush=True)
    write_summary(settings, plates, failed)
    if failed:
        raise StageError(f"{len(failed)} of {len(todo)} plates failed; correct them and call again for these alone.")


def settings_of(study: str, run: str, given: dict[str, Any]) -> plan.ScoreSettings:
    """What is scored by what. Raises StageError for a run that is not there."""
    sections = read_study(study)
    prepare = sections.get("prepare", {})
    kind, own = prepare.get("screen", "digits"), prepare.get("screen_settings", {})
    prepared = load_prepared(ROOT / "data" / "prepared" / study, study)
    files = {key: given.pop(key) for key in SCREEN_KEYS if key in given}
    if files:
        kept = {key: value for key, value in own.items() if key not in OF_OTHER} if kind == "manifest" else {}
        named = {key: value if key == "pattern" else from_root(value) for key, value in files.items()}
        kind, own = "manifest", kept | {"channels": prepared.channels} | named
    output = given.pop("output", None) or f"data/scores/{study}"
    segmentation = sections.get("baselines", {}).get("segmentation", {})
    given.setdefault("cells_per_field", cells_per_field(prepared))
    return plan.ScoreSettings(
        prepared=str(prepared.folder), runs=run_folders(study, run), output=str(in_root(output)), kind=kind, screen=own,
        own=not files, segmentation=segmentation, **given,
    )  # fmt: skip


def cells_per_field(prepared: Prepared) -> float:
    """The mean number of cells that 03_baselines found in the fields of a study; 0 where it has not run."""
    cells = ROOT / "data" / "cells" / prepared.study / "cells.parquet"
    return ParquetFile(cells).metadata.num_rows / len(fields_in_use(prepared.fields)) if cells.exists() else 0


def run_folders(study: str, run: str) -> list[str]:
    """The folder of ``run``, such as noisy_and-0, or those of all seeds of a method, such as noisy_and."""
    folder = ROOT / "models" / study
    found = [folder / run] if (folder / run).exists() else []
    found = found or sorted(
        path for path in folder.glob(f"{run}-*") if re.fullmatch(rf"{re.escape(run)}-\d+", path.name)
    )
    if not found:
        there = ", ".join(sorted(path.parent.name for path in folder.glob("*/model.safetensors")))
        raise StageError(f"{folder / run}: no such run; {f'there are {there}' if there else 'train the study first'}.")
    return [str(path) for path in found]


def tell_problems(problems: list, settings: plan.ScoreSettings, screen: Screen) -> None:
    """Print what is wrong with images, whose fields get a reason in place of scores, and with their pixel size."""
    for text in by_kind(problems):
        print(f"Note: {text}")
    study = load_prepared(Path(settings.prepared))
    size = screen.pixel_size and screen.pixel_size * study.settings.get("downscale", 1)
    if size and study.pixel_size and abs(size / study.pixel_size - 1) > 0.05:
        print(
            f"Note: pixels of {size:.3g} µm; the networks learnt from {study.pixel_size:.3g} µm. Scores may be wrong."
        )


def write_summary(settings: plan.ScoreSettings, plates: list[str], failed: dict[str, str]) -> None:
    """``summary.csv``: fields, those without scores and seconds of each plate; print the sums."""
    logs = [plan.plate_file(settings, plate).with_suffix(".json") for plate in plates if plate not in failed]
    table = pd.DataFrame([json.loads(path.read_text(encoding="utf-8")) for path in logs])
    seconds = pd.DataFrame(table.pop("seconds").tolist()).add_suffix("_s") if len(table) else pd.DataFrame()
    bad = pd.DataFrame({"plate": failed.keys(), "error": failed.values()})
    whole = pd.concat([pd.concat([table, seconds], axis=1), bad])
    write_table(whole, Path(settings.output) / SUMMARY_FILE)
    if len(table):
        lacking = int(table["without_scores"].sum())
        print(f"{int(table['fields'].sum())} fields, {lacking} of them without scores (see their reason).")
        spent = seconds.sum()
        shares = ", ".join(f"{name.removesuffix('_s')} {share:.0%}" for name, share in (spent / spent.sum()).items())
        print(f"{table['wall_s'].sum() / 3600:.3g} hours over all plates; of the seconds of all threads: {shares}.")


def scored_plates(folder: Path) -> list[str]:
    """The plates of the last call that have their file. Their names are text: plate 007 is not 7, and NA is a name."""
    table = pd.read_csv(folder / SUMMARY_FILE, dtype={"plate": str}, keep_default_na=False, na_values=[""])
    return table.loc[table["error"].isna() if "error" in table else slice(None), "plate"].tolist()
