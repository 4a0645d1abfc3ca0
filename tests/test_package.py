"""What `import milcnn` alone gives."""

import subprocess
import sys

import pytest

import milcnn


def test_modules_are_there_after_import_milcnn_and_not_before_they_are_asked_for():
    program = """
import sys, milcnn
assert "torch" not in sys.modules
acc, n = milcnn.evaluate.nsc([[1, 0], [1, 0]], ["a", "a"], ["A", "B"])
assert (acc, n) == (1.0, 2)
assert callable(milcnn.localise.jacobian_map) and callable(milcnn.model.load)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_no_module_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        milcnn.nothing  # noqa: B018
    assert not hasattr(milcnn, "_pytestfixturefunction")
