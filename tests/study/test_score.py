"""``milcnn score``: what is scored by what, the whole command, and its refusals."""

import re
import shutil

import pandas as pd
import pytest
import tifffile

from milcnn.explore import explore
from milcnn.parameters import StageError
from milcnn.prepare.prepared import load_prepared
from milcnn.score import plan, plate
from milcnn.score.engines import EngineSettings
from milcnn.study import score
from tests.score.conftest import PREPARED, RUN, plates  # noqa: F401, a fixture

LOOP = EngineSettings()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with the sample's study, prepared and trained with two seeds."""
    shutil.copytree(PREPARED, tmp_path / "data/prepared/digits")
    for seed in (0, 1):
        shutil.copytree(RUN, tmp_path / f"models/digits/noisy_and-{seed}")
    for module in (score, __import__("milcnn.paths", fromlist=["paths"])):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    plan.screen_of.cache_clear()
    plate.tools.cache_clear()
    return tmp_path


def run(folder, **given):
    score.score("digits", "noisy_and", LOOP, table=str(folder / "fields.csv"), threads=1, **given)


def test_a_screen_is_scored_and_a_second_call_does_what_is_new(root, plates, capsys):  # noqa: F811
    run(plates)
    told = capsys.readouterr().out
    assert "2 plates, 0 have their file" in told
    assert "1 of 2: Q1: 10 fields" in told
    assert "20 fields, 0 of them without scores" in told
    shares = [int(share) for share in re.findall(r"(\d+)%", told)]
    assert 97 <= sum(shares) <= 103
    summary = pd.read_csv(root / "data/scores/digits/summary.csv")
    assert summary[["plate", "fields", "without_scores"]].to_numpy().tolist() == [["Q1", 10, 0], ["Q2", 10, 0]]
    plan.screen_of.cache_clear()
    seen = explore(root / "data/scores/digits")  # it finds the images by itself
    assert seen.shown.fields["Metadata_Well"].nunique() == 10
    tifffile.imwrite(plates / "Q2_0.tif", tifffile.imread(plates / "Q2_0.tif") + 1)
    run(plates)
    told = capsys.readouterr().out
    assert "2 plates, 1 have their file" in told
    assert "1 of 1: Q2: 10 fields" in told


def test_seeds_together_and_the_settings_of_the_study(root, plates):  # noqa: F811
    settings = score.settings_of("digits", "noisy_and", {"table": str(plates / "fields.csv")})
    assert [folder[-11:] for folder in settings.runs] == ["noisy_and-0", "noisy_and-1"]
    assert settings.screen == {"channels": ["digit"], "table": str(plates / "fields.csv")}
    assert (settings.kind, settings.own) == ("manifest", False)
    assert settings.cells_per_field == 0
    cells = root / "data/cells/digits"
    cells.mkdir(parents=True)
    fields = load_prepared(PREPARED, "digits").fields
    pd.concat([fields.assign(object=number) for number in range(3)]).to_parquet(cells / "cells.parquet")
    assert score.settings_of("digits", "noisy_and-1", {"cells_per_field": 5.0}).cells_per_field == 5
    own = score.settings_of("digits", "noisy_and-1", {})
    assert own.cells_per_field == 3
    assert [folder[-11:] for folder in own.runs] == ["noisy_and-1"]
    assert (own.kind, own.own) == ("digits", True)


def test_a_failed_plate_is_told_at_the_end_and_the_others_are_there(root, plates, capsys):  # noqa: F811
    for path in plates.glob("Q1_*.tif"):
        path.unlink()
    with pytest.raises(StageError, match="1 of 2 plates failed"):
        run(plates)
    told = capsys.readouterr().out
    assert "Note: plate Q1: images are missing (10 of 10" in told
    assert "Q1: plate Q1: no field can be read" in told
    assert "10 fields, 0 of them without scores" in told
    summary = pd.read_csv(root / "data/scores/digits/summary.csv").set_index("plate")
    assert summary.loc["Q1", "error"].startswith("plate Q1: no field can be read")
    with pytest.raises(ValueError, match="images are missing"):
        run(plates, strict=True)


def test_an_estimate_scores_nothing(root, plates, capsys):  # noqa: F811
    score.score("digits", "noisy_and-0", LOOP, True, table=str(plates / "fields.csv"), threads=1)
    told = capsys.readouterr().out
    assert "hours" in told
    assert "share_network" in told
    assert not list((root / "data/scores/digits").glob("*.parquet"))


@pytest.mark.parametrize(
    ("run_name", "given", "told"),
    [
        ("mean", {}, "mean: no such run; there are noisy_and-0, noisy_and-1"),
        ("noisy_and", {"where": "Metadata_Plate == 'none'"}, "selects no field"),
    ],
)
def test_what_cannot_be_scored_is_told(root, plates, run_name, given, told):  # noqa: F811
    with pytest.raises(StageError, match=told):
        score.score("digits", run_name, LOOP, table=str(plates / "fields.csv"), **given)
