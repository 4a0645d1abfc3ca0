"""The class ``Screen``: every source of fields gives one, and every later step starts from it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from milcnn.columns import FIELD_KEY
from milcnn.screens.checks import file_problems, table_problems
from milcnn.screens.problems import Problem, ScreenError


@dataclass(frozen=True)
class Screen:
    """A table of fields and a function that reads them.

    ``fields`` has one row for each field. Required columns: ``Metadata_Plate``, ``Metadata_Well``,
    ``Metadata_Site``, ``Metadata_Label``. Optional columns: ``Metadata_Batch``, ``Metadata_Compound``,
    ``Metadata_Concentration`` (µM), ``Metadata_Replicate``, ``Metadata_Control`` (True for the negative control),
    ``Metadata_Source`` (fields with the same value are made from the same images; intervals are over sources) and
    ``Metadata_Split``, if the screen defines its own sets (train, validation or test; any other value is in none of
    them). Fields in files have a ``Path_<channel>`` for each channel and, if a file has more than one
    plane, a ``Page_<channel>``: the number of the plane, from 0, or its name in the file's metadata.

    ``read(row)`` gives the field, (C, H, W), in the dtype of its file. If ``multilabel``, a field may have several
    labels, sorted and joined by ``|``; else a ``|`` is a letter of the label. ``Metadata_Unknown``, joined alike, then
    lists the classes of which it is not known whether the field has them. A field may have no label. A control
    whose label is not in ``classes`` is used to scale its plate, but never for training. ``planes`` is the number of
    planes in each file, None if unknown. ``z_planes``, if a field is made of several z planes, is like ``fields``, with
    a row for each of them. ``pixel_size`` is in µm; if it is a ``given_pixel_size``, that in the files does not matter.

    If the true objects are known, ``truth(row)`` gives a mask, (H, W) uint16: 0 for background, k for object k.
    ``objects`` has one row for each object: the three key columns, ``object`` (k) and ``class``, which need not be
    in ``classes`` (outliers). With several labels a field, an object may have several classes too, joined by ``|``.

    ``protocol`` is what training and test fields of the screen's own ``Metadata_Split`` never share: field, well,
    plate, compound ….

    ``skipped`` lists the fields or files that were left out, with ``reason``. ``problems`` are errors from making the
    table; ``check`` reports them.
    """

    fields: pd.DataFrame
    channels: list[str]
    classes: list[str]
    read: Callable[[pd.Series], np.ndarray]
    pixel_size: float | None = None
    given_pixel_size: bool = False
    truth: Callable[[pd.Series], np.ndarray] | None = None
    objects: pd.DataFrame | None = None
    multilabel: bool = False
    protocol: str = "field"
    planes: int | None = None
    z_planes: pd.DataFrame | None = None
    skipped: pd.DataFrame | None = None
    problems: tuple[Problem | str, ...] = ()

    def read_from(self, rows: pd.DataFrame) -> pd.DataFrame:
        """What ``rows`` of ``fields`` are read from: these rows, or those of all their z planes."""
        return rows if self.z_planes is None else self.z_planes.merge(rows[FIELD_KEY])

    def check(self) -> None:
        """Check the table and the header of every file; no pixels are read.

        Raises ScreenError, which lists all problems at once.
        """
        problems: list[Problem | str] = [*self.problems, *table_problems(self.fields, self.classes, self.multilabel)]
        problems += file_problems(self.read_from(self.fields), self.channels, self.planes, not self.given_pixel_size)
        if problems:
            raise ScreenError(problems)
