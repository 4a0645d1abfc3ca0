"""A table in each of the forms in which people save one: it is always the same table, or it is refused by name."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from milcnn.screens.problems import ScreenError
from milcnn.screens.table import text_table

CELLS = [["41700000000001", "A01", "5 µM x", "a.tif"], ["007", "B02", "NA", "b c.tif"]]
NAMES = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Path"]


def lines(separator=",", end="\n", tail=""):
    return end.join([separator.join(NAMES), *(separator.join(row) + tail for row in CELLS)]) + end


def workbook(frame=None, **options):
    file = io.BytesIO()
    (pd.DataFrame(CELLS, columns=NAMES) if frame is None else frame).to_excel(file, index=False, **options)
    return file.getvalue()


FORMS = {
    "UTF-8": lines().encode(),
    "with a byte order mark": lines().encode("utf-8-sig"),
    "UTF-16": lines("\t").encode("utf-16"),
    "UTF-16 without a mark": lines().encode("utf-16-le"),
    "Windows-1252": lines(";").encode("cp1252"),
    "Latin-1": lines().encode("latin-1"),
    "semicolons of Windows": lines(";", "\r\n").encode(),
    "old Mac": lines(end="\r").encode(),
    "told separator": b"sep=;\r\n" + lines(";", "\r\n").encode(),
    "trailing separator": lines(tail=",").encode(),
    "trailing separators in the header too": lines(",", ",,\n").encode(),
    "blank rows": ("\n" + lines(end="\n\n") + ",,,\n").encode(),
    "quoted": lines('","', '"\n"')[:-1].join(['"', ""]).encode(),
    "blanks around cells": lines(" , ").encode(),
    "gzip": gzip.compress(lines().encode()),
    "Excel": workbook(),
    "Excel, below empty rows": workbook(startrow=3),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_table(tmp_path, form, capsys):
    (tmp_path / "table.csv").write_bytes(FORMS[form])
    table = text_table(tmp_path / "table.csv")
    assert list(table) == NAMES
    assert table.to_numpy().tolist() == CELLS
    said = capsys.readouterr().out
    assert ("table.csv: is not in UTF-8" in said) == (form in ("Windows-1252", "Latin-1"))
    assert ("table.csv: blanks around cells are left out" in said) == (form == "blanks around cells")


def test_a_cell_with_the_separator_is_quoted_and_a_short_row_ends_in_empty_cells(tmp_path):
    (tmp_path / "t.csv").write_text('a,b,c\n"x, y",1\n')
    assert text_table(tmp_path / "t.csv").to_numpy().tolist() == [["x, y", "1", ""]]


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_numbers_keep_their_digits(tmp_path, suffix):
    frame = pd.DataFrame({"plate": [41700000000001.0, 41700000000002.0], "c": [0.3, None], "n": [7, 8]})
    path = tmp_path / f"t{suffix}"
    frame.to_parquet(path) if suffix == ".parquet" else path.write_bytes(workbook(frame))
    assert text_table(path).to_numpy().tolist() == [["41700000000001", "0.3", "7"], ["41700000000002", "", "8"]]


def test_digits_that_a_float32_has_lost_are_not_made_up(tmp_path):
    pd.DataFrame({"plate": np.float32([41700000000001]), "c": np.float32([0.1])}).to_parquet(tmp_path / "t.parquet")
    assert text_table(tmp_path / "t.parquet").to_numpy().tolist() == [["4.17e+13", "0.1"]]


def zipped(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (np.random.default_rng(0).bytes(500), "is not text"),
        (b"<!DOCTYPE html><html>a,b</html>", "is a web page, XML or JSON"),
        (b'{"a": 1, "b": 2}', "is a web page, XML or JSON"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "is neither a whole CSV"),
        (zipped("mimetype"), "is neither a whole CSV"),
        (b"PAR1 and nothing more", "is neither a whole CSV"),
        (gzip.compress(lines().encode())[:20], "is neither a whole CSV"),
        (b"one\ntwo\nthree\n", "has fewer than two columns"),
        (b'a,b\n1,"2\n3,4\n', "has a cell in line 3 whose quotes do not match"),
    ],
)
def test_what_is_not_a_table_is_refused_with_its_name(tmp_path, content, why):
    (tmp_path / "fields.csv").write_bytes(content)
    with pytest.raises(ScreenError, match=rf"fields\.csv: {why}.*; save the table as CSV \(UTF-8\), Excel"):
        text_table(tmp_path / "fields.csv")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2,3\n4,5\n6,7,8\n", "has more cells than names of columns in row 2 and row 4; give"),
        ("a,b,a\n1,2,3\n", "has more than one column a; keep one"),
        ("a,b\n", "has a header but no rows"),
    ],
)
def test_a_table_that_does_not_fit_its_header_is_refused(tmp_path, text, why):
    (tmp_path / "fields.csv").write_text(text)
    with pytest.raises(ScreenError, match=rf"fields\.csv: {why}"):
        text_table(tmp_path / "fields.csv")


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder, not a table; correct 'table' or 'platemap'"):
        text_table(tmp_path)
