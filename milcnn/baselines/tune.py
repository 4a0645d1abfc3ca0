"""A segmentation tuned on training fields, as a user tunes one for each assay, but by a rule.

Nobody has outlined cells of a new assay. So a setting is as good as the profiles of the cells that it finds: ``tune``
tries the settings as they come and others drawn at random, on a sample of training fields, and takes the
cross-validated log loss of a logistic regression on quickly measured profiles. No validation or test field is seen.
"""

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.baselines.cells import robust_statistics
from milcnn.baselines.measure import feature_names, measure_field, white_values
from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.columns import COMPOUND, LABEL, PLATE, SOURCE, WELL
from milcnn.network.batches import targets_of
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

SIGMAS, DISTANCES, AREAS, WINDOWS = (0.7, 4.0), (3, 20), (10, 150), (31, 161)  # px, px², least and most that are drawn
PENALTY = 0.03  # C of the logistic regression, which has more features than fields
CLIP = 6.0  # largest |standardised feature|
UNLIKELY = 1e-3  # probability; a class that a fold does not train on costs no more than its logarithm


class TuneSettings(Settings):
    """The budget."""

    tried: int = Field(8, ge=1)  # settings, with those as they come; 1 tunes nothing
    fields: int = Field(54, ge=2)  # training fields at most, as many of each label as possible
    folds: int = Field(3, ge=2)  # at most; parts that are left out in turn
    seed: int = Field(0, ge=0)


def tune(
    prepared: Prepared, start: SegmentSettings, budget: TuneSettings, workers: int = 1
) -> tuple[SegmentSettings, pd.DataFrame]:
    """The chosen settings; and the table of those tried, ``start`` first: settings, ``loss``, ``cells`` a field.

    The lowest loss is chosen if it is below that of ``start`` by more than one standard error of the difference over
    fields; else ``start`` stays (Breiman et al. 1984 prune trees by this rule). Only ``start`` is tried where a trained
    network finds the nuclei, and where fewer than two labels have two training fields.
    """
    rows = sampled(prepared.of("train"), budget)
    comparable = start.method == "classical" and (rows[LABEL].value_counts() > 1).sum() > 1
    random = np.random.default_rng(budget.seed)
    others = [drawn(start, prepared.channels, random) for _ in range(budget.tried - 1 if comparable else 0)]
    # a copy without the tables it has read: these need not go to each process
    losses_of = delayed(partial(cross_validated, replace(prepared), white_values(prepared), rows, budget))
    results = Parallel(workers)(losses_of(settings) for settings in [start, *others])
    losses = np.stack([loss for loss, _ in results])
    best = losses.mean(axis=1).argmin()
    gain = losses[0] - losses[best]
    chosen = best if gain.mean() > gain.std() / np.sqrt(len(gain)) else 0
    table = pd.DataFrame([settings.model_dump() for settings in [start, *others]])
    table = table.assign(loss=losses.mean(axis=1), cells=[cells for _, cells in results], fields=len(rows))
    return [start, *others][chosen], table.assign(chosen=table.index == chosen)


def sampled(rows: pd.DataFrame, budget: TuneSettings) -> pd.DataFrame:
    """At most ``budget.fields`` of ``rows``, drawn at random, the labels in turn."""
    shuffled = rows.sample(frac=1, random_state=budget.seed)
    turn = shuffled.groupby(LABEL, dropna=False).cumcount().sort_values(kind="stable")
    return shuffled.loc[turn.index[: budget.fields]].reset_index(drop=True)


def groups_of_fields(rows: pd.DataFrame) -> np.ndarray:
    """The group of each field, (N,) int: its source, compound, plate or well; else itself.

    It is the first of these of which each label has two or more, so that a fold lacks none.
    """
    for columns in ([SOURCE], [COMPOUND], [PLATE], [PLATE, WELL]):
        if set(columns) <= set(rows):
            groups = rows.groupby(columns, dropna=False).ngroup()
            if groups.groupby(rows[LABEL]).nunique().min() > 1:
                return groups.to_numpy()
    return np.arange(len(rows))


def drawn(start: SegmentSettings, channels: list[str], random: np.random.Generator) -> SegmentSettings:
    """``start`` with other values: lengths and areas uniform in their logarithm, half of the time another channel."""

    def between(limits: tuple[float, float]) -> float:
        return float(np.exp(random.uniform(*np.log(limits))))

    values: dict[str, Any] = {"sigma": round(between(SIGMAS), 2), "threshold": str(random.choice(["otsu", "local"]))}
    values |= {"seed_distance": round(between(DISTANCES)), "min_area": round(between(AREAS))}
    values["window"] = round(between(WINDOWS))
    if random.random() < 0.5 and not start.cytoplasm:
        values["nucleus"] = str(random.choice(channels))
    return start.model_copy(update=values)


def cross_validated(
    prepared: Prepared, white: np.ndarray, rows: pd.DataFrame, budget: TuneSettings, settings: SegmentSettings
) -> tuple[np.ndarray, float]:
    """The loss of each of ``rows`` (N,), from folds that leave its group out; and the cells a field.

    In a study of several labels it is the mean over the classes, each against the rest.
    """
    profiles, cells = quick_profiles(prepared, white, rows, settings)
    labels, groups = rows[LABEL].fillna("").factorize()[0], groups_of_fields(rows)
    number = min(budget.folds, len(np.unique(groups)))
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=budget.seed)
    with warnings.catch_warnings(action="ignore"):  # a label may have fewer fields than there are folds
        folds = list(splitter.split(profiles, labels, groups)) if np.bincount(labels).max() >= number > 1 else []
    columns = [prepared.targets(rows)]
    if prepared.multilabel:
        columns = list(targets_of(prepared, rows, True).nan_to_num(-1).numpy().T.astype(int))
    return np.mean([left_out_losses(profiles, column, folds) for column in columns], axis=0), cells


def quick_profiles(
    prepared: Prepared, white: np.ndarray, rows: pd.DataFrame, settings: SegmentSettings
) -> tuple[np.ndarray, float]:
    """Mean and standard deviation over the cells of each field, (N, 2 D), 0 without cells; and the cells a field."""
    tables = []
    for place in range(len(rows)):
        field = prepared.pixels(rows.iloc[[place]])[0]
        masks = segment(field, prepared.channels, settings, prepared.pixel_size)
        tables.append(measure_field(field, *masks, prepared.channels, "quick", white).assign(place=place))
    table = pd.concat(tables)
    values = table[feature_names(table)].to_numpy(float)
    centre, scale = robust_statistics(values, values) if len(values) else (0, 1)
    groups = pd.DataFrame(((values - centre) / scale).clip(-CLIP, CLIP)).groupby(table["place"].to_numpy())
    parts = [part.reindex(range(len(rows)), fill_value=0) for part in (groups.mean(), groups.std(ddof=0))]
    return np.concatenate(parts, axis=1).astype(float), len(table) / len(rows)


def left_out_losses(profiles: np.ndarray, targets: np.ndarray, folds: list) -> np.ndarray:
    """−log of the probability of ``targets`` (N,) int, from a logistic regression that did not see the field, (N,).

    A target of −1 is not known: it is not learnt from, and its loss is 0.
    """
    losses = np.where(targets < 0, 0, -np.log(UNLIKELY))
    for seen, other in [(seen[targets[seen] >= 0], other[targets[other] >= 0]) for seen, other in folds]:
        present = np.unique(targets[seen])
        y = np.zeros((len(other), targets.max() + 1))
        if len(present) > 1:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
            y[:, present] = model.fit(profiles[seen], targets[seen]).predict_proba(profiles[other])
        else:
            y[:, present] = 1
        losses[other] = -np.log(y[np.arange(len(other)), targets[other]].clip(UNLIKELY))
    return losses
