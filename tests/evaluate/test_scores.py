"""Scores, against scikit-learn, repeated fields and counts by hand; levels, calibration, differences."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics as sk

from milcnn.columns import LABEL
from milcnn.evaluate import scores
from milcnn.evaluate.calibration import (
    calibration_rows,
    reliability,
    risk_coverage,
    scaled,
    temperature,
    temperature_of,
    temperatures,
)
from milcnn.evaluate.comparisons import best_baseline_rows, best_baselines, best_of, differences, scores_by_method
from milcnn.evaluate.intervals import clusters, jackknife_interval, without_each
from milcnn.evaluate.levels import at_level, level_rows, together
from milcnn.evaluate.runs import with_errors, without_unknown
from milcnn.evaluate.scores import METRICS, Calls, class_rows, score_rows


def made_calls(n=60, n_classes=4, seed=0, several=False):
    """Random calls, of one label or several; y has ties, and the last class few fields."""
    rng = np.random.default_rng(seed)
    if several:
        truth = (rng.random((n, n_classes)) < [0.5, 0.3, 0.3, 0.1]).astype(int)
        y = np.round(np.clip(0.6 * truth + rng.random((n, n_classes)) * 0.5, 0, 1), 1)
        return Calls(truth, (y > 0.5).astype(int), y)
    labels = rng.choice(n_classes, n, p=[0.5, 0.3, 0.15, 0.05])
    y = np.round(rng.dirichlet(np.ones(n_classes), n) + 0.5 * np.eye(n_classes)[labels], 1) + 0.01
    y /= y.sum(axis=1, keepdims=True)
    return Calls(np.eye(n_classes, dtype=int)[labels], np.eye(n_classes, dtype=int)[y.argmax(axis=1)], y)


@pytest.fixture(params=[False, True], ids=["one label", "several labels"])
def calls(request):
    return made_calls(several=request.param)


@pytest.fixture
def counts():
    return np.random.default_rng(1).integers(0, 4, (5, 60)).astype(float)


def test_accuracy_and_f1_are_scikit_learns_on_every_resample(calls, counts):
    truth, called = calls.truth, calls.called
    expected = [sk.accuracy_score(truth, called, sample_weight=w) for w in counts]
    assert scores.accuracy(calls, counts) == pytest.approx(expected)
    expected = [sk.f1_score(truth, called, average="macro", sample_weight=w, zero_division=0) for w in counts]
    assert scores.macro_f1(calls, counts) == pytest.approx(expected)


def test_balanced_accuracy_is_scikit_learns_on_every_resample(counts):
    calls = made_calls()
    truth, called = calls.truth.argmax(axis=1), calls.called.argmax(axis=1)
    expected = [sk.balanced_accuracy_score(truth, called, sample_weight=w) for w in counts]
    assert scores.balanced_accuracy(calls, counts) == pytest.approx(expected)


def test_roc_auc_is_scikit_learns_on_every_resample(calls, counts):
    expected = [sk.roc_auc_score(calls.truth, calls.y.round(1), sample_weight=w) for w in counts]
    assert scores.roc_auc(calls._replace(y=calls.y.round(1)), counts) == pytest.approx(expected)  # rounded: with ties


def test_a_class_that_is_not_known_of_a_field_is_not_scored(counts):
    """scikit-learn scores the fields of which a class is known, class by class; the rest is by hand."""
    random = np.random.default_rng(2)
    calls = made_calls(several=True)
    calls = calls._replace(y=random.random(calls.y.shape).round(1))
    known = random.random(calls.y.shape) < 0.6
    known[:, 0] |= ~known.any(axis=1)
    marked = Calls(calls.truth * known, calls.called * known, np.where(known, calls.y, np.nan))
    for own, theirs in (
        (scores.roc_auc, sk.roc_auc_score),
        (scores.mean_average_precision, sk.average_precision_score),
    ):
        parts = zip(calls.truth.T, calls.y.T, known.T, strict=True)
        of_class = [[theirs(t[k], y[k], sample_weight=w[k]) for w in counts] for t, y, k in parts]
        assert own(marked, counts) == pytest.approx(np.mean(of_class, axis=0))
    right = ((calls.truth == calls.called) | ~known).all(axis=1)
    assert scores.accuracy(marked, counts) == pytest.approx([np.average(right, weights=w) for w in counts])
    some = Calls(np.array([[1, 0, 0]]), np.array([[1, 0, 0]]), np.array([[0.8, 0.4, np.nan]]))
    assert scores.ece(some, np.ones((1, 1))) == pytest.approx((0.2 + 0.4) / 2)
    assert np.isfinite(scores.risk_coverage_area(marked, counts)).all()


def test_predictions_of_classes_that_are_not_known_are_left_out():
    table = pd.DataFrame({"Metadata_Label": ["a", "", "b"], "predicted": ["a|b", "a", "b"], "y_a": 0.7, "y_b": 0.6})
    assert without_unknown(table) is table
    marked = without_unknown(table.assign(Metadata_Unknown=["b", "a|b", np.nan]))
    assert with_errors(marked)["correct"].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(marked[["y_a", "y_b"]], [[0.7, np.nan], [np.nan, np.nan], [0.7, 0.6]])


def test_mean_average_precision_is_scikit_learns_on_every_resample(calls, counts):
    expected = [sk.average_precision_score(calls.truth, calls.y, sample_weight=w) for w in counts]
    assert scores.mean_average_precision(calls, counts) == pytest.approx(expected)


def test_a_class_without_a_true_field_is_left_out():
    calls = Calls(np.eye(3)[[0, 0, 1]], np.eye(3)[[0, 2, 1]], np.eye(3)[[0, 2, 1]])
    once = np.ones((1, 3))
    assert scores.balanced_accuracy(calls, once) == pytest.approx(0.75)
    assert scores.macro_f1(calls, once) == pytest.approx((2 / 3 + 1) / 2)
    assert scores.mean_average_precision(calls, once) == pytest.approx((0.5 + 0.5 * 2 / 3 + 1) / 2)


def test_a_field_drawn_twice_counts_as_two_fields(calls, counts):
    for name, metric in METRICS.items():
        repeated = [Calls(*(np.repeat(part, w.astype(int), axis=0) for part in calls)) for w in counts]
        expected = [metric(many, np.ones((1, len(many.y))))[0] for many in repeated]
        assert metric(calls, counts) == pytest.approx(expected), name


def test_expected_calibration_error_by_hand():
    y = np.array([[0.95, 0.05], [0.91, 0.09], [0.4, 0.6], [0.35, 0.65]])
    calls = Calls(np.eye(2)[[0, 1, 1, 0]], np.eye(2)[[0, 0, 1, 1]], y)
    # bin 0.9: (0.95 + 0.91 − 1) / 4; bin 0.6: (0.6 + 0.65 − 1) / 4
    assert scores.ece(calls, np.ones((1, 4))) == pytest.approx(0.86 / 4 + 0.25 / 4)
    several = Calls(np.array([[1, 0]]), np.array([[1, 1]]), np.array([[0.8, 0.7]]))
    # y 0.8 called and right, 0.7 called and wrong: each half a field
    assert scores.ece(several, np.ones((1, 1))) == pytest.approx((0.2 + 0.7) / 2)


def test_risk_coverage_by_hand():
    y = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]])
    calls = Calls(np.eye(2)[[0, 1, 0, 1]], np.eye(2)[[0, 0, 0, 0]], y)
    # errors among the most confident 1, 2, 4 fields: 0, 1/2, 2/4; the two with equal confidence enter together
    assert scores.risk_coverage_area(calls, np.ones((1, 4))) == pytest.approx((0 + 0.5 + 2 * 0.5) / 4)
    table = table_of(calls, ["a", "b"])
    curve = risk_coverage(table, points=4)
    assert curve["risk"].tolist() == [0, 0.5, 0.5, 0.5]
    bins = reliability(table).set_index("bin")
    assert bins.loc[7, ["confidence", "right", "n"]].tolist() == pytest.approx([0.7, 0.5, 2])


def test_the_share_right_of_a_bin_is_a_mean():
    y = np.array([[0.75, 0.25]] * 3)
    bins = reliability(table_of(Calls(np.eye(2)[[0, 0, 1]], np.eye(2)[[0, 0, 0]], y), ["a", "b"]))
    assert bins[["bin", "confidence", "right", "n"]].to_numpy().tolist() == [[7, 0.75, pytest.approx(2 / 3), 3]]


def table_of(calls, classes, method="max", seed=0):
    """``calls`` as a table of predictions."""
    words = {"Metadata_Label": calls.truth, "predicted": calls.called}
    labels = {name: ["|".join(np.array(classes)[row > 0]) for row in matrix] for name, matrix in words.items()}
    keys = {"Metadata_Plate": "p", "Metadata_Well": "w", "Metadata_Site": np.arange(len(calls.y))}
    y = {f"y_{name}": calls.y[:, c] for c, name in enumerate(classes)}
    return with_errors(pd.DataFrame(keys | labels | y | {"method": method, "seed": seed}))


def test_score_rows_average_the_seeds_and_hold_every_method_and_metric():
    runs = [table_of(made_calls(seed=seed), list("abcd"), "max", seed) for seed in (0, 1)]
    runs.append(table_of(made_calls(seed=2), list("abcd"), "mean"))
    rows = score_rows(pd.concat(runs), ["accuracy", "ece"], "s", "plate", "field")
    assert rows[["metric", "method", "n", "seeds"]].to_numpy().tolist() == [
        ["accuracy", "max", 60, 2], ["accuracy", "mean", 60, 1], ["ece", "max", 60, 2], ["ece", "mean", 60, 1],
    ]  # fmt: skip
    expected = np.mean([run["correct"].mean() for run in runs[:2]])
    assert rows["value"].iloc[0] == pytest.approx(expected)
    assert (rows["low"] < rows["value"]).all()
    assert (rows["value"] < rows["high"]).all()


def test_differences_are_paired():
    first, second = (
        table_of(made_calls(seed=seed), list("abcd"), name) for seed, name in ((0, "noisy_and"), (1, "max"))
    )
    labels = first["Metadata_Label"]
    second = with_errors(second.assign(Metadata_Label=labels))
    twin = first.assign(method="twin")
    table = differences(pd.concat([first, second, twin])).set_index("second")
    each = first["correct"].to_numpy() - second["correct"].to_numpy()
    assert table.loc["max", "value"] == pytest.approx(each.mean())
    counts, groups = without_each(np.arange(60)), np.arange(60)
    expected = jackknife_interval(counts @ each / counts.sum(axis=1), groups, lowest=-1)
    assert tuple(table.loc["max", ["low", "high"]]) == pytest.approx(expected)
    assert table.loc["twin", "value"] == 0
    assert table.loc["twin", "high"] == pytest.approx(1 - 0.025 ** (1 / 60))  # no field of 60 differs
    assert table.loc["twin", "low"] == -table.loc["twin", "high"]
    assert differences(second).empty


def test_of_several_labels_each_class_has_its_average_precision_and_methods_differ_in_the_mean():
    calls = {name: made_calls(seed=seed, several=True) for seed, name in enumerate(["noisy_and", "max"])}
    table = pd.concat([table_of(own, list("abcd"), name) for name, own in calls.items()])
    rows = class_rows(table, "s", "plate").set_index(["method", "metric"])
    assert len(rows) == 2 * 4
    for name, own in calls.items():
        for number, letter in enumerate("abcd"):
            expected = sk.average_precision_score(own.truth[:, number], own.y[:, number])
            assert rows.loc[(name, f"average_precision_{letter}"), "value"] == pytest.approx(expected)
    labels = table.loc[table["method"] == "noisy_and", "Metadata_Label"].to_numpy()
    same = with_errors(table.assign(Metadata_Label=np.tile(labels, 2)))
    compared = differences(same, metric="mean_average_precision")
    means = [sk.average_precision_score(calls["noisy_and"].truth, own.y) for own in calls.values()]
    assert compared["value"].tolist() == pytest.approx([means[0] - means[1]])
    row = best_baseline_rows(compared, {"": "max"}, "s", "plate", "mean_average_precision")
    assert row["metric"].tolist() == ["mean_average_precision_difference"]


def test_methods_with_controls_are_compared_among_themselves():
    runs = {
        name: table_of(made_calls(seed=seed), list("abcd"), name)
        for seed, name in enumerate(["noisy_and", "max", "noisy_and+controls", "max+controls"])
    }
    table = differences(pd.concat(runs.values()))
    assert table[["first", "second"]].to_numpy().tolist() == [
        ["noisy_and", "max"],
        ["noisy_and+controls", "max+controls"],
    ]
    expected = runs["noisy_and+controls"]["correct"].mean() - runs["max+controls"]["correct"].mean()
    assert table["value"].iloc[1] == pytest.approx(expected)
    row = best_baseline_rows(table, {"+controls": "max+controls"}, "s", "field")
    assert row["method"].tolist() == ["noisy_and-best_baseline+controls"]


def test_the_baseline_is_chosen_on_the_validation_fields():
    runs = {name: made_calls(seed=seed) for seed, name in enumerate(["svm", "boost"])}
    tables = [table_of(calls, list("abcd"), name) for name, calls in runs.items()]
    again = table_of(made_calls(seed=7), list("abcd"), "boost", 1)
    by_method = scores_by_method(pd.concat([*tables, again]), ["accuracy", "mean_average_precision"])
    right = np.mean([tables[1]["correct"].mean(), again["correct"].mean()])
    assert by_method.loc["boost", "accuracy"] == pytest.approx(right)
    expected = sk.average_precision_score(runs["svm"].truth, runs["svm"].y)
    assert by_method.loc["svm", "mean_average_precision"] == pytest.approx(expected)
    validation = pd.Series({"svm": 0.5, "boost": 0.9})
    assert best_of(validation, ["svm", "boost"]) == "boost"
    assert best_of(validation, []) is None
    assert best_of(validation, ["boost+controls"]) is None  # a study without controls
    compared = pd.DataFrame(
        {"first": "noisy_and", "second": ["svm", "boost"], "value": [0.3, 0.1], "low": 0, "high": 1}
    )
    compared = compared.assign(n=5, groups=5, unit="compound", seeds=3, seed_sd=0.1)
    row = best_baseline_rows(compared, {"": "boost"}, "s", "plate").iloc[0]
    assert row[["method", "metric", "value"]].tolist() == ["noisy_and-best_baseline", "accuracy_difference", 0.1]
    assert best_baseline_rows(compared, {}, "s", "plate").empty


def test_the_baseline_to_beat_may_be_tuned_or_not_but_never_knows_the_controls():
    accuracy = {"svm": 0.6, "boost": 0.7, "svm+as_it_comes": 0.8, "boost+as_it_comes": 0.5, "boost+controls": 0.9}
    validation = pd.Series(accuracy)
    expected = {"": "svm+as_it_comes", "+as_it_comes": "svm+as_it_comes", "+controls": "boost+controls"}
    assert best_baselines(validation, ["svm", "boost"]) == expected
    assert best_baselines(validation.iloc[:2], ["svm", "boost"]) == {"": "boost"}
    compared = pd.DataFrame({"first": "noisy_and", "second": ["svm+as_it_comes"], "value": 0.1, "low": 0, "high": 1})
    compared = compared.assign(n=5, groups=5, unit="compound", seeds=3, seed_sd=0.1)
    names = best_baseline_rows(compared, expected, "s", "plate")["method"].tolist()
    assert names == ["noisy_and-best_baseline", "noisy_and-best_baseline+as_it_comes"]


def test_wells_and_treatments_by_hand():
    rows = [  # plate, well, concentration, y_a of a field that is a
        ("p", "A1", 1, 0.9), ("p", "A1", 1, 0.4), ("p", "A1", 1, 0.4), ("p", "A2", 1, 0.2), ("q", "A1", 3, 0.8),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Concentration", "y_a"])
    table = table.assign(Metadata_Site=range(5), Metadata_Label="a", Metadata_Compound="S", y_b=1 - table["y_a"])
    table = table.assign(method="max", seed=0, predicted="?")
    wells = at_level(table, "well")
    assert wells["y_a"].tolist() == pytest.approx([1.7 / 3, 0.2, 0.8])
    assert wells["predicted"].tolist() == ["a", "b", "a"]
    assert at_level(table, "well", "median")["predicted"].tolist() == ["b", "b", "a"]
    assert at_level(table, "treatment")["y_a"].tolist() == pytest.approx([1.9 / 4, 0.8])
    value = level_rows(table, "s", "plate").set_index(["level", "metric"])["value"]
    assert value[("well", "accuracy")] == pytest.approx(2 / 3)
    assert value[("well", "accuracy_median")] == pytest.approx(1 / 3)
    assert value[("treatment", "accuracy")] == pytest.approx(1 / 2)


def test_seeds_together_have_the_mean_of_their_y():
    table = table_of(made_calls(several=False), list("abcd"))
    y = table.filter(regex="^y_").columns
    other = table.assign(seed=1).iloc[::-1]
    other[y] = np.roll(other[y].to_numpy(), 1, axis=1)
    one = together(pd.concat([table, other]))
    expected = (table[y].to_numpy() + np.roll(table[y].to_numpy(), 1, axis=1)) / 2
    assert one[y].to_numpy() == pytest.approx(expected)
    assert one["predicted"].tolist() == [list("abcd")[row] for row in expected.argmax(axis=1)]
    assert one["correct"].tolist() == (one["predicted"] == table["Metadata_Label"].to_numpy()).tolist()


def test_a_study_without_compounds_has_neither_wells_nor_treatments():
    table = table_of(made_calls(), list("abcd"))
    assert level_rows(table, "s", "field").empty
    assert at_level(table, "well").empty


@pytest.mark.parametrize("several", [False, True])
def test_temperature_undoes_overconfidence(several):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, (20_000, 3))
    p = 1 / (1 + np.exp(-z)) if several else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    u = rng.random((len(p), 1))
    truth = rng.random(p.shape) < p if several else np.eye(3)[(u > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)]
    sure = 1 / (1 + np.exp(-2.5 * z)) if several else np.exp(2.5 * z) / np.exp(2.5 * z).sum(axis=1, keepdims=True)
    truth = truth.astype(float)
    assert temperature(Calls(truth, truth, sure)) == pytest.approx(2.5, rel=0.05)
    assert scaled(sure, 2.5, several) == pytest.approx(p, abs=2e-3)  # y is clipped at 1e-7


def test_temperature_changes_no_class_and_is_finite_for_certain_errors():
    y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    truth = np.eye(2)[[0, 1, 1]]
    t = temperature(Calls(truth, truth, y))
    assert 1 < t <= 20
    assert (scaled(y, t, several=False).argmax(axis=1) == y.argmax(axis=1)).all()
    assert np.isfinite(scaled(y, t, several=False)).all()


def test_temperature_is_fitted_only_on_validation_fields():
    def overconfident(seed, n):
        rng = np.random.default_rng(seed)
        labels = rng.choice(2, n)
        right = rng.random(n) < 0.7
        y = np.where((np.where(right, labels, 1 - labels) == 0)[:, None], [0.99, 0.01], [0.01, 0.99])
        return table_of(Calls(np.eye(2)[labels], (y > 0.5).astype(int), y), ["a", "b"])

    test, validation = overconfident(0, 400), overconfident(1, 400)
    rows, fitted = calibration_rows(test, validation, "s", "field")
    ece = rows.set_index("metric")["value"]
    assert ece["ece"] == pytest.approx(0.99 - test["correct"].mean(), abs=1e-6)
    assert ece["ece_scaled"] < 0.06
    assert fitted.equals(temperatures(validation))
    # two logits apart by log 99: the temperature that makes 0.99 the validation accuracy, with one more right and wrong
    share = (validation["correct"].sum() + 1) / 402
    assert fitted["temperature"].iloc[0] == pytest.approx(np.log(99) / np.log(share / (1 - share)), rel=1e-2)


@pytest.mark.parametrize(("n", "y"), [(8, 0.9), (80, 0.9), (8, 0.6)])
def test_fields_that_are_all_right_do_not_make_a_network_certain(n, y):
    """By hand: (n + 1) / (n + 2) = σ(logit(y) / T), so T = logit(y) / log(n + 1); 1 for 8 fields of y = 0.9."""
    fields = pd.DataFrame({LABEL: ["a"] * n, "predicted": "a", "y_a": y, "y_b": 1 - y})
    assert temperature_of(fields) == pytest.approx(np.log(y / (1 - y)) / np.log(n + 1), rel=1e-3)


def test_with_several_labels_each_class_counts_as_a_field():
    """Both classes are at σ(±log 9), and both right: the same T as with one label."""
    fields = pd.DataFrame({LABEL: ["a"] * 8 + ["a|b"] * 8, "predicted": ["a"] * 8 + ["a|b"] * 8, "y_a": 0.9})
    fields = fields.assign(y_b=[0.1] * 8 + [0.9] * 8)
    assert temperature_of(fields) == pytest.approx(np.log(9) / np.log(17), rel=1e-3)


def test_a_class_that_is_not_known_of_a_field_counts_for_nothing():
    """b is known of 8 fields, a of 48: as many terms, and as many for Platt's targets."""
    rng = np.random.default_rng(0)
    y = rng.random((48, 2))
    truth = (rng.random((48, 2)) < y).astype(float)
    y[8:, 1] = np.nan
    (a, b), own = truth.T, y[:8, 1]
    labels = ["|".join(name for name, has in zip("ab", row, strict=True) if has) for row in truth]
    table = pd.DataFrame({LABEL: labels, "predicted": "", "y_a": y[:, 0], "y_b": y[:, 1]})

    def loss(log_t):
        total = 0
        for label, values, n in ((a, y[:, 0], 48), (b[:8], own, 8)):
            p = 1 / (1 + ((1 - values) / values) ** np.exp(-log_t))
            share = np.where(label > 0, n + 1, 1) / (n + 2)
            total -= (share * np.log(p) + (1 - share) * np.log(1 - p)).sum()
        return total

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    assert temperature_of(table) == pytest.approx(expected, rel=1e-3)
    bins = reliability(table.assign(method="m", predicted="a", seed=0))
    assert bins["n"].sum() == 56
    assert bins["bin"].between(0, 9).all()


def test_two_labels_whose_probabilities_sum_to_one_are_scaled_as_two_labels():
    y = np.array([[0.6, 0.4], [0.9, 0.8]])
    assert scaled(y[:1], 2, several=True) == pytest.approx(scaled(y, 2, several=True)[:1])


def test_fields_without_a_group_score_as_if_they_were_not_there(calls):
    groups = np.arange(60) % 7
    for name, metric in METRICS.items():
        values = metric(calls, without_each(groups))
        expected = [
            metric(Calls(*(part[groups != g] for part in calls)), np.ones((1, (groups != g).sum()))) for g in range(7)
        ]
        assert values[1:] == pytest.approx(np.ravel(expected)), name


def test_a_ranking_of_one_class_is_not_defined_and_has_no_interval():
    calls = Calls(np.eye(2)[[0, 0, 0, 1]], np.eye(2)[[0, 0, 0, 1]], np.eye(2)[[0, 0, 0, 1]] * 0.8 + 0.1)
    values = scores.roc_auc(calls, without_each(np.arange(4)))
    assert values[:4].tolist() == [1, 1, 1, 1]
    assert np.isnan(values[4])  # without the only field of the second class
    row = score_rows(table_of(calls, ["a", "b"]), ["roc_auc"], "s", "field", "field").iloc[0]
    assert row["value"] == 1
    assert row[["low", "high"]].isna().all()


def test_wells_of_controls_stay_apart_at_every_level():
    table = table_of(made_calls(8), list("abcd")).assign(Metadata_Well=list("ABCDEFGH"), Metadata_Concentration=1)
    table = table.assign(Metadata_Compound=["S", "S", "T", "T", *["DMSO"] * 4])
    table["Metadata_Control"] = table["Metadata_Compound"] == "DMSO"
    assert clusters(at_level(table, "well")).number == 6
    assert level_rows(table, "s", "plate").set_index("level").loc["well", "groups"].tolist() == [6, 6]


def test_treatments_on_several_plates_are_no_sample_of_plates():
    """One compound at four doses on two plates: four treatments, in any order of the fields."""
    table = table_of(made_calls(8), list("abcd")).assign(Metadata_Plate=list("PQ") * 4, Metadata_Compound="S")
    table = table.assign(
        Metadata_Label="a", Metadata_Well=list("ABCDEFGH"), Metadata_Concentration=[1, 1, 2, 2, 3, 3, 4, 4]
    )
    for fields in (table, table.iloc[::-1]):
        row = level_rows(fields, "s", "plate").query("level == 'treatment'").iloc[0]
        assert row[["n", "groups", "unit"]].tolist() == [4, 4, "treatment"]
