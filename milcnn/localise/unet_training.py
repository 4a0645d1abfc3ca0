"""Train the supervised U-Net until its score on validation fields stops rising, and score it as the maps are."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from milcnn.columns import FIELD_KEY, LABEL
from milcnn.localise.agreement import iou, object_f1
from milcnn.localise.found import SegmentedFields
from milcnn.localise.sampling import scored_fields, spread_fields
from milcnn.localise.scores import cell_average_precision, score_method, wanted_objects
from milcnn.localise.supervised_unet import (
    TrainedUNet,
    localise_with_unet,
    probabilities,
    split_cells,
    standardised_pixels,
    untrained,
)  # fmt: skip
from milcnn.network.augment import augmented
from milcnn.network.device import set_determinism
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

CORE = 5  # px, side of the window around a core pixel, without another object in it
LEVELS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)  # of the probability of a core: seams are few pixels, so 0.5 is no rule
LOOKED_AT = 36  # validation fields, about: the same number of each class


class UNetSettings(Settings):
    """How the U-Net is trained. AdamW, one-cycle learning rate, random crops, turned and reflected."""

    steps: int = Field(450, ge=1)  # of a cycle of the learning rate; validation fields are looked at after each
    cycles: int = Field(4, ge=1)  # at the most
    batch_size: int = Field(4, ge=1)
    crop: int = Field(256, ge=32)  # px, side of a random crop; at most that of the field
    downscale: int = Field(2, ge=1)  # blocks of this side become one pixel; 2 is four times as fast as 1
    learning_rate: float = Field(4e-3, gt=0)
    turned: bool = True  # False where rotation changes the class: a 6 becomes a 9
    seed: int = Field(0, ge=0)


class Look(NamedTuple):
    """What a look at validation fields finds."""

    score: float  # mean of foreground IoU, object F1 and cell average precision
    core: float  # the level of ``LEVELS`` with the best object F1
    step: int  # since the start


def train_unet(prepared: Prepared, settings: UNetSettings, device: torch.device) -> tuple[TrainedUNet, list[Look]]:
    """Train a U-Net on the masks of split ``train`` until the score on validation fields stops rising.

    That is after the first cycle of the learning rate that is no better than the one before. Returns the U-Net of the
    best look, and all looks. The truth must be known.
    """
    set_determinism(settings.seed)
    unet = untrained(prepared, settings.downscale, device)
    validation = validation_fields(prepared)
    looks: list[Look] = []
    best: dict[str, Tensor] = {}
    total = settings.steps * settings.cycles
    for step in tqdm(training_steps(prepared, unet, settings), desc="U-Net", unit="step", total=total):
        if step % settings.steps:
            continue
        looks.append(Look(*validation_score(unet, prepared, validation), step))
        if looks[-1] is not best_look(looks):
            break
        best = copy.deepcopy(unet.network.state_dict())
    unet.network.load_state_dict(best)
    unet.network.eval()
    return replace(unet, core=best_look(looks).core), looks


def score_unet(unet: TrainedUNet, prepared: Prepared, fields: SegmentedFields, *, whole_cells: bool) -> pd.DataFrame:
    """Scores of a trained U-Net on ``fields``, as ``score_method`` with method ``unet``.

    Like the maps of the networks, its map is averaged over the cells of ``fields`` if ``whole_cells``.
    """
    names = prepared.first_label(fields.rows)
    found = [
        localise_with_unet(unet, pixels, name, cells if whole_cells else None)
        for pixels, name, cells in zip(fields.pixels, names, fields.cells, strict=True)
    ]
    return score_method(prepared, fields.rows, found, "unet")


def told_looks(looks: list[Look]) -> str:
    """When training ended, and whether the score was still rising then."""
    best = best_look(looks)
    told = f"U-Net: validation score {best.score:.3f} after {best.step} steps, the best of {len(looks)} cycles."
    return told + (" It may still rise with more cycles." if best is looks[-1] else "")


def told_rank(means: pd.DataFrame, networks: list[str]) -> str:
    """Whether the U-Net ranks better than every one of ``networks``: rows of ``means``, a column a score."""
    lines, above = [], []
    for metric in ("average_precision", "cell_average_precision"):
        unet, others = means.loc["unet", metric], means.loc[networks, metric]
        above.append(unet > others.max())
        place = "above" if above[-1] else "not above"
        name = metric.replace("_", " ")
        lines.append(f"{name}: supervised U-Net {unet:.3f}, {place} the best network ({others.max():.3f})")
    lines.append(
        "The supervised U-Net is " + ("above the networks." if all(above) else "no ceiling for the networks here.")
    )
    return "\n".join(lines)


def training_steps(prepared: Prepared, unet: TrainedUNet, settings: UNetSettings) -> Iterator[int]:
    """Train ``unet.network`` in place, one step at a time; yields the number of steps done."""
    rows, network = prepared.of("train"), unet.network
    device = next(network.parameters()).device
    weights = class_weights(prepared, unet.classes).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)
    for step in range(settings.steps * settings.cycles):
        if step % settings.steps == 0:
            schedule = OneCycleLR(optimiser, settings.learning_rate, settings.steps)
        network.train()  # a look at validation fields ends this
        batch = rows.iloc[torch.randint(len(rows), (settings.batch_size,), generator=generator).numpy()]
        draws = torch.rand(len(batch), 4, generator=generator)
        pixels, targets = training_crops(prepared, batch, unet, draws, settings)
        loss = pixel_loss(network(pixels.to(device)), targets.to(device), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield step + 1


def best_look(looks: list[Look]) -> Look:
    """The first of the looks with the highest score."""
    return max(looks, key=lambda look: look.score)


def validation_fields(prepared: Prepared) -> pd.DataFrame:
    """About ``LOOKED_AT`` validation fields, as many of each class and spread over plates and wells."""
    rows = scored_fields(prepared, "validation", LOOKED_AT)
    return spread_fields(rows, max(1, LOOKED_AT // rows[LABEL].nunique()))


def validation_score(unet: TrainedUNet, prepared: Prepared, rows: pd.DataFrame) -> tuple[float, float]:
    """``Look.score`` of the fields of ``rows``, and the best of ``LEVELS``."""
    truths, wanted, names = prepared.truth(rows), wanted_objects(prepared, rows), prepared.first_label(rows)
    covered, ranked, split = [], [], []
    for pixels, truth, numbers, name in zip(prepared.pixels(rows), truths, wanted, names, strict=True):
        inside, core, shares = probabilities(unet, pixels)
        covered.append(iou(truth, inside > 0.5))
        ranked.append(cell_average_precision(truth, numbers, inside * shares[unet.classes.index(name)]))
        split.append([object_f1(truth, split_cells(inside, core, level)) for level in LEVELS])
    scores = np.mean(split, axis=0)
    return float(np.mean(covered) + scores.max() + np.nanmean(ranked)) / 3, LEVELS[scores.argmax()]


def class_weights(prepared: Prepared, classes: list[str]) -> Tensor:
    """Weight of each class, (classes,), inverse to its number of objects in split ``train``; mean 1 an object."""
    objects = prepared.objects.merge(prepared.of("train")[FIELD_KEY], on=FIELD_KEY)
    counts = objects["class"].value_counts().reindex(classes, fill_value=0).to_numpy()
    return torch.tensor(len(objects) / (len(classes) * counts.clip(1)), dtype=torch.float32)


def mask_targets(prepared: Prepared, rows: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Class and core of each pixel of the fields of ``rows``, (B, 2, H, W) uint8.

    The class is 0 for background and k for the k-th of ``classes``; the core is 1 where the window of ``CORE`` px has
    pixels of one object only.
    """
    objects = prepared.objects.merge(rows[FIELD_KEY].assign(row=range(len(rows))), on=FIELD_KEY)
    truth = prepared.truth(rows)
    codes = np.zeros((len(rows), int(truth.max()) + 1), np.uint8)  # class of each object of each field
    codes[objects["row"], objects["object"]] = pd.Categorical(objects["class"], classes).codes + 1
    window = (1, CORE, CORE)
    numbers = truth.astype(np.int32)
    least = ndimage.minimum_filter(np.where(numbers == 0, np.iinfo(np.int32).max, numbers), window)
    uniform = least == ndimage.maximum_filter(numbers, window)  # of the objects there, background left out
    return np.stack([codes[np.arange(len(rows))[:, None, None], truth], uniform & (truth > 0)], axis=1)


def training_crops(
    prepared: Prepared, rows: pd.DataFrame, unet: TrainedUNet, draws: Tensor, settings: UNetSettings
) -> tuple[Tensor, Tensor]:
    """Random crops of the fields of ``rows``: pixels (B, C, h, w) and targets (B, 3, h, w), downscaled float32.

    Each block has its mean pixel, the shares of it that are object and core, and the class of its object, 0 for none.
    """
    pixels = standardised_pixels(unet, prepared.pixels(rows))
    targets = torch.from_numpy(mask_targets(prepared, rows, unet.classes)).float()
    both = torch.cat([pixels, targets], dim=1)  # so that pixels and masks are cut and turned alike
    crops = augmented(both, draws, min(settings.crop, *pixels.shape[-2:]), settings.turned)
    step = unet.downscale
    blocks = F.avg_pool2d(torch.cat([crops[:, :-2], (crops[:, -2:] > 0).float()], dim=1), step)
    targets = torch.cat([blocks[:, -2:], F.max_pool2d(crops[:, -2:-1], step)], dim=1)
    return blocks[:, :-2].contiguous(memory_format=torch.channels_last), targets


def pixel_loss(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropies of object, of core, and, on objects only, of the class.

    ``outputs`` (B, 2 + classes, h, w) and ``targets`` (B, 3, h, w) of ``training_crops``.
    """
    inside, core = (F.binary_cross_entropy_with_logits(outputs[:, index], targets[:, index]) for index in range(2))
    classes = targets[:, 2].long()
    by_pixel = F.cross_entropy(outputs[:, 2:], classes - 1, weights, ignore_index=-1, reduction="sum")
    return inside + core + by_pixel / (classes > 0).sum().clamp(min=1)
