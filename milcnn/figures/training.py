"""Figures of pooling functions and of training."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from milcnn.figures.labels import label

N_COLOURS = 7  # the paper's functions are solid lines, the later ones dashed


def pooling_curves(curves: pd.DataFrame, thresholds: pd.DataFrame | None = None) -> Figure:
    """P against p̄ for every function, on the two kinds of bags of ``curves``, a table of ``pooling.curves``.

    ``thresholds`` has the learned ``b`` of Noisy-AND, one row a class and seed; each is a tick on the left panel.
    """
    fig, axes = plt.subplots(1, 2, figsize=(6.9, 2.9), sharey=True)
    titles = {"equal": "every p equal to p̄", "all or none": "a share p̄ at 1, the rest at 0"}
    for ax, (bag, title) in zip(axes, titles.items(), strict=True):
        of_bag = curves[curves["bag"] == bag]
        for number, (name, curve) in enumerate(of_bag.groupby("pooling", sort=False)):
            line = "--" if number >= N_COLOURS else "-"
            ax.plot(curve["mean"], curve["P"], label=label(name), clip_on=False, ls=line)
        ax.set(title=title, xlabel="mean instance probability p̄", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("bag probability P")
    axes[0].annotate("all others: P = p̄", (0.97, 0.3), ha="right", color="0.4")
    if thresholds is not None and len(thresholds):
        b = thresholds["b"].mean()
        sns.rugplot(thresholds, x="b", ax=axes[0], height=0.06, color="C0", lw=1)
        arrow = {"arrowstyle": "-", "color": "C0"}
        axes[0].annotate("learned b", (b, 0.06), (b + 0.1, 0.1), color="C0", arrowprops=arrow)
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
