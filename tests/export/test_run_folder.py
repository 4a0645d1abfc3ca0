"""An export is whole or not there, and only of a run that is trained."""

import re
import shutil
import sys

import pytest

from milcnn.export.run_folder import export_run, folder_written_whole
from milcnn.parameters import StageError
from milcnn.study import cli
from milcnn.study.exports import export_study
from tests.export.conftest import PREPARED, RUN


def copied(tmp_path, name="noisy_and-0"):
    return shutil.copytree(RUN, tmp_path / name)


def test_a_run_that_is_not_trained_is_refused(tmp_path):
    run = copied(tmp_path)
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such checkpoint; train it first\.$"):
        export_run(run, PREPARED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_predictions_is_refused(tmp_path):
    run = copied(tmp_path)
    (run / "predictions.csv").write_text("Metadata_Split,Metadata_Label\ntest,1\n")
    with pytest.raises(ValueError, match=r"predictions\.csv: has no validation or no test fields; train this run"):
        export_run(run, PREPARED, tmp_path / "out")


def test_a_run_of_another_study_is_refused(tmp_path):
    ready = shutil.copytree(PREPARED, tmp_path / "prepared")
    path = ready / "prepared.json"
    path.write_text(path.read_text().replace('"digits"', '"other"'))
    with pytest.raises(ValueError, match="this is a checkpoint of study 'digits', not 'other'"):
        export_run(RUN, ready, tmp_path / "out")


def test_a_run_of_other_classes_is_refused(tmp_path):
    ready = shutil.copytree(PREPARED, tmp_path / "prepared")
    path = ready / "prepared.json"
    path.write_text(path.read_text().replace('"9"', '"nine"'))
    with pytest.raises(ValueError, match="are not those of"):
        export_run(RUN, ready, tmp_path / "out")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not the folder of a run, which is called as in noisy_and-0"):
        export_run(copied(tmp_path, "somewhere"), PREPARED, tmp_path / "out")


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="has files and is no export"):
        export_run(RUN, PREPARED, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"
    with folder_written_whole(folder) as part:
        (part / "old").touch()
    with pytest.raises(FileNotFoundError), folder_written_whole(folder) as part:
        (part / "new" / "too deep").touch()
    assert [path.name for path in folder.iterdir()] == ["old"]
    with folder_written_whole(folder) as part:
        (part / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_the_command_finds_the_run_by_its_name(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("milcnn.study.exports.export_run", lambda *paths: calls.append(paths))
    monkeypatch.setattr(sys, "argv", ["milcnn", "export", "digits", "--run", "mean-1"])
    cli.main()
    ((run, prepared, output),) = calls
    assert run.parts[-3:] == ("models", "digits", "mean-1")
    assert output.parts[-4:] == ("build", "export", "digits", "mean-1")
    assert prepared.parts[-3:] == ("data", "prepared", "digits")
    assert "start with its README.md" in capsys.readouterr().out


def test_a_study_whose_images_are_drawn_has_no_plate_to_label(monkeypatch):
    monkeypatch.setattr("milcnn.study.exports.export_run", lambda *paths: None)
    with pytest.raises(StageError, match="there is no plate to label"):
        export_study("digits", "noisy_and-0", labels=True)


def test_a_run_elsewhere_is_refused():
    with pytest.raises(StageError, match="name a folder of"):
        export_study("digits", "../simulated/noisy_and-0")


def test_an_export_has_what_its_card_names(exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w-]+\.(?:onnx|parquet|h5ad|zip))`", card)
    assert {path.name for path in exported.iterdir()} == {"README.md", *named}
