"""The stages of a graph run in its order, several at once, and one line says how far they are."""

import io
import sys

import pandas as pd
import pytest

from milcnn.parameters import StageError
from milcnn.study import parallel
from milcnn.study.parallel import State, needs_of, run_graph, to_run

NEEDS = {"c": {"b@1", "b@2"}, "b@2": {"a"}, "b@1": {"a"}, "a": set()}


@pytest.mark.parametrize(
    ("state", "line"),
    [
        # nothing is known of most stages to come, b@1, b@2 and c
        (State(2, {"a", "b@2", "c"}, {"a": 60}, {"b@1": 100}, began=90, now=165), "0 of 4 stages | 1:15 | b@1"),
        # 100 of 600 s of b have passed, and 700 s wait: 1200 s for two jobs
        (
            State(2, {"c", "d"}, {"b": 600, "c": 300, "d": 400}, {"b": 0}, done=7, now=100),
            "7 of 10 stages | 1:40 | about 10 min left | b",
        ),
        # one job; nothing is known of d@2, so it takes as long as the others of its kind on average
        (
            State(1, {"c", "d@2"}, {"b": 600, "c": 300, "d@1": 300, "d@3": 500}, {"b": 0}, done=7, now=100),
            "7 of 10 stages | 1:40 | about 20 min left | b",
        ),
        # nobody can help with b
        (
            State(2, set(), {"b": 600}, {"b": 0}, {"b": "epoch 3/8"}),
            "0 of 1 stages | 0:00 | about 10 min left | b epoch 3/8",
        ),
        # both take longer than before
        (
            State(2, set(), {"b": 10}, {"b": 0, "c": 0}, {"c": "epoch 1/2"}, now=4000),
            "0 of 2 stages | 66:40 | about 1 min left | b, c epoch 1/2",
        ),
        (State(2, set(), {"b": 10}, done=3, now=59), "3 of 3 stages | 0:59"),
    ],
)  # fmt: skip
def test_the_line_says_what_is_done_what_runs_and_how_long_it_takes(state, line):
    assert state.line() == line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where logs and ``order`` are; of the last run a is known, and another b."""
    monkeypatch.setattr(parallel, "STAGES", tmp_path)
    monkeypatch.setattr(parallel, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(parallel, "noted_costs", lambda: pd.DataFrame({"stage": ["a", "b@3"], "seconds": [70, 30.0]}))
    return tmp_path


def command_in(folder, fails=""):
    """A stage notes when it begins and ends; the one that ``fails`` says why and ends with 7."""

    def command(stage):
        last = f"seq 99; echo 'error: no {stage}' >&2; exit 7" if stage == fails else f"echo {stage} ended >> order"
        return ["sh", "-c", f"cd {folder}; echo $DVC_STAGE began $OMP_NUM_THREADS >> order; sleep 0.2; {last}"]

    return command


def test_each_stage_runs_after_those_that_it_needs_and_two_at_once(folder, capsys):
    run_graph(NEEDS, command_in(folder), jobs=2)
    order = (folder / "order").read_text().splitlines()
    assert order[:2] == ["a began 1", "a ended"]
    assert sorted(order[2:4]) == ["b@1 began 1", "b@2 began 1"]
    assert order[6:] == ["c began 1", "c ended"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a began | 0 of 4 stages | 0:00 | about 2 min left | a"  # 70 + 2 · 30 + 50 s, two at once
    assert len(lines) == 8
    assert lines[-1].startswith("c ended after 0 s | 4 of 4 stages | 0:0")


def test_one_job_is_one_stage_at_a_time(folder):
    run_graph(NEEDS, command_in(folder), jobs=1)
    order = [line.split()[0] for line in (folder / "order").read_text().splitlines()]
    assert order[::2] == order[1::2]


def test_of_stages_that_can_begin_the_longest_does(folder, monkeypatch):
    noted = pd.DataFrame({"stage": ["a", "b", "c"], "seconds": [5.0, 60.0, 30.0]})
    monkeypatch.setattr(parallel, "noted_costs", lambda: noted)
    run_graph({"a": set(), "b": set(), "c": set()}, command_in(folder), jobs=1)
    order = [line.split()[0] for line in (folder / "order").read_text().splitlines()]
    assert order[::2] == ["b", "c", "a"]


def test_a_failure_ends_the_run_with_the_last_lines_of_the_stage(folder, capsys):
    with pytest.raises(StageError) as error:
        run_graph(NEEDS, command_in(folder, fails="b@1"), jobs=2)
    text = str(error.value).splitlines()
    assert text[0] == f"stage b@1 ended with exit code 7; {folder / 'b@1.log'} ends with:"
    assert text[-2:] == ["  99", "  error: no b@1"]
    assert len(text) == 1 + parallel.LAST_LINES
    order = (folder / "order").read_text()
    assert "b@2 ended" in order  # it ran already
    assert "c began" not in order
    assert "b@1 failed after 0 s | " in capsys.readouterr().out
    with pytest.raises(StageError, match="stage first ended"):
        run_graph({"first": set(), "second": set()}, command_in(folder, fails="first"), jobs=1)
    assert "second began" not in (folder / "order").read_text()


def test_a_terminal_has_one_line_that_is_as_wide_as_it_is(folder, monkeypatch):
    held = io.StringIO()
    held.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", held)
    monkeypatch.setenv("COLUMNS", "60")
    (folder / "b.epoch").write_text("epoch 3/8")
    run_graph({"b": set(), "long" * 20: {"b"}}, command_in(folder), jobs=1)
    text = held.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    shown = [line.removesuffix("\033[K") for line in text.strip().split("\r")]
    assert "0 of 2 stages | 0:00 | about 1 min left | b epoch 3/8"[:59] in shown
    assert max(map(len, shown)) == 59
    assert shown[-1].startswith("2 of 2 stages | 0:0")


def test_the_graph_of_dvc_and_what_of_it_is_out_of_date():
    dot = 'strict digraph  {\n"a";\n"b@1";\n"lone";\n"a" -> "b@1";\n"b@1" -> "c";\n"lone" -> "c";\n}\n'
    needs = needs_of(dot)
    assert needs == {"a": set(), "b@1": {"a"}, "lone": set(), "c": {"b@1", "lone"}}
    assert to_run(needs, ["b@1"]) == {"b@1": set(), "c": {"b@1"}}
    assert to_run(needs, ["c", "a"]) == {"a": set(), "b@1": {"a"}, "c": {"b@1"}}
    assert to_run(needs, []) == {}
