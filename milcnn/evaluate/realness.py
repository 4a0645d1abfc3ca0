"""Is a result real? What could make a good score without a good method, each measured."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.evaluate.intervals import spread, weights
from milcnn.evaluate.runs import SUMMARY
from milcnn.evaluate.scores import Calls, balanced_accuracy
from milcnn.evaluate.treatments import feature_columns
from milcnn.groups import GROUPS
from milcnn.screens.columns import BATCH, PLATE, SPLIT, WELL
from milcnn.splits import leaks
from milcnn.survey import is_control

FOLDS = 5
LEAST_SPREAD = 1e-6  # of a feature: a smaller standard deviation is rounding


def shared_groups(fields: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """How many groups of fields training, validation and test share, and which the ``protocol`` keeps apart.

    ``fields`` is the table of a prepared study. Columns: ``group`` (see ``groups.GROUPS``; those whose columns
    the study has), ``kept_apart`` (by the protocol, and fields by every one), ``groups`` (in all), ``shared``, the
    groups that the test fields share with training or with validation fields (these choose the epoch), and
    ``shared_with_validation``, those that training shares with validation: no leak, for a study may validate by
    less than it tests by. Of compounds, negative controls do not count: they are on every plate.
    """
    kept = {"field", protocol} | ({"compound", "well"} if protocol in ("compound", "compound_batch") else set())
    named = {"batch" if kind == "compound_batch" else kind: columns for kind, columns in GROUPS.items()}
    kept = {"batch" if kind == "compound_batch" else kind for kind in kept}
    rows = []
    for kind, columns in named.items():
        if set(columns) <= set(fields):
            members = fields[~is_control(fields)] if kind == "compound" else fields
            learnt = members.assign(**{SPLIT: members[SPLIT].replace("validation", "train")})
            shared = [len(leaks(learnt, columns, ["train", "test"]))]
            shared += [len(leaks(members, columns, ["train", "validation"]))]
            rows.append((kind, kind in kept, len(members[columns].drop_duplicates()), *shared))
    return pd.DataFrame(rows, columns=["group", "kept_apart", "groups", "shared", "shared_with_validation"])


def inflation(history: pd.DataFrame) -> pd.DataFrame:
    """What choosing the epoch on the test fields would have added to the accuracy of each run.

    The network keeps the epoch of the lowest validation loss; the test accuracy of every epoch is recorded, and
    nothing is chosen by it. Columns: ``method``, ``seed``, ``chosen`` and ``best`` (test accuracy of the chosen
    epoch and of the best), ``inflation`` = best − chosen.
    """
    rows = []
    for (method, seed), epochs in history.groupby(["method", "seed"], sort=False):
        chosen = epochs.loc[epochs["validation_loss"].idxmin(), "test_accuracy"]
        rows.append((method, seed, chosen, epochs["test_accuracy"].max()))
    table = pd.DataFrame(rows, columns=["method", "seed", "chosen", "best"])
    return table.assign(inflation=table["best"] - table["chosen"])


def reference_wells(controls: pd.DataFrame) -> np.ndarray:
    """Every second well of each plate, (n,) bool: what the correction is fitted on, and the probe never sees."""
    wells = controls[[PLATE, WELL]].drop_duplicates().sort_values([PLATE, WELL])
    chosen = wells[wells.groupby(PLATE).cumcount() % 2 == 0]
    return pd.MultiIndex.from_frame(controls[[PLATE, WELL]]).isin(pd.MultiIndex.from_frame(chosen))


def standardised_by_plate(controls: pd.DataFrame, reference: np.ndarray) -> pd.DataFrame:
    """``controls`` with features in standard deviations from the mean of the ``reference`` fields of their plate."""
    names = feature_columns(controls)
    known = controls[reference].groupby(PLATE)[names]
    mean, std = (table.reindex(controls[PLATE]).to_numpy() for table in (known.mean(), known.std(ddof=0)))
    values = (controls[names] - mean) / np.where(std > LEAST_SPREAD, std, 1)  # a constant feature is only centred
    return controls.drop(columns=names).join(values)


def probe(controls: pd.DataFrame, column: str) -> Calls | None:
    """Cross-validated guesses of ``column`` (plate or batch) from the features of control fields.

    Logistic regression on standardised features, five folds (fewer where a group has fewer wells) between which no
    well is shared. None where there are fewer than two groups of at least two wells: nothing to tell apart.
    """
    wells = controls.groupby([PLATE, WELL], sort=False).ngroup()
    counts = wells.groupby(controls[column]).nunique()
    members = controls[column].isin(counts.index[counts >= 2])
    if controls[members][column].nunique() < 2:
        return None
    told, groups = controls[members], wells[members]
    names, truth = np.unique(told[column].astype(str), return_inverse=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"))
    folds = StratifiedGroupKFold(min(FOLDS, int(counts[counts >= 2].min())), shuffle=True, random_state=0)
    values = told[feature_columns(told)].to_numpy(float)
    y = cross_val_predict(model, values, truth, groups=groups, cv=folds, method="predict_proba")
    one_hot = np.eye(len(names))
    return Calls(one_hot[truth], one_hot[y.argmax(axis=1)], y)


def probes(fields: pd.DataFrame) -> dict[str, Calls]:
    """``plate_probe``, ``batch_probe`` and each ``_corrected`` of one run's ``fields``, where they are defined."""
    controls = fields[is_control(fields)].reset_index(drop=True)
    reference = reference_wells(controls)
    tables = {"": controls, "_corrected": standardised_by_plate(controls, reference)}
    found = {
        name + suffix: probe(table[~reference], column)
        for name, column in (("plate_probe", PLATE), ("batch_probe", BATCH))
        for suffix, table in tables.items()
        if column in fields
    }
    return {name: calls for name, calls in found.items() if calls is not None}


def probe_rows(profiles: dict[tuple[str, int], pd.DataFrame], study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: balanced accuracy with which plate and batch are told from control fields.

    Chance is one over the number of plates or batches; above it, features carry what no biology explains.
    ``plate_probe`` and ``batch_probe`` see the features as they are, ``…_corrected`` after standardisation by
    plate. That is fitted on every second control well of the plate, and both look at the others: on the wells
    that it was fitted on, a correction leaves nothing to find, whatever it does to all others. What it adds to
    those is the error of a mean over few wells, and that can be told too. Seeds are averaged, fields drawn. One
    plate or batch, or no controls: no row. ``profiles`` as in ``neighbour_rows``.
    """
    draws: dict[tuple[str, str], list[np.ndarray]] = {}
    counts = {}
    for (method, _), fields in profiles.items():
        for metric, calls in probes(fields).items():
            counts[method, metric] = len(calls.y)
            scores = balanced_accuracy(calls, weights(np.arange(len(calls.y))))
            draws.setdefault((method, metric), []).append(scores)
    facts = {"study": study, "protocol": protocol, "level": "field", "seconds_per_field": np.nan}
    rows = [
        facts
        | {"method": method, "metric": metric, "n": counts[method, metric], "seeds": len(seeds)}
        | spread(np.mean(seeds, axis=0))
        for (method, metric), seeds in draws.items()
    ]
    return pd.DataFrame(rows, columns=SUMMARY)
