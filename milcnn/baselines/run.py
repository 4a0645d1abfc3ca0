"""Fit a baseline, score all fields that it may not learn from, and save the run as a MIL-CNN's is."""

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

BASELINES: dict[str, Callable[[Cells, ProfileSettings], Scorer]] = {
    "mean_profile": mean_profile,
    "ljosa": ljosa,
    "sphered": sphered,
    "boosting": boosting,
    "svm_vote": svm_vote,
    "cell_mean": cell_mean,
    "cell_attention": cell_attention,
}
# a fit whose outcome depends on the random numbers it draws: that of factor analysis does not, beyond the third digit
RANDOM = ("boosting", "svm_vote", "cell_mean", "cell_attention")


def seeds_for(name: str, seeds: list[int]) -> list[int]:
    """Those of ``seeds`` that the baseline ``name`` is run with: all, or the first where no number is drawn."""
    return seeds if name in RANDOM else seeds[:1]


def fit_baseline(name: str, cells: Cells, settings: ProfileSettings) -> Scorer:
    """The baseline ``name`` (a key of ``BASELINES``), learnt from the training fields, chosen on the validation fields.

    Fields without cells teach nothing and are left out. Of several labels of a field the first counts.
    Raises ValueError for a name that is none.
    """
    if name not in BASELINES:
        raise ValueError(f"baselines: '{name}' is not one of {', '.join(BASELINES)}.")
    learnt_from = cells.where((cells.counts > 0) & ~cells.split("test"))
    return BASELINES[name](learnt_from, settings)


def predict_baseline(scorer: Scorer, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables ``predictions`` and ``features`` of the fields that a run tells of, see ``columns.reported``.

    ``predictions``: ``Metadata_…`` and ``fraction``, ``cells``, ``response``, ``ec50`` where the study tells
    them, ``predicted``, and ``y_<class>``, probabilities that sum to 1. ``features``: plate, well, site and
    the profile that the baseline made, ``feature_0000`` … float32. A field without cells has the shares of
    the classes among the training fields as y and a profile of zeros.
    """
    scored = cells.where(cells.fields.index.isin(fields_to_predict(cells.fields).index))
    seen = scored.counts > 0
    found, profiles = scorer(scored.where(seen))
    y = np.tile(prior(cells), (len(seen), 1))
    y[seen] = found
    features = np.zeros((len(seen), profiles.shape[1]), np.float32)
    features[seen] = profiles
    return prediction_table(scored.fields, cells.classes, False, y=y), profile_table(scored.fields, features)


def prior(cells: Cells) -> np.ndarray:
    """Share of each class among the training fields, (C,)."""
    counts = np.bincount(cells.targets[cells.split("train")], minlength=len(cells.classes))
    return counts / counts.sum()


def run_baselines(
    runs: list[tuple[str, int]],
    cells: Cells,
    settings: ProfileSettings,
    folder: Path,
    workers: int = 1,
) -> pd.DataFrame:
    """``run`` of each baseline and seed of ``runs``, ``workers`` at once, in ``<folder>/<baseline>-<seed>``.

    Gives the predictions of all, stacked, with columns ``method`` and ``seed``.
    """
    tables = Parallel(n_jobs=workers)(
        delayed(run_baseline)(name, cells, settings.model_copy(update={"seed": seed}), folder / f"{name}-{seed}")
        for name, seed in runs
    )
    told = [table.assign(method=name, seed=seed) for table, (name, seed) in zip(tables, runs, strict=True)]
    return pd.concat(told, ignore_index=True)


def run_baseline(name: str, cells: Cells, settings: ProfileSettings, folder: Path) -> pd.DataFrame:
    """Fit and score the baseline ``name``, write its run to ``folder``, and give its predictions.

    Writes ``predictions.csv`` and ``features.parquet``, see ``predict_baseline``.
    """
    scorer = fit_baseline(name, cells, settings)
    predictions, features = predict_baseline(scorer, cells)
    write_table(predictions, folder / "predictions.csv")
    write_table(features, folder / "features.parquet")
    return predictions
