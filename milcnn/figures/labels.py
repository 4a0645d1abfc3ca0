"""How figures and tables call the methods."""

from milcnn.columns import parse_method

LABELS = {
    "noisy_and": "Noisy-AND",
    "noisy_or": "Noisy-OR",
    "isr": "ISR",
    "generalized_mean": "generalised mean",
    "log_sum_exp": "log-sum-exp",
    "max": "max",
    "mean": "mean",
    "top_k": "top-k mean",
    "gated_attention": "gated attention",
    "mean_profile": "mean profile",
    "ljosa": "factor profile",
    "sphered": "sphered profile",
    "boosting": "boosted profile",
    "svm_vote": "SVM vote",
    "cell_mean": "cells, mean",
    "cell_attention": "cells, attention",
    "noisy_and-best_baseline": "Noisy-AND less the best baseline",
    "noisy_and_shuffled": "Noisy-AND, shuffled labels",
    "unet": "U-Net",
    "random_weights": "random weights",
    "shuffled_labels": "shuffled labels",
    "random_map": "random map",
    "all_foreground": "all foreground",
    "otsu": "Otsu",
    "classical": "classical segmentation",
}


def label(method: str) -> str:
    """How a figure calls a method: ``noisy_and-a7.5`` → ``Noisy-AND, a = 7.5``."""
    try:
        name, settings = parse_method(method)
    except ValueError:  # a baseline or a floor, not a pooling function
        return LABELS.get(method, method)
    return ", ".join([LABELS.get(name, name), *(f"{key} = {value:g}" for key, value in settings.items())])
