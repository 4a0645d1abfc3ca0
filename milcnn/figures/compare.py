"""Figures of the comparison: accuracy, which fields are hard, and whether the confidence is right."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from milcnn.columns import LABEL
from milcnn.evaluate.runs import label_matrix
from milcnn.figures.labels import label
from milcnn.figures.style import N_COLOURS, error_bars, panels

LEVEL_MARKERS = {"field": "o", "well": "s", "treatment": "D"}


def error_curves(table: pd.DataFrame, chance: float) -> plt.Figure:
    """Test error against the fraction of positive objects, with 95 % intervals. ``table`` is ``error_by_fraction``."""
    fig, ax = plt.subplots(figsize=(5.2, 2.9))
    n_methods = max(1, table["method"].nunique())
    for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
        x = rows["fraction"] * 1.08 ** (number / n_methods)  # a small shift, to see each interval
        line, bars = "o-" if number < N_COLOURS else "o--", error_bars(rows)
        ax.errorbar(x, rows["value"], bars, fmt=line, capsize=2, elinewidth=0.8, label=label(method))
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
        ax.set_xticks(range(len(classes)), classes)
        ax.set_yticks(range(len(classes)), classes)
        ax.spines[:].set_visible(False)
        ax.set_axis_on()
    axes[0, 0].set_ylabel("true")
    return fig


def levels(scores: pd.DataFrame) -> plt.Figure:
    """Accuracy of each method per field, well and treatment, with 95 % intervals. ``scores`` has summary rows."""
    rows = scores[scores["metric"] == "accuracy"]
    order = list(rows[rows["level"] == "field"].sort_values("value")["method"])
    fig, ax = plt.subplots(figsize=(4.8, 0.34 * len(order) + 0.9))
    for offset, (level, marker) in zip((0.22, 0, -0.22), LEVEL_MARKERS.items(), strict=True):
        of_level = rows[rows["level"] == level].set_index("method").reindex(order)
        if of_level["value"].notna().any():
            y, bars = np.arange(len(order)) + offset, error_bars(of_level)
            ax.errorbar(of_level["value"], y, xerr=bars, fmt=marker, ms=3.5, elinewidth=0.8, label=level)
    ax.set_yticks(range(len(order)), [label(method) for method in order])
    ax.set(xlabel="test accuracy (95 % interval)", xlim=(None, 1.01))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def confidence(reliability: pd.DataFrame, risk_coverage: pd.DataFrame) -> plt.Figure:
    """Left: share of correct predictions against their confidence. Right: error among the most confident fields.

    One line per method, from ``calibration.reliability`` and ``calibration.risk_coverage``. The area of a point
    grows with its share of the predictions. On the dashed line the confidence is right.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.9, 2.7))
    left.plot([0, 1], [0, 1], "--", color="0.6", lw=0.8)
    for method, rows in reliability.groupby("method", sort=False):
        (line,) = left.plot(rows["confidence"], rows["right"], label=label(method), lw=1)
        left.scatter(rows["confidence"], rows["right"], s=60 * rows["n"] / rows["n"].sum() + 4, color=line.get_color())
    for _, rows in risk_coverage.groupby("method", sort=False):
        right.plot(rows["coverage"], rows["risk"], lw=1)
    left.set(xlabel="confidence", ylabel="share of correct predictions", xlim=(0, 1.02), ylim=(0, 1.02))
    right.set(xlabel="share of fields, most confident first", ylabel="error", xlim=(0, 1), ylim=(0, None))
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
