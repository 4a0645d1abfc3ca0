"""Composite: fields built from real cells, so the truth is known for every cell of a real image.

Cells are cut from the fields of any screen and placed on a dark field: k cells of class A (``positive``) among n − k
of class B (``negative``). A field without A has the label B. Everything else that could reveal the label is equal:

- All cells of a field are from one plate, and only plates with both classes are used.
- n and the positions do not depend on the label, and every cell shows through a disc of the same size.
- Cells of A and B form pairs of equal coverage (share of the disc that is not background). Each place of a field
  shows the A or the B of a pair.
- With ``equalise``, each channel of each cell is scaled to the mean of its plate: only shape and texture differ.

The table of cells may name the set of each cell, as that of ``milcnn composite`` does; no source field is in two sets.
Without it, test plates are not used for training. Validation cells are from other plates, if these are named, or from
other source fields of the training plates.

**With the BBBC021 sample** (cycloheximide, a protein synthesis inhibitor, against DMSO), the replicate plates
Week4_27801, _27821 and _27861 have both classes, in one layout: two for training, one for testing. So a score is for a
new replicate, not for a new compound, layout or week, and class and well are confounded. Each cell has the label of
its well; how many of the cells respond is unknown.
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field

from milcnn.columns import CONTROL, FIELD_KEY, LABEL, PLATE, SITE, SOURCE, SPLIT
from milcnn.screens.screen import Screen
from milcnn.screens.sets.common import Fraction, Row, list_objects, plan_fields
from milcnn.screens.sets.cut import around, cut_cells, read_cells
from milcnn.settings import Settings

COVERED = 0.25  # a pixel is not background if its light exceeds this share of the mean light of the plate's cells

Pairs = dict[tuple[str, str], np.ndarray]  # by split and plate: (n, 2) rows of cells, one of B and one of A


class CompositeSettings(Settings):
    """Which cells are cut, and what is built from them."""

    screen: str  # kind of the screen that the cells are cut from
    screen_settings: dict = Field({})
    # CSV: Metadata_Plate, _Well, _Site, y0, x0 (px, top left of a crop) and, if not the field's label, class
    cells: str | None = None  # without: around the middle of each of the screen's true objects
    cell_fields: str | None = None  # CSV: field, plate, well, site; needed if the table of cells has only field
    positive: str
    negative: str = "DMSO"
    crop: int = Field(68, ge=8)  # px of the source, side of a crop
    downscale: int = Field(2, ge=1)  # px of the source that one px of a composite averages, along each axis
    size: int = Field(256, ge=64)  # px, side of a composite
    n_cells: list[Annotated[int, Field(ge=1)]] = Field([20, 40], min_length=1)  # n of a field, drawn from these
    fractions: list[Fraction] = Field(
        [0.05, 0.1, 0.2, 0.35, 0.5, 0.75], min_length=1
    )  # k / n; the fields of A take turns
    fields_per_class: dict[Literal["train", "validation", "test"], int] = Field(
        {"train": 180, "validation": 36, "test": 60}, min_length=3
    )
    test_plates: list[str] = Field([])  # empty: the last of the plates with both classes
    validation_plates: list[str] = Field([])  # empty: every fourth source field of the training plates
    caliper: float = Field(0.03, gt=0, le=1)  # largest difference of coverage within a pair
    equalise: bool = True
    seed: int = Field(0, ge=0)


def composite_screen(settings: CompositeSettings, source: Screen) -> Screen:
    """Composites of the cells of ``source``; ``read`` gives (C, size, size) and ``truth`` the disc of each cell."""
    cells = read_cells(settings.cells, settings.cell_fields) if settings.cells else around(source, settings.crop)
    pixels, pairs, dark = paired_cells(source, cells, settings)
    fields = field_table(pairs, settings)
    draw = partial(draw_field, settings=settings, pixels=pixels, pairs=pairs, dark=dark)
    objects = list_objects(fields, lambda row: [cell_classes(row, settings)])
    read, truth = (lambda row: draw(row)[0]), (lambda row: draw(row)[1])
    pixel_size = source.pixel_size and source.pixel_size * settings.downscale
    classes, protocol = [settings.negative, settings.positive], "plate" if tests_new_plates(pairs) else "field"
    return Screen(fields, source.channels, classes, read, pixel_size, truth=truth, objects=objects, protocol=protocol)


def paired_cells(
    source: Screen, cells: pd.DataFrame, settings: CompositeSettings
) -> tuple[np.ndarray, Pairs, dict[str, np.ndarray]]:
    """Light (n, C, h, h) of the ``cells`` (see ``read_cells``), pairs of each set and plate, dark level of a plate."""
    table, crops = cut_cells(source, cells, [settings.negative, settings.positive], settings.crop, settings.downscale)
    pixels, coverage, dark = cell_light(table[PLATE], crops, settings.equalise)
    sets = table[SPLIT] if SPLIT in table else split_sources(table, settings)
    table = table.assign(coverage=coverage, **{SPLIT: sets})
    pairs = {
        (split, plate): matched_pairs(members, settings)
        for (split, plate), members in table.groupby([SPLIT, PLATE])
        if members["class"].nunique() == 2
    }
    return pixels, pairs, dark


def tests_new_plates(pairs: Pairs) -> bool:
    """Whether no plate of the test cells has training or validation cells."""
    tested, others = ({plate for split, plate in pairs if (split == "test") is test} for test in (True, False))
    return not tested & others


def disc(side: int) -> np.ndarray:
    """Weights (side, side) in [0, 1]: 1 in a disc that fills the square, 0 in its corners, a soft edge between."""
    steps = np.arange(side) - (side - 1) / 2
    radius = np.hypot(steps[:, None], steps[None, :])
    return ((side / 2 - radius) / (0.15 * side)).clip(0, 1).astype(np.float32)


def cell_light(
    plates: pd.Series, crops: np.ndarray, equalise: bool
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Light above dark of each cell (n, C, h, h) float32, its coverage (n,), and the dark level (C,) of each plate.

    Coverage is the share of the disc in which the light, each channel divided by its mean over the cells of the plate,
    is above ``COVERED`` in the mean of the channels. Dark is the 1st percentile of the plate's crops.
    """
    weights = disc(crops.shape[-1])
    light = np.empty(crops.shape, np.float32)
    coverage, dark = np.empty(len(light)), {}
    for plate in plates.unique():
        rows = np.flatnonzero(plates == plate)
        dark[plate] = np.percentile(crops[rows], 1, (0, 2, 3))
        part = crops[rows] - dark[plate].astype(np.float32)[:, None, None]
        mean = (part * weights).sum(axis=(2, 3)) / weights.sum()  # (n, C)
        typical = mean.mean(axis=0)
        relative = (part / typical[:, None, None]).mean(axis=1)
        coverage[rows] = ((relative > COVERED) * weights).sum(axis=(1, 2)) / weights.sum()
        factor = typical / mean.clip(min=1e-3 * typical) if equalise else np.ones_like(mean)
        light[rows] = part * factor[:, :, None, None]
    return light, coverage, dark


def split_sources(table: pd.DataFrame, settings: CompositeSettings) -> np.ndarray:
    """The set of each cell: by plate, or every fourth source field that is not of a test plate for validation."""
    plates = sorted(table[PLATE].unique())
    test, validation = settings.test_plates or plates[-1:], settings.validation_plates
    for name, chosen in (("test_plates", test), ("validation_plates", validation)):
        if unknown := ", ".join(sorted(set(chosen) - set(plates))):
            raise ValueError(f"{name}: {unknown} do not have both classes; choose from {', '.join(plates)}.")
    if both := ", ".join(sorted(set(test) & set(validation))):
        raise ValueError(f"validation_plates: {both} are among test_plates; choose others.")
    if {*test, *validation} == set(plates):
        raise ValueError(f"test_plates: all of {', '.join(plates)}; leave one for training.")
    fields = table[[*FIELD_KEY, "class"]].drop_duplicates(FIELD_KEY).sort_values(FIELD_KEY)
    turn = fields.groupby([PLATE, "class"]).cumcount()
    held = fields[PLATE].isin(validation) if validation else turn % 4 == 3
    fields[SPLIT] = np.where(held, "validation", "train")
    fields.loc[fields[PLATE].isin(test), SPLIT] = "test"
    return table.merge(fields.drop(columns="class"), on=FIELD_KEY, how="left")[SPLIT].to_numpy()


def matched_pairs(cells: pd.DataFrame, settings: CompositeSettings) -> np.ndarray:
    """Pairs (n, 2) of rows, a cell of B and one of A, whose coverages differ by at most ``caliper``.

    Both classes are compared from the smallest coverage on; the smaller of two that do not match stays single. No cell
    is in two pairs, and no other pairing has more pairs.
    """
    by_class = [cells.loc[cells["class"] == name, "coverage"] for name in (settings.negative, settings.positive)]
    b, a = (list(coverage.sort_values().items()) for coverage in by_class)  # (row, coverage)
    pairs, i, j = [], 0, 0
    while i < len(b) and j < len(a):
        difference = b[i][1] - a[j][1]
        if abs(difference) <= settings.caliper:
            pairs.append((b[i][0], a[j][0]))
            i, j = i + 1, j + 1
        elif difference < 0:
            i += 1
        else:
            j += 1
    return np.array(pairs, int).reshape(-1, 2)


def field_table(pairs: Pairs, settings: CompositeSettings) -> pd.DataFrame:
    """One row per field; see ``Screen.fields``, and: ``cells`` (n), ``fraction`` (k / n), ``field`` (seed).

    The plates of a split take turns, and each plate goes through all fractions. A field mixes cells of all source
    fields of its plate and split, so these together are its ``Metadata_Source``: the plate, or its part in the split.
    """
    table = plan_fields(settings.fields_per_class, [settings.negative, settings.positive])
    plates = {split: usable_plates(split, pairs, settings) for split in settings.fields_per_class}
    table[PLATE] = [plates[s][(k - 1) % len(plates[s])] for s, k in zip(table[SPLIT], table[SITE], strict=True)]
    table["field"] = range(len(table))
    n = np.array([number_of(row, settings)[0] for row in table.to_dict("records")])
    turn = (table[SITE] - 1) // table.groupby(SPLIT)[PLATE].transform("nunique")
    wanted = np.take(settings.fractions, turn, mode="wrap")
    k = np.where(table[LABEL] == settings.positive, np.maximum(1, np.rint(wanted * n)), 0)
    mixed = table[PLATE] if tests_new_plates(pairs) else table[PLATE] + " " + table[SPLIT]
    return table.assign(cells=n, fraction=k / n, **{CONTROL: table[LABEL] == settings.negative, SOURCE: mixed})


def usable_plates(split: str, pairs: Pairs, settings: CompositeSettings) -> list[str]:
    """The plates of a split. Raises ValueError if one has too few pairs for the field with the most cells."""
    counts = {plate: len(members) for (of, plate), members in pairs.items() if of == split}
    most = max(settings.n_cells)
    if not counts or min(counts.values()) < most:
        listed = ", ".join(f"{n} on {plate}" for plate, n in counts.items()) or "none"
        raise ValueError(
            f"composite: split '{split}' has too few pairs of cells of equal coverage ({listed}) for n_cells {most}; "
            "give more cells, fewer n_cells or a wider caliper."
        )
    return list(counts)


def number_of(row: Row, settings: CompositeSettings) -> tuple[int, Generator]:
    """Number of cells of a field, whatever its label, and the generator that then picks and places them."""
    rng = np.random.default_rng([settings.seed, row["field"]])
    return int(rng.choice(settings.n_cells)), rng


def cell_classes(row: Row, settings: CompositeSettings) -> list[str]:
    """The class of each cell of a field: the first k are of A."""
    k = round(row["cells"] * row["fraction"])
    return [settings.positive] * k + [settings.negative] * (row["cells"] - k)


def draw_field(
    row: pd.Series, settings: CompositeSettings, pixels: np.ndarray, pairs: Pairs, dark: dict[str, np.ndarray]
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
    noise = np.sqrt(level) * rng.standard_normal(light.shape, np.float32) * empty  # cells have their own noise
    return (level + light + noise).clip(0, 65535).round().astype(np.uint16), truth


def corners(n: int, side: int, settings: CompositeSettings, rng: Generator) -> np.ndarray:
    """Top left (n, 2) of cells, at random positions inside random slots of a grid; the discs do not overlap."""
    slots = settings.size // side
    if n > slots**2:
        raise ValueError(f"n_cells: {n} do not fit a field of {settings.size} px; at most {slots**2} do.")
    step = settings.size / slots
    chosen = np.stack(np.unravel_index(rng.permutation(slots**2)[:n], (slots, slots)), 1)
    off = rng.uniform(0, step - side, (n, 2))
    return np.floor(chosen * step + off).astype(int)
