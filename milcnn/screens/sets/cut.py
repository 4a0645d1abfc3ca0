"""Cells cut out of the fields of a screen, at the places in a table."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from milcnn.columns import FIELD_KEY, LABEL, PLATE, SPLIT
from milcnn.files import read_table
from milcnn.paths import in_root
from milcnn.screens.screen import Screen

CORNER = ["y0", "x0"]


def read_cells(table: str, table_of_fields: str | None = None) -> pd.DataFrame:
    """The table of cells: the key of their field, ``y0``, ``x0`` and, if the table has them, ``class`` and the set.

    If the table has only the column ``field``, the key comes from the columns ``plate``, ``well`` and ``site`` of
    ``table_of_fields``. $NAME in a path is an environment variable. Raises ValueError for a missing column.
    """
    path = expanded(table)
    cells = read_table(path, "name the table of cells in 'cells'")
    if table_of_fields is not None and not set(FIELD_KEY) <= set(cells):
        fields = read_table(expanded(table_of_fields), "name the table of their fields in 'cell_fields'")
        fields = fields.rename(columns=dict(zip(["plate", "well", "site"], FIELD_KEY, strict=True)))
        cells = cells.merge(fields[["field", *FIELD_KEY]], on="field", how="left", validate="many_to_one")
    if missing := [name for name in [*FIELD_KEY, *CORNER] if name not in cells]:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; add it, or set 'cell_fields'.")
    return cells


def around(screen: Screen, crop: int) -> pd.DataFrame:
    """The table of cells of ``read_cells``, with the middle of a crop at that of each true object of ``screen``."""
    if screen.objects is None or not {"y", "x"} <= set(screen.objects):
        raise ValueError("composite: the places of the screen's cells are not known; name a table of cells in 'cells'.")
    middles = screen.objects[["y", "x"]].to_numpy()
    return screen.objects.assign(**dict(zip(CORNER, np.rint(middles - crop / 2).astype(int).T, strict=True)))


def expanded(path: str) -> Path:
    full = os.path.expandvars(path)
    if "$" in full:
        raise ValueError(f"composite: '{path}' names an environment variable that is not set; set it.")
    return in_root(full)


def cut_cells(
    screen: Screen, cells: pd.DataFrame, classes: list[str], crop: int, downscale: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Cut the ``cells`` of ``classes`` out of their fields, from the plates that have all of these classes.

    Returns a table with the key of the source field, ``class`` and, if ``cells`` has it, ``Metadata_Split``, and the
    crops (n, C, h, h) float32. A crop is ``crop`` px wide from its corner ``y0``, ``x0``; then each px is the mean of
    ``downscale`` × ``downscale``. Without a column ``class``, a cell has the label of its field. Cells of unknown
    fields and crops that cross the border of their field are left out.
    """
    own = [] if "class" in cells else [LABEL]
    cells = cells.merge(screen.fields[[*FIELD_KEY, *own]], on=FIELD_KEY).rename(columns={LABEL: "class"})
    cells = cells[cells["class"].isin(classes)]
    complete = cells.groupby(PLATE)["class"].nunique() == len(classes)
    plates = sorted(complete[complete].index)
    if len(plates) < (1 if SPLIT in cells else 2):
        raise ValueError(
            f"composite: {' and '.join(classes)} are together on {len(plates)} plate(s) ({', '.join(plates)}); "
            f"give cells of two such plates at least, for training and testing, or the set of each cell in {SPLIT}."
        )
    rows = screen.fields.set_index(FIELD_KEY, drop=False)
    by_field = cells[cells[PLATE].isin(plates)].groupby(FIELD_KEY, sort=False)
    kept, pixels = [], []
    for key, members in tqdm(by_field, desc="cut", unit="field", leave=False):
        field, corners = screen.read(rows.loc[key]), members[CORNER].to_numpy()
        inside = np.all((corners >= 0) & (corners + crop <= field.shape[1:]), axis=1)
        kept.append(members[inside])
        pixels.append(crops_at(field, corners[inside], crop, downscale))
    columns = [name for name in (*FIELD_KEY, "class", SPLIT) if name in cells]
    return pd.concat(kept, ignore_index=True)[columns], np.concatenate(pixels)


def crops_at(field: np.ndarray, corners: np.ndarray, side: int, by: int) -> np.ndarray:
    """Crops (n, C, h, h) float32 of a field at ``corners`` (n, 2); each px is the mean of ``by`` × ``by``."""
    edge = side // by
    crops = [field[:, y : y + edge * by, x : x + edge * by] for y, x in corners]
    return np.array(crops, np.float32).reshape(len(crops), len(field), edge, by, edge, by).mean(axis=(3, 5))
