"""Run one stage of a study: a notebook with the parameters of its study.

    milcnn run train digits --pooling noisy_and --seed 0

runs ``build/notebooks/02_train.ipynb`` by papermill. Its parameters come from three places; a later one wins: what
follows from the study's name (``STUDY_VALUES``), the section ``train`` of ``params/digits.yaml``, and the command
line. They are checked against the notebook's own parameters before anything runs. The executed notebook goes to
``reports/executed/digits`` and, as HTML, to ``reports/html/digits``, both only once it has succeeded.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

# ruff: noqa: E402
# jsonschema, which papermill uses, would build the grammar of an address format that no notebook has: 1.4 s a stage
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as if it were not installed

import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from papermill.exceptions import PapermillExecutionError
from pydantic import create_model

from milcnn.files import written_whole
from milcnn.parameters import StageError, read_study
from milcnn.paths import ROOT
from milcnn.settings import Settings, SettingsError
from milcnn.study.notebook_page import write_notebook
from milcnn.study.progress import training_progress

# what the name of a study decides, for each notebook that has a parameter of that name
STUDY_VALUES = {
    "study": "{study}",
    "prepared": "{home}data/prepared/{study}",
    "measured": "{home}data/cells/{study}",
    "models": "{home}models/{study}",
    "weights": "{home}models/{study}/noisy_and-0/model.safetensors",
    "tables": "{home}reports/tables/{study}",
    "metrics": "{home}reports/metrics/{study}.json",
    "gallery": "{home}reports/galleries/{study}",
    "figure_folder": "{home}reports/figures/{study}",
    "device": "auto",
    "workers": 0,
}
HOMES = {"demo": "build/demo/"}  # a study that keeps away from the others: a folder for all its files
# errors whose message is a sentence of ours: the name of their class adds nothing
SENTENCES = {"ScreenError", "SplitError", "SettingsError", "ImageError", "ValueError"}
SENTENCES |= {"FileNotFoundError", "PermissionError", "OSError"}
PAGE = 5000  # characters of a message


class OwnKernel(AsyncKernelManager):
    """Starts the interpreter that runs milcnn, whatever kernels called python3 there are on the machine."""

    def __init__(self, **settings: Any):
        super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **settings)


def parameters_of(notebook: Path) -> type[Settings]:
    """The parameters cell of ``notebook`` as settings: its names, its types, nothing else."""
    declared = papermill.inspect_notebook(str(notebook))
    fields: dict[str, Any] = {name: (entry["inferred_type_name"], None) for name, entry in declared.items()}
    return create_model("parameters", __base__=Settings, **fields)


def checked(notebook: Path, study: str, overrides: dict[str, list[str]]) -> dict[str, Any]:
    """The parameters for ``notebook``: by the study's name, by its file, by the command line.

    Raises StageError for a key that the notebook does not have, and for a value that is not of its type.
    """
    stage = notebook.stem.split("_", 1)[1]
    settings = parameters_of(notebook)
    home = HOMES.get(study, "")
    by_name = {
        key: value.format(study=study, home=home) if isinstance(value, str) else value
        for key, value in STUDY_VALUES.items()
        if key in settings.model_fields
    }

    def valid(origin: str, part: Mapping[str, Any]) -> dict[str, Any]:
        try:
            # only what was given is passed on: the notebook's own defaults fill the rest
            return settings(**part).model_dump(exclude_unset=True)
        except SettingsError as error:
            raise StageError(f"{origin}: {str(error).removeprefix('parameters: ')}") from None

    lists = {key for key, field in settings.model_fields.items() if get_origin(field.annotation) is list}
    given = {key: words if key in lists else " ".join(words) for key, words in overrides.items()}
    from_file = valid(f"{ROOT / 'params' / study}.yaml: {stage}", read_study(study).get(stage, {}))
    return by_name | from_file | valid("command line", given)


def notebook_of(stage: str) -> Path:
    """The copy without outputs of the notebook of ``stage``. Raises StageError when there is none."""
    folder = ROOT / "build" / "notebooks"
    found = list(folder.glob(f"[0-9][0-9]_{stage}.ipynb"))
    if not found:
        stages = ", ".join(
            sorted(path.stem.split("_", 1)[1] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
        )
        raise StageError(f"stage '{stage}': no notebook in {folder}; run 'milcnn clean', or choose one of {stages}.")
    return found[0]


def run_stage(stage: str, study: str, overrides: dict[str, list[str]]) -> None:
    """Run the notebook of ``stage`` for ``study``; see the head of this module."""
    notebook = notebook_of(stage)
    values = checked(notebook, study, overrides)
    label = "-".join([notebook.stem, *(str(values[key]) for key in overrides if not isinstance(values[key], list))])
    reports = ROOT / HOMES.get(study, "") / "reports"
    executed = reports / "executed" / study / f"{label}.ipynb"
    failed = ROOT / "build" / "failed" / study / f"{label}.ipynb"
    own = ROOT / "build" / "ipython"  # not the user's start-up files and history, whose folder may be read-only
    own.mkdir(parents=True, exist_ok=True)
    with written_whole(executed) as temporary:
        try:
            with training_progress(stage, values):
                papermill.execute_notebook(
                    notebook, temporary, values, cwd=ROOT / "notebooks", kernel_name="python3", progress_bar=False,
                    kernel_manager_class=OwnKernel, store_widget_state=False,
                    extra_arguments=["--log-level=CRITICAL", f"--ipython-dir={own}"],  # a local kernel over TCP
                )  # fmt: skip
        except (PapermillExecutionError, RuntimeError) as error:
            failed.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(failed)
            raise StageError(f"params/{study}.yaml: {label}: {reason_of(error)}\n(see {failed})") from None
        write_notebook(temporary, reports / "html" / study / f"{label}.html")


def reason_of(error: PapermillExecutionError | RuntimeError) -> str:
    """Why a notebook stopped. Messages that list several problems keep their lines."""
    if isinstance(error, RuntimeError):
        return f"the notebook's kernel ended ({error}); if the memory was full, set fewer workers or smaller fields."
    reason = re.sub(r"^\[Errno \d+\] ", "", str(error.evalue).strip())[:PAGE]
    if error.ename == "KeyboardInterrupt":
        raise KeyboardInterrupt
    return reason if reason and error.ename in SENTENCES else f"{error.ename} in cell {error.exec_count}: {reason}"


def parse_overrides(words: list[str]) -> dict[str, list[str]]:
    """``--seeds 0 1 --pooling max`` → ``{"seeds": ["0", "1"], "pooling": ["max"]}``."""
    values: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            values[word.removeprefix("--")] = current = []
        elif values:
            current.append(word)
        else:
            raise StageError(f"command line: '{word}' belongs to no --parameter.")
    return values
