"""Score one plate and write its file, whole or not at all.

``<plate>.parquet`` has a row a field, in the order of the table: its key and other ``Metadata_`` columns; ``reason``,
why it has no scores, else ''; ``predicted``, ``P_<class>``, ``y_<class>``, ``p_<class>``, see ``trained.Scores``;
``set_90``, ``unseen`` and ``unseen_above``, see ``unseen``; ``responding_fraction``, where the plate has controls of a
class, for the class that the network picks for the compound or well; ``Quality_…`` and ``Flag_…``, see
``prepare.quality``; ``feature_0000`` …. Its schema has the hash of all that it depends on. ``<plate>.json`` beside it
has what differs from run to run: seconds and machine.
"""

import os
import platform
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from joblib import cpu_count

from milcnn.columns import FIELD_KEY, PLATE, SPLIT
from milcnn.evaluate.responding_fraction import with_picked_fraction
from milcnn.files import write_json, write_table, written_whole
from milcnn.network.model import load_model
from milcnn.network.predictions import KNOWN, prediction_table, profile_table
from milcnn.prepare import quality
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.roles import is_control
from milcnn.score import plan
from milcnn.score.cells import write_cells
from milcnn.score.reading import OpenPlate, in_threads, nothing_to_read, open_plate
from milcnn.score.trained import Scores, Trained, in_batches, joined_scores, one_by_one, open_trained
from milcnn.score.unseen import Reference, read_reference

CALIBRATION = 32  # training fields, which give the ranges of int8


class Tools(NamedTuple):
    """What a process opens once, for all plates."""

    study: Prepared
    trained: Trained
    reference: Reference
    to_files: Callable[..., pd.DataFrame] | None  # write_cells, if there shall be masks


class Scored(NamedTuple):
    """What is found in some fields that are scored at once."""

    scores: Scores
    quality: list[dict[str, float | None]]
    cells: pd.DataFrame | None


@lru_cache(maxsize=1)
def tools(settings: str) -> Tools:
    """The study, its networks and what is known of its classes; ``settings`` is ``ScoreSettings`` as JSON.

    From here on PyTorch uses one thread: each thread of ``in_threads`` has its own fields, so their number changes no
    bit of a score, as the order of sums inside a network would.
    """
    own = plan.ScoreSettings.model_validate_json(settings)
    study, calibration, to_files = load_prepared(Path(own.prepared)), None, None
    if own.precision == "int8":
        calibration = torch.from_numpy(study.pixels(study.of("train").iloc[:CALIBRATION]))
    if own.masks:
        model = load_model(Path(own.runs[0]) / "model.safetensors")
        # maps hook into the model
        to_files = one_by_one(partial(write_cells, model, own.segmentation, study.pixel_size))
    torch.set_num_threads(own.threads or cpu_count())  # of OpenVINO
    trained = open_trained(*own.runs, device=own.device, precision=own.precision, calibration=calibration)
    torch.set_num_threads(1)
    return Tools(study, trained, read_reference(Path(own.output), study.classes, study.multilabel), to_files)


def score_plate(settings: str, plate: str) -> dict:
    """Score ``plate`` and write its two files; ``settings`` is ``ScoreSettings`` as JSON. Returns the log.

    Raises ValueError if no field of the plate can be read or its light is not known, and, if ``strict``, for a field
    that cannot be read.
    """
    own, started = plan.ScoreSettings.model_validate_json(settings), time.perf_counter()
    screen, kit = plan.screen_of(settings), tools(settings)
    rows = plan.fields_of_plate(screen, plate)
    opened = open_plate(screen, rows, plan.preprocessing_of(kit.study, own.threads), own.strict)
    table = scores_of(kit, opened, plan.scored(rows, own.where), own)
    path = plan.plate_file(own, plate)
    with opened.clock("write"):
        write_whole(table, path, plan.fingerprint(own, rows, screen.read_from(rows)))
    log = {"plate": plate, "fields": len(table), "without_scores": int((table["reason"] != "").sum())}
    log |= {"wall_s": time.perf_counter() - started, "seconds": opened.clock.seconds, "machine": platform.node()}
    write_json(log, path.with_suffix(".json"))
    return log


def scores_of(kit: Tools, opened: OpenPlate, rows: pd.DataFrame, settings: plan.ScoreSettings) -> pd.DataFrame:
    """The table of the plate's file for ``rows``, see the head of this module."""
    masks = Path(settings.output) / "masks" / str(rows[PLATE].iloc[0])
    work, parts = partial(part_of, kit, opened, masks), in_batches(rows, kit.trained.batch_size(opened.shape))
    found = [part for part in in_threads(work, parts, opened.how.workers) if part is not None]
    if not found:
        raise nothing_to_read(rows, opened.reasons)
    if kit.to_files:
        write_table(pd.concat([part.cells for part in found]), masks / "objects.parquet")
    by_quality = pd.DataFrame([measures for part in found for measures in part.quality])
    good = rows.set_index("index", drop=False).loc[by_quality["index"]]
    scores = joined_scores(part.scores for part in found)
    table = score_table(kit, good, scores, by_quality, settings)
    known = rows.drop(columns=SPLIT).filter(regex=f"{KNOWN}|^index$")
    known["reason"] = [opened.reasons.get(index, "") for index in known["index"]]
    return known.merge(table, on="index", how="left").drop(columns="index")


def part_of(kit: Tools, opened: OpenPlate, masks: Path, rows: pd.DataFrame) -> Scored | None:
    """What is found in ``rows``; None if none can be read. With ``Tools.to_files`` writes their cells to ``masks``."""
    looks = opened.looks(rows)
    if not looks:
        return None
    pixels, keys = np.stack([look.pixels for look in looks]), pd.DataFrame([look.row[FIELD_KEY] for look in looks])
    with opened.cores, opened.clock("network"):
        scores = kit.trained.scores(pixels)
    cells = None
    if kit.to_files:
        with opened.cores, opened.clock("masks"):
            cells = kit.to_files(keys, pixels, scores.y.argmax(axis=1), masks)
    return Scored(scores, [look.quality | {"index": look.row["index"]} for look in looks], cells)


def score_table(
    kit: Tools, rows: pd.DataFrame, scores: Scores, measures: pd.DataFrame, settings: plan.ScoreSettings
) -> pd.DataFrame:
    """What is said of the fields of ``rows``, with their ``index`` in place of their keys."""
    own = kit.trained.settings
    predictions = prediction_table(rows, own.classes, own.multilabel, P=scores.P, y=scores.y, p=scores.p)
    flags = quality.flags(measures.assign(**{PLATE: rows[PLATE].to_numpy()}), quality.QualitySettings())
    said = predictions.drop(columns=[name for name in predictions if name in rows])
    k = plan.in_view(settings, kit.study)
    fraction = pd.DataFrame({"responding_fraction": responding(kit.study, predictions, k)})
    profiles = profile_table(rows, scores.features).drop(columns=FIELD_KEY)
    return pd.concat([said, kit.reference.judged(scores), fraction, measures.astype(float), flags, profiles], axis=1)


def responding(study: Prepared, predictions: pd.DataFrame, k: float) -> np.ndarray:
    """The responding fraction of each field, (N,); NaN for controls, and where there is no control or no such class."""
    control, treated = plan.control_class(study), ~is_control(predictions)
    fraction = np.full(len(predictions), np.nan)
    if not control or treated.all() or not treated.any():
        return fraction
    fraction[treated] = with_picked_fraction(predictions, control, k)["responding_fraction"]
    return fraction


def write_whole(table: pd.DataFrame, path: Path, fingerprint: str) -> None:
    """Write ``table`` as Parquet with its hash; it is on the disk before it has its name."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), plan.HASH: fingerprint.encode()})
    with written_whole(path) as temporary:
        pq.write_table(arrow, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
