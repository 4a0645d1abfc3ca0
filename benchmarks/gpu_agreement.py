"""Does a device compute what the CPU computes? Each check of ``gpu_check`` returns ``passed`` and what it measured."""

import copy
import math
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from signal import SIGKILL
from unittest.mock import patch

import pandas as pd
import torch
from accelerate import Accelerator
from throughput import network, random_fields
from torch import Tensor

from milcnn.columns import LABEL
from milcnn.network import checkpoint, predict, train
from milcnn.network.losses import two_headed_loss
from milcnn.network.model import MILCNN, ModelSettings, load_model
from milcnn.network.train import TrainSettings
from milcnn.prepare.fields import prepare
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.screens.sets.digits import DigitsSettings, digits_screen

Facts = dict[str, object]
# largest relative error of values, and of the gradient: that jumps where rounding moves a maximum to another pixel
TOLERANCES = {"float32": (1e-4, 5e-3), "TF32": (2e-3, 2e-2), "bf16": (2e-2, 0.1)}
RELATIVE = {"cpu": 1e-3, "cuda": 3e-2}  # loss of two processes beside that of one


def float64_agreement(device: torch.device, side: int, batch: int) -> Facts:
    """Relative errors ‖x − x₆₄‖ / ‖x₆₄‖ of the paper's network, on random fields, against float64 on the CPU."""
    model, (fields, targets) = network(3, "none").eval(), random_fields(3, side, batch, torch.device("cpu"))
    with patch.object(Tensor, "float", Tensor.double):  # the same code, in float64
        exact = outcome(copy.deepcopy(model).double(), fields, targets)
    model.to(device, memory_format=torch.channels_last)
    errors = {}
    for name in [name for name in TOLERANCES if name != "TF32" or device.type == "cuda"]:
        with precision(name, device):
            values = outcome(model, fields.to(device), targets.to(device))
        errors[name] = {key: relative_error(value, exact[key]) for key, value in values.items()}
    passed = all(
        error <= TOLERANCES[name][key == "gradient"]  # NaN never is
        for name, own in errors.items() for key, error in own.items()
    )  # fmt: skip
    return {"passed": passed, "errors": errors, "tolerances": TOLERANCES}


def outcome(model: MILCNN, fields: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Class maps, y, loss and gradient of a network, float64 on the CPU."""
    output = model(fields)
    loss = two_headed_loss(output, targets).mean()
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    values = {"class maps": output.scores, "y": output.logits, "loss": loss, "gradient": gradient}
    return {name: value.detach().cpu().double() for name, value in values.items()}


def relative_error(values: Tensor, exact: Tensor) -> float:
    return ((values - exact).norm() / exact.norm()).item()


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Convolutions and products in ``name``, a key of ``TOLERANCES``."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = name == "TF32"
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def small_digits(folder: Path, size: int, per_class: int) -> Prepared:
    """Digits on fields of ``size`` px: ``per_class`` training fields a class, a third of that to validate and test."""
    split = {"train": per_class, "validation": -(-per_class // 3), "test": -(-per_class // 3)}
    return prepare(digits_screen(DigitsSettings(size=size, fields_per_class=split)), "digits", folder)


def model_settings(ready: Prepared, **changes: object) -> ModelSettings:
    """The network of study ``digits``."""
    start = {"study": ready.study, "channels": ready.channels, "classes": ready.classes, "width": 0.25}
    start |= {"padding": "same", "normalisation": "batch", "dropout": 0, "dropout_dense": 0}
    return ModelSettings(**(start | changes))


def same_bits(device: torch.device, ready: Prepared, folder: Path, net: ModelSettings, how: TrainSettings) -> Facts:
    """Two runs are equal, byte by byte, and so is one that is killed after its first epoch and started again."""
    train.train(ready, net, how, folder / "first")
    train.train(ready, net, how, folder / "second")
    killed = get_context("spawn").Process(target=run_until_killed, args=(ready.folder, net, how, folder / "third"))
    killed.start()
    killed.join()
    train.train(ready, net, how, folder / "third", folder / "third.ckpt")
    first, second, third = (
        [(folder / run / name).read_bytes() for name in ("model.safetensors", "history.csv")]
        for run in ("first", "second", "third")
    )
    facts = {"two runs": first == second, "killed and resumed": first == third, "killed": killed.exitcode == -SIGKILL}
    return {"passed": all(facts.values()), **facts, "operators that may differ": unstable_operators(device, ready, net)}


def run_until_killed(prepared: Path, net: ModelSettings, how: TrainSettings, folder: Path) -> None:
    """Train, and die as soon as the first checkpoint is written."""
    write = checkpoint.save_checkpoint

    def write_and_die(*arguments: object) -> None:
        write(*arguments)
        os.kill(os.getpid(), SIGKILL)

    with patch.object(checkpoint, "save_checkpoint", write_and_die):
        train.train(load_prepared(prepared), net, how, folder, folder.with_suffix(".ckpt"))


def unstable_operators(device: torch.device, ready: Prepared, net: ModelSettings) -> list[str]:
    """What torch says of operators in a training step that may give other bits in another run."""
    model, rows = MILCNN(net, ready.mean, ready.std).to(device).train(), ready.of("train").iloc[:2]
    fields, targets = (torch.from_numpy(part).to(device) for part in (ready.pixels(rows), ready.targets(rows)))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as seen, precision("bf16", device):
            warnings.simplefilter("always")
            outcome(model, fields, targets)
    finally:
        torch.use_deterministic_algorithms(False)
    return sorted({str(one.message).split(".")[0] for one in seen if "determinis" in str(one.message)})


def bf16_accuracy(device: torch.device, ready: Prepared, folder: Path, net: ModelSettings, how: TrainSettings) -> Facts:
    """Test accuracy of a network trained in bf16 on the device, beside one trained in float32 on the CPU."""
    train.train(ready, net, how.model_copy(update={"device": "cpu"}), folder / "float32")
    with bf16_on_cpu() if device.type == "cpu" else nullcontext():  # on CUDA that is how networks are trained
        train.train(ready, net, how, folder / "bf16")
    n = len(ready.of("test"))
    cpu, own = (kept_accuracy(ready, folder / name) for name in ("float32", "bf16"))
    least = least_accuracy(cpu, n)
    return {"passed": own >= least, "CPU, float32": cpu, f"{device.type}, bf16": own, "least": least, "test fields": n}


def bf16_on_cpu():
    """Inside, ``train`` trains in bf16 on a CPU too."""
    return patch.object(train, "Accelerator", lambda cpu, mixed_precision: Accelerator(cpu=cpu, mixed_precision="bf16"))


def kept_accuracy(ready: Prepared, folder: Path) -> float:
    """Accuracy on the test fields of the network that was trained into ``folder``."""
    predicted, _ = predict.predict_fields(load_model(folder / "model.safetensors"), ready, ready.of("test"))
    return float((predicted["predicted"] == predicted[LABEL]).mean())


def least_accuracy(accuracy: float, n: int) -> float:
    """a − 2 √(2 a (1 − a) / n): the accuracy a less two standard errors of a difference between two on ``n`` fields."""
    return accuracy - 2 * math.sqrt(2 * accuracy * (1 - accuracy) / n)


def two_processes(device: torch.device, ready: Prepared, folder: Path, net: ModelSettings, how: TrainSettings) -> Facts:
    """The losses of two processes, by accelerate, are those of one. On CUDA that takes two devices."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return {"passed": True, "skipped": "one device"}
    net = net.model_copy(update={"normalisation": "group"})  # no dropout: each process draws its own
    one = train.train(ready, net, how, folder / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, device.type, ready.folder, net, how, folder / "two")
    torch.multiprocessing.spawn(one_of_two, arguments, nprocs=2)
    columns = ["loss", "validation_loss"]
    two = pd.read_csv(folder / "two" / "history.csv")
    gap = float(((two[columns] - one[columns]).abs() / one[columns]).to_numpy().max())
    return {"passed": gap <= RELATIVE[device.type], "largest relative difference": gap}


def one_of_two(
    rank: int, port: int, device: str, prepared: Path, net: ModelSettings, how: TrainSettings, folder: Path
) -> None:
    """Process ``rank`` of two, with the variables that ``accelerate launch`` sets."""
    world = {"WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in world.items()}, OMP_NUM_THREADS="1")
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    train.train(load_prepared(prepared), net, how, folder)
    torch.distributed.destroy_process_group()
