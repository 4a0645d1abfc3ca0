"""Worse labels: what changes, by how much, and what stays."""

from dataclasses import replace

import pandas as pd
import pytest

from milcnn.columns import LABEL, SPLIT, UNKNOWN
from milcnn.prepare.label_noise import passes_for, with_condition
from milcnn.prepare.prepared import Prepared


@pytest.fixture
def prepared(tmp_path) -> Prepared:
    """60 training, 20 validation and 20 test fields of three classes, 40 % of them a."""
    labels = list("aabbc") * 20
    fields = pd.DataFrame({LABEL: labels, SPLIT: ["train"] * 60 + ["validation"] * 20 + ["test"] * 20})
    study = Prepared(tmp_path, "s", ["DNA"], list("abc"), [0.0], [1.0], None)
    return study.with_fields(fields)


def changed(prepared: Prepared, other: Prepared, split: str) -> float:
    return (prepared.of(split)[LABEL] != other.of(split)[LABEL]).mean()


def test_nothing_changes_without_a_condition(prepared):
    pd.testing.assert_frame_equal(with_condition(prepared, "").fields, prepared.fields)


def test_shuffled_labels_keep_their_counts(prepared):
    other = with_condition(prepared, "shuffled")
    for split in ("train", "validation"):
        assert changed(prepared, other, split) > 0.3
        assert other.of(split)[LABEL].value_counts().to_dict() == prepared.of(split)[LABEL].value_counts().to_dict()
    assert changed(prepared, other, "test") == 0


@pytest.mark.parametrize("percent", [0, 20, 100])
def test_noise_changes_that_share_of_labels(prepared, percent):
    other = with_condition(prepared, f"noise{percent}")
    assert changed(prepared, other, "train") == percent / 100
    assert changed(prepared, other, "validation") == percent / 100
    assert changed(prepared, other, "test") == 0


@pytest.mark.parametrize(("percent", "left"), [(100, 24), (50, 12), (25, 6), (1, 1)])
def test_a_share_of_the_training_fields_of_each_label_is_kept(prepared, percent, left):
    other = with_condition(prepared, f"share{percent}")
    counts = other.of("train")[LABEL].value_counts()
    assert counts["a"] == left
    assert counts["c"] == max(1, left // 2)
    for split in ("validation", "test"):
        pd.testing.assert_frame_equal(other.of(split), prepared.of(split))


@pytest.mark.parametrize("percent", [25, 50, 75, 100])
def test_fewer_fields_get_as_many_steps(prepared, percent):
    left = len(with_condition(prepared, f"share{percent}").of("train"))
    shown = left * passes_for(f"share{percent}", 30)
    assert shown == pytest.approx(30 * len(prepared.of("train")), rel=0.02)


@pytest.mark.parametrize("condition", ["", "noise20", "shuffled"])
def test_all_fields_get_the_usual_passes(condition):
    assert passes_for(condition, 7) == 7


def test_the_seed_decides_and_the_study_stays_unchanged(prepared):
    first, again, second = (with_condition(prepared, "noise40", seed).fields[LABEL] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(second)
    assert prepared.fields[LABEL].tolist() == list("aabbc") * 20


@pytest.mark.parametrize("condition", ["noise", "noise120", "share0", "shuffle", "share50noise20", "hidden"])
def test_an_unknown_condition_is_refused(prepared, condition):
    with pytest.raises(
        ValueError, match=rf"condition: '{condition}' is unknown; use shuffled, noise20, share25 or hidden80"
    ):
        with_condition(prepared, condition)


def test_labels_are_hidden_in_that_share_of_fields_and_classes(prepared):
    """What is left is right, a label is never known and unknown, and what was hidden before stays so."""
    labels = prepared.fields[LABEL].replace({"a": "a|b", "c": ""})
    several = replace(prepared, multilabel=True).with_fields(prepared.fields.assign(**{LABEL: labels}))
    other = with_condition(several, "hidden80")
    fields = other.fields
    for split, count in (("train", 60), ("validation", 20), ("test", 20)):
        rows = fields[fields[SPLIT] == split]
        hidden = rows[UNKNOWN].str.split("|").map(lambda names: len({*names} - {""})).sum()
        assert hidden == (0 if split == "test" else round(0.8 * 3 * count))
    for was, now, unknown in zip(labels, fields[LABEL], fields[UNKNOWN], strict=True):
        assert {*now.split("|")} - {""} == {*was.split("|")} - {*unknown.split("|")} - {""}
    more = with_condition(other, "hidden50", seed=1).fields
    assert all(
        {*old.split("|")} <= {*new.split("|"), ""} for old, new in zip(fields[UNKNOWN], more[UNKNOWN], strict=True)
    )
    with pytest.raises(ValueError, match="'hidden80' needs a study of several labels"):
        with_condition(prepared, "hidden80")
