"""``milcnn new``: a study of your own screen, with settings that fit its size."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from milcnn.columns import PLATE
from milcnn.files import write_table, written_whole
from milcnn.parameters import StageError, check_name, listed_studies, parameter_file
from milcnn.paths import ROOT, in_root
from milcnn.prepare.folds import SplitError
from milcnn.prepare.preprocessing import FEWEST
from milcnn.prepare.splits import SplitSettings, split_screen
from milcnn.roles import is_control
from milcnn.screens.channels import first_header, image_columns
from milcnn.screens.checks import file_problems, table_problems
from milcnn.screens.folders import folder_table
from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.missing import missing_images
from milcnn.screens.overview import fields_by_class, overview
from milcnn.screens.problems import first_few
from milcnn.screens.screen import Screen, ScreenError

NUCLEAR = ("dapi", "hoechst", "dna", "draq5", "nuc")  # how channels with a nuclear stain are often named
ON_DISK = ("table", "images", "platemap")  # settings that name a file or folder
STEPS = 1500  # of training, sought
TRAINED = 0.64  # share of the fields that is trained on, about
Line = tuple[str, str, str]  # key, value as YAML, reason


def new_study(study: str, **files: Any) -> None:
    """Write ``params/<study>.yaml``, add the study to params.yaml, and print what it has and the next command.

    ``files`` are keys of ``ManifestSettings``. Without a table, the plates in the folder of images become the table
    ``data/<study>/fields.csv``. Looks for every image and reads the headers of a few. Raises StageError for a bad name
    or one that exists, ScreenError for what is wrong with the table or the folder, SplitError where no split fits.
    """
    check_name(study)
    path = parameter_file(study)
    if path.exists():
        raise StageError(f"{path}: exists; choose another name, or delete the file.")
    listed_studies()  # params.yaml must be able to take one more
    files = {key: from_root(value) if key in ON_DISK else value for key, value in files.items() if value is not None}
    if not {"table", "images"} & set(files):
        raise StageError("milcnn new: give --table FILE, or --images FOLDER with the plates of a microscope.")
    if "table" not in files:
        files = write_fields(study, ManifestSettings.model_validate(files)) | files
        files.pop("pattern", None)  # it is in the table
    screen = manifest_screen(ManifestSettings.model_validate(files))
    problems = [*screen.problems, *table_problems(screen.fields, screen.classes, screen.multilabel)]
    sources = screen.read_from(screen.fields)
    problems += missing_images(sources, image_columns(sources))[0]
    header = first_header([name for column in image_columns(sources) for name in sources[column]])
    if not problems and header is None:
        problems = file_problems(sources.head(10), screen.channels, screen.planes)
    if problems or header is None:
        raise ScreenError(problems)
    print(f"{study}\n{as_lines(overview(screen))}")
    write_study(study, study_sections(screen, files, min(header.planes[0][:2])))


def write_study(study: str, sections: dict[str, list[Line]]) -> None:
    """Write ``params/<study>.yaml``, add the study to params.yaml, and print the next command."""
    with written_whole(parameter_file(study)) as temporary:
        temporary.write_text(as_yaml(sections), encoding="utf-8")
    others = [name for name in listed_studies() if name != study]
    add_to_studies(study)
    alone = f"leave only {study} in `studies`, else {first_few(others)} will run as well; then " if others else ""
    print(f"\nWrote params/{study}.yaml, and added {study} to `studies` in params.yaml.\nNext: {alone}dvc repro")


def write_fields(study: str, settings: ManifestSettings) -> dict[str, str]:
    """Write the table of the plates in a folder, and that of the files left out; return the settings that name them.

    Raises StageError if the table exists, since someone may have corrected it.
    """
    folder = ROOT / "data" / study
    if (folder / "fields.csv").exists():
        advice = f"use it by --table data/{study}/fields.csv, or delete it"
        raise StageError(f"{folder / 'fields.csv'}: exists; {advice}.")
    table, left_out = folder_table(in_root(settings.images), settings.pattern)
    write_table(table, folder / "fields.csv")
    print(f"Wrote data/{study}/fields.csv: {len(table)} rows, from the files in {in_root(settings.images)}.")
    if left_out.empty:
        return {"table": f"data/{study}/fields.csv"}
    write_table(left_out, folder / "left_out.csv")
    return {"table": f"data/{study}/fields.csv", "left_out": f"data/{study}/left_out.csv"}


def from_root(name: str) -> str:
    """A path of the command line as a parameter file has it: below the repository where it is, else absolute."""
    if not name:
        return ""
    path = Path(name).resolve()
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def as_lines(table: pd.DataFrame) -> str:
    """A table of two columns as lines of text."""
    width = table.iloc[:, 0].str.len().max() + 2
    return "\n".join(f"{what:{width}}{found}" for what, found in table.itertuples(index=False))


def fitting_split(screen: Screen) -> tuple[Line, Line]:
    """By plate, by well or by field, the first in which every class has its part; and its turns, for a rotation."""
    reasons = {"plate": "no plate is trained and tested on", "well": "fewer than three plates that can be split"}
    reasons["field"] = "too few wells a class: fields of one well are trained and tested on"
    try:
        found, _ = first_split(screen, [{"kind": kind} for kind in reasons])
    except SplitError as error:
        there = f"labelled fields: {fields_by_class(screen)}"
        needed = "each class needs three or more, better of different wells, to train, validate and test on"
        raise SplitError(f"no split by plate, well or field works; {there}; {needed}.") from error
    value = f"{{kind: {found.kind}, folds: {found.folds}}}"
    split = ("split", value, f"{reasons[found.kind]}; one of {found.folds} parts tests")
    turns = str(list(range(found.folds)))
    return split, ("split.fold", turns, f"of `milcnn rotation`, in which each {found.kind} tests once")


def first_split(screen: Screen, ways: list[dict[str, str]]) -> tuple[SplitSettings, pd.DataFrame]:
    """The first of ``ways``, keys of SplitSettings, with the most folds that work; the fields with their sets.

    Raises SplitError where none works.
    """
    for way, folds in product(ways, (5, 4, 3, 2)):
        settings = SplitSettings.model_validate(way | {"folds": folds})
        try:
            return settings, split_screen(screen, settings)
        except SplitError as error:
            last = error
    raise last


def study_sections(screen: Screen, files: dict[str, Any], side: int) -> dict[str, list[Line]]:
    """The sections of a parameter file; ``side`` is the shorter side of a field, px."""
    fields = screen.fields
    settings = "".join(f"\n    {key}: {json.dumps(name)}" for key, name in files.items())
    split, turns = fitting_split(screen)
    prepare = [("screen", "manifest", "a table of fields"), ("screen_settings", settings, ""), split]
    if fields.groupby(PLATE).size().min() >= FEWEST:
        prepare.append(("illumination", "median", "every plate has fields enough to see uneven light"))
    if is_control(fields).any():
        prepare.append(("scaling", "control", "brings the controls of all plates to one brightness"))
    elif fields[PLATE].nunique() > 1:
        prepare.append(("scaling", "plate", "brings all plates to one brightness; no controls are known"))
    if side >= 1600:
        prepare.append(("downscale", "2", f"fields of {side} px: half the size takes a quarter of the time"))
        side //= 2
    stains = [name for name in screen.channels if any(mark in name.lower() for mark in NUCLEAR)]
    nucleus = f"nucleus: {json.dumps(stains[0])}" if stains else ""
    why = (
        "the channel of the nuclei" if stains else "no channel is named like a nuclear stain: cells come from the first"
    )
    baselines = [("segmentation", f"&segmentation {{{nucleus}}}", why)]
    localise = [
        ("fields_per_class", "12", "so many test fields a class are drawn and saved as masks"),
        ("segmentation", "*segmentation", "as above"),
    ]
    train = train_lines(len(fields), side)
    return {"prepare": prepare, "rotation": [turns], "train": train, "baselines": baselines, "localise": localise}


def train_lines(fields: int, side: int) -> list[Line]:
    """The section ``train`` for so many ``fields``, whose shorter side has ``side`` px."""
    epochs = max(10, min(60, round(STEPS * 8 / (TRAINED * fields))))
    steps = 10 * round(epochs * TRAINED * fields / 80)
    train = [
        ("width", "0.25" if fields < 2000 else "0.5", f"share of the paper's channels, for {fields} fields"),
        ("epochs", str(epochs), f"about {steps} steps of 8 fields; {STEPS} are sought, in 10 to 60 epochs"),
        ("batch_size", "8", "small batches: more steps from few fields"),
        ("augment", "dihedral", "cells have no up and no left: turned and reflected fields are as good"),
    ]
    if side > 320:
        crop = min(512, side * 2 // 3 // 32 * 32)
        train.append(("crop", str(crop), f"px: random parts of fields of {side} px are cheaper, and sharpen the maps"))
    return train


def as_yaml(sections: dict[str, list[Line]]) -> str:
    lines = []
    for name, entries in sections.items():
        lines.append(f"{name}:")
        lines += [
            f"  {key}: {value}".replace(": \n", ":\n") + (f" # {why}" if why else "") for key, value, why in entries
        ]
    return "\n".join(lines) + "\n"


def add_to_studies(study: str) -> None:
    """Add ``study`` to the list in params.yaml; its comments stay."""
    path, yaml = ROOT / "params.yaml", YAML()
    yaml.width = 4096  # long lines stay whole
    content = yaml.load(path.read_text(encoding="utf-8"))
    content["studies"].append(study)
    with written_whole(path) as temporary:
        yaml.dump(content, temporary)
