"""Does a network tell that it has not seen a phenotype? Each phenotype of a study is left out of training in turn.

    python benchmarks/unseen.py simulated-compound [--phenotypes clumped enlarged] [--change passes=4]

A row is a phenotype: AUROC of its test fields against those of the phenotypes that were trained, by ``unseen`` as
``milcnn score`` writes it; by its distance to the nearest class alone; by its doubt alone, 1 − max y, the floor. Then
the share of the known test fields whose class is in ``set_90``. The same on validation fields, on which the score was
chosen. Writes benchmarks/results/unseen-<study>.json.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from leaves_chance import changed, parameters, settings_of
from sklearn.metrics import roc_auc_score
from throughput import machine

from milcnn.columns import LABEL, SPLIT, labels_of
from milcnn.files import write_json, write_table
from milcnn.network.model import load_model
from milcnn.network.predict import predict_fields
from milcnn.network.train import train
from milcnn.paths import ROOT
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.roles import is_control
from milcnn.score.trained import open_trained
from milcnn.score.unseen import doubt, fitted


def without(ready: Prepared, phenotype: str) -> Prepared:
    """``ready`` with ``phenotype`` in no set, and not a class."""
    fields = ready.fields.assign(**{SPLIT: ready.fields[SPLIT].mask(ready.fields[LABEL] == phenotype, "left out")})
    classes = [name for name in ready.classes if name != phenotype]
    return replace(ready, classes=classes).with_fields(fields)


def run(ready: Prepared, phenotype: str, given: dict, seed: int) -> dict[str, object]:
    """One row."""
    known = without(ready, phenotype)
    network, settings = settings_of(known, given)
    with TemporaryDirectory() as name:
        folder = Path(name)
        train(known, network, settings.model_copy(update={"seed": seed}), folder)
        model = load_model(folder / "model.safetensors")
        write_table(predict_fields(model, known, known.of("validation"))[0], folder / "predictions.csv")
        trained = open_trained(folder)
    reference, row = fitted(trained, known), {"phenotype": phenotype, "seed": seed}
    for split in ("validation", "test"):
        rows = ready.of(split)
        scores = trained.scores(ready.pixels(rows))
        other, judged = (rows[LABEL] == phenotype).to_numpy(), reference.judged(scores)
        told = {
            "unseen": judged["unseen"],
            "distance": reference.distance(scores.features),
            "1 - max y": doubt(scores.y, several=False),
        }
        row |= {f"{split}: {name}": round(float(roc_auc_score(other, value)), 3) for name, value in told.items()}
        right = [own in labels_of(names, True) for own, names in zip(rows[LABEL], judged["set_90"], strict=True)]
        row |= {
            f"{split}: in set_90": round(float(np.mean(np.array(right)[~other])), 3),
            f"{split}: n": int((~other).sum()),
        }
        row |= {f"{split}: marked": round(float(judged["unseen_above"][other].mean()), 3)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--phenotypes", nargs="*")
    parser.add_argument("--change", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    ready = load_prepared(ROOT / "data" / "prepared" / arguments.study, arguments.study)
    given, rows = changed(parameters(arguments.study), arguments.change), []
    controls = set(ready.fields.loc[is_control(ready.fields), LABEL])
    for phenotype in arguments.phenotypes or [name for name in ready.classes if name not in controls]:
        rows.append(run(ready, phenotype, given, arguments.seed))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(table.drop(columns="phenotype").mean().round(3).to_string())
    facts = {"machine": machine(torch.device("cpu")), "changes": arguments.change, "rows": rows}
    write_json(facts, Path(__file__).parent / "results" / f"unseen-{arguments.study}.json")


if __name__ == "__main__":
    main()
