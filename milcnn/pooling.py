"""MIL pooling: from the instance probabilities of a bag to the probability of the bag.

Every function keeps one contract: ``p`` ``(B, C, H, W)`` or ``(B, C, N)``, the probability that
instance j shows class c, and an optional boolean ``mask`` ``(B, H, W)`` or ``(B, N)`` that is true
where an instance counts; the result ``P`` is ``(B, C)`` in [0, 1], in the dtype of ``p``. A masked
instance never counts. Formulas: Kraus, Ba, Frey 2016, doi 10.1093/bioinformatics/btw252, section 3,
where the original of each function is cited; J is the number of instances, p̄ their mean.
"""

import math
import re

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Base of all pooling functions: checks and flattens, then ``pool``s.

    ``start_bias`` is the bias with which the layer that makes the scores starts: p = σ(start_bias).
    It is a property of the pooling, since a function that adds evidence over hundreds of instances
    saturates at once unless every p starts small.
    """

    start_bias = -2.0

    def forward(self, p: Tensor, mask: Tensor | None = None) -> Tensor:
        p = p.flatten(2)  # (B, C, N)
        if mask is None:
            counts = p.new_ones(1, 1, p.shape[2])
        else:
            counts = mask.flatten(1).unsqueeze(1).to(p.dtype)  # (B, 1, N) of 0 and 1
            if not counts.any(dim=2).all():
                raise ValueError("mask: a bag has no instance left; leave that bag out.")
        # rounding may leave [0, 1] by one step, and the logarithm of the loss does not forgive that
        return self.pool(p, counts).clamp(0, 1)

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        """``p`` (B, C, N) and ``counts`` (B or 1, 1, N) of 0 and 1 → (B, C)."""
        raise NotImplementedError


def instance_mean(x: Tensor, counts: Tensor) -> Tensor:
    """Mean of ``x`` (B, C, N) over the instances that count → (B, C)."""
    return (x * counts).sum(2) / counts.sum(2)


def below_one(p: Tensor) -> Tensor:
    """``p`` kept one rounding step under 1, so that log(1 − p) and 1 / (1 − p) stay finite."""
    return p.clamp(max=1 - torch.finfo(p.dtype).eps)


class NoisyAnd(Pooling):
    """P = [σ(a(p̄ − b)) − σ(−ab)] / [σ(a(1 − b)) − σ(−ab)], with b in (0, 1) learnt for each class.

    The bag turns positive once the share p̄ of positive instances passes the threshold b; ``a`` > 0
    is the slope there. b is the sigmoid of a free parameter, so it cannot leave (0, 1).
    """

    def __init__(self, n_classes: int, a: float = 10.0, b: float = 0.1):
        super().__init__()
        if not a > 0:
            raise ValueError(f"a: {a} is not above 0.")
        if not 0 < b < 1:
            raise ValueError(f"b: {b} is not between 0 and 1.")
        self.a = float(a)
        self.b_logit = nn.Parameter(torch.full((n_classes,), math.log(b / (1 - b))))

    @property
    def b(self) -> Tensor:
        """The threshold of each class on p̄, (C,), in (0, 1)."""
        return self.b_logit.sigmoid()

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        b = self.b
        low, high = torch.sigmoid(-self.a * b), torch.sigmoid(self.a * (1 - b))
        return (torch.sigmoid(self.a * (instance_mean(p, counts) - b)) - low) / (high - low)


class NoisyOr(Pooling):
    """P = 1 − Π_j (1 − p_j), as −expm1(Σ_j log1p(−p_j)): the product of 576 factors vanishes."""

    start_bias = -5.0

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        return -torch.expm1((counts * torch.log1p(-below_one(p))).sum(2))


class ISR(Pooling):
    """Integrated segmentation and recognition: P = S / (1 + S), S = Σ_j p_j / (1 − p_j)."""

    start_bias = -5.0

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        p = below_one(p)
        odds = (counts * p / (1 - p)).sum(2)
        return odds / (1 + odds)


class GeneralizedMean(Pooling):
    """P = ((1/J) Σ_j p_j^r)^(1/r), r > 0: the mean at r = 1, towards the maximum as r grows."""

    def __init__(self, n_classes: int, r: float = 2.5):
        super().__init__()
        self.r = positive("r", r)

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        # the root has an infinite slope at 0: a bag of zeros would have no gradient
        p = p.clamp(min=torch.finfo(p.dtype).eps)
        return instance_mean(p**self.r, counts) ** (1 / self.r)


class LogSumExp(Pooling):
    """P = (1/r) log((1/J) Σ_j exp(r p_j)), r > 0: between the mean (r → 0) and the maximum."""

    def __init__(self, n_classes: int, r: float = 5.0):
        super().__init__()
        self.r = positive("r", r)

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        total = torch.logsumexp(self.r * p + counts.log(), dim=2)
        return (total - counts.sum(2).log()) / self.r


class Max(Pooling):
    """P = max_j p_j; the gradient reaches the largest instance alone."""

    start_bias = -4.0

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        return (p * counts).amax(2)


class Mean(Pooling):
    """P = p̄ = (1/J) Σ_j p_j."""

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor) -> Tensor:
        return instance_mean(p, counts)


def positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}: {value} is not above 0.")
    return float(value)


POOLINGS: dict[str, type[Pooling]] = {
    "noisy_and": NoisyAnd,
    "noisy_or": NoisyOr,
    "isr": ISR,
    "generalized_mean": GeneralizedMean,
    "log_sum_exp": LogSumExp,
    "max": Max,
    "mean": Mean,
}


def parse(method: str) -> tuple[str, dict[str, float]]:
    """Name and settings of a method: ``noisy_and-a7.5`` → ``("noisy_and", {"a": 7.5})``.

    This is how params.yaml, folders and tables name one setting of a pooling function.
    """
    name, *settings = method.split("-")
    matches = [re.fullmatch(r"([a-z]+)(\d+\.?\d*)", setting) for setting in settings]
    if not all(matches):
        raise ValueError(f"pooling: '{method}' is not a name with settings, as in noisy_and-a7.5.")
    return name, {m[1]: float(m[2]) for m in matches if m}


def make(name: str, n_classes: int, **settings: float) -> Pooling:
    """The pooling function ``name`` (a key of ``POOLINGS``) for ``n_classes`` classes.

    ``settings`` are those of its class: ``a`` and ``b`` (start) of noisy_and, ``r`` of
    generalized_mean and log_sum_exp. Raises ValueError for a name, setting or value that is none.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling: '{name}' is not one of {', '.join(POOLINGS)}.")
    try:
        return POOLINGS[name](n_classes, **settings)
    except TypeError:
        raise ValueError(f"pooling '{name}' has no setting among {sorted(settings)}.") from None
