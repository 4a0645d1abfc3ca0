"""Marks of fields: written, read back, changed, taken away."""

import pandas as pd
import pytest

from milcnn.explore.marks import MARK_COLUMNS, mark_of, read_marks, with_mark, write_marks

KEY = ("007", "B03", 1)


def test_marks_are_read_back_as_they_were_written_and_numbers_stay_names(tmp_path):
    path = tmp_path / "marks.csv"
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
