"""Galleries: fields with the outline of what speaks for a class, class maps side by side, the cells of a class.

Every panel carries a scale bar, and a class has one colour wherever it is shown.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# "light" of Paul Tol, https://personal.sron.nl/~pault: apart for colour-blind readers, and bright on dark fields
CLASS_COLOURS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00", "#DDDDDD")
RANKS = ("best", "median", "worst")
DISPLAY_QUANTILES = (0.005, 0.995)  # of the pixels of a channel: shown black, and shown full


def class_colour(index: int) -> str:
    """The colour of a class by its place in ``Prepared.classes``; beyond nine they come again, so name it as well."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def display_range(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of each channel that are shown black and full, (C, 1, 1) each, from fields (B, C, H, W)."""
    low, high = np.quantile(fields, DISPLAY_QUANTILES, axis=(0, 2, 3))[..., None, None]
    return low, np.where(high > low, high, low + 1)  # a constant channel is black


def false_colour(pixels: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """One field (C, H, W) as RGB (H, W, 3) in [0, 1]: grey for one channel, blue-green-red for up to three.

    ``low`` and ``high`` are those of ``display_range``; of more than three channels the first three are shown.
    """
    shown = np.clip((pixels[:3] - low[:3]) / (high[:3] - low[:3]), 0, 1)
    if len(shown) == 1:
        return np.repeat(shown[0][..., None], 3, axis=2)
    missing = np.zeros((3 - len(shown), *shown.shape[1:]))
    return np.concatenate([shown, missing])[::-1].transpose(1, 2, 0)


def scale_bar(width: int, pixel_size: float | None) -> tuple[float, str]:
    """Length (px) and text of a scale bar for an image ``width`` px wide: the longest of 1, 2, 5 · 10ⁿ in a third.

    ``pixel_size`` is in µm; where it is None the bar is in pixels, and its text says so.
    """
    size, unit = (pixel_size, "µm") if pixel_size else (1, "px")
    longest = width / 3 * size
    power = 10.0 ** np.floor(np.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    return length / size, f"{length:g} {unit}"


def add_scale_bar(ax: Axes, shape: Sequence[int], pixel_size: float | None) -> None:
    """Draw the scale bar of an image (H, W, …) into its lower right corner."""
    height, width = shape[:2]
    length, text = scale_bar(width, pixel_size)
    right, low = 0.95 * width, 0.95 * height
    ax.plot([right - length, right], [low, low], color="w", lw=1.5, solid_capstyle="butt")
    ax.text(right - length / 2, low - 0.02 * height, text, color="w", fontsize=5, ha="center", va="bottom")


def show_outlined(ax: Axes, rgb: np.ndarray, masks: Mapping[int, np.ndarray], pixel_size: float | None) -> None:
    """An image (H, W, 3) with its scale bar and, by class index, the outlines of masks (H, W) in their colours."""
    ax.imshow(rgb)
    for index, mask in masks.items():
        if mask.any():
            ax.contour(mask, levels=[0.5], colors=class_colour(index), linewidths=0.7)
    add_scale_bar(ax, rgb.shape, pixel_size)


def panels(rows: int, columns: int, size: float) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows`` × ``columns`` bare panels, ``size`` inch each."""
    fig, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.1) * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    return fig, axes


def ranked_sheet(
    table: pd.DataFrame,
    classes: list[str],
    images: Sequence[np.ndarray],
    masks: Sequence[Mapping[int, np.ndarray]],
    pixel_size: float | None,
) -> Figure:
    """The best, median and worst field of each class, two classes a line.

    ``table`` has one row a field: ``class``, ``rank`` (of ``RANKS``), ``score`` and ``predicted``; ``images``
    (H, W, 3) and ``masks`` (by class index) are in its order.
    """
    fig, axes = panels(-(-len(classes) // 2), 2 * len(RANKS), 1.15)
    for (_, row), rgb, outlines in zip(table.iterrows(), images, masks, strict=True):
        index = classes.index(row["class"])
        ax = axes[index // 2, index % 2 * len(RANKS) + RANKS.index(row["rank"])]
        show_outlined(ax, rgb, outlines, pixel_size)
        ax.set_title(f"{row['class']}, {row['rank']}: {row['score']:.2f}\ncalled {row['predicted']}", fontsize=5)
    return fig


def class_map_sheet(
    titles: Sequence[str],
    classes: list[str],
    images: Sequence[np.ndarray],
    masks: Sequence[Mapping[int, np.ndarray]],
    maps: np.ndarray,
    pixel_size: float | None,
) -> Figure:
    """One line a field: the field with its outlines, then its map of each class; maps (B, classes, H, W) in [0, 1]."""
    fig, axes = panels(len(images), 1 + len(classes), 0.9)
    for line, title, rgb, outlines, own in zip(axes, titles, images, masks, maps, strict=True):
        show_outlined(line[0], rgb, outlines, pixel_size)
        line[0].set_title(title, fontsize=5)
        for ax, name, values in zip(line[1:], classes, own, strict=True):
            image = ax.imshow(values, vmin=0, vmax=1, cmap="magma")
            ax.set_title(name, fontsize=5)
    fig.colorbar(image, ax=axes, label="instance probability p", shrink=0.8, pad=0.01)
    return fig


def cell_sheet(cells: pd.DataFrame, classes: list[str], crops: np.ndarray, pixel_size: float | None) -> Figure:
    """One line a class: the crops (n, h, w, 3) with its highest instance probabilities, the highest first.

    ``cells`` has one row a crop, in their order: ``class`` and ``p``, those of a class together.
    """
    counts = cells.groupby("class").cumcount()
    fig, axes = panels(len(classes), counts.max() + 1, 0.85)
    for (_, row), column, crop in zip(cells.iterrows(), counts, crops, strict=True):
        index = classes.index(row["class"])
        ax = axes[index, column]
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=class_colour(index), linewidth=1.5)
        show_outlined(ax, crop, {}, pixel_size)
        ax.set_title(f"p = {row['p']:.2f}", fontsize=5)
    for ax, name in zip(axes[:, 0], classes, strict=True):
        ax.set_ylabel(name, fontsize=6)
    return fig
