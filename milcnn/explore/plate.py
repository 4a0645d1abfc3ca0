"""The plate: a square for each well, coloured by a column of the table of fields."""

import re
from pathlib import Path

import anywidget
import matplotlib as mpl
import numpy as np
import pandas as pd
import traitlets
from matplotlib.colors import to_hex

from milcnn.columns import COMPOUND, CONCENTRATION, LABEL, PLATE, WELL
from milcnn.screens.names import in_letters, well_name
from milcnn.screens.platemap import SIZES

WELL_PALETTE = "viridis"  # even steps look even, also to colour-blind readers
UNKNOWN_VALUE = "#BBBBBB"  # a well with fields, but without the value
LEAST_WELLS = 96  # a part of a plate of 96 must not look like a plate of 24
HIDDEN = ("index", "seed", "field")  # numbers that mean nothing on a plate


class Plate(anywidget.AnyWidget):
    """``plate`` comes from ``plate_view``; ``well`` is the name of the chosen well."""

    _esm = Path(__file__).with_name("plate.js")
    _css = Path(__file__).with_name("explore.css")
    plate = traitlets.Dict().tag(sync=True)
    well = traitlets.Unicode().tag(sync=True)


def row_and_column(well: str) -> tuple[int, int] | None:
    """Row and column of a well, from 0: (1, 2) for B03, (26, 0) for AA01; None for another name."""
    match = re.fullmatch(r"([A-Z]?)([A-Z])(\d\d)", well_name(well))
    if not match or match[3] == "00":
        return None
    first = ord(match[1]) - ord("A") + 1 if match[1] else 0
    return 26 * first + ord(match[2]) - ord("A"), int(match[3]) - 1


def places_of(wells: list[str]) -> tuple[list[str], list[str], dict[tuple[int, int], str]]:
    """Names of rows and of columns, and the well at each place.

    The plate is the smallest of 96, 384 and 1536 wells that holds all. If a well has no name like B03, all stand in a
    square in their order, without names of rows and columns.
    """
    places = {well: row_and_column(well) for well in wells}
    known = {place: well for well, place in places.items() if place is not None}
    if len(known) == len(wells):
        rows, columns = (max(place[axis] for place in known) + 1 for axis in (0, 1))
        for size, width in SIZES.items():
            if size >= LEAST_WELLS and rows <= size // width and columns <= width:
                names = [in_letters(row, 0)[:-2] for row in range(size // width)]
                return names, [str(column + 1) for column in range(width)], known
    side = int(np.ceil(np.sqrt(len(wells))))
    square = {divmod(number, side): well for number, well in enumerate(wells)}
    return [""] * -(-len(wells) // side), [""] * side, square


def plate_columns(fields: pd.DataFrame) -> list[str]:
    """The columns of numbers that a plate can show."""
    numbers = fields.select_dtypes(["number", "bool"]).dropna(axis=1, how="all").columns
    return [name for name in numbers if not name.startswith("Metadata_") and name not in HIDDEN]


def well_values(fields: pd.DataFrame, column: str) -> pd.Series:
    """The mean of ``column`` over the fields of each well, by plate and well."""
    return fields[column].astype(float).groupby([fields[PLATE], fields[WELL]], sort=False).mean()


def range_shown(values: pd.Series) -> tuple[float, float]:
    """The values at the two ends of the colours, the same for all plates: the least and the largest well."""
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1


def plate_view(fields: pd.DataFrame, plate: str, column: str, values: pd.Series) -> dict:
    """``Plate.plate`` for ``plate``: names of rows and columns, and [row, column, name, colour, label] a well.

    ``values`` come from ``well_values``. A place without a well has no colour, and its label says so.
    """
    own = fields[fields[PLATE] == plate].groupby(WELL, sort=False)
    row_names, column_names, places = places_of(list(own.groups))
    facts = own.first().to_dict("index")
    shades, (low, high) = (
        [to_hex(colour) for colour in mpl.colormaps[WELL_PALETTE](np.arange(256))],
        range_shown(values),
    )
    held = values[plate].to_dict()
    wells = []
    for row, row_name in enumerate(row_names):
        for place, column_name in enumerate(column_names):
            well = places.get((row, place))
            if well is None:
                wells += [[row, place, "", "", f"{row_name}{int(column_name):02d}, no field"]] if row_name else []
                continue
            value, last = held[well], len(shades) - 1
            colour = UNKNOWN_VALUE if np.isnan(value) else shades[round((value - low) / (high - low) * last)]
            wells.append([row, place, well, colour, well_label(well, facts[well], column, value)])
    return {"row_names": row_names, "column_names": column_names, "wells": wells}


def well_label(well: str, facts: dict, column: str, value: float) -> str:
    """What a well is, in one line: its name, label, compound and dose, and its value."""
    parts = [well, *(str(facts[name]) for name in (LABEL, COMPOUND) if name in facts and pd.notna(facts[name]))]
    if CONCENTRATION in facts and facts[CONCENTRATION] > 0:
        parts.append(f"{facts[CONCENTRATION]:g} µM")
    return ", ".join([*dict.fromkeys(parts), f"{column} {'unknown' if np.isnan(value) else format(value, '.3g')}"])


def legend(values: pd.Series) -> str:
    """The colours of a plate and what their ends mean, as HTML."""
    low, high = range_shown(values)
    colours = ", ".join(to_hex(mpl.colormaps[WELL_PALETTE](share)) for share in np.linspace(0, 1, 9))
    bar = f'<span class="milcnn-legend" style="background: linear-gradient(to right, {colours})"></span>'
    return f"{low:.3g} {bar} {high:.3g}"
