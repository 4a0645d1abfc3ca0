"""Which fields are scored: all of them, or a draw that is spread over plates, wells and source images."""

import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL, LABEL_MARK, PLATE, SOURCE, WELL, labels_of
from milcnn.prepare.prepared import Prepared
from milcnn.roles import is_control


def scored_fields(prepared: Prepared, split: str, per_class: int) -> pd.DataFrame:
    """The fields of ``split`` that are scored, rows of ``Prepared.fields``: ``spread_fields`` of each class.

    A field with several labels has a row for each of them. Negative controls, and labels that no object carries, are
    left out. Without truth, fields of every class.
    """
    rows = prepared.of(split)
    if prepared.multilabel:
        rows = rows.assign(**{LABEL: rows[LABEL].str.split(LABEL_MARK, regex=False)}).explode(LABEL)
    if prepared.has_truth:
        names = {own for name in prepared.objects["class"].unique() for own in labels_of(name, prepared.multilabel)}
        rows = rows[rows[LABEL].isin(names) & ~is_control(rows)]
    return spread_fields(rows, per_class)


def spread_fields(rows: pd.DataFrame, per_class: int, seed: int = 0) -> pd.DataFrame:
    """At most ``per_class`` of ``rows`` for each label, as even over plates as can be, in a plate over its wells.

    In a well, fields are spread over source images, if the table has them. All units take turns; which comes first is
    drawn by ``seed``. Neither the order nor the index of ``rows`` changes what is drawn. Rows keep their order.
    """
    if rows.empty:
        return rows.reset_index(drop=True)
    units = [LABEL, *(name for name in (PLATE, WELL, SOURCE) if name in rows)]
    rows = rows.reset_index(drop=True)
    drawn = rows.sort_values(FIELD_KEY).sample(frac=1, random_state=seed)
    for depth in range(len(units), 1, -1):  # the finest first: the turns of the coarsest decide
        turn = drawn.groupby(units[:depth], dropna=False).cumcount()
        drawn = drawn.loc[turn.sort_values(kind="stable").index]
    return drawn.groupby(LABEL).head(per_class).sort_index().reset_index(drop=True)


def told_units(rows: pd.DataFrame) -> str:
    """How many fields, plates, wells and, if known, source images ``rows`` are of: "184 fields, 2 plates, 92 wells"."""
    units = {"field": FIELD_KEY, "plate": [PLATE], "well": [PLATE, WELL]}
    units |= {"source image": [SOURCE]} if SOURCE in rows else {}
    counts = {name: len(rows.drop_duplicates(columns)) for name, columns in units.items()}
    return ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
