"""Cells as files that other programs read: label images for Fiji and napari, and one table of objects."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from skimage.measure import regionprops_table

from milcnn.columns import FIELD_KEY
from milcnn.files import write_table, written_whole
from milcnn.localise.masks import cell_means

PLANES = ["cells", "labelled"]  # of the label image of a field


def object_table(
    cells: np.ndarray, labelled: np.ndarray, maps: np.ndarray, classes: Sequence[str], key: Mapping[str, object],
    pixel_size: float | None,
) -> pd.DataFrame:  # fmt: skip
    """One row a cell of ``cells`` (H, W).

    Columns: plate, well and site of ``key``; ``object``, the number in ``cells``; the centre ``y``, ``x`` in px;
    ``area_px``; ``area_um2`` (µm²; NaN without ``pixel_size`` in µm); ``labelled``, is it in ``labelled`` (H, W);
    ``score_<class>``, the mean of the class's map in ``maps`` (K, H, W); ``predicted``, the class of the largest score.
    """
    shape = regionprops_table(cells, properties=("label", "area", "centroid"))
    scores = cell_means(cells, maps)
    area = shape["area"].astype(np.int64)
    facts = {
        **{column: [key[column]] * len(area) for column in FIELD_KEY},
        "object": shape["label"].astype(np.int64),
        "y": shape["centroid-0"].astype(float),
        "x": shape["centroid-1"].astype(float),
        "area_px": area,
        "area_um2": area * (np.nan if pixel_size is None else pixel_size**2),
        "labelled": np.isin(shape["label"], labelled[labelled > 0]),
        **{f"score_{name}": score for name, score in zip(classes, scores.T, strict=True)},
        "predicted": [classes[index] for index in scores.argmax(axis=1)],
    }
    return pd.DataFrame(facts)


def write_masks(path: Path, labels: np.ndarray, planes: Sequence[str], pixel_size: float | None) -> None:
    """Write label images (C, H, W), named by ``planes``, as one OME-TIFF ``path``, whole or not at all.

    uint16, or uint32 above 65,535 objects; maps of float stay float32. ``pixel_size`` in µm goes into PhysicalSizeX and
    Y (Bio-Formats, napari) and the resolution tags (ImageJ). The same masks give the same bytes. Raises ValueError for
    a wrong suffix or number of planes.
    """
    if not path.name.endswith((".ome.tif", ".ome.tiff")):
        raise ValueError(f"{path}: the name of an OME-TIFF must end in .ome.tif or .ome.tiff.")
    if len(planes) != len(labels):
        raise ValueError(f"{path}: {len(planes)} names for {len(labels)} planes; give one name a plane.")
    whole = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    data = np.ascontiguousarray(labels, np.float32 if labels.dtype.kind == "f" else whole)
    metadata: dict[str, object] = {"axes": "CYX", "Channel": {"Name": list(planes)}, "UUID": str(content_uuid(data))}
    if pixel_size is not None:
        metadata |= {f"PhysicalSize{axis}": pixel_size for axis in "XY"}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    resolution = None if pixel_size is None else (1e4 / pixel_size, 1e4 / pixel_size)
    with written_whole(path) as temporary:
        tifffile.imwrite(
            temporary, data, ome=True, photometric="minisblack", compression="zlib", metadata=metadata,
            resolution=resolution, resolutionunit=resolution and "CENTIMETER",
        )  # fmt: skip


def content_uuid(data: np.ndarray) -> uuid.UUID:
    """The UUID that OME requires, from the content: the default of tifffile differs from run to run."""
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(data.tobytes()).hexdigest())


def mask_path(folder: Path, key: Mapping[str, object]) -> Path:
    """The path of the label image of a field, from its plate, well and site."""
    return folder / f"{'_'.join(str(key[column]) for column in FIELD_KEY)}.ome.tiff"


def write_objects(
    folder: Path, rows: pd.DataFrame, cells: np.ndarray, labelled: np.ndarray, maps: np.ndarray,
    classes: Sequence[str], pixel_size: float | None,
) -> pd.DataFrame:  # fmt: skip
    """Write a label image a field and ``objects.parquet``, see ``object_table``, to ``folder``; returns the table.

    ``cells`` and ``labelled`` (B, H, W) are label images with the same numbers, ``maps`` (B, K, H, W) class maps.
    """
    tables = []
    for key, own, carry, class_maps in zip(rows[FIELD_KEY].to_dict("records"), cells, labelled, maps, strict=True):
        write_masks(mask_path(folder, key), np.stack([own, carry]), PLANES, pixel_size)
        tables.append(object_table(own, carry, class_maps, classes, key, pixel_size))
    table = pd.concat(tables, ignore_index=True)
    write_table(table, folder / "objects.parquet")
    return table
