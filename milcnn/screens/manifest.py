"""Your own screen: a table of fields or a folder that tells of them, its images and, optionally, a platemap.

The table, see ``milcnn.screens.table``, has one of these forms:

- milcnn's own: ``Path_<channel>`` if each channel has its own file; ``Path`` if a file has all channels as pages or
  colours. The names in the file (OME-XML, ImageJ's labels) tell which is which; without names, their order does.
  ``Page_<channel>``, counted from 0, selects a plane.
- CellProfiler's image table: ``Image_FileName_<channel>``, ``Image_PathName_<channel>``, ``Image_Metadata_…``.
- CellProfiler's ``LoadData``, as in JUMP: ``FileName_<channel>`` and ``PathName_<channel>``, or ``URL_<channel>``;
  ``Frame_<channel>``, ``Metadata_…``. Columns of outlines and of illumination functions (``Illum…``) are left out.

The metadata columns are those of ``Screen``. The table or the platemap must give plate, well, site and label. The table
may have a row for each z plane (``Metadata_Z``) and time point (``Metadata_Time``), and ``Metadata_PixelSize`` in µm.
Without a table, it is made from the folder of images, see ``milcnn.screens.folders``.
"""

import os
import re
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field, model_validator

from milcnn.columns import (
    BATCH,
    COMPOUND,
    CONTROL,
    FIELD_KEY,
    LABEL,
    LABEL_MARK,
    METADATA,
    PIXEL_SIZE,
    PLATE,
    REPLICATE,
    SITE,
    TIME,
    UNKNOWN,
    Z,
    class_names,
    join_labels,
    path_column,
)
from milcnn.paths import in_root
from milcnn.roles import is_control
from milcnn.screens.assays import with_assays
from milcnn.screens.cellprofiler import to_our_columns
from milcnn.screens.channels import ALIKE, image_columns, with_channels
from milcnn.screens.folders import folder_table
from milcnn.screens.images import read_field
from milcnn.screens.names import refuse_spellings, tidy_names
from milcnn.screens.platemap import read_platemap, with_platemap
from milcnn.screens.problems import Problem, ScreenError, first_few
from milcnn.screens.screen import Screen
from milcnn.screens.stacks import Rule, at_time, by_rule, reader
from milcnn.screens.table import AMOUNTS, as_numbers, text_table
from milcnn.settings import Settings

LIKE_MISSING = {"na", "n/a", "nan", "null"}  # how tools write a missing value; a class may have the name as well


class ManifestSettings(Settings):
    """Where the table and the images are, and what the table's columns mean."""

    table: str = ""  # CSV, Excel or Parquet, one row for each field; empty: the fields are found in `images`
    images: str = ""  # folder in which the paths of the table start; empty: the folder of the table
    pattern: str = ""  # without a table: a regular expression for the names of files, or a name of patterns.PATTERNS
    left_out: str = ""  # table of the files that are left out: file, reason; `milcnn new` writes it
    strip: str = ""  # start of the paths in the table to replace by `images`, for example /home/me/screen
    platemap: str = ""  # compound, concentration, label of each well; its forms are in milcnn.screens.platemap
    columns: dict[str, str] = Field({})  # milcnn's column: that of table or platemap, for example Metadata_Label: moa
    channels: list[str] = Field([])  # by name, in this order; empty: all of the table, or of the files' metadata
    multilabel: bool = False  # a field may have several labels, joined by |
    label_columns: list[str] = Field([])  # one an assay, instead of Metadata_Label; see milcnn.screens.assays
    controls: list[str] = Field(["DMSO"])  # compounds or labels that are the negative control
    control_class: bool = True  # the negative control is also a class to learn
    z: Rule = None  # of several z planes: max, middle, sharpest, or the number of one
    time: int | None = None  # of several time points: the number of one
    pixel_size: float | None = Field(None, gt=0)  # µm; None: that of the table or of the metadata in the images

    @model_validator(mode="after")
    def table_or_images(self) -> Self:
        if not self.table and not self.images:
            raise ValueError("'table' and 'images' are empty; set a table, or a folder of images that has plates")
        return self


def manifest_screen(settings: ManifestSettings, labelled: bool = True) -> Screen:
    """The screen in a table or folder; if not ``labelled``, labels may be missing, as where a network only scores.

    Raises ScreenError if columns are missing or have values that make no sense.
    """
    table, left_out, folder, name = source(settings)
    platemap = read_platemap(in_root(settings.platemap), settings.columns) if settings.platemap else None
    table = tidy_names(to_our_columns(table, settings.columns, name, platemap), name)
    if platemap is not None:
        table = with_platemap(table, platemap, settings.columns, settings.platemap)
        name = f"{name} with {settings.platemap}"
    if not labelled and LABEL not in table and not settings.label_columns:
        table[LABEL] = ""
    table = with_assays(table, settings.label_columns, name) if settings.label_columns else table
    multilabel = settings.multilabel or bool(settings.label_columns)
    refuse_unknown(table, name)
    for column in {PLATE, BATCH, COMPOUND} & set(table):
        refuse_spellings(table[column], column, name)
    order = [column.removeprefix("Path_") for column in image_columns(table)]
    table, refused = with_paths(table, settings.channels, folder, settings.strip)
    table, told_size = with_pixel_size(typed(table, multilabel, settings.controls, name), name)
    table, channels, pages, file_size = with_channels(table, settings.channels, order, name)
    fields, z_planes, unequal = by_rule(at_time(table, settings.time, name), settings.z, name)
    first = [column for column in METADATA if column in fields]
    fields = fields[first + [column for column in fields if column not in first]]
    taught = fields if settings.control_class or settings.label_columns else fields[~is_control(fields)]
    return Screen(
        fields=fields,
        channels=channels,
        classes=class_names(taught, multilabel),
        read=partial(read_field, channels=channels) if z_planes is None else reader(z_planes, channels, settings.z),
        pixel_size=settings.pixel_size or told_size or file_size,
        given_pixel_size=settings.pixel_size is not None,
        multilabel=multilabel,
        planes=pages,
        z_planes=z_planes,
        skipped=left_out,
        problems=(*refused, *unequal),
    )


def source(settings: ManifestSettings) -> tuple[pd.DataFrame, pd.DataFrame | None, Path, str]:
    """The table as text, the files that are left out, the folder in which paths start, the name for messages."""
    if not settings.table:
        folder = in_root(settings.images)
        return *folder_table(folder, settings.pattern), folder, str(folder)
    path = in_root(settings.table)
    left_out = text_table(in_root(settings.left_out)) if settings.left_out else None
    return text_table(path), left_out, in_root(settings.images) if settings.images else path.parent, str(path)


def with_pixel_size(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, float | None]:
    """``table`` without its column of pixel sizes, and the one that is in it. Raises ScreenError for several."""
    if PIXEL_SIZE not in table:
        return table, None
    sizes = table.pop(PIXEL_SIZE).dropna()
    if len(sizes) and sizes.max() / sizes.min() > 1 + ALIKE:
        advice = "delete the rows of one, or set 'pixel_size'"
        raise ScreenError([f"{name}: {PIXEL_SIZE} has {sizes.min():g} and {sizes.max():g} µm; {advice}."])
    return table, sizes.median() if len(sizes) else None


def refuse_unknown(table: pd.DataFrame, name: str) -> None:
    """Raise ScreenError if a required column is missing, or if a column name looks like a spelling mistake."""
    problems, missing = [], []
    others = {column.casefold(): column for column in table if column not in METADATA}
    for column in [column for column in METADATA if column not in table]:
        near = get_close_matches(column.casefold(), others, 1, cutoff=0.9)
        if near:
            advice = f"if it is {column}, rename it there (in a parameter file also by 'columns')"
            problems.append(f"{name}: unknown column '{others[near[0]]}'; {advice}.")
        elif column in FIELD_KEY or (column == LABEL and COMPOUND not in table):
            missing.append(column)
    if missing:
        advice = "add it, or rename yours there (in a parameter file also by 'columns')"
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
            return ""  # told by ``check``, with the files that are not there
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", inside):
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
    """``table`` with numbers in the number columns, sorted labels, and ``Metadata_Control``.

    Without a column of labels, the compounds are the labels.
    """
    if LABEL not in table:
        print(f"{name}: no column {LABEL}: the compound is the label; add the column or set 'columns' for another.")
        table = table.assign(**{LABEL: table[COMPOUND]})
    in_numbers = [column for column in table if column in {*AMOUNTS, REPLICATE, Z, TIME} or column.startswith("Page_")]
    table = table.assign(**{column: as_numbers(table[column], name) for column in in_numbers})
    if table[SITE].str.fullmatch(r"\d+").all():
        table[SITE] = table[SITE].astype(int)
    for column in ({LABEL, UNKNOWN} & set(table)) if multilabel else ():
        parts = [[part.strip() for part in names.split(LABEL_MARK)] for names in table[column]]
        table[column] = [join_labels([part for part in own if part]) for own in parts]
    if CONTROL in table:
        table[CONTROL] = table[CONTROL].str.lower().isin({"true", "1", "1.0", "yes"})
    else:
        names = {control.strip().casefold() for control in controls}
        table[CONTROL] = False
        for column in {COMPOUND, LABEL} & set(table):
            table[CONTROL] |= table[column].str.casefold().isin(names)
    # platemaps often give controls no label: use the name of the compound, unless no label means none of the classes
    bare = (table[LABEL] == "") & table[CONTROL]
    if COMPOUND in table and UNKNOWN not in table and bare.any():
        given = first_few(sorted(set(table.loc[bare, COMPOUND])))
        print(f"{name}: {bare.sum()} controls without a label get that of their compound, {given}.")
        table[LABEL] = table[LABEL].mask(bare, table[COMPOUND])
    if missing := sorted({label for label in table[LABEL] if label.casefold() in LIKE_MISSING}):
        print(f"{name}: '{missing[0]}' is taken as a class; leave the cell empty where no label is known.")
    return table
