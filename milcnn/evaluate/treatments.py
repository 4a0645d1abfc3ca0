"""Treatments by their profiles: the nearest neighbour among other compounds (NSC, NSCB)."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics.pairwise import cosine_similarity

from milcnn.baselines.sphering import sphering
from milcnn.columns import BATCH, COMPOUND, FIELD_KEY, LABEL, LABEL_MARK, METADATA, PLATE, SPLIT, WELL
from milcnn.evaluate.levels import TREATMENT, has_treatments
from milcnn.evaluate.runs import SUMMARY
from milcnn.evaluate.scores import summary_rows
from milcnn.roles import is_control

TIE = 1e-9  # similarities that differ by less are equal: the order of a sum must not decide


class Neighbours(NamedTuple):
    """What the nearest neighbours of n treatments say."""

    accuracy: float  # mean of ``correct`` over the scored treatments; NaN where none is scored
    n_scored: int
    table: pd.DataFrame  # a row a treatment, as given: moa, predicted (A|B where tied), scored, correct (0 to 1)


def neighbours(features: ArrayLike, moa: ArrayLike, compound: ArrayLike, batch: ArrayLike | None = None) -> Neighbours:
    """Does the nearest treatment of another compound share the mechanism of action? Not-same-compound, NSC.

    Similarity is the cosine. Candidates of treatment i are the treatments of other compounds; with
    ``batch``, those of other compounds in other batches (NSCB). The caller leaves negative controls out.

    - Scored: a treatment with at least one candidate of its own mechanism. One whose mechanism has no
      other compound (or none in another batch) cannot be right whatever the features are, and is left out of the
      count, but stays a candidate for others, which must tell it from their own. Of the 103 treatments of
      BBBC021, NSC scores all, NSCB 92.
    - Ties: all candidates within 1e-9 of the nearest are its neighbours, and ``correct`` is the share of
      them with the right mechanism: what drawing one at random would score on average. A rule
      that takes the first would make the score depend on the order of the rows.
    - Zero vectors have no direction; their similarity to every treatment is set to 0, so that a zero
      profile among candidates at right angles or opposite is a tie or the nearest, never an error.
    - Nothing is fitted here, and no treatment is judged by itself or its compound. The score is as inductive as the
      profiles: sphering on the controls of the judged plates, or a network trained on other fields of the
      same compounds (every protocol but compound), has seen more than a new screen would show it.

    Parameters
    ----------
    features : (n, D) treatment profiles, finite.
    moa, compound, batch : (n,) names.

    Raises ValueError when the lengths differ or a feature is not finite.

    Protocols: Ljosa 2013, doi 10.1177/1087057113503553 (NSC); Ando 2017, doi 10.1101/161422 (NSCB).
    """
    features = np.asarray(features, float)
    columns = [moa, compound] if batch is None else [moa, compound, batch]
    names = [np.array([str(name) for name in column]) for column in columns]
    if features.ndim != 2 or any(len(column) != len(features) for column in names):
        raise ValueError(f"nsc: features are {features.shape}, names {[len(column) for column in names]}; give (n, D).")
    if not np.isfinite(features).all():
        raise ValueError("nsc: a feature is not finite; drop or fill it.")
    candidate = np.logical_and.reduce([column[:, None] != column for column in names[1:]])  # (n, n)
    same = names[0][:, None] == names[0]
    similarity = np.where(candidate, cosine_similarity(features) if len(features) else 0.0, -np.inf)
    nearest = candidate & (similarity >= similarity.max(axis=1, initial=-np.inf)[:, None] - TIE)
    scored = (candidate & same).any(axis=1)
    correct = np.divide((nearest & same).sum(axis=1), nearest.sum(axis=1), out=np.full(len(same), np.nan), where=scored)
    predicted = [LABEL_MARK.join(sorted(set(names[0][row]))) for row in nearest]
    table = pd.DataFrame({"moa": names[0], "predicted": predicted, "scored": scored, "correct": correct})
    accuracy = float(correct[scored].mean()) if scored.any() else float("nan")
    return Neighbours(accuracy, int(scored.sum()), table)


def nsc(features: ArrayLike, moa: ArrayLike, compound: ArrayLike, batch: ArrayLike | None = None) -> tuple[float, int]:
    """Accuracy of not-same-compound (with ``batch``: and-batch) matching, and the number of treatments scored.

    ``features`` (n, D), the others (n,) names of n treatments; rules, ties and errors are those of ``neighbours``.
    """
    found = neighbours(features, moa, compound, batch)
    return found.accuracy, found.n_scored


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns ``feature_0000`` … of a table of profiles."""
    return [column for column in table if column.startswith("feature_")]


def treatment_profiles(features: pd.DataFrame, by: list[str] = TREATMENT, how: str = "mean") -> pd.DataFrame:
    """Profiles of treatments: the ``how``, mean or median, of their fields by well, then of the wells by ``by``.

    By well first, so that a well with fewer fields counts as much. ``features`` has a row a field with
    Metadata and ``feature_…`` columns; Metadata of a treatment are those of its first field.
    """
    names = feature_columns(features)
    metadata = [column for column in METADATA if column in features]
    for keys in (list(dict.fromkeys([PLATE, WELL, *by])), by):
        groups = features.groupby(keys, sort=False, dropna=False)
        first = features.loc[~groups.ngroup().duplicated(), metadata]  # in the order of the groups, as they come
        features = first.reset_index(drop=True).join(groups[names].agg(how).reset_index(drop=True))
    return features


def neighbour_table(profiles: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The scored treatments of each protocol, stacked: Metadata, ``metric`` and ``correct``.

    ``profiles`` has, by name of the metric, one run's treatment profiles. A name that holds ``nscb`` also asks
    for another batch.
    """
    tables = []
    for metric, table in profiles.items():
        batch = table[BATCH] if metric.startswith("nscb") else None
        found = neighbours(table[feature_columns(table)], table[LABEL], table[COMPOUND], batch).table
        told = table[[*FIELD_KEY, COMPOUND]].assign(metric=metric, correct=found["correct"])
        tables.append(told[found["scored"].to_numpy()])
    return pd.concat(tables, ignore_index=True)


def run_profiles(features: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Treatment profiles of one run by the metric that they are for: nsc, nscb, and each ``_sphered``.

    Sphered are the fields, on the negative controls among them; where there are fewer than two, they are left out.
    Under NSCB a treatment in two batches has a profile in each.
    """
    control = is_control(features)
    names = feature_columns(features)
    spaces = {"": features}
    if control.sum() >= 2:
        values = features[names].to_numpy(float)
        sphered = pd.DataFrame(sphering(values[control], values), columns=names, index=features.index)
        spaces["_sphered"] = features.drop(columns=names).join(sphered)
    kinds = {"nsc": TREATMENT} | ({"nscb": [*TREATMENT, BATCH]} if BATCH in features else {})
    return {
        kind + space: treatment_profiles(table[~control], by)
        for space, table in spaces.items()
        for kind, by in kinds.items()
    }


def neighbour_rows(profiles: dict[tuple[str, int], pd.DataFrame], study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: nsc and nscb of each method on its test fields, with and without sphering.

    ``profiles`` has, by method and seed, a table of fields; see ``read_profiles``. A row's n counts the
    scored treatments. What cannot be scored has no row: a protocol without a scored treatment, and a study
    without compounds.
    """
    tables = [
        neighbour_table(run_profiles(fields[fields[SPLIT] == "test"])).assign(method=method, seed=seed)
        for (method, seed), fields in profiles.items()
        if has_treatments(fields)
    ]
    scored = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["metric"])
    rows = [
        summary_rows(members, study, protocol, "treatment", metric, "correct")
        for metric, members in scored.groupby("metric", sort=False)
    ]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=SUMMARY)
