"""The U-Net learns squares from rings within seconds, and its targets are those of the truth."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from milcnn.files import write_json, write_table
from milcnn.localise import supervised_unet
from milcnn.localise.scores import score_method
from milcnn.prepare.prepared import Prepared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Fields of two filled squares and two rings each; the label is one of the two by turns."""
    folder, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    pixels, truth = rng.integers(0, 20, (12, 1, 64, 64)).astype(np.uint8), np.zeros((12, 64, 64), np.uint8)
    objects = []
    for field in range(12):
        for number, (y, x) in enumerate(((4, 6), (6, 38), (36, 4), (38, 40)), start=1):
            truth[field, y : y + 16, x : x + 16] = number
            pixels[field, 0, y : y + 16, x : x + 16] += 150
            if (number + field) % 2:
                pixels[field, 0, y + 4 : y + 12, x + 4 : x + 12] -= 150
            objects.append(("P", "A01", field, number, "ring" if (number + field) % 2 else "square"))
    for kind, stack in (("plates", pixels), ("truth", truth)):
        (folder / kind).mkdir()
        np.save(folder / kind / "P.npy", stack)
    fields = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": "A01", "Metadata_Site": range(12)})
    fields = fields.assign(Metadata_Label=["ring", "square"] * 6, index=range(12))
    fields["Metadata_Split"] = ["train"] * 8 + ["test"] * 4
    key = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    write_table(fields, folder / "fields.csv")
    write_table(pd.DataFrame(objects, columns=[*key, "object", "class"]), folder / "objects.csv")
    write_json({}, folder / "prepared.json")
    return Prepared(folder, "s", ["a"], ["ring", "square"], [40.0], [60.0], None)


def test_targets_are_the_class_of_each_object_and_its_core(prepared):
    rows = prepared.of("train").iloc[:2]
    targets = supervised_unet.mask_targets(prepared, rows, ["ring", "square"])
    assert targets.shape == (2, 2, 64, 64)
    assert targets[0, 0, 10, 10] == 1  # object 1 of field 0 is a ring
    assert targets[1, 0, 10, 10] == 2  # of field 1 a square
    assert targets[:, 0].astype(bool).sum() == 2 * 4 * 16**2
    assert np.array_equal(targets[:, 1], targets[:, 0] > 0)  # no two objects touch: all of each is core


def touching_rings(prepared, folder):
    """``prepared`` with a truth of pairs of rings, 3 px thick, that touch."""
    y, x = np.mgrid[:64, :64]
    truth = np.zeros((12, 64, 64), np.uint8)
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
    rows, settings = rings.of("test"), supervised_unet.UNetSettings(downscale=step, crop=64)
    mean, std = torch.tensor(prepared.mean).view(-1, 1, 1), torch.tensor(prepared.std).view(-1, 1, 1)
    blank = supervised_unet.TrainedUNet(torch.nn.Identity(), ["ring", "square"], mean, std, step)
    monkeypatch.setattr(supervised_unet, "augmented", lambda both, *_: both)  # the whole field, upright
    _, targets = supervised_unet.training_crops(rings, rows, blank, torch.zeros(len(rows), 4), settings)
    perfect = dataclasses.replace(blank, network=Oracle(targets))
    found = [supervised_unet.localise_with_unet(perfect, field, "ring") for field in rings.pixels(rows)]
    scores = score_method(rings, rows, found, "oracle")
    assert scores["f1_at_0.5"].mean() >= 0.95
    assert scores["iou_foreground"].mean() > 0.85
    assert ndimage.label(rings.truth(rows)[0])[1] < 4  # they do touch


def test_a_rare_class_weighs_more(prepared):
    weights = supervised_unet.class_weights(prepared, ["ring", "square", "never"])
    assert weights[0] == weights[1]
    assert weights[2] > weights[0]


def test_it_learns_masks_and_classes(prepared):
    rows = prepared.of("test")
    settings = supervised_unet.UNetSettings(steps=60, downscale=1, learning_rate=1e-2)
    scores = supervised_unet.score_unet(prepared, rows, settings, torch.device("cpu"))
    assert (scores[["iou_foreground", "f1_at_0.5", "average_precision"]].mean() > 0.9).all()
    everything = [supervised_unet.Localised(*[(truth > 0).astype(int)] * 3) for truth in prepared.truth(rows)]
    blind = score_method(prepared, rows, everything, "all")
    assert scores["f1_class"].mean() > blind["f1_class"].mean() + 0.3
