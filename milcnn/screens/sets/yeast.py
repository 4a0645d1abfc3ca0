"""Yeast strains, each with one protein tagged with GFP, labelled by the compartment where it is found.

Chong et al. 2015, CYCLoPs. A well has one strain. Its Opera .flex file, or a TIFF of the same layout, has several
fields, frame by frame GFP, RFP, GFP, RFP, …; RFP fills the cytosol. A protein, and so a field, may have several labels.
"""

import re
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from milcnn.columns import COMPOUND, FIELD_KEY, LABEL, class_names, join_labels, labels_of, page_column, path_column
from milcnn.paths import in_root
from milcnn.screens.images import TIFF, read_field
from milcnn.screens.names import well_name
from milcnn.screens.problems import Problem, ScreenError
from milcnn.screens.screen import Screen
from milcnn.screens.table import text_table
from milcnn.settings import Settings

PLATE, WELL, SITE = FIELD_KEY
CHANNELS = ["GFP", "RFP"]
LOCALISATIONS = [
    *("ACTIN", "BUDNECK", "BUDTIP", "CELLPERIPHERY", "CYTOPLASM", "ENDOSOME", "ER", "GOLGI", "MITOCHONDRIA"),
    *("NUCLEARPERIPHERY", "NUCLEI", "NUCLEOLUS", "PEROXISOME", "SPINDLE", "SPINDLEPOLE", "VACUOLARMEMBRANE", "VACUOLE"),
]


class YeastSettings(Settings):
    """Where the images and the two tables are."""

    images: str = "data/raw/yeast"  # a folder per plate, a file per well, named G20 or, by the Opera, 007020000
    platemap: str = "data/raw/yeast/platemap.csv"  # columns plate, well, strain; without plate: the same for all
    strains: str = "data/raw/yeast/strains.csv"  # columns strain, localisations (joined by |)
    sites: int = Field(4, ge=1)  # fields in a file
    missing: Literal["error", "skip"] = "error"  # wells of labelled strains without a file
    pixel_size: float | None = Field(None, gt=0)  # µm


def yeast_screen(settings: YeastSettings) -> Screen:
    """The fields of all strains that have a localisation; ``Metadata_Compound`` is the strain.

    ``skipped`` lists the strains without one and, with ``missing: skip``, the wells without a file. Raises
    ScreenError if a table lacks a column or if there is no image.
    """
    folder = in_root(settings.images)
    files = well_files(folder)
    wells = well_table(settings, sorted(set(files[PLATE]))).merge(files, on=[PLATE, WELL], how="left")
    reasons = pd.Series("", index=wells.index)
    reasons[wells["path"].isna()] = "no file"
    reasons[wells[LABEL] == ""] = "the strain has no localisation"
    problems = [
        Problem(f"no file in {folder}", "copy it, or set 'missing: skip'", f"plate {row[PLATE]}, well {row[WELL]}")
        for _, row in wells[reasons == "no file"].iterrows()
        if settings.missing == "error"
    ]
    fields = site_table(wells[reasons == ""], settings.sites)
    skipped = wells.assign(reason=reasons)[reasons != ""].drop(columns="path").reset_index(drop=True)
    return Screen(
        fields=fields,
        channels=CHANNELS,
        classes=class_names(fields, multilabel=True),
        read=partial(read_field, channels=CHANNELS),
        pixel_size=settings.pixel_size,
        multilabel=True,
        planes=settings.sites * len(CHANNELS),
        skipped=skipped,
        problems=tuple(problems),
    )


def well_files(folder: Path) -> pd.DataFrame:
    """Plate, well and path of each image file under ``folder``."""
    paths = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in TIFF)
    if not paths:
        raise ScreenError([f"{folder}: has no <plate>/<well>.flex or .tif; set 'images' to the plates' folder."])
    rows = [(path.parent.name, opera_well(path.stem), path.as_posix()) for path in paths]
    return pd.DataFrame(rows, columns=[PLATE, WELL, "path"])


def opera_well(stem: str) -> str:
    """G20 for 007020000, the Opera's name for row 7, column 20; other names as in ``well_name``."""
    match = re.fullmatch(r"(\d{3})(\d{3})\d{3}", stem)
    return f"{chr(ord('A') + int(match[1]) - 1)}{int(match[2]):02d}" if match else well_name(stem)


def well_table(settings: YeastSettings, plates: list[str]) -> pd.DataFrame:
    """Plate, well, strain and joined localisations ('' if unknown) of each well of the platemap."""
    wells = with_columns(settings.platemap, {"well": WELL, "strain": COMPOUND})
    if PLATE not in wells:
        wells = wells.merge(pd.DataFrame({PLATE: plates}), how="cross")
    strains = with_columns(settings.strains, {"strain": COMPOUND, "localisations": LABEL})
    if repeated := ", ".join(strains[COMPOUND][strains[COMPOUND].duplicated()].unique()):
        raise ScreenError([f"{settings.strains}: has more than one row for {repeated}; join their labels."])
    parts = [[part.strip() for part in labels_of(label, multilabel=True)] for label in strains[LABEL]]
    strains[LABEL] = [join_labels([part for part in names if part]) for names in parts]
    wells[WELL] = wells[WELL].map(well_name)
    wells = wells.merge(strains[[COMPOUND, LABEL]], on=COMPOUND, how="left").fillna({LABEL: ""})
    return wells[[PLATE, WELL, COMPOUND, LABEL]]


def with_columns(name: str, columns: dict[str, str]) -> pd.DataFrame:
    """The table ``name`` with our names for ``columns`` and, if it has one, for its plate."""
    table = text_table(in_root(name)).rename(columns=str.lower)
    if lacking := ", ".join(column for column in columns if column not in table):
        raise ScreenError([f"{name}: has no column {lacking}, only {', '.join(table)}; add it."])
    return table.rename(columns={**columns, "plate": PLATE})


def site_table(wells: pd.DataFrame, sites: int) -> pd.DataFrame:
    """One row per field: field s of a file is its frames 2s − 2 (GFP) and 2s − 1 (RFP)."""
    fields = wells.merge(pd.DataFrame({SITE: range(1, sites + 1)}), how="cross")
    for position, name in enumerate(CHANNELS):
        fields[path_column(name)] = fields["path"]
        fields[page_column(name)] = len(CHANNELS) * (fields[SITE] - 1) + position
    return fields.drop(columns="path")
