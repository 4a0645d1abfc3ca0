"""Cluttered digits: fields of scattered handwritten digits. A share of the digits carries the label.

The design is that of Kraus 2016, section 5.1: a black field of 512 × 512 px has 100 digits. A field of class c has
x digits c among zeros; zeros are never a label, and x varies. We add outliers: digits of other classes, at most one
of each, so the label stays the most frequent class after 0.
"""

from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field
from skimage.transform import resize
from sklearn.datasets import load_digits

from milcnn.columns import FRESH, LABEL, SETS, SITE, SOURCE, SPLIT
from milcnn.screens.screen import Screen
from milcnn.screens.sets.common import SET_NAMES, Fraction, Row, SetName, list_objects, plan_fields
from milcnn.settings import Settings

GLYPH = 28  # px, side of a digit
INK = 64  # grey value above which a pixel belongs to its digit
DENSITY = 100 / 512**2  # digits per px², as in the paper
CLASSES = [str(digit) for digit in range(1, 10)]
TESTED = ("test", FRESH)  # splits whose fields take turns through ``GLYPH_GROUPS`` groups of glyphs
GLYPH_GROUPS = 5


class DigitsSettings(Settings):
    """Number and size of the fields, and the share of their digits that carries the label."""

    source: Literal["sklearn", "mnist"] = "sklearn"
    size: int = Field(256, ge=64, le=4096)  # px, side of a field
    fields_per_class: dict[SetName, int] = Field({"train": 96, "validation": 12, "test": 24}, min_length=3)
    fractions: list[Fraction] = Field(
        [0.05, 0.1, 0.2, 0.3, 0.45, 0.6], min_length=1
    )  # of digits with the label; fields take turns
    outliers: float = Field(0.05, ge=0, le=0.3)  # share of digits of other classes
    seed: int = 0


def digits_screen(settings: DigitsSettings) -> Screen:
    """The screen of cluttered digits. Each split is one plate, and no glyph is in two splits.

    ``fields`` also has ``fraction``, the share of a field's digits that carries the label, and ``seed``. The glyphs of
    the test fields are in five groups that share none; a field has those of one, its ``Metadata_Source``. So intervals
    over sources are for new glyphs, not for new fields of the same. A plate and a well stand for nothing.
    """
    per_class = settings.fields_per_class
    fields = plan_fields({split: per_class[split] for split in SET_NAMES if split in per_class}, CLASSES)
    fields["fraction"] = np.take(settings.fractions, fields[SITE] - 1, mode="wrap")
    fields["seed"] = range(len(fields))
    turn = np.where(fields[SPLIT].isin(TESTED), (fields[SITE] - 1) % GLYPH_GROUPS, 0)
    fields[SOURCE] = [f"{split} glyphs {group + 1}" for split, group in zip(fields[SPLIT], turn, strict=True)]
    draw = partial(draw_field, settings=settings, glyphs=load_glyphs(settings.source, settings.seed))
    objects = list_objects(fields, lambda row: placed_digits(row, settings)[:2])
    read, truth = (lambda row: draw(row)[0]), (lambda row: draw(row)[1])
    return Screen(fields, ["digit"], CLASSES, read, truth=truth, objects=objects)


def load_glyphs(source: str, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Glyphs by ``Metadata_Source`` and class, ``(n, 28, 28)`` uint8; no glyph is in two splits or groups.

    scikit-learn's 1,797 digits of 8 × 8 px are enlarged and split 45 : 15 : 15 : 25 for training, a fresh test set,
    validation and test. The fresh ones were training glyphs before, so no score has ever shown them. Of MNIST's
    training images the last 20,000 are for validation and for a fresh test set, its test images for testing.
    """
    if source == "mnist":
        from milcnn.screens.sets.mnist import load_mnist  # only here: it needs what downloads

        images, digits = load_mnist()
        splits = np.repeat([*SETS[:2], FRESH, "test"], [40_000, 10_000, 10_000, 10_000])
    else:
        small = load_digits()
        images = np.stack([resize(image / 16, (GLYPH, GLYPH), order=3) for image in small.images])
        images = (255 * images.clip(0, 1)).round().astype(np.uint8)
        digits = small.target
        rank = np.random.default_rng(seed).permutation(len(digits)) / len(digits)
        splits = np.select([rank < 0.45, rank < 0.6, rank < 0.75], ["train", FRESH, "validation"], "test")
    glyphs: dict[str, dict[str, np.ndarray]] = {}
    for split in SET_NAMES:
        of_class = [images[(splits == split) & (digits == digit)] for digit in range(10)]
        count = GLYPH_GROUPS if split in TESTED else 1
        for group in range(count):
            glyphs[f"{split} glyphs {group + 1}"] = {str(d): own[group::count] for d, own in enumerate(of_class)}
    return glyphs


def draw_field(
    row: Row, settings: DigitsSettings, glyphs: dict[str, dict[str, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Field (1, H, W) uint8 and its truth (H, W) uint16; see ``Screen``."""
    classes, corners, rng = placed_digits(row, settings)
    field = np.zeros((settings.size, settings.size), np.uint8)
    truth = np.zeros(field.shape, np.uint16)
    for number, (digit, (y, x)) in enumerate(zip(classes, corners, strict=True), start=1):
        choices = glyphs[row[SOURCE]][digit]
        glyph = choices[rng.integers(len(choices))]
        here = np.s_[y : y + GLYPH, x : x + GLYPH]
        truth[here][(glyph > INK) & (glyph >= field[here])] = number
        np.maximum(field[here], glyph, out=field[here])
    return field[None], truth


def placed_digits(row: Row, settings: DigitsSettings) -> tuple[list[str], np.ndarray, np.random.Generator]:
    """Class and top left corner (n, 2) of each digit of a field, and the generator that then picks the glyphs."""
    rng = np.random.default_rng([settings.seed, row["seed"]])
    total = round(DENSITY * settings.size**2)
    positives = max(1, round(row["fraction"] * total))
    others = [digit for digit in CLASSES if digit != row[LABEL]]
    # with a single digit of the label, an outlier would be just as frequent
    outliers = round(settings.outliers * total) if positives > 1 else 0
    classes = [row[LABEL]] * positives
    classes += list(rng.choice(others, min(outliers, len(others), total - positives), replace=False))
    classes += ["0"] * (total - len(classes))
    return classes, scatter(total, settings.size, rng), rng


def scatter(n: int, size: int, rng: np.random.Generator, apart: int = 22) -> np.ndarray:
    """Random corners (n, 2) of glyphs, ``apart`` px from each other where there is room; at 22 px glyphs overlap."""
    corners = np.empty((n, 2), int)
    for number in range(n):
        candidates = rng.integers(0, size - GLYPH + 1, (100, 2))
        gaps = np.linalg.norm(candidates[:, None] - corners[None, :number], axis=2)
        roomy = (gaps >= apart).all(axis=1)
        corners[number] = candidates[roomy.argmax()]  # the first that has room, else the first
    return corners
