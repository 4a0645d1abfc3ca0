"""The command says what is wrong in a sentence, on any terminal."""

import inspect
import io
import sys
from importlib import import_module

import pytest

from milcnn.paths import ROOT
from milcnn.study import cli


def said(monkeypatch, run, stream="stderr"):
    """What the command writes and its exit code, where ``run`` does its work; the terminal knows ASCII only."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(cli, "run_command", run)
    monkeypatch.setattr(sys, stream, terminal)
    monkeypatch.setattr(sys, "argv", ["milcnn", "clean"])
    monkeypatch.setenv("PYTHONUTF8", "0")  # so that it is as before afterwards
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code
    return terminal.buffer.getvalue().decode(), code


def fails_with(error):
    def run(*_):
        raise error

    return run


def test_a_terminal_without_the_letter_does_not_stop_the_command(monkeypatch):
    assert said(monkeypatch, lambda *_: print("2 µm"), "stdout") == ("2 ?m\n", 0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("fields.csv: is empty; fill it."), "error: fields.csv: is empty; fill it."),
        (OSError(28, "No space left on device", "a.csv"), "error: a.csv: No space left on device."),
        (ImportError("needs MONAI; install it."), "error: needs MONAI; install it."),
    ],
)
def test_what_is_wrong_with_the_input_is_a_sentence(monkeypatch, error, message):
    assert said(monkeypatch, fails_with(error)) == ("", message)


def test_a_fault_of_ours_is_a_sentence_with_the_place_of_its_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    details = tmp_path / "build" / "failed" / "traceback.txt"
    _, message = said(monkeypatch, fails_with(KeyError("well")))
    assert message == f"error: KeyError: 'well'. This is a fault of milcnn; please report it with {details}."
    assert "KeyError: 'well'" in details.read_text()


def test_ctrl_c_is_a_sentence(monkeypatch):
    text, code = said(monkeypatch, fails_with(KeyboardInterrupt()))
    assert (text.count("\n"), code) == (1, 130)


def test_every_command_calls_a_function_that_takes_its_arguments():
    commands = cli.parser()._subparsers._group_actions[0].choices
    for name, command in commands.items():
        words = ["any"] * sum(not action.option_strings for action in command._actions)
        given = vars(command.parse_args(words))
        module, function = given.pop("calls").split(":")
        given |= {"overrides": {}} if name in cli.OF_NOTEBOOKS else {}
        inspect.signature(getattr(import_module(f"milcnn.{module}"), function)).bind(**given)


@pytest.mark.parametrize("words", [["condition", "nobody", "noise20"], ["run", "dose", "nobody"]])
def test_an_unknown_study_leaves_no_folder(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["milcnn", *words])
    with pytest.raises(SystemExit, match="no such study"):
        cli.main()
    assert not [path for path in (ROOT / "models" / "nobody", ROOT / "reports" / "tables" / "nobody") if path.exists()]
