"""The display names of the methods, in figures and in tables."""

from milcnn.columns import parse_method
from milcnn.evaluate.runs import AS_IT_COMES, CONTROLS

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


def label(method: str) -> str:
    """The display name of a method: ``noisy_and-a7.5`` → ``Noisy-AND, a = 7.5``."""
    mark = next((mark for mark in ENDINGS if method.endswith(mark)), "")
    own = method.removesuffix(mark)
    try:
        name, settings = parse_method(own)
    except ValueError:  # not a pooling function with settings
        name, settings = own, {}
    shown = [LABELS.get(name, name.replace("_", " ")), *(f"{key} = {value:g}" for key, value in settings.items())]
    return ", ".join([*shown, *([ENDINGS[mark]] if mark else [])])
