"""The rules for which fields take part in what, in one place for all rooms."""

import numpy as np
import pandas as pd

from milcnn.columns import CONTROL, FRESH, LABEL, PLATE, SETS, SITE, SPLIT, UNKNOWN, UNLABELLED, WELL, labels_of

JUDGED = [*SETS[1:], FRESH]  # the splits whose fields are scored


def is_control(fields: pd.DataFrame) -> np.ndarray:
    """Whether each field is a negative control, (N,) bool; all False without the column ``Metadata_Control``."""
    return fields[CONTROL].eq(True).to_numpy(bool) if CONTROL in fields else np.zeros(len(fields), bool)


def without_classes(fields: pd.DataFrame, n_classes: int) -> np.ndarray:
    """Fields without a label of which it is known that they lack some of the classes, (N,) bool."""
    if UNKNOWN not in fields:
        return np.zeros(len(fields), bool)
    pairs = zip(fields[LABEL], fields[UNKNOWN], strict=True)
    return np.array([not labels_of(own, True) and len(labels_of(hidden, True)) < n_classes for own, hidden in pairs])


def kept_out(fields: pd.DataFrame) -> np.ndarray:
    """Fields whose own ``Metadata_Split`` is filled, but is not train, validation, test or fresh, (N,) bool."""
    if SPLIT not in fields:
        return np.zeros(len(fields), bool)
    return ~fields[SPLIT].fillna("").isin(["", *SETS, FRESH]).to_numpy()


def fields_in_use(fields: pd.DataFrame) -> pd.DataFrame:
    """The fields of all sets, all controls, and weak doses on plates with validation or test fields.

    Baselines predict these weak doses, for dose–response curves. Other fields, such as weak doses on training plates,
    are left out: their cells take long to measure.
    """
    held = fields[PLATE].isin(fields.loc[fields[SPLIT].isin(["validation", "test"]), PLATE])
    held &= fields[SPLIT] != UNLABELLED
    return fields[~kept_out(fields) | is_control(fields) | held].reset_index(drop=True)


def reference_fields(fields: pd.DataFrame) -> np.ndarray:
    """The fields that define normal cells, (N,) bool: the controls in the training set.

    If there are none, the controls outside the sets (controls that are not a class) on plates with training fields. If
    there are none either, all training fields. So nothing of a plate that is only scored is among them.
    """
    controls, train = is_control(fields), (fields[SPLIT] == "train").to_numpy()
    others = controls & kept_out(fields) & fields[PLATE].isin(fields.loc[train, PLATE]).to_numpy()
    return next(mask for mask in (controls & train, others, train) if mask.any())


def plate_references(fields: pd.DataFrame) -> np.ndarray:
    """The controls that stand for normal cells on their own plate, and are never scored, (N,) bool.

    They are the controls of a plate that are in no scored set: those in training, and those that are not a class. If
    these are in fewer than half of its control wells, wells of scored controls make up half, drawn at random, as many
    of each label; of a single control well, half of its fields. So of each label some stay to be scored.
    """
    controls, judged = is_control(fields), fields[SPLIT].isin(JUDGED).to_numpy()
    references = controls & ~judged
    for plate in fields.loc[controls & judged, PLATE].unique():
        on_plate = (fields[PLATE] == plate).to_numpy()
        own = fields[controls & on_plate]
        unit = WELL if own[WELL].nunique() > 1 else SITE
        if 2 * fields.loc[references & on_plate, unit].nunique() >= own[unit].nunique():
            continue
        random = np.random.default_rng(list(str(plate).encode()))
        for label in own.loc[own[SPLIT].isin(JUDGED), LABEL].unique():
            members = controls & judged & on_plate & (fields[LABEL] == label).to_numpy()
            names = np.sort(fields.loc[members, unit].astype(str).unique())
            chosen = random.permutation(names)[: len(names) // 2]
            references |= members & fields[unit].astype(str).isin(chosen).to_numpy()
    return references


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
