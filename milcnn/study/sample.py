"""``milcnn sample``: data/sample, what the notebooks read after a plain clone, at most 1 MB.

It has the small prepared fields that ``01_prepare`` writes there, with what a network predicts for them.
From the last `make study` it takes runs of ``digits`` and their tables, for 04 to 07, and runs of ``simulated``, for 08
and 09, with fewer fields and digits.
"""

import shutil
from pathlib import Path

import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, SPLIT
from milcnn.files import read_table, write_table, written_whole
from milcnn.network.model import load_model
from milcnn.network.predict import predict_fields
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared
from milcnn.roles import held_out

SAMPLE = ROOT / "data" / "sample"
DIGITS = ["noisy_and-0", "noisy_and-1", "mean-0", "mean-1"]
FIELDS = 12  # of a class, in each set
SIMULATED = "noisy_and-0"
PREDICTED = [*FIELD_KEY, LABEL, SPLIT, "predicted"]
DOSE_COLUMNS = [COMPOUND, CONCENTRATION, CONTROL, "response", "ec50", "cells", "fraction"]
TABLES = ["error_by_fraction", "history", "scores", "thresholds", "localisation_scores"]


def write(table: pd.DataFrame, path: Path) -> None:
    """As CSV with 3 significant digits: the sample must be small."""
    with written_whole(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.3g", lineterminator="\n")


def few_fields(predictions: pd.DataFrame) -> pd.DataFrame:
    """``FIELDS`` validation and test fields of each class, with the columns that 04 reads."""
    kept = predictions.groupby([LABEL, SPLIT], sort=False).head(FIELDS)
    return kept[[*PREDICTED, "fraction", *kept.filter(regex="^y_").columns]]


def few_treatments(predictions: pd.DataFrame) -> pd.DataFrame:
    """The second of the two compounds of each phenotype, and the controls, on plates that were not trained on."""
    fields = held_out(predictions, ["validation", "test"])
    compounds = fields.groupby(LABEL)[COMPOUND].max()
    kept = fields[fields[COMPOUND].isin(compounds)]
    return kept[[*PREDICTED, *DOSE_COLUMNS, *kept.filter(regex="^p_").columns]]


def write_digits(models: Path, tables: Path, out: Path) -> None:
    """Runs of ``digits`` with few fields, the weights of one of them, and the tables of the study."""
    for run in DIGITS:
        write(few_fields(read_table(models / run / "predictions.csv")), out / "models" / run / "predictions.csv")
        for name in ("history", "thresholds"):
            write(read_table(models / run / f"{name}.csv"), out / "models" / run / f"{name}.csv")
    shutil.copyfile(models / DIGITS[0] / "model.safetensors", out / "models" / DIGITS[0] / "model.safetensors")
    for name in TABLES:
        write(read_table(tables / f"{name}.csv"), out / "tables" / f"{name}.csv")
    predictions = read_table(tables / "predictions.csv")
    runs = predictions["method"] + "-" + predictions["seed"].astype(str)
    write(
        predictions.loc[runs.isin(DIGITS), ["method", "seed", LABEL, "predicted"]], out / "tables" / "predictions.csv"
    )


def write_sample_predictions(run: Path, prepared: Path) -> None:
    """What the network of the sample predicts for the sample's own fields, which an export must give again."""
    ready = load_prepared(prepared)
    network = load_model(run / "model.safetensors", ready.study)
    write_table(predict_fields(network, ready, ready.fields)[0], run / "sample_predictions.csv")


def write_simulated(models: Path, out: Path) -> None:
    """A run of ``simulated`` with few treatments, and what the run with ``noise20`` predicts for their test fields."""
    table = few_treatments(read_table(models / SIMULATED / "predictions.csv"))
    write(table, out / SIMULATED / "predictions.csv")
    write(read_table(models / SIMULATED / "thresholds.csv"), out / SIMULATED / "thresholds.csv")
    noisy = read_table(models / "noise20" / SIMULATED / "predictions.csv")
    tested = noisy.merge(table[FIELD_KEY])[[*PREDICTED, CONTROL]].query(f"{SPLIT} == 'test'")
    write(tested, out / "noise20" / SIMULATED / "predictions.csv")


def write_sample() -> None:
    write_digits(ROOT / "models" / "digits", ROOT / "reports" / "tables" / "digits", SAMPLE)
    write_sample_predictions(SAMPLE / "models" / DIGITS[0], SAMPLE / "prepared")
    write_simulated(ROOT / "models" / "simulated", SAMPLE / "dose")
