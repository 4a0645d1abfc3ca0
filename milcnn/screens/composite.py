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

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field
from tqdm.auto import tqdm

from milcnn.files import read_table
from milcnn.screens.screen import FIELD_KEY, LABEL, PLATE, SPLIT, Screen
from milcnn.settings import Settings

CORNER = ["y0", "x0"]
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


@dataclass(frozen=True)
class Cut:
    """Cells cut out: ``table`` has the key of the source field and ``class``; ``pixels`` (n, C, h, h), row by row."""

    table: pd.DataFrame
    pixels: np.ndarray


def composite_screen(settings: CompositeSettings) -> Screen:
    """The screen of composites; ``read`` gives (C, size, size) and ``truth`` the disc of each cell."""
    from milcnn.screens import open_screen  # the table of screens there imports this module

    source = open_screen(settings.screen, **settings.screen_settings)
    cut = cut_cells(source, read_cells(settings), [settings.negative, settings.positive], settings)
    return compose(cut, source, settings)


def read_cells(settings: CompositeSettings) -> pd.DataFrame:
    """The table of cells, with the key of their fields. Raises ValueError for a missing column or variable."""
    path = expanded(settings.cells)
    cells = read_table(path, "name the table of cells in 'cells'")
    if settings.cell_fields is not None and not set(FIELD_KEY) <= set(cells):
        fields = read_table(expanded(settings.cell_fields), "name the table of their fields in 'cell_fields'")
        names = dict(zip(["plate", "well", "site"], FIELD_KEY, strict=True))
        fields = fields.rename(columns=names)[["field", *FIELD_KEY]]
        cells = cells.merge(fields, on="field", how="left", validate="many_to_one")
    if missing := [name for name in [*FIELD_KEY, *CORNER] if name not in cells]:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; give them, or 'cell_fields'.")
    return cells


def expanded(path: str) -> Path:
    full = os.path.expandvars(path)
    if "$" in full:
        raise ValueError(f"composite: '{path}' names a variable that the environment does not have; set it.")
    return Path(full)


def cut_cells(screen: Screen, cells: pd.DataFrame, classes: list[str], settings: CompositeSettings) -> Cut:
    """Cut the ``cells`` of ``classes`` out of their fields; on plates that hold all of these classes.

    Cells of fields that the screen does not have, and crops that leave their field, are left out.
    """
    own = [] if "class" in cells else [LABEL]
    cells = cells.merge(screen.fields[[*FIELD_KEY, *own]], on=FIELD_KEY).rename(columns={LABEL: "class"})
    cells = cells[cells["class"].isin(classes)]
    both = cells.groupby(PLATE)["class"].nunique() == len(classes)
    plates = sorted(both[both].index)
    if len(plates) < 2:
        raise ValueError(
            f"composite: {' and '.join(classes)} are together on {len(plates)} plate(s) ({', '.join(plates)}); "
            "training and testing need two."
        )
    cells = cells[cells[PLATE].isin(plates)]
    rows = screen.fields.set_index(FIELD_KEY, drop=False)
    kept, pixels = [], []
    for key, members in tqdm(cells.groupby(FIELD_KEY, sort=False), desc="cut", unit="field", leave=False):
        crops, inside = crops_of(screen.read(rows.loc[key]), members[CORNER].to_numpy(), settings)
        kept.append(members[inside])
        pixels.append(crops)
    return Cut(pd.concat(kept, ignore_index=True)[[*FIELD_KEY, "class"]], np.concatenate(pixels))


def crops_of(field: np.ndarray, corners: np.ndarray, settings: CompositeSettings) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, C, h, h) float32 of a field at ``corners``, downscaled, and which corners have one (bool)."""
    side, by = settings.crop, settings.downscale
    inside = ((corners >= 0) & (corners + side <= field.shape[1:])).all(axis=1)
    crops = [field[:, y : y + side, x : x + side] for y, x in corners[inside]]
    edge = side // by
    whole = np.array(crops, np.float32).reshape(-1, len(field), side, side)[..., : edge * by, : edge * by]
    return whole.reshape(len(crops), len(field), edge, by, edge, by).mean(axis=(3, 5)), inside


def compose(cut: Cut, source: Screen, settings: CompositeSettings) -> Screen:
    """The screen of composites of cells that are ``cut``."""
    dark = {plate: np.percentile(cut.pixels[rows], 1, (0, 2, 3)) for plate, rows in plates_of(cut).items()}
    pixels, coverage = lit(cut, dark, settings.equalise)
    splits = split_cells(cut.table, settings)
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


def split_cells(table: pd.DataFrame, settings: CompositeSettings) -> np.ndarray:
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

    The plates of a split take turns. Raises ValueError where a plate has fewer pairs than a field has cells.
    """
    rows = []
    for split, number in settings.fields_per_class.items():
        plates = [plate for of, plate in pairs if of == split]
        for label in (settings.negative, settings.positive):
            for site in range(number):
                plate = plates[site % len(plates)]
                rows.append((plate, f"{split}-{label}", site + 1, label, split))
    table = pd.DataFrame(rows, columns=[*FIELD_KEY, LABEL, SPLIT])
    table["field"] = range(len(table))
    for (split, plate), found in pairs.items():
        if len(found) < max(settings.n_cells):
            raise ValueError(
                f"composite: plate {plate} has {len(found)} pairs of cells of equal coverage for split '{split}', "
                f"and n_cells asks for {max(settings.n_cells)}; give more cells, fewer n_cells or a wider caliper."
            )
    n = [number_of(row, settings)[0] for _, row in table.iterrows()]
    turn = table["Metadata_Site"] - 1
    wanted = np.array(settings.fractions)[
        turn // table.groupby(SPLIT)[PLATE].transform("nunique") % len(settings.fractions)
    ]
    k = np.where(table[LABEL] == settings.positive, np.maximum(1, np.rint(wanted * n)), 0)
    control = table[LABEL] == settings.negative
    return table.assign(cells=n, fraction=k / n, Metadata_Control=control)


def number_of(row: pd.Series, settings: CompositeSettings) -> tuple[int, Generator]:
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
