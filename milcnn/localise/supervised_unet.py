"""The supervised U-Net of localisation: small, and trained with the mask and the class of every object.

The MIL-CNN never sees these, so the U-Net is no baseline. For each pixel it predicts whether it is of an object,
whether it is in the core of its object, away from other objects, which splits objects that touch (after Caicedo 2019,
doi 10.1002/cyto.a.23863), and the class of the object. Background does not limit a core: a thin ring is one object. The
network is MONAI's ``BasicUNet`` (Falk 2019, doi 10.1038/s41592-018-0261-2). ``unet_training`` trains it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor, nn
from torch.nn import functional as F

from milcnn.baselines.segment import EVERYWHERE
from milcnn.localise.found import Localised, in_cells
from milcnn.prepare.prepared import Prepared

FEATURES = (16, 24, 32, 64, 128, 16)  # channels of the five levels, and of the last


@dataclass(frozen=True)
class TrainedUNet:
    """A U-Net and what its outputs mean: object or not, core or not, then a softmax over ``classes``."""

    network: nn.Module
    classes: list[str]  # of objects, outliers among them
    mean: Tensor  # (C, 1, 1), of the training fields
    std: Tensor
    downscale: int
    core: float = 0.5  # above this probability a pixel is of a core; one of ``LEVELS``


def untrained(prepared: Prepared, downscale: int, device: torch.device) -> TrainedUNet:
    """A U-Net with random weights for the channels and the classes of objects of ``prepared``."""
    try:
        from monai.networks.nets import BasicUNet
    except ImportError:
        raise ImportError("the U-Net needs MONAI: run 'pip install monai', or set 'unet: {}'.") from None
    classes = sorted(prepared.objects["class"].unique())
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (prepared.mean, prepared.std))
    network = BasicUNet(2, len(mean), 2 + len(classes), features=FEATURES, norm="batch").to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    return TrainedUNet(network, classes, mean, std, downscale)


def standardised_pixels(unet: TrainedUNet, pixels: np.ndarray) -> Tensor:
    """Fields (B, C, H, W) in any dtype, each channel in standard deviations from its mean, float32."""
    return (torch.from_numpy(pixels).float() - unet.mean) / unet.std


@torch.inference_mode()
def probabilities(unet: TrainedUNet, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of an object and of a core, (H, W) each, and of each class of object, (classes, H, W), for a field (C, H, W)."""
    device = next(unet.network.parameters()).device
    seen = F.avg_pool2d(standardised_pixels(unet, field[None]), unet.downscale).to(device)
    unet.network.eval()
    outputs = F.interpolate(unet.network(seen), field.shape[1:], mode="bilinear")[0].cpu()
    inside, core = outputs[:2].sigmoid().numpy()
    return inside, core, outputs[2:].softmax(dim=0).numpy()


def split_cells(inside: np.ndarray, core: np.ndarray, level: float) -> np.ndarray:
    """Cells (H, W) int: watershed from the cores, where ``core`` is above ``level``, over the object pixels."""
    seeds, _ = ndimage.label((core > level) & (inside > 0.5), EVERYWHERE)
    return watershed(-core, seeds, connectivity=EVERYWHERE, mask=inside > 0.5)


def localise_with_unet(
    unet: TrainedUNet, field: np.ndarray, class_name: str, shared: np.ndarray | None = None
) -> Localised:
    """What the U-Net predicts for ``class_name`` in a field (C, H, W).

    The map is the probability of an object of the class, as its mean over each of the ``shared`` cells (H, W), if they
    are given: the maps of the networks are means over the same cells. The cells are the U-Net's own; one has the class
    with the largest mean probability.
    """
    inside, core, shares = probabilities(unet, field)
    cells, wanted = split_cells(inside, core, unet.core), unet.classes.index(class_name)
    numbers = np.arange(1, cells.max() + 1)
    means = np.stack([ndimage.mean(share, cells, numbers) for share in shares])
    called = numbers[means.argmax(axis=0) == wanted] if len(numbers) else numbers
    values = inside * shares[wanted]
    ranked = values if shared is None else in_cells(values, shared)
    return Localised(ranked, cells, np.where(np.isin(cells, called), cells, 0))
