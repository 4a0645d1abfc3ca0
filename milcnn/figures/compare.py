"""Figures of the comparison: accuracy, which fields are hard, and whether the confidence is right."""

import matplotlib.pyplot as plt
import pandas as pd

from milcnn.columns import LABEL
from milcnn.evaluate.runs import label_matrix
from milcnn.figures.labels import METHOD_COLOURS, label, look, parts_of_name
from milcnn.figures.style import error_bars, panels

LEVEL_PANELS = {  # the panels of ``levels``: metric and level of a row of the summary, title
    ("accuracy", "field"): "accuracy\nof fields",
    ("accuracy", "well"): "accuracy\nof wells",
    ("accuracy", "treatment"): "accuracy\nof treatments",
    ("cell_average_precision", "cell"): "average precision\nof the true cells",
    ("responding_fraction_r", "field"): "r of the responding\nfraction",
}
PANEL_RANGE = 0.45  # of a panel of ``levels``, from the best method down


def error_curves(table: pd.DataFrame, chance: float) -> plt.Figure:
    """Test error against the fraction of positive objects; ``table`` is ``error_by_fraction``.

    Methods that have a colour, see ``look``, have their 95 % intervals.
    """
    fig, ax = plt.subplots(figsize=(5.2, 2.9))
    n_methods = max(1, table["method"].nunique())
    for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
        x = rows["fraction"] * 1.08 ** (number / n_methods)  # a small shift, to see each interval
        bars = error_bars(rows) if method in METHOD_COLOURS else None  # grey is the background
        ax.errorbar(x, rows["value"], bars, capsize=2, elinewidth=0.8, label=label(method), **look(method))
    ax.set(xlabel="fraction of positive objects (log scale)", ylabel="test error")
    if table.empty:
        ax.set_title("this study has no known fraction")
        return fig
    levels = sorted(table["fraction"].unique())
    ax.set_xscale("log")
    ax.set_xticks(levels, [f"{level:.2g}" for level in levels], rotation=45)
    ax.minorticks_off()
    ax.set_ylim(-0.02, min(1, 1.15 * table[["value", "high"]].max().max() + 0.05))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside right center", title=f"chance level: {chance:.2f}")
    return fig


def confusion(predictions: pd.DataFrame, classes: list[str]) -> plt.Figure:
    """Confusion matrix of each method: the share of the fields of a true class (row) predicted as each class.

    A field with several labels counts in the row of each.
    """
    methods = predictions["method"].unique()
    columns = min(4, len(methods))
    fig, axes = panels(len(methods), columns, 1.75 * columns + 0.4, 1.9)
    for ax, method in zip(axes.flat, methods, strict=False):
        rows = predictions[predictions["method"] == method]
        true, predicted = (label_matrix(rows[column], classes) for column in (LABEL, "predicted"))
        matrix = (true.T @ predicted) / true.sum(axis=0)[:, None].clip(1)
        ax.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
        ax.set(title=label(method), xlabel="predicted")
        ax.set_xticks(range(len(classes)), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
        ax.set_yticks(range(len(classes)), classes)
        ax.spines[:].set_visible(False)
        ax.set_axis_on()
    axes[0, 0].set_ylabel("true")
    return fig


def levels(scores: pd.DataFrame) -> plt.Figure:
    """All methods with 95 % intervals: a panel for each score of ``LEVEL_PANELS`` that ``scores``, summary rows, has.

    Methods are sorted by the first score. A hollow marker below a filled one: with controls, or as it comes.
    """
    rows = scores.drop_duplicates(["method", "metric", "level"])
    rows = rows.assign(own=rows["method"].map(lambda name: name.removesuffix(parts_of_name(name)[2])))
    by_score = dict(list(rows.groupby(["metric", "level"])))
    shown = {title: by_score[key].sort_values("value") for key, title in LEVEL_PANELS.items() if key in by_score}
    order = list(pd.concat(reversed(shown.values()))["own"].drop_duplicates(keep="last"))
    fig, axes = panels(len(shown), len(shown), 1.7 + 1.75 * len(shown), 0.17 * len(order) + 0.7, sharey=True)
    for ax, (title, of_score) in zip(axes.flat, shown.items(), strict=True):
        level_panel(ax, of_score, order)
        ax.set_title(title, fontsize=7)
    axes[0, 0].set(ylim=(-0.6, len(order) - 0.4))
    axes[0, 0].set_yticks(range(len(order)), [label(method) for method in order])
    fig.supxlabel("value and 95 % interval", fontsize=8)
    return fig


def level_panel(ax: plt.Axes, rows: pd.DataFrame, order: list[str]) -> None:
    """One panel of ``levels``. A method far below the best is a number at the left edge: the others need the room."""
    least = rows["value"].max() - PANEL_RANGE
    ax.set_axis_on()
    ax.grid(axis="y", color="0.92", lw=0.6)
    ax.set_axisbelow(True)
    for method, row in rows.set_index("method").iterrows():
        y = order.index(row["own"]) - 0.3 * (method != row["own"])
        if row["value"] < least:
            edge = ax.get_yaxis_transform()
            ax.text(0.02, y, f"◂ {row['value']:.2f}", transform=edge, va="center", fontsize=5, color="0.3")
        else:
            bar = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            ax.errorbar(row["value"], y, xerr=bar, ms=3.5, elinewidth=0.8, **look(method))
    if rows["value"].min() < least:
        ax.set_xlim(left=least)


def confidence(reliability: pd.DataFrame, risk_coverage: pd.DataFrame) -> plt.Figure:
    """Left: share of correct predictions against their confidence. Right: error among the most confident fields.

    One line per method, from ``calibration.reliability`` and ``calibration.risk_coverage``. The area of a point
    grows with its share of the predictions. On the dashed line the confidence is right.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.9, 2.7))
    left.plot([0, 1], [0, 1], "--", color="0.6", lw=0.8)
    for method, rows in reliability.groupby("method", sort=False):
        colour = look(method)["color"]
        left.plot(rows["confidence"], rows["right"], label=label(method), lw=1, color=colour)
        left.scatter(rows["confidence"], rows["right"], s=60 * rows["n"] / rows["n"].sum() + 4, color=colour)
    for method, rows in risk_coverage.groupby("method", sort=False):
        right.plot(rows["coverage"], rows["risk"], lw=1, color=look(method)["color"])
    left.set(xlabel="confidence", ylabel="share of correct predictions", xlim=(0, 1.02), ylim=(0, 1.02))
    right.set(xlabel="share of fields, most confident first", ylabel="error", xlim=(0, 1), ylim=(0, None))
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
