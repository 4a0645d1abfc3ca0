"""Responding fraction, against values by hand, scipy, and known fractions."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from milcnn.evaluate import responding_fraction
from milcnn.evaluate.intervals import interval
from milcnn.evaluate.runs import SUMMARY
from milcnn.roles import held_out

FIELD = {"method": "noisy_and", "seed": 0, "Metadata_Plate": "P1", "Metadata_Well": "A01", "Metadata_Site": 1}
CONTROL = FIELD | {
    "Metadata_Control": True, "Metadata_Label": "DMSO", "Metadata_Compound": "DMSO", "Metadata_Concentration": 0.0,
    "Metadata_Split": "test", "fraction": 0.0, "response": 0.0, "ec50": np.nan, "p_DMSO": 0.3, "p_big": 0.1, "p_red": 0,
}  # fmt: skip
TREATED = CONTROL | {
    "Metadata_Control": False, "Metadata_Label": "big", "Metadata_Compound": "S01", "Metadata_Concentration": 1.0,
}  # fmt: skip


def table(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def test_responding_fraction_by_hand():
    # q₀ = mean of 0.1 / 0.4 and 0.3 / 0.4 = 0.5; q = 0.7 / 0.8; u = (0.875 − 0.5) / 0.5 = 0.75; f = 1 − √0.25
    controls = CONTROL, CONTROL | {"p_DMSO": 0.1, "p_big": 0.3}
    (field,) = responding_fraction.with_responding_fraction(
        table(*controls, TREATED | {"p_DMSO": 0.1, "p_big": 0.7}), k=2
    ).to_dict("records")
    assert field["responding_fraction"] == pytest.approx(0.5)
    assert field["Metadata_Compound"] == "S01"


def test_each_field_uses_the_controls_of_its_class_plate_and_run():
    # "red" has no background, the other plate and the other seed have backgrounds of their own
    rows = [CONTROL, CONTROL | {"Metadata_Plate": "P2", "p_big": 0.3}, CONTROL | {"seed": 1, "p_big": 0.0}]
    treated = TREATED | {"p_DMSO": 0.2, "p_big": 0.6, "p_red": 0.2}
    rows += [treated, treated | {"Metadata_Label": "red"}, treated | {"Metadata_Plate": "P2"}, treated | {"seed": 1}]
    fields = responding_fraction.with_responding_fraction(table(*rows), k=1)["responding_fraction"]
    # q = 0.75 of big with q₀ = 0.25, 0.5 and 0, and 0.5 of red with q₀ = 0
    assert fields.tolist() == pytest.approx([(0.75 - 0.25) / 0.75, 0.5, (0.75 - 0.5) / 0.5, 0.75])


def test_known_fractions_are_recovered_from_maps():
    true = np.linspace(0, 1, 21)
    lit = 1 - (1 - true) ** 3  # an instance that sees 3 cells
    q = 0.25 + 0.75 * lit  # in addition to the 25 % of the controls
    rows = [TREATED | {"p_DMSO": 0.4 * (1 - share), "p_big": 0.4 * share} for share in q]
    fields = responding_fraction.with_responding_fraction(table(CONTROL, *rows), k=3)
    assert fields["responding_fraction"].to_numpy() == pytest.approx(true, abs=1e-9)


def test_the_fraction_does_not_depend_on_the_number_of_cells():
    thin = [row | {name: row[name] / 5 for name in ("p_DMSO", "p_big")} for row in (TREATED | {"p_big": 0.6},)]
    fields = responding_fraction.with_responding_fraction(table(CONTROL, TREATED | {"p_big": 0.6}, *thin), k=2.8)[
        "responding_fraction"
    ]
    assert fields[0] == pytest.approx(fields[1])
    assert fields[0] > 0.1


def test_a_field_below_its_controls_has_fraction_0():
    fields = responding_fraction.with_responding_fraction(table(CONTROL, TREATED | {"p_big": 0.01}), k=2)
    assert fields["responding_fraction"].tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([TREATED], "exactly one"),
        ([CONTROL, CONTROL | {"Metadata_Label": "EtOH"}, TREATED], "exactly one"),
        ([CONTROL | {"Metadata_Label": "water"}, TREATED], "make it a class"),
        ([CONTROL, TREATED | {"Metadata_Plate": "P7"}], "plate P7 has no control"),
    ],
)
def test_missing_or_ambiguous_controls_are_an_error(rows, message):
    with pytest.raises(ValueError, match=message):
        responding_fraction.with_responding_fraction(table(*rows), k=2)


def test_cells_in_view_by_hand():
    # half the receptive field of 135 px is half the side: a quarter of 100 cells
    assert responding_fraction.cells_in_view(100, 135) == pytest.approx(25)
    assert responding_fraction.cells_in_view(5, 2000) == 1


def test_weak_doses_are_kept_only_on_unseen_plates():
    splits = [("P1", "dose"), ("P2", "validation"), ("P2", "dose"), ("P3", "test"), ("P3", "dose")]
    rows = table(*[FIELD | {"Metadata_Plate": plate, "Metadata_Split": split} for plate, split in splits])
    assert held_out(rows, ["test"])["Metadata_Plate"].tolist() == ["P3", "P3"]
    assert len(held_out(rows, ["validation", "test"])) == 4


def test_wells_are_means_of_their_fields():
    rows = table(
        TREATED | {"responding_fraction": 0.2},
        TREATED | {"responding_fraction": 0.4, "Metadata_Site": 2, "fraction": 1},
    )
    (well,) = responding_fraction.well_means(rows).to_dict("records")
    assert (well["responding_fraction"], well["fraction"]) == pytest.approx((0.3, 0.5))


def test_correlation_is_scipys_and_0_for_a_constant():
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    assert responding_fraction.correlation(x, y) == pytest.approx(pearsonr(x, y).statistic)
    assert responding_fraction.correlation(np.ones(4), np.arange(4)) == 0


def test_within_a_factor_of_2_by_hand():
    truth = np.ones(6)
    assert responding_fraction.within_factor_2(np.array([0.5, 2, 1, 0.49, 2.01, np.nan]), truth) == 0.5


@pytest.fixture
def runs():
    """Two seeds, 6 compounds of 8 fields; seed 1 is exact, seed 0 is off by 0.1 in compound S0 alone."""
    rng = np.random.default_rng(3)
    rows = [(f"S{c}", site, rng.random()) for c in range(6) for site in range(8)]
    exact = pd.DataFrame(rows, columns=["Metadata_Compound", "Metadata_Site", "fraction"])
    exact = exact.assign(
        Metadata_Plate="P", Metadata_Well=exact["Metadata_Compound"], Metadata_Label="big", method="max", seed=1
    )
    exact["responding_fraction"] = exact["fraction"]
    off = exact.assign(seed=0, responding_fraction=exact["fraction"] + 0.1 * (exact["Metadata_Compound"] == "S0"))
    return pd.concat([off, exact], ignore_index=True)


def test_score_is_the_mean_over_seeds_and_its_interval_is_over_compounds(runs):
    score = responding_fraction.method_score(
        runs, "responding_fraction", "fraction", responding_fraction.absolute_error
    )
    assert score["value"] == pytest.approx(0.1 / 6 / 2)
    assert (score["n"], score["seeds"]) == (48, 2)
    assert (score["groups"], score["unit"]) == (6, "compound")
    assert score["seed_sd"] == pytest.approx(0.1 / 6 / np.sqrt(2))
    errors = [0.05, 0, 0, 0, 0, 0]  # of the compounds, mean over seeds
    assert (score["low"], score["high"]) == pytest.approx(interval(np.array(errors)))


def test_rows_of_the_summary(runs):
    rows = responding_fraction.fraction_scores(runs, "s", "plate")
    assert rows["metric"].tolist() == ["responding_fraction_r", "responding_fraction_error"]
    assert list(rows.columns) == SUMMARY
    wrong = runs.assign(responding_fraction=1 - runs["fraction"])  # r is between −1 and 1
    assert responding_fraction.fraction_scores(wrong, "s", "plate")["low"].iloc[0] == pytest.approx(-1)
    curves = runs.drop_duplicates(["seed", "Metadata_Compound"]).assign(true_ec50=1.0, ec50=[0.6, np.nan, *[1.0] * 10])
    (row,) = responding_fraction.ec50_scores(curves, "s", "plate").to_dict("records")
    assert row["value"] == pytest.approx((5 / 6 + 1) / 2)
    assert (row["level"], row["metric"], row["n"], row["seeds"]) == ("compound", "ec50_within_2x", 6, 2)
    assert row["low"] <= row["value"] <= row["high"]


def test_coverage_is_the_share_of_intervals_that_hold_the_truth(runs):
    curves = runs.drop_duplicates(["seed", "Metadata_Compound"]).assign(true_ec50=1.0, high=2.0)
    curves["low"] = [0.5, 1.5, np.nan, 0.9, 1.0, 0.1] * 2  # no interval holds nothing
    (row,) = responding_fraction.ec50_coverage(curves, "s", "plate").to_dict("records")
    assert (row["metric"], row["value"]) == ("ec50_interval_coverage", pytest.approx(4 / 6))


def test_a_run_picks_the_phenotype_of_a_compound_by_its_mean_p():
    facts = {"Metadata_Compound": "S1", "method": "max", "seed": 0}
    rows = table(
        CONTROL | {"p_DMSO": 0.9, "p_big": 0.05, "p_small": 0.05} | facts | {"Metadata_Compound": "DMSO"},
        TREATED | {"p_DMSO": 0.8, "p_big": 0.15, "p_small": 0.05} | facts,
        TREATED | {"p_DMSO": 0.1, "p_big": 0.2, "p_small": 0.7} | facts,
        TREATED | {"p_DMSO": 0.1, "p_big": 0.7, "p_small": 0.2} | facts | {"seed": 1},
    )
    picked = responding_fraction.with_picked_labels(rows)["Metadata_Label"]
    assert picked.tolist() == ["DMSO", "small", "small", "big"]


def test_by_phenotype_averages_seeds_first(runs):
    (row,) = responding_fraction.by_phenotype(runs).to_dict("records")
    x = runs.groupby(["Metadata_Compound", "Metadata_Site"])[["responding_fraction", "fraction"]].mean()
    slope = np.linalg.lstsq(x[["responding_fraction"]].to_numpy(), x["fraction"].to_numpy())[0].item()
    assert row["slope"] == pytest.approx(slope)
    assert (row["error"], row["n"]) == pytest.approx((0.05 / 6, 48))


def test_learned_thresholds_are_listed_with_mean_probabilities():
    rows = table(CONTROL, TREATED | {"fraction": 0.5, "p_big": 0.6}, TREATED | {"fraction": 0.7, "p_big": 0.8})
    b = pd.DataFrame(
        {"method": "noisy_and", "seed": [0, 1, 0, 1], "class": ["DMSO"] * 2 + ["big"] * 2, "b": [1, 2, 3, 5]}
    )
    learned = responding_fraction.b_table(b, rows).set_index("class")
    assert learned.loc["big", ["b", "low", "high", "seeds"]].tolist() == [4, 3, 5, 2]
    assert learned.loc["big", ["own", "other", "fraction"]].tolist() == pytest.approx([0.7, 0.1, 0.6])
    assert np.isnan(learned.loc["DMSO", "fraction"])


def test_poolings_without_thresholds_have_no_rows():
    none = pd.DataFrame({"method": [], "seed": [], "class": [], "b": []})
    assert responding_fraction.b_table(none, table(CONTROL)).empty


def test_known_shares_are_of_test_fields_put_together_and_scored_over_their_sources():
    def made(plate: str, split: str, share: float) -> dict:
        row = {key: value for key, value in (TREATED if share else CONTROL).items() if key != "Metadata_Compound"}
        q = 0.25 + 0.75 * (1 - (1 - share) ** 2)  # of 2 cells in view, beside the 25 % of the controls
        row |= {"p_DMSO": 0.4 * (1 - q), "p_big": 0.4 * q, "fraction": share, "cells": 32, "Metadata_Source": plate}
        return row | {"Metadata_Plate": plate, "Metadata_Split": split, "Metadata_Site": round(100 * share)}

    rows = [made(plate, "test", share) for plate in ("P1", "P2") for share in (0, 0.1, 0.5, 0.75)]
    rows += [made("P1", "validation", share) for share in (0, 0.5)]
    rows.append(made("P1", "test", 0.5) | {"method": "profile", "p_DMSO": np.nan, "p_big": np.nan})
    side = 270  # 32 · (67.5 / 270)² = 2 cells in view
    fields = responding_fraction.known_shares(table(*rows), side)
    assert fields["responding_fraction"].tolist() == pytest.approx([0.1, 0.5, 0.75] * 2)
    r, error = responding_fraction.fraction_scores(fields, "made", "plate").to_dict("records")
    assert (r["value"], r["unit"], r["groups"], r["n"]) == (pytest.approx(1), "source", 2, 6)
    assert error["value"] == pytest.approx(0)
    for others in (
        [row | {"Metadata_Compound": "S01"} for row in rows],  # of doses: 08_dose
        [row | {"Metadata_Control": False} for row in rows],
        [{key: value for key, value in row.items() if key != "fraction"} for row in rows],
    ):
        none = responding_fraction.known_shares(table(*others), side)
        assert none.empty
        assert responding_fraction.fraction_scores(none, "made", "plate").empty
