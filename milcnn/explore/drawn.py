"""What the explorer draws and lists of a field, as it is looked at."""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from PIL import Image

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.explore import shown as what
from milcnn.explore import view
from milcnn.explore.shown import Shown
from milcnn.explore.strip import SMALL_SIDE, Tile
from milcnn.figures.gallery import class_colour
from milcnn.screens.marks import mark_of

FIELD_SIDE = 560  # px on the screen, the longer side of a field
CROP_SIDE = 64  # px of the field around a cell
CHOSEN_CELL = "#FFFF00"


@dataclass(frozen=True)
class Overlay:
    """What lies over a field: the map of a class, or of none (None), shaded or outlined above a threshold; cells."""

    class_index: int | None = None
    threshold: float = 0.5
    shaded: bool = True
    outlined: bool = True
    cells: bool = False


@dataclass(frozen=True)
class Looked:
    """How a field is looked at. ``cell`` is the number of a chosen cell, 0 for none."""

    channels: list[view.Channel]
    frame: view.Frame
    overlay: Overlay
    cell: int = 0


@lru_cache(maxsize=2)
def scaled_planes(shown: Shown, row: int, frame: view.Frame) -> np.ndarray:
    """The channels (C, h, w) of a field at the size of the screen: the same while contrast and colours change."""
    field = what.pixels_at(shown, row)
    height, width = field.shape[1:]
    box, size = view.box_of(frame, height, width), view.screen_size(height, width, FIELD_SIDE)
    return np.stack([view.on_screen(plane, box, size) for plane in field])


def field_picture(shown: Shown, row: int, look: Looked) -> Image.Image:
    """The field with what lies over it and a scale bar."""
    rgb = view.blended(scaled_planes(shown, row, look.frame), look.channels)
    height, width = what.pixels_at(shown, row).shape[1:]
    box, size, over = view.box_of(look.frame, height, width), view.screen_size(height, width, FIELD_SIDE), look.overlay
    if over.class_index is not None and (over.shaded or over.outlined):
        values = view.on_screen(what.maps_at(shown, row)[over.class_index], box, size)
        colour = class_colour(over.class_index)
        rgb = view.tinted(rgb, values, over.threshold, colour) if over.shaded else rgb
        rgb = view.lined(rgb, values >= over.threshold, colour, thick=True) if over.outlined else rgb
    if over.cells or look.cell:
        cells = view.on_screen(what.cells_at(shown, row), box, size, whole=True)
        rgb = view.lined(rgb, cells, view.CELL_COLOUR) if over.cells else rgb
        rgb = view.lined(rgb, cells == look.cell, CHOSEN_CELL, thick=True) if look.cell else rgb
    return view.with_bar(view.as_image(rgb), box[2] - box[0], shown.pixel_size)


def described(shown: Shown, row: int, look: Looked) -> str:
    """What the picture shows, in words."""
    key = "/".join(map(str, shown.fields.iloc[row][FIELD_KEY]))
    on = [name for name, channel in zip(shown.channels, look.channels, strict=True) if channel.on]
    over = look.overlay
    parts = [f"field {key}", f"channels {', '.join(on) or 'none'}", f"zoom {look.frame.zoom:.1f}"]
    if over.class_index is not None:
        parts.append(f"class map of {shown.classes[over.class_index]} above {over.threshold:.2f}")
    return "; ".join([*parts, *(["cells outlined"] if over.cells else [])])


def cells_listed(shown: Shown, row: int, overlay: Overlay) -> pd.DataFrame:
    """The cells of a field for the table: number, likeliest class, area, place, the mean of each class map.

    Those with the most of the chosen class come first.
    """
    table = what.cell_table(shown, row, overlay.class_index, overlay.threshold).drop(columns=FIELD_KEY)
    if overlay.class_index is not None:
        table = table.sort_values(f"score_{shown.classes[overlay.class_index]}", ascending=False, ignore_index=True)
    first = [name for name in ("object", "predicted", "labelled", "area_um2", "area_px") if name in table]
    if len(table) and table.get("area_um2", pd.Series([np.nan])).notna().any():
        first.remove("area_px")
    table = table[[*first, "y", "x", *table.filter(regex="^score_").columns]].dropna(axis=1, how="all")
    table = table.round({name: 3 if name.startswith("score_") else 1 for name in table.select_dtypes("float")})
    return table.rename(columns=lambda name: re.sub("^score_", "p ", name))


def fields_listed(shown: Shown, rows: list[int], marks: pd.DataFrame | None) -> pd.DataFrame:
    """Fields for the table of the worst: key, label, prediction, loss, flags, and how they are marked."""
    fields = shown.fields.iloc[rows]
    wanted = [*FIELD_KEY, LABEL, "predicted", "loss", "unseen"]
    table = fields[[name for name in wanted if name in fields]].round(3)
    flags = fields.filter(regex="^Flag_").rename(columns=lambda name: name.removeprefix("Flag_"))
    table = table.assign(flags=[", ".join(flags.columns[row]) for row in flags.fillna(False).to_numpy(bool)])
    if marks is not None:
        table = table.assign(mark=[mark_of(marks, key)[0] for key in fields[FIELD_KEY].to_numpy()])
    return table.rename(columns=lambda name: name.removeprefix("Metadata_")).reset_index(drop=True)


def near_tiles(shown: Shown, row: int, channels: list[view.Channel], n: int) -> tuple[str, list[Tile]]:
    """A title and the fields whose profiles are nearest to that of a field."""
    tiles = []
    for other in what.nearest_rows(shown, row, n):
        field, facts = what.pixels_at.__wrapped__(shown, other), shown.fields.iloc[other]
        height, width = field.shape[1:]
        size = view.screen_size(height, width, SMALL_SIDE)
        planes = np.stack([view.on_screen(plane, (0, 0, width, height), size) for plane in field])
        text = "/".join(map(str, facts[FIELD_KEY])) + (f" {facts[LABEL]}" if LABEL in facts else "")
        tiles.append(Tile(view.blended(planes, channels), text, other))
    return ("Fields with the nearest profiles" if tiles else "This field has no profile."), tiles


def top_tiles(shown: Shown, class_index: int | None, channels: list[view.Channel], n: int) -> tuple[str, list[Tile]]:
    """A title and the places where a class is most likely, from different fields."""
    if class_index is None:
        return "Choose a class map.", []
    tiles = []
    for _, cell in what.top_cells(shown, class_index, n).iterrows():
        row = int(cell["row"])
        field = what.pixels_at.__wrapped__(shown, row)
        box = view.square_around(cell["y"], cell["x"], CROP_SIDE, *field.shape[1:])
        planes = np.stack([view.on_screen(plane, box, (SMALL_SIDE, SMALL_SIDE)) for plane in field])
        key = "/".join(map(str, shown.fields.iloc[row][FIELD_KEY]))
        tiles.append(Tile(view.blended(planes, channels), f"{key} p {cell['p']:.2f}", row, cell["y"], cell["x"]))
    return f"Where {shown.classes[class_index]} is most likely", tiles
