"""Images that a table or a plate promises and that are not there, counted by plate."""

import os

import pandas as pd

from milcnn.columns import FIELD_KEY, PLATE
from milcnn.screens.opening import split_zip
from milcnn.screens.problems import Problem

ADVICE = "copy them there; or correct 'images' or the table, in which the rows of these fields may be deleted"


def missing_images(fields: pd.DataFrame, columns: list[str]) -> tuple[list[Problem], set[str]]:
    """One problem for each plate with missing images, and the paths that are not there.

    ``columns`` have the paths, '' where one is not even known.
    """
    problems = []
    fields = fields.reindex(columns=[*FIELD_KEY, *columns])
    paths = pd.unique(fields[columns].to_numpy().ravel())
    absent = {path for path in paths if isinstance(path, str) and not is_there(path)}
    for plate, rows in fields.groupby(PLATE, sort=False):
        long = rows.melt(FIELD_KEY, columns, "channel", "path")
        lost = long[long["path"].isin(absent)]
        if len(lost):
            _, well, site, channel, path = lost.iloc[0]
            channel = "" if channel == "Path" else f", channel {channel.removeprefix('Path_')}"
            place = f"well {well}, site {site}{channel}"
            example = f"{path} ({place})" if path else place
            detail = f"{len(lost)} of {len(long)}, as {example}"
            problems.append(Problem("images are missing", ADVICE, f"plate {plate}", detail))
    return problems, absent


def is_there(path: str) -> bool:
    """True for a file or folder that is there, also for one in a zip, and for a region of a Zarr, ``zarr#region``."""
    return os.path.exists(split_zip(path)[0]) or ("#" in path and os.path.exists(path.rpartition("#")[0]))
