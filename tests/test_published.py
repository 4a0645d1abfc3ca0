"""The tables in ``reports/tables``: what the README and the notebooks say of our own studies holds in them.

Notebooks only print a note where a user's maps are weak; for our studies this would be a defect.
"""

import pandas as pd
import pytest

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
