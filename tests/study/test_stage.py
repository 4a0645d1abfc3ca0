"""A stage refuses what does not fit, in one sentence, before anything is written."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from milcnn import parameters
from milcnn.parameters import StageError
from milcnn.study import stage
from milcnn.study.stage import checked, parse_overrides

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one notebook and one study."""
    for module in (stage, parameters):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "build" / "notebooks").mkdir(parents=True)
    (tmp_path / "params").mkdir()
    source = "study: str = ''\nseed: int = 0\nrate: float = 0.5\nseeds: list[int] = [0]"
    cells = [new_code_cell(source, metadata={"tags": ["parameters"]}), new_code_cell("print(study, seed, seeds)")]
    cells.append(new_code_cell("if seed == 13:\n    raise ValueError('two problems:\\n- one\\n- two')"))
    cells.append(new_code_cell("if seed == 14:\n    {}['wells']"))
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), tmp_path / "build" / "notebooks" / "09_try.ipynb")
    monkeypatch.setattr(parameters, "SECTIONS", ("try",))
    write(tmp_path, "seed: 3\nrate: 0.25")
    return tmp_path


def write(root, lines: str):
    """The parameter file of study ``small`` with these lines as its section ``try``."""
    (root / "params" / "small.yaml").write_text("try:\n" + "".join(f"  {line}\n" for line in lines.splitlines()))


def written(root):
    return [path for path in (root / "reports").rglob("*") if path.is_file()]


def test_file_then_command_line(root):
    values = checked(
        root / "build/notebooks/09_try.ipynb", "small", parse_overrides(["--seed", "7", "--seeds", "1", "2"])
    )
    assert values == {"study": "small", "seed": 7, "rate": 0.25, "seeds": [1, 2]}


def test_a_run_writes_notebook_and_page_with_the_values(root, monkeypatch):
    """The machine has another kernel called python3, which ends at once: a stage does not use it."""
    foreign = root / "site" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["false", "{connection_file}"], "display_name": "site", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(root / "site"))
    stage.run_stage("try", "small", {"seeds": ["4", "5"]})
    names = {path.relative_to(root / "reports").as_posix() for path in written(root)}
    assert names == {"executed/small/09_try.ipynb", "html/small/09_try.html"}
    executed = nbformat.read(root / "reports/executed/small/09_try.ipynb", as_version=4)
    assert executed.cells[2].outputs[0].text == "small 3 [4, 5]\n"


def test_a_run_is_named_by_its_single_values_and_not_by_its_lists(root):
    stage.run_stage("try", "small", {"seed": ["5"], "seeds": ["4"]})
    assert (root / "reports/html/small/09_try-5.html").exists()


def test_a_study_with_a_folder_of_its_own_writes_there(root, monkeypatch):
    monkeypatch.setattr(stage, "HOMES", {"small": "build/apart/"})
    stage.run_stage("try", "small", {})
    assert not written(root)
    assert (root / "build/apart/reports/executed/small/09_try.ipynb").exists()
    assert (root / "build/apart/reports/html/small/09_try.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("try:\n  sed: 3\n", r"small\.yaml: try: 'sed' is unknown; perhaps 'seed"),
        ("try:\n  seed: three\n", r"small\.yaml: try: 'seed' = 'three': Input should be a valid integer"),
        ("try:\n  rate: [1]\n", r"small\.yaml: try: 'rate' = \[1\]: Input should be a valid number"),
        ("try:\n- 3\n", r"small\.yaml: does not hold 'section:' and below it 'key: value' lines"),
        ("- 3\n", r"small\.yaml: does not hold 'section:' and below it 'key: value' lines"),
        ("tri:\n  seed: 3\n", r"small\.yaml: no such section: tri; there are try"),
        ("", r"small\.yaml: is empty"),
        ("try:\n  seed: 3\n  seed: 4\n", r"small\.yaml: line 3: not YAML \(found duplicate key \"seed\"\)"),
        ("try:\n\tseed: 3\n", r"small\.yaml: line 2: not YAML .*; correct blanks \(no tabs\)"),
    ],
)
def test_a_bad_parameter_file_is_refused_with_its_key(root, content, message):
    (root / "params/small.yaml").write_text(content)
    with pytest.raises(StageError, match=message):
        stage.run_stage("try", "small", {})
    assert not written(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"params\.yaml: has no list of studies"),
        ("studies: digits", r"params\.yaml: has no list of studies"),
        ("studies: [a, b, a]", r"params\.yaml: studies has a more than once"),
    ],
)
def test_params_yaml_lists_each_study_once(root, content, message):
    (root / "params.yaml").write_text(content)
    with pytest.raises(StageError, match=message):
        parameters.listed_studies()


def test_an_unknown_key_on_the_command_line(root):
    with pytest.raises(StageError, match="command line: 'sed'"):
        stage.run_stage("try", "small", {"sed": ["1"]})


def test_an_unknown_study_or_stage(root):
    with pytest.raises(StageError, match=r"params/large\.yaml: no such study; there are small"):
        stage.run_stage("try", "large", {})
    with pytest.raises(StageError, match="stage 'none': no notebook in"):
        stage.run_stage("none", "small", {})


@pytest.mark.parametrize("name", ["my plate", "a/b", "é", ""])
def test_the_name_of_a_study_is_plain(root, name):
    with pytest.raises(StageError, match=f"study '{name}': use letters, digits, '-' and '_' only"):
        stage.run_stage("try", name, {})


@pytest.mark.parametrize(
    ("seed", "message"),
    [(13, "two problems:\n- one\n- two"), (14, "KeyError in cell 5: 'wells'")],
)
def test_a_failing_notebook_leaves_no_result_and_says_why(root, seed, message):
    old = root / "reports/executed/small/09_try.ipynb"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    write(root, f"seed: {seed}")
    with pytest.raises(StageError) as error:
        stage.run_stage("try", "small", {})
    failed = root / "build/failed/small/09_try.ipynb"
    assert str(error.value) == f"params/small.yaml: 09_try: {message}\n(see {failed})"
    assert written(root) == [old]
    assert old.read_text() == "old"
    assert failed.exists()


def test_the_command_ends_with_a_sentence_and_exit_code_1():
    words = [Path(sys.executable).with_name("milcnn"), "run", "none", "digits"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
