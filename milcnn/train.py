"""Training: two heads, one loop, selection on validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from milcnn import model as models
from milcnn.fields import Prepared
from milcnn.files import write_table
from milcnn.model import MILCNN, ModelSettings, Output
from milcnn.settings import Settings


class TrainSettings(Settings):
    """How a MIL-CNN is trained. Adam, batch 16; the rest is our choice."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(3e-3, gt=0)  # peak of a one-cycle schedule
    weight_decay: float = Field(1e-4, ge=0)
    crop: int = Field(0, ge=0)  # px, side of a random crop; 0 is the whole field
    augment: Literal["none", "dihedral"] = "dihedral"  # rotations by 90° and reflections
    gradient_clip: float = Field(1.0, gt=0)  # largest norm of the gradient
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Bags:
    """Fields and their labels on one device: ``pixels`` (B, C, H, W) raw, ``targets`` (B,) int64."""

    pixels: Tensor
    targets: Tensor

    @classmethod
    def of(cls, prepared: Prepared, split: str, device: torch.device) -> "Bags":
        rows = prepared.of(split)
        if rows.empty:
            raise ValueError(f"{prepared.folder / 'fields.csv'}: no field in split '{split}'.")
        pixels = torch.from_numpy(prepared.pixels(rows)).to(device)
        return cls(pixels, torch.from_numpy(prepared.targets(rows)).to(device))


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA, else Apple's MPS, else the CPU."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise ValueError(f"device: '{name}' is not on this machine; use 'auto' or 'cpu'.")
    return torch.device(name)


def set_determinism(seed: int) -> None:
    """Seed torch; flush denormals, which appear as gradients vanish and slow a CPU tenfold."""
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.deterministic = True


def two_headed_loss(output: Output, targets: Tensor) -> Tensor:
    """J = −Σ_i [log p(t_i | P_i) + log p(t_i | y_i)], mean over the batch (Kraus 2016, section 3.4).

    The first term is the cross-entropy of the pooled probabilities P (B, C), class by class; the
    second that of softmax(y). ``targets`` (B,) are class indices.
    """
    one_hot = F.one_hot(targets, output.bags.shape[1]).to(output.bags.dtype)
    pooled = F.binary_cross_entropy(output.bags, one_hot, reduction="none").sum(dim=1).mean()
    return pooled + F.cross_entropy(output.logits, targets)


def augmented(fields: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Each field (B, C, H, W) at a random crop, turned and reflected at random, on its device."""

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    def one(field: Tensor) -> Tensor:
        if settings.crop:
            height, width = field.shape[-2:]
            if settings.crop > min(height, width):
                raise ValueError(f"crop: {settings.crop} px is more than a field of {height} × {width} px.")
            y, x = draw(height - settings.crop + 1), draw(width - settings.crop + 1)
            field = field[:, y : y + settings.crop, x : x + settings.crop]
        if settings.augment == "dihedral":
            # a field that is not square can only be turned by half a turn in a batch
            quarter = 1 if field.shape[-1] == field.shape[-2] else 2
            field = field.rot90(quarter * draw(4), (1, 2))
            field = field.flip(2) if draw(2) else field
        return field

    return torch.stack([one(field) for field in fields])


def batches(bags: Bags, settings: TrainSettings, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order."""
    order = torch.randperm(len(bags.targets), generator=generator).to(bags.targets.device)
    for indices in order.split(settings.batch_size):
        yield augmented(bags.pixels[indices], settings, generator), bags.targets[indices]


@torch.inference_mode()
def validate(model: MILCNN, bags: Bags, batch_size: int) -> tuple[float, float]:
    """Mean loss and accuracy over whole fields, in evaluation mode."""
    model.eval()
    loss, correct = 0.0, 0
    for pixels, targets in zip(bags.pixels.split(batch_size), bags.targets.split(batch_size), strict=True):
        output = model(pixels)
        loss += two_headed_loss(output, targets).item() * len(targets)
        correct += int((output.logits.argmax(1) == targets).sum())
    return loss / len(bags.targets), correct / len(bags.targets)


def train(prepared: Prepared, model_settings: ModelSettings, settings: TrainSettings, folder: Path) -> pd.DataFrame:
    """Train on split ``train``, keep the weights of the epoch with the lowest validation loss.

    Writes ``model.safetensors`` and ``history.csv`` to ``folder``. The history, also returned, has
    one row an epoch: ``epoch``, ``loss`` (training), ``validation_loss``, ``validation_accuracy``,
    ``best`` (true up to and at the chosen epoch's record). Raises FloatingPointError when the loss is not finite.
    """
    set_determinism(settings.seed)
    device = choose_device(settings.device)
    generator = torch.Generator().manual_seed(settings.seed)
    model = MILCNN(model_settings, prepared.mean, prepared.std).to(device, memory_format=torch.channels_last)
    training, validation = (Bags.of(prepared, split, device) for split in ("train", "validation"))
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = -(-len(training.targets) // settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=0.2)
    history: list[dict[str, float]] = []
    best = float("inf")
    for epoch in tqdm(range(1, settings.epochs + 1), desc="train", unit="epoch"):
        model.train()
        total = 0.0
        for pixels, targets in batches(training, settings, generator):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                output = model(pixels)
            loss = two_headed_loss(output, targets)
            if not loss.isfinite():
                raise FloatingPointError(f"epoch {epoch}: the loss is {loss.item()}; lower learning_rate.")
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
            optimiser.step()
            schedule.step()
            total += loss.item() * len(targets)
        validation_loss, accuracy = validate(model, validation, settings.batch_size)
        row = {"epoch": epoch, "loss": total / len(training.targets), "validation_loss": validation_loss}
        history.append(row | {"validation_accuracy": accuracy})
        if validation_loss < best:
            best = validation_loss
            models.save(model, folder / "model.safetensors")
        write_table(pd.DataFrame(history), folder / "history.csv")
    return pd.DataFrame(history)
