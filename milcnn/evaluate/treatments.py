"""Treatments by their profiles: is the nearest neighbour among other compounds of the same mechanism? (NSC, NSCB)"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics.pairwise import cosine_similarity

from milcnn.baselines.sphering import sphering
from milcnn.columns import BATCH, COMPOUND, FIELD_KEY, LABEL, LABEL_MARK, METADATA, PLATE, SPLIT, WELL
from milcnn.evaluate.levels import TREATMENT_KEY, has_treatments
from milcnn.evaluate.runs import SUMMARY, Profiles
from milcnn.evaluate.scores import summary_rows
from milcnn.roles import is_control

LEAST_RANGE = 1e-6  # of a feature over the controls; a smaller one is rounding
TIE = 1e-9  # smaller differences of similarities are rounding


def nsc_table(features: ArrayLike, moa: ArrayLike, compound: ArrayLike, batch: ArrayLike | None = None) -> pd.DataFrame:
    """Not-same-compound matching, NSC: is the nearest treatment of another compound of the same mechanism (MoA)?

    ``features`` (n, D) are treatment profiles without negative controls, the others (n,) names. Similarity is the
    cosine, 0 for a zero vector. Candidates are treatments of other compounds; with ``batch``, of other compounds in
    other batches (NSCB). Columns: ``moa``; ``predicted``, that of the nearest candidate, ``A|B`` if candidates within
    1e-9 tie; ``scored``, whether any candidate has the MoA (in BBBC021 by NSC all 103 treatments, by NSCB 92);
    ``correct``, the share of the tied candidates with the MoA, missing if not scored.

    The profiles may have used more than a new screen offers: sphering uses the controls of the test plates, and only
    the compound protocols keep the test compounds out of training. Raises ValueError when lengths differ or a feature
    is not finite. Ljosa 2013, doi 10.1177/1087057113503553 (NSC); Ando 2017, doi 10.1101/161422 (NSCB).
    """
    features = np.asarray(features, float)
    names = [np.asarray(column).astype(str) for column in (moa, compound, batch) if column is not None]
    lengths = [len(column) for column in names]
    if features.ndim != 2 or any(length != len(features) for length in lengths):
        raise ValueError(f"nsc: features are {features.shape}, names {lengths}; give features (n, D) and n names each.")
    if not np.isfinite(features).all():
        raise ValueError("nsc: a feature is not finite; drop or fill it.")
    candidate = np.logical_and.reduce([column[:, None] != column for column in names[1:]])  # (n, n)
    same = names[0][:, None] == names[0]
    similarity = np.where(candidate, cosine_similarity(features) if len(features) else 0.0, -np.inf)
    nearest = candidate & (similarity >= similarity.max(axis=1, initial=-np.inf)[:, None] - TIE)
    scored = (candidate & same).any(axis=1)
    correct = np.divide((nearest & same).sum(axis=1), nearest.sum(axis=1), out=np.full(len(same), np.nan), where=scored)
    predicted = [LABEL_MARK.join(sorted(set(names[0][row]))) for row in nearest]
    return pd.DataFrame({"moa": names[0], "predicted": predicted, "scored": scored, "correct": correct})


def nsc(features: ArrayLike, moa: ArrayLike, compound: ArrayLike, batch: ArrayLike | None = None) -> tuple[float, int]:
    """Accuracy of NSC matching, NSCB with ``batch``, and the number of treatments scored; see ``nsc_table``."""
    table = nsc_table(features, moa, compound, batch)
    return float(table["correct"].mean()), int(table["scored"].sum())


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns ``feature_0000`` … of a table of profiles."""
    return [column for column in table if column.startswith("feature_")]


def treatment_profiles(features: pd.DataFrame, by: list[str] = TREATMENT_KEY, how: str = "mean") -> pd.DataFrame:
    """Profiles of treatments: the ``how``, mean or median, of fields by well, then of wells by ``by``.

    So each well counts the same, whatever its number of fields. A treatment has the Metadata of its first field.
    """
    names = feature_columns(features)
    metadata = [column for column in METADATA if column in features]
    for keys in (list(dict.fromkeys([PLATE, WELL, *by])), by):
        groups = features.groupby(keys, sort=False, dropna=False)
        first = features.loc[~groups.ngroup().duplicated(), metadata]  # the order of the groups
        features = first.reset_index(drop=True).join(groups[names].agg(how).reset_index(drop=True))
    return features


def scored_treatments(fields: pd.DataFrame) -> pd.DataFrame:
    """The scored treatments of one run: field key, compound, ``metric`` and ``correct``.

    Metrics: ``nsc`` and, if batches are known, ``nscb``, where a treatment has a profile in each batch. Each again as
    ``…_sphered``, with features sphered on the negative controls among ``fields``, if two of them differ.
    """
    control, names = is_control(fields), feature_columns(fields)
    spaces, values = {"": fields}, fields[names].to_numpy(float)
    if control.any() and np.ptp(values[control], axis=0).max() > LEAST_RANGE:
        sphered = pd.DataFrame(sphering(values[control], values), columns=names, index=fields.index)
        spaces["_sphered"] = fields.drop(columns=names).join(sphered)
    keys = {"nsc": TREATMENT_KEY} | ({"nscb": [*TREATMENT_KEY, BATCH]} if BATCH in fields else {})
    tables = []
    for suffix, table in spaces.items():
        for metric, by in keys.items():
            profiles = treatment_profiles(table[~control], by)
            batch = profiles[BATCH] if metric == "nscb" else None
            matches = nsc_table(profiles[names], profiles[LABEL], profiles[COMPOUND], batch)
            rows = profiles[[*FIELD_KEY, COMPOUND]].assign(metric=metric + suffix, correct=matches["correct"])
            tables.append(rows[matches["scored"]])
    return pd.concat(tables, ignore_index=True)


def neighbour_rows(profiles: Profiles, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: the metrics of ``scored_treatments`` for each method, on its test fields.

    ``n`` counts the scored treatments. A metric without a scored treatment, or a study without compounds, has no row.
    """
    tables = [
        scored_treatments(fields[fields[SPLIT] == "test"]).assign(method=method, seed=seed)
        for (method, seed), fields in profiles.items()
        if has_treatments(fields)
    ]
    by_metric = pd.concat(tables, ignore_index=True).groupby("metric", sort=False) if tables else []
    rows = [summary_rows(scored, study, protocol, "treatment", metric, "correct") for metric, scored in by_metric]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=SUMMARY)
