"""Predictions: what a trained MIL-CNN says of whole fields."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import pandas as pd
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm.auto import tqdm

from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, Output
from milcnn.network.pooling import NoisyAnd
from milcnn.network.predictions import prediction_table, profile_table
from milcnn.prepare.prepared import Prepared


def inference_copy(model: MILCNN) -> MILCNN:
    """A copy of ``model`` for scoring: the same outputs within rounding, in evaluation mode, faster.

    Each batch normalisation of the paper's trunk is folded into the convolution before it: beside layers of 16
    to 64 channels it would cost as much memory traffic as the convolution itself. (Of the residual trunk the first.)
    """
    model = copy.deepcopy(model).eval()
    layers = list(model.trunk)
    for index, (layer, after) in enumerate(pairwise(layers)):
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            model.trunk[index] = fuse_conv_bn_eval(layer, after)
            model.trunk[index + 1] = nn.Identity()
    return model.to(memory_format=torch.channels_last)


@torch.inference_mode()
def outputs(model: MILCNN, prepared: Prepared, rows: pd.DataFrame, batch_size: int = 16) -> Iterator[Output]:
    """The outputs of ``model`` for the fields of ``rows``, batch by batch, on its device; convolutions in bf16 on CUDA.

    Raises ValueError when the study has other channels or classes than the network.
    """
    for name in ("channels", "classes"):
        if (own := getattr(model.settings, name)) != (theirs := getattr(prepared, name)):
            raise ValueError(f"{prepared.folder}: {name} {theirs} are not those of the network, {own}; train it again.")
    keep_freed_memory()
    device = model.mean.device
    model = inference_copy(model)
    for start in tqdm(range(0, len(rows), batch_size), desc="predict", unit="batch", leave=False):
        pixels = prepared.pixels(rows.iloc[start : start + batch_size])
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = model(torch.from_numpy(pixels).to(device))
        yield output


def predict_fields(model: MILCNN, prepared: Prepared, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ``model`` says of the fields of ``rows``, and their profiles: two tables of one row a field.

    The first has what is known of the field (``TOLD``), ``predicted``, and for every class
    ``P_<class>``, its pooled probability; ``y_<class>``, its probability behind the class layer;
    ``p_<class>``, p̄, the mean of its instance probabilities. ``predicted`` is the class with the largest
    y; of a multi-label study, those with y above 0.5, as ``A|B``. The second has the key of the field
    and ``feature_0000`` … (float32), the last features of the trunk averaged over the instances.
    """
    found = [
        (output.bags, model.probabilities(output.logits), output.instances.mean(dim=(2, 3)), output.profiles)
        for output in outputs(model, prepared, rows)
    ]
    pooled, joint, means, profiles = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    own = model.settings
    table = prediction_table(rows, own.classes, own.multilabel, P=pooled, y=joint, p=means)
    return table, profile_table(rows, profiles)


def learned_b(model: MILCNN) -> pd.DataFrame:
    """The threshold ``b`` that Noisy-AND learnt for each ``class``; empty for other poolings."""
    if not isinstance(model.pooling, NoisyAnd):
        return pd.DataFrame({"class": [], "b": []})
    return pd.DataFrame({"class": model.settings.classes, "b": model.pooling.b.detach().cpu().numpy()})
