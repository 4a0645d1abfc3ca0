"""Checkpoints: the complete state of a training run in one file, so that it can continue exactly."""

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
    """SHA-256 of a run: its settings, the table and statistics of its fields, and the version of torch."""
    known = [torch.__version__, *(part.model_dump() for part in settings)]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    digest.update((prepared.folder / "prepared.json").read_bytes())
    digest.update(prepared.fields.to_csv(index=False).encode())
    return digest.hexdigest()


def save_checkpoint(path: Path, run: str, progress: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write the ``run_fingerprint``, plain values, and the state of ``parts``, completely or not at all."""
    state = {name: part.state_dict() for name, part in parts.items()}
    with written_whole(path) as temporary:
        torch.save({"run": run, "progress": progress, "state": state}, temporary)


def restore_checkpoint(path: Path, run: str, parts: dict[str, Any]) -> dict[str, Any] | None:
    """Set each of ``parts`` to its saved state and return the plain values saved with it.

    None if there is no checkpoint, or it belongs to other settings or fields. Raises ValueError for another file.
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
