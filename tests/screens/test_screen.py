"""All problems of a table and its files are reported before any work starts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.columns import class_names, join_labels
from milcnn.screens.images import read_field
from milcnn.screens.problems import Problem, ScreenError
from milcnn.screens.screen import Screen
from milcnn.screens.sets.kinds import open_screen

CHANNELS = ["DAPI", "Actin"]


def screen_in(folder, change=lambda fields: fields, **kind):
    """A correct screen of 2 plates × 2 wells × 2 sites, with ``change`` applied to its table."""
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    rows = []
    for plate in ("P1", "P2"):
        for well, label in (("A01", "DMSO"), ("A02", "taxol")):
            for site in (1, 2):
                row = [plate, well, site, label]
                for channel in CHANNELS:
                    path = folder / f"{plate}_{well}_{site}_{channel}.tif"
                    tifffile.imwrite(path, image)
                    row.append(str(path))
                rows.append(row)
    key = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Label"]
    fields = change(pd.DataFrame(rows, columns=[*key, "Path_DAPI", "Path_Actin"]))
    multilabel = kind.get("multilabel", False)
    kind = {"classes": class_names(fields, multilabel), "planes": 1, **kind}
    return Screen(fields=fields, channels=CHANNELS, read=lambda row: read_field(row, CHANNELS), **kind)


def problems_of(screen):
    with pytest.raises(ScreenError) as caught:
        screen.check()
    return caught.value.problems


def at(rows, column, value):
    def change(fields):
        fields = fields.astype({column: object})
        fields.loc[rows, column] = value
        return fields

    return change


def test_a_correct_screen_passes_and_reads(tmp_path):
    screen = screen_in(tmp_path)
    screen.check()
    field = screen.read(screen.fields.iloc[0])
    assert (field.shape, field.dtype) == ((2, 3, 4), np.uint16)


def test_fields_outside_the_three_sets_pass(tmp_path):
    screen_in(tmp_path, lambda f: f.assign(Metadata_Split=["train", "test", "dose", "unused"] * 2)).check()


@pytest.mark.parametrize("nothing", ["", None])
def test_fields_without_a_label_pass(tmp_path, nothing):
    screen_in(tmp_path, at([0, 1], "Metadata_Label", nothing)).check()


def test_a_simulated_screen_passes():
    open_screen("digits", size=64, fields_per_class={"train": 2, "validation": 1, "test": 1}).check()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda f: pd.concat([f, f.iloc[[2]]]),
            ["plate P1, well A02, site 1: more than one row in the table (2 rows); keep one."],
        ),
        (lambda f: f.assign(Metadata_Label=""), ["table: no field has a label; fill in Metadata_Label,"]),
        (at([4, 5], "Metadata_Label", "dmso "), ["labels 'DMSO', 'dmso ': differ only in case or spaces"]),
        (lambda f: f.assign(Metadata_Label="taxol"), ["table: at least two classes are needed, but it has ['taxol'];"]),
        (
            at(0, "Metadata_Label", "rare"),
            ["class 'rare': too few fields (1); at least two"],
        ),
        (lambda f: f.drop(columns="Metadata_Site"), ["table: has no column Metadata_Site"]),
        (lambda f: f.drop(columns="Path_Actin"), ["table: has no column Path_Actin"]),
        (
            lambda f: f.assign(Metadata_Plate="a/b", Metadata_Site=range(8)),
            ["plate 'a/b': a name that cannot be used; it becomes"],
        ),
        (
            lambda f: f.assign(Metadata_Split="Test"),
            ["Metadata_Split 'Test': unknown set; write train, validation, test or fresh."],
        ),
    ],
)
def test_a_problem_of_the_table_is_one_sentence(tmp_path, change, expected):
    problems = problems_of(screen_in(tmp_path, change))
    assert [problem[: len(start)] for problem, start in zip(problems, expected, strict=True)] == expected


def test_a_file_in_two_fields_is_named(tmp_path):
    change = lambda f: f.assign(Path_DAPI=[f["Path_DAPI"][6], *f["Path_DAPI"][1:]])  # noqa: E731
    (problem,) = problems_of(screen_in(tmp_path, change))
    assert problem.endswith(
        "P2_A02_1_DAPI.tif: one image in Path_DAPI of more than one field "
        "(plate P1, well A01, site 1 and plate P2, well A02, site 1); correct the table."
    )


def test_a_table_without_rows_is_refused(tmp_path):
    assert problems_of(screen_in(tmp_path, lambda f: f[:0], classes=["a", "b"])) == [
        "table: has no rows; add one row for each field."
    ]


def test_labels_of_a_multilabel_screen_are_counted_one_by_one(tmp_path):
    both = join_labels(["taxol", "DMSO", "taxol"])
    assert both == "DMSO|taxol"
    screen = screen_in(tmp_path, lambda f: f.assign(Metadata_Label=both), multilabel=True)
    assert screen.classes == ["DMSO", "taxol"]
    screen.check()
    single = screen_in(tmp_path, at(0, "Metadata_Label", "DMSO|rare"), multilabel=True)
    assert [problem[:13] for problem in problems_of(single)] == ["class 'rare':"]


def test_controls_may_have_a_label_that_is_not_a_class(tmp_path):
    def change(fields):
        fields["Metadata_Label"] = ["DMSO", "DMSO", "a", "a", "DMSO", "DMSO", "b", "b"]
        return fields.assign(Metadata_Control=fields["Metadata_Label"] == "DMSO")

    screen_in(tmp_path, change, classes=["a", "b"]).check()
    assert "label 'DMSO': not one of the classes; correct the label, or add it to the classes: a and b." in problems_of(
        screen_in(tmp_path, lambda f: change(f).assign(Metadata_Control=False), classes=["a", "b"])
    )


def write(path, image):
    tifffile.imwrite(path, image, photometric="minisblack")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (
            np.zeros((3, 4), np.uint8),
            "not uint16 like most files (uint8); convert it",
        ),
        (np.zeros((2, 3, 4), np.uint16), "wrong number of pages (2, not 1);"),
        (np.zeros((3, 5), np.uint16), "not 3 × 4 px like most files (3 × 5 px);"),
        (b"", "is empty (0 bytes)"),
        (b"not a TIFF", "truncated or not an image"),
        ("folder", "cannot be opened (Is a directory); correct its permissions or path."),
    ],
)
def test_a_bad_file_is_named(tmp_path, image, expected):
    screen = screen_in(tmp_path)
    path = tmp_path / "P1_A02_1_Actin.tif"
    if isinstance(image, np.ndarray):
        write(path, image)
    elif image == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(image)
    (problem,) = problems_of(screen)
    assert problem.startswith(f"{path} (plate P1, well A02, site 1): {expected}")


def test_missing_files_are_counted_by_plate(tmp_path):
    screen = screen_in(tmp_path)
    files = [f"P1_A01_{site}_{channel}.tif" for site in (1, 2) for channel in ("Actin", "DAPI")]
    for file in files[:3]:
        (tmp_path / file).unlink()
    (problem,) = problems_of(screen)
    there = len(screen.fields.query("Metadata_Plate == 'P1'")) * len(screen.channels)
    assert problem.startswith(f"plate P1: images are missing (3 of {there}, as {tmp_path / 'P1_A01_1_'}")
    assert "(well A01, site 1, channel " in problem


def test_too_few_pages_are_reported(tmp_path):
    screen = screen_in(tmp_path, lambda f: f.assign(Page_Actin=1), planes=None)
    (problem,) = problems_of(screen)
    first, *files, last = problem.split("\n    ")
    assert first == "8 times: wrong number of pages; correct the table or the file:"
    assert [Path(file).name for file in files] == [
        f"P1_A0{well}_{site}_Actin.tif (plate P1, well A0{well}, site {site}): 1, not 2"
        for well, site in ((1, 1), (1, 2), (2, 1))
    ]
    assert last == "… and 5 more"


def test_all_problems_are_reported_at_once(tmp_path):
    screen = screen_in(tmp_path, at(1, "Metadata_Label", "rare"), problems=("table: something else.",))
    (tmp_path / "P1_A01_1_DAPI.tif").write_bytes(b"")
    (tmp_path / "P2_A02_2_Actin.tif").unlink()
    write(tmp_path / "P2_A01_1_Actin.tif", np.zeros((3, 4), np.uint8))
    assert len(problems_of(screen)) == 5
    with pytest.raises(ScreenError, match="The screen has 5 problems:\n- table: something else") as caught:
        screen.check()
    for name in ["class 'rare'", "P1_A01_1_DAPI.tif", "P2_A02_2_Actin.tif", "P2_A01_1_Actin.tif"]:
        assert name in str(caught.value)


def test_an_unknown_kind_of_screen_is_refused():
    with pytest.raises(ValueError, match="screen: 'bbc' is not one of digits, manifest"):
        open_screen("bbc")


def test_a_hundred_thousand_problems_of_ten_kinds_make_a_page():
    problems = [Problem(f"fault {n % 10}", "mend it", "x" * 1000, str(n)) for n in range(100_000)]
    lines = str(ScreenError(problems)).splitlines()
    assert lines[0] == "The screen has 10 problems:"
    assert lines[1:3] == ["- 10000 times: fault 0; mend it:", f"    {'x' * 293} … {'x' * 97}: 0"]
    assert lines[5:7] == ["    … and 9997 more", "- 10000 times: fault 1; mend it:"]
    assert lines[-1] == "- 2 more kinds of problems"
    assert len(lines) == 1 + 8 * 5 + 1
    assert max(map(len, lines)) <= 402
