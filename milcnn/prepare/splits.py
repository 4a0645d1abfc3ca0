"""Splits: which fields may be learnt from, which choose the epoch, which test.

``Metadata_Split`` is train, validation, test, or anything else for fields of none of them.

| kind | what is never shared between the sets |
|---|---|
| given | nothing is dealt: the screen's own ``Metadata_Split`` stays |
| field, well, plate, replicate | a field, a well of a plate, a plate, a ``Metadata_Replicate`` |
| compound | a ``Metadata_Compound`` |
| compound_batch | a ``Metadata_Compound`` and a ``Metadata_Batch`` |

Negative controls (``Metadata_Control``) are no treatment: where compounds are left out, their wells are
dealt instead. Under compound_batch the batches are dealt; fields of the other batches whose compound is
also tested are ``unused``. Fields that the screen keeps out of all sets, and those whose label is no
class, stay out.
"""

from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from milcnn.columns import LABEL, SETS, SPLIT, class_names, labels_of
from milcnn.prepare.folds import COMPOUND, GROUPS, SplitError, absent, best_parts, groups_of, leaks, shuffles, sides
from milcnn.roles import is_control, kept_out
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

UNUSED = "unused"


class SplitSettings(Settings):
    """How the fields are dealt into sets."""

    kind: Literal["given", "field", "well", "plate", "replicate", "compound", "compound_batch"] = "given"
    folds: int = Field(5, ge=2)  # parts that the groups are dealt into, with classes as equal as they can be
    fold: int = Field(0, ge=0)  # the part that tests; the same seed gives the same parts for each
    validation: float = Field(0.2, gt=0, lt=1)  # share of the others that chooses the epoch; more if a class is small
    validate_by: Literal["kind", "well", "field"] = "kind"  # what training and validation don't share
    # allow: a class without training fields is not tested either, and a class without test fields is only trained
    missing_classes: Literal["refuse", "allow"] = "refuse"
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def fold_is_one_of_folds(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is not one of folds 0 to {self.folds - 1}")
        return self


def split_screen(screen: Screen, settings: SplitSettings) -> pd.DataFrame:
    """The fields of ``screen`` with their ``Metadata_Split``; see ``split``."""
    return split(screen.fields, settings, screen.classes, screen.multilabel)


def split(
    fields: pd.DataFrame, settings: SplitSettings, classes: list[str] | None = None, multilabel: bool = False
) -> pd.DataFrame:
    """``fields`` with ``Metadata_Split``, dealt as ``settings`` say; see the head of this module.

    ``classes`` default to the labels that occur. Raises SplitError when a column or value that the
    groups are made of is missing, when there are too few groups, when a group is shared by two sets,
    or when a class is left without training or test fields.
    """
    members = membership(fields, classes, multilabel)
    known = members.any(axis=1)
    sets = np.full(len(fields), UNUSED, dtype=object)
    if settings.kind == "given":
        if SPLIT not in fields:
            raise SplitError(f"split: the screen has no {SPLIT}; choose a kind of {', '.join(GROUPS)}.")
        given = fields[SPLIT].fillna(UNUSED).replace("", UNUSED).to_numpy(object)
        sets = np.where(np.isin(given, SETS) & ~known, UNUSED, given)
    else:
        taking_part = np.flatnonzero(known & ~kept_out(fields))
        sets[taking_part] = assigned_sets(fields.iloc[taking_part], members[taking_part], settings)
    names = classes or class_names(fields, multilabel)
    if settings.missing_classes == "allow":
        trained = members[sets == "train"].any(axis=0)
        sets[np.isin(sets, SETS) & members[:, ~trained].any(axis=1)] = UNUSED
    table = fields.assign(**{SPLIT: sets})
    refuse_leaks(table, settings)
    refuse_missing(sets, members, names, settings)
    return table


def membership(fields: pd.DataFrame, classes: list[str] | None, multilabel: bool) -> np.ndarray:
    """Whether field n carries class c, (N, C) bool."""
    names = classes or class_names(fields, multilabel)
    labels = [set(labels_of(label, multilabel)) for label in fields[LABEL]]
    return np.array([[name in own for name in names] for own in labels], bool).reshape(len(fields), len(names))


def assigned_sets(fields: pd.DataFrame, members: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """The set of each field, (N,) str."""
    parts = best_parts(fields, members, settings.kind, settings.folds, settings.seed)
    test, train = sides(fields, settings.kind, parts == settings.fold)
    sets = np.full(len(fields), UNUSED, dtype=object)
    sets[test] = "test"
    rest = np.flatnonzero(train)
    if len(rest) == 0:
        raise SplitError(f"split by {settings.kind}: no field is left to train on when part {settings.fold} tests.")
    kind = settings.kind if settings.validate_by == "kind" else settings.validate_by
    validation, train = validation_of(fields.iloc[rest], members[rest], kind, settings)
    sets[rest[validation]] = "validation"
    sets[rest[train]] = "train"
    return sets


def validation_of(
    fields: pd.DataFrame, members: np.ndarray, kind: str, settings: SplitSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Validation and training fields, (N,) bool each; no class loses its last training field if that can be."""
    folds = min(max(2, round(1 / settings.validation)), len(np.unique(groups_of(fields, kind))))
    if folds < 2:
        raise SplitError(
            f"split by {settings.kind}: one {kind} is left for training and validation; "
            "lower folds, or set validate_by to well or field."
        )
    best, fewest = None, (np.inf, np.inf)
    # fewer, larger parts where a class has too few groups to be in each
    ways = (parts for count in range(folds, 1, -1) for parts in shuffles(fields, members, kind, count, settings.seed))
    for parts in ways:
        for part in range(parts.max() + 1):
            validation, train = sides(fields, kind, parts == part)
            lost = (int(absent(members, train).sum()), int(absent(members, validation).sum()))
            if lost < fewest and train.any():
                best, fewest = (validation, train), lost
        if fewest == (0, 0):
            break
    if best is None:
        raise SplitError(f"split by {settings.kind}: nothing is left to train on beside a {kind} for validation.")
    return best


def refuse_leaks(table: pd.DataFrame, settings: SplitSettings) -> None:
    """Raise SplitError when two sets share what ``settings`` keep apart."""
    kind = settings.kind if settings.kind != "given" else "field"
    inner = kind if settings.validate_by == "kind" else settings.validate_by
    for other, rule in (("train", kind), ("validation", kind), (None, inner)):
        sets = [other, "test"] if other else ["train", "validation"]
        treatments = table[~is_control(table)]
        checks = [(table, GROUPS[rule])] if rule != "compound" else [(treatments, [COMPOUND]), (table, GROUPS["well"])]
        if rule == "compound_batch":
            checks.append((treatments, [COMPOUND]))
        for rows, columns in checks:
            shared = leaks(rows, columns, sets)
            if shared:
                raise SplitError(
                    f"split {settings.kind}: {' and '.join(sets)} share {few(shared)} "
                    f"({' and '.join(column.removeprefix('Metadata_').lower() for column in columns)})."
                )


def refuse_missing(sets: np.ndarray, members: np.ndarray, names: list[str], settings: SplitSettings) -> None:
    """Raise SplitError when a set is empty, or a class has no training or test fields."""
    if len(names) < 2:
        raise SplitError(f"split {settings.kind}: the table holds one class, {names}; nothing can be told apart.")
    for name in SETS:
        if not (sets == name).any():
            raise SplitError(f"split {settings.kind}: no field is in {name}.")
    if settings.missing_classes == "allow":
        return
    nowhere = [name for name, occurs in zip(names, members.any(axis=0), strict=True) if not occurs]
    if nowhere:
        raise SplitError(f"split {settings.kind}: no field at all is of class {few(nowhere)}; mend the classes.")
    for name in ("train", "test") if settings.kind == "given" else SETS:
        without = [names[index] for index in np.flatnonzero(~members[sets == name].any(axis=0))]
        if without:
            raise SplitError(
                f"split {settings.kind}: {name} has no field of class {few(without)}; each needs a group of its own in "
                "training, validation and test. Change folds or validate_by, or set missing_classes to allow."
            )


def few(names: list[str]) -> str:
    """At most five of ``names``, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "; ".join(names[:5]) + more
