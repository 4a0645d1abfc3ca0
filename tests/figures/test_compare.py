"""The figures of the comparison show the values of their tables."""

import pandas as pd
import pytest

from milcnn.figures.compare import confidence, levels

pytestmark = pytest.mark.usefixtures("style")


def test_levels_draws_each_level_that_has_scores():
    rows = [("max", "field", 0.5), ("mean", "field", 0.7), ("mean", "treatment", 0.9)]
    table = pd.DataFrame(rows, columns=["method", "level", "value"]).assign(metric="accuracy", low=0.4, high=1.0)
    (ax,) = levels(pd.concat([table, table.assign(metric="ece", value=0.1)])).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["max", "mean"]
    drawn = {bars.get_label(): bars.lines[0].get_xdata().tolist() for bars in ax.containers}
    assert drawn["field"] == [0.5, 0.7]
    assert drawn["treatment"][1] == 0.9
    assert "well" not in drawn


def test_confidence_draws_both_tables():
    reliability = pd.DataFrame(
        {"method": "max", "bin": [5, 9], "confidence": [0.55, 0.95], "right": [0.4, 0.9], "n": 5}
    )
    risk = pd.DataFrame({"method": "max", "coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    left, right = confidence(reliability, risk).axes
    assert left.lines[1].get_xydata().tolist() == [[0.55, 0.4], [0.95, 0.9]]
    assert right.lines[0].get_xydata().tolist() == [[0.5, 0.1], [1.0, 0.3]]
