"""The inputs of a study: what DVC looks at, in seconds, to see whether anything has changed.

Tables are known by their content, images by name, size and time: to hash 41 GB at every ``dvc repro`` is no answer.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from milcnn.files import write_json
from milcnn.parameters import read_study
from milcnn.paths import ROOT, in_root
from milcnn.screens.manifest import ManifestSettings
from milcnn.screens.sets.composite import CompositeSettings
from milcnn.screens.sets.kinds import parse_settings

BY_CONTENT = 50_000_000  # bytes: a file up to this size is known by its content


def file_facts(path: Path) -> str:
    """What a file is known by: the SHA-256 of its content, or of a large one size and time."""
    status = path.stat()
    if status.st_size > BY_CONTENT:
        return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder_facts(folder: Path) -> str:
    """One hash over the name, size and time of every file below ``folder``."""
    digest, number = hashlib.sha256(), 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            status = os.stat(os.path.join(parent, name))
            place = os.path.relpath(os.path.join(parent, name), folder)
            digest.update(f"{place} {status.st_size} {status.st_mtime_ns}\n".encode())
            number += 1
    return f"{number} files, {digest.hexdigest()}"


def texts_in(value: object) -> Iterator[str]:
    """Every text in a settings value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_in(part)


def inputs(kind: str, values: dict[str, Any]) -> set[str]:
    """Every text in the settings of a screen, and of the screen that a composite is cut from: some name inputs."""
    settings = parse_settings(kind, values)
    names = {os.path.expandvars(name) for name in texts_in(settings.model_dump())}
    if isinstance(settings, CompositeSettings):
        names |= inputs(settings.screen, settings.screen_settings)
    if isinstance(settings, ManifestSettings) and not settings.images:
        names.add(str(Path(settings.table).parent))
    if isinstance(settings, ManifestSettings) and Path(settings.platemap).name.startswith("barcode_platemap"):
        names.add(str(Path(settings.platemap).parent))  # the maps are beside it
    return names


def inventory(study: str) -> dict[str, str]:
    """Each file and folder that the screen of ``study`` reads, by its path, with what it is known by.

    Looks at every setting of the screen that names something on disk. A screen that is drawn has no inputs.
    """
    section = read_study(study).get("prepare", {})
    names = inputs(str(section.get("screen", "digits")), section.get("screen_settings", {})) | {
        section.get("marks", "")
    }
    found = {name: in_root(name) for name in sorted(names) if name and in_root(name).exists()}
    return {name: file_facts(path) if path.is_file() else folder_facts(path) for name, path in found.items()}


def write_inventory(study: str) -> None:
    write_json(inventory(study), ROOT / "build" / "inventory" / f"{study}.json")
