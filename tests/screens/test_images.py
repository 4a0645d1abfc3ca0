"""Image files as microscopes and users write them, compared with the arrays they were made from."""

import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.io import imsave

from milcnn.screens.images import ImageError, read_field, read_header, read_plane

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 65536, (3, 20, 30)).astype(np.uint16)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
def test_every_page_of_a_tiff_is_read_as_it_was_written(tmp_path, compression):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, STACK, compression=compression, photometric="minisblack")
    header = read_header(path)
    assert header.planes == [(20, 30, "uint16")] * 3
    assert (header.channels, header.pixel_size) == ([], None)
    for page, expected in enumerate(STACK):
        np.testing.assert_array_equal(read_plane(path, page), expected)


@pytest.mark.parametrize(("unit", "size"), [("µm", 0.325), ("nm", 325.0)])
def test_ome_metadata_gives_channels_and_micrometres(tmp_path, unit, size):
    path = str(tmp_path / "a.ome.tif")
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "Tubulin", "Actin"]}}
    metadata |= {"PhysicalSizeX": size, "PhysicalSizeXUnit": unit, "PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(path, STACK, metadata=metadata, photometric="minisblack")
    header = read_header(path)
    assert header.channels == ["DAPI", "Tubulin", "Actin"]
    assert header.pixel_size == pytest.approx(0.325)
    assert len(header.planes) == 3
    np.testing.assert_array_equal(read_plane(path, 2), STACK[2])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_of_an_rgb_tiff_are_planes(tmp_path, planar):
    path = str(tmp_path / "rgb.tif")
    image = STACK if planar == "separate" else np.moveaxis(STACK, 0, 2)
    tifffile.imwrite(path, image, photometric="rgb", planarconfig=planar)
    assert read_header(path).planes == [(20, 30, "uint16")] * 3
    np.testing.assert_array_equal(np.stack([read_plane(path, k) for k in range(3)]), STACK)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png_keeps_its_depth(tmp_path, dtype):
    path = str(tmp_path / "a.png")
    image = (STACK[0] >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    imsave(path, image, check_contrast=False)
    assert read_header(path).planes == [(20, 30, np.dtype(dtype).name)]
    read = read_plane(path)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


def test_colours_of_a_png_are_planes(tmp_path):
    path = str(tmp_path / "a.png")
    image = (np.moveaxis(STACK, 0, 2) >> 8).astype(np.uint8)
    imsave(path, image, check_contrast=False)
    assert read_header(path).planes == [(20, 30, "uint8")] * 3
    np.testing.assert_array_equal(read_plane(path, 1), image[..., 1])


def test_a_file_in_a_zip_is_read_in_place(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    with zipfile.ZipFile(tmp_path / "plate.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.tif", "plate/a.tif")
    path = f"{tmp_path}/plate.zip/plate/a.tif"
    assert read_header(path).planes == [(20, 30, "uint16")]
    np.testing.assert_array_equal(read_plane(path), STACK[0])
    with pytest.raises(ImageError, match=r"plate\.zip: has no such file \('plate/b\.tif'\)"):
        read_plane(path.replace("a.tif", "b.tif"))
    assert not (tmp_path / "plate").exists()


def test_threads_share_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "plate.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(64):
            tifffile.imwrite(tmp_path / "a.tif", STACK[0] + np.uint16(number))
            archive.write(tmp_path / "a.tif", f"{number}.tif")
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(read_plane, [f"{tmp_path}/plate.zip/{number}.tif" for number in range(64)]))
    for number, image in enumerate(images):
        np.testing.assert_array_equal(image, STACK[0] + np.uint16(number))


def test_a_field_is_its_channels_in_order(tmp_path):
    tifffile.imwrite(tmp_path / "two.tif", STACK[:2], photometric="minisblack")
    tifffile.imwrite(tmp_path / "one.tif", STACK[2])
    row = pd.Series({"Path_b": f"{tmp_path}/two.tif", "Page_b": 1, "Path_a": f"{tmp_path}/one.tif"})
    np.testing.assert_array_equal(read_field(row, ["a", "b"]), STACK[[2, 1]])


def test_channels_of_different_size_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    tifffile.imwrite(tmp_path / "b.tif", STACK[0, :10])
    row = pd.Series({"Path_a": f"{tmp_path}/a.tif", "Path_b": f"{tmp_path}/b.tif"})
    with pytest.raises(ImageError, match=r"a\.tif: the channels of this field differ"):
        read_field(row, ["a", "b"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_image_with_a_value_that_is_not_finite_is_refused(tmp_path, bad):
    image = STACK[0].astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(read_plane(f"{tmp_path}/a.tif"), image)
    image[3, 4] = bad
    tifffile.imwrite(tmp_path / "a.tif", image)
    with pytest.raises(ImageError, match=r"a\.tif: pixels that are NaN or infinite \(1\)"):
        read_plane(f"{tmp_path}/a.tif")


def broken(tmp_path, name):
    """A broken file of each kind, and what the error message must say about it."""
    path = tmp_path / name
    if name == "half.tif":  # the header is complete, some pixels are missing
        tifffile.imwrite(path, STACK[0])
        path.write_bytes(path.read_bytes()[:-600])
        return path, "truncated"
    if name == "head.tif":
        tifffile.imwrite(path, STACK[0])
        path.write_bytes(path.read_bytes()[:20])
        return path, "truncated or not an image"
    if name == "half.png":
        imsave(path, STACK[0], check_contrast=False)
        path.write_bytes(path.read_bytes()[:-200])
        return path, "truncated"
    if name == "palette.png":
        pytest.importorskip("PIL.Image").new("P", (4, 4)).save(path)
        return path, r"not a grey or RGB PNG of 8 or 16 bits \(palette\)"
    if name == "gone.tif":
        return path, "no such file"
    path.write_bytes({"empty.tif": b"", "empty.png": b""}.get(name, b"hello, this is text" * 20))
    return path, {".tif": "empty|not an image", ".png": "empty|not a PNG", ".jpg": "cannot be read"}[path.suffix]


NAMES = ["half.tif", "head.tif", "empty.tif", "text.tif", "gone.tif", "half.png", "empty.png", "text.png", "a.jpg"]


@pytest.mark.parametrize("name", [*NAMES, "palette.png"])
def test_a_broken_file_is_named_in_one_sentence(tmp_path, name):
    path, expected = broken(tmp_path, name)
    with pytest.raises(ImageError, match=expected) as caught:
        read_header(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["half.tif", "text.tif", "half.png", "gone.tif"])
def test_pixels_of_a_broken_file_are_never_invented(tmp_path, name):
    path, _ = broken(tmp_path, name)
    with pytest.raises(ImageError, match=name):
        read_plane(str(path))


def test_an_incomplete_zip_is_named_in_one_sentence(tmp_path):
    path = tmp_path / "plate.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tif", bytes(5000))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"plate\.zip: not a whole zip, perhaps a broken download"):
        read_header(f"{path}/a.tif")


@pytest.mark.parametrize("name", ["../a.tif", "plate/../../a.tif", "/etc/a.tif", "..\\a.tif", "C:\\a.tif"])
def test_a_zip_that_points_outside_its_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "plate.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("good.tif"), b"")
        archive.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(ImageError, match=r"plate\.zip: its file .* points outside"):
        read_plane(f"{tmp_path}/plate.zip/good.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["plate.zip"]
