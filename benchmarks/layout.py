"""Processor seconds of a training step in two memory layouts, for several field sizes and widths of the trunk.

    python benchmarks/layout.py [--out benchmarks/results/layout-<name>.json]

The layouts are NCHW (contiguous) and NHWC (channels last). Both run in turns, in one process and on one thread; the
table has the best time of each. ``milcnn.network.model.memory_layout`` chooses the layout from these numbers.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from throughput import machine, training_step
from yardstick import best_times

from milcnn.network import model
from milcnn.network.losses import two_headed_loss
from milcnn.network.memory import keep_freed_memory

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
CLASSES = [str(number) for number in range(12)]
CPU = torch.device("cpu")


def step(side: int, width: float, normalisation: str, layout: torch.memory_format):
    """A function that takes one training step with 4 fields of ``side`` × ``side`` × 3 in ``layout``."""
    settings = model.ModelSettings(
        study="benchmark", channels=["a", "b", "c"], classes=CLASSES, width=width, normalisation=normalisation,
        padding="same",
    )  # fmt: skip
    network = model.MILCNN(settings).to(memory_format=layout).train()
    fields, targets = torch.rand(4, 3, side, side), torch.arange(4)
    take = training_step(network, lambda *batch: two_headed_loss(network(batch[0]), batch[1]).mean(), fields, targets)

    def in_layout() -> None:
        with patch.object(model, "memory_layout", lambda *_: layout):
            take()

    return in_layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "layout.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    for side, width, normalisation in product([256, 512], [0.25, 0.5, 1.0], ["none", "batch"]):
        work = {name: step(side, width, normalisation, layout) for name, layout in LAYOUTS.items()}
        rows.append(
            {"side": side, "width": width, "normalisation": normalisation}
            | best_times(work, arguments.repeats, CPU, time.process_time)
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    arguments.out.write_text(json.dumps({"machine": machine(CPU), "seconds a step": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
