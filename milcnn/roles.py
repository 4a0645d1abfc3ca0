"""The rules for which fields take part in what, in one place for all rooms."""

import numpy as np
import pandas as pd

from milcnn.columns import CONTROL, PLATE, SETS, SPLIT, UNLABELLED


def is_control(fields: pd.DataFrame) -> np.ndarray:
    """Whether each field is a negative control, (N,) bool; all False without the column ``Metadata_Control``."""
    return fields[CONTROL].eq(True).to_numpy(bool) if CONTROL in fields else np.zeros(len(fields), bool)


def kept_out(fields: pd.DataFrame) -> np.ndarray:
    """Fields whose own ``Metadata_Split`` is filled, but is not train, validation or test, (N,) bool."""
    if SPLIT not in fields:
        return np.zeros(len(fields), bool)
    return ~fields[SPLIT].fillna("").isin(["", *SETS]).to_numpy()


def fields_in_use(fields: pd.DataFrame) -> pd.DataFrame:
    """The fields of the three sets, all controls, and weak doses on plates with validation or test fields.

    Baselines predict these weak doses, for dose–response curves. Other fields, such as weak doses on training plates,
    are left out: their cells take long to measure.
    """
    held = fields[PLATE].isin(fields.loc[fields[SPLIT].isin(["validation", "test"]), PLATE])
    held &= fields[SPLIT] != UNLABELLED
    return fields[~kept_out(fields) | is_control(fields) | held].reset_index(drop=True)


def reference_fields(fields: pd.DataFrame) -> np.ndarray:
    """The fields that define normal cells, (N,) bool: the controls in the training set.

    If there are none, the controls outside the three sets (controls that are not a class). If the study has no
    controls, all training fields.
    """
    controls, train = is_control(fields), (fields[SPLIT] == "train").to_numpy()
    return next(mask for mask in (controls & train, controls & kept_out(fields), train) if mask.any())


def fields_to_predict(fields: pd.DataFrame) -> pd.DataFrame:
    """The fields that a run predicts: all that are not in the training set, and all negative controls.

    Training controls are needed because controls should look alike: a difference between the controls of two
    plates shows an effect of the plate.
    """
    return fields[(fields[SPLIT] != "train") | is_control(fields)]


def held_out(predictions: pd.DataFrame, splits: list[str]) -> pd.DataFrame:
    """All fields with a label, also those of weak doses, of each plate that has a field in one of ``splits``.

    Weak doses (split ``dose``) on training plates are left out: their neighbours on the plate are training fields.
    """
    plates = predictions.loc[predictions[SPLIT].isin(splits), PLATE].unique()
    return predictions[predictions[PLATE].isin(plates) & (predictions[SPLIT] != UNLABELLED)].reset_index(drop=True)
