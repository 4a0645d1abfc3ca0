"""Freed memory is kept: PyTorch reuses its pages."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from milcnn.network.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(sum([faults() for _ in range(40)][20:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_tensors_of_one_size_reuse_pages():
    """Not the first ones: smaller tensors split the freed blocks, so a few more blocks are needed."""

    def faults(word: str) -> int:
        result = subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True)
        return int(result.stdout)

    assert faults("kept") < 10
    assert faults("default") > 20 * 32  # without it they are mapped anew, at least in pages of 2 MB
