"""Scores of a plate: the same as from the prepared study, whole files, and nothing that depends on other fields."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile

from milcnn.columns import FIELD_KEY
from milcnn.network.model import load_model
from milcnn.network.predict import predict_fields
from milcnn.prepare.fields import prepare
from milcnn.prepare.prepared import load_prepared
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.splits import SplitSettings
from milcnn.score import plan, plate
from milcnn.score.engines import EngineSettings, score_plates
from milcnn.score.unseen import ensure_reference
from milcnn.screens.manifest import ManifestSettings, manifest_screen
from tests.score.conftest import PLATES, RUN, settings_for, study_with, write_plates


def scored(settings, names=PLATES, engine=None):
    """The table of each plate. Screens and networks are opened anew, as in a new process."""
    plan.screen_of.cache_clear()
    plate.tools.cache_clear()
    ensure_reference(settings)
    logs = list(score_plates(settings, names, engine or EngineSettings()))
    assert [log for log in logs if "error" in log] == []
    return {name: pq.read_table(plan.plate_file(settings, name)).to_pandas() for name in names}


def bytes_of(settings, names=PLATES):
    return {name: plan.plate_file(settings, name).read_bytes() for name in names}


HOW = {"illumination": "median", "scaling": "control", "crop": [92, 86]}


def test_pixels_are_those_that_prepare_would_store(plates, tmp_path):
    """The prepared study of the same plates, by another path through the code, gets the same predictions."""
    tables = scored(settings_for(plates, tmp_path / "out", study_with(tmp_path, **HOW)))
    platemap = pd.read_csv(plates / "fields.csv").assign(Metadata_Label=lambda t: ["x", "y"] * (len(t) // 2))
    platemap.to_csv(plates / "labelled.csv", index=False)
    screen = manifest_screen(ManifestSettings(table=str(plates / "labelled.csv"), control_class=True))
    screen.fields["Metadata_Split"] = "elsewhere"  # as in a new screen, all controls scale their plate
    screen.fields.loc[[3, 4, 5, 6, 7, 8], "Metadata_Split"] = [
        "train",
        "train",
        "validation",
        "validation",
        "test",
        "test",
    ]
    ready = prepare(screen, "s", tmp_path / "prepared", PrepareSettings(**HOW), SplitSettings(kind="given"))
    network = load_model(RUN / "model.safetensors")
    expected, profiles = predict_fields(network, as_sample(ready), ready.fields)
    got = pd.concat(tables.values(), ignore_index=True)
    assert got[FIELD_KEY].astype(str).equals(expected[FIELD_KEY].astype(str))
    for name in [*expected.filter(regex="^(P|p)_"), *profiles.filter(regex="^feature")]:
        values, near = (expected, 1e-6) if name in expected else (profiles, 1e-3)  # features are up to 40
        np.testing.assert_allclose(got[name], values[name], atol=near, err_msg=name)
    for name in ready.fields.filter(regex="^Quality"):
        np.testing.assert_allclose(got[name], ready.fields[name], rtol=1e-5, err_msg=name)


def as_sample(ready):
    """``ready`` with the classes of the network."""
    return ready.__class__(**(vars(ready) | {"classes": load_prepared(plan.Path("data/sample/prepared")).classes}))


def test_a_score_depends_on_its_plate_alone(plates, tmp_path):
    """Bit-identical before and after other plates are added, and within rounding alone and in a batch."""
    settings = settings_for(plates, tmp_path / "out", study_with(tmp_path, illumination="median"))
    before = scored(settings)
    first = bytes_of(settings, ["Q1"])
    write_plates(plates, ["Q1", "Q2", "Q3"])
    again = settings.model_copy(update={"output": str(tmp_path / "more")})
    assert not scored(again, ["Q1", "Q3"])["Q3"].empty
    assert table_of(first["Q1"], tmp_path).equals(table_of(bytes_of(again, ["Q1"])["Q1"], tmp_path))
    alone = settings.model_copy(update={"output": str(tmp_path / "alone"), "where": "Metadata_Well == 'A05'"})
    (row,) = scored(alone, ["Q1"])["Q1"].to_dict("records")
    whole = before["Q1"].set_index("Metadata_Well").loc["A05"]
    for name in before["Q1"].filter(regex="^(P|p|y|feature|unseen)_"):
        assert row[name] == pytest.approx(whole[name], abs=1e-6), name


def table_of(content, tmp_path):
    (tmp_path / "one.parquet").write_bytes(content)
    return pd.read_parquet(tmp_path / "one.parquet")


@pytest.mark.parametrize("kind", ["dask", "local"])
def test_every_engine_and_every_number_of_threads_gives_the_same_bytes(plates, tmp_path, kind):
    pytest.importorskip({"dask": "distributed", "local": "submitit"}[kind])
    loop = settings_for(plates, tmp_path / "loop")
    scored(loop)
    other = loop.model_copy(update={"output": str(tmp_path / kind), "threads": 3})
    scored(other, engine=EngineSettings(kind=kind))
    assert bytes_of(loop) == bytes_of(other)


def test_what_is_done_stays_until_its_images_or_settings_change(plates, tmp_path):
    settings = settings_for(plates, tmp_path / "out")
    scored(settings)

    def finished(settings=settings):
        plan.screen_of.cache_clear()
        screen = plan.screen_of(settings.model_dump_json())
        return [plan.is_scored(settings, screen, name) for name in PLATES]

    assert finished() == [True, True]
    assert finished(settings.model_copy(update={"cells_per_field": 30.0})) == [False, False]
    tifffile.imwrite(plates / "Q1_4.tif", tifffile.imread(plates / "Q1_4.tif") + 1)
    assert finished() == [False, True]
    plan.plate_file(settings, "Q2").unlink()
    assert finished() == [False, False]


def test_a_field_that_cannot_be_read_has_a_reason(plates, tmp_path):
    good = scored(settings_for(plates, tmp_path / "good"))["Q1"]
    (plates / "Q1_0.tif").unlink()
    (plates / "Q1_4.tif").write_bytes((plates / "Q1_4.tif").read_bytes()[:900])
    tifffile.imwrite(plates / "Q1_6.tif", np.zeros((9, 9), np.uint16))
    settings = settings_for(plates, tmp_path / "out")
    table = scored(settings)["Q1"]
    bad = table["reason"] != ""
    assert table.loc[bad, "Metadata_Well"].tolist() == ["A01", "A05", "A07"]
    assert table.loc[bad, "reason"].str.contains("no such file|truncated|all fields of a plate need one size").all()
    assert table.loc[bad, "P_1"].isna().all()
    np.testing.assert_allclose(table.loc[~bad, "P_1"], good.loc[~bad, "P_1"], atol=1e-6)
    assert json.loads(plan.plate_file(settings, "Q1").with_suffix(".json").read_text())["without_scores"] == 3
    strict = settings.model_copy(update={"strict": True, "output": str(tmp_path / "strict")})
    plate.tools.cache_clear()
    ensure_reference(strict)
    (log,) = score_plates(strict, ["Q1"], EngineSettings())
    assert "no such file" in log["error"]
    assert not plan.plate_file(strict, "Q1").exists()


def test_a_plate_without_a_readable_field_fails_and_the_next_goes_on(plates, tmp_path):
    for path in plates.glob("Q1_*.tif"):
        path.write_bytes(b"no image")
    settings = settings_for(plates, tmp_path / "out")
    plan.screen_of.cache_clear()
    plate.tools.cache_clear()
    ensure_reference(settings)
    first, second = score_plates(settings, PLATES, EngineSettings())
    assert first["error"].startswith("plate Q1: no field can be read")
    assert second["fields"] == 10
    assert not list((tmp_path / "out").glob("*Q1*"))


def test_masks_and_maps_on_request(plates, tmp_path):
    settings = settings_for(plates, tmp_path / "out", masks=True, where="Metadata_Well == 'A05'")
    (row,) = scored(settings, ["Q1"])["Q1"].to_dict("records")
    folder = tmp_path / "out" / "masks" / "Q1"
    cells = tifffile.imread(folder / "Q1_A05_1.ome.tiff")
    maps = tifffile.imread(folder / "Q1_A05_1_maps.ome.tiff")
    assert cells.shape == (2, *maps.shape[1:])
    assert maps.dtype == np.float32
    objects = pd.read_parquet(folder / "objects.parquet")
    assert len(objects) == cells[0].max() > 0
    assert set(np.unique(cells[1])) <= set(np.unique(cells[0]))
    assert maps.mean(axis=(1, 2)).argmax() == maps.shape[0] - 9 + int(row["predicted"]) - 1


def test_a_table_of_other_channels_or_a_query_that_is_none(plates, tmp_path):
    settings = settings_for(plates, tmp_path / "out", where="Metadata_Wel == 3")
    with pytest.raises(ValueError, match="where: 'Metadata_Wel == 3' is no query"):
        plan.scored(plan.screen_of(settings.model_dump_json()).fields, settings.where)
    table = pd.read_csv(plates / "fields.csv").rename(columns={"Path_digit": "Path_GFP"})
    table.to_csv(plates / "fields.csv", index=False)
    other = settings.model_copy(update={"screen": {"table": str(plates / "fields.csv")}})
    with pytest.raises(ValueError, match=r"channels: \['GFP'\] are not those of the networks, \['digit'\]"):
        plan.screen_of(other.model_dump_json())
