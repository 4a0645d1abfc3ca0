"""What a network has not seen: distances against scipy's, sets against brute force and by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import mahalanobis

from milcnn.score.trained import Scores
from milcnn.score.unseen import Reference, conformal_level, ensure_reference, least_probability, read_reference
from tests.score.conftest import PREPARED, RUN, settings_for

RANDOM = np.random.default_rng(0)


def test_unseen_is_the_distance_to_the_nearest_class_less_that_to_all():
    matrices = [np.linalg.inv(a @ a.T + np.eye(4)) for a in RANDOM.normal(size=(2, 4, 4))]
    means, features = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(5, 4))
    reference = Reference(["a", "b", "c"], means, matrices[0], means.mean(axis=0), matrices[1], 0.0, 0.5)
    for one, got in zip(features, reference.unseen(features), strict=True):
        nearest = min(mahalanobis(one, mean, matrices[0]) ** 2 for mean in means)
        assert got == pytest.approx(nearest - mahalanobis(one, means.mean(axis=0), matrices[1]) ** 2)


def test_sets_have_the_classes_that_are_likely_enough():
    reference = Reference(["a", "b"], np.zeros((2, 1)), np.eye(1), np.zeros(1), np.eye(1) * 0, 1.5, 0.3)
    y = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.25]])
    scores = Scores(y, y, y, np.array([[1.0], [2.0], [1.2]]))
    judged = reference.judged(scores)
    assert judged["set_90"].tolist() == ["a|b", "a", ""]
    assert judged["unseen"].tolist() == pytest.approx([1, 4, 1.44])
    assert judged["unseen_above"].tolist() == [False, True, False]


def test_the_level_by_hand():
    """Of 19 fields and the new one, 18 = 0.9 · 20 must be at or above the level: that is the second lowest."""
    y = np.linspace(0.05, 0.95, 19)
    assert least_probability(y, np.ones(19)) == pytest.approx(y[1])
    assert least_probability(y[:8], np.ones(8)) == 0  # 8 of 9 are never nine tenths
    weights = np.r_[np.full(10, 1.0), np.full(9, 10.0)]  # the ten lowest count little
    # total 100 + mean 100/19; nine tenths of it are reached with the first low ones
    share = np.cumsum(weights[::-1]) / (100 + 100 / 19)
    assert least_probability(y, weights) == pytest.approx(y[::-1][np.flatnonzero(share >= 0.9)[0]])


def test_nine_of_ten_new_fields_have_their_class_in_the_set():
    """Over many draws of validation fields; by theory the mean is between 0.9 and 0.9 + 1/(n + 1)."""
    covered = []
    for _ in range(400):
        y = RANDOM.beta(4, 1, size=1050)
        level = least_probability(y[:50], np.ones(50))
        covered.append((y[50:] >= level).mean())
    assert 0.895 < np.mean(covered) < 0.925


class Sure:
    """Networks whose validation plates differ: 10 fields on one, 90 on the other."""

    temperature = 1.0
    y = np.r_[np.full(10, 0.4), np.linspace(0.6, 0.99, 90)]
    validation = pd.DataFrame(
        {"Metadata_Plate": ["A"] * 10 + ["B"] * 90, "Metadata_Label": "x", "predicted": "x", "y_x": y, "y_z": 1 - y}
    )


def test_each_validation_plate_has_the_same_weight():
    assert conformal_level(Sure) == pytest.approx(0.4)  # a tenth of the fields, but half of the weight
    assert conformal_level(type("One", (Sure,), {"validation": Sure.validation.iloc[10:]})) > 0.6


def test_the_reference_is_fitted_once_for_its_networks(plates, tmp_path):
    settings = settings_for(plates, tmp_path / "out")
    ensure_reference(settings)
    path = tmp_path / "out" / "reference.safetensors"
    first = path.stat().st_mtime_ns
    ensure_reference(settings)
    assert path.stat().st_mtime_ns == first
    reference = read_reference(tmp_path / "out", list("123456789"))
    assert np.allclose(reference.within, reference.within.T)
    assert np.linalg.eigvalsh(reference.within).min() > 0
    other = tmp_path / "run"
    other.mkdir()
    for name in ("model.safetensors", "predictions.csv"):
        (other / name).write_bytes((RUN / name).read_bytes())
    (other / "predictions.csv").write_text((other / "predictions.csv").read_text() + "\n")
    ensure_reference(settings.model_copy(update={"runs": [str(other)]}))
    assert path.stat().st_mtime_ns > first
    assert PREPARED.exists()
