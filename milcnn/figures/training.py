"""Figures of pooling functions and of training."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from milcnn.figures.labels import label, look


def pooling_curves(curves: pd.DataFrame, thresholds: pd.DataFrame | None = None) -> plt.Figure:
    """P against p̄ for every pooling function, on the two kinds of bags of ``pooling.curves.response_curves``.

    ``thresholds`` has the learned ``b`` of Noisy-AND, one row per class and seed: the ticks of the left panel.
    """
    fig, axes = plt.subplots(1, 2, figsize=(6.9, 2.9), sharey=True)
    titles = {"equal": "every p equal to p̄", "all or none": "share p̄ with p = 1, the rest with p = 0"}
    for ax, (bag, title) in zip(axes, titles.items(), strict=True):
        for number, (name, curve) in enumerate(curves[curves["bag"] == bag].groupby("pooling", sort=False)):
            every = (number % 5, 7)  # curves that lie on each other show their markers in turn
            ax.plot(curve["mean"], curve["P"], label=label(name), clip_on=False, markevery=every, **look(name))
        ax.set(title=title, xlabel="mean instance probability p̄", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("bag probability P")
    axes[0].annotate("all others: P = p̄", (0.97, 0.3), ha="right", color="0.4")
    if thresholds is not None and len(thresholds):
        b = thresholds["b"].mean()
        sns.rugplot(thresholds, x="b", ax=axes[0], height=0.06, color=look("noisy_and")["color"], lw=1)
        arrow = {"arrowstyle": "-", "color": "0.4"}
        axes[0].annotate("learned b", (b, 0.06), (b + 0.1, 0.1), color="0.4", arrowprops=arrow)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return fig


def training_curves(history: pd.DataFrame) -> plt.Figure:
    """Training loss, validation loss and accuracy against epoch: one line per method, a band over seeds."""
    fig, axes = plt.subplots(1, 3, figsize=(6.9, 2.2))
    palette = {label(method): look(method)["color"] for method in history["method"].unique()}
    history = history.assign(method=history["method"].map(label), training_loss=history["loss"])
    shown = {"hue": "method", "palette": palette, "errorbar": ("pi", 100)}
    for ax, column in zip(axes, ["training_loss", "validation_loss", "validation_accuracy"], strict=True):
        sns.lineplot(history, x="epoch", y=column, ax=ax, legend=ax is axes[0], **shown)
        ax.set(title=column.replace("_", " "), ylabel="")
    axes[0].get_legend().remove()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig
