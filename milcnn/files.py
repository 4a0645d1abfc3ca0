"""Reading and writing tables and JSON. A file is written completely or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from milcnn.columns import BATCH, COMPOUND, LABEL, PLATE, UNKNOWN, WELL

TEXT = [PLATE, WELL, BATCH, COMPOUND, LABEL, UNKNOWN, "class", "predicted"]  # columns of names, not numbers
WHOLE = 2**53  # float64 holds every whole number below it


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to ``path`` when the block ends without an error.

    The file gets the rights of any new file: some libraries write one that its owner alone can read. An error of the
    system, such as a full disk, names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        temporary.touch()
        rights = temporary.stat().st_mode
        yield temporary
        temporary.chmod(rights)
        temporary.replace(path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write ``table`` as Parquet if ``path`` ends in .parquet, else as CSV, see ``number``."""
    with written_whole(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, float_format=number, lineterminator="\n")


def number(value: float) -> str:
    """6 significant digits; all digits of a whole number, such as a barcode."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < WHOLE else f"{value:.6g}"


def read_table(path: Path, hint: str = "run the stage that makes it") -> pd.DataFrame:
    """Read a CSV or Parquet table. Raises FileNotFoundError, which says what to do (``hint``).

    The columns in ``TEXT`` stay text: plate 007 is not 7, class 1 is not a number, compound NA is not missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such table; {hint}.")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])


def write_json(content: object, path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
