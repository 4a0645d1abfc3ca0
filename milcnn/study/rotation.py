"""Rotation: cross-validation of a study, so that every field that may test tests once, in one of several turns.

    milcnn rotation micronuclei --poolings noisy_and mean --seeds 0

runs prepare, train, baselines and compare for each turn in the section ``rotation`` of ``params/micronuclei.yaml``, by
the names ``micronuclei-rotation1``, ``-rotation2`` …, and scores them together as ``micronuclei-rotation``. What is not
on the command line is as in params.yaml.
"""

import pandas as pd

from milcnn.columns import FIELD_KEY, SPLIT
from milcnn.evaluate.comparisons import best_baseline_rows, best_baselines, differences, rows_against
from milcnn.evaluate.levels import together
from milcnn.evaluate.runs import MAIN_METHOD, with_errors
from milcnn.evaluate.scores import score_rows
from milcnn.files import read_table, write_table
from milcnn.parameters import StageError, parameter_file, read_yaml, turns_of
from milcnn.paths import ROOT
from milcnn.study.report import REPORTS, into_summary
from milcnn.study.stage import run_stage

METRICS = ["accuracy", "balanced_accuracy", "macro_f1", "roc_auc"]


def rotation(study: str, overrides: dict[str, list[str]]) -> None:
    """Run every turn of ``study``, and score all together; ``overrides`` are poolings, seeds and baselines."""
    turns = list(turns_of(study))
    if not turns:
        raise StageError(f"{parameter_file(study)}: has no section rotation; write it as in micronuclei.yaml.")
    listed = read_yaml(ROOT / "params.yaml")
    given = {key: [str(value) for value in values] for key, values in (listed["baselines"] | listed["runs"]).items()}
    if unknown := sorted(set(overrides) - set(given)):
        raise StageError(f"command line: no '--{unknown[0]}'; there are {', '.join(given)}.")
    given |= overrides
    for turn in turns:
        run_stage("prepare", turn, {})
        for pooling in given["poolings"]:
            for seed in given["seeds"]:
                run_stage("train", turn, {"pooling": [pooling], "seed": [seed]})
        run_stage("baselines", turn, {key: given[key] for key in ("baselines", "seeds")})
        run_stage("compare", turn, given)
    score_together(f"{study}-rotation", turns)


def score_together(name: str, studies: list[str]) -> None:
    """Score the test fields of ``studies`` as one, by ``name``. Raises StageError if two of them test the same field.

    Reads ``predictions.parquet`` and ``validation.csv`` of each, which ``04_compare`` wrote, and writes ``scores.csv``,
    ``differences.csv`` and ``predictions.parquet``; the scores go to ``summary.csv`` as well.

    A method that not every study has is left out. Two studies share training fields, so their networks are not
    independent, and the interval is somewhat too narrow. The best baseline is that with the highest mean
    accuracy on the validation fields of the studies. A validation field of one study is tested in another, so the
    choice is not free of test fields; that favours the baseline. The AUC ranks the fields of all studies as one, each
    by the probability that its own network gives. Rows ``together_…`` are of the mean probability over seeds.
    """
    tables = REPORTS / "tables"
    parts = [tested(read_table(tables / study / "predictions.parquet", f"compare {study} first")) for study in studies]
    fields = pd.concat([part[FIELD_KEY].drop_duplicates() for part in parts])
    if len(twice := fields[fields.duplicated()]):
        place = " ".join(map(str, twice.iloc[0]))
        raise StageError(f"rotation: field '{place}' is tested twice; name studies with different test fields.")
    shared = set.intersection(*(set(part["method"]) for part in parts))
    predictions = pd.concat(parts, ignore_index=True)
    predictions = with_errors(predictions[predictions["method"].isin(shared)])
    compared = differences(predictions)
    validation = pd.concat([read_table(tables / study / "validation.csv") for study in studies])
    baselines = validation[validation["baseline"] & validation["method"].isin(shared)]
    names = sorted({method.split("+")[0] for method in baselines["method"]})
    best = best_baselines(baselines.groupby("method")["accuracy"].mean(), names)
    protocol = read_table(tables / studies[0] / "scores.csv")["protocol"].iloc[0]
    own = score_rows(predictions, METRICS, name, protocol, "field")
    ahead = best_baseline_rows(compared, best, name, protocol)
    as_one = rows_against(together(predictions), ["roc_auc", "accuracy"], best, name, protocol, "together")
    scores = pd.concat([own, ahead, as_one], ignore_index=True)
    write_table(scores, tables / name / "scores.csv")
    write_table(compared, tables / name / "differences.csv")
    write_table(predictions, tables / name / "predictions.parquet")
    into_summary(scores)


def tested(predictions: pd.DataFrame) -> pd.DataFrame:
    """The test fields, without networks that were trained on changed labels."""
    changed = predictions["method"].str.startswith(f"{MAIN_METHOD}_")
    return predictions[(predictions[SPLIT] == "test") & ~changed]
