"""Every command of the README and of CONTRIBUTING.md is known here, and run, or run with its real work left out."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from milcnn.paths import ROOT
from milcnn.study.cli import parser

README = (ROOT / "README.md").read_text()
OTHERS = ("CONTRIBUTING.md", "docs/how-it-works.md", "docs/own-screen.md", "docs/score.md", "docs/api.md")
PAGES = README + "".join((ROOT / name).read_text(encoding="utf-8") for name in OTHERS)
# what these do is tested elsewhere (tests/study/test_pipeline.py runs dvc, nbval is half of `make test`)
ELSEWHERE = ("dvc repro", "pytest", "source ", "python3 -m venv", "pip install", "conda ", "pre-commit ", "accelerate ")


def commands() -> list[str]:
    """Lines of console blocks, and `code` that begins like a command."""
    blocks = re.findall(r"```console\n(.*?)```", PAGES, re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    starts = ("make", "milcnn ", "dvc ", "pytest", "pip ", "conda ", "accelerate ")
    inline = [code for code in re.findall(r"`([^`\n]+)`", PAGES) if code.startswith(starts) and "/" not in code[:8]]
    return sorted({*filter(None, lines), *inline})


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("make")])
def test_make_knows_the_target(command, tmp_path):
    """Without its real work: a line that calls make itself runs even in a dry run, so dvc is one that only fails."""
    (tmp_path / "dvc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "dvc").chmod(0o755)
    words = [*shlex.split(command), "--dry-run", f"BIN={os.path.relpath(tmp_path, ROOT)}"]  # make puts ROOT before it
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("milcnn ")])
def test_milcnn_knows_the_command_and_its_arguments(command):
    words = shlex.split(command)[1:]
    needed = {
        "inventory": ["any"],
        "new": ["NAME", "--table", "FILE"],
        "score": ["any"],
        "export": ["any"],
    }  # named in the text without its arguments
    arguments, rest = parser().parse_known_args(words + (needed.get(words[0], []) if len(words) == 1 else []))
    assert arguments.command == words[0]
    assert not rest or words[0] == "run"


def test_every_other_command_is_tested_elsewhere():
    others = [command for command in commands() if not command.startswith(("make", "milcnn "))]
    assert not [command for command in others if not command.startswith(ELSEWHERE)]


def test_the_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    code = (
        code.replace("network.score(", "table = network.score(")
        + '\nassert table["predicted"].tolist() == [*"123456789"]'
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_the_readme_is_read_as_it_stands(tmp_path):
    from milcnn.screens.manifest import ManifestSettings, manifest_screen

    (table,) = re.findall(r"```csv\n(.*?)```", README, re.S)
    (tmp_path / "fields.csv").write_text(table)
    screen = manifest_screen(ManifestSettings(table=str(tmp_path / "fields.csv")))
    assert screen.channels == ["DAPI", "Actin"]
    assert screen.fields["Metadata_Label"].tolist() == ["DMSO"]


def test_the_worked_example_shows_rows_of_its_table():
    (rows,) = re.findall(r"```csv\n(.*?)```", (ROOT / "docs/own-screen.md").read_text(encoding="utf-8"), re.S)
    assert set(rows.splitlines()) <= set((ROOT / "data/bbbc016/fields.csv").read_text().splitlines())


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 150


def test_links_to_files_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        assert not [link for link in links if not (Path(page).parent / link).exists()], page
