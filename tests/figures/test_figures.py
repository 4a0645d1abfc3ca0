"""Figures show the values of their tables. The tests read them back from the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from milcnn.figures.compare import confusion, error_curves
from milcnn.figures.labels import label
from milcnn.figures.localise import localisation_panel
from milcnn.figures.style import save_figure, use_style
from milcnn.figures.training import pooling_curves
from milcnn.network.pooling import POOLINGS
from milcnn.network.pooling.curves import response_curves

pytestmark = pytest.mark.usefixtures("style")


def test_pooling_curves_have_every_function_and_known_points():
    thresholds = pd.DataFrame({"b": [0.2, 0.4]})
    left, right = pooling_curves(response_curves(0.3), thresholds).axes
    assert len(left.lines) == len(right.lines) == len(POOLINGS)
    curves = {line.get_label(): line for line in right.lines}
    assert np.allclose(curves["mean"].get_ydata(), curves["mean"].get_xdata())
    # one of 49 instances has p = 1: the maximum and Noisy-OR are 1, the mean is 1 / 49
    assert [curves[name].get_ydata()[1] for name in ("max", "Noisy-OR", "mean")] == pytest.approx([1, 1, 1 / 49])
    noisy_and = dict(zip(*{line.get_label(): line for line in left.lines}["Noisy-AND"].get_data(), strict=True))
    assert noisy_and[0.0] == pytest.approx(0)
    assert noisy_and[1.0] == pytest.approx(1)


def test_error_curves_show_the_values_of_the_table():
    table = pd.DataFrame({"method": ["max"] * 2, "fraction": [0.1, 0.5], "value": [0.4, 0.1], "low": 0.05, "high": 0.5})
    (ax,) = error_curves(table, chance=0.9).axes
    assert ax.containers[0].lines[0].get_ydata().tolist() == [0.4, 0.1]
    bare = error_curves(table.assign(low=np.nan, high=np.nan), chance=0.9)
    assert bare.axes[0].containers[0].lines[0].get_ydata().tolist() == [0.4, 0.1]
    assert bare.axes[0].get_ylim()[1] > 0.4


def test_confusion_rows_are_shares_of_the_true_class():
    rows = [("max", "a", "a"), ("max", "a", "b"), ("max", "b", "b"), ("max", "b", "b")]
    table = pd.DataFrame(rows, columns=["method", "Metadata_Label", "predicted"])
    image = confusion(table, ["a", "b"]).axes[0].images[0]
    assert image.get_array().ravel().tolist() == [0.5, 0.5, 0, 1]


def test_confusion_counts_a_field_of_several_labels_in_the_row_of_each():
    rows = [("max", "a|b", "a"), ("max", "b", "a|b")]
    table = pd.DataFrame(rows, columns=["method", "Metadata_Label", "predicted"])
    image = confusion(table, ["a", "b"]).axes[0].images[0]
    assert image.get_array().ravel().tolist() == [1, 0, 1, 0.5]


def test_labels_are_plain_names_with_settings():
    assert label("noisy_and-a7.5") == "Noisy-AND, a = 7.5"
    assert label("top_k-share0.2") == "top-k mean, share = 0.2"
    assert label("svm_vote") == "SVM vote"
    assert label("some_baseline") == "some baseline"
    assert label("noisy_and-best_baseline") == "Noisy-AND minus the best baseline"


def test_a_figure_is_saved_with_the_same_bytes_twice(tmp_path):
    def bytes_of(folder):
        fig, ax = plt.subplots(figsize=(1, 1))
        ax.plot([0, 1], label="line")
        fig.legend()
        paths = save_figure(fig, folder, "f")
        assert [path.suffix for path in paths] == [".png", ".pdf", ".svg"]
        return [path.read_bytes() for path in paths]

    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert len(list((tmp_path / "a").iterdir())) == 3  # no temporary files


def test_an_image_or_a_cloud_of_points_is_not_saved_as_svg(tmp_path):
    for draw in (lambda ax: ax.imshow([[0, 1]]), lambda ax: ax.scatter([0], [1])):
        fig, ax = plt.subplots(figsize=(1, 1))
        draw(ax)
        assert [path.suffix for path in save_figure(fig, tmp_path, "f")] == [".png", ".pdf"]


def test_the_panel_shows_the_middle_of_a_large_field_and_speaks_of_truth_only_where_there_is_some():
    rows, columns = np.mgrid[:300, :257]
    place = (1000 * rows + columns).astype(float)  # a pixel's value says where it is
    mask, truth = np.zeros((2, 300, 257), bool)
    figure = localisation_panel(place[None], place[None], ["a"], {"sharp map": place}, mask, truth)
    field, p, sharp, last = figure.axes[:4]
    assert [ax.get_title() for ax in (field, p, sharp, last)] == ["field", "p of a", "sharp map", "mask"]
    for ax in (p, sharp):
        assert np.array_equal(ax.images[0].get_array(), place[22:278, 0:256])
    small = localisation_panel(place[None, :9, :9], place[None, :9, :9], ["a"], {}, mask[:9, :9], ~mask[:9, :9])
    assert small.axes[0].get_title() == "field, truth in blue"
    assert np.array_equal(small.axes[1].images[0].get_array(), place[:9, :9])


def test_the_style_does_not_take_over_what_the_user_has_set(monkeypatch):
    monkeypatch.setitem(plt.rcParams, "text.usetex", True)
    monkeypatch.setitem(plt.rcParams, "font.size", 40)
    use_style()
    assert (plt.rcParams["text.usetex"], plt.rcParams["font.size"]) == (False, 8)
