"""What a whole screen will cost, from a few of its fields."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from milcnn.columns import PLATE
from milcnn.score import plan
from milcnn.score.plate import scores_of, tools, write_whole
from milcnn.score.reading import open_plate
from milcnn.score.trained import evenly_spaced

TRIED = 20


def estimate(settings: plan.ScoreSettings, plates: list[str]) -> pd.Series:
    """Hours and core-hours for the ``plates`` of a screen in this process, and the share of each part of the work.

    ``TRIED`` fields of the first plate are scored and thrown away, after some to warm up. ``seconds_a_plate`` is for
    light, scale and opening, ``seconds_a_field`` for the rest. Shares are of the seconds of all threads.
    """
    text = settings.model_dump_json()
    screen, kit = plan.screen_of(text), tools(text)
    rows = plan.fields_of_plate(screen, plates[0])
    start = time.perf_counter()
    opened = open_plate(screen, rows, plan.preprocessing_of(kit.study, settings.threads))
    a_plate = time.perf_counter() - start
    some = evenly_spaced(plan.scored(rows, settings.where), TRIED)
    with TemporaryDirectory() as folder:
        throw = settings.model_copy(update={"output": folder})
        scores_of(kit, opened, some, throw)
        opened.clock.seconds.clear()
        start, cpu = time.perf_counter(), time.process_time()
        table = scores_of(kit, opened, some, throw)
        with opened.clock("write"):
            write_whole(table, Path(folder) / "plate.parquet", "")
        a_field, core = (
            (now - then) / len(some)
            for now, then in zip((time.perf_counter(), time.process_time()), (start, cpu), strict=True)
        )
    wanted = plan.scored(screen.fields, settings.where)
    fields = int(wanted[PLATE].astype(str).isin(plates).sum())
    seconds = fields * a_field + len(plates) * a_plate
    facts = {"plates": len(plates), "fields": fields, "hours": seconds / 3600}
    facts |= {"core_hours": fields * core / 3600, "seconds_a_plate": a_plate, "seconds_a_field": a_field}
    whole = sum(opened.clock.seconds.values())
    return pd.Series(facts | {f"share_{part}": spent / whole for part, spent in opened.clock.seconds.items()})
