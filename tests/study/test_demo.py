"""The demo keeps to its folder, and says three numbers."""

import pandas as pd
import pytest

from milcnn.paths import ROOT
from milcnn.study import demo
from milcnn.study.stage import checked, parse_overrides


@pytest.mark.parametrize("stage", demo.GRAPH)
def test_every_file_of_a_stage_is_in_the_folder_of_the_demo(stage):
    _, _, name, study, *rest = demo.command_of(stage)
    (notebook,) = (ROOT / "notebooks").glob(f"[0-9][0-9]_{name}.ipynb")
    values = checked(notebook, study, parse_overrides(rest))
    paths = [value for value in values.values() if isinstance(value, str) and "/" in value]
    assert paths
    assert all(path.startswith("build/demo/") for path in paths), paths


def test_it_says_the_accuracy_on_test_fields_of_both_networks_and_of_the_baseline():
    row = {"metric": "accuracy", "level": "field", "n": 90, "low": 0.7, "high": 0.95}
    values = {"sphered": 0.75, "mean": 0.875, "noisy_and": 0.9, "otsu": 0.1}
    summary = pd.DataFrame([row | {"method": method, "value": value} for method, value in values.items()])
    other = summary.assign(metric="macro_f1", value=0)
    assert demo.accuracies(pd.concat([other, summary])).splitlines() == [
        "Share of 90 test fields that are named right, with 95 % intervals:",
        "  Noisy-AND           0.900 (0.700–0.950)",
        "  mean                0.875 (0.700–0.950)",
        "  sphered profile     0.750 (0.700–0.950)",
    ]
