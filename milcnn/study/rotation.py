"""Rotation: studies that differ in the plates that test, scored together, so that intervals are over plates.

    milcnn rotation composite-rotation composite composite-27801 composite-27821

reads ``predictions.parquet`` and ``validation.csv`` of each study, which ``04_compare`` wrote, and writes
``scores.csv`` and ``differences.csv`` of the rotation, whose scores go to ``summary.csv`` as well.
"""

import pandas as pd

from milcnn.columns import PLATE, SPLIT
from milcnn.evaluate.comparisons import best_baseline_rows, best_baselines, differences
from milcnn.evaluate.runs import MAIN_METHOD, with_errors
from milcnn.evaluate.scores import score_rows
from milcnn.files import read_table, write_table
from milcnn.study.parameters import StageError
from milcnn.study.report import REPORTS, into_summary

METRICS = ["accuracy", "balanced_accuracy", "macro_f1"]  # not those that would rank fields of different networks


def rotation(name: str, studies: list[str]) -> None:
    """Score the ``studies`` as one, by ``name``. Raises StageError if two of them test the same plate.

    A method that not every study has is left out. Two studies share training plates, so their networks are not
    independent, and the interval over plates is somewhat too narrow. The best baseline is that with the highest mean
    accuracy on the validation fields of the studies.
    """
    tables = REPORTS / "tables"
    parts = [tested(read_table(tables / study / "predictions.parquet", f"compare {study} first")) for study in studies]
    plates = pd.concat([part[PLATE].drop_duplicates() for part in parts])
    if len(twice := plates[plates.duplicated()]):
        raise StageError(f"rotation: plate '{twice.iloc[0]}' is tested twice; name studies with different test plates.")
    shared = set.intersection(*(set(part["method"]) for part in parts))
    predictions = pd.concat(parts, ignore_index=True)
    predictions = with_errors(predictions[predictions["method"].isin(shared)])
    compared = differences(predictions)
    validation = pd.concat([read_table(tables / study / "validation.csv") for study in studies])
    baselines = validation[validation["baseline"] & validation["method"].isin(shared)]
    names = sorted({method.split("+")[0] for method in baselines["method"]})
    best = best_baselines(baselines.groupby("method")["accuracy"].mean(), names)
    rows = [score_rows(predictions, METRICS, name, "plate", "field")]
    rows.append(best_baseline_rows(compared, best, name, "plate"))
    scores = pd.concat(rows, ignore_index=True)
    write_table(scores, tables / name / "scores.csv")
    write_table(compared, tables / name / "differences.csv")
    into_summary(scores)


def tested(predictions: pd.DataFrame) -> pd.DataFrame:
    """The test fields, without networks that were trained on changed labels."""
    changed = predictions["method"].str.startswith(f"{MAIN_METHOD}_")
    return predictions[(predictions[SPLIT] == "test") & ~changed]
