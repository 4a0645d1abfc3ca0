"""Training: two heads, one loop, and the epoch with the lowest validation loss is kept.

The loop runs on ``accelerate``: on one CPU or GPU as it is, on several by ``accelerate launch`` or, from a notebook,
``accelerate.notebook_launcher``. ``batch_size`` counts the fields of all processes together. On several GPUs batch
normalisation averages over all of them (SyncBatchNorm). CPUs have no such layer: there, several processes take
``none`` or ``group``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, cast

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, PartialState
from pydantic import Field
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from milcnn.columns import FIELD_KEY
from milcnn.files import write_table
from milcnn.network import checkpoint
from milcnn.network import model as models
from milcnn.network.augment import augmented, check_crop, jitter_of
from milcnn.network.batches import FieldBatches, epoch_order, open_batches, seed_of
from milcnn.network.device import choose_device, set_determinism
from milcnn.network.losses import two_headed_loss
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import MILCNN, MILNetwork, ModelSettings, Net
from milcnn.network.predict import inference_copy
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

CHECK_EVERY = 16  # steps between two checks of the loss: each check waits for the GPU


class TrainSettings(Settings):
    """How a MIL-CNN is trained, by AdamW. All values are our choice."""

    epochs: int = Field(default=20, ge=1)
    passes: int = Field(default=1, ge=1)  # over the training fields in an epoch, between two validations
    batch_size: int = Field(default=16, ge=1)  # of all processes together
    learning_rate: float = Field(default=3e-3, gt=0)  # the schedule's maximum
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    weight_decay: float = Field(default=1e-4, ge=0)
    balanced: bool = True  # every class equally often
    crop: int = Field(default=0, ge=0)  # px, side of a random crop; 0: the whole field
    augment: Literal["none", "dihedral"] = "dihedral"  # rotations by 90° and reflections
    jitter: bool = True  # random brightness, as much as training plates differ; see augment.plate_spread
    channel_dropout: float = Field(default=0, ge=0, lt=1)  # for plates that lack a channel; see augment.Jitter
    gradient_clip: float = Field(default=1.0, gt=0)  # largest norm of the gradient
    ema: float = Field(default=0, ge=0, lt=1)  # decay per step of averaged weights, which are then kept; 0: off
    data: Literal["auto", "device", "stream"] = "auto"  # fields lie on the device, or are read batch by batch
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(default=0, ge=0)


def open_accelerator(settings: TrainSettings) -> Accelerator:
    """Processes and device of this run; bf16 on CUDA. Raises ValueError for a batch that they cannot share."""
    device = choose_device(settings.device)
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run may have used another device
    precision = "bf16" if device.type == "cuda" else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    if settings.batch_size % accelerator.num_processes:
        raise ValueError(f"batch_size: {settings.batch_size} is no multiple of {accelerator.num_processes} processes.")
    return accelerator


def epoch_batches(
    training: FieldBatches, settings: TrainSettings, epoch: int, process: int = 0, processes: int = 1
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """This process's share of each batch of an epoch: row indices, augmented fields, targets.

    All batches are full: the last one is topped up with fields drawn again.
    """
    generator = torch.Generator().manual_seed(seed_of(settings.seed, epoch))
    steps = steps_per_epoch(len(training), settings)
    order = epoch_order(training.targets, steps * settings.batch_size, settings.balanced, generator)
    draws = torch.rand(len(order), 4, generator=generator)
    brightness = training.jitter.draws(len(order), generator) if training.jitter else torch.empty(len(order), 0)
    mine = [batch[process::processes] for batch in torch.arange(len(order)).split(settings.batch_size)]
    crop = settings.crop and training.side(settings.crop)
    for places, (fields, targets) in zip(mine, training.batches([order[places] for places in mine]), strict=True):
        fields = augmented(fields, draws[places], crop, settings.augment == "dihedral")
        yield order[places], training.jitter(fields, brightness[places]) if training.jitter else fields, targets


def steps_per_epoch(n_fields: int, settings: TrainSettings) -> int:
    return -(-n_fields * settings.passes // settings.batch_size)


@dataclass(frozen=True)
class Run(Generic[Net]):
    """What changes during training; ``model`` is ``network`` as its processes share it."""

    model: nn.Module
    network: Net
    average: AveragedModel | None
    optimiser: AcceleratedOptimizer
    schedule: LRScheduler

    @property
    def kept(self) -> Net:
        """The network that is validated and saved."""
        return self.network if self.average is None else cast(Net, self.average.module)

    def parts(self) -> dict[str, object]:
        """What a checkpoint stores."""
        parts = {"network": self.network, "optimiser": self.optimiser.optimizer, "schedule": self.schedule}
        return parts if self.average is None else parts | {"average": self.average}


def open_run(network: Net, settings: TrainSettings, n_fields: int, accelerator: Accelerator) -> Run[Net]:
    """A run at its start. Raises ValueError for batch normalisation in several CPU processes."""
    if accelerator.num_processes > 1 and any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
        if accelerator.device.type == "cpu":
            raise ValueError("normalisation: 'batch' sees one process alone on CPUs; use 'group', or one process.")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    blend = get_ema_multi_avg_fn(settings.ema)
    average = AveragedModel(network, multi_avg_fn=blend, use_buffers=True) if settings.ema else None
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = steps_per_epoch(n_fields, settings) * settings.epochs
    schedule: LRScheduler
    if settings.schedule == "one_cycle":
        rise = 0.3 if steps == 5 else 0.2  # torch divides by zero when the rise is one step
        schedule = OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=rise)
    elif settings.schedule == "cosine":
        schedule = CosineAnnealingLR(optimiser, steps)
    else:
        schedule = ConstantLR(optimiser, factor=1)
    model, shared_optimiser = accelerator.prepare(network, optimiser)
    return Run(model, network, average, shared_optimiser, schedule)


def train_epoch(
    run: Run, training: FieldBatches, settings: TrainSettings, accelerator: Accelerator, epoch: int
) -> float:
    """``passes`` over the training fields; their mean loss. Raises FloatingPointError when it is not finite."""
    run.model.train()
    steps = steps_per_epoch(len(training), settings)
    process, processes = accelerator.process_index, accelerator.num_processes
    losses: list[Tensor] = []  # (this process's share of a batch,) for each step
    seen: list[Tensor] = []  # their rows
    for step, (indices, fields, targets) in enumerate(epoch_batches(training, settings, epoch, process, processes), 1):
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
        # where losses are finite but their gradient is not, this step breaks the weights: name it with all its fields
        sound = norm.isfinite() | ~loss.isfinite().all()
        losses.append(loss.detach().where(sound, torch.nan))
        seen.append(indices)
        if step % CHECK_EVERY == 0 or step == steps:
            check_finite(losses, seen, training, accelerator, first_step=(epoch - 1) * steps + 1)
    return accelerator.reduce(torch.stack(losses).mean(), "mean").item()


def check_finite(
    losses: list[Tensor], seen: list[Tensor], training: FieldBatches, accelerator: Accelerator, first_step: int
) -> None:
    """Raise FloatingPointError, in every process, once a loss of this epoch is not finite."""
    finite = torch.stack(losses).isfinite()
    if accelerator.reduce((~finite).sum(), "sum").item() == 0:
        return
    if finite.all():
        raise FloatingPointError("another process met a loss that is not finite; see its message.")
    step = int((~finite).any(dim=1).nonzero()[0])
    rows = training.rows.iloc[seen[step][~finite[step].cpu()].numpy()]
    fields = ", ".join("/".join(map(str, row)) for row in rows[FIELD_KEY].drop_duplicates().to_numpy())
    raise FloatingPointError(
        f"step {first_step + step}: the loss or its gradient is not finite for the fields (plate/well/site) {fields}; "
        "look at their pixels, or lower learning_rate. The last good checkpoint is kept."
    )


@torch.inference_mode()
def validate(model: MILNetwork, held: FieldBatches, batch_size: int, accelerator: Accelerator) -> tuple[float, float]:
    """Mean loss and accuracy over whole fields, in evaluation mode.

    Accuracy is the share of fields with the right class; in a multi-label study, the share of right decisions over
    fields and known classes.
    """
    model = inference_copy(model)
    mine = torch.arange(len(held)).split(batch_size)[accelerator.process_index :: accelerator.num_processes]
    sums = torch.zeros(3, device=accelerator.device)
    for fields, targets in held.batches(list(mine)):
        with accelerator.autocast():
            output = model(fields, averaged=True)
        right = output.logits.argmax(1) == targets if targets.ndim == 1 else (output.logits > 0) == (targets > 0.5)
        known = ~targets.isnan()
        sums += torch.stack([two_headed_loss(output, targets).sum(), (right & known).sum(), known.sum()])
    loss, n_right, n_known = accelerator.reduce(sums, "sum").tolist()
    return loss / len(held), n_right / max(n_known, 1)


def fit(
    run: Run,
    training: FieldBatches,
    validation: FieldBatches,
    settings: TrainSettings,
    accelerator: Accelerator,
    progress: dict[str, Any],
) -> Iterator[bool]:
    """The one training loop. Yields after every epoch whether it is the best so far: lowest validation loss.

    ``progress`` is ``{"history": [], "best": {}}`` at the start: it collects a row an epoch, and the loss and the
    weights of the best epoch. At the end the network gets these weights. Raises FloatingPointError when a loss is
    not finite.
    """
    history = progress["history"]
    for epoch in range(len(history) + 1, settings.epochs + 1):
        loss = train_epoch(run, training, settings, accelerator, epoch)
        held_loss, accuracy = validate(run.kept, validation, settings.batch_size, accelerator)
        if not math.isfinite(held_loss):
            raise FloatingPointError(f"epoch {epoch}: the loss of the validation fields is not finite; look at them.")
        history.append({"epoch": epoch, "loss": loss, "validation_loss": held_loss, "validation_accuracy": accuracy})
        if improved := held_loss < progress["best"].get("loss", math.inf):
            weights = {name: tensor.detach().cpu().clone() for name, tensor in run.kept.state_dict().items()}
            progress["best"] = {"loss": held_loss, "weights": weights}
        yield improved
    run.kept.load_state_dict(progress["best"]["weights"])


def train(
    prepared: Prepared, model_settings: ModelSettings, settings: TrainSettings, folder: Path, resume: Path | None = None
) -> pd.DataFrame:
    """Train a MIL-CNN on split ``train`` and keep the weights of the epoch with the lowest validation loss.

    Writes ``model.safetensors`` and ``history.csv`` to ``folder`` and returns the history, one row an epoch: ``epoch``,
    ``loss`` (training), ``validation_loss``, ``validation_accuracy``. ``resume`` is the checkpoint file, written after
    every epoch and removed at the end. If it exists and has the same settings and fields, the run continues after it,
    on a CPU to bit-identical results. Raises FloatingPointError, which names step and fields, when the loss is not
    finite.
    """
    set_determinism(settings.seed)
    keep_freed_memory()
    accelerator = open_accelerator(settings)
    network = MILCNN(model_settings, prepared.mean, prepared.std)
    training, validation = (
        open_batches(prepared, split, model_settings.multilabel, accelerator.device, settings.data, network.averaged)
        for split in ("train", "validation")
    )
    training = replace(training, jitter=jitter_of(prepared, settings.jitter, settings.channel_dropout))
    check_crop(settings.crop, *prepared.pixels(prepared.fields.iloc[:1]).shape[-2:])
    layout = models.memory_layout(accelerator.device, training=True, width=model_settings.width)
    run = open_run(models.moved(network, accelerator.device, layout), settings, len(training), accelerator)
    identity = checkpoint.run_fingerprint(prepared, model_settings, settings)
    restored = checkpoint.restore_checkpoint(resume, identity, run.parts()) if resume else None
    progress = restored or {"history": [], "best": {}}
    history = progress["history"]
    epochs = fit(run, training, validation, settings, accelerator, progress)
    for improved in tqdm(epochs, desc="train", unit="epoch", total=settings.epochs - len(history)):
        if accelerator.is_main_process:
            if improved:
                models.save_model(run.kept, folder / "model.safetensors")
            write_table(pd.DataFrame(history), folder / "history.csv")
            if resume:
                checkpoint.save_checkpoint(resume, identity, progress, run.parts())
    if accelerator.is_main_process and resume:
        if restored:  # its folder may be emptied since, and no later epoch better
            models.save_model(run.kept, folder / "model.safetensors")
            write_table(pd.DataFrame(history), folder / "history.csv")
        resume.unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return pd.DataFrame(history)
