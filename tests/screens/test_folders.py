"""Folders that are no whole plate are refused in one sentence; what a screen has is told on one page."""

import shutil

import pandas as pd
import pytest

from milcnn.screens.folders import folder_table
from milcnn.screens.overview import overview
from milcnn.screens.problems import ScreenError
from milcnn.screens.sets.kinds import open_screen
from tests.screens.vendor_folders import write_imagexpress, write_phenix, write_yokogawa


def refused(folder, **settings) -> str:
    with pytest.raises(ScreenError) as error:
        open_screen("manifest", images=str(folder), **settings).check()
    assert len(error.value.problems) == 1
    return str(error.value).replace(str(folder), "")


@pytest.fixture
def platemap(tmp_path):
    path = tmp_path / "platemap.csv"
    pd.DataFrame({"well": ["B02", "D11"], "label": ["DMSO", "drug"]}).to_csv(path, index=False)
    return str(path)


def test_plates_of_two_kinds(tmp_path):
    write_phenix(tmp_path / "P1")
    write_imagexpress(tmp_path / "P2")
    assert "has plates of 2 kinds (Index.idx.xml, as P1/Images/r02" in refused(tmp_path)


@pytest.mark.parametrize("write", [write_phenix, write_yokogawa])
def test_two_acquisitions_of_one_plate(write, tmp_path):
    for number in (1, 2):
        write(tmp_path / f"P1 Measurement {number}", plate="P1")
    message = refused(tmp_path)
    assert "plate P1 is there twice, as P1 Measurement 1/" in message
    assert "give a folder with one of the two acquisitions" in message


def test_two_plates_with_the_default_name_of_yokogawa_are_two(tmp_path):
    for name in ("plate 1", "plate 2"):
        write_yokogawa(tmp_path / name, plate="AssayPlate_Greiner")
    table, _ = folder_table(tmp_path)
    assert table["Metadata_Plate"].unique().tolist() == ["plate 1", "plate 2"]


def test_an_index_whose_images_are_elsewhere(tmp_path):
    write_phenix(tmp_path / "P1")
    (tmp_path / "elsewhere").mkdir()
    for path in (tmp_path / "P1").rglob("*.tif*"):
        shutil.move(path, tmp_path / "elsewhere")
    assert refused(tmp_path).startswith("/P1/Images/Index.idx.xml: none of the 8 images in it is there, as r02c02f01")


def test_a_broken_index(tmp_path):
    write_phenix(tmp_path / "P1")
    index = tmp_path / "P1" / "Images" / "Index.idx.xml"
    index.write_bytes(index.read_bytes()[:2000])
    assert refused(tmp_path).startswith("/P1/Images/Index.idx.xml: broken XML (")


@pytest.mark.parametrize("write", [write_phenix, write_imagexpress, write_yokogawa])
def test_a_plate_that_was_copied_by_half(write, tmp_path, platemap):
    for plate in ("P1", "P2"):
        write(tmp_path / plate, plate=plate)
    second = sorted(path for path in (tmp_path / "P2").rglob("*.tif*") if "D11" in path.name or "r04c11" in path.name)
    for path in second:
        path.unlink()
    message = refused(tmp_path, platemap=platemap)
    assert message.startswith("plate P2: images are missing (4 of 8, as well D11, site 1, channel DAPI)")


def test_an_htd_without_images(tmp_path):
    write_imagexpress(tmp_path / "P1")
    write_imagexpress(tmp_path / "P2", plate="P2")
    for path in (tmp_path / "P2").rglob("*.tif*"):
        path.unlink()
    assert refused(tmp_path).startswith("/P2/P2.HTD: no image of its plate is there")


@pytest.mark.parametrize("names", [[], ["IMG_0001.tif", "notes.txt"]])
def test_a_folder_without_a_plate(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    assert f"no plate is known by its files, as {' and '.join(names) or 'none'}; set 'pattern'" in refused(tmp_path)


def test_no_folder(tmp_path):
    assert refused(tmp_path / "screen").endswith(": no such folder; correct 'images'.")


def test_neither_table_nor_folder():
    with pytest.raises(ValueError, match="'table' and 'images' are empty; set a table, or a folder"):
        open_screen("manifest")


def test_the_overview_counts_what_there_is(tmp_path, platemap):
    write_phenix(tmp_path / "P1", plate="P1", z=3)
    write_phenix(tmp_path / "P2", plate="P2", z=3)
    screen = open_screen("manifest", images=str(tmp_path), platemap=platemap, z="max")
    screen.check()
    facts = dict(overview(screen).itertuples(index=False, name=None))
    assert facts == {
        "plates": "2: P1 and P2",
        "wells": "2 on a plate, 4 in all",
        "sites": "2 in a well, 8 fields in all",
        "channels": "2: DAPI, Actin",
        "images": "32 × 40 px, uint16, 0.65 µm a pixel, from 3 z planes",
        "classes (fields)": "DMSO (4), drug (4)",
        "negative controls": "DMSO (4 fields)",
        "left out: not an image": "3",  # the two indexes and the platemap
    }
