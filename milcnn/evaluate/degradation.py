"""Degradation: accuracy by responding fraction and number of cells of a test field, by label noise and training fields.

The last two need runs of their own, in ``<models>/<condition>/``: ``noise20`` has 20 % of labels wrong, ``share25`` a
quarter of the training fields and as many training steps.
"""

import re
from pathlib import Path

import pandas as pd

from milcnn.columns import CONTROL
from milcnn.evaluate.comparisons import bin_means
from milcnn.evaluate.intervals import FACTS, mean_with_interval
from milcnn.evaluate.runs import BASELINE_FOLDER, scored_in, with_errors
from milcnn.files import read_table

FACTOR_OF = {"noise": "label_noise", "share": "train_share"}  # by the first word of a condition
CLEAN = {"label_noise": 0.0, "train_share": 1.0}  # the level of runs without a condition
COLUMNS = ["method", "factor", "level", *FACTS]


def read_methods(folder: Path) -> pd.DataFrame:
    """Test predictions of each run in ``folder`` and its baselines. Raises FileNotFoundError when there is no run."""
    paths = [path for home in (folder, folder / BASELINE_FOLDER) for path in sorted(home.glob("*-*/predictions.csv"))]
    if not paths:
        raise FileNotFoundError(f"{folder}: no run with a predictions.csv; train first, or correct the folder.")
    names = [path.parent.name.rsplit("-", 1) for path in paths]
    tables = [read_table(path).assign(method=m, seed=int(s)) for path, (m, s) in zip(paths, names, strict=True)]
    runs = pd.concat(tables, ignore_index=True)
    return with_errors(scored_in(runs, "test"))


def conditions(folder: Path) -> dict[str, tuple[str, float]]:
    """Factor and level of each condition that has runs in ``folder``: ``noise20`` gives (label_noise, 0.2)."""
    names = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(noise|share)(\d+)", path.name)
        if match and any(path.rglob("predictions.csv")):
            names[path.name] = (FACTOR_OF[match[1]], int(match[2]) / 100)
    return names


def by_condition(folder: Path) -> pd.DataFrame:
    """Accuracy of each method that has conditions, by label noise and by share of training fields (``COLUMNS``)."""
    clean, tables = read_methods(folder), []
    for name, (factor, level) in conditions(folder).items():
        changed = read_methods(folder / name)
        unchanged = clean.merge(changed[["method", "seed"]].drop_duplicates())  # the same methods and seeds
        tables += [changed.assign(factor=factor, level=level), unchanged.assign(factor=factor, level=CLEAN[factor])]
    return accuracy_at(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame(columns=COLUMNS)


def by_field(predictions: pd.DataFrame, bins: int) -> pd.DataFrame:
    """Accuracy of each method in ``bins`` bins of responding ``fraction``, and of number of ``cells`` (``COLUMNS``)."""
    treated = predictions[~predictions[CONTROL].astype(bool)]  # no cell of a control responds
    tables = [
        fields.assign(factor=factor, level=bin_means(fields[factor], bins))
        for factor, fields in (("fraction", treated), ("cells", predictions))
    ]
    return accuracy_at(pd.concat(tables, ignore_index=True))


def accuracy_at(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy for each method, factor and level, with its 95 % interval (``COLUMNS``)."""
    # a clean run is there once for each condition: no harm, the rows of a field are averaged first
    table = mean_with_interval(predictions, COLUMNS[:3], "correct")
    return table.sort_values(COLUMNS[:3], ignore_index=True)[COLUMNS]
