"""Real cells of several proteins: the stretch undone, and nothing but the pattern left to tell them apart."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from milcnn.parameters import read_study
from milcnn.paths import ROOT
from milcnn.screens.screen import ScreenError
from milcnn.screens.sets.composite import CompositeSettings, composite_screen
from milcnn.screens.sets.kinds import open_screen
from milcnn.screens.sets.yeast_sample import DARK_COUNTS, grey_values_a_count, read_counts

MIRROR = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared" / "data" / "mirror")
SIDE = 32
PROTEINS = {"seen": {"M1": "spots", "C1": "all"}, "new": {"M2": "spots", "C2": "all"}}
LIGHT = {"M1": 20, "C1": 200, "M2": 25, "C2": 40}  # counts; the background is a fifth of the square root more than 4
STRETCH = {"M1": 49.61, "C1": 169.78, "M2": 326.05, "C2": 33.13}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Discs of the same size: of C with even light, of M with half of it in a quarter of the disc."""
    path, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    steps = np.arange(SIDE) - 15.5
    disc = (np.hypot(steps[:, None], steps) < 10).astype(float)
    for name, light in LIGHT.items():
        pattern = disc * (1 + 2 * ((steps > 0)[:, None] & (steps > 0))) / 1.5 if name[0] == "M" else disc
        dark = 4 + light / 20
        counts = rng.poisson(dark + light * pattern, (80, 2, SIDE, SIDE))
        values = np.rint(counts * STRETCH[name]).clip(0, 65535).astype(np.uint16)
        field = np.repeat([1, 2], 40).astype(np.uint8)
        np.savez(path / f"{name}.npz", gfp=values[:, 0], rfp=values[:, 1], field=field)
        np.save(path / f"{name}.npy", counts)
    return path


def test_the_stretch_is_undone_to_the_count(folder):
    for name, factor in STRETCH.items():
        with np.load(folder / f"{name}.npz") as file:
            assert grey_values_a_count(file["gfp"]) == pytest.approx(factor, rel=2e-3)
        counts = np.load(folder / f"{name}.npy")
        apart = read_counts(folder / f"{name}.npz")
        whole = counts.clip(max=int(65535 / factor))
        assert np.abs(apart[2] - whole[40:]).max() <= 1
        assert (apart[2] == whole[40:]).mean() > 0.99


def test_neither_light_nor_noise_tells_the_protein(folder):
    screen = open_screen("yeast_sample", cells=str(folder), proteins=PROTEINS)
    screen.check()
    assert screen.fields["Metadata_Plate"].tolist() == ["seen-1", "seen-2"] * 2 + ["new-1", "new-2"] * 2
    looks = []
    for _, row in screen.fields.iterrows():
        field = screen.read(row)
        assert (field.shape, field.dtype) == ((2, SIDE, 40 * SIDE), np.uint16)
        outside, cells = field[:, :3], field.reshape(2, SIDE, 40, SIDE)[:, 8:24, :, 8:24]
        looks.append([outside.mean(), outside.var(), cells.mean()])
    looks = np.array(looks)
    assert looks[:, 0] == pytest.approx(looks[:, 0].mean(), rel=0.25)
    assert looks[:, 0].mean() == pytest.approx(DARK_COUNTS, abs=3)
    assert looks[:, 1] == pytest.approx(looks[:, 0], rel=0.1)  # Poisson: the variance is the mean
    assert looks[:, 2] == pytest.approx(looks[:, 2].mean(), rel=0.08)


def test_a_composite_leaves_out_proteins_and_source_fields(folder):
    settings = {"screen": "yeast_sample", "screen_settings": {"cells": str(folder), "proteins": PROTEINS}}
    settings |= {"positive": "spots", "negative": "all", "crop": 24, "downscale": 1, "size": 96, "n_cells": [8, 16]}
    numbers = {"train": 20, "validation": 10, "test": 20}
    plates = {"validation_plates": ["seen-2"], "test_plates": ["new-1", "new-2"]}
    screen = open_screen("composite", **settings, **plates, fields_per_class=numbers, fractions=[0.5], caliper=0.2)
    of_set = screen.fields.groupby("Metadata_Split")["Metadata_Plate"].agg(set).to_dict()
    assert of_set == {"train": {"seen-1"}, "validation": {"seen-2"}, "test": {"new-1", "new-2"}}
    assert (screen.fields["Metadata_Source"] == screen.fields["Metadata_Plate"]).all()
    spread, labels = [], []
    for _, row in screen.fields.iterrows():
        field, truth = screen.read(row).astype(float), screen.truth(row)
        spread.append([field[0][truth > 0].mean(), field[0][truth > 0].std()])
        labels.append(row["Metadata_Label"])
    spread, train = np.array(spread), (screen.fields["Metadata_Split"] == "train").to_numpy()
    test, labels = (screen.fields["Metadata_Split"] == "test").to_numpy(), np.array(labels)
    right = {
        name: LogisticRegression(C=100).fit(x[train], labels[train]).score(x[test], labels[test])
        for name, x in {"light": spread[:, :1], "pattern": spread[:, 1:]}.items()
    }
    assert right["pattern"] > 0.9
    assert right["light"] < 0.75
    with pytest.raises(ValueError, match="validation_plates: new-1 are among test_plates"):
        open_screen("composite", **settings, validation_plates=["new-1"], test_plates=["new-1"])


def test_a_missing_file_is_named(folder):
    with pytest.raises(ScreenError, match=r"X\.npz: no such file; copy it there, or set 'cells'"):
        open_screen("yeast_sample", cells=str(folder), proteins={"seen": {"X": "all"}})


@pytest.mark.skipif(not (MIRROR.parent / "yeast_cells").exists(), reason="no yeast_cells beside MILCNN_MIRROR")
def test_the_shipped_study_shares_no_protein_between_training_and_test(monkeypatch):
    monkeypatch.setenv("MILCNN_MIRROR", str(MIRROR))
    settings = read_study("yeast-sample")["prepare"]["screen_settings"]
    source = open_screen("yeast_sample", **settings["screen_settings"])
    assert len(source.objects) == 1642  # all cells of the five proteins
    screen = composite_screen(CompositeSettings(**settings), source)
    proteins = source.fields.groupby("Metadata_Plate")["Metadata_Compound"].agg(set)
    plates = screen.fields.groupby("Metadata_Split")["Metadata_Plate"].agg(set)
    of_set = {name: set.union(*proteins[list(own)]) for name, own in plates.items()}
    assert of_set["test"] == {"AAC3", "AAR2"}
    assert of_set["train"] == of_set["validation"] == {"AAC1", "AAH1", "AAP1"}
    assert plates["train"].isdisjoint(plates["validation"])
    middles = [source.read(row).reshape(2, 64, -1, 64)[:, 16:48, :, 16:48] for _, row in source.fields.iterrows()]
    light = np.array([np.median(cells.mean(axis=(1, 3)), axis=1) for cells in middles])
    assert light == pytest.approx(np.tile(light.mean(axis=0), (20, 1)), rel=0.05)
