"""The sample of 08_dose and 09_degrade: what they read of ``simulated`` after a plain clone, 25 kB of tables.

    python -m milcnn.sample models/simulated data/sample/dose

From ``noisy_and-0``: the second of the two compounds of each phenotype and the controls, on the plates that
were not trained on; and what the run under ``noise20`` calls the test fields.
"""

import sys
from pathlib import Path

import pandas as pd

from milcnn.files import read_table, written_whole
from milcnn.penetrance import held_out
from milcnn.screens.columns import COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, SPLIT

RUN = "noisy_and-0"
CALLED = [*FIELD_KEY, LABEL, SPLIT, "predicted"]
TOLD = [COMPOUND, CONCENTRATION, CONTROL, "response", "ec50", "cells", "fraction"]


def sample(predictions: pd.DataFrame) -> pd.DataFrame:
    """The fields and columns of the sample, from the predictions of a whole run."""
    fields = held_out(predictions, ["validation", "test"])
    compounds = fields.groupby(LABEL)[COMPOUND].max()
    kept = fields[fields[COMPOUND].isin(compounds)]
    return kept[[*CALLED, *TOLD, *kept.filter(regex="^p_").columns]]


def write(table: pd.DataFrame, path: Path) -> None:
    """As CSV with 3 significant digits: the sample is to be small."""
    with written_whole(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.3g", lineterminator="\n")


def main(models: Path, out: Path) -> None:
    """Write the sample of the runs in ``models`` to the folder ``out``."""
    table = sample(read_table(models / RUN / "predictions.csv", "train the study 'simulated' first"))
    write(table, out / RUN / "predictions.csv")
    write(read_table(models / RUN / "thresholds.csv"), out / RUN / "thresholds.csv")
    spoiled = read_table(models / "noise20" / RUN / "predictions.csv", "train under the condition noise20 first")
    write(
        spoiled.merge(table[FIELD_KEY])[CALLED].query(f"{SPLIT} == 'test'"), out / "noise20" / RUN / "predictions.csv"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
