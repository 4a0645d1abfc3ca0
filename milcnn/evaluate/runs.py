"""Tables of runs: what is read, which rows are judged, and the summary that is written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONTROL, FIELD_KEY, LABEL, LABEL_MARK, SPLIT
from milcnn.files import read_table

SUMMARY = ["study", "method", "protocol", "level", "metric", "value", "low", "high", "n", "seeds"]
BASELINE_FOLDER = "baselines"  # the folder, beside the runs of the MIL-CNNs, of those that segment first
MAIN_METHOD = "noisy_and"  # the method that the checks and the comparison with the baselines are about


def read_runs(
    folder: Path,
    poolings: list[str],
    seeds: list[int],
    name: str,
    baselines: Sequence[str] = (),
    conditions: Sequence[str] = (),
) -> pd.DataFrame:
    """The table ``name`` of every run in ``folder``, stacked, with columns ``method`` and ``seed``.

    A run is the folder ``<pooling>-<seed>`` or ``baselines/<baseline>-<seed>``, see ``seeds_of``; under changed
    training labels it is ``<condition>/noisy_and-0``, and its method ``noisy_and_<condition>``. Raises
    FileNotFoundError when one is missing.
    """
    runs = [(f"{pooling}-{seed}", pooling, seed) for pooling in poolings for seed in seeds]
    runs += [
        (f"{BASELINE_FOLDER}/{baseline}-{seed}", baseline, seed)
        for baseline in baselines
        for seed in seeds_of(folder, baseline, seeds)
    ]
    runs += [(f"{condition}/{MAIN_METHOD}-0", f"{MAIN_METHOD}_{condition}", 0) for condition in conditions]
    tables = [
        read_table(folder / run / name, "train this run first").assign(method=method, seed=seed)
        for run, method, seed in runs
    ]
    return pd.concat(tables, ignore_index=True)


def seeds_of(folder: Path, baseline: str, seeds: list[int]) -> list[int]:
    """All of ``seeds``, or the first alone where ``baseline`` has a run of no other: it draws no random numbers."""
    others = any((folder / BASELINE_FOLDER / f"{baseline}-{seed}").exists() for seed in seeds[1:])
    return seeds if others else seeds[:1]


def of_split(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of ``split``, with ``correct`` and ``error``; each run's in the order of its fields.

    Raises ValueError when a run predicts other fields than the first: methods are compared field by field.
    """
    rows = predictions[predictions[SPLIT] == split].sort_values(FIELD_KEY, kind="stable")
    runs = {key: run[FIELD_KEY].to_numpy().tolist() for key, run in rows.groupby(["method", "seed"], sort=False)}
    first = next(iter(runs), None)
    for key, fields in runs.items():
        if fields != runs[first]:
            names = ["-".join(map(str, run)) for run in (key, first)]
            raise ValueError(f"{names[0]}: predicts other {split} fields than {names[1]}; run both on the same study.")
    return with_errors(rows.reset_index(drop=True))


def read_profiles(
    folder: Path, predictions: pd.DataFrame, baselines: Sequence[str] = ()
) -> dict[tuple[str, int], pd.DataFrame]:
    """By method and seed, the profile of each field of ``predictions``: its Metadata and ``feature_0000`` ….

    Profiles tell of treatments and controls; a study that has neither need not hold ``features.parquet``, and
    gets none. Those of ``baselines`` lie where ``read_runs`` says. Raises FileNotFoundError when a run lacks the
    file, ValueError when that lacks a field.
    """
    if not (predictions.get(CONTROL, pd.Series(dtype=bool)).any() or COMPOUND in predictions):
        return {}
    profiles = {}
    for (method, seed), run in predictions.groupby(["method", "seed"], sort=False):
        home = folder / BASELINE_FOLDER if method in baselines else folder
        path = home / f"{method}-{seed}" / "features.parquet"
        fields = run.filter(regex="^Metadata_").merge(read_table(path, "train this run first"), on=FIELD_KEY)
        if len(fields) < len(run):
            raise ValueError(f"{path}: {len(run) - len(fields)} predicted fields have no features; run it again.")
        profiles[method, seed] = fields
    return profiles


def label_matrix(labels: pd.Series, classes: list[str]) -> np.ndarray:
    """(n, C) of 0 and 1: which of ``classes`` each label names; several are written ``A|B``."""
    return labels.fillna("").str.get_dummies(LABEL_MARK).reindex(columns=classes, fill_value=0).to_numpy()


def classes_in(labels: pd.Series) -> list[str]:
    """The classes that occur in ``labels``, sorted."""
    return sorted(labels.str.split(LABEL_MARK, regex=False).explode().unique())


def with_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` with ``correct`` and ``error`` (0 or 1): of several labels all must be right."""
    pairs = zip(predictions[LABEL], predictions["predicted"].fillna(""), strict=True)
    correct = np.array(
        [set(label.split(LABEL_MARK)) == set(called.split(LABEL_MARK)) for label, called in pairs], float
    )
    return predictions.assign(correct=correct, error=1 - correct)


def merged_summary(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """``new`` and those rows of ``old`` that are of no method of a study in ``new``, in a stable order.

    So a table grows run by run: a short run leaves the rows of methods that it does not have as an earlier one wrote
    them.
    """
    done = pd.MultiIndex.from_frame(new[["study", "method"]])
    kept = old[~pd.MultiIndex.from_frame(old[["study", "method"]]).isin(done)]
    merged = pd.concat([table for table in (kept, new) if len(table)], ignore_index=True)
    return merged.sort_values(["study", "level", "metric", "protocol", "method"], ignore_index=True)[SUMMARY]


def metrics_of(scores: pd.DataFrame, by_seed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What ``dvc metrics show`` tells: the scores of each method, and the accuracy of its worst seed.

    A score above the field is named with its level, as ``treatment_accuracy``.
    """
    told = {method: {"worst_seed": round(worst, 4)} for method, worst in by_seed.min(axis=1).items()}
    for _, row in scores.iterrows():
        name = row["metric"] if row["level"] == "field" else f"{row['level']}_{row['metric']}"
        told.setdefault(row["method"], {})[name] = round(row["value"], 4)
    return told
