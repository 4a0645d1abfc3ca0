"""What the user finds wrong: a CSV with one row a marked field, beside the table of the study.

Columns: plate, well and site; ``mark``, one of ``FIELD_MARKS``; ``Metadata_Label``, the right label, if it is known.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.files import read_table, write_table
from milcnn.screens.screen import Screen

FIELD_MARKS = ["wrong label", "bad quality"]
MARK_COLUMNS = [*FIELD_KEY, "mark", LABEL]


def read_marks(path: Path, required: bool = False) -> pd.DataFrame:
    """The marks in ``path``; none where there is no file, unless it is ``required``: then FileNotFoundError is raised.

    Raises ValueError for another table or an unknown mark.
    """
    if not path.exists():
        if required:
            raise FileNotFoundError(f"{path}: no such table of marks; correct 'marks'.")
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


def with_marks(screen: Screen, marks: pd.DataFrame) -> Screen:
    """``screen`` as ``marks`` correct it: a field of bad quality is left out, see ``Screen.skipped``.

    A wrong label becomes the right one; where that is not known the field has none, and is neither trained on nor
    judged. Raises ValueError for a field that the screen lacks, and for a right label that is none of its classes.
    """
    keys = pd.MultiIndex.from_frame(screen.fields[FIELD_KEY].astype(str))
    given = pd.MultiIndex.from_frame(marks[FIELD_KEY].astype(str))
    if len(strange := given.difference(keys)):
        raise ValueError(f"marks: field {'/'.join(strange[0])} is not in the screen; take it out of the file.")
    if unknown := sorted(set(marks[LABEL]) - {"", *screen.classes}):
        raise ValueError(f"marks: label '{unknown[0]}' is no class; there are {', '.join(screen.classes)}.")
    wrong = marks["mark"] == FIELD_MARKS[0]
    label = pd.Series(marks.loc[wrong, LABEL].to_numpy(), given[wrong]).reindex(keys).to_numpy()
    fields = screen.fields.assign(**{LABEL: screen.fields[LABEL].where(pd.isna(label), label)})
    bad = keys.isin(given[~wrong])
    skipped = screen.fields.loc[bad, FIELD_KEY].assign(reason="marked: bad quality")
    kept = fields[~bad].reset_index(drop=True)
    objects = None if screen.objects is None else screen.objects.merge(kept[FIELD_KEY], on=FIELD_KEY)
    everything = pd.concat([screen.skipped, skipped], ignore_index=True) if bad.any() else screen.skipped
    return replace(screen, fields=kept, objects=objects, skipped=everything)
