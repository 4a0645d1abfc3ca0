"""Your own screen: a table of fields, a folder of images and, optionally, a platemap.

The table, see ``milcnn.screens.table``, has one of these forms:

- milcnn's own: ``Path_<channel>`` if each channel has its own file; ``Path`` if a file has all channels as pages or
  colours. The names in the file (OME-XML, ImageJ's labels) tell which is which; without names, their order does.
  ``Page_<channel>``, counted from 0, selects a plane.
- CellProfiler's image table: ``Image_FileName_<channel>``, ``Image_PathName_<channel>``, ``Image_Metadata_…``.
- CellProfiler's ``LoadData``, as in JUMP: ``FileName_<channel>`` and ``PathName_<channel>``, or ``URL_<channel>``;
  ``Frame_<channel>``, ``Metadata_…``. Columns of outlines and of illumination functions (``Illum…``) are left out.

The metadata columns are those of ``Screen``. The table or the platemap must give plate, well, site and label.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
from pydantic import Field

from milcnn.columns import (
    BATCH,
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
    class_names,
    join_labels,
    path_column,
)
from milcnn.paths import in_root
from milcnn.roles import is_control
from milcnn.screens.channels import image_columns, with_channels
from milcnn.screens.images import read_field
from milcnn.screens.names import refuse_spellings, tidy_names, with_platemap
from milcnn.screens.problems import Problem, ScreenError, first_few
from milcnn.screens.screen import Screen
from milcnn.screens.table import text_table
from milcnn.settings import Settings

CELLPROFILER = "FileName_|PathName_|URL_|Frame_|Series_"  # starts of its columns of images


class ManifestSettings(Settings):
    """Where the table and the images are, and what the table's columns mean."""

    table: str  # CSV, Excel or Parquet, one row for each field
    images: str = ""  # folder in which the paths of the table start; empty: the folder of the table
    strip: str = ""  # start of the paths in the table to replace by `images`, for example /home/me/screen
    platemap: str = ""  # such a table: compound, concentration, label of each well (and plate, if plates differ)
    columns: dict[str, str] = Field({})  # milcnn's column: the table's column, for example Metadata_Label: moa
    channels: list[str] = Field([])  # by name, in this order; empty: all of the table, or of the files' metadata
    multilabel: bool = False  # a field may have several labels, joined by |
    controls: list[str] = Field(["DMSO"])  # compounds or labels that are the negative control
    control_class: bool = True  # the negative control is also a class to learn
    pixel_size: float | None = Field(None, gt=0)  # µm; None: that of the OME metadata


def manifest_screen(settings: ManifestSettings) -> Screen:
    """The screen in a table. Raises ScreenError if the table lacks columns or has values that make no sense."""
    path = in_root(settings.table)
    table = tidy_names(to_our_columns(text_table(path), settings.columns, str(path)), str(path))
    if settings.platemap:
        table = with_platemap(table, text_table(in_root(settings.platemap)), settings.platemap)
    refuse_unknown(table, str(path))
    for column in {PLATE, BATCH, COMPOUND} & set(table):
        refuse_spellings(table[column], column, str(path))
    folder = in_root(settings.images) if settings.images else path.parent
    table, problems = with_paths(table, settings.channels, folder, settings.strip)
    table = typed(table, settings.multilabel, settings.controls, str(path))
    fields, channels, planes, pixel_size = with_channels(table, settings.channels, str(path))
    order = [column for column in METADATA if column in fields]
    fields = fields[order + [column for column in fields if column not in order]]
    taught = fields if settings.control_class else fields[~is_control(fields)]
    return Screen(
        fields=fields,
        channels=channels,
        classes=class_names(taught, settings.multilabel),
        read=lambda row: read_field(row, channels),
        pixel_size=settings.pixel_size or pixel_size,
        given_pixel_size=settings.pixel_size is not None,
        multilabel=settings.multilabel,
        planes=planes,
        problems=tuple(problems),
    )


def to_our_columns(table: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """``table`` with milcnn's column names: first by the setting ``columns``, then from CellProfiler's names."""
    unknown = sorted(set(columns.values()) - set(table))
    if unknown:
        raise ScreenError([f"{name}: has no column {', '.join(unknown)}, only {', '.join(table)}; correct 'columns'."])
    table = table.drop(columns=[ours for ours in columns if ours in table and ours not in columns.values()])
    table = table.rename(columns={theirs: ours for ours, theirs in columns.items()})
    table = table.rename(columns=lambda column: re.sub(rf"^Image_(?=Metadata_|{CELLPROFILER})", "", column))
    theirs = [column for column in table if re.match(CELLPROFILER, column)]
    named = dict.fromkeys(column.split("_", 1)[1] for column in theirs if column.startswith(("FileName_", "URL_")))
    left_out = [channel for channel in named if re.match("Illum", channel) or "outline" in channel.lower()]
    if left_out:
        print(f"{name}: {first_few(left_out)} are left out: illumination functions and outlines are not channels.")
    for channel in named:
        if channel not in left_out and path_column(channel) not in table:
            table[path_column(channel)] = cellprofiler_paths(table, channel)
    refuse_series(table, name)
    others = [column for column in theirs if not column.startswith("Frame_") or column[6:] in left_out]
    return table.drop(columns=others).rename(columns=lambda column: re.sub("^Frame_", "Page_", column))


def cellprofiler_paths(table: pd.DataFrame, channel: str) -> list[str]:
    """The paths of a channel from ``FileName_`` and ``PathName_``, else from ``URL_``."""
    if f"FileName_{channel}" not in table:
        return [path_of_url(url) for url in table[f"URL_{channel}"]]
    files = table[f"FileName_{channel}"]
    folders = table.get(f"PathName_{channel}", pd.Series("", index=table.index))
    return [
        f"{path_of_url(folder)}/{file}" if folder and file else file
        for folder, file in zip(folders, files, strict=True)
    ]


def path_of_url(url: str) -> str:
    """The path in a URL such as file:///C:/screen/a%20b.tif; what is not of a file stays as it is."""
    match = re.fullmatch(r"file:(?://(?:localhost)?(?=/))?(.*)", url, re.IGNORECASE)
    return re.sub(r"^/+(?=[A-Za-z]:)", "", unquote(match[1])) if match else url


def refuse_series(table: pd.DataFrame, name: str) -> None:
    """Raise ScreenError for files with several series: which planes belong to a series is not known here."""
    for column in [column for column in table if column.startswith("Series_")]:
        if other := sorted(set(table[column]) - {"", "0", "0.0"}):
            advice = "save each field as a file of its own"
            raise ScreenError([f"{name}: {column} is {first_few(other)}: files of several series; {advice}."])


def refuse_unknown(table: pd.DataFrame, name: str) -> None:
    """Raise ScreenError if a required column is missing, or if a column name looks like a spelling mistake."""
    problems, missing = [], []
    others = {column.casefold(): column for column in table if column not in METADATA}
    for column in [column for column in METADATA if column not in table]:
        near = get_close_matches(column.casefold(), others, 1, cutoff=0.9)
        if near:
            advice = f"if it is {column}, rename it or set 'columns'"
            problems.append(f"{name}: unknown column '{others[near[0]]}'; {advice}.")
        elif column in [*FIELD_KEY, LABEL]:
            missing.append(column)
    if missing:
        advice = "add it or set 'columns'"
        problems.append(f"{name}: has no column {', '.join(missing)}, only {', '.join(table)}; {advice}.")
    if not image_columns(table):
        problems.append(f"{name}: has no column Path, Path_<channel> or FileName_<channel>; add it to name the images.")
    if problems:
        raise ScreenError(problems)


def with_paths(
    table: pd.DataFrame, channels: list[str], folder: Path, strip: str
) -> tuple[pd.DataFrame, list[Problem]]:
    """``table`` with absolute paths, and the problems. A path outside ``folder`` becomes None and is never opened.

    With ``channels``, the paths of other channels are left out.
    """
    wanted, problems = {"Path", *map(path_column, channels)}, []
    if channels and ("Path" in table or wanted - {"Path"} <= set(table)):
        table = table.drop(columns=[column for column in image_columns(table) if column not in wanted])

    def absolute(path: str, column: str, key: tuple) -> str | None:
        inside = path.replace("\\", "/").removeprefix(strip.replace("\\", "/"))
        full = os.path.normpath(folder / (inside.lstrip("/") if strip else inside))  # resolve() would refuse links
        place = f"plate {key[0]}, well {key[1]}, site {key[2]}"
        place += f", channel {column.removeprefix('Path_')}" if column != "Path" else ""
        if not path:
            problems.append(Problem("the path of an image is empty", "fill it in, or delete the row", place))
        elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", inside):
            advice = "download it, and set 'images' and 'strip'"
            problems.append(Problem("an image that is not on this computer", advice, place, f"'{path}'"))
        elif (re.match("[A-Za-z]:/", inside) and os.name == "posix") or not Path(full).is_relative_to(
            os.path.normpath(folder)
        ):
            advice = "set 'images' or 'strip', or choose 'channels' without it"
            problems.append(Problem(f"an image outside {folder}", advice, place, f"'{path}'"))
        else:
            return Path(full).as_posix()
        return None

    keys = list(table[FIELD_KEY].itertuples(index=False, name=None))
    for column in image_columns(table):
        paths = [absolute(path, column, key) for path, key in zip(table[column], keys, strict=True)]
        table = table.assign(**{column: pd.Series(paths, index=table.index, dtype=object)})
    return table, problems


def typed(table: pd.DataFrame, multilabel: bool, controls: list[str], name: str) -> pd.DataFrame:
    """``table`` with numbers in the number columns, sorted labels, and ``Metadata_Control``."""
    in_numbers = [column for column in table if column in {CONCENTRATION, REPLICATE} or column.startswith("Page_")]
    table = table.assign(**{column: as_numbers(table[column], name) for column in in_numbers})
    if table[SITE].str.fullmatch(r"\d+").all():
        table[SITE] = table[SITE].astype(int)
    if multilabel:
        parts = [[part.strip() for part in label.split(LABEL_MARK)] for label in table[LABEL]]
        table[LABEL] = [join_labels([part for part in own if part]) for own in parts]
    if CONTROL in table:
        table[CONTROL] = table[CONTROL].str.lower().isin({"true", "1", "1.0", "yes"})
    else:
        names = {control.strip().casefold() for control in controls}
        table[CONTROL] = False
        for column in {COMPOUND, LABEL} & set(table):
            table[CONTROL] |= table[column].str.casefold().isin(names)
    if COMPOUND in table:  # platemaps often give controls no label: use the name of the compound
        table[LABEL] = table[LABEL].where((table[LABEL] != "") | ~table[CONTROL], table[COMPOUND])
    return table


def as_numbers(texts: pd.Series, name: str) -> pd.Series:
    """A column as numbers; an empty cell becomes NaN. Pages and replicates are integers if none is empty.

    A comma is a decimal one if no cell has a point and some cell cannot mean thousands, as 0,3 or 1,25.
    """
    written = texts.astype(str)
    comma = written.str.fullmatch(r"[+-]?\d+,\d+")
    if (comma & ~written.str.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}")).any() and not written.str.contains(r"\.").any():
        written = written.str.replace(",", ".")
    values = pd.to_numeric(written.replace("", None), errors="coerce")
    wrong = texts[values.isna() & (texts != "")]
    if len(wrong):
        advice = "write it without a unit, with a decimal point"
        raise ScreenError(
            [f"{name}: {texts.name} is not a number in {len(wrong)} rows, as '{wrong.iloc[0]}'; {advice}."]
        )
    if texts.name != CONCENTRATION and len(odd := texts[(values < 0) | (values % 1 > 0) | np.isinf(values)]):
        rows = f"in {len(odd)} rows, as '{odd.iloc[0]}'"
        raise ScreenError([f"{name}: {texts.name} is not a whole number {rows}; write 0, 1, 2 and so on."])
    return values if texts.name == CONCENTRATION or values.isna().any() else values.astype(int)
