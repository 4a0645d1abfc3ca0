"""What the explorer shows: a table of fields, their pixels, and what a network makes of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.columns import FIELD_KEY, LABEL, PLATE, WELL, path_column
from milcnn.evaluate.runs import label_matrix, with_errors
from milcnn.figures.gallery import display_range
from milcnn.files import read_table
from milcnn.localise.maps import all_class_maps
from milcnn.localise.objects import object_table
from milcnn.network.model import MILCNN
from milcnn.network.predict import inference_copy, predict_fields
from milcnn.prepare.prepared import Prepared
from milcnn.screens.images import read_field
from milcnn.screens.screen import Screen

RANGE_FIELDS = 8  # so many fields give the brightness range at the start
HELD = 4  # fields whose pixels, maps and cells stay in memory
PREDICTED_AT_ONCE = 200  # fields of a study that has no predictions, at most


@dataclass(frozen=True, eq=False)  # so that two are equal only if they are one: what is computed is kept for each
class Shown:
    """``fields`` has one row a field: its key and any numbers. ``read`` gives the pixels (C, H, W) of a row.

    Without ``network`` there are no class maps. ``profiles`` has the key and columns ``feature_…``; it may be empty.
    """

    fields: pd.DataFrame
    read: Callable[[pd.Series], np.ndarray]
    channels: list[str]
    classes: list[str]
    segmentation: SegmentSettings
    pixel_size: float | None = None  # µm
    network: MILCNN | None = None
    profiles: pd.DataFrame = field(default_factory=pd.DataFrame)


def shown_study(
    prepared: Prepared, network: MILCNN | None, predictions: pd.DataFrame | None, profiles: pd.DataFrame | None,
    segmentation: SegmentSettings,
) -> Shown:  # fmt: skip
    """A prepared study and a network. Without ``predictions`` the network predicts the fields of a small study."""
    fields = prepared.fields
    if predictions is None and network is not None and len(fields) <= PREDICTED_AT_ONCE:
        predictions, profiles = predict_fields(network, prepared, fields)
    if predictions is not None:
        own = predictions[[*FIELD_KEY, *(name for name in predictions if name not in fields)]]
        fields = fields.merge(own, how="left", on=FIELD_KEY)
    return Shown(
        fields=with_loss(fields, prepared.classes),
        read=lambda row: prepared.pixels(row.to_frame().T)[0],
        channels=prepared.channels,
        classes=prepared.classes,
        pixel_size=prepared.pixel_size,
        network=inference_copy(network) if network is not None else None,
        profiles=pd.DataFrame() if profiles is None else profiles,
        segmentation=segmentation,
    )


def shown_tables(folder: Path, segmentation: SegmentSettings, screen: Screen | None) -> Shown:
    """The tables that ``milcnn score`` wrote to ``folder``, a Parquet file a plate; fields with a ``reason`` stay out.

    Shows the pixels as ``screen`` reads them, or those in columns ``Path_<channel>``. Raises FileNotFoundError without
    a table, ValueError without a key, and where it is not known what to read.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no Parquet table here; name the folder that milcnn score wrote.")
    fields = pd.concat([read_table(path) for path in paths], ignore_index=True)
    if missing := [name for name in FIELD_KEY if name not in fields]:
        raise ValueError(f"{paths[0]}: no column {missing[0]}; the explorer needs plate, well and site of each field.")
    if "reason" in fields:
        fields = fields[fields["reason"].fillna("") == ""].reset_index(drop=True)
    start = path_column("")
    channels = screen.channels if screen else [name.removeprefix(start) for name in fields if name.startswith(start)]
    if not channels:
        raise ValueError(f"{folder}: the tables do not name the images; give the screen that was scored, screen=….")
    classes = [name.removeprefix("y_") for name in fields if name.startswith("y_")]
    profile = [name for name in fields if name.startswith("feature_")]
    return Shown(
        fields=with_loss(fields.drop(columns=profile), classes),
        read=reading_of(screen) if screen else lambda row: read_field(row, channels),
        channels=channels,
        classes=classes,
        segmentation=segmentation,
        pixel_size=screen.pixel_size if screen else None,
        profiles=fields[[*FIELD_KEY, *profile]] if profile else pd.DataFrame(),
    )


def reading_of(screen: Screen) -> Callable[[pd.Series], np.ndarray]:
    """Reads the field of ``screen`` that has the key of a row. Raises ValueError for a field that it lacks."""
    places = {tuple(map(str, key)): row for row, key in enumerate(screen.fields[FIELD_KEY].to_numpy())}

    def read(row: pd.Series) -> np.ndarray:
        key = tuple(map(str, row[FIELD_KEY]))
        if key not in places:
            raise ValueError(f"field {'/'.join(key)} is not in the screen; give the one that was scored.")
        return screen.read(screen.fields.iloc[places[key]])

    return read


def with_loss(fields: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """``fields`` with ``correct`` and ``loss`` = −ln y of the label (of several, the least likely), if they have both.

    A field without a label or without a prediction has neither.
    """
    columns = [f"y_{name}" for name in classes]
    if not columns or LABEL not in fields or not {*columns, "predicted"} <= set(fields):
        return fields
    is_label = label_matrix(fields[LABEL], classes).astype(bool)
    y = fields[columns].to_numpy(float)
    known = is_label.any(axis=1) & ~np.isnan(y).any(axis=1)
    least = np.where(is_label, y, 1).min(axis=1).clip(1e-12)
    correct = with_errors(fields)["correct"].where(known)
    return fields.assign(correct=correct, loss=np.where(known, -np.log(least), np.nan))


def worst_first(shown: Shown) -> list[int]:
    """The numbers of the fields by loss, the largest first; without a loss by ``unseen``, or by how unsure y is."""
    fields = shown.fields.reset_index(drop=True)
    if "loss" in fields and fields["loss"].notna().any():
        order = -fields["loss"]
    elif "unseen" in fields:
        order = -fields["unseen"]
    else:
        order = fields.filter(regex="^y_").max(axis=1)
    return [int(row) for row in order.sort_values(kind="stable").index]


def brightness_range(shown: Shown) -> tuple[np.ndarray, np.ndarray]:
    """The values of each channel to show black and at full brightness, (C,) each, from fields over the study."""
    rows = shown.fields.iloc[:: -(-len(shown.fields) // RANGE_FIELDS)]
    low, high = display_range(np.stack([shown.read(row)[..., ::4, ::4] for _, row in rows.iterrows()]))
    return low.ravel(), high.ravel()


@lru_cache(maxsize=HELD)
def pixels_at(shown: Shown, row: int) -> np.ndarray:
    """The pixels (C, H, W) of field number ``row``."""
    return np.asarray(shown.read(shown.fields.iloc[row]))


@lru_cache(maxsize=HELD)
def maps_at(shown: Shown, row: int) -> np.ndarray:
    """The class map of every class of field number ``row``, (K, H, W) float16: half the memory."""
    if shown.network is None:
        raise ValueError("class maps need a network; give one to explore.")
    return all_class_maps(shown.network, torch.from_numpy(pixels_at(shown, row)[None])).cpu().half().numpy()[0]


@lru_cache(maxsize=HELD)
def cells_at(shown: Shown, row: int) -> np.ndarray:
    """The cells of field number ``row``, a label image (H, W)."""
    return segment(pixels_at(shown, row), shown.channels, shown.segmentation, shown.pixel_size)[1]


def cell_table(shown: Shown, row: int, class_index: int | None, threshold: float) -> pd.DataFrame:
    """The cells of field ``row``, see ``object_table``; ``labelled``: their mean of the class's map ≥ ``threshold``."""
    key, cells = dict(shown.fields.iloc[row][FIELD_KEY]), cells_at(shown, row)
    if shown.network is None:
        table = object_table(cells, cells, np.zeros((1, *cells.shape)), ["none"], key, shown.pixel_size)
        return table.drop(columns=["labelled", "score_none", "predicted"])
    table = object_table(cells, cells, maps_at(shown, row), shown.classes, key, shown.pixel_size)
    chosen = table[f"score_{shown.classes[class_index]}"] >= threshold if class_index is not None else False
    return table.assign(labelled=chosen)


def nearest_rows(shown: Shown, row: int, n: int) -> list[int]:
    """The numbers of the ``n`` fields whose profiles are most like that of field ``row``, the most alike first.

    Likeness is the cosine of the profiles, each feature standardised over the fields. None where there is no profile.
    """
    features, known = standardised(shown)
    if not known[row]:
        return []
    likeness = np.where(known, features @ features[row], -np.inf)
    likeness[row] = -np.inf
    order = np.argsort(-likeness, kind="stable")[:n]
    return [int(other) for other in order if np.isfinite(likeness[other])]


@lru_cache(maxsize=1)
def standardised(shown: Shown) -> tuple[np.ndarray, np.ndarray]:
    """Profiles of all fields (N, D), standardised and of length 1, and which fields have one, (N,) bool."""
    if shown.profiles.empty:
        return np.zeros((len(shown.fields), 1)), np.zeros(len(shown.fields), bool)
    table = shown.fields[FIELD_KEY].merge(shown.profiles, how="left", on=FIELD_KEY).filter(regex="^feature_")
    values = table.to_numpy(np.float32)
    known = ~np.isnan(values).any(axis=1)
    spread = values[known].std(axis=0)
    values = (values - values[known].mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.nan_to_num(values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)), known


def top_cells(shown: Shown, class_index: int, n: int) -> pd.DataFrame:
    """Where a class is most likely: the highest place of its map in each of the ``n`` fields of the largest P.

    Columns: ``row``, the number of the field; ``p``; ``y``, ``x`` (px). The largest p first.
    """
    name = shown.classes[class_index]
    column = next((own for own in (f"P_{name}", f"y_{name}") if own in shown.fields), None)
    if shown.network is None or column is None:
        return pd.DataFrame({"row": [], "p": [], "y": [], "x": []})
    ordered = shown.fields[column].reset_index(drop=True).dropna().sort_values(ascending=False, kind="stable")
    found = []
    for row in ordered.index[:n]:
        values = maps_at(shown, int(row))[class_index]
        y, x = np.unravel_index(values.argmax(), values.shape)
        found.append({"row": int(row), "p": float(values[y, x]), "y": int(y), "x": int(x)})
    return pd.DataFrame(found).sort_values("p", ascending=False, kind="stable", ignore_index=True)


def rows_of(shown: Shown, plate: str, well: str | None = None) -> list[int]:
    """The numbers of the fields of a plate, or of one of its wells, in the order of the table."""
    chosen = shown.fields[PLATE] == plate
    return [int(row) for row in np.flatnonzero(chosen if well is None else chosen & (shown.fields[WELL] == well))]
