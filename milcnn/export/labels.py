"""Cells and class maps of a field inside the OME-Zarr image that it came from, as napari and Fractal open them.

Below the group of the image, in its version of NGFF (0.4 or 0.5): ``labels/<name>``, a label image with the colour and
the properties of each cell; and ``maps/<name>``, an image with a channel a class. The pixels of the image are not
touched. See https://ngff.openmicroscopy.org/0.5/#labels-md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import zarr

from milcnn.baselines.segment import SegmentSettings
from milcnn.columns import path_columns
from milcnn.export.run_folder import folder_written_whole
from milcnn.export.trained_run import TrainedRun
from milcnn.localise.found import class_maps_of, segment_fields
from milcnn.localise.objects import object_table
from milcnn.screens.zarr_image import is_zarr, ome_attributes, zarr_image

PALETTE = "tab10"  # of matplotlib; a colour a class
TILE_SIDE = 1024  # px, side


def label_plates(
    run: TrainedRun, rows: pd.DataFrame, segmentation: SegmentSettings, images: Path, name: str
) -> list[Path]:
    """Write cells and class maps of the fields of ``rows`` into their OME-Zarr images; returns the images' folders.

    ``rows`` are of ``Prepared.fields``, their paths start in ``images``, and ``name`` is that of the new groups. Cells
    are those of ``segmentation``, each with the class of its largest mean map; see ``objects.object_table``. Raises
    ValueError for fields that are no OME-Zarr images of their own, or were cropped or reduced before training.
    """
    changed = [key for key, plain in (("crop", []), ("downscale", 1)) if run.prepared.settings.get(key, plain) != plain]
    if changed:
        raise ValueError(f"{run.prepared.folder}: {changed[0]} changed its fields; labels would not fit the images.")
    folders = [image_folder(row, run.prepared.channels, images) for _, row in rows.iterrows()]
    fields = segment_fields(run.prepared, rows, segmentation)
    classes = run.model.settings.classes
    keys = rows.to_dict("records")
    for folder, key, cells, maps in zip(folders, keys, fields.cells, class_maps_of(run.model, fields), strict=True):
        objects = object_table(cells, cells, maps, classes, key, run.prepared.pixel_size)
        write_labels(folder, name, cells, objects, classes)
        write_maps(folder, name, maps, classes)
    return folders


def image_folder(row: pd.Series, channels: list[str], images: Path) -> Path:
    """The one OME-Zarr image of a field. Raises ValueError if its channels are files, several images or a mosaic."""
    paths = {str(row[column]) for column in path_columns(row.to_frame().T, channels)}
    if len(paths) != 1 or not is_zarr(str(images / min(paths))) or "#" in min(paths):
        told = ", ".join(sorted(paths)) or "none"
        raise ValueError(f"images: a field needs one OME-Zarr image of its own ({told}); its OME-TIFF masks stay.")
    return images / min(paths)


def write_labels(image: Path, name: str, cells: np.ndarray, objects: pd.DataFrame, classes: Sequence[str]) -> None:
    """Write ``cells`` (H, W) as the labels ``name`` of the OME-Zarr ``image``, in place of those of that name.

    Each cell has the colour of its predicted class. Its properties are the columns of ``objects``, a row a cell.
    Raises ValueError for another size than that of the image.
    """
    colours = {own: matplotlib.colormaps[PALETTE](k % 10, bytes=True) for k, own in enumerate(classes)}
    facts = objects.drop(columns=[column for column in objects if column.startswith("Metadata_")])
    told = {
        "colors": [
            {"label-value": int(number), "rgba": [int(part) for part in colours[own]]}
            for number, own in zip(objects["object"], objects["predicted"], strict=True)
        ],
        "properties": [
            {"label-value": int(fact.pop("object"))} | {key: value for key, value in fact.items() if not missing(value)}
            for fact in facts.to_dict("records")
        ],
        "source": {"image": "../../"},
    }
    kind = np.uint16 if cells.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    write_image(image, "labels", name, cells.astype(kind), {"image-label": told})


def missing(value: object) -> bool:
    return isinstance(value, float) and np.isnan(value)


def write_maps(image: Path, name: str, maps: np.ndarray, classes: Sequence[str]) -> None:
    """Write class ``maps`` (C, H, W) as the image ``maps/<name>`` of the OME-Zarr ``image``, a channel a class."""
    channels = [
        {
            "label": own,
            "color": matplotlib.colors.to_hex(matplotlib.colormaps[PALETTE](k % 10)).lstrip("#").upper(),
            "active": True,
            "window": {"start": 0, "end": 1, "min": 0, "max": 1},
        }
        for k, own in enumerate(classes)
    ]
    write_image(image, "maps", name, maps.astype(np.float32), {"omero": {"channels": channels}})


def write_image(image: Path, group: str, name: str, pixels: np.ndarray, told: dict[str, Any]) -> None:
    """Write ``pixels`` (H, W) or (C, H, W) as ``<image>/<group>/<name>`` with the scale of ``image``, and list it.

    Raises ValueError for another size, or an image of several planes.
    """
    parent = zarr_image(str(image))
    if pixels.shape[-2:] != parent.size or parent.counts[0] != 1 or parent.counts[2] != 1:
        size, (times, _, planes) = " × ".join(map(str, parent.size)), parent.counts
        raise ValueError(f"{image}: {times} time points, {planes} planes of {size} px; {group} need one of their size.")
    wanted = {*parent.axes, "c"} if pixels.ndim == 3 else {*parent.axes} - {"c"}
    names = [axis for axis in "tczyx" if axis in wanted]
    axes, steps = axes_and_steps(image)
    scale = {"type": "scale", "scale": [steps.get(axis, 1.0) for axis in names]}
    level = {"path": "0", "coordinateTransformations": [scale]}
    known = [axes.get(axis, {"name": "c", "type": "channel"}) for axis in names]
    content = {"multiscales": [{"name": name, "axes": known, "datasets": [level]}]} | told
    sizes = dict(zip("cyx" if pixels.ndim == 3 else "yx", pixels.shape, strict=True))
    whole = pixels.reshape([sizes.get(axis, 1) for axis in names])
    version: Literal[2, 3] = 3 if parent.array.metadata.zarr_format == 3 else 2
    with folder_written_whole(image / group / name) as part:
        make_group(part, version, content)
        keys: Any = {"name": "v2", "separator": "/"} if version == 2 else None
        chunks = tuple(min(TILE_SIDE, length) for length in whole.shape)
        zarr.create_array(
            part / "0", data=whole, zarr_format=version, chunks=chunks, chunk_key_encoding=keys,
            dimension_names=names if version == 3 else None,
        )  # fmt: skip
    listed = sorted(path.name for path in (image / group).iterdir() if not path.name.startswith(".") and path.is_dir())
    make_group(image / group, version, {"labels": listed} if group == "labels" else {})


def axes_and_steps(image: Path) -> tuple[dict[str, dict], dict[str, float]]:
    """The axes of an image by name, and the step of its level 0 along each."""
    scales = ome_attributes(str(image))[1]["multiscales"][0]
    steps = np.ones(len(scales["axes"]))
    for change in [*scales["datasets"][0]["coordinateTransformations"], *scales.get("coordinateTransformations", [])]:
        steps *= change["scale"] if change["type"] == "scale" else 1
    axes = {axis["name"]: dict(axis) for axis in scales["axes"]}
    return axes, dict(zip(axes, steps.tolist(), strict=True))


def make_group(folder: Path, version: Literal[2, 3], content: dict[str, Any]) -> None:
    """A group of Zarr ``version`` with metadata of OME; a group that is there keeps its members."""
    if version == 3:
        content = {"ome": {"version": "0.5"} | content}
    else:
        for own in ("multiscales", "image-label"):
            parts = content.get(own, [])
            for part in parts if isinstance(parts, list) else [parts]:
                part["version"] = "0.4"
    made = zarr.open_group(folder, mode="a", zarr_format=version)
    made.attrs.put(content)
