"""The figures of the comparison show the values of their tables."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from milcnn.baselines.run import BASELINES
from milcnn.figures.compare import confidence, error_curves, levels
from milcnn.figures.dose import degradation_panels
from milcnn.figures.labels import METHOD_COLOURS, OTHER_BASELINES, OTHER_POOLINGS, OTHERS_GREY, look
from milcnn.figures.training import pooling_curves, training_curves
from milcnn.network.pooling import POOLINGS

pytestmark = pytest.mark.usefixtures("style")


def test_levels_has_a_panel_for_each_score_and_a_row_for_each_method_the_best_on_top():
    rows = [
        ("max", "accuracy", "field", 0.5),
        ("mean", "accuracy", "field", 0.7),
        ("mean+controls", "accuracy", "field", 0.8),
        ("random_map", "cell_average_precision", "cell", 0.2),
        ("mean", "ece", "field", 0.1),
    ]
    table = pd.DataFrame(rows, columns=["method", "metric", "level", "value"]).assign(low=0.1, high=0.9)
    fields, cells = levels(table).axes
    assert [ax.get_title() for ax in (fields, cells)] == ["accuracy\nof fields", "average precision\nof the true cells"]
    assert [tick.get_text() for tick in fields.get_yticklabels()] == ["random map", "max", "mean"]
    drawn = sorted((bars.lines[0].get_ydata()[0], bars.lines[0].get_xdata()[0]) for bars in fields.containers)
    assert drawn == [(1, 0.5), (1.7, 0.8), (2, 0.7)]  # with controls below the method itself
    ends = [bars.lines[2][0].get_segments()[0][:, 0].tolist() for bars in cells.containers]
    assert ends == [[pytest.approx(0.1), pytest.approx(0.9)]]


def test_settings_have_their_own_rows_and_a_method_far_below_the_best_is_a_number():
    rows = {"noisy_and-a5": 0.7, "noisy_and-a7.5": 0.75, "cell_count": 0.125}
    table = pd.DataFrame({"method": rows.keys(), "value": rows.values()})
    (ax,) = levels(table.assign(metric="accuracy", level="field", low=0.1, high=0.9)).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "number of cells",
        "Noisy-AND, a = 5",
        "Noisy-AND, a = 7.5",
    ]
    assert [text.get_text() for text in ax.texts] == ["◂ 0.12"]
    assert [bars.lines[0].get_xdata()[0] for bars in ax.containers] == [0.7, 0.75]
    assert ax.get_xlim()[0] == pytest.approx(0.3)


def test_a_method_looks_the_same_in_every_figure():
    table = pd.DataFrame({"method": ["max", "noisy_and"], "value": 0.5, "low": 0.4, "high": 0.6, "fraction": 0.1})
    history = table[["method"]].assign(epoch=1, loss=0.5, validation_loss=0.5, validation_accuracy=0.5)
    degraded = table.assign(factor="fraction", level=9)
    risk = table.assign(coverage=1.0, risk=0.1, confidence=0.5, right=0.5, n=3)
    scores = table.assign(metric="accuracy", level="field")
    curves = pd.DataFrame({"pooling": ["max", "noisy_and"], "bag": "equal", "mean": 0.5, "P": 0.5})
    figures = [
        error_curves(table, 0.9),
        training_curves(history),
        degradation_panels(degraded, 0.1),
        confidence(risk, risk),
        pooling_curves(curves),
    ]
    expected = {"Noisy-AND": METHOD_COLOURS["noisy_and"].lower(), "max": to_hex(OTHERS_GREY)}
    assert [colours(figure.axes[0]) for figure in figures] == [expected] * len(figures)
    (ax,) = levels(scores).axes
    assert {to_hex(bars.lines[0].get_color()) for bars in ax.containers} == {"#0072b2", to_hex(OTHERS_GREY)}


def colours(ax):
    """The colour of each line, by its label."""
    handles, names = ax.get_legend_handles_labels()
    lines = [getattr(handle, "lines", [handle])[0] for handle in handles]  # of an error bar, the line itself
    return {name: to_hex(line.get_color()) for name, line in zip(names, lines, strict=True)}


def test_markers_tell_the_grey_methods_of_one_figure_apart():
    for names in ([*METHOD_COLOURS, *OTHER_POOLINGS], [*METHOD_COLOURS, *OTHER_BASELINES]):
        looks = [(look(name)["color"], look(name)["marker"]) for name in names]
        assert len(set(looks)) == len(names)
    assert set(POOLINGS) <= {*METHOD_COLOURS, *OTHER_POOLINGS}
    assert set(BASELINES) <= {*METHOD_COLOURS, *OTHER_BASELINES}
    assert look("noisy_and-a7.5") == look("noisy_and") | {"linestyle": (0, (7.5, 1.5))}
    assert look("noisy_and+controls") == look("noisy_and") | {"markerfacecolor": "white"}
    assert look("a new one")["color"] == OTHERS_GREY


def test_confidence_draws_both_tables():
    reliability = pd.DataFrame(
        {"method": "max", "bin": [5, 9], "confidence": [0.55, 0.95], "right": [0.4, 0.9], "n": 5}
    )
    risk = pd.DataFrame({"method": "max", "coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    left, right = confidence(reliability, risk).axes
    assert left.lines[1].get_xydata().tolist() == [[0.55, 0.4], [0.95, 0.9]]
    assert right.lines[0].get_xydata().tolist() == [[0.5, 0.1], [1.0, 0.3]]
