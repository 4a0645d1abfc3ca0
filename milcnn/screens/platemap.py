"""Platemaps: what each well holds, joined to a table of fields. A platemap has one of these forms:

- a table of wells (``milcnn.screens.table``), with plates if they differ;
- one or several grids of rows and columns (``milcnn.screens.grid``);
- Broad's two files: ``barcode_platemap.csv``, or its folder, gives each plate the name of a map, which is a file beside
  it or in its folder ``platemap``.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, PLATE, WELL
from milcnn.screens.grid import grid_table
from milcnn.screens.names import in_letters, our_name, plain, refuse_spellings, tidy_names
from milcnn.screens.problems import Problem, ScreenError, first_few
from milcnn.screens.table import as_numbers, framed, text_rows

SIZES = {6: 3, 12: 4, 24: 6, 48: 8, 96: 12, 384: 24, 1536: 48}  # wells of a plate: its columns
MAP = "Metadata_Plate_Map_Name"
BROAD = {"assay_plate_barcode": PLATE, "plate_map_name": MAP, "well_position": WELL, "broad_sample": COMPOUND}
MILLIMOLAR = "mmoles_per_liter"


def read_platemap(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """The platemap in a file or folder, as text; ``columns`` is the setting of this name.

    A plate of ``barcode_platemap.csv`` whose map is not there has one row, without a well. Raises FileNotFoundError
    for a missing file, ScreenError for one that is neither a table nor a grid.
    """
    path = min(path.glob("barcode_platemap.*"), default=path / "barcode_platemap.csv") if path.is_dir() else path
    plates = wells_of(path, columns)
    theirs = {plain(column): column for column in plates}
    if not {"assay_plate_barcode", "plate_map_name"} <= set(theirs) or {"well", "well_position"} & set(theirs):
        return plates
    plates, maps = plates.rename(columns={theirs["plate_map_name"]: MAP}).drop_duplicates(), []
    for name in plates[MAP].unique():
        places = [path.parent / folder / name for folder in ("platemap", "")]
        files = [Path(f"{place}{end}") for place in places for end in ("", ".txt", ".csv", ".tsv", ".xlsx")]
        if file := next(filter(Path.is_file, files), None):
            wells = wells_of(file, columns)
            maps.append(wells[[column for column in wells if plain(column) not in theirs]].assign(**{MAP: name}))
    return plates.merge(pd.concat(maps or [pd.DataFrame(columns=[MAP, WELL])]), on=MAP, how="left").fillna("")


def wells_of(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """The wells in the table or grids of a file. In Broad's, a well without a sample holds the solvent, or DMSO."""
    rows = text_rows(path)
    wells = grid_table(path, rows, {*BROAD, MILLIMOLAR, *columns.values()})
    wells = framed(path, rows) if wells is None else wells
    theirs = {plain(column): column for column in wells}
    if sample := theirs.get("broad_sample"):
        wells = wells.replace("NA", "")  # R's missing value
        solvent = wells[theirs["solvent"]] if "solvent" in theirs else "DMSO"
        wells = wells.assign(**{sample: wells[sample].mask(wells[sample] == "", solvent)})
    return wells


def our_names(platemap: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """``platemap`` with milcnn's column names: by the setting ``columns``, else in any case, else Broad's.

    Concentrations in mmol/L become µM.
    """
    theirs = {plain(column): column for column in platemap}
    chosen = {column: ours for ours, column in columns.items() if column in platemap}
    names = {column: chosen.get(column, our_name(column)) for column in platemap}
    free = {key: ours for key, ours in BROAD.items() if ours not in names.values()}
    names |= {theirs[key]: ours for key, ours in free.items() if key in theirs and theirs[key] not in chosen}
    replaced = [column for column in platemap if names[column] in chosen.values() and column not in chosen]
    platemap = platemap.drop(columns=replaced).rename(columns=names)
    if repeated := sorted(set(platemap.columns[platemap.columns.duplicated()])):
        raise ScreenError([f"{name}: has more than one column {', '.join(repeated)}; keep one of each name."])
    if theirs.get(MILLIMOLAR) in platemap and CONCENTRATION not in platemap:
        platemap = platemap.rename(columns={theirs[MILLIMOLAR]: CONCENTRATION})
        micromolar = (1000 * as_numbers(platemap[CONCENTRATION], name)).map("{:.6g}".format).replace("nan", "")
        platemap = platemap.assign(**{CONCENTRATION: micromolar})
        print(f"{name}: {CONCENTRATION} (µM) is 1000 x mmoles_per_liter: in Broad's maps before dilution in the well.")
    return platemap


def with_platemap(table: pd.DataFrame, platemap: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """``table`` with the platemap's columns, joined by well, and also by plate if the platemap has plates.

    The names of ``table`` are those of ``tidy_names``. It prints what is in one of the two alone. Raises ScreenError
    if nothing is in both, if a map is not there, if a column is missing or in both, or if a well repeats.
    """
    platemap = our_names(platemap, columns, name)
    key = [column for column in (PLATE, WELL) if column in platemap]
    lacking = [column for column in {WELL, *key} if column not in platemap or column not in table]
    if lacking:
        raise ScreenError([f"{name}: the platemap and the table need {', '.join(sorted(lacking))}; add this column."])
    in_both = sorted(set(platemap) & set(table) - set(key))
    if in_both:
        raise ScreenError([f"{name}: {', '.join(in_both)} is also in the table; delete it in one of them."])
    platemap = tidy_names(platemap, name)
    if PLATE in key:
        platemap = for_plates(table, platemap, name)
    table, platemap = same_numbering(table, platemap, name)
    repeated = platemap[platemap.duplicated(key)]
    if len(repeated):
        wells = first_few([" ".join(row) for row in repeated[key].itertuples(index=False)])
        raise ScreenError([f"{name}: has more than one row for {wells}; keep one."])
    here, there = ([" ".join(row) for row in part[key].itertuples(index=False)] for part in (table, platemap))
    tell_unmatched(here, there, "well", name)
    return table.merge(platemap, on=key, how="left", validate="many_to_one").fillna("")


def for_plates(table: pd.DataFrame, platemap: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of ``platemap`` for plates of ``table``. Raises ScreenError if the map of one of them is not there."""
    refuse_spellings([*table[PLATE], *platemap[PLATE].unique()], PLATE, name)
    tell_unmatched(table[PLATE], platemap[PLATE], "plate", name)
    platemap = platemap[platemap[PLATE].isin(table[PLATE])]
    advice = "put the file into the folder 'platemap' beside this list, or correct its name"
    lost = platemap[platemap[WELL] == ""].get([PLATE, MAP], default=pd.DataFrame()).itertuples(index=False)
    if problems := [Problem("no such map", advice, f"{name}: {own}.txt (plate {plate})") for plate, own in lost]:
        raise ScreenError(problems)
    return platemap


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


def tell_unmatched(table: Iterable[str], platemap: Iterable[str], what: str, name: str) -> None:
    """Print which wells (or plates) are in one of the two alone. Raises ScreenError if none is in both."""
    here, there = dict.fromkeys(table), dict.fromkeys(platemap)
    absent, unused = ([key for key in one if key not in other] for one, other in ((here, there), (there, here)))
    if len(absent) == len(here):
        names = f"the table has {first_few(absent)}, the platemap {first_few(unused)}"
        raise ScreenError([f"{name}: no {what} of the table is in it: {names}; write them the same way."])
    if absent:
        print(f"{name}: {what}s of the table that are not in it: {len(absent)}, as {first_few(absent)}.")
    if unused:
        print(f"{name}: {what}s that are not in the table: {len(unused)}, as {first_few(unused)}.")
