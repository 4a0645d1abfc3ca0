"""Names of plates, compounds and wells: one spelling for each."""

import pandas as pd
import pytest

from milcnn.screens.names import refuse_spellings, tidy_names, well_name
from milcnn.screens.problems import ScreenError

HABITS = ["a1", "A1", "A01", "a-01", "A:01", "A.01", "A_01", "r01c01", "R1C1", "r1-c1"]


@pytest.mark.parametrize(
    ("well", "name"),
    [(habit, "A01") for habit in [*HABITS, "A - 01", " A01 ", "A 1"]]
    + [("P24", "P24"), ("aa001", "AA01"), ("R27C48", "AA48"), ("r16c24", "P24"), ("x", "x"), ("013", "13")],
)
def test_names_of_wells(well, name):
    assert well_name(well) == name


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
