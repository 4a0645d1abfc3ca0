"""The controls of the explorer, without what they do."""

from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import pandas as pd
from itables.widget import ITable

from milcnn.columns import LABEL_MARK, PLATE
from milcnn.explore.drawn import Overlay
from milcnn.explore.plate import plate_columns
from milcnn.explore.view import Channel, channel_colours
from milcnn.screens.marks import FIELD_MARKS

PREDICTED, NO_MAP = "of the predicted class", "none"
MOST_ZOOM = 16.0


@dataclass(frozen=True)
class PlateControls:
    """Where to look, and how a field is marked."""

    plate: widgets.Dropdown
    column: widgets.Dropdown
    site: widgets.ToggleButtons
    mark: widgets.Dropdown
    right: widgets.Dropdown


def plate_controls(fields: pd.DataFrame, classes: list[str]) -> PlateControls:
    """The plate is coloured by loss at the start, or by the ``unseen`` score, or by the first column of numbers."""
    columns = plate_columns(fields)
    start = next((name for name in ("loss", "unseen") if name in columns), columns[0] if columns else None)
    wide = widgets.Layout(width="95%")
    return PlateControls(
        plate=widgets.Dropdown(options=list(fields[PLATE].unique()), description="Plate", layout=wide),
        column=widgets.Dropdown(options=columns, value=start, description="Colour by", layout=wide),
        site=widgets.ToggleButtons(description="Site", style={"button_width": "40px"}),
        mark=widgets.Dropdown(
            options=[("nothing", ""), *((mark, mark) for mark in FIELD_MARKS)], description="Mark as", layout=wide
        ),
        right=widgets.Dropdown(
            options=[("unknown", ""), *((name, name) for name in classes)], description="Right label", layout=wide
        ),
    )


@dataclass(frozen=True)
class ChannelControls:
    """On or off, colour and contrast of a channel."""

    on: widgets.Checkbox
    colour: widgets.ColorPicker
    contrast: widgets.FloatRangeSlider

    @property
    def channel(self) -> Channel:
        low, high = self.contrast.value
        return Channel(self.colour.value, low, high, self.on.value)

    @property
    def all(self) -> list[widgets.Widget]:
        return [self.on, self.colour, self.contrast]


def channel_controls(names: list[str], low: np.ndarray, high: np.ndarray) -> list[ChannelControls]:
    """Controls for each channel. They start at ``low`` and ``high`` (C,) and reach half and twice as far beyond."""
    made = []
    for name, colour, dark, bright in zip(names, channel_colours(len(names)), low.tolist(), high.tolist(), strict=True):
        span = bright - dark
        digits = ".0f" if span > 20 else ".3g"
        contrast = widgets.FloatRangeSlider(
            value=(dark, bright), min=dark - span / 2, max=bright + 2 * span, step=span / 100, readout_format=digits,
            tooltip=f"contrast of {name}: black and full colour", layout=widgets.Layout(width="240px"),
        )  # fmt: skip
        on = widgets.Checkbox(True, description=name, indent=False, layout=widgets.Layout(width="90px"))
        picker = widgets.ColorPicker(
            value=colour, concise=True, tooltip=f"colour of {name}", layout=widgets.Layout(width="30px")
        )
        made.append(ChannelControls(on, picker, contrast))
    return made


@dataclass(frozen=True)
class MapControls:
    """Which class map lies over the field, and how; and the zoom."""

    of: widgets.Dropdown
    threshold: widgets.FloatSlider
    shaded: widgets.Checkbox
    outlined: widgets.Checkbox
    cells: widgets.Checkbox
    zoom: widgets.FloatLogSlider
    classes: list[str]

    def overlay(self, field: pd.Series) -> Overlay:
        """What lies over ``field``: of several predicted classes the first."""
        name = self.of.value
        if name == PREDICTED:
            name = str(field.get("predicted", "")).split(LABEL_MARK)[0]
        index = self.classes.index(name) if name in self.classes else None
        return Overlay(index, self.threshold.value, self.shaded.value, self.outlined.value, self.cells.value)


def map_controls(classes: list[str]) -> MapControls:
    """``classes`` is empty without a network: then there is no map to choose."""

    def tick(text: str, value: bool) -> widgets.Checkbox:
        return widgets.Checkbox(value, description=text, indent=False, layout=widgets.Layout(width="80px"))

    zoom = widgets.FloatLogSlider(
        value=1, min=0, max=np.log10(MOST_ZOOM), step=0.001, description="Zoom", readout_format=".1f"
    )
    return MapControls(
        of=widgets.Dropdown(options=[PREDICTED, NO_MAP, *classes] if classes else [NO_MAP], description="Class map"),
        threshold=widgets.FloatSlider(value=0.5, min=0, max=1, step=0.01, description="Threshold"),
        shaded=tick("shaded", True),
        outlined=tick("outlined", True),
        cells=tick("cells", False),
        zoom=zoom,
        classes=classes,
    )


def table_widget(chosen: Callable[[int], None]) -> ITable:
    """An empty table that can be sorted and searched; ``chosen`` gets the number of the row that is clicked.

    Its column has a name: until the rows are there a reader of the screen would find a header without a text.
    """
    table = ITable(
        pd.DataFrame({"nothing yet": []}), select={"style": "single"}, showIndex=False, maxBytes=0, paging=False,
        scrollY="230px", scrollCollapse=True, classes="display compact nowrap", style="width:100%;margin:0",
    )  # fmt: skip
    table.observe(lambda change: chosen(change["new"][0]) if change["new"] else None, "selected_rows")
    return table
