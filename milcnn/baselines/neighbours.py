"""Baselines that look for the nearest treatment: the plain mean, factor analysis, sphering."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.decomposition import FactorAnalysis
from sklearn.metrics.pairwise import cosine_similarity

from milcnn.baselines.cells import Cells, ProfileSettings, field_means, means_of
from milcnn.baselines.sphering import sphering
from milcnn.columns import COMPOUND, CONCENTRATION, LABEL

Profile = Callable[[Cells], np.ndarray]  # (N, K), one row a field
Scorer = Callable[[Cells], tuple[np.ndarray, np.ndarray]]  # y (N, C) and profile (N, K)


def mean_profile(cells: Cells, settings: ProfileSettings) -> Scorer:
    """The nearest neighbour of the mean of the standardised features."""
    return nearest(cells, [field_means])


def ljosa(cells: Cells, settings: ProfileSettings) -> Scorer:
    """The nearest neighbour of the mean factors: factor analysis of control cells.

    x = W f + μ + ε with f ~ N(0, I), ε ~ N(0, diag ψ): what control cells vary in together. The profile is
    the mean of E[f | x] over the cells of a field (Ljosa 2013, doi 10.1177/1087057113503553).
    """
    controls = cells.features[cells.references[cells.field]]
    numbers = [number for number in settings.factors if number <= min(controls.shape)] or [min(controls.shape)]
    return nearest(
        cells,
        [
            partial(factor_profile, FactorAnalysis(number, random_state=settings.seed).fit(controls))
            for number in numbers
        ],
    )


def factor_profile(analysis: FactorAnalysis, cells: Cells) -> np.ndarray:
    """Mean over the cells of each field of the expected factors, (N, K)."""
    return means_of(analysis.transform(cells.features), cells)


def sphered(cells: Cells, settings: ProfileSettings) -> Scorer:
    """The nearest neighbour of the mean profile, sphered on the profiles of control fields."""
    reference = field_means(cells)[cells.references]
    return nearest(cells, [partial(sphered_profile, reference, value) for value in settings.regularisations])


def sphered_profile(reference: np.ndarray, regularisation: float, cells: Cells) -> np.ndarray:
    return sphering(reference, field_means(cells), regularisation)


def nearest(cells: Cells, profiles: list[Profile]) -> Scorer:
    """The scorer whose probabilities are best, by log loss, on the validation fields.

    It is chosen among ``profiles``, times what they are compared with, the mean profiles of training
    treatments (compound, concentration and label) or of classes, times where the cosine has its origin:
    the controls, as Ljosa, or the mean of those profiles, which gives the controls a direction of
    their own where they are a class.
    """
    training, validation = cells.where(cells.split("train")), cells.where(cells.split("validation"))
    options = []
    for profile in profiles:
        of_training, of_validation = profile(training), profile(validation)
        for columns in ([COMPOUND, CONCENTRATION, LABEL], [LABEL]):
            references, labels = group_means(of_training, training, columns)
            for origin in (np.zeros(references.shape[1]), references.mean(axis=0)):
                similar = similarity(of_validation - origin, references - origin, labels, len(cells.classes))
                temperature, loss = fit_temperature(similar, validation.targets)
                options.append((loss, partial(nearest_scores, profile, references, labels, origin, temperature)))
    return min(options, key=lambda option: option[0])[1]


def nearest_scores(
    profile: Profile, references: np.ndarray, labels: np.ndarray, origin: np.ndarray, temperature: float, cells: Cells
) -> tuple[np.ndarray, np.ndarray]:
    """y = softmax_c(s_c / T), s_c the cosine to the nearest of the references of class c; and the profile."""
    found = profile(cells)
    similar = similarity(found - origin, references - origin, labels, len(cells.classes))
    return np.exp(log_softmax(similar / temperature, axis=1)), found


def group_means(profiles: np.ndarray, cells: Cells, columns: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean profile (G, K) and class index (G,) of each group of fields that share ``columns``."""
    present = [column for column in columns if column in cells.fields]
    group = cells.fields.groupby(present, dropna=False, sort=False).ngroup().to_numpy()
    means = np.stack([profiles[group == g].mean(axis=0) for g in range(group.max() + 1)])
    return means, np.array([cells.targets[group == g][0] for g in range(group.max() + 1)])


def similarity(profiles: np.ndarray, references: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Cosine of each of ``profiles`` to the nearest reference of each class, (N, C).

    −1 for a class without reference; the cosine of a profile of zeros is 0.
    """
    cosine = cosine_similarity(profiles, references)
    result = np.full((len(profiles), n_classes), -1.0)
    for label in np.unique(labels):
        result[:, label] = cosine[:, labels == label].max(axis=1)
    return result


def fit_temperature(similar: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """T > 0 with the lowest mean −log softmax(``similar`` / T) of ``targets``, and that loss.

    ``similar`` (N, C), ``targets`` (N,) class indices. T is looked for in [0.001, 10].
    """

    def loss(log_temperature: float) -> float:
        logs = log_softmax(similar / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(targets)), targets].mean())

    best = minimize_scalar(loss, bounds=(np.log(0.001), np.log(10)), method="bounded")
    return float(np.exp(best.x)), float(best.fun)
