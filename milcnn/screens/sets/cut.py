"""Cells cut out of the fields of a screen, at places that a table names."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from milcnn.columns import FIELD_KEY, LABEL, PLATE
from milcnn.files import read_table
from milcnn.screens.screen import Screen

CORNER = ["y0", "x0"]


@dataclass(frozen=True)
class Cut:
    """Cells cut out: ``table`` has the key of the source field and ``class``; ``pixels`` (n, C, h, h), row by row."""

    table: pd.DataFrame
    pixels: np.ndarray


def read_cells(table: str, table_of_fields: str | None = None) -> pd.DataFrame:
    """The table of cells: the key of their field and ``y0``, ``x0``; ``class`` where the table has it.

    A table that has but ``field`` takes the key from the columns ``plate``, ``well`` and ``site`` of
    ``table_of_fields``. In both paths $NAME is the environment's. Raises ValueError for a missing column or variable.
    """
    path = expanded(table)
    cells = read_table(path, "name the table of cells in 'cells'")
    if table_of_fields is not None and not set(FIELD_KEY) <= set(cells):
        fields = read_table(expanded(table_of_fields), "name the table of their fields in 'cell_fields'")
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


def cut_cells(screen: Screen, cells: pd.DataFrame, classes: list[str], crop: int, downscale: int) -> Cut:
    """Cut the ``cells`` of ``classes`` out of their fields, on the plates that hold all of these classes.

    A crop is ``crop`` px wide from its corner ``y0``, ``x0``; each px of it is then the mean of ``downscale`` ×
    ``downscale``. The class of a cell is in the column ``class`` of ``cells``, else it is its field's label.

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
        crops, inside = crops_of(screen.read(rows.loc[key]), members[CORNER].to_numpy(), crop, downscale)
        kept.append(members[inside])
        pixels.append(crops)
    return Cut(pd.concat(kept, ignore_index=True)[[*FIELD_KEY, "class"]], np.concatenate(pixels))


def crops_of(field: np.ndarray, corners: np.ndarray, side: int, by: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, C, h, h) float32 of a field at ``corners`` (m, 2), h = side // by, and which corners have one (m,)."""
    inside = ((corners >= 0) & (corners + side <= field.shape[1:])).all(axis=1)
    crops = [field[:, y : y + side, x : x + side] for y, x in corners[inside]]
    edge = side // by
    whole = np.array(crops, np.float32).reshape(-1, len(field), side, side)[..., : edge * by, : edge * by]
    return whole.reshape(len(crops), len(field), edge, by, edge, by).mean(axis=(3, 5)), inside
