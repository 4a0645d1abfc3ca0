"""Threshold rules: chosen on labels of validation fields alone, scored as their masks are."""

import numpy as np
import pytest

from milcnn.localise import masks, rules
from milcnn.localise.agreement import dice
from milcnn.localise.found import FINDERS, class_maps_of, evident_cells, maps_of, segment_fields
from milcnn.localise.maps import class_map, jacobian_map
from milcnn.localise.masks import CellSettings
from milcnn.localise.rules import score_rules
from milcnn.network import model
from milcnn.network.predict import outputs
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared

SAMPLE = ROOT / "data" / "sample"


@pytest.fixture(scope="module")
def sample():
    ready = load_prepared(SAMPLE / "prepared")
    network = model.load_model(SAMPLE / "models" / "noisy_and-0" / "model.safetensors")
    return ready, network, segment_fields(ready, ready.of("test"), CellSettings(radius=12, smallest=20))


def test_a_threshold_tells_validation_fields_of_the_class_from_the_others_best_of_all(sample):
    """Against every threshold, one by one; test fields may change their labels as they like."""
    ready, network, _ = sample
    rows = ready.of("validation")
    (output,) = outputs(network, ready, rows)
    found = rules.validation_thresholds(network, ready)
    for index, threshold in enumerate(found):
        p, own = output.instances[:, index].flatten(1).numpy(), ready.targets(rows) == index
        told = [(p[own] > t).mean() - (p[~own] > t).mean() for t in [*np.unique(p), threshold]]
        assert told[-1] == pytest.approx(max(told)) if np.isfinite(threshold) else max(told) <= 0
    table = ready.fields.copy()
    test = table["Metadata_Split"] == "test"
    table.loc[test, "Metadata_Label"] = table.loc[test, "Metadata_Label"].to_numpy()[::-1]
    np.testing.assert_array_equal(rules.validation_thresholds(network, ready.with_fields(table)), found)


def test_a_class_that_no_validation_field_carries_or_that_all_do_has_an_empty_mask(sample):
    ready, network, _ = sample
    table = ready.fields.copy()
    table.loc[table["Metadata_Split"] == "validation", "Metadata_Label"] = ready.classes[0]
    assert (rules.validation_thresholds(network, ready.with_fields(table)) == masks.EMPTY).all()


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


def test_scores_are_those_of_the_masks_and_denoising_never_adds_energy(sample):
    ready, network, test = sample
    table = score_rules(network, ready, test)
    assert table["rule"].value_counts().to_dict() == dict.fromkeys(rules.RULES, len(test.rows))
    maps, truth = maps_of(class_map, network, test, test.targets), ready.labelled_mask(test.rows)
    fixed = masks.class_mask(maps, test.pixels, np.full(len(maps), 0.5))
    expected = [dice(*pair) for pair in zip(truth, fixed, strict=True)]
    np.testing.assert_allclose(table.loc[table["rule"] == "fixed", "dice_class"], expected)
    assert (table["energy_after"] <= table["energy_before"]).all()
