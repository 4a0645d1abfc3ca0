"""Most labels are missing: one network with a head a class, or a network a class?

    python benchmarks/missing_labels.py simulated-yeast [--condition hidden80] [--change passes=2 epochs=8]

``condition`` hides labels of training and validation fields, see ``label_noise``. ``shared`` is one network that learns
all classes from what is known of them; ``single`` is a network for each class, which learns from the fields whose label
for it is known, in as many steps as the shared one; ``shared_long`` is ``shared`` in as many steps as all single ones
together. ``--change`` changes settings of the study, for all alike. Test labels are all known. Predictions lie in
build/missing_labels and are not made again. Writes benchmarks/results/missing_labels-<study>.json: test mAP and average
precision a class, and those shared less single, with intervals. Prepare the study first.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from leaves_chance import changed, parameters, settings_of, trained_and_tested
from throughput import machine

from milcnn.columns import FIELD_KEY, LABEL, UNKNOWN, labels_of
from milcnn.evaluate.comparisons import differences
from milcnn.evaluate.runs import SUMMARY, of_split
from milcnn.evaluate.scores import class_rows, score_rows
from milcnn.files import read_table, write_json, write_table
from milcnn.network.predictions import prediction_table
from milcnn.paths import ROOT
from milcnn.prepare.label_noise import with_condition
from milcnn.prepare.prepared import Prepared, load_prepared

METRIC = "mean_average_precision"
CPU = torch.device("cpu")


def alone(ready: Prepared, name: str) -> Prepared:
    """``ready`` with the class ``name`` alone, and the training and validation fields whose label for it is known.

    A network has at least two classes: the second is not known of any field, so nothing is learnt of it.
    """
    lists = [[labels_of(cell, True) for cell in ready.fields[column]] for column in (LABEL, UNKNOWN)]
    has, hidden = (np.array([name in own for own in column]) for column in lists)
    fields = ready.fields.assign(**{LABEL: np.where(has, name, ""), UNKNOWN: "none"})
    other = ready.with_fields(fields[~hidden].reset_index(drop=True))
    return replace(other, classes=[name, "none"]).with_fields(other.fields)


def predicted(ready: Prepared, given: dict[str, object], seed: int, n_fields: int) -> pd.DataFrame:
    """y of the test fields, by a network that takes as many steps as with ``n_fields`` training fields."""
    network, usual = settings_of(ready, given)
    passes = round(usual.passes * n_fields / len(ready.of("train")))
    settings = usual.model_copy(update={"passes": passes, "seed": seed, "device": "cpu"})
    _, predictions = trained_and_tested(ready, network, settings)
    return predictions[[*predictions.filter(regex="^y_"), *FIELD_KEY]]


def runs(ready: Prepared, given: dict[str, object], seed: int, folder: Path) -> Iterator[pd.DataFrame]:
    """The predictions of ``single``, ``shared`` and ``shared_long`` for the test fields."""
    n_fields, test = len(ready.of("train")), ready.of("test").drop(columns=UNKNOWN)
    for method, parts, longer in (
        ("single", {name: alone(ready, name) for name in ready.classes}, 1),
        ("shared", {"shared": ready}, 1),
        ("shared_long", {"shared_long": ready}, len(ready.classes)),
    ):
        tables = []
        for name, part in parts.items():
            path = folder / f"{name}-{seed}.csv"
            if not path.exists():
                write_table(predicted(part, given, seed, n_fields * longer), path)
            columns = [f"y_{own}" for own in ready.classes if own in part.classes]
            tables.append(test[FIELD_KEY].merge(read_table(path), on=FIELD_KEY)[columns])
        y = pd.concat(tables, axis=1).to_numpy()
        yield prediction_table(test, ready.classes, True, y=y).assign(method=method, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--condition", default="hidden80")
    parser.add_argument("--change", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    whole = load_prepared(ROOT / "data" / "prepared" / arguments.study, arguments.study)
    given = changed(parameters(arguments.study), arguments.change)
    name = "-".join([arguments.study, arguments.condition, *arguments.change])
    folder, made = ROOT / "build" / "missing_labels" / name, []
    for seed in arguments.seeds:
        made += runs(with_condition(whole, arguments.condition, seed), given, seed, folder)
    scored = of_split(pd.concat(made, ignore_index=True), "test")
    tables = [score_rows(scored, [METRIC], arguments.study, whole.protocol, "field")]
    tables.append(class_rows(scored, arguments.study, whole.protocol))
    compared = [differences(scored, first, METRIC) for first in ("shared", "shared_long")]
    compared = pd.concat(compared).query("second == 'single'")
    compared = compared.assign(method=compared["first"] + "-single", metric=f"{METRIC}_difference")
    table = pd.concat([*tables, compared]).reindex(columns=SUMMARY).drop(columns=["study", "protocol", "level"])
    print(table.round(3).to_string())
    facts = {"machine": machine(CPU), "condition": arguments.condition, "changes": arguments.change}
    rows = table.round(4).astype(object).where(table.notna(), None).to_dict("records")
    write_json(facts | {"rows": rows}, Path(__file__).parent / "results" / f"missing_labels-{arguments.study}.json")


if __name__ == "__main__":
    main()
