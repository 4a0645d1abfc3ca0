"""Pixels of TIFF and PNG as programs write them: read as they were written, or refused in one sentence."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile

from milcnn.screens.images import read_header, read_plane
from milcnn.screens.opening import ImageError

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 4096, (3, 64, 48)).astype(np.uint16)
GREY = (STACK[0] >> 4).astype(np.uint8)


def crc(image) -> int:
    return zlib.crc32(np.ascontiguousarray(image).tobytes())


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib", "predictor": True},
        {"compression": "lzw", "rowsperstrip": 10},
        {"compression": "lzw", "predictor": True},
        {"compression": "lzw", "byteorder": ">", "tile": (16, 16)},
        {"compression": "lzw", "photometric": "rgb", "planarconfig": "separate"},
        {"compression": "zstd"},
        {"rowsperstrip": 7},
        {"planarconfig": "separate", "photometric": "rgb"},
        {"planarconfig": "separate", "photometric": "rgb", "tile": (16, 16), "compression": "zlib"},
    ],
)
def test_every_layout_gives_the_pixels(tmp_path, options):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, STACK, **{"photometric": "minisblack", **options})
    assert read_header(path).planes == [(64, 48, "uint16")] * 3
    for page, expected in enumerate(STACK):
        image = read_plane(path, page)
        assert image.dtype.isnative
        assert crc(image) == crc(expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"])
def test_a_dtype_is_kept(tmp_path, dtype):
    path, image = str(tmp_path / "a.tif"), STACK[0].astype(dtype)
    tifffile.imwrite(path, image)
    assert read_plane(path).dtype == dtype
    assert crc(read_plane(path)) == crc(image)


def test_twelve_bits_packed(tmp_path):
    path = str(tmp_path / "a.tif")
    data = b"".join(struct.pack(">I", int(a) << 20 | int(b) << 8)[:3] for a, b in STACK[0].reshape(-1, 2))
    by_hand(path, data, {258: 12})
    assert crc(read_plane(path)) == crc(STACK[0])


def by_hand(path, data: bytes, tags: dict[int, int], counts=None) -> None:
    """A little-endian TIFF of one page of 64 × 48 px, 16 bits, grey; ``tags`` replace, ``counts`` are the strips'."""
    counts = counts or [len(data)]
    both = {256: 48, 257: 64, 258: 16, 259: 1, 262: 1, 277: 1, 278: -(-64 // len(counts)), **tags}
    start, places = 8 + 2 + 12 * (len(both) + 2) + 4, len(data)
    starts = [start + sum(counts[:at]) for at in range(len(counts))]
    lists = {273: starts, 279: counts}
    rest, entries = b"", []
    for code in sorted({**both, **lists}):
        values = lists.get(code, [both.get(code, 0)])
        value = values[0]
        if len(values) > 1:
            value, rest = start + places + len(rest), rest + struct.pack(f"<{len(values)}I", *values)
        entries.append(struct.pack("<HHII", code, 4, len(values), value))
    with open(path, "wb") as file:
        file.write(b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + data + rest)


def test_copies_of_lower_resolution_are_no_planes(tmp_path):
    """A pyramid in SubIFDs, one in pages, a thumbnail."""
    small = STACK[0, ::2, ::2]
    with tifffile.TiffWriter(tmp_path / "sub.tif") as tif:
        for plane in STACK[:2]:
            tif.write(plane, subifds=1)
            tif.write(plane[::2, ::2], subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tif:
        for plane in (STACK[0], small, STACK[1], small):
            tif.write(plane, subfiletype=int(plane is small))
    for name in ("sub.tif", "pages.tif"):
        assert read_header(str(tmp_path / name)).planes == [(64, 48, "uint16")] * 2
        for page in (0, 1):
            assert crc(read_plane(str(tmp_path / name), page)) == crc(STACK[page])


def test_colours_saved_from_grey_are_grey(tmp_path):
    for planes, suffix in (([GREY] * 3, "tif"), ([GREY] * 3, "png"), ([GREY] * 3 + [GREY * 0 + 9], "png")):
        path, image = tmp_path / f"{len(planes)}.{suffix}", np.stack(planes, axis=2)
        if suffix == "tif":
            tifffile.imwrite(path, image, photometric="rgb")
        else:
            path.write_bytes(imagecodecs.png_encode(image))
        header = read_header(str(path))
        assert (header.planes, header.colours) == ([(64, 48, "uint8")] * 3, True)
        assert crc(read_plane(str(path))) == crc(GREY)
        image[5, 6, 1] += 1
        tifffile.imwrite(path, image, photometric="rgb") if suffix == "tif" else path.write_bytes(
            imagecodecs.png_encode(image)
        )
        with pytest.raises(ImageError, match=r"colours that differ; save it as grey, or number a colour, 0 to 2, in"):
            read_plane(str(path))
        assert crc(read_plane(str(path), 1)) == crc(image[..., 1])


def test_alpha_is_no_plane(tmp_path):
    rgba = np.stack([*STACK, np.full((64, 48), 65535, np.uint16)], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(rgba.copy()))
    (tmp_path / "grey.png").write_bytes(imagecodecs.png_encode(rgba[..., [0, 3]].copy()))
    for name in ("a.tif", "a.png"):
        assert read_header(str(tmp_path / name)).planes == [(64, 48, "uint16")] * 3
        assert crc(read_plane(str(tmp_path / name), 2)) == crc(STACK[2])
    assert read_header(str(tmp_path / "grey.png")).planes == [(64, 48, "uint16")]
    assert crc(read_plane(str(tmp_path / "grey.png"))) == crc(STACK[0])


def test_a_palette_that_only_shades_is_grey(tmp_path):
    ramp = np.arange(256, dtype=np.uint16) * 257
    shades = np.stack([ramp * 0, ramp, ramp])
    tifffile.imwrite(tmp_path / "shades.tif", GREY, photometric="palette", colormap=shades)
    assert crc(read_plane(str(tmp_path / "shades.tif"))) == crc(GREY)
    tifffile.imwrite(tmp_path / "colours.tif", GREY, photometric="palette", colormap=RNG.permuted(shades, axis=1))
    with pytest.raises(
        ImageError, match=r"colours\.tif: a palette of colours in place of grey values; save it as grey"
    ):
        read_header(str(tmp_path / "colours.tif"))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (STACK[0] > 9, {}, r"a kind of number that cannot be read \(1 bit\); save it as 8 or 16 bits"),
        (STACK[0].astype(complex), {}, r"cannot be read \(complex128\)"),
        (STACK[0].astype(float), {}, r"cannot be read \(float64\); save it as 8 or 16 bits, or as float32"),
        (STACK[0].astype(np.uint64), {}, r"cannot be read \(uint64\)"),
        (STACK[0], {"photometric": "miniswhite"}, "inverted grey values, 0 is white"),
        (np.moveaxis(STACK[[0, 1, 2, 0]], 0, 2), {"photometric": "separated"}, r"neither grey nor RGB \(SEPARATED\)"),
    ],
)
def test_what_is_no_grey_image_is_named(tmp_path, image, options, message):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, image, **options)
    for read in (read_header, read_plane):
        with pytest.raises(ImageError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_strip_that_was_never_written_is_named(tmp_path):
    data, path = STACK[0].tobytes(), str(tmp_path / "a.tif")
    by_hand(path, data, {}, [len(data) // 2] * 2)
    assert crc(read_plane(path)) == crc(STACK[0])
    by_hand(path, data[: len(data) // 2], {}, [len(data) // 2, 0])
    for read in (read_header, read_plane):
        with pytest.raises(
            ImageError, match=r"a\.tif: a part that was never written \(page 0\); copy or export it again"
        ):
            read(path)
    by_hand(path, data[:-100], {})
    with pytest.raises(ImageError, match=r"a\.tif: pixels are missing \(6044 of 6144 bytes in page 0\)"):
        read_plane(path)


def test_a_long_stack_in_lzw_is_read_page_by_page(tmp_path):
    path, stack = str(tmp_path / "a.tif"), np.concatenate([STACK] * 5)
    tifffile.imwrite(path, stack, compression="lzw", photometric="minisblack")
    assert [crc(read_plane(path, page)) for page in range(15)] == [crc(page) for page in stack]


def test_a_broken_strip_of_lzw_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], compression="lzw", rowsperstrip=16)
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[0].dataoffsets[1], tif.pages[0].databytecounts[1]
    content = bytearray(path.read_bytes())
    content[start + 9 : start + count] = bytes(count - 9)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.tif: truncated or not an image \(.*\); copy or export it again\."):
        read_plane(str(path))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_pixels_are_never_invented(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, compression=compression, photometric="minisblack")
    whole = path.read_bytes()
    for length in (len(whole) // 3, len(whole) - 500):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError, match=r"a\.tif: truncated"):
            read_header(str(path))
        with pytest.raises(ImageError):
            read_plane(str(path), 2)


FLEX = '<?xml version="1.0"?><Root><FLEX><Arrays>{}</Arrays></FLEX></Root>'


def flex(path, planes, factors) -> str:
    arrays = "".join(f'<Array Name="Exp{at}Cam1" Factor="{factor}"/>' for at, factor in enumerate(factors))
    xml = FLEX.format(arrays).encode()
    with tifffile.TiffWriter(path) as tif:
        for plane in planes:
            tif.write(plane, metadata=None, extratags=[(65200, 2, len(xml) + 1, xml, True)])
    return str(path)


def test_the_factors_of_a_flex_file_are_applied(tmp_path):
    """As Bio-Formats does: the product is cut to a whole number, and all planes get 16 bits."""
    path = flex(tmp_path / "a.flex", STACK, ["1.0", "2.5", "0.1"])
    for page, factor in enumerate((1, 2.5, 0.1)):
        expected = np.floor(STACK[page] * factor).astype(np.uint16)
        assert crc(read_plane(path, page)) == crc(expected)
    path = flex(tmp_path / "8bit.flex", [GREY], ["16.0"])
    assert read_header(path).planes == [(64, 48, "uint16")]
    assert crc(read_plane(path)) == crc(GREY.astype(np.uint16) * 16)
    assert crc(read_plane(flex(tmp_path / "none.flex", [GREY], []))) == crc(GREY)


def test_one_factor_is_that_of_all_pages(tmp_path):
    assert crc(read_plane(flex(tmp_path / "a.flex", STACK, [2, 2]), 2)) == crc(STACK[2] * 2)


def test_factors_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"b\.flex: not one Factor for each page \(2 for 3 pages\)"):
        read_header(flex(tmp_path / "b.flex", STACK, [1, 2]))
    with pytest.raises(ImageError, match=r"c\.flex: the Factor of a plane is too large for 16 bits \(100\.0\)"):
        read_plane(flex(tmp_path / "c.flex", STACK[:1], [100]))
