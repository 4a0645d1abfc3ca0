"""Tiled single cells: a field has the cells that its table lists."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from milcnn.paths import ROOT
from milcnn.screens.screen import ScreenError
from milcnn.screens.sets.kinds import open_screen
from milcnn.screens.sets.yeast_cells import TERMS, mosaic

CELLS = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared/data/mirror").parent / "yeast_cells"
CLASSES = ["ER", "NUCLEI", "GOLGI"]
SIDE = 4


def write(path, images, labels, split=None):
    """A file like DeepLoc's: images (N, 2, 64, 64) and the term of each, in two datasets if ``split`` is given."""
    parts = [slice(0, split), slice(split, None)] if split else [slice(None)]
    index = np.array([[term == label for term in TERMS] for label in labels], np.float32)
    with h5py.File(path, "w") as file:
        for k, part in enumerate(parts, start=1):
            file[f"data{k}"] = images[part].reshape(len(images[part]), -1)
            file[f"Index{k}"] = index[part]


@pytest.fixture
def settings(tmp_path):
    """Cells whose GFP is 100 × its term's column + its own number, and whose RFP is a bright square."""
    for offset, split in ((0, "train"), (50, "test")):
        labels = np.repeat([*CLASSES, "CYTOPLASM"], 5)
        images = np.zeros((20, 2, 64, 64), np.uint16)
        images[:, 0] = np.array([100 * TERMS.index(str(label)) + offset for label in labels])[:, None, None]
        images[:, 0] += np.arange(20, dtype=np.uint16)[:, None, None]
        images[:, 1, 20:40, 10:30] = 500
        write(tmp_path / f"{split}.hdf5", images, labels, split=7)
    cells = {split: str(tmp_path / f"{split}.hdf5") for split in ("train", "test")}
    counts = {"train": 8, "test": 4}
    return {"cells": cells, "classes": CLASSES, "side": SIDE, "fields_per_class": counts, "fractions": [0.25, 0.5]}


def test_fields_have_the_cells_of_their_table(settings):
    screen = open_screen("yeast_cells", **settings)
    screen.check()
    assert (screen.channels, screen.classes, screen.multilabel) == (["GFP", "RFP"], sorted(CLASSES), True)
    assert len(screen.fields) == 3 * 12
    assert screen.fields["Metadata_Label"].str.contains(r"\|").any()
    for _, row in screen.fields.iterrows():
        field = screen.read(row)
        assert (field.shape, field.dtype) == ((2, SIDE * 64, SIDE * 64), np.uint16)
        codes = field[0, ::64, ::64].ravel()
        terms = [TERMS[code // 100] for code in codes]
        labels = row["Metadata_Label"].split("|")
        carriers = [term for term in terms if term != "CYTOPLASM"]
        assert set(carriers) == set(labels)
        assert len(carriers) == max(len(labels), round(row["fraction"] * SIDE**2))
        # cells of a split come from its own file
        assert ((codes % 100 >= 50) == (row["Metadata_Split"] == "test")).all()
        key = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
        objects = screen.objects.merge(row[key].to_frame().T, on=key)
        assert objects.sort_values("object")["class"].tolist() == terms


def test_truth_numbers_the_cells_row_by_row(settings):
    screen = open_screen("yeast_cells", **settings)
    truth = screen.truth(screen.fields.iloc[0])
    expected = np.zeros((SIDE * 64, SIDE * 64), np.uint16)
    for k in range(SIDE**2):
        y, x = 64 * (k // SIDE), 64 * (k % SIDE)
        expected[y + 20 : y + 40, x + 10 : x + 30] = k + 1
    np.testing.assert_array_equal(truth, expected)
    assert truth.dtype == np.uint16


def test_a_seed_always_gives_the_same_field_and_another_seed_another_field(settings):
    one, again, other = (open_screen("yeast_cells", **settings, seed=seed) for seed in (0, 0, 1))
    row = one.fields.iloc[5]
    np.testing.assert_array_equal(one.read(row), again.read(row))
    assert not np.array_equal(one.read(row), other.read(row))


def test_mosaic_against_a_loop():
    crops = np.random.default_rng(0).integers(0, 9, (9, 2, 3, 3))
    whole = mosaic(crops, 3)
    for k, crop in enumerate(crops):
        y, x = 3 * (k // 3), 3 * (k % 3)
        np.testing.assert_array_equal(whole[:, y : y + 3, x : x + 3], crop)


def test_unsuitable_files_are_reported(settings, tmp_path):
    with pytest.raises(ScreenError, match=r"train\.hdf5: has no cell of ACTIN; leave the class out"):
        open_screen("yeast_cells", **{**settings, "classes": ["ER", "ACTIN"]})
    with pytest.raises(ScreenError, match=r"not data<k> \(N, 8192\) with Index<k> \(N, 2\), but"):
        open_screen("yeast_cells", **settings, terms=["ER", "NUCLEI"])
    with pytest.raises(ScreenError, match="'validation': is in only one of 'cells' and 'fields_per_class'"):
        open_screen("yeast_cells", **{**settings, "fields_per_class": {"train": 2, "test": 2, "validation": 1}})
    with pytest.raises(ScreenError, match=r"none\.hdf5: no such file; unpack DeepLoc"):
        open_screen("yeast_cells", **{**settings, "cells": {"train": "none.hdf5", "test": "none.hdf5"}})


@pytest.mark.skipif(not CELLS.exists(), reason="no yeast_cells beside the folder of MILCNN_MIRROR")
def test_real_cells_flow(tmp_path):
    """Mitochondrial among cytoplasmic proteins; fields 1 and 2 of the plates for training, 3 and 4 for testing."""
    proteins = {"AAC1": "MITOCHONDRIA", "AAC3": "MITOCHONDRIA", "AAP1": "CYTOPLASM", "AAR2": "CYTOPLASM"}
    cells = {}
    for split, sites in (("train", (1, 2)), ("test", (3, 4))):
        images, labels = [], []
        for protein, label in proteins.items():
            archive = np.load(CELLS / f"{protein}.npz")
            here = np.isin(archive["field"], sites)
            images.append(np.stack([archive["gfp"][here], archive["rfp"][here]], axis=1))
            labels += [label] * np.count_nonzero(here)
        cells[split] = str(tmp_path / f"{split}.hdf5")
        write(tmp_path / f"{split}.hdf5", np.concatenate(images), labels)
    screen = open_screen(
        "yeast_cells",
        cells=cells,
        classes=["MITOCHONDRIA", "CYTOPLASM"],
        background="CYTOPLASM",
        fields_per_class={"train": 4, "test": 2},
        two_labels=0,
    )
    screen.check()
    row = screen.fields.iloc[0]
    field, truth = screen.read(row), screen.truth(row)
    assert (field.shape, field.dtype) == ((2, 512, 512), np.uint16)
    tile = field[1, :64, :64]
    np.testing.assert_array_equal(truth[:64, :64] == 1, tile > threshold_otsu(tile))
    assert 0.05 < (truth > 0).mean() < 0.8
