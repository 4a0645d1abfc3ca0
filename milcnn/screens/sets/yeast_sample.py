"""Real yeast cells of a few GFP-tagged proteins, as a screen that ``composite`` cuts its cells from (Lu et al. 2019).

A file ``<protein>.npz`` has ``gfp`` and ``rfp`` (N, h, h) uint16 and ``field`` (N,), the source field of each cell. A
field here is all cells of one protein and source field, side by side. A plate, named as ``trained-1``, is one source
field of each protein of a group. So a composite whose test plates are those of a group leaves out its proteins.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from milcnn.columns import COMPOUND, FIELD_KEY, LABEL, SITE
from milcnn.screens.problems import ScreenError
from milcnn.screens.screen import Screen
from milcnn.screens.sets.common import Row, list_objects
from milcnn.screens.sets.cut import expanded
from milcnn.screens.sets.yeast import CHANNELS
from milcnn.settings import Settings

DARK_COUNTS = 12  # counts, of every channel of every field


class YeastSampleSettings(Settings):
    """Where the cells are, and which proteins share a plate."""

    cells: str = "data/raw/yeast_cells"  # folder of the files
    proteins: dict[str, dict[str, str]] = Field(min_length=1)  # group → protein → localisation


def yeast_sample_screen(settings: YeastSampleSettings) -> Screen:
    """One row a protein and source field; ``objects`` has the middle of each cell. Raises ScreenError for no file."""
    folder = expanded(settings.cells)
    names = [protein for group in settings.proteins.values() for protein in group]
    paths = {name: folder / f"{name}.npz" for name in names}
    if missing := [
        f"{path}: no such file; copy it there, or set 'cells'." for path in paths.values() if not path.exists()
    ]:
        raise ScreenError(missing)
    sources = made_alike({name: read_counts(path) for name, path in paths.items()})
    rows = [
        (f"{group}-{number}", name, number, label, name)
        for group, members in settings.proteins.items()
        for name, label in members.items()
        for number in sources[name]
    ]
    fields = pd.DataFrame(rows, columns=[*FIELD_KEY, LABEL, COMPOUND])

    def read(row: Row) -> np.ndarray:
        return sources[row[COMPOUND]][row[SITE]]

    def place(row: Row) -> list[np.ndarray]:
        _, side, width = read(row).shape
        x = np.arange(side / 2, width, side)
        return [np.full(len(x), row[LABEL]), np.stack([np.full(len(x), side / 2), x], axis=1)]

    return Screen(fields, CHANNELS, sorted(set(fields[LABEL])), read, objects=list_objects(fields, place))


def read_counts(path: Path) -> dict[int, np.ndarray]:
    """The cells (N, 2, h, h) of each source field in counts of the camera, int: GFP, RFP."""
    with np.load(path) as file:
        channels, field = [file["gfp"], file["rfp"]], file["field"]
    numbers = {n: field == n for n in np.unique(field).tolist()}
    unstretched = {n: [own[here] / grey_values_a_count(own[here]) for own in channels] for n, here in numbers.items()}
    return {n: np.stack(pair, axis=1).round().astype(int) for n, pair in unstretched.items()}


def grey_values_a_count(values: np.ndarray) -> float:
    """The factor by which an image was stretched to 16 bit: neighbouring grey values differ by it, rounded up or down.

    Only values below the median count: among the few bright ones, counts are missing.
    """
    gaps = np.diff(np.unique(values[values <= np.median(values)]).astype(int))
    return float(gaps[gaps <= gaps.min() + 1].mean())


def made_alike(sources: dict[str, dict[int, np.ndarray]]) -> dict[str, dict[int, np.ndarray]]:
    """The cells of each protein and source field side by side, (2, h, N h) uint16, equally bright on one background.

    Each channel looks as if exposed for less time over a brighter background, so neither brightness nor noise tells
    the protein: of x counts, Binomial(x, r) are kept and Poisson(B − r · b) added. r is the light of the dimmest field
    over that of this one (medians over cells), b the 5th percentile, B ``DARK_COUNTS``.
    """
    dark = {(name, n): np.percentile(cells, 5, (0, 2, 3)) for name, own in sources.items() for n, cells in own.items()}
    light = {(name, n): np.median(light_of(sources[name][n]), axis=0) - own for (name, n), own in dark.items()}
    dimmest = np.min(list(light.values()), axis=0)
    rng = np.random.default_rng(0)
    alike: dict[str, dict[int, np.ndarray]] = {name: {} for name in sources}
    for (name, n), own in dark.items():
        kept = dimmest / light[name, n]
        added = (DARK_COUNTS - kept * own).clip(0)
        cells = sources[name][n].transpose(0, 2, 3, 1)  # (N, h, h, 2)
        cells = rng.binomial(cells, kept) + rng.poisson(added, cells.shape)
        alike[name][n] = np.concatenate(cells, axis=1).transpose(2, 0, 1).astype(np.uint16)
    return alike


def light_of(cells: np.ndarray) -> np.ndarray:
    """Mean (N, 2) over the inner quarter of images (N, 2, h, h): of the cell, without its neighbours."""
    edge = cells.shape[-1] // 4
    return cells[:, :, edge:-edge, edge:-edge].mean(axis=(2, 3))
