"""Names of plates, compounds and wells, and platemaps whose wells are written in another habit."""

import pandas as pd
import pytest

from milcnn.screens.names import refuse_spellings, tidy_names, well_name
from milcnn.screens.platemap import with_platemap
from milcnn.screens.problems import ScreenError

HABITS = ["a1", "A1", "A01", "a-01", "A:01", "A.01", "A_01", "r01c01", "R1C1", "r1-c1"]


@pytest.mark.parametrize(
    ("well", "name"),
    [(habit, "A01") for habit in [*HABITS, "A - 01", " A01 ", "A 1"]]
    + [("P24", "P24"), ("aa001", "AA01"), ("R27C48", "AA48"), ("r16c24", "P24"), ("x", "x"), ("013", "13")],
)
def test_names_of_wells(well, name):
    assert well_name(well) == name


def platemap_of(wells):
    return pd.DataFrame({"well": wells, "label": [f"in {well}" for well in wells]})


def joined(wells, platemap):
    table = tidy_names(pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": wells}), "t.csv")
    table = with_platemap(table, platemap, {}, "map.csv")
    return table["Metadata_Label"].tolist()


@pytest.mark.parametrize("habit", ["A{:02}", "a{}", "A - {:02}", "r01c{:02}", "A:{}"])
def test_wells_of_any_habit_join_their_platemap(habit):
    assert joined([habit.format(1), habit.format(12)], platemap_of(["A01", "A12"])) == ["in A01", "in A12"]
    assert joined(["A01", "A12"], platemap_of([habit.format(1), habit.format(12)])) == [
        f"in {habit.format(1)}",
        f"in {habit.format(12)}",
    ]


@pytest.mark.parametrize(("rows", "columns"), [("ABCDEFGH", 12), ("ABCDEFGHIJKLMNOP", 24)])
def test_wells_with_a_number_are_counted_row_by_row(rows, columns):
    letters = [f"{row}{column:02}" for row in rows for column in range(1, columns + 1)]
    numbers = [str(number) for number in range(1, len(letters) + 1)]
    assert joined(numbers, platemap_of(letters)) == [f"in {well}" for well in letters]
    assert joined(letters, platemap_of(numbers)) == [f"in {number}" for number in numbers]
    second = columns  # the first well of the second row, where sizes differ: one side of a whole plate is enough
    assert joined([letters[second]], platemap_of(numbers)) == [f"in {numbers[second]}"]
    assert joined([numbers[second]], platemap_of(letters)) == [f"in {letters[second]}"]


def test_numbers_on_both_sides_need_no_size():
    assert joined(["1", "020"], platemap_of(["01", "20"])) == ["in 01", "in 20"]


def test_numbers_that_may_be_of_two_sizes_are_refused():
    # 13 is B01 of 96 wells and A13 of 384; the platemap has both
    with pytest.raises(ScreenError, match=r"map\.csv: wells are numbers here, letters there, .* of 96 or 384 wells"):
        joined(["13"], platemap_of(["A13", "B01"]))
    with pytest.raises(ScreenError, match="have no place on a plate"):
        joined(["2000"], platemap_of(["A13"]))


def test_wells_in_one_of_the_two_alone_are_counted_with_three_examples(capsys):
    assert joined(["A01", "B01", "B02", "B03", "B04"], platemap_of(["A01", "C01"])) == ["in A01", *[""] * 4]
    said = capsys.readouterr().out
    assert "wells of the table that are not in it: 4, as B01, B02, B03 and 1 more" in said
    assert "wells that are not in the table: 1, as C01" in said


def test_a_platemap_of_other_wells_is_refused():
    with pytest.raises(ScreenError, match=r"map\.csv: no well of the table is in it: the table has W01 and W02,"):
        joined(["W-1", "W-2"], platemap_of(["A01", "B01"]))


def test_spellings_that_differ_in_case_or_blanks_alone_are_refused():
    refuse_spellings(["Taxol", "Taxol", "Taxol B"], "Metadata_Compound", "t.csv")
    for other in ["taxol", "TAX OL", "Ta\u00a0xol"]:
        with pytest.raises(ScreenError, match="differ only in case or blanks; write them the same way"):
            refuse_spellings(["Taxol", other], "Metadata_Compound", "t.csv")
    with pytest.raises(ScreenError):
        refuse_spellings(["5 µM", "5 μM"], "Metadata_Compound", "t.csv")  # the two letters mu of Unicode


def test_plates_that_were_numbers_stay_apart():
    table = pd.DataFrame({"Metadata_Plate": ["41700000000001.0", "41700000000002.0"], "Metadata_Site": ["1.0", "2"]})
    tidy = tidy_names(table, "t.csv")
    assert tidy["Metadata_Plate"].tolist() == ["41700000000001", "41700000000002"]
    assert tidy["Metadata_Site"].tolist() == ["1", "2"]
    for lost in ["4.17E+13", "4,17E+13", "4.17e+13"]:
        with pytest.raises(ScreenError, match=r"t\.csv: Metadata_Plate '4.17[Ee]\+13': not all digits of the name"):
            tidy_names(pd.DataFrame({"Metadata_Plate": [lost]}), "t.csv")
