"""The parameter files of studies: ``params/<study>.yaml`` has one section per stage."""

import re
from typing import Any

import yaml

from milcnn.paths import ROOT

SECTIONS = ("prepare", "train", "baselines", "localise")  # what a study's parameter file may hold


class StageError(Exception):
    """One sentence for the user; the command ends with exit code 1."""


def check_name(study: str) -> None:
    """Raise StageError for a name that cannot be a folder's and a stage's name everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", study):
        raise StageError(f"study '{study}': use letters, digits, '-' and '_' only; rename it.")


def read_study(study: str) -> dict[str, dict[str, Any]]:
    """The sections of ``params/<study>.yaml``. Raises StageError for a bad name and for a file that cannot be used."""
    check_name(study)
    path = ROOT / "params" / f"{study}.yaml"
    if not path.exists():
        raise StageError(
            f"{path}: no such study; there are {', '.join(sorted(p.stem for p in path.parent.iterdir()))}."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise StageError(f"{path}: not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict) or not all(isinstance(section, dict | None) for section in content.values()):
        raise StageError(f"{path}: does not hold 'section:' and below it 'key: value' lines.")
    if unknown := sorted(set(content) - set(SECTIONS)):
        raise StageError(f"{path}: no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}.")
    return {name: section or {} for name, section in content.items()}
