"""A screen on one page: what it has, and what is left out and why."""

import pandas as pd

from milcnn.columns import (
    COMPOUND,
    CONCENTRATION,
    LABEL,
    METADATA,
    PIXEL_SIZE,
    PLATE,
    SITE,
    TIME,
    WELL,
    Z,
    labels_of,
)
from milcnn.roles import is_control, without_classes
from milcnn.screens.channels import first_header, image_columns
from milcnn.screens.problems import first_few
from milcnn.screens.screen import Screen


def overview(screen: Screen) -> pd.DataFrame:
    """Two columns, ``what`` and ``found``: plates, wells, sites, channels, images, classes, controls, what is left out.

    Reads one header; of a screen without files, one field.
    """
    fields = screen.fields
    wells = fields.groupby(PLATE, sort=False)[WELL].nunique()
    sites = fields.groupby([PLATE, WELL], sort=False)[SITE].nunique()
    controls = fields[is_control(fields)]
    names = sorted(set(controls[COMPOUND if COMPOUND in controls else LABEL]))
    lines = {
        "plates": f"{len(wells)}: {first_few(list(wells.index))}",
        "wells": f"{span(wells)} on a plate, {wells.sum()} in all",
        "sites": f"{span(sites)} in a well, {len(fields)} fields in all",
        "channels": f"{len(screen.channels)}: {', '.join(screen.channels)}",
        "images": image_facts(screen),
        "classes (fields)": fields_by_class(screen),
        "negative controls": f"{', '.join(names)} ({len(controls)} fields)" if len(controls) else "none",
        **doses(fields),
        **columns_without_use(fields),
        **left_out(screen),
    }
    return pd.DataFrame({"what": lines.keys(), "found": lines.values()})


def fields_by_class(screen: Screen) -> str:
    """'drug (12), DMSO (6)': the labels and how many fields have each, the most frequent first."""
    labels = pd.Series([name for label in screen.fields[LABEL] for name in labels_of(label, screen.multilabel)])
    return ", ".join(f"{name} ({count})" for name, count in labels.value_counts().items())


def doses(fields: pd.DataFrame) -> dict[str, str]:
    """A line on the concentrations, if the table has them."""
    if CONCENTRATION not in fields:
        return {}
    named = fields[COMPOUND].fillna("") != "" if COMPOUND in fields else False
    treated = fields[(fields[CONCENTRATION] > 0) & ~is_control(fields) & named]
    if treated.empty:
        return {"concentrations": "none above 0, or of no compound"}
    of_compound = treated.groupby(COMPOUND)[CONCENTRATION].nunique()
    lowest, highest = treated[CONCENTRATION].agg(["min", "max"])
    return {"concentrations": f"{span(of_compound)} of each compound, {lowest:g} to {highest:g} µM"}


def columns_without_use(fields: pd.DataFrame) -> dict[str, str]:
    """A line on columns that milcnn keeps and does nothing with: one of them may be misspelt."""
    known = [*METADATA, Z, TIME, PIXEL_SIZE]
    others = [name for name in fields if name.startswith("Metadata_") and name not in known]
    return {"columns without a use": first_few(others)} if others else {}


def span(counts: pd.Series) -> str:
    """'4', or '3 to 4'."""
    return str(counts.max()) if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"


def image_facts(screen: Screen) -> str:
    """Size and dtype of a field, the size of its pixels, and how many z planes it is made of."""
    paths = [path for column in image_columns(screen.fields) for path in screen.fields[column].head(10)]
    if header := first_header(paths):
        height, width, dtype = header.planes[0]
    else:
        field = screen.read(screen.fields.iloc[0])
        (_, height, width), dtype = field.shape, str(field.dtype)
    pixel = f", {screen.pixel_size:g} µm a pixel" if screen.pixel_size else ""
    stack = "" if screen.z_planes is None else f", from {screen.z_planes[Z].nunique()} z planes"
    return f"{height} × {width} px, {dtype}{pixel}{stack}"


def left_out(screen: Screen) -> dict[str, str]:
    """A line for each reason why something is left out, with its count; one for fields without a label."""
    reasons = screen.skipped["reason"].value_counts() if screen.skipped is not None else pd.Series(dtype=int)
    lines = {f"left out: {reason}": str(count) for reason, count in reasons.items()}
    none = without_classes(screen.fields, len(screen.classes))
    without = sum(not labels_of(label, screen.multilabel) for label in screen.fields.loc[~none, LABEL])
    return lines | ({"without a label, never trained on": f"{without} fields"} if without else {})
