"""Hill curves, fitted to points of known curves."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from milcnn.evaluate import hill
from milcnn.screens.sets.simulated import response

DOSES = np.repeat([0.03, 0.1, 0.3, 1, 3, 10], 2)


def wells(effect, compound="S01", **more):
    facts = {"method": "mean", "seed": 0, "Metadata_Compound": compound, "Metadata_Label": "big", "ec50": 0.5}
    columns = {
        "Metadata_Concentration": DOSES,
        "Metadata_Plate": ["P1", "P2", "P3"] * 4,
        "responding_fraction": effect,
        "response": response(DOSES, 0.5, 2.0, 0.8),
    }
    return pd.DataFrame(facts | columns | more)


@pytest.mark.parametrize(("ec50", "slope", "top"), [(0.15, 1.2, 0.7), (0.6, 2.5, 0.95), (2.0, 1.8, 0.8)])
def test_a_known_curve_is_recovered(ec50, slope, top):
    curve = hill.fit_hill(DOSES, response(DOSES, ec50, slope, top))
    assert curve == pytest.approx((0, top, ec50, slope), rel=1e-2, abs=2e-3)


def test_half_of_the_effect_is_at_ec50():
    curve = hill.Hill(0.1, 0.7, 0.4, 1.7)
    assert hill.hill(np.array([0.4, 1e-9, 1e9]), curve) == pytest.approx([0.4, 0.1, 0.7])


def test_a_compound_without_response_has_no_ec50_and_a_flat_curve():
    effect = np.tile([0.02, 0.06], 6)
    curve = hill.fit_hill(DOSES, effect)
    assert np.isnan(curve.ec50)
    assert hill.hill(DOSES, curve) == pytest.approx(np.full(12, 0.04))


def test_a_compound_that_responds_at_every_dose_has_its_ec50_at_the_lowest():
    curve = hill.fit_hill(DOSES, np.full(12, 0.8))
    assert curve.ec50 == pytest.approx(0.03, rel=1e-3)


@pytest.mark.parametrize(
    ("effect", "low", "high"),
    [
        (np.full(12, 0.8), 0, 0.03),
        (np.linspace(0.8, 0.5, 12), 0, 0.03),  # it falls
        (response(DOSES, 30, 1.0, 0.9), 10, np.inf),
    ],
)
def test_the_interval_of_an_ec50_at_the_end_of_the_doses_is_open(effect, low, high):
    row = hill.curves(wells(effect)).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=2e-3)


def test_a_single_dose_has_no_other_ec50():
    curve = hill.fit_hill(np.ones(4), np.array([0.4, 0.5, 0.6, 0.5]))
    assert np.isnan(curve.ec50) or curve.ec50 == pytest.approx(1)


def test_the_interval_includes_the_truth_in_most_compounds():
    rng = np.random.default_rng(0)
    true = response(DOSES, 0.5, 2.0, 0.8)
    compounds = [wells((true + rng.normal(0, 0.08, 12)).clip(0, 1), f"S{number}") for number in range(10)]
    curves = hill.curves(pd.concat(compounds))
    covered = ((curves["low"] <= 0.5) & (curves["high"] >= 0.5)).mean()
    assert covered >= 0.8
    assert (curves["high"] / curves["low"]).median() < 5
    assert curves["ec50"].between(curves["low"], curves["high"]).all()


def test_the_interval_of_one_plate_is_that_of_its_wells_by_hand():
    rng = np.random.default_rng(2)
    effect = (response(DOSES, 0.5, 2.0, 0.8) + rng.normal(0, 0.05, 12)).clip(0, 1)
    (row,) = hill.curves(wells(effect, Metadata_Plate="P1")).to_dict("records")
    without = [np.log(hill.fit_hill(np.delete(DOSES, i), np.delete(effect, i)).ec50) for i in range(12)]
    half = t.ppf(0.975, 8) * np.sqrt(11 / 12 * sum((np.array(without) - np.mean(without)) ** 2))
    assert (row["low"], row["high"]) == pytest.approx((row["ec50"] / np.exp(half), row["ec50"] * np.exp(half)))


def test_plates_that_differ_widen_the_interval():
    plates = np.array(["P1", "P2"] * 6)
    effect = np.where(plates == "P1", response(DOSES, 0.4, 2.0, 0.8), response(DOSES, 0.6, 2.0, 0.8))
    row = hill.curves(wells(effect, Metadata_Plate=plates)).iloc[0]
    half = t.ppf(0.975, 1) * np.log(0.6 / 0.4) / 2  # without one plate, the EC50 is that of the other
    assert (row["low"], row["high"]) == pytest.approx(
        (row["ec50"] / np.exp(half), row["ec50"] * np.exp(half)), rel=0.02
    )


def test_an_ec50_that_rests_on_one_plate_has_no_interval():
    effect = np.where(np.array(["P1", "P2", "P3"] * 4) == "P1", response(DOSES, 0.5, 2.0, 0.9), 0)
    row = hill.curves(wells(effect)).iloc[0]
    assert np.isfinite(row["ec50"])
    assert row[["low", "high"]].isna().all()


def test_the_constant_guess_is_the_middle_of_the_doses_for_every_compound():
    rows = hill.constant_guess(pd.concat([wells(DOSES), wells(DOSES, seed=1), wells(DOSES, "S02", ec50=3.0)]))
    assert rows["ec50"].tolist() == pytest.approx([np.sqrt(0.03 * 10)] * 2)
    assert rows[["Metadata_Compound", "true_ec50"]].to_numpy().tolist() == [["S01", 0.5], ["S02", 3.0]]


def test_curves_have_a_row_a_run_and_compound():
    true = response(DOSES, 0.5, 2.0, 0.8)
    table = pd.concat([wells(true), wells(true, seed=1), wells(np.zeros(12), "S02", ec50=3.0)])
    curves = hill.curves(table)
    assert curves[["Metadata_Compound", "seed", "true_ec50"]].to_numpy().tolist() == [
        ["S01", 0, 0.5], ["S01", 1, 0.5], ["S02", 0, 3.0],
    ]  # fmt: skip
    assert curves.loc[0, ["ec50", "low", "high"]].tolist() == pytest.approx([0.5] * 3, rel=1e-2)
    assert curves.loc[2, ["ec50", "low", "high"]].isna().all()


def test_bands_include_the_curve_and_show_the_true_one():
    rng = np.random.default_rng(1)
    true = response(DOSES, 0.5, 2.0, 0.8)
    bands = hill.curve_bands(wells((true + rng.normal(0, 0.03, 12)).clip(0, 1)), points=7)
    grid = bands["Metadata_Concentration"].to_numpy()
    assert grid[[0, -1]] == pytest.approx([0.03, 10])
    assert bands["true"].to_numpy() == pytest.approx(response(grid, 0.5, 2.0, 0.8), abs=5e-3)
    assert (bands["low"] <= bands["high"]).all()
    assert (bands["value"].between(bands["low"] - 0.02, bands["high"] + 0.02)).all()
