"""Run one stage of a study: a notebook, its parameter file, and what the command line adds.

    python -m milcnn.stage 02_train digits --pooling noisy_and --seed 0

Runs ``build/notebooks/02_train.ipynb`` by papermill with the parameters of
``params/digits/train.yaml`` and those of the command line, which win. The executed notebook goes to
``reports/executed/digits/`` and, as HTML, to ``reports/html/digits/``, both only when it has
succeeded. Every parameter is held against the notebook's own before anything runs.
"""

import argparse
import sys
from pathlib import Path
from typing import get_origin

# ruff: noqa: E402
# jsonschema, behind papermill, would make the grammar of an address format that no notebook has: 1.4 s of each stage
sys.modules["rfc3987_syntax"] = None  # as if it were not installed

import papermill
import yaml
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from pydantic import create_model

from milcnn.files import written_whole
from milcnn.paths import ROOT
from milcnn.settings import Settings, SettingsError


class StageError(Exception):
    """One sentence for the user; the stage ends with exit code 1."""


def parameters_of(notebook: Path) -> type[Settings]:
    """The parameters cell of ``notebook`` as settings: its names, its types, nothing else."""
    declared = papermill.inspect_notebook(str(notebook))
    fields = {name: (entry["inferred_type_name"], None) for name, entry in declared.items()}
    return create_model("parameters", __base__=Settings, **fields)


def read_parameters(path: Path) -> dict[str, object]:
    """The parameter file of a study's stage."""
    if not path.parent.exists():
        studies = ", ".join(sorted(folder.name for folder in path.parents[1].iterdir()))
        raise StageError(f"{path.parent}: no such study; there are {studies}.")
    if not path.exists():
        raise StageError(f"{path}: no such parameter file; a study has one for each of its stages.")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise StageError(f"{path}: not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise StageError(f"{path}: does not hold 'key: value' lines.")
    return content


def checked(notebook: Path, path: Path, overrides: dict[str, list[str]]) -> dict[str, object]:
    """The parameters for ``notebook``, the file's and then those of the command line.

    Raises StageError for a key that the notebook does not have or a value that is not of its type.
    """
    settings = parameters_of(notebook)

    def valid(origin: object, part: dict[str, object]) -> dict[str, object]:
        try:
            # only what was given is passed on: the notebook's own defaults fill the rest
            return settings(**part).model_dump(exclude_unset=True)
        except SettingsError as error:
            raise StageError(f"{origin}: {error}") from None

    lists = {key for key, field in settings.model_fields.items() if get_origin(field.annotation) is list}
    given = {key: words if key in lists else " ".join(words) for key, words in overrides.items()}
    return valid(path, read_parameters(path)) | valid("command line", given)


def run(name: str, study: str, overrides: dict[str, list[str]]) -> None:
    """Run the notebook ``name`` for ``study``; see the head of this module."""
    notebook = ROOT / "build" / "notebooks" / f"{name}.ipynb"
    if not notebook.exists():
        raise StageError(f"{notebook}: no such notebook; run 'dvc repro clean', or mend the name.")
    stage = name.split("_", 1)[1]
    parameters = ROOT / "params" / study / f"{stage}.yaml"
    values = checked(notebook, parameters, overrides)
    label = "-".join([name, *(str(values[key]) for key in overrides if not isinstance(values[key], list))])
    executed = ROOT / "reports" / "executed" / study / f"{label}.ipynb"
    failed = ROOT / "build" / "failed" / study / f"{label}.ipynb"
    with written_whole(executed) as temporary:
        try:
            papermill.execute_notebook(
                notebook, temporary, {"study": study} | values, cwd=ROOT / "notebooks", kernel_name="python3",
                progress_bar=False,
            )  # fmt: skip
        except PapermillExecutionError as error:
            failed.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(failed)
            reason = " ".join(f"{error.evalue}".split())
            raise StageError(f"{parameters}: {label}: {error.ename}: {reason} (see {failed})") from None
        page, _ = HTMLExporter().from_filename(str(temporary))
    with written_whole(ROOT / "reports" / "html" / study / f"{label}.html") as temporary:
        temporary.write_text(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", help="name of a notebook, as 02_train")
    parser.add_argument("study", help="a folder of params/")
    arguments, rest = parser.parse_known_args()
    try:
        run(arguments.notebook, arguments.study, parse_overrides(rest))
    except StageError as error:
        sys.exit(f"error: {error}")


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


if __name__ == "__main__":
    main()
