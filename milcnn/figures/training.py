"""Figures of pooling functions and of training."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from milcnn import pooling
from milcnn.figures.labels import label

N_COLOURS = 7  # the paper's functions are solid lines, the later ones dashed


def pooling_curves(thresholds: pd.DataFrame | None = None, n_instances: int = 49) -> Figure:
    """P against p̄ for every function, on bags whose instances are all alike and all-or-none.

    ``thresholds`` has the learned ``b`` of Noisy-AND, one row a class and seed; each is a tick on
    the axis of the left panel, and the Noisy-AND curve is drawn at their mean.
    """
    fig, axes = plt.subplots(1, 2, figsize=(6.9, 2.9), sharey=True)
    share = torch.linspace(0, 1, n_instances + 1, dtype=torch.float64)
    steps = torch.arange(n_instances)[None] < (share * n_instances).round()[:, None]
    bags = {"every p equal to p̄": share[:, None].expand(-1, n_instances), "a share p̄ at 1, the rest at 0": steps}
    b = float(thresholds["b"].mean()) if thresholds is not None and len(thresholds) else 0.1
    for ax, (title, p) in zip(axes, bags.items(), strict=True):
        for number, name in enumerate(pooling.POOLINGS):
            function = pooling.make(name, 1, **({"b": b} if name == "noisy_and" else {})).double()
            with torch.no_grad():
                ax.plot(
                    share,
                    function(p[:, None].double())[:, 0],
                    label=label(name),
                    clip_on=False,
                    ls="--" if number >= N_COLOURS else "-",
                )
        ax.set(title=title, xlabel="mean instance probability p̄", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("bag probability P")
    axes[0].annotate("all others: P = p̄", (0.97, 0.3), ha="right", color="0.4")
    if thresholds is not None and len(thresholds):
        sns.rugplot(thresholds, x="b", ax=axes[0], height=0.06, color="C0", lw=1)
        axes[0].annotate(
            "learned b", (b, 0.06), (b + 0.1, 0.1), color="C0", arrowprops={"arrowstyle": "-", "color": "C0"}
        )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return fig


def training_curves(history: pd.DataFrame) -> Figure:
    """Training loss, validation loss and accuracy against epoch; one line a method, a band over seeds."""
    panels = {
        "loss": "training loss",
        "validation_loss": "validation loss",
        "validation_accuracy": "validation accuracy",
    }
    fig, axes = plt.subplots(1, 3, figsize=(6.9, 2.2))
    history = history.assign(method=history["method"].map(label))
    for ax, (column, title) in zip(axes, panels.items(), strict=True):
        sns.lineplot(history, x="epoch", y=column, hue="method", errorbar=("pi", 100), ax=ax, legend=ax is axes[0])
        ax.set(title=title, ylabel="")
    axes[0].get_legend().remove()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
