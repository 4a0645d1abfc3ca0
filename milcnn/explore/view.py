"""Pictures of a field at the size of the screen: channels in colour, a class map over them, outlines, a scale bar."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from milcnn.figures.gallery import scale_bar

CHANNEL_COLOURS = (
    "#0000FF",
    "#00FF00",
    "#FF0000",
    "#FF00FF",
    "#FFFF00",
    "#00FFFF",
)  # the first three as in the galleries
JPEG_QUALITY = 92  # of JPEG, colours at full resolution: no block is visible
OPACITY = 0.4  # of a class map where it is 1
CELL_COLOUR = "#FFFFFF"
FRAMED, GAP = "#D62728", 3  # colour of the frame around a small picture, px around each
Box = tuple[float, float, float, float]  # left, top, right, bottom, px of the field


@dataclass(frozen=True)
class Channel:
    """How a channel is shown: ``low`` is black, ``high`` has the full colour."""

    colour: str
    low: float
    high: float
    on: bool = True


@dataclass(frozen=True)
class Frame:
    """The part of a field that is shown: its centre (px), and how many times smaller it is than the field."""

    y: float
    x: float
    zoom: float = 1


def channel_colours(n: int) -> list[str]:
    """Colours for ``n`` channels: a single one is grey."""
    return ["#FFFFFF"] if n == 1 else [CHANNEL_COLOURS[index % len(CHANNEL_COLOURS)] for index in range(n)]


def box_of(frame: Frame, height: int, width: int) -> Box:
    """The part of a field (height, width) that ``frame`` shows, moved inside the field at its border."""
    shown_height, shown_width = height / frame.zoom, width / frame.zoom
    top = float(np.clip(frame.y - shown_height / 2, 0, height - shown_height))
    left = float(np.clip(frame.x - shown_width / 2, 0, width - shown_width))
    return left, top, left + shown_width, top + shown_height


def square_around(y: float, x: float, side: float, height: int, width: int) -> Box:
    """The square of ``side`` px around a place of a field (height, width), moved inside at its border."""
    side = min(side, height, width)
    top, left = (float(np.clip(c - side / 2, 0, size - side)) for c, size in ((y, height), (x, width)))
    return left, top, left + side, top + side


def screen_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Width and height on the screen of a field: its longer side has ``side`` px."""
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def on_screen(plane: np.ndarray, box: Box, size: tuple[int, int], whole: bool = False) -> np.ndarray:
    """The part ``box`` of ``plane`` (H, W) at ``size`` (width, height), float32; averaged where it gets smaller.

    ``whole``: numbers that must not be mixed, such as those of cells, come out unmixed, int32.
    """
    kind, rule = (np.int32, Image.Resampling.NEAREST) if whole else (np.float32, Image.Resampling.BILINEAR)
    return np.asarray(Image.fromarray(plane.astype(kind)).resize(size, rule, box))


def blended(planes: np.ndarray, channels: list[Channel]) -> np.ndarray:
    """Planes (C, h, w) as RGB (h, w, 3) float32 in [0, 1]: the sum of the colours of the channels that are on."""
    rgb = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, channel in zip(planes, channels, strict=True):
        if channel.on:
            share = ((plane - channel.low) / max(channel.high - channel.low, 1e-9)).clip(0, 1)
            for axis, part in enumerate(to_rgb(channel.colour)):
                if part:
                    rgb[..., axis] += part * share
    return rgb.clip(0, 1)


def tinted(rgb: np.ndarray, values: np.ndarray, threshold: float, colour: str) -> np.ndarray:
    """``rgb`` (h, w, 3) with ``colour`` where a class map (h, w) in [0, 1] is at least ``threshold``.

    The share of the colour is ``OPACITY`` times the map.
    """
    share = np.where(values >= threshold, OPACITY * values, 0)[..., None]
    return (1 - share) * rgb + share * np.array(to_rgb(colour), np.float32)


def lined(rgb: np.ndarray, regions: np.ndarray, colour: str, thick: bool = False) -> np.ndarray:
    """``rgb`` (h, w, 3) with the border of each of ``regions`` (h, w): 0 is outside. 1 px wide, ``thick`` 2 px."""
    rgb = rgb.copy()
    rgb[find_boundaries(regions, mode="thick" if thick else "inner")] = to_rgb(colour)
    return rgb


def with_bar(image: Image.Image, shown_px: float, pixel_size: float | None) -> Image.Image:
    """``image`` with the scale bar of ``shown_px`` px of the field, see ``scale_bar``, in its lower right corner."""
    length, text = scale_bar(max(1, round(shown_px)), pixel_size)
    right, low = 0.97 * image.width, 0.97 * image.height
    start = right - length / shown_px * image.width
    draw = ImageDraw.Draw(image)
    draw.rectangle([start, low - 3, right, low], fill="white", outline="black")
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    draw.text(((start + right) / 2, low - 6), text, "white", font, "mb", stroke_width=1, stroke_fill="black")
    return image


def as_image(rgb: np.ndarray) -> Image.Image:
    """RGB (h, w, 3) in [0, 1] as an image."""
    return Image.fromarray((255 * rgb + 0.5).astype(np.uint8))


def as_jpeg(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return held.getvalue()


def strip_of(crops: list[np.ndarray], current: int, side: int) -> np.ndarray:
    """Crops (h, w, 3), at most ``side`` px, side by side on white, ``GAP`` around each; the ``current`` one framed."""
    step = side + 2 * GAP
    strip = np.ones((step, step * len(crops), 3), np.float32)
    strip[:, current * step : (current + 1) * step] = to_rgb(FRAMED)
    for number, crop in enumerate(crops):
        height, width = crop.shape[:2]
        left = number * step + GAP
        strip[GAP : GAP + height, left : left + width] = crop
    return strip
