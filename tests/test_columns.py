"""Which fields take part in what; names of methods are tested with the pooling functions."""

import numpy as np
import pandas as pd

from milcnn.columns import CONTROL, LABEL, PLATE, SITE, SPLIT, WELL
from milcnn.roles import fields_in_use, fields_to_predict, plate_references, reference_fields


def test_a_run_predicts_unseen_fields_and_all_controls():
    fields = pd.DataFrame({SPLIT: ["train", "train", "test", "dose"], CONTROL: [False, True, False, False]})
    assert fields_to_predict(fields).index.tolist() == [1, 2, 3]
    assert fields_to_predict(fields.drop(columns=CONTROL)).index.tolist() == [2, 3]


def wells(*rows: tuple[str, str, str, bool]) -> pd.DataFrame:
    """A table of (plate, well, split, control), two sites a well; the index starts at 100."""
    table = pd.DataFrame([row for row in rows for _ in range(2)], columns=[PLATE, WELL, SPLIT, CONTROL])
    table[SITE] = [1, 2] * len(rows)
    table[LABEL] = np.where(table[CONTROL], "DMSO", "drug")
    return table.set_index(table.index + 100)


def test_plate_references_are_controls_that_no_method_is_scored_on():
    mixed = wells(("P1", "A1", "train", True), ("P1", "A2", "test", True), ("P1", "A3", "test", False))
    assert plate_references(mixed).tolist() == [True, True, False, False, False, False]
    not_a_class = wells(("P2", "A1", "controls", True), ("P2", "A2", "test", False))
    assert plate_references(not_a_class).tolist() == [True, True, False, False]
    tested = wells(*(("P3", f"A{n}", split, n < 4) for n, split in enumerate(["test"] * 3 + ["fresh"] * 2 + ["test"])))
    chosen = tested[plate_references(tested)]
    assert len(chosen) == 4  # two of four control wells, whole
    assert chosen[WELL].nunique() == 2
    assert chosen[CONTROL].all()
    # a control that was left out by hand is not enough: half of the wells of the plate
    bad = wells(("P5", "A0", "excluded", True), *(("P5", f"A{n}", "test", True) for n in range(1, 9)))
    assert bad[plate_references(bad)][WELL].nunique() == 5
    two_labels = tested.assign(**{LABEL: np.where(tested[WELL].isin(["A0", "A1"]), "DMSO", "untreated")})
    assert set(two_labels.loc[~plate_references(two_labels) & tested[CONTROL], LABEL]) == {"DMSO", "untreated"}
    one_well = wells(("P4", "A1", "validation", True), ("P4", "A2", "validation", False))
    assert plate_references(one_well).sum() == 1
    assert not plate_references(one_well.iloc[1:]).any()  # one control field: nothing would be left to score
    # plates do not change each other
    both = pd.concat([mixed, tested])
    assert plate_references(both).tolist() == [*plate_references(mixed), *plate_references(tested)]


def test_reference_fields_know_nothing_of_a_plate_without_training_fields():
    rows = [("P1", "A1", "controls", True), ("P1", "A2", "train", False), ("P2", "A1", "controls", True)]
    assert reference_fields(wells(*rows)).tolist() == [True, True, False, False, False, False]
    assert reference_fields(wells(*rows[1:])).tolist() == [
        True,
        True,
        False,
        False,
    ]  # no control there: all of training


def test_fresh_fields_are_measured_but_not_the_weak_doses_beside_them():
    table = wells(("P1", "A1", "train", False), ("P2", "A1", "fresh", False), ("P2", "A2", "dose", False))
    assert fields_in_use(table)[SPLIT].tolist() == ["train"] * 2 + ["fresh"] * 2
