"""The cells of a study, cleaned and standardised: what every baseline learns from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from milcnn.baselines.foreground import MAD_TO_SD
from milcnn.baselines.measure import feature_names
from milcnn.columns import FIELD_KEY, PLATE, SPLIT
from milcnn.network.batches import targets_of
from milcnn.prepare.prepared import Prepared
from milcnn.roles import JUDGED, plate_references, reference_fields
from milcnn.settings import Settings


class ProfileSettings(Settings):
    """How the baselines learn. Where a setting has several values, the best one on validation is used."""

    clip: float = Field(6.0, gt=0)  # largest |standardised feature|, in standard deviations
    border_cells: bool = True  # false: leave out cells that touch the border of the field
    factors: tuple[int, ...] = (8, 16, 32)  # ljosa: number of factors
    regularisations: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)  # sphered: λ, see sphering
    svm_components: int = Field(300, ge=2)  # svm_vote: landmarks of the approximate RBF kernel
    svm_folds: int = Field(3, ge=2)  # svm_vote: members of the ensemble
    boosting_rounds: int = Field(75, ge=1)  # boosting: at most; the number that is best on validation
    epochs: int = Field(40, ge=1)  # cell_mean, cell_attention: at most; the epoch that is best on validation
    hidden: int = Field(64, ge=1)  # cell_mean, cell_attention: width of the hidden layer
    learning_rates: tuple[float, ...] = (3e-3, 1e-2)  # cell_mean, cell_attention
    seed: int = Field(0, ge=0)


class TooFewCells(ValueError):
    """Why a baseline cannot learn from these cells, in one sentence without a full stop."""


@dataclass(frozen=True)
class Cells:
    """n cells in N fields, with D features each. A field may have no cell."""

    fields: pd.DataFrame  # N rows, as ``Prepared.fields``
    targets: (
        np.ndarray
    )  # (N,) int64, the class index of each field; of several labels (N, C) of 0, 1 and NaN, not known
    features: np.ndarray  # (n, D) float32, standardised and without unit, see ``open_cells``
    field: np.ndarray  # (n,) int64, the row of ``fields`` in which each cell lies
    totals: np.ndarray  # (N, 1 + channels) float32, ``field_totals``, standardised as the features
    names: list[str]  # of the D features
    classes: list[str]

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of cells of each field, (N,)."""
        return np.bincount(self.field, minlength=len(self.fields))

    def split(self, *names: str) -> np.ndarray:
        """True for the fields of the splits ``names``, (N,) bool."""
        return self.fields[SPLIT].isin(names).to_numpy()

    def where(self, mask: np.ndarray) -> "Cells":
        """The fields for which ``mask`` (N,) is true, with their cells."""
        kept = mask[self.field]
        field = (np.cumsum(mask) - 1)[self.field[kept]]
        fields = self.fields[mask].reset_index(drop=True)
        own = {"targets": self.targets[mask], "totals": self.totals[mask]}
        return replace(self, fields=fields, features=self.features[kept], field=field, **own)


def open_cells(
    prepared: Prepared, table: pd.DataFrame, settings: ProfileSettings, with_controls: bool = False
) -> Cells:
    """The cells of ``table`` (``cells.parquet``, see ``measure``) in the fields of ``prepared``, standardised.

    x′ = (x − median) / (1.4826 · median |x − median|), over the cells of ``reference_fields``, so that nothing is known
    of a plate without training fields. ``with_controls``: over the cells of the plate's own ``plate_references``, plate
    by plate (Ljosa 2013, doi 10.1177/1087057113503553), if it has any; those that are in a scored set are then left
    out. x′ is clipped at ±``clip``; values that are not finite become 0, the
    median. Features that are constant, or nowhere defined, over the training cells are left out: all of them without
    training cells.
    """
    fields = prepared.fields.reset_index(drop=True)
    table = table if settings.border_cells else table[~table["touches_border"].astype(bool)]
    place = pd.Series(fields.index, pd.MultiIndex.from_frame(fields[FIELD_KEY].astype(str)))
    field = place.reindex(pd.MultiIndex.from_frame(table[FIELD_KEY].astype(str))).to_numpy(float)
    known = ~np.isnan(field)  # ``prepared`` may have fewer fields than were measured
    table, field = table[known], field[known].astype(np.int64)
    train = (fields[SPLIT] == "train").to_numpy()
    values = table[feature_names(table)].where(np.isfinite)
    values = values.loc[:, values[train[field]].max() > values[train[field]].min()]
    references = plate_references(fields) if with_controls else np.zeros(len(fields), bool)
    features = standardise_features(values.to_numpy(float), field, fields, references, settings.clip)
    each = np.arange(len(fields))
    totals = standardise_features(field_totals(table, field, len(fields)), each, fields, references, settings.clip)
    targets = targets_of(prepared, fields, True).numpy() if prepared.multilabel else prepared.targets(fields)
    cells = Cells(fields, targets, features, field, totals, list(values), prepared.classes)
    return cells.where(~(references & fields[SPLIT].isin(JUDGED).to_numpy()))


def field_totals(table: pd.DataFrame, field: np.ndarray, count: int) -> np.ndarray:
    """The number of cells of each of ``count`` fields, and their intensity above background a channel, (count, 1 + C).

    ``field`` (n,) int is the row of the field of each cell of ``table``.
    """
    parts = table.filter(regex="^Cells_Intensity_IntegratedIntensity_").assign(cells=1)
    totals = parts.groupby(field).sum().reindex(range(count), fill_value=0)
    return totals[["cells", *parts.columns.drop("cells")]].to_numpy(float)


def stored_masks(folder: Path, rows: pd.DataFrame) -> np.ndarray:
    """Nuclei and cells of the fields of ``rows``, (B, 2, H, W) uint16, from ``folder``; see ``measure_study``."""
    stacks = {plate: np.load(folder / "masks" / f"{plate}.npy", mmap_mode="r") for plate in rows[PLATE].unique()}
    return np.stack([stacks[plate][index] for plate, index in zip(rows[PLATE], rows["index"], strict=True)])


def standardise_features(
    values: np.ndarray, field: np.ndarray, fields: pd.DataFrame, references: np.ndarray, clip: float
) -> np.ndarray:
    """``values`` (n, D) of cells in ``field`` (n,), standardised, (n, D) float32; see ``open_cells``.

    ``references`` (N,) bool are the fields that set the scale of their own plate.
    """
    normal = values[reference_fields(fields)[field]]
    result = np.empty(values.shape, np.float32)
    for plate in fields[PLATE].unique():
        on_plate = (fields[PLATE] == plate).to_numpy()
        own, here = values[(on_plate & references)[field]], on_plate[field]
        centre, scale = robust_statistics(own if len(own) else normal, normal)
        result[here] = np.clip(np.nan_to_num((values[here] - centre) / scale), -clip, clip)
    return result


def robust_statistics(reference: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and scale, (D,) each, of ``reference`` (n, D), without NaN.

    The scale is 1.4826 MAD. Where that is 0, it is the standard deviation, then that of ``others`` (m, D), then 1.
    """
    table = pd.DataFrame(reference)
    centre = table.median().fillna(0)
    scale = MAD_TO_SD * (table - centre).abs().median()
    for spare in (table.std(ddof=0), pd.DataFrame(others).std(ddof=0)):
        scale = scale.where(scale > 0, spare)
    return centre.to_numpy(), scale.where(scale > 0, 1).to_numpy()


def field_means(cells: Cells, of: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
    """Mean over the cells of each field of ``of(features)`` (n, K), by default features, (N, K); 0 without cells."""
    means = pd.DataFrame(of(cells.features)).groupby(cells.field).mean()
    return means.reindex(range(len(cells.fields)), fill_value=0).to_numpy(float)
