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

NEEDED = {
    "torch": "2.11", "accelerate": "0", "pandas": "0", "scikit-image": "0", "scikit-learn": "0", "pydantic": "2",
    "safetensors": "0",
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sizes:
    """How much is computed."""

    compared: int  # px, side of the fields that are compared with float64
    digits: tuple[int, int]  # px, side of a field; training fields a class
    width: float  # of the network for digits
    epochs: int
    measured: tuple[
        tuple[int, int, int, int], ...
    ]  # channels and side of fields, fields at once in scoring, in training
    repeats: int


SIZES = {
    "cuda": Sizes(256, (256, 96), 0.25, 4, ((3, 900, 64, 64), (1, 512, 256, 256)), 10),
    "cpu": Sizes(160, (64, 3), 0.1, 2, ((3, 160, 1, 1), (1, 144, 2, 1)), 3),
}


def lacking(needed: dict[str, str]) -> list[str]:
    """What of ``needed``, a least version by package, is not installed, as 'pydantic 2 or later (there is none)'."""

    def release(version: str) -> list[int]:
        return [int(number) for number in re.match(r"[\d.]+", version)[0].strip(".").split(".")]

    found = {}
    for name in needed:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    missing = [name for name, version in found.items() if not version or release(version) < release(needed[name])]
    return [f"{name} {needed[name]} or later (there is {found[name] or 'none'})" for name in missing]


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
    return {
        "forward, loss, gradient": partial(agreement.float64_agreement, device, sizes.compared, 4),
        "same bits": partial(agreement.same_bits, device, ready, folder, net, short),
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
        ask = [shutil.which("nvidia-smi") or "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(ask, capture_output=True, text=True, check=False) if shutil.which(ask[0]) else None
        facts["driver"] = told.stdout.split("\n")[0] if told else None
        facts |= {
            "devices": torch.cuda.device_count(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return facts


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
    runs = [
        (shape, phase, batch)
        for *shape, scored, trained in sizes.measured
        for phase, batch in (("scoring", scored), ("training", trained))
    ]
    for run in runs:
        add("speed", f"{run[1]} of {run[0]}", partial(speed.speed, device, limit, sizes.repeats, *run))
    for shape, phase, batch in runs[:2]:
        for option in speed.options(device, phase, ()):
            add(
                "options", f"{option}, {phase}", partial(speed.gain, device, sizes.repeats, shape, phase, batch, option)
            )
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SIZES, default="cuda")
    parser.add_argument("--out", type=Path, help="default: see above; on a CPU build/gpu_check-cpu.json")
    arguments = parser.parse_args()
    if missing := lacking(NEEDED):
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
