"""Levels: predictions of wells and treatments from those of their fields, and of several seeds as one."""

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, LABEL_MARK, PLATE, SOURCE, SPLIT, WELL
from milcnn.evaluate.runs import with_errors
from milcnn.evaluate.scores import one_label, score_rows

TREATMENT_KEY = [COMPOUND, CONCENTRATION]
LEVEL_KEYS = {"well": [PLATE, WELL, *TREATMENT_KEY], "treatment": TREATMENT_KEY}


def has_treatments(fields: pd.DataFrame) -> bool:
    """Whether ``fields`` has compounds and concentrations; without them there are no wells or treatments to score."""
    return set(TREATMENT_KEY) <= set(fields) and bool(fields[COMPOUND].notna().any())


def at_level(predictions: pd.DataFrame, level: str, how: str = "mean") -> pd.DataFrame:
    """One row a run and well or treatment; its y is the ``how``, mean or median, of the y of its fields.

    A treatment is a compound at a concentration (DMSO is one), a well has one treatment. Fields with different labels
    stay apart. Empty if there are no compounds.
    """
    if not has_treatments(predictions):
        return predictions.iloc[:0]
    return pooled(predictions, ["method", "seed", *LEVEL_KEYS[level], LABEL], how)


def together(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a method and field: the seeds of a method as one, with the mean of their y. Its seed is the first."""
    return pooled(predictions, ["method", *FIELD_KEY, LABEL], "mean")


def pooled(predictions: pd.DataFrame, keys: list[str], how: str) -> pd.DataFrame:
    """One row for each value of ``keys``, with ``how`` of the y of its rows, and what that predicts.

    Metadata are those of the first row. Medians need not sum to 1.
    """
    y = predictions.filter(regex="^y_")
    metadata = ["method", "seed", *FIELD_KEY, *TREATMENT_KEY, LABEL, CONTROL, SOURCE, SPLIT]
    rules = dict.fromkeys([name for name in metadata if name in predictions], "first") | dict.fromkeys(y, how)
    table = predictions.groupby(keys, sort=False, dropna=False).agg(rules).reset_index(drop=True)
    names, values = np.array(y.columns.str[2:]), table[y.columns].to_numpy(float)
    if one_label(y.to_numpy(float)):
        return with_errors(table.assign(predicted=names[values.argmax(axis=1)]))
    return with_errors(table.assign(predicted=[LABEL_MARK.join(names[row > 0.5]) for row in values]))


def level_rows(predictions: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: ``accuracy`` of wells and treatments by mean y, ``accuracy_median`` by median y."""
    tables = [
        score_rows(at_level(predictions, level, how), ["accuracy"], study, protocol, level).assign(metric=metric)
        for level in LEVEL_KEYS
        for how, metric in (("mean", "accuracy"), ("median", "accuracy_median"))
    ]
    return pd.concat(tables, ignore_index=True)
