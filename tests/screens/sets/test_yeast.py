"""CYCLoPs-style plates: .flex files whose frames alternate GFP and RFP, and two tables."""

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.screens.screen import ScreenError
from milcnn.screens.sets.kinds import open_screen
from milcnn.screens.sets.yeast import LOCALISATIONS, opera_well

SITES = 4


@pytest.fixture
def folder(tmp_path):
    """Two plates × 3 wells; frame f of well w of plate p has the value 1000 p + 100 w + f."""
    for plate in (1, 2):
        (tmp_path / f"plate0{plate}").mkdir()
        for column in (1, 2, 3):
            frames = [np.full((5, 6), 1000 * plate + 100 * column + frame, np.uint16) for frame in range(2 * SITES)]
            path = tmp_path / f"plate0{plate}" / f"007{column:03d}000.flex"
            tifffile.imwrite(path, np.stack(frames), photometric="minisblack")
    (tmp_path / "plate01" / "notes.txt").write_text("not an image")
    wells = pd.DataFrame({"well": ["G1", "G02", "G03"], "strain": ["YAL001", "YBR002", "YCR003"]})
    wells.to_csv(tmp_path / "platemap.csv", index=False)
    strains = {"strain": ["YAL001", "YBR002"], "localisations": ["NUCLEI|CYTOPLASM", "NUCLEI"]}
    pd.DataFrame(strains).to_csv(tmp_path / "strains.csv", index=False)
    return tmp_path


def opened(folder, **settings):
    tables = {name: str(folder / f"{name}.csv") for name in ("platemap", "strains")}
    return open_screen("yeast", images=str(folder), **tables, **settings)


def test_frames_alternate_between_the_channels(folder):
    screen = opened(folder)
    screen.check()
    assert (screen.channels, screen.multilabel) == (["GFP", "RFP"], True)
    fields = screen.fields
    assert len(fields) == 2 * 2 * SITES
    for _, row in fields.iterrows():
        plate, column = int(row["Metadata_Plate"][-1]), int(row["Metadata_Well"][1:])
        frame = 2 * (row["Metadata_Site"] - 1)
        expected = 1000 * plate + 100 * column + frame
        assert screen.read(row)[:, 0, 0].tolist() == [expected, expected + 1]


def test_strains_have_their_localisations_sorted(folder):
    screen = opened(folder)
    labels = screen.fields.groupby("Metadata_Compound")["Metadata_Label"].unique().map(list).to_dict()
    assert labels == {"YAL001": ["CYTOPLASM|NUCLEI"], "YBR002": ["NUCLEI"]}
    assert screen.classes == ["CYTOPLASM", "NUCLEI"]
    assert screen.skipped[["Metadata_Plate", "Metadata_Compound", "reason"]].to_numpy().tolist() == [
        ["plate01", "YCR003", "the strain has no localisation"],
        ["plate02", "YCR003", "the strain has no localisation"],
    ]


def test_a_platemap_may_name_the_plate(folder):
    wells = pd.read_csv(folder / "platemap.csv").assign(plate="plate02")
    wells.to_csv(folder / "platemap.csv", index=False)
    assert opened(folder).fields["Metadata_Plate"].unique().tolist() == ["plate02"]


def test_a_well_without_a_file_is_reported_or_skipped(folder):
    (folder / "plate02" / "007002000.flex").unlink()
    with pytest.raises(ScreenError, match=r"plate plate02, well G02: no file in .*; copy it, or set 'missing: skip'"):
        opened(folder).check()
    screen = opened(folder, missing="skip")
    screen.check()
    assert "no file" in screen.skipped["reason"].tolist()
    assert len(screen.fields) == 3 * SITES


def test_a_file_with_too_few_frames_is_reported(folder):
    path = folder / "plate01" / "007001000.flex"
    tifffile.imwrite(path, np.zeros((6, 5, 6), np.uint16), photometric="minisblack")
    with pytest.raises(ScreenError, match=r"007001000\.flex .*: wrong number of pages \(6, not 8\)"):
        opened(folder).check()


def test_unsuitable_tables_are_reported(folder):
    pd.DataFrame({"strain": ["a", "a"], "localisations": ["ER", "ER"]}).to_csv(folder / "strains.csv", index=False)
    with pytest.raises(ScreenError, match=r"strains\.csv: has more than one row for a"):
        opened(folder)
    pd.DataFrame({"orf": ["a"], "gene": ["b"]}).to_csv(folder / "strains.csv", index=False)
    with pytest.raises(ScreenError, match=r"strains\.csv: has no column strain, localisations, only orf, gene"):
        opened(folder)
    with pytest.raises(ScreenError, match=r"none: has no <plate>/<well>\.flex"):
        opened(folder / "none")


def test_names_of_the_opera():
    assert [opera_well(stem) for stem in ("007020000", "001001000", "016024000", "b3")] == ["G20", "A01", "P24", "B03"]


def test_there_are_17_localisations():
    assert len(LOCALISATIONS) == len(set(LOCALISATIONS)) == 17
