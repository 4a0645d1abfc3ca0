"""Cells in numbers: features of each cell of a study, and profiles of its wells.

Features have CellProfiler's names, such as ``Nuclei_Intensity_MeanIntensity_DNA``, so that pycytominer recognises them.
Intensities are grey values above the background of the field; areas are px², lengths px.
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
from milcnn.columns import FIELD_KEY, PLATE, SITE, SPLIT
from milcnn.files import write_table
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

FeatureSet = Literal["quick", "fast", "full"]
CP_MEASURE = {**get_core_measurements(sanitize=False), **get_correlation_measurements(sanitize=False)}
# Groups of cp_measure and their options; ``fast`` has smaller co-occurrence matrices. CPU-milliseconds a field of
# ``digits`` and ``simulated`` (26 and 39 cells, 1 and 3 channels): fast 57, 256. What full adds: granularity 48, 317;
# radial distribution 30, 176; radial Zernikes 9, 61; matrices of 256 levels 127, 276; rwc and costes 0, 546.
FAST = ("sizeshape", "intensity", "texture", "pearson", "manders_fold", "zernike", "feret")
LIGHTER: dict[str, dict] = {"texture": {"gray_levels": 32}}
QUICK = ("sizeshape", "intensity")  # to tune a segmentation
MORE = ("granularity", "radial_distribution", "radial_zernikes", "rwc", "costes")
FEATURE_GROUPS: dict[FeatureSet, dict[str, dict]] = {
    "quick": {group: {} for group in QUICK},
    "fast": {group: {} for group in FAST} | LIGHTER,
    "full": {group: {} for group in (*FAST, *MORE)} | {"costes": {"scale_max": 255}},
}
SHAPES = ("sizeshape", "zernike", "feret")
PAIRS = ("pearson", "manders_fold", "rwc", "costes")
COMPARTMENTS = ("Nuclei", "Cells")
# left out: position and direction of a cell say nothing about its state; some moments are never defined
PLACES = ("Center_", "BoundingBoxM", "Location_", "Orientation")
NEVER_DEFINED = ("NormalizedMoment_0_0", "NormalizedMoment_0_1", "NormalizedMoment_1_0")
WHITE_QUANTILE, WHITE_FIELDS = 0.999, 64


class MeasureSettings(Settings):
    """How cells are segmented, and which features are measured."""

    segmentation: SegmentSettings = SegmentSettings.model_validate({})
    feature_set: FeatureSet = "fast"


def measure_field(
    field: np.ndarray, nuclei: np.ndarray, cells: np.ndarray, channels: list[str],
    feature_set: FeatureSet = "fast", white: np.ndarray | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Features of the cells of a field (C, H, W), one row a cell.

    ``nuclei`` and ``cells`` are label images (H, W); ValueError is raised when their labels differ. In a study of one
    channel nuclei are cells, and only ``Cells_`` are measured. ``white`` (C,) are the grey values above background
    that are 1 on the scale of texture and correlation; by default the largest of the dtype, as in CellProfiler.

    Columns: those of ``located``; ``undefined``, the number of features that are undefined for this cell and 0 in the
    table, such as the texture of one pixel; the features, float32. Without cells there are no rows.
    """
    if not np.array_equal(np.unique(nuclei[nuclei > 0]), np.unique(cells[cells > 0])):
        raise ValueError("measure_field: nuclei and cells need the same numbers; take both from segment.")
    if not cells.any():
        return template(tuple(channels), feature_set).iloc[:0]
    grey = above_background(field, cells)
    top = np.broadcast_to(dtype_limits(field)[1] if white is None else white, len(field))
    scaled = (grey / top[:, None, None]).clip(0, 1)
    features: dict[str, np.ndarray] = {}
    for compartment, labels in zip(COMPARTMENTS, (nuclei, cells), strict=True):
        if compartment == "Cells" or len(channels) > 1:
            own = mask_features(relabel_sequential(labels)[0], grey, scaled, channels, FEATURE_GROUPS[feature_set])
            features |= {f"{compartment}_{name}": values for name, values in own.items()}
    values = pd.DataFrame(features)
    defined = np.isfinite(values)
    undefined = (~defined).sum(axis=1).rename("undefined")
    return pd.concat([located(cells), undefined, values.where(defined, 0).astype(np.float32)], axis=1)


@lru_cache
def template(channels: tuple[str, ...], feature_set: FeatureSet) -> pd.DataFrame:
    """The table of a made-up field, for its columns."""
    labels = np.pad(np.ones((4, 4), np.uint16), 2)
    field = np.arange(64, dtype=np.uint16).reshape(8, 8)
    return measure_field(np.stack([field] * len(channels)), labels, labels, list(channels), feature_set)


def located(cells: np.ndarray) -> pd.DataFrame:
    """``object`` (label), centre ``y``, ``x`` (px), ``area`` (px²), ``touches_border`` of cells, (H, W) labels."""
    areas = np.bincount(cells.ravel())
    labels = np.flatnonzero(areas[1:]) + 1
    y, x = np.array(ndimage.center_of_mass(cells > 0, cells, labels)).T
    edges = np.concatenate([cells[[0, -1]].ravel(), cells[:, [0, -1]].ravel()])
    columns = {"object": labels, "y": y, "x": x, "area": areas[labels], "touches_border": np.isin(labels, edges)}
    return pd.DataFrame(columns)


def above_background(field: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """``field`` (C, H, W) minus the median of each channel outside ``cells`` (H, W); its minimum if all is cells."""
    values = field.astype(np.float64)
    outside = values[:, cells == 0]
    background = np.median(outside, axis=1) if outside.size else values.min(axis=(1, 2))
    return values - background[:, None, None]


def mask_features(
    labels: np.ndarray, grey: np.ndarray, scaled: np.ndarray, channels: list[str], groups: dict[str, dict]
) -> dict[str, np.ndarray]:
    """Features (N,) of the objects 1 to N of ``labels`` (H, W), by name without compartment; NaN where undefined.

    ``grey`` and ``scaled`` are the channels (C, H, W), in grey values and from 0 to 1.
    """
    features: dict[str, np.ndarray] = {}
    for group, options in groups.items():
        measure, prefix = partial(cp_features, group, options), "AreaShape_" if group in SHAPES else ""
        if group in SHAPES:
            parts = {"": measure(masks=labels, pixels=None)}
        elif group in PAIRS:
            pairs = combinations(zip(channels, scaled, strict=True), 2)
            parts = {f"_{a}_{b}": measure(masks=labels, pixels_1=x, pixels_2=y) for (a, x), (b, y) in pairs}
        else:
            images = zip(channels, grey if group == "intensity" else scaled, strict=True)
            parts = {f"_{channel}": measure(labels, image) for channel, image in images}
        for suffix, part in parts.items():
            features |= {f"{prefix}{name}{suffix}": values for name, values in part.items()}
    return features


def cp_features(group: str, options: dict, *arrays: np.ndarray, **named: np.ndarray | None) -> dict[str, np.ndarray]:
    """Features (N,) of a group of cp_measure 0.3.0 (Muñoz et al. 2025, doi 10.48550/arXiv.2507.01163), by name."""
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        features = CP_MEASURE[group](*arrays, **named, **options)
    left_out = (*PLACES, *NEVER_DEFINED)
    features = {name: np.asarray(values, float) for name, values in features.items() if not name.startswith(left_out)}
    if group != "texture":
        return features
    # Haralick's features are <name>_<distance>_<direction>_<levels>: take the mean of the four directions
    directions: dict[str, list[np.ndarray]] = {}
    for name, values in features.items():
        directions.setdefault(f"Texture_{name.rsplit('_', 2)[0]}", []).append(values)
    return {name: np.mean(values, axis=0) for name, values in directions.items()}


def white_values(prepared: Prepared) -> np.ndarray:
    """The grey value (C,) that 1 in 1,000 pixels of a training field exceeds: the mean over up to 64 fields; ≥ 1.

    A table without training fields, such as new fields to measure, uses all of its fields.
    """
    rows = prepared.of("train") if (prepared.fields[SPLIT] == "train").any() else prepared.fields
    step = -(-len(rows) // WHITE_FIELDS)
    fields = (prepared.pixels(rows.iloc[[place]])[0] for place in range(0, len(rows), step))
    return np.mean([np.quantile(field, WHITE_QUANTILE, axis=(1, 2)) for field in fields], axis=0).clip(min=1)


def measure_row(
    prepared: Prepared, settings: MeasureSettings, white: np.ndarray, rows: pd.DataFrame
) -> tuple[np.ndarray, pd.DataFrame]:
    """Masks (2, H, W) uint16 of nuclei and cells, and the table of cells, of the one field in ``rows``."""
    field = prepared.pixels(rows)[0]
    nuclei, cells = segment(field, prepared.channels, settings.segmentation, prepared.pixel_size)
    table = measure_field(field, nuclei, cells, prepared.channels, settings.feature_set, white)
    key = rows[FIELD_KEY].iloc[[0] * len(table)].reset_index(drop=True)
    return np.stack([nuclei, cells]), pd.concat([key, table], axis=1)


def measure_study(prepared: Prepared, settings: MeasureSettings, folder: Path, n_jobs: int = -1) -> pd.DataFrame:
    """Segment and measure every field of a study, in ``n_jobs`` processes; return the table of cells.

    Once all fields are measured, ``folder`` is replaced and has:

    - ``cells.parquet``: one row a cell, ``Metadata_Plate``, ``_Well``, ``_Site`` and the columns of ``measure_field``;
    - ``masks/<plate>.npy``: (N, 2, H, W) uint16, nuclei and cells by the ``index`` of a field; 0 for fields left out.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "masks").mkdir(parents=True)
    rows = prepared.fields
    # a copy without the tables it has read: these need not go to each process
    task = partial(measure_row, replace(prepared), settings, white_values(prepared))
    results = Parallel(n_jobs, return_as="generator")(delayed(task)(rows.iloc[[place]]) for place in range(len(rows)))
    sizes, stacks, tables = rows.groupby(PLATE)["index"].max() + 1, {}, []
    progress = tqdm(results, desc="measure", unit="field", total=len(rows))
    for plate, index, (masks, table) in zip(rows[PLATE], rows["index"], progress, strict=True):
        if plate not in stacks:
            path = part / "masks" / f"{plate}.npy"
            stacks[plate] = open_memmap(path, "w+", np.uint16, (int(sizes[plate]), *masks.shape))
        stacks[plate][index] = masks
        tables.append(table)
    cells = pd.concat(tables, ignore_index=True)
    write_table(cells, part / "cells.parquet")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return cells


def feature_names(table: pd.DataFrame) -> list[str]:
    """The columns that are features, of cells or of tiles (``embed``)."""
    return [name for name in table if name.startswith(tuple(f"{part}_" for part in (*COMPARTMENTS, "Tiles")))]


def well_profiles(cells: pd.DataFrame) -> pd.DataFrame:
    """Median of every feature over the cells of each well, a table that pycytominer reads; no row without cells.

    ``cells`` is ``cells.parquet`` with any ``Metadata_`` columns that are the same in all fields of a well.
    """
    keys = [name for name in cells.columns if name.startswith("Metadata_") and name != SITE]
    return cells.groupby(keys, dropna=False)[feature_names(cells)].median().reset_index()
