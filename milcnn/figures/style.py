"""The style of all figures, and the colours that mean the same in each."""

import matplotlib.pyplot as plt

from milcnn.paths import ROOT

OVERLAY = "#FFC20A"  # contour of what the network points at
TRUTH = "#0C7BDC"  # contour of what is true


def use_style() -> None:
    plt.style.use(ROOT / "milcnn" / "figures" / "milcnn.mplstyle")
