"""Degradation: runs on disk, against accuracies counted by hand."""

import pandas as pd
import pytest

from milcnn.evaluate import degradation
from milcnn.evaluate.comparisons import bin_means
from milcnn.files import write_table


def write_run(folder, called: str, split: str = "test") -> None:
    """A run with one field a letter of ``called``; the first half has label a, the last field is a control."""
    n = len(called)
    table = pd.DataFrame(
        {
            "Metadata_Plate": "P", "Metadata_Well": "W", "Metadata_Site": range(n), "Metadata_Split": split,
            "Metadata_Label": list("a" * (n // 2) + "b" * (n - n // 2)), "predicted": list(called),
            "Metadata_Control": [False] * (n - 1) + [True],
            "fraction": [0.1 * i for i in range(n)], "cells": [40 - i for i in range(n)],
        }
    )  # fmt: skip
    write_table(table, folder / "predictions.csv")


@pytest.fixture
def models(tmp_path):
    write_run(tmp_path / "max-0", "aabb")
    write_run(tmp_path / "max-1", "aaab")
    write_run(tmp_path / "baselines" / "ljosa-0", "abab")
    write_run(tmp_path / "noise20" / "max-0", "bbbb")
    write_run(tmp_path / "noise40" / "max-0", "bbba")
    write_run(tmp_path / "shuffled" / "max-0", "bbaa")
    return tmp_path


def test_every_run_is_read_but_no_condition(models):
    runs = degradation.read_methods(models)
    assert runs.groupby(["method", "seed"])["correct"].mean().to_dict() == {
        ("ljosa", 0): 0.5, ("max", 0): 1, ("max", 1): 0.75,
    }  # fmt: skip


def test_only_test_fields_count(models):
    write_run(models / "max-0", "bbbb", split="validation")
    assert set(degradation.read_methods(models)["seed"].astype(str) + "max") == {"0max", "1max"}
    assert len(degradation.read_methods(models)) == 8


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="train first"):
        degradation.read_methods(tmp_path)


def test_conditions_are_the_folders_that_have_runs(models):
    (models / "share25").mkdir()
    assert degradation.conditions(models) == {"noise20": ("label_noise", 0.2), "noise40": ("label_noise", 0.4)}


def test_accuracy_under_conditions_by_hand(models):
    write_run(models / "share50" / "baselines" / "ljosa-0", "aabb")
    table = degradation.by_condition(models).set_index(["factor", "method", "level"])
    # level 0 of max is the clean run with the seed of the noisy ones; it counts once, not once a condition
    assert table["value"].to_dict() == {
        ("label_noise", "max", 0.0): 1, ("label_noise", "max", 0.2): 0.5, ("label_noise", "max", 0.4): 0.25,
        ("train_share", "ljosa", 0.5): 1, ("train_share", "ljosa", 1.0): 0.5,
    }  # fmt: skip
    assert (table["n"] == 4).all()
    assert (table["seeds"] == 1).all()
    assert list(table.reset_index()[degradation.COLUMNS].columns) == degradation.COLUMNS


def test_without_conditions_the_table_is_empty(tmp_path):
    write_run(tmp_path / "max-0", "aabb")
    assert degradation.by_condition(tmp_path).empty


def test_controls_count_for_cells_but_not_for_the_responding_fraction(models):
    table = degradation.by_field(degradation.read_methods(models), bins=2).set_index(["factor", "method"])
    fraction = table.loc[("fraction", "ljosa")]
    assert fraction["level"].tolist() == pytest.approx([0.05, 0.2])  # 0, 0.1 | 0.2; the control has 0.3
    assert fraction["value"].tolist() == [0.5, 0.0]
    cells = table.loc[("cells", "ljosa")]
    assert cells["level"].tolist() == [37.5, 39.5]
    assert cells["n"].tolist() == [2, 2]


def test_bins_have_equal_numbers_of_fields():
    means = bin_means(pd.Series([1.0, 2, 3, 10, 20, 30]), 2)
    assert means.tolist() == [2, 2, 2, 20, 20, 20]
