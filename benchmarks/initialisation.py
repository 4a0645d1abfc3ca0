"""Which start each pooling function trains from: the numbers behind ``Pooling.start_bias``, b and the head.

    python benchmarks/initialisation.py [--out benchmarks/results/initialisation.json]

Small fields of cluttered digits (three classes, chance 1/3), a network an eighth as wide as the
paper's, few steps: not the accuracy of the study, but whether a start leaves chance, and how soon.
Every start is tried with the same seeds; a row tells the training loss and the accuracy on training
fields that it ends with, over seeds, and whether it is the shipped start.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from milcnn import model as models
from milcnn import pooling
from milcnn.model import MILCNN, ModelSettings
from milcnn.screens.digits import DigitsSettings, digits_screen
from milcnn.train import two_headed_loss

CLASSES = ["1", "4", "7"]
BIASES = [0.0, -2.0, -4.0, -5.0]


def digits(side: int, per_class: int) -> tuple[Tensor, Tensor]:
    """Fields (N, 1, side, side) uint8 and class indices (N,)."""
    counts = {"train": per_class, "validation": 1, "test": 1}
    screen = digits_screen(DigitsSettings(size=side, fields_per_class=counts, fractions=[0.2, 0.4, 0.6]))
    rows = screen.fields[(screen.fields["Metadata_Split"] == "train") & screen.fields["Metadata_Label"].isin(CLASSES)]
    fields = torch.stack([torch.from_numpy(screen.read(row)) for _, row in rows.iterrows()])
    return fields, torch.tensor([CLASSES.index(label) for label in rows["Metadata_Label"]])


def starts(methods: list[str]) -> list[dict[str, object]]:
    """Every bias with the identity head; the shipped bias with torch's own head; other b of Noisy-AND."""
    rows: list[dict[str, object]] = []
    for name in methods:
        shipped = pooling.POOLINGS[name].start_bias
        rows += [
            {"pooling": name, "bias": bias, "head": "identity"} for bias in sorted({*BIASES, shipped}, reverse=True)
        ]
        rows.append({"pooling": name, "bias": shipped, "head": "default"})
        if name == "noisy_and":
            rows += [
                {"pooling": f"{name}-b{b}", "bias": bias, "head": "identity"}
                for b in (0.3, 0.5)
                for bias in (0.0, -2.0)
            ]
    return rows


def started(start: dict[str, object], side_seed: int, fields: Tensor) -> MILCNN:
    """A network that starts as ``start`` says."""
    torch.manual_seed(side_seed)
    settings = ModelSettings(
        study="digits", channels=["digit"], classes=CLASSES, pooling=start["pooling"], width=0.125,
        normalisation="batch", padding="same", dropout=0, dropout_dense=0,
    )  # fmt: skip
    values = fields.float()
    network = MILCNN(settings, [values.mean().item()], [values.std().item()])
    nn.init.constant_(network.scores.bias, start["bias"])
    if start["head"] == "default":
        network.head.reset_parameters()
    return network.to(memory_format=torch.channels_last)


def trained(network: MILCNN, fields: Tensor, targets: Tensor, steps: int, seed: int) -> tuple[float, float]:
    """Loss and accuracy over the last quarter of ``steps`` batches of 12."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, steps, pct_start=0.2)
    losses, right = [], []
    for _ in range(steps):
        chosen = torch.randint(len(fields), (12,), generator=generator)
        output = network(fields[chosen])
        loss = two_headed_loss(output, targets[chosen]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        right.append((output.logits.argmax(1) == targets[chosen]).float().mean().item())
    late = steps // 4
    return sum(losses[-late:]) / late, sum(right[-late:]) / late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poolings", nargs="+", default=list(pooling.POOLINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "initialisation.json")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    fields, targets = digits(arguments.side, 40)
    rows = []
    for start in starts(arguments.poolings):
        name = pooling.parse(start["pooling"])[0]
        runs = [
            trained(started(start, seed, fields), fields, targets, arguments.steps, seed) for seed in arguments.seeds
        ]
        losses, right = zip(*runs, strict=True)
        shipped = start["bias"] == pooling.POOLINGS[name].start_bias and start["head"] == "identity"
        result = {"loss": sum(losses) / len(runs), "accuracy": sum(right) / len(runs), "worst seed": min(right)}
        rows.append(
            start
            | {key: round(value, 3) for key, value in result.items()}
            | {"shipped": shipped and start["pooling"] == name}
        )
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    settings = {key: str(value) for key, value in vars(arguments).items() if key != "out"}
    result = {"settings": settings, "head start": models.HEAD_START, "torch": torch.__version__, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
