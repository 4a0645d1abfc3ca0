"""How the rooms of the package stand to each other."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("room", ["evaluate", "figures", "prepare", "screens"])
def test_a_room_that_needs_no_network_does_not_load_torch(room):
    """Every module of the room, imported in a fresh process."""
    program = f"""
import importlib, pkgutil, sys
import milcnn.{room}
for module in pkgutil.walk_packages(milcnn.{room}.__path__, "milcnn.{room}."):
    importlib.import_module(module.name)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
