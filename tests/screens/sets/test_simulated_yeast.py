"""Drawn budding yeast: compartments where they belong, and tables that say what is drawn."""

import numpy as np
import pytest
from scipy import ndimage

from milcnn.columns import FIELD_KEY
from milcnn.screens.sets import drawn_yeast
from milcnn.screens.sets.drawn_cells import PATCH
from milcnn.screens.sets.drawn_yeast import LIGHT, ORGANELLES
from milcnn.screens.sets.simulated_yeast import (
    SimulatedYeastSettings,
    draw_field,
    field_table,
    simulated_yeast_screen,
    sketch,
)

SMALL = {"plates": {"train": 2, "validation": 1, "test": 2, "fresh": 1}, "proteins": 20, "sites": 1, "size": 160}


@pytest.fixture(scope="module")
def screen():
    made = simulated_yeast_screen(SimulatedYeastSettings(**SMALL))
    made.check()
    return made


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    cells = drawn_yeast.yeast_cells(60, rng)
    return cells, drawn_yeast.patterns(cells, rng)


def distances(places: np.ndarray) -> np.ndarray:
    """Distance of each pixel from ``places`` (n, 2), (n, PATCH, PATCH)."""
    steps = np.arange(PATCH) - (PATCH - 1) / 2
    return np.sqrt((steps[None, :, None] - places[:, 0, None, None]) ** 2 + (steps - places[:, 1, None, None]) ** 2)


def test_each_compartment_is_where_it_belongs(drawn):
    cells, light = drawn
    outside = drawn_yeast.outlines(cells) < 0
    sums = {name: pattern.sum(axis=(1, 2)) for name, pattern in light.items()}
    budded = cells["bud"] > 0
    np.testing.assert_allclose(sums.pop("BUDNECK"), budded, atol=1e-4)
    for name, total in sums.items():
        np.testing.assert_allclose(total, 1, rtol=1e-4, err_msg=name)
    inner = {name: (pattern * ~outside).sum(axis=(1, 2)).mean() for name, pattern in light.items()}
    assert min(inner[name] for name in LIGHT if name not in ("CELLPERIPHERY", "BUDNECK")) > 0.95
    # discs, and rings as far from the middle as their radius
    for name, body in (("NUCLEI", "nucleus"), ("VACUOLE", "vacuole")):
        away = distances(cells[f"{body}_place"])
        assert ((away < cells[body][:, None, None] + 0.5) * light[name]).sum(axis=(1, 2)).min() > 0.98
        ring = light[{"nucleus": "NUCLEARPERIPHERY", "vacuole": "VACUOLARMEMBRANE"}[body]]
        np.testing.assert_allclose((ring * away).sum(axis=(1, 2)), cells[body], rtol=0.2)
    edge = ndimage.binary_dilation(~outside, iterations=1, axes=(1, 2)) & ndimage.binary_dilation(
        outside, iterations=3, axes=(1, 2)
    )
    assert (light["CELLPERIPHERY"] * edge).sum(axis=(1, 2)).min() > 0.9
    in_vacuole = distances(cells["vacuole_place"]) < cells["vacuole"][:, None, None] - 1
    share = in_vacuole.sum(axis=(1, 2)) / (~outside).sum(axis=(1, 2))
    assert ((light["CYTOPLASM"] * in_vacuole).sum(axis=(1, 2)) < 0.5 * share).all()
    # the neck: on the line to the bud, between the two middles
    steps = np.arange(PATCH) - (PATCH - 1) / 2
    middle = np.stack([(light["BUDNECK"] * axis).sum(axis=(1, 2)) for axis in (steps[:, None], steps)], axis=1)[budded]
    to_bud = cells["bud_place"][budded]
    length = np.linalg.norm(to_bud, axis=1)
    along = (middle * to_bud).sum(axis=1) / length
    assert ((along > cells["radius"][budded] - 2) & (along < length)).all()
    # poles on the rim of the nucleus: one, or two in opposite places
    turned = distances(cells["nucleus_place"])
    np.testing.assert_allclose((light["SPINDLEPOLE"] * turned).sum(axis=(1, 2)), cells["nucleus"], rtol=0.15)


def test_tables_agree_with_each_other(screen):
    fields, objects = screen.fields, screen.objects
    assert (screen.classes, screen.channels, screen.multilabel) == (ORGANELLES, ["GFP", "RFP"], True)
    labels = fields["Metadata_Label"].str.split("|")
    assert set(labels.map(len)) == {1, 2, 3}
    assert set(labels.explode()) == set(ORGANELLES)
    parts = objects.merge(fields[[*FIELD_KEY, "Metadata_Label", "fraction", "cells"]], on=FIELD_KEY)
    shows = ~parts["class"].isin(["absent", "dead"])
    subsets = [
        set(own.split("|")) <= set(all_.split("|"))
        for own, all_ in parts.loc[shows, ["class", "Metadata_Label"]].to_numpy()
    ]
    assert all(subsets)
    share = shows.groupby([parts[key] for key in FIELD_KEY], sort=False).mean()
    np.testing.assert_allclose(share, fields["fraction"])
    assert objects.groupby(FIELD_KEY).size().to_numpy().tolist() == fields.sort_values(FIELD_KEY)["cells"].tolist()
    assert (parts["class"] == "dead").mean() == pytest.approx(0.03, abs=0.012)
    for _, row in fields.iloc[::30].iterrows():
        assert screen.truth(row).max() == row["cells"]


def test_the_neck_of_a_bud_needs_a_bud():
    settings = SimulatedYeastSettings(**SMALL | {"cells": 150})
    row = next(row for row in field_table(settings).to_dict("records") if row["Metadata_Label"] == "BUDNECK")
    own = sketch(row | {"response": 1.0}, settings)
    names, budded = np.array(own.classes), own.cells["bud"] > 0
    assert (~budded).sum() > 5
    assert set(names[~budded]) <= {"absent", "dead"}
    assert (names[budded] == "BUDNECK").mean() > 0.6


def test_no_protein_is_on_two_plates_and_tests_are_of_other_batches(screen):
    fields = screen.fields
    assert (fields.groupby("Metadata_Compound")["Metadata_Plate"].nunique() == 1).all()
    assert fields["Metadata_Compound"].nunique() == 6 * 20
    assert (
        len(fields.groupby("Metadata_Plate")["Metadata_Label"].agg(lambda labels: tuple(sorted(labels))).unique()) == 6
    )
    batches = fields.groupby("Metadata_Split")["Metadata_Batch"].agg(set)
    assert batches["train"].isdisjoint(batches["validation"] | batches["test"] | batches["fresh"])
    assert batches["fresh"].isdisjoint(batches["train"] | batches["validation"] | batches["test"])
    more = SimulatedYeastSettings(**{**SMALL, "plates": {"train": 2, "validation": 1, "test": 2, "fresh": 3}})
    again = field_table(more)[: len(fields) - 20]
    assert again.equals(fields[: len(fields) - 20])  # fresh plates change no other field


def test_a_cell_without_the_protein_is_dim_and_the_second_channel_knows_nothing_of_it():
    """GFP of cells that show a vacuole against those that do not; RFP is alike."""
    settings = SimulatedYeastSettings(**{**SMALL, "difficulty": 0.2, "cells": 20})
    rows = [row for row in field_table(settings).to_dict("records") if row["Metadata_Label"] == "VACUOLE"][:3]
    light = {True: [], False: []}
    for row in rows:
        field, own = draw_field(row, settings).astype(float), sketch(row, settings)
        field -= np.median(field, axis=(1, 2), keepdims=True)
        middles = np.rint(own.centres + own.cells["vacuole_place"]).astype(int)
        for name, (y, x) in zip(own.classes, middles, strict=True):
            if name != "dead" and min(y, x) > 3 and max(y, x) < settings.size - 4:
                light[name == "VACUOLE"].append(field[:, y - 1 : y + 2, x - 1 : x + 2].mean(axis=(1, 2)))
    shown, not_shown = (np.median(light[key], axis=0) for key in (True, False))
    assert shown[0] > 4 * not_shown[0]
    assert shown[1] == pytest.approx(not_shown[1], rel=0.5)
