"""dvc.yaml names all the code that a stage runs, so that a changed function runs it again."""

import ast
from pathlib import Path

import nbformat
import pytest
import yaml

from milcnn.paths import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
BY_NOTEBOOK = {
    name: [dep for dep in stage["deps"] if dep.startswith("build/notebooks/")]
    for name, stage in STAGES.items()
    if any(dep.startswith("build/notebooks/") for dep in stage.get("deps", []))
}
# these stages save no figure: what their notebooks draw is looked at, and decides nothing
DRAWS_NOTHING = {"train", "shuffled", "baselines", "label_noise", "compare"}
# decide where files are, not what is in them
EVERYWHERE = {"milcnn/__init__.py", "milcnn/paths.py"}


def file_of(module: str) -> Path | None:
    """The file of a module of milcnn, relative to the root; None where there is none."""
    for path in (Path(module.replace(".", "/") + ".py"), Path(module.replace(".", "/")) / "__init__.py"):
        if (ROOT / path).exists():
            return path
    return None


def imported(source: str) -> set[str]:
    """The modules of milcnn that ``source`` imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("milcnn"):
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names if name.name.startswith("milcnn")}
    return {name for name in names if file_of(name)}


def closure(source: str, without: str = "-") -> set[Path]:
    """All files of milcnn that ``source`` runs, directly or through others, but not those in the folder ``without``."""
    waiting, files = imported(source), set()
    while waiting:
        path = file_of(waiting.pop())
        if path not in files and Path(without) not in path.parents:
            files.add(path)
            waiting |= imported((ROOT / path).read_text())
    return files


def code_of(notebook: str) -> str:
    cells = nbformat.read(ROOT / "notebooks" / Path(notebook).name, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def covered(path: Path, deps: list[str]) -> bool:
    return any(path == Path(dep) or Path(dep) in path.parents for dep in deps)


@pytest.mark.parametrize("stage", BY_NOTEBOOK)
def test_a_stage_names_all_code_that_it_runs(stage):
    without = "milcnn/figures" if stage in DRAWS_NOTHING else "-"
    files = set().union(*(closure(code_of(notebook), without) for notebook in BY_NOTEBOOK[stage]))
    files = {path for path in files if path.as_posix() not in EVERYWHERE and path.name != "__init__.py"}
    missing = sorted(path.as_posix() for path in files if not covered(path, STAGES[stage]["deps"]))
    assert not missing


@pytest.mark.parametrize(
    ("stage", "module"), [("report", "study/report.py"), ("unit_tests", "network/mil_unit_tests.py")]
)
def test_a_stage_without_a_notebook_names_all_code_that_it_runs(stage, module):
    files = closure((ROOT / "milcnn" / module).read_text()) | {Path("milcnn") / module}
    files = {path for path in files if path.as_posix() not in EVERYWHERE and path.name != "__init__.py"}
    assert not [path for path in files if not covered(path, STAGES[stage]["deps"])]


@pytest.mark.parametrize("stage", BY_NOTEBOOK)
def test_a_stage_names_no_code_that_it_does_not_run(stage):
    files = set().union(*(closure(code_of(notebook)) for notebook in BY_NOTEBOOK[stage]))
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith("milcnn/") and not dep.endswith(".j2")]
    assert not [dep for dep in deps if not any(covered(path, [dep]) for path in files)]


def test_stages_that_save_no_figure_have_none_among_their_outputs():
    for stage in DRAWS_NOTHING:
        assert not [out for out in STAGES[stage]["outs"] if "figures" in str(out) or ".png" in str(out)]
