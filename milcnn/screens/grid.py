"""Grids of wells: 1, 2, 3 … in the first row, A, B, C … in the first column, and in the cells what each well holds.

Titles and notes may stand above and below. The corner of a grid may say what its cells hold (label, compound,
concentration …), as for R's plater; several grids in one file are several columns.
"""

import re
from itertools import pairwise
from pathlib import Path

import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL, METADATA, WELL
from milcnn.screens.names import our_name
from milcnn.screens.problems import ScreenError

ROW, NUMBER = "[A-Z]|A[A-F]", r"\d+(\.0+)?"  # names of a grid's rows and columns


def grid_table(path: Path, rows: list[list[str]], known: set[str]) -> pd.DataFrame | None:
    """A row for each well of the grids in ``rows``, a column for each grid, '' for an empty cell. None for a table.

    The cells of a single grid are labels if its corner is neither a name of milcnn nor ``known``.
    """
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    corners = {at: corner for at, two in enumerate(pairwise(rows)) if (corner := corner_of(*two)) is not None}
    outside = {at: row for at, row in enumerate(rows) if any(row)}
    first, head = (min(found, default=0) for found in (outside, corners))
    if not corners or (first < head and sum(map(bool, rows[first])) > sum(map(bool, rows[head][1:]))):
        return None  # a title is shorter than the numbers below it, the names of a table's columns are not
    grids: dict[str, dict[str, str]] = {}
    for start, corner in corners.items():
        end = next((at for at in range(start + 1, len(rows)) if at in corners or at not in outside), len(rows))
        grid = [outside.pop(at)[corner:] for at in range(start, end)]
        name = our_name(grid[0][0]) if grid[0][0] not in known else grid[0][0]
        if name in FIELD_KEY or name.lower() in ("row", "rows", "wells") or not re.search(r"\w", name):
            name = LABEL
        elif len(corners) == 1 and name not in {*METADATA, *known}:
            print(f"{path}: the grid's corner says '{name}'; its cells are read as {LABEL}.")
            name = LABEL
        if name in grids:
            raise ScreenError([f"{path}: has two grids of {name}; write in the corner of each what its cells hold."])
        grids[name] = grid_cells(grid, f"{path}: the grid in row {start + 1}")
    if outside:
        text = " ".join(filter(None, next(iter(outside.values()))))
        print(f"{path}: lines outside its grids are left out: {len(outside)}, as {text!r}.")
    return pd.DataFrame(grids).fillna("").rename_axis(WELL).reset_index()


def corner_of(row: list[str], below: list[str]) -> int | None:
    """Where the corner of a grid is: left of the numbers of its columns, above the name of a row. None for no grid."""
    counted = [at for at, cell in enumerate(row) if re.fullmatch(NUMBER, cell)]
    corner = counted[0] - 1 if 2 * len(counted) > sum(map(bool, row[1:])) > 1 else -1
    if corner < 0 or any(row[:corner]) or re.fullmatch(ROW, row[corner].upper()):
        return None
    return corner if re.fullmatch(ROW, below[corner].upper()) else None


def grid_cells(grid: list[list[str]], place: str) -> dict[str, str]:
    """Well and text of each filled cell. Raises ScreenError if rows or columns are out of order or have no name."""
    numbers = {at: int(float(cell)) for at, cell in enumerate(grid[0]) if at and re.fullmatch(NUMBER, cell)}
    letters = [row[0].upper() for row in grid[1:]]
    ranked = sorted({name for name in letters if re.fullmatch(ROW, name)}, key=lambda name: (len(name), name))
    if letters != ranked or list(numbers.values()) != sorted(set(numbers.values()) & set(range(1, 49))):
        names = f"columns {' '.join(filter(None, grid[0][1:]))} and rows {' '.join(letters)}"
        raise ScreenError([f"{place} has {names}; number columns 1, 2, 3 … and name rows A, B, C …, in order."])
    if other := [cell for row in grid for at, cell in enumerate(row) if at and cell and at not in numbers]:
        raise ScreenError(
            [f"{place} has cells in a column without a number, as '{other[0]}'; number it or delete them."]
        )
    cells = {f"{row[0].upper()}{number:02d}": row[at] for row in grid[1:] for at, number in numbers.items()}
    if not any(cells.values()):
        raise ScreenError([f"{place} has no filled cell; fill it, or delete it."])
    return {well: cell for well, cell in cells.items() if cell}
