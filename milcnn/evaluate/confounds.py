"""Confounds: what can give a good score without a good method, each of them measured."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.columns import BATCH, FRESH, PLATE, SPLIT, WELL
from milcnn.evaluate.intervals import Clusters, clusters, facts_of, without_each
from milcnn.evaluate.runs import Profiles, summary_table
from milcnn.evaluate.scores import Calls, balanced_accuracy
from milcnn.evaluate.treatments import feature_columns
from milcnn.prepare.folds import GROUPS, leaks
from milcnn.roles import is_control

# The control wells of a plate are in turn part 0 (reference of side A), 1 (probe A), 2 (reference B) and 3 (probe B).
PROBED = (3, 1)  # the parts that are predicted
LEAST_SD = 1e-6  # a smaller standard deviation of a feature is rounding


def shared_groups(fields: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """How many groups of fields training, validation and test share, and which groups ``protocol`` keeps apart.

    ``fields`` is the table of a prepared study. Columns: ``group`` (see ``folds.GROUPS``), ``kept_apart``, ``groups``
    (their number), ``shared`` (by a test set with training or validation fields: validation chooses the epoch) and
    ``shared_with_validation`` (by training and validation: no leak). Negative controls do not count as compounds.
    """
    apart = {"field", protocol} | ({"compound", "well"} if protocol in ("compound", "compound_batch") else set())
    rows = []
    for kind, columns in GROUPS.items():
        if set(columns) <= set(fields):
            members = fields[~is_control(fields)] if kind == "compound" else fields
            merged = members.assign(**{SPLIT: members[SPLIT].replace({"validation": "train", FRESH: "test"})})
            shared = len(leaks(merged, columns, ["train", "test"]))
            with_validation = len(leaks(members, columns, ["train", "validation"]))
            name = "batch" if kind == "compound_batch" else kind
            rows.append((name, kind in apart, len(members[columns].drop_duplicates()), shared, with_validation))
    return pd.DataFrame(rows, columns=["group", "kept_apart", "groups", "shared", "shared_with_validation"])


def standardised_by_plate(controls: pd.DataFrame, part: np.ndarray) -> pd.DataFrame:
    """``controls`` with each feature minus the mean, over the sd, of the reference wells of its plate and side."""
    names = feature_columns(controls)
    side = pd.Series(part // 2, controls.index, name="side")
    reference = controls[part % 2 == 0].groupby([PLATE, side])[names]
    place = pd.MultiIndex.from_arrays([controls[PLATE], side])
    mean, sd = (table.reindex(place).to_numpy() for table in (reference.mean(), reference.std(ddof=0)))
    values = (controls[names] - mean) / np.where(sd > LEAST_SD, sd, 1)  # a constant feature is only centred
    return controls.drop(columns=names).join(values)


def probe(controls: pd.DataFrame, part: np.ndarray, column: str) -> tuple[Calls, Clusters] | None:
    """``column`` (plate or batch) of the probe wells, predicted from features, and the groups of their fields.

    ``part`` (n,) int, see ``PROBED``. Logistic regression learns on one side and predicts the other, both ways. None if
    the sides share fewer than two.
    """
    labels = controls[column].astype(str)
    names = np.array(sorted(set.intersection(*(set(labels[part == own]) for own in PROBED))))
    if len(names) < 2:
        return None
    rows = np.concatenate([np.flatnonzero((part == own) & labels.isin(names)) for own in PROBED])
    values, label = controls[feature_columns(controls)].to_numpy(float)[rows], labels.to_numpy()[rows]
    one_hot = np.eye(len(names))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"))
    y = cross_val_predict(model, values, label, cv=PredefinedSplit(part[rows]), method="predict_proba")
    return Calls(one_hot[np.searchsorted(names, label)], one_hot[y.argmax(axis=1)], y), clusters(controls.iloc[rows])


def probes(fields: pd.DataFrame) -> dict[str, tuple[Calls, Clusters]]:
    """``plate_probe``, ``batch_probe`` and each ``…_corrected`` of one run, where ``probe`` is defined."""
    controls = fields[is_control(fields)]
    enough = controls.groupby(PLATE)[WELL].transform("nunique").to_numpy() >= 4  # each part has a well
    controls = controls[enough].reset_index(drop=True)
    part = controls.groupby(PLATE)[WELL].transform(lambda wells: pd.factorize(wells, sort=True)[0] % 4).to_numpy()
    tables = {"": controls, "_corrected": standardised_by_plate(controls, part)}
    return {
        name + suffix: found
        for name, column in (("plate_probe", PLATE), ("batch_probe", BATCH))
        for suffix, table in tables.items()
        if column in fields and (found := probe(table, part, column))
    }


def probe_rows(profiles: Profiles, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: balanced accuracy of predicting the plate and the batch of control fields.

    Above chance, one over the number of plates or batches, the features carry a batch effect. ``…_corrected`` is after
    standardisation by plate. Each side has its own reference wells: a shared
    reference would give both sides the same error, by which the probe detects the plate even in noise. Plates with
    fewer than four control wells are left out.
    """
    scores: dict[tuple[str, str], list[np.ndarray]] = {}
    groups: dict[tuple[str, str], Clusters] = {}
    for (method, _), fields in profiles.items():
        for metric, (calls, of_fields) in probes(fields).items():
            groups[method, metric] = of_fields
            of_seed = balanced_accuracy(calls, without_each(of_fields.of_field))
            scores.setdefault((method, metric), []).append(of_seed)
    rows = [
        {"method": key[0], "metric": key[1]} | facts_of(groups[key], np.mean(seeds, axis=0), np.array(seeds)[:, 0])
        for key, seeds in scores.items()
    ]
    return summary_table(rows, study, protocol, "field")
