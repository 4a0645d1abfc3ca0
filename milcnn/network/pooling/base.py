"""The base class of all pooling functions, and what several of them use."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 60.0  # largest |z|; σ(−60) is 1e-26, well inside float32


class Pooling(nn.Module):
    """Checks and flattens its arguments (see ``pooling``), then calls ``pool``.

    ``start_bias`` is the first bias of the layer that makes the scores: p starts at σ(start_bias). It belongs to the
    pooling: a function that adds evidence over hundreds of instances saturates at once unless every p starts small.
    ``benchmarks/initialisation.py`` has the numbers.
    """

    start_bias = -2.0

    def __init__(self, n_classes: int):
        super().__init__()

    def forward(self, z: Tensor, mask: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        z = z.clamp(-LIMIT, LIMIT)
        features = z.sigmoid() if features is None else features
        if mask is None:
            counts = z.new_ones(1, 1, z[0, 0].numel())
        else:
            if mask.dtype != torch.bool or mask.shape != (len(z), *z.shape[2:]):
                shapes = f"{mask.dtype} {tuple(mask.shape)} for z {tuple(z.shape)}"
                raise ValueError(f"mask: {shapes}; give bool, of the shape of z without its classes.")
            if not mask.flatten(1).any(dim=1).all():
                raise ValueError("mask: a bag has no instance left; leave that bag out.")
            counts = mask.flatten(1).unsqueeze(1).to(z.dtype)  # (B, 1, N) of 0 and 1
            # a masked value may be NaN, and NaN times 0 is NaN
            z, features = (x.masked_fill(~mask.unsqueeze(1), 0) for x in (z, features))
        return self.pool(z.flatten(2), counts, features.flatten(2))  # of (B, C, N) and (B, D, N)

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        """``z`` (B, C, N), ``counts`` (B or 1, 1, N) of 0 and 1, ``features`` (B, D, N) → Z (B, C)."""
        raise NotImplementedError


def instance_mean(x: Tensor, counts: Tensor) -> Tensor:
    """Mean of ``x`` (B, C, N) over the instances that count → (B, C)."""
    return (x * counts).sum(2) / counts.sum(2)


def log_mean_exp(x: Tensor, counts: Tensor) -> Tensor:
    """log of the mean of exp(``x``) (B, C, N) over the instances that count → (B, C); exact also where all are near 0.

    ``logsumexp`` less log J is not: its rounding error is 1e-7, more than the logarithm of a P near 1.
    """
    largest = x.detach().masked_fill(counts == 0, -math.inf).amax(2, keepdim=True)
    below = (x - largest).clamp(max=0)  # the clamp is for instances that do not count
    return largest[:, :, 0] + instance_mean(below.expm1(), counts).log1p()


def score_of_mean(z: Tensor, log_weights: Tensor) -> Tensor:
    """Z of P = Σ_j w_j p_j, with w = softmax_j of ``log_weights`` (B or 1, C or 1, N) → (B, C)."""
    log_weights = log_weights.log_softmax(dim=2)
    return (log_weights + F.logsigmoid(z)).logsumexp(2) - (log_weights + F.logsigmoid(-z)).logsumexp(2)


def positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}: {value} is not above 0.")
    return float(value)


def logit(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name}: {value} is not between 0 and 1.")
    return math.log(value / (1 - value))
