"""Figures of fields: what they look like, and their quality."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from milcnn.columns import PLATE, of_channels
from milcnn.figures.style import panels

QUALITY = {  # measure: its flag, the title of its panel
    "Focus": ("blurred", "focus (slope of log power)"),
    "Saturation": ("saturated", "saturated pixels (share)"),
    "Foreground": ("empty", "foreground pixels (share)"),
}


def false_colour(pixels: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """One field (C, H, W) as RGB (H, W, 3) in [0, 1]: one channel is grey, two or three are blue, green, red.

    ``low`` and ``high`` (C, 1, 1) are shown black and at full brightness. Channels after the third are not shown.
    """
    shown = np.clip((pixels[:3] - low[:3]) / (high[:3] - low[:3]), 0, 1)
    if len(shown) == 1:
        return np.repeat(shown[0][..., None], 3, axis=2)
    missing = np.zeros((3 - len(shown), *shown.shape[1:]))
    return np.concatenate([shown, missing])[::-1].transpose(1, 2, 0)


def show_field(ax: plt.Axes, pixels: np.ndarray, title: str = "") -> None:
    """One field (C, H, W) in false colour, each channel from 0 to its 99.5 % quantile; see ``false_colour``."""
    high = np.maximum(np.quantile(pixels, 0.995, axis=(1, 2), keepdims=True), 1)
    ax.imshow(false_colour(pixels, np.zeros_like(high), high))
    ax.set_title(title)


def example_fields(pixels: np.ndarray, titles: Iterable[str], columns: int = 6) -> plt.Figure:
    """A sheet of fields (B, C, H, W) with their titles."""
    fig, axes = panels(len(pixels), columns, 6.9, 1.3)
    for ax, field, title in zip(axes.flat, pixels, titles, strict=False):
        show_field(ax, field, title)
    return fig


def quality_panels(fields: pd.DataFrame) -> plt.Figure:
    """Focus, saturation and foreground of every field, plate by plate; one colour per channel.

    ``fields`` is the table of a prepared study. A ring marks a field with a flag for that measure.
    """
    plates = pd.Categorical(fields[PLATE], categories=fields[PLATE].unique())
    shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(fields))  # fewer points overlap
    place = plates.codes + shift
    names = plates.categories
    ticks = range(len(names)) if len(names) <= 8 else []
    fig, axes = plt.subplots(1, 3, figsize=(6.9, 2.4))
    for ax, (measure, (flag, title)) in zip(axes, QUALITY.items(), strict=True):
        flagged = fields[f"Flag_{flag}"].to_numpy()
        for channel, values in of_channels(fields, measure).items():
            ax.scatter(place, values, s=4, lw=0, alpha=0.6, label=channel)
            ax.scatter(place[flagged], values[flagged], s=14, facecolor="none", edgecolor="k", lw=0.6)
        ax.set(title=title, xlabel="plate", xlim=(-0.6, len(names) - 0.4))
        ax.set_xticks(ticks, [names[tick] for tick in ticks], rotation=30)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, markerscale=3)
    return fig
