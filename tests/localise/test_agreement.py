"""Agreement of masks, against images counted by hand and against loops over objects."""

import numpy as np
import pytest

from milcnn.localise import agreement

TRUTH = np.array(
    [
        [1, 1, 0, 0, 5, 5],
        [1, 1, 0, 0, 5, 5],
        [0, 0, 0, 0, 5, 5],
        [2, 2, 0, 0, 0, 0],
    ]
)
FOUND = np.array(
    [
        [7, 7, 7, 0, 3, 3],
        [7, 7, 7, 0, 3, 3],
        [0, 0, 0, 0, 4, 4],
        [0, 0, 0, 9, 0, 0],
    ]
)
EMPTY = np.zeros_like(TRUTH)


def random_labels(seed: int) -> np.ndarray:
    """Blocks of 4 × 4 px with labels that skip numbers, some of them background."""
    labels = np.random.default_rng(seed).choice([0, 0, 2, 3, 8, 40, 41], (6, 7))
    return np.kron(labels, np.ones((4, 4), int))


def brute_iou(a: np.ndarray, b: np.ndarray) -> float:
    return len({*np.flatnonzero(a)} & {*np.flatnonzero(b)}) / len({*np.flatnonzero(a)} | {*np.flatnonzero(b)})


def brute_aji(truth: np.ndarray, found: np.ndarray) -> float:
    """The algorithm of the paper, line by line."""
    common = union = 0
    used = set()
    for i in np.unique(truth[truth > 0]):
        best = max(np.unique(found[found > 0]), key=lambda j: brute_iou(truth == i, found == j))
        if brute_iou(truth == i, found == best) == 0:
            union += (truth == i).sum()
            continue
        common += ((truth == i) & (found == best)).sum()
        union += ((truth == i) | (found == best)).sum()
        used.add(best)
    return common / (union + sum((found == j).sum() for j in np.unique(found[found > 0]) if j not in used))


def test_areas_by_hand():
    # 4 + 6 + 2 true pixels, 6 + 4 + 2 + 1 found, 10 common
    assert agreement.iou(TRUTH > 0, FOUND > 0) == pytest.approx(10 / 15)
    assert agreement.dice(TRUTH > 0, FOUND > 0) == pytest.approx(20 / 25)


def test_overlaps_by_hand_in_the_order_of_the_labels():
    # rows 1, 2, 5; columns 3, 4, 7, 9
    expected = [[0, 0, 4 / 6, 0], [0, 0, 0, 0], [4 / 6, 2 / 6, 0, 0]]
    np.testing.assert_allclose(agreement.overlaps(TRUTH, FOUND), expected)


def test_object_scores_by_hand():
    assert agreement.object_f1(TRUTH, FOUND) == pytest.approx(2 * 2 / (3 + 4))
    assert agreement.object_f1(TRUTH, FOUND, iou=0.7) == 0
    # pairs 1–7 (4 of 6 px) and 5–3 (4 of 6); 2 px missed; 4 and 9 unused, 2 + 1 px
    assert agreement.aggregated_jaccard(TRUTH, FOUND) == pytest.approx(8 / (6 + 6 + 2 + 3))
    assert agreement.count_error(TRUTH, FOUND) == 1
    assert agreement.count_error(FOUND, TRUTH) == -1


def test_an_overlap_of_half_is_no_match():
    truth, found = np.array([[1, 1, 0]]), np.array([[1, 0, 0]])
    assert agreement.overlaps(truth, found) == 0.5
    assert agreement.object_f1(truth, found) == 0


def test_below_half_is_refused():
    with pytest.raises(ValueError, match=r"iou = 0\.4: below"):
        agreement.object_f1(TRUTH, FOUND, iou=0.4)


@pytest.mark.parametrize("seed", range(5))
def test_against_loops(seed):
    truth, found = random_labels(seed), np.roll(random_labels(seed + seed % 2), 1, axis=0)
    expected = [[brute_iou(truth == i, found == j) for j in np.unique(found)[1:]] for i in np.unique(truth)[1:]]
    np.testing.assert_allclose(agreement.overlaps(truth, found), expected)
    assert agreement.aggregated_jaccard(truth, found) == pytest.approx(brute_aji(truth, found))


def test_names_of_the_labels_do_not_matter_nor_their_dtype():
    renamed = np.array([0, 300, 7, 1, 2, 1000], np.uint16)[TRUTH]
    for score in (agreement.object_f1, agreement.aggregated_jaccard, agreement.iou, agreement.dice):
        assert score(renamed, FOUND.astype(np.uint16)) == score(TRUTH, FOUND)
        assert score(TRUTH, TRUTH) == 1


@pytest.mark.parametrize("name", ["iou", "dice", "object_f1", "aggregated_jaccard"])
def test_both_empty_agree_and_one_empty_does_not(name):
    score = getattr(agreement, name)
    assert score(EMPTY, EMPTY) == 1
    assert score(TRUTH, EMPTY) == 0
    assert score(EMPTY, FOUND) == 0


def test_counts_of_empty_masks():
    assert agreement.count_error(EMPTY, EMPTY) == 0
    assert agreement.count_error(EMPTY, FOUND) == 4
