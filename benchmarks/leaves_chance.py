"""Does every pooling function, from every seed, train from the shipped settings of a study?

    python benchmarks/leaves_chance.py --studies digits simulated [--epochs 5]
    python benchmarks/leaves_chance.py --studies digits --poolings max --epochs 9 --start-bias -2 --name start-2

Each run is the study's own (params/<study>/train.yaml) with fewer epochs. A row tells the accuracy on the
validation fields of the epoch with the lowest loss, chance, and the probability that guessing would
reach that many right (binomial); a run has left chance when that is below 0.001. Prepare the studies first.
Writes benchmarks/results/leaves_chance-<study>.json.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
import yaml
from scipy.stats import binom
from throughput import machine

from milcnn import columns
from milcnn.files import write_json
from milcnn.network import pooling
from milcnn.network.model import ModelSettings
from milcnn.network.train import TrainSettings, train
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared


def run(study: str, method: str, seed: int, epochs: int) -> dict[str, object]:
    """One row of the table."""
    given = yaml.safe_load((ROOT / "params" / study / "train.yaml").read_text())
    ready = load_prepared(ROOT / given["prepared"], study)
    known = {key: given[key] for key in ModelSettings.model_fields.keys() & given.keys()}
    network = ModelSettings(study=study, channels=ready.channels, classes=ready.classes, pooling=method, **known)
    known = {key: given[key] for key in TrainSettings.model_fields.keys() & given.keys()} | given.get("more", {})
    settings = TrainSettings(**known | {"epochs": epochs, "seed": seed})
    with TemporaryDirectory() as folder:
        history = train(ready, network, settings, Path(folder))
    accuracy = history.loc[history["validation_loss"].idxmin(), "validation_accuracy"]
    n, chance = len(ready.of("validation")), 1 / len(ready.classes)
    guessed = float(binom.sf(round(accuracy * n) - 1, n, chance))
    facts = {"accuracy": round(accuracy, 3), "chance": round(chance, 3), "p of guessing": guessed, "fields": n}
    start = {"start": pooling.POOLINGS[columns.parse_method(method)[0]].start_bias}
    return {"study": study, "pooling": method, "seed": seed} | start | facts | {"left chance": guessed < 1e-3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", default=["digits", "simulated"])
    parser.add_argument("--poolings", nargs="+", default=list(pooling.POOLINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--start-bias", type=float, help="another start of the scores than the pooling's own")
    parser.add_argument("--name", default="", help="added to the name of the file")
    arguments = parser.parse_args()
    if arguments.start_bias is not None:
        for method in arguments.poolings:
            pooling.POOLINGS[method].start_bias = arguments.start_bias
    for study in arguments.studies:
        rows = []
        for method in arguments.poolings:
            for seed in arguments.seeds:
                rows.append(run(study, method, seed, arguments.epochs))
                print(*rows[-1].values(), sep="\t", flush=True)
        print(pd.DataFrame(rows)["left chance"].value_counts().to_string())
        name = "-".join(filter(None, ["leaves_chance", study, arguments.name]))
        result = {"machine": machine(torch.device("cpu")), "epochs": arguments.epochs, "rows": rows}
        write_json(result, Path(__file__).parent / "results" / f"{name}.json")


if __name__ == "__main__":
    main()
