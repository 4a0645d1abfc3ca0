"""Figures of doses show the values of their tables. The tests read them back from the axes."""

import numpy as np
import pandas as pd
import pytest

from milcnn.evaluate import hill
from milcnn.figures.dose import degradation_panels, dose_response, estimated_against_true, threshold_plot

DOSES = np.array([0.1, 1.0, 10.0] * 2)

pytestmark = pytest.mark.usefixtures("style")


@pytest.fixture
def wells():
    effects = {"S1": ([0, 0.4, 0.8] * 2, "big"), "S2": ([0.05] * 6, "red")}
    truth = {"method": "max", "seed": 0, "Metadata_Concentration": DOSES, "response": [0, 0.5, 0.9] * 2, "ec50": 1.0}
    truth["Metadata_Plate"] = ["P1"] * 3 + ["P2"] * 3
    return pd.concat(
        pd.DataFrame(truth | {"Metadata_Compound": compound, "responding_fraction": effect, "Metadata_Label": label})
        for compound, (effect, label) in effects.items()
    )


def test_each_compound_has_its_wells_curve_and_true_ec50(wells):
    curves = hill.curves(wells)
    fig = dose_response(wells, hill.curve_bands(wells, points=5), curves)
    first, second, *empty = fig.axes
    assert [ax.get_title(loc="left") for ax in (first, second)] == ["S1 · big", "S2 · red"]
    true, ec50, curve, points = first.lines
    assert points.get_ydata().tolist() == [0, 0.4, 0.8] * 2
    assert set(ec50.get_xdata()) == {1.0}
    assert curve.get_ydata()[-1] == pytest.approx(0.8, abs=0.05)
    assert true.get_ydata()[-1] == pytest.approx(0.9, abs=0.05)
    assert "no response" in second.texts[0].get_text()
    assert not any(ax.axison for ax in empty)


def test_without_truth_wells_and_curve_are_drawn_alone_and_a_name_is_no_formula(wells):
    own = wells.drop(columns=["response", "ec50"]).replace({"S1": "a$b^$"})
    fig = dose_response(own, hill.curve_bands(own, points=5), hill.curves(own))
    first, second = fig.axes[:2]
    assert {first.get_title(loc="left"), second.get_title(loc="left")} == {"a$b^$ · big", "S2 · red"}
    assert len(first.lines) == 2
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["well, estimated", "Hill fit", "95 % band"]
    fig.canvas.draw()  # a formula that cannot be read would raise


def test_colours_are_those_of_all_compounds_and_long_names_have_two_lines(wells):
    wells = wells.replace({"S2": "BRD-K10000034-001-04-1-long"})
    own = wells[wells["Metadata_Label"] == "red"]
    (panel, *_) = dose_response(own, hill.curve_bands(own, points=5), hill.curves(wells)).axes
    assert panel.get_title(loc="left") == "BRD-K10000034-001-04-1-…\nred"
    assert panel.lines[-1].get_color() == "C1"  # big, which is not drawn, is C0


@pytest.mark.parametrize(
    ("doses", "shown"), [([0.1, 1, 10], [0.1, 1, 10]), ([1.5, 3, 6], [2, 5]), ([10, 100, 900], [10, 100])]
)
def test_doses_of_any_range_have_ticks(wells, doses, shown):
    own = wells.assign(Metadata_Concentration=np.tile(doses, 4))
    fig = dose_response(own, hill.curve_bands(own, points=5), hill.curves(own))
    low, high = fig.axes[0].get_xlim()
    ticks = [tick for tick in fig.axes[0].get_xticks() if low <= tick <= high]
    assert set(shown) <= {round(tick, 6) for tick in ticks}
    assert len(ticks) <= 6


def test_estimated_against_true_draws_every_field():
    fields = pd.DataFrame(
        {"Metadata_Label": ["a", "a", "b"], "fraction": [0.1, 0.2, 0.3], "responding_fraction": [0.2, 0.3, 0.9]}
    )
    fig = estimated_against_true(fields, pd.DataFrame({"Metadata_Label": ["a", "b"], "r": [0.9, 0.5]}))
    _, *dots = fig.axes[0].lines
    drawn = np.concatenate([line.get_xydata() for line in dots])
    assert drawn.tolist() == fields[["fraction", "responding_fraction"]].to_numpy().tolist()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a, r = 0.90", "b, r = 0.50"]


def test_threshold_plot_shows_the_learned_thresholds():
    columns = ["class", "b", "low", "high", "own", "other", "fraction"]
    table = pd.DataFrame(
        [("a", 0.1, 0.05, 0.2, 0.6, 0.01, 0.5), ("b", 0.3, 0.3, 0.3, 0.4, 0.02, np.nan)], columns=columns
    )
    (ax,) = threshold_plot(table).axes
    assert ax.containers[0].lines[0].get_xdata().tolist() == [0.1, 0.3]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_yticks().tolist() == [1, 0]


def test_degradation_has_one_line_per_method_and_says_which_factors_have_no_runs():
    columns = ["method", "factor", "level", "value", "low", "high", "n"]
    rows = [
        ("noisy_and", "fraction", 0.1, 0.5, 0.4, 0.6, 9),
        ("noisy_and", "fraction", 0.9, 1, 1, 1, 9),
        ("ljosa", "cells", 40, 0.7, 0.6, 0.8, 9),
    ]
    axes = degradation_panels(pd.DataFrame(rows, columns=columns), chance=0.2).axes
    assert axes[0].containers[0].lines[0].get_ydata().tolist() == [0.5, 1]
    assert axes[0].containers[0].lines[0].get_color() != axes[1].containers[0].lines[0].get_color()
    assert [any("no runs" in text.get_text() for text in ax.texts) for ax in axes] == [False, False, True, True]
