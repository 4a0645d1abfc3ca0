"""Simulated screen: whole plates of drawn cells, for which everything is known.

A plate has each compound once at each dose, and DMSO, in random wells. A compound has one phenotype. At dose d, a
cell responds with probability f(d) = maximum · d^h / (d^h + EC50^h) (Hill), so the responding fraction of a field
follows the dose. The other cells are normal or outliers.

``Metadata_Label`` is always the phenotype of the well's compound, or DMSO. Where f(d) is below ``active``, too few
cells show it: ``Metadata_Active`` is False and ``Metadata_Split`` is ``dose``. These fields are in no training,
validation or test set. They are for dose–response curves, with predictions for the test plates at all doses.

At the default difficulty, a logistic regression on the mean intensities of a field is at chance (11 % of the test
fields correct; 1 in 7 is 14 %). A MIL-CNN with Noisy-AND and a quarter of the paper's channels reaches 91 % after 12
epochs: all fields in which half of the cells respond, and half of the fields in which fewer than 30 % do.
"""

from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field

from milcnn.columns import BATCH, COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, REPLICATE, SPLIT, WELL
from milcnn.screens.screen import Screen
from milcnn.screens.sets import drawn_cells
from milcnn.screens.sets.common import Row, list_objects
from milcnn.screens.sets.drawn_cells import CHANNELS, MITOTIC, NORMAL, PHENOTYPES, DrawnCells
from milcnn.screens.sets.drawn_plates import WELL_NAMES, DrawnPlatesSettings, number_of_cells, plan_plates, record

ACTIVE = "Metadata_Active"  # whether the dose is high enough for the field to carry its compound's label
PIXEL = 0.65  # µm, a 10× objective: normal nuclei are 9 µm wide
ELECTRONS = np.array([60_000.0, 120_000.0, 110_000.0])  # of the mean cell, in each channel
BACKGROUND_ELECTRONS = np.array([40.0, 60.0, 50.0])  # electrons per pixel


class SimulatedSettings(DrawnPlatesSettings):
    """Size and difficulty of the screen."""

    doses: list[Annotated[float, Field(gt=0)]] = Field([0.03, 0.1, 0.3, 1, 3, 10], min_length=2)  # µM
    compounds_per_phenotype: int = Field(2, ge=2, le=6)
    dmso_wells: int = Field(12, ge=1)  # per plate
    outliers: float = Field(0.06, ge=0, le=0.5)  # share of cells that are mitotic or show a wrong phenotype
    active: float = Field(0.2, gt=0, lt=1)  # smallest f(d) at which a field carries its compound's label

    @property
    def strength(self) -> float:
        """Mean strength of a response; at 1 the factors of ``EFFECTS`` apply as written."""
        return 1.25 - 0.8 * self.difficulty


def simulated_screen(settings: SimulatedSettings) -> Screen:
    """The screen; ``read`` gives (3, size, size) uint16 and ``truth`` the cells, by number."""
    fields, classes = field_table(settings), [NORMAL, *PHENOTYPES]
    objects = list_objects(fields, lambda row: placed_cells(row, settings)[:2])
    read, truth = (partial(draw, settings=settings) for draw in (draw_field, true_masks))
    return Screen(fields, CHANNELS, classes, read, PIXEL, truth=truth, objects=objects, protocol="plate")


def compounds(settings: SimulatedSettings) -> pd.DataFrame:
    """One row per compound: its name, label, ``ec50`` (µM), ``hill``, ``maximum`` and ``strength``.

    EC50 is log-uniform over the inner half of the log doses, so a dose–response curve shows both of its ends. Each
    phenotype has potent and weak compounds, so all phenotypes have about the same number of active doses.
    """
    each = settings.compounds_per_phenotype
    n = each * len(PHENOTYPES)
    rng = np.random.default_rng([settings.seed, 1])
    low, high = np.log(min(settings.doses)), np.log(max(settings.doses))
    position = (np.repeat(np.arange(each), len(PHENOTYPES)) + rng.random(n)) / each  # of EC50, in [0, 1)
    return pd.DataFrame(
        {
            COMPOUND: [f"S{number:02d}" for number in range(1, n + 1)],
            LABEL: PHENOTYPES * each,
            "ec50": np.exp(low + (0.25 + 0.5 * position) * (high - low)),
            "hill": rng.uniform(1.2, 2.5, n),
            "maximum": rng.uniform(0.7, 0.95, n),
            "strength": rng.uniform(0.9, 1.1, n),
        }
    )


def response(dose: np.ndarray, ec50: np.ndarray, hill: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """f(d) = maximum · d^h / (d^h + EC50^h), the expected responding fraction; doses in µM."""
    return maximum * dose**hill / (dose**hill + ec50**hill)


def plate_map(settings: SimulatedSettings) -> pd.DataFrame:
    """One row per well of a plate: the columns of ``compounds``, dose (µM, 0 for DMSO) and ``response``."""
    treated = compounds(settings).merge(pd.DataFrame({CONCENTRATION: settings.doses}, dtype=float), how="cross")
    treated["response"] = response(*(treated[name] for name in (CONCENTRATION, "ec50", "hill", "maximum")))
    control = {COMPOUND: NORMAL, LABEL: NORMAL, CONCENTRATION: 0.0, "response": 0.0, "strength": 1.0}
    wells = pd.concat([treated, pd.DataFrame([control] * settings.dmso_wells)], ignore_index=True)
    if len(wells) > len(WELL_NAMES):
        raise ValueError(
            f"simulated: {len(treated)} treatments and {settings.dmso_wells} DMSO wells do not fit a plate of "
            f"{len(WELL_NAMES)}; give fewer doses, dmso_wells or compounds_per_phenotype."
        )
    return wells


def field_table(settings: SimulatedSettings) -> pd.DataFrame:
    """One row per field; beside the columns of ``Screen.fields``, where the replicate is the number of the plate:

    ``Metadata_Active``; ``response`` = f(d), ``ec50`` (µM) and ``strength`` of the compound; ``cells``, their number;
    ``fraction``, the share of cells that respond; ``field``, the seed of all random draws.
    """
    treatments = plate_map(settings)
    plates = []
    for plate in plan_plates(settings).to_dict("records"):
        rng = np.random.default_rng([settings.seed, 2, plate[REPLICATE] - 1])
        wells = rng.permutation(WELL_NAMES)[: len(treatments)]
        plates.append(treatments.assign(**plate, **{WELL: wells}).sort_values(WELL))
    sites = pd.DataFrame({"Metadata_Site": range(1, settings.sites + 1)})
    table = pd.concat(plates, ignore_index=True).merge(sites, how="cross")
    table[CONTROL] = table[COMPOUND] == NORMAL
    table[ACTIVE] = table[CONTROL] | (table["response"] >= settings.active)
    table[SPLIT] = table[SPLIT].where(table[ACTIVE], "dose")
    table["field"] = range(len(table))
    classes = [population(row, settings)[0] for row in table.to_dict("records")]
    table["cells"] = [len(members) for members in classes]
    responding = [(members == label).mean() for members, label in zip(classes, table[LABEL], strict=True)]
    table["fraction"] = np.where(table[CONTROL], 0.0, responding)
    metadata = [*FIELD_KEY, BATCH, REPLICATE, COMPOUND, CONCENTRATION, CONTROL, ACTIVE, LABEL, SPLIT]
    return table[[*metadata, "response", "ec50", "strength", "cells", "fraction", "field"]]


def population(row: Row, settings: SimulatedSettings) -> tuple[np.ndarray, Generator]:
    """Class of each cell of a field (n,), and the generator that then draws them. n is independent of the treatment."""
    rng = np.random.default_rng([settings.seed, 3, row["field"]])
    n = number_of_cells(settings, rng)
    responds = rng.random(n) < row["response"]
    outlier = rng.random(n) < settings.outliers
    strange = [MITOTIC] * len(PHENOTYPES) + [name for name in PHENOTYPES if name != row[LABEL]]
    others = np.where(outlier, rng.choice(strange, n), NORMAL)
    return np.where(responds, row[LABEL], others), rng


def placed_cells(row: Row, settings: SimulatedSettings) -> tuple[np.ndarray, np.ndarray, Generator]:
    """Class (n,) and centre (n, 2) of each cell of a field, and the generator that then draws the cells."""
    classes, rng = population(row, settings)
    apart = min(26.0, 0.85 * (settings.size / np.sqrt(len(classes))))  # px: many cells lie closer together
    return classes, drawn_cells.spaced(len(classes), settings.size, apart, rng), rng


def sketch(row: Row, settings: SimulatedSettings) -> tuple[DrawnCells, np.ndarray, np.ndarray, Generator]:
    """Numbers, classes (n,) and centres (n, 2) of the cells of a field, and the generator that then draws them."""
    classes, centres, rng = placed_cells(row, settings)
    strength = settings.strength * row["strength"] * rng.uniform(0.7, 1.2, len(classes))
    cells = drawn_cells.with_effects(drawn_cells.normal_cells(len(classes), rng), classes, strength)
    return cells, classes, centres, rng


def true_masks(row: pd.Series, settings: SimulatedSettings) -> np.ndarray:
    """The cells of a field by their number in ``Screen.objects``, (H, W) uint16."""
    cells, _, centres, rng = sketch(row, settings)
    return drawn_cells.number_cells(drawn_cells.cell_outlines(cells, rng)[0], centres, settings.size)


def draw_field(row: pd.Series, settings: SimulatedSettings) -> np.ndarray:
    """Field (3, H, W) uint16 as the camera records it, see ``record``."""
    cells, classes, centres, rng = sketch(row, settings)
    patches = drawn_cells.lights(cells, classes, *drawn_cells.cell_outlines(cells, rng), rng)
    light = drawn_cells.add_up(patches, centres, settings.size)
    return record(light, ELECTRONS, BACKGROUND_ELECTRONS, row, settings, rng)
