"""Tables of runs: reading them, choosing their rows, and the summary table."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONTROL, FIELD_KEY, LABEL, LABEL_MARK, SPLIT, UNKNOWN, join_labels
from milcnn.evaluate.intervals import FACTS
from milcnn.files import read_table
from milcnn.roles import plate_references

SUMMARY = ["study", "method", "protocol", "level", "metric", *FACTS]  # see ``intervals.facts_of``
BASELINE_FOLDER = "baselines"  # beside the runs of the MIL-CNNs
# ends of the name of a method
CONTROLS = "+controls"  # it knows the controls of the plates that it is scored on
AS_IT_COMES = "+as_it_comes"  # a baseline whose segmentation is not tuned
MAIN_METHOD = "noisy_and"  # compared with the baselines, and trained on changed labels
Names = Sequence[str]
Profiles = dict[tuple[str, int], pd.DataFrame]  # by method and seed


def read_runs(
    folder: Path, poolings: Names, seeds: list[int], name: str, baselines: Names = (), conditions: Names = ()
) -> pd.DataFrame:
    """The table ``name`` of every run in ``folder``, stacked, with columns ``method`` and ``seed``.

    A run is the folder ``<pooling>-<seed>`` or ``baselines/<baseline>-<seed>``. With changed training labels it is
    ``<condition>/noisy_and-<seed>``, one or more seeds, and the method is ``noisy_and_<condition>``. A method that ran
    with the first seed only needs no other: a baseline without random numbers, or a function of which one is enough.
    Of noisy_and all are needed. Raises FileNotFoundError when a run is missing.
    """
    runs = []
    for where, methods in ((folder, poolings), (folder / BASELINE_FOLDER, baselines)):
        for method in methods:
            paths = {seed: where / f"{method}-{seed}" for seed in seeds}
            others = method == MAIN_METHOD or any((paths[seed] / name).exists() for seed in seeds[1:])
            needed = seeds if others else seeds[:1]
            runs += [(paths[seed], method, seed) for seed in needed]
    for condition in conditions:
        there = sorted(folder.glob(f"{condition}/{MAIN_METHOD}-*")) or [folder / condition / f"{MAIN_METHOD}-0"]
        runs += [(path, f"{MAIN_METHOD}_{condition}", int(path.name.rsplit("-", 1)[1])) for path in there]
    hint = "train this run first"
    tables = [read_table(path / name, hint).assign(method=method, seed=seed) for path, method, seed in runs]
    return pd.concat(tables, ignore_index=True)


def read_marked(folder: Path, poolings: Names, seeds: list[int], baselines: Names = ()) -> pd.DataFrame:
    """The predictions of the same runs with another mark, as ``read_runs``; each method's name ends in it.

    ``predictions_controls.csv`` has ``CONTROLS``; ``predictions_as_it_comes.csv``, of baselines, ``AS_IT_COMES``. Empty
    if there is none. A baseline that cannot learn from these cells is left out.
    """
    tables = [pd.DataFrame({"method": pd.Series(dtype=str), "seed": pd.Series(dtype=int)})]
    for mark in (CONTROLS, AS_IT_COMES):
        name = f"predictions_{mark[1:]}.csv"
        networks = poolings if any(folder.glob(f"*/{name}")) else []
        others = [own for own in baselines if any(folder.glob(f"{BASELINE_FOLDER}/{own}-*/{name}"))]
        if networks or others:
            table = read_runs(folder, networks, seeds, name, others)
            tables.append(table.assign(method=table["method"] + mark))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def baselines_left_out(folder: Path) -> dict[str, str]:
    """The baselines that could not learn from the cells of the study, with the reason; see ``run_baselines``."""
    path = folder / BASELINE_FOLDER / "left_out.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def scored_in(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of ``split``, without ``plate_references``: a control that may tell of its plate is not scored.

    Nor are predictions of unknown classes, see ``without_unknown``.
    """
    fields = predictions.drop_duplicates(FIELD_KEY)  # of methods that know no controls, so all controls are among them
    rows = predictions[predictions[SPLIT] == split]
    return without_unknown(rows.merge(fields.loc[~plate_references(fields), FIELD_KEY]))


def of_split(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of ``scored_in``, sorted by field, with ``correct`` and ``error``.

    Raises ValueError when two runs predict different fields: methods are compared field by field.
    """
    rows = scored_in(predictions, split).sort_values(FIELD_KEY, kind="stable")
    by_run = rows.groupby(["method", "seed"], sort=False)
    fields = {f"{method}-{seed}": run[FIELD_KEY].to_numpy().tolist() for (method, seed), run in by_run}
    first = next(iter(fields), "")
    for name, of_run in fields.items():
        if of_run != fields[first]:
            raise ValueError(f"{name}: its {split} fields are not those of {first}; run both on the same study.")
    return with_errors(rows.reset_index(drop=True))


def read_profiles(folder: Path, predictions: pd.DataFrame, baselines: Names = ()) -> Profiles:
    """For each method and seed, the fields of ``predictions`` with their Metadata and profile, ``feature_0000`` ….

    A study without compounds and controls needs no ``features.parquet`` and gets no profiles. Raises FileNotFoundError
    when a run has no file, ValueError when the file lacks a field.
    """
    if not (predictions.get(CONTROL, pd.Series(dtype=bool)).any() or COMPOUND in predictions):
        return {}
    profiles: Profiles = {}
    for (method, seed), run in predictions.groupby(["method", "seed"], sort=False):
        home = folder / BASELINE_FOLDER if method in baselines else folder
        path = home / f"{method}-{seed}" / "features.parquet"
        fields = run.filter(regex="^Metadata_").merge(read_table(path, "train this run first"), on=FIELD_KEY)
        if len(fields) < len(run):
            raise ValueError(f"{path}: features of {len(run) - len(fields)} fields are missing; run {method} again.")
        profiles[method, seed] = fields
    return profiles


def parts_of(label: str, known: Names) -> list[str]:
    """The classes that ``label`` names: a ``known`` class is one, also with a ``|``; others are several, ``A|B``."""
    return [label] if label in set(known) else label.split(LABEL_MARK)


def label_matrix(labels: pd.Series, classes: Names) -> np.ndarray:
    """Which of ``classes`` each label names, (n, C) of 0 and 1; see ``parts_of``."""
    rows = {label: [int(name in parts_of(label, classes)) for name in classes] for label in labels.fillna("").unique()}
    return np.array([rows[label] for label in labels.fillna("")], np.int64).reshape(len(labels), len(classes))


def classes_in(labels: pd.Series, known: Names = ()) -> list[str]:
    """The classes that occur in ``labels``, sorted; see ``parts_of``. A field without one has an empty label or NaN."""
    named = labels[labels.fillna("") != ""].unique()
    return sorted({part for label in named for part in parts_of(label, known)})


def without_unknown(predictions: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` without those of classes in ``Metadata_Unknown``: not in ``predicted``, and y is NaN."""
    if UNKNOWN not in predictions or not predictions[UNKNOWN].fillna("").any():
        return predictions
    y = predictions.filter(regex="^y_")
    classes = list(y.columns.str[2:])
    known = label_matrix(predictions[UNKNOWN], classes) == 0
    called = known & (label_matrix(predictions["predicted"], classes) == 1)
    predicted = [join_labels([*np.array(classes, object)[row]]) for row in called]
    return predictions.assign(predicted=predicted, **y.where(known))


def with_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` with ``correct`` and ``error`` (0 or 1). If a field has several labels, all must be right."""
    columns = [predictions[name].fillna("") for name in (LABEL, "predicted")]
    true, predicted = (column.str.split(LABEL_MARK, regex=False).map(set) for column in columns)
    correct = (true == predicted).astype(float)
    return predictions.assign(correct=correct, error=1 - correct)


def summary_table(rows: Iterable[dict], study: str, protocol: str, level: str) -> pd.DataFrame:
    """The ``SUMMARY`` of ``rows``, which have its other columns."""
    shared = {"study": study, "protocol": protocol, "level": level}
    return pd.DataFrame([shared | row for row in rows], columns=SUMMARY)


def merged_summary(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """``new``, with the rows of ``old`` of all other methods and studies, sorted: the table grows run by run."""
    keys = pd.MultiIndex.from_frame(new[["study", "method"]])
    kept = old[~pd.MultiIndex.from_frame(old[["study", "method"]]).isin(keys)]
    merged = pd.concat([table for table in (kept, new) if len(table)]).reindex(columns=SUMMARY)
    return merged.sort_values(["study", "level", "metric", "protocol", "method"], ignore_index=True)


def metrics_of(scores: pd.DataFrame, by_seed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For ``dvc metrics show``: the scores of each method, as ``accuracy`` or ``well_accuracy``, and its worst seed."""
    metrics = {method: {"worst_seed": round(worst, 4)} for method, worst in by_seed.min(axis=1).items()}
    for _, row in scores.iterrows():
        name = row["metric"] if row["level"] == "field" else f"{row['level']}_{row['metric']}"
        metrics.setdefault(row["method"], {})[name] = round(row["value"], 4)
    return metrics
