"""Cluttered digits: fields of scattered handwritten digits, of which some carry the label.

Design of Kraus 2016, section 5.1: a black field of 512 × 512 px holds 100 digits; a field of class c
has x digits c among zeros, which are distractors and never a label, and x is varied. Here a share of
outliers is added: digits of the other classes, at most one of each, so that the label stays the
class that occurs most.
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from skimage.transform import resize
from sklearn.datasets import load_digits

from milcnn.columns import FIELD_KEY, LABEL, PLATE, SPLIT
from milcnn.screens.screen import Screen
from milcnn.screens.sets.mnist import load_mnist
from milcnn.settings import Settings

GLYPH = 28  # px, side of a digit
INK = 64  # grey value above which a pixel belongs to its digit
DENSITY = 100 / 512**2  # digits a px², the paper's
CLASSES = [str(digit) for digit in range(1, 10)]
SPLITS = ["train", "validation", "test"]


class DigitsSettings(Settings):
    """How many fields, how large, and how many of their digits carry the label."""

    source: Literal["sklearn", "mnist"] = "sklearn"
    size: int = Field(256, ge=64, le=4096)  # px, side of a field
    fields_per_class: dict[str, int] = Field({"train": 96, "validation": 12, "test": 24}, min_length=3)
    # of the digits of a field, those that carry its label; its fields go through them in turn
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.05, 0.1, 0.2, 0.3, 0.45, 0.6], min_length=1)
    outliers: float = Field(0.05, ge=0, le=0.3)  # share of digits of other classes
    seed: int = 0


def digits_screen(settings: DigitsSettings) -> Screen:
    """The screen of cluttered digits; its plates are its splits, whose glyphs are never shared."""
    glyphs = load_glyphs(settings.source, settings.seed)
    fields = field_table(settings)
    draw = partial(draw_field, settings=settings, glyphs=glyphs)
    return Screen(
        fields=fields,
        channels=["digit"],
        classes=CLASSES,
        read=lambda row: draw(row)[0],
        truth=lambda row: draw(row)[1],
        objects=object_table(fields, settings),
    )


def load_glyphs(source: str, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Glyphs by split and class, ``(n, 28, 28)`` uint8; no glyph is in two splits.

    scikit-learn's 1,797 digits of 8 × 8 px are enlarged and split 60 : 15 : 25; of MNIST the last
    10,000 training images are for validation, and its test images for testing.
    """
    if source == "mnist":
        images, digits = load_mnist()
        part = np.repeat(SPLITS, [50_000, 10_000, 10_000])
    else:
        small = load_digits()
        images = np.stack([resize(image / 16, (GLYPH, GLYPH), order=3) for image in small.images])
        images = (255 * images.clip(0, 1)).round().astype(np.uint8)
        digits = small.target
        rank = np.random.default_rng(seed).permutation(len(digits)) / len(digits)
        part = np.select([rank < 0.6, rank < 0.75], SPLITS[:2], SPLITS[2])
    return {split: {str(d): images[(part == split) & (digits == d)] for d in range(10)} for split in SPLITS}


def field_table(settings: DigitsSettings) -> pd.DataFrame:
    """One row a field: split, label, fraction of digits that carry the label, and its seed."""
    rows = [
        {
            PLATE: split,
            "Metadata_Well": f"{split}-{label}",
            "Metadata_Site": site + 1,
            LABEL: label,
            SPLIT: split,
            "fraction": settings.fractions[site % len(settings.fractions)],
        }
        for split in SPLITS
        for label in CLASSES
        for site in range(settings.fields_per_class[split])
    ]
    return pd.DataFrame(rows).assign(seed=lambda table: range(len(table)))


def draw_field(
    row: pd.Series, settings: DigitsSettings, glyphs: dict[str, dict[str, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Field (1, H, W) uint8 and its truth (H, W) uint16; see ``Screen``."""
    classes, corners, rng = placed_digits(row, settings)
    field = np.zeros((settings.size, settings.size), np.uint8)
    truth = np.zeros(field.shape, np.uint16)
    for number, (digit, (y, x)) in enumerate(zip(classes, corners, strict=True), start=1):
        choices = glyphs[row[SPLIT]][digit]
        glyph = choices[rng.integers(len(choices))]
        here = np.s_[y : y + GLYPH, x : x + GLYPH]
        truth[here][(glyph > INK) & (glyph >= field[here])] = number
        np.maximum(field[here], glyph, out=field[here])
    return field[None], truth


def placed_digits(row: pd.Series, settings: DigitsSettings) -> tuple[list[str], np.ndarray, np.random.Generator]:
    """Class and corner of each digit of a field, and the generator that then picks its glyphs."""
    rng = np.random.default_rng([settings.seed, row["seed"]])
    classes = digit_classes(row, settings, rng)
    return classes, scatter(len(classes), settings.size, rng), rng


def object_table(fields: pd.DataFrame, settings: DigitsSettings) -> pd.DataFrame:
    """One row a digit: its field, ``object`` (its number in the truth), ``class``, and corner ``y``, ``x`` in px."""
    rows = []
    for _, row in fields.iterrows():
        classes, corners, _ = placed_digits(row, settings)
        key = [row[column] for column in FIELD_KEY]
        rows += [(*key, k, *digit) for k, digit in enumerate(zip(classes, *corners.T, strict=True), start=1)]
    return pd.DataFrame(rows, columns=[*FIELD_KEY, "object", "class", "y", "x"])


def digit_classes(row: pd.Series, settings: DigitsSettings, rng: np.random.Generator) -> list[str]:
    """Class of each digit of a field: x of the label, at most one each of some others, and zeros."""
    total = round(DENSITY * settings.size**2)
    positives = max(1, round(row["fraction"] * total))
    others = [digit for digit in CLASSES if digit != row[LABEL]]
    # one digit of the label and one of another class could not be told apart
    n_outliers = round(settings.outliers * total) if positives > 1 else 0
    outliers = list(rng.choice(others, min(n_outliers, len(others), total - positives), replace=False))
    zeros = ["0"] * (total - positives - len(outliers))
    return [row[LABEL]] * positives + outliers + zeros


def scatter(n: int, size: int, rng: np.random.Generator, apart: int = 22) -> np.ndarray:
    """Corners (n, 2) of glyphs at random, ``apart`` px from each other where there is room.

    22 of 28 px lets neighbouring glyphs overlap lightly.
    """
    corners = np.empty((n, 2), int)
    for number in range(n):
        candidates = rng.integers(0, size - GLYPH + 1, (100, 2))
        gaps = np.linalg.norm(candidates[:, None] - corners[None, :number], axis=2)
        roomy = (gaps >= apart).all(axis=1)
        corners[number] = candidates[roomy.argmax()]  # the first that has room, else the first
    return corners
