"""Scoring on a CPU by OpenVINO, in float32, bfloat16 and int8, compared with PyTorch.

    python benchmarks/scoring.py [--study simulated --run noisy_and-0] [--out benchmarks/results/scoring.json]

Speed: the paper's network at full width, on one field of 900 × 900 × 3; the programs run in turns. Plain PyTorch runs
first, before the process keeps its freed memory. Agreement: on the test fields of a trained run, the difference of the
instance probabilities, and the share of fields with the same predicted label. int8 is calibrated on training fields.
"""

import argparse
import json
import time
from pathlib import Path
from typing import get_args

import pandas as pd
import torch
from throughput import SIZES, Plain, machine, network
from yardstick import best_times

from milcnn.network import model
from milcnn.network.fast import Precision, openvino_scorer
from milcnn.network.memory import keep_freed_memory
from milcnn.network.predict import inference_copy
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared

SIZE = "900 × 900 × 3"
CALIBRATION = 64  # training fields


def speed(repeats: int) -> dict[str, float]:
    """Best seconds of one field, for each program."""
    channels, side = SIZES[SIZE]
    field = torch.randint(0, 4000, (1, channels, side, side)).to(torch.uint16)
    net = network(channels, "none").eval()
    clock = [repeats, torch.device("cpu"), time.perf_counter]
    with torch.inference_mode():
        plain = best_times({"plain": lambda model=Plain(net): model(field)}, *clock)  # noqa: B008
    keep_freed_memory()
    programs = {"ours": inference_copy(net)} | {name: openvino_scorer(net, name, field) for name in get_args(Precision)}
    with torch.inference_mode():
        work = {name: lambda program=program: program(field) for name, program in programs.items()}
        return plain | best_times(work, *clock)


def agreement(study: str, run: str) -> list[dict[str, object]]:
    """One row per precision: how OpenVINO differs from PyTorch on the test fields of a trained run."""
    ready = load_prepared(ROOT / "data" / "prepared" / study, study)
    net = model.load_model(ROOT / "models" / study / run / "model.safetensors", study)
    training, pixels = (torch.from_numpy(ready.pixels(ready.of(split))) for split in ("train", "test"))
    with torch.inference_mode():
        reference = net(pixels)
    rows = []
    for precision in get_args(Precision):
        score = openvino_scorer(net, precision, training[:: len(training) // CALIBRATION])
        outputs = [score(field) for field in pixels.split(1)]
        gap = (torch.cat([one.instances for one in outputs]) - reference.instances).abs()
        same = torch.cat([one.logits for one in outputs]).argmax(1) == reference.logits.argmax(1)
        facts = {"largest difference of p": gap.max(), "its 99 % quantile": gap.quantile(0.99), "its mean": gap.mean()}
        facts |= {"within 0.02": (gap <= 0.02).float().mean(), "same label": same.float().mean()}
        rows.append({"precision": precision, "fields": len(pixels)} | {name: x.item() for name, x in facts.items()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="simulated")
    parser.add_argument("--run", default="noisy_and-0")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scoring.json")
    arguments = parser.parse_args()
    seconds = speed(arguments.repeats)
    times = pd.DataFrame(
        {"seconds a field": seconds, "times plain": {k: seconds["plain"] / s for k, s in seconds.items()}}
    )
    times["times ours"] = seconds["ours"] / times["seconds a field"]
    print(times.round(3).to_string())
    rows = agreement(arguments.study, arguments.run)
    print(pd.DataFrame(rows).to_string(index=False))
    result = {"machine": machine(torch.device("cpu")), "size": SIZE, "speed": times.to_dict("index"), "agreement": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
