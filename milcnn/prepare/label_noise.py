"""Make the training labels worse on purpose: a control, and a test of how fast a result decays."""

import re

import numpy as np
import pandas as pd

from milcnn.columns import LABEL, SPLIT
from milcnn.prepare.prepared import Prepared


def with_condition(prepared: Prepared, condition: str, seed: int = 0) -> Prepared:
    """``prepared`` with worse labels or fewer training fields. Test fields do not change.

    Values of ``condition``:

    - ``""``: nothing changes;
    - ``shuffled``: labels are permuted within the training and within the validation fields; a score above chance
      shows a leak, because there is nothing to learn;
    - ``noise20``: 20 % of the training and of the validation fields get another label at random;
    - ``share25``: 25 % of the training fields of each label are kept, at least one.

    Raises ValueError for any other value.
    """
    kind, share = parse_condition(condition)
    rng = np.random.default_rng([seed, 11])
    fields = prepared.fields
    if kind == "share":
        training = fields[fields[SPLIT] == "train"]
        shuffled = [rng.permutation(rows.index) for _, rows in training.groupby(LABEL)]
        kept = np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in shuffled])
        fields = fields[(fields[SPLIT] != "train") | fields.index.isin(kept)]
    fields = fields.reset_index(drop=True)
    for split in ("train", "validation"):
        rows = fields.index[fields[SPLIT] == split]
        if kind == "noise":
            fields.loc[rows, LABEL] = with_wrong_labels(fields.loc[rows, LABEL], share, rng)
        elif kind == "shuffled":
            fields.loc[rows, LABEL] = rng.permutation(fields.loc[rows, LABEL])
    return prepared.with_fields(fields)


def passes_for(condition: str, usual: int) -> int:
    """The number of passes over fewer training fields that gives as many steps as ``usual`` passes over all of them.

    The score then shows the effect of fewer fields, not of fewer steps. Raises ValueError, see ``with_condition``.
    """
    kind, share = parse_condition(condition)
    return round(usual / share) if kind == "share" else usual


def parse_condition(condition: str) -> tuple[str, float]:
    """The kind (``noise``, ``share``, ``shuffled`` or empty) and the share, see ``with_condition``."""
    match = re.fullmatch(r"(noise|share)(\d+)|shuffled|", condition)
    share = int(match[2]) / 100 if match and match[2] else 0.0
    if not match or share > 1 or condition == "share0":
        raise ValueError(f"condition: '{condition}' is unknown; use shuffled, noise20 or share25 (at most 100 %).")
    return match[1] or condition, share


def with_wrong_labels(labels: pd.Series, share: float, rng: np.random.Generator) -> np.ndarray:
    """``labels``, of which a random ``share`` is replaced by another label that occurs."""
    names, codes = np.unique(labels, return_inverse=True)
    moved = rng.permutation(len(labels)) < round(share * len(labels))
    return names[(codes + moved * rng.integers(1, max(2, len(names)), len(labels))) % len(names)]
