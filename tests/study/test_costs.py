"""What a stage cost is noted at its end, if DVC started it."""

import subprocess
import sys
import time

import pandas as pd
import pytest

from milcnn.study import costs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "STAGES", tmp_path)
    return tmp_path


def test_a_stage_is_noted_with_its_time_and_with_the_memory_of_its_largest_process(folder, monkeypatch):
    """Its child holds 300 MiB and works for half a second; the clock of this test and its own say how long all took."""
    work = """
import subprocess, sys, time
from pathlib import Path
from milcnn.study import costs
costs.STAGES = Path(sys.argv[1])
busy = "import time; held = bytearray(300 * 2**20)\\nwhile time.process_time() < 0.5: pass"
subprocess.run([sys.executable, "-c", busy], check=True)
time.sleep(0.5)
costs.note_cost("digits")
print(time.process_time())
"""
    monkeypatch.setenv("DVC_STAGE", "train@digits-max-0")
    start = time.monotonic()
    # a process inherits the peak of the one that starts it: of a small shell, not of these tests
    words = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", work, str(folder)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    passed = time.monotonic() - start
    (row,) = costs.noted_costs().itertuples()
    assert (row.study, row.stage) == ("digits", "train@digits-max-0")
    assert 300 < row.peak_mib < 600
    assert row.cpu_seconds == pytest.approx(float(done.stdout) + 0.5, abs=0.2)
    assert row.seconds == pytest.approx(passed, abs=0.5)
    assert abs(pd.Timestamp.now("UTC") - pd.Timestamp(row.began, tz="UTC")).total_seconds() < 60


def test_a_command_that_dvc_did_not_start_is_not_noted(folder, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    costs.note_cost("digits")
    assert costs.noted_costs().empty
    assert list(costs.noted_costs().columns) == costs.COST_COLUMNS
    assert costs.costs_by_kind(costs.noted_costs()).empty


def test_minutes_are_summed_by_kind_of_stage():
    rows = [
        ("digits", "prepare@digits", "", 30, 60, 900),
        ("digits", "train@digits-max-0", "", 60, 120, 300),
        ("digits", "train@digits-max-1", "", 120, 180, 200),
    ]
    table = costs.costs_by_kind(pd.DataFrame(rows, columns=costs.COST_COLUMNS))
    assert table.to_numpy().tolist() == [["digits", "train", 2, 3.0, 5.0, 300], ["digits", "prepare", 1, 0.5, 1.0, 900]]
