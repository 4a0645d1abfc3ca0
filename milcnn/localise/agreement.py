"""Do two masks of one field agree: as areas, object by object, and in number.

Masks are (H, W): boolean for the areas; for objects integer labels, 0 for background. What is empty
in both agrees fully and scores 1; what is empty in one of them only scores 0.
"""

import numpy as np
from skimage.metrics import contingency_table


def iou(truth: np.ndarray, found: np.ndarray) -> float:
    """Intersection over union |T ∩ F| / |T ∪ F| of two masks (H, W), bool or labels (not 0 is inside)."""
    inside_truth, inside_found = truth != 0, found != 0
    return ratio(np.count_nonzero(inside_truth & inside_found), np.count_nonzero(inside_truth | inside_found))


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Dice coefficient 2 |T ∩ F| / (|T| + |F|) of two masks (H, W), bool or labels (not 0 is inside)."""
    common = np.count_nonzero((truth != 0) & (found != 0))
    return ratio(2 * common, np.count_nonzero(truth) + np.count_nonzero(found))


def overlaps(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """IoU of every true object with every found one, (true objects, found objects) float64.

    Rows and columns are in the order of the labels that occur in ``truth`` and ``found`` (H, W).
    """
    common, areas, found_areas = shared_pixels(truth, found)
    return common / (areas[:, None] + found_areas - common)


def object_f1(truth: np.ndarray, found: np.ndarray, iou: float = 0.5) -> float:
    """F1 = 2 · matches / (true objects + found objects) of two label images (H, W).

    Two objects match where their IoU is above ``iou``, strictly: from 0.5 on no object can
    match two others, so that no assignment has to be chosen. Raises ValueError for an ``iou`` below.
    """
    if iou < 0.5:
        raise ValueError(f"iou = {iou}: below 0.5 an object may match two; use 0.5 or more.")
    table = overlaps(truth, found)
    return ratio(2 * np.count_nonzero(table > iou), sum(table.shape))


def aggregated_jaccard(truth: np.ndarray, found: np.ndarray) -> float:
    """Aggregated Jaccard index of two label images (H, W), Kumar et al. 2017, doi 10.1109/TMI.2017.2677499.

    Σᵢ |Tᵢ ∩ F₍ᵢ₎| / (Σᵢ |Tᵢ ∪ F₍ᵢ₎| + Σ |unused F|), where F₍ᵢ₎ is the found object of the largest
    IoU with Tᵢ, empty where none touches it. As in the paper, a found object may serve several true ones.
    """
    common, areas, found_areas = shared_pixels(truth, found)
    if not common.size:
        return ratio(0, int(areas.sum() + found_areas.sum()))
    best = np.argmax(common / (areas[:, None] + found_areas - common), axis=1)
    intersection = common[np.arange(len(areas)), best]
    touched = intersection > 0
    union = areas + np.where(touched, found_areas[best], 0) - intersection
    unused = np.delete(found_areas, np.unique(best[touched]))
    return ratio(intersection.sum(), union.sum() + unused.sum())


def count_error(truth: np.ndarray, found: np.ndarray) -> int:
    """Number of found objects minus number of true ones; negative where objects were missed or merged."""
    return count(found) - count(truth)


def count(labels: np.ndarray) -> int:
    """Number of objects of a label image (H, W)."""
    return int(np.count_nonzero(np.unique(labels)))


def shared_pixels(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that each true object shares with each found one, (T, F), and their areas, (T,) and (F,); int."""
    table = contingency_table(truth.astype(np.intp), found.astype(np.intp), sparse_type="array").astype(np.intp)
    areas, found_areas = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    common = table[1:][areas > 0][:, 1:][:, found_areas > 0]
    return common.toarray(), areas[areas > 0], found_areas[found_areas > 0]


def ratio(part: float, whole: float) -> float:
    """part / whole, and 1 for 0 / 0: two empty masks agree."""
    return float(part / whole) if whole else 1.0
