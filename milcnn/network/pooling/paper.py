"""The pooling functions of Kraus, Ba, Frey 2016, doi 10.1093/bioinformatics/btw252, section 3.

J is the number of instances that count, p̄ the mean of their p. See ``pooling`` for arguments and shapes.
"""

import math

import torch
from torch import Tensor, nn

from milcnn.network.pooling.base import Pooling, below_one, instance_mean, logit, positive


class NoisyAnd(Pooling):
    """P = [σ(a(p̄ − b)) − σ(−ab)] / [σ(a(1 − b)) − σ(−ab)], with b in (0, 1) learned for each class.

    The bag turns positive once p̄, the share of positive instances, passes the threshold b. The slope there is a > 0:
    fixed, or with ``learn_a`` 1 learned for each class, starting at ``a``. b is the sigmoid, and a learned a the
    exponential, of a free parameter: neither can leave its range.
    """

    def __init__(self, n_classes: int, a: float = 10.0, b: float = 0.1, learn_a: float = 0):
        super().__init__(n_classes)
        self.b_logit = nn.Parameter(torch.full((n_classes,), logit("b", b)))
        self.fixed_a = positive("a", a)
        if learn_a not in (0, 1):
            raise ValueError(f"learn_a: {learn_a} is neither 0 nor 1.")
        self.log_a = nn.Parameter(torch.full((n_classes,), math.log(a))) if learn_a else None

    @property
    def b(self) -> Tensor:
        """The threshold of each class on p̄, (C,), in (0, 1)."""
        return self.b_logit.sigmoid()

    @property
    def a(self) -> Tensor:
        """The slope of each class, (C,), above 0."""
        return torch.full_like(self.b_logit, self.fixed_a) if self.log_a is None else self.log_a.exp()

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        a, b = self.a, self.b
        low, high = torch.sigmoid(-a * b), torch.sigmoid(a * (1 - b))
        return (torch.sigmoid(a * (instance_mean(p, counts) - b)) - low) / (high - low)


class NoisyOr(Pooling):
    """P = 1 − Π_j (1 − p_j), computed as −expm1(Σ_j log1p(−p_j)), since the product of 576 factors vanishes.

    In float32, P rounds to 1 where Σ_j p_j is above 17, and a negative bag then has no gradient. With the start σ(−5)
    this happens above 2,500 instances: train on crops of larger fields.
    """

    start_bias = -5.0

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return -torch.expm1((counts * torch.log1p(-below_one(p))).sum(2))


class ISR(Pooling):
    """Integrated segmentation and recognition: P = S / (1 + S), S = Σ_j p_j / (1 − p_j)."""

    start_bias = -5.0

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        p = below_one(p)
        odds = (counts * p / (1 - p)).sum(2)
        return odds / (1 + odds)


class GeneralizedMean(Pooling):
    """P = ((1/J) Σ_j p_j^r)^(1/r), r > 0: the mean at r = 1, closer to the maximum as r grows."""

    def __init__(self, n_classes: int, r: float = 2.5):
        super().__init__(n_classes)
        self.r = positive("r", r)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        p = p.clamp(min=torch.finfo(p.dtype).eps)  # at 0 the root has an infinite slope, and no gradient
        return instance_mean(p**self.r, counts) ** (1 / self.r)


class LogSumExp(Pooling):
    """P = (1/r) log((1/J) Σ_j exp(r p_j)), r > 0: between the mean (r → 0) and the maximum."""

    def __init__(self, n_classes: int, r: float = 5.0):
        super().__init__(n_classes)
        self.r = positive("r", r)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        total = torch.logsumexp(self.r * p + counts.log(), dim=2)
        return (total - counts.sum(2).log()) / self.r


class Max(Pooling):
    """P = max_j p_j; only the largest instance gets a gradient."""

    start_bias = -4.0

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return (p * counts).amax(2)


class Mean(Pooling):
    """P = p̄ = (1/J) Σ_j p_j."""

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return instance_mean(p, counts)
