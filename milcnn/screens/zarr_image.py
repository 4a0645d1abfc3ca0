"""An OME-Zarr image, NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3): level 0 of its first multiscale.

A path is that of the image's group, as in ``P1.ome.zarr/B/2/0``. ``P1.zarr/B/03/0#FOV_1`` is a field of a mosaic, a
row of its ``tables/FOV_ROI_table``. Planes are numbered from 0 in the order time, channel, z: ``(t * C + c) * Z + z``.
See https://ngff.openmicroscopy.org/0.5/ and https://fractal-analytics-platform.github.io/fractal-tasks-core/tables/.
"""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from milcnn.screens.metadata import Fault, in_micrometres
from milcnn.screens.tiff import DTYPES

if TYPE_CHECKING:  # zarr and yaozarrs take 0.2 s to import, and most screens are TIFFs
    import zarr

warnings.filterwarnings("ignore", "Warning: .* axis unit|The name .* risky|The FieldOfView")  # what yaozarrs advises


ADDED = ("labels", "maps")  # groups in the folder of an image that are no part of it


@dataclass(frozen=True)
class ZarrImage:
    """An open image. ``folder`` is that of the array, ``axes`` are its axes in their order, such as t, c, z, y, x.

    ``names`` are those of the channels, an empty list if not all have one. ``window`` has the rows (y) and columns (x)
    of the field; ``pixel_size`` is in µm.
    """

    folder: str
    array: "zarr.Array"
    axes: list[str]
    names: list[str]
    pixel_size: float | None
    window: dict[str, slice]

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of time points, channels and z planes."""
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        return sizes.get("t", 1), sizes.get("c", 1), sizes.get("z", 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the field."""
        y, x = (self.window[axis] for axis in "yx")
        return y.stop - y.start, x.stop - x.start

    def planes(self, numbers: list[int]) -> dict[int, np.ndarray]:
        """Planes by number, each (H, W). One read for all, because a chunk may hold several."""
        places = np.stack(np.unravel_index(numbers, self.counts), axis=1)
        first, last = places.min(axis=0), places.max(axis=0) + 1
        block = dict(zip("tcz", map(slice, first.tolist(), last.tolist()), strict=True)) | self.window
        pixels = np.asarray(self.array[tuple(block[axis] for axis in self.axes)])
        pixels = pixels.transpose([self.axes.index(axis) for axis in "tczyx" if axis in self.axes])
        pixels = pixels.reshape(*(last - first), *self.size)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return {number: pixels[tuple(place - first)] for number, place in zip(numbers, places, strict=True)}

    def unwritten(self) -> Iterator[int]:
        """The planes without a file of any chunk or shard: Zarr reads its fill value, mostly 0, without a word."""
        grid = self.array.shards or self.array.chunks
        for number, place in enumerate(np.ndindex(*self.counts)):
            at = self.window | {axis: slice(index, index + 1) for axis, index in zip("tcz", place, strict=True)}
            parts = zip((at[axis] for axis in self.axes), grid, strict=True)
            chunks = product(*(range(part.start // step, (part.stop - 1) // step + 1) for part, step in parts))
            keys = map(self.array.metadata.encode_chunk_key, chunks)
            if not any(os.path.exists(f"{self.folder}/{key}") for key in keys):
                yield number


def zarr_image(path: str) -> ZarrImage:
    """Open an image, or a field of a mosaic. Raises Fault or FileNotFoundError if it is not whole."""
    import zarr

    folder, field = split_field(path)
    models, ome = ome_attributes(folder)
    if "multiscales" not in ome:
        raise Fault(f"an OME-Zarr group without an image ({kind_of(ome)}); name the group of an image.")
    scales = validated(models.Multiscale, ome["multiscales"][0])
    axes, level = [axis.name for axis in scales.axes], scales.datasets[0]
    try:
        array = zarr.open_array(Path(folder, level.path), mode="r")
    except FileNotFoundError:
        raise Fault(f"an image without its array (level '{level.path}'); copy or convert it again.") from None
    if not {"y", "x"} <= set(axes) <= set("tczyx") or len(axes) != array.ndim:
        raise Fault(f"axes that cannot be read ({', '.join(axes)}); convert it to t, c, z, y, x.")
    if array.dtype.newbyteorder("=").name not in DTYPES:
        raise Fault(f"a kind of number that cannot be read ({array.dtype}); save it as 8 or 16 bits, or as float32.")
    steps = np.ones(len(axes))
    for change in [*level.coordinateTransformations, *(scales.coordinateTransformations or [])]:
        steps *= change.scale if change.type == "scale" else 1
    step = dict(zip(axes, steps.tolist(), strict=True))
    told = (ome.get("omero") or {}).get("channels") or []
    names = [str(channel.get("label") or channel.get("wavelength_id") or "").strip() for channel in told]
    channels = array.shape[axes.index("c")] if "c" in axes else 1
    unit = next(axis.unit for axis in scales.axes if axis.name == "x")
    window = {axis: slice(0, array.shape[axes.index(axis)]) for axis in "yx"}
    return ZarrImage(
        folder=f"{folder}/{level.path}",
        array=array,
        axes=axes,
        names=names if all(names) and len(names) == channels else [],
        pixel_size=in_micrometres(str(step["x"]), unit or ""),
        window=field_window(folder, field, step, window) if field else window,
    )


def split_field(path: str) -> tuple[str, str]:
    """The folder of an image, and the name of a field in it or ''."""
    parent, name = os.path.split(path)
    name, _, field = name.partition("#")
    return os.path.join(parent, name), field


def ome_attributes(folder: str) -> tuple[Any, dict]:
    """The models of the version, and the attributes of OME-Zarr, of a group. Raises Fault if they cannot be read."""
    from yaozarrs import open_group, v04, v05

    if not os.path.isdir(folder):
        raise FileNotFoundError(folder)
    try:
        attributes = open_group(folder).attrs
    except FileNotFoundError:
        raise Fault("a folder without metadata of Zarr (zarr.json or .zgroup); copy or convert it again.") from None
    except ValueError as error:  # of JSON or of pydantic
        raise Fault(f"broken metadata of Zarr ({' '.join(str(error).split())[:80]}); copy it again.") from None
    return (v05, dict(attributes["ome"])) if "ome" in attributes else (v04, dict(attributes))


def kind_of(ome: dict) -> str:
    """What a group of OME-Zarr is, in words."""
    if "bioformats2raw.layout" in ome and "plate" not in ome:
        return "a list of images as bioformats2raw writes it"
    kinds = {"plate": "a plate", "multiscales": "a single image", "well": "a well", "labels": "labels"}
    return next((kind for key, kind in kinds.items() if key in ome), "no metadata of OME")


def validated(model: type[BaseModel], told: object) -> Any:
    """Metadata as ``yaozarrs`` has them. Raises Fault if they break the rules."""
    try:
        return model.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        advice = "convert it again, to version 0.4 or 0.5"
        raise Fault(f"metadata that break the rules of OME-Zarr ({where}: {first['msg']}); {advice}.") from None


def mosaic_fields(folder: str) -> pd.DataFrame | None:
    """The fields of a mosaic by name, with position and size in µm; None if an image has no such table."""
    import zarr

    table = Path(folder, "tables", "FOV_ROI_table")
    if not table.is_dir():
        return None
    if (file := table / "table.csv").exists() or (file := table / "table.parquet").exists():
        fields = pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
        return fields.reset_index().astype({"FieldIndex": str}).set_index("FieldIndex")
    group = zarr.open_group(table, mode="r")
    if "X" not in group:
        raise Fault(f"a FOV_ROI_table that cannot be read ({group.attrs.get('backend')}); save it as csv or anndata.")
    names = [f"{part}/{group[part].attrs['_index']}" for part in ("obs", "var")]
    values, rows, columns = (np.asarray(group.get(name)) for name in ("X", *names))
    return pd.DataFrame(values, index=rows.tolist(), columns=columns.tolist())


def field_window(folder: str, field: str, step: dict[str, float], whole: dict[str, slice]) -> dict[str, slice]:
    """The rows and columns of a field of a mosaic. Raises Fault if there is no such field, or outside the mosaic."""
    fields = mosaic_fields(folder)
    if fields is None or list(fields.index).count(field) != 1:
        raise Fault(f"no field of this name in its FOV_ROI_table ({field}); correct the table, or convert it again.")
    window = {}
    for axis in "yx":
        start, length = (round(fields.at[field, f"{key}_micrometer"] / step[axis]) for key in (axis, f"len_{axis}"))
        window[axis] = slice(start, start + length)
        if length < 1 or start < 0 or start + length > whole[axis].stop:
            raise Fault(
                f"a field outside its mosaic ({field}, {axis} {start} to {start + length} px); convert it again."
            )
    return window


def image_files(path: str) -> list[str]:
    """The files that hold the image of a path, where they are on disk; one inside a zip has none.

    Labels and maps in the folder of the image, which an export or another tool adds, are not the image.
    """
    folder = split_field(path)[0]
    if os.path.isdir(folder):
        found = []
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if parent != folder or name not in ADDED]
            found += [os.path.join(parent, name) for name in names]
        return sorted(found)
    return [path] if os.path.exists(path) else []


def is_zarr(path: str) -> bool:
    """True for the path of an OME-Zarr image: in a folder ``.zarr``, or a folder with metadata of Zarr."""
    if re.search(r"\.zarr(/|#|$)", path, re.IGNORECASE):
        return True
    folder = split_field(path)[0]
    return os.path.isdir(folder) and any(os.path.exists(f"{folder}/{name}") for name in (".zgroup", "zarr.json"))
