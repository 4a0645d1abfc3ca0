"""Which training settings hold on the next batch? Training batches are left out in turn; no test field is used.

    python benchmarks/left_out_batches.py simulated --try passes=4 jitter=false --try passes=8 --seeds 0 1

Each ``--try`` changes the settings of the study: those of ``train.TrainSettings`` and of the network. A run learns from
the other training batches (plates, if there is one batch) and keeps its best epoch on the validation fields. A row has
loss (of y) and accuracy on the batch left out; fields have one label. Adds the rows to
benchmarks/results/left_out_batches-<study>.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from leaves_chance import changed, parameters, settings_of, trained_and_tested
from sklearn.metrics import log_loss
from throughput import machine

from milcnn.columns import BATCH, PLATE, SPLIT
from milcnn.files import write_json
from milcnn.paths import ROOT
from milcnn.prepare.prepared import Prepared, load_prepared


def without(ready: Prepared, unit: str, name: str) -> Prepared:
    """``ready`` with the training fields of ``name`` in place of its test fields."""
    fields = ready.fields[ready.fields[SPLIT] != "test"].reset_index(drop=True)
    left_out = (fields[SPLIT] == "train") & (fields[unit] == name)
    return ready.with_fields(fields.assign(**{SPLIT: np.where(left_out, "test", fields[SPLIT])}))


def run(ready: Prepared, given: dict[str, Any], seed: int) -> dict[str, object]:
    """Loss and accuracy on the fields left out, and the CPU time of training and prediction."""
    network, settings = settings_of(ready, given)
    start = time.process_time()
    _, predictions = trained_and_tested(ready, network, settings.model_copy(update={"seed": seed}))
    seconds = time.process_time() - start
    y, targets = predictions.filter(regex="^y_").to_numpy(float), ready.targets(predictions)
    loss = log_loss(targets, y / y.sum(axis=1, keepdims=True), labels=range(len(ready.classes)))
    accuracy = (y.argmax(axis=1) == targets).mean()
    return {"loss": round(loss, 4), "accuracy": round(float(accuracy), 4), "CPU-seconds": round(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--try", dest="tries", nargs="*", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    ready = load_prepared(ROOT / "data" / "prepared" / arguments.study, arguments.study)
    usual = parameters(arguments.study)
    training = ready.of("train")
    unit = BATCH if BATCH in training and training[BATCH].nunique() > 1 else PLATE
    if training[unit].nunique() < 2:
        parser.error(f"{arguments.study} has one training plate; nothing can be left out.")
    path = Path(__file__).parent / "results" / f"left_out_batches-{arguments.study}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    for tried in arguments.tries or [[]]:
        for name in sorted(training[unit].unique()):
            for seed in arguments.seeds:
                result = run(without(ready, unit, name), changed(usual, tried), seed)
                rows.append({"changes": " ".join(tried), "left out": name, "seed": seed} | result)
                print(*rows[-1].values(), sep="\t", flush=True)
                write_json({"machine": machine(torch.device("cpu")), "rows": rows}, path)
    table = pd.DataFrame(rows)
    print(table.groupby("changes", sort=False)[["loss", "accuracy", "CPU-seconds"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
