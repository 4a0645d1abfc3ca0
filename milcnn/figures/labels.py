"""The display name of each method, in figures and tables, and its colour and marker, the same in every figure."""

from typing import Any

from milcnn.columns import parse_method
from milcnn.evaluate.runs import AS_IT_COMES, CONTROLS, MAIN_METHOD

LABELS = {  # all other names are shown with spaces for underscores
    "noisy_and": "Noisy-AND",
    "noisy_or": "Noisy-OR",
    "isr": "ISR",
    "generalized_mean": "generalised mean",
    "log_sum_exp": "log-sum-exp",
    "top_k": "top-k mean",
    "cell_count": "number of cells",
    "ljosa": "factor analysis profile",
    "boosting": "gradient boosting",
    "svm_vote": "SVM vote",
    "cell_mean": "MIL on cells, mean",
    "cell_attention": "MIL on cells, attention",
    "sphered": "sphered profile",
    "embedding": "frozen embedding",
    "embedding_attention": "frozen embedding, attention",
    "noisy_and-best_baseline": "Noisy-AND minus the best baseline",
    "noisy_and_shuffled": "Noisy-AND, shuffled labels",
    "unet": "supervised U-Net",
    "otsu": "Otsu threshold",
    "middle_dose": "constant guess, the middle of the doses",
    "classical": "classical segmentation",
}
ENDINGS = {CONTROLS: "with controls", AS_IT_COMES: "segmentation as it comes"}


# The methods that the text speaks of. Their colours (Okabe and Ito 2008) are distinct for colour-blind readers.
METHOD_COLOURS = {
    "noisy_and": "#0072B2",
    "mean": "#D55E00",
    "log_sum_exp": "#009E73",
    "boosting": "#CC79A7",
    "cell_attention": "#E69F00",
    "sphered": "#56B4E9",
    "unet": "#8C6D31",
}
OTHERS_GREY = "0.6"  # all other methods; a marker tells those of one figure apart
OTHER_POOLINGS = {
    "max": "<", "noisy_or": ">", "isr": "p", "generalized_mean": "h", "top_k": "d", "quantile": "x", "softmax": "+",
    "power": "*", "autopool": "X", "attention": "|", "gated_attention": "_",
}  # fmt: skip
OTHER_BASELINES = {
    "svm_vote": "<", "cell_mean": ">", "ljosa": "p", "mean_profile": "h", "cell_count": "d", "total_intensity": "*",
    "embedding": "x", "embedding_attention": "+", "noisy_and_shuffled": "X",
}  # fmt: skip
METHOD_MARKERS = dict(zip(METHOD_COLOURS, "os^DvPX", strict=True)) | OTHER_POOLINGS | OTHER_BASELINES


def parts_of_name(method: str) -> tuple[str, dict[str, float], str]:
    """Name, settings and ending: ``noisy_and-a7.5+controls`` → ``("noisy_and", {"a": 7.5}, "+controls")``."""
    mark = next((mark for mark in ENDINGS if method.endswith(mark)), "")
    own = method.removesuffix(mark)
    try:
        return *parse_method(own), mark
    except ValueError:  # not a pooling function with settings
        return own, {}, mark


def look(method: str) -> dict[str, Any]:
    """How a line or point of ``method`` is drawn, for matplotlib. A hollow marker stands for an ending.

    With settings the line is dashed; the dashes are as long as the value of the setting.
    """
    name, settings, mark = parts_of_name(method)
    spoken_of = name in METHOD_COLOURS
    colour = METHOD_COLOURS.get(name, OTHERS_GREY)
    return {
        "color": colour,
        "marker": METHOD_MARKERS.get(name, "."),
        "markerfacecolor": "white" if mark else colour,
        "linestyle": (0, (next(iter(settings.values())), 1.5)) if settings else "-",
        "linewidth": 1.4 if spoken_of else 0.8,
        "zorder": 2 + spoken_of + (name == MAIN_METHOD),  # the coloured lines are in front
    }


def label(method: str) -> str:
    """The display name of a method: ``noisy_and-a7.5`` → ``Noisy-AND, a = 7.5``."""
    name, settings, mark = parts_of_name(method)
    shown = [LABELS.get(name, name.replace("_", " ")), *(f"{key} = {value:g}" for key, value in settings.items())]
    return ", ".join([*shown, *([ENDINGS[mark]] if mark else [])])
