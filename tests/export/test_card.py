"""The model card says what the run's files say, and its lines of Python give the committed predictions."""

import hashlib
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import tifffile
from huggingface_hub import ModelCard
from sklearn.metrics import accuracy_score, average_precision_score

from milcnn.columns import LABEL, SPLIT
from milcnn.export import card
from milcnn.export.card import card_text, label_numbers, licence_of, sets_of_classes
from milcnn.files import read_table, write_json
from milcnn.paths import ROOT
from tests.export.conftest import PREPARED, RUN


@pytest.fixture(scope="module")
def text(run):
    return card_text(run)


def row_of(text: str, name: str) -> list[str]:
    """The cells of the one row of a table of the card that begins with ``name``."""
    (row,) = re.findall(rf"^\| {re.escape(name)} \|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in row.strip("|").split("|")]


def scaled_by_hand(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """y is proportional to y^(1/T)."""
    y = predictions.filter(regex="^y_") ** (1 / temperature)
    return predictions.assign(**y.div(y.sum(axis=1), axis=0))


def test_the_hub_reads_the_head(text):
    head = ModelCard(text).data
    assert head.license == "bsd-3-clause"
    assert head.pipeline_tag == "image-classification"
    results = {result.metric_type: result.metric_value for result in head.eval_results}
    test = read_table(RUN / "predictions.csv").query(f"{SPLIT} == 'test'")
    assert results["accuracy"] == pytest.approx(accuracy_score(test[LABEL], test["predicted"]), abs=1e-4)


def test_scores_of_classes_are_those_of_scikit_learn(run, text):
    test = run.predictions.query(f"{SPLIT} == 'test'")  # with y at the temperature
    for name in "123456789":
        _, training, tested, precision, _ = row_of(text, name)
        assert (training, tested) == ("1", str((test[LABEL] == name).sum()))
        assert float(precision) == pytest.approx(
            average_precision_score(test[LABEL] == name, test[f"y_{name}"]), abs=6e-4
        )


def test_the_card_names_the_files_by_their_hashes(text):
    for path in (RUN / "model.safetensors", RUN / "predictions.csv", PREPARED / "fields.csv"):
        assert row_of(text, f"`{path.name}`")[1] == f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`"


def test_sets_name_the_right_class_as_often_as_the_card_says(run, text):
    """Counted field by field; the level is such that nine of ten validation fields have their class."""
    own, found = run.model.settings.classes, sets_of_classes(run)
    test = run.predictions[run.predictions[SPLIT] == "test"]
    sets = [{name for name in own if row[f"y_{name}"] >= found["least"]} for _, row in test.iterrows()]
    right = np.mean([label in names for label, names in zip(test[LABEL], sets, strict=True)])
    assert found["right"] == pytest.approx(right)
    assert found["size"] == pytest.approx(np.mean([len(names) for names in sets]))
    held = run.predictions[run.predictions[SPLIT] == "validation"]
    assert np.mean([row[f"y_{row[LABEL]}"] >= found["least"] for _, row in held.iterrows()]) >= 0.9
    assert f"names the right class of {right:.3f} of the test fields" in text


def test_what_was_measured_of_unseen_phenotypes_is_in_the_card(run, text, tmp_path, monkeypatch):
    assert "has not been measured for this study" in text
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    row = {"phenotype": "9", "test: unseen": 0.81, "test: 1 - max y": 0.75, "test: marked": 0.4}
    write_json({"rows": [row]}, tmp_path / "benchmarks" / "results" / "unseen-digits.json")
    monkeypatch.setattr(card, "ROOT", tmp_path)
    text = card_text(run)
    assert "| 9 | 0.810 | 0.750 | 0.400 |" in text
    assert "has not been measured" not in text


def test_pixels_that_the_study_changed_are_named(run):
    run.prepared.settings["illumination"] = "median"
    try:
        text = card_text(run)
    finally:
        run.prepared.settings["illumination"] = "none"
    assert "not raw ones.** The study changed them first: illumination `median`" in text


def test_labels_of_several_classes_count_for_each():
    assert label_numbers(pd.Series(["a|b", "b", None]), True) == {"a": 1, "b": 2}


def test_a_study_of_ones_own_has_no_licence_of_ours():
    assert licence_of("my-screen") is None
    assert licence_of("simulated-yeast") == "MIT"


def test_a_stranger_scores_tiff_files_with_the_lines_of_the_card(exported, environment, run, tmp_path):
    """In a new environment with three packages. The fields of the sample become TIFF files."""
    python = environment("onnxruntime", "numpy", "tifffile")
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    table = scaled_by_hand(read_table(RUN / "sample_predictions.csv"), run.temperature)
    for number, field in enumerate(run.prepared.pixels(run.prepared.fields)):
        tifffile.imwrite(tmp_path / f"{number:02d}.tif", field[0])
    names = sorted(str(path) for path in tmp_path.glob("*.tif"))
    done = subprocess.run([python, "-c", code, *names], cwd=exported, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    head, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert head == ["file", "predicted", *run.model.settings.classes]
    assert [row[1] for row in rows] == table["predicted"].tolist()
    y = np.array([row[2:] for row in rows], float)
    np.testing.assert_allclose(y, table.filter(regex="^y_").to_numpy(), rtol=0, atol=1e-5)
