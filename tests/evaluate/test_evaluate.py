"""Runs, summaries and intervals, against counts by hand and the normal approximation."""

import numpy as np
import pandas as pd
import pytest

from milcnn.evaluate.comparisons import error_by_fraction
from milcnn.evaluate.intervals import draw_counts, interval, mean_with_interval, resampling_groups, summarise_draws
from milcnn.evaluate.runs import (
    SUMMARY,
    classes_in,
    label_matrix,
    merged_summary,
    metrics_of,
    of_split,
    read_runs,
    with_errors,
)
from milcnn.evaluate.scores import summary_rows


@pytest.fixture
def predictions():
    """Two methods, two seeds, four fields; worked out by hand below."""
    rows = [
        (method, seed, site, label, called)
        for method, seed, calls in [("max", 0, "aabb"), ("max", 1, "abbb"), ("mean", 0, "bbbb"), ("mean", 1, "bbbb")]
        for site, (label, called) in enumerate(zip("aabb", calls, strict=True))
    ]
    table = pd.DataFrame(rows, columns=["method", "seed", "Metadata_Site", "Metadata_Label", "predicted"])
    return with_errors(table.assign(Metadata_Plate="p", Metadata_Well="w"))


def test_accuracy_by_hand(predictions):
    rows = summary_rows(predictions, "s", "field", "field", "accuracy", "correct").set_index("method")
    # max: seeds 4/4 and 3/4; per field 1, ½, 1, 1
    assert rows.loc["max", "value"] == pytest.approx(0.875)
    assert rows.loc["mean", "value"] == pytest.approx(0.5)
    assert rows.loc["max", ["n", "seeds"]].tolist() == [4, 2]
    assert list(rows.reset_index()[SUMMARY].columns) == SUMMARY
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()


def test_interval_is_that_of_the_normal_approximation_for_many_fields():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    low, high = interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_interval_of_one_field_or_of_equal_fields_is_a_point():
    assert interval(np.array([0.25])) == (0.25, 0.25)
    assert interval(np.ones(9)) == (1, 1)


def test_fields_of_a_compound_are_resampled_together():
    # 200 compounds of 20 equal fields: as uncertain as 200 fields, not as 4,000
    values = np.random.default_rng(0).normal(0, 1, 200)
    table = fields(200 * 20).assign(Metadata_Compound=np.repeat(np.arange(200), 20), x=np.repeat(values, 20))
    row = mean_with_interval(table.assign(method="max", seed=0), ["method"], "x").iloc[0]
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert (row["low"], row["high"]) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def fields(n):
    return pd.DataFrame({"Metadata_Plate": "p", "Metadata_Well": "w", "Metadata_Site": range(n)})


def test_resampling_groups_are_compounds_or_plates_or_wells_or_fields():
    table = fields(24)
    assert len(set(resampling_groups(table))) == 24
    table["Metadata_Well"] = np.arange(24) // 2
    assert resampling_groups(table).tolist() == (np.arange(24) // 2).tolist()
    table["Metadata_Plate"] = np.arange(24) % 10
    assert resampling_groups(table).tolist() == (np.arange(24) % 10).tolist()
    table["Metadata_Compound"] = "DMSO"  # one compound is too few
    assert len(set(resampling_groups(table))) == 10
    table["Metadata_Compound"] = ["DMSO", *"ABCDEFGHIJK"] * 2
    assert resampling_groups(table).tolist() == [*range(12)] * 2
    assert len(set(resampling_groups(table[:9]))) == 9  # nine compounds, plates, wells: fields


def test_resamples_keep_groups_whole_and_are_the_same_for_every_method():
    groups = np.array([0, 0, 1, 2, 2, 2])
    counts = draw_counts(groups, 50)
    assert counts.shape == (51, 6)
    assert (counts[0] == 1).all()
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all()  # as many groups as there are
    assert (counts == draw_counts(groups, 50)).all()


def test_an_interval_includes_its_value():
    assert summarise_draws(np.array([0.9, 0.1, 0.2, np.nan])) == {
        "value": 0.9,
        "low": pytest.approx(0.1, abs=0.01),
        "high": 0.9,
    }


def test_seeds_of_a_field_are_averaged_before_the_interval(predictions):
    doubled = pd.concat([predictions, predictions.assign(seed=predictions["seed"] + 2)])
    a, b = (mean_with_interval(t, ["method"], "correct") for t in (predictions, doubled))
    assert a[["value", "low", "high", "n"]].equals(b[["value", "low", "high", "n"]])


def test_new_rows_replace_only_those_of_the_same_study_and_method():
    def rows(study, value, method="max"):
        return pd.DataFrame([{**dict.fromkeys(SUMMARY, 0), "study": study, "method": method, "value": value}])

    old = pd.concat([rows("yeast", 0.1), rows("digits", 0.2), rows("digits", 0.4, "mean")])
    merged = merged_summary(old, rows("digits", 0.3))
    expected = [["digits", "max", 0.3], ["digits", "mean", 0.4], ["yeast", "max", 0.1]]
    assert merged[["study", "method", "value"]].to_numpy().tolist() == expected
    empty = pd.DataFrame(columns=SUMMARY)
    assert merged_summary(empty, rows("digits", 0.3))["value"].tolist() == [0.3]


def test_runs_are_stacked_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "max-0").mkdir()
    pd.DataFrame({"x": [1, 2]}).to_csv(tmp_path / "max-0" / "t.csv", index=False)
    table = read_runs(tmp_path, ["max"], [0], "t.csv")
    assert table.to_dict("list") == {"x": [1, 2], "method": ["max"] * 2, "seed": [0, 0]}
    with pytest.raises(FileNotFoundError, match=r"max-1/t\.csv: no such table; train this run first"):
        read_runs(tmp_path, ["max"], [0, 1], "t.csv")


def test_methods_are_named_by_baseline_or_by_condition(tmp_path):
    for run in ("max-0", "baselines/svm_vote-0", "shuffled/noisy_and-0"):
        (tmp_path / run).mkdir(parents=True)
        pd.DataFrame({"x": [1]}).to_csv(tmp_path / run / "t.csv", index=False)
    table = read_runs(tmp_path, ["max"], [0], "t.csv", ["svm_vote"], ["shuffled"])
    assert table["method"].tolist() == ["max", "svm_vote", "noisy_and_shuffled"]


def test_a_baseline_without_random_numbers_needs_only_the_first_seed(tmp_path):
    for run in ("max-0", "max-1", "baselines/svm_vote-0", "baselines/svm_vote-1", "baselines/sphered-0"):
        (tmp_path / run).mkdir(parents=True)
        pd.DataFrame({"x": [1]}).to_csv(tmp_path / run / "t.csv", index=False)
    table = read_runs(tmp_path, ["max"], [0, 1], "t.csv", ["svm_vote", "sphered"])
    assert table.groupby("method")["seed"].nunique().to_dict() == {"max": 2, "svm_vote": 2, "sphered": 1}
    with pytest.raises(FileNotFoundError, match=r"baselines/ljosa-0/t\.csv"):
        read_runs(tmp_path, ["max"], [0, 1], "t.csv", ["ljosa"])
    with pytest.raises(FileNotFoundError, match=r"baselines/svm_vote-2/t\.csv"):
        read_runs(tmp_path, [], [0, 1, 2], "t.csv", ["svm_vote"])


def test_all_runs_must_predict_the_same_fields_of_a_split(predictions):
    table = predictions.assign(Metadata_Split=np.where(predictions["Metadata_Site"] == 0, "dose", "test"))
    rows = of_split(table.sample(frac=1, random_state=0), "test")
    assert len(rows) == 12
    assert rows.groupby(["method", "seed"])["Metadata_Site"].apply(list).tolist() == [[1, 2, 3]] * 4
    with pytest.raises(ValueError, match="its test fields are not those of max-0; run both on the same study"):
        of_split(table.drop(index=7), "test")


def test_metrics_are_the_mean_and_the_worst_seed(predictions):
    scores = summary_rows(predictions, "s", "field", "field", "accuracy", "correct")
    by_seed = predictions.groupby(["method", "seed"])["correct"].mean().unstack()
    scores = pd.concat([scores, scores.assign(level="well"), scores[:1].assign(method="max_shuffled")])
    metrics = metrics_of(scores, by_seed)
    assert metrics["max"] == {"accuracy": 0.875, "well_accuracy": 0.875, "worst_seed": 0.75}
    assert metrics["max_shuffled"] == {"accuracy": 0.875}


def test_error_by_fraction_by_hand(predictions):
    table = error_by_fraction(predictions.assign(fraction=[0.1, 0.2, 0.2, 0.2] * 4)).set_index(["method", "fraction"])
    # max: the first field is right for both seeds; of the three others one is wrong for one seed
    assert table.loc[("max", 0.1), "value"] == 0
    assert table.loc[("max", 0.2), "value"] == pytest.approx(0.5 / 3)
    assert table["n"].tolist() == [1, 1, 3, 3]


def test_error_by_fraction_bins_many_fractions_and_is_empty_without_truth(predictions):
    many = pd.concat([predictions.assign(Metadata_Well=f"w{i}", fraction=i / 40) for i in range(40)])
    table = error_by_fraction(many, levels=4)
    assert table.groupby("method")["n"].apply(list).tolist() == [[40] * 4] * 2
    assert table["fraction"].unique() == pytest.approx([4.5 / 40, 14.5 / 40, 24.5 / 40, 34.5 / 40], abs=1e-3)
    empty = error_by_fraction(predictions)
    assert len(empty) == 0
    assert list(empty.columns) == ["method", "fraction", "value", "low", "high", "n", "seeds"]


def test_a_field_with_several_labels_is_right_if_all_are():
    table = pd.DataFrame({"Metadata_Label": ["a|b", "a|b", "b"], "predicted": ["b|a", "a", None]})
    assert with_errors(table)["correct"].tolist() == [1, 0, 0]
    assert classes_in(table["Metadata_Label"]) == ["a", "b"]
    assert label_matrix(table["Metadata_Label"], ["a", "b", "c"]).tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0]]


def test_a_class_may_have_a_bar_in_its_name():
    labels, known = pd.Series(["a|b", "a", None, "c|a"]), ["a", "a|b", "c"]
    assert label_matrix(labels, known).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert classes_in(labels.dropna(), known) == ["a", "a|b", "c"]
