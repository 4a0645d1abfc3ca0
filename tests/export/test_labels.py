"""Cells and class maps inside the OME-Zarr image that they came from, read by yaozarrs, napari and this package."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaozarrs
import zarr

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.export.labels import label_plates, write_labels, write_maps
from milcnn.localise.maps import all_class_maps
from milcnn.screens.images import read_plane
from milcnn.screens.zarr_image import image_files
from tests.screens import test_omezarr
from tests.screens.test_omezarr import plate

VERSIONS = ["0.4", "0.5"]
CELLS = np.zeros((6, 8), int)
CELLS[1:3, 1:4], CELLS[4:, 5:] = 1, 3
OBJECTS = pd.DataFrame(
    {"Metadata_Well": "A01", "object": [1, 3], "area_um2": [np.nan] * 2, "score_x": [0.9, 0.2], "predicted": ["x", "y"]}
)


def image(folder, *arguments):
    """An image that says nothing of its channels: what the helper says is less than yaozarrs demands."""
    test_omezarr.image(folder, *arguments)
    group = zarr.open_group(folder, mode="a")
    told = dict(group.attrs)
    told.get("ome", told).pop("omero")
    group.attrs.put(told)


def attributes(folder, version):
    told = dict(zarr.open_group(folder, mode="r").attrs)
    return told["ome"] if version == "0.5" else told


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["tczyx", "cyx", "yx"])
def test_labels_have_the_place_the_colour_and_the_properties_of_each_cell(tmp_path, version, axes):
    pixels = np.arange(48, dtype=np.uint16).reshape([1] * (len(axes) - 2) + [6, 8])
    image(tmp_path / "i.zarr", pixels, axes, version, ["a"])
    write_labels(tmp_path / "i.zarr", "milcnn", CELLS, OBJECTS, ["x", "y"])
    write_labels(tmp_path / "i.zarr", "other", CELLS, OBJECTS, ["x", "y"])
    assert attributes(tmp_path / "i.zarr/labels", version)["labels"] == ["milcnn", "other"]
    told = attributes(tmp_path / "i.zarr/labels/milcnn", version)
    assert [axis["name"] for axis in told["multiscales"][0]["axes"]] == [axis for axis in axes if axis != "c"]
    assert told["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][-2:] == [500.0, 500.0]
    own = told["image-label"]
    assert own["properties"] == [
        {"label-value": 1, "score_x": 0.9, "predicted": "x"},
        {"label-value": 3, "score_x": 0.2, "predicted": "y"},
    ]
    first, second = (entry["rgba"] for entry in own["colors"])
    assert [entry["label-value"] for entry in own["colors"]] == [1, 3]
    assert first == [31, 119, 180, 255]  # tab10's blue
    assert first != second
    np.testing.assert_array_equal(np.squeeze(zarr.open_array(tmp_path / "i.zarr/labels/milcnn/0", mode="r")), CELLS)
    np.testing.assert_array_equal(read_plane(str(tmp_path / "i.zarr")), pixels.reshape(6, 8))
    yaozarrs.validate_zarr_store(str(tmp_path / "i.zarr/labels/milcnn"))


@pytest.mark.parametrize("version", VERSIONS)
def test_maps_have_a_channel_a_class_and_replace_older_ones(tmp_path, version):
    image(tmp_path / "i.zarr", np.zeros((2, 6, 8), np.uint16), "cyx", version)
    maps = np.random.default_rng(0).uniform(size=(3, 6, 8)).astype(np.float32)
    for values in (maps + 1, maps):
        write_maps(tmp_path / "i.zarr", "milcnn", values, ["x", "y", "z"])
    told = attributes(tmp_path / "i.zarr/maps/milcnn", version)
    assert [channel["label"] for channel in told["omero"]["channels"]] == ["x", "y", "z"]
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "i.zarr/maps/milcnn/0", mode="r")[:], maps)
    yaozarrs.validate_zarr_store(str(tmp_path / "i.zarr/maps/milcnn"))


def test_another_size_is_refused(tmp_path):
    image(tmp_path / "i.zarr", np.zeros((2, 6, 9), np.uint16), "cyx")
    with pytest.raises(ValueError, match="1 planes of 6 × 9 px; labels need one of their size"):
        write_labels(tmp_path / "i.zarr", "milcnn", CELLS, OBJECTS, ["x", "y"])
    assert not (tmp_path / "i.zarr/labels/milcnn").exists()


@pytest.fixture(scope="module")
def labelled(run, tmp_path_factory):
    """A plate of two fields of the sample, with the labels and maps of its network."""
    folder = tmp_path_factory.mktemp("plates")
    rows = run.prepared.of("test").iloc[:2].assign(Path_digit=["P1.zarr/A/1/0", "P1.zarr/A/1/1"])
    plate(folder / "P1.zarr", {"A/1": [{"path": "0"}, {"path": "1"}]}, "0.5")
    for path, pixels in zip(rows["Path_digit"], run.prepared.pixels(rows), strict=True):
        image(folder / path, pixels, "cyx", "0.5", ["digit"])
    label_plates(run, rows, SegmentSettings(), folder, "milcnn")
    return folder, rows


def test_the_cells_and_maps_of_a_study_go_into_its_plates(run, labelled):
    folder, rows = labelled
    for path, pixels in zip(rows["Path_digit"], run.prepared.pixels(rows), strict=True):
        cells = segment(pixels, run.prepared.channels, SegmentSettings(), None)[1]
        np.testing.assert_array_equal(zarr.open_array(folder / path / "labels/milcnn/0", mode="r")[:], cells)
        expected = all_class_maps(run.model, torch.from_numpy(pixels[None]))[0]
        np.testing.assert_allclose(zarr.open_array(folder / path / "maps/milcnn/0", mode="r")[:], expected, atol=1e-6)


def test_labels_are_no_part_of_the_image_so_no_study_is_prepared_again(labelled):
    folder, rows = labelled
    files = image_files(str(folder / rows["Path_digit"].iloc[0]))
    names = [path.removeprefix(f"{folder}/P1.zarr/A/1/0/") for path in files]
    assert names == ["0/c/0/0/0", "0/zarr.json", "zarr.json"]


def test_fields_of_files_and_reduced_fields_are_refused(run, labelled):
    folder, rows = labelled
    with pytest.raises(ValueError, match="a field needs one OME-Zarr image of its own"):
        label_plates(run, rows.assign(Path_digit="a.tif"), SegmentSettings(), folder, "milcnn")
    reduced = replace(run.prepared, settings=run.prepared.settings | {"downscale": 2})
    with pytest.raises(ValueError, match="downscale changed its fields"):
        label_plates(replace(run, prepared=reduced), rows, SegmentSettings(), folder, "milcnn")


@pytest.mark.environment
def test_napari_reads_image_labels_and_class_maps_of_a_field(labelled, environment, run):
    """By the functions of its reader, in an environment of its own, without a window."""
    folder, rows = labelled
    program = """
import sys, json, napari_ome_zarr
layers = [layer for path in sys.argv[1:] for layer in napari_ome_zarr.napari_get_reader(path)(path)]
print(json.dumps([kind for data, told, kind in layers]))
"""
    field = folder / rows["Path_digit"].iloc[0]
    done = subprocess.run(
        [environment("napari-ome-zarr"), "-c", program, field, field / "maps" / "milcnn"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    layers = json.loads(done.stdout.splitlines()[-1])
    assert sorted(layers) == ["image", "image", "labels"]
