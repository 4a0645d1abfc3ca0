"""Predictions with the controls of each plate: the change of its pixels, against numpy and as an invariance."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from milcnn.columns import CONTROL, LABEL, PLATE, SITE, SPLIT, WELL
from milcnn.network import predict
from milcnn.network.model import MILCNN, ModelSettings
from milcnn.prepare import fields
from milcnn.prepare.prepared import Prepared
from milcnn.roles import plate_references
from milcnn.screens.screen import Screen


def two_plates(gain: int, offset: int, controls: bool = True) -> Screen:
    """P0, darker, and P1 train; P2 tests, its pixels ``gain`` times brighter, plus ``offset``."""
    plan = [("P0", "train", 4), ("P1", "train", 4), ("P1", "validation", 2), ("P2", "test", 8)]
    rows = [(plate, f"{split}{n}", 1, split, n % 2 == 0) for plate, split, count in plan for n in range(count)]
    table = pd.DataFrame(rows, columns=[PLATE, WELL, SITE, SPLIT, CONTROL])
    table[LABEL] = np.where(table[CONTROL], "DMSO", "drug")

    def read(row: pd.Series) -> np.ndarray:
        rng = np.random.default_rng([ord(mark) for mark in row[WELL]])
        field = rng.integers(900, 1100, (2, 72, 72)) + 400 * rng.integers(0, 2, (2, 1, 1))
        return (field * gain + offset if row[PLATE] == "P2" else field // (1 + (row[PLATE] == "P0"))).astype(np.uint16)

    return Screen(table if controls else table.drop(columns=CONTROL), ["a", "b"], ["DMSO", "drug"], read)


def y_of(prepared: Prepared, changes: predict.Changes | None = None) -> np.ndarray:
    torch.manual_seed(0)
    settings = ModelSettings(study="two", channels=["a", "b"], classes=["DMSO", "drug"], width=0.06, padding="same")
    network = MILCNN(settings, [1100.0, 1100.0], [200.0, 200.0]).eval()
    torch.nn.init.normal_(network.scores.weight)
    predictions, _ = predict.predict_fields(network, prepared, prepared.of("test"), changes)
    return predictions.filter(like="y_").to_numpy()


def test_a_plate_gets_the_mean_and_spread_of_the_training_controls(tmp_path):
    ready = fields.prepare(two_plates(3, 500), "two", tmp_path / "two")
    changes = predict.plate_changes(ready)
    table = ready.fields
    chosen = table[plate_references(table)]
    assert set(chosen.loc[chosen[PLATE] == "P2", SPLIT]) == {"test"}
    normal = [
        ready.pixels(table[(table[SPLIT] == "train") & table[CONTROL] & (table[PLATE] == plate)]).astype(float)
        for plate in ("P0", "P1")
    ]
    assert set(changes) == {"P2"}  # the look of the others was learnt
    rows = chosen[chosen[PLATE] == "P2"]
    matched = predict.changed(ready.pixels(rows), rows[PLATE], changes)
    for levels in (np.mean, np.std):  # not the spread between the two training plates
        expected = np.mean([levels(own, axis=(0, 2, 3)) for own in normal], axis=0)
        assert_allclose(levels(matched, axis=(0, 2, 3)), expected, rtol=1e-5)
    assert (predict.changed(ready.pixels(table[:4]), table[:4][PLATE], changes) == ready.pixels(table[:4])).all()


@pytest.mark.parametrize(("gain", "offset"), [(2, 0), (5, 3000)])
def test_with_controls_the_light_of_a_test_plate_changes_no_prediction(tmp_path, gain, offset):
    plain = fields.prepare(two_plates(1, 0), "two", tmp_path / "plain")
    bright = fields.prepare(two_plates(gain, offset), "two", tmp_path / "bright")
    expected = y_of(plain, predict.plate_changes(plain))
    assert_allclose(y_of(bright, predict.plate_changes(bright)), expected, rtol=1e-4)
    assert np.abs(y_of(bright) - y_of(plain)).max() > 0.01  # without them it does


def test_without_controls_nothing_is_changed(tmp_path):
    ready = fields.prepare(two_plates(1, 0, controls=False), "two", tmp_path / "two")
    assert predict.plate_changes(ready) == {}
    rows = ready.of("test")
    assert predict.changed(ready.pixels(rows), rows[PLATE], {}).dtype == np.uint16
