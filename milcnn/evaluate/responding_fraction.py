"""Responding fraction: the fraction of the cells of a field that a compound affects, from the class maps alone.

No cell is segmented or labelled. The user gives one number: how many cells a field has on average. For a field of a
compound of class c, with the controls as class D and p̄ the mean instance probability of a class over the field:

1. **Contrast** q = p̄_c / (p̄_c + p̄_D): of the instances that look affected or normal, the share that looks affected.
   An instance without a cell is low in both maps and has little weight.
2. **Controls** u = (q − q₀) / (1 − q₀), clipped to [0, 1], with q₀ the mean q of the controls of the same plate:
   removes what looks affected without treatment (Abbott 1925, doi 10.1093/jee/18.2.265a).
3. **Cells in view** f = 1 − (1 − u)^(1/k): an instance sees k cells, see ``cells_in_view``, and one affected cell
   makes it positive, so u = 1 − (1 − f)^k, as in group testing (Thompson 1962, doi 10.2307/2527902).

On the validation plate of ``simulated``, three seeds, r with the true fraction is 0.86, 0.89, 0.82 for p̄_c minus that
of the controls, 0.90 without step 3, and 0.92, 0.94, 0.91 with all steps. This chose the form; no number is fitted.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, PLATE, SPLIT, WELL
from milcnn.evaluate.intervals import Clusters, clusters, facts_of, without_each
from milcnn.evaluate.runs import summary_table
from milcnn.network.dimensions import RECEPTIVE_FIELD

RUN = ["method", "seed"]


def cells_in_view(cells: float, side: int) -> float:
    """k, the cells that one instance depends on, at least 1, for ``cells`` in a field of ``side`` × ``side`` px.

    They fill a square half as wide as the receptive field: the effective field is smaller (Luo 2016, arXiv 1701.04128).
    Half is our choice, not fitted.
    """
    return max(1.0, cells * (RECEPTIVE_FIELD / 2 / side) ** 2)


def with_responding_fraction(predictions: pd.DataFrame, k: float) -> pd.DataFrame:
    """The treated fields of ``predictions`` with ``responding_fraction``, in [0, 1], for ``k`` cells in view.

    ``predictions`` are of one or more runs, with ``p_<class>``. Raises ValueError unless the controls have one label,
    which is a class, and each plate has a control.
    """
    control = predictions[CONTROL].astype(bool)
    labels = predictions.loc[control, LABEL].unique()
    if len(labels) != 1 or f"p_{labels[0]}" not in predictions:
        raise ValueError(
            f"predictions: the controls have the labels {list(labels)}; give them exactly one, and make it a class."
        )
    p_control = predictions[f"p_{labels[0]}"]
    p = predictions.filter(regex="^p_").drop(columns=p_control.name).rename(columns=lambda name: name[2:])
    q = p.div(p.add(p_control, axis=0))
    keys = [predictions[column] for column in (*RUN, PLATE)]
    q0 = q.where(control).groupby(keys).transform("mean")  # missing values are left out
    if bare := sorted(predictions.loc[q0.isna().all(axis=1), PLATE].unique()):
        raise ValueError(f"predictions: plate {bare[0]} has no control field; leave the plate out.")
    own = q.columns.get_indexer(predictions.loc[~control, LABEL])
    q_own, q0_own = (table[~control].to_numpy()[np.arange(len(own)), own] for table in (q, q0))
    u = ((q_own - q0_own) / (1 - q0_own)).clip(0, 1)
    return predictions[~control].assign(responding_fraction=1 - (1 - u) ** (1 / k)).reset_index(drop=True)


def with_picked_labels(predictions: pd.DataFrame) -> pd.DataFrame:
    """``predictions`` with the phenotype that each run picks for a compound in place of its known ``Metadata_Label``.

    It is the class with the largest mean p̄ over the fields of the compound, the class of the controls left out.
    """
    treated = ~predictions[CONTROL].astype(bool)
    names = [f"p_{name}" for name in predictions.loc[~treated, LABEL].unique()]
    p = predictions[treated].filter(regex="^p_").drop(columns=names)
    means = p.groupby([predictions.loc[treated, column] for column in (*RUN, COMPOUND)]).transform("mean")
    picked = means.idxmax(axis=1).str.removeprefix("p_")
    return predictions.assign(**{LABEL: picked.reindex(predictions.index).fillna(predictions[LABEL])})


def with_picked_fraction(predictions: pd.DataFrame, control: str, k: float) -> pd.DataFrame:
    """``with_responding_fraction`` of one run whose labels nobody knows: its controls show the class ``control``.

    A compound, or a well without one, has the class that the run picks for it, in ``Metadata_Label``.
    """
    own = predictions.assign(**{"method": "", "seed": 0, LABEL: control})  # the treated get what is picked
    compound = own[COMPOUND].replace("", np.nan) if COMPOUND in own else pd.Series(np.nan, own.index)
    own[COMPOUND] = compound.fillna(own[PLATE].astype(str) + "/" + own[WELL].astype(str))
    return with_responding_fraction(with_picked_labels(own), k)


def known_shares(predictions: pd.DataFrame, side: int) -> pd.DataFrame:
    """The treated test fields of ``side`` px with ``responding_fraction``, where the true ``fraction`` is known.

    For fields without compounds, such as composites: ``08_dose`` has those with doses. Empty without controls of one
    label, and for methods that give no p. The controls are the test controls, also those that are not scored.
    """
    needed = {"cells", "fraction", CONTROL}
    rows = predictions[predictions[SPLIT] == "test"]
    if not needed <= set(rows) or COMPOUND in rows or rows.loc[rows[CONTROL].eq(True), LABEL].nunique() != 1:
        return rows.iloc[:0].assign(responding_fraction=np.nan)
    rows = rows[rows.filter(regex="^p_").notna().all(axis=1)]
    return with_responding_fraction(rows, cells_in_view(rows["cells"].mean(), side))


def well_means(fields: pd.DataFrame) -> pd.DataFrame:
    """One row a run and well: the means of its fields; also of the truth, where it is known."""
    by = [*RUN, COMPOUND, LABEL, CONCENTRATION, PLATE, WELL]
    known = [name for name in ("fraction", "response", "ec50") if name in fields]
    means = fields.groupby(by, sort=False)[["responding_fraction", *known]].mean()
    return means.reset_index().sort_values([*RUN, COMPOUND, CONCENTRATION], ignore_index=True)


def correlation(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's r; 0 if one of the two is constant."""
    return 0.0 if np.ptp(estimate) == 0 or np.ptp(truth) == 0 else float(np.corrcoef(estimate, truth)[0, 1])


def absolute_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean of |estimate − truth|."""
    return float(np.abs(estimate - truth).mean())


def within_factor_2(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Share of estimates between half and twice the truth; a missing estimate is wrong."""
    ratio = estimate / truth
    return float(((ratio >= 0.5) & (ratio <= 2)).mean())


def agreement(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Share of estimates that equal the truth."""
    return float((estimate == truth).mean())


def method_score(
    table: pd.DataFrame, estimate: str, truth: str, statistic: Callable[..., float], lowest: float = 0
) -> dict[str, object]:
    """``intervals.FACTS`` of ``statistic``, from ``lowest`` to 1, between two columns of one method, mean over seeds.

    A group is a compound: its wells are not independent. Without compounds it is that of ``clusters``. ``n`` counts
    rows of one seed.
    """
    scores = []
    for _, rows in table.groupby("seed"):
        if COMPOUND in rows:
            compound = rows.groupby(COMPOUND).ngroup().to_numpy()
            groups = Clusters(compound, compound.max() + 1, "compound")
        else:
            groups = clusters(rows)
        pairs = rows[[estimate, truth]].to_numpy(float)
        scores.append([statistic(*pairs[chosen > 0].T) for chosen in without_each(groups.of_field)])
    return facts_of(groups, np.mean(scores, axis=0), np.array(scores)[:, 0], lowest)


def fraction_scores(fields: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: Pearson's r and mean absolute error of the responding fraction of ``fields``."""
    measures = {"responding_fraction_r": (correlation, -1.0), "responding_fraction_error": (absolute_error, 0.0)}
    rows = [
        {"metric": metric, "method": method}
        | method_score(members, "responding_fraction", "fraction", statistic, lowest)
        for metric, (statistic, lowest) in measures.items()
        for method, members in fields.groupby("method", sort=False)
    ]
    return summary_table(rows, study, protocol, "field")


def ec50_scores(curves: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: the share of compounds of ``hill.curves`` with an EC50 right to a factor of 2."""
    rows = [
        {"metric": "ec50_within_2x", "method": method} | method_score(members, "ec50", "true_ec50", within_factor_2)
        for method, members in curves.groupby("method", sort=False)
    ]
    return summary_table(rows, study, protocol, "compound")


def ec50_coverage(curves: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: the share of compounds of ``hill.curves`` whose 95 % interval holds the true EC50."""
    held = curves.assign(held=curves["true_ec50"].between(curves["low"], curves["high"]), holds=True)
    rows = [
        {"metric": "ec50_interval_coverage", "method": method} | method_score(members, "held", "holds", agreement)
        for method, members in held.groupby("method", sort=False)
    ]
    return summary_table(rows, study, protocol, "compound")


def by_phenotype(fields: pd.DataFrame) -> pd.DataFrame:
    """For each method and ``Metadata_Label``: ``r``, ``error`` (mean absolute), ``slope``, ``n`` (fields).

    ``slope`` is that of the least-squares line through 0, true fraction on estimate: below 1, estimates are too high.
    """
    keys = ["method", LABEL, *FIELD_KEY]  # seeds of a field are averaged first
    means = fields.groupby(keys, sort=False)[["responding_fraction", "fraction"]].mean().reset_index()
    rows = []
    for (method, label), members in means.groupby(["method", LABEL], sort=False):
        x, y = members["responding_fraction"].to_numpy(), members["fraction"].to_numpy()
        facts = {"r": correlation(x, y), "error": absolute_error(x, y), "slope": x @ y / max(x @ x, 1e-12)}
        rows.append({"method": method, LABEL: label} | facts | {"n": len(members)})
    return pd.DataFrame(rows)


def b_table(thresholds: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The learned b of Noisy-AND beside the p̄ that it is a threshold on, a row a method and class.

    ``b`` is the mean over ``seeds``, ``low`` and ``high`` its range; ``own`` and ``other`` are the mean p̄ of the class
    in its own and in other fields, ``fraction`` the true mean responding fraction in its own treated fields.
    """
    b = thresholds.groupby(["method", "class"], sort=False)["b"].agg(b="mean", low="min", high="max", seeds="count")
    rows = []
    for (method, name), learned in b.iterrows():
        members = predictions[predictions["method"] == method]
        own, treated = members[LABEL] == name, ~members[CONTROL].astype(bool)
        means = {"own": members.loc[own, f"p_{name}"].mean(), "other": members.loc[~own, f"p_{name}"].mean()}
        means["fraction"] = members.loc[own & treated, "fraction"].mean()
        rows.append({"method": method, "class": name, **learned, **means})
    table = pd.DataFrame(rows, columns=["method", "class", *b.columns, "own", "other", "fraction"])
    return table.astype({"seeds": int})  # ``learned`` made the count a float
