"""The architecture of the MIL-CNN, drawn from the model itself: docs/architecture.png, as in Kraus 2016, Fig. 1.

    milcnn architecture

Sizes and weights are measured: a field of the paper's size goes through the paper's network, and every layer tells what
it gave.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from milcnn.figures.style import use_style
from milcnn.files import written_whole
from milcnn.network.model import MILCNN, ModelSettings
from milcnn.network.pooling import Pooling
from milcnn.paths import ROOT

PAPER = ModelSettings.model_validate(
    {"study": "paper", "channels": ["DAPI", "tubulin", "actin"], "classes": [f"MoA {n}" for n in range(1, 14)]}
)
SIDE = 900  # px, of the paper's crops
COLOURS = {
    "average": "#9aa5b1",
    "convolution": "#0C7BDC",
    "maximum": "#9aa5b1",
    "pooling": "#FFC20A",
    "dense": "#5ba300",
}
Trace = list[tuple[nn.Module, Tensor]]


def layer_kind(layer: nn.Module) -> tuple[str, str]:
    """Kind of a layer, a key of ``COLOURS``, and its label; two empty strings for what changes no shape."""
    match layer:
        case nn.Conv2d():
            return "convolution", f"conv {layer.kernel_size[0]} × {layer.kernel_size[0]}"
        case nn.MaxPool2d():
            return "maximum", f"max pool {layer.kernel_size}/{layer.stride}"
        case nn.AvgPool2d():
            return "average", f"average {layer.kernel_size}/{layer.stride}"
        case Pooling():
            return "pooling", "MIL pooling"
        case nn.Linear():
            return "dense", "fully connected"
    return "", ""


@torch.inference_mode()
def layers(settings: ModelSettings, side: int) -> pd.DataFrame:
    """One row a layer that changes a shape: ``kind``, ``label``, ``channels``, ``side`` (px; 1 after the pooling) and
    ``weights``, for a square field of ``side`` px."""
    model = MILCNN(settings).eval()
    trace: Trace = []
    for layer in model.modules():
        if layer_kind(layer)[0]:
            layer.register_forward_hook(lambda own, _, output: trace.append((own, output)))
    model(torch.zeros(1, len(settings.channels), side, side))
    rows = []
    for layer, output in trace:
        kind, label = layer_kind(layer)
        weights = sum(weight.numel() for weight in layer.parameters())
        rows.append((kind, label, output.shape[1], output.shape[-1] if output.ndim == 4 else 1, weights))
    return pd.DataFrame(rows, columns=["kind", "label", "channels", "side", "weights"])


def draw(table: pd.DataFrame, channels: int, side: int) -> plt.Figure:
    """A box a layer, after one for the field: its height follows the side of its maps, its width their number."""
    fig, ax = plt.subplots(figsize=(10, 3.4))
    ax.set_axis_off()
    boxes = [("field", "#333333", channels, side)]
    boxes += [(row.label, COLOURS[row.kind], row.channels, row.side) for row in table.itertuples()]
    x = 0.0
    for label, colour, number, pixels in boxes:
        width, height = 0.12 + 0.16 * np.log2(number), 0.2 + np.sqrt(pixels) / 10
        ax.add_patch(plt.Rectangle((x, -height / 2), width, height, color=colour, alpha=0.85, linewidth=0))
        size = f"{number} × {pixels}²" if pixels > 1 else f"{number}"
        ax.text(x + width / 2, height / 2 + 0.08, size, ha="center", va="bottom", fontsize=6.5, rotation=45)
        ax.text(x + width / 2, -1.75, label, ha="right", va="top", fontsize=7, rotation=45, rotation_mode="anchor")
        x += width + 0.45
    ax.set(xlim=(-0.5, x), ylim=(-3.2, 2.4))
    return fig


def architecture() -> None:
    """Write docs/architecture.png, and print the table of layers."""
    use_style()
    table = layers(PAPER, SIDE)
    with written_whole(ROOT / "docs" / "architecture.png") as temporary:
        draw(table, len(PAPER.channels), SIDE).savefig(temporary, dpi=150)
    print(table.to_string(index=False))
    print(f"{table['weights'].sum():,} weights")
