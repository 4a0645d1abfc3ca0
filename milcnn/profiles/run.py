"""Fit a rival, score all fields that it may not learn from, and save the run as a MIL-CNN's is."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from milcnn.files import write_table
from milcnn.profiles.bags import cell_attention, cell_mean
from milcnn.profiles.cells import Cells, ProfileSettings
from milcnn.profiles.learners import boosting, svm_vote
from milcnn.profiles.neighbours import Scorer, ljosa, mean_profile, sphered
from milcnn.screens.columns import FIELD_KEY, reported

RIVALS: dict[str, Callable[[Cells, ProfileSettings], Scorer]] = {
    "mean_profile": mean_profile,
    "ljosa": ljosa,
    "sphered": sphered,
    "boosting": boosting,
    "svm_vote": svm_vote,
    "cell_mean": cell_mean,
    "cell_attention": cell_attention,
}
# a fit whose outcome depends on the random numbers it draws: that of factor analysis does not, beyond the third digit
DRAWN = ("boosting", "svm_vote", "cell_mean", "cell_attention")


def drawn_seeds(name: str, seeds: list[int]) -> list[int]:
    """Those of ``seeds`` that the rival ``name`` is run with: all, or the first where no number is drawn."""
    return seeds if name in DRAWN else seeds[:1]


def fit(name: str, cells: Cells, settings: ProfileSettings) -> Scorer:
    """The rival ``name`` (a key of ``RIVALS``), learnt from the training fields, chosen on the validation fields.

    Fields without cells teach nothing and are left out. Of several labels of a field the first counts.
    Raises ValueError for a name that is none.
    """
    if name not in RIVALS:
        raise ValueError(f"rivals: '{name}' is not one of {', '.join(RIVALS)}.")
    learnt_from = cells.where((cells.counts > 0) & ~cells.split("test"))
    return RIVALS[name](learnt_from, settings)


def predict(scorer: Scorer, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables ``predictions`` and ``features`` of the fields that a run tells of, see ``columns.reported``.

    ``predictions``: ``Metadata_…`` and ``fraction``, ``cells``, ``response``, ``ec50`` where the study tells
    them, ``predicted``, and ``y_<class>``, probabilities that sum to 1. ``features``: plate, well, site and
    the profile that the rival made, ``feature_0000`` … float32. A field without cells has the shares of
    the classes among the training fields as y and a profile of zeros.
    """
    scored = cells.where(cells.fields.index.isin(reported(cells.fields).index))
    seen = scored.counts > 0
    found, profiles = scorer(scored.where(seen))
    y = np.tile(prior(cells), (len(seen), 1))
    y[seen] = found
    features = np.zeros((len(seen), profiles.shape[1]), np.float32)
    features[seen] = profiles
    return prediction_table(scored, y), feature_table(scored.fields, features)


def prior(cells: Cells) -> np.ndarray:
    """Share of each class among the training fields, (C,)."""
    counts = np.bincount(cells.targets[cells.split("train")], minlength=len(cells.classes))
    return counts / counts.sum()


def prediction_table(cells: Cells, y: np.ndarray) -> pd.DataFrame:
    told = cells.fields.filter(regex="^Metadata_|^(fraction|cells|response|ec50)$")
    predicted = np.array(cells.classes)[y.argmax(axis=1)]
    return pd.concat(
        [told.assign(predicted=predicted), pd.DataFrame(y, columns=[f"y_{name}" for name in cells.classes])], axis=1
    )


def feature_table(fields: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
    names = [f"feature_{index:04d}" for index in range(features.shape[1])]
    return pd.concat([fields[FIELD_KEY], pd.DataFrame(features, columns=names)], axis=1)


def run_all(
    runs: list[tuple[str, int]],
    cells: Cells,
    settings: ProfileSettings,
    folder: Path,
    seconds_before: float,
    workers: int = 1,
) -> pd.DataFrame:
    """``run`` of each rival and seed of ``runs``, ``workers`` at once, in ``<folder>/<rival>-<seed>``.

    Gives the predictions of all, stacked, with columns ``method`` and ``seed``.
    """
    tables = Parallel(n_jobs=workers)(
        delayed(run)(name, cells, settings.model_copy(update={"seed": seed}), folder / f"{name}-{seed}", seconds_before)
        for name, seed in runs
    )
    told = [table.assign(method=name, seed=seed) for table, (name, seed) in zip(tables, runs, strict=True)]
    return pd.concat(told, ignore_index=True)


def run(name: str, cells: Cells, settings: ProfileSettings, folder: Path, seconds_before: float) -> pd.DataFrame:
    """Fit and score the rival ``name``, write its run to ``folder``, and give its predictions.

    Writes ``predictions.csv`` and ``features.parquet``, see ``predict``, and ``timing.csv``, one row
    ``seconds_per_field``: ``seconds_before``, what segmenting and measuring a field took, and the scoring.
    """
    scorer = fit(name, cells, settings)
    start = time.perf_counter()
    predictions, features = predict(scorer, cells)
    seconds = seconds_before + (time.perf_counter() - start) / len(predictions)
    write_table(predictions, folder / "predictions.csv")
    write_table(features, folder / "features.parquet")
    write_table(pd.DataFrame({"seconds_per_field": [seconds]}), folder / "timing.csv")
    return predictions
