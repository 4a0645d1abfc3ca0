"""Nearest neighbours of treatments, against a table worked out by hand and a slow loop."""

import numpy as np
import pandas as pd
import pytest

from milcnn.evaluate.runs import read_profiles
from milcnn.evaluate.treatments import neighbour_rows, nsc, nsc_table, treatment_profiles

# Thirteen treatments with profiles in the plane, given by their angle in degrees; worked out by hand:
HAND = [  # angle, compound, batch, MoA, correct by NSC, correct by NSCB; None: cannot be scored
    (0, "A", 1, "actin", 1, 0),  # nearest B, actin; in another batch C at 25°, tubulin
    (10, "B", 1, "actin", 0.5, 0),  # A (actin) and C at 20° (tubulin) tie; in another batch C at 25°
    (20, "C", 1, "tubulin", 0, 0),  # nearest B, since 25° is the same compound; in another batch K
    (25, "C", 2, "tubulin", 0, 0),  # B and K tie, both actin; both are in another batch
    (150, "D", 1, "kinase", 1, None),  # nearest E; kinase is in batch 1 alone
    (160, "E", 1, "kinase", 1, None),
    (200, "F", 2, "eg5", None, None),  # only F is eg5
    (205, "F", 2, "eg5", None, None),
    (90, "G", 2, "aurora", 1, 1),  # nearest I, in another batch too
    (100, "H", 2, "aurora", 1, 1),
    (95, "I", 1, "aurora", 1, 1),  # G and H tie, both aurora
    (215, "J", 3, "tubulin", 0, 0),  # nearest F, which is not scored itself, in another batch too
    (40, "K", 3, "actin", 0, 0),  # nearest C at 25°
]


@pytest.fixture
def hand():
    table = pd.DataFrame(HAND, columns=["angle", "compound", "batch", "moa", "nsc", "nscb"])
    radians = np.deg2rad(table["angle"])
    length = 1 + np.arange(len(table)) % 3  # the cosine ignores length
    return table.assign(x=length * np.cos(radians), y=length * np.sin(radians))


def test_nsc_and_nscb_are_the_count_by_hand(hand):
    table = nsc_table(hand[["x", "y"]], hand["moa"], hand["compound"])
    assert table["correct"].to_numpy() == pytest.approx(hand["nsc"].to_numpy(float), nan_ok=True)
    assert nsc(hand[["x", "y"]], hand["moa"], hand["compound"]) == (pytest.approx(6.5 / 11), 11)
    table = nsc_table(hand[["x", "y"]], hand["moa"], hand["compound"], hand["batch"])
    assert table["correct"].to_numpy() == pytest.approx(hand["nscb"].to_numpy(float), nan_ok=True)
    assert nsc(hand[["x", "y"]], hand["moa"], hand["compound"], hand["batch"]) == (pytest.approx(3 / 9), 9)
    assert table["predicted"].iloc[[0, 10]].tolist() == ["tubulin", "aurora"]


def test_the_order_of_the_rows_changes_nothing(hand):
    shuffled = hand.sample(frac=1, random_state=3)
    table = nsc_table(shuffled[["x", "y"]], shuffled["moa"], shuffled["compound"])
    assert table["correct"].mean() == pytest.approx(6.5 / 11)
    assert table["correct"].to_numpy() == pytest.approx(shuffled["nsc"].to_numpy(float), nan_ok=True)


@pytest.mark.parametrize("with_batch", [False, True])
def test_nsc_equals_a_slow_loop(with_batch):
    rng = np.random.default_rng(0)
    features = rng.integers(-1, 2, (80, 3)) * rng.uniform(0.1, 9, (80, 1))  # ties but for rounding, some zero vectors
    moa, compound, batch = rng.integers(0, 6, 80), rng.integers(0, 25, 80), rng.integers(0, 3, 80)
    correct = []
    for i in range(80):
        others = [j for j in range(80) if compound[j] != compound[i] and not (with_batch and batch[j] == batch[i])]
        if not any(moa[j] == moa[i] for j in others):
            continue
        lengths = [np.linalg.norm(features[i]) * np.linalg.norm(features[j]) for j in others]
        near = [features[i] @ features[j] / c if c else 0 for j, c in zip(others, lengths, strict=True)]
        tied = [j for j, s in zip(others, near, strict=True) if np.isclose(s, max(near))]
        correct.append(np.mean([moa[j] == moa[i] for j in tied]))
    accuracy, n_scored = nsc(features, moa, compound, batch if with_batch else None)
    assert n_scored == len(correct)
    assert accuracy == pytest.approx(np.mean(correct))


def test_a_zero_profile_has_similarity_0_to_all():
    features = np.array([[0, 0], [1, 0], [-1, 0.0]])
    table = nsc_table(features, ["a", "a", "b"], ["A", "B", "C"])
    # the zero profile ties with both others; to B it is nearer (0) than C is (−1)
    assert table["correct"].iloc[:2].tolist() == [0.5, 1]


def test_no_scored_treatment_gives_nan_and_wrong_input_an_error():
    accuracy, n_scored = nsc(np.eye(2), ["a", "b"], ["A", "B"])
    assert n_scored == 0
    assert np.isnan(accuracy)
    assert nsc(np.zeros((0, 2)), [], [])[1] == 0
    with pytest.raises(ValueError, match=r"features are \(2, 2\), names \[1, 2\]"):
        nsc(np.eye(2), ["a"], ["A", "B"])
    with pytest.raises(ValueError, match="not finite"):
        nsc(np.full((1, 2), np.nan), ["a"], ["A"])


def field_features():
    """Two treatments: one in a well of one field and a well of three, one in a single well."""
    rows = [("p", "A1", 1, "S", 1.0, 0), ("p", "A2", 1, "S", 1.0, 2), ("p", "A2", 2, "S", 1.0, 4)]
    rows += [("p", "A2", 3, "S", 1.0, 12), ("q", "A1", 1, "S", 3.0, 7)]
    columns = [f"Metadata_{name}" for name in ("Plate", "Well", "Site", "Compound", "Concentration")]
    return pd.DataFrame(rows, columns=[*columns, "feature_0000"])


def test_a_treatment_is_the_mean_of_its_wells_not_of_its_fields():
    assert treatment_profiles(field_features())["feature_0000"].tolist() == [3, 7]  # (0 + 6) / 2
    median = treatment_profiles(field_features(), how="median")
    assert median["feature_0000"].tolist() == [2, 7]  # (0 + 4) / 2
    assert median["Metadata_Concentration"].tolist() == [1, 3]


def screen_features(seed=0):
    """Test fields of 8 compounds of two mechanisms, shown by features 1 and 2, and DMSO; 0 is a large nuisance."""
    rng = np.random.default_rng(seed)
    rows = [("p", f"W{well}", site, compound) for well in range(36) for site in (1, 2) for compound in [well % 9]]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site", "compound"])
    control = table.pop("compound").to_numpy() == 8
    compound = np.array([int(well[1:]) % 9 for well in table["Metadata_Well"]])
    moa = np.where(control, "DMSO", np.where(compound % 2 == 0, "even", "odd"))
    features = rng.normal(0, [5, 0.1, 0.1], (len(table), 3))
    features[:, 1] += moa == "even"
    features[:, 2] += moa == "odd"
    names = {"Metadata_Compound": compound.astype(str), "Metadata_Concentration": 1.0, "Metadata_Label": moa}
    table = table.assign(**names, Metadata_Batch="b", Metadata_Control=control, Metadata_Split="test")
    return table.assign(**{f"feature_{k:04d}": features[:, k] for k in range(3)})


def test_sphering_on_controls_removes_a_nuisance():
    profiles = {("max", seed): screen_features(seed) for seed in (0, 1)}
    rows = neighbour_rows(profiles, "s", "plate").set_index("metric")
    assert list(rows.index) == ["nsc", "nsc_sphered"]  # one batch: NSCB scores nothing and has no row
    assert rows.loc["nsc_sphered", ["value", "n", "seeds"]].tolist() == [1, 8, 2]
    assert rows.loc["nsc", "value"] < 0.9
    assert (rows["level"] == "treatment").all()


@pytest.mark.parametrize("spread", [0.0, 1e-9])
def test_controls_that_are_all_alike_sphere_nothing(spread):
    table = screen_features()
    control = table["Metadata_Control"].to_numpy()
    table.loc[control, "feature_0000"] = 3 + spread * np.arange(control.sum())
    table.loc[control, ["feature_0001", "feature_0002"]] = 0.0
    assert neighbour_rows({("max", 0): table}, "s", "plate")["metric"].tolist() == ["nsc"]


def test_nscb_scores_a_treatment_in_each_batch():
    table = screen_features()
    twice = pd.concat([table, table.assign(Metadata_Plate="q", Metadata_Batch="c")], ignore_index=True)
    rows = neighbour_rows({("max", 0): twice}, "s", "plate").set_index("metric")
    assert rows.loc["nscb_sphered", ["value", "n"]].tolist() == [1, 16]


def test_only_test_fields_of_studies_with_compounds_have_neighbours():
    table = screen_features()
    assert neighbour_rows({("max", 0): table.drop(columns="Metadata_Compound")}, "s", "field").empty
    assert neighbour_rows({}, "s", "field").empty
    more = pd.concat([table, table.assign(Metadata_Plate="v", Metadata_Split="validation", feature_0001=9.0)])
    rows = [neighbour_rows({("max", 0): fields}, "s", "plate") for fields in (table, more)]
    assert rows[0].equals(rows[1])


def test_profiles_are_read_beside_the_metadata_of_their_fields(tmp_path):
    table = screen_features()
    features = table.filter(regex="Plate|Well|Site|feature_").sample(frac=1, random_state=0)
    (tmp_path / "max-1").mkdir()
    features.to_parquet(tmp_path / "max-1" / "features.parquet", index=False)
    metadata = table.drop(columns=table.filter(like="feature_").columns).assign(method="max", seed=1)
    profiles = read_profiles(tmp_path, metadata)["max", 1]
    assert profiles[table.columns].equals(table)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "max-1").rename(tmp_path / "baselines" / "max-1")
    assert read_profiles(tmp_path, metadata, ["max"])["max", 1].equals(profiles)
    (tmp_path / "baselines" / "max-1").rename(tmp_path / "max-1")
    assert read_profiles(tmp_path, metadata.drop(columns=["Metadata_Compound", "Metadata_Control"])) == {}
    features[:-1].to_parquet(tmp_path / "max-1" / "features.parquet", index=False)
    with pytest.raises(ValueError, match="features of 1 fields are missing; run max again"):
        read_profiles(tmp_path, metadata)


def test_the_nearest_of_two_that_differ_little_is_no_tie():
    """Cosines of 1° and 2° differ by 5e-4."""
    radians = np.deg2rad([0, 1, 2, 2])
    table = nsc_table(np.stack([np.cos(radians), np.sin(radians)], axis=1), ["x", "x", "y", "y"], list("ABCD"))
    assert table["predicted"].iloc[0] == "x"
    assert table["correct"].iloc[0] == 1
