"""The folder of the repository, independent of the current folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_root(path: str | Path) -> Path:
    """An absolute ``path`` as it is; a relative one inside the repository."""
    return ROOT / path
