"""Predictions: what a trained MIL-CNN says of whole fields."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm.auto import tqdm

from milcnn.fields import Prepared
from milcnn.model import MILCNN, Output
from milcnn.pooling import NoisyAnd
from milcnn.screens.columns import LABEL_MARK


def scorer(model: MILCNN) -> MILCNN:
    """A copy of ``model`` for scoring: the same outputs within rounding, in evaluation mode, faster.

    Each batch normalisation is folded into the convolution before it: beside layers of 16 to 64
    channels it would cost as much memory traffic as the convolution itself.
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
    """The outputs of ``model`` for the fields of ``rows``, batch by batch, on its device."""
    device = model.mean.device
    model = scorer(model)
    for start in tqdm(range(0, len(rows), batch_size), desc="predict", unit="batch", leave=False):
        pixels = prepared.pixels(rows.iloc[start : start + batch_size])
        yield model(torch.from_numpy(pixels).to(device))


def predict(model: MILCNN, prepared: Prepared, rows: pd.DataFrame) -> pd.DataFrame:
    """``Metadata_…`` and ``fraction`` of ``rows``, ``predicted``, ``P_<class>`` and ``y_<class>``.

    P is the pooled probability of the class, y its probability behind the class layer. ``predicted`` is
    the class with the largest y; of a multi-label study, those with y above 0.5, as ``A|B``.
    """
    pooled, joint = [], []
    for output in outputs(model, prepared, rows):
        pooled.append(output.bags.cpu())
        joint.append(model.probabilities(output.logits).cpu())
    classes = model.settings.classes
    y = pd.DataFrame(torch.cat(joint).numpy(), columns=[f"y_{name}" for name in classes])
    p = pd.DataFrame(torch.cat(pooled).numpy(), columns=[f"P_{name}" for name in classes])
    if model.settings.multilabel:
        predicted = [LABEL_MARK.join(np.array(classes)[row > 0.5]) for row in y.to_numpy()]
    else:
        predicted = [classes[index] for index in y.to_numpy().argmax(axis=1)]
    told = rows.reset_index(drop=True).filter(regex="^Metadata_|^fraction$")  # where files lie is this machine's alone
    return pd.concat([told.assign(predicted=predicted), p, y], axis=1)


def thresholds(model: MILCNN) -> pd.DataFrame:
    """The threshold ``b`` that Noisy-AND learnt for each ``class``; empty for other poolings."""
    if not isinstance(model.pooling, NoisyAnd):
        return pd.DataFrame({"class": [], "b": []})
    return pd.DataFrame({"class": model.settings.classes, "b": model.pooling.b.detach().cpu().numpy()})
