"""How fast a device scores and trains beside its floors, and what options of torch gain, each; see ``gpu_check``."""

import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import torch
from gpu_agreement import Facts, relative_error
from throughput import flops, memory, our_program, random_fields, where_time_goes
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from yardstick import Work, best_times, copy, measured_limits, refuse_above_one

from milcnn.network import model

Do = Callable[[], object]
CLOCKS = {"cpu": "process_time", "cuda": "perf_counter"}


class ByteCounter(TorchDispatchMode):
    """Counts the bytes that convolutions and matrix products read and write: each input and output of them once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:  # in inference mode a convolution comes inside of others
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return output


def gigabytes(do: Do) -> float:
    """GB that the convolutions and matrix products in ``do`` read and write. What is between them could be fused."""
    with ByteCounter() as counter:
        do()
    return counter.bytes / 1e9


def seconds_of(work: Work, device: torch.device, repeats: int) -> dict[str, float]:
    """Best seconds of each; on a CPU those of the processor, since others may use it."""
    return best_times(work, repeats, device, getattr(time, CLOCKS[device.type]))


def rates(device: torch.device, repeats: int) -> Facts:
    """Peak of the dtype that networks compute in, GFLOP/s, and of a copy, GB/s."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    facts = measured_limits(device, dtype, repeats, CLOCKS[device.type])
    move, gbytes = copy(device)
    facts["GB/s"] = gbytes / seconds_of({"copy": move}, device, repeats)["copy"]
    if device.type == "cuda":
        del move
        torch.cuda.empty_cache()
    return {"dtype": str(dtype).removeprefix("torch."), **facts}


def share_of_floor(seconds: float, gflop: float, gbytes: float, limit: Facts) -> Facts:
    """The two floors, s: no program computes ``gflop`` or moves ``gbytes`` faster; and the share of the larger."""
    floors = {"FLOP": gflop / limit["peak GFLOP/s"], "bytes": gbytes / limit["GB/s"]}
    larger = max(floors, key=floors.__getitem__)
    share = floors[larger] / seconds
    refuse_above_one(f"floor by {larger}", share)
    return {"FLOP floor s": floors["FLOP"], "bytes floor s": floors["bytes"], "floor": larger, "share of floor": share}


def speed(device: torch.device, limit: Facts, repeats: int, shape: tuple[int, int], phase: str, batch: int) -> Facts:
    """Fields a second of ``phase``, for fields on the device of ``shape``: channels and side."""
    torch.backends.cudnn.deterministic = phase == "training"  # as in this study
    do = our_program(phase, "none", *random_fields(*shape, batch, device))
    gflop, gbytes = flops(do), gigabytes(do)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of({phase: do}, device, repeats)[phase]
    channels, side = shape
    return {
        "fields": f"{side} × {side} × {channels}",
        "phase": phase,
        "batch": batch,
        "fields/s": batch / seconds,
        "GFLOP a field": gflop / batch,
        "MB a field": 1000 * gbytes / batch,
        **share_of_floor(seconds, gflop, gbytes, limit),
        "memory_GB": round(memory(device), 2),
        "profile": where_time_goes(do, device),
    }


def options(device: torch.device, phase: str, given: Sequence) -> dict[str, Callable[[], Do]]:
    """What torch can do otherwise than this study does, by name."""
    on_gpu = device.type == "cuda"
    plainly = {"backend": "inductor" if on_gpu else "eager", "dynamic": False}  # on a CPU only the way is tested
    there = {
        "contiguous": lambda: contiguous(phase, given),
        "torch.compile": lambda: our_program(phase, "none", *given, change=lambda net: net.compile(**plainly)),
    }
    if phase == "training":
        there["fused optimiser"] = lambda: our_program(phase, "none", *given, fused=True)
    if on_gpu:
        there["cudnn.benchmark"] = lambda: with_cudnn(our_program(phase, "none", *given), "benchmark", True)
        if phase == "training":  # the study trains with deterministic algorithms
            there["not deterministic"] = lambda: with_cudnn(our_program(phase, "none", *given), "deterministic", False)
        there["CUDA graph"] = lambda: graphed(our_program(phase, "none", *given, capturable=phase == "training"))
    return there


def contiguous(phase: str, given: Sequence) -> Do:
    """In torch's default order of memory, in place of channels last."""

    def change(net: nn.Module) -> None:
        net.to(memory_format=torch.contiguous_format)

    do = our_program(phase, "none", *given, change=change)

    def in_layout() -> object:
        with patch.object(model, "memory_layout", lambda *_, **__: torch.contiguous_format):
            return do()

    return in_layout


def with_cudnn(do: Do, name: str, value: bool) -> Do:
    """``do`` with a flag of cuDNN: ``benchmark`` tries all algorithms first, ``deterministic`` allows only some."""

    def changed() -> object:
        before = getattr(torch.backends.cudnn, name)
        setattr(torch.backends.cudnn, name, value)
        try:
            return do()
        finally:
            setattr(torch.backends.cudnn, name, before)

    return changed


def graphed(do: Do) -> Do:
    """All kernels of ``do`` started at once; warmed up on a stream of its own, as torch asks."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            do()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = do()

    def replay() -> object:
        graph.replay()
        return output

    return replay


def gain(device: torch.device, repeats: int, shape: tuple[int, int], phase: str, batch: int, option: str) -> Facts:
    """How many times as fast as the study one of ``options`` is, in turns with it, and how far its y is off."""
    torch.backends.cudnn.deterministic = phase == "training"
    given = random_fields(*shape, batch, device)
    study, do = our_program(phase, "none", *given), options(device, phase, given)[option]()
    times = seconds_of({"study": study, option: do}, device, repeats)
    facts = {"option": option, "phase": phase, "times as fast": times["study"] / times[option]}
    if phase == "scoring":
        facts["relative difference of y"] = relative_error(do().logits.float(), study().logits.float())
    return facts
