"""The gallery of a study: a page with every field, which opens from disk and stays usable with thousands of fields.

``draw_fields`` and ``write_gallery`` make a folder:

- ``index.html``: the page; it loads nothing from the internet;
- ``thumbs/<n>.webp``: field n with outlines for its label and for its predicted class;
- ``views/<n>.webp``: the same, larger; ``maps/<n>.webp``: its class maps side by side, black 0 to yellow 1;
- ``cells/<n>.webp``: the cells with the highest instance probability of each class.

Pictures are files of their own, so that a browser reads only those in sight.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.filters import gaussian
from skimage.segmentation import find_boundaries
from tqdm.auto import tqdm

from milcnn.columns import LABEL
from milcnn.evaluate.runs import label_matrix, with_errors
from milcnn.figures.gallery import RANKS, class_colour, display_range, false_colour, scale_bar
from milcnn.localise.dense import sharp_map
from milcnn.localise.maps import all_class_maps, class_map
from milcnn.localise.masks import otsu_mask
from milcnn.network.dimensions import STRIDE
from milcnn.network.model import MILCNN
from milcnn.prepare.prepared import Prepared
from milcnn.study.pages import write_page

THUMB, VIEW, TILE = 160, 640, 96  # px, the longer side of a thumbnail, a view, a map
PICTURES = ("thumbs", "views", "maps", "cells")
CROP = 2 * STRIDE  # px, the side of a cell's crop: about a cell of every study and what is around it
PEAK_SMOOTHING = 4.0  # px, standard deviation: the middle of a cell, not a bright spot in it
RANGE_FIELDS, RANGE_STEP = 16, 4  # so many fields, and every 4th pixel, give the brightness range of a study
STEP = 120  # fields that the page lays out at first, and then each time that one scrolls to its end
FIELDS_IN_MEMORY = 4  # at once: fields of a real screen have a million pixels and more


def with_scores(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """``predictions`` with ``score``, the probability y of the label (the least of several), and ``correct``.

    Without a label, the score is that of the predicted class, and ``Metadata_Label`` is ''.
    """
    is_label = label_matrix(predictions[LABEL], classes).astype(bool)
    y = predictions[[f"y_{name}" for name in classes]].to_numpy()
    score = np.where(is_label.any(axis=1), np.where(is_label, y, np.inf).min(axis=1), y.max(axis=1))
    names = {LABEL: predictions[LABEL].fillna(""), "predicted": predictions["predicted"].fillna("none")}
    return with_errors(predictions).assign(score=score, **names)  # of several labels, none may be likely


def ranked(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The fields with the best, the median and the worst score of each class, with ``class`` and ``rank``.

    ``table`` comes from ``with_scores``. A class with fewer than three fields has a field in several ranks.
    """
    chosen = []
    for name, is_label in zip(classes, label_matrix(table[LABEL], classes).T.astype(bool), strict=True):
        members = table[is_label].sort_values("score", ascending=False, kind="stable")
        if len(members):
            rows = members.iloc[[0, (len(members) - 1) // 2, -1]]
            chosen.append(rows.assign(**{"class": name, "rank": RANKS}))
    return pd.concat(chosen)


def shown_classes(table: pd.DataFrame, classes: list[str]) -> list[list[int]]:
    """For each field the indices of its labels and of its predicted classes."""
    either = label_matrix(table[LABEL], classes) | label_matrix(table["predicted"], classes)
    return [np.flatnonzero(row).tolist() for row in either]


def class_masks(network: MILCNN, pixels: torch.Tensor, wanted: list[list[int]]) -> list[dict[int, np.ndarray]]:
    """For each field of ``pixels`` (B, C, H, W) the mask (H, W) of each wanted class, by its index."""
    pairs = [(item, index) for item, own in enumerate(wanted) for index in own]
    masks: list[dict[int, np.ndarray]] = [{} for _ in wanted]
    for start in range(0, len(pairs), FIELDS_IN_MEMORY):
        items, indices = torch.tensor(pairs[start : start + FIELDS_IN_MEMORY]).T
        maps = sharp_map(network, pixels[items], indices).cpu().numpy()
        for item, index, values in zip(items.tolist(), indices.tolist(), maps, strict=True):
            masks[item][index] = otsu_mask(values)
    return masks


def range_of(prepared: Prepared, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """One ``display_range`` for all ``rows``, from some of them: a dim field looks dim beside a bright one."""
    some = prepared.pixels(rows.iloc[:: -(-len(rows) // RANGE_FIELDS)])
    return display_range(some[..., ::RANGE_STEP, ::RANGE_STEP])


def looks(
    network: MILCNN, prepared: Prepared, table: pd.DataFrame, rows: pd.DataFrame
) -> tuple[list[np.ndarray], list[dict[int, np.ndarray]], np.ndarray]:
    """Images (H, W, 3), outlines and class maps of ``rows``, some fields of ``table``.

    Images are as bright as on the page; outlines are masks by class index, see ``class_masks``.
    """
    low, high = range_of(prepared, table)
    fields = prepared.pixels(rows)
    pixels = torch.from_numpy(fields)
    masks = class_masks(network, pixels, shown_classes(rows, prepared.classes))
    return [false_colour(field, low, high) for field in fields], masks, all_class_maps(network, pixels).cpu().numpy()


def resized(image: np.ndarray, side: int) -> Image.Image:
    """``image``, (H, W) or (H, W, 3) uint8, scaled so that its longer side has ``side`` px."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.BOX)


def outlined(rgb: np.ndarray, masks: Mapping[int, np.ndarray], side: int) -> np.ndarray:
    """``rgb`` (H, W, 3) in [0, 1] at ``side`` px, uint8, with the outline of each mask in the colour of its class.

    Outlines are drawn after scaling: 1 px on a thumbnail, 2 px on a view.
    """
    image = np.array(resized((255 * rgb).astype(np.uint8), side))
    for index, mask in masks.items():
        scaled = np.array(resized(255 * mask.astype(np.uint8), side)) > 127
        line = find_boundaries(scaled, mode="inner" if side <= THUMB else "thick")
        image[line] = 255 * np.array(to_rgb(class_colour(index)))
    return image


def map_strip(maps: np.ndarray) -> np.ndarray:
    """Maps (classes, H, W) in [0, 1] side by side, uint8, each in a square of ``TILE`` px."""
    strip = np.zeros((TILE, TILE * len(maps), 3), np.uint8)
    for number, values in enumerate(maps):
        tile = np.array(resized((255 * mpl.colormaps["magma"](values)[..., :3]).astype(np.uint8), TILE))
        strip[: tile.shape[0], number * TILE : number * TILE + tile.shape[1]] = tile
    return strip


def remove_page(folder: Path) -> None:
    """Remove the page in ``folder`` and its pictures, and nothing else: no picture of an earlier run stays."""
    (folder / "index.html").unlink(missing_ok=True)
    for kind in PICTURES:
        shutil.rmtree(folder / kind, ignore_errors=True)


def save_picture(image: np.ndarray, folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{number:05}.webp", quality=80)


def draw_fields(network: MILCNN, prepared: Prepared, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write thumbnail, view and maps of every field of ``table``, and give where each class is most likely in it.

    One row a field and class: ``field`` (its place in ``table``), ``class``, ``p`` and ``y``, ``x`` (px). An earlier
    page in ``folder`` is removed.
    """
    remove_page(folder)
    classes = prepared.classes
    wanted = shown_classes(table, classes)
    low, high = range_of(prepared, table)
    peaks = []
    for start in tqdm(range(0, len(table), FIELDS_IN_MEMORY), desc="draw", unit="batch", leave=False):
        part = slice(start, start + FIELDS_IN_MEMORY)
        fields = prepared.pixels(table.iloc[part])
        pixels = torch.from_numpy(fields)
        masks = class_masks(network, pixels, wanted[part])
        maps = all_class_maps(network, pixels).cpu().numpy()
        for number, (field, own, stack) in enumerate(zip(fields, masks, maps, strict=True), start):
            rgb = false_colour(field, low, high)
            save_picture(outlined(rgb, own, THUMB), folder / "thumbs", number)
            save_picture(outlined(rgb, own, VIEW), folder / "views", number)
            save_picture(map_strip(stack), folder / "maps", number)
            peaks.append(class_peaks(stack, classes).assign(field=number))
    return pd.concat(peaks, ignore_index=True)


def class_peaks(maps: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Where each of the maps (classes, H, W) is highest: ``class``, ``p``, ``y``, ``x``."""
    flat = maps.reshape(len(maps), -1)
    y, x = np.unravel_index(flat.argmax(axis=1), maps.shape[1:])
    return pd.DataFrame({"class": classes, "p": flat.max(axis=1), "y": y, "x": x})


def likeliest(peaks: pd.DataFrame, classes: list[str], n: int) -> pd.DataFrame:
    """The ``n`` rows of each class with the highest p, at most one a field."""
    ordered = peaks.sort_values("p", ascending=False, kind="stable").groupby("class").head(n)
    return ordered.sort_values("class", key=lambda names: names.map(classes.index), kind="stable", ignore_index=True)


def crop_cells(network: MILCNN, prepared: Prepared, table: pd.DataFrame, cells: pd.DataFrame) -> np.ndarray:
    """The crop around each of ``cells``, (n, side, side, 3) in [0, 1].

    A class map is coarse, so its highest place may lie beside a cell. The crop is centred within a stride of it, where
    the class map times the smoothed sharp map is highest; where this product is 0, on the place itself.
    """
    low, high = range_of(prepared, table)
    crops = []
    for (_, cell), index in zip(cells.iterrows(), cells["class"].map(prepared.classes.index), strict=True):
        field = prepared.pixels(table.iloc[[cell["field"]]])
        pixels = torch.from_numpy(field)
        evidence = gaussian(sharp_map(network, pixels, index)[0].cpu().numpy(), PEAK_SMOOTHING)
        top, left = (max(0, cell[axis] - STRIDE) for axis in ("y", "x"))
        near = np.s_[top : cell["y"] + STRIDE + 1, left : cell["x"] + STRIDE + 1]
        shown = class_map(network, pixels, index)[0].cpu().numpy()[near] * evidence[near]
        y, x = np.unravel_index(shown.argmax(), shown.shape)
        centre = (top + y, left + x) if shown.any() else (cell["y"], cell["x"])
        crops.append(window(false_colour(field[0], low, high), *centre))
    return np.stack(crops)


def window(image: np.ndarray, y: int, x: int) -> np.ndarray:
    """The square of at most ``CROP`` px of ``image`` (H, W, …) around (y, x), moved inside the image at its border."""
    height, width = image.shape[:2]
    side = min(CROP, height, width)
    top, left = (int(np.clip(c - side // 2, 0, size - side)) for c, size in ((y, height), (x, width)))
    return image[top : top + side, left : left + side]


def write_gallery(
    prepared: Prepared, table: pd.DataFrame, cells: pd.DataFrame, crops: np.ndarray, folder: Path
) -> Path:
    """Write ``folder/index.html``: every field of ``table`` and the ``cells`` of each class, with filters.

    ``crops`` come from ``crop_cells``; ``draw_fields`` has written the other pictures. Every name is escaped.
    """
    for number, crop in enumerate(crops):
        save_picture((255 * crop).astype(np.uint8), folder / "cells", number)
    cells = cells.assign(number=range(len(cells)))
    height, width = prepared.pixels(table.iloc[:1]).shape[2:]
    length, text = scale_bar(width, prepared.pixel_size)
    path = folder / "index.html"
    write_page(
        path,
        "gallery_page.html.j2",
        study=prepared.study,
        step=STEP,
        multilabel=prepared.multilabel,
        classes=[(name, class_colour(index)) for index, name in enumerate(prepared.classes)],
        fields=table.to_dict("records"),
        cells=[cells[cells["class"] == name].to_dict("records") for name in prepared.classes],
        bar={"share": length / width, "text": text, "known": prepared.pixel_size is not None},
        crop=f"{crops.shape[2] * (prepared.pixel_size or 1):.3g} {text.split()[1]}",
        thumb=resized(np.zeros((height, width), np.uint8), THUMB).size,
    )
    return path
