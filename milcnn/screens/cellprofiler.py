"""Columns of CellProfiler's tables under milcnn's names, see ``manifest``."""

import re
from urllib.parse import unquote

import pandas as pd

from milcnn.columns import path_column
from milcnn.screens.problems import ScreenError, first_few

CELLPROFILER = "FileName_|PathName_|URL_|Frame_|Series_"  # starts of its columns of images


def to_our_columns(
    table: pd.DataFrame, columns: dict[str, str], name: str, platemap: pd.DataFrame | None = None
) -> pd.DataFrame:
    """``table`` with milcnn's column names: first by the setting ``columns``, then from CellProfiler's names.

    A column that ``columns`` names may also be one of the ``platemap``.
    """
    others = [] if platemap is None else list(platemap)
    if unknown := sorted(set(columns.values()) - {*table, *others}):
        only = f"only {', '.join(table)}" + (f", nor has the platemap, only {', '.join(others)}" if others else "")
        raise ScreenError([f"{name}: has no column {', '.join(unknown)}, {only}; correct 'columns'."])
    columns = {ours: theirs for ours, theirs in columns.items() if theirs in table}
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
