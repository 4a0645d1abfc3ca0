"""Comparisons: methods with each other, and errors by responding fraction."""

import numpy as np
import pandas as pd

from milcnn.evaluate.intervals import FACTS, clusters, facts_of, mean_with_interval, without_each
from milcnn.evaluate.runs import AS_IT_COMES, CONTROLS, MAIN_METHOD, SUMMARY
from milcnn.evaluate.scores import fields_of, score_rows, seed_scores


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


def differences(predictions: pd.DataFrame, main: str = MAIN_METHOD, metric: str = "accuracy") -> pd.DataFrame:
    """``metric`` of ``main`` minus that of each other method, on the same fields, without the same groups.

    Methods that know the controls of the test plates (``CONTROLS``) are compared among themselves. If the interval
    includes 0, these test fields cannot tell the two methods apart. Seeds are those of ``main``.
    """
    rows = []
    for first, informed in ((main, False), (main + CONTROLS, True)):
        same = predictions[predictions["method"].str.endswith(CONTROLS) == informed]
        own = same[same["method"] == first]
        if own.empty:
            continue
        groups = clusters(fields_of(own))
        counts = without_each(groups.of_field)
        ours = seed_scores(own, metric, counts)
        for second, runs in same[same["method"] != first].groupby("method", sort=False):
            scores = (ours - seed_scores(runs, metric, counts).mean(axis=0)).round(12)
            facts = facts_of(groups, scores.mean(axis=0), scores[:, 0], lowest=-1)
            rows.append({"first": first, "second": second} | facts)
    return pd.DataFrame(rows, columns=["first", "second", *FACTS])


def scores_by_method(predictions: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Each of ``metrics``, a column, of each method, a row; means over seeds."""
    return pd.DataFrame(
        {
            method: {metric: seed_scores(runs, metric, np.ones((1, len(fields_of(runs))))).mean() for metric in metrics}
            for method, runs in predictions.groupby("method", sort=False)
        }
    ).T.reindex(columns=metrics)


def best_of(scores: pd.Series, baselines: list[str]) -> str | None:
    """The baseline with the best of ``scores``, of validation fields; the best of nine on test fields may be luck."""
    return max((name for name in baselines if name in scores), key=scores.get, default=None)


def best_baselines(scores: pd.Series, baselines: list[str]) -> dict[str, str]:
    """``best_of`` each kind that there is, by the end of its name.

    "": those that know nothing of the test plate, however they segment; ``AS_IT_COMES``: of these, those with the
    segmentation as it comes; ``CONTROLS``: those with controls.
    """
    kinds = {"": ("", AS_IT_COMES), AS_IT_COMES: (AS_IT_COMES,), CONTROLS: (CONTROLS,)}
    best = {
        kind: best_of(scores, [name + mark for mark in marks for name in baselines]) for kind, marks in kinds.items()
    }
    return {kind: name for kind, name in best.items() if name}


def best_baseline_rows(
    compared: pd.DataFrame, best: dict[str, str], study: str, protocol: str, metric: str = "accuracy"
) -> pd.DataFrame:
    """The rows of ``differences`` against the ``best_baselines``, as rows of the summary."""
    rows = [
        compared[compared["second"] == name].assign(method=f"{MAIN_METHOD}-best_baseline{kind}")
        for kind, name in best.items()
    ]
    shared = {"study": study, "protocol": protocol, "level": "field", "metric": f"{metric}_difference"}
    return pd.concat(rows or [compared.iloc[:0].assign(method="")]).assign(**shared)[SUMMARY]


def rows_against(
    predictions: pd.DataFrame, metrics: list[str], best: dict[str, str], study: str, protocol: str, prefix: str
) -> pd.DataFrame:
    """Rows of the summary: ``metrics`` of each method, and the difference in the last to the ``best_baselines``.

    The names of the metrics begin with ``prefix``: another test set, or the seeds of a method as one.
    """
    scores = score_rows(predictions, metrics, study, protocol, "field")
    compared = best_baseline_rows(differences(predictions, metric=metrics[-1]), best, study, protocol, metrics[-1])
    rows = pd.concat([part for part in (scores, compared) if len(part)] or [scores])
    return rows.assign(metric=prefix + "_" + rows["metric"])
