"""Is a result real? What could make a good score without a good method, each measured."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.columns import BATCH, PLATE, SPLIT, WELL
from milcnn.evaluate.intervals import draw_counts, summarise_draws
from milcnn.evaluate.runs import SUMMARY
from milcnn.evaluate.scores import Calls, balanced_accuracy
from milcnn.evaluate.treatments import feature_columns
from milcnn.prepare.folds import GROUPS, leaks
from milcnn.roles import is_control

PROBED = (1, 3)  # the parts of ``dealt_wells`` that are guessed
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


def well_parts(controls: pd.DataFrame) -> np.ndarray:
    """Each well of a plate in turn to one of four parts, (n,) int: reference A, probe A, reference B, probe B."""
    wells = controls[[PLATE, WELL]].drop_duplicates().sort_values([PLATE, WELL])
    part = pd.Series(wells.groupby(PLATE).cumcount().to_numpy() % 4, pd.MultiIndex.from_frame(wells))
    return part[pd.MultiIndex.from_frame(controls[[PLATE, WELL]])].to_numpy()


def standardised_by_plate(controls: pd.DataFrame, part: np.ndarray) -> pd.DataFrame:
    """``controls`` with features in standard deviations from the mean of the reference wells of plate and side.

    ``part`` (n,) as ``dealt_wells``: side A holds 0 and 1, side B 2 and 3; the reference is the first of each.
    """
    names = feature_columns(controls)
    side = pd.Series(part // 2, controls.index, name="side")
    known = controls[part % 2 == 0].groupby([PLATE, side])[names]
    place = pd.MultiIndex.from_arrays([controls[PLATE], side])
    mean, std = (table.reindex(place).to_numpy() for table in (known.mean(), known.std(ddof=0)))
    values = (controls[names] - mean) / np.where(std > LEAST_SPREAD, std, 1)  # a constant feature is only centred
    return controls.drop(columns=names).join(values)


def probe(controls: pd.DataFrame, part: np.ndarray, column: str) -> Calls | None:
    """Guesses of ``column`` (plate or batch) from the features of the probe wells: learnt on side A, and on side B.

    Logistic regression on standardised features, trained on the probe wells of one side, which guesses those of
    the other. ``part`` (n,) as ``dealt_wells``. None where fewer than two groups have probe wells on both sides.
    """
    sides = [set(controls.loc[part == own, column]) for own in PROBED]
    names = np.array(sorted(map(str, set.intersection(*sides))))
    if len(names) < 2:
        return None
    label = controls[column].astype(str)
    values = controls[feature_columns(controls)].to_numpy(float)
    truth, found = [], []
    for learnt, guessed in (PROBED, PROBED[::-1]):
        train, test = ((part == own) & label.isin(names) for own in (learnt, guessed))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"))
        model.fit(values[train], label[train])
        found.append(model.predict_proba(values[test]))
        truth.append(np.searchsorted(names, label[test]))
    y, one_hot = np.concatenate(found), np.eye(len(names))
    return Calls(one_hot[np.concatenate(truth)], one_hot[y.argmax(axis=1)], y)


def probes(fields: pd.DataFrame) -> dict[str, Calls]:
    """``plate_probe``, ``batch_probe`` and each ``_corrected`` of one run's ``fields``, where they are defined."""
    controls = fields[is_control(fields)].reset_index(drop=True)
    part = well_parts(controls)
    whole = controls.groupby(PLATE)[WELL].transform("nunique").to_numpy() >= 4  # all four parts have a well
    controls, part = controls[whole].reset_index(drop=True), part[whole]
    tables = {"": controls, "_corrected": standardised_by_plate(controls, part)}
    found = {
        name + suffix: probe(table, part, column)
        for name, column in (("plate_probe", PLATE), ("batch_probe", BATCH))
        for suffix, table in tables.items()
        if column in fields
    }
    return {name: calls for name, calls in found.items() if calls is not None}


def probe_rows(profiles: dict[tuple[str, int], pd.DataFrame], study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: balanced accuracy with which plate and batch are told from control fields.

    Chance is one over the number of plates or batches; above it, features carry what no biology explains.
    ``plate_probe`` and ``batch_probe`` see the features as they are, ``…_corrected`` after standardisation by
    plate. The control wells of a plate are dealt in turn to reference A, probe A, reference B and probe B; a probe
    well is corrected by the reference of its own side, the probe learns on one side and guesses the other, both
    ways. With one reference for both sides, the error of its mean would be a mark of the plate that the probe
    finds again, in pure noise. A plate with fewer than four control wells is left out. The features of the baselines
    are standardised by plate already (``profiles.open_cells``): their plain probes are after a correction, too.
    Seeds are averaged, fields drawn. One plate or batch, or no controls: no row. ``profiles`` as in
    ``neighbour_rows``.
    """
    draws: dict[tuple[str, str], list[np.ndarray]] = {}
    counts = {}
    for (method, _), fields in profiles.items():
        for metric, calls in probes(fields).items():
            counts[method, metric] = len(calls.y)
            scores = balanced_accuracy(calls, draw_counts(np.arange(len(calls.y))))
            draws.setdefault((method, metric), []).append(scores)
    facts = {"study": study, "protocol": protocol, "level": "field"}
    rows = [
        facts
        | {"method": method, "metric": metric, "n": counts[method, metric], "seeds": len(seeds)}
        | summarise_draws(np.mean(seeds, axis=0))
        for (method, metric), seeds in draws.items()
    ]
    return pd.DataFrame(rows, columns=SUMMARY)
