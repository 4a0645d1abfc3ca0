"""The rivals that segment first: from a table of cells to the class of a field.

Each rival is a function ``fit(cells, settings) → scorer``; the scorer takes cells and gives the class
probabilities y (N, C) and a profile (N, K) of their fields. All learn from the training fields and choose on
the validation fields.
"""

from milcnn.profiles.cells import Cells, ProfileSettings, judged_fields, masks_of, open_cells
from milcnn.profiles.run import RIVALS, drawn_seeds, fit, predict, run, run_all

__all__ = [
    "RIVALS",
    "Cells",
    "ProfileSettings",
    "drawn_seeds",
    "fit",
    "judged_fields",
    "masks_of",
    "open_cells",
    "predict",
    "run",
    "run_all",
]
