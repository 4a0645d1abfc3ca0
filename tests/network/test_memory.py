"""Freed memory is kept: PyTorch reuses its pages."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from milcnn.network.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def settled():
    return sum([faults() for _ in range(40)][20:])
default = settled()
keep_freed_memory()
print(default, settled())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_tensors_of_one_size_reuse_pages():
    """Not the first ones: smaller tensors split the freed blocks, so a few more blocks are needed."""

    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    default, kept = map(int, result.stdout.split())
    assert default > 20 * 32  # they are mapped anew, at least in pages of 2 MB
    assert kept < 10
