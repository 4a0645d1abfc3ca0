"""What a network has not seen: distances against scipy's, sets against brute force and by simulation."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from milcnn.score.trained import Scores
from milcnn.score.unseen import (
    Reference,
    conformal_level,
    doubt,
    ensure_reference,
    fitted,
    least_probability,
    read_reference,
    share_above,
)
from tests.score.conftest import PREPARED, RUN, settings_for

RANDOM = np.random.default_rng(0)


def reference(**facts) -> Reference:
    usual = {
        "classes": ["a", "b"],
        "several": False,
        "projection": np.eye(2),
        "means": np.eye(2),
        "limit": 1.0,
        "least": 0.3,
    }
    known = {"distances": np.array([0.0, 0.1, 0.2, 0.4]), "doubts": np.array([0.0, 0.05, 0.1, 0.3])}
    return Reference(**(usual | known | facts))


def of(y, features=((1.0, 0.0),)) -> Scores:
    y = np.array(y)
    return Scores(y, y, y, np.array(features))


def test_unseen_by_hand():
    """A field like class a in (1, 0): nothing is nearer, and its doubt 0.1 is that of 2 of 4. Both count themselves."""
    (unseen,) = reference().unseen(of([[0.9, 0.1]]))
    assert unseen == pytest.approx(-np.log(5 / 5) - np.log(3 / 5))
    # (3, 4) has length 5: (0.6, 0.8) is 0.4² + 0.8² from a, and 0.6² + 0.2² = 0.4 from b
    far = of([[0.5, 0.5]], [[3.0, 4.0]])
    assert reference().distance(far.features) == pytest.approx([0.4])
    assert reference().unseen(far) == pytest.approx(-np.log(2 / 5) - np.log(1 / 5))
    assert reference().distance(np.zeros((1, 2))) == pytest.approx([1])  # a field without any feature


def test_a_brighter_field_is_no_other_phenotype():
    random = RANDOM.random((6, 2))
    np.testing.assert_allclose(reference().distance(random), reference().distance(7 * random))


def test_doubt_of_one_and_of_several_labels():
    assert doubt(np.array([[0.7, 0.3], [0.5, 0.5]]), several=False) == pytest.approx([0.3, 0.5])
    assert doubt(np.array([[0.9, 0.8, 0.5]]), several=True) == pytest.approx([(0.1 + 0.2 + 0.5) / 3])
    assert doubt(np.array([[0.7, 0.3]]), several=True) == pytest.approx([0.3])  # also where they sum to 1


def test_p_values_against_brute_force():
    known, values = np.sort(RANDOM.random(50).round(1)), RANDOM.random(20).round(1)
    expected = [(1 + sum(known >= value)) / 51 for value in values]
    assert share_above(values, known) == pytest.approx(expected)


def test_sets_have_the_classes_that_are_likely_enough():
    y = of([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5]], [[1.0, 0.0]] * 3)
    assert reference(least=0.4).judged(y)["set_90"].tolist() == ["a|b", "a", "a|b"]
    assert reference(least=0.6).judged(y)["set_90"].tolist() == ["a", "a", ""]
    assert reference().judged(y)["unseen_above"].tolist() == [True, False, True]


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

    y = np.r_[np.full(10, 0.4), np.linspace(0.6, 0.99, 90)]
    validation = pd.DataFrame(
        {"Metadata_Plate": ["A"] * 10 + ["B"] * 90, "Metadata_Label": "x", "predicted": "x", "y_x": y, "y_z": 1 - y}
    )


def test_each_validation_plate_has_the_same_weight():
    assert conformal_level(Sure.validation) == pytest.approx(0.4)  # a tenth of the fields, but half of the weight
    assert conformal_level(Sure.validation.iloc[10:]) > 0.6


def test_the_reference_is_fitted_once_for_its_networks(plates, tmp_path):
    settings = settings_for(plates, tmp_path / "out")
    ensure_reference(settings)
    path = tmp_path / "out" / "reference.safetensors"
    first = path.stat().st_mtime_ns
    ensure_reference(settings)
    assert path.stat().st_mtime_ns == first
    found = read_reference(tmp_path / "out", list("123456789"), several=False)
    assert len(found.means) == 9
    assert found.distances.tolist() == sorted(found.distances) != []
    other = tmp_path / "run"
    other.mkdir()
    for name in ("model.safetensors", "predictions.csv"):
        (other / name).write_bytes((RUN / name).read_bytes())
    (other / "predictions.csv").write_text((other / "predictions.csv").read_text() + "\n")
    ensure_reference(settings.model_copy(update={"runs": [str(other)]}))
    assert path.stat().st_mtime_ns > first
    assert PREPARED.exists()


class Known:
    """A network whose features are the means of the channels of a field: two classes along the first."""

    temperature, validation = 1.0, pd.DataFrame()

    def scores(self, pixels):
        features = pixels.mean(axis=(2, 3))
        y = 1 / (1 + np.exp(-features[:, :1] * 5))
        return Scores(*[np.hstack([y, 1 - y])] * 3, features)


class Study:
    """Fields of two classes, at ±1 of the first of three channels."""

    classes: ClassVar = ["a", "b"]
    multilabel = False

    def of(self, split):
        return pd.DataFrame({"class": [0, 1] * 40, "seed": range(80)}).assign(split=split)

    def targets(self, rows):
        return rows["class"].to_numpy()

    def pixels(self, rows):
        noise = np.random.default_rng(len(rows)).normal(0, 0.1, (len(rows), 3))
        centre = np.array([[1.0, 0, 0.3], [-1.0, 0, 0.3]])[rows["class"]]
        return (centre + noise)[:, :, None, None] * np.ones((1, 1, 32, 32))


def test_what_lies_between_the_classes_was_not_seen():
    found = fitted(Known(), Study())
    assert found.projection.shape == (3, 1)
    inside = found.judged(Known().scores(Study().pixels(Study().of("test"))))
    other = found.judged(Known().scores(np.array([[0.0, 1, 0.3]])[:, :, None, None] * np.ones((1, 1, 32, 32))))
    assert inside["unseen_above"].mean() < 0.15
    assert other["unseen_above"].all()
