"""A rotation scores studies that test one plate each as one, over plates."""

import numpy as np
import pandas as pd
import pytest

from milcnn.files import read_table
from milcnn.study import report, rotation
from milcnn.study.parameters import StageError

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
    rotation.rotation("all", studies)
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


def test_a_plate_that_is_tested_twice_is_refused(studies):
    with pytest.raises(StageError, match="plate 'P0' is tested twice"):
        rotation.rotation("all", [*studies, "a"])
