"""The tables in ``reports/tables``: what the README and the notebooks say of our own studies holds in them.

Notebooks only print a note where a user's maps are weak; for our studies this would be a defect.
"""

import random

import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from milcnn.evaluate.levels import level_rows
from milcnn.evaluate.runs import with_errors
from milcnn.evaluate.scores import METRICS, score_rows
from milcnn.files import read_table
from milcnn.paths import ROOT

TABLES = ROOT / "reports" / "tables"
STUDIES = ["digits", "simulated"]


def mean_precision(study: str) -> pd.Series:
    """Mean average precision of the pixels, by method."""
    return pd.read_csv(TABLES / study / "localisation.csv").groupby("method")["average_precision"].mean()


@pytest.mark.parametrize("study", STUDIES)
def test_sharp_maps_rank_pixels_twice_as_well_as_chance(study):
    maps = pd.read_csv(TABLES / study / "localisation_maps.csv").query("map == 'sharp'").dropna()
    assert maps["average_precision"].mean() > 2 * maps["base_rate"].mean()


@pytest.mark.parametrize("study", STUDIES)
def test_networks_that_know_nothing_have_maps_like_random_ones(study):
    precision = mean_precision(study)
    assert precision[["random_weights", "shuffled_labels"]].max() < precision["random_map"] + 0.1
    assert precision["noisy_and"] > precision["random_weights"] + 0.1


@pytest.mark.parametrize("study", STUDIES)
def test_the_loss_of_every_network_fell(study):
    history = pd.read_csv(TABLES / study / "history.csv").sort_values("epoch")
    runs = history.groupby(["method", "seed"])["loss"]
    assert (runs.last() < runs.first()).all()


def test_the_estimated_fraction_follows_the_true_one():
    scores = pd.read_csv(TABLES / "simulated" / "dose" / "scores.csv")
    r = scores.query("metric == 'responding_fraction_r'").set_index("method")["value"]
    assert r["noisy_and"] > 0.8


@pytest.mark.parametrize("study", STUDIES)
def test_a_random_row_of_the_summary_follows_from_the_saved_predictions(study):
    summary = read_table(TABLES / "summary.csv").query("study == @study")
    predictions = with_errors(read_table(TABLES / study / "predictions.parquet"))
    metrics = summary["metric"].str.removeprefix("fresh_")
    rows = summary[summary["method"].isin(predictions["method"]) & metrics.isin(METRICS)]
    row = rows.iloc[random.randrange(len(rows))]
    metric, split = row["metric"].removeprefix("fresh_"), "fresh" if row["metric"].startswith("fresh_") else "test"
    own = predictions[(predictions["method"] == row["method"]) & (predictions["Metadata_Split"] == split)]
    if row["level"] == "field":
        again = score_rows(own, [metric], study, row["protocol"], "field")
    else:
        again = level_rows(own, study, row["protocol"]).query("level == @row.level and metric == @row.metric")
    numbers = ["value", "low", "high", "n", "groups", "seeds"]
    assert again[numbers].to_numpy(float)[0] == pytest.approx(row[numbers].to_numpy(float), rel=1e-5), row


@pytest.mark.parametrize("study", STUDIES)
def test_accuracies_are_those_of_scikit_learn(study):
    predictions = read_table(TABLES / study / "predictions.parquet")
    summary = read_table(TABLES / "summary.csv").query("study == @study and level == 'field' and metric == 'accuracy'")
    published = summary.set_index("method")["value"]
    for method, runs in predictions[predictions["Metadata_Split"] == "test"].groupby("method"):
        seeds = [accuracy_score(run["Metadata_Label"], run["predicted"]) for _, run in runs.groupby("seed")]
        assert published[method] == pytest.approx(sum(seeds) / len(seeds), abs=1e-5)
