import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import label
from skimage.io import imread, imsave

from milcnn.columns import FIELD_KEY
from milcnn.paths import ROOT
from milcnn.screens.sets import micronuclei
from milcnn.screens.sets.micronuclei import MicronucleiSettings, micronuclei_screen

SIDE = 32
NUCLEUS = np.s_[40:56, 40:60]
MICRONUCLEUS = np.s_[10:14, 30:36]  # across two tiles: 8 px in the left one, 16 px in the right one


@pytest.fixture
def images():
    """One made-up image per set: (name, image, micronuclei, nuclei)."""
    rng = np.random.default_rng(0)
    made = []
    for number, split in enumerate(["training", "validation", "test"]):
        image = rng.normal(200, 5, (70, 101))
        nuclei, small = np.zeros((2, 70, 101), bool)
        nuclei[NUCLEUS], small[MICRONUCLEUS] = True, True
        image[nuclei] += 900 + 100 * number
        image[small] += 400
        made.append((f"{split}_2020-01-01_RPE1_{number}", image.clip(0, 65535).astype(np.uint16), small, nuclei))
    return made


def write_mirror(folder: Path, images: list) -> None:
    for kind in ("images", "mn_masks", "nucleus_masks"):
        (folder / "micronuclei" / kind).mkdir(parents=True, exist_ok=True)
    for name, image, small, nuclei in images:
        tifffile.imwrite(folder / "micronuclei" / "images" / f"{name}.tif", image)
        for kind, mask in (("mn", small), ("nucleus", nuclei)):
            path = folder / "micronuclei" / f"{kind}_masks" / f"{name}.png"
            imsave(path, mask.astype(np.uint8) * 255, check_contrast=False)


def write_package(folder: Path, images: list) -> None:
    """The layout of mnfinder 1.2.3, whose masks are RGBA, and which cannot be imported."""
    package = folder / "mnfinder"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('this needs tensorflow')\n")
    for name, image, small, nuclei in images:
        split, date, line, stem = name.split("_")
        home = package / f"{split}-data" / f"{date}_{line}"
        for kind in ("images", "mn_masks", "nucleus_masks"):
            (home / kind).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(home / "images" / f"{stem}.tif", image)
        for kind, mask in (("mn", small), ("nucleus", nuclei)):
            colours = np.stack([mask * 255, mask * 188, mask * 3, mask * 255], -1).astype(np.uint8)
            imsave(home / f"{kind}_masks" / f"{stem}.png", colours, check_contrast=False)


def mirror_screen(tmp_path, monkeypatch, images, **settings):
    write_mirror(tmp_path, images)
    monkeypatch.setenv("MILCNN_MIRROR", str(tmp_path))
    return micronuclei_screen(MicronucleiSettings(tile=SIDE, source="mirror", **settings))


def test_labels_follow_the_masks(tmp_path, monkeypatch, images):
    screen = mirror_screen(tmp_path, monkeypatch, images, minimum_pixels=10)
    assert len(screen.fields) == 3 * 2 * 3  # 70 × 101 px have room for 2 × 3 whole tiles
    first = screen.fields[screen.fields["Metadata_Well"] == images[0][0]]
    # 4 × 2 px of the micronucleus are in tile 1 and 4 × 4 px in tile 2
    assert first["pixels"].tolist() == [8, 16, 0, 0, 0, 0]
    assert first["Metadata_Label"].tolist() == ["none", "micronucleus", "none", "none", "none", "none"]
    assert screen.fields.groupby("Metadata_Split", sort=False).size().to_dict() == {
        "test": 6,
        "train": 6,
        "validation": 6,
    }


def test_a_lower_minimum_counts_rims(tmp_path, monkeypatch, images):
    screen = mirror_screen(tmp_path, monkeypatch, images, minimum_pixels=8)
    assert (screen.fields["Metadata_Label"] == "micronucleus").sum() == 6


def test_truth_and_objects_agree(tmp_path, monkeypatch, images):
    screen = mirror_screen(tmp_path, monkeypatch, images)
    for _, row in screen.fields.iterrows():
        truth = screen.truth(row)
        objects = screen.objects.set_index(FIELD_KEY).loc[lambda t, r=row: t.index == tuple(r[FIELD_KEY])]
        assert np.unique(truth[truth > 0]).tolist() == objects["object"].tolist()
        small = objects.loc[objects["class"] == "micronucleus", "object"]
        y, x = row["y"], row["x"]
        np.testing.assert_array_equal(np.isin(truth, small), images[0][2][y : y + SIDE, x : x + SIDE])
        np.testing.assert_array_equal(truth > 0, (images[0][2] | images[0][3])[y : y + SIDE, x : x + SIDE])


def test_bit_depth_exposure_and_offset_do_not_matter(tmp_path, monkeypatch, images):
    (a, image, *masks), (b, *_), (c, *_) = images
    eight = (image // 8).clip(0, 255).astype(np.uint8)
    same = [(a, eight, *masks), (b, eight.astype(np.uint16) * 200, *masks), (c, eight + np.uint16(3000), *masks)]
    screen = mirror_screen(tmp_path, monkeypatch, same)
    tiles = {well: screen.read(rows.iloc[1]) for well, rows in screen.fields.groupby("Metadata_Well")}
    assert {tile.dtype for tile in tiles.values()} == {np.dtype(np.uint16)}
    np.testing.assert_array_equal(tiles[a], tiles[b])
    np.testing.assert_array_equal(tiles[a], tiles[c])


def test_background_and_nucleus_have_their_grey_values(tmp_path, monkeypatch, images):
    screen = mirror_screen(tmp_path, monkeypatch, images)
    row = screen.fields[screen.fields["Metadata_Well"] == images[0][0]].iloc[4]  # y 32…63, x 32…63
    tile, nucleus = screen.read(row)[0], images[0][3][32:64, 32:64]
    assert np.median(tile[~nucleus]) == pytest.approx(1_000, abs=100)
    # the micronucleus may be above or below Otsu's threshold; the nucleus is much larger
    assert np.median(tile[nucleus]) == pytest.approx(11_000, abs=200)


def test_an_image_of_two_sets_stays_in_the_later_one(tmp_path, monkeypatch, images):
    (train, _, *masks), validation, (test, image, *_) = images
    screen = mirror_screen(tmp_path, monkeypatch, [(train, image, *masks), validation, images[2]])
    assert set(screen.fields["Metadata_Well"]) == {validation[0], test}


def test_package_is_located_without_being_imported(tmp_path, monkeypatch, images):
    write_package(tmp_path, images)
    mirror = tmp_path / "mirror"
    write_mirror(mirror, images)
    monkeypatch.setenv("MILCNN_MIRROR", str(mirror))
    monkeypatch.syspath_prepend(tmp_path)
    of_package = micronuclei_screen(MicronucleiSettings(tile=SIDE))
    of_mirror = micronuclei_screen(MicronucleiSettings(tile=SIDE, source="mirror"))
    assert of_package.fields.equals(of_mirror.fields)
    assert of_package.objects.equals(of_mirror.objects)
    assert micronuclei.find_sources()[0].image.is_relative_to(tmp_path / "mnfinder")
    row = of_package.fields.iloc[0]
    np.testing.assert_array_equal(of_package.read(row), of_mirror.read(row))


def test_without_images_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MILCNN_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps mnfinder==1\.2\.3"):
        micronuclei_screen(MicronucleiSettings(source="mirror"))


def test_bad_files_are_named(tmp_path, monkeypatch, images):
    name, image, small, nuclei = images[0]
    with pytest.raises(ValueError, match=rf"mn_masks/{name}\.png: \(69, 101\) is not the shape"):
        mirror_screen(tmp_path, monkeypatch, [(name, image, small[1:], nuclei)])
    screen = mirror_screen(tmp_path, monkeypatch, [(name, np.full_like(image, 7), small, nuclei)])
    micronuclei.scaled_image.cache_clear()
    with pytest.raises(ValueError, match="all its pixels are 7"):
        screen.read(screen.fields.iloc[0])
    with pytest.raises(ValueError, match=r"holiday\.tif: its name must start with one of training"):
        mirror_screen(tmp_path, monkeypatch, [("holiday", image, small, nuclei)])


MIRROR = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared" / "data" / "mirror")
REAL = MIRROR.parent / "micronuclei"


@pytest.mark.skipif(not REAL.exists(), reason="needs the micronuclei images beside MILCNN_MIRROR")
def test_published_images(monkeypatch):
    monkeypatch.setenv("MILCNN_MIRROR", str(MIRROR))
    screen = micronuclei_screen(MicronucleiSettings(source="mirror"))
    fields = screen.fields
    assert fields["Metadata_Well"].nunique() == 48  # of 49: one is both a training and a test image
    assert "training_2022-05-26_RPE1_1" not in set(fields["Metadata_Well"])
    theirs = fields["Metadata_Well"].str.split("_").str[0].replace("training", "train")
    assert (theirs == fields["Metadata_Split"]).all()
    for _, row in fields.sample(12, random_state=0).iterrows():
        mask = imread(REAL / "mn_masks" / f"{row['Metadata_Well']}.png") > 0
        inside = mask[row["y"] : row["y"] + 128, row["x"] : row["x"] + 128]
        assert inside.shape == (128, 128)
        assert row["pixels"] == inside.sum()
        assert (row["Metadata_Label"] == "micronucleus") == (inside.sum() >= 10)
        objects = screen.objects.merge(row[FIELD_KEY].to_frame().T.infer_objects(), on=FIELD_KEY)
        assert (objects["class"] == "micronucleus").sum() == label(inside, np.ones((3, 3)))[1]
        assert screen.read(row).shape == (1, 128, 128)
