"""Figures of the comparison: accuracy, what makes a field hard, and whether confidence can be trusted."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from milcnn.columns import LABEL
from milcnn.evaluate.runs import label_matrix
from milcnn.figures.labels import label

N_COLOURS = 10  # of the style; more lines are dashed
LEVELS = {"field": "o", "well": "s", "treatment": "D"}  # and their markers


def error_curves(table: pd.DataFrame, chance: float) -> Figure:
    """Test error against the fraction of positive instances, with 95 % intervals; see ``evaluate``."""
    fig, ax = plt.subplots(figsize=(5.2, 2.9))
    n_methods = max(1, table["method"].nunique())
    for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
        x = rows["fraction"] * 1.08 ** (number / n_methods)  # side by side, so that intervals stay legible
        spread = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        style = "-" if number < N_COLOURS else "--"
        ax.errorbar(x, rows["value"], spread, marker="o", ls=style, capsize=2, elinewidth=0.8, label=label(method))
    ax.set(xlabel="fraction of objects that carry the label (log scale)", ylabel="test error")
    if table.empty:
        ax.set_title("the fraction is not known in this study")
        return fig
    levels = sorted(table["fraction"].unique())
    ax.set_xscale("log")
    ax.set_xticks(levels, [f"{level:.2g}" for level in levels], rotation=45)
    ax.minorticks_off()
    ax.set_ylim(-0.02, min(1, 1.15 * table["high"].max() + 0.05))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside right center", title=f"chance: {chance:.2f}")
    return fig


def confusion(predictions: pd.DataFrame, classes: list[str]) -> Figure:
    """Confusion matrix of each method: the share of fields of a class (row) that are called each class.

    A field with several labels counts in the row of each.
    """
    methods = list(predictions["method"].unique())
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(1.75 * columns + 0.4, 1.9 * rows), squeeze=False)
    for ax in axes.flat[len(methods) :]:
        ax.set_axis_off()
    for ax, method in zip(axes.flat, methods, strict=False):
        members = predictions[predictions["method"] == method]
        true, called = (label_matrix(members[column], classes) for column in (LABEL, "predicted"))
        matrix = (true.T @ called) / true.sum(axis=0)[:, None].clip(1)
        sns.heatmap(matrix, vmin=0, vmax=1, cmap="Blues", square=True, cbar=False, ax=ax)
        ticks = np.arange(len(classes)) + 0.5
        ax.set(title=label(method), xlabel="predicted", xticks=ticks, yticks=ticks)
        ax.set_xticklabels(classes, rotation=0)
        ax.set_yticklabels(classes, rotation=0)
    axes[0, 0].set_ylabel("true")
    return fig


def levels(scores: pd.DataFrame) -> Figure:
    """Accuracy of each method by field, well and treatment, with 95 % intervals; ``scores`` has summary rows."""
    rows = scores[scores["metric"] == "accuracy"]
    order = list(rows[rows["level"] == "field"].sort_values("value")["method"])
    fig, ax = plt.subplots(figsize=(4.8, 0.34 * len(order) + 0.9))
    for offset, (level, marker) in zip((0.22, 0, -0.22), LEVELS.items(), strict=True):
        members = rows[rows["level"] == level].set_index("method").reindex(order)
        spread = [members["value"] - members["low"], members["high"] - members["value"]]
        if members["value"].notna().any():
            place = np.arange(len(order)) + offset
            ax.errorbar(members["value"], place, xerr=spread, fmt=marker, ms=3.5, elinewidth=0.8, label=level)
    ax.set_yticks(range(len(order)), [label(method) for method in order])
    ax.set(xlabel="test accuracy (95 % interval)", xlim=(None, 1.01))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def confidence(reliability: pd.DataFrame, risk_coverage: pd.DataFrame) -> Figure:
    """Left: how often calls are right against how sure they are; right: the error among the surest fields.

    One line a method, from ``evaluate.reliability`` and ``evaluate.risk_coverage``. The area of a point is its
    share of the calls; on the dashed line confidence is what it says.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.9, 2.7))
    left.plot([0, 1], [0, 1], "--", color="0.6", lw=0.8)
    for method, rows in reliability.groupby("method", sort=False):
        (line,) = left.plot(rows["confidence"], rows["right"], label=label(method), lw=1)
        left.scatter(rows["confidence"], rows["right"], s=60 * rows["n"] / rows["n"].sum() + 4, color=line.get_color())
    for _, rows in risk_coverage.groupby("method", sort=False):
        right.plot(rows["coverage"], rows["risk"], lw=1)
    left.set(xlabel="confidence of a call", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    right.set(xlabel="share of fields kept, surest first", ylabel="error among them", xlim=(0, 1), ylim=(0, None))
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
