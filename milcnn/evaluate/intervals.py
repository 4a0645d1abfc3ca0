"""Uncertainty: 95 % percentile bootstrap intervals over groups of fields.

Seeds of one field are averaged first: two networks that see the same field are not independent. Nor are the fields
of one compound, and the question is how well other compounds would be classified. So whole groups are resampled.
"""

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, FIELD_KEY, PLATE, WELL

RESAMPLES = 2000
LEAST_GROUPS = 10  # fewer have too few different resamples for a 95 % interval


def resampling_groups(table: pd.DataFrame) -> np.ndarray:
    """The group of each row, (n,) int: compound (DMSO is one), plate or well, the first with ten groups, else field."""
    for columns in ([COMPOUND], [PLATE], [PLATE, WELL]):
        if set(columns) <= set(table):
            groups = table.groupby(columns, dropna=False, sort=False).ngroup().to_numpy()
            if groups.max(initial=-1) + 1 >= LEAST_GROUPS:
                return groups
    return table.groupby(FIELD_KEY, sort=False).ngroup().to_numpy()


def draw_counts(groups: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each resample draws each of n fields, (1 + ``resamples``, n). Row 0 is all ones: the real fields.

    ``groups`` (n,) int are drawn with replacement. Equal ``groups`` give equal counts, so differences are paired.
    """
    n_groups = groups.max() + 1
    counts = np.random.default_rng(0).multinomial(n_groups, np.full(n_groups, 1 / n_groups), resamples)
    return np.vstack([np.ones(len(groups)), counts[:, groups]])


def summarise_draws(draws: np.ndarray) -> dict[str, float]:
    """``value``, the first of ``draws``; ``low`` and ``high``, the 2.5 and 97.5 % quantiles of the others.

    Undefined scores (NaN) are left out. If the value is outside the quantiles, they are widened to it.
    """
    low, high = np.nanquantile(draws[1:], [0.025, 0.975])
    return {"value": float(draws[0]), "low": float(min(low, draws[0])), "high": float(max(high, draws[0]))}


def interval(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (n,), resampled by ``groups`` (n,) or one by one."""
    counts = draw_counts(np.arange(len(values)) if groups is None else groups)
    summary = summarise_draws(counts @ np.asarray(values, float) / counts.sum(axis=1))
    return summary["low"], summary["high"]


def mean_with_interval(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean of ``column`` by ``by``: these columns, ``value``, ``low``, ``high``, ``n`` (fields) and ``seeds``."""
    rows = []
    for group, members in table.groupby(by, sort=False):
        fields = members.drop_duplicates(FIELD_KEY).sort_values(FIELD_KEY)
        values = members.groupby(FIELD_KEY)[column].mean().to_numpy()  # in the same order
        counts = draw_counts(resampling_groups(fields))
        summary = summarise_draws(counts @ values / counts.sum(axis=1))
        size = {"n": len(fields), "seeds": members["seed"].nunique()}
        rows.append(dict(zip(by, group, strict=True)) | summary | size)
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n", "seeds"])
