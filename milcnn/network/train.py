"""Training: two heads, one loop, selection on validation.

The loop runs on ``accelerate``: one CPU or GPU as it is, several by ``accelerate launch`` or, from a
notebook, ``accelerate.notebook_launcher``; ``batch_size`` is that of all processes together. Batch
normalisation then counts over all of them on GPUs (SyncBatchNorm); several processes on CPUs, which have no such
thing, take ``none`` or ``group``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, PartialState
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from milcnn.columns import FIELD_KEY
from milcnn.files import write_table
from milcnn.network import checkpoint
from milcnn.network import model as models
from milcnn.network.batches import FieldBatches, augmented, check_crop, epoch_order, open_batches, seed_of
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, ModelSettings, Output
from milcnn.network.predict import inference_copy
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

CHECK_EVERY = 16  # steps between two looks at the loss: each look waits for the GPU


class TrainSettings(Settings):
    """How a MIL-CNN is trained, by AdamW. All values are our choice."""

    epochs: int = Field(20, ge=1)
    passes: int = Field(1, ge=1)  # over the training fields in an epoch, before the validation fields are looked at
    batch_size: int = Field(16, ge=1)  # of all processes together
    learning_rate: float = Field(3e-3, gt=0)  # the largest of the schedule
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    weight_decay: float = Field(1e-4, ge=0)
    balanced: bool = True  # every class as often as the others
    crop: int = Field(0, ge=0)  # px, side of a random crop; 0 is the whole field
    augment: Literal["none", "dihedral"] = "dihedral"  # rotations by 90° and reflections
    gradient_clip: float = Field(1.0, gt=0)  # largest norm of the gradient
    ema: float = Field(0, ge=0, lt=1)  # decay a step of the averaged weights that are kept; 0 is off
    data: Literal["auto", "device", "stream"] = "auto"  # fields on the device, or read batch by batch
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(0, ge=0)


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


def open_accelerator(settings: TrainSettings) -> Accelerator:
    """The processes and the device of this run; bf16 on CUDA. Raises ValueError for a batch that cannot be shared."""
    device = choose_device(settings.device)
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run may have had another device
    precision = "bf16" if device.type == "cuda" else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    if settings.batch_size % accelerator.num_processes:
        raise ValueError(f"batch_size: {settings.batch_size} is no multiple of {accelerator.num_processes} processes.")
    return accelerator


def two_headed_loss(output: Output, targets: Tensor) -> Tensor:
    """J = −Σ_i [log p(t_i | P_i) + log p(t_i | y_i)] of each field, (B,) (Kraus 2016, section 3.4).

    The first term is the cross-entropy of the pooled probabilities P (B, C), class by class. With
    ``targets`` (B,) class indices the second is that of softmax(y); with (B, C) float of 0 and 1 it is
    that of σ(y), class by class.
    """
    single = targets.ndim == 1
    labels = F.one_hot(targets, output.bags.shape[1]).to(output.bags.dtype) if single else targets
    # torch raises for a P that is not a number, on a GPU beyond recovery; y, made from P, still tells
    bags = output.bags.nan_to_num(0.5)
    pooled = F.binary_cross_entropy(bags, labels, reduction="none").sum(dim=1)
    if single:
        return pooled + F.cross_entropy(output.logits, targets, reduction="none")
    return pooled + F.binary_cross_entropy_with_logits(output.logits, labels, reduction="none").sum(dim=1)


def epoch_batches(
    bags: FieldBatches, settings: TrainSettings, epoch: int, process: int = 0, processes: int = 1
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """This process's share of each batch of an epoch: row indices, augmented fields, targets.

    All batches are full: the last is filled up with fields drawn again.
    """
    generator = torch.Generator().manual_seed(seed_of(settings.seed, epoch))
    steps = steps_per_epoch(len(bags), settings)
    order = epoch_order(bags.targets, steps * settings.batch_size, settings.balanced, generator)
    draws = torch.rand(len(order), 4, generator=generator)
    mine = [batch[process::processes] for batch in torch.arange(len(order)).split(settings.batch_size)]
    crop = settings.crop and bags.side(settings.crop)
    for places, (found, targets) in zip(mine, bags.batches([order[places] for places in mine]), strict=True):
        fields = augmented(found, draws[places], crop, settings.augment == "dihedral")
        yield order[places], fields, targets


def steps_per_epoch(n_fields: int, settings: TrainSettings) -> int:
    return -(-n_fields * settings.passes // settings.batch_size)


@dataclass(frozen=True)
class Run:
    """What changes while a network is trained; ``model`` is ``network`` as its processes share it."""

    model: nn.Module
    network: MILCNN
    average: AveragedModel | None
    optimiser: AcceleratedOptimizer
    schedule: LRScheduler

    @property
    def kept(self) -> MILCNN:
        """The network that is validated and saved."""
        return self.network if self.average is None else self.average.module

    def parts(self) -> dict[str, object]:
        """What a checkpoint holds."""
        parts = {"network": self.network, "optimiser": self.optimiser.optimizer, "schedule": self.schedule}
        return parts if self.average is None else parts | {"average": self.average}


def open_run(network: MILCNN, settings: TrainSettings, n_fields: int, accelerator: Accelerator) -> Run:
    """A run at its start, on its device. Raises ValueError for batch normalisation in several CPU processes."""
    if accelerator.num_processes > 1 and accelerator.device.type == "cpu" and network.settings.normalisation == "batch":
        raise ValueError("normalisation: 'batch' sees one process alone on CPUs; use 'group', 'none', or one process.")
    layout = models.memory_layout(accelerator.device, training=True, width=network.settings.width)
    network = network.to(accelerator.device, memory_format=layout)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    blend = get_ema_multi_avg_fn(settings.ema)
    average = AveragedModel(network, multi_avg_fn=blend, use_buffers=True) if settings.ema else None
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = steps_per_epoch(n_fields, settings) * settings.epochs
    if settings.schedule == "one_cycle":
        rise = 0.3 if steps == 5 else 0.2  # a rise of one step is a division by zero in torch
        schedule = OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=rise)
    else:
        schedule = CosineAnnealingLR(optimiser, steps)
    model, shared_optimiser = accelerator.prepare(network, optimiser)
    return Run(model, network, average, shared_optimiser, schedule)


def train_epoch(run: Run, bags: FieldBatches, settings: TrainSettings, accelerator: Accelerator, epoch: int) -> float:
    """``passes`` over the training fields; their mean loss. Raises FloatingPointError when it is not finite."""
    run.model.train()
    steps = steps_per_epoch(len(bags), settings)
    process, processes = accelerator.process_index, accelerator.num_processes
    losses: list[Tensor] = []  # (this process's share of a batch,) for each step
    seen: list[Tensor] = []  # the rows they belong to
    for step, (indices, fields, targets) in enumerate(epoch_batches(bags, settings, epoch, process, processes), 1):
        torch.manual_seed(seed_of(settings.seed, epoch, step, process))  # for dropout
        with accelerator.autocast():
            output = run.model(fields, averaged=True)
        loss = two_headed_loss(output, targets)
        run.optimiser.zero_grad()
        accelerator.backward(loss.mean())
        norm = accelerator.clip_grad_norm_(run.model.parameters(), settings.gradient_clip)
        run.optimiser.step()
        run.schedule.step()
        if run.average is not None:
            run.average.update_parameters(run.network)
        # finite losses whose gradient is not: this step spoils the weights, and is named with all its fields
        sound = norm.isfinite() | ~loss.isfinite().all()
        losses.append(loss.detach().where(sound, torch.nan))
        seen.append(indices)
        if step % CHECK_EVERY == 0 or step == steps:
            check_finite(losses, seen, bags, accelerator, first_step=(epoch - 1) * steps + 1)
    return accelerator.reduce(torch.stack(losses).mean(), "mean").item()


def check_finite(
    losses: list[Tensor], seen: list[Tensor], bags: FieldBatches, accelerator: Accelerator, first_step: int
) -> None:
    """Raise FloatingPointError, in every process, once a loss of this epoch is not finite."""
    finite = torch.stack(losses).isfinite()
    if accelerator.reduce((~finite).sum(), "sum").item() == 0:
        return
    if finite.all():
        raise FloatingPointError("another process met a loss that is not finite; see its message.")
    step = int((~finite).any(dim=1).nonzero()[0])
    rows = bags.plates.rows.iloc[seen[step][~finite[step].cpu()].numpy()]
    fields = ", ".join("/".join(map(str, row)) for row in rows[FIELD_KEY].drop_duplicates().to_numpy())
    raise FloatingPointError(
        f"step {first_step + step}: the loss or its gradient is not finite for the fields (plate/well/site) {fields}; "
        "look at their pixels, or lower learning_rate. The last good checkpoint is kept."
    )


@torch.inference_mode()
def validate(model: MILCNN, bags: FieldBatches, batch_size: int, accelerator: Accelerator) -> tuple[float, float]:
    """Mean loss and accuracy over whole fields, in evaluation mode.

    Accuracy is the share of fields whose class is right; for a multi-label study, the share of right
    decisions over fields and classes.
    """
    model = inference_copy(model)
    mine = torch.arange(len(bags)).split(batch_size)[accelerator.process_index :: accelerator.num_processes]
    sums = torch.zeros(2, device=accelerator.device)
    for fields, targets in bags.batches(list(mine)):
        with accelerator.autocast():
            output = model(fields, averaged=True)
        single = targets.ndim == 1
        right = output.logits.argmax(1) == targets if single else ((output.logits > 0) == (targets > 0.5))
        sums += torch.stack(
            [two_headed_loss(output, targets).sum(), right.float().view(len(targets), -1).mean(1).sum()]
        )
    loss, accuracy = (accelerator.reduce(sums, "sum") / len(bags)).tolist()
    return loss, accuracy


def train(
    prepared: Prepared,
    model_settings: ModelSettings,
    settings: TrainSettings,
    folder: Path,
    resume: Path | None = None,
) -> pd.DataFrame:
    """Train on split ``train``, keep the weights of the epoch with the lowest validation loss.

    Writes ``model.safetensors`` and ``history.csv`` to ``folder``. The history, also returned, has
    one row an epoch: ``epoch``, ``loss`` (training), ``validation_loss``, ``validation_accuracy``, and
    ``test_accuracy``, which decides nothing: it is there to tell what choosing by it would have gained.
    ``resume`` is the file of the checkpoint, written after every epoch: where one of the same settings
    and fields exists, the run goes on behind it, on a CPU to bit-identical results; it is removed at
    the end. Raises FloatingPointError, which names step and fields, when the loss is not finite.
    """
    set_determinism(settings.seed)
    keep_freed_memory()
    accelerator = open_accelerator(settings)
    network = MILCNN(model_settings, prepared.mean, prepared.std)
    training, validation, test = (
        open_batches(prepared, split, model_settings.multilabel, accelerator.device, settings.data, network.averaged)
        for split in ("train", "validation", "test")
    )
    check_crop(settings.crop, *prepared.pixels(prepared.fields.iloc[:1]).shape[-2:])
    run = open_run(network, settings, len(training), accelerator)
    identity = checkpoint.run_fingerprint(prepared, model_settings, settings)
    progress = (checkpoint.restore_checkpoint(resume, identity, run.parts()) if resume else None) or {
        "history": [],
        "best": {},
    }
    history = progress["history"]
    for epoch in tqdm(range(len(history) + 1, settings.epochs + 1), desc="train", unit="epoch"):
        loss = train_epoch(run, training, settings, accelerator, epoch)
        validation_loss, accuracy = validate(run.kept, validation, settings.batch_size, accelerator)
        if not math.isfinite(validation_loss):
            raise FloatingPointError(f"epoch {epoch}: the loss of the validation fields is not finite; look at them.")
        row = {"epoch": epoch, "loss": loss, "validation_loss": validation_loss, "validation_accuracy": accuracy}
        _, row["test_accuracy"] = validate(run.kept, test, settings.batch_size, accelerator)
        history.append(row)
        improved = validation_loss < progress["best"].get("loss", math.inf)
        if improved:
            progress["best"] = {"loss": validation_loss, "weights": copied(run.kept.state_dict())}
        if accelerator.is_main_process:
            if improved:
                models.save_model(run.kept, folder / "model.safetensors")
            write_table(pd.DataFrame(history), folder / "history.csv")
            if resume:
                checkpoint.save_checkpoint(resume, identity, progress, run.parts())
    run.kept.load_state_dict(progress["best"]["weights"])
    if accelerator.is_main_process:
        # once more, for a run that was resumed after the folder had been emptied
        models.save_model(run.kept, folder / "model.safetensors")
        write_table(pd.DataFrame(history), folder / "history.csv")
        if resume:
            resume.unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return pd.DataFrame(history)


def copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
