"""Figures of localisation: maps and masks of fields, scores between floor and ceiling, the sanity checks."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milcnn.figures.fields import show_field
from milcnn.figures.gallery import add_scale_bar
from milcnn.figures.labels import label
from milcnn.figures.style import OVERLAY, TRUTH

FLOORS = ["random_map", "all_foreground", "otsu", "classical", "random_weights", "shuffled_labels"]
UNET = "unet"
FLOOR_COLOUR, UNET_COLOUR = "0.65", "#009E73"


def outline(ax: Axes, mask: np.ndarray, colour: str) -> None:
    """The contour of ``mask`` (H, W) bool; none where it is empty."""
    if mask.any():
        ax.contour(mask, levels=[0.5], colors=colour, linewidths=0.7)


def show_map(ax: Axes, values: np.ndarray, high: float, title: str = "") -> None:
    """A map (H, W) from black at 0 to bright at ``high``."""
    ax.imshow(values, vmin=0, vmax=max(high, 1e-12), cmap="magma")
    ax.set_title(title)
    ax.set_axis_off()


def localisation_gallery(
    pixels: np.ndarray,
    truth: np.ndarray,
    class_maps: np.ndarray,
    jacobians: np.ndarray,
    masks: np.ndarray,
    titles: Iterable[str],
    pixel_size: float | None = None,
) -> Figure:
    """One row a field: field with true contours, class map, Jacobian map, mask on the field.

    ``pixels`` (B, C, H, W); ``truth`` and ``masks`` (B, H, W) bool; the maps (B, H, W); ``pixel_size`` in µm,
    for the scale bar.
    """
    fig, axes = plt.subplots(len(pixels), 4, figsize=(6.9, 1.78 * len(pixels)), squeeze=False)
    heads = ["field, truth in blue", "class map p", "Jacobian map", "mask"]
    for row, title, field, true, class_map, jacobian, mask in zip(
        axes, titles, pixels, truth, class_maps, jacobians, masks, strict=True
    ):
        show_field(row[0], field)
        add_scale_bar(row[0], field.shape[1:], pixel_size)
        show_map(row[1], class_map, 1)
        show_map(row[2], jacobian, np.quantile(jacobian, 0.998))
        show_field(row[3], field)
        outline(row[0], true, TRUTH)
        outline(row[3], mask, OVERLAY)
        row[0].text(-0.04, 0.5, title, rotation=90, va="center", ha="right", transform=row[0].transAxes)
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head)
    return fig


def localisation_panel(
    field: np.ndarray,
    class_maps: np.ndarray,
    classes: Sequence[str],
    maps: dict[str, np.ndarray],
    mask: np.ndarray,
    truth: np.ndarray,
    pixel_size: float | None = None,
) -> Figure:
    """The paper's kind of panel of one field (C, H, W): its class maps, maps of its label, its mask.

    ``class_maps`` (K, H, W), one of each of ``classes``; ``maps`` by title, (H, W) each; ``mask`` and
    ``truth`` (H, W) bool, both drawn on the field; ``pixel_size`` in µm, for the scale bar.
    """
    columns = 6
    rows = -(-(len(classes) + len(maps) + 2) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(6.9, 1.3 * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    places = iter(axes.flat)
    show_field(first := next(places), field, "field, truth in blue")
    outline(first, truth, TRUTH)
    add_scale_bar(first, field.shape[1:], pixel_size)
    for name, values in zip(classes, class_maps, strict=True):
        show_map(next(places), values, 1, f"p of {name}")
    for name, values in maps.items():
        show_map(next(places), values, np.quantile(values, 0.998), name)
    show_field(last := next(places), field, "mask")
    outline(last, mask, OVERLAY)
    return fig


def localisation_scores(table: pd.DataFrame, metric: str) -> Figure:
    """Score of each method with its 95 % interval; ``table`` has summary rows."""
    rows = table[table["metric"] == metric].sort_values("value")
    fig, ax = plt.subplots(figsize=(4.4, 0.3 * len(rows) + 0.7))
    score_bars(ax, rows)
    ax.set(xlabel=f"{metric.replace('_', ' ')} (95 % interval)", xlim=(0, 1))
    return fig


def score_bars(ax: Axes, rows: pd.DataFrame) -> None:
    """One bar a row of the summary with its interval: floors grey, the ceiling green, networks blue."""
    colours = [
        FLOOR_COLOUR if method in FLOORS else UNET_COLOUR if method == UNET else "C0" for method in rows["method"]
    ]
    spread = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    names = rows["method"].map(label)
    ax.barh(names, rows["value"], xerr=spread, height=0.6, color=colours, error_kw={"lw": 0.8, "capsize": 2})


def floors_and_unet(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """One panel a metric of the summary: floors in grey, networks in blue, the ceiling in green.

    The methods stand in the order of the first metric.
    """
    order = list(table[table["metric"] == metrics[0]].sort_values("value")["method"])
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    size = (6.9, lines * (0.22 * len(order) + 0.6))
    fig, axes = plt.subplots(lines, columns, figsize=size, sharey=True, squeeze=False)
    for ax in axes.flat[len(metrics) :]:
        ax.set_axis_off()
    for ax, metric in zip(axes.flat, metrics, strict=False):
        rows = table[table["metric"] == metric].set_index("method")
        score_bars(ax, rows.loc[[method for method in order if method in rows.index]].reset_index())
        ax.set(title=metric.replace("_", " "), xlim=(0, 1))
    return fig


def sanity_curves(table: pd.DataFrame, floors: dict[str, float]) -> Figure:
    """Scores of maps against the number of layers whose weights are random, from the top; bands over fields.

    ``table`` is that of ``cascade_scores``; ``floors`` gives the score of a blind map for each panel, a
    column of the table.
    """
    fig, axes = plt.subplots(1, len(floors), figsize=(6.9, 2.5), squeeze=False)
    for ax, (column, floor) in zip(axes[0], floors.items(), strict=True):
        sns.lineplot(table, x="random_layers", y=column, hue="map", marker="o", seed=0, n_boot=200, ax=ax)
        ax.axhline(floor, color=FLOOR_COLOUR, ls="--", label="a blind map")
        ax.set(xlabel="layers with random weights, from the top", ylabel=column.replace("_", " "), ylim=(0, 1.02))
        ax.get_legend().remove()
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig
