"""Runs, summaries and intervals, against counts by hand and the normal approximation."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, norm, t

from milcnn.evaluate.comparisons import error_by_fraction
from milcnn.evaluate.intervals import (
    FACTS,
    MOST_GROUPS,
    clusters,
    interval,
    jackknife_interval,
    mean_with_interval,
    without_each,
)
from milcnn.evaluate.runs import (
    SUMMARY,
    classes_in,
    label_matrix,
    merged_summary,
    metrics_of,
    of_split,
    read_marked,
    read_runs,
    with_errors,
)
from milcnn.evaluate.scores import summary_rows
from milcnn.figures.labels import label


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
    values = np.random.default_rng(0).uniform(0.2, 0.9, 4000)
    low, high = interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_jackknife_error_of_a_mean_is_its_standard_error_and_the_interval_is_clopper_and_pearsons():
    values = np.array([0.0, 1, 1, 0, 1, 1, 1, 0])
    low, high = interval(values)
    se = values.std(ddof=1) / np.sqrt(8)
    m = 0.625 * 0.375 / (se * t.ppf(0.975, 7) / norm.ppf(0.975)) ** 2
    expected = beta.ppf(0.025, 0.625 * m, 0.375 * m + 1), beta.ppf(0.975, 0.625 * m + 1, 0.375 * m)
    assert (low, high) == pytest.approx(expected)


def test_the_jackknife_error_of_clusters_is_that_of_a_ratio():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), rng.integers(2, 9, 12))
    values = rng.random(len(groups))
    counts = without_each(groups)
    low, high = jackknife_interval(counts @ values / counts.sum(axis=1), groups, highest=np.inf)
    sizes = np.bincount(groups)
    residual = np.bincount(groups, values - values.mean())  # Cameron and Miller 2015, the cluster-robust variance
    robust = np.sqrt(12 / 11 * (residual**2).sum()) / len(groups)
    freedom = sizes.sum() ** 2 / (sizes**2).sum() - 1
    assert high - low == pytest.approx(2 * t.ppf(0.975, freedom) * robust, rel=0.05)


def test_where_all_groups_agree_the_interval_is_that_of_no_error_in_as_many_groups():
    low, high = interval(np.ones(12))
    assert (low, high) == pytest.approx((0.025 ** (1 / 12), 1))  # Clopper and Pearson 1934 for 12 of 12: 0.735
    half = 0.5 * (1 - 0.025 ** (1 / 4))
    assert interval(np.full(4, 0.5)) == pytest.approx((0.5 - half, 0.5 + half))
    assert jackknife_interval(np.zeros(13), np.arange(12), -1) == pytest.approx((low - 1, 1 - low))


def test_groups_of_unequal_size_count_as_fewer():
    groups = np.array([0] * 10 + [1, 2, 3])  # (10 + 3)² / (10² + 3) groups
    effective = 169 / 103
    assert interval(np.ones(13), groups)[0] == pytest.approx(0.025 ** (1 / effective))
    counts, values = without_each(groups), np.arange(13.0)
    scores = counts @ values / counts.sum(axis=1)
    half = t.ppf(0.975, 1) * np.sqrt(3 * scores[1:].var())  # never fewer than one degree of freedom
    assert jackknife_interval(scores, groups, highest=np.inf)[1] == pytest.approx(scores[0] + half)
    pairs = np.repeat(np.arange(6), [1, 1, 1, 1, 1, 4])  # 81 / 21 groups
    scores = np.array([5.0, 4, 6, 5, 5, 4, 6])
    half = t.ppf(0.975, 81 / 21 - 1) * np.sqrt(5 * scores[1:].var())
    assert jackknife_interval(scores, pairs, -np.inf, np.inf) == pytest.approx((5 - half, 5 + half))


def test_one_group_or_a_score_that_rests_on_one_has_no_interval():
    assert np.isnan(interval(np.array([0.25]))).all()
    assert np.isnan(interval(np.array([0.2, 0.3]), np.array([0, 0]))).all()
    assert np.isnan(jackknife_interval(np.array([0.9, 0.8, np.nan, 0.7]), np.arange(3))).all()


def test_fewer_groups_give_wider_intervals():
    rng = np.random.default_rng(0)
    errors = rng.random((300, 60)) < 0.2
    mean = [np.mean([np.diff(interval(row, np.arange(60) % groups)) for row in errors]) for groups in (3, 6, 9, 10, 20)]
    assert (np.diff(mean) < 0).all()


def test_fields_of_a_compound_are_left_out_together():
    # 200 compounds of 20 equal fields: as uncertain as 200 fields, not as 4,000
    values = np.random.default_rng(0).uniform(0, 1, 200)
    table = fields(200 * 20).assign(Metadata_Compound=np.repeat(np.arange(200), 20), x=np.repeat(values, 20))
    row = mean_with_interval(table.assign(method="max", seed=0), ["method"], "x").iloc[0]
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert (row["low"], row["high"]) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)
    assert row[["n", "groups", "unit"]].tolist() == [4000, 200, "compound"]


def fields(n):
    return pd.DataFrame({"Metadata_Plate": "p", "Metadata_Well": "w", "Metadata_Site": range(n)})


def test_groups_are_the_coarsest_unit_that_occurs_twice():
    table = fields(24)
    assert clusters(table)[1:] == (24, "field of one well")
    table["Metadata_Well"] = np.arange(24) // 2
    assert clusters(table).of_field.tolist() == (np.arange(24) // 2).tolist()
    assert clusters(table)[1:] == (12, "well of one plate")
    table["Metadata_Plate"] = np.arange(24) % 3  # few plates stay plates
    assert clusters(table).of_field.tolist() == (np.arange(24) % 3).tolist()
    assert clusters(table)[1:] == (3, "plate")
    table["Metadata_Compound"] = "S"  # one compound does not repeat
    assert clusters(table).unit == "plate"
    table["Metadata_Compound"] = ["S", "T"] * 12
    assert clusters(table)[1:] == (2, "compound")
    table["Metadata_Source"] = np.nan  # not known
    assert clusters(table).unit == "compound"
    table["Metadata_Source"] = "image 1"  # all from one image: nothing to learn of other images
    assert clusters(table)[1:] == (1, "source")


def test_each_well_of_the_negative_control_is_a_group():
    table = fields(12).assign(Metadata_Well=np.arange(12) // 2, Metadata_Compound=["S"] * 2 + ["T"] * 4 + ["DMSO"] * 6)
    table["Metadata_Control"] = table["Metadata_Compound"] == "DMSO"
    groups = clusters(table)
    assert groups.of_field.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert groups[1:] == (5, "compound")
    one = table[table["Metadata_Compound"] != "T"]  # one compound beside the control does not repeat
    assert clusters(one)[1:] == (4, "well of one plate")
    controls = table[table["Metadata_Control"]]
    assert clusters(controls)[1:] == (3, "well of one plate")


def test_many_groups_are_joined_at_random_and_stay_whole():
    table = fields(3 * 1000).assign(Metadata_Plate=np.repeat(np.arange(1000), 3))
    groups = clusters(table)
    assert groups.number == 1000
    assert len(set(groups.of_field)) == MOST_GROUPS
    assert (groups.of_field.reshape(1000, 3) == groups.of_field[::3, None]).all()
    assert groups.of_field[:30].tolist() != sorted(groups.of_field[:30])


def test_each_group_is_left_out_once():
    assert without_each(np.array([0, 0, 1, 2])).tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    assert without_each(np.zeros(3, int)).tolist() == [[1, 1, 1]]


def test_an_error_of_counts_may_exceed_1_and_is_not_below_0():
    table = fields(4).assign(method="max", seed=0, x=[0.0, 0, 0, 10])
    row = mean_with_interval(table, ["method"], "x", np.inf).iloc[0]
    assert (row["low"], row["value"]) == (0, 2.5)
    assert row["high"] == pytest.approx(2.5 + t.ppf(0.975, 3) * 2.5)
    counts = summary_rows(table, "s", "field", "object", "count_error", "x").iloc[0]
    assert counts["high"] == row["high"]


def test_the_spread_of_seeds_is_a_column(predictions):
    rows = mean_with_interval(predictions, ["method"], "correct").set_index("method")
    assert rows.loc["max", "seed_sd"] == pytest.approx(np.std([1, 0.75], ddof=1))
    assert rows.loc["mean", "seed_sd"] == 0
    one = mean_with_interval(predictions[predictions["seed"] == 0], ["method"], "correct")
    assert one["seed_sd"].isna().all()


def test_seeds_of_a_field_are_averaged_before_the_interval(predictions):
    doubled = pd.concat([predictions, predictions.assign(seed=predictions["seed"] + 2)])
    a, b = (mean_with_interval(t, ["method"], "correct") for t in (predictions, doubled))
    same = ["value", "low", "high", "n", "groups"]
    pd.testing.assert_frame_equal(a[same], b[same])


def test_new_rows_replace_only_those_of_the_same_study_and_method():
    def rows(study, value, method="max"):
        return pd.DataFrame([{**dict.fromkeys(SUMMARY, 0), "study": study, "method": method, "value": value}])

    old = pd.concat([rows("yeast", 0.1), rows("digits", 0.2), rows("digits", 0.4, "mean")])
    merged = merged_summary(old, rows("digits", 0.3))
    expected = [["digits", "max", 0.3], ["digits", "mean", 0.4], ["yeast", "max", 0.1]]
    assert merged[["study", "method", "value"]].to_numpy().tolist() == expected
    older = old.drop(columns=["groups", "unit", "seed_sd"])  # written before these columns were there
    assert merged_summary(older, rows("digits", 0.3))["groups"].isna().tolist() == [False, True, True]
    empty = pd.DataFrame(columns=SUMMARY)
    assert merged_summary(empty, rows("digits", 0.3))["value"].tolist() == [0.3]


def test_runs_are_stacked_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "max-0").mkdir()
    pd.DataFrame({"x": [1, 2]}).to_csv(tmp_path / "max-0" / "t.csv", index=False)
    table = read_runs(tmp_path, ["max"], [0], "t.csv")
    assert table.to_dict("list") == {"x": [1, 2], "method": ["max"] * 2, "seed": [0, 0]}
    with pytest.raises(FileNotFoundError, match=r"mean-0/t\.csv: no such table; train this run first"):
        read_runs(tmp_path, ["max", "mean"], [0, 1], "t.csv")
    shutil.copytree(tmp_path / "max-0", tmp_path / "max-2")
    with pytest.raises(FileNotFoundError, match=r"max-1/t\.csv: no such table; train this run first"):
        read_runs(tmp_path, ["max"], [0, 1, 2], "t.csv")


def test_methods_are_named_by_baseline_or_by_condition(tmp_path):
    for run in ("max-0", "baselines/svm_vote-0", "shuffled/noisy_and-0"):
        (tmp_path / run).mkdir(parents=True)
        pd.DataFrame({"x": [1]}).to_csv(tmp_path / run / "t.csv", index=False)
    table = read_runs(tmp_path, ["max"], [0], "t.csv", ["svm_vote"], ["shuffled"])
    assert table["method"].tolist() == ["max", "svm_vote", "noisy_and_shuffled"]
    shutil.copytree(tmp_path / "shuffled" / "noisy_and-0", tmp_path / "shuffled" / "noisy_and-3")
    seeds = read_runs(tmp_path, [], [0], "t.csv", conditions=["shuffled"])["seed"]
    assert seeds.tolist() == [0, 3]


def test_runs_with_controls_have_their_own_names(tmp_path):
    none = read_marked(tmp_path, ["max"], [0])  # a study without controls
    assert none.empty
    assert none["seed"].dtype == int  # a float would name a folder max-0.0
    for run in ("max-0", "baselines/svm_vote-0"):
        (tmp_path / run).mkdir(parents=True)
        pd.DataFrame({"x": [1]}).to_csv(tmp_path / run / "predictions_controls.csv", index=False)
    table = read_marked(tmp_path, ["max"], [0], ["svm_vote", "sphered"])  # sphered could not learn
    assert table["method"].tolist() == ["max+controls", "svm_vote+controls"]
    assert label("svm_vote+controls") == "SVM vote, with controls"
    (tmp_path / "baselines/svm_vote-1").mkdir()  # a run of another seed, without the segmentation as it comes
    copy = tmp_path / "baselines/svm_vote-0/predictions_as_it_comes.csv"
    shutil.copy(tmp_path / "max-0" / "predictions_controls.csv", copy)
    table = read_marked(tmp_path, ["max"], [0], ["svm_vote", "sphered"])
    assert table["method"].tolist() == ["max+controls", "svm_vote+controls", "svm_vote+as_it_comes"]
    assert read_marked(tmp_path, [], [0, 1], ["svm_vote"])["seed"].tolist() == [0, 0]
    assert label("svm_vote+as_it_comes") == "SVM vote, segmentation as it comes"
    with pytest.raises(FileNotFoundError, match=r"mean-0/predictions_controls\.csv"):
        read_marked(tmp_path, ["max", "mean"], [0, 1], ["svm_vote"])


def test_a_method_that_ran_with_the_first_seed_only_needs_no_other(tmp_path):
    for run in ("isr-0", "max-0", "max-1", "baselines/svm_vote-0", "baselines/svm_vote-1", "baselines/sphered-0"):
        (tmp_path / run).mkdir(parents=True)
        pd.DataFrame({"x": [1]}).to_csv(tmp_path / run / "t.csv", index=False)
    table = read_runs(tmp_path, ["max", "isr"], [0, 1], "t.csv", ["svm_vote", "sphered"])
    assert table.groupby("method")["seed"].nunique().to_dict() == {"max": 2, "isr": 1, "svm_vote": 2, "sphered": 1}
    (tmp_path / "isr-0").rename(tmp_path / "noisy_and-0")
    with pytest.raises(FileNotFoundError, match=r"noisy_and-1/t\.csv"):
        read_runs(tmp_path, ["noisy_and"], [0, 1], "t.csv")
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
    assert list(empty.columns) == ["method", "fraction", *FACTS]


def test_a_field_with_several_labels_is_right_if_all_are():
    table = pd.DataFrame({"Metadata_Label": ["a|b", "a|b", "b"], "predicted": ["b|a", "a", None]})
    assert with_errors(table)["correct"].tolist() == [1, 0, 0]
    assert classes_in(table["Metadata_Label"]) == ["a", "b"]
    assert label_matrix(table["Metadata_Label"], ["a", "b", "c"]).tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0]]


def test_a_class_may_have_a_bar_in_its_name():
    labels, known = pd.Series(["a|b", "a", None, "c|a"]), ["a", "a|b", "c"]
    assert label_matrix(labels, known).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert classes_in(labels, known) == ["a", "a|b", "c"]
