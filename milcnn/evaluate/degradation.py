"""Degradation: how accuracy falls with what makes a field, or a training set, hard.

Four factors: the responding fraction and the number of cells of a test field, both told by the fields
of one run; and wrong training labels and fewer training fields, told by runs of their own, in
``<models>/<condition>/``, where the condition ``noise20`` is 20 % of labels wrong and
``share25`` a quarter of the fields, in as many steps of training.
"""

import re
from pathlib import Path

import pandas as pd

from milcnn.columns import CONTROL, SPLIT
from milcnn.evaluate.intervals import mean_with_interval
from milcnn.evaluate.runs import BASELINE_FOLDER, with_errors
from milcnn.files import read_table

FACTORS = {"noise": "label_noise", "share": "train_share"}  # what a condition's name starts with
CLEAN = {"label_noise": 0.0, "train_share": 1.0}  # where the runs without a condition stand
COLUMNS = ["method", "factor", "level", "value", "low", "high", "n", "seeds"]


def read_methods(folder: Path) -> pd.DataFrame:
    """Test predictions of every run ``<method>-<seed>`` in ``folder``, stacked, with ``method``, ``seed``, ``correct``.

    Runs of the baselines lie in ``<folder>/baselines``. Raises FileNotFoundError when there is no run.
    """
    paths = run_paths(folder)
    if not paths:
        raise FileNotFoundError(f"{folder}: no run with a predictions.csv; train first, or mend the folder.")
    tables = []
    for path in paths:
        method, seed = path.parent.name.rsplit("-", 1)
        tables.append(read_table(path).assign(method=method, seed=int(seed)))
    runs = pd.concat(tables, ignore_index=True)
    return with_errors(runs[runs[SPLIT] == "test"].reset_index(drop=True))


def run_paths(folder: Path) -> list[Path]:
    """The predictions of every run in ``folder``, of MIL-CNNs and then of their baselines."""
    return [path for home in (folder, folder / BASELINE_FOLDER) for path in sorted(home.glob("*-*/predictions.csv"))]


def conditions(folder: Path) -> dict[str, tuple[str, float]]:
    """The conditions that have runs in ``folder``: name → factor and level, ``noise20`` → (label_noise, 0.2).

    Other folders, as the runs themselves or ``shuffled``, are none of these.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(noise|share)(\d+)", path.name)
        if match and run_paths(path):
            found[path.name] = (FACTORS[match[1]], int(match[2]) / 100)
    return found


def by_condition(folder: Path) -> pd.DataFrame:
    """Accuracy of each method against label noise and share of training fields (``COLUMNS``).

    ``level`` is the share of labels that are wrong, or of training fields that are used. A factor that
    no condition changes has no rows; neither has a method that has runs of no condition.
    """
    clean, tables = read_methods(folder), []
    for name, (factor, level) in conditions(folder).items():
        spoiled = read_methods(folder / name)
        at_start = clean.merge(spoiled[["method", "seed"]].drop_duplicates())  # the same seeds on clean labels
        tables += [spoiled.assign(factor=factor, level=level), at_start.assign(factor=factor, level=CLEAN[factor])]
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    return accuracy_at(pd.concat(tables, ignore_index=True))


def by_field(predictions: pd.DataFrame, bins: int) -> pd.DataFrame:
    """Accuracy of each method against ``fraction`` of cells that respond and number of ``cells`` (``COLUMNS``).

    Each in ``bins`` bins of as many fields, ``level`` their mean. Control fields count for ``cells`` alone:
    nothing in them can respond.
    """
    treated = predictions[~predictions[CONTROL].astype(bool)]
    tables = [
        fields.assign(factor=factor, level=bin_means(fields[factor], bins))
        for factor, fields in (("fraction", treated), ("cells", predictions))
    ]
    return accuracy_at(pd.concat(tables, ignore_index=True))


def bin_means(values: pd.Series, bins: int) -> pd.Series:
    """Each of ``values`` replaced by the mean, to 3 digits, of its quantile bin."""
    return values.groupby(pd.qcut(values, bins, duplicates="drop"), observed=True).transform("mean").round(3)


def accuracy_at(predictions: pd.DataFrame) -> pd.DataFrame:
    """Share of fields called right for each method, factor and level, with its 95 % interval over fields.

    The clean runs come once a condition; that changes nothing, since all rows of a field are averaged first.
    """
    table = mean_with_interval(predictions, COLUMNS[:3], "correct")
    return table.sort_values(COLUMNS[:3], ignore_index=True)[COLUMNS]
