"""MIL pooling: from the scores of the instances of a bag to the score of the bag.

The formulas of all functions are in probabilities: p = σ(z) of an instance, P = σ(Z) of the bag. They are computed in
scores, because a P that is rounded to 0 or 1 has no logarithm, and a wrong gradient. All are called in the same way,
``pooling(z, mask, features) → Z``:

- ``z`` (B, C, H, W) or (B, C, N): p = σ(z) is the probability that instance j shows class c;
- ``mask`` (B, H, W) or (B, N) bool: true where an instance counts;
- ``features`` (B, D, H, W) or (B, D, N): the features from which z was made. Only attention uses them; without
  them it uses p;
- ``Z`` (B, C): P = σ(Z) is the probability of the bag; float32 or float64, as ``z``.

``paper`` has the functions of Kraus 2016, ``modern`` the others.
"""

from inspect import signature

from milcnn.network.pooling.base import Pooling
from milcnn.network.pooling.modern import Attention, AutoPool, GatedAttention, Power, Quantile, Softmax, TopK
from milcnn.network.pooling.paper import ISR, GeneralizedMean, LogSumExp, Max, Mean, NoisyAnd, NoisyOr

POOLINGS: dict[str, type[Pooling]] = {
    "noisy_and": NoisyAnd, "noisy_or": NoisyOr, "isr": ISR, "generalized_mean": GeneralizedMean,
    "log_sum_exp": LogSumExp, "max": Max, "mean": Mean, "top_k": TopK, "quantile": Quantile, "softmax": Softmax,
    "power": Power, "autopool": AutoPool, "attention": Attention, "gated_attention": GatedAttention,
}  # fmt: skip


def make(name: str, n_classes: int, n_features: int | None = None, **settings: float) -> Pooling:
    """The pooling function ``name`` (a key of ``POOLINGS``) for ``n_classes`` classes.

    ``n_features`` is D of the features for attention; None lets attention use p. ``settings`` are the arguments of
    its class: ``a``, ``b`` (start) and ``learn_a`` of noisy_and; ``r`` of generalized_mean, log_sum_exp, softmax, power
    and autopool (start); ``share`` of top_k; ``q`` (start) of quantile; ``hidden`` of the attentions. Raises
    ValueError for an unknown name or setting, or a value out of range.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling: '{name}' is not one of {', '.join(POOLINGS)}.")
    kind = POOLINGS[name]
    known = signature(kind).parameters.keys() - {"n_classes", "n_features"}
    if unknown := settings.keys() - known:
        takes = f"has {', '.join(sorted(known))}" if known else "has none"
        raise ValueError(f"pooling '{name}' has no setting {', '.join(sorted(unknown))}; it {takes}.")
    if issubclass(kind, Attention):
        return kind(n_classes, n_features or n_classes, **settings)
    return kind(n_classes, **settings)
