"""Objects, by hand; label images, read back as other programs read them."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.columns import FIELD_KEY
from milcnn.files import read_table
from milcnn.localise import objects

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
KEY = {"Metadata_Plate": "007", "Metadata_Well": "B02", "Metadata_Site": 1}


@pytest.fixture
def field():
    """Cells 1 (two pixels) and 3 (one), of which 3 is labelled, and the maps of two classes."""
    cells = np.array([[1, 1, 0], [0, 0, 3]], np.uint16)
    maps = np.array([[[0.2, 0.4, 1], [1, 1, 0.1]], [[0.5, 0.1, 0], [0, 0, 0.9]]])
    return cells, np.where(cells == 3, cells, 0), maps


def test_object_table_by_hand(field):
    table = objects.object_table(*field, ["x", "y"], KEY, 0.5)
    expected = {
        "Metadata_Plate": ["007", "007"], "Metadata_Well": ["B02", "B02"], "Metadata_Site": [1, 1], "object": [1, 3],
        "y": [0.0, 1.0], "x": [0.5, 2.0], "area_px": [2, 1], "area_um2": [0.5, 0.25], "labelled": [False, True],
        "score_x": [0.3, 0.1], "score_y": [0.3, 0.9], "predicted": ["x", "y"],
    }  # fmt: skip
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


def test_area_is_missing_where_the_pixel_size_is(field):
    assert objects.object_table(*field, ["x", "y"], KEY, None)["area_um2"].isna().all()


def test_a_field_without_cells_has_the_same_columns_and_no_rows(field):
    full = objects.object_table(*field, ["x", "y"], KEY, 0.5)
    none = np.zeros_like(field[0])
    empty = objects.object_table(none, none, field[2], ["x", "y"], KEY, 0.5)
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert pd.concat([empty, full]).dtypes["object"] == np.int64


def test_label_image_comes_back_with_its_pixel_size_and_names(tmp_path):
    labels = np.random.default_rng(0).integers(0, 900, (2, 40, 50))
    path = tmp_path / "masks" / "f.ome.tiff"
    objects.write_masks(path, labels, ["cells", "labelled"], 0.65)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        assert (series.axes, series.dtype, series.shape) == ("CYX", np.uint16, (2, 40, 50))
        np.testing.assert_array_equal(series.asarray(), labels)
        pixels = ElementTree.fromstring(file.ome_metadata).find(f"{OME}Image/{OME}Pixels")
        tags = file.pages[0].tags
        x, y = (tags[name].value for name in ("XResolution", "YResolution"))
        unit = tags["ResolutionUnit"].value
    assert {name: pixels.get(name) for name in ("SizeC", "SizeY", "SizeX")} == {
        "SizeC": "2",
        "SizeY": "40",
        "SizeX": "50",
    }
    assert [float(pixels.get(f"PhysicalSize{axis}")) for axis in "XY"] == [0.65, 0.65]
    assert [pixels.get(f"PhysicalSize{axis}Unit") for axis in "XY"] == ["µm", "µm"]
    assert [channel.get("Name") for channel in pixels.iter(f"{OME}Channel")] == ["cells", "labelled"]
    assert unit == tifffile.RESUNIT.CENTIMETER
    assert [1e4 * value[1] / value[0] for value in (x, y)] == pytest.approx([0.65, 0.65])


def test_without_a_pixel_size_none_is_told(tmp_path):
    objects.write_masks(tmp_path / "f.ome.tif", np.zeros((1, 8, 8), int), ["cells"], None)
    with tifffile.TiffFile(tmp_path / "f.ome.tif") as file:
        assert "PhysicalSize" not in file.ome_metadata
        assert file.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


def test_more_objects_than_16_bit_can_number(tmp_path):
    labels = np.array([[[0, 70_000]]])
    objects.write_masks(tmp_path / "f.ome.tif", labels, ["cells"], 1.0)
    found = tifffile.imread(tmp_path / "f.ome.tif")
    assert found.dtype == np.uint32
    assert found.ravel().tolist() == [0, 70_000]


def test_the_same_masks_are_the_same_bytes_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    labels = np.arange(24).reshape(2, 3, 4)
    for name in ("a.ome.tiff", "b.ome.tiff"):
        objects.write_masks(tmp_path / name, labels, ["cells", "labelled"], 0.5)
    assert (tmp_path / "a.ome.tiff").read_bytes() == (tmp_path / "b.ome.tiff").read_bytes()

    def half(path, *_, **__):
        path.write_bytes(b"II")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", half)
    with pytest.raises(OSError, match="disk full"):
        objects.write_masks(tmp_path / "c.ome.tiff", labels, ["cells", "labelled"], 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.tiff", "b.ome.tiff"]


def test_what_readers_would_not_open_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.ome\.tif"):
        objects.write_masks(tmp_path / "f.tif", np.zeros((1, 2, 2), int), ["cells"], None)
    with pytest.raises(ValueError, match="2 names for 1"):
        objects.write_masks(tmp_path / "f.ome.tif", np.zeros((1, 2, 2), int), ["a", "b"], None)


def test_write_objects_writes_a_table_and_a_label_image_a_field(tmp_path, field):
    cells, labelled, maps = (np.stack([part, part]) for part in field)
    rows = pd.DataFrame([KEY, KEY | {"Metadata_Site": 2}])
    table = objects.write_objects(tmp_path, rows, cells, labelled, maps, ["x", "y"], 0.5)
    assert table[[*FIELD_KEY, "object"]].to_numpy().tolist() == [["007", "B02", s, k] for s in (1, 2) for k in (1, 3)]
    pd.testing.assert_frame_equal(read_table(tmp_path / "objects.parquet"), table)
    image = tifffile.imread(tmp_path / "007_B02_2.ome.tiff")
    np.testing.assert_array_equal(image, np.stack(field[:2]))
