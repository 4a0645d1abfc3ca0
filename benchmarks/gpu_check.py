"""Does a GPU compute what the CPU computes, and how fast? One command, at most six minutes on an H100:

    make gpu-check                                # writes benchmarks/results/gpu_check-<card>.json
    python benchmarks/gpu_check.py --device cpu   # the same script at small sizes: tests it, and measures nothing

It needs no other package than those in ``NEEDED``. First come the checks: forward, loss and gradient against float64 on
the CPU; two equal runs, and one that is killed and resumed; bf16 training beside float32 on the CPU; two processes.
Then fields a second at the paper's field sizes beside two floors, measured in the same run: FLOP over the rate of bf16
products, and bytes of convolutions and products over the rate of a copy. Fields are on the device; reading them and
sending them there is not measured. Last, options of torch one by one. A check that fails makes the exit status 1.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

LEAST = {"torch": (2, 11), "pydantic": (2,)}  # versions
NEEDED = ["torch", "accelerate", "pandas", "scikit-image", "scikit-learn", "pydantic", "safetensors"]
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sizes:
    """How much is computed."""

    compared: int  # px, side of the fields that are compared with float64
    digits: tuple[int, int]  # px, side of a field; training fields a class
    width: float  # of the network for digits
    epochs: int
    runs: list[tuple[tuple[int, int], str, int]]  # channels and side of fields, scoring or training, fields at once
    repeats: int


RUNS = [((3, 900), "scoring", 64), ((3, 900), "training", 64), ((1, 512), "scoring", 256), ((1, 512), "training", 256)]
TINY = [((3, 160), "scoring", 1), ((3, 160), "training", 1), ((1, 144), "scoring", 2), ((1, 144), "training", 2)]
SIZES = {
    "cuda": Sizes(compared=256, digits=(256, 96), width=0.25, epochs=4, runs=RUNS, repeats=10),
    "cpu": Sizes(compared=160, digits=(64, 3), width=0.1, epochs=2, runs=TINY, repeats=3),
}


def lacking(needed: list[str], least: dict[str, tuple[int, ...]]) -> list[str]:
    """Which of the packages are not installed, or older than their ``least`` version."""
    missing = []
    for name in needed:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = ""
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < least.get(name, (0,)):
            oldest = ".".join(map(str, least.get(name, ())))
            missing.append(name + f" {oldest} or later" * bool(oldest) + f" (there is {found})" * bool(found))
    return missing


def checks(device, sizes: Sizes, folder: Path) -> dict[str, Callable[[], dict]]:
    """Each check by name."""
    import gpu_agreement as agreement

    from milcnn.network.train import TrainSettings

    ready = agreement.small_digits(folder / "digits", *sizes.digits)
    net = agreement.model_settings(ready, width=sizes.width)
    how = TrainSettings(
        epochs=sizes.epochs, passes=2, batch_size=8, learning_rate=0.01, augment="none", device=device.type
    )
    short = how.model_copy(update={"epochs": 2, "passes": 1})
    with_dropout = net.model_copy(update={"dropout": 0.1})
    return {
        "forward, loss, gradient": partial(agreement.float64_agreement, device, sizes.compared, 4),
        "same bits": partial(agreement.same_bits, device, ready, folder, with_dropout, short),
        "bf16 accuracy": partial(agreement.bf16_accuracy, device, ready, folder, net, how),
        "two processes": partial(agreement.two_processes, device, ready, folder, net, short),
    }


def attempt(name: str, do: Callable[[], dict]) -> dict:
    """What ``do`` returns, with its seconds; a failed check where it raises."""
    start = time.perf_counter()
    try:
        facts = do()
    except Exception as error:  # the other checks still run
        facts = {"passed": False, "error": f"{type(error).__name__}: {error}"}
    facts = {"name": name, **facts, "seconds": round(time.perf_counter() - start, 1)}
    print({key: value for key, value in facts.items() if key != "profile"}, flush=True)
    return facts


def card(device) -> dict[str, object]:
    """The machine, and of a GPU its driver, CUDA and cuDNN."""
    import torch
    from throughput import machine

    facts = machine(device)
    if device.type == "cuda":
        facts |= {"devices": torch.cuda.device_count(), "CUDA": torch.version.cuda, "driver": driver()}
        facts["cuDNN"] = torch.backends.cudnn.version()
    return facts


def driver() -> str | None:
    """The version of NVIDIA's driver; None without its tool."""
    tool = shutil.which("nvidia-smi")
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[0] if tool else None


def measure(device, sizes: Sizes, save: Callable[[dict], None]) -> dict[str, list[dict]]:
    """All parts of the result; ``save`` gets what there is after each, since the lease of a machine may end."""
    import gpu_speed as speed

    parts: dict[str, list[dict]] = {"checks": [], "rates": [], "speed": [], "options": []}

    def add(part: str, name: str, do: Callable[[], dict]) -> dict:
        parts[part].append(attempt(name, do))
        save(parts)
        return parts[part][-1]

    with tempfile.TemporaryDirectory() as folder:
        for name, do in checks(device, sizes, Path(folder)).items():
            add("checks", name, do)
    limit = add("rates", "rates", partial(speed.rates, device, sizes.repeats))
    for run in sizes.runs:
        (channels, side), phase, _ = run
        do = partial(speed.speed, device, limit, sizes.repeats, *run)
        add("speed", f"{phase}, {side} × {side} × {channels}", do)
    for run in sizes.runs[:2]:
        for option in speed.options(device, run[1], ()):
            add("options", f"{run[1]}, {option}", partial(speed.gain, device, sizes.repeats, *run, option))
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SIZES, default="cuda")
    parser.add_argument("--out", type=Path, help="default: see above; on a CPU build/gpu_check-cpu.json")
    arguments = parser.parse_args()
    if missing := lacking(NEEDED, LEAST):
        raise SystemExit(f"gpu_check: install {'; '.join(missing)}.")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch

    from milcnn.files import write_json

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu_check: torch sees no CUDA device; --device cpu runs this script at small sizes.")
    start, device = time.perf_counter(), torch.device(arguments.device)
    facts = card(device)
    name = re.sub(r"\W+", "-", facts["gpu"] or "cpu")
    out = arguments.out or ROOT / ("benchmarks/results" if facts["gpu"] else "build") / f"gpu_check-{name}.json"

    def save(parts: dict) -> None:
        write_json({"machine": facts, "seconds": round(time.perf_counter() - start, 1), **parts}, out)

    parts = measure(device, SIZES[device.type], save)
    failed = [one["name"] for part in parts.values() for one in part if not one.get("passed", True)]
    print(f"{out}: {time.perf_counter() - start:.0f} s")
    if failed:
        raise SystemExit(f"gpu_check: failed: {', '.join(failed)}.")


if __name__ == "__main__":
    sys.path.append(str(ROOT))  # milcnn, where it is not installed
    main()
