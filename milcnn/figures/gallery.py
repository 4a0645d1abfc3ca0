"""Galleries: fields with the outlines of their class maps, class maps side by side, the cells of a class.

Every panel has a scale bar. A class has the same colour in all of them.
"""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from milcnn.figures.fields import false_colour as false_colour  # galleries import it from here
from milcnn.figures.outlines import outline
from milcnn.figures.style import panels

# "light" of Paul Tol, https://personal.sron.nl/~pault: distinct for colour-blind readers, and bright on dark fields
CLASS_COLOURS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00", "#DDDDDD")
RANKS = ("best", "median", "worst")
DISPLAY_QUANTILES = (0.005, 0.995)  # of the pixels of a channel: shown black, shown at full brightness
Images = Sequence[np.ndarray]  # (H, W, 3) each
Masks = Sequence[Mapping[int, np.ndarray]]  # for each image, class index → mask (H, W) bool


def class_colour(index: int) -> str:
    """The colour of a class by its place in ``Prepared.classes``. They repeat after nine, so write the name too."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def display_range(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of each channel to show black and at full brightness, (C, 1, 1) each, from fields (B, C, H, W)."""
    low, high = np.quantile(fields, DISPLAY_QUANTILES, axis=(0, 2, 3))[..., None, None]
    return low, np.where(high > low, high, low + 1)  # a constant channel is black


def scale_bar(width: int, pixel_size: float | None) -> tuple[float, str]:
    """Length (px) and text of a scale bar for an image ``width`` px wide.

    It is the longest of 1, 2, 5 · 10ⁿ µm in a third of the width. If ``pixel_size`` (µm) is None, the unit is px.
    """
    size, unit = (pixel_size, "µm") if pixel_size else (1, "px")
    longest = width / 3 * size
    power = 10.0 ** np.floor(np.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    return length / size, f"{length:g} {unit}"


def add_scale_bar(ax: plt.Axes, shape: Sequence[int], pixel_size: float | None) -> None:
    """Draw the scale bar of an image (H, W, …) in its lower right corner."""
    height, width = shape[:2]
    length, text = scale_bar(width, pixel_size)
    right, low = 0.95 * width, 0.95 * height
    ax.plot([right - length, right], [low, low], color="w", lw=1.5, solid_capstyle="butt")
    ax.text(right, low - 0.02 * height, text, color="w", fontsize=5, ha="right", va="bottom")  # stays inside


def show_outlined(ax: plt.Axes, rgb: np.ndarray, masks: Mapping, pixel_size: float | None, title: str) -> None:
    """An image (H, W, 3) with a scale bar and the outlines of ``masks`` in the colours of their classes."""
    ax.imshow(rgb)
    for index, mask in masks.items():
        outline(ax, mask, class_colour(index))
    add_scale_bar(ax, rgb.shape, pixel_size)
    ax.set_title(title, fontsize=5)


def ranked_sheet(
    table: pd.DataFrame, classes: list[str], images: Images, masks: Masks, pixel_size: float | None
) -> plt.Figure:
    """The best, median and worst field of each class, two classes per line.

    ``table`` has one row per field: ``class``, ``rank`` (of ``RANKS``), ``score`` and ``predicted``. ``images`` and
    ``masks`` are in the same order.
    """
    fig, axes = panels(len(classes) * len(RANKS), 2 * len(RANKS), 6.9, 1.25)
    for (_, row), rgb, outlines in zip(table.iterrows(), images, masks, strict=True):
        index = classes.index(row["class"])
        ax = axes[index // 2, index % 2 * len(RANKS) + RANKS.index(row["rank"])]
        title = f"{row['class']}, {row['rank']}: {row['score']:.2f}\npredicted {row['predicted']}"
        show_outlined(ax, rgb, outlines, pixel_size, title)
    return fig


def class_map_sheet(
    titles: Iterable[str], classes: list[str], images: Images, masks: Masks, maps: np.ndarray, pixel_size: float | None
) -> plt.Figure:
    """One line per field: the field with its outlines, then its class maps. ``maps`` (B, classes, H, W) in [0, 1]."""
    columns = 1 + len(classes)
    fig, axes = panels(len(images) * columns, columns, 0.9 * columns, 1.0)
    for line, title, rgb, outlines, class_maps in zip(axes, titles, images, masks, maps, strict=True):
        show_outlined(line[0], rgb, outlines, pixel_size, title)
        for ax, name, values in zip(line[1:], classes, class_maps, strict=True):
            image = ax.imshow(values, vmin=0, vmax=1, cmap="magma")
            ax.set_title(name, fontsize=5)
    fig.colorbar(image, ax=axes, label="instance probability p", shrink=0.8, pad=0.01)
    return fig


def cell_sheet(cells: pd.DataFrame, classes: list[str], crops: np.ndarray, pixel_size: float | None) -> plt.Figure:
    """One line per class: the cells with its highest instance probabilities, the highest first.

    ``cells`` has one row per crop of ``crops`` (n, h, w, 3): ``class`` and ``p``. The rows of a class stand together.
    """
    ranks = cells.groupby("class").cumcount()
    columns = ranks.max() + 1
    fig, axes = panels(len(classes) * columns, columns, 0.85 * columns, 0.95)
    for (_, row), column, crop in zip(cells.iterrows(), ranks, crops, strict=True):
        index = classes.index(row["class"])
        ax = axes[index, column]
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=class_colour(index), linewidth=1.5)
        ax.set_ylabel("" if column else row["class"], fontsize=6)
        show_outlined(ax, crop, {}, pixel_size, f"p = {row['p']:.2f}")
    return fig
