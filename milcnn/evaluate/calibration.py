"""Calibration: are predictions with 90 % confidence right nine times out of ten?"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

from milcnn.columns import FIELD_KEY
from milcnn.evaluate.scores import Calls, bin_of, calls_of, confidences, kept_and_wrong, one_label, score_rows

LEAST = 1e-7  # the logarithm of 0 is not finite; a vote can give a probability of 0


def scaled(y: np.ndarray, temperature: float, several: bool) -> np.ndarray:
    """``y`` (n, C) at ``temperature`` T: softmax(log(y) / T), or σ(logit(y) / T) of ``several`` labels.

    Guo 2017, section 4.2 (arXiv 1706.04599): T > 1 lowers the confidence; the largest class stays the largest.
    """
    y = y.clip(LEAST, 1 - LEAST)
    return expit(logit(y) / temperature) if several else softmax(np.log(y) / temperature, axis=1)


def at_temperature(predictions: pd.DataFrame, known: float) -> pd.DataFrame:
    """``predictions`` with their ``y_<class>`` at the temperature ``known``."""
    y = predictions.filter(regex="^y_")
    values = y.to_numpy(float)
    return predictions.assign(**dict(zip(y, scaled(values, known, not one_label(values)).T, strict=True)))


def temperature(calls: Calls) -> float:
    """The temperature, 0.05 to 20, at which the log-likelihood of the true classes is highest; NaN in y is left out."""
    truth, single, clipped = calls.truth, one_label(calls.y), calls.y.clip(LEAST, 1 - LEAST)
    logits = np.log(clipped) if single else logit(clipped)
    if not single:
        known = ~np.isnan(logits)
        truth, logits = truth[known], logits[known]

    def loss(log_t: float) -> float:
        z = logits / np.exp(log_t)
        return float((-truth * log_softmax(z, axis=1) if single else np.logaddexp(0, z) - truth * z).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def temperature_of(validation: pd.DataFrame) -> float:
    """The temperature that fits the fields of ``validation``; 1 without fields.

    It is fitted as if of two more fields one were right and one wrong (Platt 1999, section 2.2): a label that is known
    of n fields has the probability (n + 1) / (n + 2), and the other classes share the rest. Else n fields that are all
    right would make the network as sure as can be (``benchmarks/temperature.py``).
    """
    if validation.empty:
        return 1.0
    calls = calls_of(validation)
    missed = 1 / ((~np.isnan(calls.y)).sum(axis=0) + 2)
    others = len(missed) - 1 if one_label(calls.y) else 1
    truth = (1 - missed) * calls.truth + missed / others * (1 - calls.truth)
    return temperature(calls._replace(truth=truth))


def temperatures(validation: pd.DataFrame) -> pd.DataFrame:
    """The temperature of each run, fitted on its ``validation`` fields: ``method``, ``seed``, ``temperature``."""
    runs = validation.groupby(["method", "seed"], sort=False)
    rows = [(method, seed, temperature_of(run)) for (method, seed), run in runs]
    return pd.DataFrame(rows, columns=["method", "seed", "temperature"])


def calibration_rows(
    predictions: pd.DataFrame, validation: pd.DataFrame, study: str, protocol: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the summary: ``ece``, and ``ece_scaled`` at the ``temperatures`` of ``validation``; and these."""
    fitted = temperatures(validation)
    by_run = fitted.set_index(["method", "seed"])["temperature"]
    runs = [at_temperature(run, by_run[key]) for key, run in predictions.groupby(["method", "seed"], sort=False)]
    plain, after = (score_rows(table, ["ece"], study, protocol, "field") for table in (predictions, pd.concat(runs)))
    return pd.concat([plain, after.assign(metric="ece_scaled")], ignore_index=True), fitted


def reliability(predictions: pd.DataFrame) -> pd.DataFrame:
    """For each method and ``bin`` (0 to 9): mean ``confidence``, share ``right`` and number ``n`` of predictions."""
    tables = []
    for method, runs in predictions.groupby("method", sort=False):
        confidence, right = (values.ravel() for values in confidences(calls_of(runs)))
        known = ~np.isnan(confidence)  # of classes that are known
        confidence, right = confidence[known], right[known]
        table = pd.DataFrame({"bin": bin_of(confidence), "confidence": confidence, "right": right})
        bins = table.groupby("bin").agg(confidence=("confidence", "mean"), right=("right", "mean"), n=("right", "size"))
        tables.append(bins.reset_index().assign(method=method))
    return pd.concat(tables, ignore_index=True)[["method", "bin", "confidence", "right", "n"]]


def risk_coverage(predictions: pd.DataFrame, points: int = 20) -> pd.DataFrame:
    """For each method, ``risk``, mean over seeds: the error among the most confident share ``coverage`` of fields."""
    coverage = np.arange(1, points + 1) / points
    tables = []
    for method, runs in predictions.groupby("method", sort=False):
        risks = []
        for _, run in runs.groupby("seed"):
            calls = calls_of(run.sort_values(FIELD_KEY))
            kept, wrong = (sums[0] for sums in kept_and_wrong(calls, np.ones((1, len(run)))))
            risks.append((wrong / kept)[np.searchsorted(kept, coverage * len(run) - 1e-9)])
        tables.append(pd.DataFrame({"method": method, "coverage": coverage, "risk": np.mean(risks, axis=0)}))
    return pd.concat(tables, ignore_index=True)
