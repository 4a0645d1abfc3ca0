"""The rivals that segment first: from a table of cells to the class of a field.

Each rival is a function ``fit(cells, settings) → scorer``; the scorer takes cells and gives the class
probabilities y (N, C) and a profile (N, K) of their fields. All learn from the training fields and choose on
the validation fields.
"""

from milcnn.profiles.cells import Cells, ProfileSettings, masks_of, open_cells
from milcnn.profiles.run import RIVALS, fit, predict, run, run_all, seeds_of
from milcnn.profiles.sphering import sphering

__all__ = [
    "RIVALS",
    "Cells",
    "ProfileSettings",
    "fit",
    "masks_of",
    "open_cells",
    "predict",
    "run",
    "run_all",
    "seeds_of",
    "sphering",
]
