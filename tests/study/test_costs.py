"""What a stage cost is noted at its end, if DVC started it."""

import subprocess
import sys

import pandas as pd
import pytest

from milcnn.study import costs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "STAGES", tmp_path)
    return tmp_path


def test_a_stage_is_noted_with_its_time_and_with_the_memory_of_its_largest_process(folder, monkeypatch):
    """A process of which we know what it does: a child that holds 300 MB, and half a second of work."""
    work = """
import subprocess, sys, time
from pathlib import Path
from milcnn.study import costs
costs.STAGES = Path(sys.argv[1])
subprocess.run([sys.executable, "-c", "held = bytearray(300 * 2**20)"], check=True)
while time.process_time() < 1.5:
    pass
time.sleep(1)
costs.note_cost("digits")
"""
    monkeypatch.setenv("DVC_STAGE", "train@digits-max-0")
    subprocess.run([sys.executable, "-c", work, str(folder)], check=True)
    (row,) = costs.noted_costs().itertuples()
    assert (row.study, row.stage) == ("digits", "train@digits-max-0")
    assert 300 < row.peak_mib < 600
    assert row.cpu_seconds >= 1.5
    assert row.seconds > row.cpu_seconds - 0.5 + 1 - 0.5
    assert abs(pd.Timestamp.utcnow().tz_localize(None) - pd.Timestamp(row.began)).total_seconds() < 60


def test_a_command_that_dvc_did_not_start_is_not_noted(folder, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    costs.note_cost("digits")
    assert costs.noted_costs().empty
    assert list(costs.noted_costs().columns) == costs.COLUMNS


def test_minutes_are_summed_by_kind_of_stage():
    rows = [
        ("digits", "prepare@digits", "", 30, 60, 900),
        ("digits", "train@digits-max-0", "", 60, 120, 300),
        ("digits", "train@digits-max-1", "", 120, 180, 200),
    ]
    table = costs.costs_by_kind(pd.DataFrame(rows, columns=costs.COLUMNS))
    assert table.to_numpy().tolist() == [["digits", "train", 2, 3.0, 5.0, 300], ["digits", "prepare", 1, 0.5, 1.0, 900]]
