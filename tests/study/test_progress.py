"""The progress of a training counts the epochs of this run: a bar in a terminal, a file for DVC, silence elsewhere."""

import io
import os
import sys
import time
from threading import Event, Thread

import pandas as pd
import pytest

from milcnn.files import write_table
from milcnn.study import progress

VALUES = {"models": "models/digits", "pooling": "max", "seed": 3, "epochs": 4}


def terminal_of(monkeypatch):
    """A terminal that keeps what is written to it. Not a fixture: pytest sets its own when the test starts."""
    held = io.StringIO()
    held.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", held)
    monkeypatch.setattr(sys, "stderr", held)
    return held


def write(path, epochs):
    write_table(pd.DataFrame({"epoch": range(epochs), "validation_loss": [0.5] * epochs}), path)


def follow_in_bar(path, done):
    with progress.epoch_bar("max-3", 4) as tell:
        progress.follow(path, tell, done)


def test_it_counts_the_epochs_of_this_run_and_says_how_long_it_takes(tmp_path, monkeypatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(progress, "EVERY", 0.02)
    path = tmp_path / "max-3" / "history.csv"
    path.parent.mkdir()
    write(path, 4)
    os.utime(path, (1, 1))  # of an earlier run
    done = Event()
    thread = Thread(target=follow_in_bar, args=(path, done))
    thread.start()
    time.sleep(0.3)
    assert "0/4" in terminal.getvalue()
    assert "4/4" not in terminal.getvalue()
    for epochs in (1, 2, 3):
        write(path, epochs)
        time.sleep(0.2)
    done.set()
    thread.join()
    last = terminal.getvalue().split("\r")[-1]
    assert "train max-3" in last
    assert "3/4" in last
    assert "epoch/s" in last or "s/epoch" in last
    assert "validation_loss=0.5" in last


@pytest.mark.parametrize(("stage", "stdin"), [("train", False), ("localise", True)])
def test_it_is_silent_for_other_stages_and_without_a_terminal(monkeypatch, stage, stdin):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    terminal = terminal_of(monkeypatch)
    if not stdin:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
    with progress.training_progress(stage, VALUES):
        time.sleep(0.05)
    assert terminal.getvalue() == ""


def test_it_follows_the_run_of_the_parameters(monkeypatch):
    terminal_of(monkeypatch)
    followed = []
    monkeypatch.setattr(progress, "follow", lambda *given: followed.append(given))
    with progress.training_progress("train", VALUES | {"condition": "noise20"}):
        pass
    path, _, _ = followed[0]
    assert path.parts[-5:] == ("models", "digits", "noise20", "max-3", "history.csv")


def test_a_stage_of_dvc_writes_its_epoch_to_a_file_while_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "STAGES", tmp_path / "stages")
    monkeypatch.setattr(progress, "EVERY", 0.02)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setenv("DVC_STAGE", "train@digits-max-3")
    file = tmp_path / "stages" / "train@digits-max-3.epoch"
    history = tmp_path / "max-3" / "history.csv"
    history.parent.mkdir()
    write(history, 4)
    os.utime(history, (1, 1))  # of an earlier run
    with progress.training_progress("train", VALUES | {"models": str(tmp_path)}):
        time.sleep(0.1)
        assert not file.exists()
        for epochs in (1, 3):
            write(history, epochs)
            time.sleep(0.2)
            assert file.read_text() == f"epoch {epochs}/4"
    assert not file.exists()
