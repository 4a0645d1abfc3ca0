"""Keep CPU memory that PyTorch frees for its next layer, instead of returning it to the system."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # names of glibc's malloc.h
MOST = 2**31 - 1  # bytes, the largest value for mallopt


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory until this process ends; on other systems do nothing.

    By default each tensor above 32 MB is mapped, zeroed page by page, and unmapped again, layer by layer: a fifth of
    the time of a 900 × 900 px field on two cores (``benchmarks/throughput.py``). Kept pages serve the next step; the
    process keeps as much memory as its largest step needed: all threads share it, or each would keep its own. No value
    changes.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, MOST)
        libc.mallopt(M_TOP_PAD, 2**26)
