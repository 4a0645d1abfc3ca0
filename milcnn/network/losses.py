"""The loss of both heads of a MIL network."""

from torch import Tensor
from torch.nn import functional as F

from milcnn.network.model import Output


def two_headed_loss(output: Output, targets: Tensor) -> Tensor:
    """J = −Σ_i [log p(t_i | P_i) + log p(t_i | y_i)] of each field, (B,) (Kraus 2016, section 3.4).

    The first term is the cross-entropy of the pooled probabilities P (B, C), class by class, made from their scores Z:
    it stays exact where P rounds to 0 or 1. The second is that of softmax(y) for ``targets`` (B,) of class indices; for
    (B, C) float of 0 and 1 that of σ(y), class by class.

    A class that is NaN in ``targets`` (B, C) is not known and adds nothing: the sum is over the known classes, the
    likelihood of what is known, so every known label weighs the same in whatever field it is.
    """
    single = targets.ndim == 1
    labels = F.one_hot(targets, output.bags.shape[1]).to(output.bags.dtype) if single else targets
    pooled = known_cross_entropy(output.bag_scores, labels)
    if single:
        return pooled + F.cross_entropy(output.logits, targets, reduction="none")
    return pooled + known_cross_entropy(output.logits, labels)


def known_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of σ(``scores``), summed over the classes whose ``labels`` (B, C) are not NaN, (B,)."""
    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(scores, labels.where(known, 0), reduction="none")
    return losses.where(known, 0).sum(dim=1)
