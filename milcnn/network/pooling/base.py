"""The base class of all pooling functions, and what several of them use."""

import math

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Checks and flattens its arguments (see ``pooling``), then calls ``pool``.

    ``start_bias`` is the first bias of the layer that makes the scores: p starts at σ(start_bias). It belongs to the
    pooling: a function that adds evidence over hundreds of instances saturates at once unless every p starts small.
    ``benchmarks/initialisation.py`` has the numbers.
    """

    start_bias = -2.0

    def __init__(self, n_classes: int):
        super().__init__()

    def forward(self, p: Tensor, mask: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        features = p if features is None else features
        if mask is None:
            counts = p.new_ones(1, 1, p[0, 0].numel())
        else:
            if mask.dtype != torch.bool or mask.shape != (len(p), *p.shape[2:]):
                shapes = f"{mask.dtype} {tuple(mask.shape)} for p {tuple(p.shape)}"
                raise ValueError(f"mask: {shapes}; give bool, of the shape of p without its classes.")
            if not mask.flatten(1).any(dim=1).all():
                raise ValueError("mask: a bag has no instance left; leave that bag out.")
            counts = mask.flatten(1).unsqueeze(1).to(p.dtype)  # (B, 1, N) of 0 and 1
            # a masked value may be NaN, and NaN times 0 is NaN
            p, features = (x.masked_fill(~mask.unsqueeze(1), 0) for x in (p, features))
        # rounding may leave [0, 1] by one step, and then the loss takes the logarithm of a negative number
        return self.pool(p.flatten(2), counts, features.flatten(2)).clamp(0, 1)  # of (B, C, N) and (B, D, N)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        """``p`` (B, C, N), ``counts`` (B or 1, 1, N) of 0 and 1, ``features`` (B, D, N) → (B, C)."""
        raise NotImplementedError


def instance_mean(x: Tensor, counts: Tensor) -> Tensor:
    """Mean of ``x`` (B, C, N) over the instances that count → (B, C)."""
    return (x * counts).sum(2) / counts.sum(2)


def below_one(p: Tensor) -> Tensor:
    """``p`` at most one rounding step under 1, so that log(1 − p) and 1 / (1 − p) stay finite."""
    return p.clamp(max=1 - torch.finfo(p.dtype).eps)


def positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}: {value} is not above 0.")
    return float(value)


def logit(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name}: {value} is not between 0 and 1.")
    return math.log(value / (1 - value))
