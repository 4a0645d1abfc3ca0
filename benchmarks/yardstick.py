"""The most that a machine computes and moves: what benchmarks hold their programs against.

The peak of a dtype is the best rate of several kernels, since no library is the fastest on every processor: the matrix
product of torch, numpy and oneDNN, a wide 1 × 1 and a wide 3 × 3 convolution; on a GPU, products of three sizes and the
convolutions. The ceiling holds the peak where the processor is known: clock × FLOP a cycle × cores. No program is above
the peak and no peak above the ceiling. A share above 1 is an error of the benchmark.
"""

import ctypes
import mmap
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

Work = dict[str, Callable[[], object]]
PRODUCTS = {"cpu": [1024], "cuda": [4096, 8192, 16384]}  # length of a side
CONVOLUTIONS = {"cpu": [(1, 512, 1, 64), (3, 256, 1, 48)], "cuda": [(1, 1024, 64, 64), (3, 512, 32, 64)]}
COPIED = {"cpu": 2**27, "cuda": 2**32}  # bytes, far more than the caches hold
CLOCK, CYCLES = "clock", 2_000_000  # so few that another program seldom comes between
NOISE = 0.03  # by which two best times may be off
COUNT_DOWN = bytes.fromhex("48ffcf75fbc3")  # x86-64: again: dec rdi; jnz again; ret


class YardstickError(ValueError):
    """A share above 1: times or FLOP are counted wrongly."""


def best_times(work: Work, repeats: int, device: torch.device, clock: Callable[[], float]) -> dict[str, float]:
    """Best seconds of each function of ``work``. They run in turns, after one turn as a warm-up."""
    times = {name: float("inf") for name in work}
    for turn in range(repeats + 1):
        for name, do in work.items():
            start = clock()
            do()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name] = min(times[name], clock() - start)
    return times


def kernels(device: torch.device, dtype: torch.dtype) -> tuple[Work, dict[str, float]]:
    """Functions that compute in ``dtype`` on ``device``, and the GFLOP of each; on a CPU also ``count_down``."""

    def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
        return [torch.randn(shape, device=device).to(dtype) for shape in shapes]

    counted = count_down() if device.type == "cpu" else None
    work: Work = {CLOCK: counted} if counted else {}
    gflop = {}
    for side in PRODUCTS[device.type]:
        for library, multiply in products(*tensors((side, side), (side, side))).items():
            work[f"product of {side}, {library}"] = multiply
            gflop[f"product of {side}, {library}"] = 2 * side**3 / 1e9
    for kernel, channels, fields, side in CONVOLUTIONS[device.type]:
        x, weight = tensors((fields, channels, side, side), (channels, channels, kernel, kernel))
        x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
        name = f"convolution {kernel} × {kernel}, {channels} wide"
        work[name] = lambda x=x, weight=weight, padding=kernel // 2: F.conv2d(x, weight, padding=padding)
        gflop[name] = 2 * kernel**2 * channels**2 * fields * side**2 / 1e9
    return work, gflop


def products(a: Tensor, b: Tensor) -> Work:
    """The product of two matrices, by each library that multiplies their dtype on their device."""
    work: Work = {"torch": lambda: a @ b}
    if a.device.type == "cpu":
        packed = a.to_mkldnn()
        work["oneDNN"] = lambda: torch._C._nn.mkldnn_linear(packed, b, None)
        if a.dtype == torch.float32:
            work["numpy"] = lambda: numpy_product(a.numpy(), b.numpy())
    return work


def numpy_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """With as many threads as torch has."""
    with threadpool_limits(torch.get_num_threads(), "blas"):
        return a @ b


def copy(device: torch.device) -> tuple[Callable[[], object], float]:
    """A function that copies memory on ``device``, and the GB that it reads and writes."""
    source = torch.empty(COPIED[device.type], dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * COPIED[device.type] / 1e9


def limits(gflop: dict[str, float], times: dict[str, float], dtype: torch.dtype, clock: str) -> dict[str, object]:
    """Rates of ``kernels`` that took ``times``; the best is the peak, held against its ceiling.

    ``clock`` is a function of ``time``: with process_time, a second is that of one core.
    """
    cores = 1 if clock == "process_time" else torch.get_num_threads()
    rates = {name: amount / times[name] for name, amount in gflop.items()}
    best = max(rates, key=rates.__getitem__)
    a_cycle = flop_per_cycle(cpu_facts(), dtype) if CLOCK in times else None
    ceiling = a_cycle and a_cycle * CYCLES / times[CLOCK] * cores / 1e9
    refuse_above_one(f"{best}, of what clock and vector width allow", ceiling and rates[best] / ceiling)
    return {"peak GFLOP/s": rates[best], "by": best, "ceiling GFLOP/s": ceiling, "GFLOP/s": rates}


def measured_limits(device: torch.device, dtype: torch.dtype, repeats: int, clock: str) -> dict[str, object]:
    """``limits`` from ``repeats`` turns of the kernels alone."""
    work, gflop = kernels(device, dtype)
    return limits(gflop, best_times(work, repeats, device, getattr(time, clock)), dtype, clock)


def cpu_facts() -> dict[str, str]:
    """The facts of the first processor in /proc/cpuinfo by name; empty where the system has no such file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def flop_per_cycle(facts: dict[str, str], dtype: torch.dtype) -> int | None:
    """FLOP that a core of an x86 processor does in a cycle at most: units × lanes × 2; None where it is not known.

    Two units multiply and add. With AVX-512 their lanes are those of 512 bits, with AVX2 of 256; AMD's Zen 4 (family
    25) takes 512 bits in two halves. Instructions for pairs of bf16 double the lanes; AMX multiplies tiles.
    """
    flags = facts.get("flags", "").split()
    if dtype == torch.bfloat16 and "amx_bf16" in flags:
        return 1024
    needed = {"fma", "avx2"} if dtype == torch.float32 else {"avx512_bf16"}
    if not needed <= set(flags):
        return None
    halves = facts.get("vendor_id") == "AuthenticAMD" and int(facts["cpu family"]) < 26
    lanes = 16 if "avx512f" in flags and not halves else 8
    return 2 * lanes * 2 * (1 if dtype == torch.float32 else 2)


def count_down() -> Callable[[], object] | None:
    """A function that takes ``CYCLES`` cycles: a loop in machine code, one cycle a turn.

    /proc/cpuinfo of a virtual machine tells a clock at which it does not run. None on other systems than Linux on
    x86-64, and where memory may not hold code.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    page.write(COUNT_DOWN)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return lambda page=page: loop(CYCLES)  # the page lives as long as the function


def refuse_above_one(what: str, share: float | None) -> None:
    """Raise YardstickError if ``share``, of ``what``, is above 1 by more than ``NOISE``."""
    if share is not None and share > 1 + NOISE:
        raise YardstickError(f"{what}: a share of {share:.2f} is above 1, so times or FLOP are counted wrongly.")
