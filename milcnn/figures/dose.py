"""Figures of doses: responding fraction, dose–response, learned thresholds, and how accuracy falls."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator

from milcnn.columns import COMPOUND, CONCENTRATION, LABEL
from milcnn.figures.labels import METHOD_COLOURS, label, look
from milcnn.figures.style import error_bars, panels

TRUE = "0.25"  # grey: the truth of a simulated screen, never a prediction
FACTORS = {
    "fraction": ("Responding fraction", "share of cells that respond"),
    "cells": ("Cell density", "cells per field"),
    "label_noise": ("Label noise", "share of training fields with a wrong label"),
    "train_share": ("Training fields", "share of training fields used"),
}
TITLE = 24  # letters that fit above a panel
MARKERS = "os^Dv<>PX*d"  # 11 markers for 10 colours: a pair repeats only after 110 names


def looks_of(names: pd.Series) -> dict[str, tuple[str, str]]:
    """Colour and marker for each of ``names``. The same names look the same in every figure."""
    return {name: (f"C{n}", MARKERS[n % len(MARKERS)]) for n, name in enumerate(sorted(names.unique()))}


def dose_response(wells: pd.DataFrame, bands: pd.DataFrame, curves: pd.DataFrame, columns: int = 4) -> plt.Figure:
    """One panel per compound, of one run: wells, Hill curve with its 95 % band; where known, true response and EC50.

    The tables are those of ``responding_fraction.well_means``, ``hill.curve_bands`` and ``hill.curves``. Compounds of
    ``curves`` without wells are not drawn, but count for the colours.
    """
    looks = looks_of(curves[LABEL])
    known = "true_ec50" in curves
    shown = curves[curves[COMPOUND].isin(wells[COMPOUND])]
    order = shown.sort_values([LABEL, "true_ec50" if known else "ec50"]).to_dict("records")
    decades = np.log10(wells[CONCENTRATION].max() / wells[CONCENTRATION].min())
    fig, axes = panels(len(order), columns, 6.9, 1.75, sharex=True, sharey=True)
    for ax, curve in zip(axes.flat, order, strict=False):
        of_wells, of_bands = (table[table[COMPOUND] == curve[COMPOUND]] for table in (wells, bands))
        compound_panel(ax, of_wells, of_bands, curve, looks[curve[LABEL]][0])
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1,), numticks=4))
        ax.xaxis.set_major_formatter("{x:g}")
    fig.supxlabel("dose (µM)", fontsize=8)
    fig.supylabel("responding fraction", fontsize=8)
    handles = [  # in grey: a colour stands for a phenotype, and the titles name it
        Line2D([], [], color="0.4", marker="o", ls="", ms=3.5, label="well, estimated"),
        Line2D([], [], color="0.4", label="Hill fit"),
        Patch(color="0.4", alpha=0.2, lw=0, label="95 % band"),
        Line2D([], [], color=TRUE, ls="--", lw=1, label="true response"),
        Line2D([], [], color=TRUE, ls=":", lw=1, label="true EC50"),
    ]
    fig.legend(handles=handles if known else handles[:3], loc="outside upper center", ncols=5)
    return fig


def compound_panel(ax: plt.Axes, wells: pd.DataFrame, band: pd.DataFrame, curve: dict, colour: str) -> None:
    """One compound of ``dose_response``."""
    ax.set_axis_on()
    ax.fill_between(band[CONCENTRATION], band["low"], band["high"], color=colour, alpha=0.2, lw=0, zorder=0)
    open_end = "≤ " if curve["low"] == 0 else "≥ " if np.isinf(curve["high"]) else ""
    text = "no response" if np.isnan(curve["ec50"]) else f"EC50 {open_end}{curve['ec50']:.2g}"
    if "true_ec50" in curve:
        text += f"\ntrue {curve['true_ec50']:.2g}"
        ax.plot(band[CONCENTRATION], band["true"], color=TRUE, ls="--", lw=1)
        ax.axvline(curve["true_ec50"], color=TRUE, ls=":", lw=1, zorder=1)
    ax.plot(band[CONCENTRATION], band["value"], color=colour)
    x, y = wells[CONCENTRATION], wells["responding_fraction"]
    ax.plot(x, y, "o", color=colour, ms=3.5, mec="w", mew=0.4, clip_on=False)
    ax.set(xscale="log", ylim=(0, 1))
    ax.set_title(panel_title(curve[COMPOUND], curve[LABEL]), fontsize=8, loc="left")
    box = {"facecolor": "w", "lw": 0, "pad": 0.5}  # hides the dotted line behind the text; points stay on top
    ax.text(0.98, 0.04, text, transform=ax.transAxes, ha="right", fontsize=6.5, bbox=box, zorder=1.5)
    ax.minorticks_off()


def panel_title(compound: str, phenotype: str) -> str:
    """Both on one line where they fit a panel, else on two, each cut to its width."""
    title = " · ".join(name for name in (compound, phenotype) if name)
    if len(title) <= TITLE:
        return title
    return "\n".join(name if len(name) <= TITLE else f"{name[: TITLE - 1]}…" for name in (compound, phenotype))


def estimated_against_true(fields: pd.DataFrame, scores: pd.DataFrame) -> plt.Figure:
    """Estimated against true responding fraction: one point per field of one run, one colour per phenotype.

    The tables are those of ``with_responding_fraction`` and ``by_phenotype``, of one method.
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.2))
    ax.plot([0, 1], [0, 1], color=TRUE, lw=0.8, ls="--")
    for name, (colour, marker) in looks_of(fields[LABEL]).items():
        rows, r = fields[fields[LABEL] == name], scores.loc[scores[LABEL] == name, "r"].item()
        x, y, style = rows["fraction"], rows["responding_fraction"], f"{colour}{marker}"
        ax.plot(x, y, style, ms=4.4, alpha=0.75, mew=0.3, mec="w", clip_on=False, label=f"{name}, r = {r:.2f}")
    ax.set(xlabel="true responding fraction", ylabel="estimated responding fraction")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    fig.legend(loc="outside right center", title="phenotype")
    return fig


def threshold_plot(table: pd.DataFrame) -> plt.Figure:
    """The learned b of each class with its range over seeds, beside p̄ and the true fraction of its fields.

    ``table`` is that of ``responding_fraction.b_table``, of one method.
    """
    fig, ax = plt.subplots(figsize=(5.2, 0.28 * len(table) + 1))
    y, bars = np.arange(len(table))[::-1], error_bars(table, "b")
    ax.hlines(y, 0, 1, color="0.9", lw=0.7, zorder=0)
    ax.errorbar(table["b"], y, xerr=bars, fmt="D", capsize=2, ms=5, label="learned b, range over seeds")
    ax.plot(table["other"], y, "x", color="0.4", label="mean p̄ in fields of other classes")
    ax.plot(table["own"], y, "o", color="0.4", label="mean p̄ in fields of the class")
    ax.plot(table["fraction"], y, "|", color=TRUE, ms=11, mew=1.6, label="true responding fraction")
    ax.set(xlim=(-0.01, 1), ylim=(-0.6, len(table) - 0.4), xlabel="b, p̄ or responding fraction")
    ax.set_yticks(y, table["class"])
    fig.legend(loc="outside right center")
    return fig


def degradation_panels(table: pd.DataFrame, chance: float) -> plt.Figure:
    """Accuracy of each method against the four factors of ``evaluate.degradation``.

    Methods that have a colour, see ``look``, have their 95 % intervals.
    """
    fig, axes = plt.subplots(2, 2, figsize=(6.9, 4.6), sharey=True)
    for ax, (factor, (title, text)) in zip(axes.flat, FACTORS.items(), strict=True):
        of_factor = table[table["factor"] == factor]
        ax.axhline(chance, color=TRUE, lw=0.8, ls=":")
        ax.set(title=title, xlabel=text, ylim=(0, 1.03))
        ax.xaxis.set_major_locator(MaxNLocator(6))
        if of_factor.empty:
            ax.text(0.5, 0.5, "no runs with this factor", transform=ax.transAxes, ha="center", color="0.4")
        for method, rows in of_factor.groupby("method"):
            bars = error_bars(rows) if method in METHOD_COLOURS else None  # grey is the background
            shown = {"capsize": 2, "elinewidth": 0.7, "label": label(method)} | look(method)
            ax.errorbar(rows["level"], rows["value"], bars, **shown)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy")
    xy, coords = (0.99, chance), ("axes fraction", "data")
    axes[0, 0].annotate("chance", xy, xycoords=coords, ha="right", va="bottom", color=TRUE)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
