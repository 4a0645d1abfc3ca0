"""Simulated yeast: plates of drawn budding yeast with a GFP-tagged protein in each well, for which everything is known.

Each well of a plate has another protein, and no protein is on two plates. A protein is in one to three compartments
(its labels) and in a share of the cells; the others have none. A cell that has the protein shows it in most of its
compartments, each in its own amount, and the neck of the bud only if there is a bud. All cells glow faintly in GFP.
Some are dead: bright in both channels, with no structure. The class of an object lists the compartments that it shows.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field

from milcnn.columns import BATCH, COMPOUND, FIELD_KEY, LABEL, REPLICATE, SITE, SPLIT, WELL, join_labels, labels_of
from milcnn.screens.screen import Screen
from milcnn.screens.sets import drawn_cells, drawn_yeast
from milcnn.screens.sets.common import Row, list_objects
from milcnn.screens.sets.drawn_cells import DrawnCells
from milcnn.screens.sets.drawn_plates import WELL_NAMES, DrawnPlatesSettings, number_of_cells, plan_plates, record
from milcnn.screens.sets.drawn_yeast import CHANNELS, LIGHT, ORGANELLES

ABSENT, DEAD = "absent", "dead"  # classes of cells, never labels
PIXEL = 0.22  # µm, a 60× objective: cells are 5 µm wide
GLOW = 0.3  # GFP of a cell without protein, in its cytoplasm
EXPRESSED = 0.85  # of the compartments of its protein a cell shows each with this probability
ELECTRONS = np.array([30_000.0, 60_000.0])  # of the mean cell: a cytoplasmic protein in GFP, and RFP
BACKGROUND_ELECTRONS = np.array([50.0, 40.0])  # per pixel


class SimulatedYeastSettings(DrawnPlatesSettings):
    """Size and difficulty of the screen."""

    proteins: int = Field(60, ge=1, le=len(WELL_NAMES))  # per plate, a well each; the compartments take turns
    labels: tuple[float, float, float] = (0.5, 0.35, 0.15)  # shares of proteins with one, two and three compartments
    dead: float = Field(0.03, ge=0, le=0.5)  # share of cells

    @property
    def brightness(self) -> float:
        """Mean light of a protein, in units of ``LIGHT``; the glow of every cell is ``GLOW``."""
        return 1.3 - 0.8 * self.difficulty


class Sketch(NamedTuple):
    """What is in a field of n cells, before it is drawn."""

    cells: DrawnCells  # numbers of the cells
    light: np.ndarray  # (n, K) GFP of each cell in each of ``ORGANELLES``, 0 where it is not shown
    dead: np.ndarray  # (n,) bool
    centres: np.ndarray  # (n, 2) px
    rng: Generator  # draws the rest

    @property
    def classes(self) -> list[str]:
        """The compartments that each cell shows, joined, or ``ABSENT`` or ``DEAD``."""
        names = [join_labels([name for name, own in zip(ORGANELLES, row, strict=True) if own]) for row in self.light]
        return [DEAD if dead else name or ABSENT for name, dead in zip(names, self.dead, strict=True)]


def simulated_yeast_screen(settings: SimulatedYeastSettings) -> Screen:
    """The screen; ``read`` gives (2, size, size) uint16 and ``truth`` the cells, by number."""
    fields = field_table(settings)
    objects = list_objects(fields, lambda row: [(own := sketch(row, settings)).classes, own.centres])
    read, truth = (partial(draw, settings=settings) for draw in (draw_field, true_masks))
    return Screen(
        fields, CHANNELS, ORGANELLES, read, PIXEL, truth=truth, objects=objects, multilabel=True, protocol="plate"
    )


def field_table(settings: SimulatedYeastSettings) -> pd.DataFrame:
    """One row per field; beside the columns of ``Screen.fields``, where the compound is the protein:

    ``response``, the share of cells that have the protein on average; ``light``, that of the protein; ``cells``, their
    number; ``fraction``, the share of cells that show a compartment; ``protein`` and ``field``, seeds of random draws.
    """
    plates = []
    for plate in plan_plates(settings).to_dict("records"):
        rng = np.random.default_rng([settings.seed, 2, plate[REPLICATE]])
        wells = rng.permutation(WELL_NAMES)[: settings.proteins]
        plates.append(proteins(plate[REPLICATE], settings).assign(**plate, **{WELL: wells}).sort_values(WELL))
    sites = pd.DataFrame({SITE: range(1, settings.sites + 1)})
    table = pd.concat(plates, ignore_index=True).merge(sites, how="cross")
    table["field"] = range(len(table))
    classes = [np.array(sketch(row, settings).classes) for row in table.to_dict("records")]
    table["cells"] = [len(names) for names in classes]
    table["fraction"] = [(~np.isin(names, [ABSENT, DEAD])).mean() for names in classes]
    metadata = [*FIELD_KEY, BATCH, REPLICATE, COMPOUND, LABEL, SPLIT]
    return table[[*metadata, "response", "light", "cells", "fraction", "protein", "field"]]


def proteins(plate: int, settings: SimulatedYeastSettings) -> pd.DataFrame:
    """The proteins of a plate: name, labels, ``response``, ``light`` and ``protein``, a number of its own."""
    rng = np.random.default_rng([settings.seed, 1, plate])
    labels = []
    for number in range(settings.proteins):
        first = ORGANELLES[number % len(ORGANELLES)]
        others = rng.permutation([name for name in ORGANELLES if name != first])
        labels.append(join_labels([first, *others[: rng.choice(3, p=settings.labels)]]))
    numbers = plate * len(WELL_NAMES) + np.arange(settings.proteins)
    names = [f"Y{number:04d}" for number in numbers]
    response, light = rng.uniform(0.3, 0.95, len(names)), settings.brightness * rng.lognormal(0, 0.4, len(names))
    return pd.DataFrame({COMPOUND: names, LABEL: labels, "response": response, "light": light, "protein": numbers})


def sketch(row: Row, settings: SimulatedYeastSettings) -> Sketch:
    """The cells of a field; their number is independent of the protein."""
    labelled = np.isin(ORGANELLES, labels_of(row[LABEL], multilabel=True))
    of_protein = labelled * np.random.default_rng([settings.seed, 6, row["protein"]]).uniform(0.5, 1, len(ORGANELLES))
    rng = np.random.default_rng([settings.seed, 3, row["field"]])
    n = number_of_cells(settings, rng)
    cells, dead = drawn_yeast.yeast_cells(n, rng), rng.random(n) < settings.dead
    has_it = (rng.random(n) < row["response"]) & ~dead
    shown = has_it[:, None] & (rng.random((n, len(ORGANELLES))) < EXPRESSED)
    shown[:, ORGANELLES.index("BUDNECK")] &= cells["bud"] > 0
    amounts = row["light"] * rng.lognormal(0, 0.35, (n, 1)) * rng.lognormal(0, 0.3, shown.shape)
    light = shown * amounts * of_protein / of_protein.sum() * np.array(list(LIGHT.values()))
    centres = drawn_cells.spaced(n, settings.size, min(26.0, 0.85 * settings.size / np.sqrt(n)), rng)
    return Sketch(cells, light, dead, centres, rng)


def true_masks(row: pd.Series, settings: SimulatedYeastSettings) -> np.ndarray:
    """The cells of a field by their number in ``Screen.objects``, (H, W) uint16."""
    own = sketch(row, settings)
    return drawn_cells.number_cells(drawn_yeast.outlines(own.cells), own.centres, settings.size)


def draw_field(row: pd.Series, settings: SimulatedYeastSettings) -> np.ndarray:
    """Field (2, H, W) uint16 as the camera records it, see ``record``."""
    cells, light, dead, centres, rng = sketch(row, settings)
    patterns = drawn_yeast.patterns(cells, rng)
    n = len(dead)
    glow, rfp = GLOW * rng.lognormal(0, 0.3, n), rng.lognormal(0, 0.25, n)
    body = drawn_cells.normalised(drawn_yeast.outlines(cells).clip(0, 1))
    cytosol = np.where(drawn_cells.per_cell(dead) > 0, 3 * body, patterns["CYTOPLASM"])
    gfp = drawn_cells.per_cell(glow) * cytosol
    for number, name in enumerate(ORGANELLES):
        gfp += drawn_cells.per_cell(light[:, number]) * patterns[name]
    both = np.stack([gfp, drawn_cells.per_cell(rfp) * cytosol], axis=1)
    return record(drawn_cells.add_up(both, centres, settings.size), ELECTRONS, BACKGROUND_ELECTRONS, row, settings, rng)
