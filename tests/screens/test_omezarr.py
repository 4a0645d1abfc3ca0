"""OME-Zarr plates and images as converters write them, compared with the arrays they were made from."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from yaozarrs import DimSpec, v05
from yaozarrs.write.v05 import write_plate

from milcnn.screens.folders import folder_table
from milcnn.screens.images import ImageError, read_field, read_header, read_plane, read_planes
from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.omezarr import plate_rows
from milcnn.screens.problems import ScreenError
from milcnn.screens.zarr_image import image_files

RNG = np.random.default_rng(0)
KINDS = {"t": "time", "c": "channel"}
VERSIONS = {"0.4": 2, "0.5": 3}
NAMES = ["DAPI", "Actin"]


def group(folder: Path, version: str, **ome) -> None:
    """A group with metadata of OME."""
    ome = ome if version == "0.4" or not ome else {"ome": {"version": "0.5"} | ome}
    zarr.open_group(folder, mode="w", zarr_format=VERSIONS[version], attributes=ome)


def image(folder: Path, pixels: np.ndarray, axes: str, version: str = "0.4", names=NAMES, **array) -> None:
    """An image with ``pixels`` as its level 0; pixels of 0.5 µm, written in nm."""
    told = [{"name": name, "type": KINDS.get(name, "space")} for name in axes]
    told = [axis | ({"unit": "nanometer"} if axis["type"] == "space" else {}) for axis in told]
    scale = [500.0 if name in "yx" else 1.0 for name in axes]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    channels = [{"label": name} if name != "A01_C02" else {"wavelength_id": name} for name in names]
    group(folder, version, multiscales=[{"axes": told, "datasets": [level]}], omero={"channels": channels})
    array = {"chunks": (1,) * (pixels.ndim - 2) + pixels.shape[-2:]} | array
    if version == "0.4":
        array["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    zarr.create_array(folder / "0", data=pixels, zarr_format=VERSIONS[version], **array)


def plate(folder: Path, wells: dict[str, list[dict]], version: str = "0.4", **more) -> None:
    """The groups of a plate and of its wells."""
    rows, columns = (list(dict.fromkeys(well.split("/")[k] for well in wells)) for k in (0, 1))
    places = [
        {"path": well, "rowIndex": rows.index(well.split("/")[0]), "columnIndex": columns.index(well.split("/")[1])}
        for well in wells
    ]
    named = {"rows": [{"name": name} for name in rows], "columns": [{"name": name} for name in columns]}
    group(folder, version, plate=named | {"wells": places} | more)
    for well, images in wells.items():
        group(folder / well, version, well={"images": images})


def fields(number: int, *shape: int) -> np.ndarray:
    return RNG.integers(1, 65536, (number, *shape)).astype(np.uint16)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_image_a_field_gives_a_row_a_plane_with_its_pixels(tmp_path, version):
    pixels = fields(4, 1, 2, 1, 6, 8)
    plate(
        tmp_path / "P1.ome.zarr",
        {"B/2": [{"path": "0"}, {"path": "1"}], "D/11": [{"path": "0"}, {"path": "1"}]},
        version,
    )
    places = [f"{well}/{site}" for well in ("B/2", "D/11") for site in (0, 1)]
    for place, own in zip(places, pixels, strict=True):
        image(tmp_path / "P1.ome.zarr" / place, own, "tczyx", version)
    rows = list(plate_rows(tmp_path / "P1.ome.zarr", tmp_path))
    assert [row["path"] for row in rows] == [f"P1.ome.zarr/{place}" for place in places for _ in NAMES]
    assert {row["plate"] for row in rows} == {"P1"}
    assert rows[0] | {"page": None, "pixel_size": 0.5} == rows[0]
    read = [read_plane(str(tmp_path / row["path"]), row["page"], row["channel"]) for row in rows]
    np.testing.assert_array_equal(np.reshape(read, pixels.shape), pixels)
    table, _ = folder_table(tmp_path)
    assert table["Metadata_Well"].tolist() == ["B02", "B02", "D11", "D11"]
    assert table["Metadata_Site"].tolist() == ["1", "2", "1", "2"]


def test_a_plate_that_yaozarrs_writes_is_read(tmp_path):
    pixels = fields(2, 2, 6, 8)
    dims = [DimSpec(name="c", size=2), DimSpec(name="y", size=6, scale=0.5, unit="micrometer")]
    dims.append(DimSpec(name="x", size=8, scale=0.5, unit="micrometer"))
    made = v05.Image(multiscales=[v05.Multiscale.from_dims(dims)])
    images = {("C", "4", str(site)): (made, own) for site, own in enumerate(pixels)}
    write_plate(tmp_path / "P1.zarr", images, shards=(2, 6, 8), chunks=(1, 6, 8), writer="zarr")
    rows = list(plate_rows(tmp_path / "P1.zarr", tmp_path))
    assert [row["well"] for row in rows] == ["C4"] * 4
    assert {row["pixel_size"] for row in rows} == {0.5}
    read = [read_plane(str(tmp_path / row["path"]), row["page"]) for row in rows]
    np.testing.assert_array_equal(np.reshape(read, pixels.shape), pixels)


def fov_table(folder: Path, kind: str, table: pd.DataFrame, version: str) -> None:
    """A FOV_ROI_table as fractal-tasks-core (anndata) and ngio (csv, parquet, json) write it."""
    zarr_format = VERSIONS[version]
    made = zarr.open_group(folder / "tables" / "FOV_ROI_table", mode="w", zarr_format=zarr_format)
    made.attrs.update({"type": "roi_table", "backend": kind, "index_key": "FieldIndex"})
    if kind == "csv":
        table.to_csv(folder / "tables/FOV_ROI_table/table.csv", index_label="FieldIndex")
    elif kind == "parquet":
        table.rename_axis("FieldIndex").reset_index().to_parquet(folder / "tables/FOV_ROI_table/table.parquet")
    elif kind == "anndata":
        made.create_array("X", data=table.to_numpy(np.float32))
        for name, values, key in (("obs", table.index, "FieldIndex"), ("var", table.columns, "_index")):
            made.create_group(name).attrs.update({"_index": key, "encoding-type": "dataframe"})
            made[name].create_array(key, shape=(len(values),), dtype=str)[:] = np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("kind", "version"), [("anndata", "0.4"), ("anndata", "0.5"), ("csv", "0.5"), ("parquet", "0.4")]
)
def test_a_mosaic_a_well_gives_the_fields_of_its_table(tmp_path, kind, version):
    pixels = fields(1, 2, 1, 12, 24)[0]
    folder = tmp_path / "P1.zarr" / "B/03/0"
    plate(tmp_path / "P1.zarr", {"B/03": [{"path": "0"}]}, version)
    image(folder, pixels, "czyx", version, names=["DAPI", "A01_C02"])
    lengths = {"len_x_micrometer": 8 * 500, "len_y_micrometer": 6 * 500, "len_z_micrometer": 1}
    corners = [(0, 0), (8, 0), (16, 6)]
    table = pd.DataFrame(
        [{"x_micrometer": x * 500, "y_micrometer": y * 500, "z_micrometer": 0} | lengths for x, y in corners],
        index=["FOV_1", "FOV_2", "FOV_3"],
    )
    fov_table(folder, kind, table, version)
    rows = list(plate_rows(tmp_path / "P1.zarr", tmp_path))
    assert [(row["path"], row["site"]) for row in rows[::2]] == [(f"P1.zarr/B/03/0#FOV_{n}", n) for n in (1, 2, 3)]
    assert {row["channel"] for row in rows} == {"DAPI", "A01_C02"}
    for row, (x, y) in zip(rows[::2], corners, strict=True):
        path = str(tmp_path / row["path"])
        assert read_header(path).planes == [(6, 8, "uint16")] * 2
        read = read_planes(path, [(None, "A01_C02"), (None, "DAPI")])
        np.testing.assert_array_equal(read, pixels[::-1, 0, y : y + 6, x : x + 8])
    with pytest.raises(ImageError, match=r"0#FOV_9: no field of this name"):
        read_header(str(folder) + "#FOV_9")
    table, _ = folder_table(tmp_path)
    assert table["Metadata_Site"].tolist() == ["1", "2", "3"]


def test_a_table_of_fields_of_another_kind_or_outside_is_refused(tmp_path):
    image(tmp_path / "a.zarr", fields(1, 2, 6, 8)[0], "cyx")
    fov_table(tmp_path / "a.zarr", "json", pd.DataFrame(), "0.4")
    with pytest.raises(ImageError, match=r"a FOV_ROI_table that cannot be read \(json\)"):
        read_header(f"{tmp_path}/a.zarr#FOV_1")
    keys = ("x", "y", "len_x", "len_y")
    fov_table(tmp_path / "a.zarr", "csv", pd.DataFrame({f"{key}_micrometer": [4000] for key in keys}, ["FOV_1"]), "0.4")
    with pytest.raises(ImageError, match=r"a field outside its mosaic \(FOV_1, y 8 to 16 px\)"):
        read_header(f"{tmp_path}/a.zarr#FOV_1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "cyx", "yx", "tcxy", "zyx"])
def test_planes_are_numbered_by_time_channel_and_z_in_any_order_of_axes(tmp_path, axes, version):
    sizes = dict(zip("tczyx", (2, 3, 4, 6, 8), strict=True))
    pixels = fields(1, *(sizes[axis] for axis in axes))[0]
    names = ["a", "b", "c"] if "c" in axes else ["a"]
    image(tmp_path / "i.zarr", pixels, axes, version, names, chunks=(2,) * pixels.ndim)
    counts = [sizes[axis] if axis in axes else 1 for axis in "tcz"]
    order = np.moveaxis(pixels, [axes.index(axis) for axis in "tczyx" if axis in axes], range(len(axes)))
    expected = order.reshape(-1, 6, 8)
    header = read_header(f"{tmp_path}/i.zarr")
    assert header.planes == [(6, 8, "uint16")] * math.prod(counts)
    assert header.channels == [name for name in names for _ in range(counts[2])] * counts[0]
    assert bool(header.stack) == (counts[0] * counts[2] > 1)
    pages = list(range(len(expected)))[::-1]
    np.testing.assert_array_equal(read_planes(f"{tmp_path}/i.zarr", [(page, "") for page in pages]), expected[::-1])


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "float32"])
def test_numbers_keep_their_kind(tmp_path, dtype):
    pixels = fields(1, 6, 8)[0].astype(dtype)
    image(tmp_path / "i.zarr", pixels, "yx", "0.4", ["a"])
    assert read_header(f"{tmp_path}/i.zarr").planes == [(6, 8, np.dtype(dtype).newbyteorder("=").name)]
    read = read_plane(f"{tmp_path}/i.zarr")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("names", [NAMES, []])
def test_z_planes_and_time_points_are_chosen_by_rule(tmp_path, names):
    wells = ["A/1", "A/2", "B/1", "B/2"]
    plate(tmp_path / "P1.zarr", {well: [{"path": "0"}] for well in wells}, name="Plate 7")
    pixels = fields(4, 2, 2, 3, 6, 8)  # well, time, channel, z, y, x
    for well, own in zip(wells, pixels, strict=True):
        image(tmp_path / "P1.zarr" / well / "0", own, "tczyx", names=names)
    labels = tmp_path / "platemap.csv"
    labels.write_text("well,label\nA01,x\nA02,y\nB01,x\nB02,y\n")
    second = NAMES[1] if names else "Channel 1"
    settings = {"images": str(tmp_path), "platemap": str(labels), "channels": [second], "time": 1}
    for rule, wanted in {"max": pixels[:, 1, 1:].max(axis=2), 2: pixels[:, 1, 1:, 2]}.items():
        screen = manifest_screen(ManifestSettings(**settings, z=rule))
        screen.check()
        assert screen.fields["Metadata_Plate"].unique() == ["Plate 7"]
        np.testing.assert_array_equal([screen.read(row) for _, row in screen.fields.iterrows()], wanted)


def test_channels_without_or_with_the_same_names_are_numbered(tmp_path):
    for number, names in enumerate(([], ["GFP", "GFP"])):
        folder = tmp_path / f"P{number}.zarr"
        plate(folder, {"A/1": [{"path": "0"}]})
        image(folder / "A/1/0", fields(1, 2, 6, 8)[0], "cyx", names=names)
        rows = [(row["channel"], row["page"]) for row in plate_rows(folder, tmp_path)]
        assert rows == [("Channel 0", 0), ("Channel 1", 1)]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_plate_promises_and_lacks_has_rows_without_a_path(tmp_path, version):
    folder = tmp_path / "P1.zarr"
    images = [{"path": "0"}, {"path": "1"}]
    plate(folder, {"A/1": images, "A/2": images, "A/3": images}, version)
    for well in ("A/1", "A/2", "A/3"):
        for site in ("0", "1"):
            image(folder / well / site, fields(1, 2, 6, 8)[0], "cyx", version)
    shutil.rmtree(folder / "A/2")
    shutil.rmtree(folder / "A/3/1")
    rows = list(plate_rows(folder, tmp_path))
    lost = [(row["well"], row["site"], row["channel"]) for row in rows if not row["path"]]
    assert len(rows) == 12
    assert lost == [(well, site, name) for well, site in (("A2", 1), ("A2", 2), ("A3", 2)) for name in NAMES]
    (folder / "A/3/0" / (".zattrs" if version == "0.4" else "zarr.json")).write_text("{")
    rows = [row for row in plate_rows(folder, tmp_path) if (row["well"], row["site"]) == ("A3", 1)]
    assert {row["path"] for row in rows} == {"P1.zarr/A/3/0"}  # the check tells that it is broken
    with pytest.raises(ImageError, match=r"A/3/0: broken metadata of Zarr"):
        read_header(f"{folder}/A/3/0")


def test_a_well_without_metadata_is_missing_and_a_broken_one_is_named(tmp_path):
    plate(tmp_path / "P1.zarr", {"A/1": [{"path": "0"}], "A/2": [{"path": "0"}]})
    for well in ("A/1", "A/2"):
        image(tmp_path / "P1.zarr" / well / "0", fields(1, 2, 6, 8)[0], "cyx")
    (tmp_path / "P1.zarr/A/2/.zattrs").write_text("{")
    with pytest.raises(ScreenError, match=r"P1\.zarr/A/2: broken metadata of Zarr"):
        list(plate_rows(tmp_path / "P1.zarr", tmp_path))
    (tmp_path / "P1.zarr/A/2/.zattrs").unlink()
    (tmp_path / "P1.zarr/A/2/.zgroup").unlink()
    rows = plate_rows(tmp_path / "P1.zarr", tmp_path)
    assert [row["path"] for row in rows] == ["P1.zarr/A/1/0"] * 2 + [""] * 2


def test_two_acquisitions_of_a_plate_are_refused(tmp_path):
    images = [{"path": "0", "acquisition": 0}, {"path": "1", "acquisition": 3}]
    plate(tmp_path / "P1.zarr", {"A/1": images}, acquisitions=[{"id": 0}, {"id": 3}])
    with pytest.raises(ScreenError, match=r"P1\.zarr: more than one acquisition of a plate \(2: 0 and 3\); make"):
        list(plate_rows(tmp_path / "P1.zarr", tmp_path))


def other_zarr(folder: Path, kind: str) -> None:
    if kind == "image":
        image(folder, fields(1, 2, 6, 8)[0], "cyx")
    elif kind == "list":
        group(folder, "0.4", **{"bioformats2raw.layout": 3})
    elif kind == "nothing":
        group(folder, "0.5")
    elif kind == "old":
        group(folder, "0.4", plate={"version": "0.1", "rows": [], "columns": [], "wells": []})
    elif kind == "json":
        group(folder, "0.4")
        (folder / ".zattrs").write_text('{"plate": ')
    elif kind == "empty":
        folder.mkdir()
    else:
        plate(folder, {"A/1": [{"path": "0"}]})


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("image", r"is no plate \(a single image\)"),
        ("list", r"is no plate \(a list of images as bioformats2raw writes it\)"),
        ("nothing", r"is no plate \(no metadata of OME\)"),
        ("old", r"break the rules of OME-Zarr"),
        ("json", r"broken metadata of Zarr"),
        ("empty", r"a folder without metadata of Zarr"),
        ("no images", r"none of its 1 images can be read; .*/A/1/0: no such file"),
    ],
)
def test_a_zarr_that_is_no_whole_plate_is_refused_in_one_sentence(tmp_path, kind, told):
    other_zarr(tmp_path / "P1.zarr", kind)
    with pytest.raises(ScreenError, match=told) as caught:
        list(plate_rows(tmp_path / "P1.zarr", tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/P1.zarr: ")
    assert "\n" not in str(caught.value)


def chunk_files(folder: Path) -> list[Path]:
    """The files of chunks, in the order of the planes."""
    return sorted(path for path in (folder / "0").rglob("*") if path.is_file() and path.name[0] not in ".z")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plane_without_a_chunk_is_named_and_one_with_some_is_read(tmp_path, version):
    image(tmp_path / "i.zarr", fields(1, 2, 6, 8)[0], "cyx", version, chunks=(1, 3, 8))
    files = chunk_files(tmp_path / "i.zarr")
    assert len(files) == 4
    files[0].unlink()
    read_header(f"{tmp_path}/i.zarr")
    files[2].unlink()
    files[3].unlink()
    with pytest.raises(ImageError, match=r"i\.zarr: planes that were never written \(1 of 2, as Actin\); copy"):
        read_header(f"{tmp_path}/i.zarr")


def test_shards_are_read_and_one_that_is_not_there_is_named(tmp_path):
    pixels = fields(1, 2, 6, 8)[0]
    image(tmp_path / "i.zarr", pixels, "cyx", "0.5", chunks=(1, 3, 4), shards=(1, 6, 8))
    read_header(f"{tmp_path}/i.zarr")
    np.testing.assert_array_equal(read_planes(f"{tmp_path}/i.zarr", [(0, ""), (1, "")]), pixels)
    chunk_files(tmp_path / "i.zarr")[1].unlink()
    with pytest.raises(ImageError, match=rf"never written \(1 of 2, as {NAMES[1]}\)"):
        read_header(f"{tmp_path}/i.zarr")


def test_a_broken_image_is_named_in_one_sentence(tmp_path):
    image(tmp_path / "i.zarr", fields(1, 2, 6, 8)[0], "cyx")
    with pytest.raises(ImageError, match=r"i\.zarr/7: no such file"):
        read_header(f"{tmp_path}/i.zarr/7")
    chunk_files(tmp_path / "i.zarr")[1].write_bytes(b"no chunk")
    with pytest.raises(ImageError, match=r"i\.zarr: truncated or not an image") as caught:
        read_plane(f"{tmp_path}/i.zarr", 1)
    assert "\n" not in str(caught.value)
    shutil.rmtree(tmp_path / "i.zarr/0")
    with pytest.raises(ImageError, match=r"i\.zarr: an image without its array \(level '0'\)"):
        read_header(f"{tmp_path}/i.zarr")
    image(tmp_path / "d.zarr", np.ones((6, 8)), "yx", names=["a"])
    with pytest.raises(ImageError, match=r"a kind of number that cannot be read \(float64\)"):
        read_header(f"{tmp_path}/d.zarr")


@pytest.mark.parametrize("column", ["Path", "Path_DAPI"])
def test_a_table_may_name_images_of_ome_zarr(tmp_path, column):
    pixels = fields(4, 2, 6, 8)
    for number, own in enumerate(pixels):
        image(tmp_path / f"{number}.ome.zarr", own, "cyx", "0.5")
    table = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03", "A04"], "Metadata_Site": 1})
    table = table.assign(Metadata_Label=["x", "y"] * 2, **{column: [f"{n}.ome.zarr" for n in range(4)]})
    if column != "Path":
        table["Path_Actin"] = table[column]
    table.to_csv(tmp_path / "fields.csv", index=False)
    screen = manifest_screen(ManifestSettings(table=str(tmp_path / "fields.csv")))
    screen.check()
    assert screen.channels == NAMES
    assert screen.pixel_size == 0.5
    for own, (_, row) in zip(pixels, screen.fields.iterrows(), strict=True):
        np.testing.assert_array_equal(screen.read(row), own)
        np.testing.assert_array_equal(read_field(row, NAMES[::-1]), own[::-1])
    shutil.rmtree(tmp_path / "2.ome.zarr")
    with pytest.raises(ScreenError, match=r"images are missing"):
        manifest_screen(ManifestSettings(table=str(tmp_path / "fields.csv"))).check()


def test_a_chunk_that_is_replaced_changes_the_files_of_its_image_alone(tmp_path):
    for name in ("a.zarr", "b.zarr"):
        image(tmp_path / name, fields(1, 2, 6, 8)[0], "cyx")
    paths = [f"{tmp_path}/a.zarr#FOV_1", f"{tmp_path}/b.zarr"]
    before = [[os.stat(file) for file in image_files(path)] for path in paths]
    chunk_files(tmp_path / "a.zarr")[1].write_bytes(b"another")
    after = [[os.stat(file) for file in image_files(path)] for path in paths]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]
