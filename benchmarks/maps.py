"""Seconds and memory of the maps and the mask of one large field. Run by hand, on a quiet machine:

    python benchmarks/maps.py [--size 1024 1280] [--repeats 5] [--cpu-time]

The network is the paper's, at full width, with batch normalisation, three channels and twelve classes. Its weights are
random, which does not change the time. The field is simulated and has about a hundred cells. Maps are of one class.
``cells`` is what ``05_localise`` computes for a field: the map, the segmented cells, and those with
enough evidence. The other rows are maps alone. The table has the best time of each. ``memory_GB`` is the
peak memory of the process up to this row. ``--cpu-time`` counts the processor seconds of all threads, which other
programs hardly change. Writes ``benchmarks/results/maps.json``.
"""

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.files import write_json
from milcnn.localise.dense import evidence_map, sharp_map
from milcnn.localise.found import evident_cells, in_cells
from milcnn.localise.maps import class_map, jacobian_map, layer_cam
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, ModelSettings
from milcnn.screens.sets.simulated import SimulatedSettings, simulated_screen

RESULTS = Path(__file__).parent / "results" / "maps.json"
MAPS = (class_map, layer_cam, jacobian_map, sharp_map)


def network() -> MILCNN:
    torch.manual_seed(0)
    classes = [str(number) for number in range(12)]
    settings = ModelSettings(
        study="benchmark", channels=["DNA", "tubulin", "actin"], classes=classes, normalisation="batch"
    )
    model = MILCNN(settings, [1000.0] * 3, [300.0] * 3).to(memory_format=torch.channels_last)
    return model.eval()


def simulated_field(height: int, width: int) -> torch.Tensor:
    """A field (1, 3, height, width) uint16, of simulated fields of 256 px side by side."""
    screen = simulated_screen(SimulatedSettings(cells=5, plates={"train": 1, "validation": 1, "test": 1}))
    fields = [screen.read(row) for _, row in screen.fields.head(-(-height // 256) * -(-width // 256)).iterrows()]
    rows = [np.concatenate(fields[start :: -(-height // 256)], axis=2) for start in range(-(-height // 256))]
    return torch.from_numpy(np.concatenate(rows, axis=1)[None, :, :height, :width].copy())


def cells_of(model: MILCNN, field: torch.Tensor) -> np.ndarray:
    """The cells of class 0 in ``field``, as 05_localise predicts them."""
    _, cells = segment(field[0].numpy(), model.settings.channels, SegmentSettings())
    return evident_cells(in_cells(evidence_map(model, field, 0)[0].numpy(), cells), cells)


def best_seconds(do: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one call as a warm-up."""
    times = []
    for _ in range(repeats + 1):
        start = clock()
        do()
        times.append(clock() - start)
    return round(min(times[1:]), 3)


def memory() -> float:
    """Peak memory of the process so far, GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 1280], help="rows and columns of the field")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, for a busy machine")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    keep_freed_memory()
    model = network()
    field = simulated_field(*arguments.size)
    work: dict[str, Callable[[], object]] = {make_map.__name__: partial(make_map, model, field, 0) for make_map in MAPS}
    work["cells"] = partial(cells_of, model, field)
    rows = []
    for name, do in work.items():
        seconds = best_seconds(do, arguments.repeats, clock)
        rows.append({"map": name, "seconds": seconds, "memory_GB": memory()})
        print(rows[-1], flush=True)
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    machine |= {"processor": platform.machine(), "python": platform.python_version()}
    write_json({"machine": machine, "clock": clock.__name__, "size": arguments.size, "rows": rows}, RESULTS)


if __name__ == "__main__":
    main()
