"""A trained network to use: weights and validation predictions from the folders of its runs; pixels in, a table out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from milcnn.columns import FIELD_KEY, SPLIT
from milcnn.evaluate.calibration import at_temperature, scaled, temperature_of
from milcnn.evaluate.runs import without_unknown
from milcnn.files import read_table
from milcnn.localise.geometry import least_side
from milcnn.network.device import choose_device
from milcnn.network.fast import Precision, openvino_scorer
from milcnn.network.memory import keep_freed_memory
from milcnn.network.model import ModelSettings, Output, load_model
from milcnn.network.predict import inference_copy
from milcnn.network.predictions import prediction_table

# pixels of one channel in a batch, at most: on a CPU a field of 1024 × 1024, whose features stay in the cache
BATCH_PIXELS = {"cpu": 2**20, "cuda": 2**24, "mps": 2**22}
BATCH_FIELDS = 16  # fields in a batch
ScoreBatch = Callable[[Tensor], Output]
Made = TypeVar("Made")
Sliced = TypeVar("Sliced", np.ndarray, pd.DataFrame)


class Scores(NamedTuple):
    """What networks say of N fields, float32 arrays."""

    P: np.ndarray  # (N, C), pooled probability of each class
    y: np.ndarray  # (N, C), class probabilities at the temperature of the networks
    p: np.ndarray  # (N, C), p̄: mean of the instance probabilities
    features: np.ndarray  # (N, D), mean over the instances of the last features of the trunk, of the first network


@dataclass(frozen=True)
class Trained:
    """Networks that were trained alike, as one: the mean of their P, y and p̄.

    ``validation`` has the mean y of the labelled validation fields, at the ``temperature`` that was fitted on them.
    """

    settings: ModelSettings
    scorers: tuple[ScoreBatch, ...]
    device: torch.device
    temperature: float
    validation: pd.DataFrame
    least: int  # px, side of the smallest field

    @torch.inference_mode()
    def scores(self, pixels: np.ndarray) -> Scores:
        """The scores of ``pixels`` (N, channels, H, W), any dtype, in the grey values that the networks learnt from.

        Raises ValueError for another number of channels, and for fields that are too small.
        """
        if min(pixels.shape[-2:]) < self.least:
            size = " × ".join(map(str, pixels.shape[-2:]))
            raise ValueError(f"fields of {size} px: this network needs {self.least} px; score larger ones.")
        return joined_scores(self._batch(part) for part in in_batches(pixels, self.batch_size(pixels.shape)))

    def batch_size(self, shape: tuple[int, ...]) -> int:
        """How many fields of ``shape`` (…, H, W) go through the network at once."""
        return max(1, min(BATCH_FIELDS, BATCH_PIXELS[self.device.type] // (shape[-1] * shape[-2])))

    def score(self, pixels: np.ndarray) -> pd.DataFrame:
        """``scores`` as a table, a row a field: ``predicted``, ``P_<class>``, ``y_<class>``, ``p_<class>``."""
        scores = self.scores(pixels)
        rows, own = pd.DataFrame(index=range(len(pixels))), self.settings
        return prediction_table(rows, own.classes, own.multilabel, P=scores.P, y=scores.y, p=scores.p)

    def _batch(self, pixels: np.ndarray) -> Scores:
        fields = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            fields = fields.pin_memory()  # copied while the device works
        fields = fields.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = [scorer(fields) for scorer in self.scorers]
        y = [(o.logits.sigmoid() if self.settings.multilabel else o.logits.softmax(dim=1)) for o in outputs]
        means = [torch.stack(part).mean(dim=0) for part in ([o.bags for o in outputs], y)]
        p = torch.stack([o.instances.mean(dim=(2, 3)) for o in outputs]).mean(dim=0)
        P, mean_y, mean_p, features = (part.float().cpu().numpy() for part in (*means, p, outputs[0].profiles))
        y_at = scaled(mean_y, self.temperature, self.settings.multilabel).astype(np.float32)
        return Scores(P, y_at, mean_p, features)


def in_batches(whole: Sliced, step: int) -> list[Sliced]:
    """``whole``, an array or the rows of a table, in parts of ``step``."""
    return [whole[start : start + step] for start in range(0, len(whole), step)]


def evenly_spaced(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """``n`` of ``rows``, or all where they are fewer."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int))]


def joined_scores(parts: Iterable[Scores]) -> Scores:
    """The scores of all fields of ``parts``."""
    return Scores(*map(np.concatenate, zip(*parts, strict=True)))


def open_trained(
    *folders: str | Path, device: str = "auto", precision: Precision | None = None, calibration: Tensor | None = None
) -> Trained:
    """The networks of one or more runs, such as the three seeds of ``models/<study>/noisy_and-…``, ready to score.

    ``precision`` scores by OpenVINO on the CPU, see ``fast.openvino_scorer``; None by PyTorch. Raises FileNotFoundError
    for a folder without ``model.safetensors`` or ``predictions.csv``, ValueError for networks of different studies.
    """
    paths = [Path(folder) for folder in folders]
    where = torch.device("cpu") if precision else choose_device(device)
    models = [load_model(path / "model.safetensors", device=where) for path in paths]
    first = models[0].settings
    for path, model in zip(paths, models, strict=True):
        for name in ("study", "channels", "classes", "multilabel"):
            if getattr(model.settings, name) != getattr(first, name):
                raise ValueError(f"{path}: its {name} differ from those of {paths[0]}; score them one by one.")
    keep_freed_memory()
    scorers = [
        one_by_one(openvino_scorer(m, precision, calibration)) if precision else inference_copy(m) for m in models
    ]
    validation = validation_predictions(paths)
    known, least = temperature_of(validation), max(least_side(model.trunk) for model in models)
    return Trained(first, tuple(scorers), where, known, at_temperature(validation, known), least)


def one_by_one(function: Callable[..., Made]) -> Callable[..., Made]:
    """``function`` for several threads, where it takes one call at a time."""
    lock = Lock()

    def locked(*arguments: Any) -> Made:
        with lock:
            return function(*arguments)

    return locked


def validation_predictions(folders: list[Path]) -> pd.DataFrame:
    """The validation fields of runs with the mean of their y, as ``02_train`` wrote them; see ``without_unknown``."""
    tables = [read_table(folder / "predictions.csv", "train the network first") for folder in folders]
    tables = [table[table[SPLIT] == "validation"].set_index(FIELD_KEY) for table in tables]
    y = sum(table.filter(regex="^y_") for table in tables) / len(tables)
    return without_unknown(tables[0].assign(**y).reset_index())
