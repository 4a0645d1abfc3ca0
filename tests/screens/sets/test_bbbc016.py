"""The plate of the worked example: its table, its download, and the parameter file that is written for it."""

import zipfile

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn import parameters
from milcnn.paths import ROOT
from milcnn.screens import download
from milcnn.screens.sets import bbbc016
from milcnn.study import new

FIELDS = pd.read_csv(bbbc016.TABLE, keep_default_na=False)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A zip as the origin's may be: a folder with two channels; the folders of the repository are in tmp_path."""
    (tmp_path / "mirror" / "bbbc016").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "mirror" / "bbbc016" / bbbc016.NAME, "w") as archive:
        for name in FIELDS["Path_GFP"]:
            archive.writestr(f"BBBC016_v1_images/{name}", name)
            archive.writestr(f"BBBC016_v1_images/{name.replace('d2', 'd0')}", "DNA")
    for module in (bbbc016, download):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "mirror"))
    return tmp_path


def test_the_table_has_24_wells_of_three_fields_and_a_mixed_well_without_a_label():
    wells = FIELDS.groupby("Metadata_Well")["Metadata_Label"]
    assert len(FIELDS) == 72
    assert set(zip(wells.size(), wells.nunique(), strict=True)) == {(3, 1)}
    assert dict(wells.first().value_counts()) == {"diffuse": 18, "puncta": 5, "": 1}
    read = FIELDS["Path_GFP"].str.extract(r"_(O\d\d)f(\d\d)d2\.TIF$")  # d2 is GFP, d0 DNA
    assert read[0].tolist() == FIELDS["Metadata_Well"].tolist()
    assert read[1].astype(int).tolist() == FIELDS["Metadata_Site"].tolist()


def test_only_the_gfp_images_are_copied_and_they_stay(mirror):
    folder = bbbc016.fetch_plate()
    assert sorted(path.name for path in folder.glob("*.TIF")) == sorted(FIELDS["Path_GFP"])
    first = folder / FIELDS["Path_GFP"][0]
    assert first.read_text() == first.name
    first.write_text("mine")
    bbbc016.fetch_plate()
    assert first.read_text() == "mine"


def test_a_zip_without_the_images_is_refused(mirror):
    with zipfile.ZipFile(mirror / "mirror" / "bbbc016" / bbbc016.NAME, "w") as archive:
        archive.writestr("other.tif", "")
    with pytest.raises(ValueError, match=r"has no AS_.*_O01f00d2\.TIF, and lacks 72 of 72 images"):
        bbbc016.fetch_plate()


def test_the_parameter_file_is_what_milcnn_new_writes(mirror, monkeypatch):
    """So a reader of docs/own-screen.md can compare; its first line alone is ours."""
    for module in (new, parameters):
        monkeypatch.setattr(module, "ROOT", mirror)
    (mirror / "params").mkdir()
    (mirror / "params.yaml").write_text("studies: []\n")
    images = mirror / "data" / "raw" / "bbbc016"
    images.mkdir(parents=True)
    for name in FIELDS["Path_GFP"]:
        tifffile.imwrite(images / name, np.zeros((512, 512), np.uint8))
    table = mirror / "data" / "bbbc016" / "fields.csv"
    table.parent.mkdir()
    table.write_bytes(bbbc016.TABLE.read_bytes())
    monkeypatch.setattr("milcnn.screens.manifest.in_root", mirror.joinpath)
    new.new_study("myplate", table=str(table), images=str(images))
    written = (mirror / "params" / "myplate.yaml").read_text()
    comment, committed = (ROOT / "params" / "bbbc016.yaml").read_text().split("\n", 1)
    assert comment.startswith("#")
    assert committed == written
