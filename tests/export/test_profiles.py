"""Profiles of wells: their values by hand, and other people's tools on them, no column renamed."""

import json
import subprocess
import sys

import copairs.map
import numpy as np
import pandas as pd
import pytest

from milcnn.columns import CONTROL, LABEL, PLATE, WELL
from milcnn.evaluate.responding_fraction import cells_in_view, with_responding_fraction
from milcnn.export.profiles import profile_features, profiles_of_wells, responding_fractions, write_h5ad
from milcnn.files import read_table, write_table
from milcnn.paths import ROOT

KEY = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Two plates with controls; p̄ alone."""
    return read_table(ROOT / "data" / "sample" / "dose" / "noisy_and-0" / "predictions.csv")


@pytest.fixture(scope="module")
def wells(predictions) -> pd.DataFrame:
    return profiles_of_wells(predictions, predictions[KEY].assign(Flag_blurred=False, Flag_empty=True), 256)


def test_a_well_has_the_means_of_its_fields_and_what_they_share():
    rows = [("P1", "A01", 1, "x", 0.2, 0.1), ("P1", "A01", 2, "y", 0.4, 0.3), ("P1", "A02", 1, "y", 0.5, 0.9)]
    fields = pd.DataFrame(rows, columns=[*KEY, LABEL, "p_x", "y_x"]).assign(Metadata_Compound="S1", predicted="x")
    flags = fields[KEY].assign(Flag_blurred=[True, False, False])
    found = profiles_of_wells(fields, flags, 100)
    expected = {
        "Metadata_Plate": ["P1", "P1"],
        "Metadata_Well": ["A01", "A02"],
        "Metadata_Label": [None, "y"],
        "Metadata_Compound": ["S1", "S1"],
        "Metadata_Site_Count": [2, 1],
        "Metadata_Flag_blurred": [0.5, 0.0],
        "Cells_MILCNN_p_x": [0.3, 0.5],
        "Cells_MILCNN_y_x": [0.2, 0.9],
    }
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected), check_dtype=False)


def test_the_responding_fraction_is_that_of_the_study_for_the_label_of_a_field(predictions):
    k = cells_in_view(predictions["cells"].mean(), 256)
    expected = with_responding_fraction(predictions.assign(method="", seed=0), k)
    found = responding_fractions(predictions, 256)
    treated = found[~predictions[CONTROL]].reset_index(drop=True)
    own = [treated.at[row, f"responding_{label}"] for row, label in enumerate(expected[LABEL])]
    np.testing.assert_allclose(own, expected["responding_fraction"], rtol=1e-12)
    assert found[predictions[CONTROL]].to_numpy().max() < 0.2
    assert found.to_numpy().min() == 0


def test_a_plate_without_controls_has_no_responding_fraction(predictions):
    first = predictions[PLATE].iloc[0]
    kept = predictions[~(predictions[CONTROL] & (predictions[PLATE] == first))].reset_index(drop=True)
    found = responding_fractions(kept, 256)
    assert found[kept[PLATE] == first].isna().all(axis=None)
    assert found[kept[PLATE] != first].notna().all(axis=None)
    assert responding_fractions(kept[~kept[CONTROL]], 256).columns.empty


@pytest.mark.filterwarnings("ignore:The 'mode.copy_on_write' option")  # pycytominer sets it when imported
def test_pycytominer_normalises_and_aggregates_them(wells):
    import pycytominer

    control = wells[CONTROL].astype(bool)
    normalised = pycytominer.normalize(wells, samples="Metadata_Control == True", method="standardize")
    values = wells["Cells_MILCNN_p_enlarged"]
    expected = (values - values[control].mean()) / values[control].std(ddof=0)
    np.testing.assert_allclose(normalised["Cells_MILCNN_p_enlarged"], expected, rtol=1e-9)
    means = pycytominer.aggregate(wells, strata=["Metadata_Compound", "Metadata_Concentration"], operation="mean")
    own = wells.groupby(["Metadata_Compound", "Metadata_Concentration"])[profile_features(wells)].mean()
    pd.testing.assert_frame_equal(means.set_index(own.index.names)[own.columns], own)


def test_copairs_finds_that_wells_of_a_compound_are_alike(wells):
    metadata = wells.filter(regex="^Metadata_")
    strong = metadata["Metadata_Concentration"] >= 1
    kept = strong | metadata[CONTROL]
    scores = copairs.map.average_precision(
        metadata[kept].reset_index(drop=True), wells.loc[kept, profile_features(wells)].to_numpy(),
        pos_sameby=["Metadata_Compound"], pos_diffby=[], neg_sameby=["Metadata_Plate"],
        neg_diffby=["Metadata_Control"], progress_bar=False,
    )  # fmt: skip
    treated = scores[~scores[CONTROL].astype(bool)]
    table = copairs.map.mean_average_precision(
        treated, ["Metadata_Compound"], null_size=1000, threshold=0.05, seed=0, progress_bar=False
    )
    assert len(table) == metadata.loc[strong, "Metadata_Compound"].nunique()
    assert table["mean_average_precision"].mean() > 0.8


@pytest.fixture(scope="module")
def h5ad(wells, tmp_path_factory):
    path = tmp_path_factory.mktemp("profiles") / "profiles.h5ad"
    write_h5ad(wells, {"study": "simulated", "run": "noisy_and-0"}, path)
    return path


def output_of(python, program: str, path) -> dict:
    done = subprocess.run([python, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.environment
def test_anndata_reads_what_was_written(wells, h5ad, environment):
    """In an environment of its own: anndata for Python 3.11 needs another pandas than milcnn."""
    program = """
import sys, json, anndata
data = anndata.read_h5ad(sys.argv[1])
print(json.dumps({"X": data.X.tolist(), "obs": data.obs.astype(str).to_dict("list"), "index": list(data.obs_names),
    "var": data.var.reset_index().to_numpy().tolist(), "uns": data.uns["milcnn"],
    "kind": data.obs.dtypes.astype(str).to_dict()}))
"""
    found = output_of(environment("anndata"), program, h5ad)
    features = profile_features(wells)
    np.testing.assert_array_equal(found["X"], wells[features].to_numpy(np.float32))
    assert found["index"] == (wells[PLATE] + "_" + wells[WELL]).tolist()
    assert found["obs"]["Metadata_Compound"] == wells["Metadata_Compound"].tolist()
    assert found["kind"]["Metadata_Control"] == "bool"
    assert found["kind"]["Metadata_Concentration"] == "float64"
    assert found["var"][0] == [features[0], *features[0].removeprefix("Cells_MILCNN_").split("_", 1)]
    assert found["uns"] == {"study": "simulated", "run": "noisy_and-0"}


def test_mantispy_normalises_them_and_calls_hits(h5ad):
    if sys.version_info < (3, 12):
        pytest.skip("mantispy needs Python 3.12")
    pytest.importorskip("mantispy", reason="mantispy is not installed")
    program = """
import sys, json, anndata, mantispy
data = anndata.read_h5ad(sys.argv[1])
mantispy.pp.normalize(data)
data = data[:, ~data.var["degenerate_scale"]].copy()
mantispy.tl.hit_calling(data, groupby="Metadata_Compound")
hits = data.uns["mantispy"]["hits"]
print(json.dumps({"hits": dict(zip(hits["group"], map(bool, hits["is_hit"])))}))
"""
    found = output_of(sys.executable, program, h5ad)
    assert not found["hits"].pop("DMSO")
    assert sum(found["hits"].values()) > len(found["hits"]) / 2


def test_parquet_keeps_the_table(wells, tmp_path):
    write_table(wells, tmp_path / "profiles.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "profiles.parquet"), wells)
