"""The supervised U-Net of localisation: small, and trained with the mask and the class of every object.

The MIL-CNN never sees these, so the U-Net is no baseline: its distance to the maps is the cost of having only labels of
whole fields. For each pixel it predicts whether it is of an object, whether it is in the core of its object, away from
other objects, which splits objects that touch (after Caicedo 2019, doi 10.1002/cyto.a.23863), and the class of the
object. Background does not limit a core: a thin ring is one object. The network is MONAI's ``BasicUNet`` (Falk 2019,
doi 10.1038/s41592-018-0261-2).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from milcnn.baselines.segment import EVERYWHERE
from milcnn.columns import FIELD_KEY
from milcnn.localise.found import Localised, in_cells
from milcnn.localise.scores import score_method
from milcnn.network.batches import augmented
from milcnn.network.device import set_determinism
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

FEATURES = (16, 24, 32, 64, 128, 16)  # channels of the five levels, and of the last
CORE = 5  # px, side of the window around a core pixel, without another object in it


class UNetSettings(Settings):
    """How the U-Net is trained. AdamW, one cycle, random crops, turned and reflected."""

    steps: int = Field(700, ge=1)
    batch_size: int = Field(4, ge=1)
    crop: int = Field(256, ge=32)  # px, side of a random crop; at most that of the field
    downscale: int = Field(2, ge=1)  # blocks of this side become one pixel; 2 is four times as fast as 1
    learning_rate: float = Field(4e-3, gt=0)
    turned: bool = True  # False where rotation changes the class: a 6 becomes a 9
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class TrainedUNet:
    """A trained U-Net and what its outputs mean: object or not, core or not, then a softmax over ``classes``."""

    network: nn.Module
    classes: list[str]  # of objects, outliers among them
    mean: Tensor  # (C, 1, 1), of the training fields
    std: Tensor
    downscale: int


def train_unet(prepared: Prepared, settings: UNetSettings, device: torch.device) -> TrainedUNet:
    """Train a U-Net on the masks of split ``train``; the truth must be known."""
    set_determinism(settings.seed)
    rows, classes = prepared.of("train"), sorted(prepared.objects["class"].unique())
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (prepared.mean, prepared.std))
    try:
        from monai.networks.nets import BasicUNet
    except ImportError:
        raise ImportError("the U-Net needs MONAI: run 'pip install monai', or set 'unet: {}'.") from None
    network = BasicUNet(2, len(mean), 2 + len(classes), features=FEATURES, norm="batch").to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    unet = TrainedUNet(network, classes, mean, std, settings.downscale)
    weights = class_weights(prepared, classes).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate)
    schedule = OneCycleLR(optimiser, settings.learning_rate, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in tqdm(range(settings.steps), desc="U-Net", unit="step"):
        batch = rows.iloc[torch.randint(len(rows), (settings.batch_size,), generator=generator).numpy()]
        draws = torch.rand(len(batch), 4, generator=generator)
        pixels, targets = training_crops(prepared, batch, unet, draws, settings)
        loss = pixel_loss(network(pixels.to(device)), targets.to(device), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    return unet


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


def standardised_pixels(unet: TrainedUNet, pixels: np.ndarray) -> Tensor:
    """Fields (B, C, H, W) in any dtype, each channel in standard deviations from its mean, float32."""
    return (torch.from_numpy(pixels).float() - unet.mean) / unet.std


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


@torch.inference_mode()
def localise_with_unet(unet: TrainedUNet, field: np.ndarray, class_name: str) -> Localised:
    """What the U-Net predicts for ``class_name`` in a field (C, H, W).

    Cells grow by watershed from the cores, over the object pixels. The map is the mean over each cell of the
    probability of an object of the class; a cell has the class with the largest mean probability.
    """
    device = next(unet.network.parameters()).device
    seen = F.avg_pool2d(standardised_pixels(unet, field[None]), unet.downscale).to(device)
    outputs = F.interpolate(unet.network(seen), field.shape[1:], mode="bilinear")[0].cpu()
    inside, core = outputs[:2].sigmoid().numpy()
    shares = outputs[2:].softmax(dim=0).numpy()
    seeds, _ = ndimage.label((core > 0.5) & (inside > 0.5), EVERYWHERE)
    cells = watershed(-core, seeds, connectivity=EVERYWHERE, mask=inside > 0.5)
    numbers = np.arange(1, cells.max() + 1)
    means = np.stack([ndimage.mean(share, cells, numbers) for share in shares])
    wanted = unet.classes.index(class_name)
    called = numbers[means.argmax(axis=0) == wanted] if len(numbers) else numbers
    return Localised(in_cells(inside * shares[wanted], cells), cells, np.where(np.isin(cells, called), cells, 0))


def score_unet(prepared: Prepared, rows: pd.DataFrame, settings: UNetSettings, device: torch.device) -> pd.DataFrame:
    """Train the U-Net and score its predictions for ``rows``, as ``score_method`` with method ``unet``."""
    unet = train_unet(prepared, settings, device)
    pairs = zip(prepared.pixels(rows), prepared.first_label(rows), strict=True)
    return score_method(prepared, rows, [localise_with_unet(unet, *pair) for pair in pairs], "unet", settings.seed)
