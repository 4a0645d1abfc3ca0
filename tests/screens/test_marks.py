"""Marks of fields: written, read back, changed, taken away."""

import numpy as np
import pandas as pd
import pytest

from milcnn.screens.marks import MARK_COLUMNS, mark_of, read_marks, with_mark, with_marks, write_marks
from milcnn.screens.screen import Screen

KEY = ("007", "B03", 1)


def test_marks_are_read_back_as_they_were_written_and_numbers_stay_names(tmp_path):
    path = tmp_path / "marks.csv"
    with pytest.raises(FileNotFoundError, match=r"marks\.csv: no such table of marks; correct 'marks'"):
        read_marks(path, required=True)
    marks = with_mark(read_marks(path), ("P2", "A01", 2), "bad quality")
    marks = with_mark(marks, KEY, "wrong label", "1")
    write_marks(marks, path)
    assert path.read_text() == f"{','.join(MARK_COLUMNS)}\n007,B03,1,wrong label,1\nP2,A01,2,bad quality,\n"
    back = read_marks(path)
    assert mark_of(back, KEY) == ("wrong label", "1")
    assert mark_of(back, ("P2", "A01", "2")) == ("bad quality", "")
    assert mark_of(back, ("P2", "A01", 3)) == ("", "")


def test_a_field_has_one_mark_and_none_after_it_is_taken_away():
    marks = with_mark(
        with_mark(pd.DataFrame(columns=MARK_COLUMNS, dtype=str), KEY, "bad quality"), KEY, "wrong label", "x"
    )
    assert marks.to_numpy().tolist() == [["007", "B03", "1", "wrong label", "x"]]
    assert with_mark(marks, KEY, "").empty


def test_another_table_is_not_taken_for_marks(tmp_path):
    path = tmp_path / "fields.csv"
    path.write_text("Metadata_Plate,Metadata_Well,Metadata_Site\nP,A01,1\n")
    with pytest.raises(ValueError, match=r"fields\.csv: no column mark"):
        read_marks(path)
    path.write_text(f"{','.join(MARK_COLUMNS)}\nP,A01,1,ugly,\n")
    with pytest.raises(ValueError, match="mark 'ugly' is unknown; write wrong label or bad quality"):
        read_marks(path)


def small_screen():
    """Four fields of two classes, one of them left out before; each pixel is the number of the site."""
    fields = pd.DataFrame(
        {
            "Metadata_Plate": "P",
            "Metadata_Well": "A01",
            "Metadata_Site": [1, 2, 3, 4],
            "Metadata_Label": ["a", "a", "b", "b"],
        }
    )
    objects = fields[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]].assign(**{"object": 1, "class": "a"})
    skipped = fields.iloc[:1, :3].assign(Metadata_Site=9, reason="no file")
    read = lambda row: np.full((1, 2, 2), row["Metadata_Site"], np.uint8)  # noqa: E731
    return Screen(fields, ["c"], ["a", "b"], read, objects=objects, skipped=skipped)


def marked(*rows):
    return pd.DataFrame([["P", "A01", *row] for row in rows], columns=MARK_COLUMNS)


def test_bad_fields_are_left_out_and_wrong_labels_are_corrected_or_unknown():
    screen = with_marks(
        small_screen(), marked(["1", "bad quality", ""], ["2", "wrong label", "b"], ["4", "wrong label", ""])
    )
    assert screen.fields["Metadata_Site"].tolist() == [2, 3, 4]
    assert screen.fields["Metadata_Label"].tolist() == ["b", "b", ""]
    assert screen.objects["Metadata_Site"].tolist() == [2, 3, 4]
    assert screen.skipped[["Metadata_Site", "reason"]].to_numpy().tolist() == [
        [9, "no file"],
        [1, "marked: bad quality"],
    ]
    assert [int(screen.read(row)[0, 0, 0]) for _, row in screen.fields.iterrows()] == [2, 3, 4]


def test_a_screen_without_marks_stays_as_it_is():
    screen = with_marks(small_screen(), marked())
    assert screen.fields.equals(small_screen().fields)
    assert screen.skipped.equals(small_screen().skipped)


def test_marks_of_another_screen_are_named():
    with pytest.raises(ValueError, match=r"marks: field P/A01/7 is not in the screen; take it out"):
        with_marks(small_screen(), marked(["7", "bad quality", ""]))
    with pytest.raises(ValueError, match=r"marks: label 'c' is no class; there are a, b"):
        with_marks(small_screen(), marked(["1", "wrong label", "c"]))
