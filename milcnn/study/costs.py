"""What each stage cost: a small file at its end, in ``build/stages``, which neither DVC nor git knows."""

import json
import os
import resource
import sys
import time

import pandas as pd
import psutil

from milcnn.files import write_json
from milcnn.paths import ROOT

STAGES = ROOT / "build" / "stages"
PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # getrusage counts bytes there, KiB elsewhere
COST_COLUMNS = ["study", "stage", "began", "seconds", "cpu_seconds", "peak_mib"]


def note_cost(study: str) -> None:
    """Write what this process has cost so far, if DVC started it: DVC names the stage in ``DVC_STAGE``.

    ``began`` is the time in UTC, ``seconds`` are of the clock, ``cpu_seconds`` of the processor: this process and those
    that it waited for, such as the notebook's kernel. ``peak_mib`` is the memory of the largest one of them.
    """
    if not (stage := os.environ.get("DVC_STAGE")):
        return
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    began = psutil.Process().create_time()
    cost = {
        "study": study,
        "stage": stage,
        "began": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began)),
        "seconds": round(time.time() - began, 1),
        "cpu_seconds": round(sum(one.ru_utime + one.ru_stime for one in used), 1),
        "peak_mib": max(one.ru_maxrss for one in used) // PER_MIB,
    }
    write_json(cost, STAGES / f"{stage}.json")


def noted_costs() -> pd.DataFrame:
    """A row of ``COST_COLUMNS`` a stage, of its last run, in the order in which they began."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in STAGES.glob("*.json")]
    return pd.DataFrame(rows, columns=COST_COLUMNS).sort_values(["began", "stage"], ignore_index=True)


def stage_kind(stage: str) -> str:
    """``train`` of ``train@digits-mean-0``."""
    return stage.partition("@")[0]


def costs_by_kind(costs: pd.DataFrame) -> pd.DataFrame:
    """Minutes of each kind of stage, such as all of ``train`` of a study, the most CPU-minutes first."""
    kinds = costs.assign(stage=costs["stage"].map(stage_kind)).groupby(["study", "stage"], sort=False)
    table = kinds.agg(
        runs=("seconds", "size"),
        minutes=("seconds", lambda seconds: seconds.sum() / 60),
        cpu_minutes=("cpu_seconds", lambda seconds: seconds.sum() / 60),
        peak_mib=("peak_mib", "max"),
    )
    return table.sort_values("cpu_minutes", ascending=False).reset_index()
