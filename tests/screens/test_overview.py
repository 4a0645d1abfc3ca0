"""What the overview says of doses, and of columns that milcnn does nothing with."""

import pandas as pd
import pytest

from milcnn.screens.overview import columns_without_use, doses

TABLE = pd.DataFrame(
    {
        "Metadata_Plate": "P1",
        "Metadata_Compound": ["DMSO", "a", "a", "a", "b"],
        "Metadata_Concentration": [0, 0.03, 1, 1, 10.0],
        "Path_DNA": "a.tif",
    }
)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (TABLE, {"concentrations": "1 to 2 of each compound, 0.03 to 10 µM"}),
        (TABLE.drop(columns="Metadata_Concentration"), {}),
        (TABLE.head(1), {"concentrations": "none above 0, or of no compound"}),
        (TABLE.drop(columns="Metadata_Compound"), {"concentrations": "none above 0, or of no compound"}),
    ],
)
def test_doses_are_counted_by_compound(table, told):
    assert doses(table) == told


def test_a_column_that_may_be_misspelt_is_told():
    assert columns_without_use(TABLE) == {}
    misspelt = TABLE.rename(columns={"Metadata_Concentration": "Metadata_Conc"}).assign(Metadata_Z=1, Quality_x=1)
    assert columns_without_use(misspelt) == {"columns without a use": "Metadata_Conc"}
