"""The style of all figures, the colours that mean the same in each, and how a figure is saved."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from milcnn.files import written_whole

OVERLAY = "#FFC20A"  # contour of what the network points at
TRUTH = "#0C7BDC"  # contour of what is true


def use_style() -> None:
    plt.style.use(Path(__file__).with_name("milcnn.mplstyle"))


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``figure`` as PNG (300 dpi) and PDF, the same bytes for the same figure."""
    paths = []
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        with written_whole(folder / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, metadata=metadata)
        paths.append(folder / f"{name}{suffix}")
    return paths
