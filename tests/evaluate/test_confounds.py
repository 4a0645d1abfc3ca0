"""The checks detect a confound that is present, and none in noise."""

import numpy as np
import pandas as pd
import pytest

from milcnn.evaluate.confounds import probe_rows, shared_groups


def control_fields(shift=0.0, plates=2, wells=10, features=4, of_well=0.0, seed=0):
    """DMSO fields, two a well: noise, a ``shift`` between plates, and a value of size ``of_well`` shared by a well."""
    rng = np.random.default_rng(seed)
    rows = [(f"P{p}", f"W{w:02d}", site) for p in range(plates) for w in range(wells) for site in (1, 2)]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site"])
    plate, well = table.groupby("Metadata_Plate").ngroup(), table.groupby(["Metadata_Plate", "Metadata_Well"]).ngroup()
    values = rng.normal(0, 1, (len(table), features)) + shift * plate.to_numpy()[:, None]
    values += of_well * rng.normal(0, 1, (plates * wells, features))[well]
    table = table.assign(Metadata_Control=True, Metadata_Batch="b" + (plate // 2).astype(str))
    return table.join(pd.DataFrame(values, columns=[f"feature_{k:04d}" for k in range(features)]))


def probed(fields, metric):
    return probe_rows({("max", 0): fields}, "s", "plate").set_index("metric").loc[metric]


def test_a_probe_detects_the_plate_and_correction_removes_it():
    fields = control_fields(shift=5)
    assert probed(fields, "plate_probe")[["value", "n"]].tolist() == [
        1,
        20,
    ]  # the other half of the wells is the reference
    assert probed(fields, "plate_probe_corrected")["value"] < 0.75


def test_a_probe_is_at_chance_without_a_plate_effect():
    values = [probed(control_fields(seed=seed, wells=30), "plate_probe")["value"] for seed in range(8)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.1)


def test_a_probe_does_not_learn_from_the_well_it_predicts():
    # wells are far apart: if one field of a well were in training, the plate of the other would be known
    values = [
        probed(control_fields(of_well=50, seed=seed, wells=20, features=60), "plate_probe")["value"]
        for seed in range(8)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.15)


def test_the_correction_is_not_fitted_on_the_wells_that_are_probed():
    fields = control_fields(shift=5, wells=40)
    order = fields["Metadata_Well"].str[1:].astype(int)
    moved = fields.copy()
    reference = (order % 2 == 0) & (fields["Metadata_Plate"] == "P0")
    moved.loc[reference, "feature_0000"] += 1000
    assert probed(moved, "plate_probe")["value"] == probed(fields, "plate_probe")["value"]
    assert probed(moved, "plate_probe_corrected")["value"] == 1  # a wrong correction reveals the plate


def test_the_corrected_probe_is_at_chance_with_and_without_a_plate_effect():
    for shift, plain in ((0.0, 1 / 6), (3.0, 1.0)):
        runs = {("max", seed): control_fields(shift, plates=6, wells=12, features=128, seed=seed) for seed in range(4)}
        rows = probe_rows(runs, "s", "plate").set_index("metric")["value"]
        assert rows["plate_probe"] == pytest.approx(plain, abs=0.1)
        assert rows["plate_probe_corrected"] == pytest.approx(1 / 6, abs=0.1)


def test_the_batch_probe_needs_two_batches():
    rows = probe_rows({("max", 0): control_fields(shift=5, plates=4)}, "s", "plate")
    assert set(rows["metric"]) == {"plate_probe", "plate_probe_corrected", "batch_probe", "batch_probe_corrected"}
    assert rows["value"].max() == 1
    one = probe_rows({("max", 0): control_fields(plates=2)}, "s", "plate")
    assert set(one["metric"]) == {"plate_probe", "plate_probe_corrected"}


def test_one_plate_or_no_controls_give_no_probe():
    fields = control_fields(plates=1)
    assert probe_rows({("max", 0): fields}, "s", "plate").empty
    assert probe_rows({("max", 0): fields.assign(Metadata_Control=False)}, "s", "plate").empty
    assert probe_rows({}, "s", "plate").empty


def test_a_constant_feature_does_no_harm():
    fields = control_fields(shift=5).assign(feature_0000=3.0)
    assert np.isfinite(probed(fields, "plate_probe_corrected")["value"])


def test_seeds_of_a_probe_are_averaged():
    runs = {("max", seed): control_fields(shift=0.3, seed=seed) for seed in (0, 1)}
    both = probe_rows(runs, "s", "plate").set_index("metric")
    each = [probed(fields, "plate_probe")["value"] for fields in runs.values()]
    assert both.loc["plate_probe", ["value", "seeds"]].tolist() == pytest.approx([np.mean(each), 2])


def split_fields():
    """Wells on three plates: compound S is in training and test, T only in training, DMSO everywhere."""
    rows = [
        ("P1", "A1", "S", "train"),
        ("P1", "A2", "T", "train"),
        ("P2", "A1", "S", "test"),
        ("P3", "A1", "S", "dose"),
    ]
    rows += [("P1", "C1", "DMSO", "train"), ("P2", "C1", "DMSO", "test"), ("P3", "C1", "DMSO", "validation")]
    columns = [f"Metadata_{name}" for name in ("Plate", "Well", "Compound", "Split")]
    table = pd.DataFrame(rows, columns=columns).assign(Metadata_Site=1)
    return table.assign(Metadata_Control=table["Metadata_Compound"] == "DMSO")


def test_shared_groups_are_counted_for_each_kind_of_group():
    table = shared_groups(split_fields(), "plate").set_index("group")
    assert table["shared"].to_dict() == {"field": 0, "well": 0, "plate": 0, "compound": 1}  # S; controls don't count
    assert table["groups"].to_dict() == {"field": 7, "well": 7, "plate": 3, "compound": 2}
    assert table["shared_with_validation"].sum() == 0
    assert table.index[table["kept_apart"]].tolist() == ["field", "plate"]


def test_a_leak_is_counted_under_the_protocol_that_forbids_it():
    leaky = split_fields()
    leaky.loc[4, "Metadata_Split"] = "test"  # a well of a training plate
    table = shared_groups(leaky, "plate").set_index("group")
    assert table.loc["plate", ["kept_apart", "shared"]].tolist() == [True, 1]
    apart = shared_groups(leaky, "compound_batch").set_index("group")["kept_apart"]
    assert apart.index[apart].tolist() == ["field", "well", "compound"]
    batches = shared_groups(leaky.assign(Metadata_Batch="b"), "compound_batch").set_index("group")
    assert batches.loc["batch", ["kept_apart", "shared"]].tolist() == [True, 1]


def test_validation_may_share_plates_with_training_but_not_with_test():
    fields = split_fields()
    fields.loc[6, ["Metadata_Plate", "Metadata_Well"]] = ["P1", "C2"]  # on a training plate
    table = shared_groups(fields, "plate").set_index("group")
    assert table.loc["plate", ["shared", "shared_with_validation"]].tolist() == [0, 1]
    assert not table.loc[table["kept_apart"], "shared"].any()
    fields.loc[6, ["Metadata_Plate", "Metadata_Well"]] = ["P2", "C2"]  # on a test plate
    table = shared_groups(fields, "plate").set_index("group")
    assert table.loc["plate", ["shared", "shared_with_validation"]].tolist() == [1, 0]


def test_groups_shared_with_a_fresh_test_set_are_counted_too():
    rows = [("P1", "A1", "train"), ("P1", "A2", "fresh"), ("P2", "A1", "test")]
    fields = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Split"]).assign(Metadata_Site=1)
    shared = shared_groups(fields, "plate").set_index("group")["shared"]
    assert shared["plate"] == 1
    assert shared["well"] == 0
