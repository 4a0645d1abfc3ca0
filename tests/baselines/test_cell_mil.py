"""MIL on measured cells: its batches, and that the loop of the MIL-CNN trains it."""

import numpy as np
import pandas as pd
import pytest
import torch

from milcnn.baselines import cell_mil
from milcnn.baselines.cells import Cells, ProfileSettings
from milcnn.network import train


@pytest.fixture
def cells() -> Cells:
    """24 fields of 3 to 7 cells, in random order; the first feature separates the two classes."""
    rng = np.random.default_rng(0)
    targets = np.arange(24) % 2
    field = rng.permutation(np.repeat(np.arange(24), 3 + np.arange(24) % 5))
    features = rng.normal(0, 1, (len(field), 4)).astype(np.float32)
    features[:, 0] += 3 * targets[field]
    rows = pd.DataFrame({"Metadata_Split": np.where(np.arange(24) < 16, "train", "validation")})
    return Cells(rows, targets, features, field, np.zeros((24, 1), np.float32), list("abcd"), ["no", "yes"])


def test_a_padded_field_has_its_own_cells_in_their_order(cells):
    padded = cell_mil.padded(cells).numpy()
    assert padded.shape == (24, 7, 4)
    for number, values in enumerate(padded):
        own = cells.features[cells.field == number]
        np.testing.assert_array_equal(values[: len(own)], own)
        assert np.isnan(values[len(own) :]).all()


def test_the_shared_loop_keeps_the_epoch_of_the_lowest_validation_loss(cells, monkeypatch):
    losses = []

    def validate(*arguments):
        losses.append(train_validate(*arguments))
        return losses[-1]

    train_validate = train.validate
    monkeypatch.setattr(train, "validate", validate)
    settings = ProfileSettings(epochs=6, hidden=8)
    loss, network = cell_mil.trained(cells, settings, "mean", 0.3)
    assert len(losses) == 6
    assert loss == min(loss for loss, _ in losses) < losses[0][0]
    held = cell_mil.batches_of(cells.where(cells.split("validation")))
    with torch.inference_mode():
        assert train.two_headed_loss(network(held.source), held.targets).mean().item() == pytest.approx(loss, rel=1e-5)
    assert not network.training
