"""Fields per second in scoring and in training, at the field sizes of the paper's two screens.

    python benchmarks/throughput.py [--out benchmarks/results/throughput-<name>.json]

The same network runs twice in one process. First it is plain PyTorch: NCHW, float32, layer by layer. Then it runs as in
this study, with its own memory layout, and the process keeps its freed memory. The kernels of ``yardstick`` run in
turns with both: their best rate is the peak of the machine. The table has the best times. ``--cpu-time`` counts the
processor seconds of all threads; with one thread this is the time on a free machine. Each row has its own process. On
CUDA the network of this study and the kernels use bf16. A share of the peak above 1 ends the benchmark with an error.
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
from yardstick import (
    YardstickError,
    best_times,
    cpu_facts,
    flop_per_cycle,
    kernels,
    limits,
    measured_limits,
    refuse_above_one,
)

from milcnn.network.losses import two_headed_loss
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, ModelSettings, memory_layout, moved
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


def training_step(
    model: nn.Module, forward: Callable[..., Tensor], fields: Tensor, targets: Tensor, **optimiser_settings: bool
) -> Callable[[], None]:
    """A function that takes one step. ``optimiser_settings`` are those of AdamW."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, **optimiser_settings)

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


def random_fields(channels: int, side: int, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``batch`` random fields, (batch, channels, side, side) uint16, and the class of each."""
    fields = torch.randint(0, 4000, (batch, channels, side, side), device=device).to(torch.uint16)
    return fields, torch.arange(batch, device=device) % len(CLASSES)


def plain_program(phase: str, normalisation: str, fields: Tensor, targets: Tensor) -> Callable[[], object]:
    """A function that scores ``fields`` or takes a training step with them, as in plain PyTorch."""
    bare = Plain(network(fields.shape[1], normalisation).to(fields.device))
    if phase == "scoring":
        bare.eval()
        return lambda: score_fields(bare, fields)
    loss = nn.CrossEntropyLoss()
    return training_step(bare.train(), lambda *batch: loss(bare(batch[0]), batch[1]), fields, targets)


def our_program(
    phase: str,
    normalisation: str,
    fields: Tensor,
    targets: Tensor,
    change: Callable[[MILCNN], object] = lambda model: None,
    **optimiser_settings: bool,
) -> Callable[[], object]:
    """The same as in this study, in bf16 on CUDA. ``change`` is done to the network first."""
    device = fields.device
    ours = network(fields.shape[1], normalisation).to(device)
    if phase == "scoring":
        score = inference_copy(ours)
        change(score)
        return lambda: score_fields(score, fields)
    ours = moved(ours, device, memory_layout(device, training=True, width=ours.settings.width)).train()
    change(ours)

    def loss(fields: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = ours(fields)
        return two_headed_loss(output, targets).mean()

    return training_step(ours, loss, fields, targets, **optimiser_settings)


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
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rulers, ruler_gflop = kernels(device, dtype)
    given = phase, normalisation, *random_fields(*SIZES[size], batch, device)
    work = {"plain": plain_program(*given), "ours": our_program(*given)}
    gflop = flops(work["plain"])
    turns = []
    for name, do in work.items():
        if name == "ours":
            keep_freed_memory()
        turns.append(best_times({name: do, **rulers}, repeats, device, getattr(time, clock)))
    plain, ours = turns[0]["plain"], turns[1]["ours"]
    fastest = {name: min(turn[name] for turn in turns) for name in rulers}
    limit = limits(ruler_gflop, fastest, dtype, clock)
    share = gflop / ours / limit["peak GFLOP/s"]
    refuse_above_one(f"{phase} of {size}, of {limit['by']}", share)
    return {
        "fields": size,
        "normalisation": normalisation,
        "phase": phase,
        "fields/s": batch / ours,
        "plain fields/s": batch / plain,
        "ratio": plain / ours,
        "GFLOP a field": gflop / batch,
        "share of peak": share,
        "memory_GB": round(memory(device), 2),
        **limit,
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
    return {
        "processor": cpu_facts().get("model name", platform.processor()),
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
            task = alone.submit(measure, *key, device, batch, arguments.repeats, clock)
            if isinstance(error := task.exception(), YardstickError):
                raise SystemExit(f"throughput: {error} Nothing is written.")
            rows.append(task.result())
        shown = pd.DataFrame(rows[-1:]).drop(columns=["profile", "GFLOP/s"])
        print(shown.round(3).to_string(index=False), flush=True)
    result = {"machine": machine(device), "clock": clock, "batch": batch, "rows": rows}
    if device.type == "cpu" and flop_per_cycle(cpu_facts(), torch.bfloat16):
        result["bfloat16"] = measured_limits(device, torch.bfloat16, arguments.repeats, clock)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
