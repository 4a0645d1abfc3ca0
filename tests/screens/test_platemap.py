"""Platemaps in each of their forms: a table of wells, a grid, Broad's two files. All give the same fields."""

import io
import string

import numpy as np
import openpyxl
import pandas as pd
import pytest

from milcnn.screens.names import tidy_names
from milcnn.screens.platemap import read_platemap, with_platemap
from milcnn.screens.problems import ScreenError

ROWS = [*string.ascii_uppercase, *("A" + letter for letter in "ABCDEF")]  # of 1536 wells


def platemap_of(wells):
    return pd.DataFrame({"well": wells, "label": [f"in {well}" for well in wells]})


def joined(wells, platemap):
    table = tidy_names(pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": wells}), "t.csv")
    table = with_platemap(table, platemap, {}, "map.csv")
    return table["Metadata_Label"].tolist()


@pytest.mark.parametrize("habit", ["A{:02}", "a{}", "A - {:02}", "r01c{:02}", "A:{}"])
def test_wells_of_any_habit_join_their_platemap(habit):
    assert joined([habit.format(1), habit.format(12)], platemap_of(["A01", "A12"])) == ["in A01", "in A12"]
    assert joined(["A01", "A12"], platemap_of([habit.format(1), habit.format(12)])) == [
        f"in {habit.format(1)}",
        f"in {habit.format(12)}",
    ]


@pytest.mark.parametrize(("rows", "columns"), [("ABCDEFGH", 12), ("ABCDEFGHIJKLMNOP", 24)])
def test_wells_with_a_number_are_counted_row_by_row(rows, columns):
    letters = [f"{row}{column:02}" for row in rows for column in range(1, columns + 1)]
    numbers = [str(number) for number in range(1, len(letters) + 1)]
    assert joined(numbers, platemap_of(letters)) == [f"in {well}" for well in letters]
    assert joined(letters, platemap_of(numbers)) == [f"in {number}" for number in numbers]
    second = columns  # the first well of the second row, where sizes differ: one side of a whole plate is enough
    assert joined([letters[second]], platemap_of(numbers)) == [f"in {numbers[second]}"]
    assert joined([numbers[second]], platemap_of(letters)) == [f"in {letters[second]}"]


def test_numbers_on_both_sides_need_no_size():
    assert joined(["1", "020"], platemap_of(["01", "20"])) == ["in 01", "in 20"]


def test_numbers_that_may_be_of_two_sizes_are_refused():
    # 13 is B01 of 96 wells and A13 of 384; the platemap has both
    with pytest.raises(ScreenError, match=r"map\.csv: wells are numbers here, letters there, .* of 96 or 384 wells"):
        joined(["13"], platemap_of(["A13", "B01"]))
    with pytest.raises(ScreenError, match="have no place on a plate"):
        joined(["2000"], platemap_of(["A13"]))


def test_wells_in_one_of_the_two_alone_are_counted_with_three_examples(capsys):
    assert joined(["A01", "B01", "B02", "B03", "B04"], platemap_of(["A01", "C01"])) == ["in A01", *[""] * 4]
    said = capsys.readouterr().out
    assert "wells of the table that are not in it: 4, as B01, B02, B03 and 1 more" in said
    assert "wells that are not in the table: 1, as C01" in said


def test_a_platemap_of_other_wells_is_refused():
    with pytest.raises(ScreenError, match=r"map\.csv: no well of the table is in it: the table has W01 and W02,"):
        joined(["W-1", "W-2"], platemap_of(["A01", "B01"]))


def fields(*wells, plate="P1"):
    return tidy_names(pd.DataFrame({"Metadata_Plate": plate, "Metadata_Well": list(wells)}), "t.csv")


def read(path, content, *wells, columns=None, table=None):
    """The fields with what the platemap in ``content`` says of their wells."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = fields(*wells) if table is None else table
    return with_platemap(table, read_platemap(path, columns or {}), columns or {}, str(path))


def grid_rows(cells, corner="", number="{}"):
    """``cells`` (rows, columns) as a grid, the first row and column its names."""
    return [
        [corner, *(number.format(n + 1) for n in range(cells.shape[1]))],
        *([ROWS[at], *row] for at, row in enumerate(cells)),
    ]


def csv_of(rows, separator=",", quote=""):
    return "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in rows)


def workbook(rows):
    file, book = io.BytesIO(), openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(file)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(2, 3), (4, 6), (8, 12), (16, 24), (32, 48)])
@pytest.mark.parametrize("corner", ["", "row", "Well", "\\", "<>", "Label", "metadata_label"])
def test_a_grid_is_the_table_of_its_wells(tmp_path, shape, corner):
    cells = np.array([f"drug {number}" for number in range(np.prod(shape))]).reshape(shape)
    wells = [f"{ROWS[row]}{column + 1}" for row in range(shape[0]) for column in range(shape[1])]
    found = read(tmp_path / "map.csv", csv_of(grid_rows(cells, corner.replace("metadata", "Metadata"))), *wells)
    assert found["Metadata_Label"].tolist() == cells.ravel().tolist()
    assert list(found) == ["Metadata_Plate", "Metadata_Well", "Metadata_Label"]


CELLS = np.array([["DMSO", "5 µM; x", "a,b"], ["", "NA", "3.50"], ["c", "d", "e"]])
NUMBERED = grid_rows(CELLS)
TITLE = [["Screen of May, 2nd plate"], ["made by", "A. N."], []]
NUMBERS = [["", 1.0, 2.0, 3.0], *NUMBERED[1:]]
FORMS = {
    "commas": csv_of(grid_rows(CELLS), ",", '"'),
    "semicolons and titles": csv_of(TITLE, ",") + csv_of(grid_rows(CELLS), ";", '"'),
    "tabs": csv_of(grid_rows(CELLS), "\t"),
    "Windows-1252": csv_of(grid_rows(CELLS), "\t").encode("cp1252"),
    "UTF-16": csv_of(grid_rows(CELLS), "\t").encode("utf-16"),
    "01": csv_of(grid_rows(CELLS, number="{:02}"), "\t"),
    "1.0": csv_of(grid_rows(CELLS, number="{}.0"), "\t"),
    "small letters": csv_of([NUMBERED[0], *([row[0].lower(), *row[1:]] for row in NUMBERED[1:])], "\t"),
    "trailing separators": csv_of([[*row, "", ""] for row in NUMBERED], "\t"),
    "Excel": workbook(NUMBERS),
    "Excel with titles": workbook([*TITLE, *NUMBERS, [], ["DMSO is the control"]]),
    "Excel, in the middle of the sheet": workbook([[], [], *([None, "", *row] for row in NUMBERS)]),
    "Excel, whole numbers": workbook([["", 1, 2, 3], *NUMBERED[1:]]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_grid_gives_the_same_labels(tmp_path, form, capsys):
    found = read(tmp_path / "map.csv", FORMS[form], "A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3")
    assert found["Metadata_Label"].tolist() == CELLS.ravel().tolist()
    said = capsys.readouterr().out
    assert "wells of the table that are not in it: 1, as B01." in said  # an empty cell
    assert ("lines outside its grids are left out" in said) == ("titles" in form)


def test_a_grid_of_the_inner_wells(tmp_path):
    found = read(tmp_path / "map.csv", "title; x\n,2,3\nB,a,b\nC,c,d\n", "B2", "B3", "C2", "C3", "D4")
    assert found["Metadata_Label"].tolist() == ["a", "b", "c", "d", ""]


@pytest.mark.parametrize("between", ["\n", ",,\n", "\nNotes, of the screen\n", ""])
def test_several_grids_are_several_columns(tmp_path, between):
    grids = ["COMPOUND,1,2\nA,DMSO,AZ138\nB,AZ138,\n", "Concentration,1,2\nA,,0.3\nB,1,\n", "cells,1,2\nA,HeLa,HeLa\n"]
    found = read(tmp_path / "map.csv", between.join(grids), "A1", "A2", "B1", "B2")
    assert found["Metadata_Compound"].tolist() == ["DMSO", "AZ138", "AZ138", ""]
    assert found["Metadata_Concentration"].tolist() == ["", "0.3", "1", ""]
    assert found["cells"].tolist() == ["HeLa", "HeLa", "", ""]
    assert "Metadata_Label" not in found
    columns = {"Metadata_Label": "cells"}
    found = read(tmp_path / "map.csv", between.join(grids), "A1", "A2", "B1", "B2", columns=columns)
    assert found["Metadata_Label"].tolist() == ["HeLa", "HeLa", "", ""]


def test_an_unknown_corner_of_a_single_grid_is_the_label_with_a_word(tmp_path, capsys):
    text = "treatment,1,2\nA,DMSO,taxol\n"
    assert read(tmp_path / "map.csv", text, "A1", "A2")["Metadata_Label"].tolist() == ["DMSO", "taxol"]
    assert (
        "map.csv: the grid's corner says 'treatment'; its cells are read as Metadata_Label." in capsys.readouterr().out
    )
    columns = {"Metadata_Compound": "treatment"}
    found = read(tmp_path / "map.csv", text, "A1", "A2", columns=columns)
    assert found["Metadata_Compound"].tolist() == ["DMSO", "taxol"]
    assert "corner" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (",1,2,2\nA,a,b,c\n", "the grid in row 1 has columns 1 2 2 and rows A; number columns 1, 2, 3"),
        (",1,3,2\nA,a,b,c\n", "the grid in row 1 has columns 1 3 2"),
        (",1,2,60\nA,a,b,c\n", "the grid in row 1 has columns 1 2 60"),
        ("x\n\n,1,2\nA,a,b\nC,c,d\nB,e,f\n", "the grid in row 3 has columns 1 2 and rows A C B"),
        (",1,2\nA,a,b\nA,c,d\n", "the grid in row 1 has columns 1 2 and rows A A"),
        (",1,2\nA,a,b\nLegend,c,d\n", "the grid in row 1 has columns 1 2 and rows A LEGEND"),
        (",1,2\nA,a,b\n,c,d\n", "the grid in row 1 has columns 1 2 and rows A ;"),
        (",1,2,x\nA,a,b,c\n", "the grid in row 1 has cells in a column without a number, as 'x'"),
        (",1,2\nA,a,b,c\n", "the grid in row 1 has cells in a column without a number, as 'c'"),
        (",1,2\nA,a,b\n\n,1,2\nA,c,d\n", "has two grids of Metadata_Label; write in the corner of each"),
        ("dose,1,2\nA,a,b\n\ndose,1,2\nA,c,d\n", "has two grids of dose; write in the corner of each"),
        (",1,2\nA,,\nB,,\n", "the grid in row 1 has no filled cell; fill it, or delete it"),
    ],
)
def test_a_broken_grid_is_refused_in_one_sentence_with_its_file(tmp_path, text, why):
    with pytest.raises(ScreenError, match=rf"map\.csv: {why}") as error:
        read(tmp_path / "map.csv", text, "A1", "A2")
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        "well,concentration,replicate\nA01,1,2\nA02,1,2\n",
        "label,concentration,replicate,well\nDMSO,1,2,A01\nB,1,2,A02\n",
        "row,column,well,label\nA,1,A01,x\nA,2,A02,y\n",
        "well,1,2\nA01,x,y\nA02,x,y\n",
    ],
)
def test_a_table_with_numbers_is_not_a_grid(tmp_path, text):
    (tmp_path / "map.csv").write_text(text)
    pd.testing.assert_frame_equal(
        read_platemap(tmp_path / "map.csv", {}), pd.read_csv(io.StringIO(text), dtype=str), check_dtype=False
    )


LINCS = """plate_map_name\twell_position\tbroad_sample\tmg_per_ml\tmmoles_per_liter\tsolvent
C-7161-01-LM6-001\tA01\t\t\t\tDMSO
C-7161-01-LM6-001\tA07\tBRD-K25114078-003-08-1\t1.10546000000000006\t9.99999999999999999\tDMSO
C-7161-01-LM6-001\tA08\tBRD-K25114078-003-08-1\t0.368486666666383237\t3.33333333333076923\tDMSO
"""
LINCS_NA = """plate_map_name\tcell_line\ttime_point\twell_position\tbroad_sample\tmg_per_ml\tmmoles_per_liter\tsolvent
ASG003_A549_24H\tA549\t24H\tA01\tNA\tNA\tNA\tDMSO
ASG003_A549_24H\tA549\t24H\tA07\tBRD-K27305650-001-09-1\t3.073432\t10\tDMSO
ASG003_A549_24H\tA549\t24H\tA08\tNA\tNA\tNA\tNA
"""
LINCS_CSV = """compound_plate_barcode,well_position,broad_sample,mg_per_ml,mmoles_per_liter,solvent,volume_ul,amount_mg
AB00022422,A01,,,,DMSO,10,0.000
AB00022422,A07,BRD-K63828191-003-28-9,5.10044,10,DMSO,10,0.051
AB00022422,A08,BRD-K63828191-003-28-9,5.10044e-002,1.e-001,DMSO,10,0.000
"""
JUMP_TARGET = (
    "well_position\tbroad_sample\tsolvent\nA01\t\tDMSO\nA07\tBRD-K05878375-236-05-7\tDMSO\nA08\tBRD-K91\tH2O\n"
)
JUMP_ORF = "well_position\tbroad_sample\nA01\t\nA07\tccsbBroad304_00156\nA08\tccsbBroad304_14804\n"
JUMP_MOA = """well_position,broad_sample,solvent,InChIKey,pert_iname,pubchem_cid,moa,smiles,pert_type,control_type
A01,,DMSO,,DMSO,,,,control,negcon
A07,BRD-K02965346-001-07-5,DMSO,FPYJSJ,SU-11274,9549297,"HGF receptor inhibitor, MET",CN(c1),trt,
A08,Compound6,DMSO,,Compound6,,tricyclic antidepressant,,trt,
"""
MAPS = {  # file: what it holds, compounds of A01, A07, A08, and their µM
    "C-7161-01-LM6-001.txt": (LINCS, ["DMSO", "BRD-K25114078-003-08-1", "BRD-K25114078-003-08-1"], ["", 10e3, 3333.33]),
    "ASG003_A549_24H.txt": (LINCS_NA, ["DMSO", "BRD-K27305650-001-09-1", ""], ["", 10e3, ""]),
    "AB00022422.csv": (LINCS_CSV, ["DMSO", "BRD-K63828191-003-28-9", "BRD-K63828191-003-28-9"], ["", 10e3, 100]),
    "JUMP-Target-1_compound_platemap.txt": (JUMP_TARGET, ["DMSO", "BRD-K05878375-236-05-7", "BRD-K91"], None),
    "DOG.30.31.32.33.A.txt": (JUMP_ORF, ["DMSO", "ccsbBroad304_00156", "ccsbBroad304_14804"], None),
    "JUMP-MOA.csv": (JUMP_MOA, ["DMSO", "BRD-K02965346-001-07-5", "Compound6"], None),
}


def assert_is_the_map(found, compounds, micromolar):
    assert found["Metadata_Compound"].tolist() == compounds
    if micromolar is not None:
        numbers = [value if value == "" else float(value) for value in found["Metadata_Concentration"]]
        assert numbers == micromolar


@pytest.mark.parametrize("name", MAPS)
def test_one_map_of_broad_is_for_all_plates(tmp_path, name, capsys):
    text, compounds, micromolar = MAPS[name]
    table = pd.concat([fields("A1", "A7", "A8", plate=plate) for plate in ("BR1", "BR2")])
    found = read(tmp_path / name, text, table=table)
    assert found["Metadata_Plate"].tolist() == ["BR1"] * 3 + ["BR2"] * 3
    assert_is_the_map(found[:3], compounds, micromolar)
    assert_is_the_map(found[3:], compounds, micromolar)
    assert ("Metadata_Concentration (µM) is 1000 x mmoles_per_liter" in capsys.readouterr().out) == bool(micromolar)


@pytest.mark.parametrize("place", ["platemap", "."])
@pytest.mark.parametrize("named", ["", "barcode_platemap.csv"])
@pytest.mark.parametrize("more", ["", ",Batch_Number,Batch_Date"])
def test_a_list_of_barcodes_gives_each_plate_its_map(tmp_path, place, named, more, capsys):
    (tmp_path / place).mkdir(exist_ok=True)
    rows = [f"Assay_Plate_Barcode,Plate_Map_Name{more}"]
    for number, (name, (text, *_)) in enumerate(MAPS.items()):
        (tmp_path / place / name).write_text(text)
        rows.append(f"000{number},{name[:-4]}" + (f",{number},2016-03-22" if more else ""))
    rows.append("SQ9,a map that nobody needs" + ",9,2016-03-22" * bool(more))
    (tmp_path / "barcode_platemap.csv").write_text("\n".join(rows) + "\n")
    wanted = [0, 1, 3, 4, 5]
    table = pd.concat([fields("A1", "A7", "A8", "B9", plate=f"000{number}") for number in wanted])
    found = with_platemap(table, read_platemap(tmp_path / named, {}), {}, "codes.csv")
    assert found["Metadata_Plate"].tolist() == [f"000{number}" for number in wanted for _ in range(4)]
    for at, number in enumerate(wanted):
        _, compounds, micromolar = list(MAPS.values())[number]
        assert_is_the_map(found[4 * at : 4 * at + 4], [*compounds, ""], micromolar and [*micromolar, ""])
    assert not {"plate_map_name", "Plate_Map_Name"} & set(found)
    said = capsys.readouterr().out
    assert "codes.csv: plates that are not in the table: 2, as 0002 and SQ9." in said
    assert "codes.csv: wells of the table that are not in it: 5, as 0000 B09, 0001 B09, 0003 B09 and 2 more." in said


def test_plates_without_a_map_are_told_or_refused_by_name(tmp_path, capsys):
    (tmp_path / "barcode_platemap.csv").write_text("Assay_Plate_Barcode,Plate_Map_Name\nP1,one\nP2,two\nP3,two\n")
    (tmp_path / "one.txt").write_text(JUMP_ORF)
    platemap = read_platemap(tmp_path, {})
    table = pd.concat([fields("A1", "A7", "A8", plate=plate) for plate in ("P1", "P9")])
    assert with_platemap(table, platemap, {}, "c.csv")["Metadata_Compound"].tolist()[3:] == ["", "", ""]
    assert "c.csv: plates of the table that are not in it: 1, as P9." in capsys.readouterr().out
    with pytest.raises(
        ScreenError, match="no plate of the table is in it: the table has P9, the platemap P1, P2 and P3"
    ):
        with_platemap(fields("A1", plate="P9"), platemap, {}, "c.csv")
    with pytest.raises(ScreenError, match=r"c\.csv: two\.txt \(plate P2\): no such map; put the file into the folder"):
        with_platemap(fields("A1", plate="P2"), platemap, {}, "c.csv")
    (tmp_path / "one.txt").unlink()
    with pytest.raises(ScreenError, match=r"c\.csv: one\.txt \(plate P1\): no such map"):
        with_platemap(table, read_platemap(tmp_path, {}), {}, "c.csv")


def test_a_plate_with_two_maps_and_a_folder_without_a_list_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"barcode_platemap\.csv: no such table; correct 'table' or 'platemap'"):
        read_platemap(tmp_path, {})
    (tmp_path / "barcode_platemap.csv").write_text("Assay_Plate_Barcode,Plate_Map_Name\nP1,one\nP1,two\nP1,one\n")
    (tmp_path / "one.txt").write_text(JUMP_ORF)
    (tmp_path / "two.txt").write_text(JUMP_ORF)
    with pytest.raises(ScreenError, match=r"c\.csv: has more than one row for P1 A01, P1 A07 and P1 A08; keep one"):
        with_platemap(fields("A1"), read_platemap(tmp_path, {}), {}, "c.csv")


@pytest.mark.parametrize("written", ["0.37037036", "0,37037036", "3.7037036e-001"])
def test_concentrations_in_mmol_are_told_in_micromolar(tmp_path, written):
    text = f"well_position\tbroad_sample\tmmoles_per_liter\nA01\tBRD-K50163129-001-01-4\t{written}\n"
    found = read(tmp_path / "map.txt", text, "A1")
    assert float(found["Metadata_Concentration"].iloc[0]) == pytest.approx(370.37)  # mmol/L x 1000 = µmol/L
    with pytest.raises(ScreenError, match=r"map\.txt: Metadata_Concentration is not a number in 1 rows, as '10 mM'"):
        read(tmp_path / "map.txt", text.replace(written, "10 mM"), "A1")


def test_the_setting_columns_chooses_columns_of_the_platemap(tmp_path):
    columns = {"Metadata_Label": "moa", "Metadata_Compound": "pert_iname"}
    found = read(tmp_path / "map.csv", JUMP_MOA, "A1", "A7", columns=columns)
    assert found["Metadata_Label"].tolist() == ["", "HGF receptor inhibitor, MET"]
    assert found["Metadata_Compound"].tolist() == ["DMSO", "SU-11274"]
    text = "well,label,class\nA01,a,1\nA07,b,2\n"
    found = read(tmp_path / "map.csv", text, "A1", "A7", columns={"Metadata_Label": "class"})
    assert found["Metadata_Label"].tolist() == ["1", "2"]
    assert "label" not in found
    found = read(tmp_path / "map.csv", LINCS, "A7", columns={"Metadata_Concentration": "mmoles_per_liter"})
    assert float(found["Metadata_Concentration"].iloc[0]) == 10
    columns = {"Metadata_Label": "broad_sample", "Metadata_Batch": "mmoles_per_liter"}
    found = read(tmp_path / "map.csv", LINCS, "A1", "A7", columns=columns)
    assert found["Metadata_Label"].tolist() == ["DMSO", "BRD-K25114078-003-08-1"]
    assert not {"Metadata_Compound", "Metadata_Concentration"} & set(found)
    with pytest.raises(ScreenError, match=r"map\.csv: has more than one column Metadata_Label; keep one of each name"):
        read(tmp_path / "map.csv", "well,label,Label\nA01,a,1\n", "A1")
