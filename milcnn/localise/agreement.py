"""How well two masks of one field agree: as areas, object by object, and in number.

Masks are (H, W): bool for areas, integer labels for objects, 0 for background. Two empty masks score 1; one empty
mask scores 0.
"""

import numpy as np
from skimage.metrics import contingency_table


def iou(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Intersection over union |T ∩ P| / |T ∪ P| of two masks (H, W), bool or labels (not 0 is inside)."""
    inside_truth, inside = truth != 0, predicted != 0
    return ratio(np.count_nonzero(inside_truth & inside), np.count_nonzero(inside_truth | inside))


def dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Dice coefficient 2 |T ∩ P| / (|T| + |P|) of two masks (H, W), bool or labels (not 0 is inside)."""
    common = np.count_nonzero((truth != 0) & (predicted != 0))
    return ratio(2 * common, np.count_nonzero(truth) + np.count_nonzero(predicted))


def overlaps(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """IoU of every true object with every predicted one, (true objects, predicted objects) float64, by label."""
    common, areas, predicted_areas = shared_pixels(truth, predicted)
    return common / (areas[:, None] + predicted_areas - common)


def object_f1(truth: np.ndarray, predicted: np.ndarray, iou: float = 0.5) -> float:
    """F1 = 2 · matches / (true objects + predicted objects) of two label images (H, W).

    Two objects match where their IoU is above ``iou``. From 0.5 on, no object can match two others. Raises ValueError
    for a lower ``iou``.
    """
    if iou < 0.5:
        raise ValueError(f"iou = {iou}: below 0.5 an object may match two; use 0.5 or more.")
    table = overlaps(truth, predicted)
    return ratio(2 * np.count_nonzero(table > iou), sum(table.shape))


def aggregated_jaccard(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Aggregated Jaccard index of two label images (H, W), Kumar et al. 2017, doi 10.1109/TMI.2017.2677499.

    Σᵢ |Tᵢ ∩ P₍ᵢ₎| / (Σᵢ |Tᵢ ∪ P₍ᵢ₎| + Σ |unused P|), where P₍ᵢ₎ is the predicted object with the largest IoU with Tᵢ,
    empty where none touches it. As in the paper, a predicted object may serve several true ones.
    """
    common, areas, predicted_areas = shared_pixels(truth, predicted)
    if not common.size:
        return ratio(0, int(areas.sum() + predicted_areas.sum()))
    best = np.argmax(common / (areas[:, None] + predicted_areas - common), axis=1)
    intersection = common[np.arange(len(areas)), best]
    touched = intersection > 0
    union = areas + np.where(touched, predicted_areas[best], 0) - intersection
    unused = np.delete(predicted_areas, np.unique(best[touched]))
    return ratio(intersection.sum(), union.sum() + unused.sum())


def count_error(truth: np.ndarray, predicted: np.ndarray) -> int:
    """Number of predicted objects minus number of true ones; negative where objects were missed or merged."""
    return count(predicted) - count(truth)


def count(labels: np.ndarray) -> int:
    """Number of objects of a label image (H, W)."""
    return int(np.count_nonzero(np.unique(labels)))


def shared_pixels(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that each true object shares with each predicted one, (T, P), and their areas, (T,) and (P,); int."""
    table = contingency_table(truth.astype(np.intp), predicted.astype(np.intp), sparse_type="array").astype(np.intp)
    areas, predicted_areas = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    common = table[1:][areas > 0][:, 1:][:, predicted_areas > 0]
    return common.toarray(), areas[areas > 0], predicted_areas[predicted_areas > 0]


def ratio(part: float | np.integer, whole: float | np.integer) -> float:
    """part / whole, and 1 for 0 / 0: two empty masks agree."""
    return float(part / whole) if whole else 1.0
