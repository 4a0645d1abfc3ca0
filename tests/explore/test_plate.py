"""The plate: where wells lie, their colours, and what is read out to those who do not see them."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from milcnn.explore.plate import (
    UNKNOWN_VALUE,
    legend,
    places_of,
    plate_columns,
    plate_view,
    row_and_column,
    well_values,
)
from milcnn.screens.names import in_letters


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (16, 24), (32, 48)])
def test_every_well_of_a_plate_lies_in_its_row_and_column(rows, columns):
    names = {in_letters(row, column): (row, column) for row in range(rows) for column in range(columns)}
    assert {name: row_and_column(name) for name in names} == names
    row_names, column_names, places = places_of(list(names))
    assert (len(row_names), len(column_names)) == (rows, columns)
    assert {well: place for place, well in places.items()} == names


def test_rows_after_z_have_two_letters():
    row_names, _, _ = places_of(["AF48"])
    assert row_names[25:27] == ["Z", "AA"]
    assert row_names[-1] == "AF"


def test_a_few_wells_lie_on_the_smallest_plate_that_holds_them():
    row_names, column_names, places = places_of(["B03", "H12"])
    assert (len(row_names), len(column_names)) == (8, 12)
    assert places == {(1, 2): "B03", (7, 11): "H12"}
    assert len(places_of(["B03", "I01"])[0]) == 16
    assert len(places_of(["A01", "B02"])[0]) == 8  # 96 wells, not 6


@pytest.mark.parametrize("name", ["train-1", "A00", "12", "well", "ABC1", "A123"])
def test_other_names_are_no_wells(name):
    assert row_and_column(name) is None


def test_wells_with_other_names_stand_in_a_square_in_their_order():
    row_names, column_names, places = places_of(["x", "y", "z", "B03", "w"])
    assert (row_names, column_names) == (["", ""], ["", "", ""])
    assert places == {(0, 0): "x", (0, 1): "y", (0, 2): "z", (1, 0): "B03", (1, 1): "w"}


@pytest.fixture
def fields():
    table = pd.DataFrame(
        {
            "Metadata_Plate": ["P", "P", "P", "P", "Q"],
            "Metadata_Well": ["A01", "A01", "B02", "B03", "A01"],
            "Metadata_Site": [1, 2, 1, 1, 1],
            "Metadata_Label": ["DMSO", "DMSO", "big", "big", "DMSO"],
            "Metadata_Compound": ["DMSO", "DMSO", "drug", "drug", "DMSO"],
            "Metadata_Concentration": [0, 0, 0.3, 1, 0],
            "index": range(5),
            "loss": [0.0, 1.0, 2.5, np.nan, 4.5],
            "Flag_blurred": [False, False, True, False, False],
        }
    )
    return table.assign(predicted="big", empty=np.nan)


def test_columns_of_numbers_can_be_shown_and_no_others(fields):
    assert plate_columns(fields) == ["loss", "Flag_blurred"]


def test_a_well_has_the_mean_of_its_fields_and_all_plates_share_the_colours(fields):
    values = well_values(fields, "loss")
    assert values["P", "A01"] == 0.5
    view = plate_view(fields, "P", "loss", values)
    colours = {name: colour for _, _, name, colour, _ in view["wells"] if name}
    viridis = mpl.colormaps["viridis"]
    assert colours == {
        "A01": to_hex(viridis(0.0)),
        "B02": to_hex(viridis(0.5)),
        "B03": UNKNOWN_VALUE,
    }  # Q has the largest
    assert legend(values).startswith("0.5 ")
    assert legend(values).endswith(" 4.5")


def test_every_place_says_what_it_is(fields):
    view = plate_view(fields, "P", "loss", well_values(fields, "loss"))
    labels = {(row, column): label for row, column, _, _, label in view["wells"]}
    assert len(labels) == len(view["row_names"]) * len(view["column_names"])
    assert labels[0, 0] == "A01, DMSO, loss 0.5"
    assert labels[1, 1] == "B02, big, drug, 0.3 µM, loss 2.5"
    assert labels[1, 2].endswith("loss unknown")
    assert labels[0, 1] == "A02, no field"
