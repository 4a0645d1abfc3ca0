"""The report: one HTML page that opens from disk, and the README's numbers, both from summary.csv."""

import base64
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import yaml

from milcnn.evaluate.runs import SUMMARY, merged_summary
from milcnn.figures.labels import label
from milcnn.files import read_table, write_table, written_whole
from milcnn.paths import ROOT

# what a reader asks, and the metrics (and levels) that answer: the tables of a study
TABLES: dict[str, dict[tuple[str, str], str]] = {
    "Which class?": {
        ("accuracy", "field"): "Field accuracy",
        ("accuracy", "well"): "Well accuracy",
        ("accuracy", "treatment"): "Treatment accuracy",
        ("mean_average_precision", "field"): "Field mAP",
        ("roc_auc", "field"): "Field AUC",
    },
    "Is it better than the baseline that was best on validation?": {
        ("accuracy_difference", "field"): "Accuracy of Noisy-AND less that of the baseline",
    },
    "Which cells?": {
        ("average_precision", "pixel"): "Pixel average precision",
        ("iou_foreground", "pixel"): "Foreground IoU",
        ("f1_at_0.5", "object"): "Object F1 at IoU 0.5",
        ("count_error", "object"): "Count error",
        ("cell_average_precision", "cell"): "Cell average precision",
    },
    "How many cells, at which dose?": {
        ("responding_fraction_r", "field"): "Correlation with the true responding fraction",
        ("responding_fraction_error", "field"): "Mean absolute error of the fraction",
        ("ec50_within_2x", "compound"): "EC50 within a factor of 2",
        ("ec50_within_2x_test_plates", "compound"): "… by the test plates alone",
    },
}
REPORTS = ROOT / "reports"
SUMMARY_TABLE = REPORTS / "tables" / "summary.csv"
NOTES = {
    "bbbc021-sample": "A proof that real 16-bit plates flow through every stage, no benchmark: the two classes "
    "differ in how many cells and how much black their fields hold, so any method separates them."
}
MARKS = ("<!-- numbers: begin -->", "<!-- numbers: end -->")


@dataclass(frozen=True)
class Section:
    """What the page shows of one study: tables, pictures, and links to executed notebooks."""

    study: str
    note: str  # what a reader must know before the numbers
    tables: dict[str, str]  # title, HTML
    pictures: list[tuple[str, str]] = field(default_factory=list)  # caption, data URI
    notebooks: list[str] = field(default_factory=list)  # paths relative to the page
    gallery: str = ""  # path relative to the page of its gallery, where there is one


def scores_tables(summary: pd.DataFrame, study: str) -> dict[str, pd.DataFrame]:
    """The tables of ``TABLES`` that ``study`` has a row of; see ``scores_table``."""
    rows = summary[summary["study"] == study]
    tables = {title: scores_table(rows, metrics) for title, metrics in TABLES.items()}
    return {title: table for title, table in tables.items() if len(table)}


def scores_table(rows: pd.DataFrame, metrics: dict[tuple[str, str], str]) -> pd.DataFrame:
    """One row a method, one column a metric that was measured: ``value (low–high)``, best of the first first."""
    columns, order = {}, []
    for (metric, level), title in metrics.items():
        chosen = rows[(rows["metric"] == metric) & (rows["level"] == level)]
        # a score under a second protocol is left to summary.csv
        chosen = chosen.sort_values("protocol").drop_duplicates("method").sort_values("value", ascending=False)
        if chosen.empty:
            continue
        names = chosen["method"].map(label)
        text = chosen.apply(lambda row: f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})", axis=1)
        columns[title] = pd.Series(text.to_numpy(), index=names, dtype=str)
        order += [name for name in names if name not in order]
    return pd.DataFrame(columns, index=order).rename_axis("Method").fillna("–").reset_index()


def checks_table(checks: pd.DataFrame) -> pd.DataFrame:
    """One row a pooling, one column a check: its score and whether it passes, ``(!)`` where that was not expected."""
    verdict = np.where(checks["passes"], "passes", "fails")
    surprise = np.where(checks["passes"] == checks["expected"], "", " (!)")
    told = checks.assign(told=verdict + checks["score"].map(" {:.2f}".format) + surprise)
    table = told.pivot(index=["pooling", "why"], columns="check", values="told").reset_index("why")
    table = table.loc[checks["pooling"].unique()].reset_index().rename_axis(columns=None)
    table["pooling"] = table["pooling"].map(label)
    return table[[*table.columns.drop("why"), "why"]]


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def section(study: str, summary: pd.DataFrame, reports: Path) -> Section:
    """Everything the page shows of ``study``, from the folders under ``reports``."""
    pictures = [
        (path.stem.replace("_", " "), data_uri(path))
        for kind in ("figures", "galleries")
        for path in sorted([*(reports / kind / study).glob("*.png"), *(reports / kind / study).glob("d*/*.png")])
    ]
    notebooks = sorted((reports / "html" / study).glob("*.html"))
    links = [f"{study}/{path.name}" for path in notebooks]
    tables = {title: table.to_html(index=False, border=0) for title, table in scores_tables(summary, study).items()}
    gallery = Path("galleries", study, "page", "index.html")
    link = f"../{gallery.as_posix()}" if (reports / gallery).exists() else ""
    return Section(study, NOTES.get(study, ""), tables, pictures, links, link)


def write_report(studies: list[str], summary: pd.DataFrame, checks: pd.DataFrame, reports: Path, path: Path) -> None:
    """Write the report on ``studies``; pictures are embedded, executed notebooks linked.

    ``checks`` is the table of ``mil_unit_tests``.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    sections = [section(study, summary, reports) for study in studies]
    with written_whole(path) as temporary:
        told = checks_table(checks).to_html(index=False, border=0)
        temporary.write_text(environment.get_template("report.html.j2").render(sections=sections, checks=told))


def readme_numbers(summary: pd.DataFrame) -> str:
    """The README's tables of results, Markdown, one block a study."""
    blocks = []
    for study in summary["study"].unique():
        blocks += filter(None, [f"### {study}", NOTES.get(study)])
        for title, table in scores_tables(summary, study).items():
            lines = [" | ".join(map(str, row)) for row in [table.columns, ["---"] * table.shape[1], *table.to_numpy()]]
            blocks.append(f"*{title}*\n\n" + "\n".join(f"| {line} |" for line in lines))
    return "\n\n".join(blocks)


def update_readme(readme: Path, summary: pd.DataFrame) -> None:
    """Replace what stands between the two marks of the README by the numbers of ``summary``."""
    before, rest = readme.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    with written_whole(readme) as temporary:
        temporary.write_text(f"{before}{MARKS[0]}\n{readme_numbers(summary)}\n{MARKS[1]}{after}")


def report() -> None:
    """Merge the scores of the studies of this run into summary.csv, and write the page from it."""
    studies = yaml.safe_load((ROOT / "params.yaml").read_text())["studies"]
    tables = [read_table(path) for study in studies for path in (REPORTS / "tables" / study).rglob("*scores.csv")]
    old = read_table(SUMMARY_TABLE) if SUMMARY_TABLE.exists() else pd.DataFrame(columns=SUMMARY)
    summary = merged_summary(old, pd.concat(tables))
    write_table(summary, SUMMARY_TABLE)
    checks = read_table(REPORTS / "tables" / "mil_unit_tests.csv")
    write_report(studies, summary, checks, REPORTS, REPORTS / "html" / "index.html")


def results() -> None:
    """Bring docs/results.md and the figures of the README up to the last run."""
    update_readme(ROOT / "README.md", read_table(SUMMARY_TABLE))
    figures = ["figures/digits/1_error_by_fraction.png", "galleries/simulated/dose/dose_response.png"]
    for number, name in enumerate(figures, start=1):
        with written_whole(ROOT / "docs" / f"figure_{number}.png") as temporary:
            shutil.copyfile(REPORTS / name, temporary)
