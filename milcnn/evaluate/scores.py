"""Scores of whole fields, wells and treatments, each with its interval.

A metric is a function ``(calls, drawn) → (R,)``: its value on the fields as they are, and on each draw
of ``intervals.weights``. Many draws are one matrix product, and equal draws make differences paired.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.evaluate.intervals import (
    RESAMPLES,
    draw_counts,
    mean_draws,
    mean_with_interval,
    resampling_groups,
    summarise_draws,
)
from milcnn.evaluate.runs import SUMMARY, label_matrix

RANKING_RESAMPLES = 200  # of the metrics that sort the fields class by class
RANKINGS = ("mean_average_precision", "roc_auc")
CONFIDENCE_BINS = 10  # of confidence


class Calls(NamedTuple):
    """What one run says of n fields, and what is true; C classes."""

    truth: np.ndarray  # (n, C) of 0 and 1
    called: np.ndarray  # (n, C) of 0 and 1
    y: np.ndarray  # (n, C) probabilities


def one_label(y: np.ndarray) -> bool:
    """Whether the probabilities ``y`` (n, C) share 1 among the classes, rather than judge each by itself."""
    return bool(np.allclose(y.sum(axis=1), 1, atol=1e-3))


def y_classes(predictions: pd.DataFrame) -> list[str]:
    """The classes that have a column ``y_<class>``."""
    return [column.removeprefix("y_") for column in predictions if column.startswith("y_")]


def calls_of(run: pd.DataFrame) -> Calls:
    """The table of one run as arrays."""
    classes = y_classes(run)
    truth, called = (label_matrix(run[column], classes) for column in (LABEL, "predicted"))
    return Calls(truth, called, run[[f"y_{name}" for name in classes]].to_numpy(float))


def accuracy(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Share of fields whose call is right; of several labels all must be."""
    return mean_draws((calls.truth == calls.called).all(axis=1), drawn)


def balanced_accuracy(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of their fields that are called so."""
    return class_mean(drawn @ (calls.truth * calls.called), drawn @ calls.truth)


def macro_f1(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Mean over classes of F1 = 2 TP / (fields of the class + fields called so)."""
    true, called = drawn @ calls.truth, drawn @ calls.called
    return class_mean(2 * drawn @ (calls.truth * calls.called), np.where(true > 0, true + called, 0))


def class_mean(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mean over classes of ``part`` / ``whole`` (R, C), (R,).

    A class without a true field in a draw (``whole`` is 0) is left out: draws of compounds miss whole classes.
    """
    shares = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return shares.sum(axis=1) / np.maximum((whole > 0).sum(axis=1), 1)


def mean_average_precision(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Mean over classes of the average precision of y; a class without a field is left out, (R,)."""
    scores = [average_precision(calls.truth[:, c], calls.y[:, c], drawn) for c in range(calls.truth.shape[1])]
    known = drawn @ calls.truth > 0
    return class_mean(np.where(known, np.transpose(scores), 0), known.astype(float))


def average_precision(truth: np.ndarray, score: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Σ (recall_k − recall_k−1) · precision_k over the falling distinct scores, (R,); 0 without a true field.

    ``truth`` (n,) of 0 and 1, ``score`` (n,), ``drawn`` (R, n). As scikit-learn's with ``sample_weight``,
    for all draws at once.
    """
    order, ends = descending(score)
    taken = drawn[:, order].cumsum(axis=1)[:, ends]
    hits = (drawn * truth)[:, order].cumsum(axis=1)[:, ends]
    precision = np.divide(hits, taken, out=np.zeros(hits.shape), where=taken > 0)
    return (precision * np.diff(hits, axis=1, prepend=0)).sum(axis=1) / np.maximum(hits[:, -1], 1e-12)


def roc_auc(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Mean over classes of the area under the ROC curve of y; a class that all fields, or none, have is left out."""
    scores = [area_under_roc(calls.truth[:, c], calls.y[:, c], drawn) for c in range(calls.truth.shape[1])]
    known = (drawn @ calls.truth > 0) & (drawn @ (1 - calls.truth) > 0)
    return class_mean(np.where(known, np.transpose(scores), 0), known.astype(float))


def area_under_roc(truth: np.ndarray, score: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The share of pairs, a true field and one that is not, in which the true one has the larger score, (R,).

    A tie counts half. Arguments as of ``average_precision``; 0 where there is no pair.
    """
    order, ends = descending(score)
    true = (drawn * truth)[:, order].cumsum(axis=1)[:, ends]
    false = (drawn * (1 - truth))[:, order].cumsum(axis=1)[:, ends]
    right = (np.diff(false, axis=1, prepend=0) * (true - np.diff(true, axis=1, prepend=0) / 2)).sum(axis=1)
    return right / np.maximum(true[:, -1] * false[:, -1], 1e-12)


def descending(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of falling ``score`` (n,), and where in it each distinct value ends: ties enter together."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)


def confidences(calls: Calls) -> tuple[np.ndarray, np.ndarray]:
    """How sure each call is, and whether it is right, (n, k) each.

    Of one label k = 1: the largest y. Of several k = C: y of a class that is called, 1 − y of one that isn't.
    """
    if one_label(calls.y):
        right = (calls.truth == calls.called).all(axis=1, keepdims=True)
        return calls.y.max(axis=1, keepdims=True), right.astype(float)
    return np.where(calls.called, calls.y, 1 - calls.y), (calls.truth == calls.called).astype(float)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The number of the bin, of ten equally wide ones from 0 to 1, that each confidence is in."""
    return np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)


def ece(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Expected calibration error, Σ_b |Σ_{n in b} (confidence_n − right_n)| / N, over ten equal bins, (R,).

    Guo 2017, eq. 3 (arXiv 1706.04599): the mean gap between what a call promises and how often it is right.
    """
    confidence, right = confidences(calls)
    gaps = np.zeros((len(confidence), CONFIDENCE_BINS))
    rows = np.arange(len(confidence))[:, None]
    np.add.at(gaps, (rows, bin_of(confidence)), (confidence - right) / confidence.shape[1])
    return np.abs(drawn @ gaps).sum(axis=1) / drawn.sum(axis=1)


def risk_coverage_area(calls: Calls, drawn: np.ndarray) -> np.ndarray:
    """Mean, over all shares of fields that could be kept, surest first, of the error among the kept, (R,).

    Below the error rate where the surest calls are right more often (Geifman 2017, arXiv 1705.08500); fields
    that are equally sure are kept together.
    """
    order, ends = descending(confidences(calls)[0].mean(axis=1))
    wrong = (calls.truth != calls.called).any(axis=1)
    kept = drawn[:, order].cumsum(axis=1)[:, ends]
    errors = (drawn * wrong)[:, order].cumsum(axis=1)[:, ends]
    risk = np.divide(errors, kept, out=np.zeros(kept.shape), where=kept > 0)
    return (risk * np.diff(kept, axis=1, prepend=0)).sum(axis=1) / drawn.sum(axis=1)


METRICS: dict[str, Callable[[Calls, np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "mean_average_precision": mean_average_precision,
    "roc_auc": roc_auc,
    "ece": ece,
    "risk_coverage_area": risk_coverage_area,
}


def score_draws(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """``metric`` of one method, mean over its seeds: on its fields, then on each draw, (1 + resamples,)."""
    by_seed = [run.sort_values(FIELD_KEY) for _, run in runs.groupby("seed")]
    drawn = draw_counts(resampling_groups(by_seed[0]), RANKING_RESAMPLES if metric in RANKINGS else RESAMPLES)
    return np.mean([METRICS[metric](calls_of(run), drawn) for run in by_seed], axis=0)


def score_rows(predictions: pd.DataFrame, metrics: list[str], study: str, protocol: str, level: str) -> pd.DataFrame:
    """Rows of the summary: each of ``metrics`` (see ``METRICS``) for each method of ``predictions``."""
    rows = []
    for method, runs in predictions.groupby("method", sort=False):
        facts = {"study": study, "method": method, "protocol": protocol, "level": level}
        facts |= {"n": len(runs.drop_duplicates(FIELD_KEY)), "seeds": runs["seed"].nunique()}
        rows += [facts | {"metric": metric} | summarise_draws(score_draws(runs, metric)) for metric in metrics]
    return pd.DataFrame(rows, columns=SUMMARY).sort_values("metric", key=lambda m: m.map(metrics.index), kind="stable")


def summary_rows(table: pd.DataFrame, study: str, protocol: str, level: str, metric: str, column: str) -> pd.DataFrame:
    """Rows of the summary: the mean of ``column`` for each ``method`` of ``table``."""
    scores = mean_with_interval(table, ["method"], column)
    facts = {"study": study, "protocol": protocol, "level": level, "metric": metric}
    return scores.assign(**facts)[SUMMARY]
