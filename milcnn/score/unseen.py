"""What a network has not seen: how unlike the training fields a field is, and which classes it may have.

``unseen`` is −log a − log b, Fisher's product of two p-values. a is the share of validation fields that are as far as
this one from the nearest training class, b that of those with as large a doubt, 1 − max y. The distance is between
features f / |f|, projected to where the training classes differ most for their spread (linear discriminants with the
covariance of Ledoit and Wolf 2004). |f| itself tells how many cells respond. ``unseen_above`` is True above the
``QUANTILE`` of the validation fields. Chosen on validation fields of left-out phenotypes, see docs/lab-notes.md.

``set_90`` has the classes that a field may have, joined by ``|``: all with y ≥ 1 − q. q is the quantile of 1 − y of the
true class over the validation fields at which, if fields are exchangeable, a new one has its class in the set nine
times of ten (split conformal prediction; Vovk 2005). Each validation plate has the same weight (Dunn 2022, arXiv
1809.07441). A set may be empty: no class is likely enough.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from milcnn.columns import LABEL_MARK, PLATE
from milcnn.evaluate.scores import calls_of
from milcnn.files import written_whole
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.score.plan import ScoreSettings, weights_hash
from milcnn.score.trained import BATCH_FIELDS, Scores, Trained, evenly_spaced, in_batches, joined_scores, open_trained

QUANTILE = 0.95  # of the unseen score of validation fields, above which a field is marked
MISSED = 0.1  # share of fields whose set lacks their class
TRAINING_FIELDS = 2000  # training fields at most, evenly spaced: enough for a covariance of 1000 features
FILE = "reference.safetensors"
ARRAYS = ("projection", "means", "distances", "doubts")  # in this file


@dataclass(frozen=True)
class Reference:
    """What is known of the training classes, and of the validation fields."""

    classes: list[str]
    several: bool  # labels a field
    projection: np.ndarray  # (D, K)
    means: np.ndarray  # (classes, K), of the projected features
    distances: np.ndarray  # (n,) of the validation fields, sorted
    doubts: np.ndarray  # (n,) the same
    limit: float  # of unseen
    least: float  # 1 − q

    def unseen(self, scores: Scores) -> np.ndarray:
        """The unseen score of each field, (N,)."""
        pairs = ((self.distance(scores.features), self.distances), (doubt(scores.y, self.several), self.doubts))
        return np.sum([np.log(1 / share_above(values, known)) for values, known in pairs], axis=0)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """From each of ``features`` (N, D) to the nearest class, squared, (N,)."""
        projected = unit_length(features) @ self.projection
        return ((projected[:, None] - self.means) ** 2).sum(axis=2).min(axis=1)

    def judged(self, scores: Scores) -> pd.DataFrame:
        """``set_90``, ``unseen``, ``unseen_above`` of fields with ``scores``."""
        unseen, names = self.unseen(scores), np.array(self.classes)
        sets = [LABEL_MARK.join(names[row]) for row in scores.y >= self.least]
        return pd.DataFrame({"set_90": sets, "unseen": unseen, "unseen_above": unseen > self.limit})


def unit_length(features: np.ndarray) -> np.ndarray:
    """``features`` (N, D) with length 1, float64; a field without any stays 0."""
    f = features.astype(np.float64)
    length = np.linalg.norm(f, axis=1, keepdims=True)
    return f / np.where(length > 0, length, 1)


def doubt(y: np.ndarray, several: bool) -> np.ndarray:
    """1 − max y of each field; of ``several`` labels, the mean over the classes of 1 − max(y, 1 − y), (N,)."""
    return (1 - np.maximum(y, 1 - y)).mean(axis=1) if several else 1 - y.max(axis=1)


def share_above(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share of ``known`` (n,), sorted, that is at or above each of ``values``, which counts as one more: > 0."""
    return (1 + len(known) - np.searchsorted(known, values)) / (len(known) + 1)


def fitted(trained: Trained, prepared: Prepared) -> Reference:
    """The reference of ``trained``, from the training and validation fields of its study."""
    rows = evenly_spaced(prepared.of("train"), TRAINING_FIELDS)
    features, targets = unit_length(scores_for(trained, prepared, rows).features), prepared.targets(rows)
    kinds = np.unique(targets)
    projection = np.eye(features.shape[1])
    if len(kinds) > 1 and len(rows) >= 2 * len(kinds):  # else the spread within a class is not known
        fit = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(features, targets)
        projection = fit.scalings_[:, : len(kinds) - 1]
    means = np.stack([(features[targets == kind] @ projection).mean(axis=0) for kind in kinds])
    none, several, least = np.empty(0), prepared.multilabel, conformal_level(trained.validation)
    reference = Reference(prepared.classes, several, projection, means, none, none, np.inf, least)
    held = scores_for(trained, prepared, prepared.of("validation"))
    distances, doubts = np.sort(reference.distance(held.features)), np.sort(doubt(held.y, several))
    reference = replace(reference, distances=distances, doubts=doubts)
    return replace(reference, limit=float(np.quantile(reference.unseen(held), QUANTILE)))


def scores_for(trained: Trained, prepared: Prepared, rows: pd.DataFrame) -> Scores:
    """The scores of the prepared fields of ``rows``."""
    return joined_scores(trained.scores(prepared.pixels(part)) for part in in_batches(rows, BATCH_FIELDS))


def conformal_level(validation: pd.DataFrame) -> float:
    """1 − q, from labelled validation fields; 0 where they are too few, so that every class is in every set."""
    if validation.empty:
        return 0.0
    calls = calls_of(validation)
    counts = validation.groupby(PLATE)[PLATE].transform("size").to_numpy()
    fields, classes = np.nonzero(calls.truth)
    return least_probability(calls.y[fields, classes], 1 / counts[fields])


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
    path = Path(settings.output) / FILE
    made_of = weights_hash(settings) + sha256(Path(__file__).read_bytes()).hexdigest()
    if path.exists():
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("made_of") == made_of:
                return
    reference = fitted(open_trained(*settings.runs, device=settings.device), load_prepared(Path(settings.prepared)))
    arrays = {name: np.ascontiguousarray(getattr(reference, name)) for name in ARRAYS}
    arrays |= {name: np.array([getattr(reference, name)]) for name in ("limit", "least")}
    with written_whole(path) as temporary:
        save_file(arrays, temporary, metadata={"made_of": made_of})


def read_reference(folder: Path, classes: list[str], several: bool) -> Reference:
    """The reference that ``ensure_reference`` left in ``folder``, for the ``classes`` of its networks."""
    arrays = load_file(folder / FILE)
    limit, least = (float(arrays.pop(name)[0]) for name in ("limit", "least"))
    return Reference(classes=classes, several=several, limit=limit, least=least, **arrays)
