"""Plates as microscopes leave them become a table whose paths lead to the right plane of each field."""

from functools import partial

import pytest
import tifffile

from milcnn.columns import PIXEL_SIZE, PLATE, SITE, TIME, WELL, Z
from milcnn.screens.folders import folder_table
from tests.screens.vendor_folders import Planes, write_imagexpress, write_incell, write_phenix, write_yokogawa

WRITERS = {
    "yokogawa": write_yokogawa,
    "phenix V5": write_phenix,
    "phenix V6": partial(write_phenix, version="V6"),
    "phenix V7": partial(write_phenix, version="V7"),
    "imagexpress": write_imagexpress,
    "incell": write_incell,
}


def read(folder) -> Planes:
    """The value of each plane that the table of ``folder`` tells of; -1 where it has no path."""
    table, _ = folder_table(folder)
    found = {}
    for row in table.to_dict("records"):
        for column in [column for column in row if column.startswith("Path_")]:
            place = (row[PLATE], row[WELL], int(row[SITE]), column.removeprefix("Path_"))
            key = (*place, int(row.get(Z, 1)), int(row.get(TIME, 1)))
            found[key] = int(tifffile.imread(folder / row[column])[0, 0]) if row[column] else -1
    return found


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("z", [1, 3])
@pytest.mark.parametrize("vendor", WRITERS)
def test_each_plane_is_found(vendor, z, times, tmp_path):
    wanted = {}
    for plate in ("P1", "P10"):
        wanted |= WRITERS[vendor](tmp_path / plate, plate=plate, z=z, times=times)
    if times == 1:  # with one time point there is no number of it
        wanted = {(*key[:5], 1): value for key, value in wanted.items()}
    assert read(tmp_path) == wanted


@pytest.mark.parametrize(("vendor", "size"), [("yokogawa", 0.325), ("phenix V5", 0.65), ("phenix V7", 0.65)])
def test_pixel_sizes(vendor, size, tmp_path):
    WRITERS[vendor](tmp_path / "P1")
    table, _ = folder_table(tmp_path)
    assert table[PIXEL_SIZE].astype(float).unique() == pytest.approx([size])


@pytest.mark.parametrize("vendor", ["yokogawa", "phenix V7", "imagexpress"])
def test_an_image_that_is_not_there_has_an_empty_path(vendor, tmp_path):
    wanted = WRITERS[vendor](tmp_path / "P1", plate="P1")
    lost = sorted(path for path in tmp_path.rglob("*.tif*") if "_thumb" not in path.name and "SC_BP" not in path.name)[
        0
    ]
    value = int(tifffile.imread(lost)[0, 0])
    lost.unlink()
    found = read(tmp_path)
    assert sorted(found.values()) == sorted([*(set(wanted.values()) - {value}), -1])


@pytest.mark.parametrize("place", ["", "TimePoint_1", "TimePoint_1/ZStep_1"])
def test_an_htd_may_be_in_any_folder_of_its_plate(place, tmp_path):
    wanted = write_imagexpress(tmp_path / "P1", z=2, htd=place)
    assert read(tmp_path) == wanted


def test_what_is_left_out_has_a_reason(tmp_path):
    write_yokogawa(tmp_path / "P1")
    write_imagexpress(tmp_path / "P2")
    (tmp_path / "P2").rename(tmp_path.parent / f"{tmp_path.name}_P2")
    _, left = folder_table(tmp_path)
    reasons = dict(zip(left["file"], left["reason"], strict=True))
    assert reasons["P1/SC_BP445-45_20x v2_M01_CH01.tif"] == "a correction of illumination"
    assert reasons["P1/MeasurementDetail.mrf"] == "not an image"
    _, left = folder_table(tmp_path.parent / f"{tmp_path.name}_P2")
    assert left["reason"].value_counts().to_dict() == {"a thumbnail": 8, "not an image": 1}


def test_one_site_a_well_whatever_the_selection_says(tmp_path):
    write_imagexpress(tmp_path / "P1")
    htd = tmp_path / "P1" / "P1.HTD"
    htd.write_text(htd.read_text().replace('"Sites", TRUE', '"Sites", FALSE'))
    for path in tmp_path.rglob("*_s2_*"):
        path.unlink()
    assert {(well, site) for _, well, site, *_ in read(tmp_path)} == {("B02", 1), ("D11", 1)}
    assert -1 not in read(tmp_path).values()


def test_a_size_in_an_index_is_in_metres_also_where_it_has_no_unit(tmp_path):
    write_phenix(tmp_path, "V7")
    index = tmp_path / "Images" / "Index.xml"
    index.write_text(index.read_text(encoding="utf-8-sig").replace(' Unit="m"', ""))
    table, _ = folder_table(tmp_path)
    assert table[PIXEL_SIZE].astype(float).unique() == pytest.approx([0.65])


@pytest.mark.parametrize(
    ("vendor", "file"),
    [("yokogawa", "screen.mes"), ("phenix V5", "Images/Index.idx.xml"), ("phenix V7", "Images/Index.xml")],
)
def test_two_channels_of_one_stain_keep_their_numbers(vendor, file, tmp_path):
    WRITERS[vendor](tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text(encoding="utf-8-sig").replace("Actin", "DAPI"))
    table, _ = folder_table(tmp_path)
    assert sorted(column for column in table if column.startswith("Path_")) == ["Path_ch1", "Path_ch2"]


@pytest.mark.parametrize("left_out", ['bts:Ch="1"', "nothing"])
def test_an_error_in_place_of_an_image_is_an_empty_path(left_out, tmp_path):
    write_yokogawa(tmp_path, plate="P1")
    index = tmp_path / "MeasurementData.mlf"
    first, *rest = index.read_text(encoding="utf-8-sig").split("</bts:MeasurementRecord>")
    first = (
        first.replace('"IMG"', '"ERR"').replace(left_out, "").replace("P1_B02_T0001F001L01A01Z01C01.tif", "Autofocus")
    )
    (tmp_path / "P1_B02_T0001F001L01A01Z01C01.tif").unlink()
    index.write_text("</bts:MeasurementRecord>".join([first, *rest]))
    found = read(tmp_path)
    assert [key for key, value in found.items() if value == -1] == [("P1", "B02", 1, "DAPI", 1, 1)]
    assert len(found) == 8
