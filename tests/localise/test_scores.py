"""Scores of what is found, against counts by hand, and what must not matter."""

import numpy as np
import pandas as pd
import pytest

from milcnn.localise import found as finding
from milcnn.localise.scores import SCORE_LEVELS, cell_average_precision, score_field

labels = np.kron(np.array([[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0]]), np.ones((3, 3), int))
WANTED = np.array([1, 4])


def found(values: np.ndarray, labelled: list[int]) -> finding.Localised:
    return finding.Localised(values, labels, np.where(np.isin(labels, labelled), labels, 0))


def test_the_truth_scores_best():
    scores = score_field(labels, WANTED, found(np.isin(labels, WANTED).astype(float), [1, 4]))
    assert scores == {name: 0 if "count" in name else 1 for name in SCORE_LEVELS}


def test_one_cell_too_many_by_hand():
    scores = score_field(labels, WANTED, found((labels > 0).astype(float), [1, 2, 4]))
    assert scores["iou_class"] == pytest.approx(2 / 3)  # 18 px of 27
    assert scores["dice_class"] == pytest.approx(4 / 5)
    assert scores["f1_class"] == pytest.approx(4 / 5)  # 2 matches of 2 + 3 objects
    assert scores["count_error_class"] == 1
    assert scores["average_precision"] == pytest.approx(1 / 2)  # 18 px of the 36 that are called alike
    assert scores["cell_average_precision"] == pytest.approx(1 / 2)
    assert scores["iou_foreground"] == scores["f1_at_0.5"] == 1


def test_cells_are_ranked_by_their_mean_not_their_peak():
    values = np.zeros(labels.shape)
    values[labels == 1], values[labels == 4] = 0.5, 0.4
    values[0, 6] = 1.0  # one bright pixel of cell 2: mean 1/9
    assert cell_average_precision(labels, WANTED, values) == 1
    # ranked 1, 2, 4: precision 1 at recall ½, 2/3 at recall 1
    values[labels == 2] = 0.45
    assert cell_average_precision(labels, WANTED, values) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(cell_average_precision(labels, np.array([], int), values))


def test_evident_cells_are_those_above_the_gap_whatever_the_unit():
    values = np.zeros(labels.shape)
    for number, value in zip([1, 2, 3, 4], [8, 0.1, 0.15, 2], strict=True):
        values[labels == number] = value
    for unit in (1, 1e-6):
        assert set(np.unique(finding.evident_cells(unit * values, labels))) == {0, 1, 4}
    assert not finding.evident_cells(np.zeros(labels.shape), labels).any()
    assert not finding.evident_cells(values, np.zeros_like(labels)).any()
    one = (labels == 1).astype(labels.dtype)
    assert (finding.evident_cells(np.ones(labels.shape), one) == one).all()  # alone, and nothing to hold it against
    assert not finding.evident_cells(np.zeros(labels.shape), one).any()


def test_in_cells_is_the_mean_over_each_and_nothing_between():
    values = np.random.default_rng(0).random(labels.shape)
    painted = finding.in_cells(values, labels)
    for number in (1, 2, 3, 4):
        assert painted[labels == number] == pytest.approx(values[labels == number].mean())
    assert not painted[labels == 0].any()


def test_floors_of_a_blank_field_have_no_cells():
    blank = np.full((2, 32, 32), 7, np.uint16)
    assert not finding.otsu(blank).cells.any()
    nothing = np.zeros((32, 32), int)
    assert not finding.random_map(nothing, np.random.default_rng(0)).labelled.any()
    fields = finding.SegmentedFields(pd.DataFrame(), blank[None], np.zeros(1, int), [nothing])
    floors = finding.find_without_network(fields)
    assert floors["all_foreground"][0].labelled.all()
    assert not floors["classical"][0].labelled.any()
