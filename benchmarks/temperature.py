"""Does the temperature that fits the validation fields make the probabilities of the test fields better?

    python benchmarks/temperature.py digits simulated

A row is a trained network: accuracy on validation and on test fields; then T, and calibration error and log loss of the
test fields, with y as the network gives it (``none``), at the temperature of the highest likelihood (``fitted``), and
at that of ``calibration.temperature_of`` (``Platt``), which the study uses. The last rows are means over networks of
a study whose labels are right. It reads models/<study>. Writes benchmarks/results/temperature.json.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from milcnn.evaluate.calibration import LEAST, scaled, temperature, temperature_of
from milcnn.evaluate.runs import scored_in
from milcnn.evaluate.scores import Calls, accuracy, calls_of, ece, one_label
from milcnn.files import read_table, write_json
from milcnn.paths import ROOT


def log_loss(calls: Calls) -> float:
    """Mean of −log y of the true class; with several labels, of all classes."""
    y = calls.y.clip(LEAST, 1 - LEAST)
    several = -(calls.truth * np.log(y) + (1 - calls.truth) * np.log(1 - y)).mean()
    return float(several if (calls.truth.sum(axis=1) != 1).any() else -np.log(y[calls.truth > 0]).mean())


def row_of(run: Path, study: str) -> dict[str, object]:
    """One network."""
    table = read_table(run / "predictions.csv").assign(method=run.name, seed=0)
    held, test = scored_in(table, "validation"), calls_of(scored_in(table, "test"))
    row: dict[str, object] = {"study": study, "run": str(run.relative_to(ROOT / "models" / study))}
    for split, calls in (("validation", calls_of(held)), ("test", test)):
        row |= {f"{split} accuracy": float(accuracy(calls, np.ones((1, len(calls.y))))[0])}
    for rule, t in {"none": 1.0, "fitted": temperature(calls_of(held)), "Platt": temperature_of(held)}.items():
        calls = test._replace(y=scaled(test.y, t, not one_label(test.y)))
        error = float(ece(calls, np.ones((1, len(test.y))))[0])
        row |= {f"T, {rule}": t, f"ECE, {rule}": error, f"log loss, {rule}": log_loss(calls)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+")
    rows = [
        row_of(path.parent, study)
        for study in parser.parse_args().studies
        for path in sorted((ROOT / "models" / study).rglob("model.safetensors"))
    ]
    table = pd.DataFrame(rows).round(3)
    right = table[~table["run"].str.contains("/")].drop(columns="run")
    print(table.T.to_string(), right.groupby("study").mean().round(3).T.to_string(), sep="\n\n")
    write_json({"rows": table.to_dict("records")}, Path(__file__).parent / "results" / "temperature.json")


if __name__ == "__main__":
    main()
