"""Uncertainty: 95 % intervals over groups of fields, from a jackknife that leaves out one group at a time.

Fields of one compound or plate are not independent, and the question is how well others would be classified. So the
group is the unit (``clusters``), however few there are. Seeds of one field are averaged first: two networks that see
the same field are not independent. With the score θ of all fields and θ₋g of all but group g, of G groups,

    se² = (G − 1) / G · Σ_g (θ₋g − θ̄)²            (Efron 1982, doi 10.1137/1.9781611970319; θ̄ is the mean of θ₋g)

holds for any score, also for those that rank the fields. Groups of unequal size n_g count as G* = (Σ n_g)² / Σ n_g²
groups (Carter, Schnepel and Steigerwald 2017, doi 10.1162/REST_a_00639), and t has G* − 1 degrees of freedom, as few
clusters need (Cameron and Miller 2015, doi 10.3368/jhr.50.2.317). A score θ in [0, 1] has the interval of Clopper and
Pearson (1934) for m · θ right of m, where m = θ (1 − θ) / se² · (z / t)² is the effective number of fields (Korn and
Graubard 1998, Survey Methodology 24, 193, for proportions; with t of n − 1 degrees of freedom in place of z). It stays
in [0, 1] and is longer towards the middle. Scores with other bounds are scaled to [0, 1].

If all groups agree (se = 0), at most q = 1 − 0.025^(1/G*) of all groups differ, as for 0 of G* (Clopper and Pearson);
they could change the score by at most q times its distance to each end of the range. With one group, or if a group
holds all fields that define the score, nothing is known of the others: ``low`` and ``high`` are NaN.

``benchmarks/coverage.py`` measures how often these intervals hold the truth.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import beta, norm, t

from milcnn.columns import COMPOUND, FIELD_KEY, PLATE, SOURCE, WELL
from milcnn.roles import is_control

TAIL = 0.025  # outside a 95 % interval, on each side
MOST_GROUPS = 200  # groups that are left out one at a time; more are joined at random
WELL_UNIT, FIELD_UNIT = "well of one plate", "field of one well"
FACTS = ["value", "low", "high", "n", "groups", "unit", "seeds", "seed_sd"]


class Clusters(NamedTuple):
    """The groups that n fields are sampled in."""

    of_field: np.ndarray  # (n,) int, from 0, at most ``MOST_GROUPS``
    number: int  # of groups, before they are joined
    unit: str  # what a group is


def clusters(table: pd.DataFrame, level: str = "field") -> Clusters:
    """The groups of ``table``, a row a field or well, by the coarsest unit that occurs at least twice.

    Units are ``Metadata_Source`` (decides where it is given, even with one value), compound, plate, well, field. A
    negative control is no sample of compounds: each of its wells is a group. What is coarser than the unit, or crosses
    it, is no part of the interval: wells of one plate tell nothing of other plates, nor do compounds. At the ``level``
    treatment a row may be of several plates and wells, so the units are compound and treatment alone.
    """
    control = is_control(table)
    units = {"source": [SOURCE], "compound": [COMPOUND], "plate": [PLATE], WELL_UNIT: [PLATE, WELL]}
    finest = FIELD_UNIT
    if level == "treatment":
        units, finest = {"compound": [COMPOUND]}, level
    rows = dict.fromkeys(units, table) | {"compound": table[~control]}
    known = [
        unit for unit, columns in units.items() if set(columns) <= set(table) and table[columns].notna().any(axis=None)
    ]
    unit = next((u for u in known if u == "source" or len(rows[u].drop_duplicates(units[u])) > 1), finest)
    names = [table[column] for column in units.get(unit, FIELD_KEY)]
    if unit == "compound":
        names += [table[column].where(control) for column in (PLATE, WELL)]
    groups = table.groupby(names, dropna=False, sort=False).ngroup().to_numpy()
    number = groups.max(initial=-1) + 1
    if number > MOST_GROUPS:
        groups = np.random.default_rng(0).permutation(number)[groups] % MOST_GROUPS
    return Clusters(groups, number, unit)


def without_each(groups: np.ndarray) -> np.ndarray:
    """How often each of n fields counts, (1 + G, n) of 0 and 1: in row 0 once; in row 1 + g not if it is in group g.

    Of a single group there is row 0 alone.
    """
    numbers = np.unique(groups)
    kept = numbers[:, None] != groups
    return np.vstack([np.ones(len(groups)), kept]) if len(numbers) > 1 else np.ones((1, len(groups)))


def jackknife_interval(
    scores: np.ndarray, groups: np.ndarray, lowest: float = 0, highest: float = 1
) -> tuple[float, float]:
    """The 95 % interval, see above, of ``scores`` (1 + G,): of all fields, and without each of ``groups`` (n,).

    The score is between ``lowest`` and ``highest``. If ``highest`` is infinite, the interval is score ± t · se.
    """
    value, without, size = scores[0], scores[1:], np.bincount(groups)
    if len(without) < 2 or not np.isfinite(scores).all():
        return np.nan, np.nan
    se = np.sqrt((len(size) - 1) * without.var())
    effective = size.sum() ** 2 / (size**2).sum()
    t_quantile = t.ppf(1 - TAIL, max(effective - 1, 1))
    if np.isinf(highest):
        return max(value - t_quantile * se, lowest), value + t_quantile * se
    width = highest - lowest
    share, se = (value - lowest) / width, se / width
    if se < 1e-9 or not 0 < share < 1:
        q = 1 - TAIL ** (1 / effective)
        return value - q * (value - lowest), value + q * (highest - value)
    m = share * (1 - share) * (norm.ppf(1 - TAIL) / t_quantile / se) ** 2
    right = share * m
    low, high = beta.ppf(TAIL, right, m - right + 1), beta.ppf(1 - TAIL, right + 1, m - right)
    return lowest + width * low, lowest + width * high


def facts_of(
    groups: Clusters, scores: np.ndarray, by_seed: np.ndarray, lowest: float = 0, highest: float = 1
) -> dict[str, object]:
    """``FACTS``, a row of a table of scores: ``scores`` (1 + G,) as above, and ``by_seed`` (S,) of all fields.

    ``n`` counts fields, ``groups`` the groups, each a ``unit``; ``seed_sd`` is the standard deviation over seeds, NaN
    for one seed.
    """
    low, high = jackknife_interval(scores, groups.of_field, lowest, highest)
    seed_sd = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else np.nan
    counted = (len(groups.of_field), groups.number, groups.unit, len(by_seed))
    return dict(zip(FACTS, (float(scores[0]), float(low), float(high), *counted, seed_sd), strict=True))


def interval(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (n,) in [0, 1], in ``groups`` (n,) int, or each by itself."""
    groups = np.arange(len(values)) % MOST_GROUPS if groups is None else groups
    counts = without_each(groups)
    return jackknife_interval(counts @ values / counts.sum(axis=1), groups)


def mean_with_interval(table: pd.DataFrame, by: list[str], column: str, highest: float = 1) -> pd.DataFrame:
    """Mean of ``column``, from 0 to ``highest``, by ``by``: these columns and ``FACTS``."""
    rows = []
    for key, members in table.groupby(by, sort=False):
        fields = members.drop_duplicates(FIELD_KEY).sort_values(FIELD_KEY)
        values = members.groupby([*FIELD_KEY, "seed"])[column].mean().unstack("seed")  # fields in the same order
        groups = clusters(fields)
        counts = without_each(groups.of_field)
        scores = counts @ values.mean(axis=1).to_numpy() / counts.sum(axis=1)
        summary = facts_of(groups, scores, values.mean().to_numpy(), highest=highest)
        rows.append(dict(zip(by, key, strict=True)) | summary)
    return pd.DataFrame(rows, columns=[*by, *FACTS])
