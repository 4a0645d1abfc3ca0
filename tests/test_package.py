"""How the rooms of the package stand to each other."""

import ast
import subprocess
import sys

from milcnn.paths import ROOT


def test_rooms_that_need_no_network_do_not_load_torch():
    """Every module of these rooms, imported in a fresh process; the first that loads torch is named."""
    program = """
import importlib, pkgutil, sys
for room in ("milcnn.evaluate", "milcnn.figures", "milcnn.prepare", "milcnn.screens"):
    for module in pkgutil.walk_packages(importlib.import_module(room).__path__, f"{room}."):
        importlib.import_module(module.name)
        assert "torch" not in sys.modules, module.name
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_of_the_package_stands_for_one_thing():
    """Known data sets may share names: ``draw_field`` means the same in each of them."""
    homes: dict[str, set[str]] = {}
    for path in (ROOT / "milcnn").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                homes.setdefault(name, set()).add("sets" if path.parent.name == "sets" else path.name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_text_is_written_and_read_in_utf_8_whatever_the_locale():
    """Every call that opens text names its encoding. ruff's rule for this sees only what it knows the type of."""
    found = []
    for path in (ROOT / "milcnn").rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            text = getattr(call.func, "attr", "") in {"read_text", "write_text"}
            text |= getattr(call.func, "id", "") == "open" and not ast.unparse(call.args[-1]).endswith("b'")
            if text and "encoding" not in {keyword.arg for keyword in call.keywords}:
                found.append(f"{path.name}:{call.lineno}: {ast.unparse(call)}")
    assert found == []
