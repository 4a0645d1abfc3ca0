"""Curves that move while a network is trained."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import ipywidgets as widgets
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure


@contextmanager
def moving_curves(read: Callable[[], pd.DataFrame], every: float = 1.0) -> Iterator[widgets.Image]:
    """Show the curves of a training that goes on inside the block, drawn again every ``every`` seconds if they changed.

    ``read`` gives the history so far, and raises FileNotFoundError before the first epoch. A thread calls it, so a
    training in another process can be followed too.
    """
    image, done = widgets.Image(format="png"), Event()
    thread = Thread(target=keep_drawn, args=(image, read, done, every), daemon=True)
    display(image)
    thread.start()
    try:
        yield image
    finally:
        done.set()
        thread.join()


def keep_drawn(image: widgets.Image, read: Callable[[], pd.DataFrame], done: Event, every: float) -> None:
    """Draw the history into ``image`` whenever it has another epoch, and once more at the end."""
    drawn, last = 0, False
    while not last:
        last = done.wait(every)
        try:
            history = read()
        except FileNotFoundError:
            continue
        if len(history) != drawn:
            drawn, image.value = len(history), as_png(loss_curves(history))


def loss_curves(history: pd.DataFrame) -> Figure:
    """Loss of training and validation, and accuracy on validation, against epoch, of one run.

    Not by pyplot, which belongs to the main thread. A dot marks the epoch whose weights are kept: the lowest loss.
    """
    fig = Figure(figsize=(6.9, 2.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    for name, text in (("loss", "training"), ("validation_loss", "validation")):
        left.plot(history["epoch"], history[name], marker=".", label=text)
    best = history.loc[history["validation_loss"].idxmin()]
    left.plot(best["epoch"], best["validation_loss"], "o", color="k", fillstyle="none", label="kept")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend(fontsize=7)
    right.plot(history["epoch"], history["validation_accuracy"], marker=".", color="C1")
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    return fig


def as_png(fig: Figure) -> bytes:
    held = io.BytesIO()
    fig.savefig(held, format="png", dpi=100)
    return held.getvalue()
