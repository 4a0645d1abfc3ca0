"""The contract between where fields come from and everything that is done with them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

LABEL = "Metadata_Label"
PLATE = "Metadata_Plate"
SPLIT = "Metadata_Split"
FIELD_KEY = [PLATE, "Metadata_Well", "Metadata_Site"]


@dataclass(frozen=True)
class Screen:
    """A table of fields and how to read them.

    ``fields`` has one row a field, with the columns ``Metadata_Plate``, ``Metadata_Well``,
    ``Metadata_Site``, ``Metadata_Label``, and ``Metadata_Split`` (train, validation or test) where
    the screen itself says what may be learnt from. ``read(row)`` gives the field ``(C, H, W)`` in
    the dtype of its file. Where the truth is known, ``truth(row)`` gives ``(H, W)`` uint16, 0 for
    background and k for the k-th object, and ``objects`` one row an object: the three key columns,
    ``object`` (k) and ``class``. ``pixel_size`` is in µm. ``outliers`` names classes that occur
    among the objects but are never a label.
    """

    fields: pd.DataFrame
    channels: list[str]
    classes: list[str]
    read: Callable[[pd.Series], np.ndarray]
    pixel_size: float | None = None
    truth: Callable[[pd.Series], np.ndarray] | None = None
    objects: pd.DataFrame | None = None
