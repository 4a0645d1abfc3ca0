"""Masks of a class by the threshold rules that were declared in advance, denoised, and how good each is."""

import numpy as np
import pandas as pd
import torch

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.localise.agreement import dice, iou
from milcnn.localise.found import SegmentedFields, maps_of
from milcnn.localise.maps import class_map
from milcnn.localise.masks import Rule, class_denoised, label_threshold, thresholds
from milcnn.network.model import MILCNN
from milcnn.network.predict import outputs
from milcnn.prepare.prepared import Prepared

RULES: tuple[Rule, ...] = ("otsu", "fixed", "validation")


def validation_thresholds(model: MILCNN, prepared: Prepared) -> np.ndarray:
    """``masks.label_threshold`` of each class (C,), from the instances and labels of the validation fields alone.

    ``EMPTY`` for a class that all of them carry, or none.
    """
    rows = prepared.of("validation")
    instances = torch.cat([output.instances for output in outputs(model, prepared, rows)]).flatten(2).cpu().numpy()
    targets, size = prepared.targets(rows), instances.shape[2]
    values = instances.transpose(1, 0, 2).reshape(len(prepared.classes), -1)
    return np.array([label_threshold(own, np.repeat(targets == index, size)) for index, own in enumerate(values)])


def score_rules(model: MILCNN, prepared: Prepared, fields: SegmentedFields) -> pd.DataFrame:
    """The masks of the class map of each of ``fields``, of its own label, by each of ``RULES``; a row a rule and field.

    Columns: the key of the field, its label, ``rule``; ``iou_class`` and ``dice_class`` with the pixels of the objects
    that carry the label (NaN where the truth is not known); ``energy_before`` and ``energy_after`` denoising, in nats,
    ``settled`` and ``iterations``, see ``denoise.Denoised``.
    """
    maps = maps_of(class_map, model, fields, fields.targets)
    chosen = validation_thresholds(model, prepared)[fields.targets]
    truth = prepared.labelled_mask(fields.rows) if prepared.has_truth else None
    tables = []
    for rule in RULES:
        limits = chosen if rule == "validation" else thresholds(maps, rule)
        found = class_denoised(maps, fields.pixels, limits)
        facts = fields.rows[[*FIELD_KEY, LABEL]].reset_index(drop=True).assign(rule=rule)
        pairs = [] if truth is None else list(zip(truth, found.mask.numpy(), strict=True))
        for name, score in (("iou_class", iou), ("dice_class", dice)):
            facts[name] = [score(*pair) for pair in pairs] or np.nan
        facts = facts.assign(energy_before=found.energy_before.numpy(), energy_after=found.energy_after.numpy())
        tables.append(facts.assign(settled=found.settled.numpy(), iterations=found.iterations))
    return pd.concat(tables, ignore_index=True)
