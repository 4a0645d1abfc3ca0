"""The folders of the study, wherever the caller stands."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_root(path: str | Path) -> Path:
    """``path`` itself when absolute, else under the root of the repository."""
    return ROOT / path
