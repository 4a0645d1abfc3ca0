"""BBBC021v1: MCF-7 cells treated with 113 compounds, labelled by mechanism of action (MoA).

Caie et al. 2010, Ljosa et al. 2013; Broad Bioimage Benchmark Collection. 55 plates × 60 wells × 4 sites of
1024 × 1280 px, 16 bit, DAPI, tubulin and actin, one zip per plate. 103 treatments (a compound at a concentration)
have one of 12 MoAs. Every plate has DMSO wells.
"""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from milcnn.columns import BATCH, COMPOUND, CONCENTRATION, CONTROL, FIELD_KEY, LABEL, REPLICATE, path_column
from milcnn.files import read_table
from milcnn.screens.cellprofiler import to_our_columns
from milcnn.screens.download import fetch
from milcnn.screens.images import read_field
from milcnn.screens.opening import open_zip
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

PLATE, WELL, SITE = FIELD_KEY
URL = "https://data.broadinstitute.org/bbbc/BBBC021/"
CHANNELS = ["DAPI", "Tubulin", "Actin"]
PATHS = [path_column(name) for name in CHANNELS]
DMSO = "DMSO"
MOA_KEY = [COMPOUND, CONCENTRATION]  # each treatment has one MoA


class Bbbc021Settings(Settings):
    """Which plates are fetched, and which of their fields are used."""

    plates: Literal["all"] | list[str] = "all"  # names as in the image CSV: Week4_27481; all 55 are 41 GB
    fields_per_treatment: int | None = Field(24, ge=1)  # caps taxol 0.3 µM, 1,332 fields; others have about 12
    dmso: Literal["class", "control"] = "class"  # control: DMSO only scales the plates and is not a class
    missing: Literal["error", "skip"] = "error"  # fields that are in the CSV but not in the zip
    seed: int = 0  # for the random choice of fields of a capped treatment


def bbbc021_screen(settings: Bbbc021Settings) -> Screen:
    """The labelled fields of the requested plates, read from their zips in place.

    The image CSV says which files belong to a field. Fields of compounds without a known MoA are left out.
    Raises ValueError for a plate that does not exist, and the errors of ``fetch``.
    """
    images, moa = (read_table(fetch_file(f"BBBC021_v1_{name}.csv")) for name in ("image", "moa"))
    fields = of_plates(field_table(images, moa), settings.plates)
    zips = {plate: fetch_file(f"BBBC021_v1_images_{plate}.zip") for plate in fields[PLATE].unique()}
    folders = fields[PLATE].map(lambda plate: zips[plate].as_posix() + "/")
    fields = fields.assign(**{path: folders + fields[path] for path in PATHS})
    fields, skipped, problems = without_missing(fields, zips, settings.missing)
    fields = cap(fields, settings.fields_per_treatment, settings.seed)
    classes = sorted(fields.loc[~fields[CONTROL] | (settings.dmso == "class"), LABEL].unique())
    read = partial(read_field, channels=CHANNELS)
    return Screen(fields, CHANNELS, classes, read, planes=1, skipped=skipped, problems=problems)


def fetch_file(name: str) -> Path:
    return fetch("bbbc021", name, URL + name)


def field_table(images: pd.DataFrame, moa: pd.DataFrame) -> pd.DataFrame:
    """One row per field with a MoA or of DMSO; paths are ``<plate>/<file>``, as in the zip. The batch is the week."""
    columns = {PLATE: "Image_Metadata_Plate_DAPI", WELL: "Image_Metadata_Well_DAPI", REPLICATE: "Replicate"}
    fields = to_our_columns(images, columns, "BBBC021_v1_image.csv")
    fields[BATCH] = fields[PATHS[0]].str.split("/").str[0]
    # the start of a file name differs between weeks and is absent in Week4; the site follows the well
    fields[SITE] = fields[PATHS[0]].str.extract(r"_s(\d+)_w1[^/]*$", expand=False).astype(int)
    fields[PATHS] = fields[PATHS].replace(".*/(.*/.*)", r"\1", regex=True)
    # a left merge keeps the order of the table, an inner merge does not
    labels = moa.set_axis([*MOA_KEY, LABEL], axis=1)
    fields = fields.merge(labels, on=MOA_KEY, how="left", validate="many_to_one").dropna(subset=LABEL)
    fields[CONTROL] = fields[COMPOUND] == DMSO
    return fields[[*FIELD_KEY, BATCH, *MOA_KEY, LABEL, REPLICATE, CONTROL, *PATHS]]


def of_plates(fields: pd.DataFrame, plates: str | list[str]) -> pd.DataFrame:
    if plates == "all":
        return fields
    if unknown := ", ".join(sorted(set(plates) - set(fields[PLATE]))):
        raise ValueError(f"plates: BBBC021 has no plate {unknown}; use names of its image CSV, such as Week4_27481.")
    return fields[fields[PLATE].isin(plates)]


def without_missing(
    fields: pd.DataFrame, zips: dict[str, Path], missing: str
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """The complete fields, the others with the ``reason``, and the problems that ``check`` reports."""
    names = {f"{path.as_posix()}/{name}" for path in zips.values() for name in open_zip(path).namelist()}
    absent = ~fields[PATHS].isin(names).to_numpy()
    complete = ~absent.any(axis=1)
    reasons = ["the zip lacks " + ", ".join(np.array(CHANNELS)[row]) for row in absent[~complete]]
    skipped = fields[~complete].assign(reason=reasons)
    problems = [
        f"{zips[plate]}: lacks files of {len(rows)} of its {np.count_nonzero(fields[PLATE] == plate)} fields, such as "
        f"{Path(rows[PATHS[0]].iloc[0]).name}; fetch it again, or set 'missing: skip'."
        for plate, rows in skipped.groupby(PLATE, sort=False)
        if missing == "error"
    ]
    return fields[complete].reset_index(drop=True), skipped.reset_index(drop=True), tuple(problems)


def cap(fields: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """At most ``most`` fields of each treatment, from as many plates as possible. Controls are not capped."""
    if most is None:
        return fields
    shuffled = fields.sample(frac=1, random_state=seed)
    turn = shuffled.groupby([*MOA_KEY, PLATE]).cumcount()  # first one field of each plate, then a second, …
    shuffled = shuffled.loc[turn.sort_values(kind="stable").index]
    kept = shuffled[(shuffled.groupby(MOA_KEY).cumcount() < most) | shuffled[CONTROL]]
    return fields.loc[sorted(kept.index)].reset_index(drop=True)
