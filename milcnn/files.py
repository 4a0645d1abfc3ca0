"""Files that are there whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

TEXT = [f"Metadata_{name}" for name in ("Plate", "Well", "Batch", "Compound", "Label")] + ["class", "predicted"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` once the block has succeeded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write ``table`` as CSV with 6 significant digits, or as Parquet, by the suffix of ``path``."""
    with written_whole(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def read_table(path: Path, hint: str = "run the stage that makes it") -> pd.DataFrame:
    """Read a CSV or Parquet table; ``hint`` tells what to do when it is not there.

    Names stay text: plate 007 is not 7, class 1 not a number, compound NA not missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such table; {hint}.")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])


def write_json(content: object, path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
