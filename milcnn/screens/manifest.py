"""Your own screen: a table of fields, a folder of images and, optionally, a platemap.

The table is CSV or Parquet and has one of these forms:

- milcnn's own: ``Path_<channel>`` if each channel has its own file; ``Path`` if a file has all channels as pages
  (TIFF, OME-TIFF) or colours (PNG). ``Page_<channel>``, counted from 0, selects a plane.
- CellProfiler's image table: ``Image_FileName_<channel>``, ``Image_PathName_<channel>``, ``Image_Metadata_…``.
- CellProfiler's ``LoadData``: ``FileName_<channel>``, ``PathName_<channel>``, ``Frame_<channel>``, ``Metadata_…``.

The metadata columns are those of ``Screen``. The table or the platemap must give plate, well, site and label.
"""

import os
import re
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import pandas as pd
from pydantic import Field

from milcnn.columns import (
    COMPOUND,
    CONCENTRATION,
    CONTROL,
    FIELD_KEY,
    LABEL,
    LABEL_MARK,
    METADATA,
    PLATE,
    REPLICATE,
    SITE,
    WELL,
    class_names,
    join_labels,
    path_column,
)
from milcnn.files import read_table
from milcnn.paths import in_root
from milcnn.screens.channels import image_columns, with_channels
from milcnn.screens.images import read_field
from milcnn.screens.screen import Screen, ScreenError
from milcnn.settings import Settings


class ManifestSettings(Settings):
    """Where the table and the images are, and what the table's columns mean."""

    table: str  # CSV or Parquet, one row for each field
    images: str = ""  # folder in which the paths of the table start; empty: the folder of the table
    strip: str = ""  # start of the paths in the table to replace by `images`, for example /home/me/screen
    platemap: str = ""  # CSV or Parquet: compound, concentration, label of each well (and plate, if plates differ)
    columns: dict[str, str] = Field({})  # milcnn's column: the table's column, for example Metadata_Label: moa
    channels: list[str] = Field([])  # empty: all channels of the table or of the OME metadata
    multilabel: bool = False  # a field may have several labels, joined by |
    controls: list[str] = Field(["DMSO"])  # compounds or labels that are the negative control
    control_class: bool = True  # the negative control is also a class to learn
    pixel_size: float | None = Field(None, gt=0)  # µm; None: that of the OME metadata


def manifest_screen(settings: ManifestSettings) -> Screen:
    """The screen in a table. Raises ScreenError if the table lacks columns or has values that make no sense."""
    path = in_root(settings.table)
    table = to_our_columns(text_table(path), settings.columns, str(path))
    if settings.platemap:
        table = with_platemap(table, text_table(in_root(settings.platemap)), settings.platemap)
    refuse_unknown(table, str(path))
    folder = in_root(settings.images) if settings.images else path.parent
    table, problems = with_paths(table, folder, settings.strip)
    table, channels, planes, pixel_size = with_channels(table, settings.channels, str(path))
    fields = typed(table, settings.multilabel, settings.controls, str(path))
    order = [column for column in METADATA if column in fields]
    fields = fields[order + [column for column in fields if column not in order]]
    return Screen(
        fields=fields,
        channels=channels,
        classes=class_names(fields, settings.multilabel, settings.control_class),
        read=lambda row: read_field(row, channels),
        pixel_size=settings.pixel_size or pixel_size,
        multilabel=settings.multilabel,
        planes=planes,
        problems=tuple(problems),
    )


def text_table(path: Path) -> pd.DataFrame:
    """A table with text in every cell, '' where empty: plate 007 stays 007, and a compound may have the name NA."""
    if path.suffix != ".parquet" and path.exists():
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    table = read_table(path, "correct 'table' or 'platemap'; a relative path starts in the repository's folder")
    return table.map(lambda cell: "" if pd.isna(cell) else f"{cell:.12g}" if isinstance(cell, float) else str(cell))


def to_our_columns(table: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """``table`` with milcnn's column names: first by the setting ``columns``, then from CellProfiler's names."""
    unknown = sorted(set(columns.values()) - set(table))
    if unknown:
        raise ScreenError([f"{name}: has no column {', '.join(unknown)}, only {', '.join(table)}; correct 'columns'."])
    table = table.drop(columns=[ours for ours in columns if ours in table and ours not in columns.values()])
    table = table.rename(columns={theirs: ours for ours, theirs in columns.items()})
    table = table.rename(columns=lambda column: re.sub(r"^Image_(?=Metadata_|FileName_|PathName_|Frame_)", "", column))
    for file in [column for column in table if column.startswith("FileName_")]:
        channel = file.removeprefix("FileName_")
        if channel.startswith("Illum") or path_column(channel) in table:
            continue  # CellProfiler lists its illumination functions like images
        parent = table.get(f"PathName_{channel}", pd.Series("", index=table.index))
        table[path_column(channel)] = [f"{a}/{b}" if a else b for a, b in zip(parent, table[file], strict=True)]
    theirs = [column for column in table if column.startswith(("FileName_", "PathName_"))]
    return table.drop(columns=theirs).rename(columns=lambda column: re.sub("^Frame_", "Page_", column))


def with_platemap(table: pd.DataFrame, platemap: pd.DataFrame, name: str) -> pd.DataFrame:
    """``table`` with the platemap's columns, joined by well, and also by plate if the platemap has plates."""
    ours = {column.removeprefix("Metadata_").lower(): column for column in METADATA}
    platemap = platemap.rename(columns=lambda column: ours.get(column.removeprefix("Metadata_").lower(), column))
    key = [column for column in (PLATE, WELL) if column in platemap]
    lacking = [column for column in {WELL, *key} if column not in platemap or column not in table]
    if lacking:
        raise ScreenError([f"{name}: the platemap and the table need {', '.join(sorted(lacking))}; add this column."])
    in_both = sorted(set(platemap) & set(table) - set(key))
    if in_both:
        raise ScreenError([f"{name}: {', '.join(in_both)} is also in the table; delete it in one of them."])
    table, platemap = (part.assign(**{WELL: part[WELL].map(well_name)}) for part in (table, platemap))
    repeated = platemap[platemap.duplicated(key)]
    if len(repeated):
        wells = ", ".join(" ".join(row) for row in repeated[key].itertuples(index=False))
        raise ScreenError([f"{name}: has more than one row for {wells}; keep one."])
    return table.merge(platemap, on=key, how="left", validate="many_to_one").fillna("")


def well_name(well: str) -> str:
    """A01 for a1, A1 and A-01; other names stay as they are."""
    match = re.fullmatch(r"([A-Za-z]{1,2})[-_ ]?0*(\d{1,2})", well.strip())
    return f"{match[1].upper()}{int(match[2]):02d}" if match else well.strip()


def refuse_unknown(table: pd.DataFrame, name: str) -> None:
    """Raise ScreenError if a required column is missing, or if a column name looks like a spelling mistake."""
    problems = []
    for column in METADATA:
        near = [] if column in table else get_close_matches(column, set(table) - set(METADATA), 1, cutoff=0.9)
        if near:
            problems.append(f"{name}: unknown column '{near[0]}'; if it is {column}, rename it or set 'columns'.")
        elif column in [*FIELD_KEY, LABEL] and column not in table:
            problems.append(f"{name}: has no column {column}, only {', '.join(table)}; add it or set 'columns'.")
    if not image_columns(table):
        problems.append(f"{name}: has no column Path, Path_<channel> or FileName_<channel>; add it to name the images.")
    if problems:
        raise ScreenError(problems)


def with_paths(table: pd.DataFrame, folder: Path, strip: str) -> tuple[pd.DataFrame, list[str]]:
    """``table`` with absolute paths, and the problems. A path outside ``folder`` becomes None and is never opened."""
    problems = []

    def absolute(column: str, path: str) -> str | None:
        inside = path.replace("\\", "/").removeprefix(strip.replace("\\", "/"))
        full = os.path.normpath(folder / (inside.lstrip("/") if strip else inside))  # resolve() would refuse links
        if path and Path(full).is_relative_to(os.path.normpath(folder)):
            return Path(full).as_posix()
        outside = f"'{path}': is outside {folder}; set 'images' or 'strip'."
        problems.append(outside if path else f"{column}: a path is empty; fill it in, or delete the row.")
        return None

    paths = {column: table[column].map(partial(absolute, column)) for column in image_columns(table)}
    return table.assign(**paths), problems


def typed(table: pd.DataFrame, multilabel: bool, controls: list[str], name: str) -> pd.DataFrame:
    """``table`` with numbers in the number columns, sorted labels, and ``Metadata_Control``."""
    in_numbers = [column for column in table if column in {CONCENTRATION, REPLICATE} or column.startswith("Page_")]
    numbers = {column: as_numbers(table, column, name) for column in in_numbers}
    table = table.assign(**numbers, **{WELL: table[WELL].map(well_name)})
    if table[SITE].str.fullmatch(r"\d+").all():
        table[SITE] = table[SITE].astype(int)
    if multilabel:
        table[LABEL] = table[LABEL].map(lambda label: join_labels([part for part in label.split(LABEL_MARK) if part]))
    if CONTROL in table:
        table[CONTROL] = table[CONTROL].str.lower().isin({"true", "1", "1.0", "yes"})
    else:
        names = {control.casefold() for control in controls}
        table[CONTROL] = False
        for column in {COMPOUND, LABEL} & set(table):
            table[CONTROL] |= table[column].str.strip().str.casefold().isin(names)
    if COMPOUND in table:  # platemaps often give controls no label: use the name of the compound
        table[LABEL] = table[LABEL].where((table[LABEL] != "") | ~table[CONTROL], table[COMPOUND])
    return table


def as_numbers(table: pd.DataFrame, column: str, name: str) -> pd.Series:
    """A column as numbers; an empty cell becomes NaN. Pages and replicates are integers if none is empty."""
    values = pd.to_numeric(table[column].astype(str).replace("", None), errors="coerce")
    wrong = table[column][values.isna() & (table[column] != "")]
    if len(wrong):
        row, value = wrong.index[0] + 2, wrong.iloc[0]
        raise ScreenError([f"{name}: {column} '{value}' in row {row} is not a number; write it without a unit."])
    return values if column == CONCENTRATION or values.isna().any() else values.astype(int)
