"""Judgement: tables of predictions in, tables of scores out; nothing here knows a network."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from milcnn.files import read_table
from milcnn.screens.screen import FIELD_KEY, LABEL

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


def with_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` with ``correct`` and ``error`` (0 or 1) of each field."""
    correct = (predictions["predicted"] == predictions[LABEL]).astype(float)
    return predictions.assign(correct=correct, error=1 - correct)


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
    """What ``dvc metrics show`` tells: accuracy of each method, and that of its worst seed."""
    worst = by_seed.min(axis=1)
    return {
        row["method"]: {"accuracy": round(row["value"], 4), "worst_seed": round(worst[row["method"]], 4)}
        for _, row in scores.iterrows()
    }
