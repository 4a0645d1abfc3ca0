"""Baselines with a classifier of scikit-learn: SVMs that vote, boosted trees, and two that see only sums."""

import warnings
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from sklearn.svm import LinearSVC

from milcnn.baselines.cells import Cells, ProfileSettings, TooFewCells, field_means
from milcnn.baselines.neighbours import Scorer

# Bins of each feature for the boosted trees. On some hundred fields, 255 bins are slower, and worse on the validation
# fields of ``simulated`` (log loss 0.18 against 0.12). The bins are made before the fit: scikit-learn's trees spend
# nine tenths of their time on the bins of weighted fields. Unweighted bins are as good (0.14 and 0.16 over three seeds
# there, 0.79 and 0.79 on ``digits``).
FEATURE_BINS = 32
# C of the support vector machines; the best on validation is used. The log loss hardly depends on it (digits 1.22 at
# 0.01, 1.24 at 0.03, 1.01 at 0.3 and at 1; simulated 0.227, 0.222, 0.236, 0.229), and 1 takes twice as long.
PENALTIES = (0.03, 0.3)


def cell_count(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Logistic regression on the number of cells alone. Its score needs no phenotype (Seal et al. 2026)."""
    return of_totals(cells, slice(0, 1))


def total_intensity(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Logistic regression on the summed intensity of the cells, a number a channel."""
    return of_totals(cells, slice(1, None))


def of_totals(cells: Cells, columns: slice) -> Scorer:
    """Logistic regression on ``columns`` of the totals of each field."""
    training = cells.where(cells.split("train"))
    layer = LogisticRegression(class_weight="balanced", max_iter=1000)
    return partial(score_totals, layer.fit(training.totals[:, columns], training.targets), columns)


def score_totals(layer: LogisticRegression, columns: slice, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C), and its input as profile."""
    values = cells.totals[:, columns]
    return all_classes(layer.predict_proba(values), layer.classes_, len(cells.classes)), values


def svm_vote(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Support vector machines on single cells, one a class; all cells of a field vote.

    Every training cell has the label of its field (Chong 2015, doi 10.1016/j.cell.2015.04.051). Most cells of a weak
    field look like controls, so the class with most votes is often wrong. A logistic regression on the shares of votes
    (N, C) learns which share each class needs. Member k of the ensemble learns from all training folds except fold k
    and votes on fold k, so these votes come from unseen fields. A new field gets the mean vote of all members.
    """
    training, validation = cells.where(cells.split("train")), cells.where(cells.split("validation"))
    options = []
    for members, votes in cross_voted(training, settings):
        layer = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        layer.fit(votes, training.targets)
        y, _ = score_votes(members, layer, validation)
        options.append((log_loss(validation.targets, y, labels=range(len(cells.classes))), members, layer))
    _, members, layer = min(options, key=lambda option: option[0])
    return partial(score_votes, members, layer)


def cross_voted(training: Cells, settings: ProfileSettings) -> list[tuple[list[Pipeline], np.ndarray]]:
    """For each of ``PENALTIES``: the members, and their votes (N, C) on training fields that they have not seen."""
    if len(training.targets) < settings.svm_folds:
        raise TooFewCells(f"Cells were found in only {len(training.targets)} training fields")
    folds = KFold(settings.svm_folds, shuffle=True, random_state=settings.seed)
    ensembles: list[list[Pipeline]] = [[] for _ in PENALTIES]
    shares = np.zeros((len(PENALTIES), len(training.fields), len(training.classes)))
    for _, left_out in folds.split(training.targets):
        mask = np.isin(np.arange(len(training.targets)), left_out)
        seen, other = training.where(~mask), training.where(mask)
        if len(np.unique(seen.targets)) < 2:
            raise TooFewCells("Only one class has cells in enough training fields")
        landmarks = min(settings.svm_components, len(seen.features))
        kernel = Nystroem(n_components=landmarks, random_state=settings.seed).fit(seen.features)
        mapped = kernel.transform(seen.features).astype(float)
        for penalty, members, votes in zip(PENALTIES, ensembles, shares, strict=True):
            # The dual form takes a third of the primal's time and agrees with it on 99.5 % of the cells. A tolerance of
            # 0.01 takes four fifths of the time of 0.001, for the same validation loss (digits 0.960, simulated 0.224).
            machine = LinearSVC(C=penalty, tol=1e-2, dual=True, class_weight="balanced", random_state=settings.seed)
            members.append(make_pipeline(kernel, machine.fit(mapped, seen.targets[seen.field])))
            votes[mask] = votes_of(members[-1], other)
    return list(zip(ensembles, shares, strict=True))


def votes_of(member: Pipeline, cells: Cells) -> np.ndarray:
    """Share of the cells of each field that ``member`` assigns to each class, (N, C)."""
    return field_means(cells, lambda features: np.eye(len(cells.classes))[member.predict(features)])


def score_votes(members: list[Pipeline], layer: Pipeline, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C) of the logistic layer; and its input, the mean votes (N, C), as profile."""
    shares = np.mean([votes_of(member, cells) for member in members], axis=0)
    return all_classes(layer.predict_proba(shares), layer.classes_, len(cells.classes)), shares


def boosting(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Boosted trees on the ``distribution`` of each field, after the round with the lowest validation log loss."""
    training, validation = cells.where(cells.split("train")), cells.where(cells.split("validation"))
    of_training, of_validation = distribution(training), distribution(validation)
    bins = KBinsDiscretizer(FEATURE_BINS, encode="ordinal", subsample=None)
    with warnings.catch_warnings(action="ignore"):  # a feature with few values has fewer bins
        bins.fit(of_training)
    trees = HistGradientBoostingClassifier(
        max_iter=settings.boosting_rounds, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=5,
        max_bins=FEATURE_BINS, max_features=0.1, class_weight="balanced", early_stopping=False,
        random_state=settings.seed,
    )  # fmt: skip
    trees.fit(bins.transform(of_training), training.targets)

    def y_by_round(profiles: np.ndarray) -> Iterator[np.ndarray]:
        rounds = trees.staged_predict_proba(bins.transform(profiles))
        return (all_classes(y, trees.classes_, len(cells.classes)) for y in rounds)

    losses = [log_loss(validation.targets, y, labels=range(len(cells.classes))) for y in y_by_round(of_validation)]
    best = int(np.argmin(losses))

    def score(own: Cells) -> tuple[np.ndarray, np.ndarray]:
        own_profiles = distribution(own)
        return next(islice(y_by_round(own_profiles), best, None)), own_profiles

    return score


def distribution(cells: Cells) -> np.ndarray:
    """Mean, standard deviation, 10, 50 and 90 % quantiles of the features of each field, (N, 5 D); all have cells."""
    groups = pd.DataFrame(cells.features).groupby(cells.field)
    parts = [field_means(cells), groups.std(ddof=0), *(groups.quantile(q) for q in (0.1, 0.5, 0.9))]
    return np.concatenate([np.asarray(part, float) for part in parts], axis=1)


def all_classes(y: np.ndarray, present: np.ndarray, n_classes: int) -> np.ndarray:
    """``y`` (N, number of ``present``) with a column of 0 for each class without a training field, (N, C)."""
    result = np.zeros((len(y), n_classes))
    result[:, present] = y
    return result
