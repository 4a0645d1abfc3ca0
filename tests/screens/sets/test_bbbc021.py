"""BBBC021 in its original layout: the real CSVs if there is a mirror, and always a small made-up copy."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.paths import ROOT
from milcnn.screens import download
from milcnn.screens.images import ImageError
from milcnn.screens.screen import ScreenError
from milcnn.screens.sets import bbbc021
from milcnn.screens.sets.kinds import open_screen

PLATES = ["Week4_27481", "Week4_27521", "Week4_27542", "Week4_27801", "Week4_27821", "Week4_27861"]
TRUE = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared/data/mirror")
needs_mirror = pytest.mark.skipif(
    not (TRUE / "bbbc021/BBBC021_v1_image.csv").exists(), reason="no BBBC021 in the folder of MILCNN_MIRROR"
)


@pytest.fixture
def true_mirror(monkeypatch, tmp_path):
    monkeypatch.setenv("MILCNN_MIRROR", str(TRUE))
    monkeypatch.setattr(download, "ROOT", tmp_path)


@pytest.fixture(scope="module")
def true_tables():
    folder = TRUE / "bbbc021"
    return pd.read_csv(folder / "BBBC021_v1_image.csv"), pd.read_csv(folder / "BBBC021_v1_moa.csv")


@needs_mirror
def test_published_counts(true_tables):
    fields = bbbc021.field_table(*true_tables)
    treated = fields[~fields["Metadata_Control"]]
    assert (len(treated), np.count_nonzero(fields["Metadata_Control"])) == (2528, 1320)
    assert treated.groupby(bbbc021.MOA_KEY).ngroups == 103
    assert treated["Metadata_Compound"].nunique() == 38
    assert treated["Metadata_Label"].nunique() == 12
    taxol = (fields["Metadata_Compound"] == "taxol") & (fields["Metadata_Concentration"] == 0.3)
    assert np.count_nonzero(taxol) == 1332
    assert fields["Metadata_Plate"].nunique() == 55
    assert sorted(fields["Metadata_Batch"].unique(), key=lambda week: int(week[4:])) == [
        f"Week{week}" for week in range(1, 11)
    ]
    # every labelled compound except taxol was used in one week
    weeks = treated[treated["Metadata_Compound"] != "taxol"].groupby("Metadata_Compound")["Metadata_Batch"].nunique()
    assert (weeks == 1).all()


@needs_mirror
def test_taxol_is_capped_evenly_over_the_plates(true_tables):
    fields = bbbc021.field_table(*true_tables)
    capped = bbbc021.cap(fields, 55, seed=0)
    sizes = capped.groupby(bbbc021.MOA_KEY).size()
    assert (sizes["taxol", 0.3], sizes["DMSO", 0.0]) == (55, 1320)
    assert sizes.drop([("taxol", 0.3), ("DMSO", 0.0)]).sum() == 2528 - 1332
    taxol = capped[(capped["Metadata_Compound"] == "taxol") & (capped["Metadata_Concentration"] == 0.3)]
    assert taxol["Metadata_Plate"].nunique() == 55
    pd.testing.assert_frame_equal(capped, bbbc021.cap(fields, 55, seed=0))
    assert not capped.equals(bbbc021.cap(fields, 55, seed=1))
    assert len(bbbc021.cap(fields, None, seed=0)) == 3848


@needs_mirror
def test_the_sample_is_read_from_its_zips(true_mirror):
    screen = open_screen("bbbc021", plates=PLATES, missing="skip")
    screen.check()
    assert screen.channels == ["DAPI", "Tubulin", "Actin"]
    assert screen.fields["Metadata_Label"].value_counts().to_dict() == {"DMSO": 24, "Protein synthesis": 26}
    row = screen.fields.iloc[0]
    field = screen.read(row)
    assert (field.shape, field.dtype) == ((3, 1024, 1280), np.uint16)
    name = row["Path_Actin"].split(".zip/")[1]
    path = TRUE / f"bbbc021/BBBC021_v1_images_{row['Metadata_Plate']}.zip"
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        np.testing.assert_array_equal(field[2], tifffile.imread(file))
    # each labelled field of the plates is either used or listed as skipped
    assert len(screen.skipped) == 432 - 50
    assert set(screen.skipped["reason"]) == {"the zip lacks DAPI, Tubulin, Actin"}


@needs_mirror
def test_fields_that_a_zip_lacks_are_an_error_unless_skipped(true_mirror):
    with pytest.raises(ScreenError, match=r"Week4_27801\.zip: lacks files of 75 of its 88 fields, such as") as caught:
        open_screen("bbbc021", plates=PLATES).check()
    assert len(caught.value.problems) == 6


@needs_mirror
def test_a_class_with_one_field_is_refused(true_mirror):
    with pytest.raises(ScreenError, match="class 'Microtubule stabilizers': "):
        open_screen("bbbc021", plates=[*PLATES, "Week2_24361"], missing="skip").check()


@needs_mirror
def test_a_plate_read_as_a_manifest_gives_the_same_fields(true_mirror, true_tables, tmp_path):
    """The real image CSV is a CellProfiler table, so it can be read as a manifest."""
    (plate,) = plates = ["Week4_27801"]
    screen = open_screen("bbbc021", plates=plates, missing="skip")
    with zipfile.ZipFile(TRUE / f"bbbc021/BBBC021_v1_images_{plate}.zip") as archive:
        archive.extractall(tmp_path / "Week4")
        there = set(archive.namelist())
    images = true_tables[0]
    here = (plate + "/" + images["Image_FileName_Actin"]).isin(there)
    images[here].to_csv(tmp_path / "image.csv", index=False)
    columns = {name: f"Image_{name}_DAPI" for name in ("Metadata_Plate", "Metadata_Well")}
    columns |= {"Metadata_Site": "ImageNumber", "Metadata_Label": "Image_Metadata_Compound"}
    own = open_screen("manifest", table=str(tmp_path / "image.csv"), columns=columns)
    own.check()
    assert own.channels == screen.channels
    assert own.classes == ["DMSO", "cyclohexamide"]
    assert len(own.fields) == len(screen.fields) == 13
    for (_, one), (_, other) in zip(own.fields.iloc[:2].iterrows(), screen.fields.iloc[:2].iterrows(), strict=True):
        assert one["Metadata_Well"] == other["Metadata_Well"]
        np.testing.assert_array_equal(own.read(one), screen.read(other))


def image_row(week, plate, well, site, compound, concentration):
    prefix = "" if week == "Week4" else f"{week}_180607_"
    row = {"TableNumber": 4, "ImageNumber": 1}
    for channel, w in zip(["DAPI", "Tubulin", "Actin"], [1, 2, 4], strict=True):
        # the letters after the wavelength are arbitrary: only the CSV knows them
        row[f"Image_FileName_{channel}"] = f"{prefix}{well}_s{site}_w{w}{abs(hash((well, site, w))) % 9999:04X}.tif"
        row[f"Image_PathName_{channel}"] = f"{week}/{plate}"
    row |= {"Image_Metadata_Plate_DAPI": plate, "Image_Metadata_Well_DAPI": well, "Replicate": 2}
    return row | {"Image_Metadata_Compound": compound, "Image_Metadata_Concentration": concentration}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder like the original, with two plates of 4 × 5 px; plane w of a field has the value 100 site + w."""
    folder = tmp_path / "mirror" / "bbbc021"
    folder.mkdir(parents=True)
    rows = []
    for week, plate in (("Week4", "Week4_1"), ("Week2", "Week2_2")):
        treatments = {"A01": ("DMSO", 0.0), "A02": ("taxol", 0.3), "A03": ("unknown", 1.0)}
        plate_rows = [image_row(week, plate, w, s, *treatments[w]) for w in treatments for s in (1, 2)]
        with zipfile.ZipFile(folder / f"BBBC021_v1_images_{plate}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for row in plate_rows:
                for channel, w in zip(["DAPI", "Tubulin", "Actin"], [1, 2, 4], strict=True):
                    name = row[f"Image_FileName_{channel}"]
                    site = int(name.split("_s")[1][0])
                    tifffile.imwrite(tmp_path / "x.tif", np.full((4, 5), 100 * site + w, np.uint16))
                    archive.write(tmp_path / "x.tif", f"{plate}/{name}")
        rows += plate_rows
    pd.DataFrame(rows).to_csv(folder / "BBBC021_v1_image.csv", index=False)
    moa = pd.DataFrame({"compound": ["taxol", "DMSO"], "concentration": [0.3, 0], "moa": ["Stabilizers", "DMSO"]})
    moa.to_csv(folder / "BBBC021_v1_moa.csv", index=False)
    monkeypatch.setenv("MILCNN_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(download, "ROOT", tmp_path)
    return folder


def test_fields_are_joined_through_the_csv(small):
    screen = open_screen("bbbc021")
    screen.check()
    fields = screen.fields
    assert fields["Metadata_Compound"].tolist() == ["DMSO", "DMSO", "taxol", "taxol"] * 2
    assert fields["Metadata_Batch"].tolist() == ["Week4"] * 4 + ["Week2"] * 4
    assert fields["Metadata_Site"].tolist() == [1, 2] * 4
    assert fields["Metadata_Replicate"].tolist() == [2] * 8
    assert fields["Metadata_Control"].tolist() == [True, True, False, False] * 2
    assert screen.classes == ["DMSO", "Stabilizers"]
    for _, row in fields.iterrows():
        assert screen.read(row)[:, 0, 0].tolist() == [100 * row["Metadata_Site"] + w for w in (1, 2, 4)]


def test_plates_restrict_what_is_fetched(small):
    (small / "BBBC021_v1_images_Week2_2.zip").unlink()
    screen = open_screen("bbbc021", plates=["Week4_1"])
    assert screen.fields["Metadata_Plate"].unique().tolist() == ["Week4_1"]
    with pytest.raises(ValueError, match="BBBC021 has no plate Week4_9; use names of its image CSV"):
        open_screen("bbbc021", plates=["Week4_1", "Week4_9"])


def test_dmso_may_scale_the_plates_without_being_a_class(small):
    screen = open_screen("bbbc021", dmso="control")
    assert screen.classes == ["Stabilizers"]
    assert np.count_nonzero(screen.fields["Metadata_Control"]) == 4


def rewrite(path, keep, extra=()):
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if keep(name)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [*contents.items(), *extra]:
            archive.writestr(name, content)


def test_skipped_fields_are_listed_with_the_missing_channel(small):
    rewrite(small / "BBBC021_v1_images_Week4_1.zip", lambda name: "A01_s2_w4" not in name)
    screen = open_screen("bbbc021", missing="skip")
    screen.check()
    assert screen.skipped[["Metadata_Well", "Metadata_Site", "reason"]].to_numpy().tolist() == [
        ["A01", 2, "the zip lacks Actin"]
    ]
    assert len(screen.fields) == 7
    with pytest.raises(ScreenError, match="lacks files of 1 of its 4 fields, such as A01_s2_w1"):
        open_screen("bbbc021").check()


def test_a_zip_that_points_outside_is_refused(small):
    rewrite(small / "BBBC021_v1_images_Week4_1.zip", lambda name: True, [("../evil.tif", b"x")])
    with pytest.raises(ImageError, match=r"Week4_1\.zip: its file '\.\./evil\.tif' points outside"):
        open_screen("bbbc021")


def test_half_a_zip_is_refused(small):
    path = small / "BBBC021_v1_images_Week4_1.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"Week4_1\.zip: not a whole zip"):
        open_screen("bbbc021")


def test_a_changed_zip_is_refused(small):
    open_screen("bbbc021")
    rewrite(small / "BBBC021_v1_images_Week4_1.zip", lambda name: True, [("more.txt", b"x")])
    with pytest.raises(ValueError, match=r"Week4_1\.zip: its SHA-256 is not"):
        open_screen("bbbc021")
