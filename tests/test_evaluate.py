"""Judgement, against counts by hand and a normal approximation."""

import numpy as np
import pandas as pd
import pytest

from milcnn import evaluate
from milcnn.evaluate import FIELD_KEY


@pytest.fixture
def predictions():
    """Two methods, two seeds, four fields; worked out by hand below."""
    rows = [
        (method, seed, site, label, called)
        for method, seed, calls in [("max", 0, "aabb"), ("max", 1, "abbb"), ("mean", 0, "bbbb"), ("mean", 1, "bbbb")]
        for site, (label, called) in enumerate(zip("aabb", calls, strict=True))
    ]
    table = pd.DataFrame(rows, columns=["method", "seed", "Metadata_Site", "Metadata_Label", "predicted"])
    table = table.assign(Metadata_Plate="p", Metadata_Well="w", seconds_per_field=0.5)
    return evaluate.with_errors(table)


def test_accuracy_by_hand(predictions):
    rows = evaluate.summary_rows(predictions, "s", "field", "field", "accuracy", "correct").set_index("method")
    # max: seeds 4/4 and 3/4; per field 1, ½, 1, 1
    assert rows.loc["max", "value"] == pytest.approx(0.875)
    assert rows.loc["mean", "value"] == pytest.approx(0.5)
    assert rows.loc["max", ["n", "seeds", "seconds_per_field"]].tolist() == [4, 2, 0.5]
    assert list(rows.reset_index()[evaluate.SUMMARY].columns) == evaluate.SUMMARY
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()


def test_interval_is_that_of_the_normal_approximation_for_many_fields():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    low, high = evaluate.interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_interval_of_one_field_or_of_equal_fields_is_a_point():
    assert evaluate.interval(np.array([0.25])) == (0.25, 0.25)
    assert evaluate.interval(np.ones(9)) == (1, 1)


def test_seeds_of_a_field_are_averaged_before_the_interval(predictions):
    doubled = pd.concat([predictions, predictions.assign(seed=predictions["seed"] + 2)])
    a, b = (evaluate.mean_with_interval(t, ["method"], "correct") for t in (predictions, doubled))
    assert a[["value", "low", "high", "n"]].equals(b[["value", "low", "high", "n"]])


def test_rows_of_other_studies_stay_and_those_of_this_run_are_replaced():
    def rows(study, value):
        return pd.DataFrame([{**dict.fromkeys(evaluate.SUMMARY, 0), "study": study, "method": "max", "value": value}])

    old = pd.concat([rows("yeast", 0.1), rows("digits", 0.2)])
    merged = evaluate.merged_summary(old, rows("digits", 0.3))
    assert merged[["study", "value"]].to_numpy().tolist() == [["digits", 0.3], ["yeast", 0.1]]
    empty = pd.DataFrame(columns=evaluate.SUMMARY)
    assert evaluate.merged_summary(empty, rows("digits", 0.3))["value"].tolist() == [0.3]


def test_runs_are_stacked_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "max-0").mkdir()
    pd.DataFrame({"x": [1, 2]}).to_csv(tmp_path / "max-0" / "t.csv", index=False)
    table = evaluate.read_runs(tmp_path, ["max"], [0], "t.csv")
    assert table.to_dict("list") == {"x": [1, 2], "method": ["max"] * 2, "seed": [0, 0]}
    with pytest.raises(FileNotFoundError, match=r"max-1/t\.csv: no such table; train this run first"):
        evaluate.read_runs(tmp_path, ["max"], [0, 1], "t.csv")


def test_metrics_tell_the_mean_and_the_worst_seed(predictions):
    scores = evaluate.summary_rows(predictions, "s", "field", "field", "accuracy", "correct")
    by_seed = predictions.groupby(["method", "seed"])["correct"].mean().unstack()
    assert evaluate.metrics(scores, by_seed)["max"] == {"accuracy": 0.875, "worst_seed": 0.75}
    assert FIELD_KEY == ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]


def test_error_by_fraction_by_hand(predictions):
    table = evaluate.error_by_fraction(predictions.assign(fraction=[0.1, 0.2, 0.2, 0.2] * 4)).set_index(
        ["method", "fraction"]
    )
    # max: the first field is right for both seeds; of the three others one is wrong for one seed
    assert table.loc[("max", 0.1), "value"] == 0
    assert table.loc[("max", 0.2), "value"] == pytest.approx(0.5 / 3)
    assert table["n"].tolist() == [1, 1, 3, 3]


def test_error_by_fraction_bins_many_fractions_and_is_empty_without_truth(predictions):
    many = pd.concat([predictions.assign(Metadata_Well=f"w{i}", fraction=i / 40) for i in range(40)])
    table = evaluate.error_by_fraction(many, levels=4)
    assert table.groupby("method")["n"].apply(list).tolist() == [[40] * 4] * 2
    assert table["fraction"].unique() == pytest.approx([4.5 / 40, 14.5 / 40, 24.5 / 40, 34.5 / 40], abs=1e-3)
    empty = evaluate.error_by_fraction(predictions)
    assert len(empty) == 0
    assert list(empty.columns) == ["method", "fraction", "value", "low", "high", "n", "seeds"]


def test_several_labels_are_right_only_all_together():
    table = pd.DataFrame({"Metadata_Label": ["a|b", "a|b", "b"], "predicted": ["b|a", "a", None]})
    assert evaluate.with_errors(table)["correct"].tolist() == [1, 0, 0]
    assert evaluate.class_names(table["Metadata_Label"]) == ["a", "b"]
    assert evaluate.label_matrix(table["Metadata_Label"], ["a", "b", "c"]).tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0]]


def test_mean_average_precision_by_hand():
    y = pd.DataFrame({"y_a": [0.9, 0.8, 0.1], "y_b": [0.1, 0.9, 0.5], "Metadata_Label": ["a", "b", "a|b"]})
    # a: ranks 1 and 3 → (1 + 2/3) / 2; b: ranks 1 and 2 → 1
    assert evaluate.mean_average_precision(y, ["a", "b"]) == pytest.approx((5 / 6 + 1) / 2)
    runs = pd.concat([y.assign(method="max", seed=seed) for seed in (0, 1)])
    row = evaluate.ranking_rows(runs, "s", "field").iloc[0]
    assert row["value"] == pytest.approx(11 / 12)
    assert row["low"] <= row["value"] <= row["high"]
    assert (row["n"], row["seeds"], row["metric"]) == (3, 2, "mean_average_precision")
