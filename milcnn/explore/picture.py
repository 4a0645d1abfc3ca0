"""A picture that tells Python where it is clicked, dragged and zoomed."""

from pathlib import Path

import anywidget
import traitlets


class LivePicture(anywidget.AnyWidget):
    """A JPEG ``data`` with its text ``alt``. ``pans``: it follows a drag. ``sends``: the keys that it sends.

    Its messages, for ``on_msg``: ``{"kind": "click" | "drag" | "wheel" | "key", "x", "y", "steps", "key"}``. x and y
    are shares of its width and height, of a drag the distance.
    """

    _esm = Path(__file__).with_name("picture.js")
    _css = Path(__file__).with_name("explore.css")
    data = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    pans = traitlets.Bool(False).tag(sync=True)
    sends = traitlets.List(traitlets.Unicode()).tag(sync=True)
