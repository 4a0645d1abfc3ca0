"""Run a graph of stages, several at once; one line says how far it is.

    milcnn study --jobs 2

runs what ``dvc repro`` would, each stage by a ``dvc repro`` of its own. What a stage prints goes to
``build/stages/<stage>.log``.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from milcnn.parameters import StageError
from milcnn.paths import ROOT
from milcnn.study.costs import STAGES, noted_costs, stage_kind

LOOK_EVERY = 0.5  # s between two looks at the running stages
LAST_LINES = 12  # of a stage that failed
DVC = [sys.executable, "-m", "dvc"]
Needs = dict[str, set[str]]  # by stage, the stages whose outputs it reads


@dataclass
class State:
    """How far a graph is; times in seconds."""

    jobs: int  # stages at once
    waiting: set[str]
    known: dict[str, float]  # what stages took, in the last run or in this one
    running: dict[str, float] = field(default_factory=dict)  # when each began
    epochs: dict[str, str] = field(default_factory=dict)  # of those that train, such as "epoch 3/8"
    done: int = 0  # stages
    began: float = 0
    now: float = 0

    def expected(self, stage: str) -> float:
        """What ``stage`` took before; of a new one, the mean of its kind, or of all, or 0."""
        of_kind = [seconds for name, seconds in self.known.items() if stage_kind(name) == stage_kind(stage)]
        return self.known.get(stage, statistics.fmean(of_kind or self.known.values() or [0]))

    def left(self) -> float | None:
        """The time left if all jobs are busy to the end; None while most stages to come are of a kind not seen yet."""
        kinds, to_come = set(map(stage_kind, self.known)), [*self.waiting, *self.running]
        if sum(stage_kind(stage) in kinds for stage in to_come) < len(to_come) / 2:
            return None
        rest = [max(0, self.expected(name) - (self.now - began)) for name, began in self.running.items()]
        return max(*rest, 0, (sum(rest) + sum(map(self.expected, self.waiting))) / self.jobs)

    def line(self) -> str:
        """``12 of 52 stages | 3:20 | about 9 min left | train@digits-mean-0 epoch 3/4, localise@digits``."""
        total = self.done + len(self.waiting) + len(self.running)
        names = [f"{name} {self.epochs.get(name, '')}".rstrip() for name in self.running]
        passed = int(self.now - self.began)
        left = self.left() if self.running else None
        told = "" if left is None else f"about {max(1, round(left / 60))} min left"
        parts = [f"{self.done} of {total} stages", f"{passed // 60}:{passed % 60:02d}", told, ", ".join(names)]
        return " | ".join(filter(None, parts))


def tell(state: State, event: str = "") -> None:
    """In a terminal, the line of ``state`` in place of the one before; elsewhere one more line for each ``event``."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{state.line()[:width]}\033[K", end="", flush=True)
    elif event:
        print(f"{event} | {state.line()}", flush=True)


def run_graph(needs: Needs, command: Callable[[str], list[str]], jobs: int) -> None:
    """Run ``command(stage)`` for every stage, after the stages that it needs, ``jobs`` at once.

    After a failure no further stage begins. Raises StageError with the last lines of the stages that failed.
    """
    graph = TopologicalSorter(needs)
    graph.prepare()
    costs, start = noted_costs(), time.monotonic()
    state = State(jobs, set(needs), dict(zip(costs["stage"], costs["seconds"], strict=True)), began=start, now=start)
    processes: dict[str, subprocess.Popen] = {}
    ready: list[str] = []
    failed: list[str] = []
    try:
        while graph.is_active() and (processes or not failed):
            ready += graph.get_ready()
            while ready and len(processes) < jobs and not failed:
                stage = max(ready, key=state.expected)  # else a long one may run alone at the end
                ready.remove(stage)
                processes[stage] = begin(stage, command(stage), state)
            watch(state)
            for stage in [stage for stage, process in processes.items() if process.poll() is not None]:
                if code := processes.pop(stage).returncode:
                    failed.append(failure(stage, code))
                else:
                    graph.done(stage)
                end(stage, code, state)
    except KeyboardInterrupt:
        for process in processes.values():  # Ctrl-C has reached them, too
            process.wait()
        raise
    finally:
        if sys.stdout.isatty():
            print()
    if failed:
        raise StageError("\n".join(failed))


def begin(stage: str, words: list[str], state: State) -> subprocess.Popen:
    """Start a stage, with one thread; one that starts processes has its share of the cores for them."""
    cores = -(-(os.cpu_count() or 1) // state.jobs)
    own = {"DVC_STAGE": stage, "OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": str(cores)}
    STAGES.mkdir(parents=True, exist_ok=True)
    with (STAGES / f"{stage}.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    state.waiting.remove(stage)
    state.running[stage] = time.monotonic()
    tell(state, f"{stage} began")
    return process


def watch(state: State) -> None:
    """Wait a little, and see how far the running stages are."""
    time.sleep(LOOK_EVERY)
    state.now = time.monotonic()
    files = {stage: STAGES / f"{stage}.epoch" for stage in state.running}
    state.epochs = {stage: file.read_text(encoding="utf-8") for stage, file in files.items() if file.exists()}
    tell(state)


def end(stage: str, code: int, state: State) -> None:
    """A stage that failed is not done: it waits for another run."""
    state.known[stage] = state.now - state.running.pop(stage)
    if code:
        state.waiting.add(stage)
    else:
        state.done += 1
    tell(state, f"{stage} {'failed' if code else 'ended'} after {state.known[stage]:.0f} s")


def failure(stage: str, code: int) -> str:
    log = STAGES / f"{stage}.log"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "\n  ".join([f"stage {stage} ended with exit code {code}; {log} ends with:", *lines[-LAST_LINES:]])


def dvc(*words: str) -> str:
    """What ``dvc`` prints. Raises StageError when it fails."""
    done = subprocess.run([*DVC, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"dvc {' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def needs_of(dot: str) -> Needs:
    """The graph that ``dvc dag --dot`` prints: ``"a";`` for a stage, ``"a" -> "b";`` where b needs a."""
    needs: Needs = {}
    for line in dot.splitlines():
        match re.findall(r'"([^"]+)"', line):
            case [stage]:
                needs.setdefault(stage, set())
            case [first, second]:
                needs.setdefault(second, set()).add(first)
    return needs


def to_run(needs: Needs, changed: Iterable[str]) -> Needs:
    """The part of the graph that is out of date: the stages that have ``changed``, and all that need them."""
    old = set(changed)
    for stage in TopologicalSorter(needs).static_order():
        if needs.get(stage, set()) & old:
            old.add(stage)
    return {stage: needs[stage] & old for stage in needs if stage in old}


def run_study(jobs: int) -> None:
    """Bring all stages of dvc.yaml up to date, ``jobs`` at once. A look at the inputs of the studies comes first."""
    if jobs < 1:
        raise StageError(f"--jobs {jobs}: no stage can run; give 1 or more.")
    dvc("repro", "inventory")
    changed = [stage for stage in json.loads(dvc("status", "--json")) if not stage.startswith("inventory@")]
    needs = to_run(needs_of(dvc("dag", "--dot")), changed)
    # dvc waits only 3 s by itself for another dvc to write what it has done; on a slow disk that is too short
    run_graph(needs, lambda stage: [*DVC, "--wait-for-lock", "repro", "-s", stage], jobs)
