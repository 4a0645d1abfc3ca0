"""`milcnn new`: a table of fields becomes a study whose settings fit."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from milcnn import parameters
from milcnn.parameters import StageError
from milcnn.prepare.splits import SplitSettings, split_screen
from milcnn.screens.screen import ScreenError
from milcnn.screens.sets.kinds import open_screen
from milcnn.study import cli, inventory, new

SIDE = 40


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository without studies."""
    root = tmp_path / "repository"
    for module in (new, parameters, inventory):
        monkeypatch.setattr(module, "ROOT", root)
    (root / "params").mkdir(parents=True)
    (root / "params.yaml").write_text("# what runs\nstudies: [digits] # a list\nruns:\n  # poolings: [max]\n")
    return root


def write_screen(folder, plates=3, wells=4, sites=1, side=SIDE):
    """A table and its images: on each plate the wells are DMSO and drug in turn; two channels."""
    rows = []
    for plate in range(plates):
        for well in range(wells):
            for site in range(sites):
                key = {"Metadata_Plate": f"P{plate}", "Metadata_Well": f"B{well + 1:02d}", "Metadata_Site": site}
                row = key | {"Metadata_Label": ("DMSO", "drug")[well % 2]}
                for channel in ("Actin", "DAPI"):
                    name = f"{plate}-{well}-{site}-{channel}.tif"
                    tifffile.imwrite(folder / name, np.full((side, side), 100 + well, np.uint16))
                    row[f"Path_{channel}"] = name
                rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "fields.csv", index=False)
    return str(folder / "fields.csv")


def test_a_study_says_what_it_found_and_has_settings_that_fit(root, capsys):
    table = write_screen(root.parent)
    new.new_study("mine", table=table)
    said = capsys.readouterr().out
    for what, found in {
        "plates": "3: P0, P1 and P2",
        "wells": "4 on a plate, 12 in all",
        "channels": "2: Actin, DAPI",
        "images": "40 × 40 px, uint16",
        "classes (fields)": "DMSO (6), drug (6)",
        "negative controls": "DMSO (6 fields)",
    }.items():
        assert re.search(rf"^{re.escape(what)} +{re.escape(found)}$", said, re.MULTILINE)
    assert said.endswith("Next: leave only mine in `studies`, else digits will run as well; then dvc repro\n")
    sections = parameters.read_study("mine")
    assert sections["prepare"]["split"] == {"kind": "plate", "folds": 3}
    assert "illumination" not in sections["prepare"]  # four fields a plate are too few
    assert sections["prepare"]["scaling"] == "control"
    assert sections["baselines"]["segmentation"] == sections["localise"]["segmentation"] == {"nucleus": "DAPI"}
    assert "crop" not in sections["train"]  # fields are small
    text = (root / "params" / "mine.yaml").read_text()
    keys = [line for line in text.splitlines() if line.startswith("  ") and not line.startswith("    ")]
    assert all("#" in line for line in keys if "screen_settings" not in line)  # each line has its reason
    assert "mine" not in text


def test_params_yaml_gets_the_name_and_keeps_its_comments(root):
    new.new_study("mine", table=write_screen(root.parent))
    text = (root / "params.yaml").read_text()
    assert text == "# what runs\nstudies: [digits, mine] # a list\nruns:\n  # poolings: [max]\n"


def test_the_split_of_the_file_can_be_made(root):
    new.new_study("mine", table=write_screen(root.parent, plates=1, wells=10))
    section = parameters.read_study("mine")["prepare"]
    assert section["split"]["kind"] == "well"
    screen = open_screen(section["screen"], **section["screen_settings"])
    assert set(split_screen(screen, SplitSettings(**section["split"]))["Metadata_Split"]) == {
        "train",
        "validation",
        "test",
    }


def test_two_wells_a_class_are_split_by_field_and_it_says_so(root):
    new.new_study("mine", table=write_screen(root.parent, plates=1, wells=4, sites=4))
    assert parameters.read_study("mine")["prepare"]["split"]["kind"] == "field"
    assert "fields of one well are trained and tested on" in (root / "params" / "mine.yaml").read_text()


def test_large_fields_are_cropped(root):
    new.new_study("mine", table=write_screen(root.parent, plates=1, wells=10, side=600))
    assert parameters.read_study("mine")["train"]["crop"] == 384


@pytest.mark.parametrize("name", ["my plate", "a/b", ""])
def test_a_bad_name_is_refused_and_nothing_is_written(root, name):
    with pytest.raises(StageError, match=f"study '{name}': use letters"):
        new.new_study(name, table=write_screen(root.parent))
    assert not list((root / "params").iterdir())


def test_a_study_that_exists_is_never_overwritten(root):
    new.new_study("mine", table=write_screen(root.parent))
    with pytest.raises(StageError, match=r"mine\.yaml: exists"):
        new.new_study("mine", table=write_screen(root.parent))
    assert yaml.safe_load((root / "params.yaml").read_text())["studies"] == ["digits", "mine"]


def test_problems_of_the_table_are_said_before_anything_is_written(root):
    path = write_screen(root.parent)
    pd.read_csv(path).drop(columns="Metadata_Label").to_csv(path, index=False)
    with pytest.raises(ScreenError, match="Metadata_Label"):
        new.new_study("mine", table=path)
    assert not list((root / "params").iterdir())
    assert "mine" not in (root / "params.yaml").read_text()


def test_the_inventory_changes_with_the_table_and_with_an_image_and_not_else(root):
    path = write_screen(root.parent)
    new.new_study("mine", table=path)
    first = inventory.inventory("mine")
    assert inventory.inventory("mine") == first
    (root.parent / "0-0-0-DAPI.tif").touch()
    second = inventory.inventory("mine")
    assert second != first
    table = pd.read_csv(path)
    table.loc[0, "Metadata_Label"] = "drug"
    table.to_csv(path, index=False)
    assert inventory.inventory("mine") != second


def test_the_inventory_knows_the_maps_beside_a_list_of_barcodes(root, capsys):
    (root.parent / "images").mkdir()
    table = write_screen(root.parent / "images")
    (root.parent / "maps/platemap").mkdir(parents=True)
    (root.parent / "maps/barcode_platemap.csv").write_text("Assay_Plate_Barcode,Plate_Map_Name\nP0,a\nP1,a\nP2,a\n")
    (root.parent / "maps/platemap/a.txt").write_text("well_position\tbroad_sample\nB01\t\nB02\tx\nB03\t\nB04\tx\n")
    pd.read_csv(table).drop(columns="Metadata_Label").to_csv(table, index=False)
    new.new_study("mine", table=table, platemap=str(root.parent / "maps/barcode_platemap.csv"))
    assert re.search(r"classes \(fields\) +DMSO \(6\), x \(6\)", capsys.readouterr().out)
    first = inventory.inventory("mine")
    (root.parent / "maps/platemap/a.txt").touch()
    assert inventory.inventory("mine") != first


def test_a_drawn_study_has_no_inputs(root):
    (root / "params" / "dots.yaml").write_text("prepare: {screen: digits, screen_settings: {size: 96}}\n")
    assert inventory.inventory("dots") == {}


def test_without_table_and_images_both_are_named(root):
    with pytest.raises(StageError, match="give --table FILE, or --images FOLDER"):
        new.new_study("mine", platemap="map.csv")


@pytest.mark.parametrize(("fields", "epochs", "steps"), [(72, 60, 350), (600, 31, 1490), (3456, 10, 2760)])
def test_the_steps_beside_the_epochs_are_those_that_are_taken(fields, epochs, steps):
    lines = {key: (value, why) for key, value, why in new.train_lines(fields, 256)}
    assert lines["epochs"][0] == str(epochs)
    assert lines["epochs"][1].startswith(f"about {steps} steps of 8 fields")


def test_a_screen_that_cannot_be_split_ends_in_one_sentence(root, monkeypatch):
    words = ["milcnn", "new", "mine", "--table", write_screen(root.parent, plates=1, wells=2)]
    monkeypatch.setattr(sys, "argv", words)
    table = pd.read_csv(words[-1])
    pd.concat([table.assign(Metadata_Site=site) for site in range(2)]).to_csv(words[-1], index=False)
    monkeypatch.setattr(new, "table_problems", lambda *_: [])  # two fields of one image are enough for this
    with pytest.raises(
        SystemExit, match=r"^error: no split .* works; labelled fields: DMSO \(2\), drug \(2\); each class needs three"
    ):
        cli.main()
    assert not list((root / "params").iterdir())
