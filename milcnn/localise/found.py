"""What is predicted for a field of one label: by a network that was trained on labels of fields, and by floors.

The cells come from the image, by ``baselines.segment``; ``evident_cells`` takes from a map which of them carry the
label. No truth is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from skimage.measure import label

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.localise.dense import evidence_map
from milcnn.localise.maps import Mapping, all_class_maps, jacobian_map
from milcnn.localise.masks import brightness, cell_means, labelled_cells, otsu_mask, otsu_threshold
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN
from milcnn.prepare.prepared import Prepared

FIELDS_AT_ONCE = 16


class Localised(NamedTuple):
    """The prediction for a field of one label, three arrays (H, W)."""

    map: np.ndarray  # float, larger where a pixel is more likely to carry the label
    cells: np.ndarray  # int, 0 for background and k for the k-th cell
    labelled: np.ndarray  # int, the cells that carry the label


@dataclass(frozen=True)
class SegmentedFields:
    """Fields of a study and their cells."""

    rows: pd.DataFrame  # of ``Prepared.fields``
    pixels: np.ndarray  # (B, C, H, W)
    targets: np.ndarray  # (B,) int64, class of each
    cells: list[np.ndarray]  # (H, W) of each, 0 for background


def segment_fields(prepared: Prepared, rows: pd.DataFrame, settings: SegmentSettings) -> SegmentedFields:
    """The fields of ``rows`` with their cells, the same as those of the baselines; raises what ``segment`` does."""
    pixels = prepared.pixels(rows)
    cells = [segment(field, prepared.channels, settings, prepared.pixel_size)[1] for field in pixels]
    return SegmentedFields(rows, pixels, prepared.targets(rows), cells)


def maps_of(mapping: Mapping, model: MILCNN, fields: SegmentedFields, classes: int | np.ndarray) -> np.ndarray:
    """The map of one class, or of one class a field (B,), for each of ``fields``, (B, H, W) float32."""
    keep_freed_memory()
    targets = torch.as_tensor(classes).expand(len(fields.pixels))
    parts = zip(batches(fields), targets.split(FIELDS_AT_ONCE), strict=True)
    return np.concatenate([mapping(model, *part).cpu().numpy() for part in parts])


def class_maps_of(model: MILCNN, fields: SegmentedFields) -> np.ndarray:
    """The class map of every class for each of ``fields``, (B, classes, H, W) float32."""
    keep_freed_memory()
    return np.concatenate([all_class_maps(model, part).cpu().numpy() for part in batches(fields)])


def batches(fields: SegmentedFields) -> tuple[torch.Tensor, ...]:
    """The pixels of ``fields``, ``FIELDS_AT_ONCE`` at a time."""
    return torch.from_numpy(fields.pixels).split(FIELDS_AT_ONCE)


def in_cells(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """A map (H, W) as its mean over each of ``cells`` (H, W), 0 between them, float32."""
    means = np.zeros(int(cells.max()) + 1, np.float32)
    means[np.unique(cells[cells > 0])] = cell_means(cells, values[None])[:, 0]
    return means[cells]


def evident_cells(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The ``cells`` (H, W) that carry the label by a map (H, W) ≥ 0; none where the map is constant over several.

    These are the cells whose mean of the map is above Otsu's threshold of the logarithms of the means, with a hundredth
    of the largest mean added. Without the logarithm the few brightest cells would remain, since means are skewed.
    Chosen on validation fields of ``simulated`` and ``digits``: a threshold for all fields of a class, from labels of
    fields alone, was better on the first and much worse on the second.
    """
    means = cell_means(cells, values[None])[:, 0]
    shift = means.max(initial=0) / 100
    if len(means) == 1 and shift > 0:
        return cells.copy()  # there is no other cell to compare with
    if shift == 0 or np.ptp(means) == 0:
        return np.zeros_like(cells)
    return labelled_cells(cells, values, np.exp(otsu_threshold(np.log(means + shift))) - shift)


def localise_by(mapping: Mapping, whole_cells: bool, model: MILCNN, fields: SegmentedFields) -> list[Localised]:
    """The cells that carry the label of ``fields``, by a kind of map, averaged over each cell if ``whole_cells``."""
    pairs = zip(maps_of(mapping, model, fields, fields.targets), fields.cells, strict=True)
    return [Localised(in_cells(m, cells) if whole_cells else m, cells, evident_cells(m, cells)) for m, cells in pairs]


Finder = Callable[[MILCNN, SegmentedFields], list[Localised]]
# by what carries the label: whole cells, or parts of cells such as micronuclei
FINDERS: dict[str, Finder] = {
    "cells": partial(localise_by, evidence_map, True),
    "parts": partial(localise_by, jacobian_map, False),
}


def random_map(cells: np.ndarray, rng: np.random.Generator) -> Localised:
    """One random value in [0, 1) for each of ``cells`` (H, W); above one half the cell carries the label."""
    values = rng.uniform(0, 1, int(cells.max()) + 1)[cells] * (cells > 0)
    return Localised(values, cells, labelled_cells(cells, values, 0.5))


def otsu(field: np.ndarray) -> Localised:
    """Every bright pixel of a field (C, H, W) carries the label, brighter ones more; connected pieces are cells."""
    bright = brightness(field)
    cells = label(otsu_mask(bright))
    return Localised(bright, cells, cells)


def everything(cells: np.ndarray) -> Localised:
    """All of ``cells`` (H, W) carry the label."""
    return Localised((cells > 0).astype(np.float32), cells, cells)


def find_without_network(fields: SegmentedFields, seed: int = 0) -> dict[str, list[Localised]]:
    """What is predicted for each of ``fields`` without a network, by the name of each floor."""
    rng = np.random.default_rng(seed)
    return {
        "random_map": [random_map(cells, rng) for cells in fields.cells],
        "all_foreground": [everything(np.ones(cells.shape, int)) for cells in fields.cells],  # one cell everywhere
        "otsu": [otsu(field) for field in fields.pixels],
        "classical": [everything(cells) for cells in fields.cells],
    }
