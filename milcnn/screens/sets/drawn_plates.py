"""Plates of drawn cells: their sets and batches, and the camera that records them."""

import numpy as np
import pandas as pd
from numpy.random import Generator
from pydantic import Field
from scipy.ndimage import gaussian_filter

from milcnn.columns import BATCH, FRESH, PLATE, REPLICATE, SPLIT
from milcnn.screens.sets.common import SET_NAMES, Row, SetName
from milcnn.settings import Settings

WELL_NAMES = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]  # of a 96-well plate
# the camera: electrons per pixel, then grey values
READ_NOISE = 4.0  # electrons
GAIN = 2.0  # grey values per electron
OFFSET = 100.0  # grey values


class DrawnPlatesSettings(Settings):
    """How many plates there are, and how different they look."""

    size: int = Field(256, ge=96, le=2048)  # px, side of a field
    plates: dict[SetName, int] = Field({"train": 4, "validation": 1, "test": 1}, min_length=3)
    plates_per_batch: int = Field(2, ge=1)
    sites: int = Field(2, ge=1)  # fields per well
    cells: float = Field(40, ge=5, le=150)  # mean number in a field of 256 × 256 px
    difficulty: float = Field(0.5, ge=0, le=1)  # 0: clear phenotypes, equal plates; 1: faint ones, unequal plates
    seed: int = Field(0, ge=0)

    @property
    def variation(self) -> float:
        """Factor for all random differences between batches, plates, wells and fields."""
        return 2 * self.difficulty


def plan_plates(settings: DrawnPlatesSettings) -> pd.DataFrame:
    """One row per plate: its name, set, batch and number, from 1, as ``Metadata_Replicate``."""
    splits = [split for split in SET_NAMES for _ in range(settings.plates.get(split, 0))]
    seen_batches = -(-sum(split != FRESH for split in splits) // settings.plates_per_batch)
    rows = []
    for number, split in enumerate(splits):
        # a fresh test set shares no batch with the plates that were looked at
        step = number if split != FRESH else number - splits.index(FRESH) + seen_batches * settings.plates_per_batch
        rows.append((f"P{number + 1:02d}", split, f"B{step // settings.plates_per_batch + 1}", number + 1))
    return pd.DataFrame(rows, columns=[PLATE, SPLIT, BATCH, REPLICATE])


def number_of_cells(settings: DrawnPlatesSettings, rng: Generator) -> int:
    expected = settings.cells * (settings.size / 256) ** 2 * rng.lognormal(0, 0.25 * settings.variation)
    return max(4, rng.poisson(expected))


def record(
    light: np.ndarray, electrons: np.ndarray, background: np.ndarray, row: Row, settings: DrawnPlatesSettings,
    rng: Generator,
) -> np.ndarray:  # fmt: skip
    """Field (C, H, W) uint16 as the camera records ``light``: debris, staining, focus, illumination, noise.

    ``electrons`` (C,) are those of a light of 1, ``background`` (C,) those of each pixel without light.
    """
    channels = len(light)
    for _ in range(rng.poisson(4)):  # debris: bright specks in any channel, of no cell and not in the truth
        y, x = rng.integers(0, settings.size - 4, 2)
        light[rng.integers(channels), y : y + rng.integers(2, 5), x : x + rng.integers(2, 5)] += rng.uniform(
            0.002, 0.02
        )
    gain, dark, illumination = optics(row[PLATE], row[BATCH], background, settings)
    well = rng.lognormal(0, 0.1 * settings.variation, channels)
    focus = 0.7 * rng.lognormal(0, 0.25 * settings.variation)  # px
    light = gaussian_filter(light, (0, focus, focus), truncate=3)
    scale = (electrons * gain * well).astype(np.float32)[:, None, None]
    expected = (light * scale + dark[:, None, None]) * illumination
    counts = rng.poisson(expected) + READ_NOISE * rng.standard_normal(expected.shape, np.float32)
    return (OFFSET + GAIN * counts).clip(0, 65535).round().astype(np.uint16)


def optics(
    plate: str, batch: str, background: np.ndarray, settings: DrawnPlatesSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain (C,), background in electrons (C,), and illumination (C, H, W) of mean 1, for a plate."""
    channels = len(background)
    batch_rng = np.random.default_rng([settings.seed, 4, int(batch[1:])])
    plate_rng = np.random.default_rng([settings.seed, 5, int(plate[1:])])
    gain = np.exp(settings.variation * (batch_rng.normal(0, 0.15, channels) + plate_rng.normal(0, 0.1, channels)))
    dark = background * np.exp(settings.variation * plate_rng.normal(0, 0.2, channels))
    middle = plate_rng.normal(0, 0.4, (2, channels, 1, 1))
    along = np.linspace(-1, 1, settings.size)
    fall = ((along[:, None] - middle[0]) ** 2 + (along[None, :] - middle[1]) ** 2) / 2
    illumination = np.exp(-0.15 * settings.variation * fall.astype(np.float32))
    return gain, dark, illumination / illumination.mean(axis=(1, 2), keepdims=True)
