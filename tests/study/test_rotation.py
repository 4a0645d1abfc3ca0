"""A rotation scores studies that test one plate each as one, over plates."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from milcnn import parameters
from milcnn.files import read_table
from milcnn.parameters import StageError
from milcnn.study import report, rotation

RIGHT = {"a": 6, "b": 9, "c": 10}  # of ten test fields, with Noisy-AND


@pytest.fixture
def studies(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SUMMARY_TABLE", tmp_path / "tables" / "summary.csv")
    monkeypatch.setattr(rotation, "REPORTS", tmp_path)
    for number, (study, right) in enumerate(RIGHT.items()):
        folder = tmp_path / "tables" / study
        folder.mkdir(parents=True)
        wrong = {"noisy_and": 10 - right, "boosting": 5, "sphered": 10, "noisy_and_shuffled": 5}
        runs = [fields(f"P{number}", errors, method) for method, errors in wrong.items()]
        runs.append(fields(f"P{number}", 10, "noisy_and").assign(Metadata_Split="fresh"))  # is no part of it
        pd.concat(runs).to_parquet(folder / "predictions.parquet")
        pd.DataFrame({"protocol": ["plate"]}).to_csv(folder / "scores.csv", index=False)
        accuracy = pd.DataFrame(
            {"method": ["noisy_and", "boosting", "sphered"], "accuracy": [1, 0.8, 0.7 + 0.1 * number]}
        )
        accuracy.assign(baseline=[False, True, True]).to_csv(folder / "validation.csv", index=False)
    return list(RIGHT)


def fields(plate: str, wrong: int, method: str) -> pd.DataFrame:
    """Ten fields, half of each class; the first ``wrong`` are predicted wrongly."""
    table = pd.DataFrame({"Metadata_Plate": plate, "Metadata_Well": "A01", "Metadata_Site": range(10)})
    label = np.array(list("xy") * 5)
    predicted = np.where(np.arange(10) < wrong, np.where(label == "x", "y", "x"), label)
    table = table.assign(Metadata_Label=label, Metadata_Split="test", predicted=predicted, method=method, seed=0)
    return table.assign(y_x=np.where(predicted == "x", 0.9, 0.1), y_y=np.where(predicted == "x", 0.1, 0.9))


def test_plates_are_the_groups_and_the_best_baseline_is_that_of_all_validation_fields(studies, tmp_path):
    rotation.score_together("all", studies)
    scores = read_table(tmp_path / "tables" / "all" / "scores.csv")
    row = scores.query("method == 'noisy_and' and metric == 'accuracy'").iloc[0]
    assert row["value"] == pytest.approx(25 / 30, rel=1e-5)
    assert (row["n"], row["groups"], row["unit"]) == (30, 3, "plate")
    assert row["low"] < row["value"] < row["high"]
    # on validation boosting has 0.81 and sphered 0.8 over the three studies
    best = scores.query("metric == 'accuracy_difference'").iloc[0]
    assert best["value"] == pytest.approx(25 / 30 - 0.5, rel=1e-5)
    assert "noisy_and_shuffled" not in set(scores["method"])
    assert set(read_table(report.SUMMARY_TABLE)["study"]) == {"all"}


def test_seeds_as_one_are_ranked_by_their_mean_probability(studies, tmp_path):
    """Three of ten fields of the second seed are wrong, with little confidence: the mean is that of the first seed."""
    for number, study in enumerate(studies):
        path = tmp_path / "tables" / study / "predictions.parquet"
        unsure = fields(f"P{number}", 3, "noisy_and").assign(seed=1)
        unsure[["y_x", "y_y"]] = 0.5 + (unsure[["y_x", "y_y"]] - 0.5) / 4
        pd.concat([pd.read_parquet(path), unsure]).to_parquet(path)
    rotation.score_together("all", studies)
    rows = read_table(tmp_path / "tables" / "all" / "scores.csv").query("method == 'noisy_and'").set_index("metric")
    assert rows.loc["accuracy", "value"] == pytest.approx((25 / 30 + 21 / 30) / 2, rel=1e-5)
    assert rows.loc["together_accuracy", "value"] == pytest.approx(25 / 30, rel=1e-5)
    runs = read_table(tmp_path / "tables" / "all" / "predictions.parquet").query("method == 'noisy_and'")
    mean = runs.groupby(["Metadata_Plate", "Metadata_Site", "Metadata_Label"])["y_x"].mean().reset_index()
    expected = roc_auc_score(mean["Metadata_Label"] == "x", mean["y_x"])
    assert expected != pytest.approx(rows.loc["roc_auc", "value"])
    assert rows.loc["together_roc_auc", "value"] == pytest.approx(expected, rel=1e-5)


def test_a_field_that_is_tested_twice_is_refused(studies):
    with pytest.raises(StageError, match="field 'P0 A01 0' is tested twice"):
        rotation.score_together("all", [*studies, "a"])


def write_study(root, rotation_section: str) -> None:
    (root / "params").mkdir()
    prepare = "prepare:\n  screen: digits\n  split: {kind: well, folds: 2}\n"
    (root / "params" / "a.yaml").write_text(prepare + rotation_section)
    lists = "runs: {poolings: [noisy_and, mean], seeds: [0, 1]}\nbaselines: {baselines: [boosting], seeds: [0, 1]}\n"
    (root / "params.yaml").write_text(lists)


def test_a_turn_is_the_study_with_one_other_value(tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "ROOT", tmp_path)
    write_study(tmp_path, "rotation: {split.fold: [0, 1]}\n")
    assert list(parameters.turns_of("a")) == ["a-rotation1", "a-rotation2"]
    assert parameters.read_study("a")["prepare"]["split"] == {"kind": "well", "folds": 2}
    second = parameters.read_study("a-rotation2")
    assert second == {"prepare": {"screen": "digits", "split": {"kind": "well", "folds": 2, "fold": 1}}}
    with pytest.raises(StageError, match=r"a-rotation3\.yaml: no such study"):
        parameters.read_study("a-rotation3")
    (tmp_path / "params" / "a.yaml").write_text("rotation: {split: x}")
    with pytest.raises(StageError, match="rotation: write one key of prepare"):
        parameters.turns_of("a")


def test_every_turn_runs_every_stage_before_they_are_scored_together(tmp_path, monkeypatch):
    for module in (parameters, rotation):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    write_study(tmp_path, "rotation: {split.fold: [0, 1]}\n")
    calls = []
    monkeypatch.setattr(rotation, "run_stage", lambda stage, study, words: calls.append((stage, study, words)))
    monkeypatch.setattr(rotation, "score_together", lambda name, turns: calls.append((name, turns)))
    rotation.rotation("a", {"poolings": ["mean"], "seeds": ["3"]})
    given = {"baselines": ["boosting"], "seeds": ["3"]}
    assert calls[:4] == [
        ("prepare", "a-rotation1", {}),
        ("train", "a-rotation1", {"pooling": ["mean"], "seed": ["3"]}),
        ("baselines", "a-rotation1", given),
        ("compare", "a-rotation1", given | {"poolings": ["mean"]}),
    ]
    assert [call[1] for call in calls[4:8]] == ["a-rotation2"] * 4
    assert calls[8] == ("a-rotation", ["a-rotation1", "a-rotation2"])
    with pytest.raises(StageError, match="no '--pooling'; there are"):
        rotation.rotation("a", {"pooling": ["mean"]})


def test_a_study_without_the_section_says_what_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "ROOT", tmp_path)
    write_study(tmp_path, "")
    with pytest.raises(StageError, match="has no section rotation"):
        rotation.rotation("a", {})
