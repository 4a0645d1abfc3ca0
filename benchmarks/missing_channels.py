"""Does one network trained with channel drop-out do as well on some channels as a network trained on these alone?

    python benchmarks/missing_channels.py simulated [--dropout 0.3] [--epochs 4] [--passes 4] [--seed 0]

Three kinds of networks with the settings of the study, but fewer steps: ``usual`` and ``drop-out`` see all channels in
training (``train.TrainSettings.channel_dropout`` 0 or ``--dropout``); in a subset each missing channel is set to its
training mean. ``subset`` is trained on the channels of the row alone. A row has their accuracy on the test fields.
Prepare the study first. Writes benchmarks/results/missing_channels-<study>.json.
"""

import argparse
import time
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from leaves_chance import parameters, settings_of
from throughput import machine

from milcnn.files import write_json
from milcnn.network.model import MILCNN, load_model
from milcnn.network.predict import predict_fields
from milcnn.network.train import train
from milcnn.paths import ROOT
from milcnn.prepare.prepared import Prepared, load_prepared


class ChannelsOnly(Prepared):
    """A prepared study as if it had only some channels."""

    whole: Prepared

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        return self.whole.pixels(rows)[:, self.places]

    def channel_levels(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        mean, std = self.whole.channel_levels(rows)
        return mean[self.places], std[self.places]

    @property
    def places(self) -> list[int]:
        return [self.whole.channels.index(name) for name in self.channels]


class ChannelsMissing(Prepared):
    """A prepared study in which the channels outside ``kept`` are set to their training mean."""

    kept: tuple[str, ...]

    def pixels(self, rows: pd.DataFrame) -> np.ndarray:
        fields = super().pixels(rows).astype(np.float32)
        for place, name in enumerate(self.channels):
            if name not in self.kept:
                fields[:, place] = self.mean[place]
        return fields


def alone(ready: Prepared, kept: tuple[str, ...]) -> ChannelsOnly:
    places = [ready.channels.index(name) for name in kept]
    levels = {"mean": [ready.mean[k] for k in places], "std": [ready.std[k] for k in places]}
    made = ChannelsOnly(**vars_of(ready) | {"channels": list(kept)} | levels)
    object.__setattr__(made, "whole", ready)
    return made


def lacking(ready: Prepared, kept: tuple[str, ...]) -> ChannelsMissing:
    made = ChannelsMissing(**vars_of(ready))
    object.__setattr__(made, "kept", kept)
    return made


def vars_of(ready: Prepared) -> dict[str, object]:
    return {name: getattr(ready, name) for name in Prepared.__dataclass_fields__}


def trained(ready: Prepared, arguments: argparse.Namespace, dropout: float) -> MILCNN:
    """The best epoch of one training, and its CPU time on the screen."""
    network, usual = settings_of(ready, parameters(ready.study))
    steps = {"epochs": arguments.epochs, "passes": arguments.passes}
    settings = usual.model_copy(update=steps | {"seed": arguments.seed, "channel_dropout": dropout, "device": "cpu"})
    start = time.process_time()
    with TemporaryDirectory() as folder:
        train(ready, network, settings, Path(folder))
        model = load_model(Path(folder) / "model.safetensors", ready.study)
    print(f"{', '.join(ready.channels)}: {time.process_time() - start:.0f} s of CPU", flush=True)
    return model


def accuracy(model: MILCNN, ready: Prepared) -> float:
    test = ready.of("test")
    y = predict_fields(model, ready, test)[0].filter(regex="^y_").to_numpy()
    return round(float((y.argmax(axis=1) == ready.targets(test)).mean()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    ready = load_prepared(ROOT / "data" / "prepared" / arguments.study, arguments.study)
    usual, dropped = (trained(ready, arguments, share) for share in (0, arguments.dropout))
    subsets = [kept for n in range(len(ready.channels), 0, -1) for kept in combinations(ready.channels, n)]
    rows = []
    for kept in subsets:
        part = alone(ready, kept)
        own = usual if kept == tuple(ready.channels) else trained(part, arguments, 0)
        scores = {"usual": accuracy(usual, lacking(ready, kept)), "drop-out": accuracy(dropped, lacking(ready, kept))}
        rows.append({"channels": " + ".join(kept)} | scores | {"subset": accuracy(own, part)})
        print(*rows[-1].values(), sep="\t", flush=True)
        facts = {"machine": machine(torch.device("cpu")), "settings": vars(arguments), "rows": rows}
        write_json(facts, Path(__file__).parent / "results" / f"missing_channels-{arguments.study}.json")


if __name__ == "__main__":
    main()
