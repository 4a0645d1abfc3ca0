"""Seconds of segmentation and of each group of features, on one core. Run by hand:

    python benchmarks/cells.py [--out benchmarks/results/cells.json]

There are two simulated fields of 3 channels. One has 1024 × 1280 px and about 100 cells, as with a 20× objective.
The other has 256 × 256 px and about 40 cells, as in the study `simulated`. Each time is the shortest of a few
repeats. Times are processor seconds: other programs on the machine hardly change them. The feature groups are those
of cp_measure, over all channels, nuclei and cells. A group that is in the fast set has the options of that set. The
two whole feature sets are measured as well.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import zoom
from throughput import machine

from milcnn.baselines import measure
from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.files import write_json
from milcnn.screens.sets.simulated import SimulatedSettings, simulated_screen

RESULTS = Path(__file__).parent / "results" / "cells.json"
LARGE = SegmentSettings(sigma=3, seed_distance=32, min_area=400)
SMALL = SegmentSettings(seed_distance=10)


def simulated_field(side: int, cells: float) -> tuple[np.ndarray, list[str]]:
    """A field (3, side, side) uint16 of the simulated screen, and the names of its channels."""
    plates = {"train": 1, "validation": 1, "test": 1}
    screen = simulated_screen(SimulatedSettings(size=side, cells=cells, plates=plates, doses=[1, 3], sites=1))
    return screen.read(screen.fields.iloc[0]), screen.channels


def large_field() -> tuple[np.ndarray, list[str]]:
    """A field (3, 1024, 1280): cells of 26 px, enlarged four times."""
    field, channels = simulated_field(320, 70)
    return zoom(field[:, :256], (1, 4, 4), order=1), channels


def best_seconds(do: Callable[[], object], repeats: int) -> float:
    """Processor seconds of the fastest of ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        do()
        times.append(time.process_time() - start)
    return min(times)


def group_options() -> dict[str, dict]:
    """Every feature group with its options; those of the fast set win."""
    return measure.FEATURE_GROUPS["full"] | measure.FEATURE_GROUPS["fast"]


def rows_of(name: str, field: np.ndarray, channels: list[str], settings: SegmentSettings, repeats: int) -> list[dict]:
    """Rows of the table: the field, its number of cells, what was measured, seconds."""
    nuclei, cells = segment(field, channels, settings)
    white = np.quantile(field, measure.WHITE_QUANTILE, axis=(1, 2))
    times = {"segmentation": best_seconds(lambda: segment(field, channels, settings), repeats)}
    for feature_set in ("fast", "full"):
        times[f"{feature_set} set"] = best_seconds(
            lambda feature_set=feature_set: measure.measure_field(field, nuclei, cells, channels, feature_set, white),
            repeats,
        )
    grey = measure.above_background(field, cells)
    scaled = (grey / white[:, None, None]).clip(0, 1)
    for group, options in group_options().items():
        times[group] = sum(
            best_seconds(
                lambda m=mask, s={group: options}: measure.mask_features(m, grey, scaled, channels, s), repeats
            )
            for mask in (nuclei, cells)
        )
    return [{"field": name, "cells": int(cells.max()), "what": what, "seconds": t} for what, t in times.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of("1024 × 1280 × 3", *large_field(), LARGE, arguments.repeats)
    rows += rows_of("256 × 256 × 3", *simulated_field(256, 40), SMALL, arguments.repeats)
    print(pd.DataFrame(rows).pivot(index="what", columns=["field", "cells"], values="seconds").round(3).to_string())
    write_json({"machine": machine(torch.device("cpu")), "clock": "process_time", "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
