"""Scores of fields, wells and treatments, each with its interval.

A metric is a function ``(calls, counts) → (R,)`` of (R, n) ``counts``: how often each of n fields counts, R times; see
``intervals.without_each``. Where scikit-learn has the metric, its ``sample_weight`` gives the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.evaluate.intervals import clusters, facts_of, mean_with_interval, without_each
from milcnn.evaluate.runs import SUMMARY, label_matrix, summary_table

CONFIDENCE_BINS = 10


class Calls(NamedTuple):
    """The true and the predicted classes of n fields in one run; C classes."""

    truth: np.ndarray  # (n, C) of 0 and 1
    called: np.ndarray  # (n, C) of 0 and 1, the predicted classes
    y: np.ndarray  # (n, C) probabilities


def one_label(y: np.ndarray) -> bool:
    """Whether each field has one label: then its probabilities ``y`` (n, C) sum to 1."""
    return bool(np.allclose(y.sum(axis=1), 1, atol=1e-3))


def calls_of(run: pd.DataFrame) -> Calls:
    """The table of one run as arrays; its classes are those with a column ``y_<class>``."""
    y = run.filter(regex="^y_")
    truth, called = (label_matrix(run[name], list(y.columns.str[2:])) for name in (LABEL, "predicted"))
    return Calls(truth, called, y.to_numpy(float))


def accuracy(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Share of fields predicted right; if a field has several labels, all must be right."""
    return counts @ (calls.truth == calls.called).all(axis=1) / counts.sum(axis=1)


def balanced_accuracy(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Mean recall over classes."""
    return class_mean(counts @ (calls.truth * calls.called), counts @ calls.truth)


def macro_f1(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Mean over classes of F1 = 2 TP / (true fields + predicted fields of the class)."""
    true, called = counts @ calls.truth, counts @ calls.called
    return class_mean(2 * counts @ (calls.truth * calls.called), np.where(true > 0, true + called, 0))


def class_mean(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mean of ``part`` / ``whole`` (R, C) over the classes whose ``whole`` is not 0, (R,); NaN if there is none."""
    defined = whole > 0
    shares = np.divide(part, whole, out=np.zeros(part.shape), where=defined).sum(axis=1)
    return np.divide(shares, defined.sum(axis=1), out=np.full(len(shares), np.nan), where=defined.any(axis=1))


def mean_average_precision(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Mean over classes of Σ (recall_k − recall_k−1) · precision_k, k the distinct y, highest first, (R,)."""
    scores = []
    for truth, y in zip(calls.truth.T, calls.y.T, strict=True):
        taken, hits = sums_from_top(y, counts, counts * truth)
        precision = np.divide(hits, taken, out=np.zeros(hits.shape), where=taken > 0)
        area = (precision * np.diff(hits, axis=1, prepend=0)).sum(axis=1)
        scores.append(area / np.maximum(hits[:, -1], 1e-12))
    defined = counts @ calls.truth > 0  # in the resample the class has a true field
    return class_mean(np.where(defined, np.transpose(scores), 0), defined)


def roc_auc(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of pairs, a true and a false field, whose true field has the higher y, (R,)."""
    scores = []  # a tie counts half
    for truth, y in zip(calls.truth.T, calls.y.T, strict=True):
        true, false = sums_from_top(y, counts * truth, counts * (1 - truth) * ~np.isnan(y))
        right = (np.diff(false, axis=1, prepend=0) * (true - np.diff(true, axis=1, prepend=0) / 2)).sum(axis=1)
        scores.append(right / np.maximum(true[:, -1] * false[:, -1], 1e-12))
    defined = (counts @ calls.truth > 0) & (counts @ ((1 - calls.truth) * ~np.isnan(calls.y)) > 0)
    return class_mean(np.where(defined, np.transpose(scores), 0), defined)


def sums_from_top(score: np.ndarray, *weights: np.ndarray) -> list[np.ndarray]:
    """Sums of ``weights`` (R, n) over fields with ``score`` (n,) ≥ each distinct score, highest first, (R, k) each."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    return [values[:, order].cumsum(axis=1)[:, ends] for values in weights]


def confidences(calls: Calls) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each prediction and whether it is right (0 or 1), (n, 1) each, (n, C) with several labels."""
    if one_label(calls.y):
        right = (calls.truth == calls.called).all(axis=1, keepdims=True)
        return calls.y.max(axis=1, keepdims=True), right.astype(float)
    return np.where(calls.called, calls.y, 1 - calls.y), (calls.truth == calls.called).astype(float)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The bin, 0 to 9, of each confidence: ten bins of equal width from 0 to 1."""
    return np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)


def ece(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Expected calibration error, Σ_b |Σ_{n in b} (confidence_n − right_n)| / N (Guo 2017, arXiv 1706.04599), (R,)."""
    confidence, right = confidences(calls)
    gaps = np.zeros((len(confidence), CONFIDENCE_BINS))
    known = ~np.isnan(confidence)
    rows = np.arange(len(confidence))[:, None]
    own = np.where(known, confidence - right, 0) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    np.add.at(gaps, (rows, bin_of(np.nan_to_num(confidence))), own)
    return np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)


def kept_and_wrong(calls: Calls, counts: np.ndarray) -> list[np.ndarray]:
    """The numbers of fields kept and of errors among them as fields are added, most confident first, (R, k) each."""
    wrong = (calls.truth != calls.called).any(axis=1)
    return sums_from_top(np.nanmean(confidences(calls)[0], axis=1), counts, counts * wrong)


def risk_coverage_area(calls: Calls, counts: np.ndarray) -> np.ndarray:
    """Mean error over all shares of fields kept, most confident first, (R,) (Geifman 2017, arXiv 1705.08500)."""
    kept, wrong = kept_and_wrong(calls, counts)
    risk = np.divide(wrong, kept, out=np.zeros(kept.shape), where=kept > 0)
    return (risk * np.diff(kept, axis=1, prepend=0)).sum(axis=1) / counts.sum(axis=1)


METRICS: dict[str, Callable[[Calls, np.ndarray], np.ndarray]] = {
    metric.__name__: metric
    for metric in (accuracy, balanced_accuracy, macro_f1, mean_average_precision, roc_auc, ece, risk_coverage_area)
}


def seed_scores(runs: pd.DataFrame, metric: str, counts: np.ndarray) -> np.ndarray:
    """``metric`` of each seed of one method, (seeds, R), for the (R, n) ``counts`` of its sorted fields."""
    return np.array([METRICS[metric](calls_of(run.sort_values(FIELD_KEY)), counts) for _, run in runs.groupby("seed")])


def fields_of(runs: pd.DataFrame) -> pd.DataFrame:
    """The fields of ``runs``, once each, sorted."""
    return runs.drop_duplicates(FIELD_KEY).sort_values(FIELD_KEY)


def score_rows(predictions: pd.DataFrame, metrics: list[str], study: str, protocol: str, level: str) -> pd.DataFrame:
    """Rows of the summary: each of ``metrics`` (see ``METRICS``) for each method of ``predictions``."""
    rows: list[dict] = []
    for method, runs in predictions.groupby("method", sort=False):
        groups = clusters(fields_of(runs), level)
        counts = without_each(groups.of_field)
        for metric in metrics:
            scores = seed_scores(runs, metric, counts)
            rows.append({"method": method, "metric": metric} | facts_of(groups, scores.mean(axis=0), scores[:, 0]))
    table = summary_table(rows, study, protocol, level)
    return table.sort_values("metric", key=lambda column: column.map(metrics.index), kind="stable")


def class_rows(predictions: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary, level field: ``average_precision_<class>`` for each class, as in the mean over them."""
    y = predictions.filter(regex="^y_").columns
    tables = [
        score_rows(predictions.drop(columns=y.drop(own)), ["mean_average_precision"], study, protocol, "field").assign(
            metric=f"average_precision_{own.removeprefix('y_')}"
        )
        for own in y
    ]
    return pd.concat(tables, ignore_index=True)


def summary_rows(table: pd.DataFrame, study: str, protocol: str, level: str, metric: str, column: str) -> pd.DataFrame:
    """Rows of the summary: the mean of ``column`` for each ``method`` of ``table``; only errors of counts exceed 1."""
    scores = mean_with_interval(table, ["method"], column, np.inf if metric.startswith("count_error") else 1)
    return scores.assign(study=study, protocol=protocol, level=level, metric=metric)[SUMMARY]
