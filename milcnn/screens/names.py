"""Names of plates, batches, compounds and wells: one spelling for each."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import pandas as pd

from milcnn.columns import BATCH, COMPOUND, METADATA, PLATE, SITE, WELL
from milcnn.screens.problems import Problem, ScreenError, first_few


def tidy_names(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """``table`` with wells as A01, and plates, batches and sites that became 7.0 as 7.

    Raises ScreenError for a name whose digits are lost, as in 4.17E+13.
    """
    problems = []
    for column in {PLATE, BATCH, SITE, WELL, COMPOUND} & set(table):
        texts = table[column]
        if column != COMPOUND and texts.str.fullmatch(r"\d+(\.0+)?|").all():
            table = table.assign(**{column: texts.str.replace(r"\.0+$", "", regex=True)})
        for lost in sorted(set(texts[texts.str.fullmatch(r"\d([.,]\d+)?[eE]\+\d+")])):
            advice = "format the column as text and type the names again: a spreadsheet has rounded them"
            problems.append(Problem("not all digits of the name are left", advice, f"{name}: {column} '{lost}'"))
    if problems:
        raise ScreenError(problems)
    return table.assign(**{WELL: table[WELL].map(well_name)}) if WELL in table else table


def refuse_spellings(names: Iterable[str], column: str, name: str) -> None:
    """Raise ScreenError if two ``names`` of a column differ in case or blanks alone: they would be split."""
    alike = defaultdict(list)
    for spelling in sorted(set(names)):
        alike["".join(unicodedata.normalize("NFKC", spelling).split()).casefold()].append(spelling)
    problems = [
        Problem("differ only in case or blanks", "write them the same way", f"{name}: {column} {first_few(quoted)}")
        for own in sorted(alike.values(), key=len, reverse=True)
        if len(quoted := list(map(repr, own))) > 1
    ]
    if problems:
        raise ScreenError(problems)


def well_name(well: str) -> str:
    """A01 for a1, A-01, 'A - 01', A:01 and r01c01; other names stay as they are."""
    if match := re.fullmatch(r"([A-Za-z]{1,2})[-_:.\s]*0*(\d{1,2})", well.strip()):
        return f"{match[1].upper()}{int(match[2]):02d}"
    if match := re.fullmatch(r"[Rr]0*(\d{1,2})[-_:.\s]*[Cc]0*(\d{1,2})", well.strip()):
        return in_letters(int(match[1]) - 1, int(match[2]) - 1)
    return str(int(well)) if well.strip().isdecimal() else well.strip()


def our_name(column: str) -> str:
    """milcnn's name of a column, whatever its case, with or without Metadata_; of others their own."""
    return {plain(ours): ours for ours in METADATA}.get(plain(column), column)


def plain(column: str) -> str:
    return column.removeprefix("Metadata_").lower()


def in_letters(row: int, column: int) -> str:
    """Row and column, counted from 0, as a name: A01, and AA01 below Z01."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return f"{letters[row // 26 - 1] if row > 25 else ''}{letters[row % 26]}{column + 1:02d}"
