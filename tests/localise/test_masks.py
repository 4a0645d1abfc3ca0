"""Thresholds, foreground and cells, against drawn fields whose cells are known and against scipy."""

import numpy as np
import pytest
from scipy import ndimage

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.localise import masks
from milcnn.screens.sets.simulated import SimulatedSettings, simulated_screen


@pytest.fixture(scope="module")
def drawn():
    """Six simulated fields, uint16 (6, 3, 192, 192), and their true cells."""
    screen = simulated_screen(SimulatedSettings(size=192, plates={"train": 1, "validation": 1, "test": 1}, sites=1))
    rows = [screen.fields.iloc[index] for index in range(0, 84, 15)]
    return np.stack([screen.read(row) for row in rows]), np.stack([screen.truth(row) for row in rows])


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("low", [1.0, 0.25, 1e-30])
def test_otsu_parts_neighbouring_numbers(low):
    """A saturated map holds hardly more than two."""
    high = np.nextafter(np.float32(low), np.float32(2))
    mask = masks.otsu_mask(np.array([[low, high], [high, low]], np.float32))
    np.testing.assert_array_equal(mask, [[False, True], [True, False]])


def test_as_probability_is_one_half_at_the_threshold():
    maps = np.array([[[0.0, 2.0, 6.0]], [[0.0, 2.0, 6.0]]])
    found = masks.as_probability(maps, np.array([2.0, masks.EMPTY]))
    np.testing.assert_allclose(found, [[[0, 0.5, 0.75]], [[0, 0, 0]]])


def test_foreground_of_drawn_fields(drawn):
    fields, truth = drawn
    found = masks.cell_foreground(fields)
    assert np.mean([iou(t > 0, m) for t, m in zip(truth, found, strict=True)]) > 0.9


def test_gain_and_offset_of_the_camera_do_not_matter(drawn):
    fields = drawn[0].astype(np.float32)
    changed = fields * np.array([4.0, 0.5, 2.0], np.float32)[:, None, None] + 32
    assert (masks.cell_foreground(changed) == masks.cell_foreground(fields)).mean() > 0.999


def blank_fields():
    rng = np.random.default_rng(0)
    light = np.exp(-0.3 * (np.linspace(-1, 1, 128)[:, None] - 0.3) ** 2) * np.ones(128)
    yield "constant", np.full((2, 128, 128), 9)
    yield "black", np.zeros((2, 128, 128), np.uint8)
    yield "noise", rng.normal(200, 10, (2, 128, 128))
    yield "shot noise", rng.exponential(10, (1, 128, 128))
    yield "few photons", rng.poisson(0.1, (1, 128, 128)).astype(np.uint16)
    yield "more photons", rng.poisson(0.3, (1, 128, 128)).astype(np.uint16)
    yield "clipped noise", rng.normal(0, 10, (1, 128, 128)).clip(0)
    yield "very few photons", rng.poisson(0.02, (1, 128, 128)).astype(np.uint16)
    yield "uneven light", rng.poisson(400 * light, (3, 128, 128)).astype(np.uint16)


def test_a_crowded_field_is_not_blank():
    """Dim rims of cells that crowd spread the dark pixels, but upwards alone."""
    settings = SimulatedSettings(size=192, cells=60, plates={"train": 1, "validation": 1, "test": 1}, sites=1)
    screen = simulated_screen(settings)
    for index in (7, 28):
        row = screen.fields.iloc[index]
        truth = screen.truth(row) > 0
        assert truth.mean() > 0.6
        assert iou(truth, masks.cell_foreground(screen.read(row)[None])[0]) > 0.5


@pytest.mark.parametrize("blank", [pytest.param(field, id=name) for name, field in blank_fields()])
def test_a_blank_field_has_no_foreground_and_no_cell(blank):
    assert not masks.cell_foreground(blank[None]).any()
    for threshold in ("otsu", "local"):
        nuclei, cells = segment(blank, ["DNA", "Actin", "Tubulin"][: len(blank)], SegmentSettings(threshold=threshold))
        assert not nuclei.any()
        assert not cells.any()


def test_cell_means_are_those_of_scipy():
    rng = np.random.default_rng(0)
    cells = rng.choice([0, 1, 2, 5], (20, 30)).astype(np.uint16)
    maps = rng.random((3, 20, 30))
    expected = np.stack([ndimage.mean(one, cells, [1, 2, 5]) for one in maps], axis=1)
    np.testing.assert_allclose(masks.cell_means(cells, maps), expected)
    assert masks.cell_means(np.zeros((4, 4), int), np.ones((3, 4, 4))).shape == (0, 3)


def test_labelled_cells_keep_their_numbers():
    cells = np.array([[1, 1, 0, 2], [4, 4, 0, 2]])
    class_map = np.array([[0.9, 0.5, 1.0, 0.2], [0.4, 0.9, 1.0, 0.3]])
    assert masks.labelled_cells(cells, class_map, 0.66).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert masks.labelled_cells(cells, class_map, 0.5).tolist() == [[1, 1, 0, 0], [4, 4, 0, 0]]
    assert not masks.labelled_cells(cells, class_map, masks.EMPTY).any()
