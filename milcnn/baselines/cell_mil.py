"""Baselines that learn from a field's measured cells, as the MIL-CNN learns from its instances."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from milcnn.baselines.cells import Cells, ProfileSettings
from milcnn.baselines.neighbours import Scorer
from milcnn.network import pooling
from milcnn.network.batches import FieldBatches
from milcnn.network.model import MILNetwork, Output
from milcnn.network.train import TrainSettings, fit, open_accelerator, open_run


class CellMIL(MILNetwork):
    """A hidden layer and a score for each cell, then pooling and class layer as in the MIL-CNN.

    ``forward`` takes standardised features (B, N, D) float32, NaN after the last cell of a field (see ``padded``). Its
    maps are (B, C, N), its profiles the mean hidden features.
    """

    def __init__(self, n_features: int, n_classes: int, hidden: int, name: str):
        trunk = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(0.5))
        super().__init__(trunk, nn.Linear(hidden, n_classes), pooling.make(name, n_classes, hidden), n_classes)

    def forward(self, inputs: Tensor, mask: Tensor | None = None, *, averaged: bool = False) -> Output:
        present = ~inputs[:, :, 0].isnan()
        longest = int(present.sum(dim=1).max())  # beyond it, all fields of this batch are padding
        hidden = self.trunk(inputs[:, :longest].nan_to_num())
        return self.pooled(hidden.transpose(1, 2), self.scores(hidden).transpose(1, 2), present[:, :longest])


def cell_mean(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Two-headed MIL on cells with mean pooling: every cell has the same weight."""
    return best_rate(cells, settings, "mean")


def cell_attention(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Two-headed MIL on cells with gated attention (Ilse, Tomczak, Welling 2018): it learns the weight of a cell."""
    return best_rate(cells, settings, "gated_attention")


def best_rate(cells: Cells, settings: ProfileSettings, name: str) -> Scorer:
    """Train with each learning rate; score with the network of the lowest validation loss."""
    networks = [trained(cells, settings, name, rate) for rate in settings.learning_rates]
    return partial(score_cells, min(networks, key=lambda pair: pair[0])[1])


def trained(cells: Cells, settings: ProfileSettings, name: str, rate: float) -> tuple[float, CellMIL]:
    """Train with the loop of the MIL-CNN. Gives the lowest validation loss, and the network of that epoch."""
    how = TrainSettings(
        epochs=settings.epochs, learning_rate=rate, schedule="constant", weight_decay=1e-2, gradient_clip=math.inf,
        augment="none", device="cpu", seed=settings.seed,
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    network = CellMIL(len(cells.names), len(cells.classes), settings.hidden, name)
    accelerator = open_accelerator(how)
    training, validation = (batches_of(cells.where(cells.split(split))) for split in ("train", "validation"))
    run = open_run(network, how, len(training), accelerator)
    progress: dict[str, Any] = {"history": [], "best": {}}
    list(fit(run, training, validation, how, accelerator, progress))
    return progress["best"]["loss"], network.eval()


def batches_of(cells: Cells) -> FieldBatches:
    targets, cpu = torch.from_numpy(cells.targets), torch.device("cpu")
    return FieldBatches(cells.fields, targets, cpu, padded(cells), nn.Identity())


@torch.inference_mode()
def score_cells(network: CellMIL, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C), and as profile the hidden features averaged over the cells of each field (N, hidden)."""
    output = network(padded(cells))
    logits, several = output.logits.double(), cells.targets.ndim == 2
    return (logits.sigmoid() if several else logits.softmax(1)).numpy(), output.profiles.numpy()


def padded(cells: Cells) -> Tensor:
    """Features (N, J, D) float32 of fields that all have cells, NaN after a field's last cell; J is the most cells."""
    order = np.argsort(cells.field, kind="stable")
    slot = np.arange(len(order)) - np.repeat(np.cumsum(cells.counts) - cells.counts, cells.counts)
    features = torch.full((len(cells.fields), int(cells.counts.max()), len(cells.names)), torch.nan)
    features[cells.field[order], slot] = torch.from_numpy(cells.features[order])
    return features
