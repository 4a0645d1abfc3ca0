"""What several data sets share: types, the plan of their fields, and the table of their objects."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import pandas as pd
from pydantic import Field

from milcnn.columns import FIELD_KEY, LABEL, SPLIT

Row = Mapping[str, Any]  # a row of a table of fields
SetName = Literal["train", "validation", "test", "fresh"]
SET_NAMES = get_args(SetName)  # in this order, so that a fresh test set changes no field of the others
Fraction = Annotated[float, Field(gt=0, le=1)]  # the share of a field's objects that carries the label


def plan_fields(fields_per_class: Mapping[Any, int], classes: list[str]) -> pd.DataFrame:
    """Key, label and split of each field: the given number of fields for each split and class. A split is one plate."""
    rows = [
        (split, f"{split}-{name}", site, name, split)
        for split, count in fields_per_class.items()
        for name in classes
        for site in range(1, count + 1)
    ]
    return pd.DataFrame(rows, columns=[*FIELD_KEY, LABEL, SPLIT])


def list_objects(fields: pd.DataFrame, place: Callable[[Row], Sequence[Any]]) -> pd.DataFrame:
    """One row per object: its field, ``object`` (its number in the truth), ``class`` and, if known, ``y``, ``x`` in px.

    ``place(row)`` gives the classes (n,) of the objects of a field and, if known, their positions (n, 2).
    """
    names, rows = [*FIELD_KEY, "object", "class", "y", "x"], []
    for row in fields.to_dict("records"):
        classes, *positions = place(row)
        columns = [classes, *(axis for array in positions for axis in array.T)]
        key = [row[name] for name in FIELD_KEY]
        rows += [(*key, number, *values) for number, values in enumerate(zip(*columns, strict=True), start=1)]
    return pd.DataFrame(rows, columns=names[: len(rows[0])] if rows else names)
