"""Which fields take part in what: the rules that all rooms share, in one place."""

import numpy as np
import pandas as pd

from milcnn.columns import CONTROL, PLATE, SETS, SPLIT


def is_control(fields: pd.DataFrame) -> np.ndarray:
    """Whether each field is a negative control, (N,) bool; none is where that is not told."""
    return fields[CONTROL].eq(True).to_numpy(bool) if CONTROL in fields else np.zeros(len(fields), bool)


def kept_out(fields: pd.DataFrame) -> np.ndarray:
    """Fields whose own ``Metadata_Split`` names none of the sets, (N,) bool."""
    if SPLIT not in fields:
        return np.zeros(len(fields), bool)
    return ~fields[SPLIT].fillna("").isin(["", *SETS]).to_numpy()


def fields_in_use(fields: pd.DataFrame) -> pd.DataFrame:
    """``fields`` without those that are in no set, controls excepted, such as those of weak doses.

    Baselines neither learn from these nor are judged by them, and their cells would be costly to measure.
    """
    return fields[~kept_out(fields) | is_control(fields)].reset_index(drop=True)


def reference_fields(fields: pd.DataFrame) -> np.ndarray:
    """True for the fields that tell what is normal, (N,) bool: the training controls.

    Where there are none, the controls that are in no set, as where they are no class; where the study has no
    controls, all training fields.
    """
    controls, train = is_control(fields), (fields[SPLIT] == "train").to_numpy()
    return next(mask for mask in (controls & train, controls & kept_out(fields), train) if mask.any())


def fields_to_predict(fields: pd.DataFrame) -> pd.DataFrame:
    """The rows that a run tells of: fields it did not learn from, and all negative controls.

    Controls are alike on every plate, so what tells those of two plates apart is the plate.
    """
    return fields[(fields[SPLIT] != "train") | is_control(fields)]


def held_out(predictions: pd.DataFrame, splits: list[str]) -> pd.DataFrame:
    """The fields, of weak doses too, of the plates that hold a field in one of ``splits``.

    Weak doses of training plates (split ``dose``) were not trained on, but their neighbours were.
    """
    plates = predictions.loc[predictions[SPLIT].isin(splits), PLATE].unique()
    return predictions[predictions[PLATE].isin(plates)].reset_index(drop=True)
