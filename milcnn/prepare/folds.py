"""Groups of fields that a split keeps together, and ways to deal them into parts."""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from milcnn.columns import BATCH, COMPOUND, FIELD_KEY, PLATE, REPLICATE, SETS, SPLIT, WELL
from milcnn.roles import is_control

GROUPS = {
    "field": FIELD_KEY,
    "well": [PLATE, WELL],
    "plate": [PLATE],
    "replicate": [REPLICATE],
    "compound": [COMPOUND],
    "compound_batch": [BATCH],
}
ATTEMPTS = 20  # shuffles, of which the first that leaves no class out is taken


class SplitError(ValueError):
    """Why a table can't be split as asked, in one sentence."""


def groups_of(fields: pd.DataFrame, kind: str) -> np.ndarray:
    """The group of each field, (N,) str. Raises SplitError for a missing column or value."""
    if kind == "compound_batch":
        refuse_empty(fields, COMPOUND, kind, ~is_control(fields))
    names = joined(fields, GROUPS[kind], kind, ~is_control(fields) if kind == "compound" else slice(None))
    if kind == "compound":
        control = is_control(fields)
        names[control] = "control " + joined(fields, GROUPS["well"], kind)[control]
    return names


def joined(fields: pd.DataFrame, columns: list[str], kind: str, needed: np.ndarray | slice = slice(None)) -> np.ndarray:
    """The values of ``columns`` as one name a field, (N,) str."""
    for column in columns:
        refuse_empty(fields, column, kind, needed)
    return np.array(["/".join(map(str, key)) for key in fields[columns].itertuples(index=False)], object)


def refuse_empty(fields: pd.DataFrame, column: str, kind: str, needed: np.ndarray | slice) -> None:
    """Raise SplitError where ``column`` is missing, or empty in one of the ``needed`` fields."""
    if column not in fields:
        raise SplitError(f"split by {kind}: the table has no column {column}.")
    missing = fields[column].isna()[needed].sum()
    if missing:
        raise SplitError(f"split by {kind}: {column} is empty in {missing} fields; fill it in.")


def sides(fields: pd.DataFrame, kind: str, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ``chosen`` fields, and those that share nothing with them that ``kind`` keeps apart; (N,) bool."""
    others = ~chosen
    if kind == "compound_batch":
        treatment, compound = ~is_control(fields), fields[COMPOUND]
        others &= ~(treatment & compound.isin(compound[chosen & treatment].unique()).to_numpy())
    return chosen, others


def absent(members: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Classes that occur, but not among the ``chosen`` fields, (C,) bool."""
    return members.any(axis=0) & ~members[chosen].any(axis=0)


def best_parts(fields: pd.DataFrame, members: np.ndarray, kind: str, folds: int, seed: int) -> np.ndarray:
    """The part, 0 to ``folds`` − 1, of each field, (N,) int; of some shuffles, that which leaves out fewest classes."""
    best, fewest = None, np.inf
    for parts in shuffles(fields, members, kind, folds, seed):
        pairs = [sides(fields, kind, parts == part) for part in range(folds)]
        lost = sum(int(absent(members, side).sum()) for pair in pairs for side in pair)
        if lost < fewest:
            best, fewest = parts, lost
        if lost == 0:
            break
    return best


def shuffles(fields: pd.DataFrame, members: np.ndarray, kind: str, folds: int, seed: int) -> Iterator[np.ndarray]:
    """Ways to deal the groups into ``folds`` parts in which the classes are as equal as they can be.

    Where each group is of one class its groups are dealt evenly; else the numbers of fields are
    balanced, as far as groups go.
    """
    names, groups = np.unique(groups_of(fields, kind), return_inverse=True)
    if len(names) < folds:
        what = "batches" if kind == "compound_batch" else f"groups ({kind})"
        raise SplitError(f"split by {kind}: {len(names)} {what} can't be dealt into folds = {folds}; lower folds.")
    # of several labels the rarest: the others are frequent enough to spread by themselves
    rarest = np.where(members, members.sum(axis=0), np.iinfo(np.int64).max).argmin(axis=1)
    if np.bincount(rarest).max() < folds:
        raise SplitError(f"split by {kind}: every class has fewer fields than folds = {folds}; lower folds.")
    of_group = np.zeros(len(names), int)
    of_group[groups] = rarest
    pure = (of_group[groups] == rarest).all() and np.bincount(of_group).max() >= folds
    # each group a part of its own: there is one way only
    for attempt in range(ATTEMPTS if len(names) > folds else 1):
        shuffle = {"shuffle": True, "random_state": np.random.RandomState([seed, attempt])}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class rarer than folds: told by refuse_missing
            if pure:
                dealer = StratifiedKFold(folds, **shuffle).split(of_group, of_group)
                yield numbered(dealer, len(names))[groups]
            else:
                yield numbered(StratifiedGroupKFold(folds, **shuffle).split(fields, rarest, groups), len(fields))


def numbered(dealer: Iterator[tuple[np.ndarray, np.ndarray]], length: int) -> np.ndarray:
    """The number of the part that each member is in, (length,) int."""
    parts = np.zeros(length, int)
    for number, (_, members) in enumerate(dealer):
        parts[members] = number
    return parts


def leaks(fields: pd.DataFrame, by: str | list[str], sets: list[str] = SETS) -> list[str]:
    """The groups, by the column or columns ``by``, that have fields in more than one of ``sets``."""
    columns = [by] if isinstance(by, str) else by
    counts = fields[fields[SPLIT].isin(sets)].groupby(columns)[SPLIT].nunique()
    groups = counts.index[counts > 1]
    return sorted(", ".join(map(str, group)) if isinstance(group, tuple) else str(group) for group in groups)
