"""`milcnn composite`: cells of a user's screen, whose places are known, become fields with a known share of treated."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from milcnn import parameters
from milcnn.baselines.segment import SegmentSettings
from milcnn.columns import FIELD_KEY, SETS
from milcnn.files import read_table
from milcnn.parameters import StageError
from milcnn.paths import ROOT
from milcnn.prepare.fields import prepare
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.splits import SplitSettings
from milcnn.screens.opening import ImageError
from milcnn.screens.sets import cut
from milcnn.screens.sets.kinds import open_screen
from milcnn.study import cli, composites, inventory, new

SIDE, STEP, BORDER = 240, 30, 6  # px of a raw field, between cells, that preparing cuts off on each side
DOWN = 2


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository without studies."""
    for module in (composites, new, parameters, inventory):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for module in (cut, inventory):
        monkeypatch.setattr(module, "in_root", lambda path: tmp_path / path)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # no processes for a dozen fields
    (tmp_path / "params").mkdir()
    (tmp_path / "params.yaml").write_text("studies: [digits]\n")
    return tmp_path


def drawn(rng, treated: bool, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A field (SIDE, SIDE) of ``count`` round cells, also on its border, and their middles (n, 2)."""
    slots = np.stack(np.unravel_index(rng.permutation((SIDE // STEP) ** 2)[:count], (SIDE // STEP,) * 2), 1)
    middles = slots * STEP + STEP / 2 + rng.integers(-4, 5, (count, 2))
    middles[slots == 0] -= 9  # the preparation crops through these
    y, x = np.mgrid[:SIDE, :SIDE]
    image = rng.normal(200, 5, (SIDE, SIDE))
    for middle in middles:
        image += (1500 if treated else 800) * (np.hypot(y - middle[0], x - middle[1]) < rng.uniform(8, 10))
    return image.clip(0).astype(np.uint16), middles


def write_study(root, plates=("P1", "P2", "P3"), wells=6, count=40, control="DMSO", only=(), **settings):
    """A prepared study ``mine`` of a table of TIFF files, and the middles of its cells by field.

    Wells are of controls and treated in turn; plates in ``only`` have no treated wells.
    """
    rng, rows, middles = np.random.default_rng(0), [], {}
    for plate in plates:
        for well in range(wells):
            treated = well % 2 == 1
            if treated and plate in only:
                continue
            name, key = f"{plate}-{well}.tif", (plate, f"B{well + 1:02d}", 1)
            image, middles[key] = drawn(rng, treated, count)
            tifffile.imwrite(root / name, image)
            label = "drug" if treated else control
            rows.append(dict(zip(FIELD_KEY, key, strict=True)) | {"Metadata_Label": label, "Path_DNA": name})
    pd.DataFrame(rows).to_csv(root / "fields.csv", index=False)
    kind = {"table": str(root / "fields.csv")}
    text = {"screen": "manifest", "screen_settings": kind}
    segmentation = {"sigma": 1, "seed_distance": 4}
    sections = {"prepare": text, "baselines": {"segmentation": segmentation}}
    (root / "params" / "mine.yaml").write_text(json.dumps(sections))
    how = PrepareSettings(crop=[SIDE - 2 * BORDER] * 2, downscale=DOWN)
    split = SplitSettings(**{"kind": "plate", "folds": 3} | settings)
    prepare(open_screen("manifest", **kind), "mine", root / "data" / "prepared" / "mine", how, split)
    return middles


def built(root):
    """The table of cells, and the screen that the parameter file describes."""
    section = parameters.read_study("mine-composite")["prepare"]
    section["screen_settings"]["fields_per_class"] = {"train": 12, "validation": 4, "test": 8}
    return read_table(root / "data" / "mine-composite" / "cells.csv"), open_screen(
        section["screen"], **section["screen_settings"]
    )


def found_and_true(found: np.ndarray, true: np.ndarray, near: float) -> int:
    """The most pairs of a found and a true place, (n, 2) each, not farther apart than ``near`` px."""
    return int((maximum_bipartite_matching(csr_matrix(cdist(found, true) <= near)) >= 0).sum())


def test_cells_are_found_where_they_were_drawn_and_none_is_cut_by_the_border(root, capsys):
    middles = write_study(root)
    composites.composite_study("mine")
    cells, _ = built(root)
    crop = parameters.read_study("mine-composite")["prepare"]["screen_settings"]["crop"]
    matched = 0
    for key, members in cells.groupby(FIELD_KEY):
        found = members[["y0", "x0"]].to_numpy() + (crop - 1) / 2
        assert found_and_true(found, middles[key], 3) == len(found)  # no place without a cell
        matched += len(found)
    low, high = BORDER + crop / 2, SIDE - BORDER - crop / 2  # the middle of a cell whose crop is inside
    inside = sum(((own > low + 1) & (own < high - 1)).all(axis=1).sum() for own in middles.values())
    near = sum(((own > low - 1) & (own < high + 1)).all(axis=1).sum() for own in middles.values())
    assert inside <= matched <= near
    assert inside < sum(map(len, middles.values()))  # some are cut
    assert re.search("drug among DMSO", capsys.readouterr().out)
    assert "studies: [digits, mine-composite]" in (root / "params.yaml").read_text()


def stub(folder, field: np.ndarray, channels: list[str], corner=(0, 0)) -> SimpleNamespace:
    """What the search for cells needs of a prepared study that has one ``field`` of plate P1."""
    (folder / "plates").mkdir()
    (folder / "plates/P1.json").write_text(json.dumps({"corner": corner}))
    settings = {"downscale": DOWN}
    return SimpleNamespace(
        pixels=lambda row: field[None], channels=channels, pixel_size=None, folder=folder, study="x", settings=settings
    )


@pytest.mark.parametrize("turns", range(4))
def test_long_cells_that_reach_the_border_and_small_ones_too_near_to_it_are_left_out(tmp_path, turns):
    y, x = np.mgrid[:120, :120]
    image = np.random.default_rng(0).normal(100, 2, (120, 120))
    for middle in [(20, 20), (30, 90), (60, 60), (90, 90)]:
        image += 500 * (np.hypot(y - middle[0], x - middle[1]) < 8)
    image += 500 * ((y > 80) & (np.abs(x - 40) < 6))  # 39 px long, its middle far from the border that cuts it
    image += 500 * (np.hypot(y - 70, x - 113) < 4)  # whole, but what is cut out around it would leave the field
    ready = stub(tmp_path, np.rot90(image, turns)[None], ["DNA"], corner=(6, 9))
    row = pd.DataFrame([dict(zip(FIELD_KEY, ("P1", "B02", 1), strict=True))])
    row = row.assign(Metadata_Split="train", Metadata_Label="DMSO")
    cells, side = composites.with_corners(composites.cells_of(ready, row, SegmentSettings(seed_distance=15)), ready)
    found = (cells[["y0", "x0"]].to_numpy() - [6, 9]) / DOWN + (side - 1) / 2
    # a turn by a quarter to the left takes (y, x) to (119 − x, y)
    true = np.array([(20, 20), (30, 90), (60, 60), (90, 90)])
    for _ in range(turns):
        true = np.stack([119 - true[:, 1], true[:, 0]], axis=1)
    assert len(found) == 4
    assert found_and_true(found, true, 1.5) == 4


def test_the_share_is_exact_and_no_plate_is_in_two_sets(root):
    write_study(root, fold=1)
    composites.composite_study("mine")
    cells, screen = built(root)
    assert set(cells["Metadata_Split"]) == set(SETS)
    assert (cells.groupby("Metadata_Plate")["Metadata_Split"].nunique() == 1).all()
    own = read_table(root / "data/prepared/mine/fields.csv").set_index(FIELD_KEY)  # the sets of the study itself
    keys = pd.MultiIndex.from_frame(cells[FIELD_KEY])
    assert (own.loc[keys, "Metadata_Split"].to_numpy() == cells["Metadata_Split"]).all()
    assert (own.loc[keys, "Metadata_Label"].to_numpy() == cells["class"]).all()
    fields = screen.fields
    for plate, sets in fields.groupby("Metadata_Plate")["Metadata_Split"]:
        assert set(sets) == set(cells.loc[cells["Metadata_Plate"] == plate, "Metadata_Split"])
    assert screen.protocol == "plate"
    for row in fields.iloc[::5].to_dict("records"):
        # treated cells were drawn brighter: the pixels themselves tell how many there are
        row = pd.Series(row)
        field, truth = screen.read(row)[0].astype(float), screen.truth(row)
        light = np.array([np.median(field[truth == number]) for number in range(1, truth.max() + 1)])
        assert len(light) == row["cells"]
        assert (light > 1300).sum() == round(row["cells"] * row["fraction"])


def test_one_plate_is_dealt_by_wells(root):
    write_study(root, plates=["P1"], kind="well")
    composites.composite_study("mine")
    cells, screen = built(root)
    assert (cells.groupby("Metadata_Well")["Metadata_Split"].nunique() == 1).all()
    assert screen.protocol == "field"
    assert (screen.fields.groupby("Metadata_Source")["Metadata_Split"].nunique() == 1).all()


def test_of_two_plates_one_tests_and_wells_of_the_other_train(root):
    write_study(root, plates=["P1", "P2"], count=60, kind="well")
    composites.composite_study("mine")
    cells, screen = built(root)
    tests = cells["Metadata_Split"] == "test"
    assert not set(cells.loc[tests, "Metadata_Plate"]) & set(cells.loc[~tests, "Metadata_Plate"])
    wells = cells.groupby(["Metadata_Plate", "Metadata_Well"])["Metadata_Split"]
    assert (wells.nunique() == 1).all()
    assert screen.protocol == "plate"


def test_a_plate_without_treated_cells_is_left_out_and_told(root, capsys):
    write_study(root, plates=["P1", "P2", "P3", "P4"], only=["P4"], folds=3, kind="well")
    composites.composite_study("mine", "drug")
    assert "Plates without DMSO or without drug, left out: P4." in capsys.readouterr().out
    cells, _ = built(root)
    assert set(cells["Metadata_Plate"]) == {"P1", "P2", "P3"}
    assert (cells.groupby("Metadata_Plate")["Metadata_Split"].nunique() == 1).all()  # dealt anew, by plate


@pytest.mark.parametrize(
    ("study", "positive", "message"),
    [
        ({"control": "water"}, None, "mine: no labelled field is a negative control; .* controls"),
        ({"count": 3}, None, r"mine: too few cells for \w+: at most \d+ pairs .* 20 are needed"),
        ({"count": 0}, None, "mine: no cell is found in 18 fields; look at the outlines"),
        ({}, "poison", "mine: no plate has DMSO and a treated class poison; there are drug"),
        ({"plates": ["P1", "P2", "P3", "P4"], "only": ["P1", "P2", "P3"], "kind": "field"}, None, "are too few fields"),
    ],
)
def test_a_study_that_has_no_cells_for_it_is_refused_in_one_sentence(root, study, positive, message):
    study = {"missing_classes": "allow"} | study
    if study.get("only"):
        study["wells"] = 2
    write_study(root, **study)
    with pytest.raises(StageError, match=message) as error:
        composites.composite_study("mine", positive)
    assert "\n" not in str(error.value)
    assert not (root / "data" / "mine-composite").exists()
    assert not (root / "params" / "mine-composite.yaml").exists()
    assert "composite" not in (root / "params.yaml").read_text()


def test_a_study_without_prepared_fields_or_images_is_refused(root):
    write_study(root)
    (root / "P2-3.tif").unlink()
    with pytest.raises(ImageError, match=r"P2-3\.tif: no such file"):
        composites.composite_study("mine")
    (root / "data/prepared/mine/prepared.json").unlink()
    with pytest.raises(FileNotFoundError, match="no prepared fields here; run the prepare stage first"):
        composites.composite_study("mine")
    assert not (root / "params" / "mine-composite.yaml").exists()
    (root / "params" / "mine-composite.yaml").write_text("prepare: {}\n")
    with pytest.raises(StageError, match="exists; delete it"):
        composites.composite_study("mine")


def test_the_inventory_has_the_table_of_cells_and_the_images_it_is_cut_from(root):
    write_study(root)
    composites.composite_study("mine")
    names = set(inventory.inventory("mine-composite"))
    assert {"data/mine-composite/cells.csv", str(root / "fields.csv"), str(root)} <= names


def test_the_command_names_study_and_class(monkeypatch):
    called = []
    monkeypatch.setattr(composites, "composite_study", lambda study, positive: called.append((study, positive)))
    cli.run_command(*cli.parser().parse_known_args(["composite", "mine", "--positive", "drug"]))
    cli.run_command(*cli.parser().parse_known_args(["composite", "mine"]))
    assert called == [("mine", "drug"), ("mine", None)]


MIRROR = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared" / "data" / "mirror")
SHARED = MIRROR.parent


@pytest.mark.skipif(not (SHARED / "bbbc021_cells.csv").exists(), reason="needs the BBBC021 sample of MILCNN_MIRROR")
def test_nine_in_ten_cells_of_bbbc021_controls_are_found_where_others_cut_them(monkeypatch, tmp_path):
    monkeypatch.setenv("MILCNN_MIRROR", str(MIRROR))
    screen = open_screen("bbbc021", plates=["Week4_27801"], missing="skip", fields_per_treatment=None)
    known = cut.read_cells(str(SHARED / "bbbc021_cells.csv"), str(SHARED / "bbbc021_fields.csv"))
    row = screen.fields[screen.fields["Metadata_Control"]].iloc[[0]].assign(Metadata_Split="train")
    field = screen.read(row.iloc[0]).astype(np.float32)
    halved = field.reshape(3, 512, 2, 640, 2).mean(axis=(2, 4))
    ready = stub(tmp_path, halved, screen.channels)
    row = row.assign(Metadata_Plate="P1")
    settings = SegmentSettings(nucleus="DAPI", sigma=1.5, seed_distance=6, min_area=50)  # of bbbc021-sample
    cells, side = composites.with_corners(composites.cells_of(ready, row, settings), ready)
    true = known.merge(screen.fields.loc[row.index, FIELD_KEY])[["y0", "x0"]].to_numpy() + 33.5
    inside = ((true > 2 * side) & (true < np.array([1024, 1280]) - 2 * side)).all(axis=1)
    found = cells[["y0", "x0"]].to_numpy() + side - 0.5
    assert inside.sum() > 100
    assert found_and_true(found, true[inside], 16) >= 0.9 * inside.sum()
