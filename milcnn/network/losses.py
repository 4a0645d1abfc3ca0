"""The loss of both heads of a MIL network."""

from torch import Tensor
from torch.nn import functional as F

from milcnn.network.model import Output


def two_headed_loss(output: Output, targets: Tensor) -> Tensor:
    """J = −Σ_i [log p(t_i | P_i) + log p(t_i | y_i)] of each field, (B,) (Kraus 2016, section 3.4).

    The first term is the cross-entropy of the pooled probabilities P (B, C), class by class, made from their scores Z:
    it stays exact where P rounds to 0 or 1. The second is that of softmax(y) for ``targets`` (B,) of class indices; for
    (B, C) float of 0 and 1 that of σ(y), class by class.
    """
    single = targets.ndim == 1
    labels = F.one_hot(targets, output.bags.shape[1]).to(output.bags.dtype) if single else targets
    pooled = F.binary_cross_entropy_with_logits(output.bag_scores, labels, reduction="none").sum(dim=1)
    if single:
        return pooled + F.cross_entropy(output.logits, targets, reduction="none")
    return pooled + F.binary_cross_entropy_with_logits(output.logits, labels, reduction="none").sum(dim=1)
