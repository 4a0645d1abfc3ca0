"""A row of small pictures: a click, or the arrow keys and Enter, chooses one."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
import numpy as np

from milcnn.explore.picture import LivePicture
from milcnn.explore.view import as_image, as_jpeg, strip_of

SMALL_SIDE = 116  # px on the screen


@dataclass(frozen=True)
class Tile:
    """A small picture (h, w, 3) in [0, 1], what it is, and the place that it stands for: a field, and px in it."""

    rgb: np.ndarray
    text: str
    row: int
    y: float | None = None
    x: float | None = None


class Strip(widgets.VBox):
    """``show`` draws tiles; ``chosen`` gets the one that the user chooses."""

    def __init__(self, chosen: Callable[[Tile], None]):
        self.tiles: list[Tile] = []
        self.current, self.chosen = 0, chosen
        self.picture, self.text = LivePicture(sends=["ArrowLeft", "ArrowRight", "Enter"]), widgets.HTML()
        self.picture.on_msg(lambda _, message, __: self.act(message))
        super().__init__([self.text, self.picture])

    def show(self, title: str, tiles: list[Tile]) -> None:
        self.tiles, self.current, self.title = tiles, 0, title
        self.picture.layout.display = "block" if tiles else "none"
        self.draw()

    def draw(self) -> None:
        names = [escape(tile.text) for tile in self.tiles]
        if names:
            names[self.current] = f"<b>{names[self.current]}</b>"
            pictures = strip_of([tile.rgb for tile in self.tiles], self.current, SMALL_SIDE)
            self.picture.alt = f"{self.title}: {', '.join(tile.text for tile in self.tiles)}"
            self.picture.data = as_jpeg(as_image(pictures))
        self.text.value = f"{escape(self.title)}: {' · '.join(names)}" if names else escape(self.title)

    def act(self, message: dict) -> None:
        """A click chooses a tile; arrow keys move the frame, Enter chooses what is framed."""
        if message["kind"] == "click":
            self.current = min(int(message["x"] * len(self.tiles)), len(self.tiles) - 1)
        elif message["kind"] == "key":
            step = {"ArrowLeft": -1, "ArrowRight": 1}.get(message["key"], 0)
            self.current = (self.current + step) % len(self.tiles)
        self.draw()
        if message["kind"] == "click" or message.get("key") == "Enter":
            self.chosen(self.tiles[self.current])
