"""The anatomy of a notebook; that its outputs are fresh is what nbval tests."""

import ast
import re

import nbformat
import pytest

from milcnn.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_has_12_to_35_cells_and_none_over_20_lines(path):
    cells = nbformat.read(path, as_version=4).cells
    assert 12 <= len(cells) <= 35
    assert max(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code") <= 20


def test_starts_with_title_question_and_run_time(path):
    head = nbformat.read(path, as_version=4).cells[0].source
    assert head.startswith("# ")
    assert all(word in head for word in ("**Question:**", "*In:*", "*Out:*", "*Run time:*"))


def test_has_one_parameters_cell_after_the_imports(path):
    tagged = [number for number, cell in enumerate(code_cells(path)) if "parameters" in tags(cell)]
    assert tagged == [1]


def test_has_no_class_and_never_leaves_its_folder(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    assert not re.search(r"^class |os\.chdir|sys\.path|/home/", source, re.M)


def test_every_assertion_says_what_is_wrong(path):
    found = [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell.source))]
    assert not [ast.unparse(node) for node in found if isinstance(node, ast.Assert) and node.msg is None]


def test_was_run_top_to_bottom_without_error(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_at_least_80_percent_of_all_code_cells_are_compared():
    cells = [cell for path in NOTEBOOKS for cell in code_cells(path)]
    ignored = [cell for cell in cells if {"nbval-ignore-output", "nbval-skip"} & set(tags(cell))]
    assert len(ignored) <= 0.2 * len(cells)
