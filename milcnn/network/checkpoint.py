"""Checkpoints: the whole state of a training run in one file, from which it goes on exactly."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from milcnn.files import written_whole
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings


def run_fingerprint(prepared: Prepared, *settings: Settings) -> str:
    """SHA-256 of all settings of a run, of the table and statistics of its fields, and of the version of torch."""
    known = [torch.__version__, *(part.model_dump() for part in settings)]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    digest.update((prepared.folder / "prepared.json").read_bytes())
    digest.update(prepared.fields.to_csv(index=False).encode())
    return digest.hexdigest()


def save_checkpoint(path: Path, run: str, progress: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write, whole or not at all, the ``fingerprint`` of the ``run``, plain values, and the state of ``parts``."""
    state = {name: part.state_dict() for name, part in parts.items()}
    with written_whole(path) as temporary:
        torch.save({"run": run, "progress": progress, "state": state}, temporary)


def restore_checkpoint(path: Path, run: str, parts: dict[str, Any]) -> dict[str, Any] | None:
    """Set every one of ``parts`` to its saved state and give the plain values saved with it.

    None when there is no checkpoint, or it is of a run with other settings or fields. Raises
    ValueError when the file is no checkpoint.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        same, progress, state = content["run"] == run, content["progress"], content["state"]
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path}: not a checkpoint of a run ({type(error).__name__}); delete it.") from None
    if not same:
        return None
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return progress
