"""Curves that move: what they show, and that they follow the history and end with it."""

import io
import time

import pandas as pd
import pytest
from PIL import Image

from milcnn.figures import live

HISTORY = pd.DataFrame(
    {"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "validation_loss": [3.0, 1, 2], "validation_accuracy": [0.2, 0.9, 0.8]}
)


def test_curves_show_the_history_and_the_epoch_that_is_kept():
    left, right = live.loss_curves(HISTORY).axes
    training, validation, kept = left.lines
    assert training.get_ydata().tolist() == [3, 2, 1]
    assert validation.get_ydata().tolist() == [3, 1, 2]
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (2, 1)
    assert right.lines[0].get_ydata().tolist() == [0.2, 0.9, 0.8]


def test_curves_move_while_the_block_runs_and_show_all_epochs_at_its_end():
    epochs = []

    def read():
        if not epochs:
            raise FileNotFoundError
        return HISTORY.head(len(epochs))

    pictures = []
    with live.moving_curves(read, every=0.01) as image:
        for _ in range(3):
            deadline = time.monotonic() + 20
            while epochs and image.value == pictures[-1] and time.monotonic() < deadline:
                time.sleep(0.02)
            pictures.append(bytes(image.value))
            epochs.append(1)
    assert pictures[0] == b""
    assert len({*pictures, bytes(image.value)}) == 4
    assert Image.open(io.BytesIO(image.value)).size == (690, 220)


def test_an_error_inside_ends_the_thread():
    with pytest.raises(KeyboardInterrupt), live.moving_curves(lambda: HISTORY, every=0.01) as image:
        raise KeyboardInterrupt
    assert image.value
