"""A run of a study, opened for export: its network, its fields, what it predicted."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from milcnn.columns import SPLIT
from milcnn.evaluate.calibration import at_temperature, temperature_of
from milcnn.files import read_table
from milcnn.network.model import MILCNN, load_model
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.score.trained import validation_predictions


@dataclass(frozen=True)
class TrainedRun:
    """A trained network with the files of its run; ``method`` and ``seed`` as in its folder's name."""

    folder: Path
    method: str
    seed: int
    model: MILCNN
    prepared: Prepared
    predictions: pd.DataFrame  # of ``predict_fields``, y at the temperature, with ``method`` and ``seed``
    history: pd.DataFrame
    temperature: float

    @property
    def name(self) -> str:
        return f"{self.model.settings.study}-{self.folder.name}"

    @property
    def field_size(self) -> tuple[int, int]:
        """Height and width of a prepared field, px."""
        height, width = self.prepared.pixels(self.prepared.fields.iloc[:1]).shape[-2:]
        return height, width


def open_trained_run(folder: Path, prepared: Path) -> TrainedRun:
    """The run in ``folder``, such as ``models/digits/noisy_and-0``, of the study in ``prepared``.

    Raises FileNotFoundError for a run that is not trained, ValueError for one of another study.
    """
    ready = load_prepared(prepared)
    model = load_model(folder / "model.safetensors", ready.study)
    if (own := (model.settings.channels, model.settings.classes)) != (ready.channels, ready.classes):
        raise ValueError(f"{folder}: its channels and classes, {own}, are not those of {prepared}; train it again.")
    method, _, seed = folder.name.rpartition("-")
    if not (method and seed.isdecimal()):
        raise ValueError(f"{folder}: not the folder of a run, which is called as in noisy_and-0; name one.")
    hint = "train this run first"
    predictions = read_table(folder / "predictions.csv", hint).assign(method=method, seed=int(seed))
    if not {"validation", "test"} <= set(predictions[SPLIT]):
        raise ValueError(f"{folder / 'predictions.csv'}: has no validation or no test fields; train this run again.")
    history = read_table(folder / "history.csv", hint)
    known = temperature_of(validation_predictions([folder]))
    predictions = at_temperature(predictions, known)
    return TrainedRun(folder, method, int(seed), model, ready, predictions, history, known)
