"""The explorer without a browser: what follows from what the user does."""

import io

import numpy as np
import pytest
from PIL import Image

from milcnn.explore import explore, view
from milcnn.explore.controls import table_widget
from milcnn.explore.drawn import FIELD_SIDE
from milcnn.explore.shown import cells_at
from milcnn.network.model import load_model
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared
from milcnn.screens.marks import read_marks

SAMPLE = ROOT / "data" / "sample"


@pytest.fixture
def explorer(tmp_path):
    network = load_model(SAMPLE / "models" / "noisy_and-0" / "model.safetensors")
    made = explore(load_prepared(SAMPLE / "prepared"), network, marks=tmp_path / "marks.csv")
    made.go(2)  # its map is partly above the threshold
    return made


def pixels(explorer):
    return np.asarray(Image.open(io.BytesIO(explorer.picture.data))).astype(int)


def key(explorer):
    return tuple(explorer.field[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]])


def test_it_opens_with_the_worst_field(tmp_path):
    network = load_model(SAMPLE / "models" / "noisy_and-0" / "model.safetensors")
    explorer = explore(load_prepared(SAMPLE / "prepared"), network)
    assert explorer.field["loss"] == explorer.shown.fields["loss"].max()
    assert explorer.wells.well == explorer.field["Metadata_Well"]


def test_a_well_is_chosen_on_the_plate_and_a_plate_in_the_list(explorer):
    explorer.wells.well = "train-7"
    assert key(explorer) == ("train", "train-7", 1)
    assert explorer.picture.alt.startswith("field train/train-7/1; channels digit; zoom 1.0; class map of 7 above 0.50")
    explorer.place.plate.value = "test"
    assert key(explorer) == ("test", "test-1", 1)
    assert [well[2] for well in explorer.wells.plate["wells"]] == [f"test-{digit}" for digit in range(1, 10)]


@pytest.mark.parametrize(
    "change", ["off", "colour", "contrast", "threshold", "class", "shaded", "outlined", "cells", "zoom"]
)
def test_each_control_changes_the_picture(explorer, change):
    before, on = pixels(explorer), explorer.channels[0]
    if change == "off":
        on.on.value = False
        explorer.map.of.value = "none"
        assert pixels(explorer)[: FIELD_SIDE // 2].max() < 10  # black above the scale bar
    elif change == "colour":
        on.colour.value = "#00FF00"
    elif change == "contrast":
        on.contrast.value = (0, 500)
    elif change == "class":
        explorer.map.of.value = "9"
    elif change in ("threshold", "zoom"):
        getattr(explorer.map, change).value = {"threshold": 0.2, "zoom": 2}[change]
    else:
        box = getattr(explorer.map, change)
        box.value = not box.value
    assert (np.abs(pixels(explorer) - before).max(axis=2) > 30).any()


def test_the_wheel_zooms_about_the_pointer(explorer):
    place = {"x": 0.75, "y": 0.25}
    height, width = 96, 96

    def under():
        left, top, right, bottom = view.box_of(explorer.frame, height, width)
        return left + place["x"] * (right - left), top + place["y"] * (bottom - top)

    before = under()
    explorer.act({"kind": "wheel", "steps": -3, **place})
    assert explorer.map.zoom.value == pytest.approx(1.25**3)
    assert under() == pytest.approx(before)
    explorer.act({"kind": "wheel", "steps": 3, **place})
    assert explorer.frame == view.Frame(height / 2, width / 2, 1)


def test_a_drag_moves_the_field_with_the_pointer_and_keys_move_the_view(explorer):
    explorer.map.zoom.value = 4
    shown = 96 / explorer.frame.zoom
    y, x = explorer.frame.y, explorer.frame.x
    explorer.act({"kind": "drag", "x": 0.5, "y": -0.25})
    assert (explorer.frame.y, explorer.frame.x) == pytest.approx((y + 0.25 * shown, x - 0.5 * shown))
    explorer.act({"kind": "key", "key": "ArrowRight"})
    assert explorer.frame.x == pytest.approx(x - 0.3 * shown)
    explorer.act({"kind": "key", "key": "0"})
    assert explorer.frame.zoom == 1


def test_a_click_in_the_table_centres_the_cell_and_a_click_on_a_cell_chooses_its_row(explorer):
    number = 1
    cell = explorer.cells.df.iloc[number]
    explorer.cells.selected_rows = [number]
    left, top, right, bottom = view.box_of(explorer.frame, 96, 96)
    assert left <= cell["x"] <= right
    assert top <= cell["y"] <= bottom
    assert explorer.frame.zoom == 4
    yellow = np.abs(pixels(explorer) - [255, 255, 0]).max(axis=2) < 60
    assert yellow.any()
    explorer.act({"kind": "key", "key": "0"})
    other = explorer.cells.df["object"].iloc[0]
    y, x = np.argwhere(cells_at(explorer.shown, explorer.row) == other)[5]
    explorer.act({"kind": "click", "x": (x + 0.5) / 96, "y": (y + 0.5) / 96})
    assert explorer.cell == other
    assert explorer.cells.selected_rows == [0]


def test_a_mark_is_written_and_shown_again(explorer, tmp_path):
    explorer.place.right.value = "4"
    explorer.place.mark.value = "wrong label"
    assert read_marks(tmp_path / "marks.csv").to_numpy().tolist() == [["train", "train-3", "1", "wrong label", "4"]]
    explorer.go(5)
    assert explorer.place.mark.value == ""
    explorer.place.mark.value = "bad quality"
    explorer.go(2)
    assert (explorer.place.mark.value, explorer.place.right.value) == ("wrong label", "4")
    explorer.tabs.selected_index = 1
    assert sorted(explorer.worst.df["mark"])[-2:] == ["bad quality", "wrong label"]
    explorer.place.mark.value = ""
    assert len(read_marks(tmp_path / "marks.csv")) == 1


def test_the_table_of_worst_fields_and_the_small_pictures_lead_to_their_field(explorer):
    explorer.tabs.selected_index = 1
    explorer.worst.selected_rows = [3]
    assert explorer.row == explorer.worst_rows[3]
    explorer.tabs.selected_index = 2
    tiles = explorer.near.tiles
    assert len(tiles) == 8
    explorer.near.act({"kind": "click", "x": 2.5 / 8, "y": 0.5})
    assert explorer.row == tiles[2].row
    explorer.tabs.selected_index = 3
    tiles = explorer.top.tiles
    explorer.top.act({"kind": "key", "key": "ArrowRight"})
    explorer.top.act({"kind": "key", "key": "Enter"})
    assert explorer.row == tiles[1].row
    assert explorer.frame.zoom == 4


def test_where_no_kernel_runs_it_is_the_picture_of_the_field(explorer):
    bundle = explorer._repr_mimebundle_()
    assert {"image/jpeg", "application/vnd.jupyter.widget-view+json"} <= set(bundle)


def test_a_table_without_rows_has_a_named_header():
    """What axe finds in a browser if it looks before the rows are there."""
    assert all(table_widget(print).df.columns)
