"""Profiles of wells for the tools of image-based profiling, as Parquet and as AnnData (``.h5ad``)."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from milcnn.columns import CONTROL, FIELD_KEY, LABEL, PLATE, SITE, WELL
from milcnn.evaluate.responding_fraction import cells_in_view, with_responding_fraction
from milcnn.files import written_whole

PREFIX = "Cells_MILCNN_"  # compartment and group of a feature, as CellProfiler names them; pycytominer infers these
QUANTITIES = {"p": "p", "P": "P", "y": "y", "responding": "RespondingFraction"}  # of predictions, in a feature's name
CONTROL_TYPE = "Metadata_Control_Type"  # negcon or treatment, as JUMP and mantispy have it
SITE_COUNT = "Metadata_Site_Count"


def profiles_of_wells(predictions: pd.DataFrame, fields: pd.DataFrame, side: int) -> pd.DataFrame:
    """One row a well: metadata, then features, the means over its fields.

    ``predictions`` of one run, see ``predict_fields``; ``fields`` of the prepared study, for quality flags; ``side`` in
    px of a field. Columns: ``Metadata_…`` that all fields of a well share, missing where they differ;
    ``Metadata_Site_Count``; ``Metadata_Control_Type`` if there are controls; ``Metadata_Flag_<name>``, the share of
    flagged fields. Features are ``Cells_MILCNN_<quantity>_<class>`` with the quantities p (p̄), P and y, and where
    ``responding_fractions`` can tell it RespondingFraction, all in [0, 1]. Wells of training fields alone are not
    there: they are not predicted.
    """
    flags = fields.filter(regex="^Flag_").rename(columns=lambda name: f"Metadata_{name}").astype(float)
    rows = predictions.merge(pd.concat([fields[FIELD_KEY], flags], axis=1), on=FIELD_KEY, how="left")
    rows = pd.concat([rows, responding_fractions(rows, side)], axis=1)
    names = {f"{short}_": f"{PREFIX}{long}_" for short, long in QUANTITIES.items()}
    features = rows.filter(regex=f"^({'|'.join(names)})")
    features.columns = [f"{names[name.split('_')[0] + '_']}{name.split('_', 1)[1]}" for name in features]
    wells = [rows[PLATE], rows[WELL]]
    own = rows.filter(regex="^Metadata_").drop(columns=[PLATE, WELL, SITE, *flags])
    metadata = own.groupby(wells, sort=False).agg(lambda values: values.iloc[0] if values.nunique() == 1 else None)
    if CONTROL in metadata:
        metadata[CONTROL_TYPE] = np.where(metadata[CONTROL].eq(True), "negcon", "treatment")
    metadata[SITE_COUNT] = rows.groupby(wells, sort=False).size()
    means = pd.concat([rows[list(flags)], features], axis=1).groupby(wells, sort=False).mean()
    return pd.concat([metadata, means], axis=1).reset_index()


def responding_fractions(predictions: pd.DataFrame, side: int) -> pd.DataFrame:
    """``responding_<class>`` of each field, (N, C − 1), as if all its affected cells showed that class.

    The formula is that of ``evaluate.responding_fraction``; no label of a treated field is used, and controls have
    values too, near 0. Cells in view come from the column ``cells``, or are 1 without it. No columns without p̄ or
    unless the controls have one label, which is a class; NaN on plates without a control.
    """
    control = predictions.get(CONTROL, pd.Series(False, predictions.index)).eq(True)
    labels, p = predictions.loc[control, LABEL].unique(), predictions.filter(regex="^p_")
    if len(labels) != 1 or f"p_{labels[0]}" not in p:
        return pd.DataFrame(index=predictions.index)
    known = predictions[PLATE].isin(predictions.loc[control, PLATE])
    k = cells_in_view(predictions["cells"].mean(), side) if "cells" in predictions else 1.0
    base = predictions[known].assign(method="", seed=0)
    found = {}
    for name in (column.removeprefix("p_") for column in p.columns if column != f"p_{labels[0]}"):
        everyone = base.assign(**{CONTROL: False, LABEL: name, "row": base.index})
        told = with_responding_fraction(pd.concat([base[control[known]].assign(row=-1), everyone]), k)
        found[f"responding_{name}"] = told.set_index("row")["responding_fraction"]
    return pd.DataFrame(found).reindex(predictions.index)


def profile_features(wells: pd.DataFrame) -> list[str]:
    """The features among the columns of a ``profiles_of_wells``."""
    return [name for name in wells if not name.startswith("Metadata_")]


def write_h5ad(wells: pd.DataFrame, provenance: Mapping[str, str], path: Path) -> None:
    """Write ``profiles_of_wells`` as AnnData: X (wells, features) float32, ``obs``, ``var``, ``provenance`` in ``uns``.

    ``obs`` has the metadata, ``var`` the ``quantity`` and the ``class`` of each feature, ``uns`` also what mantispy
    asks for: schema, resolution, key. Written by h5py, in the format that anndata's "On-disk format" describes: on
    Python 3.11 anndata itself needs an older pandas.
    """
    features = profile_features(wells)
    obs = wells.drop(columns=features).set_axis([f"{p}_{w}" for p, w in wells[[PLATE, WELL]].astype(str).to_numpy()])
    parts = [name.removeprefix(PREFIX).split("_", 1) for name in features]
    var = pd.DataFrame(parts, columns=["quantity", "class"], index=features)
    resolution = {"schema_version": "2.0", "resolution": "well", "grouped_by": [PLATE, WELL]}
    content = {
        "X": wells[features].to_numpy(np.float32),
        "obs": obs,
        "var": var,
        "uns": {"milcnn": dict(provenance), "mantispy": resolution},
        **{name: {} for name in ("layers", "obsm", "obsp", "varm", "varp")},
    }
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name, value in content.items():
            write_element(file, name, value)


def write_element(group: h5py.Group, name: str, value: object) -> None:
    """Write one element of AnnData below ``group``: an array, a text, a list of texts, a dict or a table."""
    if isinstance(value, dict | pd.DataFrame):
        part = group.create_group(name)
        part.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        if isinstance(value, pd.DataFrame):
            part.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            part.attrs["column-order"] = np.array(value.columns, h5py.string_dtype())
            write_element(part, "_index", value.index.tolist())
        for key, own in value.items():
            write_element(part, str(key), column_values(own) if isinstance(own, pd.Series) else own)
        return
    kind = "string" if isinstance(value, str) else "string-array" if isinstance(value, list) else "array"
    made = group.create_dataset(name, data=value, dtype=None if kind == "array" else h5py.string_dtype())
    made.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})


def column_values(column: pd.Series) -> np.ndarray | list[str]:
    """Numbers as they are, all else as texts, '' where it is missing."""
    return column.to_numpy() if column.dtype.kind in "biuf" else column.fillna("").astype(str).tolist()
