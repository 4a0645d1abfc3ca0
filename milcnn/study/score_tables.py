"""The numbers of summary.csv as tables and sentences, for the report and for docs/results.md."""

import numpy as np
import pandas as pd

from milcnn.evaluate.runs import MAIN_METHOD, SUMMARY
from milcnn.figures.labels import label

Metric = tuple[str, str]  # metric and level of a row of the summary
# a reader's question, and the metrics that answer it, with their titles: the tables of a study
TABLES: dict[str, dict[Metric, str]] = {
    "Which class?": {
        ("accuracy", "field"): "Field accuracy",
        ("balanced_accuracy", "field"): "… balanced",
        ("together_accuracy", "field"): "… seeds as one",
        ("fresh_accuracy", "field"): "… fresh test set",
        ("accuracy", "well"): "Well accuracy",
        ("accuracy", "treatment"): "Treatment accuracy",
        ("mean_average_precision", "field"): "Field mAP",
        ("roc_auc", "field"): "Field AUC",
        ("together_roc_auc", "field"): "Field AUC, seeds as one",
    },
    "Is it better than the baseline that was best on validation?": {
        ("accuracy_difference", "field"): "Accuracy difference",
        ("together_accuracy_difference", "field"): "… seeds as one",
        ("fresh_accuracy_difference", "field"): "… on a fresh test set",
        ("fresh_together_accuracy_difference", "field"): "… there, seeds as one",
        ("mean_average_precision_difference", "field"): "mAP difference",
        ("together_mean_average_precision_difference", "field"): "… seeds as one",
        ("fresh_mean_average_precision_difference", "field"): "… on a fresh test set",
    },
    "Which cells?": {
        ("average_precision", "pixel"): "Pixel average precision",
        ("iou_foreground", "pixel"): "Foreground IoU",
        ("f1_at_0.5", "object"): "Object F1 at IoU 0.5",
        ("count_error", "object"): "Count error",
        ("cell_average_precision", "cell"): "Cell average precision",
    },
    "How many cells, at which dose?": {
        ("responding_fraction_r", "field"): "Correlation with the true responding fraction",
        ("responding_fraction_error", "field"): "Mean absolute error of the fraction",
        ("ec50_within_2x", "compound"): "EC50 within a factor of 2",
        ("ec50_within_2x_test_plates", "compound"): "… from the test plates alone",
        ("ec50_within_2x_picked", "compound"): "… with the phenotype that the network picks",
        ("ec50_interval_coverage", "compound"): "95 % intervals of EC50 that hold the true one",
    },
}
# the question of a study, where it is not that of all
ASKED = {
    **dict.fromkeys(
        ("digits", "demo"),
        "A field shows handwritten digits, most of them zeros. Can the label of the field, its most frequent "
        "other digit, teach a network to name it, and to find the digits that carry it?",
    ),
    "simulated": "Drawn plates, whose truth is known: can labels of wells teach a network which phenotype a field "
    "shows, which of its cells respond, and how many at each dose?",
}
ASKED_OF_ALL = "Can labels of whole fields teach a network which class a field shows, and which of its cells show it?"
# what a reader learns before the tables, of the main method: a sentence for each score that was measured
ANSWERS: dict[Metric, str] = {
    ("accuracy", "field"): "{method} is right in {value} of the test fields; the highest of all methods is {best}.",
    ("accuracy", "treatment"): "It is right for {value} of the treatments.",
    ("cell_average_precision", "cell"): "Its maps rank the true cells with an average precision of {value}; "
    "a random map has {random:.3f}.",
    ("responding_fraction_r", "field"): "Its estimate of the responding fraction has a correlation of {value} with it.",
}
CERTAINTY: dict[Metric, str] = {
    ("accuracy_difference", "field"): "Its accuracy minus that of the baseline that was best on validation is {value}: "
    "{verdict}.",
    ("fresh_accuracy_difference", "field"): "On a second test set, drawn after all else was fixed, it is {value}: "
    "{verdict}.",
}
NOTES = {
    "demo": "A first look: few small fields, one seed, and one baseline, whose segmentation is not tuned. "
    "Do not quote these numbers.",
    "digits": "The test fields are drawn from five groups of glyphs that share none, about nine of each digit a group. "
    "So intervals are over groups, for other glyphs of the same collection.",
    "yeast-sample": "The test fields are cut from eight images, four of each of two proteins, in four pairs. "
    "So intervals are over pairs, for other images of these proteins; nothing is known of other proteins.",
    **dict.fromkeys(
        ("composite", "composite-shape"),
        "All cells of the test fields are cut from 13 images of one plate: nothing is known of other plates. "
        "The rotation has each of the three plates as the test once. Controls that serve as references and controls "
        "that are scored are different fields, but show some of the same cells.",
    ),
    **dict.fromkeys(
        ("composite-rotation", "composite-shape-rotation"),
        "Three studies together, which test one plate each and train on the two others. Their networks had half "
        "of the steps of those of `composite` and `composite-shape`.",
    ),
    "micronuclei-rotation": "Five turns together: each source image is the test once, so images of one acquisition are "
    "on both sides.",
    "bbbc016-rotation": "Five turns together: each well is the test once. One plate: nothing is known of others.",
    "bbbc021-sample": "This study shows that real 16-bit plates pass through every stage. It is no benchmark: the two "
    "classes differ in the number of cells and in how much of a field is black, so any method separates them.",
}


def with_interval(row: pd.Series) -> str:
    """``value (low–high)``; the value alone where it has no interval, a dash where it is not defined."""
    if np.isnan(row["value"]):
        return "–"
    limits = "" if np.isnan(row["low"]) else f" ({row['low']:.3f}–{row['high']:.3f})"
    return f"{row['value']:.3f}{limits}"


def interval_note(summary: pd.DataFrame, study: str) -> str:
    """What the intervals in the tables of ``study`` are over: "Intervals are over 3 plates."; '' if not known."""
    shown = pd.MultiIndex.from_tuples([key for metrics in TABLES.values() for key in metrics])
    rows = summary[pd.MultiIndex.from_frame(summary[["metric", "level"]]).isin(shown) & (summary["study"] == study)]
    rows = rows.reindex(columns=SUMMARY).dropna(subset=["groups", "unit"])
    parts = []
    for unit, groups in rows.groupby("unit", sort=False)["groups"]:
        first, *rest = unit.split(" ", 1)
        number = " to ".join(f"{n:.0f}" for n in sorted({groups.min(), groups.max()}))
        parts.append(" ".join([number, first + "s" * (number != "1"), *rest]))
    return f"Intervals are over {', '.join(parts)}." if parts else ""


def scores_tables(summary: pd.DataFrame, study: str) -> dict[str, pd.DataFrame]:
    """The tables of ``TABLES`` that ``study`` has a row for; see ``scores_table``."""
    rows = summary[summary["study"] == study]
    tables = {title: scores_table(rows, metrics) for title, metrics in TABLES.items()}
    return {title: table for title, table in tables.items() if len(table)}


def scores_table(rows: pd.DataFrame, metrics: dict[Metric, str]) -> pd.DataFrame:
    """One row a method, one column a measured metric, ``value (low–high)``; sorted by the first metric."""
    columns, order = {}, []
    for (metric, level), title in metrics.items():
        chosen = rows[(rows["metric"] == metric) & (rows["level"] == level)]
        # scores of a second protocol are in summary.csv alone
        chosen = chosen.sort_values("protocol").drop_duplicates("method").sort_values("value", ascending=False)
        if len(chosen):
            columns[title] = pd.Series(
                chosen.apply(with_interval, axis=1).to_numpy(), chosen["method"].map(label), dtype=str
            )
            order += [name for name in columns[title].index if name not in order]
    return pd.DataFrame(columns, index=order).rename_axis("Method").fillna("–").reset_index()


def checks_table(checks: pd.DataFrame) -> pd.DataFrame:
    """One row a pooling, one column a MIL unit test: passes or fails, the score, ``(!)`` where it was not expected."""
    verdict = np.where(checks["passes"], "passes", "fails")
    surprise = np.where(checks["passes"] == checks["expected"], "", " (!)")
    cells = checks.assign(cell=verdict + checks["score"].map(" {:.2f}".format) + surprise)
    table = cells.pivot(index=["pooling", "why"], columns="check", values="cell").reset_index("why")
    table = table.loc[checks["pooling"].unique()].reset_index().rename_axis(columns=None)
    table["pooling"] = table["pooling"].map(label)
    return table[[*table.columns.drop("why"), "why"]]


def sentences(summary: pd.DataFrame, study: str, of: dict[Metric, str]) -> list[str]:
    """The sentences ``of`` the scores of ``study``; of the main method, or without it of the best one."""
    found = []
    for (metric, level), sentence in of.items():
        rows = summary[(summary["study"] == study) & (summary["metric"] == metric) & (summary["level"] == level)]
        rows = rows.sort_values(["protocol", "method"]).drop_duplicates("method").dropna(subset="value")
        if rows.empty:
            continue
        rows = rows.set_index("method")
        best, random = rows["value"].idxmax(), rows["value"].get("random_map", np.nan)
        method = next((name for name in (MAIN_METHOD, f"{MAIN_METHOD}-best_baseline") if name in rows.index), best)
        values = {"value": with_interval(rows.loc[method]), "verdict": verdict(rows.loc[method]), "random": random}
        best_value = f"{label(best)}, {rows['value'].max():.3f}"
        found.append(sentence.format(method=label(method), best=best_value, **values))
    return found


def verdict(row: pd.Series) -> str:
    """What the interval of a difference says."""
    if np.isnan(row["low"]):
        return "of one group alone, so nothing is known of others"
    if row["low"] <= 0 <= row["high"]:
        return "the interval includes 0, so these test fields cannot tell the two apart"
    return f"it is {'better' if row['low'] > 0 else 'worse'}"
