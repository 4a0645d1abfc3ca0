"""A stage refuses what does not fit, in one sentence, before anything is written."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from milcnn import stage
from milcnn.stage import StageError, checked, parse_overrides

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one notebook and one study."""
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "build" / "notebooks").mkdir(parents=True)
    (tmp_path / "params" / "small").mkdir(parents=True)
    parameters = "study: str = ''\nseed: int = 0\nrate: float = 0.5\nseeds: list[int] = [0]"
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell("print(study, seed, seeds)")]
    cells.append(new_code_cell("if seed == 13:\n    raise ValueError('fields.csv: no such\\ntable')"))
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), tmp_path / "build" / "notebooks" / "09_try.ipynb")
    (tmp_path / "params" / "small" / "try.yaml").write_text("seed: 3\nrate: 0.25\n")
    return tmp_path


def written(root):
    return [path for path in (root / "reports").rglob("*") if path.is_file()]


def test_file_then_command_line(root):
    notebook, path = root / "build/notebooks/09_try.ipynb", root / "params/small/try.yaml"
    values = checked(notebook, path, parse_overrides(["--seed", "7", "--seeds", "1", "2"]))
    assert values == {"seed": 7, "rate": 0.25, "seeds": [1, 2]}


def test_a_run_writes_notebook_and_page_with_the_values(root):
    stage.run("09_try", "small", {"seeds": ["4", "5"]})
    names = {path.relative_to(root / "reports").as_posix() for path in written(root)}
    assert names == {"executed/small/09_try.ipynb", "html/small/09_try.html"}
    executed = nbformat.read(root / "reports/executed/small/09_try.ipynb", as_version=4)
    assert executed.cells[2].outputs[0].text == "small 3 [4, 5]\n"


def test_a_run_is_named_by_its_single_values_and_not_by_its_lists(root):
    stage.run("09_try", "small", {"seed": ["5"], "seeds": ["4"]})
    assert (root / "reports/html/small/09_try-5.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sed: 3\n", r"small/try\.yaml: parameters: 'sed' = 3: Extra inputs are not permitted"),
        ("seed: three\n", r"small/try\.yaml: parameters: 'seed' = 'three': Input should be a valid integer"),
        ("rate: [1]\n", r"small/try\.yaml: parameters: 'rate' = \[1\]: Input should be a valid number"),
        ("- 3\n", r"small/try\.yaml: does not hold 'key: value' lines"),
        ("a: [\n", r"small/try\.yaml: not YAML"),
    ],
)
def test_a_bad_parameter_file_is_refused_with_its_key(root, content, message):
    (root / "params/small/try.yaml").write_text(content)
    with pytest.raises(StageError, match=message):
        stage.run("09_try", "small", {})
    assert not written(root)


def test_an_unknown_key_on_the_command_line(root):
    with pytest.raises(StageError, match="command line: parameters: 'sed'"):
        stage.run("09_try", "small", {"sed": ["1"]})


def test_an_unknown_study_or_notebook(root):
    with pytest.raises(StageError, match=r"params/large: no such study; there are small"):
        stage.run("09_try", "large", {})
    with pytest.raises(StageError, match=r"10_none\.ipynb: no such notebook"):
        stage.run("10_none", "small", {})


def test_a_failing_notebook_leaves_no_result_and_says_why_in_one_line(root):
    stage.run("09_try", "small", {})
    before = {path: path.read_bytes() for path in written(root)}
    (root / "params/small/try.yaml").write_text("seed: 13\n")
    with pytest.raises(StageError, match=r"try\.yaml: 09_try: ValueError: fields\.csv: no such table \(see ") as error:
        stage.run("09_try", "small", {})
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in written(root)} == before
    assert (root / "build/failed/small/09_try.ipynb").exists()


def test_the_command_ends_with_a_sentence_and_exit_code_1():
    words = [sys.executable, "-m", "milcnn.stage", "99_none", "digits"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
