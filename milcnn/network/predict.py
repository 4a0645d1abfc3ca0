"""Predictions of a trained MIL-CNN for whole fields."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm.auto import tqdm

from milcnn.columns import PLATE, SPLIT
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, Net, Output, moved
from milcnn.network.pooling import NoisyAnd
from milcnn.network.predictions import prediction_table, profile_table
from milcnn.prepare.prepared import Prepared
from milcnn.roles import is_control, plate_references, reference_fields

Changes = dict[str, tuple[np.ndarray, np.ndarray]]  # by plate: gain and offset of each channel, (C, 1, 1) each


def inference_copy(model: Net) -> Net:
    """A copy of ``model`` for scoring: in evaluation mode, faster, with the same outputs within rounding.

    Each batch normalisation of the paper's trunk is folded into the convolution before it: with 16 to 64 channels it
    would cost as much memory traffic as the convolution. Of the residual trunk only the first is folded.
    """
    model = copy.deepcopy(model).eval()
    for index, (layer, after) in enumerate(pairwise(list(model.trunk))):
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            model.trunk[index], model.trunk[index + 1] = fuse_conv_bn_eval(layer, after), nn.Identity()
    return moved(model, next(model.parameters()).device, torch.channels_last)


def plate_changes(prepared: Prepared) -> Changes:
    """The gain and the offset that make the controls of a plate without training fields as bright as those of training.

    x′ = (x − m) s₀ / s + m₀, a channel at a time: m and s are mean and standard deviation over the pixels of the
    plate's ``plate_references``; m₀ and s₀ are those of the training controls of a plate, averaged over the plates. The
    look of plates with training fields was learnt: they have no entry, nor have plates without references.
    """
    fields = prepared.fields
    references, normal = fields[plate_references(fields)], fields[reference_fields(fields) & is_control(fields)]
    if normal.empty:
        return {}
    levels = [prepared.channel_levels(own) for _, own in normal.groupby(PLATE)]
    to_mean, to_std = np.mean(levels, axis=0)
    changes = {}
    for plate, own in references[~references[PLATE].isin(fields.loc[fields[SPLIT] == "train", PLATE])].groupby(PLATE):
        mean, std = prepared.channel_levels(own)
        gain = to_std / std
        changes[str(plate)] = tuple(part.astype(np.float32)[:, None, None] for part in (gain, to_mean - mean * gain))
    return changes


def changed(pixels: np.ndarray, plates: pd.Series, changes: Changes) -> np.ndarray:
    """``pixels`` (B, C, H, W) of fields on ``plates`` (B,), each with the change of its plate, if it has one."""
    if not changes:
        return pixels
    unchanged = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
    pairs = (changes.get(str(plate), unchanged) for plate in plates)
    return np.stack([field * gain + offset for field, (gain, offset) in zip(pixels, pairs, strict=True)])


@torch.inference_mode()
def outputs(
    model: MILCNN, prepared: Prepared, rows: pd.DataFrame, batch_size: int = 16, changes: Changes | None = None
) -> Iterator[Output]:
    """Outputs of ``model`` for the fields of ``rows``, a batch at a time, on its device; convolutions in bf16 on CUDA.

    The fields are ``changed`` by ``changes``. Raises ValueError when the study has other channels or classes than the
    network.
    """
    for name in ("channels", "classes"):
        if (own := getattr(model.settings, name)) != (theirs := getattr(prepared, name)):
            raise ValueError(f"{prepared.folder}: {name} {theirs} are not those of the network, {own}; train it again.")
    keep_freed_memory()
    device = model.mean.device
    model = inference_copy(model)
    for start in tqdm(range(0, len(rows), batch_size), desc="predict", unit="batch", leave=False):
        batch = rows.iloc[start : start + batch_size]
        pixels = changed(prepared.pixels(batch), batch[PLATE], changes or {})
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = model(torch.from_numpy(pixels).to(device))
        yield output


def predict_fields(
    model: MILCNN, prepared: Prepared, rows: pd.DataFrame, changes: Changes | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ``model`` predicts for the fields of ``rows``, and their profiles: two tables, a row a field.

    The first is a ``prediction_table`` with, for every class, the pooled probability ``P_<class>``; the probability
    after the class layer ``y_<class>``; and p̄ as ``p_<class>``, the mean of the instance probabilities. The second has
    the key of the field and ``feature_0000`` … (float32), the last features of the trunk averaged over the instances.
    """
    parts = [
        (output.bags, model.probabilities(output.logits), output.instances.mean(dim=(2, 3)), output.profiles)
        for output in outputs(model, prepared, rows, changes=changes)
    ]
    P, y, p, profiles = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    own = model.settings
    return prediction_table(rows, own.classes, own.multilabel, P=P, y=y, p=p), profile_table(rows, profiles)


def learned_b(model: MILCNN) -> pd.DataFrame:
    """The threshold ``b`` that Noisy-AND learned for each ``class``; empty for other poolings."""
    if not isinstance(model.pooling, NoisyAnd):
        return pd.DataFrame({"class": [], "b": []})
    return pd.DataFrame({"class": model.settings.classes, "b": model.pooling.b.detach().cpu().numpy()})
