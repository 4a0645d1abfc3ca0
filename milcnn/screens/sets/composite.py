"""Composite: fields built from real cells, so that the truth of every cell of a real image is known.

Cells are cut from the fields of any screen at given places and set on a dark field: k cells of class A
(``positive``) among n − k of class B (``negative``). A field without any A has the label B. What could
tell the label without looking at cells is made equal:

- all cells of a field are of one plate, and only plates that hold both classes are used;
- n and the places are drawn without regard to the label, and every cell shows through a disc of one size;
- cells of A and B go in pairs of equal coverage (share of the disc that is not background), and each
  place of a field holds the A or the B of a pair;
- with ``equalise`` each channel of each cell is scaled to the mean of its plate: intensity then tells
  nothing, and only shape and texture do.

Test fields are of plates of which nothing is trained on. Validation cells are of training plates, but of
source fields (images) of which nothing is trained on.

**With the BBBC021 sample** (cycloheximide, a protein synthesis inhibitor, among DMSO) three replicate
plates of one layout hold both classes, Week4_27801, _27821 and _27861: two for training, one for testing.
So a score tells of a new replicate, not of a new compound, layout or week; and as each treatment has
its own wells on all three plates, class and well are not to be told apart. Its cells carry the label of
their well: how many of them respond is not known.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field

from milcnn.columns import FIELD_KEY, LABEL, PLATE, SPLIT
from milcnn.screens.screen import Screen
from milcnn.screens.sets.cut import Cut, cut_cells, read_cells
from milcnn.settings import Settings

COVERED = 0.25  # of the mean light of a plate's cells, from which on a pixel is no background


class CompositeSettings(Settings):
    """Where cells are cut, and what is built of them."""

    screen: str  # kind of the screen the cells are cut from
    screen_settings: dict = Field({})
    # CSV: Metadata_Plate, _Well, _Site, y0, x0 (px, top left of a crop), and class, else that of the field;
    # $NAME is the environment's
    cells: str
    cell_fields: str | None = None  # CSV: field, plate, well, site, for a table of cells that has field only
    positive: str
    negative: str = "DMSO"
    crop: int = Field(68, ge=8)  # px of the source, side of a crop
    downscale: int = Field(2, ge=1)  # px of the source that one px of a composite is the mean of, along each axis
    size: int = Field(256, ge=64)  # px, side of a composite
    n_cells: list[Annotated[int, Field(ge=1)]] = Field([20, 40], min_length=1)  # n of a field, drawn from these
    # k / n of the fields with A, in turn
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.05, 0.1, 0.2, 0.35, 0.5, 0.75], min_length=1)
    fields_per_class: dict[Literal["train", "validation", "test"], int] = Field(
        {"train": 180, "validation": 36, "test": 60}, min_length=3
    )
    test_plates: list[str] = Field([])  # empty: the last of those that hold both classes
    caliper: float = Field(0.03, gt=0, le=1)  # largest difference of coverage within a pair
    equalise: bool = True
    seed: int = Field(0, ge=0)


def composite_screen(settings: CompositeSettings, source: Screen) -> Screen:
    """Composites of the cells of ``source``; ``read`` gives (C, size, size) and ``truth`` the disc of each cell."""
    cut = cut_cells(
        source,
        read_cells(settings.cells, settings.cell_fields),
        [settings.negative, settings.positive],
        settings.crop,
        settings.downscale,
    )
    return compose(cut, source, settings)


def compose(cut: Cut, source: Screen, settings: CompositeSettings) -> Screen:
    """The screen of composites of cells that are ``cut``."""
    dark = {plate: np.percentile(cut.pixels[rows], 1, (0, 2, 3)) for plate, rows in plates_of(cut).items()}
    pixels, coverage = lit(cut, dark, settings.equalise)
    splits = split_sources(cut.table, settings)
    table = cut.table.assign(coverage=coverage, **{SPLIT: splits})
    pairs = {
        (split, plate): matched(members, settings)
        for (split, plate), members in table.groupby([SPLIT, PLATE])
        if members["class"].nunique() == 2
    }
    fields = field_table(pairs, settings)
    draw = partial(draw_field, settings=settings, pixels=pixels, pairs=pairs, dark=dark)
    return Screen(
        fields=fields,
        channels=source.channels,
        classes=[settings.negative, settings.positive],
        read=lambda row: draw(row)[0],
        truth=lambda row: draw(row)[1],
        protocol="plate",
        objects=object_table(fields, settings),
        pixel_size=None if source.pixel_size is None else source.pixel_size * settings.downscale,
    )


def plates_of(cut: Cut) -> dict[str, np.ndarray]:
    """The rows of each plate."""
    return cut.table.groupby(PLATE).indices


def disc(side: int) -> np.ndarray:
    """Weights (side, side) in [0, 1]: 1 in a disc that fills the square, 0 in its corners, soft between."""
    steps = np.arange(side) - (side - 1) / 2
    radius = np.hypot(steps[:, None], steps[None, :])
    return ((side / 2 - radius) / (0.15 * side)).clip(0, 1).astype(np.float32)


def lit(cut: Cut, dark: dict[str, np.ndarray], equalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Light above dark of each cell (n, C, h, h) float32, and its coverage (n,): share of its disc above background.

    A pixel is above background where its light, each channel in units of its mean over the cells of the
    plate, is more than ``COVERED`` in the mean of the channels.
    """
    weights = disc(cut.pixels.shape[-1])
    light = np.empty(cut.pixels.shape, np.float32)
    coverage = np.empty(len(light))
    for plate, rows in plates_of(cut).items():
        part = cut.pixels[rows] - dark[plate].astype(np.float32)[:, None, None]
        mean = (part * weights).sum(axis=(2, 3)) / weights.sum()  # (n, C)
        typical = mean.mean(axis=0)
        relative = (part / typical[:, None, None]).mean(axis=1)
        coverage[rows] = ((relative > COVERED) * weights).sum(axis=(1, 2)) / weights.sum()
        factor = typical / mean.clip(min=1e-3 * typical) if equalise else np.ones_like(mean)
        light[rows] = part * factor[:, :, None, None]
    return light, coverage


def split_sources(table: pd.DataFrame, settings: CompositeSettings) -> np.ndarray:
    """train, validation or test for each cell: test by plate; of the others every fourth source field validates."""
    plates = sorted(table[PLATE].unique())
    test = settings.test_plates or plates[-1:]
    if unknown := sorted(set(test) - set(plates)):
        raise ValueError(f"test_plates: {', '.join(unknown)} do not hold both classes; {', '.join(plates)} do.")
    if set(test) == set(plates):
        raise ValueError(f"test_plates: all of {', '.join(plates)}; leave one for training.")
    fields = table[[*FIELD_KEY, "class"]].drop_duplicates(FIELD_KEY).sort_values(FIELD_KEY)
    turn = fields.groupby([PLATE, "class"]).cumcount()
    fields[SPLIT] = np.where(turn % 4 == 3, "validation", "train")
    fields.loc[fields[PLATE].isin(test), SPLIT] = "test"
    return table.merge(fields.drop(columns="class"), on=FIELD_KEY, how="left")[SPLIT].to_numpy()


def matched(cells: pd.DataFrame, settings: CompositeSettings) -> np.ndarray:
    """Pairs (n, 2) of rows, a cell of B and one of A, of coverages no more than ``caliper`` apart.

    Both classes in the order of coverage; the smaller of two that do not match has no partner. No cell is in
    two pairs, and no other pairing has more of them.
    """
    sides = [cells[cells["class"] == name]["coverage"].sort_values() for name in (settings.negative, settings.positive)]
    (b, b_rows), (a, a_rows) = ((side.to_numpy(), side.index.to_numpy()) for side in sides)
    pairs, i, j = [], 0, 0
    while i < len(b) and j < len(a):
        if abs(b[i] - a[j]) <= settings.caliper:
            pairs.append((b_rows[i], a_rows[j]))
            i, j = i + 1, j + 1
        elif b[i] < a[j]:
            i += 1
        else:
            j += 1
    return np.array(pairs, int).reshape(-1, 2)


def field_table(pairs: dict[tuple[str, str], np.ndarray], settings: CompositeSettings) -> pd.DataFrame:
    """One row a field; beside the columns of ``Screen.fields``: ``cells`` (n), ``fraction`` (k / n), ``field`` (seed).

    The plates of a split take turns.
    """
    rows = []
    for split, number in settings.fields_per_class.items():
        plates = usable_plates(split, pairs, settings)
        for label in (settings.negative, settings.positive):
            rows += [(plates[k % len(plates)], f"{split}-{label}", k + 1, label, split) for k in range(number)]
    table = pd.DataFrame(rows, columns=[*FIELD_KEY, LABEL, SPLIT])
    table["field"] = range(len(table))
    n = [number_of(row, settings)[0] for row in table.to_dict("records")]
    # each plate goes through all fractions
    turn = (table["Metadata_Site"] - 1) // table.groupby(SPLIT)[PLATE].transform("nunique")
    wanted = np.array(settings.fractions)[turn % len(settings.fractions)]
    k = np.where(table[LABEL] == settings.positive, np.maximum(1, np.rint(wanted * n)), 0)
    control = table[LABEL] == settings.negative
    return table.assign(cells=n, fraction=k / n, Metadata_Control=control)


def usable_plates(split: str, pairs: dict[tuple[str, str], np.ndarray], settings: CompositeSettings) -> list[str]:
    """The plates of a split, each with pairs enough for the fullest field. Raises ValueError where they are too few."""
    found = {plate: len(members) for (of, plate), members in pairs.items() if of == split}
    most = max(settings.n_cells)
    if not found or min(found.values()) < most:
        counts = ", ".join(f"{n} on {plate}" for plate, n in found.items()) or "none"
        raise ValueError(
            f"composite: split '{split}' has too few pairs of cells of equal coverage ({counts}), and n_cells asks "
            f"for {most}; give more cells, fewer n_cells or a wider caliper."
        )
    return list(found)


def number_of(row: Mapping, settings: CompositeSettings) -> tuple[int, Generator]:
    """Number of cells of a field, whatever its label, and the generator that then picks and places them."""
    rng = np.random.default_rng([settings.seed, row["field"]])
    return int(rng.choice(settings.n_cells)), rng


def object_table(fields: pd.DataFrame, settings: CompositeSettings) -> pd.DataFrame:
    """One row a cell: its field, ``object`` (its number in the truth) and ``class``; the A are the first k."""
    repeated = fields.loc[fields.index.repeat(fields["cells"]), [*FIELD_KEY, "cells", "fraction"]]
    number = repeated.groupby(FIELD_KEY).cumcount() + 1
    positive = number <= (repeated["cells"] * repeated["fraction"]).round()
    names = np.where(positive, settings.positive, settings.negative)
    return repeated[FIELD_KEY].assign(object=number, **{"class": names}).reset_index(drop=True)


def draw_field(
    row: pd.Series,
    settings: CompositeSettings,
    pixels: np.ndarray,
    pairs: dict[tuple[str, str], np.ndarray],
    dark: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Field (C, size, size) uint16 and truth (size, size) uint16."""
    n, rng = number_of(row, settings)
    chosen = rng.choice(pairs[row[SPLIT], row[PLATE]], n, replace=False)  # (n, 2)
    members = np.where(np.arange(n) < round(n * row["fraction"]), chosen[:, 1], chosen[:, 0])
    side = pixels.shape[-1]
    weights = disc(side)
    light = np.zeros((pixels.shape[1], settings.size, settings.size), np.float32)
    empty = np.ones(light.shape[1:], np.float32)
    truth = np.zeros(light.shape[1:], np.uint16)
    for number, (cell, (y, x)) in enumerate(zip(members, corners(n, side, settings, rng), strict=True), start=1):
        here = np.s_[y : y + side, x : x + side]
        light[:, *here] += pixels[cell] * weights
        empty[here] -= weights
        truth[here][weights > 0.5] = number
    level = dark[row[PLATE]].astype(np.float32)[:, None, None]
    noise = np.sqrt(level) * rng.standard_normal(light.shape, np.float32) * empty  # cells have their own
    return (level + light + noise).clip(0, 65535).round().astype(np.uint16), truth


def corners(n: int, side: int, settings: CompositeSettings, rng: Generator) -> np.ndarray:
    """Top left (n, 2) of cells in slots of a grid, at random inside them; discs do not overlap."""
    slots = settings.size // side
    if n > slots**2:
        raise ValueError(f"n_cells: {n} do not fit a field of {settings.size} px; {slots**2} do.")
    step = settings.size / slots
    chosen = np.stack(np.unravel_index(rng.permutation(slots**2)[:n], (slots, slots)), 1)
    off = rng.uniform(0, step - side, (n, 2))
    return np.floor(chosen * step + off).astype(int)
