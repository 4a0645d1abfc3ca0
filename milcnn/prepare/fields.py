"""Prepare a screen: read and correct every field, and write the folder that ``prepared`` opens."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from milcnn.columns import COMPOUND, CONTROL, FIELD_KEY, LABEL, PLATE, SPLIT
from milcnn.files import write_json, write_table
from milcnn.prepare import plates, quality, splits
from milcnn.prepare.prepared import Prepared, channel_statistics, load_prepared
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.roles import is_control, plate_references
from milcnn.screens.problems import first_few
from milcnn.screens.screen import Screen


def prepare(
    screen: Screen,
    study: str,
    folder: Path,
    settings: PrepareSettings | None = None,
    split_settings: splits.SplitSettings | None = None,
    quality_settings: quality.QualitySettings | None = None,
    origin: object = None,
) -> Prepared:
    """Prepare every field of ``screen`` and write the study to ``folder``; see ``prepared`` for the files.

    All is written to ``.<folder>.part`` beside ``folder``, and moved once it is complete; until then the previous study
    stays. The next call continues after an interruption: it keeps finished plates whose fingerprint is the same, see
    ``plates.plate_fingerprint``. ``origin`` says how the screen was made, such as its kind and settings. A new split
    changes the tables only, unless plates are scaled to their ``plate_references``. Raises ValueError for scaling
    without controls, SplitError, OSError if the disk is full, and whatever ``Screen.read`` raises.
    """
    settings, split_settings = settings or PrepareSettings(), split_settings or splits.SplitSettings()
    fields = splits.split_screen(screen, split_settings)
    if settings.scaling == "control":
        check_controls(screen.fields)
        screen = replace(screen, fields=screen.fields.assign(**{CONTROL: plate_references(fields)}))
        tell_plates_without_controls(screen.fields)
    fields = fields.assign(index=fields.groupby(PLATE).cumcount())
    part = folder.with_name(f".{folder.name}.part")
    records = write_plates(screen, folder, part, settings, origin)
    keys = zip(fields[PLATE].astype(str), fields["index"], strict=True)
    # one entry per field: those of its record, and the facts of its plate
    entries = pd.DataFrame([records[plate] | records[plate]["fields"][index] for plate, index in keys])
    entries.index = fields.index
    names = [f"Quality_{name}_{channel}" for name in quality.MEASURES for channel in screen.channels]
    measures = pd.DataFrame(entries["quality"].tolist(), index=fields.index)[[*names, "Quality_Clipped"]]
    fields = pd.concat([fields, measures.astype(float)], axis=1)
    fields = pd.concat([fields, quality.flags(fields, quality_settings or quality.QualitySettings())], axis=1)
    mean, std = channel_statistics(entries[fields[SPLIT] == "train"])
    pixel_size = screen.pixel_size and screen.pixel_size * settings.downscale
    protocol = screen.protocol if split_settings.kind == "given" else split_settings.kind
    channels, classes, multilabel = screen.channels, screen.classes, screen.multilabel
    kept_settings = settings.model_dump(exclude={"workers"})
    ready = Prepared(folder, study, channels, classes, mean, std, pixel_size, multilabel, protocol, kept_settings)
    with plates.room_for(part, "the tables", 0):
        write_table(fields, part / "fields.csv")
        if screen.objects is not None:
            write_table(remaining_objects(screen.objects, fields, entries, settings), part / "objects.csv")
        if screen.skipped is not None:
            write_table(screen.skipped, part / "skipped.csv")
        write_json({key: value for key, value in vars(ready).items() if key != "folder"}, part / "prepared.json")
    move_in(part, folder, list(records))
    return load_prepared(folder, study)


def check_controls(fields: pd.DataFrame) -> None:
    """Raise ValueError if no field is a control, to which plates could be scaled."""
    if not is_control(fields).any():
        names = fields[COMPOUND if COMPOUND in fields else LABEL].replace("", np.nan).value_counts().index
        likely = [name for name in names if re.search("dmso|control|vehicle|untreated|mock|neg", name, re.IGNORECASE)]
        there = first_few(list(dict.fromkeys([*likely, *names])))
        advice = f"name the negative control in 'controls'; the table has {there}"
        raise ValueError(f"scaling: control needs negative controls, but no field is one; {advice}.")


def tell_plates_without_controls(fields: pd.DataFrame) -> None:
    """Print the plates without a control to be scaled to."""
    if without := sorted(set(fields[PLATE]) - set(fields.loc[is_control(fields), PLATE])):
        told = "no negative control that is not scored: all its fields set its scale"
        print(f"scaling: plate {first_few(without)}: {told}.")


def write_plates(
    screen: Screen, folder: Path, part: Path, settings: PrepareSettings, origin: object
) -> dict[str, dict]:
    """Write the plates that are not finished in ``folder`` or ``part`` to ``part``; return all records by plate."""
    for half_written in part.glob("*/.*.part*"):  # by a process that was killed
        half_written.unlink()
    table = screen.fields.assign(index=screen.fields.groupby(PLATE).cumcount())
    records = {}
    with tqdm(total=len(table), desc="prepare", unit="field") as bar:
        for plate, rows in table.groupby(table[PLATE].astype(str), sort=False):
            if Path(plate).name != plate:
                raise ValueError(f"plate '{plate}': a plate names its file; give it a name without '/'.")
            once = replace(screen, read=plates.reading_once(screen.read))
            fingerprint = plates.plate_fingerprint(once, rows, settings, origin)
            done = [plates.finished(place, plate, fingerprint, screen.truth is not None) for place in (folder, part)]
            record = done[0] or done[1] or plates.write_plate(once, rows, settings, part, fingerprint, bar)
            records[plate] = record
            bar.update(sum(len(record["fields"]) for record in records.values()) - bar.n)  # plates that were finished
    return records


def move_in(part: Path, folder: Path, names: list[str]) -> None:
    """Move all files of ``part`` to ``folder``, and remove plates that are not in ``names``.

    Records move after arrays, ``prepared.json`` last. A crash in between leaves no record beside an outdated array.
    """
    (folder / "prepared.json").unlink(missing_ok=True)
    for record in part.glob("plates/*.json"):
        (folder / "plates" / record.name).unlink(missing_ok=True)
    files = [path for path in part.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path == part / "prepared.json", path.suffix == ".json")):
        target = folder / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    for path in [*folder.glob("plates/*"), *folder.glob("truth/*")]:
        if path.suffix in (".npy", ".json") and path.stem not in names:
            path.unlink()
    shutil.rmtree(part)


def remaining_objects(
    objects: pd.DataFrame, fields: pd.DataFrame, entries: pd.DataFrame, settings: PrepareSettings
) -> pd.DataFrame:
    """The ``objects`` with a pixel left after cropping; ``y`` and ``x``, if given, become prepared pixels."""
    if not settings.crop and settings.downscale == 1:
        return objects
    kept = fields[FIELD_KEY].assign(object=entries["objects"], _corner=entries["corner"]).explode("object")
    kept = kept.dropna(subset="object").astype({"object": objects["object"].dtype})
    objects = objects.merge(kept, on=[*FIELD_KEY, "object"])
    corners = np.array(objects.pop("_corner").tolist()).reshape(-1, 2)
    for axis, start in zip(("y", "x"), corners.T, strict=True):
        if axis in objects:
            objects[axis] = (objects[axis] - start) / settings.downscale
    return objects
