"""Responding fraction: the fraction of the cells of a field that are affected, from its class maps alone.

No cell is segmented or labelled, and none is counted but for one number, which the user gives: how many cells a
field holds on average (``cells_in_view``). For a field whose well has a compound of class c, with the
controls as class D of the network, p̄ the mean instance probability of a class over the field:

1. **Contrast** q = p̄_c / (p̄_c + p̄_D): of the instances that look affected or normal, the share that looks
   affected. An instance without a cell lights neither map and drops out.
2. **Controls** u = (q − q₀) / (1 − q₀), q₀ the mean q of the control wells of the same plate, u clipped to
   [0, 1]: what looks affected without treatment is taken off (Abbott 1925, doi 10.1093/jee/18.2.265a).
3. **Cells in view** f = 1 − (1 − u)^(1/k): an instance sees k cells, and one affected cell lights it, so
   u = 1 − (1 − f)^k. This is how group testing gets a prevalence from pooled samples (Thompson 1962,
   doi 10.2307/2527902). k follows from the density of cells and the receptive field, see ``cells_in_view``.

On the validation plate of ``simulated``, three seeds, r with the true fraction is 0.86, 0.89, 0.82 for p̄_c less
the controls', 0.90 without step 3, and 0.92, 0.94, 0.91 with all. The form was chosen there; no number is fitted.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, PLATE, WELL
from milcnn.evaluate.runs import SUMMARY
from milcnn.network.dimensions import RECEPTIVE_FIELD

RUN = ["method", "seed"]
COMPOUND_RESAMPLES = 1000  # of the compounds
Statistic = Callable[[np.ndarray, np.ndarray], float]  # of estimates (n,) and truths (n,)


def cells_in_view(cells: float, side: int) -> float:
    """k, how many cells one instance decides on, for ``cells`` in a field of ``side`` × ``side`` px.

    The cells of a square half as wide as the receptive field: the effective field of a deep network is
    a fraction of the theoretical one (Luo 2016, arXiv 1701.04128); half is our choice, not fitted. At least 1.
    """
    return max(1.0, cells * (RECEPTIVE_FIELD / 2 / side) ** 2)


def control_class(predictions: pd.DataFrame) -> str:
    """The class of the controls. Raises ValueError where there are none, or the network has no map of them."""
    labels = predictions.loc[predictions[CONTROL].astype(bool), LABEL].unique()
    if len(labels) != 1 or f"p_{labels[0]}" not in predictions:
        raise ValueError(
            f"predictions: control fields ({CONTROL}) have the labels {list(labels)}; exactly one is needed, "
            "with a column p_<class>: make the controls a class of the network."
        )
    return labels[0]


def contrast(predictions: pd.DataFrame) -> pd.DataFrame:
    """q = p̄_c / (p̄_c + p̄_D) of each class c but the controls' D, a column each, rows as ``predictions``."""
    control = control_class(predictions)
    own = predictions.filter(regex="^p_").drop(columns=f"p_{control}")
    return own.div(own.add(predictions[f"p_{control}"], axis=0)).rename(columns=lambda name: name.removeprefix("p_"))


def with_responding_fraction(predictions: pd.DataFrame, k: float) -> pd.DataFrame:
    """The treated fields of ``predictions`` with ``responding_fraction``, in [0, 1]; see the head of this module.

    ``predictions``: those of several runs (``method``, ``seed``), with ``p_<class>``. Raises ValueError for a
    plate without a control.
    """
    q = contrast(predictions)
    control = predictions[CONTROL].astype(bool)
    keys = [predictions[column] for column in (*RUN, PLATE)]
    control_level = q.where(control).groupby(keys).transform("mean")  # missing values are left out
    if bare := sorted(predictions.loc[control_level.isna().all(axis=1), PLATE].unique()):
        raise ValueError(f"predictions: plate {bare[0]} has no control field; leave it out.")
    column = q.columns.get_indexer(predictions.loc[~control, LABEL])
    rows = np.arange(len(column))
    q, control_level = (table[~control].to_numpy()[rows, column] for table in (q, control_level))
    u = ((q - control_level) / (1 - control_level)).clip(0, 1)
    return predictions[~control].assign(responding_fraction=1 - (1 - u) ** (1 / k)).reset_index(drop=True)


def well_means(fields: pd.DataFrame) -> pd.DataFrame:
    """One row a run and well: means over its fields of ``responding_fraction`` and ``fraction``."""
    by = [*RUN, COMPOUND, LABEL, CONCENTRATION, PLATE, WELL]
    means = fields.groupby(by, sort=False)[["responding_fraction", "fraction", "response", "ec50"]].mean()
    return means.reset_index().sort_values([*RUN, COMPOUND, CONCENTRATION], ignore_index=True)


def correlation(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's r; 0 for an estimate that is the same everywhere."""
    if np.ptp(estimate) == 0 or np.ptp(truth) == 0:
        return 0.0
    return float(np.corrcoef(estimate, truth)[0, 1])


def absolute_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean of |estimate − truth|."""
    return float(np.abs(estimate - truth).mean())


def within_factor_2(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Share of estimates from half to twice the truth; one that is missing is wrong."""
    ratio = np.divide(estimate, truth)
    return float(((ratio >= 0.5) & (ratio <= 2)).mean())


def method_score(table: pd.DataFrame, estimate: str, truth: str, statistic: Statistic) -> dict[str, float]:
    """``value`` of ``statistic`` between two columns of one method, mean over seeds, with ``low`` and ``high``.

    The 95 % interval resamples compounds, the same for every seed: the wells of one compound share its
    phenotype and are no independent witnesses. ``n`` is the number of rows of one seed.
    """
    numbers = table.groupby(COMPOUND, sort=False).ngroup().to_numpy()
    seed = table["seed"].to_numpy()
    pairs = table[[estimate, truth]].to_numpy(float)
    parts = [[pairs[(seed == s) & (numbers == c)] for c in range(numbers.max() + 1)] for s in np.unique(seed)]

    def of(draw: np.ndarray) -> float:
        drawn = (np.concatenate([part[c] for c in draw]) for part in parts)
        return float(np.mean([statistic(*values.T) for values in drawn]))

    n = numbers.max() + 1
    value = of(np.arange(n))
    draws = [of(draw) for draw in np.random.default_rng(0).integers(0, n, (COMPOUND_RESAMPLES, n))]
    low, high = np.quantile(draws, [0.025, 0.975])
    facts = {"value": value, "low": min(low, value), "high": max(high, value)}
    return facts | {"n": len(table) // len(parts), "seeds": len(parts)}


def fraction_scores(fields: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary, a method each: how right the responding fraction of ``fields`` is.

    ``responding_fraction_r`` (Pearson) and ``responding_fraction_error`` (mean absolute), over fields.
    """
    facts = {"study": study, "protocol": protocol, "level": "field"}
    measures = {"responding_fraction_r": correlation, "responding_fraction_error": absolute_error}
    rows = [
        facts
        | {"metric": metric, "method": method}
        | method_score(members, "responding_fraction", "fraction", statistic)
        for metric, statistic in measures.items()
        for method, members in fields.groupby("method", sort=False)
    ]
    return pd.DataFrame(rows)[SUMMARY]


def ec50_scores(curves: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary, a method each: ``ec50_within_2x``, the share of compounds whose EC50 is right.

    Right is from half to twice the true one; a compound without EC50 is wrong. See ``hill.curves``.
    """
    facts = {"study": study, "protocol": protocol, "level": "compound", "metric": "ec50_within_2x"}
    rows = [
        facts | {"method": method} | method_score(members, "ec50", "true_ec50", within_factor_2)
        for method, members in curves.groupby("method", sort=False)
    ]
    return pd.DataFrame(rows)[SUMMARY]


def by_phenotype(fields: pd.DataFrame) -> pd.DataFrame:
    """For each method and ``Metadata_Label``: ``r``, ``error`` (mean absolute), ``slope``, ``n`` (fields).

    ``slope`` is of the least-squares line through the origin, true fraction on estimate: 1 is right,
    below 1 the estimate is too large. Seeds of a field are averaged first.
    """
    keys = ["method", LABEL, *FIELD_KEY]
    means = fields.groupby(keys, sort=False)[["responding_fraction", "fraction"]].mean().reset_index()
    rows = []
    for (method, label), members in means.groupby(["method", LABEL], sort=False):
        x, y = members["responding_fraction"].to_numpy(), members["fraction"].to_numpy()
        facts = {"r": correlation(x, y), "error": absolute_error(x, y), "slope": x @ y / max(x @ x, 1e-12)}
        rows.append({"method": method, LABEL: label} | facts | {"n": len(members)})
    return pd.DataFrame(rows)


def b_table(thresholds: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """What b of Noisy-AND became, beside what it is a threshold on, a row a method and class.

    Columns: ``method``, ``class``; ``b``, mean over seeds, ``low`` and ``high``, its range over them, ``seeds``; of
    the fields of ``predictions``: ``own`` and ``other``, mean p̄ of the class in its own and in other fields; and
    ``fraction``, the true mean share of affected cells in its own (missing for controls).
    """
    b = thresholds.groupby(["method", "class"], sort=False)["b"].agg(b="mean", low="min", high="max", seeds="count")
    rows = []
    for (method, name), facts in b.iterrows():
        members = predictions[predictions["method"] == method]
        own = members[LABEL] == name
        treated = own & ~members[CONTROL].astype(bool)
        means = {"own": members.loc[own, f"p_{name}"].mean(), "other": members.loc[~own, f"p_{name}"].mean()}
        means["fraction"] = members.loc[treated, "fraction"].mean()
        rows.append({"method": method, "class": name, **facts, **means})
    columns = ["method", "class", "b", "low", "high", "seeds", "own", "other", "fraction"]
    return pd.DataFrame(rows, columns=columns).astype({"seeds": int})  # a count, beside means a float
