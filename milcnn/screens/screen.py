"""The contract between where fields come from and everything that is done with them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from milcnn.screens.checks import file_problems, table_problems


class ScreenError(ValueError):
    """All that is wrong with a screen: ``problems``, one sentence each, which names the file or field."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        count = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
        super().__init__("\n- ".join([f"The screen has {count}:", *problems]))


@dataclass(frozen=True)
class Screen:
    """A table of fields and how to read them.

    ``fields`` has one row a field, with the columns ``Metadata_Plate``, ``Metadata_Well``,
    ``Metadata_Site``, ``Metadata_Label`` and, where known, ``Metadata_Batch``,
    ``Metadata_Compound``, ``Metadata_Concentration`` (µM), ``Metadata_Replicate``,
    ``Metadata_Control`` (True for fields of the negative control) and ``Metadata_Split`` (train,
    validation or test, where the screen itself says what may be learnt from; anything else is none
    of them). Fields that are read from files have a ``Path_<channel>`` for each channel and, where a
    file holds more than one plane, a ``Page_<channel>`` that counts from 0; see
    ``milcnn.screens.images``.

    ``read(row)`` gives the field ``(C, H, W)`` in the dtype of its file. A ``multilabel`` field has
    its labels sorted and joined by ``|``. A control whose label is none of ``classes`` scales its
    plate, but is never learnt from. ``pixel_size`` is in µm. ``planes`` is how many planes each
    file must hold, where that is known.

    Where the truth is known, ``truth(row)`` gives ``(H, W)`` uint16, 0 for background and k for the
    k-th object, and ``objects`` one row an object: the three key columns, ``object`` (k) and
    ``class``, which may be one that is never a label, as that of an outlier.

    ``protocol`` is what the screen's own ``Metadata_Split`` keeps apart: field, well, plate, compound ….

    ``skipped`` lists fields that were left out, with the columns of ``fields`` and ``reason``;
    ``problems`` are those that were met when the table was made, for ``check`` to tell.
    """

    fields: pd.DataFrame
    channels: list[str]
    classes: list[str]
    read: Callable[[pd.Series], np.ndarray]
    pixel_size: float | None = None
    truth: Callable[[pd.Series], np.ndarray] | None = None
    objects: pd.DataFrame | None = None
    multilabel: bool = False
    protocol: str = "field"
    planes: int | None = None
    skipped: pd.DataFrame | None = None
    problems: tuple[str, ...] = ()

    def check(self) -> None:
        """Look through the table and the header of every file; no pixels are read.

        Raises ScreenError, which lists all problems at once.
        """
        problems = [*self.problems, *table_problems(self.fields, self.classes, self.multilabel)]
        problems += file_problems(self.fields, self.channels, self.planes)
        if problems:
            raise ScreenError(problems)
