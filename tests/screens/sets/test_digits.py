"""Cluttered digits: the truth is known, so the digits are counted."""

import numpy as np
import pytest

from milcnn.columns import FIELD_KEY
from milcnn.evaluate.intervals import clusters
from milcnn.screens.sets.digits import CLASSES, GLYPH, DigitsSettings, digits_screen, load_glyphs
from milcnn.screens.sets.kinds import open_screen
from milcnn.settings import SettingsError

SMALL = DigitsSettings(size=256, fields_per_class={"train": 6, "validation": 1, "test": 6})


@pytest.fixture(scope="module")
def screen():
    return digits_screen(SMALL)


def test_no_glyph_is_in_two_splits_or_groups():
    glyphs = load_glyphs("sklearn", 0)
    seen = [{glyph.tobytes() for stack in classes.values() for glyph in stack} for classes in glyphs.values()]
    assert sum(len(stack) for classes in glyphs.values() for stack in classes.values()) == 1797
    assert len(set.union(*seen)) == sum(map(len, seen))
    assert len(glyphs) == 12  # training and validation; five groups each for the test fields and the fresh ones
    assert min(len(stack) for classes in glyphs.values() for stack in classes.values()) >= 3


def test_a_test_field_has_the_glyphs_of_one_group_and_intervals_are_over_groups():
    screen = digits_screen(DigitsSettings(fields_per_class={"train": 1, "validation": 1, "test": 6, "fresh": 6}))
    fields = screen.fields
    for split in ("test", "fresh"):
        own = fields[fields["Metadata_Split"] == split]
        assert clusters(own)[1:] == (5, "source")
        assert own.groupby("Metadata_Source")["Metadata_Label"].nunique().eq(9).all()  # every class in every group
    row = fields[fields["Metadata_Split"] == "fresh"].iloc[4]
    inked = screen.read(row)[0]
    known = load_glyphs("sklearn", 0)[row["Metadata_Source"]]
    truth = screen.truth(row)
    objects = screen.objects.merge(row.to_frame().T[FIELD_KEY], on=FIELD_KEY)
    for _, item in objects.iterrows():
        y, x = int(item["y"]), int(item["x"])
        here = np.s_[y : y + GLYPH, x : x + GLYPH]
        own = truth[here] == item["object"]
        assert any((glyph[own] == inked[here][own]).all() for glyph in known[item["class"]])


def test_a_fresh_test_set_changes_no_other_field(screen):
    more = digits_screen(SMALL.model_copy(update={"fields_per_class": SMALL.fields_per_class | {"fresh": 2}}))
    assert len(more.fields) == len(screen.fields) + 18
    for number in (0, 60, len(screen.fields) - 1):
        row = screen.fields.iloc[number]
        assert (more.read(more.fields.iloc[number]) == screen.read(row)).all()


def test_density_is_as_in_the_paper(screen):
    per_field = screen.objects.groupby(FIELD_KEY).size()
    assert set(per_field) == {25}  # 100 on 512 × 512


def test_the_label_is_the_most_frequent_digit_after_zero(screen):
    objects = screen.objects.merge(screen.fields, on=FIELD_KEY)
    for _, members in objects.groupby(FIELD_KEY):
        label, fraction = members.iloc[0][["Metadata_Label", "fraction"]]
        counts = members["class"].value_counts()
        assert counts[label] == max(1, round(25 * fraction))
        others = counts.drop(["0", label], errors="ignore")
        assert others.max() < counts[label] if len(others) else True


def test_zero_is_never_a_label(screen):
    assert sorted(screen.fields["Metadata_Label"].unique()) == CLASSES
    assert set(screen.fields["fraction"]) == set(SMALL.fractions)


def test_truth_covers_the_ink_inside_the_box_of_its_digit(screen):
    row = screen.fields.iloc[3]
    field, truth = screen.read(row)[0], screen.truth(row)
    assert ((truth > 0) == (field > 64)).mean() == 1.0
    objects = screen.objects.merge(row.to_frame().T[FIELD_KEY], on=FIELD_KEY)
    for _, digit in objects.iterrows():
        y, x = np.nonzero(truth == digit["object"])
        assert len(y) > 20
        assert digit["y"] <= y.min()
        assert y.max() < digit["y"] + GLYPH
        assert digit["x"] <= x.min()
        assert x.max() < digit["x"] + GLYPH


def test_a_seed_always_gives_the_same_field_and_another_seed_another_field(screen):
    row = screen.fields.iloc[0]
    again = digits_screen(SMALL)
    assert np.array_equal(screen.read(row), again.read(row))
    other = digits_screen(SMALL.model_copy(update={"seed": 1}))
    assert not np.array_equal(screen.read(row), other.read(row))


def test_an_unknown_screen_or_setting_is_named():
    with pytest.raises(ValueError, match="screen: 'digit' is not one of digits"):
        open_screen("digit")
    with pytest.raises(SettingsError, match="'siz' is unknown; perhaps 'size' is meant"):
        open_screen("digits", siz=3)
    with pytest.raises(SettingsError, match="'size' = 3: Input should be greater than or equal to 64"):
        open_screen("digits", size=3)
