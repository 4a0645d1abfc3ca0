"""The cells of a study, cleaned and standardised: what every baseline learns from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from milcnn.baselines.measure import feature_names
from milcnn.columns import FIELD_KEY, PLATE, SPLIT
from milcnn.prepare.prepared import Prepared
from milcnn.roles import is_control, reference_fields
from milcnn.settings import Settings

MAD_TO_SD = 1.4826  # of a normal distribution


class ProfileSettings(Settings):
    """How the baselines learn. Of a setting with several values the one that is best on validation is taken."""

    clip: float = Field(6.0, gt=0)  # largest |standardised feature|, in standard deviations
    border_cells: bool = True  # false: cells that touch the border of the field are left out
    factors: tuple[int, ...] = (8, 16, 32)  # ljosa: number of factors
    regularisations: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)  # sphered: λ, see sphering
    svm_components: int = Field(300, ge=2)  # svm_vote: landmarks of the approximate RBF kernel
    svm_folds: int = Field(3, ge=2)  # svm_vote: members of the ensemble
    boosting_rounds: int = Field(75, ge=1)  # boosting: at most; as many as are best on validation
    epochs: int = Field(40, ge=1)  # cell_mean, cell_attention: the epoch that is best on validation
    hidden: int = Field(64, ge=1)  # cell_mean, cell_attention: width of the cell's layer
    learning_rates: tuple[float, ...] = (3e-3, 1e-2)  # cell_mean, cell_attention
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Cells:
    """n cells of N fields; a field without cells has none in ``field``.

    ``fields`` is a table of N rows as ``Prepared.fields``; ``targets`` (N,) int64 their class indices;
    ``features`` (n, D) float32, without unit: standardised, see ``open_cells``; ``field`` (n,) int64, the
    row of ``fields`` that a cell lies in; ``names`` D names.
    """

    fields: pd.DataFrame
    targets: np.ndarray
    features: np.ndarray
    field: np.ndarray
    names: list[str]
    classes: list[str]

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of cells of each field, (N,)."""
        return np.bincount(self.field, minlength=len(self.fields))

    @cached_property
    def references(self) -> np.ndarray:
        """True where a field tells what is normal, (N,) bool; see ``reference_fields``."""
        return reference_fields(self.fields)

    def split(self, *names: str) -> np.ndarray:
        """True where a field is in one of the splits ``names``, (N,) bool."""
        return self.fields[SPLIT].isin(names).to_numpy()

    def where(self, mask: np.ndarray) -> "Cells":
        """The fields in which ``mask`` (N,) is true, with their cells."""
        kept = mask[self.field]
        position = np.cumsum(mask) - 1
        return Cells(
            self.fields[mask].reset_index(drop=True), self.targets[mask], self.features[kept],
            position[self.field[kept]], self.names, self.classes,
        )  # fmt: skip


def open_cells(prepared: Prepared, table: pd.DataFrame, settings: ProfileSettings) -> Cells:
    """The cells of ``table`` (``cells.parquet``, see ``measure``), standardised robustly.

    x′ = (x − median) / (1.4826 · median |x − median|), over the control cells of the cell's plate (Ljosa
    2013, doi 10.1177/1087057113503553), whatever the split: the layout tells which wells of a test plate
    are controls, and MIL-CNNs see them too where plates are scaled to controls. A plate whose controls have
    no cell, or that has none, takes the cells of ``reference_fields`` instead.
    x′ is clipped at ±``clip``; what is not finite becomes 0, the median. Features that are constant, or
    nowhere defined, over the training cells are left out, as are cells of fields that ``prepared`` does not have.

    Raises ValueError when no training field has a cell.
    """
    fields = prepared.fields.reset_index(drop=True)
    table = table if settings.border_cells else table[~table["touches_border"].astype(bool)]
    place = pd.Series(fields.index, pd.MultiIndex.from_frame(fields[FIELD_KEY].astype(str)))
    field = place.reindex(pd.MultiIndex.from_frame(table[FIELD_KEY].astype(str))).to_numpy(float)
    known = ~np.isnan(field)  # fewer fields may be learnt from than were measured
    table, field = table[known], field[known].astype(np.int64)
    train = (fields[SPLIT] == "train").to_numpy()
    if not train[field].any():
        raise ValueError("cells.parquet: no training field has a cell; change the segmentation settings.")
    values = table[feature_names(table)]
    values = values.loc[:, varies(values[train[field]])]
    features = standardise_features(values.to_numpy(float), field, fields, settings.clip)
    return Cells(fields, prepared.targets(fields), features, field, list(values), prepared.classes)


def stored_masks(folder: Path, rows: pd.DataFrame) -> np.ndarray:
    """Nuclei and cells of the fields of ``rows``, (B, 2, H, W) uint16, from ``folder``; see ``measure_study``."""
    stacks = {plate: np.load(folder / "masks" / f"{plate}.npy", mmap_mode="r") for plate in rows[PLATE].unique()}
    return np.stack([stacks[plate][index] for plate, index in zip(rows[PLATE], rows["index"], strict=True)])


def varies(values: pd.DataFrame) -> np.ndarray:
    """True for each column of ``values`` with at least two different finite values."""
    finite = values.where(np.isfinite(values))
    return (finite.max() > finite.min()).to_numpy()


def standardise_features(values: np.ndarray, field: np.ndarray, fields: pd.DataFrame, clip: float) -> np.ndarray:
    """``values`` (n, D) of cells in ``field`` (n,), a plate at a time, (n, D) float32; see ``open_cells``."""
    values = np.where(np.isfinite(values), values, np.nan)
    normal = values[reference_fields(fields)[field]]
    controls = is_control(fields)
    result = np.empty(values.shape, np.float32)
    for plate in fields[PLATE].unique():
        on_plate = (fields[PLATE] == plate).to_numpy()
        own = values[(on_plate & controls)[field]]
        centre, scale = robust_statistics(own if len(own) else normal, normal)
        here = on_plate[field]
        result[here] = np.clip(np.nan_to_num((values[here] - centre) / scale), -clip, clip)
    return result


def robust_statistics(reference: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and scale, (D,) each, of ``reference`` (n, D); NaN is left out.

    The scale is 1.4826 MAD; where more than half of the cells have one value, and it is 0, the standard
    deviation; where they all have, that of ``others`` (m, D); and then 1.
    """
    with np.errstate(invalid="ignore"):
        centre = nan_median(reference)
        scale = MAD_TO_SD * nan_median(np.abs(reference - centre))
    for spare in (column_sd(reference), column_sd(others), np.ones_like(scale)):
        scale = np.where(scale > 0, scale, spare)
    return centre, scale


def nan_median(values: np.ndarray) -> np.ndarray:
    """Median of each column, 0 for a column without a number, (D,)."""
    return np.nan_to_num(pd.DataFrame(values).median().to_numpy())


def column_sd(values: np.ndarray) -> np.ndarray:
    """Standard deviation of each column, 0 for a column without a number, (D,)."""
    return np.nan_to_num(pd.DataFrame(values).std(ddof=0).to_numpy())


def field_means(cells: Cells) -> np.ndarray:
    """Mean of the features over the cells of each field, (N, D); 0 for a field without cells."""
    return means_of(cells.features, cells)


def means_of(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Mean of ``values`` (n, K) over the cells of each field, (N, K); 0 for a field without cells."""
    means = pd.DataFrame(values).groupby(cells.field).mean()
    return means.reindex(range(len(cells.fields)), fill_value=0).to_numpy(float)
