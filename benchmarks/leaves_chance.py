"""Does every pooling function train with the settings of a study, with every seed?

    python benchmarks/leaves_chance.py --studies digits simulated [--epochs 5]
    python benchmarks/leaves_chance.py --studies digits --poolings max --epochs 9 --start-bias -2 --name start-2

Each run has the settings of the study (02_train and the section ``train`` of params/<study>.yaml), but fewer epochs.
A row has loss and accuracy on validation of the epoch with the lowest loss, the chance level, and the probability
that guessing gets as many fields right (binomial). If this probability is below 0.001, the run has left chance.
Prepare the studies first. Writes benchmarks/results/leaves_chance-<study>.json.
"""

import argparse
import ast
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import papermill
import torch
import yaml
from scipy.stats import binom
from throughput import machine

from milcnn import columns
from milcnn.files import write_json
from milcnn.network import pooling
from milcnn.network.model import ModelSettings, load_model
from milcnn.network.predict import predict_fields
from milcnn.network.train import TrainSettings, train
from milcnn.parameters import read_study
from milcnn.paths import ROOT
from milcnn.prepare.prepared import Prepared, load_prepared


def parameters(study: str) -> dict[str, Any]:
    """The parameters of 02_train for ``study``: the notebook's defaults, then the section ``train`` of the study."""
    declared = papermill.inspect_notebook(str(ROOT / "notebooks" / "02_train.ipynb"))
    defaults = {name: ast.literal_eval(entry["default"]) for name, entry in declared.items()}
    return defaults | read_study(study).get("train", {})


def changed(usual: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """``usual`` parameters with KEY=VALUE ``words``; a key that is no setting of the network is one of the training."""
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=") for word in words)}
    of_network = {key: value for key, value in changes.items() if key in ModelSettings.model_fields}
    others = {key: value for key, value in changes.items() if key not in of_network}
    return usual | of_network | {"more": usual["more"] | others}


def settings_of(ready: Prepared, given: dict[str, Any]) -> tuple[ModelSettings, TrainSettings]:
    """Network and training of the ``parameters`` ``given``, for the fields of ``ready``."""
    of_data = {
        "study": ready.study,
        "channels": ready.channels,
        "classes": ready.classes,
        "multilabel": ready.multilabel,
    }
    of_model, of_training = (
        {key: given[key] for key in settings.model_fields.keys() & given.keys()}
        for settings in (ModelSettings, TrainSettings)
    )
    return ModelSettings(**of_model | of_data), TrainSettings(**of_training | given["more"])


def trained_and_tested(
    ready: Prepared, network: ModelSettings, settings: TrainSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The history of one training, and the predictions of its best epoch for the test fields."""
    with TemporaryDirectory() as folder:
        history = train(ready, network, settings, Path(folder))
        model = load_model(Path(folder) / "model.safetensors", ready.study)
    return history, predict_fields(model, ready, ready.of("test"))[0]


def run(study: str, method: str, seed: int, epochs: int) -> dict[str, object]:
    """One row of the table."""
    ready = load_prepared(ROOT / "data" / "prepared" / study, study)
    network, usual = settings_of(ready, parameters(study) | {"pooling": method})
    settings = usual.model_copy(update={"epochs": epochs, "seed": seed})
    with TemporaryDirectory() as folder:
        history = train(ready, network, settings, Path(folder))
    best = history.loc[history["validation_loss"].idxmin()]
    accuracy = best["validation_accuracy"]
    n, chance = len(ready.of("validation")), 1 / len(ready.classes)
    guessed = float(binom.sf(round(accuracy * n) - 1, n, chance))
    scores = {"loss": round(best["validation_loss"], 3), "accuracy": round(accuracy, 3)}
    facts = scores | {"chance": round(chance, 3), "p of guessing": guessed, "fields": n}
    start = {"start": pooling.POOLINGS[columns.parse_method(method)[0]].start_bias}
    return {"study": study, "pooling": method, "seed": seed} | start | facts | {"left chance": guessed < 1e-3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", default=["digits", "simulated"])
    parser.add_argument("--poolings", nargs="+", default=list(pooling.POOLINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--start-bias", type=float, help="start bias of the scores, instead of the pooling's own")
    parser.add_argument("--name", default="", help="added to the name of the file")
    arguments = parser.parse_args()
    if arguments.start_bias is not None:
        for method in arguments.poolings:
            pooling.POOLINGS[columns.parse_method(method)[0]].start_bias = arguments.start_bias
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
