"""Make the training labels worse on purpose: a control, and a test of how fast a result decays."""

import re

import numpy as np
import pandas as pd

from milcnn.columns import LABEL, SPLIT, UNKNOWN, join_labels, labels_of
from milcnn.prepare.prepared import Prepared


def with_condition(prepared: Prepared, condition: str, seed: int = 0) -> Prepared:
    """``prepared`` with worse labels or fewer training fields. Test fields do not change.

    Values of ``condition``:

    - ``""``: nothing changes;
    - ``shuffled``: labels are permuted within the training and within the validation fields; a score above chance
      shows a leak, because there is nothing to learn;
    - ``noise20``: 20 % of the training and of the validation fields get another label at random;
    - ``share25``: 25 % of the training fields of each label are kept, at least one;
    - ``hidden80``: in a study of several labels, it is no longer known of 80 % of the pairs of a class and a training
      or validation field whether the field has the class.

    Raises ValueError for any other value, and for hidden labels in a study of one label a field.
    """
    kind, share = parse_condition(condition)
    if kind == "hidden" and not prepared.multilabel:
        raise ValueError(f"condition: '{condition}' needs a study of several labels; use share25 for one label.")
    rng = np.random.default_rng([seed, 11])
    fields = prepared.fields
    if kind == "share":
        training = fields[fields[SPLIT] == "train"]
        shuffled = [rng.permutation(rows.index) for _, rows in training.groupby(LABEL, dropna=False)]
        kept = np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in shuffled])
        fields = fields[(fields[SPLIT] != "train") | fields.index.isin(kept)]
    fields = fields.reset_index(drop=True)
    for split in ("train", "validation"):
        rows = fields.index[fields[SPLIT] == split]
        if kind == "noise":
            fields.loc[rows, LABEL] = with_wrong_labels(fields.loc[rows, LABEL], share, rng)
        elif kind == "shuffled":
            fields.loc[rows, LABEL] = rng.permutation(fields.loc[rows, LABEL])
        elif kind == "hidden":
            fields = with_hidden_labels(fields, rows, prepared.classes, share, rng)
    return prepared.with_fields(fields)


def passes_for(condition: str, usual: int) -> int:
    """The number of passes over fewer training fields that gives as many steps as ``usual`` passes over all of them.

    The score then shows the effect of fewer fields, not of fewer steps. Raises ValueError, see ``with_condition``.
    """
    kind, share = parse_condition(condition)
    return round(usual / share) if kind == "share" else usual


def parse_condition(condition: str) -> tuple[str, float]:
    """The kind (``noise``, ``share``, ``hidden``, ``shuffled`` or empty) and the share, see ``with_condition``."""
    match = re.fullmatch(r"(noise|share|hidden)(\d+)|shuffled|", condition)
    share = int(match[2]) / 100 if match and match[2] else 0.0
    if not match or share > 1 or condition == "share0":
        raise ValueError(
            f"condition: '{condition}' is unknown; use shuffled, noise20, share25 or hidden80 (at most 100 %)."
        )
    return match[1] or condition, share


def with_wrong_labels(labels: pd.Series, share: float, rng: np.random.Generator) -> np.ndarray:
    """``labels``, of which a random ``share`` is replaced by another label that occurs."""
    names, codes = np.unique(labels, return_inverse=True)
    moved = rng.permutation(len(labels)) < round(share * len(labels))
    return names[(codes + moved * rng.integers(1, max(2, len(names)), len(labels))) % len(names)]


def with_hidden_labels(
    fields: pd.DataFrame, rows: pd.Index, classes: list[str], share: float, rng: np.random.Generator
) -> pd.DataFrame:
    """``fields``, where a random ``share`` of the pairs of ``rows`` and ``classes`` is in ``Metadata_Unknown``."""
    order = rng.permutation(len(rows) * len(classes)).reshape(len(rows), len(classes))
    names = np.array(classes, object)
    hidden = [{*names[own]} for own in order < round(share * order.size)]
    if UNKNOWN not in fields:
        fields = fields.assign(**{UNKNOWN: ""})
    for row, own in zip(rows, hidden, strict=True):
        own |= {*labels_of(fields.at[row, UNKNOWN], True)}
        fields.at[row, UNKNOWN] = join_labels([*own])
        fields.at[row, LABEL] = join_labels([*({*labels_of(fields.at[row, LABEL], True)} - own)])
    return fields
