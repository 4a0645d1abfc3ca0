"""Fit a baseline, predict the fields that it may not learn from, and save the run as for a MIL-CNN."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from milcnn.baselines.cell_mil import cell_attention, cell_mean
from milcnn.baselines.cells import Cells, ProfileSettings, TooFewCells
from milcnn.baselines.embed import embedding, embedding_attention
from milcnn.baselines.learners import boosting, cell_count, svm_vote, total_intensity
from milcnn.baselines.neighbours import Scorer, ljosa, mean_profile, sphered
from milcnn.columns import FRESH
from milcnn.files import write_json, write_table
from milcnn.network.predictions import prediction_table, profile_table
from milcnn.roles import fields_to_predict

FITS = (cell_count, total_intensity, mean_profile, ljosa, sphered, boosting, svm_vote, cell_mean, cell_attention)
FITS_OF_TILES = (embedding, embedding_attention)  # see embed; the others learn from the cells of a field
BASELINES: dict[str, Callable[[Cells, ProfileSettings], Scorer]] = {
    fit.__name__: fit for fit in (*FITS, *FITS_OF_TILES)
}
OF_TILES = [fit.__name__ for fit in FITS_OF_TILES]
NETWORKS = ("cell_mean", "cell_attention", "embedding_attention")
# the result depends on the random numbers drawn; that of ljosa (factor analysis) does so in the third digit only
RANDOM = ("boosting", "svm_vote", *NETWORKS)


def seeds_for(name: str, seeds: list[int]) -> list[int]:
    """The seeds to run the baseline ``name`` with: all, or only the first where no random number is drawn."""
    return seeds if name in RANDOM else seeds[:1]


def fit_baseline(name: str, cells: Cells, settings: ProfileSettings) -> Scorer:
    """Fit the baseline ``name`` on the training fields and choose its settings on the validation fields.

    Fields without cells are left out. In a study of several labels there is one fit a class, against the rest, except
    for networks, which learn all classes at once. Both learn from known labels alone. Raises TooFewCells if too few
    fields have cells, or if these are too much alike for the baseline.
    """
    if cells.targets.ndim == 2 and name not in NETWORKS:
        return fit_each_class(name, cells, settings)
    known = cells.where((cells.counts > 0) & ~cells.split("test", FRESH))
    for split, what in (("train", "training"), ("validation", "validation")):
        if not known.split(split).any():
            raise TooFewCells(f"No cell was found in the {what} fields")
    if len(np.unique(known.targets[known.split("train")], axis=0)) < 2:
        raise TooFewCells("Cells were found in the training fields of one class alone")
    if not known.names:
        raise TooFewCells("All training cells are alike")
    return BASELINES[name](known, settings)


def fit_each_class(name: str, cells: Cells, settings: ProfileSettings) -> Scorer:
    """One fit a class, against the rest. y (N, C) are their probabilities of yes; the profile is that of the first."""

    def asked(own: Cells, number: int) -> Cells:
        yes = np.nan_to_num(own.targets[:, number]).astype(np.int64)
        return replace(own, targets=yes, classes=["no", "yes"])

    known = ~np.isnan(cells.targets)
    scorers = [fit_baseline(name, asked(cells.where(own), number), settings) for number, own in enumerate(known.T)]

    def score(own: Cells) -> tuple[np.ndarray, np.ndarray]:
        answers = [scorer(asked(own, number)) for number, scorer in enumerate(scorers)]
        return np.stack([y[:, 1] for y, _ in answers], axis=1), answers[0][1]

    return score


def predict_baseline(scorer: Scorer, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``prediction_table``, with y as probabilities, and ``profile_table`` of the ``fields_to_predict``.

    y of a field sums to 1, except in a study of several labels. A field without cells gets the shares of the classes
    among the training fields as y, and a profile of zeros.
    """
    cells_to_predict = cells.where(cells.fields.index.isin(fields_to_predict(cells.fields).index))
    rows, has_cells = cells_to_predict.fields, cells_to_predict.counts > 0
    predictions, profiles = scorer(cells_to_predict.where(has_cells))
    multilabel, trained = cells.targets.ndim == 2, cells.targets[cells.split("train")]
    shares = np.nanmean(trained if multilabel else np.eye(len(cells.classes))[trained], axis=0)
    y = np.tile(shares.astype(float), (len(rows), 1))
    y[has_cells] = predictions
    features = np.zeros((len(rows), profiles.shape[1]), np.float32)
    features[has_cells] = profiles
    return prediction_table(rows, cells.classes, multilabel, y=y), profile_table(rows, features)


def run_baselines(
    runs: list[tuple[str, int]], cells: Cells, settings: ProfileSettings, folder: Path, workers: int = 1,
    kind: str = "", tiles: Cells | str = "No tile was described",
) -> tuple[pd.DataFrame, dict[str, str]]:  # fmt: skip
    """``run_baseline`` for each baseline and seed of ``runs``, ``workers`` at once, in ``<folder>/<baseline>-<seed>``.

    Those of ``OF_TILES`` learn from ``tiles``, or are left out for the reason that it is instead. Returns all
    predictions in one table, with the columns ``method`` and ``seed``; and the reason for each baseline that cannot
    learn, by name. ``left_out<kind>.json`` has the reasons too. Raises ValueError for an unknown name.
    """
    if unknown := sorted({name for name, _ in runs} - set(BASELINES)):
        raise ValueError(f"baselines: '{unknown[0]}' is not one of {', '.join(BASELINES)}.")
    results = Parallel(n_jobs=workers)(
        delayed(run_baseline)(
            name, tiles if name in OF_TILES else cells, settings.model_copy(update={"seed": seed}),
            folder / f"{name}-{seed}", kind,
        )
        for name, seed in runs
    )  # fmt: skip
    pairs = list(zip(runs, results, strict=True))
    left_out = {name: result for (name, _), result in pairs if isinstance(result, str)}
    write_json(left_out, folder / f"left_out{kind}.json")
    named = [result.assign(method=name, seed=seed) for (name, seed), result in pairs if name not in left_out]
    empty = prediction_table(cells.fields.iloc[:0], cells.classes, False, y=np.zeros((0, len(cells.classes))))
    return pd.concat(named or [empty.assign(method="", seed=0)], ignore_index=True), left_out


def run_baseline(
    name: str, cells: Cells | str, settings: ProfileSettings, folder: Path, kind: str = ""
) -> pd.DataFrame | str:
    """Fit the baseline ``name``, write and return ``predictions<kind>.csv``; without ``kind`` write features.

    Where the cells are too few or too much alike for its method, returns the reason instead and writes nothing; so
    with a reason instead of ``cells``.
    """
    if isinstance(cells, str):
        return cells
    try:
        scorer = fit_baseline(name, cells, settings)
    except TooFewCells as reason:
        return str(reason)
    predictions, features = predict_baseline(scorer, cells)
    write_table(predictions, folder / f"predictions{kind}.csv")
    if not kind:
        write_table(features, folder / "features.parquet")
    return predictions
