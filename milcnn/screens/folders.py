"""A table of fields from a folder without one, as a microscope or a converter leaves it.

A *plane* is a dict: ``channel``; ``path`` from the folder, '' for an image that should be there and is not; ``well``,
or ``row`` and ``col`` from 1; where known ``plate``, ``site``, ``z``, ``time``, ``page``, ``pixel_size`` in µm. Planes
come from OME-Zarr plates, from an index that a microscope wrote, or from the names of files.
"""

import os
import re
from collections import defaultdict
from itertools import product
from pathlib import Path

import pandas as pd

from milcnn.columns import PIXEL_SIZE, PLATE, SITE, TIME, WELL, Z, page_column, path_column
from milcnn.screens.images import TIFF
from milcnn.screens.names import well_name
from milcnn.screens.omezarr import plate_rows
from milcnn.screens.patterns import NOT_FIELDS, PATTERNS
from milcnn.screens.plate_files import PlaneRow, imagexpress_plate, phenix_planes, yokogawa_planes
from milcnn.screens.problems import ScreenError, first_few

INDEXES = {"index.idx.xml": phenix_planes, "index.xml": phenix_planes, "measurementdata.mlf": yokogawa_planes}
IMAGES = (*TIFF, ".png")
OUR_COLUMNS = {"plate": PLATE, "well": WELL, "site": SITE, "z": Z, "time": TIME}
INNER = r"TimePoint[^/]*|ZStep_\d+|Images?|Projection|Measurement[^/]*|data|Well\d+|r\d\dc\d\d"  # folders in a plate's


def folder_table(folder: Path, pattern: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of the fields in ``folder``, see ``manifest``, and the files that are left out: ``file``, ``reason``.

    ``pattern`` is a name of ``PATTERNS`` or a regular expression with such groups. Raises ScreenError if no plate is
    found, or several kinds of them, or a plane twice.
    """
    if not folder.is_dir():
        raise ScreenError([f"{folder}: no such folder; correct 'images'."])
    files, zarrs = listed(folder)
    reasons = {file: reason for file in files if (reason := not_a_field(file))}
    kinds: dict[str, list[PlaneRow]] = defaultdict(list)
    for plate in zarrs:
        kinds["OME-Zarr"] += plate_rows(plate, folder)
    there = set(files)
    for index in [file for file in files if Path(file).name.lower() in INDEXES]:
        name = Path(index).name
        kinds[name] += indexed(folder, index, there)
        for file in files:
            if file.startswith(index.removesuffix(name)):
                reasons.setdefault(file, f"not in {name}")
    kinds |= named(folder, [file for file in files if file not in reasons], pattern)
    if len(kinds) > 1:
        found = "; ".join(f"{name}, as {own[0]['path']}" for name, own in kinds.items())
        raise ScreenError([f"{folder}: has plates of {len(kinds)} kinds ({found}); give each a folder of its own."])
    planes = [plane for own in kinds.values() for plane in own]
    if not planes:
        what, advice = "no plate is known by its files", "a regular expression with the groups well, site, channel"
        if pattern:
            what, advice = f"'{pattern}' fits no file", "it must fit whole names, with the ending"
        raise ScreenError(
            [f"{folder}: {what}, as {first_few(files) or 'none'}; set 'pattern', {advice}; or write a table."]
        )
    for htd in [file for file in files if file.lower().endswith(".htd")]:
        planes += promised(planes, folder / htd, plate_path(htd))
    left = {file: reasons.get(file, "its name fits no pattern") for file in files}
    for plane in planes:
        left.pop(plane["path"], None)
    return a_row_a_field(tidied(planes, folder)), pd.DataFrame({"file": left.keys(), "reason": left.values()})


def listed(folder: Path) -> tuple[list[str], list[Path]]:
    """All files below ``folder``, from there, and the folders that are a Zarr; those are not looked into."""
    files, zarrs = [], []
    for parent, folders, names in os.walk(folder, followlinks=True):
        if {".zgroup", "zarr.json"} & set(names) or parent.endswith(".zarr"):
            zarrs.append(Path(parent))
            folders.clear()
            continue
        folders.sort()
        files += [Path(parent, name).relative_to(folder).as_posix() for name in sorted(names)]
    return files, sorted(zarrs)


def not_a_field(file: str) -> str:
    """Why a file is no image of a field; '' if it may be one."""
    found = [reason for expression, reason in NOT_FIELDS.items() if re.search(expression, file, re.IGNORECASE)]
    return [*found, "" if file.lower().endswith(IMAGES) else "not an image"][0]


def plate_path(file: str) -> str:
    """The folder of the plate that ``file`` is in, as 'screen/P1/'; '' if it is the folder of the screen."""
    return re.sub(rf"(?<![^/])(?:(?:{INNER})/)*[^/]*$", "", file, count=1, flags=re.IGNORECASE)


def plate_folder(folder: Path, file: str) -> str:
    """The name of the folder of a plate that ``file`` is in."""
    return plate_path(file).rstrip("/").rpartition("/")[2] or folder.name


def indexed(folder: Path, index: str, there: set[str]) -> list[PlaneRow]:
    """The planes of an index; '' for a file that is not ``there``. Raises ScreenError if all are elsewhere."""
    planes = INDEXES[Path(index).name.lower()](folder / index)
    told = [os.path.normpath(Path(index).parent / plane["path"].replace("\\", "/")) for plane in planes]
    if not there & set(told):
        what = f"none of the {len(planes)} images in it is there, as {planes[0]['path'] if planes else 'none'}"
        raise ScreenError([f"{folder / index}: {what}; put them where it tells, or give a folder that has both."])
    plate = {"plate": plate_folder(folder, index)}
    return [plate | plane | {"path": path if path in there else ""} for plane, path in zip(planes, told, strict=True)]


def compiled(pattern: str) -> dict[str, re.Pattern[str]]:
    """All patterns, or that of the setting ``pattern``. Raises ScreenError if it does not tell the well."""
    texts = {pattern: PATTERNS.get(pattern, pattern)} if pattern else PATTERNS
    try:
        known = {name: re.compile(f"(?:.*?/)??(?:{text})", re.IGNORECASE) for name, text in texts.items()}
    except re.error as error:
        raise ScreenError([f"pattern: '{pattern}' is no regular expression ({error}); correct it."]) from None
    for groups in [{group.lower() for group in text.groupindex} for text in known.values()]:
        if "well" not in groups and not {"row", "col"} <= groups:
            advice = f"write (?P<well>…), or choose one of {', '.join(PATTERNS)}"
            raise ScreenError([f"pattern: '{pattern}' has no group 'well', and no 'row' and 'col'; {advice}."])
    return known


def named(folder: Path, files: list[str], pattern: str) -> dict[str, list[PlaneRow]]:
    """The planes whose names fit a pattern, by the name of the pattern."""
    known = compiled(pattern)
    found: dict[str, list[PlaneRow]] = defaultdict(list)
    for file in files:
        for name, text in known.items():
            if match := text.fullmatch(file):
                told = {key.lower(): value for key, value in match.groupdict().items() if value}
                if told.get("row", "").isalpha():
                    told["well"] = told["row"] + told["col"]
                found[name].append({"plate": plate_folder(folder, file), "path": file} | told)
                break
    prefixes: dict[str, set[str]] = defaultdict(set)
    planes = [plane for own in found.values() for plane in own if "prefix" in plane]
    for plane in planes:
        prefixes[plane["plate"]].add(plane["prefix"])
    for plane in planes:  # ImageXpress starts all names with one text; a folder of two texts has two plates
        plane["plate"] = plane["prefix"] if len(prefixes[plane["plate"]]) > 1 else plane["plate"]
    return found


def promised(planes: list[PlaneRow], htd: Path, below: str) -> list[PlaneRow]:
    """The planes that an .HTD promises, without a path. Those ``below`` its folder get the names of their channels."""
    waves, wells, sites = imagexpress_plate(htd)
    own = [plane for plane in planes if plane["path"].startswith(below)]
    if not own:
        raise ScreenError([f"{htd}: no image of its plate is there; put them beside it, or move this file away."])
    for plane in own:
        plane["channel"] = waves.get(plane.get("channel", "1"), plane.get("channel", "1"))
    names = ("plate", "z", "time", "well", "site", "channel")
    found = [{plane.get(name) for plane in own} for name in names[:3]]
    keys = product(*found, wells, map(str, range(1, sites + 1)), waves.values())
    return [dict(zip(names, key, strict=True)) | {"path": ""} for key in keys]


def tidied(planes: list[PlaneRow], folder: Path) -> pd.DataFrame:
    """One row a plane, each once: wells as A01, numbers, names of channels."""
    columns = [*OUR_COLUMNS, "row", "col", "channel", "path", "page", "pixel_size"]
    rows = pd.DataFrame(planes).reindex(columns=columns).astype(object)
    rows["well"] = rows["well"].fillna("r" + rows["row"] + "c" + rows["col"]).map(well_name)
    rows["channel"] = rows["channel"].fillna("1").replace(r"^0*(\d+)$", r"ch\1", regex=True)
    if not rows["time"].fillna("0").astype(str).str.fullmatch(r"\d+").all():  # such as 00d06h00m: counted from 1
        rows["time"] = rows.groupby("plate")["time"].rank("dense")
    for name, first in {"site": 1, "z": 0, "time": 0}.items():
        try:
            rows[name] = rows[name].fillna(first).astype(int)
        except ValueError as error:
            raise ScreenError([f"{folder}: {name} is no number ({error}); correct 'pattern'."]) from None
    key = [*OUR_COLUMNS, "channel"]
    there = rows[rows["path"] != ""]
    twice = there[there.duplicated(key, keep=False)].sort_values(key, kind="stable")
    if len(twice):
        what = f"plate {twice['plate'].iloc[0]} is there twice, as {first_few(twice['path'].tolist()[:2])}"
        advice = "give a folder with one of the two acquisitions, or a 'pattern' that tells the plates apart"
        raise ScreenError([f"{folder}: {what}; {advice}."])
    return rows.drop_duplicates(key)


def a_row_a_field(planes: pd.DataFrame) -> pd.DataFrame:
    """The table of text: a row for each field, z and time, a path (and a page, if planes have one) for each channel."""
    key = list(OUR_COLUMNS)
    channels = planes["channel"].unique()
    wide = planes.pivot(index=key, columns="channel", values=["path", "page"])
    table = wide["path"][channels].fillna("").rename(columns=path_column)
    if planes["page"].notna().any():
        table = table.join(wide["page"][channels].fillna("").rename(columns=page_column))
    if planes["pixel_size"].notna().any():
        table[PIXEL_SIZE] = planes.astype({"pixel_size": float}).groupby(key)["pixel_size"].first()
    table = table.reset_index().rename(columns=OUR_COLUMNS).rename_axis(columns=None)
    return table.drop(columns=[name for name in (Z, TIME) if table[name].nunique() == 1]).astype(str)
