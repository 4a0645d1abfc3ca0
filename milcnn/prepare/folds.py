"""Groups of fields that a split keeps together, and ways to assign them to folds."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from milcnn.columns import BATCH, COMPOUND, FIELD_KEY, PLATE, REPLICATE, SETS, SPLIT, WELL
from milcnn.roles import is_control

GROUPS = {"field": FIELD_KEY, "well": [PLATE, WELL], "plate": [PLATE], "replicate": [REPLICATE]}
GROUPS |= {"compound": [COMPOUND], "compound_batch": [BATCH]}
ATTEMPTS = 20  # shuffles to try until no class is missing


class SplitError(ValueError):
    """Why a table cannot be split with these settings, in one sentence."""


def groups_of(fields: pd.DataFrame, kind: str) -> np.ndarray:
    """The group of each field, (N,) str. Raises SplitError for a missing column or value."""
    treated = ~is_control(fields)
    if kind == "compound_batch":
        joined(fields, [COMPOUND], kind, treated)
    if kind != "compound":
        return joined(fields, GROUPS[kind], kind)
    compounds = joined(fields, [COMPOUND], kind, treated)
    return np.where(treated, compounds, "control " + joined(fields, GROUPS["well"], kind))


def joined(fields: pd.DataFrame, columns: list[str], kind: str, needed: np.ndarray | bool = True) -> np.ndarray:
    """The values of ``columns`` as one name per field, (N,) str.

    Raises SplitError if a column is missing, or empty in a ``needed`` field.
    """
    for column in columns:
        if column not in fields:
            raise SplitError(f"split by {kind}: the table has no column {column}.")
        if empty := (fields[column].isna() & needed).sum():
            raise SplitError(f"split by {kind}: {column} is empty in {empty} fields; fill it in.")
    return np.array(["/".join(map(str, key)) for key in fields[columns].itertuples(index=False)], object)


def sides(fields: pd.DataFrame, kind: str, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ``chosen`` fields, and the others without those that share a compound in compound_batch, (N,) bool each."""
    others = ~chosen
    if kind == "compound_batch":
        treated, compound = ~is_control(fields), fields[COMPOUND]
        others &= ~(treated & compound.isin(compound[chosen & treated].unique()).to_numpy())
    return chosen, others


def absent(members: np.ndarray, chosen: np.ndarray) -> int:
    """How many classes of ``members`` (N, C) bool occur, but not in the ``chosen`` fields."""
    return int((members.any(axis=0) & ~members[chosen].any(axis=0)).sum())


def fewest_absent(candidates: Iterable[tuple[tuple[int, int], np.ndarray]]) -> np.ndarray:
    """Of pairs (numbers of absent classes, array), the first array with the fewest."""
    best, fewest = np.empty(0), (np.inf, np.inf)
    for count, array in candidates:
        if count < fewest:
            best, fewest = array, count
        if count == (0, 0):
            break
    return best


def rarest_labels(members: np.ndarray) -> np.ndarray:
    """The class of each field, (N,) int; of several the rarest, because frequent classes spread by themselves."""
    return np.where(members, members.sum(axis=0), np.iinfo(np.int64).max).argmin(axis=1)


def shuffles(fields: pd.DataFrame, members: np.ndarray, kind: str, folds: int, seed: int) -> Iterator[np.ndarray]:
    """Ways to assign the groups to ``folds`` parts with classes as equal as possible, (N,) int each.

    If each group has one class, the groups of a class are spread evenly, else its fields, as far as groups allow.
    """
    names, groups = np.unique(groups_of(fields, kind), return_inverse=True)
    if len(names) < folds:
        what = "batches" if kind == "compound_batch" else f"groups ({kind})"
        raise SplitError(f"split by {kind}: {len(names)} {what} are too few for folds = {folds}; lower folds.")
    rarest = rarest_labels(members)
    if np.bincount(rarest).max() < folds:
        raise SplitError(f"split by {kind}: every class has fewer fields than folds = {folds}; lower folds.")
    of_group = np.zeros(len(names), int)
    of_group[groups] = rarest
    pure = (of_group[groups] == rarest).all() and np.bincount(of_group).max() >= folds
    splitter, sample = (StratifiedKFold, [of_group] * 2) if pure else (StratifiedGroupKFold, [rarest, rarest, groups])
    # if each group is a part of its own, there is only one way
    for attempt in range(ATTEMPTS if len(names) > folds else 1):
        parts = np.zeros(len(sample[0]), int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class rarer than folds: refuse_missing reports it
            shuffled = splitter(folds, shuffle=True, random_state=np.random.RandomState([seed, attempt]))
            for number, (_, chosen) in enumerate(shuffled.split(*sample)):
                parts[chosen] = number
        yield parts[groups] if pure else parts


def leaks(fields: pd.DataFrame, by: str | list[str], sets: list[str] = SETS) -> list[str]:
    """The groups with fields in more than one of ``sets``; ``by`` is the column or columns of a group."""
    columns = [by] if isinstance(by, str) else by
    pairs = fields.loc[fields[SPLIT].isin(sets), [*columns, SPLIT]].dropna().drop_duplicates()
    shared = pairs.loc[pairs.duplicated(columns), columns].drop_duplicates()
    return sorted(", ".join(map(str, group)) for group in shared.itertuples(index=False))
