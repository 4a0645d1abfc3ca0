"""Cells that carry the label, by a network; class maps of many fields."""

import numpy as np
import pytest

from milcnn.baselines.segment import SegmentSettings
from milcnn.localise.found import FINDERS, class_maps_of, evident_cells, maps_of, segment_fields
from milcnn.localise.maps import class_map, jacobian_map
from milcnn.network import model
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared

SAMPLE = ROOT / "data" / "sample"


@pytest.fixture(scope="module")
def sample():
    ready = load_prepared(SAMPLE / "prepared")
    network = model.load_model(SAMPLE / "models" / "noisy_and-0" / "model.safetensors")
    return ready, network, segment_fields(ready, ready.of("test"), SegmentSettings(sigma=2, seed_distance=9))


def test_parts_of_cells_are_ranked_by_the_jacobian_map_itself(sample):
    _, network, test = sample
    maps = maps_of(jacobian_map, network, test, test.targets)
    for one, found in zip(maps, FINDERS["parts"](network, test), strict=True):
        np.testing.assert_array_equal(found.map, one)
        np.testing.assert_array_equal(found.labelled, evident_cells(one, found.cells))


def test_class_maps_of_many_fields_are_those_of_each_class(sample):
    ready, network, test = sample
    maps = class_maps_of(network, test)
    for index in range(len(ready.classes)):
        expected = maps_of(class_map, network, test, index)
        np.testing.assert_allclose(maps[:, index], expected, atol=1e-6)
