"""The pooling functions of Kraus, Ba, Frey 2016, doi 10.1093/bioinformatics/btw252, section 3.

J is the number of instances that count, p̄ the mean of their p, q̄ that of q = 1 − p = σ(−z). Z = log P − log(1 − P).
See ``pooling`` for arguments and shapes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milcnn.network.pooling.base import Pooling, instance_mean, log_mean_exp, logit, positive, score_of_mean


class NoisyAnd(Pooling):
    """P = [σ(a(p̄ − b)) − σ(−ab)] / [σ(a(1 − b)) − σ(−ab)], with b in (0, 1) learned for each class.

    The bag turns positive once p̄, the share of positive instances, passes the threshold b. The slope there is a > 0:
    fixed, or with ``learn_a`` 1 learned for each class, starting at ``a``. b is the sigmoid, and a learned a the
    exponential, of a free parameter: neither can leave its range.

    σ(x) − σ(y) = σ(x) σ(−y) (1 − exp(y − x)) turns the differences into products, which lose no digits at small p̄:
    P ∝ σ(a(p̄ − b)) (1 − exp(−a p̄)) / σ(a(1 − b)), and 1 − P ∝ σ(a(b − p̄)) (1 − exp(−a q̄)) / σ(ab).
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

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        a, b = self.a, self.b
        p_mean, q_mean = instance_mean(z.sigmoid(), counts), instance_mean((-z).sigmoid(), counts)
        ends = (-(-a * p_mean).expm1()).log() - (-(-a * q_mean).expm1()).log()
        return a * (p_mean - b) + ends + F.logsigmoid(a * b) - F.logsigmoid(a * (1 - b))


class NoisyOr(Pooling):
    """P = 1 − Π_j (1 − p_j). The product of 576 factors vanishes, so their logarithms are added."""

    start_bias = -5.0

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        evidence = -(counts * F.logsigmoid(-z)).sum(2)  # −log(1 − P)
        return evidence + (-(-evidence).expm1()).log()


class ISR(Pooling):
    """Integrated segmentation and recognition: P = S / (1 + S), S = Σ_j p_j / (1 − p_j) = Σ_j exp(z_j)."""

    start_bias = -5.0

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return (z + counts.log()).logsumexp(2)


class GeneralizedMean(Pooling):
    """P = ((1/J) Σ_j p_j^r)^(1/r), r > 0: the mean at r = 1, closer to the maximum as r grows."""

    def __init__(self, n_classes: int, r: float = 2.5):
        super().__init__(n_classes)
        self.r = positive("r", r)

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        log_P = log_mean_exp(self.r * F.logsigmoid(z), counts) / self.r
        return log_P - (-log_P.expm1()).log()


class LogSumExp(Pooling):
    """P = (1/r) log((1/J) Σ_j exp(r p_j)), r > 0: between the mean (r → 0) and the maximum."""

    def __init__(self, n_classes: int, r: float = 5.0):
        super().__init__(n_classes)
        self.r = positive("r", r)

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        P = log_mean_exp(self.r * z.sigmoid(), counts) / self.r
        Q = -log_mean_exp(-self.r * (-z).sigmoid(), counts) / self.r  # 1 − P
        return P.log() - Q.log()


class Max(Pooling):
    """P = max_j p_j; only the largest instance gets a gradient."""

    start_bias = -4.0

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return z.masked_fill(counts == 0, -math.inf).amax(2)


class Mean(Pooling):
    """P = p̄ = (1/J) Σ_j p_j."""

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return score_of_mean(z, counts.log())
