"""Calibration: does a call that is 90 % sure hold nine times out of ten?"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

from milcnn.columns import FIELD_KEY
from milcnn.evaluate.scores import bin_of, calls_of, confidences, descending, one_label, score_rows, y_classes

LEAST = 1e-7  # a probability of 0, as a vote without a voice gives, has no logarithm


def scaled(y: np.ndarray, temperature: float) -> np.ndarray:
    """``y`` (n, C) at ``temperature`` T: softmax(log(y) / T), or, of several labels, σ(logit(y) / T).

    Guo 2017, section 4.2 (arXiv 1706.04599): T > 1 makes calls less sure; which class is largest stays.
    """
    y = y.clip(LEAST, 1 - LEAST)
    return softmax(np.log(y) / temperature, axis=1) if one_label(y) else expit(logit(y) / temperature)


def temperature(truth: np.ndarray, y: np.ndarray) -> float:
    """The temperature, 0.05 to 20, at which the log-likelihood of ``truth`` (n, C) under ``y`` (n, C) is largest."""

    def loss(log_t: float) -> float:
        at_t = y.clip(LEAST, 1 - LEAST)
        if one_label(y):
            return -float((truth * log_softmax(np.log(at_t) / np.exp(log_t), axis=1)).mean())
        z = logit(at_t) / np.exp(log_t)
        return float((np.logaddexp(0, z) - truth * z).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def temperatures(validation: pd.DataFrame) -> pd.DataFrame:
    """The temperature of every run, fitted on its ``validation`` fields: ``method``, ``seed``, ``temperature``."""
    rows = []
    for (method, seed), run in validation.groupby(["method", "seed"], sort=False):
        calls = calls_of(run)
        rows.append((method, seed, temperature(calls.truth, calls.y)))
    return pd.DataFrame(rows, columns=["method", "seed", "temperature"])


def rescaled(predictions: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` with the y of each run at its temperature in ``fitted``; calls stay as they are."""
    y = [f"y_{name}" for name in y_classes(predictions)]
    runs = []
    for _, row in fitted.iterrows():
        run = predictions[(predictions["method"] == row["method"]) & (predictions["seed"] == row["seed"])]
        values = scaled(run[y].to_numpy(float), row["temperature"])
        runs.append(run.assign(**dict(zip(y, values.T, strict=True))))
    return pd.concat(runs, ignore_index=True)


def calibration_rows(
    predictions: pd.DataFrame, validation: pd.DataFrame, study: str, protocol: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the summary, ``ece`` and, at the temperature of the validation fields, ``ece_scaled``; and those."""
    fitted = temperatures(validation)
    plain = score_rows(predictions, ["ece"], study, protocol, "field")
    after = score_rows(rescaled(predictions, fitted), ["ece"], study, protocol, "field").assign(metric="ece_scaled")
    return pd.concat([plain, after], ignore_index=True), fitted


def reliability(predictions: pd.DataFrame) -> pd.DataFrame:
    """For each method and bin of confidence, what its calls promise and how often they are right.

    Columns: ``method``, ``bin`` (0 to 9), ``confidence`` and ``right`` (means of the bin), ``n`` (calls).
    """
    tables = []
    for method, runs in predictions.groupby("method", sort=False):
        confidence, right = (values.ravel() for values in confidences(calls_of(runs)))
        told = pd.DataFrame({"bin": bin_of(confidence), "confidence": confidence, "right": right})
        bins = told.groupby("bin").agg(confidence=("confidence", "mean"), right=("right", "mean"), n=("right", "size"))
        tables.append(bins.reset_index().assign(method=method))
    return pd.concat(tables, ignore_index=True)[["method", "bin", "confidence", "right", "n"]]


def risk_coverage(predictions: pd.DataFrame, points: int = 20) -> pd.DataFrame:
    """The error among the surest share of fields, for each method, mean over its seeds.

    Columns: ``method``, ``coverage`` (1/``points`` to 1), ``risk``. Between ties the risk is that of the
    fields that would be kept with them.
    """
    coverage = np.arange(1, points + 1) / points
    tables = []
    for method, runs in predictions.groupby("method", sort=False):
        risks = []
        for _, run in runs.groupby("seed"):
            calls = calls_of(run.sort_values(FIELD_KEY))
            order, ends = descending(confidences(calls)[0].mean(axis=1))
            errors = (calls.truth != calls.called).any(axis=1)[order].cumsum()[ends]
            risks.append((errors / (ends + 1))[np.searchsorted(ends + 1, coverage * len(run) - 1e-9)])
        tables.append(pd.DataFrame({"method": method, "coverage": coverage, "risk": np.mean(risks, axis=0)}))
    return pd.concat(tables, ignore_index=True)
