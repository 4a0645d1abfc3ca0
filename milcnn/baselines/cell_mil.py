"""Baselines that learn from bags of segmented cells, as the MIL-CNN learns from bags of map elements."""

import copy
import math
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from milcnn.baselines.cells import Cells, ProfileSettings
from milcnn.baselines.neighbours import Scorer
from milcnn.network import pooling
from milcnn.network.batches import epoch_order, seed_of
from milcnn.network.model import HEAD_START, Output
from milcnn.network.pooling.base import instance_mean
from milcnn.network.train import two_headed_loss

BATCH = 16  # fields


class CellMIL(nn.Module):
    """A hidden layer and a score a cell, then pooling and class layer as in ``model.MILCNN``.

    ``forward`` takes standardised features (B, N, D) float32 and ``mask`` (B, N) bool, true where there
    is a cell, and gives ``model.Output`` with maps (B, C, N); its profiles are the mean hidden features.
    """

    def __init__(self, n_features: int, n_classes: int, hidden: int, name: str):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(0.5))
        self.scores = nn.Linear(hidden, n_classes)
        self.pooling = pooling.make(name, n_classes, hidden)
        self.head = nn.Linear(n_classes, n_classes)
        nn.init.constant_(self.scores.bias, self.pooling.start_bias)
        with torch.no_grad():  # the class layer starts as identity, as the MIL-CNN's
            self.head.weight.copy_(HEAD_START * torch.eye(n_classes))
            self.head.bias.zero_()

    def forward(self, features: Tensor, mask: Tensor) -> Output:
        cells = self.trunk(features)
        scores, hidden = self.scores(cells).transpose(1, 2), cells.transpose(1, 2)
        instances = scores.sigmoid()
        bags = self.pooling(instances, mask, hidden)
        profiles = instance_mean(hidden, mask[:, None].float())
        return Output(scores, instances, bags, self.head(bags), profiles)


def cell_mean(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Two-headed MIL on the cells with mean pooling: every cell weighs the same."""
    return fit_bags(cells, settings, "mean")


def cell_attention(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Two-headed MIL on the cells with gated attention (Ilse, Tomczak, Welling 2018): it learns which weigh."""
    return fit_bags(cells, settings, "gated_attention")


def fit_bags(cells: Cells, settings: ProfileSettings, name: str) -> Scorer:
    """Of the networks of all learning rates the one with the lowest validation loss, see ``trained``."""
    found = [trained(cells, settings, name, rate) for rate in settings.learning_rates]
    return partial(score_bags, min(found, key=lambda one: one[0])[1])


def trained(cells: Cells, settings: ProfileSettings, name: str, rate: float) -> tuple[float, CellMIL]:
    """Train as the MIL-CNN is: two-headed loss, balanced classes, weights of the epoch best on validation.

    Gives the validation loss of that epoch and the network, in evaluation mode.
    """
    torch.manual_seed(settings.seed)
    training, validation = cells.where(cells.split("train")), cells.where(cells.split("validation"))
    network = CellMIL(len(cells.names), len(cells.classes), settings.hidden, name)
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2, fused=True)
    bags, targets = padded(training), torch.from_numpy(training.targets)
    held_out, told = padded(validation), torch.from_numpy(validation.targets)
    best, weights = math.inf, network.state_dict()
    for epoch in range(1, settings.epochs + 1):
        generator = torch.Generator().manual_seed(seed_of(settings.seed, epoch))
        order = epoch_order(targets, len(targets), True, generator)
        train_epoch(network, optimiser, bags, targets, order)
        loss = mean_loss(network, held_out, told)
        if loss < best:
            best, weights = loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    return best, network.eval()


def train_epoch(
    network: CellMIL, optimiser: torch.optim.Optimizer, bags: tuple[Tensor, Tensor], targets: Tensor, order: Tensor
) -> None:
    """One pass over ``bags``, features (N, J, D) and mask (N, J), in ``order``."""
    network.train()
    features, mask = bags
    for batch in order.split(BATCH):
        longest = int(mask[batch].sum(dim=1).max())  # what is behind it is padding of all fields of the batch
        output = network(features[batch, :longest], mask[batch, :longest])
        optimiser.zero_grad()
        two_headed_loss(output, targets[batch]).mean().backward()
        optimiser.step()


@torch.inference_mode()
def mean_loss(network: CellMIL, bags: tuple[Tensor, Tensor], targets: Tensor) -> float:
    """Mean two-headed loss over all of ``bags``, as ``train_epoch``, in evaluation mode."""
    return two_headed_loss(network.eval()(*bags), targets).mean().item()


@torch.inference_mode()
def score_bags(network: CellMIL, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C), and the hidden features averaged over the cells of each field (N, hidden) as profile."""
    output = network(*padded(cells))
    return output.logits.double().softmax(1).numpy(), output.profiles.numpy()


def padded(cells: Cells) -> tuple[Tensor, Tensor]:
    """Features (N, J, D) float32 and mask (N, J) bool of fields that all have cells; J is the most of one field."""
    order = np.argsort(cells.field, kind="stable")
    ends = np.cumsum(cells.counts)
    slot = np.arange(len(order)) - np.repeat(ends - cells.counts, cells.counts)
    shape = (len(cells.fields), int(cells.counts.max()))
    features = torch.zeros(*shape, len(cells.names))
    mask = torch.zeros(shape, dtype=torch.bool)
    field = cells.field[order]
    features[field, slot] = torch.from_numpy(cells.features[order])
    mask[field, slot] = True
    return features, mask
