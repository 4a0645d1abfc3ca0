"""The parameter files of studies: ``params/<study>.yaml`` has one section per stage."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from milcnn.paths import ROOT

SECTIONS = ("prepare", "train", "baselines", "localise")  # what a study's parameter file may hold
ROTATION = "rotation"  # and one more, see ``turns_of``


class StageError(Exception):
    """One sentence for the user; the command ends with exit code 1."""


def check_name(study: str) -> None:
    """Raise StageError for a name that cannot be a folder's and a stage's name everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", study):
        raise StageError(f"study '{study}': use letters, digits, '-' and '_' only; rename it.")


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a parameter file. Raises StageError, which names the file and the line, if it is not one."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {}
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        why = str(error.problem).partition(" with value")[0]  # of a repeated key all that is below it
        advice = "correct blanks (no tabs), colons and quotes there or in the line before"
        raise StageError(f"{path}: {line}not YAML ({why}); {advice}.") from None
    except (YAMLError, UnicodeDecodeError):
        raise StageError(f"{path}: not a text file in UTF-8; save it as one.") from None
    if not isinstance(content, dict):
        raise StageError(f"{path}: does not hold 'section:' and below it 'key: value' lines.")
    return content


def read_study(study: str) -> dict[str, dict[str, Any]]:
    """The sections of ``params/<study>.yaml``, or of a turn of its rotation, see ``turns_of``.

    Raises StageError for a bad name and for a file that cannot be used.
    """
    check_name(study)
    base, _, number = study.rpartition("-rotation")
    if number.isdecimal() and not parameter_file(study).exists() and study in (turns := turns_of(base)):
        return turns[study]
    content = read_sections(study)
    return {name: section for name, section in content.items() if name != ROTATION}


def section_of(study: str, name: str) -> dict[str, Any]:
    """A section of ``read_study``; empty for prepared fields that have no parameter file."""
    base = study.rpartition(f"-{ROTATION}")[0] or study
    return read_study(study).get(name, {}) if parameter_file(base).exists() else {}


def turns_of(study: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The turns of ``study``, by name, ``<study>-rotation1`` …: its sections, each with another value in ``prepare``.

    The section ``rotation`` has one key, such as ``split.fold``, and the list of its values; empty without the section.
    """
    content = read_sections(study)
    rotation = content.pop(ROTATION, {})
    if len(rotation) > 1 or not all(isinstance(values, list) for values in rotation.values()):
        raise StageError(f"{parameter_file(study)}: rotation: write one key of prepare and the list of its values.")
    return {
        f"{study}-{ROTATION}{number}": content
        | {"prepare": with_value(content.get("prepare", {}), key.split("."), value)}
        for key, values in rotation.items()
        for number, value in enumerate(values, start=1)
    }


def with_value(section: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """``section`` with ``value`` at ``keys``, one inside the other."""
    first, *rest = keys
    return section | {first: with_value(section.get(first, {}), rest, value) if rest else value}


def parameter_file(study: str) -> Path:
    return ROOT / "params" / f"{study}.yaml"


def read_sections(study: str) -> dict[str, dict[str, Any]]:
    """All sections of ``params/<study>.yaml``."""
    path = parameter_file(study)
    if not path.exists():
        names = sorted(other.stem for other in path.parent.glob("*.yaml"))
        raise StageError(f"{path}: no such study; there are {', '.join(names)}.")
    content = read_yaml(path)
    if not content:
        raise StageError(f"{path}: is empty; write its sections, as in the other files of that folder.")
    if not all(isinstance(section, dict | None) for section in content.values()):
        raise StageError(f"{path}: does not hold 'section:' and below it 'key: value' lines.")
    if unknown := sorted(map(str, set(content) - {*SECTIONS, ROTATION})):
        raise StageError(f"{path}: no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}.")
    return {name: section or {} for name, section in content.items()}


def listed_studies() -> list[str]:
    """The studies that params.yaml lists. Raises StageError if it has no such list, or a study twice."""
    path = ROOT / "params.yaml"
    studies = read_yaml(path).get("studies")
    if not isinstance(studies, list) or not all(isinstance(study, str) for study in studies):
        raise StageError(f"{path}: has no list of studies; write it as in 'studies: [digits]'.")
    if repeated := sorted({study for study in studies if studies.count(study) > 1}):
        raise StageError(f"{path}: studies has {', '.join(repeated)} more than once; name each study once.")
    return studies
