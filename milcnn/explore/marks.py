"""What the user finds wrong: a CSV with one row a marked field, beside the table of the study.

Columns: plate, well and site; ``mark``, one of ``FIELD_MARKS``; ``Metadata_Label``, the right label, if it is known.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.files import read_table, write_table

FIELD_MARKS = ["wrong label", "bad quality"]
MARK_COLUMNS = [*FIELD_KEY, "mark", LABEL]


def read_marks(path: Path) -> pd.DataFrame:
    """The marks in ``path``; none where there is no file. Raises ValueError for another table or an unknown mark."""
    if not path.exists():
        return pd.DataFrame(columns=MARK_COLUMNS, dtype=str)
    marks = read_table(path)
    if missing := [column for column in MARK_COLUMNS if column not in marks]:
        raise ValueError(f"{path}: no column {missing[0]}; it is no table of marks, name another file.")
    if unknown := sorted(set(marks["mark"].astype(str)) - {*FIELD_MARKS}):
        raise ValueError(f"{path}: mark '{unknown[0]}' is unknown; write {' or '.join(FIELD_MARKS)}.")
    return marks[MARK_COLUMNS].astype(str).where(marks[MARK_COLUMNS].notna(), "")


def with_mark(marks: pd.DataFrame, key: Sequence[object], mark: str, label: str = "") -> pd.DataFrame:
    """``marks`` in which the field ``key`` (plate, well, site) has this ``mark`` alone; with '' it has none."""
    names = [str(part) for part in key]
    kept = marks[(marks[FIELD_KEY] != names).any(axis=1)]
    row = pd.DataFrame([[*names, mark, label]], columns=MARK_COLUMNS)
    return pd.concat([kept, row] if mark else [kept], ignore_index=True)


def mark_of(marks: pd.DataFrame, key: Sequence[object]) -> tuple[str, str]:
    """Mark and right label of the field ``key``; '' where it has none."""
    own = marks[(marks[FIELD_KEY] == [str(part) for part in key]).all(axis=1)]
    return ("", "") if own.empty else (own["mark"].iloc[0], own[LABEL].iloc[0])


def write_marks(marks: pd.DataFrame, path: Path) -> None:
    """Write ``marks``, sorted by field, whole or not at all."""
    write_table(marks.sort_values(FIELD_KEY, ignore_index=True), path)
