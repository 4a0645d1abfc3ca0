"""Figures: a tidy table or an array in, a Figure out; nothing here reads or writes a data file."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milcnn import pooling
from milcnn.evaluate import label_matrix
from milcnn.figures.gallery import cell_sheet, class_map_sheet, composite, display_range, ranked_sheet
from milcnn.paths import ROOT
from milcnn.quality import of_channels
from milcnn.screens.screen import LABEL, PLATE

OVERLAY = "#FFC20A"  # contour of what the network points at
N_COLOURS = 7  # the paper's functions are solid lines, the later ones dashed
TRUTH = "#0C7BDC"  # contour of what is true
LABELS = {
    "noisy_and": "Noisy-AND",
    "noisy_or": "Noisy-OR",
    "isr": "ISR",
    "generalized_mean": "generalised mean",
    "log_sum_exp": "log-sum-exp",
    "max": "max",
    "mean": "mean",
    "top_k": "top-k mean",
    "gated_attention": "gated attention",
}


def use_style() -> None:
    plt.style.use(ROOT / "milcnn" / "figures" / "milcnn.mplstyle")


def label(method: str) -> str:
    """How a figure calls a method: ``noisy_and-a7.5`` → ``Noisy-AND, a = 7.5``."""
    try:
        name, settings = pooling.parse(method)
    except ValueError:  # a rival or a floor, not a pooling function
        return method
    return ", ".join([LABELS.get(name, name), *(f"{key} = {value:g}" for key, value in settings.items())])


def pooling_curves(thresholds: pd.DataFrame | None = None, n_instances: int = 49) -> Figure:
    """P against p̄ for every function, on bags whose instances are all alike and all-or-none.

    ``thresholds`` has the learned ``b`` of Noisy-AND, one row a class and seed; each is a tick on
    the axis of the left panel, and the Noisy-AND curve is drawn at their mean.
    """
    fig, axes = plt.subplots(1, 2, figsize=(6.9, 2.9), sharey=True)
    share = torch.linspace(0, 1, n_instances + 1, dtype=torch.float64)
    steps = torch.arange(n_instances)[None] < (share * n_instances).round()[:, None]
    bags = {"every p equal to p̄": share[:, None].expand(-1, n_instances), "a share p̄ at 1, the rest at 0": steps}
    b = float(thresholds["b"].mean()) if thresholds is not None and len(thresholds) else 0.1
    for ax, (title, p) in zip(axes, bags.items(), strict=True):
        for number, name in enumerate(pooling.POOLINGS):
            function = pooling.make(name, 1, **({"b": b} if name == "noisy_and" else {})).double()
            with torch.no_grad():
                ax.plot(
                    share,
                    function(p[:, None].double())[:, 0],
                    label=label(name),
                    clip_on=False,
                    ls="--" if number >= N_COLOURS else "-",
                )
        ax.set(title=title, xlabel="mean instance probability p̄", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("bag probability P")
    axes[0].annotate("all others: P = p̄", (0.97, 0.3), ha="right", color="0.4")
    if thresholds is not None and len(thresholds):
        sns.rugplot(thresholds, x="b", ax=axes[0], height=0.06, color="C0", lw=1)
        axes[0].annotate(
            "learned b", (b, 0.06), (b + 0.1, 0.1), color="C0", arrowprops={"arrowstyle": "-", "color": "C0"}
        )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return fig


def show_field(ax: Axes, pixels: np.ndarray, title: str = "") -> None:
    """One field (C, H, W) as a ``composite``, black at its 0.5 % and full at its 99.5 % quantile."""
    ax.imshow(composite(pixels, *display_range(pixels[None])))
    ax.set_title(title)
    ax.set_axis_off()


def example_fields(pixels: np.ndarray, titles: Iterable[str], columns: int = 6) -> Figure:
    """A sheet of fields (B, C, H, W) with their titles."""
    rows = -(-len(pixels) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(6.9, 1.3 * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, field, title in zip(axes.flat, pixels, titles, strict=False):
        show_field(ax, field, title)
    return fig


def training_curves(history: pd.DataFrame) -> Figure:
    """Training loss, validation loss and accuracy against epoch; one line a method, a band over seeds."""
    panels = {
        "loss": "training loss",
        "validation_loss": "validation loss",
        "validation_accuracy": "validation accuracy",
    }
    fig, axes = plt.subplots(1, 3, figsize=(6.9, 2.2))
    history = history.assign(method=history["method"].map(label))
    for ax, (column, title) in zip(axes, panels.items(), strict=True):
        sns.lineplot(history, x="epoch", y=column, hue="method", errorbar=("pi", 100), ax=ax, legend=ax is axes[0])
        ax.set(title=title, ylabel="")
    axes[0].get_legend().remove()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig


def error_by_fraction(table: pd.DataFrame, chance: float) -> Figure:
    """Test error against the fraction of positive instances, with 95 % intervals; see ``evaluate``."""
    fig, ax = plt.subplots(figsize=(4.4, 2.9))
    for offset, (method, rows) in enumerate(table.groupby("method", sort=False)):
        x = rows["fraction"] * 1.02**offset  # side by side, so that intervals stay legible
        spread = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        ax.errorbar(x, rows["value"], spread, marker="o", capsize=2, elinewidth=0.8, label=label(method))
    ax.set(xlabel="fraction of objects that carry the label (log scale)", ylabel="test error")
    if table.empty:
        ax.set_title("the fraction is not known in this study")
        return fig
    levels = sorted(table["fraction"].unique())
    ax.set_xscale("log")
    ax.set_xticks(levels, [f"{level:.2g}" for level in levels])
    ax.minorticks_off()
    ax.set_ylim(-0.02, min(1, 1.15 * table["high"].max() + 0.05))
    ax.legend(loc="upper right", title=f"chance: {chance:.2f}")
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


def localisation_gallery(
    pixels: np.ndarray,
    truth: np.ndarray,
    class_maps: np.ndarray,
    jacobians: np.ndarray,
    masks: np.ndarray,
    titles: Iterable[str],
) -> Figure:
    """One row a field: field with true contours, class map, Jacobian map, mask on the field.

    ``pixels`` (B, C, H, W); ``truth`` and ``masks`` (B, H, W) bool; the maps (B, H, W).
    """
    fig, axes = plt.subplots(len(pixels), 4, figsize=(6.9, 1.78 * len(pixels)), squeeze=False)
    heads = ["field, truth in blue", "class map p", "Jacobian map", "mask"]
    for row, title, field, true, class_map, jacobian, mask in zip(
        axes, titles, pixels, truth, class_maps, jacobians, masks, strict=True
    ):
        show_field(row[0], field)
        row[1].imshow(class_map, vmin=0, vmax=1, cmap="magma")
        row[2].imshow(jacobian, cmap="magma", vmax=max(np.quantile(jacobian, 0.998), 1e-12))
        show_field(row[3], field)
        for ax, outline, colour in ((row[0], true, TRUTH), (row[3], mask, OVERLAY)):
            if outline.any():
                ax.contour(outline, levels=[0.5], colors=colour, linewidths=0.7)
        row[0].text(-0.04, 0.5, title, rotation=90, va="center", ha="right", transform=row[0].transAxes)
        for ax in row[1:3]:
            ax.set_axis_off()
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head)
    return fig


def localisation_scores(table: pd.DataFrame, metric: str) -> Figure:
    """Score of each method with its 95 % interval; ``table`` has summary rows."""
    rows = table[table["metric"] == metric].sort_values("value")
    fig, ax = plt.subplots(figsize=(4.4, 0.3 * len(rows) + 0.7))
    spread = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    ax.barh(rows["method"].map(label), rows["value"], xerr=spread, height=0.6, error_kw={"lw": 0.8, "capsize": 2})
    ax.set(xlabel=f"{metric.replace('_', ' ')} (95 % interval)", xlim=(0, 1))
    return fig


def quality(fields: pd.DataFrame) -> Figure:
    """Focus, saturation and foreground of every field, plate by plate, one colour a channel.

    ``fields`` is the table of a prepared study; a field that is flagged for a measure is ringed.
    """
    panels = {
        "Focus": ("blurred", "focus (slope of log power)"),
        "Saturation": ("saturated", "saturated pixels (share)"),
        "Foreground": ("empty", "foreground pixels (share)"),
    }
    plates = pd.Categorical(fields[PLATE], categories=fields[PLATE].unique())
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(fields))  # side by side, so that points stay apart
    fig, axes = plt.subplots(1, 3, figsize=(6.9, 2.4))
    for ax, (measure, (flag, title)) in zip(axes, panels.items(), strict=True):
        for name, values in of_channels(fields, measure).items():
            ax.scatter(plates.codes + spread, values, s=4, lw=0, alpha=0.6, label=name)
            flagged = fields[f"Flag_{flag}"].to_numpy()
            ax.scatter(
                plates.codes[flagged] + spread[flagged], values[flagged], s=14, facecolor="none", edgecolor="k", lw=0.6
            )
        ticks = range(len(plates.categories)) if len(plates.categories) <= 8 else []
        ax.set(title=title, xlabel="plate", xlim=(-0.6, len(plates.categories) - 0.4))
        ax.set_xticks(ticks, [plates.categories[tick] for tick in ticks], rotation=30)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, markerscale=3)
    return fig
