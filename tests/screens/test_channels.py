"""Channels are found by their names, never by their place; the pixels tell which plane was read."""

import re
import uuid
import zipfile

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.screens.images import read_header, read_plane
from milcnn.screens.metadata import in_micrometres, ome_places
from milcnn.screens.opening import ImageError
from milcnn.screens.problems import ScreenError
from milcnn.screens.sets.kinds import open_screen

CHANNELS = ["DAPI", "Actin"]
FIELDS = np.random.default_rng(0).integers(0, 65536, (4, 2, 6, 8)).astype(np.uint16)
TABLE = {
    "Metadata_Plate": ["P1", "P1", "P2", "P2"],
    "Metadata_Well": ["A01", "B01", "A01", "B01"],
    "Metadata_Site": 1,
    "Metadata_Label": ["a", "b", "a", "b"],
}


def ome(
    channels: str, blocks: str = "<TiffData/>", sizes: str = 'SizeC="2" SizeZ="1" SizeT="1"', pixels: str = ""
) -> str:
    """OME-XML of one image, with these ``Channel`` and ``TiffData`` elements."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="8" SizeY="6" '
        f"{sizes} {pixels}>{channels}{blocks}</Pixels></Image></OME>"
    )


def named(*names: str) -> str:
    return "".join(f'<Channel ID="Channel:0:{at}" Name="{name}"/>' for at, name in enumerate(names))


def write(path, planes, xml=None) -> None:
    """A TIFF of one page a plane; the first page has the OME-XML."""
    with tifffile.TiffWriter(path) as tif:
        for at, plane in enumerate(planes):
            tif.write(plane, description=xml.encode() if xml and not at else None, metadata=None)


def screen_of(tmp_path, table, **settings):
    pd.DataFrame({**TABLE, **table}).to_csv(tmp_path / "table.csv", index=False)
    return open_screen("manifest", table=str(tmp_path / "table.csv"), images=str(tmp_path), **settings)


def assert_reads(screen, channels, order=(0, 1)) -> None:
    """The screen has these channels, and each is the plane ``order`` of ``FIELDS``."""
    screen.check()
    assert screen.channels == channels
    for (_, row), field in zip(screen.fields.iterrows(), FIELDS, strict=True):
        np.testing.assert_array_equal(screen.read(row), field[list(order)])


def problem_of(screen) -> str:
    with pytest.raises(ScreenError) as caught:
        screen.check()
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def swapped(tmp_path):
    """Files of two pages; on plate P2 Actin is the first channel, and ``TiffData`` turns the pages of field 3."""
    turned = '<TiffData FirstC="1" IFD="0" PlaneCount="1"/><TiffData FirstC="0" IFD="1" PlaneCount="1"/>'
    for number, field in enumerate(FIELDS):
        names = CHANNELS if number in (0, 1, 3) else CHANNELS[::-1]
        planes = field if number < 2 else field[::-1]
        write(tmp_path / f"{number}.ome.tif", planes, ome(named(*names), turned if number == 3 else "<TiffData/>"))
    return {"Path": [f"{number}.ome.tif" for number in range(4)]}


def test_the_names_of_each_file_tell_its_planes(tmp_path, swapped):
    assert_reads(screen_of(tmp_path, swapped), CHANNELS)


@pytest.mark.parametrize("channels", [["Actin", "DAPI"], ["Actin"], ["DAPI"]])
def test_the_setting_chooses_by_name_and_gives_the_order(tmp_path, swapped, channels):
    order = [CHANNELS.index(channel) for channel in channels]
    assert_reads(screen_of(tmp_path, swapped, channels=channels), channels, order)


def test_a_path_column_for_each_channel_may_name_the_same_file(tmp_path, swapped):
    assert_reads(screen_of(tmp_path, {f"Path_{channel}": swapped["Path"] for channel in CHANNELS}), CHANNELS)


def test_a_name_that_a_file_lacks_is_refused(tmp_path, swapped):
    problem = problem_of(screen_of(tmp_path, swapped, channels=["DAPI", "Aktin"]))
    assert problem.startswith("4 times: no plane named Aktin; choose others in 'channels', or correct the file:")
    assert "0.ome.tif (plate P1, well A01, site 1): DAPI, Actin" in problem
    write(tmp_path / "3.ome.tif", FIELDS[3])
    assert problem_of(screen_of(tmp_path, swapped, channels=["DAPI"])).endswith(
        "3.ome.tif (plate P2, well B01, site 1): no plane named DAPI (no names); "
        "choose others in 'channels', or correct the file."
    )


def test_more_channels_than_in_the_first_file_are_refused_unless_chosen(tmp_path, swapped):
    write(tmp_path / "3.ome.tif", FIELDS[3, [0, 1, 1]], ome(named(*CHANNELS, "RNA"), sizes='SizeC="3"'))
    assert "3.ome.tif (plate P2, well B01, site 1): wrong number of pages (3, not 2)" in problem_of(
        screen_of(tmp_path, swapped)
    )
    assert_reads(screen_of(tmp_path, swapped, channels=CHANNELS), CHANNELS)


def test_names_that_repeat_are_refused(tmp_path, swapped):
    write(tmp_path / "2.ome.tif", FIELDS[2], ome(named("DAPI", "DAPI")))
    assert "2.ome.tif (plate P2, well A01, site 1): more than one plane named DAPI (DAPI, DAPI)" in problem_of(
        screen_of(tmp_path, swapped, channels=["DAPI"])
    )


def test_one_image_does_not_stand_for_two_channels(tmp_path):
    write(tmp_path / "a.tif", FIELDS[0, :1])
    screen = screen_of(tmp_path, {"Path_DAPI": ["a.tif"] * 4, "Path_Actin": ["a.tif"] * 4, "Metadata_Site": 1})
    with pytest.raises(ScreenError, match=r"a\.tif .*: one image stands for two channels \(DAPI and Actin\)"):
        screen.check()
    both = '<TiffData FirstC="0" IFD="0"/><TiffData FirstC="1" IFD="0"/>'
    write(tmp_path / "b.tif", FIELDS[0], ome(named(*CHANNELS), both))
    with pytest.raises(ImageError, match=r"b\.tif: two channels in one page of its OME-XML \(page 0\)"):
        read_header(str(tmp_path / "b.tif"))


@pytest.mark.parametrize("with_page", [True, False])
def test_a_plane_with_the_name_of_another_channel_is_refused(tmp_path, with_page):
    """The table contradicts the file."""
    for number, field in enumerate(FIELDS):
        for channel, plane in zip(CHANNELS, field, strict=True):
            write(tmp_path / f"{number}_{channel}.tif", [plane], ome(named(channel), sizes='SizeC="1"'))
    table = {f"Path_{channel}": [f"{number}_{channel}.tif" for number in range(4)] for channel in CHANNELS}
    table |= {"Page_DAPI": 0} if with_page else {}
    assert_reads(screen_of(tmp_path, table), CHANNELS)
    table = {"Path_DAPI": table["Path_Actin"], "Path_Actin": table["Path_DAPI"]}
    assert problem_of(screen_of(tmp_path, table)).startswith("8 times: a plane of another channel; correct the table")


def test_without_names_the_setting_names_planes_by_place(tmp_path):
    for number, field in enumerate(FIELDS):
        write(tmp_path / f"{number}.tif", field)
    table = {"Path": [f"{number}.tif" for number in range(4)]}
    assert_reads(screen_of(tmp_path, table, channels=CHANNELS), CHANNELS)
    assert_reads(screen_of(tmp_path, {**table, "Page_Actin": 1, "Page_DAPI": 0}), ["Actin", "DAPI"], (1, 0))
    assert "4 times: wrong number of pages" in problem_of(screen_of(tmp_path, table, channels=[*CHANNELS, "RNA"]))
    assert "4 times: wrong number of pages" in problem_of(screen_of(tmp_path, table, channels=["DAPI"]))
    write(tmp_path / "3.tif", FIELDS[3, ::-1], ome(named("Actin", "DAPI")))  # its names contradict the places
    assert problem_of(screen_of(tmp_path, table, channels=CHANNELS)).startswith(
        f"{tmp_path}/3.tif (plate P2, well B01, site 1): a plane of another channel (DAPI in the file, Actin"
    )


@pytest.mark.parametrize(("page", "shown"), [("-1", "-1"), ("0.5", "0.5"), ("inf", "inf")])
def test_a_page_that_is_no_whole_number_is_refused(tmp_path, page, shown):
    with pytest.raises(ScreenError, match=rf"Page_DAPI is not a whole number in 1 rows, as '{shown}'"):
        screen_of(tmp_path, {"Path_DAPI": "a.tif", "Page_DAPI": ["0", "1", "1", page]})


def test_an_empty_page_is_the_only_plane(tmp_path):
    for number, field in enumerate(FIELDS):
        write(tmp_path / f"{number}.tif", field[:1] if number else field)
    table = {"Path_DAPI": [f"{number}.tif" for number in range(4)], "Page_DAPI": ["0", "", "", ""]}
    assert_reads(screen_of(tmp_path, table), ["DAPI"], [0])


def plate_of_files(tmp_path, rename=False) -> str:
    """The OME-XML of four images, a file for each channel; gives it and writes the files, which only point to it."""
    images, whole = "", f"urn:uuid:{uuid.UUID(int=99)}"
    head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{}">'
    for number, field in enumerate(FIELDS):
        blocks = ""
        for at, plane in enumerate(field):
            own, name = f"urn:uuid:{uuid.UUID(int=10 * number + at)}", f"{number}_w{at}.ome.tif"
            only = f'<BinaryOnly MetadataFile="plate.companion.ome" UUID="{whole}"/>'
            write(tmp_path / name, [plane], head.format(own) + only + "</OME>")
            blocks += f'<TiffData FirstC="{at}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{own}</UUID></TiffData>'
        pixels = 'DimensionOrder="XYZCT" SizeC="2" SizeZ="1" SizeT="1" PhysicalSizeX="325" PhysicalSizeXUnit="nm"'
        images += f"<Image><Pixels {pixels}>{named(*CHANNELS)}{blocks}</Pixels></Image>"
    return head.format(whole) + images + "</OME>"


@pytest.mark.parametrize("in_zip", [False, True])
def test_a_companion_file_tells_names_and_pixel_size(tmp_path, in_zip):
    (tmp_path / "plate.companion.ome").write_text(plate_of_files(tmp_path), encoding="utf-8")
    table = {f"Path_{name}": [f"{number}_w{at}.ome.tif" for number in range(4)] for at, name in enumerate(CHANNELS)}
    if in_zip:
        with zipfile.ZipFile(tmp_path / "plate.zip", "w") as archive:
            for path in tmp_path.glob("*.ome*"):
                archive.write(path, path.name)
                path.unlink()
        table = {column: [f"plate.zip/{name}" for name in files] for column, files in table.items()}
    screen = screen_of(tmp_path, table)
    assert_reads(screen, CHANNELS)
    assert screen.pixel_size == pytest.approx(0.325)
    swapped = {"Path_DAPI": table["Path_Actin"], "Path_Actin": table["Path_DAPI"]}
    assert "8 times: a plane of another channel" in problem_of(screen_of(tmp_path, swapped))


@pytest.mark.parametrize("uuids", [True, False])
def test_each_file_may_tell_of_all_files(tmp_path, uuids):
    """A set of OME-TIFFs: the XML of each has the planes of all, by the name of their file."""
    xml = plate_of_files(tmp_path)
    for number, field in enumerate(FIELDS):
        for at, plane in enumerate(field):
            own = f"urn:uuid:{uuid.UUID(int=10 * number + at)}"
            text = xml.replace(f"urn:uuid:{uuid.UUID(int=99)}", own)
            text = text if uuids else re.sub("urn:uuid:[-0-9a-f]*", "", text)
            write(tmp_path / f"{number}_w{at}.ome.tif", [plane], text)
            assert read_header(str(tmp_path / f"{number}_w{at}.ome.tif")).channels == [CHANNELS[at]]
            (tmp_path / f"{number}_w{at}.ome.tif").rename(tmp_path / "renamed.ome.tif")
            assert read_header(str(tmp_path / "renamed.ome.tif")).channels == ([CHANNELS[at]] if uuids else [])


def test_a_companion_file_may_be_missing(tmp_path):
    plate_of_files(tmp_path)
    table = {f"Path_{name}": [f"{number}_w{at}.ome.tif" for number in range(4)] for at, name in enumerate(CHANNELS)}
    assert_reads(screen_of(tmp_path, table), CHANNELS)


@pytest.mark.parametrize("channels", ["<Channel/><Channel/>", "", '<Channel Name=" "/><Channel ID="Channel:0:1"/>'])
def test_channels_without_a_name_are_named_by_the_setting(tmp_path, channels):
    for number, field in enumerate(FIELDS):
        write(tmp_path / f"{number}.ome.tif", field, ome(channels))
    table = {"Path": [f"{number}.ome.tif" for number in range(4)]}
    assert_reads(screen_of(tmp_path, table, channels=CHANNELS), CHANNELS)
    with pytest.raises(ScreenError, match="its images have no channel names"):
        screen_of(tmp_path, table)


def test_names_stay_as_they_are(tmp_path):
    """Names that look like numbers keep their digits."""
    write(tmp_path / "a.ome.tif", FIELDS[0], ome(named("0405", "488 &amp; 561")))
    assert read_header(str(tmp_path / "a.ome.tif")).channels == ["0405", "488 & 561"]


def test_labels_of_an_imagej_hyperstack_are_names(tmp_path):
    table = {"Path": [f"{number}.tif" for number in range(4)]}
    for number, field in enumerate(FIELDS):
        order = (0, 1) if number % 2 else (1, 0)
        metadata = {"axes": "CYX", "Labels": [CHANNELS[at] for at in order], "unit": "\\u00B5m"}
        tifffile.imwrite(
            tmp_path / f"{number}.tif", field[list(order)], imagej=True, resolution=(2, 2), metadata=metadata
        )
    screen = screen_of(tmp_path, table, channels=CHANNELS)
    assert_reads(screen, CHANNELS)
    assert screen.pixel_size == 0.5
    for number, field in enumerate(FIELDS):  # labels that name files are not names of channels, slices may be channels
        metadata = {
            "axes": "CYX" if number else "ZYX",
            "Labels": [f"{number}_w1.tif", f"{number}_w2.tif"],
            "unit": "pixel",
        }
        tifffile.imwrite(tmp_path / f"{number}.tif", field, imagej=True, resolution=(2, 2), metadata=metadata)
    screen = screen_of(tmp_path, table, channels=CHANNELS)
    assert_reads(screen, CHANNELS)
    assert screen.pixel_size is None


def test_a_large_imagej_stack_whose_planes_have_no_pages_is_refused(tmp_path):
    text = b"ImageJ=1.53t\nimages=3\nchannels=3\nhyperstack=true\n"
    tifffile.imwrite(tmp_path / "a.tif", FIELDS[0, 0], description=text, metadata=None)
    with pytest.raises(
        ImageError, match=r"a\.tif: a large ImageJ stack without pages \(3 planes\); save it as OME-TIFF"
    ):
        read_header(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("columns", [["Path"], ["Path_DAPI", "Path_Actin"]])
@pytest.mark.parametrize("kind", [{"ome": True}, {"imagej": True}])
def test_z_planes_and_time_points_in_a_file_are_chosen_by_rule(tmp_path, kind, columns):
    stacks = np.random.default_rng(0).integers(0, 9999, (4, 2, 3, 2, 6, 8)).astype(np.uint16)  # field, T, Z, C, Y, X
    for number, stack in enumerate(stacks):
        metadata = {"axes": "TZCYX", "Channel": {"Name": CHANNELS}} if "ome" in kind else {"axes": "TZCYX"}
        tifffile.imwrite(tmp_path / f"{number}.tif", stack, metadata=metadata, **kind)
    table = {column: [f"{number}.tif" for number in range(4)] for column in columns}
    with pytest.raises(ScreenError, match=r"has 2 time points .*; set 'time'"):
        screen_of(tmp_path, table, channels=CHANNELS)
    with pytest.raises(ScreenError, match=r"has 3 z planes .*; set 'z' to max, middle, sharpest or"):
        screen_of(tmp_path, table, channels=CHANNELS, time=1)
    for rule, expected in {"max": stacks[:, 1].max(axis=1), "middle": stacks[:, 1, 1], 2: stacks[:, 1, 2]}.items():
        screen = screen_of(tmp_path, table, channels=CHANNELS, time=1, z=rule)
        screen.check()
        np.testing.assert_array_equal([screen.read(row) for _, row in screen.fields.iterrows()], expected)
    tifffile.imwrite(tmp_path / "3.tif", stacks[3, :1], metadata=metadata, **kind)  # has lost a time point
    assert "wrong number of pages (6, not 12)" in problem_of(screen_of(tmp_path, table, channels=CHANNELS, time=0, z=0))


@pytest.mark.parametrize("kind", [{"ome": True}, {"imagej": True}])
def test_planes_that_the_table_numbers_need_no_rule(tmp_path, kind):
    stack = np.arange(2 * 3 * 2 * 48, dtype=np.uint16).reshape(2, 3, 2, 6, 8)
    for number in range(4):
        tifffile.imwrite(tmp_path / f"{number}.tif", stack, metadata={"axes": "TZCYX"}, **kind)
    paths = [f"{number}.tif" for number in range(4)]
    screen = screen_of(tmp_path, {"Path_DAPI": paths, "Path_Actin": paths, "Page_DAPI": 4, "Page_Actin": 5})
    screen.check()
    np.testing.assert_array_equal(screen.read(screen.fields.iloc[0]), stack[0, 2])


@pytest.mark.parametrize("order", ["XYCZT", "XYZCT", "XYTZC", "XYCTZ"])
def test_planes_follow_the_order_of_dimensions(order):
    """The pages are counted as numpy counts the array whose first axis changes fastest."""
    sizes = {"C": 2, "Z": 3, "T": 4}
    xml = ome(named(*CHANNELS), "<TiffData/>", 'SizeC="2" SizeZ="3" SizeT="4"').replace("XYCZT", order)
    places = ome_places(xml)[""]
    assert [place.page for place in places] == list(range(24))
    index = np.unravel_index(np.arange(24), [sizes[axis] for axis in order[2:]], order="F")
    expected = dict(zip(order[2:], index, strict=True))
    for axis, at in (("C", 3), ("Z", 4), ("T", 5)):
        assert [place[at] for place in places] == expected[axis].tolist()


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        ("0.5", "\u00b5m", 0.5),
        ("0.5", "\u03bcm", 0.5),
        ("0.5", "um", 0.5),
        ("500", "nm", 0.5),
        ("5e-4", "mm", 0.5),
        ("5E-5", "cm", 0.5),
        ("0.5", "micron", 0.5),
        ("0.5", "pixel", None),
        ("0.5", "reference frame", None),
        ("0.5", "Mm", None),  # megametre
        ("0", "\u00b5m", None),
        ("nan", "\u00b5m", None),
        ("", "\u00b5m", None),
    ],
)
def test_units_of_the_pixel_size(tmp_path, size, unit, expected):
    assert in_micrometres(size, unit) == (expected and pytest.approx(expected))
    xml = ome(named(*CHANNELS), pixels=f'PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}"')
    write(tmp_path / "a.ome.tif", FIELDS[0], xml)
    assert read_header(str(tmp_path / "a.ome.tif")).pixel_size == (expected and pytest.approx(expected))


def test_micrometres_are_the_unit_where_none_is_told(tmp_path):
    write(tmp_path / "a.ome.tif", FIELDS[0], ome(named(*CHANNELS), pixels='PhysicalSizeX="0.65"'))
    assert read_header(str(tmp_path / "a.ome.tif")).pixel_size == 0.65
    tifffile.imwrite(tmp_path / "b.tif", FIELDS[0, 0], resolution=(72, 72), resolutionunit="INCH")
    assert read_header(str(tmp_path / "b.tif")).pixel_size is None


def test_two_pixel_sizes_are_refused_unless_one_is_set(tmp_path):
    table = {"Path": [f"{number}.ome.tif" for number in range(4)]}
    for number, size in enumerate((0.5, 0.502, 0.5, 0.25)):  # the same objective, but for rounding, and another
        write(tmp_path / f"{number}.ome.tif", FIELDS[number], ome(named(*CHANNELS), pixels=f'PhysicalSizeX="{size}"'))
    assert "3.ome.tif (plate P2, well B01, site 1): not 0.5 µm a pixel like most files (0.25 µm); delete the rows" in (
        problem_of(screen_of(tmp_path, table))
    )
    assert_reads(screen_of(tmp_path, table, pixel_size=0.5), CHANNELS)


def test_broken_ome_xml_is_named(tmp_path):
    write(tmp_path / "a.ome.tif", FIELDS[0], "<OME><Image></OME>")
    with pytest.raises(ImageError, match=r"a\.ome\.tif: broken OME-XML \(mismatched tag.*\); export it again\."):
        read_plane(str(tmp_path / "a.ome.tif"), 0)
