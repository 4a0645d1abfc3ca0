"""Freed memory is kept: what PyTorch allocates again is no new page."""

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
def test_tensors_of_one_size_take_no_new_pages_once_there_are_blocks_enough():
    """The first ones do: a freed block is split by what is allocated between, and a few more are needed."""

    def faults(word: str) -> int:
        found = subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True)
        return int(found.stdout)

    assert faults("kept") < 10
    assert faults("default") > 20 * 32  # without it they are mapped anew, at least in pages of 2 MB
