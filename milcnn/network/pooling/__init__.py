"""MIL pooling: from the instance probabilities of a bag to the probability of the bag.

Every function keeps one contract, ``pooling(p, mask, features) → P``:

- ``p`` (B, C, H, W) or (B, C, N), the probability that instance j shows class c;
- ``mask`` (B, H, W) or (B, N) bool, true where an instance counts; a masked one never does;
- ``features`` (B, D, H, W) or (B, D, N), what p was made from; only attention looks at them, and
  without them it looks at p;
- ``P`` (B, C) in [0, 1]; ``p`` is float32 or float64, and so is P.

``paper`` holds those of Kraus 2016, ``modern`` those that came later.
"""

from inspect import signature

from milcnn.network.pooling.base import Pooling
from milcnn.network.pooling.modern import Attention, AutoPool, GatedAttention, Power, Quantile, Softmax, TopK
from milcnn.network.pooling.paper import ISR, GeneralizedMean, LogSumExp, Max, Mean, NoisyAnd, NoisyOr

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
