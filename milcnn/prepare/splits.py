"""Splits: which fields train, which choose the epoch (validation), and which test.

``Metadata_Split`` is train, validation or test; a screen's own may also be fresh, a second test set that is scored
beside the first and shares no group with training or validation. Fields with another value are in none of the sets.

| kind | what the sets never share |
|---|---|
| given | the screen's own ``Metadata_Split`` is kept |
| field, well, plate, replicate | a field, a well of a plate, a plate, a ``Metadata_Replicate`` |
| compound | a ``Metadata_Compound`` |
| compound_batch | a ``Metadata_Compound`` and a ``Metadata_Batch`` |

Negative controls (``Metadata_Control``) are not a treatment: with kind compound they are split by well. With
compound_batch whole batches are assigned; treated fields of other batches are ``unused`` if their compound is tested.
Fields that the screen keeps out of all sets, and fields whose label is not a class, are in no set. Fields without a
label are ``unlabelled``, unless it is known of some classes that the field does not have them (``Metadata_Unknown``).
"""

from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from milcnn.columns import COMPOUND, FRESH, LABEL, SETS, SPLIT, UNLABELLED, labels_of
from milcnn.prepare.folds import (
    GROUPS,
    SplitError,
    absent,
    fewest_absent,
    groups_of,
    leaks,
    rarest_labels,
    shuffles,
    sides,
)
from milcnn.roles import is_control, kept_out, without_classes
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

UNUSED = "unused"
TOLD_ABOVE = 1.5  # times the wished share of validation


class SplitSettings(Settings):
    """How fields are assigned to the sets."""

    kind: Literal["given", "field", "well", "plate", "replicate", "compound", "compound_batch"] = "given"
    folds: int = Field(default=5, ge=2)  # parts with classes as equal as possible
    fold: int = Field(default=0, ge=0)  # the part that tests; the same seed gives the same parts for each
    validation: float = Field(default=0.2, gt=0, lt=1)  # share of the rest for validation; more if a class is small
    validate_by: Literal["kind", "well", "field"] = "kind"  # what training and validation do not share
    # allow: a class without training fields is not tested; a class without test fields is still trained
    missing_classes: Literal["refuse", "allow"] = "refuse"
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def fold_is_one_of_folds(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is not one of folds 0 to {self.folds - 1}")
        return self


def split_screen(screen: Screen, settings: SplitSettings) -> pd.DataFrame:
    """The fields of ``screen`` with ``Metadata_Split`` as ``settings`` define it; see the head of this module.

    Raises SplitError if a column or value for the groups is missing, if there are too few groups, if two sets share a
    group, or if a class has no training or test fields.
    """
    fields, names = screen.fields, screen.classes
    labels = [set(labels_of(label, screen.multilabel)) for label in fields[LABEL]]
    members = np.array([[name in own for name in names] for own in labels], bool).reshape(len(fields), len(names))
    none = without_classes(fields, len(names))
    labelled = members.any(axis=1) | none
    if settings.kind == "given":
        if SPLIT not in fields:
            raise SplitError(f"split: the screen has no {SPLIT}; choose a kind of {', '.join(GROUPS)}.")
        sets = fields[SPLIT].fillna(UNUSED).replace("", UNUSED).to_numpy(object)
        sets = np.where(np.isin(sets, [*SETS, FRESH]) & ~labelled, UNUSED, sets)
    else:
        fresh = fields[SPLIT].eq(FRESH).to_numpy() if SPLIT in fields else np.zeros(len(fields), bool)
        used = labelled & ~kept_out(fields) & ~fresh
        sets = np.where(fresh & labelled, FRESH, UNUSED).astype(object)
        sets[used] = assigned_sets(fields[used], members[used], settings)
    if settings.missing_classes == "allow":
        trained = members[sets == "train"].any(axis=0)
        sets[np.isin(sets, [*SETS, FRESH]) & members[:, ~trained].any(axis=1)] = UNUSED
    sets[~none & [not own for own in labels] & (sets == UNUSED)] = UNLABELLED
    table = fields.assign(**{SPLIT: sets})
    refuse_leaks(table, settings)
    refuse_missing(sets, members, names, settings)
    share = np.count_nonzero(sets == "validation") / np.count_nonzero(np.isin(sets, SETS[:2]))
    if settings.kind != "given" and share > TOLD_ABOVE * settings.validation:
        print(
            f"validation: {share:.0%} of the fields that do not test, not {settings.validation:.0%}: classes are small."
        )
    return table


def assigned_sets(fields: pd.DataFrame, members: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """The set of each field, (N,) str; ``members`` (N, C) bool says which classes a field has."""

    def total_absent(parts: np.ndarray) -> int:
        pairs = (sides(fields, settings.kind, parts == part) for part in range(settings.folds))
        return sum(absent(members, side) for pair in pairs for side in pair)

    ways = shuffles(fields, members, settings.kind, settings.folds, settings.seed)
    parts = fewest_absent(((total_absent(parts), 0), parts) for parts in ways)
    test, rest = sides(fields, settings.kind, parts == settings.fold)
    if not rest.any():
        raise SplitError(f"split by {settings.kind}: no field is left to train on when part {settings.fold} tests.")
    validation, train = validation_and_train(fields[rest], members[rest], settings)
    sets = np.full(len(fields), UNUSED, dtype=object)
    sets[test] = "test"
    sets[rest] = np.select([validation, train], ["validation", "train"], UNUSED)
    return sets


def validation_and_train(
    fields: pd.DataFrame, members: np.ndarray, settings: SplitSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Validation and training fields, (N,) bool each. Each class keeps a training field if possible."""
    kind = settings.kind if settings.validate_by == "kind" else settings.validate_by
    most = min(len(np.unique(groups_of(fields, kind))), np.bincount(rarest_labels(members)).max())
    if most < 2:
        advice = "lower folds, or set validate_by to well or field"
        raise SplitError(
            f"split by {settings.kind}: too few groups ({kind}) are left for training and validation; {advice}."
        )
    folds = min(max(2, round(1 / settings.validation)), most)
    candidates = (
        ((absent(members, train), absent(members, validation)), validation)
        for count in range(folds, 1, -1)  # fewer, larger parts if a class has too few groups to be in each
        for parts in shuffles(fields, members, kind, count, settings.seed)
        for part in range(parts.max() + 1)
        for validation, train in [sides(fields, kind, parts == part)]
    )
    validation, train = sides(fields, kind, fewest_absent(candidates))
    if not train.any():
        raise SplitError(f"split by {settings.kind}: after one {kind} for validation no field is left to train on.")
    return validation, train


def refuse_leaks(table: pd.DataFrame, settings: SplitSettings) -> None:
    """Raise SplitError if two sets share what ``settings`` keep apart."""
    kind = settings.kind if settings.kind != "given" else "field"
    inner = kind if settings.validate_by == "kind" else settings.validate_by
    treated = table[~is_control(table)]
    apart = [(one, other, kind) for one in SETS[:2] for other in ("test", FRESH)]
    for one, other, rule in [*apart, ("train", "validation", inner)]:
        checks = [(table, GROUPS["well" if rule == "compound" else rule])]
        if rule in ("compound", "compound_batch"):
            checks.append((treated, [COMPOUND]))
        for rows, columns in checks:
            if shared := leaks(rows, columns, [one, other]):
                what = " and ".join(column.removeprefix("Metadata_").lower() for column in columns)
                raise SplitError(f"split {settings.kind}: {one} and {other} share {first_five(shared)} ({what}).")


def refuse_missing(sets: np.ndarray, members: np.ndarray, names: list[str], settings: SplitSettings) -> None:
    """Raise SplitError if a set is empty, or a class has no training or test fields."""

    def without(rows: np.ndarray) -> str:
        return first_five([name for name, count in zip(names, members[rows].sum(axis=0), strict=True) if count == 0])

    if len(names) < 2:
        raise SplitError(f"split {settings.kind}: the table has one class, {names}; at least two are needed.")
    for name in SETS:
        if not (sets == name).any():
            raise SplitError(f"split {settings.kind}: no field is in {name}.")
    if settings.missing_classes == "allow":
        return
    if nowhere := without(np.full(len(sets), True)):
        raise SplitError(f"split {settings.kind}: no field has class {nowhere}; correct the classes.")
    for name in ("train", "test") if settings.kind == "given" else SETS:
        if missing := without(sets == name):
            advice = "Change folds or validate_by, or set missing_classes to allow."
            needs = "each class needs a group of its own in training, validation and test"
            raise SplitError(f"split {settings.kind}: {name} has no field of class {missing}; {needs}. {advice}")


def first_five(names: list[str]) -> str:
    """At most five of ``names``, and how many more there are."""
    return "; ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
