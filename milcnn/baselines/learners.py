"""Baselines with a classifier of scikit-learn: support vector machines that vote, boosted trees."""

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

from milcnn.baselines.cells import Cells, ProfileSettings, field_means, means_of
from milcnn.baselines.neighbours import Scorer

PROFILE_QUANTILES = (0.1, 0.5, 0.9)
# of each feature, for the boosted trees: on some hundred fields 255 are slower, and worse on the validation fields of
# ``simulated`` (log loss 0.18 against 0.12). Made beforehand, since scikit-learn's trees take nine tenths of their time
# to find the bins of weighted fields; with weights or without, they are as good (0.14 and 0.16 over three seeds there,
# 0.79 and 0.79 on ``digits``)
FEATURE_BINS = 32
# of the support vector machines; the best on validation is taken. Between them the log loss hardly changes (digits
# 1.22 at 0.01, 1.24 at 0.03, 1.01 at 0.3 and at 1, simulated 0.227, 0.222, 0.236, 0.229), and 1 takes twice as long
PENALTIES = (0.03, 0.3)


def svm_vote(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Support vector machines on single cells, one a class, and a vote of all cells of a field.

    Every training cell carries the label of its field (Chong 2015, doi 10.1016/j.cell.2015.04.051). Most
    cells of a weak field look like controls, so the largest share of votes is a poor class. The shares
    (N, C) go through a logistic regression, which learns what share of votes each class needs, from
    votes of machines that were not trained on the voting field: member k of the ensemble learns from
    all folds of the training fields but the k-th. A new field has the mean vote of the members.
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
    """For each of ``PENALTIES`` the members of the ensemble, and the votes (N, C) on each training field of the one
    that did not see it.
    """
    folds = KFold(settings.svm_folds, shuffle=True, random_state=settings.seed)
    found = [([], np.zeros((len(training.fields), len(training.classes)))) for _ in PENALTIES]
    for _, left_out in folds.split(training.targets):
        mask = np.isin(np.arange(len(training.targets)), left_out)
        seen, other = training.where(~mask), training.where(mask)
        landmarks = min(settings.svm_components, len(seen.features))
        kernel = Nystroem(n_components=landmarks, random_state=settings.seed).fit(seen.features)
        mapped = kernel.transform(seen.features).astype(float)
        for penalty, (members, votes) in zip(PENALTIES, found, strict=True):
            # The dual takes a third of the primal's time to 99.5 % of its calls, and a tolerance of 0.01 four fifths
            # of that at 0.001, to the same log loss on validation fields (digits 0.960, simulated 0.224).
            machine = LinearSVC(C=penalty, tol=1e-2, dual=True, class_weight="balanced", random_state=settings.seed)
            members.append(make_pipeline(kernel, machine.fit(mapped, seen.targets[seen.field])))
            votes[mask] = votes_of(members[-1], other)
    return found


def votes_of(member: Pipeline, cells: Cells) -> np.ndarray:
    """Share of the cells of each field that ``member`` calls each class, (N, C)."""
    return means_of(np.eye(len(cells.classes))[member.predict(cells.features)], cells)


def score_votes(members: list[Pipeline], layer: Pipeline, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C) behind the logistic layer, and the mean votes (N, C) before it as profile."""
    shares = np.mean([votes_of(member, cells) for member in members], axis=0)
    return all_classes(layer.predict_proba(shares), layer.classes_, len(cells.classes)), shares


def boosting(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Gradient-boosted trees on the profile of a field: mean, standard deviation and quantiles of its cells.

    The number of rounds is the one with the lowest log loss on the validation fields.
    """
    training, validation = cells.where(cells.split("train")), cells.where(cells.split("validation"))
    seen, bins = distribution(training), KBinsDiscretizer(FEATURE_BINS, encode="ordinal", subsample=None)
    with warnings.catch_warnings(action="ignore"):  # a feature with few values has fewer bins
        bins.fit(seen)
    trees = HistGradientBoostingClassifier(
        max_iter=settings.boosting_rounds, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=5,
        max_bins=FEATURE_BINS, max_features=0.1, class_weight="balanced", early_stopping=False,
        random_state=settings.seed,
    )  # fmt: skip
    trees.fit(bins.transform(seen), training.targets)
    found = staged(trees, bins.transform(distribution(validation)), len(cells.classes))
    losses = [log_loss(validation.targets, y, labels=range(len(cells.classes))) for y in found]
    return partial(score_distribution, bins, trees, int(np.argmin(losses)))


def score_distribution(
    bins: KBinsDiscretizer, trees: HistGradientBoostingClassifier, rounds: int, cells: Cells
) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C) after ``rounds`` (from 0) rounds of boosting, and the profiles (N, 5 D) that it comes from."""
    profiles = distribution(cells)
    return next(islice(staged(trees, bins.transform(profiles), len(cells.classes)), rounds, None)), profiles


def staged(trees: HistGradientBoostingClassifier, binned: np.ndarray, n_classes: int) -> Iterator[np.ndarray]:
    """y (N, C) after each round of boosting."""
    for y in trees.staged_predict_proba(binned):
        yield all_classes(y, trees.classes_, n_classes)


def distribution(cells: Cells) -> np.ndarray:
    """Mean, standard deviation and the 10, 50 and 90 % quantiles of the features over each field, (N, 5 D).

    For fields that all have cells.
    """
    groups = pd.DataFrame(cells.features).groupby(cells.field)
    parts = [field_means(cells), groups.std(ddof=0), *(groups.quantile(q) for q in PROFILE_QUANTILES)]
    return np.concatenate([np.asarray(part, float) for part in parts], axis=1)


def all_classes(y: np.ndarray, present: np.ndarray, n_classes: int) -> np.ndarray:
    """``y`` (N, number of ``present``) with a column of 0 for every class that no training field has, (N, C)."""
    result = np.zeros((len(y), n_classes))
    result[:, present] = y
    return result
