"""The draw of fields is even over plates, wells and images, and the same whatever the order of the table."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from milcnn.localise.sampling import scored_fields, spread_fields, told_units

KEY = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]


def screen(sites: int = 4) -> pd.DataFrame:
    """Three plates of six wells, in the order of a screen: two labels, three wells of each on a plate."""
    keys = product(["P1", "P2", "P3"], ["A01", "A02", "A03", "B01", "B02", "B03"], range(sites))
    rows = pd.DataFrame(keys, columns=KEY)
    return rows.assign(Metadata_Label=rows["Metadata_Well"].str[0].map({"A": "one", "B": "two"}))


def spans(drawn: pd.DataFrame, units: list[str]) -> pd.Series:
    """The difference between the most and the fewest fields of a unit, by label; units without a field count as 0."""
    counts = drawn.groupby(["Metadata_Label", *units]).size()
    return counts.groupby("Metadata_Label").agg(np.ptp)


@pytest.mark.parametrize("number", [3, 5, 7, 9, 14, 30])
def test_plates_and_wells_take_turns(number):
    drawn = spread_fields(screen(), number)
    assert drawn["Metadata_Label"].value_counts().to_dict() == {"one": number, "two": number}
    assert (spans(drawn, ["Metadata_Plate"]) <= 1).all()
    assert (drawn.groupby("Metadata_Label")["Metadata_Plate"].nunique() == 3).all()
    in_plates = drawn.groupby(["Metadata_Label", "Metadata_Plate", "Metadata_Well"]).size()
    for (label, plate), counts in in_plates.groupby(["Metadata_Label", "Metadata_Plate"]):
        assert np.ptp(counts) <= 1
        assert len(counts) == min(3, counts.sum()), f"{label}, {plate}: a well lacks a field while another has two"


def test_a_small_plate_gives_all_it_has_and_the_others_the_rest():
    rows = screen()
    rows = rows[(rows["Metadata_Plate"] != "P3") | (rows["Metadata_Site"] == 0) & (rows["Metadata_Well"] == "A01")]
    drawn = spread_fields(rows[rows["Metadata_Label"] == "one"], 11)
    assert drawn["Metadata_Plate"].value_counts().to_dict() == {"P1": 5, "P2": 5, "P3": 1}


def test_images_of_one_well_take_turns():
    rows = screen(sites=12).assign(Metadata_Source=lambda table: table["Metadata_Site"] // 4)  # three images a well
    drawn = spread_fields(rows, 27)  # three of each of nine wells
    assert (drawn.groupby([*KEY[:2], "Metadata_Source"]).size() == 1).all()
    assert len(drawn) == 54


def test_neither_the_order_of_the_rows_nor_their_index_matters():
    rows = screen()
    drawn = spread_fields(rows, 7)
    mixed = rows.sample(frac=1, random_state=3)
    for table in (rows, mixed, mixed.reset_index(drop=True)):
        again = spread_fields(table, 7).sort_values(KEY, ignore_index=True)
        pd.testing.assert_frame_equal(again, drawn.sort_values(KEY, ignore_index=True))
    assert len(drawn.merge(spread_fields(rows, 7, seed=1))) < len(drawn)  # another seed draws others


def test_fields_keep_their_order_and_all_are_taken_where_there_are_no_more():
    rows = screen()
    pd.testing.assert_frame_equal(spread_fields(rows, 99), rows)
    pd.testing.assert_frame_equal(spread_fields(rows[:0], 3), rows[:0])
    assert spread_fields(rows, 5)[KEY].apply(tuple, axis=1).is_monotonic_increasing


def test_units_are_told():
    assert told_units(screen()) == "72 fields, 3 plates, 18 wells"
    assert told_units(screen()[:1].assign(Metadata_Source="x")) == "1 field, 1 plate, 1 well, 1 source image"


def test_controls_and_labels_without_an_object_are_not_scored():
    rows = screen()
    rows["Metadata_Label"] = rows["Metadata_Label"].where(rows["Metadata_Well"] != "B03", "three")
    rows["Metadata_Control"] = rows["Metadata_Well"] == "A02"
    prepared = SimpleNamespace(
        has_truth=True, objects=pd.DataFrame({"class": ["one", "two"]}), of=lambda split: rows, multilabel=False,
    )  # fmt: skip
    assert set(scored_fields(prepared, "test", 99)["Metadata_Well"]) == {"A01", "A03", "B01", "B02"}


def test_a_field_of_several_labels_is_scored_for_each_that_an_object_carries():
    rows = screen()[:3].assign(Metadata_Label=["one|two", "three", "one|three"])
    prepared = SimpleNamespace(
        has_truth=True, objects=pd.DataFrame({"class": ["one|two", "none"]}), of=lambda split: rows, multilabel=True
    )
    scored = scored_fields(prepared, "test", 99)
    sites = scored["Metadata_Site"].map(rows["Metadata_Site"].tolist().index)
    assert list(zip(sites, scored["Metadata_Label"], strict=True)) == [(0, "one"), (0, "two"), (2, "one")]
