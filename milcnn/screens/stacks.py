"""Several z planes and time points of a field: which are read, and how one image is made of the z planes."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import pandas as pd
from scipy.ndimage import laplace

from milcnn.columns import FIELD_KEY, PLATE, TIME, Z
from milcnn.screens.images import read_field
from milcnn.screens.problems import Problem, ScreenError, field_name, first_few

Rule = Literal["max", "middle", "sharpest"] | int | None


def at_time(table: pd.DataFrame, time: int | None, name: str) -> pd.DataFrame:
    """The rows of time point ``time``. Raises ScreenError if there is none, or if there are several to choose from."""
    if TIME not in table:
        if time is not None:
            raise ScreenError([f"{name}: time is {time}, but there is no {TIME}; leave out 'time'."])
        return table
    times = sorted(table[TIME].unique())
    if time not in times and (time is not None or len(times) > 1):
        what = f"has {len(times)} time points" if time is None else f"has no time point {time}"
        raise ScreenError([f"{name}: {what} ({first_few(times)}); set 'time' to one of them."])
    chosen = table[table[TIME] == (times[0] if time is None else time)].drop(columns=TIME)
    others = table[FIELD_KEY].drop_duplicates().merge(chosen[FIELD_KEY], how="left", indicator=True)
    if len(lost := others[others["_merge"] == "left_only"]):
        advice = "choose another 'time', copy the images, or delete the rows of these fields"
        keys = lost[FIELD_KEY].itertuples(index=False, name=None)
        raise ScreenError([Problem(f"no time point {time}", advice, field_name(*key)) for key in keys])
    return chosen.reset_index(drop=True)


def by_rule(table: pd.DataFrame, rule: Rule, name: str) -> tuple[pd.DataFrame, pd.DataFrame | None, list[Problem]]:
    """One row a field; the rows of all its z planes, if the image is made of them, else None; the problems.

    ``rule``: the number of a z plane; ``middle``, of an even number of planes the upper one of the two; ``max`` and
    ``sharpest``, see ``projected``. Raises ScreenError if there are several planes and no rule.
    """
    if Z not in table:
        if isinstance(rule, int):
            raise ScreenError([f"{name}: z is {rule}, but there is no {Z}; leave out 'z'."])
        return table, None, []
    planes = sorted(table[Z].unique())
    if isinstance(rule, int) and rule not in planes:
        raise ScreenError([f"{name}: has no z plane {rule} ({first_few(planes)}); set 'z' to one of them."])
    if rule is None and len(planes) > 1:
        advice = "set 'z' to max, middle, sharpest or one of them"
        raise ScreenError([f"{name}: has {len(planes)} z planes ({first_few(planes)}); {advice}."])
    if len(planes) == 1:
        return table.drop(columns=Z), None, []
    problems = list(unequal(table))
    table = table.sort_values(Z, kind="stable")
    groups = table.groupby(FIELD_KEY, sort=False)
    chosen = groups.cumcount() == (groups[Z].transform("size") // 2 if rule == "middle" else 0)
    if isinstance(rule, int):
        chosen = table[Z] == rule
    fields = table[chosen].drop(columns=Z).sort_index().reset_index(drop=True)
    return fields, table if rule in ("max", "sharpest") else None, problems


def unequal(table: pd.DataFrame) -> Iterator[Problem]:
    """Z planes with two rows, and plates with fields that have another number of z planes than most fields."""
    twice = table[table.duplicated([*FIELD_KEY, Z])]
    for *key, z in twice[[*FIELD_KEY, Z]].itertuples(index=False):
        yield Problem("more than one row in the table", "keep one", f"{field_name(*key)}, z {z}")
    counts = table.groupby(FIELD_KEY, sort=False).size()
    usual = counts.mode()[0]
    for plate, own in counts[counts != usual].groupby(level=PLATE):
        _, well, site = own.index[0]
        advice = "copy them, or delete the rows of these fields"
        detail = f"{len(own)} fields, as well {well}, site {site} with {own.iloc[0]}"
        yield Problem(f"not {usual} z planes like most fields", advice, f"plate {plate}", detail)


def reader(z_planes: pd.DataFrame, channels: list[str], rule: Rule) -> Callable[[pd.Series], np.ndarray]:
    """Reads all z planes of a field and makes one image of them."""
    places = z_planes.groupby(FIELD_KEY, sort=False).indices

    def read(row: pd.Series) -> np.ndarray:
        own = z_planes.iloc[places[tuple(row[FIELD_KEY])]]
        return projected(np.stack([read_field(plane, channels) for _, plane in own.iterrows()]), rule)

    return read


def projected(planes: np.ndarray, rule: Rule) -> np.ndarray:
    """One image (C, H, W) of z planes (Z, C, H, W), in their dtype.

    ``max``: the highest value of each pixel. ``sharpest``: for each channel the plane whose Laplacian has the highest
    variance (Pech-Pacheco 2000, doi 10.1109/ICPR.2000.903548), of equal ones the first.
    """
    if rule == "max":
        return planes.max(axis=0)
    focus = [[laplace(plane.astype(np.float32)).var(dtype=np.float64) for plane in own] for own in planes]
    return np.take_along_axis(planes, np.argmax(focus, axis=0)[None, :, None, None], axis=0)[0]
