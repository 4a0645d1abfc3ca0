"""Judgement: tables of predictions in, tables of scores out; nothing here knows a network."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score

from milcnn.files import read_table
from milcnn.screens.columns import FIELD_KEY, LABEL, LABEL_MARK

SUMMARY = ["study", "method", "protocol", "level", "metric", "value", "low", "high", "n", "seeds", "seconds_per_field"]


def read_runs(folder: Path, poolings: list[str], seeds: list[int], name: str) -> pd.DataFrame:
    """The table ``name`` of every run in ``folder``, stacked, with columns ``method`` and ``seed``.

    A run is the folder ``<pooling>-<seed>``. Raises FileNotFoundError when one is missing.
    """
    tables = [
        read_table(folder / f"{pooling}-{seed}" / name, "train this run first").assign(method=pooling, seed=seed)
        for pooling in poolings
        for seed in seeds
    ]
    return pd.concat(tables, ignore_index=True)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of ``values`` (n,), 2,000 resamples."""
    values = np.asarray(values, float)
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    result = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def mean_with_interval(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean of ``column`` for each group of ``by``, with its 95 % interval over fields.

    The seeds of one field are averaged first: fields are independent, two networks that see one
    field are not. Columns: ``by``, ``value``, ``low``, ``high``, ``n`` (fields), ``seeds``.
    """
    rows = []
    for group, members in table.groupby(by, sort=False):
        fields = members.groupby(FIELD_KEY)[column].mean().to_numpy()
        low, high = interval(fields)
        facts = {"value": fields.mean(), "low": low, "high": high, "n": len(fields)}
        rows.append(dict(zip(by, group, strict=True)) | facts | {"seeds": members["seed"].nunique()})
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n", "seeds"])


def error_by_fraction(predictions: pd.DataFrame, levels: int = 6) -> pd.DataFrame:
    """Test error of each method against ``fraction``, the share of objects that carry the label.

    Where a study has more than ``levels`` different fractions they are grouped into that many bins of
    equal size, each at its mean. Empty where the truth is not known. Columns as ``mean_with_interval``.
    """
    if "fraction" not in predictions:
        return mean_with_interval(predictions.iloc[:0].assign(fraction=[]), ["method", "fraction"], "error")
    fraction = predictions["fraction"]
    if fraction.nunique() > levels:
        bins = pd.qcut(fraction, levels, duplicates="drop")
        fraction = fraction.groupby(bins, observed=True).transform("mean").round(3)
    table = predictions.assign(fraction=fraction).sort_values("fraction", kind="stable")
    return mean_with_interval(table, ["method", "fraction"], "error")


def label_matrix(labels: pd.Series, classes: list[str]) -> np.ndarray:
    """(n, C) of 0 and 1: which of ``classes`` each label names; several are written ``A|B``."""
    return labels.fillna("").str.get_dummies(LABEL_MARK).reindex(columns=classes, fill_value=0).to_numpy()


def class_names(labels: pd.Series) -> list[str]:
    """The classes that occur in ``labels``, sorted."""
    return sorted(labels.str.split(LABEL_MARK, regex=False).explode().unique())


def with_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` with ``correct`` and ``error`` (0 or 1): of several labels all must be right."""
    pairs = zip(predictions[LABEL], predictions["predicted"].fillna(""), strict=True)
    correct = np.array(
        [set(label.split(LABEL_MARK)) == set(called.split(LABEL_MARK)) for label, called in pairs], float
    )
    return predictions.assign(correct=correct, error=1 - correct)


def mean_average_precision(predictions: pd.DataFrame, classes: list[str]) -> float:
    """Mean over classes of the average precision of ``y_<class>``; classes without a field are left out."""
    truth = label_matrix(predictions[LABEL], classes)
    y = predictions[[f"y_{name}" for name in classes]].to_numpy()
    return float(np.mean([average_precision_score(truth[:, c], y[:, c]) for c in np.flatnonzero(truth.any(axis=0))]))


def ranking_rows(predictions: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: mean average precision of each method, mean over its seeds.

    Its 95 % interval comes from 200 bootstraps of the fields, the same for every seed; it is widened
    to the value itself where few fields, drawn twice, rank better or worse than the whole.
    """
    classes = class_names(predictions[LABEL])
    rows = []
    for method, runs in predictions.groupby("method", sort=False):
        by_seed = [run.reset_index(drop=True) for _, run in runs.groupby("seed")]
        rng = np.random.default_rng(0)
        n = len(by_seed[0])
        draws = [np.arange(n), *rng.integers(0, n, (200, n))]
        scores = [np.mean([mean_average_precision(run.iloc[draw], classes) for run in by_seed]) for draw in draws]
        low, high = np.quantile(scores[1:], [0.025, 0.975])
        facts = {"value": scores[0], "low": min(low, scores[0]), "high": max(high, scores[0]), "n": n}
        facts |= {"seeds": len(by_seed)}
        rows.append({"method": method, "study": study, "protocol": protocol, "level": "field"} | facts)
    return pd.DataFrame(rows).assign(metric="mean_average_precision", seconds_per_field=np.nan)[SUMMARY]


def summary_rows(table: pd.DataFrame, study: str, protocol: str, level: str, metric: str, column: str) -> pd.DataFrame:
    """Rows of the summary: the mean of ``column`` for each ``method`` of ``table``."""
    scores = mean_with_interval(table, ["method"], column)
    facts = {"study": study, "protocol": protocol, "level": level, "metric": metric}
    seconds = table.groupby("method")["seconds_per_field"].median() if "seconds_per_field" in table else {}
    seconds_per_field = scores["method"].map(seconds)
    return scores.assign(**facts, seconds_per_field=seconds_per_field)[SUMMARY]


def merged_summary(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """``new`` and those rows of ``old`` that are of no study in ``new``, in a stable order."""
    kept = old[~old["study"].isin(new["study"])] if len(old) else old
    merged = pd.concat([table for table in (kept, new) if len(table)], ignore_index=True)
    return merged.sort_values(["study", "level", "metric", "protocol", "method"], ignore_index=True)[SUMMARY]


def metrics(scores: pd.DataFrame, by_seed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What ``dvc metrics show`` tells: the scores of each method, and the accuracy of its worst seed."""
    told = {method: {"worst_seed": round(worst, 4)} for method, worst in by_seed.min(axis=1).items()}
    for _, row in scores.iterrows():
        told[row["method"]][row["metric"]] = round(row["value"], 4)
    return told
