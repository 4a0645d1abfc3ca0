"""The cells of scored fields as files, on request: label images, class maps and a table of objects."""

from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.columns import FIELD_KEY
from milcnn.localise.found import FINDERS, SegmentedFields, class_maps_of
from milcnn.localise.objects import PLANES, mask_path, object_table, write_masks
from milcnn.network.model import MILCNN


def write_cells(
    model: MILCNN, segmentation: dict, pixel_size: float | None,
    rows: pd.DataFrame, pixels: np.ndarray, predicted: np.ndarray, folder: Path,
) -> pd.DataFrame:  # fmt: skip
    """Write two OME-TIFF files a field of ``rows`` to ``folder``, and return the table of their objects.

    ``<plate>_<well>_<site>.ome.tiff`` has the cells, and those that carry the class ``predicted`` (B,);
    ``…_maps.ome.tiff`` the class maps, float32 in [0, 1]. ``pixels`` (B, C, H, W) are prepared fields.
    """
    own, settings = model.settings, SegmentSettings(**segmentation)
    cells = [segment(field, own.channels, settings, pixel_size)[1] for field in pixels]
    fields = SegmentedFields(rows, pixels, predicted, cells)
    tables = []
    parts = zip(rows.to_dict("records"), FINDERS["cells"](model, fields), class_maps_of(model, fields), strict=True)
    for key, found, maps in parts:
        path = mask_path(folder, key)
        write_masks(path, np.stack([found.cells, found.labelled]), PLANES, pixel_size)
        write_masks(path.with_name(path.name.replace(".ome", "_maps.ome")), maps, own.classes, pixel_size)
        row = {column: key[column] for column in FIELD_KEY}
        tables.append(object_table(found.cells, found.labelled, maps, own.classes, row, pixel_size))
    return pd.concat(tables)
