"""From which start values each pooling function trains: why ``Pooling.start_bias``, b and the head start as they do.

    python benchmarks/initialisation.py [--out benchmarks/results/initialisation.json]

The number of instances in a bag matters here, not the pixels. So the bags are like those of the paper's digits: 576
instances, of which some are the digit of the label, 1…9. The others are zeros, and one of each class. An instance is a
noisy one-hot vector, not the output of a convolution. One linear layer scores the instances. Pooling and class layer
follow as in the model, and both outputs are trained. A row has means over seeds: P of a bag at the start, then loss and
accuracy over the last quarter of the steps. Chance level is 1/9.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milcnn import columns
from milcnn.network import pooling
from milcnn.network.losses import two_headed_loss
from milcnn.network.model import HEAD_START, Output

N_CLASSES, INSTANCES, BATCH = 9, 576, 16
NOISE = 0.5  # standard deviation of an instance about its one-hot vector
FRACTIONS = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.45, 0.6])
BIASES = {0.0, -2.0, -4.0, -5.0}


def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Instances (B, 10, N) and labels (B,), class index 0…8 for the digits 1…9."""
    labels = torch.randint(N_CLASSES, (BATCH,), generator=generator)
    fraction = FRACTIONS[torch.randint(len(FRACTIONS), (BATCH,), generator=generator)]
    digits = torch.zeros(BATCH, INSTANCES, dtype=torch.long)
    digits[:, :N_CLASSES] = torch.arange(1, N_CLASSES + 1)
    carries = torch.arange(INSTANCES) - N_CLASSES < (fraction * INSTANCES)[:, None]
    carries[:, :N_CLASSES] = False
    digits = torch.where(carries, labels[:, None] + 1, digits)
    noise = torch.randn(BATCH, 10, INSTANCES, generator=generator)
    return F.one_hot(digits, 10).float().transpose(1, 2) + NOISE * noise, labels


def starts(methods: list[str]) -> pd.DataFrame:
    """The starts to try: ``pooling``, ``bias``, ``head`` (identity, or torch's default), ``shipped`` (is it ours?)."""
    rows = []
    for name in methods:
        shipped = pooling.POOLINGS[name].start_bias
        rows += [(name, bias, "identity", bias == shipped) for bias in sorted({*BIASES, shipped}, reverse=True)]
        rows.append((name, shipped, "default", False))
        if name == "noisy_and":
            rows += [(f"{name}-b{b}", bias, "identity", False) for b in (0.3, 0.5) for bias in (0.0, -2.0)]
            rows.append((f"{name}-b0.3", 0.0, "default", False))
    return pd.DataFrame(rows, columns=["pooling", "bias", "head", "shipped"])


def trained(method: str, bias: float, head_start: str, steps: int, seed: int) -> tuple[float, float, float]:
    """Train; return P at the start, then loss and accuracy over the last quarter of ``steps``."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    name, settings = columns.parse_method(method)
    function = pooling.make(name, N_CLASSES, 10, **settings)
    scores, head = nn.Conv1d(10, N_CLASSES, 1), nn.Linear(N_CLASSES, N_CLASSES)
    nn.init.xavier_normal_(scores.weight)
    nn.init.constant_(scores.bias, bias)
    if head_start == "identity":
        nn.init.eye_(head.weight).data.mul_(HEAD_START)
        nn.init.zeros_(head.bias)
    layers = nn.ModuleList([function, scores, head])
    optimiser = torch.optim.AdamW(layers.parameters(), 0.01)
    history = []
    for _ in range(steps):
        instances, labels = draw(generator)
        z = scores(instances)
        Z = function(z, features=instances)
        P = Z.sigmoid()
        output = Output(z, z.sigmoid(), Z, P, head(P), instances.mean(dim=2))
        loss = two_headed_loss(output, labels).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(layers.parameters(), 1.0)
        optimiser.step()
        accuracy = (output.logits.argmax(1) == labels).float().mean()
        history.append((P.mean().item(), loss.item(), accuracy.item()))
    late = pd.DataFrame(history[-(steps // 4) :]).mean()
    return history[0][0], late[1], late[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poolings", nargs="+", default=list(pooling.POOLINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "initialisation.json")
    arguments = parser.parse_args()
    rows = []
    for _, start in starts(arguments.poolings).iterrows():
        runs = pd.DataFrame(
            [
                trained(start["pooling"], start["bias"], start["head"], arguments.steps, seed)
                for seed in arguments.seeds
            ],
            columns=["P at start", "loss", "accuracy"],
        )
        rows.append(start.to_dict() | runs.mean().round(3).to_dict() | {"worst seed": round(runs["accuracy"].min(), 3)})
        print(*rows[-1].values(), sep="\t", flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    settings = {"seeds": arguments.seeds, "steps": arguments.steps, "instances": INSTANCES, "torch": torch.__version__}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
