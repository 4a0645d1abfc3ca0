"""What a field costs, beside what it buys: the MIL-CNN, measured cells, frozen embeddings. Run after the study:

    python benchmarks/cost.py [--studies digits simulated] [--out benchmarks/results/cost.json]

Accuracy is that of validation and test fields, without controls of the test plate, a mean over seeds. Seconds are those
of one thread, for the step that costs: scoring by the network; segmenting and measuring; describing tiles. What the
baselines learn from their numbers takes milliseconds a field. GFLOP count convolutions and matrix products; measured
cells have hardly any, so theirs stay empty. A method that was not run is left out.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cells import best_seconds
from throughput import flops, machine

from milcnn.baselines import embed, measure
from milcnn.baselines.run import BASELINES, OF_TILES
from milcnn.evaluate.runs import MAIN_METHOD, of_split, read_runs
from milcnn.files import write_json
from milcnn.network import model, predict
from milcnn.parameters import read_study
from milcnn.paths import ROOT
from milcnn.prepare.prepared import Prepared, load_prepared

FIELDS = 8  # of the test set, scored at once
SEEDS, SPLITS = [0, 1, 2], ["validation", "test"]


def steps(study: str, ready: Prepared) -> dict[str, Callable[[], object]]:
    """The step that costs, for ``FIELDS`` fields, of the network, of all baselines on cells, of those on tiles."""
    rows = ready.of("test").iloc[:FIELDS]
    given = read_study(study)["baselines"]
    how = measure.MeasureSettings(segmentation=given.get("segmentation", {}))
    network = model.load_model(ROOT / "models" / study / f"{MAIN_METHOD}-0" / "model.safetensors", study)
    white, encoder = measure.white_values(ready), embed.EmbedSettings(**given.get("encoder", {}))
    return {
        "network": lambda: next(predict.outputs(network, ready, rows, FIELDS)),
        "cells": lambda: [measure.measure_row(ready, how, white, rows.iloc[[place]]) for place in range(FIELDS)],
        "tiles": lambda: embed.describe_fields(ready, encoder, rows),
    }


def accuracies(study: str) -> pd.DataFrame:
    """Accuracy on validation and test fields of each method that was run, a row a method."""
    folder = ROOT / "models" / study
    ran = [name for name in BASELINES if (folder / "baselines" / f"{name}-0" / "predictions.csv").exists()]
    predictions = read_runs(folder, [MAIN_METHOD], SEEDS, "predictions.csv", ran)
    columns = {split: of_split(predictions, split).groupby("method")["correct"].mean() for split in SPLITS}
    return pd.DataFrame(columns).loc[[MAIN_METHOD, *ran]]


def rows_of(study: str, repeats: int) -> list[dict[str, object]]:
    ready = load_prepared(ROOT / "data" / "prepared" / study, study)
    work = steps(study, ready)
    seconds = {name: best_seconds(do, repeats) / FIELDS for name, do in work.items()}
    gflop = {name: flops(do) / FIELDS if name != "cells" else np.nan for name, do in work.items()}
    rows = []
    for method, accuracy in accuracies(study).iterrows():
        step = "network" if method == MAIN_METHOD else "tiles" if method in OF_TILES else "cells"
        cost = {"GFLOP a field": gflop[step], "seconds a field": seconds[step]}
        rows.append({"study": study, "method": method} | accuracy.to_dict() | cost)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", default=["digits", "simulated"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cost.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.DataFrame([row for study in arguments.studies for row in rows_of(study, arguments.repeats)])
    print(table.round(3).to_string(index=False, na_rep="–"))
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    write_json({"machine": machine(torch.device("cpu")), "clock": "process_time", "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
