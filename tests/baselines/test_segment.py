"""Segmentation: drawn fields whose objects are known, blank ones, and 271 images of nuclei with labels."""

import os
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from milcnn.baselines import foreground, segment
from milcnn.baselines.segment import SegmentSettings
from milcnn.localise import agreement
from milcnn.paths import ROOT
from milcnn.screens.images import read_plane
from milcnn.screens.sets.simulated import SimulatedSettings, simulated_screen

CHANNELS = ["DNA", "Actin"]
MIDDLES = [(30, 30), (30, 48), (75, 80)]  # the first two nuclei touch: 18 px apart, 20 px wide
MASKS = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared/data/mirror").parent / "masks" / "dsb2018"


def discs(middles: list[tuple[int, int]], radius: float, side: int = 110) -> np.ndarray:
    """Each disc by its number, (side, side); of two that overlap the nearer middle."""
    y, x = np.indices((side, side))
    distance = np.stack([np.hypot(y - a, x - b) for a, b in middles])
    return np.where(distance.min(0) <= radius, distance.argmin(0) + 1, 0)


def drawn(middles=MIDDLES, noise: float = 10.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A field (2, H, W) uint16, and its true nuclei and cells."""
    nuclei, cells = discs(middles, 10), discs(middles, 18)
    light = np.stack([600.0 * (nuclei > 0), 300.0 * (cells > 0)])
    light = gaussian_filter(light, (0, 1, 1)) + np.random.default_rng(0).normal(200, noise, light.shape)
    return light.round().astype(np.uint16), nuclei, cells


@pytest.fixture
def no_network():
    segment.pretrained.cache_clear()
    yield
    segment.pretrained.cache_clear()


def test_drawn_cells_are_found_and_numbered_as_their_nuclei():
    field, nuclei, cells = drawn()
    found_nuclei, found_cells = segment.segment(field, CHANNELS, SegmentSettings())
    assert found_nuclei.dtype == found_cells.dtype == np.uint16
    assert np.unique(found_nuclei).tolist() == np.unique(found_cells).tolist() == [0, 1, 2, 3]
    assert (found_cells[found_nuclei > 0] == found_nuclei[found_nuclei > 0]).all()
    for truth, found in ((nuclei, found_nuclei), (cells, found_cells)):
        table = agreement.overlaps(truth, found)
        assert (table.max(axis=1) > 0.85).all()


def test_gain_and_offset_do_not_matter():
    field = drawn()[0]
    for found, expected in zip(
        segment.segment(3 * field + 500, CHANNELS, SegmentSettings()),
        segment.segment(field, CHANNELS, SegmentSettings()),
        strict=True,
    ):
        # a threshold is the middle of a bin of a histogram: a pixel or two may change sides
        assert np.count_nonzero(found != expected) <= 3


def test_channels_go_by_name():
    field = drawn()[0]
    settings = SegmentSettings(nucleus="DNA", cytoplasm=["Actin"])
    swapped = segment.segment(field[::-1], CHANNELS[::-1], settings)
    for found, expected in zip(swapped, segment.segment(field, CHANNELS, settings), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"no channel 'DAPI'; the study has DNA, Actin\.$"):
        segment.segment(field, CHANNELS, SegmentSettings(nucleus="DAPI"))


def test_a_study_of_one_channel_has_cells_that_are_its_nuclei():
    nuclei, cells = segment.segment(drawn()[0][:1], ["DNA"], SegmentSettings())
    assert nuclei.max() == 3
    np.testing.assert_array_equal(nuclei, cells)


@pytest.mark.parametrize("threshold", ["otsu", "local"])
def test_a_blank_field_has_no_object(threshold):
    rng = np.random.default_rng(1)
    noise = rng.normal(200, 10, (128, 128))
    slope = noise + np.linspace(0, 100, 128)
    for image in (np.zeros((128, 128)), np.full((128, 128), 7), noise, slope, rng.poisson(2, (128, 128))):
        found = segment.segment(
            np.stack([image, noise]).astype(np.uint16), CHANNELS, SegmentSettings(threshold=threshold)
        )
        assert not np.any(found)


def noisy(kind: str, rng: np.random.Generator, side: int = 192) -> np.ndarray:
    """A field without a cell, (side, side) uint16."""
    y, x = np.mgrid[-0.5 : 0.5 : side * 1j, -0.5 : 0.5 : side * 1j]
    light = {
        "camera": rng.normal(1000, 30, (side, side)),
        "8 bit": rng.normal(20, 0.5, (side, side)),
        "few photons": rng.poisson(0.02, (side, side)),
        "photons": rng.poisson(5, (side, side)),
        "vignette": rng.poisson(300 * (1 - 1.3 * (x**2 + y**2))),
        "slope": rng.poisson(100 + 80 * x),
        "constant": np.full((side, side), 4095),
    }[kind]
    return light.round().astype(np.uint16)


@pytest.mark.parametrize("kind", ["camera", "8 bit", "few photons", "photons", "vignette", "slope", "constant"])
def test_noise_and_uneven_light_are_blank_and_a_faint_cell_is_not(kind):
    rng = np.random.default_rng(3)
    empty = [noisy(kind, rng) for _ in range(10)]
    assert not any(foreground.has_signal(image) for image in empty)
    if kind in {"camera", "photons", "vignette"}:  # there a cell is brighter by five standard deviations
        cells = gaussian_filter(1.0 * (discs([(40, 50), (90, 100), (140, 60)], 12, 192) > 0), 2)
        faint = [image + (5 * image.std() * cells).round().astype(np.uint16) for image in empty]
        assert all(foreground.has_signal(image) for image in faint)


def confluent(rng: np.random.Generator, side: int = 192, apart: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A field full of cells without a background, each with a brighter middle, (side, side) uint8; and its cells."""
    middles = [(y + 24 + rng.integers(-4, 5), x + 24 + rng.integers(-4, 5)) for y in range(0, side, apart)
               for x in range(0, side, apart)]  # fmt: skip
    cells = discs(middles, side, side)
    y, x = np.indices((side, side))
    near = np.stack([np.hypot(y - a, x - b) for a, b in middles]).min(0)
    light = rng.uniform(50, 110, len(middles))[cells - 1] * (0.8 + 0.4 * np.exp(-((near / 12) ** 2)))
    return rng.poisson(light).clip(0, 255).astype(np.uint8), cells


def test_a_field_full_of_cells_has_cells_everywhere():
    image, truth = confluent(np.random.default_rng(4))
    found = segment.segment(image[None], ["GFP"], SegmentSettings())[1]
    assert foreground.has_signal(image)
    assert (found > 0).mean() > 0.95
    assert agreement.object_f1(truth, found) > 0.7


def test_fields_full_of_cells_are_not_blank():
    """BBBC016: 72 fields of confluent cells; GFP in the cytoplasm, and no background is dark."""
    folder = MASKS.parents[1] / "mirror" / "bbbc016"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    path = folder / "BBBC016_v1_images.zip"
    names = sorted(zipfile.ZipFile(path).namelist())
    images = [read_plane(f"{path}/{name}") for name in names[::6]]
    assert all(foreground.has_signal(image) for image in images)
    counts = [segment.segment(image[None], ["GFP"], SegmentSettings())[1].max() for image in images]
    assert min(counts) >= 20


def test_a_note_says_that_most_fields_have_no_cell():
    assert segment.few_cells(2, 4, "mine") == ""
    assert segment.few_cells(3, 4, "mine").startswith("Note: 3 of 4 fields are blank or have no cell;")


def test_cytoplasm_that_is_blank_leaves_the_nuclei_as_cells():
    field = drawn()[0]
    field[1] = 200
    nuclei, cells = segment.segment(field, CHANNELS, SegmentSettings())
    np.testing.assert_array_equal(nuclei, cells)


def test_holes_are_filled_and_debris_is_left_out():
    field, nuclei, _ = drawn()
    field[0][discs([(75, 80)], 4) > 0] = 200
    field[0, 100:103, 5:8] = 800
    found, _ = segment.segment(field, CHANNELS, SegmentSettings())
    assert found.max() == 3
    assert agreement.iou(nuclei, found) > 0.9


def test_seeds_that_are_close_are_one():
    field = drawn()[0]
    assert segment.segment(field, CHANNELS, SegmentSettings(seed_distance=20))[0].max() == 2


def test_a_local_threshold_finds_the_dim_nucleus_beside_bright_ones():
    image = 200 + 4000.0 * (discs([(30, 30), (30, 70)], 10) > 0) + 1200.0 * (discs([(85, 50)], 10) > 0)
    field = gaussian_filter(image, 1)[None].astype(np.uint16)
    counts = {
        threshold: segment.segment(field, ["DNA"], SegmentSettings(threshold=threshold))[0].max()
        for threshold in ("otsu", "local")
    }
    assert counts == {"otsu": 2, "local": 3}


def test_cells_of_a_simulated_field():
    screen = simulated_screen(SimulatedSettings(plates={"train": 1, "validation": 1, "test": 1}, sites=1, doses=[1, 3]))
    rows = screen.fields.iloc[::12]
    settings = SegmentSettings(seed_distance=10)
    scores = [
        agreement.object_f1(screen.truth(row), segment.segment(screen.read(row), screen.channels, settings)[1])
        for _, row in rows.iterrows()
    ]
    assert np.mean(scores) > 0.9


def test_images_of_nuclei():
    """BBBC038; the settings were chosen on the images of even number, these are the odd ones."""
    if not MASKS.exists():
        pytest.skip(f"{MASKS} is absent")
    names = pd.read_csv(MASKS / "index.csv")["name"].iloc[1::2]
    settings = SegmentSettings(threshold="local")
    scores = []
    for name in names:
        image, truth = (imread(MASKS / kind / f"{name}.png") for kind in ("images", "labels"))
        scores.append(agreement.object_f1(truth, segment.segment(image[None], ["DNA"], settings)[0]))
    assert np.mean(scores) > 0.83


def stub(monkeypatch, name: str, **content) -> None:
    module = ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def labelled(image: np.ndarray) -> np.ndarray:
    """A nucleus with number 7 and a speck with number 2, whatever the image."""
    labels = np.zeros(image.shape, np.int32)
    labels[20:40, 20:40], labels[0, 0] = 7, 2
    return labels


def test_cellpose_is_called_as_it_is_and_cells_grow_from_its_nuclei(monkeypatch, no_network):
    class CellposeModel:
        def __init__(self, gpu):
            assert gpu == torch.cuda.is_available()

        def eval(self, x):
            assert x.ndim == 2
            assert x.dtype == np.float32
            return labelled(x), [], []

    stub(monkeypatch, "cellpose")
    stub(monkeypatch, "cellpose.models", CellposeModel=CellposeModel)
    nuclei, cells = segment.segment(drawn()[0], CHANNELS, SegmentSettings(method="cellpose"))
    np.testing.assert_array_equal(nuclei, labelled(nuclei) == 7)
    assert np.unique(cells).tolist() == [0, 1]
    assert cells.sum() > nuclei.sum()


def test_instanseg_is_told_the_pixel_size(monkeypatch, no_network):
    class InstanSeg:
        def __init__(self, model_type, verbosity):
            assert model_type == "fluorescence_nuclei_and_cells"

        def eval_small_image(self, image, pixel_size, return_image_tensor, target):
            assert (pixel_size, return_image_tensor, target) == (0.65, False, "nuclei")
            return torch.from_numpy(labelled(image)).float()[None, None]

    stub(monkeypatch, "instanseg", InstanSeg=InstanSeg)
    nuclei, _ = segment.segment(drawn()[0], CHANNELS, SegmentSettings(method="instanseg"), pixel_size=0.65)
    np.testing.assert_array_equal(nuclei, labelled(nuclei) == 7)


@pytest.mark.parametrize(("method", "package"), [("cellpose", "cellpose"), ("instanseg", "instanseg-torch")])
def test_a_package_that_is_absent_is_named(method, package, monkeypatch, no_network):
    monkeypatch.setitem(sys.modules, method, None)
    with pytest.raises(ImportError, match=rf"^method '{method}' needs the package {package}; run 'pip install"):
        segment.segment(drawn()[0], CHANNELS, SegmentSettings(method=method))


def test_weights_that_cannot_be_had_are_told_in_a_sentence(monkeypatch, no_network):
    def offline(gpu):
        raise URLError("no route to host")

    stub(monkeypatch, "cellpose")
    stub(monkeypatch, "cellpose.models", CellposeModel=offline)
    with pytest.raises(OSError, match=r"^method 'cellpose': its weights are not here .*no route to host"):
        segment.segment(drawn()[0], CHANNELS, SegmentSettings(method="cellpose"))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_holes_and_distances_are_scipys(share):
    mask = np.random.default_rng(2).random((60, 70)) < share
    np.testing.assert_array_equal(segment.without_holes(mask), ndimage.binary_fill_holes(mask))
    if mask.any():
        np.testing.assert_array_equal(segment.distance_to(mask), ndimage.distance_transform_edt(~mask))
    else:
        assert np.isinf(segment.distance_to(mask)).all()


def test_a_nucleus_that_fills_the_field_is_one_object():
    frame = np.full((40, 40), 900, np.uint16)
    frame[5:-5, 5:-5] = np.random.default_rng(0).normal(100, 5, (30, 30))
    nuclei = segment.find_nuclei(frame, SegmentSettings(), foreground.foreground(frame)[1])
    assert nuclei.min() == nuclei.max() == 1
