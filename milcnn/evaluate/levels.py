"""Levels: fields put together to the wells and treatments that they are of."""

import numpy as np
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, FIELD_KEY, LABEL, LABEL_MARK, PLATE, SPLIT, WELL
from milcnn.evaluate.runs import with_errors
from milcnn.evaluate.scores import one_label, score_rows, y_classes

TREATMENT = [COMPOUND, CONCENTRATION]
LEVEL_KEYS = {"well": [PLATE, WELL, *TREATMENT], "treatment": TREATMENT}


def has_treatments(fields: pd.DataFrame) -> bool:
    """Whether ``fields`` tells its compounds and concentrations; else it has neither wells nor treatments."""
    return set(TREATMENT) <= set(fields) and bool(fields[COMPOUND].notna().any())


def at_level(predictions: pd.DataFrame, level: str, how: str = "mean") -> pd.DataFrame:
    """One row a run and well or treatment: its y is the ``how``, mean or median, of that of its fields.

    A treatment is a compound at a concentration (DMSO is one), a well a treatment on a plate; fields that
    carry different labels are not put together. Metadata are those of the first field; ``predicted``,
    ``correct`` and ``error`` are made anew. Medians need not sum to 1. Empty where a study has no compounds.
    """
    if not has_treatments(predictions):
        return predictions.iloc[:0]
    y = [f"y_{name}" for name in y_classes(predictions)]
    kept = ["method", "seed", *FIELD_KEY, *TREATMENT, LABEL, SPLIT]
    told = dict.fromkeys([column for column in kept if column in predictions], "first") | dict.fromkeys(y, how)
    groups = predictions.groupby(["method", "seed", *LEVEL_KEYS[level], LABEL], sort=False, dropna=False)
    table = groups.agg(told).reset_index(drop=True)
    single = one_label(predictions[y].to_numpy(float))
    return with_errors(
        table.assign(predicted=predicted_classes(table[y].to_numpy(float), y_classes(predictions), single))
    )


def predicted_classes(y: np.ndarray, classes: list[str], single: bool) -> list[str]:
    """The class with the largest of ``y`` (n, C); where a field has several labels, those above 0.5, as ``A|B``."""
    names = np.array(classes)
    return list(names[y.argmax(axis=1)]) if single else [LABEL_MARK.join(names[row > 0.5]) for row in y]


def level_rows(predictions: pd.DataFrame, study: str, protocol: str) -> pd.DataFrame:
    """Rows of the summary: ``accuracy`` of wells and treatments by mean y, ``accuracy_median`` by median y."""
    tables = [
        score_rows(at_level(predictions, level, how), ["accuracy"], study, protocol, level).assign(metric=metric)
        for level in LEVEL_KEYS
        for how, metric in (("mean", "accuracy"), ("median", "accuracy_median"))
        if has_treatments(predictions)
    ]
    return pd.concat(tables, ignore_index=True) if tables else score_rows(predictions.iloc[:0], [], study, protocol, "")
