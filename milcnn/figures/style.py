"""The style of all figures, the colours that mean the same in all of them, and what several figures share."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection

from milcnn.files import written_whole

OVERLAY = "#FFC20A"  # contour of what the network predicts
TRUTH = "#0C7BDC"  # contour of the true objects


def use_style() -> None:
    """Draw in the study's style, whatever the user's own matplotlibrc says; the backend stays."""
    plt.style.use(["default", Path(__file__).with_name("milcnn.mplstyle")])


def panels(n: int, columns: int, width: float, height: float, **options: Any) -> tuple[plt.Figure, np.ndarray]:
    """A figure, and its axes (rows, columns), hidden, for ``n`` panels.

    ``width`` of the figure and ``height`` of a row are in inches; ``options`` go to ``plt.subplots``.
    """
    rows = -(-n // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, **options)
    for ax in axes.flat:
        ax.set_axis_off()
    return fig, axes


def error_bars(rows: pd.DataFrame, column: str = "value") -> list[pd.Series]:
    """Lengths of the error bars of ``column``, down to ``low`` and up to ``high``, as matplotlib takes them.

    A value without an interval has no bar.
    """
    return [rows[column] - rows["low"], rows["high"] - rows[column]]


def save_figure(figure: plt.Figure, folder: Path, name: str) -> list[Path]:
    """Write ``figure`` as PNG (300 dpi) and PDF, and as SVG if it draws lines and bars alone.

    An SVG of images or of thousands of points would be larger than the PNG. The same figure gives the same bytes.
    """
    kinds: dict[str, dict | None] = {".png": None, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if any(ax.images or any(isinstance(one, PathCollection) for one in ax.collections) for ax in figure.axes):
        del kinds[".svg"]
    paths = []
    for suffix, metadata in kinds.items():
        paths.append(folder / f"{name}{suffix}")
        with written_whole(paths[-1]) as temporary:
            figure.savefig(temporary, metadata=metadata)
    return paths
