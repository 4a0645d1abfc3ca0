"""The progress of a training: the notebook that trains has no terminal of its own, so another thread reads its history.

In a terminal it moves a bar. Of a stage of DVC it writes the epoch to ``build/stages/<stage>.epoch``, for ``parallel``.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pandas as pd
from tqdm import tqdm

from milcnn.files import read_table
from milcnn.paths import in_root
from milcnn.study.costs import STAGES

EVERY = 0.5  # s between two looks at the history
Tell = Callable[[pd.DataFrame], object]  # is called with the history so far


@contextmanager
def training_progress(stage: str, values: Mapping[str, Any]) -> Iterator[None]:
    """Tell the epochs while the block trains the run of ``values``, parameters of ``02_train``.

    A terminal gets a bar with rate and time left. Several stages at once share a terminal, but have no input: they get
    the file. Nothing is told of another stage, or where nobody looks.
    """
    terminal, of_dvc = sys.stdin.isatty() and sys.stderr.isatty(), os.environ.get("DVC_STAGE")
    if stage != "train" or "epochs" not in values or not (terminal or of_dvc):
        yield
        return
    run = in_root(values["models"]) / values.get("condition", "") / f"{values['pooling']}-{values.get('seed', 0)}"
    epochs, done = values["epochs"], Event()
    with epoch_bar(run.name, epochs) if terminal else epoch_file(STAGES / f"{of_dvc}.epoch", epochs) as tell:
        thread = Thread(target=follow, args=(run / "history.csv", tell, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@contextmanager
def epoch_bar(run: str, epochs: int) -> Iterator[Tell]:
    with tqdm(total=epochs, desc=f"train {run}", unit="epoch") as bar:

        def tell(history: pd.DataFrame) -> None:
            bar.set_postfix(validation_loss=f"{history['validation_loss'].iloc[-1]:.3g}", refresh=False)
            bar.update(len(history) - bar.n)

        yield tell


@contextmanager
def epoch_file(path: Path, epochs: int) -> Iterator[Tell]:
    """A file that says ``epoch 3/8``, and that is there during the training alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield lambda history: path.write_text(f"epoch {len(history)}/{epochs}", encoding="utf-8")
    finally:
        path.unlink(missing_ok=True)


def follow(path: Path, tell: Tell, done: Event) -> None:
    """Call ``tell`` with the rows of ``path`` when it is new. A file that was there before does not count."""
    seen, last = time.time(), False
    while not last:
        last = done.wait(EVERY)
        if path.exists() and (written := path.stat().st_mtime) > seen and (history := epochs_so_far(path)) is not None:
            seen = written
            tell(history)


def epochs_so_far(path: Path) -> pd.DataFrame | None:
    """The history in ``path``; None where a new run removes it at this moment, or it has no epoch."""
    try:
        history = read_table(path)
    except FileNotFoundError:
        return None
    return history if len(history) else None
