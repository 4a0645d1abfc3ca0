"""Fields per second in scoring and in training, at the field sizes of the paper's two screens.

    python benchmarks/throughput.py [--out benchmarks/results/throughput-<name>.json]

The same network runs twice in one process. First it is plain PyTorch: NCHW, float32, layer by layer. Then it runs as in
this study, with its own memory layout, and the process keeps its freed memory. A float32 matrix product runs in turns
with both: its best rate is the peak of the machine. The table has the best times. ``--cpu-time`` counts the processor
seconds of all threads; with one thread this is the time on a free machine. Each row has its own process. On CUDA the
network of this study and the matrix product use bf16.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product as product_of
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from milcnn.network.losses import two_headed_loss
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, ModelSettings, memory_layout
from milcnn.network.predict import inference_copy

SIZES = {"900 × 900 × 3": (3, 900), "512 × 512 × 1": (1, 512)}
CLASSES = [str(number) for number in range(12)]


def network(channels: int, normalisation: str) -> MILCNN:
    """The paper's network, at full width."""
    names = [f"channel {number}" for number in range(channels)]
    settings = ModelSettings(study="benchmark", channels=names, classes=CLASSES, normalisation=normalisation)
    torch.manual_seed(0)
    return MILCNN(settings, [1000.0] * channels, [300.0] * channels)


class Plain(nn.Module):
    """The layers of ``model`` one after another, in PyTorch's default memory layout."""

    def __init__(self, model: MILCNN):
        super().__init__()
        self.model = model

    def forward(self, fields: Tensor) -> Tensor:
        features = self.model.trunk((fields.float() - self.model.mean) / self.model.std)
        return self.model.head(self.model.pooling(self.model.scores(features), None, features).sigmoid())


def best_times(
    work: dict[str, Callable[[], object]], repeats: int, device: torch.device, clock: Callable[[], float]
) -> dict[str, float]:
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


def product(device: torch.device) -> tuple[Callable[[], object], float]:
    """A function that computes a matrix product, and its GFLOP."""
    side, kind = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    return lambda: a @ b, 2 * side**3 / 1e9


def training_step(model: nn.Module, forward: Callable[[Tensor], Tensor], fields: Tensor, targets: Tensor):
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad()
        forward(fields, targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def flops(do: Callable[[], object]) -> float:
    """GFLOP of the convolutions and matrix products in ``do``."""
    with FlopCounterMode(display=False) as counter:
        do()
    return counter.get_total_flops() / 1e9


def programs(size: str, normalisation: str, phase: str, device: torch.device, batch: int) -> dict[str, Callable]:
    """The two programs of a row, plain and ours, on ``batch`` random fields."""
    channels, side = SIZES[size]
    fields = torch.randint(0, 4000, (batch, channels, side, side), device=device).to(torch.uint16)
    targets = torch.arange(batch, device=device) % len(CLASSES)
    ours, bare = network(channels, normalisation).to(device), Plain(network(channels, normalisation).to(device))
    if phase == "scoring":
        score = inference_copy(ours)
        bare.eval()
        return {"plain": lambda: score_fields(bare, fields), "ours": lambda: score_fields(score, fields)}
    ours = ours.to(memory_format=memory_layout(device, training=True, width=ours.settings.width))

    def our_loss(fields: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = ours(fields)
        return two_headed_loss(output, targets).mean()

    def plain_loss(fields: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(bare(fields), targets)

    return {
        "plain": training_step(bare.train(), plain_loss, fields, targets),
        "ours": training_step(ours.train(), our_loss, fields, targets),
    }


@torch.inference_mode()
def score_fields(model: nn.Module, fields: Tensor) -> object:
    """In bf16 on CUDA for the network of this study, as ``predict.outputs`` has it."""
    on_gpu = fields.device.type == "cuda" and isinstance(model, MILCNN)
    with torch.autocast(fields.device.type, torch.bfloat16, enabled=on_gpu):
        return model(fields)


def measure(
    size: str, normalisation: str, phase: str, device: torch.device, batch: int, repeats: int, clock: str
) -> dict[str, object]:
    """One row of the table."""
    multiply, multiply_gflop = product(device)
    work = programs(size, normalisation, phase, device, batch)
    gflop = flops(work["plain"])
    turns = []
    for name, do in work.items():
        if name == "ours":
            keep_freed_memory()
        turns.append(best_times({name: do, "product": multiply}, repeats, device, getattr(time, clock)))
    plain, ours = turns[0]["plain"], turns[1]["ours"]
    peak = multiply_gflop / min(turn["product"] for turn in turns)
    return {
        "fields": size,
        "normalisation": normalisation,
        "phase": phase,
        "fields/s": batch / ours,
        "plain fields/s": batch / plain,
        "ratio": plain / ours,
        "GFLOP a field": gflop / batch,
        "peak GFLOP/s": peak,
        "share of peak": gflop / ours / peak,
        "memory_GB": round(memory(device), 2),
        "profile": where_time_goes(work["ours"], device),
    }


def where_time_goes(do: Callable[[], object], device: torch.device, most: int = 6) -> dict[str, float]:
    """The slowest operators and their share of the time."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        do()
    spent = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
             for event in profiler.key_averages()}  # fmt: skip
    total = sum(spent.values())
    return {key: round(spent[key] / total, 3) for key in sorted(spent, key=spent.get, reverse=True)[:most]}


def machine(device: torch.device) -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def memory(device: torch.device) -> float:
    """Peak memory so far, GB: of the GPU, or of the process without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--normalisation", nargs="+", default=["none", "batch"])
    parser.add_argument("--batch", type=int, help="fields at once; default 1 on a CPU, 16 on CUDA")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, for a busy machine")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "throughput.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    batch = arguments.batch or (16 if device.type == "cuda" else 1)
    clock = "process_time" if arguments.cpu_time else "perf_counter"
    rows = []
    for key in product_of(SIZES, arguments.normalisation, ["scoring", "training"]):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            rows.append(alone.submit(measure, *key, device, batch, arguments.repeats, clock).result())
        print(pd.DataFrame(rows[-1:]).drop(columns="profile").round(3).to_string(index=False), flush=True)
    result = {"machine": machine(device), "clock": clock, "batch": batch, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
