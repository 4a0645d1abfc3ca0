"""The two tables that every method writes, a row a field: predictions and profiles."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from milcnn.columns import FIELD_KEY, LABEL, LABEL_MARK

# columns that predictions repeat; not the paths of files, which are those of one machine
KNOWN = r"^Metadata_|^(fraction|cells|response|ec50)$"


def prediction_table(rows: pd.DataFrame, classes: list[str], multilabel: bool, **values: np.ndarray) -> pd.DataFrame:
    """One row a field of ``rows``: its known columns, ``predicted``, and ``<name>_<class>`` for each of ``values``.

    ``values`` are arrays (N, C) by name. ``y`` must be among them, the class probabilities: ``predicted`` is the class
    with the largest y; in a study of several labels all classes with y above 0.5, as ``A|B``.
    """
    names, y = np.array(classes), values["y"]
    largest, above_half = names[y.argmax(axis=1)], y > 0.5
    predicted = [LABEL_MARK.join(names[row]) for row in above_half] if multilabel else largest
    known = rows.reset_index(drop=True).filter(regex=KNOWN).assign(predicted=predicted)
    columns = [pd.DataFrame(array, columns=[f"{name}_{own}" for own in classes]) for name, array in values.items()]
    return pd.concat([known, *columns], axis=1)


def chance_note(predictions: pd.DataFrame) -> str:
    """A sentence if ``predictions`` cannot be told from always naming the most frequent label; '' if they can.

    One-sided binomial test at 5 %: are more fields right than the share of that label?
    """
    right, n = int((predictions["predicted"] == predictions[LABEL]).sum()), len(predictions)
    frequent = float(predictions[LABEL].value_counts(normalize=True).iloc[0])
    if binomtest(right, n, frequent, alternative="greater").pvalue <= 0.05:
        return ""
    return (
        f"Note: {right} of {n} test fields are right. That cannot be told from always naming the most frequent label "
        f"({frequent:.2f} of the fields): the network has not learnt the classes, or the test fields are too few."
    )


def profile_table(rows: pd.DataFrame, profiles: np.ndarray) -> pd.DataFrame:
    """The key of each field of ``rows`` and its profile (N, D) as ``feature_0000`` …."""
    columns = [f"feature_{number:04d}" for number in range(profiles.shape[1])]
    return pd.concat([rows[FIELD_KEY].reset_index(drop=True), pd.DataFrame(profiles, columns=columns)], axis=1)
