"""Comparisons: methods with each other, and errors by responding fraction."""

import pandas as pd

from milcnn.columns import FIELD_KEY
from milcnn.evaluate.intervals import mean_with_interval, summarise_draws
from milcnn.evaluate.runs import MAIN_METHOD, SUMMARY
from milcnn.evaluate.scores import score_draws


def bin_means(values: pd.Series, bins: int) -> pd.Series:
    """Each of ``values`` replaced by the mean of its quantile bin, to 3 digits."""
    return values.groupby(pd.qcut(values, bins, duplicates="drop"), observed=True).transform("mean").round(3)


def error_by_fraction(predictions: pd.DataFrame, levels: int = 6) -> pd.DataFrame:
    """Test error of each method against ``fraction``, the share of objects with the label, in ``levels`` bins."""
    if "fraction" not in predictions:  # not known: no rows
        predictions = predictions.iloc[:0].assign(fraction=[])
    fraction = predictions["fraction"]
    if fraction.nunique() > levels:
        fraction = bin_means(fraction, levels)
    table = predictions.assign(fraction=fraction).sort_values("fraction", kind="stable")
    return mean_with_interval(table, ["method", "fraction"], "error")


def differences(predictions: pd.DataFrame, first: str = MAIN_METHOD) -> pd.DataFrame:
    """Accuracy of ``first`` minus that of each other method, on the same fields and resamples.

    If the interval includes 0, these test fields cannot tell the two methods apart. ``seeds`` are those of ``first``.
    """
    draws = {method: score_draws(runs, "accuracy") for method, runs in predictions.groupby("method", sort=False)}
    own = predictions[predictions["method"] == first]
    facts = {"first": first, "n": len(own.drop_duplicates(FIELD_KEY)), "seeds": own["seed"].nunique()}
    rows = [
        facts | {"second": second} | summarise_draws((draws[first] - draws[second]).round(12))
        for second in draws
        if first in draws and second != first
    ]
    return pd.DataFrame(rows, columns=["first", "second", "value", "low", "high", "n", "seeds"])


def best_on_validation(validation: pd.DataFrame, baselines: list[str]) -> str | None:
    """The baseline with the best accuracy on the validation fields; the best of seven on test fields may be luck."""
    accuracy = validation.groupby("method")["correct"].mean()
    return max(baselines, key=accuracy.get, default=None)


def best_baseline_row(compared: pd.DataFrame, baseline: str | None, study: str, protocol: str) -> pd.DataFrame:
    """The row of ``differences`` against ``baseline``, as a row of the summary; empty without a baseline."""
    row = compared[compared["second"] == baseline].assign(study=study, protocol=protocol, level="field")
    return row.assign(method=f"{MAIN_METHOD}-best_baseline", metric="accuracy_difference")[SUMMARY]
