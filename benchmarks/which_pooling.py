"""Which pooling function, when? A sweep over the responding share, the number of digits in a field and wrong labels.

    python benchmarks/which_pooling.py [--seeds 0 1] [--poolings noisy_and mean]

Each point is a study of cluttered digits of its own, with the settings of ``CENTRE`` but for one. A run has a quarter
of the paper's width. The test fields show glyphs that are not trained on, and their labels are always right. Writes
benchmarks/results/which_pooling.json after every point; a point that is there is not run again. Draws
docs/which-pooling.png from it.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import pandas as pd
import torch
from leaves_chance import trained_and_tested
from throughput import machine

from milcnn.figures.labels import label
from milcnn.figures.style import use_style
from milcnn.files import write_json
from milcnn.network.model import ModelSettings
from milcnn.network.train import TrainSettings
from milcnn.paths import ROOT
from milcnn.prepare.fields import prepare
from milcnn.prepare.label_noise import with_condition
from milcnn.prepare.prepared import Prepared
from milcnn.screens.sets.digits import DENSITY, DigitsSettings, digits_screen

RESULT = Path(__file__).parent / "results" / "which_pooling.json"
POOLINGS = ["noisy_and", "log_sum_exp", "generalized_mean", "mean", "max", "noisy_or", "isr"]
CENTRE = {"fraction": 0.2, "size": 192, "wrong": 0}
AXES = {"fraction": [0.1, 0.2, 0.4, 0.8], "size": [96, 128, 192, 288, 384], "wrong": [0, 10, 20, 40]}
TITLES = {"fraction": "share of digits with the label", "size": "digits in a field", "wrong": "% of labels wrong"}
CPU = torch.device("cpu")


def points() -> list[dict[str, float]]:
    """The centre, and each value of ``AXES`` with the other two at the centre."""
    return [CENTRE] + [CENTRE | {axis: value} for axis in AXES for value in AXES[axis] if value != CENTRE[axis]]


def study(point: dict[str, float], folder: Path) -> Prepared:
    """The prepared fields of one ``point``."""
    settings = DigitsSettings(
        size=int(point["size"]),
        fractions=[point["fraction"]],
        fields_per_class={"train": 60, "validation": 12, "test": 40},
    )
    ready = prepare(digits_screen(settings), "digits", folder)
    return with_condition(ready, f"noise{point['wrong']}") if point["wrong"] else ready


def run(ready: Prepared, pooling: str, seed: int) -> dict[str, float]:
    """Test accuracy of one network, and its loss on validation."""
    network = ModelSettings(
        study="digits", channels=ready.channels, classes=ready.classes, pooling=pooling, width=0.25,
        normalisation="batch", padding="same", dropout=0, dropout_dense=0,
    )  # fmt: skip
    settings = TrainSettings(
        epochs=4, passes=3, batch_size=8, learning_rate=0.01, augment="none", device="cpu", seed=seed
    )
    history, tested = trained_and_tested(ready, network, settings)
    accuracy = (tested["predicted"] == tested["Metadata_Label"]).mean()
    return {"accuracy": round(float(accuracy), 4), "validation_loss": round(float(history["validation_loss"].min()), 4)}


def figure(table: pd.DataFrame) -> plt.Figure:
    """Test accuracy against each axis of the sweep, a line a pooling function."""
    use_style()
    fig, axes = plt.subplots(1, len(AXES), figsize=(9, 3), sharey=True)
    for ax, axis in zip(axes, AXES, strict=True):
        others = [name for name in AXES if name != axis]
        rows = table[(table[others] == pd.Series(CENTRE)[others]).all(axis=1)]
        means = rows.groupby(["pooling", axis])["accuracy"].mean().unstack(0)
        x = means.index**2 * DENSITY if axis == "size" else means.index
        for number, pooling in enumerate(POOLINGS):
            if pooling in means:
                ax.plot(x, means[pooling], "o-" if number < 4 else "o--", label=label(pooling), markersize=3)
        ax.set(xlabel=TITLES[axis], xscale="linear" if axis == "wrong" else "log")
        ax.set_xticks(x, [f"{value:.1g}" if axis == "fraction" else f"{value:.0f}" for value in x])
        ax.minorticks_off()
    axes[0].set_ylabel("test accuracy")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", title="chance level: 0.11")
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poolings", nargs="+", default=POOLINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    there = {tuple(row[key] for key in (*CENTRE, "pooling", "seed")) for row in rows}
    for point in points():
        wanted = [(pooling, seed) for pooling in arguments.poolings for seed in arguments.seeds]
        wanted = [pair for pair in wanted if (*point.values(), *pair) not in there]
        with TemporaryDirectory() as folder:
            ready = study(point, Path(folder)) if wanted else None
            for pooling, seed in wanted:
                rows.append(point | {"pooling": pooling, "seed": seed} | run(ready, pooling, seed))
                print(*rows[-1].values(), sep="\t", flush=True)
        write_json({"machine": machine(CPU), "rows": rows}, RESULT)
    figure(pd.DataFrame(rows)).savefig(ROOT / "docs" / "which-pooling.png", dpi=150)


if __name__ == "__main__":
    main()
