"""How the run was made: code, machine, time, memory, data, parameters. It differs between two runs, the report not."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import psutil
import torch

from milcnn.files import write_table
from milcnn.parameters import read_yaml
from milcnn.paths import ROOT
from milcnn.study.costs import costs_by_kind, noted_costs
from milcnn.study.pages import write_page

LIBRARIES = ("milcnn", "torch", "numpy", "scikit-learn", "scikit-image", "pandas", "dvc")
UNITS = {"cpu_minutes": "CPU minutes", "cpu_seconds": "CPU seconds", "peak_mib": "peak MiB", "began": "began (UTC)"}


def write_provenance(studies: list[str], reports: Path) -> None:
    """Write ``run.html`` and ``stages.csv`` in ``reports/html``. What is not there, as git or dvc.lock, is left out."""
    costs = noted_costs()
    costs = costs[costs["study"].isin([*studies, ""])]  # "" is of a stage of all studies
    write_table(costs, reports / "html" / "stages.csv")
    tables = {
        "Code": pd.DataFrame(code_facts().items(), columns=["what", "which"]),
        "Machine": pd.DataFrame(machine_facts().items(), columns=["what", "which"]),
        "Minutes and memory": costs_by_kind(costs).rename(columns=UNITS),
        "Seconds and memory of each stage": costs.rename(columns=UNITS),
        "Data, models and results": pd.DataFrame(locked(studies), columns=["stage", "file or folder", "MD5", "bytes"]),
    }
    files = [ROOT / "params.yaml", *(ROOT / "params" / f"{study}.yaml" for study in studies)]
    write_page(
        reports / "html" / "run.html",
        "run.html.j2",
        tables={title: table.round(1).to_html(index=False, border=0) for title, table in tables.items() if len(table)},
        parameters={path.name: path.read_text(encoding="utf-8") for path in files if path.exists()},
        cpu_minutes=costs["cpu_seconds"].sum() / 60,
    )


def git(*words: str) -> str:
    """What ``git`` says, '' without git or outside of a repository."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def code_facts() -> dict[str, str]:
    facts = {"Python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    if commit := git("rev-parse", "HEAD"):
        facts["commit"] = commit + (", with changes" if git("status", "--porcelain", "-uno") else "")
    lock = ROOT / "requirements.lock"
    if lock.exists():
        facts["requirements.lock (SHA-256)"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return facts


def machine_facts() -> dict[str, str]:
    cpu, known = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), cpu)
    gpu = {"GPU": torch.cuda.get_device_name()} if torch.cuda.is_available() else {"GPU": "none"}
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    return {"processor": cpu, "cores": str(os.cpu_count()), "memory": memory, **gpu, "system": platform.system()}


def locked(studies: list[str]) -> list[tuple[str, str, str, int]]:
    """The outputs of ``studies`` that dvc.lock knows."""
    path = ROOT / "dvc.lock"
    stages = read_yaml(path).get("stages", {}) if path.exists() else {}
    return [
        (name, out["path"], out.get("md5", ""), out.get("size", 0))
        for name, stage in stages.items()
        for out in stage.get("outs", [])
        if not set(studies).isdisjoint(Path(out["path"]).parts)
    ]
