"""What several test files share."""

import sys

import matplotlib.pyplot as plt
import pytest
import torch

from milcnn.figures.style import use_style
from milcnn.network.model import MILCNN, ModelSettings

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as in milcnn.study.stage: 2 s less to import nbformat


@pytest.fixture
def style():
    """The style of the study, and no figure left open."""
    with plt.rc_context():
        use_style()
        yield
        plt.close("all")


@pytest.fixture(scope="module")
def model() -> MILCNN:
    """A small network of two channels and three classes, with its first weights."""
    torch.manual_seed(0)
    settings = ModelSettings(
        study="s", channels=["a", "b"], classes=["x", "y", "z"], width=0.1, padding="same", dropout=0, dropout_dense=0
    )
    return MILCNN(settings, mean=[3.0, 1.0], std=[2.0, 4.0]).eval()
