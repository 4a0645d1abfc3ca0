"""A trained network to use: one or several, their temperature, what they refuse."""

import numpy as np
import pandas as pd
import pytest
import torch

import milcnn
from milcnn.files import read_table
from milcnn.network.model import MILCNN, ModelSettings, save_model
from milcnn.score.trained import Trained

CLASSES = ["x", "y"]


def run_folder(folder, seed, temperature=1.0, **settings):
    """A run with random weights whose validation predictions are as sure as ``temperature`` says."""
    torch.manual_seed(seed)
    facts = {"study": "s", "channels": ["a", "b"], "classes": CLASSES, "width": 0.1, "padding": "same"} | settings
    save_model(MILCNN(ModelSettings(**facts), [3.0, 1.0], [2.0, 4.0]), folder / "model.safetensors")
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-logits))  # calibrated at T = 1
    y = 1 / (1 + np.exp(-logits * temperature))
    table = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": range(4000), "Metadata_Site": 1})
    table = table.assign(Metadata_Split="validation", Metadata_Label=np.where(truth, "x", "y"))
    table.assign(predicted=np.where(y > 0.5, "x", "y"), y_x=y, y_y=1 - y).to_csv(
        folder / "predictions.csv", index=False
    )
    return folder


@pytest.fixture
def runs(tmp_path):
    for seed in (0, 1):
        (tmp_path / f"mean-{seed}").mkdir()
    return [run_folder(tmp_path / f"mean-{seed}", seed) for seed in (0, 1)]


FIELDS = np.random.default_rng(0).integers(0, 9, (5, 2, 140, 150)).astype(np.uint16)


def test_several_networks_are_the_mean_of_each(runs):
    first, second, both = (milcnn.load(*own).scores(FIELDS) for own in (runs[:1], runs[1:], runs))
    for name in ("P", "p", "y"):  # the temperature is nearly 1
        mean = (getattr(first, name) + getattr(second, name)) / 2
        np.testing.assert_allclose(getattr(both, name), mean, atol=0.02 if name == "y" else 1e-6)
    np.testing.assert_array_equal(both.features, first.features)


def test_scores_are_those_of_the_model_one_field_at_a_time(runs):
    network = milcnn.load(runs[0])
    whole = network.scores(FIELDS)
    with torch.inference_mode():
        outputs = [
            milcnn.network.model.load_model(runs[0] / "model.safetensors")(torch.from_numpy(f[None])) for f in FIELDS
        ]
    np.testing.assert_allclose(whole.P, np.concatenate([o.bags for o in outputs]), atol=1e-6)
    np.testing.assert_allclose(whole.p, np.concatenate([o.instances.mean(dim=(2, 3)) for o in outputs]), atol=1e-6)
    table = network.score(FIELDS)
    assert table.columns.tolist() == ["predicted", *(f"{name}_{own}" for name in ("P", "y", "p") for own in CLASSES)]
    assert (table["predicted"] == np.where(whole.y[:, 0] > 0.5, "x", "y")).all()


def test_a_network_twice_too_sure_gets_a_temperature_of_two(tmp_path):
    assert milcnn.load(run_folder(tmp_path, 0, temperature=2.0)).temperature == pytest.approx(2, rel=0.1)


def test_validation_fields_have_the_y_that_others_get(tmp_path):
    found = milcnn.load(run_folder(tmp_path, 0, temperature=2.0))
    raw = read_table(tmp_path / "predictions.csv")
    odds = np.log(raw["y_x"] / raw["y_y"])
    np.testing.assert_allclose(found.validation["y_x"], 1 / (1 + np.exp(-odds / found.temperature)), atol=1e-6)


def test_labels_that_nobody_knows_teach_no_temperature(tmp_path):
    """x is known of every field, y of none: T is that of x alone; fields with neither label count as well."""
    run_folder(tmp_path, 0, temperature=2.0, multilabel=True)
    table = read_table(tmp_path / "predictions.csv")
    table = table.assign(Metadata_Label=table["Metadata_Label"].replace("y", ""), Metadata_Unknown="y", y_y=0.99)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    found = milcnn.load(tmp_path)
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert len(found.validation) == 4000


def test_batches_fit_in_the_cache(runs):
    network = milcnn.load(runs[0], device="cpu")
    assert [network.batch_size((3, side, side)) for side in (96, 256, 512, 1024, 4096)] == [16, 16, 4, 1, 1]


def test_what_cannot_be_scored_is_told(runs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    run_folder(other, 0, classes=["x", "z"])
    with pytest.raises(ValueError, match=r"other: its classes differ from those of .*mean-0"):
        milcnn.load(runs[0], other)
    with pytest.raises(FileNotFoundError, match="no such checkpoint; train it first"):
        milcnn.load(tmp_path)
    network = milcnn.load(runs[0])
    with pytest.raises(ValueError, match=r"fields of 20 × 90 px: this network needs \d+ px"):
        network.scores(FIELDS[:, :, :20, :90])
    with pytest.raises(ValueError, match="this network was made for a, b"):
        network.scores(FIELDS[:, :1])
    assert isinstance(network, Trained)
