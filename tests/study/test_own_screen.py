"""Every stage, from ``milcnn new`` to the report, on small screens of files as users bring them."""

import json
import shutil

import pandas as pd
import pytest
import torch
import yaml

from milcnn import parameters, paths
from milcnn.paths import ROOT
from milcnn.study import new, provenance, report, stage
from tests.study import own_screens

BASELINES = ["mean_profile", "cell_mean"]
NO_TRUTH = "The true cells of this study are not known"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with no study, in which all stages write."""
    root = tmp_path / "a repository"
    for module in (paths, new, parameters, provenance, stage, report):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(report, "REPORTS", root / "reports")
    monkeypatch.setattr(report, "SUMMARY_TABLE", root / "reports" / "tables" / "summary.csv")
    (root / "params").mkdir(parents=True)
    (root / "reports" / "tables").mkdir(parents=True)
    (root / "params.yaml").write_text("studies: []\n")
    shutil.copy(ROOT / "reports" / "tables" / "mil_unit_tests.csv", root / "reports" / "tables")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield root
    torch.set_num_threads(threads)


def whole_study(root, files: dict, **prepare) -> tuple[dict[str, str], str]:
    """``milcnn new``, every stage and the report: what each stage prints, and the page."""
    new.new_study("mine", **files)
    path = root / "params" / "mine.yaml"
    sections = yaml.safe_load(path.read_text())
    for name, values in own_screens.SHORT.items():
        sections[name] |= values
    sections["prepare"]["screen_settings"] |= prepare
    path.write_text(yaml.safe_dump(sections))
    stages = own_screens.stages(BASELINES)
    said = {name: own_screens.run_notebook(name, "mine", root, **values) for name, values in stages}
    report.report()
    return said, (root / "reports" / "html" / "studies" / "mine.html").read_text(encoding="utf-8")


def check_report(root, page: str) -> pd.DataFrame:
    """The report shows the study with its figures; returns the scores of its fields."""
    assert "Study: mine" in page
    assert page.count("<img ") == len(list((root / "reports").glob("*/mine/*.png"))) > 8
    summary = pd.read_csv(root / "reports" / "tables" / "summary.csv")
    return summary[(summary["metric"] == "accuracy") & (summary["level"] == "field")].set_index("method")["value"]


def test_one_plate_of_8_bit_with_blank_fields_and_no_controls(root, tmp_path):
    said, page = whole_study(root, own_screens.one_channel(tmp_path))
    assert {"noisy_and", "noisy_and_shuffled", *BASELINES} == set(check_report(root, page).index)
    assert NO_TRUTH in said["localise"]
    assert NO_TRUTH in page


def test_one_field_a_well_in_stacks_with_a_class_of_three_fields(root, tmp_path):
    _, page = whole_study(root, own_screens.stacks(tmp_path))
    assert set(BASELINES) < set(check_report(root, page).index)
    fields = pd.read_csv(root / "data" / "prepared" / "mine" / "fields.csv")
    assert (pd.crosstab(fields["Metadata_Label"], fields["Metadata_Split"]) > 0).all(axis=None)
    prepared = json.loads((root / "data" / "prepared" / "mine" / "prepared.json").read_text())
    assert prepared["channels"] == ["DNA", "Actin"]


def test_six_channels_with_a_platemap_and_wells_without_a_label(root, tmp_path):
    _, page = whole_study(root, own_screens.six_channels(tmp_path))
    assert set(BASELINES) < set(check_report(root, page).index)
    fields = pd.read_csv(root / "data" / "prepared" / "mine" / "fields.csv")
    assert (fields.loc[fields["Metadata_Well"] == "D02", "Metadata_Split"] == "unlabelled").all()
    predicted = pd.read_csv(root / "reports" / "tables" / "mine" / "predictions.csv")
    assert predicted["Metadata_Label"].notna().all()  # a field without a label is judged nowhere


def test_noise_under_two_labels_is_a_result_and_it_is_said(root, tmp_path):
    _, page = whole_study(root, own_screens.noise(tmp_path), multilabel=True)
    assert "noisy_and" in check_report(root, page).index
    for sentence in ("No cell was found in the training fields", "cannot be told from"):
        assert sentence in page
