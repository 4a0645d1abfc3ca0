"""Splits against brute force: the tests compare every pair of fields in two sets."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milcnn.columns import SETS, class_names
from milcnn.paths import ROOT
from milcnn.prepare.folds import SplitError, leaks
from milcnn.prepare.splits import SplitSettings, split_screen
from milcnn.screens.screen import Screen
from milcnn.settings import SettingsError

KIND_COLUMNS = {
    "field": ["Metadata_Plate", "Metadata_Well", "Metadata_Site"],
    "well": ["Metadata_Plate", "Metadata_Well"],
    "plate": ["Metadata_Plate"],
    "replicate": ["Metadata_Replicate"],
    "compound": ["Metadata_Compound"],
}


def screen_table(compounds_per_class: int = 5, controls: int = 4) -> pd.DataFrame:
    """3 classes × compounds, each compound in one of 3 batches; a batch is 3 replicate plates; DMSO everywhere.

    Compound k of a class is in batch k mod 3; class ``a`` also has one that is in all batches, as taxol is.
    """
    rows = []
    for batch, replicate in product(range(3), range(3)):
        layout = [(f"{name}{k}", name) for name, k in product("abc", range(compounds_per_class)) if k % 3 == batch]
        layout += [("taxol", "a")] + [("DMSO", "DMSO")] * controls
        for well, (compound, label) in enumerate(layout):
            for site in (1, 2):
                rows.append((f"B{batch}R{replicate}", f"W{well:02}", site, label, compound, f"B{batch}", replicate))
    names = ["Plate", "Well", "Site", "Label", "Compound", "Batch", "Replicate"]
    table = pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in names])
    return table.assign(Metadata_Control=table["Metadata_Compound"] == "DMSO")


def split(
    table: pd.DataFrame, settings: SplitSettings, classes: list[str] | None = None, multilabel: bool = False
) -> pd.DataFrame:
    """``split_screen`` of a screen with this table; its classes default to the labels that occur."""
    classes = classes or class_names(table, multilabel)
    return split_screen(Screen(table, ["DNA"], classes, read=lambda row: None, multilabel=multilabel), settings)


def shared_pairs(table: pd.DataFrame, columns: list[str], sets: list[str] = SETS) -> int:
    """Brute force: pairs of fields of different sets that agree in ``columns``."""
    keys = np.array(["\t".join(map(str, key)) for key in table[columns].itertuples(index=False)])
    of = table["Metadata_Split"].to_numpy()
    alike = keys[:, None] == keys[None]
    apart = (of[:, None] != of[None]) & np.isin(of, sets)[:, None] & np.isin(of, sets)[None]
    return int((alike & apart).sum())


def classes_of(table: pd.DataFrame, name: str) -> set[str]:
    return set(table.loc[table["Metadata_Split"] == name, "Metadata_Label"])


FOLDS = {"field": 5, "well": 5, "plate": 3, "replicate": 3, "compound": 5}


@pytest.mark.parametrize(("kind", "folds"), FOLDS.items())
def test_no_group_is_shared_and_every_group_is_tested_once(kind, folds):
    table = screen_table()
    treated = ~table["Metadata_Control"] if kind == "compound" else np.ones(len(table), bool)
    tested = np.zeros(len(table), int)
    for fold in range(folds):
        done = split(table, SplitSettings(kind=kind, folds=folds, fold=fold))
        assert shared_pairs(done[treated], KIND_COLUMNS[kind]) == 0
        assert leaks(done[treated], KIND_COLUMNS[kind]) == []
        assert shared_pairs(done, KIND_COLUMNS["field"]) == 0
        assert set(done["Metadata_Split"]) == set(SETS)
        for name in SETS:
            assert classes_of(done, name) == {"a", "b", "c", "DMSO"}
        tested += done["Metadata_Split"] == "test"
        pd.testing.assert_frame_equal(done.drop(columns="Metadata_Split"), table)
    assert (tested == 1).all()


def test_classes_have_similar_shares_in_each_set():
    table = screen_table()
    done = split(table, SplitSettings(kind="well", folds=5))
    share = (done["Metadata_Split"] == "test").groupby(table["Metadata_Label"]).mean()
    assert share.between(0.15, 0.25).all()
    share = (done["Metadata_Split"] == "validation").groupby(table["Metadata_Label"]).mean()
    assert share.between(0.11, 0.21).all()  # a fifth of four fifths


def test_controls_are_split_by_well_if_compounds_are_held_out():
    done = split(screen_table(), SplitSettings(kind="compound", folds=5))
    controls = done[done["Metadata_Control"]]
    assert set(controls["Metadata_Split"]) == set(SETS)
    assert shared_pairs(controls, KIND_COLUMNS["well"]) == 0


@pytest.mark.parametrize("fold", range(3))
def test_compound_and_batch_are_both_held_out(fold):
    settings = SplitSettings(kind="compound_batch", folds=3, fold=fold, validate_by="well")
    done = split(screen_table(), settings)
    test, other = (done[done["Metadata_Split"].isin(sets)] for sets in (["test"], ["train", "validation"]))
    treated = [rows[~rows["Metadata_Control"]] for rows in (test, other)]
    for one, two in product(test.itertuples(), other.itertuples()):
        assert one.Metadata_Batch != two.Metadata_Batch
    assert not set(treated[0]["Metadata_Compound"]) & set(treated[1]["Metadata_Compound"])
    # taxol is in every batch, so it is always tested and never trained
    assert "taxol" in set(test["Metadata_Compound"])
    unused = done[done["Metadata_Split"] == "unused"]
    assert set(unused["Metadata_Compound"]) == {"taxol"}
    assert shared_pairs(done, KIND_COLUMNS["well"]) == 0
    assert classes_of(done, "train") == classes_of(done, "test") == {"a", "b", "c", "DMSO"}


def test_validation_may_be_split_by_well_if_compounds_are_few():
    two = screen_table(compounds_per_class=2).query("Metadata_Compound != 'taxol'")
    with pytest.raises(SplitError, match=r"has no field of class [abc].*validate_by"):
        split(two, SplitSettings(kind="compound", folds=2))
    done = split(two, SplitSettings(kind="compound", folds=2, validate_by="well"))
    treated = done[~done["Metadata_Control"]]
    not_tested = treated["Metadata_Split"].replace({"validation": "train"})
    assert shared_pairs(treated.assign(Metadata_Split=not_tested), ["Metadata_Compound"]) == 0
    assert shared_pairs(done, KIND_COLUMNS["well"]) == 0
    assert classes_of(done, "train") == classes_of(done, "test") == {"a", "b", "c", "DMSO"}


def test_the_seed_decides_the_split():
    table = screen_table()
    one, two = (split(table, SplitSettings(kind="well", seed=3))["Metadata_Split"] for _ in range(2))
    assert one.equals(two)
    assert not one.equals(split(table, SplitSettings(kind="well", seed=4))["Metadata_Split"])
    # shuffled rows still keep groups together
    shuffled = table.sample(frac=1, random_state=0)
    assert leaks(split(shuffled, SplitSettings(kind="well")), ["Metadata_Plate", "Metadata_Well"]) == []


def test_a_given_split_is_kept_and_must_exist():
    table = screen_table()
    given = table.assign(Metadata_Split=np.resize(["train", "validation", "test", "dose", ""], len(table)))
    done = split(given, SplitSettings())
    assert (done["Metadata_Split"].replace("unused", "") == given["Metadata_Split"]).all()
    with pytest.raises(SplitError, match="the screen has no Metadata_Split; choose a kind of field, well, plate"):
        split(table, SplitSettings())
    # fields that the screen keeps out of all sets also stay out of another split
    done = split(given, SplitSettings(kind="field"))
    assert (done["Metadata_Split"] == "unused").equals(given["Metadata_Split"] == "dose")


def test_controls_without_a_class_are_unused():
    table = screen_table()
    done = split(table, SplitSettings(kind="well"), classes=["a", "b", "c"])
    assert (done["Metadata_Split"] == "unused").equals(table["Metadata_Control"])
    assert classes_of(done, "train") == {"a", "b", "c"}


def test_with_several_labels_per_field_each_label_is_trained_and_tested():
    rng = np.random.default_rng(0)
    names = np.array(["ER", "GOLGI", "NUCLEI", "ACTIN"])
    drawn = rng.random((200, 4)) < [0.6, 0.4, 0.3, 0.06]
    drawn[:, 0] |= ~drawn.any(axis=1)
    table = pd.DataFrame(
        {
            "Metadata_Plate": "P",
            "Metadata_Well": [f"W{index // 2}" for index in range(200)],
            "Metadata_Site": np.arange(200) % 2,
            "Metadata_Label": ["|".join(sorted(names[row])) for row in drawn],
        }
    )
    done = split(table, SplitSettings(kind="well", folds=4), multilabel=True)
    for name in ("train", "test"):
        assert {label for labels in classes_of(done, name) for label in labels.split("|")} == set(names)
    assert shared_pairs(done, KIND_COLUMNS["well"]) == 0


@pytest.mark.parametrize("kind", ["well", "given"])
def test_a_field_that_is_known_to_have_no_class_is_in_the_sets(kind):
    """One of which nothing is known is unlabelled, with or without a list of all classes."""
    labels = ["a", "b", "a|b", "", ""] * 24
    table = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": [f"W{n}" for n in range(120)], "Metadata_Site": 1})
    table = table.assign(Metadata_Label=labels, Metadata_Unknown=["b", "", "", "a", "a|b"] * 24)
    table["Metadata_Split"] = np.array(SETS)[np.arange(120) % 3] if kind == "given" else ""
    sets = split(table, SplitSettings(kind=kind), multilabel=True)["Metadata_Split"].to_numpy().reshape(24, 5)
    assert (sets[:, 4] == "unlabelled").all()
    for column in sets[:, :4].T:  # of those known to have none, too, each set has a part
        assert set(column) == set(SETS)
    known = table.drop(columns="Metadata_Unknown")
    sets = split(known, SplitSettings(kind=kind), multilabel=True)["Metadata_Split"].to_numpy().reshape(24, 5)
    assert (sets[:, 3:] == "unlabelled").all()


@pytest.mark.parametrize("seed", range(3))
def test_fields_of_no_class_do_not_dilute_a_rare_one(seed):
    """Three wells have class a, so each set must get one of them, as without the many wells of none."""
    labels = np.array(["a"] * 3 + ["b"] * 7 + [""] * 290)
    table = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": [f"W{n}" for n in range(300)], "Metadata_Site": 1})
    table = table.assign(Metadata_Label=labels, Metadata_Unknown="")
    sets = split(table, SplitSettings(kind="well", folds=3, seed=seed), multilabel=True)["Metadata_Split"].to_numpy()
    assert sorted(sets[:3]) == sorted(SETS)
    assert set(sets[10:]) == set(SETS)


def test_leaks_names_the_shared_groups():
    table = screen_table().assign(Metadata_Split="train")
    table.loc[table["Metadata_Well"] == "W01", "Metadata_Split"] = "test"
    table.loc[table["Metadata_Well"] == "W02", "Metadata_Split"] = "unused"
    assert leaks(table, ["Metadata_Plate", "Metadata_Well"]) == []
    assert leaks(table, "Metadata_Batch") == ["B0", "B1", "B2"]
    table.loc[0, "Metadata_Split"] = "test"
    assert leaks(table, ["Metadata_Plate", "Metadata_Well"]) == ["B0R0, W00"]
    assert leaks(table, ["Metadata_Plate", "Metadata_Well"], ["validation", "test"]) == []


def test_a_class_with_too_few_groups_is_refused_or_left_out():
    table = screen_table()
    table.loc[table["Metadata_Compound"] == "b1", "Metadata_Label"] = "rare"  # one compound only
    with pytest.raises(SplitError, match=r"has no field of class .*rare.*missing_classes"):
        split(table, SplitSettings(kind="compound", folds=5))
    tested = set()
    for fold in range(5):
        settings = SplitSettings(kind="compound", folds=5, fold=fold, missing_classes="allow", validation=0.5)
        done = split(table, settings)
        assert classes_of(done, "test") <= classes_of(done, "train")
        tested |= classes_of(done, "test")
    assert tested == {"a", "b", "c", "DMSO"}


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        ({}, {"kind": "replicate", "folds": 4}, r"3 groups \(replicate\) are too few for folds = 4"),
        ({}, {"kind": "compound_batch", "folds": 4}, "3 batches are too few for folds = 4"),
        ({"Metadata_Replicate": None}, {"kind": "replicate"}, "Metadata_Replicate is empty in 180 fields"),
        ({"Metadata_Label": "a"}, {"kind": "well"}, r"has one class, \['a'\]"),
    ],
)
def test_an_impossible_split_is_refused_with_the_reason(change, settings, reason):
    with pytest.raises(SplitError, match=reason):
        split(screen_table().assign(**change), SplitSettings(**settings))


def test_missing_columns_and_single_fields_are_refused():
    table = screen_table()
    with pytest.raises(SplitError, match="split by compound: the table has no column Metadata_Compound"):
        split(table.drop(columns="Metadata_Compound"), SplitSettings(kind="compound"))
    table.loc[0, "Metadata_Label"] = "single"
    with pytest.raises(SplitError, match=r"has no field of class single"):
        split(table, SplitSettings(kind="field"))
    with pytest.raises(SplitError, match="no field has class d"):
        split(screen_table(), SplitSettings(kind="well"), ["a", "b", "c", "d", "DMSO"])
    given = screen_table().assign(Metadata_Split="train")
    with pytest.raises(SplitError, match="no field is in validation"):
        split(given, SplitSettings())
    twice = pd.concat([given, given.assign(Metadata_Split="test")], ignore_index=True)
    with pytest.raises(SplitError, match="train and test share B0R0, W00, 1; "):
        split(twice, SplitSettings())


def test_settings_are_bounded():
    for wrong in ({"fold": 5}, {"folds": 1}, {"kind": "moon"}, {"validation": 1.0}):
        with pytest.raises(SettingsError):
            SplitSettings(**wrong)


@pytest.fixture(scope="module")
def bbbc021() -> pd.DataFrame:
    """The labelled fields of BBBC021 and their controls, joined from the two published tables."""
    folder = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared" / "data" / "mirror") / "bbbc021"
    if not (folder / "BBBC021_v1_image.csv").exists():
        pytest.skip(f"{folder}: the tables of BBBC021 are missing")
    prefix = "Image_Metadata_"
    images = pd.read_csv(folder / "BBBC021_v1_image.csv").rename(
        columns={
            f"{prefix}Plate_DAPI": "Metadata_Plate",
            f"{prefix}Well_DAPI": "Metadata_Well",
            f"{prefix}Compound": "Metadata_Compound",
            "Replicate": "Metadata_Replicate",
        }
    )
    moa = pd.read_csv(folder / "BBBC021_v1_moa.csv")
    images = images.merge(
        moa, left_on=["Metadata_Compound", f"{prefix}Concentration"], right_on=["compound", "concentration"]
    )
    return images.assign(
        Metadata_Site=images["Image_FileName_DAPI"].str.extract(r"_s(\d)_")[0],
        Metadata_Batch=images["Metadata_Plate"].str.split("_").str[0],
        Metadata_Label=images["moa"],
        Metadata_Control=images["Metadata_Compound"] == "DMSO",
    )


def test_bbbc021_every_compound_is_held_out_once(bbbc021):
    tested = []
    for fold in range(2):  # no mechanism has fewer than two compounds
        done = split(bbbc021, SplitSettings(kind="compound", folds=2, fold=fold, validate_by="well"))
        treated = done[~done["Metadata_Control"]]
        of_set = treated.groupby("Metadata_Split")["Metadata_Compound"].agg(set)
        assert not of_set["test"] & (of_set["train"] | of_set["validation"])
        assert len(classes_of(done, "train")) == len(classes_of(done, "test")) == 13
        tested += of_set["test"]
    assert sorted(tested) == sorted(set(bbbc021["Metadata_Compound"]) - {"DMSO"})
    assert len(tested) == 38


def test_bbbc021_two_mechanisms_cannot_be_scored_without_their_batch(bbbc021):
    batches = bbbc021.loc[~bbbc021["Metadata_Control"], "Metadata_Batch"].nunique()
    # a large validation share leaves fewer ways to search
    settings = {"kind": "compound_batch", "folds": batches, "validate_by": "well", "validation": 0.5}
    with pytest.raises(SplitError, match=r"has no field of class .* set missing_classes to allow"):
        split(bbbc021, SplitSettings(**settings))
    treatments = set()
    for fold in range(batches):
        done = split(bbbc021, SplitSettings(**settings, fold=fold, missing_classes="allow"))
        test = done[(done["Metadata_Split"] == "test") & ~done["Metadata_Control"]]
        treatments |= set(zip(test["Metadata_Label"], test["compound"], test["concentration"], strict=True))
    mechanisms = set(bbbc021.loc[~bbbc021["Metadata_Control"], "Metadata_Label"])
    assert mechanisms - {label for label, *_ in treatments} == {"Kinase inhibitors", "Cholesterol-lowering"}
    assert len(treatments) == 92  # as leaving out compound and batch is scored in the literature


@pytest.mark.parametrize(("fields_of", "folds"), [(4, 2), (3, 3), (6, 2)])
def test_validation_adapts_to_a_small_screen_with_a_word(fields_of, folds, capsys):
    """Two classes of a few fields: each has fields in all three sets, though a share of 0.2 asks for five parts."""
    wells = [f"A{number}" for number in range(2 * fields_of)]
    labels = {"Metadata_Well": wells, "Metadata_Site": 1, "Metadata_Label": ["a", "b"] * fields_of}
    table = split(pd.DataFrame({"Metadata_Plate": "P", **labels}), SplitSettings(kind="field", folds=folds))
    counts = pd.crosstab(table["Metadata_Split"], table["Metadata_Label"])
    assert (counts.loc[SETS] > 0).all(axis=None)
    share = counts.loc["validation"].sum() / counts.loc[["train", "validation"]].to_numpy().sum()
    assert f"validation: {share:.0%} of the fields that do not test, not 20%" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["well", "given"])
@pytest.mark.parametrize("nothing", ["", None])
def test_fields_without_a_label_are_in_no_set_and_change_no_other(kind, nothing):
    table = screen_table().assign(Metadata_Split=SETS * 60)
    table = table if kind == "given" else table.drop(columns="Metadata_Split")
    added = table.iloc[:5].assign(Metadata_Plate="new", Metadata_Label=nothing)
    known = split(table, SplitSettings(kind=kind))
    both = split(pd.concat([added, table], ignore_index=True), SplitSettings(kind=kind), [*"abc", "DMSO"])
    assert both["Metadata_Split"][:5].tolist() == ["unlabelled"] * 5
    assert both["Metadata_Split"][5:].tolist() == known["Metadata_Split"].tolist()


def test_a_fresh_test_set_is_in_no_other_set_whatever_the_kind():
    table = screen_table()
    fresh = (table["Metadata_Plate"] == "B2R2").to_numpy()
    table["Metadata_Split"] = np.where(fresh, "fresh", "")
    done = split(table, SplitSettings(kind="plate", folds=4))
    assert (done["Metadata_Split"].eq("fresh").to_numpy() == fresh).all()
    assert set(done.loc[~fresh, "Metadata_Split"]) == set(SETS)
    with pytest.raises(SplitError, match=r"train and fresh share .* .compound."):
        split(table, SplitSettings(kind="compound", folds=3))
