"""Scoring on a CPU by OpenVINO, in float32 and in bfloat16, against the network as PyTorch runs it.

    python benchmarks/scoring.py [--study simulated --run noisy_and-0] [--out benchmarks/results/scoring.json]

Speed on the paper's network at full width and 900 × 900 × 3, taken in turns; agreement on the fields of a
trained run: the largest difference of an instance probability, and the share of fields with the same label.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch
from throughput import SIZES, Plain, best_times, machine, network

from milcnn import fields, model
from milcnn.fast import openvino_scorer
from milcnn.paths import ROOT
from milcnn.predict import scorer

SIZE = "900 × 900 × 3"


def speed(repeats: int) -> dict[str, float]:
    """Least seconds of one field."""
    channels, side = SIZES[SIZE]
    field = torch.randint(0, 4000, (1, channels, side, side)).to(torch.uint16)
    net = network(channels, "none").eval()
    programs = {"plain": Plain(network(channels, "none").eval()), "ours": scorer(net)}
    programs |= {name: openvino_scorer(net, name) for name in ("float32", "bfloat16")}
    with torch.inference_mode():
        work = {name: lambda program=program: program(field) for name, program in programs.items()}
        return best_times(work, repeats, torch.device("cpu"), time.perf_counter)


def agreement(study: str, run: str) -> list[dict[str, object]]:
    """How far the test fields of a trained run are from what PyTorch says of them."""
    ready = fields.load(ROOT / "data" / "prepared" / study, study)
    net = model.load(ROOT / "models" / study / run / "model.safetensors", study)
    pixels = torch.from_numpy(ready.pixels(ready.of("test")))
    with torch.inference_mode():
        true = net(pixels)
    rows = []
    for precision in ("float32", "bfloat16"):
        found = openvino_scorer(net, precision)(pixels)
        gap = (found.instances - true.instances).abs()
        same = (found.logits.argmax(1) == true.logits.argmax(1)).float().mean()
        facts = {"largest difference of p": gap.max().item(), "its 99.9 % quantile": gap.quantile(0.999).item()}
        rows.append({"precision": precision, "fields": len(pixels), **facts, "same label": same.item()})
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
