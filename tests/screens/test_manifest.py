"""A user's own screen in each form of table: the fields are always the same."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.io import imsave

from milcnn.screens.cellprofiler import path_of_url
from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.problems import ScreenError
from milcnn.screens.sets.kinds import open_screen
from milcnn.settings import SettingsError

CHANNELS = ["DAPI", "Actin"]
KEY = {"Metadata_Plate": "007", "Metadata_Well": ["A01", "A01", "B02", "B02"], "Metadata_Site": [1, 2, 1, 2]}
LABELS = ["DMSO", "DMSO", "Eg5 inhibitors", "Eg5 inhibitors"]
IMAGES = np.random.default_rng(0).integers(0, 65536, (4, 2, 6, 8)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    """Four fields of two channels, as one file a channel and as pages."""
    (tmp_path / "images").mkdir()
    for number, image in enumerate(IMAGES):
        tifffile.imwrite(tmp_path / f"images/{number}.tif", image, photometric="minisblack")
        for channel, plane in zip(CHANNELS, image, strict=True):
            tifffile.imwrite(tmp_path / f"images/{number}_{channel}.tif", plane)
            imsave(tmp_path / f"images/{number}_{channel}.png", plane, check_contrast=False)
        metadata = {"axes": "CYX", "Channel": {"Name": CHANNELS}, "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
        tifffile.imwrite(tmp_path / f"images/{number}.ome.tif", image, metadata=metadata, photometric="minisblack")
    return tmp_path


def names(suffix, channel=""):
    return [f"{number}{channel and '_'}{channel}{suffix}" for number in range(4)]


def opened(folder, cells, suffix=".csv", **settings):
    path = folder / f"table{suffix}"
    table = pd.DataFrame(cells)
    table.to_parquet(path) if suffix == ".parquet" else table.to_csv(path, index=False)
    return open_screen("manifest", **{"table": str(path), "images": str(folder / "images"), **settings})


def assert_is_the_screen(screen):
    screen.check()
    assert screen.channels == CHANNELS
    assert screen.classes == ["DMSO", "Eg5 inhibitors"]
    fields = screen.fields
    assert list(fields.columns[:4]) == ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Label"] or (
        list(fields.columns[:3]) == ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    )
    assert fields["Metadata_Plate"].tolist() == ["007"] * 4
    assert fields["Metadata_Well"].tolist() == KEY["Metadata_Well"]
    assert fields["Metadata_Site"].tolist() == [1, 2, 1, 2]
    assert fields["Metadata_Label"].tolist() == LABELS
    assert fields["Metadata_Control"].tolist() == [True, True, False, False]
    for (_, row), image in zip(fields.iterrows(), IMAGES, strict=True):
        field = screen.read(row)
        assert field.dtype == np.uint16
        np.testing.assert_array_equal(field, image)


OURS = {**KEY, "Metadata_Label": LABELS}
PATHS = {f"Path_{channel}": names(".tif", channel) for channel in CHANNELS}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("image", [".tif", ".png"])
def test_one_file_a_channel(folder, suffix, image):
    paths = {f"Path_{channel}": names(image, channel) for channel in CHANNELS}
    assert_is_the_screen(opened(folder, {**OURS, **paths}, suffix))


def test_pages_of_one_file(folder):
    assert_is_the_screen(opened(folder, {**OURS, "Path": names(".tif")}, channels=CHANNELS))
    with pytest.raises(ScreenError, match="its images have no channel names; set 'channels'"):
        opened(folder, {**OURS, "Path": names(".tif")})


def test_ome_tiff_names_its_channels_and_pixel_size(folder):
    screen = opened(folder, {**OURS, "Path": names(".ome.tif")})
    assert_is_the_screen(screen)
    assert screen.pixel_size == 0.5
    assert opened(folder, {**OURS, "Path": names(".ome.tif")}, pixel_size=0.7).pixel_size == 0.7


def test_a_page_column_selects_the_plane(folder):
    paths = {"Path_Actin": names(".tif"), "Page_Actin": 1, "Path_DAPI": names("_DAPI.tif")}
    assert_is_the_screen(opened(folder, {**OURS, **paths}, channels=CHANNELS))


@pytest.mark.parametrize("lead", ["", "Image_"])
def test_tables_of_cellprofiler(folder, lead):
    table = {f"{lead}{column}": value for column, value in OURS.items()}
    for page, channel in enumerate(CHANNELS):
        table[f"{lead}FileName_{channel}"] = names(".tif")
        table[f"{lead}PathName_{channel}"] = "/home/me/screen/images"
        table[f"{lead}Frame_{channel}"] = page
        table[f"{lead}FileName_Illum{channel}"] = "illumination.npy"
        table[f"{lead}PathName_Illum{channel}"] = "/home/me/illum"
    assert_is_the_screen(opened(folder, table, strip="/home/me/screen/images"))


@pytest.mark.parametrize("start", ["file:", "file://", "file://localhost", "FILE:"])
def test_urls_of_cellprofiler(folder, start):
    (folder / "images").rename(folder / "my images")
    url = f"{start}{folder.as_posix()}/my%20images/"
    table = {
        **OURS,
        **{f"Image_URL_{channel}": [url + name for name in names(".tif", channel)] for channel in CHANNELS},
    }
    assert_is_the_screen(opened(folder, table, images=str(folder / "my images")))


def test_urls_of_windows():
    assert path_of_url("file:///C:/my%20screen/a%23.tif") == "C:/my screen/a#.tif"
    assert path_of_url("file://server/share/a.tif") == "//server/share/a.tif"
    assert path_of_url("a%20b.tif") == "a%20b.tif"  # a path may have a percent sign


def test_images_of_a_bucket_are_refused(folder):
    table = {**OURS, "FileName_OrigDNA": names(".tif"), "PathName_OrigDNA": "s3://cellpainting-gallery/images"}
    with pytest.raises(ScreenError, match="an image that is not on this computer; download it, and set 'images'"):
        opened(folder, table, channels=["OrigDNA"]).check()


def test_outlines_are_left_out_with_a_word_and_other_channels_may_lie_anywhere(folder, capsys):
    table = {
        **OURS,
        **PATHS,
        "FileName_CellOutlines": "o.png",
        "PathName_CellOutlines": "/out",
        "Path_Mask": "/out/m.tif",
    }
    assert_is_the_screen(opened(folder, table, channels=CHANNELS))
    assert "CellOutlines are left out" in capsys.readouterr().out


def test_files_of_several_series_are_refused(folder):
    table = {**OURS, "FileName_DAPI": names(".tif"), "Series_DAPI": [0, 1, 2, 3]}
    with pytest.raises(
        ScreenError, match="Series_DAPI is 1, 2 and 3: files of several series; save each field as a file"
    ):
        opened(folder, table, channels=["DAPI"])


def test_a_label_with_a_bar_is_one_class_unless_the_study_is_multilabel(folder):
    labels = {**KEY, "Metadata_Label": ["a|b", "a|b", "a", "b"], **PATHS}
    assert opened(folder, labels).classes == ["a", "a|b", "b"]
    assert opened(folder, labels, multilabel=True).classes == ["a", "b"]


@pytest.mark.parametrize("written", [["0,3", "1,25", "", "10"], ["0.3", "1.25", "", "10"]])
def test_concentrations_with_a_decimal_comma(folder, written):
    fields = opened(folder, {**OURS, "Metadata_Concentration": written, **PATHS}).fields
    np.testing.assert_array_equal(fields["Metadata_Concentration"], [0.3, 1.25, np.nan, 10])


def test_a_comma_that_may_mean_thousands_is_refused(folder):
    with pytest.raises(ScreenError, match="Metadata_Concentration is not a number in 4 rows, as '1,000'"):
        opened(folder, {**OURS, "Metadata_Concentration": "1,000", **PATHS})


@pytest.mark.parametrize("column", ["Plate", "Compound"])
def test_names_that_differ_in_case_alone_are_refused_before_a_split(folder, column):
    table = {**OURS, f"Metadata_{column}": ["Taxol", "taxol", "Taxol ", "Taxol"], **PATHS}
    with pytest.raises(ScreenError, match=f"Metadata_{column} 'Taxol' and 'taxol': differ only in case or blanks"):
        opened(folder, table)


def test_paths_of_windows(folder):
    table = {**OURS}
    for channel in CHANNELS:
        table[f"FileName_{channel}"] = names(".tif", channel)
        table[f"PathName_{channel}"] = "C:\\screen\\images"
    assert_is_the_screen(opened(folder, table, strip="C:\\screen\\", images=str(folder)))


def test_a_table_in_the_folder_of_its_images_needs_no_folder(folder):
    paths = {f"Path_{channel}": [f"images/{name}" for name in names(".tif", channel)] for channel in CHANNELS}
    assert_is_the_screen(opened(folder, {**OURS, **paths}, images=""))


def test_other_names_for_our_columns(folder):
    table = {"plate": "007", "well": KEY["Metadata_Well"], "s": [1, 2, 1, 2], "moa": LABELS}
    ours = {"Metadata_Plate": "plate", "Metadata_Well": "well", "Metadata_Site": "s", "Metadata_Label": "moa"}
    assert_is_the_screen(opened(folder, {**table, **PATHS}, columns=ours))
    with pytest.raises(ScreenError, match="has no column mao, only plate, well"):
        opened(folder, {**table, **PATHS}, columns={**ours, "Metadata_Label": "mao"})


@pytest.mark.parametrize("by_plate", [False, True])
def test_a_platemap_gives_compounds_and_labels(folder, by_plate):
    platemap = pd.DataFrame(
        {
            "well": ["a1", "B2", "C03"],
            "compound": ["DMSO", "AZ138", "NA"],
            "concentration": [0, 0.3, 1],
            "label": ["", "Eg5 inhibitors", "unused"],
        }
    )
    if by_plate:
        platemap["plate"] = "007"
    platemap.to_csv(folder / "platemap.csv", index=False)
    screen = opened(folder, {**KEY, **PATHS}, platemap=str(folder / "platemap.csv"))
    assert_is_the_screen(screen)
    assert screen.fields["Metadata_Compound"].tolist() == ["DMSO", "DMSO", "AZ138", "AZ138"]
    assert screen.fields["Metadata_Concentration"].tolist() == [0, 0, 0.3, 0.3]


def test_a_platemap_may_lack_a_well_but_not_repeat_one(folder, capsys):
    platemap = pd.DataFrame({"well": ["A01", "C03"], "label": ["a", "b"]})
    platemap.to_csv(folder / "platemap.csv", index=False)
    screen = opened(folder, {**KEY, **PATHS}, platemap=str(folder / "platemap.csv"))
    assert screen.fields["Metadata_Label"].tolist() == ["a", "a", "", ""]
    said = capsys.readouterr().out
    assert "wells of the table that are not in it: 1, as B02." in said
    assert "wells that are not in the table: 1, as C03." in said
    platemap.assign(well=["A1", "A01"]).to_csv(folder / "platemap.csv", index=False)
    with pytest.raises(ScreenError, match=r"platemap\.csv: has more than one row for A01"):
        opened(folder, {**KEY, **PATHS}, platemap=str(folder / "platemap.csv"))
    with pytest.raises(ScreenError, match="Metadata_Label is also in the table"):
        opened(folder, {**OURS, **PATHS}, platemap=str(folder / "platemap.csv"))
    platemap.rename(columns={"well": "pos"}).to_csv(folder / "platemap.csv", index=False)
    with pytest.raises(ScreenError, match="need Metadata_Well; add this column"):
        opened(folder, {**KEY, **PATHS}, platemap=str(folder / "platemap.csv"))


def test_compounds_are_the_labels_where_there_are_none(folder, capsys):
    compounds = ["DMSO", "DMSO", "Eg5 inhibitors", "Eg5 inhibitors"]
    assert_is_the_screen(opened(folder, {**KEY, "Metadata_Compound": compounds, **PATHS}))
    assert "table.csv: no column Metadata_Label: the compound is the label" in capsys.readouterr().out
    (folder / "grid.csv").write_text("My plate\n\nCompound;1;2\nA;DMSO;\nB;;Eg5 inhibitors\n")
    assert_is_the_screen(opened(folder, {**KEY, **PATHS}, platemap=str(folder / "grid.csv")))
    with pytest.raises(ScreenError, match="unknown column 'Metadata_Lable'; if it is Metadata_Label"):
        opened(folder, {**KEY, "Metadata_Compound": compounds, "Metadata_Lable": LABELS, **PATHS})


def test_what_a_label_is_taken_for_is_told(folder, capsys):
    compounds = ["DMSO", "DMSO", "AZ138", "AZ138"]
    labels = {"Metadata_Label": ["", "normal", "NA", "Eg5 inhibitors"], "Metadata_Compound": compounds}
    screen = opened(folder, {**KEY, **labels, **PATHS})
    assert screen.fields["Metadata_Label"].tolist() == ["DMSO", "normal", "NA", "Eg5 inhibitors"]
    said = capsys.readouterr().out
    assert "table.csv: 1 controls without a label get that of their compound, DMSO." in said
    assert "table.csv: 'NA' is taken as a class; leave the cell empty where no label is known." in said
    opened(folder, {**KEY, **labels, "Metadata_Label": ["DMSO", "DMSO", "", "x"], **PATHS})
    assert not capsys.readouterr().out


def test_a_column_that_neither_table_nor_platemap_has_names_both(folder):
    pd.DataFrame({"well": ["A01", "B02"], "phenotype": ["a", "b"]}).to_csv(folder / "map.csv", index=False)
    told = r"table\.csv with .*map\.csv: has no column Metadata_Label, only .*phenotype.*; add it, or rename yours"
    with pytest.raises(ScreenError, match=told):
        opened(folder, {**KEY, **PATHS}, platemap=str(folder / "map.csv"))


def test_the_setting_columns_reaches_the_platemap(folder):
    platemap = {"pos": ["A1", "B2"], "moa": ["DMSO", "Eg5 inhibitors"], "label": ["x", "y"]}
    pd.DataFrame(platemap).to_csv(folder / "map.csv", index=False)
    table = {"plate": "007", "Metadata_Well": KEY["Metadata_Well"], "s": [1, 2, 1, 2], **PATHS}
    columns = {"Metadata_Plate": "plate", "Metadata_Site": "s", "Metadata_Well": "pos", "Metadata_Label": "moa"}
    assert_is_the_screen(opened(folder, table, platemap=str(folder / "map.csv"), columns=columns))
    with pytest.raises(
        ScreenError,
        match=r"has no column mao, only plate, .*, nor has the platemap, only pos, moa, label; correct 'colu",
    ):
        opened(folder, table, platemap=str(folder / "map.csv"), columns={**columns, "Metadata_Label": "mao"})


def test_controls_may_scale_plates_without_being_a_class(folder):
    labels = ["DMSO", "DMSO", "a", "a"]
    screen = opened(folder, {**KEY, "Metadata_Label": labels, **PATHS}, control_class=False)
    assert screen.classes == ["a"]
    assert screen.fields["Metadata_Label"].tolist() == labels
    stated = {**KEY, "Metadata_Label": labels, "Metadata_Control": ["no", "no", "yes", "TRUE"], **PATHS}
    assert opened(folder, stated).fields["Metadata_Control"].tolist() == [False, False, True, True]


def test_labels_of_a_multilabel_screen_are_sorted(folder):
    screen = opened(folder, {**KEY, "Metadata_Label": ["b|a", "a", "a|b", "b"], **PATHS}, multilabel=True)
    assert screen.fields["Metadata_Label"].tolist() == ["a|b", "a", "a|b", "b"]
    assert (screen.classes, screen.multilabel) == (["a", "b"], True)
    screen.check()


def test_a_column_for_each_assay(folder):
    """Yes and no make a class of the column's name, other texts one each; what is empty is unknown."""
    table = {**KEY, "nuclei": ["Yes", "no", "", "1"], "actin": ["round", "", " long", "round"], **PATHS}
    screen = opened(folder, table, label_columns=["nuclei", "actin"])
    assert (screen.classes, screen.multilabel) == (["actin=long", "actin=round", "nuclei"], True)
    assert screen.fields["Metadata_Label"].tolist() == ["actin=round|nuclei", "", "actin=long", "actin=round|nuclei"]
    assert screen.fields["Metadata_Unknown"].tolist() == ["", "actin=long|actin=round", "nuclei", ""]
    assert "nuclei" not in screen.fields


def test_a_control_without_a_class_gets_none(folder):
    """Its compound is no class: with a column for each assay it is known to have none."""
    table = {**KEY, "Metadata_Compound": ["DMSO", "DMSO", "x", "y"], "dead": ["no", "no", "yes", "yes"],
             "round": ["0", "", "1", "1.0"], **PATHS}  # fmt: skip
    fields = opened(folder, table, label_columns=["dead", "round"]).fields
    assert fields["Metadata_Label"].tolist() == ["", "", "dead|round", "dead|round"]
    assert fields["Metadata_Control"].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (["yes", "maybe", "", ""], "column 'a': mixes yes and no with other texts .'maybe'.; write yes, no or nothing"),
        (["no", "", "0", ""], "column 'a': says yes of no field; fill it in, or take it out of 'label_columns'"),
        (["x|y", "z", "", ""], r"column 'a': a '\|' separates classes; write another character"),
    ],
)
def test_an_assay_that_cannot_be_read_is_named(folder, cells, sentence):
    with pytest.raises(ScreenError, match=sentence):
        opened(folder, {**KEY, "a": cells, **PATHS}, label_columns=["a"])
    with pytest.raises(ScreenError, match="has no column b; correct 'label_columns'"):
        opened(folder, {**KEY, "a": cells, **PATHS}, label_columns=["b"])


@pytest.mark.parametrize(
    ("unknown", "settings", "sentence"),
    [
        (
            "c",
            {"multilabel": True},
            "Metadata_Unknown 'c': not one of the classes; correct it; the classes are a and b",
        ),
        (
            "a",
            {"multilabel": True},
            "class 'a': in Metadata_Label and in Metadata_Unknown of a field; delete it in one",
        ),
        ("a", {}, "Metadata_Unknown is for studies of several labels; set 'multilabel', or delete the column"),
    ],
)
def test_unknown_classes_that_make_no_sense_are_refused(folder, unknown, settings, sentence):
    table = {**KEY, "Metadata_Label": ["a", "a", "b", "b"], "Metadata_Unknown": [unknown, "", "a", ""], **PATHS}
    with pytest.raises(ScreenError, match=sentence):
        opened(folder, table, **settings).check()


@pytest.mark.parametrize("path", ["../secret.tif", "images/../../secret.tif", "/etc/secret.tif"])
def test_a_path_outside_the_folder_is_refused_and_never_opened(folder, path):
    tifffile.imwrite(folder / "secret.tif", IMAGES[0, 0])
    paths = {"Path_DAPI": [path, *names(".tif", "DAPI")[1:]], "Path_Actin": names(".tif", "Actin")}
    screen = opened(folder, {**OURS, **paths})
    with pytest.raises(
        ScreenError, match=rf"site 1, channel DAPI: an image outside .*images \('{path}'\); set 'images' or 'strip'"
    ):
        screen.check()
    assert screen.fields["Path_DAPI"].isna().tolist() == [True, False, False, False]


def test_an_empty_path_is_named_by_its_column(folder):
    paths = {"Path_DAPI": names(".tif", "DAPI"), "Path_Actin": ["", *names(".tif", "Actin")[1:]]}
    missing = r"plate 007: images are missing \(1 of 8, as well A01, site 1, channel Actin\)"
    with pytest.raises(ScreenError, match=missing):
        opened(folder, {**OURS, **paths}).check()


def test_a_screen_to_score_needs_no_labels(folder):
    pd.DataFrame({**KEY, **PATHS}).to_csv(folder / "table.csv", index=False)
    manifest = ManifestSettings(table=str(folder / "table.csv"), images=str(folder / "images"))
    with pytest.raises(ScreenError, match="has no column Metadata_Label"):
        manifest_screen(manifest)
    screen = manifest_screen(manifest, labelled=False)
    assert screen.fields["Metadata_Label"].tolist() == [""] * 4
    assert not screen.fields["Metadata_Control"].any()
    for row, image in zip(screen.fields.itertuples(), IMAGES, strict=True):
        np.testing.assert_array_equal(screen.read(screen.fields.loc[row.Index]), image)


def test_an_unknown_or_missing_column_is_named(folder):
    with pytest.raises(ScreenError, match="unknown column 'Metadata_Lable'; if it is Metadata_Label"):
        opened(folder, {**KEY, "Metadata_Lable": LABELS, **PATHS})
    with pytest.raises(ScreenError, match="unknown column 'Metadata_Concentation'; if it is Metadata_Concentration"):
        opened(folder, {**OURS, "Metadata_Concentation": 1, **PATHS})
    with pytest.raises(ScreenError, match="has no column Metadata_Label, only Metadata_Plate"):
        opened(folder, {**KEY, **PATHS})
    with pytest.raises(ScreenError, match="has no column Path, Path_<channel> or FileName_<channel>"):
        opened(folder, OURS)
    with pytest.raises(ScreenError, match="has no images of channel Tubulin, only of DAPI, Actin"):
        opened(folder, {**OURS, **PATHS}, channels=["Tubulin"])
    with pytest.raises(SettingsError, match="'plate_map' is unknown; perhaps 'platemap' is meant"):
        opened(folder, {**OURS, **PATHS}, plate_map="x")


def test_a_concentration_that_is_not_a_number_is_named(folder):
    with pytest.raises(ScreenError, match="Metadata_Concentration is not a number in 1 rows, as '1 uM'; write it"):
        opened(folder, {**OURS, "Metadata_Concentration": ["", "0.1", "1 uM", "3"], **PATHS})


def test_a_missing_table_is_named():
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such table; correct 'table'"):
        open_screen("manifest", table="none.csv")
