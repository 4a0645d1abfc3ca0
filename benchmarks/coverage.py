"""How often 95 % intervals hold the truth, by number of groups: those of ``evaluate.intervals`` and the former ones.

    python benchmarks/coverage.py [--samples 1000]

A sample has groups of 2 to 20 fields. A field has a standard normal value; the share ``icc`` of its variance is common
to its group. Whether a field is right, and the score by which fields are ranked, follow from it, so the true scores are
known. ``difference`` compares two methods that share half of the variance. ``auc_one_class`` has fields of one class
in each group, the others mix two classes. The former intervals are percentiles of a bootstrap over groups, if there
are ten, else over fields. ``covered`` is the share of samples whose interval holds the truth, ``width`` its mean width;
``no_interval`` is the share of samples whose score rests on one group. Writes ``benchmarks/results/coverage.json``.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.stats import norm

from milcnn.evaluate.intervals import jackknife_interval, without_each
from milcnn.evaluate.scores import Calls, accuracy, ece, mean_average_precision, roc_auc
from milcnn.files import write_json

RESULTS = Path(__file__).parent / "results" / "coverage.json"
GROUPS, ICC = (3, 6, 9, 20), (0.0, 0.1, 0.5)
SHIFT = np.sqrt(2) * norm.ppf(0.9)  # of the scores of one class: an AUC of 0.9
GAP = 0.08  # confidence minus share of right calls
DRAWS = 200  # of the former bootstrap
ACCURACIES = (0.7, 0.9, 0.98)
RANKINGS = {"auc": roc_auc, "auc_one_class": roc_auc, "mean_average_precision": mean_average_precision}
SCORES = [*(f"accuracy_{p}" for p in ACCURACIES), "difference", *RANKINGS, "ece"]


def values_of(groups: np.ndarray, icc: float, rng: np.random.Generator) -> np.ndarray:
    """A standard normal value for each field (n,); ``icc`` of its variance is common to a group."""
    common = rng.standard_normal(groups.max() + 1)[groups]
    return np.sqrt(icc) * common + np.sqrt(1 - icc) * rng.standard_normal(len(groups))


def calls(truth: np.ndarray, y: np.ndarray) -> Calls:
    """Fields of class ``truth`` (n,), 0 or 1, and their ``y`` (n,) of class 1."""
    return Calls(np.eye(2)[truth], np.eye(2)[(y > 0.5).astype(int)], np.stack([1 - y, y], axis=1))


def true_score(name: str) -> float:
    if name.startswith("accuracy_"):
        return float(name.removeprefix("accuracy_"))
    if name == "mean_average_precision":  # ∫ precision d recall; the two classes mirror each other
        return float(quad(lambda recall: recall / (recall + norm.sf(SHIFT + norm.isf(recall))), 0, 1)[0])
    return {"difference": 0.9 - 0.85, "ece": GAP}.get(name, 0.9)


def sampled(name: str, groups: np.ndarray, icc: float, rng: np.random.Generator) -> list[Calls]:
    """The calls of one method for one sample, or of two methods to subtract."""
    always = np.ones(len(groups), int)
    values = values_of(groups, icc, rng)
    if name == "difference":
        own = [(values + values_of(groups, icc, rng)) / np.sqrt(2) for _ in range(2)]
        return [calls(always, (value < norm.ppf(p)).astype(float)) for value, p in zip(own, (0.9, 0.85), strict=True)]
    if name == "ece":
        confidence = rng.uniform(0.55, 1, len(groups))
        right = norm.cdf(values) < confidence - GAP
        return [calls(always, np.where(right, confidence, 1 - confidence))]
    if name in RANKINGS:
        classes = groups % 2 if name == "auc_one_class" else rng.integers(0, 2, len(groups))
        return [calls(classes, norm.cdf(values + SHIFT * (classes - 0.5)))]
    return [calls(always, (values < norm.ppf(true_score(name))).astype(float))]


def scores_of(name: str, methods: list[Calls], counts: np.ndarray) -> np.ndarray:
    metric = RANKINGS.get(name, ece if name == "ece" else accuracy)
    first, *second = (metric(method, counts) for method in methods)
    return first - second[0] if second else first


def former_interval(name: str, methods: list[Calls], groups: np.ndarray) -> tuple[float, float]:
    """Percentiles of a bootstrap over groups, if there are ten, else over fields."""
    groups = groups if groups.max() + 1 >= 10 else np.arange(len(groups))
    n = groups.max() + 1
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), DRAWS)
    low, high = np.nanquantile(scores_of(name, methods, counts[:, groups].astype(float)), [0.025, 0.975])
    return float(low), float(high)


def coverage(name: str, n_groups: int, icc: float, samples: int) -> dict[str, object]:
    """One row of the table."""
    rng, truth, limits = np.random.default_rng([n_groups, round(100 * icc)]), true_score(name), []
    for _ in range(samples):
        groups = np.repeat(np.arange(n_groups), rng.integers(2, 21, n_groups))
        methods = sampled(name, groups, icc, rng)
        scores = scores_of(name, methods, without_each(groups))
        now = jackknife_interval(scores, groups, lowest=-1 if name == "difference" else 0)
        limits.append([*now, *former_interval(name, methods, groups)])
    table = np.array(limits)
    row: dict[str, object] = {"score": name, "groups": n_groups, "icc": icc}
    for which, (low, high) in {"": table[:, :2].T, "former_": table[:, 2:].T}.items():
        known = ~np.isnan(low)
        held = (low <= truth + 1e-9) & (truth - 1e-9 <= high)
        share, width = (np.mean(held[known]), np.mean((high - low)[known])) if known.any() else (np.nan, np.nan)
        row |= {f"{which}covered": round(float(share), 3), f"{which}width": round(float(width), 3)}
    return row | {"no_interval": round(float(np.isnan(table[:, 0]).mean()), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    samples = parser.parse_args().samples
    rows = []
    for name in SCORES:
        for n_groups in GROUPS:
            rows += [coverage(name, n_groups, icc, samples) for icc in ICC]
            print(pd.DataFrame(rows[-len(ICC) :]).to_string(index=False, header=len(rows) == len(ICC)), flush=True)
    lowest = pd.DataFrame(rows)["covered"].min()
    print(f"lowest coverage: {lowest:.3f}")
    write_json({"samples": samples, "lowest": lowest, "rows": rows}, RESULTS)


if __name__ == "__main__":
    main()
