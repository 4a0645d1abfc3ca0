"""What every pooling function shares: the contract of ``milcnn.pooling``, checked and flattened."""

import math

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Base of all pooling functions: checks and flattens, then ``pool``s.

    ``start_bias`` is the bias with which the layer that makes the scores starts: p = σ(start_bias).
    It is a property of the pooling, since a function that adds evidence over hundreds of instances
    saturates at once unless every p starts small; benchmarks/initialisation.py has the numbers.
    """

    start_bias = -2.0

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
            # what is masked may be anything, and NaN times 0 is NaN
            p, features = (x.masked_fill(~mask.unsqueeze(1), 0) for x in (p, features))
        # rounding may leave [0, 1] by one step, and the logarithm of the loss does not forgive that
        return self.pool(p.flatten(2), counts, features.flatten(2)).clamp(0, 1)  # of (B, C, N) and (B, D, N)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        """``p`` (B, C, N), ``counts`` (B or 1, 1, N) of 0 and 1, ``features`` (B, D, N) → (B, C)."""
        raise NotImplementedError


def instance_mean(x: Tensor, counts: Tensor) -> Tensor:
    """Mean of ``x`` (B, C, N) over the instances that count → (B, C)."""
    return (x * counts).sum(2) / counts.sum(2)


def below_one(p: Tensor) -> Tensor:
    """``p`` kept one rounding step under 1, so that log(1 − p) and 1 / (1 − p) stay finite."""
    return p.clamp(max=1 - torch.finfo(p.dtype).eps)


def positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}: {value} is not above 0.")
    return float(value)


def logit(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name}: {value} is not between 0 and 1.")
    return math.log(value / (1 - value))
