"""Simulated screen: whole plates of drawn cells, with everything known about them.

A plate holds every compound at every dose once, and DMSO, in wells drawn at random. A compound has one
phenotype; at dose d a cell of its wells responds with probability (Hill)

    f(d) = maximum · d^h / (d^h + EC50^h)

so the responding fraction of a field follows the dose, and the others are normal cells or outliers.

**What a field's label is.** ``Metadata_Label`` is always the phenotype of the compound of its well, or
DMSO. Where f(d) is below ``active`` the field does not show it: such fields have ``Metadata_Active``
false and ``Metadata_Split`` ``dose``. They belong to no training, validation or test set and are there
for dose–response curves, for which a user predicts the fields of the test plates at all doses. ``compounds``
gives the true EC50, and ``fields`` has it too.

**How hard it is.** At the default difficulty a logistic regression on the mean intensities of a field stays
at chance (11 % of the test fields; 1 in 7 is 14 %); a MIL-CNN with Noisy-AND and a quarter of the paper's
channels finds 91 % after 12 epochs: every field in which half of the cells respond, and half of those
in which fewer than 30 % do.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field
from scipy.ndimage import gaussian_filter

from milcnn.columns import FIELD_KEY, LABEL, PLATE, SPLIT
from milcnn.screens.screen import Screen
from milcnn.screens.sets import drawn_cells
from milcnn.screens.sets.drawn_cells import CHANNELS, MITOTIC, NORMAL, PHENOTYPES
from milcnn.settings import Settings

COMPOUND, DOSE = "Metadata_Compound", "Metadata_Concentration"
ROWS, COLUMNS = "ABCDEFGH", 12  # of a 96-well plate
SPLITS = ["train", "validation", "test"]
PIXEL_SIZE = 0.65  # µm, a 10× objective: normal nuclei are 9 µm wide
# the camera: electrons a pixel, then grey values
READ_NOISE = 4.0  # electrons
GAIN = 2.0  # grey values an electron
OFFSET = 100.0  # grey values
ELECTRONS = np.array([60_000.0, 120_000.0, 110_000.0])  # of the mean cell, in each channel
BACKGROUND_ELECTRONS = np.array([40.0, 60.0, 50.0])  # electrons a pixel


class SimulatedSettings(Settings):
    """How large the screen is, and how hard."""

    size: int = Field(256, ge=96, le=2048)  # px, side of a field
    plates: dict[Literal["train", "validation", "test"], int] = Field(
        {"train": 4, "validation": 1, "test": 1}, min_length=3
    )
    plates_per_batch: int = Field(2, ge=1)
    doses: list[Annotated[float, Field(gt=0)]] = Field([0.03, 0.1, 0.3, 1, 3, 10], min_length=2)  # µM
    compounds_per_phenotype: int = Field(2, ge=2, le=6)
    dmso_wells: int = Field(12, ge=1)  # a plate
    sites: int = Field(2, ge=1)  # fields a well
    cells: float = Field(40, ge=5, le=150)  # mean number in a field of 256 × 256 px
    outliers: float = Field(0.06, ge=0, le=0.5)  # share of cells that are mitotic or show a wrong phenotype
    active: float = Field(0.2, gt=0, lt=1)  # smallest f(d) at which a field carries its compound's label
    # 0: plain phenotypes, one plate like another; 1: faint ones, and plates that differ more than they do
    difficulty: float = Field(0.5, ge=0, le=1)
    seed: int = Field(0, ge=0)

    @property
    def strength(self) -> float:
        """Mean strength of a response, 1 where ``EFFECTS`` holds as written."""
        return 1.25 - 0.8 * self.difficulty

    @property
    def variation(self) -> float:
        """What spreads between batches, plates, wells and fields are multiplied by."""
        return 2 * self.difficulty


def simulated_screen(settings: SimulatedSettings) -> Screen:
    """The screen; ``read`` gives (3, size, size) uint16 and ``truth`` the cells, by number."""
    fields = field_table(settings)
    return Screen(
        fields=fields,
        channels=CHANNELS,
        classes=[NORMAL, *PHENOTYPES],
        read=partial(draw_field, settings=settings),
        truth=partial(true_masks, settings=settings),
        protocol="plate",
        objects=object_table(fields, settings),
        pixel_size=PIXEL_SIZE,
    )


def compounds(settings: SimulatedSettings) -> pd.DataFrame:
    """A row a compound: ``Metadata_Compound``, ``Metadata_Label``, ``ec50`` (µM), ``hill``, ``maximum``, ``strength``.

    EC50 is log-uniform over the inner half of the doses (in log dose), so that a curve over the doses
    shows both of its ends; each phenotype has its strong and its weak compounds, so that all phenotypes
    have about as many active doses.
    """
    each = settings.compounds_per_phenotype
    labels = PHENOTYPES * each
    n = len(labels)
    rng = np.random.default_rng([settings.seed, 1])
    low, high = np.log(min(settings.doses)), np.log(max(settings.doses))
    potency = (np.repeat(np.arange(each), len(PHENOTYPES)) + rng.random(n)) / each  # of 1
    return pd.DataFrame(
        {
            COMPOUND: [f"S{number:02d}" for number in range(1, n + 1)],
            LABEL: labels,
            "ec50": np.exp(low + (0.25 + 0.5 * potency) * (high - low)),
            "hill": rng.uniform(1.2, 2.5, n),
            "maximum": rng.uniform(0.7, 0.95, n),
            "strength": rng.uniform(0.9, 1.1, n),
        }
    )


def response(dose: np.ndarray, ec50: np.ndarray, hill: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """f(d) = maximum · d^h / (d^h + EC50^h), the expected responding fraction; doses in µM."""
    return maximum * dose**hill / (dose**hill + ec50**hill)


def plate_map(settings: SimulatedSettings) -> pd.DataFrame:
    """One row a treatment of a plate: the columns of ``compounds``, dose (µM, 0 for DMSO) and ``response``."""
    treated = compounds(settings).merge(pd.DataFrame({DOSE: settings.doses}, dtype=float), how="cross")
    treated["response"] = response(*(treated[name] for name in (DOSE, "ec50", "hill", "maximum")))
    controls = {COMPOUND: NORMAL, LABEL: NORMAL, DOSE: 0.0, "response": 0.0, "strength": 1.0}
    wells = pd.concat([treated, pd.DataFrame([controls] * settings.dmso_wells)], ignore_index=True)
    if len(wells) > len(ROWS) * COLUMNS:
        raise ValueError(
            f"simulated: {len(treated)} treatments and {settings.dmso_wells} DMSO wells do not fit a plate of "
            f"{len(ROWS) * COLUMNS}; give fewer doses, dmso_wells or compounds_per_phenotype."
        )
    return wells


def field_table(settings: SimulatedSettings) -> pd.DataFrame:
    """One row a field; beside the columns of ``Screen.fields``:

    ``Metadata_Batch``, ``_Replicate`` (number of the plate: all hold the same treatments), ``_Compound``,
    ``_Concentration`` (µM), ``_Control`` (DMSO), ``_Active``; ``response`` = f(d) and ``ec50`` (µM);
    ``cells`` and ``fraction``, the number of cells and the share of them that respond; ``field``, which
    seeds all that is drawn.
    """
    treatments = plate_map(settings)
    plates = [split for split in SPLITS for _ in range(settings.plates.get(split, 0))]
    positions = [f"{row}{column:02d}" for row in ROWS for column in range(1, COLUMNS + 1)]
    tables = []
    for number, split in enumerate(plates):
        rng = np.random.default_rng([settings.seed, 2, number])
        wells = rng.permutation(positions)[: len(treatments)]
        table = treatments.assign(**{PLATE: f"P{number + 1:02d}", "Metadata_Well": wells, SPLIT: split})
        table["Metadata_Batch"] = f"B{number // settings.plates_per_batch + 1}"
        tables.append(table.assign(Metadata_Replicate=number + 1).sort_values("Metadata_Well"))
    sites = pd.DataFrame({"Metadata_Site": range(1, settings.sites + 1)})
    table = pd.concat(tables, ignore_index=True).merge(sites, how="cross")
    table["Metadata_Control"] = table[COMPOUND] == NORMAL
    table["Metadata_Active"] = table["Metadata_Control"] | (table["response"] >= settings.active)
    table[SPLIT] = table[SPLIT].where(table["Metadata_Active"], "dose")
    table["field"] = range(len(table))
    classes = [population(row, settings)[0] for row in table.to_dict("records")]
    table["cells"] = [len(members) for members in classes]
    responding = [(members == label).mean() for members, label in zip(classes, table[LABEL], strict=True)]
    table["fraction"] = np.where(table["Metadata_Control"], 0.0, responding)
    last = ["response", "ec50", "strength", "cells", "fraction", "field"]
    first = [*FIELD_KEY, "Metadata_Batch", "Metadata_Replicate", COMPOUND, DOSE, "Metadata_Control", "Metadata_Active"]
    return table[[*first, LABEL, SPLIT, *last]]


def population(row: Mapping, settings: SimulatedSettings) -> tuple[np.ndarray, Generator]:
    """Class of each cell of a field (n,), and the generator that then places and draws them.

    Density varies between wells of one treatment and does not depend on it.
    """
    rng = np.random.default_rng([settings.seed, 3, row["field"]])
    expected = settings.cells * (settings.size / 256) ** 2 * rng.lognormal(0, 0.25 * settings.variation)
    n = max(4, rng.poisson(expected))
    label = row[LABEL]
    draw = rng.random(n)
    outlier = rng.random(n) < settings.outliers
    strange = [MITOTIC] * len(PHENOTYPES) + [name for name in PHENOTYPES if name != label]
    others = np.where(outlier, rng.choice(strange, n), NORMAL)
    return np.where(draw < row["response"], label, others), rng


def object_table(fields: pd.DataFrame, settings: SimulatedSettings) -> pd.DataFrame:
    """One row a cell: its field, ``object`` (its number in the truth), ``class``, and centre ``y``, ``x`` in px."""
    rows = []
    for row in fields.to_dict("records"):
        classes, rng = population(row, settings)
        centres = place(len(classes), settings, rng)
        key = [row[column] for column in FIELD_KEY]
        rows += [(*key, k, *cell) for k, cell in enumerate(zip(classes, *centres.T, strict=True), start=1)]
    return pd.DataFrame(rows, columns=[*FIELD_KEY, "object", "class", "y", "x"])


def place(n: int, settings: SimulatedSettings, rng: Generator) -> np.ndarray:
    """Centres (n, 2) of cells, closer to each other where there are many."""
    room = settings.size / np.sqrt(n)
    return drawn_cells.spaced(n, settings.size, min(26.0, 0.85 * room), rng)


def sketch(
    row: pd.Series, settings: SimulatedSettings
) -> tuple[drawn_cells.DrawnCells, np.ndarray, np.ndarray, Generator]:
    """Numbers, classes (n,) and centres (n, 2) of the cells of a field, and the generator that then draws them."""
    classes, rng = population(row, settings)
    centres = place(len(classes), settings, rng)
    strength = settings.strength * row["strength"] * rng.uniform(0.7, 1.2, len(classes))
    return drawn_cells.changed(drawn_cells.normal_cells(len(classes), rng), classes, strength), classes, centres, rng


def true_masks(row: pd.Series, settings: SimulatedSettings) -> np.ndarray:
    """The cells of a field by their number in ``object_table``, (H, W) uint16."""
    drawn, _, centres, rng = sketch(row, settings)
    return drawn_cells.masks(drawn_cells.cell_outlines(drawn, rng)[0], centres, settings.size)


def draw_field(row: pd.Series, settings: SimulatedSettings) -> np.ndarray:
    """Field (3, H, W) uint16 as the camera gives it: staining, debris, focus, illumination, noise."""
    drawn, classes, centres, rng = sketch(row, settings)
    patches = drawn_cells.lights(drawn, classes, *drawn_cells.cell_outlines(drawn, rng), rng)
    light = drawn_cells.add_up(patches, centres, settings.size)
    add_debris(light, rng)
    gain, background, illumination = optics(row[PLATE], row["Metadata_Batch"], settings)
    well = rng.lognormal(0, 0.1 * settings.variation, 3)
    focus = 0.7 * rng.lognormal(0, 0.25 * settings.variation)  # px
    light = gaussian_filter(light, (0, focus, focus), truncate=3)
    scale = (ELECTRONS * gain * well).astype(np.float32)[:, None, None]
    electrons = (light * scale + background[:, None, None]) * illumination
    counts = rng.poisson(electrons) + READ_NOISE * rng.standard_normal(electrons.shape, np.float32)
    return (OFFSET + GAIN * counts).clip(0, 65535).round().astype(np.uint16)


def add_debris(light: np.ndarray, rng: Generator) -> None:
    """Add a few bright specks to ``light``: in any channel, of no cell, in no truth."""
    for _ in range(rng.poisson(4)):
        y, x = rng.integers(0, light.shape[1] - 4, 2)
        light[rng.integers(3), y : y + rng.integers(2, 5), x : x + rng.integers(2, 5)] += rng.uniform(0.002, 0.02)


def optics(plate: str, batch: str, settings: SimulatedSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain (3,), background in electrons (3,), and illumination (3, H, W) of mean 1, of a plate."""
    of_batch = np.random.default_rng([settings.seed, 4, int(batch[1:])])
    of_plate = np.random.default_rng([settings.seed, 5, int(plate[1:])])
    gain = np.exp(settings.variation * (of_batch.normal(0, 0.15, 3) + of_plate.normal(0, 0.1, 3)))
    background = BACKGROUND_ELECTRONS * np.exp(settings.variation * of_plate.normal(0, 0.2, 3))
    middle = of_plate.normal(0, 0.4, (2, 3, 1, 1))
    along = np.linspace(-1, 1, settings.size)
    fall = ((along[:, None] - middle[0]) ** 2 + (along[None, :] - middle[1]) ** 2) / 2
    illumination = np.exp(-0.15 * settings.variation * fall.astype(np.float32))
    return gain, background, illumination / illumination.mean(axis=(1, 2), keepdims=True)
