"""Figures of fields: what they look like, and their quality."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milcnn.columns import PLATE, of_channels


def show_field(ax: Axes, pixels: np.ndarray, title: str = "") -> None:
    """One field (C, H, W): grey for one channel, blue-green-red for up to three, each to its 99.5 % quantile."""
    high = np.maximum(np.quantile(pixels, 0.995, axis=(1, 2), keepdims=True), 1)
    shown = np.clip(pixels / high, 0, 1)
    if len(shown) > 1:
        shown = np.concatenate([shown[:3], np.zeros((max(0, 3 - len(shown)), *shown.shape[1:]))])[::-1]
        ax.imshow(shown.transpose(1, 2, 0))
    else:
        ax.imshow(shown[0], vmin=0, vmax=1)
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


def quality_panels(fields: pd.DataFrame) -> Figure:
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
