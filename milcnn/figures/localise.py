"""Figures of localisation: maps and masks of fields, scores against floors and the supervised U-Net, sanity checks.

Floors are simple methods and controls that a useful map must beat.
"""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from milcnn.figures.fields import show_field
from milcnn.figures.gallery import add_scale_bar
from milcnn.figures.labels import OTHERS_GREY, label, look
from milcnn.figures.outlines import outline
from milcnn.figures.style import OVERLAY, TRUTH, error_bars, panels

CLOSE = 256  # px, the side of what the panel shows of a field: cells and what is in them can be seen
Maps = list[tuple[str, np.ndarray, float]]  # title, values (H, W), the value to show at full brightness


def show_localised(
    axes: Iterable[plt.Axes],
    field: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
    maps: Maps,
    pixel_size: float | None,
) -> None:
    """Show, one image per axes: the field with its true objects, the maps, the field with its predicted mask.

    ``field`` (C, H, W); ``truth`` and ``mask`` (H, W) bool; ``pixel_size`` in µm, for the scale bar.
    """
    first, *middle, last = axes
    show_field(first, field, "field, truth in blue" if truth.any() else "field")
    outline(first, truth, TRUTH)
    add_scale_bar(first, field.shape[1:], pixel_size)
    for ax, (title, values, high) in zip(middle, maps, strict=True):
        ax.imshow(values, vmin=0, vmax=max(high, 1e-12), cmap="magma")
        ax.set_title(title)
    show_field(last, field, "mask")
    outline(last, mask, OVERLAY)


def localisation_gallery(
    pixels: np.ndarray,
    truth: np.ndarray,
    class_maps: np.ndarray,
    jacobians: np.ndarray,
    masks: np.ndarray,
    titles: Iterable[str],
    pixel_size: float | None = None,
) -> plt.Figure:
    """One row of ``show_localised`` per field, with its class map and its Jacobian map. All arrays are (B, …)."""
    fig, axes = panels(4 * len(pixels), 4, 6.9, 1.78)
    fields = zip(axes, titles, pixels, truth, class_maps, jacobians, masks, strict=True)
    for row, title, field, true, class_map, jacobian, mask in fields:
        maps: Maps = [("class map p", class_map, 1), ("Jacobian map", jacobian, np.quantile(jacobian, 0.998))]
        show_localised(row, field, true, mask, maps, pixel_size)
        row[0].text(-0.04, 0.5, title, rotation=90, va="center", ha="right", transform=row[0].transAxes)
    for ax in axes[1:].flat:
        ax.set_title("")  # the first row has the titles
    return fig


def localisation_panel(
    field: np.ndarray,
    class_maps: np.ndarray,
    classes: Sequence[str],
    maps: dict[str, np.ndarray],
    mask: np.ndarray,
    truth: np.ndarray,
    pixel_size: float | None = None,
) -> plt.Figure:
    """One field as ``show_localised`` draws it, with the maps (K, H, W) of all ``classes`` and with ``maps``.

    Of a field larger than ``CLOSE`` px only its middle is shown, and up to six panels are drawn larger.
    """
    shown: Maps = [(f"p of {name}", middle(values), 1) for name, values in zip(classes, class_maps, strict=True)]
    shown += [(title, middle(values), np.quantile(values, 0.998)) for title, values in maps.items()]
    number = len(shown) + 2
    columns, height = (6, 1.3) if number > 6 else (3, 2.4)
    fig, axes = panels(number, columns, 6.9, height)
    show_localised(axes.flat[:number], middle(field), middle(truth), middle(mask), shown, pixel_size)
    return fig


def middle(image: np.ndarray) -> np.ndarray:
    """The middle of ``image`` (…, H, W), at most ``CLOSE`` px high and wide."""
    rows, columns = (slice(max(0, (side - CLOSE) // 2), (side + CLOSE) // 2) for side in image.shape[-2:])
    return image[..., rows, columns]


def floors_and_unet(table: pd.DataFrame, metrics: Sequence[str], width: float = 6.9) -> plt.Figure:
    """One panel per metric of the summary, sorted by the first; floors are grey."""
    order = table[table["metric"] == metrics[0]].sort_values("value")["method"]
    fig, axes = panels(len(metrics), min(3, len(metrics)), width, 0.22 * len(order) + 0.7, sharey=True)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        rows = table[table["metric"] == metric].set_index("method").reindex(order).dropna(subset="value").reset_index()
        names, thin = rows["method"], {"lw": 0.8, "capsize": 2}
        colours = [look(name)["color"] for name in names]
        ax.barh(names.map(label), rows["value"], xerr=error_bars(rows), height=0.6, color=colours, error_kw=thin)
        ax.set(title=metric.replace("_", " "), xlim=(0, 1))
        ax.set_axis_on()
    fig.supxlabel("value and 95 % interval", fontsize=8)
    return fig


def localisation_scores(table: pd.DataFrame, metric: str) -> plt.Figure:
    """``floors_and_unet`` of one metric."""
    return floors_and_unet(table, [metric], width=4.4)


def sanity_curves(table: pd.DataFrame, floors: dict[str, float]) -> plt.Figure:
    """Scores of maps against the number of layers with random weights, counted from the top; bands over fields.

    ``table`` is that of ``cascade_scores``. ``floors`` has the score of a random map for each column to plot.
    """
    fig, axes = plt.subplots(1, len(floors), figsize=(6.9, 2.5), squeeze=False)
    for ax, (column, floor) in zip(axes[0], floors.items(), strict=True):
        # in grey: a colour stands for a method
        shown = {"hue": "map", "style": "map", "markers": True, "dashes": False, "palette": "gray"}
        sns.lineplot(table, x="random_layers", y=column, seed=0, n_boot=200, ax=ax, **shown)
        ax.axhline(floor, color=OTHERS_GREY, ls="--", label="random map")
        ax.set(xlabel="layers with random weights, from the top", ylabel=column.replace("_", " "), ylim=(0, 1.02))
        ax.get_legend().remove()
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig
