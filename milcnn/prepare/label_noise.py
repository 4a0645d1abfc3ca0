"""Training labels made worse on purpose: the control of a result, and how fast it decays."""

import re

import numpy as np
import pandas as pd

from milcnn.columns import LABEL, SPLIT
from milcnn.prepare.prepared import Prepared


def with_condition(prepared: Prepared, condition: str, seed: int = 0) -> Prepared:
    """``prepared`` with worse labels, or fewer fields, to learn from; test fields stay as they are.

    ``condition`` is one of

    - ``""``: nothing changes;
    - ``shuffled``: labels are permuted within the training and within the validation fields, so that
      there is nothing to learn, and a test score above chance is a leak;
    - ``noise20``: 20 % of the training and of the validation fields get another label, drawn evenly;
    - ``share25``: 25 % of the training fields of each label are kept, at least one.

    Raises ValueError for another one.
    """
    kind, share = parse_condition(condition)
    rng = np.random.default_rng([seed, 11])
    fields = prepared.fields
    if kind == "share":
        training = fields[fields[SPLIT] == "train"]
        kept = [random_share(labels, share, rng) for _, labels in training[LABEL].groupby(training[LABEL])]
        fields = fields[(fields[SPLIT] != "train") | fields.index.isin(np.concatenate(kept))]
    fields = fields.reset_index(drop=True)
    for split in ("train", "validation"):
        rows = fields.index[fields[SPLIT] == split]
        if kind == "noise":
            fields.loc[rows, LABEL] = with_wrong_labels(fields.loc[rows, LABEL], share, rng)
        elif kind == "shuffled":
            fields.loc[rows, LABEL] = rng.permutation(fields.loc[rows, LABEL])
    return prepared.with_fields(fields)


def passes_for(condition: str, usual: int) -> int:
    """How many passes over the training fields that ``condition`` keeps make as many steps as ``usual`` over all.

    A network that learns from a quarter of the fields would else make a quarter of the steps, and its score tell
    of both. Raises ValueError as ``spoiled``.
    """
    kind, share = parse_condition(condition)
    return round(usual / share) if kind == "share" else usual


def parse_condition(condition: str) -> tuple[str, float]:
    """``noise``, ``share``, ``shuffled`` or nothing, and the share; see ``spoiled``."""
    match = re.fullmatch(r"(noise|share)(\d+)|shuffled|", condition)
    share = int(match[2]) / 100 if match and match[2] else 0.0
    if not match or share > 1 or condition == "share0":
        raise ValueError(f"condition: '{condition}' is none; there are shuffled, noise20 and share25, of up to 100 %.")
    return match[1] or condition, share


def random_share(labels: pd.Series, share: float, rng: np.random.Generator) -> np.ndarray:
    """The index of a ``share`` of ``labels``, at least one."""
    return rng.permutation(labels.index)[: max(1, round(share * len(labels)))]


def with_wrong_labels(labels: pd.Series, share: float, rng: np.random.Generator) -> np.ndarray:
    """``labels``, of which a ``share`` became another one that occurs."""
    names = np.sort(labels.unique())
    found = np.searchsorted(names, labels)
    moved = rng.permutation(len(labels)) < round(share * len(labels))
    return names[(found + moved * rng.integers(1, max(2, len(names)), len(labels))) % len(names)]
