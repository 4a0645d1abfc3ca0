"""Where plates are scored: in this process, on Dask, or on SLURM. A task is a plate; only JSON and names travel.

A worker opens screen and networks itself, once. What is done is known by files alone, so after any end the same call
does the rest; nothing here keeps state.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from joblib import cpu_count
from pydantic import Field

from milcnn.score.plan import ScoreSettings
from milcnn.score.plate import score_plate
from milcnn.settings import Settings

RETRIES = 3  # of a plate that fails by what ``attempt`` does not catch, such as a lack of memory
DEATHS = 20  # of workers that a plate outlives: one that ends its worker each time has an end too


class EngineSettings(Settings):
    """Where plates are scored."""

    kind: Literal["loop", "dask", "slurm", "local"] = "loop"  # local: submitit's processes on this machine
    workers: int = Field(1, ge=1)  # plates at once; on Dask only where there is no scheduler yet
    scheduler: str = ""  # address of a running Dask scheduler
    minutes: int = Field(600, ge=1)  # most that a job of submitit may take
    parameters: dict[str, Any] = Field({})  # others of submitit, such as slurm_partition


def score_plates(settings: ScoreSettings, plates: list[str], engine: EngineSettings) -> Iterator[dict]:
    """Score ``plates``; yields the log of each as it is done, or its ``plate`` and ``error``.

    Raises ImportError if the engine is not installed, ConnectionError if the scheduler does not answer.
    """
    if engine.kind == "loop":
        for plate in plates:
            yield attempt(settings.model_dump_json(), plate)
        return
    if not settings.threads:  # workers share a machine
        settings = settings.model_copy(update={"threads": max(1, cpu_count() // engine.workers)})
    run = on_dask if engine.kind == "dask" else on_submitit
    yield from run(settings, plates, engine)


def attempt(settings: str, plate: str, score: Callable[[str, str], dict] = score_plate) -> dict:
    """The log of ``plate``, or why it has no scores: then others go on."""
    try:
        return score(settings, plate)
    except (ValueError, OSError, ImportError) as error:
        return {"plate": plate, "error": " ".join(str(error).split())}


def on_dask(settings: ScoreSettings, plates: list[str], engine: EngineSettings) -> Iterator[dict]:
    """On a running scheduler, or on ``workers`` processes of this machine, a plate each.

    A worker's memory has no limit: the C library keeps what torch frees, and the nanny would take this for a leak and
    restart it. A plate whose worker dies is tried again: on processes of this machine up to ``DEATHS`` times, on a
    running scheduler as often as it is set to (``distributed.scheduler.allowed-failures``).
    """
    try:
        import dask
        from distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise ImportError("the engine dask needs distributed; run 'pip install distributed'.") from None
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS})
    text = settings.model_dump_json()
    local = {"n_workers": engine.workers, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": None}
    try:
        client = Client(engine.scheduler, timeout="20s") if engine.scheduler else Client(LocalCluster(**local))
    except OSError as error:
        raise ConnectionError(f"scheduler: {engine.scheduler} does not answer ({error}); start it first.") from None
    with client:
        tasks = [client.submit(attempt, text, plate, pure=False, retries=RETRIES) for plate in plates]
        names = {task.key: plate for task, plate in zip(tasks, plates, strict=True)}
        for task in as_completed(tasks):
            if task.status == "finished":
                yield task.result()
            else:
                yield {"plate": names[task.key], "error": f"its worker died ({task.exception()})"}
            task.release()
        if not engine.scheduler:
            client.shutdown()


def on_submitit(settings: ScoreSettings, plates: list[str], engine: EngineSettings) -> Iterator[dict]:
    """As an array of SLURM jobs, or as processes of this machine; their logs are in ``<output>/jobs``.

    A job that ends at its time limit, or with its machine, is a plate without a file: call again for the rest.
    """
    try:
        import submitit
    except ImportError:
        raise ImportError(f"the engine {engine.kind} needs submitit; run 'pip install submitit'.") from None
    executor = submitit.AutoExecutor(folder=Path(settings.output) / "jobs", cluster=engine.kind)
    limits = {"slurm_array_parallelism": engine.workers} if engine.kind == "slurm" else {}
    executor.update_parameters(
        timeout_min=engine.minutes, cpus_per_task=settings.threads, **limits, **engine.parameters
    )
    text = settings.model_dump_json()
    step = len(plates) if engine.kind == "slurm" else engine.workers  # SLURM queues; processes would all start at once
    for start in range(0, len(plates), step):
        some = plates[start : start + step]
        with executor.batch():
            jobs = [executor.submit(attempt, text, plate) for plate in some]
        names = {job.job_id: plate for job, plate in zip(jobs, some, strict=True)}
        for job in submitit.helpers.as_completed(jobs, poll_frequency=1):
            error = job.exception()
            if error is None:
                yield job.result()
            else:
                yield {"plate": names[job.job_id], "error": f"its job died; see {job.paths.stderr}"}
