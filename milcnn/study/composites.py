"""``milcnn composite``: from a study with controls, one of fields built from its cells, with a known share of treated.

    milcnn composite simulated

finds the cells of the controls and of one treated class by the study's own segmentation, and writes where they are
(``data/simulated-composite/cells.csv``) and ``params/simulated-composite.yaml``, a study of the kind ``composite``. In
its fields it is known for every cell whether it comes from a treated field. So the class maps and the fraction that
they tell can be checked on the user's own cells. How many of the treated cells respond is not known.

Cells are in the set (training, validation, test) of their plate. If no plate is in two sets of the study, these sets
stay. Else the plates that have both classes are dealt anew. Of two plates one tests, and the wells of the other train
or validate. Of a single plate the wells are dealt, or the fields.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from skimage.measure import regionprops_table
from tqdm.auto import tqdm

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.columns import FIELD_KEY, FRESH, LABEL, PLATE, SETS, SPLIT
from milcnn.files import write_table
from milcnn.parameters import StageError, listed_studies, parameter_file, read_study
from milcnn.paths import ROOT
from milcnn.prepare.folds import SplitError, leaks
from milcnn.prepare.prepared import Prepared, load_prepared, read_record
from milcnn.roles import is_control
from milcnn.screens.problems import first_few
from milcnn.screens.screen import Screen
from milcnn.screens.sets.composite import CompositeSettings, Pairs, paired_cells
from milcnn.screens.sets.kinds import open_screen
from milcnn.study.new import Line, first_split, train_lines, write_study

WAYS = [{"kind": "plate"}, {"kind": "plate", "validate_by": "well"}, {"kind": "well"}, {"kind": "field"}]
SLOTS = 7  # cells that fit side by side in a field
MOST, FEWEST = 40, 20  # cells of the fullest field: 40 of 49 slots; fewer where a plate has fewer, but at least 20


def composite_study(study: str, positive: str | None = None) -> None:
    """Write the tables of ``<study>-composite``, add it to params.yaml, and print what it has and the next command.

    ``positive`` is the treated class; None takes that on the most plates with controls, and of these that with the most
    fields. Raises StageError for a study that has no cells for it, FileNotFoundError if it is not prepared, and
    ImageError for an image that cannot be read.
    """
    sections, name = read_study(study), f"{study}-composite"
    path = parameter_file(name)
    if path.exists():
        raise StageError(f"{path}: exists; delete it to make the study anew.")
    listed_studies()  # params.yaml must be able to take one more
    ready = load_prepared(ROOT / "data" / "prepared" / study, study)
    rows, classes = source_fields(ready, positive)
    segmentation = sections.get("baselines", {}).get("segmentation", {})
    cells, side = with_corners(
        find_cells(ready, with_sets(ready, rows, classes), SegmentSettings(**segmentation)), ready
    )
    settings = {
        "screen": sections.get("prepare", {}).get("screen", "digits"),
        "screen_settings": sections.get("prepare", {}).get("screen_settings", {}),
        "cells": f"data/{name}/cells.csv",
        "positive": classes[1],
        "negative": classes[0],
        "crop": side * ready.settings["downscale"],
        "downscale": ready.settings["downscale"],
        "size": max(96, -(-SLOTS * side // 32) * 32),
        "equalise": False,
    }
    source = open_screen(settings["screen"], **settings["screen_settings"])
    kept = enough(study, paired_cells(source, cells, CompositeSettings(**settings))[1])
    settings["n_cells"] = [(most := min(MOST, *kept["pairs"])) // 2, most]
    cells = cells.merge(kept[[SPLIT, PLATE]])
    print(f"{name}: {classes[1]} among {classes[0]}, cells of {side} px\n{kept.to_string(index=False)}")
    write_table(cells, ROOT / settings["cells"])
    write_study(name, composite_sections(settings, sections))


def source_fields(ready: Prepared, positive: str | None) -> tuple[pd.DataFrame, list[str]]:
    """The control and the treated fields of plates that have both, and the names of the two classes.

    Treated fields are of the sets of the study, so weak doses and a fresh test set are left out.
    """
    fields, study = ready.fields, ready.study
    control = is_control(fields) & fields[LABEL].notna() & (fields[SPLIT] != FRESH)
    if ready.multilabel or not control.any():
        why = "its fields have several labels" if ready.multilabel else "no labelled field is a negative control"
        raise StageError(f"{study}: {why}; a composite needs fields of one label, and controls (see 'controls').")
    negative = fields.loc[control, LABEL].mode()[0]
    control &= fields[LABEL] == negative
    treated = ~is_control(fields) & fields[SPLIT].isin(SETS)
    found = (
        fields[treated & fields[PLATE].isin(fields.loc[control, PLATE])].groupby(LABEL)[PLATE].agg(["nunique", "size"])
    )
    names = list(found.sort_values(["nunique", "size"], ascending=False, kind="stable").index)
    if not names or positive not in (None, *names):
        there = f"there are {', '.join(names)}" if names else "put both on one plate"
        raise StageError(f"{study}: no plate has {negative} and a treated class {positive or ''}; {there}.")
    positive = positive or names[0]
    treated &= fields[LABEL] == positive
    plates = [set(fields.loc[members, PLATE]) for members in (control, treated)]
    if others := sorted(plates[0] ^ plates[1]):
        print(f"Plates without {negative} or without {positive}, left out: {first_few(others)}.")
    return fields[(control | treated) & fields[PLATE].isin(plates[0] & plates[1])], [negative, positive]


def with_sets(ready: Prepared, rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """``rows`` with the set of their cells; see the head of this module."""
    if set(rows[SPLIT]) == set(SETS) and not leaks(rows, PLATE):
        return rows
    screen = Screen(
        rows.drop(columns=SPLIT), ready.channels, classes, read=lambda row: ready.pixels(row.to_frame().T)[0]
    )
    try:
        return first_split(screen, WAYS)[1]
    except SplitError:
        counts = ", ".join(f"{(rows[LABEL] == name).sum()} of {name}" for name in classes)
        raise StageError(
            f"{ready.study}: {counts} are too few fields for training, validation and test; add fields."
        ) from None


def find_cells(ready: Prepared, rows: pd.DataFrame, settings: SegmentSettings) -> pd.DataFrame:
    """The cells in the fields ``rows`` that no border cuts: key and set of the field, ``class``, and lengths in px.

    These are the middle of the nucleus ``y``, ``x``, the longer ``side`` of the cell, and the ``room`` from the middle
    to the nearest border, all in the prepared field.
    """
    task = delayed(cells_of)
    results = Parallel(-1, return_as="generator")(task(ready, rows.iloc[[at]], settings) for at in range(len(rows)))
    cells = pd.concat(tqdm(results, desc="segment", unit="field", total=len(rows)), ignore_index=True)
    if cells.empty:
        look = "look at the outlines of 03_baselines, and set segmentation"
        raise StageError(f"{ready.study}: no cell is found in {len(rows)} fields; {look} in params/{ready.study}.yaml.")
    return cells


def cells_of(ready: Prepared, row: pd.DataFrame, settings: SegmentSettings) -> pd.DataFrame:
    """``find_cells`` of the one field in ``row``."""
    field = ready.pixels(row)[0]
    nuclei, cells = segment(field, ready.channels, settings, ready.pixel_size)
    y, x = regionprops_table(nuclei, properties=["centroid"]).values()
    top, left, bottom, right = regionprops_table(cells, properties=["bbox"]).values()
    height, width = cells.shape
    table = pd.DataFrame({"y": y, "x": x, "side": np.maximum(bottom - top, right - left)})
    table["room"] = np.minimum.reduce([y + 0.5, x + 0.5, height - y - 0.5, width - x - 0.5])
    table = table[(top > 0) & (left > 0) & (bottom < height) & (right < width)]
    return table.assign(**row[[*FIELD_KEY, SPLIT]].iloc[0], **{"class": row[LABEL].iloc[0]})


def with_corners(cells: pd.DataFrame, ready: Prepared) -> tuple[pd.DataFrame, int]:
    """The table of cells that the kind ``composite`` reads, in px of the raw field; the side of a crop, prepared px.

    The side is the median of ``side``. Cells whose crop would cross the border are left out.
    """
    side = max(8, round(cells["side"].median()))
    cells = cells[cells["room"] >= side / 2]
    start = np.array([read_record(ready.folder, plate)["corner"] for plate in cells[PLATE]]).reshape(-1, 2)
    corner = np.rint(cells[["y", "x"]].to_numpy() - (side - 1) / 2).astype(int)
    corner = start + ready.settings["downscale"] * corner.clip(0)
    return cells[[*FIELD_KEY, SPLIT, "class"]].assign(y0=corner[:, 0], x0=corner[:, 1]), side


def enough(study: str, pairs: Pairs) -> pd.DataFrame:
    """The plates of each set with at least ``FEWEST`` pairs of a treated and a control cell.

    Raises StageError for a set that has no such plate.
    """
    table = pd.DataFrame([(*key, len(members)) for key, members in pairs.items()], columns=[SPLIT, PLATE, "pairs"])
    kept = table[table["pairs"] >= FEWEST]
    for name in SETS:
        if name not in set(kept[SPLIT]):
            most = max(table.loc[table[SPLIT] == name, "pairs"], default=0)
            what = f"at most {most} pairs of a treated and a control cell of equal size on a plate"
            advice = "add fields, or look at the outlines of 03_baselines and set segmentation"
            raise StageError(f"{study}: too few cells for {name}: {what}, {FEWEST} are needed; {advice}.")
    return kept


def composite_sections(settings: dict[str, Any], source: dict[str, dict[str, Any]]) -> dict[str, list[Line]]:
    """The sections of the parameter file; segmentation and scaling are those of the ``source`` study."""
    why = {
        "cells": "where they are; milcnn composite wrote it",
        "n_cells": "of a field, whatever its label",
        "equalise": "true: each cell has the same light in every channel, so only shape and texture differ",
    }
    lines = [f"\n    {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    noted = [line + (f" # {why[key]}" if key in why else "") for key, line in zip(settings, lines, strict=True)]
    prepare = [("screen", "composite", "fields built from cells"), ("screen_settings", "".join(noted), "")]
    if (scaling := source.get("prepare", {}).get("scaling", "none")) != "none":
        prepare.append(("scaling", scaling, "as in the study that the cells are from"))
    number = 2 * sum(CompositeSettings(**settings).fields_per_class.values())
    train = train_lines(number, size := settings["size"])
    if 256 <= size <= 320:
        train.append(("crop", "160", "px: random parts of fields are cheaper, and sharpen the maps"))
    found = ("segmentation", json.dumps(source.get("baselines", {}).get("segmentation", {})), "as in that study")
    localise = [("fields_per_class", "12", "drawn in galleries"), ("unet", "{}", "no U-Net: it takes minutes")]
    localise.append(("least_lift", "1.0", "up to three in four cells are treated"))
    if sought := source.get("localise", {}).get("sought"):
        localise.append(("sought", sought, "as in that study"))
    return {"prepare": prepare, "train": train, "baselines": [found], "localise": [*localise, found]}
