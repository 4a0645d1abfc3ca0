"""The tuned segmentation: chosen on training fields, by the profiles of its cells."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.baselines import tune as tuning
from milcnn.baselines.segment import SegmentSettings
from milcnn.baselines.tune import PENALTY, TuneSettings, groups_of_fields, left_out_losses, sampled, tune
from milcnn.prepare.prepared import Prepared

BUDGET = TuneSettings(tried=3, fields=16)
BLIND = SegmentSettings(min_area=3000)  # no object is as large


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Discs on a noisy ground, large or small by the label. The arrays have no pixels of the test fields."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "plates").mkdir()
    random, (y, x) = np.random.default_rng(0), np.mgrid[:64, :64]
    pixels = []
    for number in range(24):
        discs = [(y - a) ** 2 + (x - b) ** 2 < (5 + 3 * (number % 2)) ** 2 for a in (16, 48) for b in (16, 48)]
        pixels.append(random.normal(100, 5, (1, 64, 64)) + 200 * np.any(discs, axis=0))
    np.save(folder / "plates" / "P.npy", np.array(pixels).clip(0).astype(np.uint16))
    fields = pd.DataFrame({"Metadata_Well": [f"A{number:02d}" for number in range(36)], "index": range(36)})
    fields = fields.assign(Metadata_Plate="P", Metadata_Site=1, Metadata_Label=["small", "large"] * 18)
    fields["Metadata_Split"] = ["train"] * 24 + ["test"] * 12
    return Prepared(folder, "discs", ["DNA"], ["large", "small"], [0.0], [1.0], None).with_fields(fields)


def test_settings_that_find_the_cells_replace_those_that_find_none(prepared):
    chosen, tried = tune(prepared, BLIND, BUDGET)
    assert chosen.min_area < 3000
    assert tried["loss"][0] > np.log(2)  # the start knows nothing, and two labels are as frequent
    assert tried["loss"].min() < 0.2
    assert tried["cells"].tolist()[0] == 0
    assert tried["cells"][tried["chosen"]].item() == 4
    assert (len(tried), tried["fields"][0]) == (3, 16)


@pytest.mark.parametrize(("noise", "changes"), [(0.0, True), (2.0, False)])
def test_the_start_stays_unless_another_is_better_by_more_than_a_standard_error(prepared, monkeypatch, noise, changes):
    """The gain over 16 fields is 0.2 on average; its standard error is 0.05, and 0.5 with noise."""
    start, signs = SegmentSettings(), np.tile([1.0, -1.0], 8)

    def made(_prepared, _white, _rows, _budget, settings):
        return (np.full(16, 2.0) if settings == start else 1.8 + (0.2 + noise) * signs), 1.0

    monkeypatch.setattr(tuning, "cross_validated", made)
    chosen, tried = tune(prepared, start, BUDGET)
    assert tried["loss"].tolist() == pytest.approx([2.0, 1.8, 1.8])
    assert (chosen != start) == changes
    assert tried["chosen"].to_numpy().nonzero()[0].tolist() == [int(changes)]


def test_nothing_is_tuned_without_two_fields_of_two_labels(prepared):
    one_each = prepared.with_fields(prepared.fields.iloc[[0, 1, 2, 30]])
    chosen, tried = tune(one_each, BLIND, BUDGET)
    assert chosen == BLIND
    assert len(tried) == 1
    assert len(tune(prepared, BLIND, TuneSettings(tried=1, fields=16))[1]) == 1


def test_losses_are_those_of_scikit_learn_and_capped():
    random = np.random.default_rng(0)
    targets = np.arange(60) % 3
    profiles = random.normal(0, 1, (60, 4)) + targets[:, None]
    folds = KFold(5)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
    y = cross_val_predict(model, profiles, targets, cv=folds, method="predict_proba")
    expected = -np.log(y[np.arange(60), targets])
    np.testing.assert_allclose(left_out_losses(profiles, targets, list(folds.split(profiles))), expected)
    some = np.where(np.arange(60) % 4 == 1, -1, targets)  # unknown
    kept = np.flatnonzero(some >= 0)
    parts = [tuple(np.flatnonzero(np.isin(kept, side)) for side in fold) for fold in folds.split(profiles)]
    expected = np.zeros(60)
    expected[kept] = left_out_losses(profiles[kept], targets[kept], parts)
    np.testing.assert_allclose(left_out_losses(profiles, some, list(folds.split(profiles))), expected)
    unseen = left_out_losses(profiles, targets, [(np.arange(60)[targets < 2], np.arange(60)[targets == 2])])
    np.testing.assert_allclose(unseen, np.log(1000))


def test_several_labels_count_each_against_the_rest(prepared, monkeypatch):
    labels = ["a", "a|b", "b", ""] * 6
    rows = prepared.of("train").assign(Metadata_Label=labels)
    both = Prepared(prepared.folder, "several", ["DNA"], ["a", "b"], [0.0], [1.0], None, multilabel=True)
    random = np.random.default_rng(0)
    profiles = random.normal(0, 1, (24, 3))
    monkeypatch.setattr(tuning, "quick_profiles", lambda *_: (profiles, 1.0))
    folds = [(np.arange(24) % 3 != part, np.arange(24) % 3 == part) for part in range(3)]
    monkeypatch.setattr(tuning.StratifiedGroupKFold, "split", lambda *_: [tuple(map(np.flatnonzero, f)) for f in folds])
    losses, _ = tuning.cross_validated(both, np.ones(1), rows, BUDGET, BLIND)
    each = []
    for name in "ab":
        has = np.array([name in label for label in labels]).astype(int)
        for seen, other in folds:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY)).fit(profiles[seen], has[seen])
            p = model.predict_proba(profiles[other])[:, 1]
            each.append(np.where(has[other], -np.log(p), -np.log(1 - p)).sum())
    assert losses.sum() == pytest.approx(sum(each) / 2, rel=1e-3)


def test_a_group_is_the_coarsest_unit_that_no_label_has_alone(prepared):
    rows = prepared.of("train")  # one plate, each well has one label, each label has twelve wells
    assert len(set(groups_of_fields(rows))) == 24
    plates = rows.assign(Metadata_Plate=np.arange(24) // 8)
    assert groups_of_fields(plates).tolist() == (np.arange(24) // 8).tolist()
    compounds = plates.assign(Metadata_Compound=plates["Metadata_Label"])  # one compound a label: no group
    assert groups_of_fields(compounds).tolist() == (np.arange(24) // 8).tolist()
    wells = rows.assign(Metadata_Well=rows["Metadata_Label"])  # nothing but the field itself
    assert len(set(groups_of_fields(wells))) == 24


def test_the_sample_has_the_labels_in_turn(prepared):
    rows = prepared.of("train")
    few = pd.concat([rows[rows["Metadata_Label"] == "large"].tail(2), rows[rows["Metadata_Label"] == "small"]])
    chosen = sampled(few, TuneSettings(fields=6))
    assert chosen["Metadata_Label"].value_counts().to_dict() == {"small": 4, "large": 2}
    assert sampled(rows, TuneSettings(fields=6, seed=1))["Metadata_Well"].tolist() != chosen["Metadata_Well"].tolist()
