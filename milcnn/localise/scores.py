"""How much of the truth was found: pixels, objects and cells of a field, for maps, floors and the ceiling alike.

Whatever localises says of a field of one label what ``Found`` holds, and is scored by the same functions.
The truth is a label image and the numbers of those objects that carry the label of their field.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score
from tqdm.auto import tqdm

from milcnn.columns import CONTROL, FIELD_KEY, LABEL
from milcnn.evaluate.scores import summary_rows
from milcnn.localise.agreement import aggregated_jaccard, count_error, dice, iou, object_f1
from milcnn.localise.found import Finder, Localised, SegmentedFields, in_cells, maps_of
from milcnn.localise.maps import Mapping
from milcnn.network import model as models
from milcnn.prepare.prepared import Prepared, first_label

SCORE_LEVELS = {
    "average_precision": "pixel",
    "iou_foreground": "pixel",
    "dice_foreground": "pixel",
    "iou_class": "pixel",
    "dice_class": "pixel",
    "f1_at_0.5": "object",
    "f1_class": "object",
    "aggregated_jaccard": "object",
    "count_error": "object",
    "count_error_class": "object",
    "cell_average_precision": "cell",
}  # of each score; what ends in _class knows only the cells of the label, the other objects all cells


def pixel_average_precision(truth: np.ndarray, values: np.ndarray) -> float:
    """Average precision of the pixels of a map (H, W) against a boolean truth (H, W).

    NaN when no pixel is true. A map that knows nothing scores the share of true pixels.
    """
    return float(average_precision_score(truth.ravel(), values.ravel())) if truth.any() else float("nan")


def cell_average_precision(truth: np.ndarray, wanted: np.ndarray, values: np.ndarray) -> float:
    """Average precision of the true cells (label image (H, W)), ranked by the mean of a map (H, W) over each.

    ``wanted`` are the numbers of the cells that carry the label. NaN when there is none. A map that
    knows nothing scores their share of the cells.
    """
    numbers = np.unique(truth[truth > 0])
    carries = np.isin(numbers, wanted)
    if not carries.any():
        return float("nan")
    return float(average_precision_score(carries, ndimage.mean(values, truth, numbers)))


def score_field(truth: np.ndarray, wanted: np.ndarray, found: Localised) -> dict[str, float]:
    """All scores of ``LEVELS`` for one field.

    ``count_error`` is |found − true| in cells; ``f1_at_0.5`` and ``f1_class`` match objects at an IoU
    above 0.5; the others are defined in ``agreement``.
    """
    labelled = np.where(np.isin(truth, wanted), truth, 0)
    return {
        "average_precision": pixel_average_precision(labelled > 0, found.map),
        "iou_foreground": iou(truth, found.cells),
        "dice_foreground": dice(truth, found.cells),
        "iou_class": iou(labelled, found.labelled),
        "dice_class": dice(labelled, found.labelled),
        "f1_at_0.5": object_f1(truth, found.cells),
        "f1_class": object_f1(labelled, found.labelled),
        "aggregated_jaccard": aggregated_jaccard(truth, found.cells),
        "count_error": abs(count_error(truth, found.cells)),
        "count_error_class": abs(count_error(labelled, found.labelled)),
        "cell_average_precision": cell_average_precision(truth, wanted, found.map),
    }


def scored_fields(prepared: Prepared, split: str, fields_per_class: int) -> pd.DataFrame:
    """The first fields of each class in ``split`` that are scored, as rows of ``Prepared.fields``.

    Without those of negative controls, and of labels that no object carries: in them nothing is to be
    found. Where the truth is not known, fields of every class.
    """
    rows = prepared.of(split)
    if prepared.has_truth:
        carried = first_label(rows).isin(prepared.objects["class"].unique())
        control = rows[CONTROL].astype(bool) if CONTROL in rows else False
        rows = rows[carried & ~control]
    return rows.groupby(LABEL).head(fields_per_class).reset_index(drop=True)


def wanted_objects(prepared: Prepared, rows: pd.DataFrame) -> list[np.ndarray]:
    """The numbers of the objects that carry the label of their field, for each of ``rows``; none if unknown."""
    if not prepared.has_truth:
        return [np.array([], int)] * len(rows)
    masks = zip(prepared.truth(rows), prepared.labelled_mask(rows), strict=True)
    return [np.unique(truth[mask]) for truth, mask in masks]


def score_method(
    prepared: Prepared, rows: pd.DataFrame, found: Iterable[Localised], method: str, seed: int = 0
) -> pd.DataFrame:
    """Scores of what ``method`` found in each of ``rows``: its key and label, ``method``, ``seed``, ``LEVELS``.

    NaN where the truth is not known.
    """
    facts = rows[[*FIELD_KEY, LABEL]].reset_index(drop=True).assign(method=method, seed=seed)
    if not prepared.has_truth:
        return facts.reindex(columns=[*facts, *SCORE_LEVELS])
    triples = zip(prepared.truth(rows), wanted_objects(prepared, rows), found, strict=True)
    return pd.concat([facts, pd.DataFrame([score_field(*triple) for triple in triples])], axis=1)


def score_network(
    network: models.MILCNN, prepared: Prepared, fields: SegmentedFields, find: Finder, method: str, seed: int = 0
) -> pd.DataFrame:
    """Scores of what ``find`` makes of one network's maps of ``fields``, as ``score_method``."""
    return score_method(prepared, fields.rows, find(network, fields), method, seed)


def score_runs(
    runs: Path,
    prepared: Prepared,
    fields: SegmentedFields,
    find: Finder,
    poolings: list[str],
    seeds: list[int],
    device: torch.device,
) -> pd.DataFrame:
    """``score_network`` of every network in ``runs``: one row a ``method`` (the pooling), ``seed`` and field."""
    tables = []
    for pooling, seed in tqdm(list(product(poolings, seeds)), desc="localise", unit="network"):
        network = models.load_model(runs / f"{pooling}-{seed}" / "model.safetensors", prepared.study, device)
        tables.append(score_network(network, prepared, fields, find, pooling, seed))
    return pd.concat(tables, ignore_index=True)


def score_maps(
    model: models.MILCNN, prepared: Prepared, fields: SegmentedFields, mappings: dict[str, Mapping]
) -> pd.DataFrame:
    """How well each kind of map of one network ranks pixels and cells; one row a ``map`` and field.

    ``average_precision`` is that of the pixels of the map as it is, ``in_cells`` that of its mean over
    each cell of the segmentation, ``cell_average_precision`` that of true cells; ``base_rate`` is the
    share of pixels that are of objects with the label.
    """
    truth, wanted = prepared.labelled_mask(fields.rows), wanted_objects(prepared, fields.rows)
    cells = prepared.truth(fields.rows) if prepared.has_truth else truth
    tables = []
    for name, mapping in mappings.items():
        maps = maps_of(mapping, model, fields, fields.targets)
        painted = [in_cells(*pair) for pair in zip(maps, fields.cells, strict=True)]
        scores = {
            "average_precision": [pixel_average_precision(*pair) for pair in zip(truth, maps, strict=True)],
            "in_cells": [pixel_average_precision(*pair) for pair in zip(truth, painted, strict=True)],
            "cell_average_precision": [cell_average_precision(*each) for each in zip(cells, wanted, maps, strict=True)],
            "base_rate": truth.mean(axis=(1, 2)),
        }
        tables.append(fields.rows[[*FIELD_KEY, LABEL]].assign(map=name, **scores))
    return pd.concat(tables, ignore_index=True)


def localisation_rows(scores: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: every score of every method, with intervals over fields."""
    rows = [
        summary_rows(scores.dropna(subset=metric), study, protocol, level, metric, metric)
        for metric, level in SCORE_LEVELS.items()
    ]
    return pd.concat(rows, ignore_index=True)
