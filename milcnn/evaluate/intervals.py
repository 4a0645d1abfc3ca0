"""Uncertainty: 95 % bootstrap intervals over groups of fields that are drawn together.

The seeds of a field are averaged first: fields are independent, two networks that see one field are not.
Nor are the fields of one compound independent, for what is asked is how other compounds would do. So
groups of fields are drawn, by the rule of ``clusters``, and every method and metric meets the same draws.
"""

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, FIELD_KEY, PLATE, WELL

RESAMPLES = 2000
LEAST_GROUPS = 10  # fewer have too few different draws, and too few tails, for a 95 % interval


def resampling_groups(table: pd.DataFrame) -> np.ndarray:
    """The group that each row is drawn with, (n,) int from 0.

    The first of compound (DMSO counts as one), plate and well of which there are at least ten; else every
    field is a group of its own.
    """
    for columns in ([COMPOUND], [PLATE], [PLATE, WELL]):
        if set(columns) <= set(table):
            groups = table.groupby(columns, dropna=False, sort=False).ngroup().to_numpy()
            if groups.max(initial=-1) + 1 >= LEAST_GROUPS:
                return groups
    return table.groupby(FIELD_KEY, sort=False).ngroup().to_numpy()


def draw_counts(groups: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of n fields is drawn, (1 + ``resamples``, n); ``groups`` (n,) int from 0.

    The first row is 1: the fields as they are. Each other row draws as many groups as there are, with
    replacement; equal ``groups`` give equal draws, so that differences between methods are paired.
    """
    n_groups = groups.max() + 1
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), resamples)
    return np.vstack([np.ones(len(groups)), counts[:, groups]])


def summarise_draws(draws: np.ndarray) -> dict[str, float]:
    """``value``, ``low`` and ``high``: the first of ``draws`` and the 2.5 and 97.5 % quantiles of the others.

    Widened to the value itself, where few fields, drawn twice, score better or worse than the whole. A draw
    on which the score is not defined (NaN) is left out.
    """
    low, high = np.nanquantile(draws[1:], [0.025, 0.975])
    return {"value": float(draws[0]), "low": float(min(low, draws[0])), "high": float(max(high, draws[0]))}


def mean_draws(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean of ``values`` (n,) in each row of ``drawn`` (R, n), (R,)."""
    return drawn @ values / drawn.sum(axis=1)


def interval(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of ``values`` (n,), drawn by ``groups`` or one by one."""
    values = np.asarray(values, float)
    groups = np.arange(len(values)) if groups is None else groups
    told = summarise_draws(mean_draws(values, draw_counts(groups)))
    return told["low"], told["high"]


def mean_with_interval(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean of ``column`` for each group of ``by``, with its 95 % interval; see the head of this module.

    Columns: ``by``, ``value``, ``low``, ``high``, ``n`` (fields), ``seeds``.
    """
    rows = []
    for group, members in table.groupby(by, sort=False):
        fields = members.drop_duplicates(FIELD_KEY).sort_values(FIELD_KEY)
        values = members.groupby(FIELD_KEY)[column].mean().to_numpy()  # in the same order
        told = summarise_draws(mean_draws(values, draw_counts(resampling_groups(fields))))
        told |= {"n": len(fields), "seeds": members["seed"].nunique()}
        rows.append(dict(zip(by, group, strict=True)) | told)
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n", "seeds"])
