"""The explorer: from a plate to a well, a field, what the network sees in it, and its cells."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, FIELD_KEY, LABEL, PLATE, SITE, WELL
from milcnn.explore import drawn, view
from milcnn.explore import shown as what
from milcnn.explore.controls import MOST_ZOOM, channel_controls, map_controls, plate_controls, table_widget
from milcnn.explore.picture import LivePicture
from milcnn.explore.plate import Plate, legend, plate_view, well_values
from milcnn.explore.shown import Shown
from milcnn.explore.strip import Strip
from milcnn.screens.marks import mark_of, read_marks, with_mark, write_marks

SMALL = 8  # small pictures in a row
LISTED = 500  # worst fields in their table
ZOOM_STEP, PAN_STEP, CELL_ZOOM = 1.25, 0.2, 4  # of the wheel; share of what is shown; least, for a chosen cell
HINT = "Wheel, + or −: zoom. Drag or arrow keys: move. 0: whole field. Click: the cell in the table."
ARROWS = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}


class Explorer(widgets.VBox):
    """The widgets together. ``go`` shows a field; ``row`` is its number in ``shown.fields``."""

    def __init__(self, shown: Shown, marks: Path | None):
        self.shown, self.path, self.busy, self.row, self.cell = shown, marks, False, 0, 0
        self.marks = read_marks(marks) if marks else None
        self.worst_rows = what.worst_first(shown)[:LISTED]
        self.place = plate_controls(shown.fields, shown.classes)
        self.channels = channel_controls(shown.channels, *what.brightness_range(shown))
        self.map = map_controls(shown.classes if shown.network else [])
        self.wells, self.legend, self.title = Plate(), widgets.HTML(), widgets.HTML()
        self.picture = LivePicture(pans=True, sends=["+", "=", "-", "0", *ARROWS])
        self.cells = table_widget(self.centre_cell)
        self.worst = table_widget(lambda number: self.go(self.worst_rows[number]))
        self.near, self.top = (Strip(lambda tile: self.go(tile.row, tile.y, tile.x)) for _ in range(2))
        self.tabs = widgets.Tab([self.cells, self.worst, self.near, self.top])
        self.tabs.titles = ["Cells", "Worst fields first", "Nearest fields", "Top cells of the class"]
        self.connect()
        super().__init__(self.arranged())
        self.add_class("milcnn-explorer")
        self.colour_plate()
        self.go(self.worst_rows[0])

    def connect(self) -> None:
        """What the user changes, and what follows."""

        def on(widget: widgets.Widget, name: str, do: Any) -> None:
            widget.observe(lambda change: None if self.busy else do(change["new"]), name)

        on(self.place.plate, "value", self.open_plate)
        on(self.place.column, "value", lambda _: self.colour_plate())
        on(self.wells, "well", lambda well: self.go(what.rows_of(self.shown, self.place.plate.value, well)[0]))
        on(self.place.site, "value", self.go)
        for widget in (self.place.mark, self.place.right):
            on(widget, "value", lambda _: self.save_mark())
        for widget in [part for channel in self.channels for part in channel.all]:
            on(widget, "value", lambda _: self.draw())
        for widget in (self.map.shaded, self.map.outlined, self.map.cells):
            on(widget, "value", lambda _: self.draw())
        for widget in (self.map.of, self.map.threshold):
            on(widget, "value", lambda _: self.draw_and_list())
        on(self.map.zoom, "value", lambda zoom: self.look(replace(self.frame, zoom=zoom)))
        on(self.tabs, "selected_index", lambda _: self.list_below())
        self.picture.on_msg(lambda _, message, __: self.act(message))

    def arranged(self) -> list[widgets.Widget]:
        marks = [self.place.mark, self.place.right] if self.path else []
        channels = [widgets.HBox(channel.all) for channel in self.channels]
        places = [self.place.plate, self.place.column, self.wells, self.legend, self.place.site]
        left = widgets.VBox([*places, *channels, *marks], layout={"width": "400px", "margin": "0 24px 0 0"})
        looks = [self.map.shaded, self.map.outlined, self.map.cells, self.map.zoom]
        over = [widgets.HBox([self.map.of, self.map.threshold]), widgets.HBox(looks)]
        right = widgets.VBox([self.title, self.picture, widgets.HTML(f"<small>{HINT}</small>"), *over])
        return [widgets.HBox([left, right]), self.tabs]

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """What is changed inside is no wish of the user: nothing follows from it."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    @property
    def field(self) -> pd.Series:
        return self.shown.fields.iloc[self.row]

    def colour_plate(self) -> None:
        fields, column = self.shown.fields, self.place.column.value
        values = well_values(fields, column)
        self.wells.plate = plate_view(fields, self.place.plate.value, column, values)
        self.legend.value = legend(values)

    def open_plate(self, plate: str) -> None:
        self.colour_plate()
        self.go(what.rows_of(self.shown, plate)[0])

    def go(self, row: int, y: float | None = None, x: float | None = None) -> None:
        """Show field number ``row``, whole, or around the place (y, x) px."""
        self.row, self.cell = row, 0
        field = self.field
        with self.quiet():
            other = self.place.plate.value != field[PLATE]
            self.place.plate.value = field[PLATE]
            if other:
                self.colour_plate()
            self.wells.well = field[WELL]
            own = what.rows_of(self.shown, field[PLATE], field[WELL])
            self.place.site.options = [(str(self.shown.fields[SITE].iloc[other]), other) for other in own]
            self.place.site.value = row
            if self.marks is not None:
                self.place.mark.value, self.place.right.value = mark_of(self.marks, field[FIELD_KEY])
        self.title.value = self.headline()
        height, width = what.pixels_at(self.shown, row).shape[1:]
        whole = view.Frame(height / 2, width / 2)
        self.look(whole if y is None or x is None else view.Frame(y, x, CELL_ZOOM), follow=False)
        self.list_below()

    def headline(self) -> str:
        """Where the field is, its label, and what the network says."""
        field = self.field
        parts = [f"<b>{escape('/'.join(str(field[name]) for name in FIELD_KEY))}</b>"]
        texts = {LABEL: "label {}", "predicted": "predicted {}", COMPOUND: "compound {}", CONCENTRATION: "{:g} µM"}
        for name, text in texts.items():
            if name in field and pd.notna(field[name]) and field[name] != "":
                parts.append(escape(text.format(field[name])))
        return " · ".join(parts)

    def look(self, frame: view.Frame, follow: bool = True) -> None:
        """Show another part of the field."""
        height, width = what.pixels_at(self.shown, self.row).shape[1:]
        zoom = min(max(frame.zoom, 1.0), MOST_ZOOM)
        left, top, right, bottom = view.box_of(replace(frame, zoom=zoom), height, width)
        self.frame = view.Frame((top + bottom) / 2, (left + right) / 2, zoom)
        with self.quiet():
            self.map.zoom.value = zoom
        self.draw()

    def draw(self) -> None:
        """The picture, and its text for those who do not see it."""
        look = drawn.Looked([own.channel for own in self.channels], self.frame, self.map.overlay(self.field), self.cell)
        self.picture.alt = drawn.described(self.shown, self.row, look)
        self.picture.data = view.as_jpeg(drawn.field_picture(self.shown, self.row, look))

    def draw_and_list(self) -> None:
        self.draw()
        self.list_below()

    def list_below(self) -> None:
        """What the open tab shows of this field."""
        overlay = self.map.overlay(self.field)
        tab = self.tabs.selected_index
        if tab == 0:
            self.cells.update(drawn.cells_listed(self.shown, self.row, overlay), selected_rows=[])
        elif tab == 1:
            self.worst.update(drawn.fields_listed(self.shown, self.worst_rows, self.marks), selected_rows=[])
        else:
            channels = [own.channel for own in self.channels]
            if tab == 2:
                self.near.show(*drawn.near_tiles(self.shown, self.row, channels, SMALL))
            else:
                self.top.show(*drawn.top_tiles(self.shown, overlay.class_index, channels, SMALL))

    def centre_cell(self, number: int) -> None:
        """Zoom to a row of the table of cells."""
        cell = pd.DataFrame(self.cells.df).iloc[number]
        self.cell = int(cell["object"])
        self.look(view.Frame(float(cell["y"]), float(cell["x"]), max(self.frame.zoom, CELL_ZOOM)))

    def act(self, message: dict) -> None:
        """Zoom, move, or choose a cell: what the user does on the picture."""
        height, width = what.pixels_at(self.shown, self.row).shape[1:]
        down, right, zoom = height / self.frame.zoom, width / self.frame.zoom, self.frame.zoom
        y, x = self.frame.y, self.frame.x
        if message["kind"] == "wheel":
            factor = ZOOM_STEP ** -message["steps"]
            kept = 1 - zoom / min(max(zoom * factor, 1), MOST_ZOOM)  # the place under the pointer stays there
            away = (message["y"] - 0.5) * down, (message["x"] - 0.5) * right
            self.look(view.Frame(y + kept * away[0], x + kept * away[1], zoom * factor))
        elif message["kind"] == "drag":
            self.look(view.Frame(y - message["y"] * down, x - message["x"] * right, zoom))
        elif message["kind"] == "click":
            self.choose_at(y + (message["y"] - 0.5) * down, x + (message["x"] - 0.5) * right)
        elif message["key"] in ARROWS:
            step = ARROWS[message["key"]]
            self.look(view.Frame(y + PAN_STEP * step[0] * down, x + PAN_STEP * step[1] * right, zoom))
        else:
            self.look(view.Frame(y, x, {"0": 1, "-": zoom / ZOOM_STEP}.get(message["key"], zoom * ZOOM_STEP)))

    def choose_at(self, y: float, x: float) -> None:
        """The cell at a place (px) is framed, and chosen in the table."""
        self.cell = int(what.cells_at(self.shown, self.row)[int(y), int(x)])
        if self.tabs.selected_index == 0 and self.cell:
            numbers = pd.DataFrame(self.cells.df)["object"].to_numpy()
            self.cells.set_trait("selected_rows", [int((numbers == self.cell).argmax())])
        self.draw()

    def save_mark(self) -> None:
        """The mark of this field, with the right label if it is a wrong label, into the file."""
        mark = self.place.mark.value
        label = self.place.right.value if mark == "wrong label" else ""
        self.marks = with_mark(self.marks, self.field[FIELD_KEY], mark, label)
        if self.path:
            write_marks(self.marks, self.path)

    def _repr_mimebundle_(self, **options: Any) -> dict:
        """The widgets; where no kernel runs, such as on a page of HTML, the picture of the field."""
        bundle = super()._repr_mimebundle_(**options)
        return bundle | {"image/jpeg": base64.b64encode(self.picture.data).decode()}
