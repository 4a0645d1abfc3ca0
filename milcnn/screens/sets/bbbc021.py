"""BBBC021v1: MCF-7 cells under 113 compounds, labelled by mechanism of action (MoA).

Caie et al. 2010, Ljosa et al. 2013; Broad Bioimage Benchmark Collection. 55 plates × 60 wells × 4
sites of 1024 × 1280 px, 16 bit, DAPI, tubulin and actin, in one zip a plate. 103 treatments
(compound at a concentration) have one of 12 MoAs, and there is DMSO on every plate.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from milcnn.columns import (
    BATCH,
    COMPOUND,
    CONCENTRATION,
    CONTROL,
    LABEL,
    METADATA,
    PLATE,
    REPLICATE,
    SITE,
    WELL,
    class_names,
    path_column,
)
from milcnn.files import read_table
from milcnn.screens.download import fetch
from milcnn.screens.images import open_zip, read_field
from milcnn.screens.screen import Screen
from milcnn.settings import Settings

URL = "https://data.broadinstitute.org/bbbc/BBBC021/"
CHANNELS = ["DAPI", "Tubulin", "Actin"]
DMSO = "DMSO"
TREATMENT = [COMPOUND, CONCENTRATION]


class Bbbc021Settings(Settings):
    """Which plates are fetched, and which of their fields are used."""

    plates: Literal["all"] | list[str] = "all"  # as in the image CSV, Week4_27481; all 55 are 41 GB
    fields_per_treatment: int | None = Field(24, ge=1)  # caps taxol 0.3 µM, 1,332 fields; others have 12 or so
    dmso: Literal["class", "control"] = "class"  # a class to learn, or there to scale the plates only
    missing: Literal["error", "skip"] = "error"  # fields that the CSV names and the zip lacks
    seed: int = 0  # draws the fields of a capped treatment


def bbbc021_screen(settings: Bbbc021Settings) -> Screen:
    """The labelled fields of the wanted plates, read from their zips in place.

    A field belongs to a file only where the image CSV says so. Fields of compounds without a known
    MoA are left out. Raises ValueError for a plate that does not exist, and whatever ``fetch`` does.
    """
    images = read_table(fetch("bbbc021", "BBBC021_v1_image.csv", URL + "BBBC021_v1_image.csv"))
    moa = read_table(fetch("bbbc021", "BBBC021_v1_moa.csv", URL + "BBBC021_v1_moa.csv"))
    fields = of_plates(field_table(images, moa), settings.plates)
    zips = {plate: fetch_plate(plate) for plate in fields[PLATE].unique()}
    fields = in_zips(fields, zips)
    fields, skipped, problems = without_missing(fields, zips, settings.missing)
    fields = cap(fields, settings.fields_per_treatment, settings.seed)
    return Screen(
        fields=fields,
        channels=CHANNELS,
        classes=class_names(fields, with_controls=settings.dmso == "class"),
        read=lambda row: read_field(row, CHANNELS),
        planes=1,
        skipped=skipped,
        problems=tuple(problems),
    )


def field_table(images: pd.DataFrame, moa: pd.DataFrame) -> pd.DataFrame:
    """One row a field whose treatment has a MoA or is DMSO; paths as in the plate's zip. Batch is the week."""
    labels = moa.set_axis([COMPOUND, CONCENTRATION, LABEL], axis=1)
    fields = pd.DataFrame(
        {
            PLATE: images["Image_Metadata_Plate_DAPI"],
            WELL: images["Image_Metadata_Well_DAPI"],
            # the prefix of a name differs by week and is absent in Week4; its site follows the well
            SITE: images["Image_FileName_DAPI"].str.extract(r"_s(\d+)_w1", expand=False).astype(int),
            BATCH: images["Image_PathName_DAPI"].str.split("/").str[0],
            COMPOUND: images["Image_Metadata_Compound"],
            CONCENTRATION: images["Image_Metadata_Concentration"],
            REPLICATE: images["Replicate"],
            **{path_column(name): member(images, name) for name in CHANNELS},
        }
    )
    # left, then dropped: an inner merge would not keep the order of the table
    fields = fields.merge(labels, on=TREATMENT, how="left", validate="many_to_one").dropna(subset=LABEL)
    fields[CONTROL] = fields[COMPOUND] == DMSO
    return fields[[column for column in METADATA if column in fields] + [path_column(name) for name in CHANNELS]]


def member(images: pd.DataFrame, channel: str) -> pd.Series:
    """``<plate>/<file>``, the name of a channel's file in the zip of its plate."""
    return images[f"Image_PathName_{channel}"].str.split("/").str[-1] + "/" + images[f"Image_FileName_{channel}"]


def of_plates(fields: pd.DataFrame, plates: str | list[str]) -> pd.DataFrame:
    if plates == "all":
        return fields
    unknown = sorted(set(plates) - set(fields[PLATE]))
    if unknown:
        raise ValueError(
            f"plates: BBBC021 has no plate {', '.join(unknown)}; its image CSV names them, as Week4_27481."
        )
    return fields[fields[PLATE].isin(plates)]


def fetch_plate(plate: str) -> Path:
    name = f"BBBC021_v1_images_{plate}.zip"
    return fetch("bbbc021", name, URL + name)


def in_zips(fields: pd.DataFrame, zips: dict[str, Path]) -> pd.DataFrame:
    """``fields`` with their paths led by those of their zips."""
    folders = fields[PLATE].map(lambda plate: zips[plate].as_posix() + "/")
    return fields.assign(**{path_column(name): folders + fields[path_column(name)] for name in CHANNELS})


def without_missing(
    fields: pd.DataFrame, zips: dict[str, Path], missing: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The fields whose files are all there, the others with their ``reason``, and what ``check`` shall tell of them."""
    there = {f"{path.as_posix()}/{name}" for path in zips.values() for name in open_zip(path).namelist()}
    present = pd.DataFrame({name: fields[path_column(name)].isin(there) for name in CHANNELS}, index=fields.index)
    whole = present.all(axis=1)
    lacking = [", ".join(np.array(CHANNELS)[~row]) for row in present[~whole].to_numpy()]
    skipped = fields[~whole].assign(reason=[f"the zip lacks {names}" for names in lacking])
    problems = []
    if missing == "error":
        for plate, rows in skipped.groupby(PLATE, sort=False):
            problems.append(
                f"{zips[plate]}: lacks files of {len(rows)} of its {np.count_nonzero(fields[PLATE] == plate)} fields, "
                f"such as {rows[path_column(CHANNELS[0])].iloc[0].rsplit('/', 1)[-1]}; fetch it again, or set "
                "'missing: skip'."
            )
    return fields[whole].reset_index(drop=True), skipped.reset_index(drop=True), problems


def cap(fields: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """At most ``most`` fields of a treatment, from as many plates as can be; controls are never capped."""
    if most is None:
        return fields
    drawn = fields.sample(frac=1, random_state=seed)
    turn = drawn.groupby([*TREATMENT, PLATE]).cumcount()  # the first of every plate, then the second, …
    drawn = drawn.loc[turn.sort_values(kind="stable").index]
    kept = drawn[(drawn.groupby(TREATMENT).cumcount() < most) | drawn[CONTROL]]
    return fields.loc[sorted(kept.index)].reset_index(drop=True)
