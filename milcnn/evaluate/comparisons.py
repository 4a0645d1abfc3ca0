"""Methods against each other, and against what makes a field hard."""

import pandas as pd

from milcnn.columns import FIELD_KEY
from milcnn.evaluate.intervals import mean_with_interval, summarise_draws
from milcnn.evaluate.runs import MAIN_METHOD, SUMMARY
from milcnn.evaluate.scores import score_draws


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


def differences(predictions: pd.DataFrame, first: str = MAIN_METHOD) -> pd.DataFrame:
    """Accuracy of ``first`` minus that of each other method, on the same fields and the same draws.

    The interval is that of the difference, and narrower than those of its two sides suggest where both
    fail on the same fields. Columns: ``first``, ``second``, ``value``, ``low``, ``high``, ``n``, ``seeds``
    (of ``first``). Empty where ``first`` is not among the methods.
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
    """The baseline with the best accuracy on the validation fields, the first of equals; None of none.

    It is chosen before the test fields are looked at: the best of seven on the test fields would be lucky.
    """
    accuracy = validation.groupby("method")["correct"].mean()
    return max(baselines, key=accuracy.get, default=None)


def best_baseline_row(compared: pd.DataFrame, baseline: str | None, study: str, protocol: str) -> pd.DataFrame:
    """The row of the summary of ``differences`` against the ``baseline``; empty where there is none."""
    row = compared[compared["second"] == baseline]
    facts = {"study": study, "method": f"{MAIN_METHOD}-best_baseline", "protocol": protocol, "level": "field"}
    return row.assign(**facts, metric="accuracy_difference")[SUMMARY]
