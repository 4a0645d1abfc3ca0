"""The progress of a training in a terminal: the notebook that trains has no terminal of its own."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pandas as pd
from tqdm import tqdm

from milcnn.files import read_table
from milcnn.paths import in_root

EVERY = 0.5  # s between two looks at the history


@contextmanager
def training_bar(stage: str, values: Mapping[str, Any]) -> Iterator[None]:
    """A bar with rate and time left while the block trains the run of ``values``, parameters of ``02_train``.

    None for another stage, and none where nobody looks: several stages at once share a terminal, but have no input.
    """
    if stage != "train" or "epochs" not in values or not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield
        return
    run = in_root(values["models"]) / values.get("condition", "") / f"{values['pooling']}-{values.get('seed', 0)}"
    done = Event()
    thread = Thread(target=follow, args=(run / "history.csv", values["epochs"], done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def follow(path: Path, epochs: int, done: Event) -> None:
    """Move a bar of ``epochs`` by the rows of ``path``. A file that was there before does not count."""
    start, last = time.time(), False
    with tqdm(total=epochs, desc=f"train {path.parent.name}", unit="epoch") as bar:
        while not last:
            last = done.wait(EVERY)
            if path.exists() and path.stat().st_mtime >= start and (history := epochs_so_far(path)) is not None:
                bar.set_postfix(validation_loss=f"{history['validation_loss'].iloc[-1]:.3g}", refresh=False)
                bar.update(len(history) - bar.n)


def epochs_so_far(path: Path) -> pd.DataFrame | None:
    """The history in ``path``; None where a new run removes it at this moment, or it has no epoch."""
    try:
        history = read_table(path)
    except FileNotFoundError:
        return None
    return history if len(history) else None
