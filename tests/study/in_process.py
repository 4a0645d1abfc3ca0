"""``dvc``, but each stage runs in this one process, and notebooks without a kernel: the libraries are loaded once.

``python -m tests.study.in_process repro`` is what ``dvc repro`` is.
"""

import contextlib
import io
import shlex
import sys
from typing import Any
from unittest import mock

import dvc.cli
import dvc.stage.run
import matplotlib.pyplot as plt

import milcnn.study.stage  # noqa: F401  before nbformat, whose import it makes shorter
from milcnn.study import cli

# isort: split
from nbformat.v4 import new_output
from papermill.engines import Engine, papermill_engines


class InProcess(Engine):
    """Papermill's engine without a kernel: code cells in one new namespace; what they print is their output."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> None:
        space: dict[str, Any] = {"__name__": "__main__"}
        for number, cell in enumerate(nb_man.nb.cells):
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    exec(compile(cell.source, f"cell {number}", "exec"), space)
                cell.outputs = [new_output("stream", text=printed.getvalue())]
        plt.close("all")


def run_command(stage_of_dvc: Any, **_: Any) -> None:
    """In place of a shell: the command of a stage of DVC, ``milcnn …``."""
    words = shlex.split(stage_of_dvc.cmd)
    assert words[0] == "milcnn"
    if words[1] == "unit-tests":
        from milcnn.network import mil_unit_tests

        mil_unit_tests.STEPS = 3  # of training, instead of 300
    with mock.patch.object(sys, "argv", words):  # dvc knows its locks by its own
        cli.main()


def main() -> None:
    papermill_engines.register(None, InProcess)
    dvc.stage.run.cmd_run = run_command
    sys.exit(dvc.cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
