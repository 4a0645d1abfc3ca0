"""How much of the truth is predicted: pixels, objects and cells of a field, for maps, floors and the supervised U-Net.

Every method gives a ``Localised`` for a field of one label. The truth is a label image and the numbers of the
objects that carry the label of their field.
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

from milcnn.columns import COMPOUND, FIELD_KEY, LABEL, SOURCE
from milcnn.evaluate.scores import summary_rows
from milcnn.localise.agreement import aggregated_jaccard, count_error, dice, iou, object_f1
from milcnn.localise.found import Finder, Localised, SegmentedFields, in_cells, maps_of
from milcnn.localise.maps import Mapping
from milcnn.network import model as models
from milcnn.prepare.prepared import Prepared

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
}  # level of each score; scores that end in _class compare the cells of the label, the other object scores all cells


def pixel_average_precision(truth: np.ndarray, values: np.ndarray) -> float:
    """Average precision of a map (H, W) for a truth (H, W) bool; chance is the share of true pixels. NaN for none."""
    return float(average_precision_score(truth.ravel(), values.ravel())) if truth.any() else float("nan")


def cell_average_precision(truth: np.ndarray, wanted: np.ndarray, values: np.ndarray) -> float:
    """Average precision of the true cells (label image (H, W)), ranked by the mean of a map (H, W) over each.

    ``wanted`` are the numbers of the cells that carry the label. NaN when there is none; chance is their share.
    """
    numbers = np.unique(truth[truth > 0])
    carries = np.isin(numbers, wanted)
    if not carries.any():
        return float("nan")
    return float(average_precision_score(carries, ndimage.mean(values, truth, numbers)))


def score_field(truth: np.ndarray, wanted: np.ndarray, predicted: Localised) -> dict[str, float]:
    """All scores of ``SCORE_LEVELS`` for one field, see ``agreement``; ``count_error`` is absolute, in cells."""
    labelled = np.where(np.isin(truth, wanted), truth, 0)
    return {
        "average_precision": pixel_average_precision(labelled > 0, predicted.map),
        "iou_foreground": iou(truth, predicted.cells),
        "dice_foreground": dice(truth, predicted.cells),
        "iou_class": iou(labelled, predicted.labelled),
        "dice_class": dice(labelled, predicted.labelled),
        "f1_at_0.5": object_f1(truth, predicted.cells),
        "f1_class": object_f1(labelled, predicted.labelled),
        "aggregated_jaccard": aggregated_jaccard(truth, predicted.cells),
        "count_error": abs(count_error(truth, predicted.cells)),
        "count_error_class": abs(count_error(labelled, predicted.labelled)),
        "cell_average_precision": cell_average_precision(truth, wanted, predicted.map),
    }


def wanted_objects(prepared: Prepared, rows: pd.DataFrame) -> list[np.ndarray]:
    """The numbers of the objects that carry the label of their field, for each of ``rows``; none if unknown."""
    if not prepared.has_truth:
        return [np.array([], int)] * len(rows)
    masks = zip(prepared.truth(rows), prepared.labelled_mask(rows), strict=True)
    return [np.unique(truth[mask]) for truth, mask in masks]


def score_method(
    prepared: Prepared, rows: pd.DataFrame, predictions: Iterable[Localised], method: str, seed: int = 0
) -> pd.DataFrame:
    """One row for each of ``rows``: key, label, ``method``, ``seed`` and ``SCORE_LEVELS`` (NaN without truth).

    Compound and source image stay where they are known: intervals take fields of one together.
    """
    kept = [*FIELD_KEY, *(name for name in (COMPOUND, SOURCE) if name in rows), LABEL]
    facts = rows[kept].reset_index(drop=True).assign(method=method, seed=seed)
    if not prepared.has_truth:
        return facts.reindex(columns=[*facts, *SCORE_LEVELS])
    triples = zip(prepared.truth(rows), wanted_objects(prepared, rows), predictions, strict=True)
    return pd.concat([facts, pd.DataFrame([score_field(*triple) for triple in triples])], axis=1)


def score_network(
    network: models.MILCNN, prepared: Prepared, fields: SegmentedFields, find: Finder, method: str, seed: int = 0
) -> pd.DataFrame:
    """``score_method`` of what ``find`` predicts from the maps of one network."""
    return score_method(prepared, fields.rows, find(network, fields), method, seed)


def score_runs(
    runs: Path, prepared: Prepared, fields: SegmentedFields, find: Finder, poolings: list[str], seeds: list[int],
    device: torch.device,
) -> pd.DataFrame:  # fmt: skip
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

    ``average_precision`` is of the pixels, ``in_cells`` of the pixels with the mean of their segmented cell,
    ``cell_average_precision`` of true cells; ``base_rate`` is the share of pixels in objects with the label.
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
