"""Augmentation of training fields."""

import numpy as np
import pandas as pd
import pytest
import torch

from milcnn.columns import CONTROL, PLATE, SPLIT
from milcnn.network.augment import Jitter, augmented, jitter_of
from milcnn.prepare.prepared import Prepared


def test_augmentation_turns_and_crops():
    field = torch.arange(5 * 5, dtype=torch.uint8).view(1, 1, 5, 5)
    turns = [0.0, 0.3, 0.6, 0.9]
    seen = {
        tuple(augmented(field, torch.tensor([[0.0, 0.0, turn, flip]]), 0, True).flatten().tolist())
        for turn in turns for flip in (0.1, 0.9)
    }  # fmt: skip
    assert len(seen) == 8  # all elements of the dihedral group
    assert all(sorted(values) == list(range(25)) for values in seen)
    crop = augmented(field, torch.tensor([[0.99, 0.0, 0.0, 0.9]]), 3, False)
    assert crop[0, 0].tolist() == [[10, 11, 12], [15, 16, 17], [20, 21, 22]]
    with pytest.raises(ValueError, match="crop: 6 px is more than a field of 5 × 5 px"):
        augmented(field, torch.rand(1, 4), 6, False)


def test_a_field_that_is_not_square_keeps_its_shape():
    field = torch.arange(6.0).view(1, 1, 2, 3)
    seen = {
        tuple(augmented(field, torch.tensor([[0.0, 0.0, turn, flip]]), 0, True).flatten().tolist())
        for turn in (0.0, 0.3, 0.6, 0.9) for flip in (0.1, 0.9)
    }  # fmt: skip
    assert len(seen) == 4


def test_jitter_multiplies_and_adds_a_channel_at_a_time():
    jitter = Jitter(torch.tensor([10.0, 20.0]).view(2, 1, 1), torch.tensor([2.0, 4.0]).view(2, 1, 1), 0.5, 0.25)
    fields = torch.tensor([12, 20], dtype=torch.uint16).view(1, 2, 1, 1)
    draws = torch.tensor([[2.0, -2.0], [1.0, -1.0], [0.0, 0.0]]).view(1, 3, 2, 1, 1)
    # 10 + (12 - 10) e + 0.25 * 2, and 20 + 0 / e - 0.25 * 4
    assert jitter(fields, draws).flatten().tolist() == pytest.approx([10.5 + 2 * np.e, 19.0])
    many = jitter.draws(4000, torch.Generator().manual_seed(0))
    assert many.shape == (4000, 3, 2, 1, 1)
    assert many[:, :2].std(dim=0).flatten().tolist() == pytest.approx([1] * 4, abs=0.05)


def test_a_missing_channel_is_at_its_mean_and_one_always_stays():
    mean = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    jitter = Jitter(mean, torch.ones(3, 1, 1), 0, 0, dropout=0.5)
    fields = torch.full((8000, 3, 1, 1), 9.0)
    missing = jitter(fields, jitter.draws(8000, torch.Generator().manual_seed(0))) != 9
    assert missing.float().mean(dim=0).flatten().tolist() == pytest.approx([0.5 - 0.125 / 3] * 3, abs=0.02)
    assert missing.sum(dim=1).max() == 2
    assert torch.equal(jitter(fields, torch.zeros(8000, 3, 3, 1, 1) + 0.6), fields)
    some = jitter(
        fields[:1], torch.tensor([0.9, 0.1, 0.4]).view(1, 1, 3, 1, 1) * torch.tensor([0, 0, 1]).view(1, 3, 1, 1, 1)
    )
    assert some.flatten().tolist() == [9, 2, 3]


class Levels(Prepared):
    """A study whose plates have the given mean and standard deviation of each channel."""

    def channel_levels(self, rows):
        return LEVELS[rows[PLATE].iloc[0]]


LEVELS = {"A": ([10.0, 5.0], [1.0, 2.0]), "B": ([14.0, 5.0], [4.0, 2.0]), "C": ([99.0, 99.0], [99.0, 99.0])}


def study(tmp_path, plates: list[str], splits: list[str]) -> Prepared:
    fields = pd.DataFrame({PLATE: plates, SPLIT: splits, CONTROL: True})
    return Levels(tmp_path, "s", ["a", "b"], ["x", "y"], [12.0, 5.0], [2.5, 2.0], None).with_fields(fields)


def test_the_strength_of_the_jitter_is_that_of_the_training_plates(tmp_path):
    jitter = jitter_of(study(tmp_path, ["A", "B", "C"], ["train", "train", "test"]), True, 0)
    # channel a: log s is 0 and log 4, variance 2 (log 2)²; m / 2.5 is 4 and 5.6, variance 1.28. Channel b: none.
    # Root mean square over both, times √(1 + 1/2)
    assert jitter.gain == pytest.approx(np.log(2) * np.sqrt(1.5))
    assert jitter.offset == pytest.approx(np.sqrt(1.28 / 2 * 1.5))
    assert jitter.mean.flatten().tolist() == [12, 5]
    one_plate = study(tmp_path, ["A", "C"], ["train", "test"])
    assert jitter_of(one_plate, True, 0) is None
    assert jitter_of(one_plate, True, 0.3).dropout == 0.3
