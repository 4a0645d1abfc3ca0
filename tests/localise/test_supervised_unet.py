"""The U-Net learns squares from rings within seconds, and its targets are those of the truth."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from milcnn.files import write_json, write_table
from milcnn.localise import supervised_unet, unet_training
from milcnn.localise.found import SegmentedFields
from milcnn.localise.scores import score_method
from milcnn.prepare.prepared import Prepared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Fields of two filled squares and two rings each; the label is one of the two by turns."""
    folder, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    pixels, truth = rng.integers(0, 20, (14, 1, 64, 64)).astype(np.uint8), np.zeros((14, 64, 64), np.uint8)
    objects = []
    for field in range(14):
        for number, (y, x) in enumerate(((4, 6), (6, 38), (36, 4), (38, 40)), start=1):
            truth[field, y : y + 16, x : x + 16] = number
            pixels[field, 0, y : y + 16, x : x + 16] += 150
            if (number + field) % 2:
                pixels[field, 0, y + 4 : y + 12, x + 4 : x + 12] -= 150
            objects.append(("P", "A01", field, number, "ring" if (number + field) % 2 else "square"))
    for kind, stack in (("plates", pixels), ("truth", truth)):
        (folder / kind).mkdir()
        np.save(folder / kind / "P.npy", stack)
    fields = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": "A01", "Metadata_Site": range(14)})
    fields = fields.assign(Metadata_Label=["ring", "square"] * 7, index=range(14))
    fields["Metadata_Split"] = ["train"] * 8 + ["test"] * 4 + ["validation"] * 2
    key = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    write_table(fields, folder / "fields.csv")
    write_table(pd.DataFrame(objects, columns=[*key, "object", "class"]), folder / "objects.csv")
    write_json({}, folder / "prepared.json")
    return Prepared(folder, "s", ["a"], ["ring", "square"], [40.0], [60.0], None)


def test_targets_are_the_class_of_each_object_and_its_core(prepared):
    rows = prepared.of("train").iloc[:2]
    targets = unet_training.mask_targets(prepared, rows, ["ring", "square"])
    assert targets.shape == (2, 2, 64, 64)
    assert targets[0, 0, 10, 10] == 1  # object 1 of field 0 is a ring
    assert targets[1, 0, 10, 10] == 2  # of field 1 a square
    assert targets[:, 0].astype(bool).sum() == 2 * 4 * 16**2
    assert np.array_equal(targets[:, 1], targets[:, 0] > 0)  # no two objects touch: all of each is core


def touching_rings(prepared, folder):
    """``prepared`` with a truth of pairs of rings, 3 px thick, that touch."""
    y, x = np.mgrid[:64, :64]
    truth = np.zeros((14, 64, 64), np.uint8)
    for number, (row, column) in enumerate(((15, 15), (15, 36), (44, 20), (44, 41)), start=1):
        distance = np.hypot(y - row, x - column)
        truth[:, (distance < 10.6) & (distance > 7.6)] = number
    shutil.copytree(prepared.folder, folder)
    np.save(folder / "truth" / "P.npy", truth)
    return dataclasses.replace(prepared, folder=folder)


class Oracle(torch.nn.Module):
    """Gives the targets of one field after another as the logits that a perfect network would have."""

    def __init__(self, targets):
        super().__init__()
        self.parts = torch.nn.Parameter(targets)
        self.seen = iter(self.parts)

    def forward(self, pixels):
        *shares, code = next(self.seen)
        named = [20 * (code == number) for number in (1, 2)]
        return torch.stack([*(share.clamp(0.01, 0.99).logit() for share in shares), *named])[None]


@pytest.mark.parametrize("step", [1, 2])
def test_perfect_outputs_find_every_thin_object_that_touches_others(prepared, step, tmp_path, monkeypatch):
    rings = touching_rings(prepared, tmp_path / "rings")
    rows, settings = rings.of("test"), unet_training.UNetSettings(downscale=step, crop=64)
    mean, std = torch.tensor(prepared.mean).view(-1, 1, 1), torch.tensor(prepared.std).view(-1, 1, 1)
    blank = supervised_unet.TrainedUNet(torch.nn.Identity(), ["ring", "square"], mean, std, step)
    monkeypatch.setattr(unet_training, "augmented", lambda both, *_: both)  # the whole field, upright
    _, targets = unet_training.training_crops(rings, rows, blank, torch.zeros(len(rows), 4), settings)
    perfect = dataclasses.replace(blank, network=Oracle(targets))
    found = [supervised_unet.localise_with_unet(perfect, field, "ring") for field in rings.pixels(rows)]
    scores = score_method(rings, rows, found, "oracle")
    assert scores["f1_at_0.5"].mean() >= 0.95
    assert scores["iou_foreground"].mean() > 0.85
    assert ndimage.label(rings.truth(rows)[0])[1] < 4  # they do touch


def test_a_rare_class_weighs_more(prepared):
    weights = unet_training.class_weights(prepared, ["ring", "square", "never"])
    assert weights[0] == weights[1]
    assert weights[2] > weights[0]


def test_a_pixel_is_of_a_core_above_the_level_that_splits_validation_fields_best(prepared, tmp_path, monkeypatch):
    rings = touching_rings(prepared, tmp_path / "rings")
    rows = rings.of("validation")
    core = unet_training.mask_targets(rings, rows, ["ring", "square"])[:, 1]
    inside = rings.truth(rows) > 0
    outputs = iter(
        [(one, np.where(seeds, 0.85, 0.6), np.stack([one] * 2)) for one, seeds in zip(inside, core, strict=True)]
    )
    monkeypatch.setattr(unet_training, "probabilities", lambda *_: next(outputs))
    classes = supervised_unet.TrainedUNet(torch.nn.Identity(), ["ring", "square"], *[torch.zeros(1)] * 2, 1)
    score, level = unet_training.validation_score(classes, rings, rows)
    assert level == 0.65  # the first between seams and cores
    assert score == pytest.approx((1 + 1 + 1 / 2) / 3)  # masks and objects are right; two of four have the class


@pytest.mark.parametrize(
    ("scores", "cycles", "best"),
    [([0.1, 0.5, 0.4, 0.9], 3, 2), ([0.1, 0.5, 0.6], 3, 3), ([0.3, 0.3, 0.9], 2, 1)],
)
def test_it_stops_when_the_score_no_longer_rises_and_keeps_the_best(prepared, monkeypatch, scores, cycles, best):
    script, seen = iter(scores), []

    def score(unet, *_):
        unet.network.eval()
        seen.append({name: value.clone() for name, value in unet.network.state_dict().items()})
        return next(script), len(seen) / 10

    monkeypatch.setattr(unet_training, "validation_score", score)
    settings = unet_training.UNetSettings(steps=2, cycles=len(scores), crop=32)
    unet, looks = unet_training.train_unet(prepared, settings, torch.device("cpu"))
    assert [look.step for look in looks] == [2 * number for number in range(1, cycles + 1)]
    assert unet.core == best / 10
    for name, value in unet.network.state_dict().items():
        assert torch.equal(value, seen[best - 1][name]), name
    assert not torch.equal(seen[0]["final_conv.weight"], seen[1]["final_conv.weight"])
    means = [name for name in seen[0] if name.endswith("running_mean")]
    assert not any(torch.equal(seen[0][name], seen[1][name]) for name in means)  # it trains on after a look
    assert ("may still rise" in unet_training.told_looks(looks)) == (best == cycles)


def test_neither_test_fields_nor_their_truth_are_learned_from(prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "other")
    for kind in ("plates", "truth"):
        stack = np.load(tmp_path / "other" / kind / "P.npy")
        stack[8:12] = 1
        np.save(tmp_path / "other" / kind / "P.npy", stack)
    settings = unet_training.UNetSettings(steps=2, cycles=1, crop=32)
    studies = (prepared, dataclasses.replace(prepared, folder=tmp_path / "other"))
    first, second = (unet_training.train_unet(study, settings, torch.device("cpu")) for study in studies)
    assert first[1] == second[1]
    for name, value in first[0].network.state_dict().items():
        assert torch.equal(value, second[0].network.state_dict()[name]), name


def test_the_map_is_averaged_over_the_cells_that_are_shared(prepared):
    torch.manual_seed(0)
    unet = supervised_unet.untrained(prepared, 1, torch.device("cpu"))
    field, shared = prepared.pixels(prepared.of("test"))[0], np.kron(np.arange(4).reshape(2, 2), np.ones((32, 32), int))
    free = supervised_unet.localise_with_unet(unet, field, "ring")
    found = supervised_unet.localise_with_unet(unet, field, "ring", shared)
    for number in range(4):
        mean = free.map[shared == number].mean() if number else 0
        assert found.map[shared == number] == pytest.approx(mean, abs=1e-6)
    assert np.array_equal(free.cells, found.cells)


def test_it_is_called_a_ceiling_only_where_it_is_above_every_network():
    means = pd.DataFrame(
        {"average_precision": [0.8, 0.7, 0.75], "cell_average_precision": [0.9, 0.8, 0.95]}, ["unet", "max", "mean"]
    )
    assert "is above the networks" in unet_training.told_rank(means, ["max"])
    told = unet_training.told_rank(means, ["max", "mean"])
    assert "cell average precision: supervised U-Net 0.900, not above the best network (0.950)" in told
    assert "no ceiling" in told


def test_it_learns_masks_and_classes(prepared):
    rows = prepared.of("test")
    settings = unet_training.UNetSettings(steps=60, cycles=1, downscale=1, learning_rate=1e-2)
    truth = [own.astype(int) for own in prepared.truth(rows)]
    fields = SegmentedFields(rows, prepared.pixels(rows), prepared.targets(rows), truth)
    unet, _ = unet_training.train_unet(prepared, settings, torch.device("cpu"))
    scores = unet_training.score_unet(unet, prepared, fields, whole_cells=True)
    assert (scores[["iou_foreground", "f1_at_0.5", "average_precision"]].mean() > 0.9).all()
    everything = [supervised_unet.Localised(*[(own > 0).astype(int)] * 3) for own in truth]
    blind = score_method(prepared, rows, everything, "all")
    assert scores["f1_class"].mean() > blind["f1_class"].mean() + 0.3
