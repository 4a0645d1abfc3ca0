"""Figures of doses: responding_fraction and dose–response, learned thresholds, and what makes accuracy fall."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from milcnn.columns import COMPOUND, CONCENTRATION, LABEL
from milcnn.figures.labels import label

TRUE = "0.25"  # grey: what is known of a drawn screen, never a prediction
PANELS = {
    "fraction": ("Responding fraction", "cells of the field that respond (share)"),
    "cells": ("Density", "cells in the field"),
    "label_noise": ("Label noise", "training fields with a wrong label (share)"),
    "train_share": ("Training fields", "share of them that is used"),
}
MARKERS = "os^Dv<>PX*d"  # one more than there are colours, so that no pair of the two comes back soon


def colours_of(names: list[str]) -> dict[str, str]:
    """A colour of the style for each of ``names``, the same in every figure that has the same names."""
    return dict(zip(sorted(names), cycle(plt.rcParams["axes.prop_cycle"].by_key()["color"]), strict=False))


def dose_response(wells: pd.DataFrame, bands: pd.DataFrame, curves: pd.DataFrame, columns: int = 4) -> Figure:
    """A panel a compound: wells, Hill curve with its 95 % band, true response and true EC50; of one run.

    ``wells`` as ``responding_fraction.wells``, ``bands`` and ``curves`` as ``hill.bands`` and ``hill.curves``.
    """
    colours = colours_of(list(curves[LABEL].unique()))
    order = curves.sort_values([LABEL, "true_ec50"])
    rows = -(-len(order) // columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(6.9, 1.6 * rows + 0.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        subplot_kw={"ylim": (-0.04, 1.04)},
    )
    for ax in axes.flat[len(order) :]:
        ax.set_axis_off()
    for ax, curve in zip(axes.flat, order.to_dict("records"), strict=False):
        of = [table[table[COMPOUND] == curve[COMPOUND]] for table in (wells, bands)]
        compound_panel(ax, *of, curve, colours[curve[LABEL]])
    fig.supxlabel("dose (µM)", fontsize=8)
    fig.supylabel("fraction of cells affected", fontsize=8)
    fig.legend(handles=dose_handles(), loc="outside upper center", ncols=5)
    return fig


def dose_handles() -> list[Line2D | Patch]:
    """What the legend of ``dose_response`` explains, in grey: colours tell phenotypes, which titles name."""
    return [
        Line2D([], [], color="0.4", marker="o", ls="", ms=3.5, label="well, estimated"),
        Line2D([], [], color="0.4", label="Hill fit"),
        Patch(color="0.4", alpha=0.2, lw=0, label="95 % band"),
        Line2D([], [], color=TRUE, ls="--", lw=1, label="true response"),
        Line2D([], [], color=TRUE, ls=":", lw=1, label="true EC50"),
    ]


def compound_panel(ax: Axes, wells: pd.DataFrame, band: pd.DataFrame, curve: dict, colour: str) -> None:
    """One compound of ``dose_response``."""
    ax.fill_between(band[CONCENTRATION], band["low"], band["high"], color=colour, alpha=0.2, lw=0, zorder=0)
    ax.plot(band[CONCENTRATION], band["true"], color=TRUE, ls="--", lw=1)
    ax.axvline(curve["true_ec50"], color=TRUE, ls=":", lw=1, zorder=1)
    ax.plot(band[CONCENTRATION], band["value"], color=colour)
    ax.plot(
        wells[CONCENTRATION], wells["responding_fraction"], "o", color=colour, ms=3.5, mec="w", mew=0.4, clip_on=False
    )
    told = "no response" if np.isnan(curve["ec50"]) else f"EC50 {curve['ec50']:.2g}"
    ax.set(xscale="log", xticks=[0.1, 1, 10], xticklabels=["0.1", "1", "10"], ylim=(0, 1))
    ax.set_title(f"{curve[COMPOUND]} · {curve[LABEL]}", fontsize=8, loc="left")
    paper = {"facecolor": "w", "lw": 0, "pad": 0.5}  # keeps the words off the dotted line, under the points
    told += f"\ntrue {curve['true_ec50']:.2g}"
    ax.text(0.98, 0.04, told, transform=ax.transAxes, ha="right", fontsize=6.5, bbox=paper, zorder=1.5)
    ax.minorticks_off()


def estimated_against_true(fields: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Estimated against true fraction of affected cells, a point a field of one run, coloured by phenotype.

    ``fields`` and ``scores`` are tables of ``with_responding_fraction`` and ``by_phenotype``, of one method.
    """
    colours = colours_of(list(fields[LABEL].unique()))
    fig, ax = plt.subplots(figsize=(4.6, 3.2))
    ax.plot([0, 1], [0, 1], color=TRUE, lw=0.8, ls="--")
    for marker, (name, members) in zip(cycle(MARKERS), fields.groupby(LABEL), strict=False):
        r = scores.loc[scores[LABEL] == name, "r"].item()
        told = {"label": f"{name}, r = {r:.2f}", "color": colours[name], "marker": marker}
        ax.scatter(
            members["fraction"], members["responding_fraction"], s=15, alpha=0.75, lw=0.3, ec="w", clip_on=False, **told
        )
    ax.set(xlabel="true fraction of cells that respond", ylabel="estimated from the class maps")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    fig.legend(loc="outside right center", title="phenotype")
    return fig


def threshold_plot(table: pd.DataFrame) -> Figure:
    """b of each class of one method with its range over seeds, beside p̄ and the true fraction of its fields.

    ``table`` as ``responding_fraction.learned_thresholds``.
    """
    fig, ax = plt.subplots(figsize=(5.2, 0.28 * len(table) + 1))
    y = np.arange(len(table))[::-1]
    ax.hlines(y, 0, 1, color="0.9", lw=0.7, zorder=0)
    spread = [table["b"] - table["low"], table["high"] - table["b"]]
    ax.errorbar(table["b"], y, xerr=spread, fmt="D", color="C1", capsize=2, ms=5, label="learned b, range over seeds")
    ax.plot(table["other"], y, "x", color="C0", label="mean p̄ in other fields")
    ax.plot(table["own"], y, "o", color="C0", label="mean p̄ in fields of the class")
    ax.plot(table["fraction"], y, "|", color=TRUE, ms=11, mew=1.6, label="true responding fraction in them")
    ax.set(xlim=(-0.01, 1), ylim=(-0.6, len(table) - 0.4), xlabel="p̄, or fraction of cells", yticks=y)
    ax.set_yticklabels(table["class"])
    fig.legend(loc="outside right center")
    return fig


def degradation_panels(table: pd.DataFrame, chance: float) -> Figure:
    """Accuracy of each method against the four factors, with 95 % intervals; see ``degradation``."""
    names = sorted(table["method"].unique())
    looks = dict(zip(names, zip(colours_of(names).values(), cycle(MARKERS), strict=False), strict=False))
    fig, axes = plt.subplots(2, 2, figsize=(6.9, 4.6), sharey=True)
    for ax, (factor, (title, told)) in zip(axes.flat, PANELS.items(), strict=True):
        rows = table[table["factor"] == factor]
        ax.axhline(chance, color=TRUE, lw=0.8, ls=":")
        ax.set(title=title, xlabel=told, ylim=(0, 1.03))
        ax.xaxis.set_major_locator(MaxNLocator(6))
        if rows.empty:
            ax.text(0.5, 0.5, "no run under this condition", transform=ax.transAxes, ha="center", color="0.4")
        for method, members in rows.groupby("method"):
            colour, marker = looks[method]
            spread = [members["value"] - members["low"], members["high"] - members["value"]]
            ax.errorbar(
                members["level"], members["value"], spread, color=colour, marker=marker,
                capsize=2, elinewidth=0.7, alpha=0.9, label=label(method),
            )  # fmt: skip
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy")
    axes[0, 0].annotate(
        "chance", (0.99, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=TRUE
    )
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
