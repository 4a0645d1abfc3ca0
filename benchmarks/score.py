"""How fast, in how much memory and how safely a screen is scored. Run by hand:

    python benchmarks/score.py rate --fields 120          # against the network alone, and against segmenting first
    python benchmarks/score.py memory --fields 2000       # resident memory along one plate
    python benchmarks/score.py kills --turns 20           # SIGKILL at random moments: the same bytes in the end?
    python benchmarks/score.py dask --fields 40           # Dask against the plain loop, two workers against one

Fields are loose 16-bit TIFFs of 3 × 1024 × 1280 px (``kills``: 3 × 256 × 320); a field beyond the first 40 is the same
file under another name. The network has the paper's width and random weights. Each result goes to
``benchmarks/results/score.json`` under the name of its part. On a machine that others use, compare CPU seconds.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
import psutil
import torch
from joblib import Parallel, cpu_count, delayed
from prepare import CHANNELS, write_images
from throughput import machine

from milcnn.baselines.measure import measure_field, white_values
from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.files import write_json
from milcnn.network.model import MILCNN, ModelSettings, save_model
from milcnn.prepare.fields import prepare
from milcnn.prepare.illumination import Correction
from milcnn.prepare.prepared import load_prepared
from milcnn.prepare.preprocessing import PrepareSettings, stored
from milcnn.prepare.splits import SplitSettings
from milcnn.score import plan
from milcnn.score.engines import EngineSettings, score_plates
from milcnn.score.estimate import estimate
from milcnn.score.plate import tools
from milcnn.score.reading import open_plate
from milcnn.score.trained import in_batches
from milcnn.score.unseen import ensure_reference
from milcnn.screens.screen import Screen

RESULTS = Path(__file__).parent / "results" / "score.json"
FILES = 40  # fields on disk
CLASSES = ["DMSO", "active"]
VICTIMS = ("main", "worker", "scheduler")


def study(folder: Path, side: int) -> None:
    """A small prepared study and a run of the paper's network with random weights, in ``folder``."""
    keys = pd.DataFrame({"Metadata_Plate": "T", "Metadata_Well": [f"A{n:02}" for n in range(24)], "Metadata_Site": 1})
    keys = keys.assign(Metadata_Label=CLASSES * 12, Metadata_Split=["train"] * 12 + ["validation"] * 8 + ["test"] * 4)
    rng = np.random.default_rng(0)
    screen = Screen(keys, CHANNELS, CLASSES, lambda row: rng.integers(300, 900, (3, side, side)).astype(np.uint16))
    how = PrepareSettings(illumination="median", workers=1)
    ready = prepare(screen, "bench", folder / "prepared", how, SplitSettings(kind="given"))
    torch.manual_seed(0)
    model = MILCNN(ModelSettings(study="bench", channels=CHANNELS, classes=CLASSES), ready.mean, ready.std)
    save_model(model, folder / "run" / "model.safetensors")
    held = ready.of("validation").assign(predicted="DMSO", y_DMSO=0.6, y_active=0.4)
    held.to_csv(folder / "run" / "predictions.csv", index=False)


def settings_of(folder: Path, plates: list[str], fields: int, shape: tuple[int, int], **more) -> plan.ScoreSettings:
    """``fields`` a plate on disk, and the settings that score them."""
    images = folder / "images"
    images.mkdir()
    study(folder, min(256, *shape))
    write_images(images, FILES, shape, "uncompressed")
    rows = []
    for plate in plates:
        for number in range(fields):
            row = {"Metadata_Plate": plate, "Metadata_Well": f"W{number:04}", "Metadata_Site": 1}
            for channel in CHANNELS:
                name = images / f"{plate}_{number}_{channel}.tif"
                os.link(images / f"{number % FILES}_{channel}.tif", name)
                row[f"Path_{channel}"] = name.name
            rows.append(row)
    pd.DataFrame(rows).to_csv(images / "fields.csv", index=False)
    return plan.ScoreSettings(
        prepared=str(folder / "prepared"), runs=[str(folder / "run")], output=str(folder / "scores"),
        screen={"table": str(images / "fields.csv"), "channels": CHANNELS}, **more,
    )  # fmt: skip


def timed(do, n: int) -> dict[str, float]:
    """Fields a second, and CPU milliseconds a field, of ``do`` for ``n`` fields."""
    start, cpu = time.perf_counter(), time.process_time()
    do()
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    return {"fields_per_s": round(n / wall, 3), "cpu_ms_per_field": round(1000 * spent / n, 1)}


def rate(folder: Path, fields: int, turns: int) -> dict:
    """End to end and the network alone, at each precision; segment first; the estimate beside the truth."""
    settings = settings_of(folder, ["P"], fields, (1024, 1280))
    ensure_reference(settings)
    screen, study = plan.screen_of(settings.model_dump_json()), load_prepared(folder / "prepared")
    opened = open_plate(screen, screen.fields, plan.preprocessing_of(study))
    some = np.stack([opened.look(row).pixels for _, row in screen.fields.head(12).iterrows()])
    rows, told = {}, estimate(settings, ["P"])
    for precision in (None, "bfloat16", "int8"):
        own = settings.model_copy(update={"precision": precision})
        for name, row in both(own, some, fields).items():
            rows[f"{name}, {precision or 'PyTorch'}"] = row
            print(name, precision, row, flush=True)
    white = white_values(study)
    for feature_set, n in (("fast", 6), ("full", 2)):
        rows[f"segment first, {feature_set}"] = timed(
            partial(segment_first, opened.correction, screen, feature_set, n, white), n
        )
    per_second = {name: row["fields_per_s"] for name, row in rows.items()}
    end = per_second["end to end, PyTorch"]
    ratios = {f"end to end / network, {p}": per_second[f"end to end, {p}"] / per_second[f"network alone, {p}"]
              for p in ("PyTorch", "bfloat16", "int8")}  # fmt: skip
    ratios |= {f"end to end / segment first, {s}": end / per_second[f"segment first, {s}"] for s in ("fast", "full")}
    told_s = told["seconds_a_plate"] + fields * told["seconds_a_field"]
    return {"fields": fields, "rates": rows, "ratios": ratios, "estimate_s": told_s, "took_s": fields / end}


def both(settings: plan.ScoreSettings, some: np.ndarray, fields: int) -> dict[str, dict[str, float]]:
    """The rate of the network alone, on fields in memory before and after, and of the whole plate between."""
    kit = tools(settings.model_dump_json())

    def alone() -> None:
        parts = in_batches(some, kit.trained.batch_size(some.shape)) * cpu_count()
        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(kit.trained.scores, parts))

    def whole() -> None:
        plan.plate_file(settings, "P").unlink(missing_ok=True)
        list(score_plates(settings, ["P"], EngineSettings()))

    alone()
    first, end, second = (timed(do, n) for do, n in (
        (alone, len(some) * cpu_count()), (whole, fields), (alone, len(some) * cpu_count())
    ))  # fmt: skip
    return {"network alone": {key: (first[key] + second[key]) / 2 for key in first}, "end to end": end}


def segment_first(correction: Correction, screen: Screen, feature_set: str, n: int, white: np.ndarray) -> None:
    """Read, correct, segment and measure ``n`` fields, with one thread a core."""

    def one(row: pd.Series) -> None:
        pixels, _ = stored(screen.read(row), correction, 1)
        measure_field(pixels, *segment(pixels, CHANNELS, SegmentSettings(), None), CHANNELS, feature_set, white)

    Parallel(cpu_count())(delayed(one)(row) for _, row in screen.fields.head(n).iterrows())


def memory(folder: Path, fields: int, turns: int) -> dict:
    """Resident memory of a process that scores one plate, MB by field, from its own look every half second."""
    settings = settings_of(folder, ["P"], fields, (1024, 1280))
    ensure_reference(settings)
    seen, done, own = [], Event(), psutil.Process()
    kit = tools(settings.model_dump_json())
    count = [0]
    plain = kit.trained.__class__.scores

    def counted(self, pixels):
        count[0] += len(pixels)
        return plain(self, pixels)

    kit.trained.__class__.scores = counted

    def look() -> None:
        while not done.wait(0.5):
            seen.append((count[0], own.memory_info().rss / 1e6))

    watch = Thread(target=look)
    watch.start()
    list(score_plates(settings, ["P"], EngineSettings()))
    done.set()
    watch.join()
    table = pd.DataFrame(seen, columns=["field", "MB"]).query("field >= 150")
    peaks = table.groupby(100 * (table["field"] / 100).round().astype(int))["MB"].max().round()
    return {
        "fields": fields,
        "MB by field": {str(n): mb for n, mb in peaks.items()},
        "last / first": peaks.iloc[-1] / peaks.iloc[0],
    }


SCRIPT = """
import sys
from milcnn.score.plan import ScoreSettings
from milcnn.score.engines import EngineSettings, score_plates
from milcnn.score import plan
if __name__ == "__main__":
    settings = ScoreSettings.model_validate_json(sys.argv[1])
    screen = plan.screen_of(settings.model_dump_json())
    plates = sorted(set(screen.fields["Metadata_Plate"]))
    plates = [name for name in plates if not plan.is_scored(settings, screen, name)]
    engine = EngineSettings(kind=sys.argv[2], workers=int(sys.argv[3]), scheduler=sys.argv[4])
    for log in score_plates(settings, plates, engine):
        print(log["plate"], log.get("error", ""), flush=True)
"""


def kills(folder: Path, fields: int, turns: int, victims: tuple[str, ...] = VICTIMS) -> dict:
    """SIGKILL of the process, of a Dask worker and of the scheduler, each ``turns`` times; then the rest is done."""
    settings = settings_of(folder, ["P1", "P2", "P3"], 80, (256, 320), threads=1)
    ensure_reference(settings)
    script = folder / "run.py"
    script.write_text(SCRIPT)

    def start(engine: str, scheduler: str = "") -> subprocess.Popen:
        command = [sys.executable, str(script), settings.model_dump_json(), engine, "1", scheduler]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def hashes() -> dict[str, str]:
        return {
            path.name: sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "scores").glob("*.parquet"))
        }

    began = time.perf_counter()
    start("loop").wait()
    lasts, expected, same = time.perf_counter() - began, hashes(), {}
    rng = random.Random(0)
    for victim in victims:
        good = 0
        for _ in range(turns):
            for path in (folder / "scores").glob("P*"):
                path.unlink()
            if victim == "main":
                process = start("loop")
                time.sleep(rng.uniform(0, lasts))
            else:
                process = killed_on_dask(start, victim, rng.uniform(0, lasts))
            kill(process)
            assert not [name for name, digest in hashes().items() if expected[name] != digest]
            start("loop").wait()
            good += hashes() == expected
            print(victim, good, flush=True)
        same[victim] = f"{good} of {turns}"
    return {"same bytes after SIGKILL of": same}


def killed_on_dask(start, victim: str, after: float) -> subprocess.Popen:
    """A run on Dask whose ``victim``, a worker or the scheduler, is killed ``after`` seconds from its start."""
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "8799", "--no-dashboard"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", "tcp://127.0.0.1:8799", "--nthreads", "1",
             "--memory-limit", "0", "--no-dashboard"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    time.sleep(4)
    process = start("dask", "tcp://127.0.0.1:8799")
    time.sleep(3 + after)
    kill(scheduler if victim == "scheduler" else workers[0])
    if victim == "worker":
        process.wait(120)
    for other in (process, scheduler, *workers):
        kill(other)
    return process


def kill(process: subprocess.Popen) -> None:
    """SIGKILL of a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def dask(folder: Path, fields: int, turns: int) -> dict:
    """Wall seconds of four plates: in a loop, on one Dask worker and on two, each with one thread and opened before."""
    from distributed import Client, LocalCluster

    plates = ["P1", "P2", "P3", "P4"]
    settings = settings_of(folder, plates, fields, (1024, 1280), threads=1)
    ensure_reference(settings)

    def seconds(engine: EngineSettings) -> dict[str, float]:
        start = time.perf_counter()
        inside = sum(log["wall_s"] for log in score_plates(settings, plates, engine))
        return {"whole": time.perf_counter() - start, "inside of plates": inside}

    tools(settings.model_dump_json())
    took = {"loop": seconds(EngineSettings())}
    for workers in (1, 2):
        with LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address=None
        ) as cluster:
            with Client(cluster) as client:
                client.run(lambda: bool(tools(settings.model_dump_json())))
            took[f"{workers} workers"] = seconds(EngineSettings(kind="dask", scheduler=cluster.scheduler_address))
    loop, one, two = (row["whole"] for row in took.values())
    return {"fields a plate": fields, "seconds": took, "dask / loop": one / loop, "one / two workers": one / two}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["rate", "memory", "kills", "dask"])
    parser.add_argument("--fields", type=int, default=120)
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = globals()[arguments.part](Path(folder), arguments.fields, arguments.turns)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    result |= {"machine": machine(torch.device("cpu")) | {"cores": cpu_count()}}
    write_json(results | {arguments.part: result}, RESULTS)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
