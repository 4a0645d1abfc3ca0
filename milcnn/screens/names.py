"""Names of plates, batches, compounds and wells: one spelling for each, and wells of any habit joined to a platemap."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pandas as pd

from milcnn.columns import BATCH, COMPOUND, METADATA, PLATE, SITE, WELL
from milcnn.screens.problems import Problem, ScreenError, first_few

SIZES = {6: 3, 12: 4, 24: 6, 48: 8, 96: 12, 384: 24, 1536: 48}  # wells of a plate: its columns


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


def in_letters(row: int, column: int) -> str:
    """Row and column, counted from 0, as a name: A01, and AA01 below Z01."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return f"{letters[row // 26 - 1] if row > 25 else ''}{letters[row % 26]}{column + 1:02d}"


def with_platemap(table: pd.DataFrame, platemap: pd.DataFrame, name: str) -> pd.DataFrame:
    """``table`` with the platemap's columns, joined by well, and also by plate if the platemap has plates.

    The names of ``table`` are those of ``tidy_names``. It prints which wells are in one of the two alone. Raises
    ScreenError if none is in both, if a column is missing or in both, or if a well repeats.
    """
    ours = {column.removeprefix("Metadata_").lower(): column for column in METADATA}
    platemap = platemap.rename(columns=lambda column: ours.get(column.removeprefix("Metadata_").lower(), column))
    key = [column for column in (PLATE, WELL) if column in platemap]
    lacking = [column for column in {WELL, *key} if column not in platemap or column not in table]
    if lacking:
        raise ScreenError([f"{name}: the platemap and the table need {', '.join(sorted(lacking))}; add this column."])
    in_both = sorted(set(platemap) & set(table) - set(key))
    if in_both:
        raise ScreenError([f"{name}: {', '.join(in_both)} is also in the table; delete it in one of them."])
    platemap = tidy_names(platemap, name)
    if PLATE in key:
        refuse_spellings([*table[PLATE], *platemap[PLATE].unique()], PLATE, name)
    table, platemap = same_numbering(table, platemap, name)
    repeated = platemap[platemap.duplicated(key)]
    if len(repeated):
        wells = first_few([" ".join(row) for row in repeated[key].itertuples(index=False)])
        raise ScreenError([f"{name}: has more than one row for {wells}; keep one."])
    tell_unmatched(table[key], platemap[key], name)
    return table.merge(platemap, on=key, how="left", validate="many_to_one").fillna("")


def same_numbering(table: pd.DataFrame, platemap: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both with wells as A01 if one of them counts its wells, row by row from 1, and the other has letters."""
    counted = [part[WELL].str.fullmatch(r"\d+").all() for part in (table, platemap)]
    if counted == [True, False]:
        return table.assign(**{WELL: lettered(table[WELL], set(platemap[WELL]), name)}), platemap
    if counted == [False, True]:
        return table, platemap.assign(**{WELL: lettered(platemap[WELL], set(table[WELL]), name)})
    return table, platemap


def lettered(numbers: pd.Series, known: set[str], name: str) -> pd.Series:
    """Wells counted row by row from 1 as A01, on a plate of the size with which most are ``known``.

    Numbers or names of a whole plate tell its size. Raises ScreenError if two sizes fit as well.
    """
    wells = numbers.astype(int)
    ways: dict[tuple[str, ...], tuple[float, int]] = {}  # names: how many are known, size of the plate
    for size, columns in SIZES.items():
        if wells.between(1, size).all():
            way = tuple(in_letters(*divmod(well - 1, columns)) for well in wells)
            whole = size in (wells.nunique(), len(known)) and (wells.nunique() == size or known <= whole_plate(size))
            ways.setdefault(way, (np.inf if whole else len(known & set(way)), size))
    best = max((count for count, _ in ways.values()), default=0)
    fitting = [(way, size) for way, (count, size) in ways.items() if count == best]
    if len(fitting) != 1:
        sizes = " or ".join(str(size) for _, size in fitting)
        why = f"may be those of a plate of {sizes} wells" if best else "have no place on a plate"
        raise ScreenError([f"{name}: wells are numbers here, letters there, and the numbers {why}; write them as A01."])
    print(f"{name}: wells with a number are counted row by row on a plate of {fitting[0][1]} wells.")
    return pd.Series(fitting[0][0], index=numbers.index)


def whole_plate(size: int) -> set[str]:
    """The names of all wells of a plate of ``size`` wells."""
    return {in_letters(*divmod(well, SIZES[size])) for well in range(size)}


def tell_unmatched(table: pd.DataFrame, platemap: pd.DataFrame, name: str) -> None:
    """Print which wells are in the table or in the platemap alone. Raises ScreenError if none is in both."""
    here, there = (dict.fromkeys(part.itertuples(index=False, name=None)) for part in (table, platemap))
    absent, unused = (
        [" ".join(key) for key in one if key not in other] for one, other in ((here, there), (there, here))
    )
    if len(absent) == len(here):
        wells = f"the table has {first_few(absent)}, the platemap {first_few(unused)}"
        raise ScreenError([f"{name}: no well of the table is in it: {wells}; write them the same way."])
    if absent:
        print(f"{name}: wells of the table that are not in it: {len(absent)}, as {first_few(absent)}.")
    if unused:
        print(f"{name}: wells that are not in the table: {len(unused)}, as {first_few(unused)}.")
