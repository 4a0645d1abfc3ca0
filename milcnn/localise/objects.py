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
    cells: np.ndarray,
    labelled: np.ndarray,
    maps: np.ndarray,
    classes: Sequence[str],
    key: Mapping[str, object],
    pixel_size: float | None,
) -> pd.DataFrame:
    """One row a cell of ``cells`` (H, W); no rows, and the same columns, where there is none.

    The field (``Metadata_Plate``, ``_Well``, ``_Site`` of ``key``); ``object``, its number in ``cells``; its centre
    ``y``, ``x`` in px; ``area_px``; ``area_um2`` (µm²; NaN where the study does not know its ``pixel_size`` in µm);
    ``labelled``, is it in ``labelled`` (H, W), the cells of the class of the field; ``score_<class>``, the mean in the
    cell of the class's map in ``maps`` (K, H, W); and ``predicted``, the class of the largest score.
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

    uint16, or uint32 above 65,535 objects. ``pixel_size`` in µm goes into PhysicalSizeX and Y, which Bio-Formats
    and the readers of napari use, and into the resolution tags, which plain ImageJ uses; into neither when None.
    The same masks give the same bytes. Raises ValueError where the suffix or the number of planes is wrong.
    """
    if not path.name.endswith((".ome.tif", ".ome.tiff")):
        raise ValueError(f"{path}: readers know an OME-TIFF by its name; end it in .ome.tif or .ome.tiff.")
    if len(planes) != len(labels):
        raise ValueError(f"{path}: {len(planes)} names for {len(labels)} planes.")
    data = np.ascontiguousarray(labels, np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32)
    metadata = {"axes": "CYX", "Channel": {"Name": list(planes)}, "UUID": str(content_uuid(data))}
    tags = {}
    if pixel_size is not None:
        metadata |= {f"PhysicalSize{axis}": pixel_size for axis in "XY"}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
        tags = {"resolution": (1e4 / pixel_size, 1e4 / pixel_size), "resolutionunit": "CENTIMETER"}
    with written_whole(path) as temporary:
        tifffile.imwrite(
            temporary, data, ome=True, photometric="minisblack", compression="zlib", metadata=metadata, **tags
        )


def content_uuid(data: np.ndarray) -> uuid.UUID:
    """The UUID that OME asks for, from the content: tifffile's own tells time and machine."""
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(data.tobytes()).hexdigest())


def mask_path(folder: Path, key: Mapping[str, object]) -> Path:
    """Where the label image of a field is, by its plate, well and site."""
    return folder / f"{'_'.join(str(key[column]) for column in FIELD_KEY)}.ome.tiff"


def write_objects(
    folder: Path,
    rows: pd.DataFrame,
    cells: np.ndarray,
    labelled: np.ndarray,
    maps: np.ndarray,
    classes: Sequence[str],
    pixel_size: float | None,
) -> pd.DataFrame:
    """The objects of the fields ``rows``; written to ``folder`` as ``objects.parquet`` and a label image a field.

    ``cells`` and ``labelled`` (B, H, W) are label images of the same numbers, ``maps`` (B, K, H, W) the
    class maps. The table is written last; its rows are those of ``object_table``, field by field.
    """
    tables = []
    for key, *field in zip(rows[FIELD_KEY].to_dict("records"), cells, labelled, maps, strict=True):
        write_masks(mask_path(folder, key), np.stack(field[:2]), PLANES, pixel_size)
        tables.append(object_table(*field, classes, key, pixel_size))
    table = pd.concat(tables, ignore_index=True)
    write_table(table, folder / "objects.parquet")
    return table
