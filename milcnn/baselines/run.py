"""Fit a baseline, predict the fields that it may not learn from, and save the run as for a MIL-CNN."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from milcnn.baselines.cell_mil import cell_attention, cell_mean
from milcnn.baselines.cells import Cells, ProfileSettings
from milcnn.baselines.learners import boosting, svm_vote
from milcnn.baselines.neighbours import Scorer, ljosa, mean_profile, sphered
from milcnn.files import write_table
from milcnn.network.predictions import prediction_table, profile_table
from milcnn.roles import fields_to_predict

FITS = (mean_profile, ljosa, sphered, boosting, svm_vote, cell_mean, cell_attention)
BASELINES: dict[str, Callable[[Cells, ProfileSettings], Scorer]] = {fit.__name__: fit for fit in FITS}
# the result depends on the random numbers drawn; that of ljosa (factor analysis) does so in the third digit only
RANDOM = ("boosting", "svm_vote", "cell_mean", "cell_attention")


def seeds_for(name: str, seeds: list[int]) -> list[int]:
    """The seeds to run the baseline ``name`` with: all, or only the first where no random number is drawn."""
    return seeds if name in RANDOM else seeds[:1]


def fit_baseline(name: str, cells: Cells, settings: ProfileSettings) -> Scorer:
    """Fit the baseline ``name`` on the training fields and choose its settings on the validation fields.

    Fields without cells are left out. Of several labels the first counts. Raises ValueError for an unknown name.
    """
    if name not in BASELINES:
        raise ValueError(f"baselines: '{name}' is not one of {', '.join(BASELINES)}.")
    return BASELINES[name](cells.where((cells.counts > 0) & ~cells.split("test")), settings)


def predict_baseline(scorer: Scorer, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``prediction_table``, with y as probabilities that sum to 1, and ``profile_table`` of the ``fields_to_predict``.

    A field without cells gets the shares of the classes among the training fields as y, and a profile of zeros.
    """
    cells_to_predict = cells.where(cells.fields.index.isin(fields_to_predict(cells.fields).index))
    rows, has_cells = cells_to_predict.fields, cells_to_predict.counts > 0
    predictions, profiles = scorer(cells_to_predict.where(has_cells))
    of_class = np.bincount(cells.targets[cells.split("train")], minlength=len(cells.classes))
    y = np.tile(of_class / of_class.sum(), (len(rows), 1))
    y[has_cells] = predictions
    features = np.zeros((len(rows), profiles.shape[1]), np.float32)
    features[has_cells] = profiles
    return prediction_table(rows, cells.classes, False, y=y), profile_table(rows, features)


def run_baselines(
    runs: list[tuple[str, int]], cells: Cells, settings: ProfileSettings, folder: Path, workers: int = 1
) -> pd.DataFrame:
    """``run_baseline`` for each baseline and seed of ``runs``, ``workers`` at once, in ``<folder>/<baseline>-<seed>``.

    Returns all predictions in one table, with the columns ``method`` and ``seed``.
    """
    tables = Parallel(n_jobs=workers)(
        delayed(run_baseline)(name, cells, settings.model_copy(update={"seed": seed}), folder / f"{name}-{seed}")
        for name, seed in runs
    )
    named = [table.assign(method=name, seed=seed) for table, (name, seed) in zip(tables, runs, strict=True)]
    return pd.concat(named, ignore_index=True)


def run_baseline(name: str, cells: Cells, settings: ProfileSettings, folder: Path) -> pd.DataFrame:
    """Fit the baseline ``name``, write ``predictions.csv`` and ``features.parquet``, and return the predictions."""
    predictions, features = predict_baseline(fit_baseline(name, cells, settings), cells)
    write_table(predictions, folder / "predictions.csv")
    write_table(features, folder / "features.parquet")
    return predictions
