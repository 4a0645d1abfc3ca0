"""MIL pooling: from the instance probabilities of a bag to the probability of the bag.

Every function keeps one contract, ``pooling(p, mask, features) → P``:

- ``p`` (B, C, H, W) or (B, C, N), the probability that instance j shows class c;
- ``mask`` (B, H, W) or (B, N) bool, true where an instance counts; a masked one never does;
- ``features`` (B, D, H, W) or (B, D, N), what p was made from; only attention looks at them, and
  without them it looks at p;
- ``P`` (B, C) in [0, 1], in the dtype of ``p``.

Formulas without a source of their own: Kraus, Ba, Frey 2016, doi 10.1093/bioinformatics/btw252,
section 3. J is the number of instances that count, p̄ their mean.
"""

import math
import re
from inspect import signature

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
        p = p.flatten(2)  # (B, C, N)
        if mask is None:
            counts = p.new_ones(1, 1, p.shape[2])
        else:
            counts = mask.flatten(1).unsqueeze(1).to(p.dtype)  # (B, 1, N) of 0 and 1
            if not counts.any(dim=2).all():
                raise ValueError("mask: a bag has no instance left; leave that bag out.")
        # rounding may leave [0, 1] by one step, and the logarithm of the loss does not forgive that
        return self.pool(p, counts, p if features is None else features.flatten(2)).clamp(0, 1)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        """``p`` (B, C, N), ``counts`` (B or 1, 1, N) of 0 and 1, ``features`` (B, D, N) → (B, C)."""
        raise NotImplementedError


def instance_mean(x: Tensor, counts: Tensor) -> Tensor:
    """Mean of ``x`` (B, C, N) over the instances that count → (B, C)."""
    return (x * counts).sum(2) / counts.sum(2)


def below_one(p: Tensor) -> Tensor:
    """``p`` kept one rounding step under 1, so that log(1 − p) and 1 / (1 − p) stay finite."""
    return p.clamp(max=1 - torch.finfo(p.dtype).eps)


class NoisyAnd(Pooling):
    """P = [σ(a(p̄ − b)) − σ(−ab)] / [σ(a(1 − b)) − σ(−ab)], with b in (0, 1) learnt for each class.

    The bag turns positive once the share p̄ of positive instances passes the threshold b; a > 0 is
    the slope there, fixed, or with ``learn_a`` 1 learnt for each class from ``a`` on. b is the
    sigmoid and a learnt a the exponential of a free parameter: neither can leave its range.
    """

    def __init__(self, n_classes: int, a: float = 10.0, b: float = 0.1, learn_a: float = 0):
        super().__init__()
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
    """P = 1 − Π_j (1 − p_j), as −expm1(Σ_j log1p(−p_j)): the product of 576 factors vanishes."""

    start_bias = -5.0

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return -torch.expm1((counts * torch.log1p(-below_one(p))).sum(2))


class ISR(Pooling):
    """Integrated segmentation and recognition: P = S / (1 + S), S = Σ_j p_j / (1 − p_j)."""

    start_bias = -5.0

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        p = below_one(p)
        odds = (counts * p / (1 - p)).sum(2)
        return odds / (1 + odds)


class GeneralizedMean(Pooling):
    """P = ((1/J) Σ_j p_j^r)^(1/r), r > 0: the mean at r = 1, towards the maximum as r grows."""

    def __init__(self, n_classes: int, r: float = 2.5):
        super().__init__()
        self.r = positive("r", r)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        # the root has an infinite slope at 0: a bag of zeros would have no gradient
        p = p.clamp(min=torch.finfo(p.dtype).eps)
        return instance_mean(p**self.r, counts) ** (1 / self.r)


class LogSumExp(Pooling):
    """P = (1/r) log((1/J) Σ_j exp(r p_j)), r > 0: between the mean (r → 0) and the maximum."""

    def __init__(self, n_classes: int, r: float = 5.0):
        super().__init__()
        self.r = positive("r", r)

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        total = torch.logsumexp(self.r * p + counts.log(), dim=2)
        return (total - counts.sum(2).log()) / self.r


class Max(Pooling):
    """P = max_j p_j; the gradient reaches the largest instance alone."""

    start_bias = -4.0

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return (p * counts).amax(2)


class Mean(Pooling):
    """P = p̄ = (1/J) Σ_j p_j."""

    def __init__(self, n_classes: int):
        super().__init__()

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return instance_mean(p, counts)


class TopK(Pooling):
    """P = mean of the k largest p_j, k = max(1, round(share · J)); share in (0, 1].

    A share, not a number, since J grows with the field. share = 1 is the mean.
    """

    def __init__(self, n_classes: int, share: float = 0.1):
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share: {share} is not above 0 and at most 1.")
        self.share = share

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        k = (self.share * counts.sum(2, keepdim=True)).round().clamp(min=1)  # (B or 1, 1, 1)
        rank = torch.arange(p.shape[2], device=p.device)
        largest_first = (p * counts).sort(dim=2, descending=True).values
        return instance_mean(largest_first, (rank < k).to(p.dtype))


class Quantile(Pooling):
    """P = Σ_k B(k; J − 1, q) p_(k), the q-quantile of the p_j, with q in (0, 1) learnt for each class.

    p_(0) ≤ … ≤ p_(J−1) are the sorted probabilities and B(k; n, q) = (n over k) q^k (1 − q)^(n−k)
    the binomial weights: the Bernstein estimate of a quantile (Cheng 1995), smooth in q. At q the bag
    is positive once a share 1 − q of the instances is. After ProMIL, Struski et al. 2023,
    arXiv 2306.10535.
    """

    def __init__(self, n_classes: int, q: float = 0.9):
        super().__init__()
        self.q_logit = nn.Parameter(torch.full((n_classes,), logit("q", q)))

    @property
    def q(self) -> Tensor:
        """The level of each class, (C,), in (0, 1)."""
        return self.q_logit.sigmoid()

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        masked_last = p.masked_fill(counts == 0, 2).sort(dim=2).values.clamp(max=1)
        n = counts.sum(2, keepdim=True).double() - 1  # (B or 1, 1, 1)
        k = torch.arange(p.shape[2], device=p.device)
        inside = k <= n
        k = torch.where(inside, k, 0)
        ways = (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()  # log (n over k)
        odds = self.q_logit.to(p.dtype)[:, None]
        # log B less n·log(1 − q), which the normalisation takes out
        weights = (ways.to(p.dtype) + k * odds).masked_fill(~inside, -math.inf).softmax(dim=2)
        return (weights * masked_last).sum(2)


class Weighted(Pooling):
    """P = Σ_j w_j p_j with w = softmax_j(u_j), and the instance's weight before it, u, from ``logits``."""

    def logits(self, p: Tensor, features: Tensor) -> Tensor:
        """``p`` (B, C, N) and ``features`` (B, D, N) → u (B, C, N)."""
        raise NotImplementedError

    def pool(self, p: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        u = self.logits(p, features).masked_fill(counts == 0, -math.inf)
        return (u.softmax(dim=2) * p).sum(2)


class Softmax(Weighted):
    """u = r p, r > 0 fixed: the mean at r → 0, the maximum at r → ∞ (McFee, Salamon, Bello 2018)."""

    def __init__(self, n_classes: int, r: float = 5.0):
        super().__init__()
        self.r = positive("r", r)

    def logits(self, p: Tensor, features: Tensor) -> Tensor:
        return self.r * p


class Power(Weighted):
    """u = r log p, so w_j ∝ p_j^r, r > 0 fixed; r = 1 is linear softmax pooling (Wang, Li, Metze 2019)."""

    def __init__(self, n_classes: int, r: float = 1.0):
        super().__init__()
        self.r = positive("r", r)

    def logits(self, p: Tensor, features: Tensor) -> Tensor:
        return self.r * p.clamp(min=torch.finfo(p.dtype).eps).log()


class AutoPool(Weighted):
    """u = r p with r learnt for each class (McFee, Salamon, Bello 2018, doi 10.1109/TASLP.2018.2858559)."""

    def __init__(self, n_classes: int, r: float = 1.0):
        super().__init__()
        self.r = nn.Parameter(torch.full((n_classes,), float(r)))

    def logits(self, p: Tensor, features: Tensor) -> Tensor:
        return self.r[:, None] * p


class Attention(Weighted):
    """u_c = v_cᵀ tanh(V h_j + d): one attention a class on the features h_j (Ilse, Tomczak, Welling 2018).

    Theirs pools features; this pools probabilities, so that class maps keep their meaning. ``hidden``
    is the length of V h. v starts at 0: attention starts as the mean.
    """

    def __init__(self, n_classes: int, n_features: int, hidden: float = 64):
        super().__init__()
        self.n_features = n_features
        self.content = nn.Conv1d(n_features, int(positive("hidden", hidden)), 1)
        self.weights = nn.Conv1d(self.content.out_channels, n_classes, 1)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def logits(self, p: Tensor, features: Tensor) -> Tensor:
        if features.shape[1] != self.n_features:
            raise ValueError(
                f"features: {features.shape[1]} an instance; this attention was made for {self.n_features}."
            )
        return self.weights(self.embed(features.to(p.dtype)))

    def embed(self, features: Tensor) -> Tensor:
        return self.content(features).tanh()


class GatedAttention(Attention):
    """u_c = v_cᵀ [tanh(V h_j + d) ⊙ σ(U h_j + e)], else as Attention (Ilse, Tomczak, Welling 2018)."""

    def __init__(self, n_classes: int, n_features: int, hidden: float = 64):
        super().__init__(n_classes, n_features, hidden)
        self.gate = nn.Conv1d(n_features, self.content.out_channels, 1)

    def embed(self, features: Tensor) -> Tensor:
        return super().embed(features) * self.gate(features).sigmoid()


def positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}: {value} is not above 0.")
    return float(value)


def logit(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name}: {value} is not between 0 and 1.")
    return math.log(value / (1 - value))


POOLINGS: dict[str, type[Pooling]] = {
    "noisy_and": NoisyAnd,
    "noisy_or": NoisyOr,
    "isr": ISR,
    "generalized_mean": GeneralizedMean,
    "log_sum_exp": LogSumExp,
    "max": Max,
    "mean": Mean,
    "top_k": TopK,
    "quantile": Quantile,
    "softmax": Softmax,
    "power": Power,
    "autopool": AutoPool,
    "attention": Attention,
    "gated_attention": GatedAttention,
}


def parse(method: str) -> tuple[str, dict[str, float]]:
    """Name and settings of a method: ``noisy_and-a7.5`` → ``("noisy_and", {"a": 7.5})``.

    This is how params.yaml, folders and tables name one setting of a pooling function.
    """
    name, *settings = method.split("-")
    matches = [re.fullmatch(r"([a-z_]+)(\d+\.?\d*)", setting) for setting in settings]
    if not all(matches):
        raise ValueError(f"pooling: '{method}' is not a name with settings, as in noisy_and-a7.5.")
    return name, {m[1]: float(m[2]) for m in matches if m}


def make(name: str, n_classes: int, n_features: int | None = None, **settings: float) -> Pooling:
    """The pooling function ``name`` (a key of ``POOLINGS``) for ``n_classes`` classes.

    ``n_features`` is D of the features that attention will be given; None when it is to look at p.
    ``settings`` are those of its class, by their names there: ``a``, ``b`` (start) and ``learn_a`` of
    noisy_and, ``r`` of generalized_mean, log_sum_exp, softmax, power and autopool (start), ``share`` of
    top_k, ``q`` (start) of quantile, ``hidden`` of the attentions. Raises ValueError for a name, setting
    or value that is none.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling: '{name}' is not one of {', '.join(POOLINGS)}.")
    kind = POOLINGS[name]
    known = signature(kind).parameters.keys() - {"n_classes", "n_features"}
    if unknown := settings.keys() - known:
        takes = f"has {', '.join(sorted(known))}" if known else "has none"
        raise ValueError(f"pooling '{name}' has no setting {', '.join(sorted(unknown))}; it {takes}.")
    features = {"n_features": n_features or n_classes} if issubclass(kind, Attention) else {}
    return kind(n_classes, **features, **settings)
