"""Baselines that look for the nearest treatment: the plain mean, factor analysis, sphering."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.decomposition import FactorAnalysis
from sklearn.metrics.pairwise import cosine_similarity

from milcnn.baselines.cells import Cells, ProfileSettings, TooFewCells, field_means
from milcnn.baselines.sphering import sphering
from milcnn.columns import COMPOUND, CONCENTRATION, LABEL
from milcnn.roles import reference_fields

Profile = Callable[[Cells], np.ndarray]  # (N, K), one row a field
Scorer = Callable[[Cells], tuple[np.ndarray, np.ndarray]]  # y (N, C) and profile (N, K)


def mean_profile(cells: Cells, settings: ProfileSettings) -> Scorer:
    """The nearest neighbour of the mean of the standardised features."""
    return nearest(cells, [field_means])


def ljosa(cells: Cells, settings: ProfileSettings) -> Scorer:
    """The nearest neighbour of the mean factors, from a factor analysis of control cells.

    x = W f + μ + ε with f ~ N(0, I), ε ~ N(0, diag ψ): a factor is a variation that several features share. The
    profile is the mean of E[f | x] over the cells of a field (Ljosa 2013, doi 10.1177/1087057113503553).
    """
    controls = cells.features[reference_fields(cells.fields)[cells.field]]
    if (controls == controls[0]).all():
        raise TooFewCells("All control cells are alike")
    numbers = [number for number in settings.factors if number <= min(controls.shape)] or [min(controls.shape)]
    analyses = [FactorAnalysis(number, random_state=settings.seed).fit(controls) for number in numbers]
    return nearest(cells, [partial(field_means, of=analysis.transform) for analysis in analyses])


def sphered(cells: Cells, settings: ProfileSettings) -> Scorer:
    """The nearest neighbour of the mean profile, sphered on the profiles of control fields."""
    reference = field_means(cells)[reference_fields(cells.fields)]
    if (reference == reference[0]).all():
        raise TooFewCells("Cells were found in fewer than two control fields that differ")

    def profile(regularisation: float, own: Cells) -> np.ndarray:
        return sphering(reference, field_means(own), regularisation)

    return nearest(cells, [partial(profile, value) for value in settings.regularisations])


def nearest(cells: Cells, profiles: list[Profile]) -> Scorer:
    """The scorer with the lowest log loss on the validation fields. There are three choices:

    one of ``profiles``; as references, the mean profiles of training treatments (compound, concentration and label)
    or of classes; as origin of the cosine, 0, which is the controls (as Ljosa), or the mean of the references, which
    gives the controls a direction of their own where they are a class.
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
    """y = softmax_c(s_c / T), with s_c the cosine to the nearest reference of class c; and the profile."""
    profiles = profile(cells)
    similar = similarity(profiles - origin, references - origin, labels, len(cells.classes))
    return np.exp(log_softmax(similar / temperature, axis=1)), profiles


def group_means(profiles: np.ndarray, cells: Cells, columns: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean profile (G, K) and class index (G,) of each group of fields that share ``columns``."""
    present = [column for column in columns if column in cells.fields]
    group = cells.fields.groupby(present, dropna=False, sort=False).ngroup().to_numpy()
    masks = [group == number for number in range(group.max() + 1)]
    return np.stack([profiles[m].mean(axis=0) for m in masks]), np.array([cells.targets[m][0] for m in masks])


def similarity(profiles: np.ndarray, references: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Cosine of each of ``profiles`` (N, K) to the nearest reference of each class, (N, C); −1 without reference."""
    cosine = cosine_similarity(profiles, references)
    result = np.full((len(profiles), n_classes), -1.0)
    for label in np.unique(labels):
        result[:, label] = cosine[:, labels == label].max(axis=1)
    return result


def fit_temperature(similar: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """T in [0.001, 10] with the lowest mean −log softmax(``similar`` (N, C) / T) at ``targets`` (N,), and that loss."""

    def loss(log_temperature: float) -> float:
        logs = log_softmax(similar / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(targets)), targets].mean())

    best = minimize_scalar(loss, bounds=(np.log(0.001), np.log(10)), method="bounded")
    return float(np.exp(best.x)), float(best.fun)
