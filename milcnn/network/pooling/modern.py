"""Pooling functions that are newer than the paper, or common elsewhere; each names its source."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milcnn.network.pooling.base import LIMIT, Pooling, logit, positive, score_of_mean


class TopK(Pooling):
    """P = mean of the k largest p_j, k = max(1, round(share · J)); share in (0, 1].

    A share, not a number, because J grows with the field. share = 1 is the mean. Similar to k-max pooling (Durand,
    Thome, Cord 2016, WELDON, doi 10.1109/CVPR.2016.513).
    """

    def __init__(self, n_classes: int, share: float = 0.1):
        super().__init__(n_classes)
        if not 0 < share <= 1:
            raise ValueError(f"share: {share} is not above 0 and at most 1.")
        self.share = share

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        k = (self.share * counts.sum(2, keepdim=True)).round().clamp(min=1)  # (B or 1, 1, 1)
        rank = torch.arange(z.shape[2], device=z.device)
        largest_first = z.masked_fill(counts == 0, -LIMIT).sort(dim=2, descending=True).values
        return score_of_mean(largest_first, (rank < k).to(z.dtype).log())


class Quantile(Pooling):
    """P = Σ_k B(k; J − 1, q) p_(k), the q-quantile of the p_j, with q in (0, 1) learned for each class.

    p_(0) ≤ … ≤ p_(J−1) are the sorted probabilities, B(k; n, q) = (n over k) q^k (1 − q)^(n−k) the binomial weights:
    the Bernstein estimate of a quantile (Cheng 1995), smooth in q. The bag is positive once a share 1 − q of the
    instances is. Similar to ProMIL (Struski et al. 2023, arXiv 2306.10535).
    """

    def __init__(self, n_classes: int, q: float = 0.9):
        super().__init__(n_classes)
        self.q_logit = nn.Parameter(torch.full((n_classes,), logit("q", q)))

    @property
    def q(self) -> Tensor:
        """The level of each class, (C,), in (0, 1)."""
        return self.q_logit.sigmoid()

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        masked_last = z.masked_fill(counts == 0, LIMIT).sort(dim=2).values
        n = counts.sum(2, keepdim=True).cpu().double() - 1  # (B or 1, 1, 1); on the CPU, as MPS has no float64
        k = torch.arange(z.shape[2])
        inside = k <= n
        k = torch.where(inside, k, 0)
        ways = (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()  # log (n over k)
        # log B without n·log(1 − q), which softmax cancels
        log_weights = ways.to(z.dtype).to(z.device) + k.to(z) * self.q_logit.to(z.dtype)[:, None]
        return score_of_mean(masked_last, log_weights.masked_fill(~inside.to(z.device), -math.inf))


class Weighted(Pooling):
    """P = Σ_j w_j p_j with w = softmax_j(u_j), where ``logits`` gives u."""

    def logits(self, z: Tensor, features: Tensor) -> Tensor:
        """``z`` (B, C, N) and ``features`` (B, D, N) → u (B, C, N)."""
        raise NotImplementedError

    def pool(self, z: Tensor, counts: Tensor, features: Tensor) -> Tensor:
        return score_of_mean(z, self.logits(z, features).masked_fill(counts == 0, -math.inf))


class Softmax(Weighted):
    """u = r p, r > 0 fixed: the mean at r → 0, the maximum at r → ∞ (McFee, Salamon, Bello 2018)."""

    def __init__(self, n_classes: int, r: float = 5.0):
        super().__init__(n_classes)
        self.r = positive("r", r)

    def logits(self, z: Tensor, features: Tensor) -> Tensor:
        return self.r * z.sigmoid()


class Power(Weighted):
    """u = r log p, so w_j ∝ p_j^r, r > 0 fixed; r = 1 is linear softmax pooling (Wang, Li, Metze 2019)."""

    def __init__(self, n_classes: int, r: float = 1.0):
        super().__init__(n_classes)
        self.r = positive("r", r)

    def logits(self, z: Tensor, features: Tensor) -> Tensor:
        return self.r * F.logsigmoid(z)


class AutoPool(Weighted):
    """u = r p with r learned for each class (McFee, Salamon, Bello 2018, doi 10.1109/TASLP.2018.2858559)."""

    def __init__(self, n_classes: int, r: float = 1.0):
        super().__init__(n_classes)
        self.r = nn.Parameter(torch.full((n_classes,), float(r)))

    def logits(self, z: Tensor, features: Tensor) -> Tensor:
        return self.r[:, None] * z.sigmoid()


class Attention(Weighted):
    """u_c = v_cᵀ tanh(V h_j + d): one attention a class on the features h_j (Ilse, Tomczak, Welling 2018).

    The paper pools features; this pools probabilities, so that class maps keep their meaning. ``hidden`` is the length
    of V h. v starts at 0, so attention starts as the mean.
    """

    def __init__(self, n_classes: int, n_features: int, hidden: float = 64):
        super().__init__(n_classes)
        self.n_features = n_features
        self.content = nn.Linear(n_features, int(positive("hidden", hidden)))
        self.weights = nn.Linear(self.content.out_features, n_classes)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def logits(self, z: Tensor, features: Tensor) -> Tensor:
        if features.shape[1] != self.n_features:
            raise ValueError(f"features: {features.shape[1]} an instance; this attention needs {self.n_features}.")
        return self.weights(self.embed(features.to(z.dtype).transpose(1, 2))).transpose(1, 2)

    def embed(self, features: Tensor) -> Tensor:
        return self.content(features).tanh()


class GatedAttention(Attention):
    """u_c = v_cᵀ [tanh(V h_j + d) ⊙ σ(U h_j + e)], otherwise as Attention (Ilse, Tomczak, Welling 2018)."""

    def __init__(self, n_classes: int, n_features: int, hidden: float = 64):
        super().__init__(n_classes, n_features, hidden)
        self.gate = nn.Linear(n_features, self.content.out_features)

    def embed(self, features: Tensor) -> Tensor:
        return super().embed(features) * self.gate(features).sigmoid()
