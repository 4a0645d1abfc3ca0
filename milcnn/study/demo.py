"""``milcnn demo``: one small study from end to end, in a few minutes.

All its files are in ``build/demo``, which is emptied first. No stage of ``dvc.yaml`` reads or writes there, and no
table and no page of another study changes. ``milcnn run STAGE demo`` runs one of its stages again.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from milcnn.evaluate.runs import SUMMARY, merged_summary
from milcnn.figures.labels import label
from milcnn.files import read_table
from milcnn.paths import ROOT
from milcnn.study.clean import clean_notebooks
from milcnn.study.parallel import run_graph
from milcnn.study.provenance import write_provenance
from milcnn.study.report import REPORTS, write_report
from milcnn.study.score_tables import with_interval
from milcnn.study.stage import HOMES

DEMO = "demo"
NETWORKS, BASELINE = ["noisy_and", "mean"], "sphered"
RUNS = "--poolings noisy_and mean --seeds 0"
# by stage, the words of `milcnn run` without the study, and the stages that it needs
GRAPH: dict[str, tuple[str, set[str]]] = {
    "prepare@demo": ("prepare", set()),
    "baselines@demo": (f"baselines --baselines {BASELINE}", {"prepare@demo"}),
    "train@demo-noisy_and": ("train --pooling noisy_and", {"prepare@demo"}),
    "train@demo-mean": ("train --pooling mean", {"prepare@demo"}),
    "localise@demo": (f"localise {RUNS}", {"train@demo-noisy_and", "train@demo-mean"}),
    "compare@demo": (
        f"compare {RUNS} --baselines {BASELINE}",
        {"train@demo-noisy_and", "train@demo-mean", "baselines@demo"},
    ),
    "explore@demo": (f"explore {RUNS}", {"train@demo-noisy_and"}),
    "tour@demo": ("tour", {"train@demo-noisy_and"}),
    "figures@demo": ("figures", {"compare@demo", "localise@demo"}),
}


def demo() -> None:
    """Run the study, write its report, and print three accuracies and what to open."""
    home = ROOT / HOMES[DEMO]
    shutil.rmtree(home, ignore_errors=True)
    clean_notebooks()
    run_graph({stage: needs for stage, (_, needs) in GRAPH.items()}, command_of, jobs=2)
    reports = home / "reports"
    tables = [read_table(path) for path in (reports / "tables" / DEMO).glob("*scores.csv")]
    summary = merged_summary(pd.DataFrame(columns=SUMMARY), pd.concat(tables))
    write_report([DEMO], summary, read_table(REPORTS / "tables" / "mil_unit_tests.csv"), reports)
    write_provenance([DEMO], reports)
    print(f"\n{accuracies(summary)}\n\nOpen the report: {(reports / 'html' / 'index.html').as_uri()}")
    print(f"A tour of these fields: {(reports / 'html' / DEMO / '00_tour.html').as_uri()}")


def command_of(stage: str) -> list[str]:
    name, *rest = GRAPH[stage][0].split()
    return [str(Path(sys.executable).with_name("milcnn")), "run", name, DEMO, *rest]


def accuracies(summary: pd.DataFrame) -> str:
    """Accuracy on test fields of the two networks and the baseline, with intervals."""
    rows = summary.query("metric == 'accuracy' and level == 'field'").set_index("method")
    lines = [f"  {label(method):20s}{with_interval(rows.loc[method])}" for method in (*NETWORKS, BASELINE)]
    fields = f"{rows['n'].iloc[0]:.0f} test fields"
    return "\n".join([f"Share of {fields} that are named right, with 95 % intervals:", *lines])
