"""Cells in numbers: features of each cell of a study, and profiles of its wells.

Columns have CellProfiler's names, ``<compartment>_<category>_<feature>[_<channel>…]``, such as
``Nuclei_Intensity_MeanIntensity_DNA``, so that pycytominer knows its features. Intensities are grey
values above the background of their field; areas are px², lengths px.
"""

import shutil
import warnings
from dataclasses import replace
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from cp_measure.bulk import get_core_measurements, get_correlation_measurements
from joblib import Parallel, delayed
from numpy.lib.format import open_memmap
from scipy import ndimage
from skimage.segmentation import relabel_sequential
from skimage.util import dtype_limits
from tqdm.auto import tqdm

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.columns import FIELD_KEY, PLATE, SITE
from milcnn.files import write_table
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

FeatureSet = Literal["fast", "full"]
CP_MEASURE = {**get_core_measurements(sanitize=False), **get_correlation_measurements(sanitize=False)}
# the groups of cp_measure and their options; what a group costs is in benchmarks/results/cells.json
FAST: dict[str, dict] = {
    "sizeshape": {"calculate_advanced": False},  # no moments
    "intensity": {},
    "texture": {"gray_levels": 32},  # a co-occurrence matrix is levels × levels
    "pearson": {},
    "manders_fold": {},
    "zernike": {},
    "feret": {},
}
# granularity, 0.1 s a field of 256 px, would cost the default study two minutes
MORE = ("granularity", "radial_distribution", "radial_zernikes", "rwc", "costes")
FEATURE_GROUPS: dict[FeatureSet, dict[str, dict]] = {
    "fast": FAST,
    "full": {group: {} for group in (*FAST, *MORE)} | {"costes": {"scale_max": 255}},
}
SHAPES = ("sizeshape", "zernike", "feret")
PAIRS = ("pearson", "manders_fold", "rwc", "costes")
COMPARTMENTS = ("Nuclei", "Cells")
# where a cell lies and how it is turned say nothing of what it does
PLACES = ("Center_", "BoundingBoxM", "Location_", "Orientation")
NEVER_DEFINED = ("NormalizedMoment_0_0", "NormalizedMoment_0_1", "NormalizedMoment_1_0")
WHITE_QUANTILE, WHITE_FIELDS = 0.999, 64


class MeasureSettings(Settings):
    """How cells are found and what is measured of them."""

    segmentation: SegmentSettings = SegmentSettings()
    feature_set: FeatureSet = "fast"


def measure_field(
    field: np.ndarray,
    nuclei: np.ndarray,
    cells: np.ndarray,
    channels: list[str],
    feature_set: FeatureSet = "fast",
    white: np.ndarray | None = None,
) -> pd.DataFrame:
    """Features of the cells of a field (C, H, W), one row a cell.

    ``nuclei`` and ``cells`` are label images (H, W) with the same numbers. ``white`` (C,) are the grey
    values above background that texture and correlation take as the top of their scale; by default
    the largest of the dtype, as CellProfiler has it. Columns: ``object``, the label; ``y``, ``x``, the
    centre, and ``area`` of the cell; ``touches_border``; ``undefined``, the number of features that
    this cell does not have, such as the texture of one pixel or the correlation with a constant channel,
    which are 0 here; and the features, float32. In a study of one channel nuclei are cells and
    measured once, as ``Cells_``. No cells give no rows, with the same columns. Raises ValueError when
    the numbers differ.
    """
    if not np.array_equal(np.unique(nuclei[nuclei > 0]), np.unique(cells[cells > 0])):
        raise ValueError("measure_field: nuclei and cells need the same numbers; take both from segment.")
    if not cells.any():
        return template(tuple(channels), feature_set).iloc[:0]
    grey = above_background(field, cells)
    top = np.broadcast_to(dtype_limits(field)[1] if white is None else white, len(field))
    scaled = (grey / top[:, None, None]).clip(0, 1)
    features: dict[str, np.ndarray] = {}
    for compartment, labels in {"Nuclei": nuclei, "Cells": cells}.items():
        if compartment == "Cells" or len(channels) > 1:
            found = mask_features(relabel_sequential(labels)[0], grey, scaled, channels, FEATURE_GROUPS[feature_set])
            features |= {f"{compartment}_{name}": values for name, values in found.items()}
    return pd.concat([located(cells), filled(features)], axis=1)


@lru_cache
def template(channels: tuple[str, ...], feature_set: FeatureSet) -> pd.DataFrame:
    """The table of a made-up field, for its columns."""
    labels = np.pad(np.ones((4, 4), np.uint16), 2)
    field = np.arange(64, dtype=np.uint16).reshape(8, 8)
    return measure_field(np.stack([field] * len(channels)), labels, labels, list(channels), feature_set)


def located(cells: np.ndarray) -> pd.DataFrame:
    """``object``, centre ``y`` and ``x`` (px), ``area`` (px²) and ``touches_border`` of each cell of (H, W) labels."""
    areas = np.bincount(cells.ravel())
    numbers = np.flatnonzero(areas)
    numbers = numbers[numbers > 0]
    y, x = np.array(ndimage.center_of_mass(cells > 0, cells, numbers)).T
    edges = np.concatenate([cells[[0, -1]].ravel(), cells[:, [0, -1]].ravel()])
    columns = {"object": numbers, "y": y, "x": x, "area": areas[numbers], "touches_border": np.isin(numbers, edges)}
    return pd.DataFrame(columns)


def filled(features: dict[str, np.ndarray]) -> pd.DataFrame:
    """``undefined``, how many values of a row are NaN or infinite, then the features, float32, with 0 for these."""
    values = np.column_stack(list(features.values()))
    defined = np.isfinite(values)
    table = pd.DataFrame(np.where(defined, values, 0).astype(np.float32), columns=list(features))
    table.insert(0, "undefined", (~defined).sum(axis=1))
    return table


def above_background(field: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """``field`` (C, H, W) minus the median of each channel outside of ``cells`` (H, W), float64.

    Where cells cover everything, minus the least of each channel.
    """
    values = field.astype(np.float64)
    outside = values[:, cells == 0]
    background = np.median(outside, axis=1) if outside.size else values.min(axis=(1, 2))
    return values - background[:, None, None]


def mask_features(
    labels: np.ndarray, grey: np.ndarray, scaled: np.ndarray, channels: list[str], groups: dict[str, dict]
) -> dict[str, np.ndarray]:
    """Features (N,) of the objects 1 to N of ``labels`` (H, W), by name without compartment; NaN where undefined.

    ``grey`` and ``scaled`` (C, H, W) are the channels in grey values and from 0 to 1; ``groups`` is one of ``SETS``.
    """
    features: dict[str, np.ndarray] = {}
    for group, options in groups.items():
        if group in SHAPES:
            found = cp_features(group, options, masks=labels, pixels=None)
            features |= {f"AreaShape_{name}": values for name, values in found.items()}
        elif group in PAIRS:
            for i, j in combinations(range(len(channels)), 2):
                found = cp_features(group, options, masks=labels, pixels_1=scaled[i], pixels_2=scaled[j])
                features |= {f"{name}_{channels[i]}_{channels[j]}": values for name, values in found.items()}
        else:
            for channel, image in zip(channels, grey if group == "intensity" else scaled, strict=True):
                found = cp_features(group, options, labels, image)
                found = averaged_over_directions(found) if group == "texture" else found
                features |= {f"{name}_{channel}": values for name, values in found.items()}
    return features


def cp_features(group: str, options: dict, *arrays: np.ndarray, **named: np.ndarray | None) -> dict[str, np.ndarray]:
    """A group of features of cp_measure 0.3.0 (Muñoz et al. 2025, doi 10.48550/arXiv.2507.01163), (N,) by name.

    Its warnings tell of features that are undefined; these are NaN or infinite here.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = CP_MEASURE[group](*arrays, **named, **options)
    left_out = (*PLACES, *NEVER_DEFINED)
    return {name: np.asarray(values, float) for name, values in found.items() if not name.startswith(left_out)}


def averaged_over_directions(texture: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Haralick's features by ``Texture_<name>_<distance>``, the mean of the four directions of a co-occurrence."""
    groups: dict[str, list[np.ndarray]] = {}
    for key, values in texture.items():
        name, distance, _direction, _levels = key.split("_")
        groups.setdefault(f"Texture_{name}_{distance}", []).append(values)
    return {name: np.mean(values, axis=0) for name, values in groups.items()}


def white_values(prepared: Prepared) -> np.ndarray:
    """The grey value (C,) that 1 in 1,000 pixels of a training field exceeds, the mean over some; at least 1."""
    rows = prepared.of("train")
    step = -(-len(rows) // WHITE_FIELDS)
    fields = (prepared.pixels(rows.iloc[[place]])[0] for place in range(0, len(rows), step))
    return np.mean([np.quantile(field, WHITE_QUANTILE, axis=(1, 2)) for field in fields], axis=0).clip(min=1)


def measure_row(
    prepared: Prepared, settings: MeasureSettings, white: np.ndarray, rows: pd.DataFrame
) -> tuple[np.ndarray, pd.DataFrame]:
    """Masks (2, H, W) uint16 of nuclei and cells, and the table of cells, of one row of the fields."""
    field = prepared.pixels(rows)[0]
    nuclei, cells = segment(field, prepared.channels, settings.segmentation, prepared.pixel_size)
    table = measure_field(field, nuclei, cells, prepared.channels, settings.feature_set, white)
    key = rows[FIELD_KEY].iloc[[0] * len(table)].reset_index(drop=True)
    return np.stack([nuclei, cells]), pd.concat([key, table], axis=1)


def measure_study(prepared: Prepared, settings: MeasureSettings, folder: Path, n_jobs: int = -1) -> pd.DataFrame:
    """Segment and measure every field of a study, in ``n_jobs`` processes; give the cells.

    Writes to ``folder``, which is there whole or not at all:

    - ``cells.parquet``: one row a cell, ``Metadata_Plate``, ``_Well``, ``_Site`` and the columns of ``measure_field``;
    - ``masks/<plate>.npy``: (N, 2, H, W) uint16, nuclei and cells, with the ``index`` of the prepared plates; empty
      where ``prepared`` has been left with fewer fields;
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "masks").mkdir(parents=True)
    rows = prepared.fields
    # a copy without the tables it has read: these need not travel to each process
    task = partial(measure_row, replace(prepared), settings, white_values(prepared))
    pool = Parallel(n_jobs=n_jobs, return_as="generator")
    results = pool(delayed(task)(rows.iloc[[place]]) for place in range(len(rows)))
    numbers, stacks, tables = rows.groupby(PLATE)["index"].max() + 1, {}, []
    for plate, index, (masks, table) in zip(
        rows[PLATE], rows["index"], tqdm(results, desc="measure", unit="field", total=len(rows)), strict=True
    ):
        if plate not in stacks:
            path = part / "masks" / f"{plate}.npy"
            stacks[plate] = open_memmap(path, "w+", np.uint16, (int(numbers[plate]), *masks.shape))
        stacks[plate][index] = masks
        tables.append(table)
    cells = pd.concat(tables, ignore_index=True)
    write_table(cells, part / "cells.parquet")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return cells


def feature_names(table: pd.DataFrame) -> list[str]:
    """The columns that are features."""
    return [name for name in table.columns if name.startswith(tuple(f"{name}_" for name in COMPARTMENTS))]


def well_profiles(cells: pd.DataFrame) -> pd.DataFrame:
    """Median of every feature over the cells of each well, in the table that pycytominer reads.

    ``cells`` has the columns of ``cells.parquet`` and any ``Metadata_`` column of the fields that is the
    same for all fields of a well; these stand first in the profiles. A well without cells has no row.
    """
    keys = [name for name in cells.columns if name.startswith("Metadata_") and name != SITE]
    return cells.groupby(keys, dropna=False)[feature_names(cells)].median().reset_index()
