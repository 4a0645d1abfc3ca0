"""Prepare a screen: read every field, correct it, and write what ``prepared`` opens."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from milcnn.columns import FIELD_KEY, PLATE, SPLIT
from milcnn.files import write_json, write_table
from milcnn.prepare import plates, quality, splits
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.quality import QualitySettings
from milcnn.prepare.splits import SplitSettings
from milcnn.screens.screen import Screen


def prepare(
    screen: Screen,
    study: str,
    folder: Path,
    settings: PrepareSettings | None = None,
    split_settings: SplitSettings | None = None,
    quality_settings: QualitySettings | None = None,
    origin: object = None,
) -> Prepared:
    """Read every field of ``screen`` and write it to ``folder``, in the layout told above.

    Work is done in ``.<folder>.part`` beside ``folder`` and moved once all of it is there: until then
    what was prepared before stays as it was. An interrupted call goes on where it stopped: plates
    that are finished, here or there, are kept while everything they depend on is unchanged (see
    ``plates.fingerprint``; ``origin`` is what made the screen, such as its kind and settings). A new
    split changes the table only. Raises SplitError, OSError when the disk is full, and whatever
    ``Screen.read`` raises.
    """
    settings = settings or PrepareSettings()
    dealing = split_settings or SplitSettings()
    fields = splits.split_screen(screen, dealing)
    fields = fields.assign(index=fields.groupby(PLATE).cumcount())
    part = folder.with_name(f".{folder.name}.part")
    records = write_plates(screen, folder, part, settings, origin)
    entries = [
        records[str(plate)]["fields"][index] for plate, index in zip(fields[PLATE], fields["index"], strict=True)
    ]
    measures = pd.DataFrame([entry["quality"] for entry in entries], index=fields.index)[
        quality.columns(screen.channels)
    ]
    fields = pd.concat([fields, measures.astype(float)], axis=1)
    fields = pd.concat([fields, quality.flags(fields, quality_settings or QualitySettings())], axis=1)
    mean, std = channel_statistics(records, fields[fields[SPLIT] == "train"])
    facts = {
        "study": study,
        "channels": screen.channels,
        "classes": screen.classes,
        "pixel_size": screen.pixel_size and screen.pixel_size * settings.downscale,
        "multilabel": screen.multilabel,
        "protocol": screen.protocol if dealing.kind == "given" else dealing.kind,
        "mean": mean,
        "std": std,
        "settings": settings.model_dump(exclude={"workers"}),
    }
    with plates.room_for(part, "the tables", 0):
        write_table(fields, part / "fields.csv")
        if screen.objects is not None:
            write_table(objects_left(screen.objects, fields, records, settings), part / "objects.csv")
        if screen.skipped is not None:
            write_table(screen.skipped, part / "skipped.csv")
        write_json(facts, part / "prepared.json")
    move_in(part, folder, list(records))
    return load_prepared(folder, study)


def write_plates(
    screen: Screen, folder: Path, part: Path, settings: PrepareSettings, origin: object
) -> dict[str, dict]:
    """The record of each plate, of which those that are nowhere finished are written to ``part``."""
    for left in part.glob("*/.*.part*"):  # of a process that was killed
        left.unlink()
    table = screen.fields.assign(index=screen.fields.groupby(PLATE).cumcount())
    records = {}
    with tqdm(total=len(table), desc="prepare", unit="field") as bar:
        for plate, rows in table.groupby(table[PLATE].astype(str), sort=False):
            if Path(plate).name != plate:
                raise ValueError(f"plate '{plate}': names a file once prepared; give it a name without '/'.")
            mark = plates.plate_fingerprint(screen, rows, settings, origin)
            found = [plates.finished(place, plate, mark, screen.truth is not None) for place in (folder, part)]
            records[plate] = next(filter(None, found), None)
            if records[plate] is None:
                records[plate] = plates.write_plate(screen, rows, settings, part, mark, bar)
            else:
                bar.update(len(rows))
    return records


def move_in(part: Path, folder: Path, names: list[str]) -> None:
    """Move all of ``part`` to its place in ``folder``, and remove plates that are not of ``names``.

    Only renames: a crash in between leaves no ``prepared.json``, and every record that is there
    beside arrays that it tells the truth about.
    """
    (folder / "prepared.json").unlink(missing_ok=True)
    for record in part.glob("plates/*.json"):
        plates.record_path(folder, record.stem).unlink(missing_ok=True)
    last = [*part.glob("plates/*.json"), part / "prepared.json"]
    for path in [*(path for path in part.rglob("*") if path.is_file() and path not in last), *last]:
        target = folder / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    for path in [*folder.glob("plates/*"), *folder.glob("truth/*")]:
        if path.suffix in (".npy", ".json") and path.stem not in names:
            path.unlink()
    shutil.rmtree(part)


def objects_left(
    objects: pd.DataFrame, fields: pd.DataFrame, records: dict[str, dict], settings: PrepareSettings
) -> pd.DataFrame:
    """``objects`` that have a pixel left after the cut, with ``y`` and ``x``, where told, in prepared pixels."""
    if not settings.crop and settings.downscale == 1:
        return objects
    seen = [records[str(row[PLATE])]["fields"][row["index"]]["objects"] for _, row in fields.iterrows()]
    left = fields[FIELD_KEY].assign(object=seen).explode("object").dropna().astype({"object": objects["object"].dtype})
    objects = objects.merge(left, on=[*FIELD_KEY, "object"])
    corners = np.array([records[str(plate)]["corner"] for plate in objects[PLATE]]).reshape(-1, 2)
    for axis, start in zip(("y", "x"), corners.T, strict=True):
        if axis in objects:
            objects[axis] = (objects[axis] - start) / settings.downscale
    return objects


def channel_statistics(records: dict[str, dict], rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over the fields of ``rows``, in float64."""
    count, total, squares = 0, 0.0, 0.0
    for plate, index in zip(rows[PLATE].astype(str), rows["index"], strict=True):
        entry = records[plate]["fields"][index]
        count += records[plate]["pixels"]
        total += np.array(entry["sum"])
        squares += np.array(entry["squares"])
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    # a constant channel carries nothing: leave it at 0 instead of dividing by 0
    return mean.tolist(), np.where(std > 0, std, 1).tolist()
