"""What a network has not seen: how far a field is from the training classes, and which classes it may have.

``unseen`` is the distance of the features f of a field to the nearest training class k, relative to its distance to all
training fields: min_k (f − μ_k)ᵀ Σ⁻¹ (f − μ_k) − (f − μ)ᵀ Σ₀⁻¹ (f − μ). μ_k are the means of the classes, Σ the
covariance within them, μ and Σ₀ mean and covariance of all (Lee 2018, arXiv 1807.03888; relative: Ren 2021, arXiv
2106.09022; both covariances as in Ledoit and Wolf 2004). ``unseen_above`` is True above its ``QUANTILE`` over the
validation fields.

``set_90`` has the classes that a field may have, joined by ``|``: all with y ≥ 1 − q. q is the quantile of 1 − y of the
true class over the validation fields at which, if fields are exchangeable, a new one has its class in the set nine
times of ten (split conformal prediction; Vovk 2005). Each validation plate has the same weight (Dunn 2022, arXiv
1809.07441). A set may be empty: no class is likely enough.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.covariance import LedoitWolf

from milcnn.columns import LABEL_MARK, PLATE
from milcnn.evaluate.calibration import scaled
from milcnn.evaluate.scores import calls_of
from milcnn.files import written_whole
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.score.plan import ScoreSettings, weights_hash
from milcnn.score.trained import Scores, Trained, batch_size, open_trained

QUANTILE = 0.95  # of the unseen score of validation fields, above which a field is marked
MISSED = 0.1  # share of fields whose set lacks their class
TRAINING_FIELDS = 2000  # training fields at most, evenly spaced: enough for a covariance of 1000 features
FILE = "reference.safetensors"


@dataclass(frozen=True)
class Reference:
    """What is known of the training classes."""

    classes: list[str]
    means: np.ndarray  # μ_k (K, D)
    within: np.ndarray  # Σ⁻¹ (D, D)
    mean: np.ndarray  # μ (D,)
    overall: np.ndarray  # Σ₀⁻¹ (D, D)
    limit: float  # of unseen
    least: float  # 1 − q

    def unseen(self, features: np.ndarray) -> np.ndarray:
        """The unseen score of ``features`` (N, D), (N,)."""
        f = features.astype(np.float64)
        to_class = np.stack([distance(f - mean, self.within) for mean in self.means]).min(axis=0)
        return to_class - distance(f - self.mean, self.overall)

    def judged(self, scores: Scores) -> pd.DataFrame:
        """``set_90``, ``unseen``, ``unseen_above`` of fields with ``scores``."""
        unseen = self.unseen(scores.features)
        names = np.array(self.classes)
        sets = [LABEL_MARK.join(names[row]) for row in scores.y >= self.least]
        return pd.DataFrame({"set_90": sets, "unseen": unseen, "unseen_above": unseen > self.limit})


def distance(differences: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """dᵀ Σ⁻¹ d of each of ``differences`` d (N, D), (N,)."""
    return np.einsum("nd,de,ne->n", differences, precision, differences, optimize=True)


def fitted(trained: Trained, prepared: Prepared) -> Reference:
    """The reference of ``trained``, from the training and validation fields of its study."""
    rows = prepared.of("train")
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(TRAINING_FIELDS, len(rows))).round().astype(int))]
    features = features_of(trained, prepared, rows)
    targets = prepared.targets(rows)
    groups = [features[targets == k] for k in range(len(prepared.classes)) if (targets == k).any()]
    means = np.stack([group.mean(axis=0) for group in groups])
    centred = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
    overall = LedoitWolf(store_precision=False).fit(features)
    within = overall  # where no class has two fields
    if centred.any():
        within = LedoitWolf(assume_centered=True, store_precision=False).fit(centred)
    parts = (means, within.get_precision(), features.mean(axis=0), overall.get_precision())
    reference = Reference(prepared.classes, *parts, np.inf, conformal_level(trained))
    held = prepared.of("validation")
    limit = (
        float(np.quantile(reference.unseen(features_of(trained, prepared, held)), QUANTILE)) if len(held) else np.inf
    )
    return Reference(prepared.classes, *parts, limit, reference.least)


def features_of(trained: Trained, prepared: Prepared, rows: pd.DataFrame) -> np.ndarray:
    """The features of the fields of ``rows``, (N, D) float64."""
    step = batch_size(prepared.pixels(rows.iloc[:1]).shape)
    parts = [rows.iloc[start : start + step] for start in range(0, len(rows), step)]
    return np.concatenate([trained.scores(prepared.pixels(part)).features for part in parts]).astype(np.float64)


def conformal_level(trained: Trained) -> float:
    """1 − q, from the validation fields; 0 where they are too few, so that every class is in every set."""
    validation = trained.validation
    if validation.empty:
        return 0.0
    calls = calls_of(validation)
    y = scaled(calls.y, trained.temperature)
    counts = validation.groupby(PLATE)[PLATE].transform("size").to_numpy()
    fields, classes = np.nonzero(calls.truth)
    return least_probability(y[fields, classes], 1 / counts[fields])


def least_probability(y: np.ndarray, weights: np.ndarray) -> float:
    """The largest level at or above which lie at least (n + 1)(1 − ``MISSED``) of n probabilities ``y`` (n,), weighted.

    The new field counts as one more, with the mean weight, that lies below. 0 where n is too small for it.
    """
    order = np.argsort(-y, kind="stable")
    share = np.cumsum(weights[order]) / (weights.sum() + weights.mean())
    enough = np.flatnonzero(share >= 1 - MISSED - 1e-12)
    return float(y[order][enough[0]]) if len(enough) else 0.0


def ensure_reference(settings: ScoreSettings) -> None:
    """Fit the reference of the networks of ``settings`` and write it beside the scores, if it is not there."""
    path, weights = Path(settings.output) / FILE, weights_hash(settings)
    if path.exists():
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("weights") == weights:
                return
    reference = fitted(open_trained(*settings.runs, device=settings.device), load_prepared(Path(settings.prepared)))
    arrays = {name: np.ascontiguousarray(getattr(reference, name)) for name in ("means", "within", "mean", "overall")}
    arrays |= {name: np.array([getattr(reference, name)]) for name in ("limit", "least")}
    with written_whole(path) as temporary:
        save_file(arrays, temporary, metadata={"weights": weights})


def read_reference(folder: Path, classes: list[str]) -> Reference:
    """The reference that ``ensure_reference`` left in ``folder``, for the ``classes`` of its networks."""
    arrays = load_file(folder / FILE)
    limit, least = (float(arrays.pop(name)[0]) for name in ("limit", "least"))
    return Reference(classes, arrays["means"], arrays["within"], arrays["mean"], arrays["overall"], limit, least)
