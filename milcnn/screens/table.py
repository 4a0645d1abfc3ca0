"""A table of text as people save it: CSV in any common encoding and with any common separator, Excel, Parquet."""

import codecs
import csv
import gzip
import io
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.columns import CONCENTRATION, PIXEL_SIZE
from milcnn.screens.problems import ScreenError, first_few

SEPARATORS = ",;\t|"
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
GRID_LINE = r'(?m)^[^,;\t|\n]*([,;\t|])(?: *"?\d+(?:\.0+)?"? *\1)+ *"?\d+(?:\.0+)?"? *\1*\r?$'  # titles may stand above
AMOUNTS = {CONCENTRATION, PIXEL_SIZE}  # columns of numbers that need not be whole
WHOLE_FLOAT32, WHOLE_FLOAT64 = 2**24, 2**53  # up to here each whole number has a float of its own


def text_table(path: Path) -> pd.DataFrame:
    """A table with text in every cell, '' where empty: plate 007 stays 007, and a compound may have the name NA.

    Rows without a cell and columns without a name are left out. Raises as ``text_rows``, and ScreenError if cells have
    no column, or if a name repeats.
    """
    return framed(path, text_rows(path))


def text_rows(path: Path) -> list[list[str]]:
    """The rows of a table as text, without blanks around a cell. Of a workbook the first sheet is read.

    Raises FileNotFoundError for a missing file, ScreenError for one that is not a table.
    """
    if not path.is_file():
        what = "is a folder, not a table" if path.is_dir() else "no such table"
        advice = "correct 'table' or 'platemap'; in a parameter file a relative path starts in the repository's folder"
        raise FileNotFoundError(f"{path}: {what}; {advice}.")
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        rows = binary_rows(content)
    except Exception as error:  # the libraries raise many kinds for a broken file
        why = "is neither a whole CSV or Parquet file nor a workbook of Excel 2007 or later"
        raise not_a_table(path, why) from error
    if not content.strip():
        raise not_a_table(path, "is empty")
    rows = csv_rows(path, decoded(path, content)) if rows is None else rows
    if blanks := [cell for row in rows for cell in row if isinstance(cell, str) and cell != cell.strip()]:
        print(f"{path}: blanks around cells are left out, as in {blanks[0]!r} ({len(blanks)} cells).")
    return [list(map(cell_text, row)) for row in rows]


def not_a_table(path: Path, why: str) -> ScreenError:
    return ScreenError([f"{path}: {why}; save the table as CSV (UTF-8), Excel (.xlsx) or Parquet."])


def binary_rows(content: bytes) -> list | None:
    """The rows of a Parquet file, or of the first sheet of a workbook; None if the first bytes are of neither."""
    if content.startswith(b"PAR1"):
        table = pd.read_parquet(io.BytesIO(content))
        columns = [table[name].to_numpy() for name in table]  # their cells keep their type, such as float32
        return [list(table), *zip(*columns, strict=True)]
    if content.startswith((b"PK", b"\xd0\xcf\x11\xe0")):  # a zip, as .xlsx and .ods are; an .xls
        with warnings.catch_warnings(action="ignore"):  # of styles and extensions
            sheet = pd.read_excel(io.BytesIO(content), header=None, dtype=object, na_filter=False, engine="openpyxl")
        return list(sheet.itertuples(index=False, name=None))
    return None


def decoded(path: Path, content: bytes) -> str:
    """The text of a file in UTF-8 or UTF-16; else it is read as Windows-1252, which contains Latin-1, with a word."""
    marked = [encoding for mark, encoding in BYTE_ORDER_MARKS.items() if content.startswith(mark)]
    zeros = [
        encoding for place, encoding in enumerate(("utf-16-be", "utf-16-le")) if content[place : place + 1] == b"\0"
    ]
    for encoding in marked or zeros or ["utf-8", "cp1252"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if re.search(r"[\x00-\x08\x0e-\x1f]", text):
            break
        if encoding == "cp1252":
            print(f"{path}: is not in UTF-8; it is read as Windows-1252. Check letters such as µ and é.")
        return text
    raise not_a_table(path, "is not text in UTF-8, UTF-16 or Windows-1252")


def csv_rows(path: Path, text: str) -> list[list[str]]:
    """The rows of a CSV table.

    A first line ``sep=;`` tells the separator, or a line such as ``label;1;2;3`` above a grid of wells; else it is the
    one that makes most columns of the first line.
    """
    if re.match(r"\s*(<(?!>)|[{[])", text):  # but <> is the corner of a grid, as plate readers write it
        raise not_a_table(path, "is a web page, XML or JSON, not a table")
    told = re.match(r'\s*"?sep=(.)"?[;,\s]*?[\r\n]+', text, re.IGNORECASE)
    text = text[told.end() :] if told else text
    header = text.lstrip("\r\n").splitlines()[0] if text.strip() else ""
    told = told or re.search(GRID_LINE, text)
    separator = (
        told[1] if told else max(SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        raise not_a_table(path, f"has a cell in line {reader.line_num} whose quotes do not match") from error


def framed(path: Path, rows: list[list[str]]) -> pd.DataFrame:
    """``rows`` as a table, the first as header. Raises ScreenError if cells have no column, or if a name repeats."""
    (_, header), *body = [(number, row) for number, row in enumerate(rows, 1) if any(row)] or [(1, [])]
    if sum(map(bool, header)) < 2:
        raise not_a_table(path, "has fewer than two columns with a name, separated by comma, semicolon or tab")
    if repeated := sorted(name for name, count in Counter(filter(None, header)).items() if count > 1):
        raise ScreenError([f"{path}: has more than one column {', '.join(repeated)}; keep one of each name."])
    if longer := [f"row {number}" for number, row in body if any(row[len(header) :])]:
        advice = "give the column a name, or put a cell that holds the separator in quotes"
        raise ScreenError([f"{path}: has more cells than names of columns in {first_few(longer)}; {advice}."])
    if not body:
        raise ScreenError([f"{path}: has a header but no rows; add one row for each field or well."])
    cells = [(row + [""] * len(header))[: len(header)] for _, row in body]  # Excel leaves out empty cells at the end
    table = pd.DataFrame(cells, columns=header, dtype=object)
    return table.loc[:, [bool(name) for name in header]]


def cell_text(cell: object) -> str:
    """A cell as text. A whole number keeps all its digits, also as a float; '' for a missing value."""
    if isinstance(cell, str):
        return cell.strip()
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return ""
    if isinstance(cell, (float, np.floating)) and cell.is_integer():
        exact = WHOLE_FLOAT32 if isinstance(cell, np.float32) else WHOLE_FLOAT64
        return str(int(cell)) if abs(float(cell)) < exact else str(cell)
    return str(cell)


def as_numbers(texts: pd.Series, name: str) -> pd.Series:
    """A column as numbers; an empty cell becomes NaN. Pages and replicates are integers if none is empty.

    A comma is a decimal one if no cell has a point and some cell cannot mean thousands, as 0,3 or 1,25.
    """
    written = texts.astype(str)
    comma = written.str.fullmatch(r"[+-]?\d+,\d+")
    if (comma & ~written.str.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}")).any() and not written.str.contains(r"\.").any():
        written = written.str.replace(",", ".")
    values = pd.to_numeric(written.replace("", None), errors="coerce")
    wrong = texts[values.isna() & (texts != "")]
    if len(wrong):
        advice = "write it without a unit, with a decimal point"
        raise ScreenError(
            [f"{name}: {texts.name} is not a number in {len(wrong)} rows, as '{wrong.iloc[0]}'; {advice}."]
        )
    if texts.name not in AMOUNTS and len(odd := texts[(values < 0) | (values % 1 > 0) | np.isinf(values)]):
        rows = f"in {len(odd)} rows, as '{odd.iloc[0]}'"
        raise ScreenError([f"{name}: {texts.name} is not a whole number {rows}; write 0, 1, 2 and so on."])
    return values if texts.name in AMOUNTS or values.isna().any() else values.astype(int)
