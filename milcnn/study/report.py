"""The report (one HTML page) and the numbers of README.md and docs/results.md: all from summary.csv."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from milcnn.evaluate.runs import CONTROLS, SUMMARY, merged_summary
from milcnn.figures.labels import label
from milcnn.files import read_table, write_table, written_whole
from milcnn.paths import ROOT
from milcnn.study.parameters import StageError, listed_studies

Metric = tuple[str, str]  # metric and level of a row of the summary
# a reader's question, and the metrics that answer it, with their titles: the tables of a study
TABLES: dict[str, dict[Metric, str]] = {
    "Which class?": {
        ("accuracy", "field"): "Field accuracy",
        ("balanced_accuracy", "field"): "… balanced",
        ("together_accuracy", "field"): "… seeds as one",
        ("fresh_accuracy", "field"): "… fresh test set",
        ("accuracy", "well"): "Well accuracy",
        ("accuracy", "treatment"): "Treatment accuracy",
        ("mean_average_precision", "field"): "Field mAP",
        ("roc_auc", "field"): "Field AUC",
    },
    "Is it better than the baseline that was best on validation?": {
        ("accuracy_difference", "field"): "Accuracy difference",
        ("together_accuracy_difference", "field"): "… seeds as one",
        ("fresh_accuracy_difference", "field"): "… on a fresh test set",
        ("fresh_together_accuracy_difference", "field"): "… there, seeds as one",
        ("mean_average_precision_difference", "field"): "mAP difference",
        ("together_mean_average_precision_difference", "field"): "… seeds as one",
        ("fresh_mean_average_precision_difference", "field"): "… on a fresh test set",
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
        ("ec50_within_2x_test_plates", "compound"): "… from the test plates alone",
        ("ec50_within_2x_picked", "compound"): "… with the phenotype that the network picks",
        ("ec50_interval_coverage", "compound"): "95 % intervals of EC50 that hold the true one",
    },
}
# the one table of the README: ten methods, and what is shown of each, by study; ``CONTROLS`` for its row with controls
HEADLINE_METHODS = [
    "noisy_and", "log_sum_exp", "mean", "cell_attention", "sphered", "boosting", "svm_vote", "ljosa", "mean_profile",
    "noisy_and_shuffled",
]  # fmt: skip
HEADLINE = {
    ("digits", "accuracy", "field", ""): "`digits`: field accuracy",
    ("digits", "cell_average_precision", "cell", ""): "cell AP",
    ("simulated", "accuracy", "field", ""): "`simulated`: field accuracy",
    ("simulated", "accuracy", "field", CONTROLS): "… with controls of the plate",
    ("simulated", "accuracy", "treatment", ""): "treatment accuracy",
    ("simulated", "cell_average_precision", "cell", ""): "cell AP",
    ("simulated", "responding_fraction_r", "field", ""): "r of the responding fraction",
}
REPORTS = ROOT / "reports"
SUMMARY_TABLE = REPORTS / "tables" / "summary.csv"
NOTES = {
    "digits": "The test fields are drawn from five groups of glyphs that share none, about nine of each digit a group. "
    "So intervals are over groups, for other glyphs of the same collection.",
    "yeast-sample": "The test fields are cut from eight images, four of each of two proteins, in four pairs. "
    "So intervals are over pairs, for other images of these proteins; nothing is known of other proteins.",
    **dict.fromkeys(
        ("composite", "composite-shape"),
        "All cells of the test fields are cut from 13 images of one plate: nothing is known of other plates. "
        "The rotation has each of the three plates as the test once. Controls that serve as references and controls "
        "that are scored are different fields, but show some of the same cells.",
    ),
    **dict.fromkeys(
        ("composite-rotation", "composite-shape-rotation"),
        "Three studies together, which test one plate each and train on the two others.",
    ),
    "micronuclei-rotation": "Five turns together: each source image is the test once, so images of one acquisition are "
    "on both sides.",
    "bbbc016-rotation": "Five turns together: each well is the test once. One plate: nothing is known of others.",
    "bbbc021-sample": "This study shows that real 16-bit plates pass through every stage. It is no benchmark: the two "
    "classes differ in the number of cells and in how much of a field is black, so any method separates them.",
}
# a picture of the last run, in reports/, and its copy in docs/
DOCS_PICTURES = {
    "figures/digits/1_error_by_fraction.png": "figure_1.png",
    "galleries/simulated/dose/dose_response.png": "figure_2.png",
    "galleries/bbbc016/localisation_panel.png": "puncta_maps.png",
    "galleries/bbbc016/cells.png": "puncta_cells.png",
    "galleries/bbbc016/page/views/00001.webp": "puncta_unlabelled.png",  # well O01, the second field
}
MARKS = ("<!-- numbers: begin -->", "<!-- numbers: end -->")
RESULTS = """# Results

`make readme` writes this page from [`reports/tables/summary.csv`](../reports/tables/summary.csv), which the last
run of each study wrote. Each value is the mean over seeds, with its 95 % interval; a value without one rests on one
group of fields, such as one plate. `summary.csv` has the numbers of fields, groups and seeds, and the standard
deviation over seeds. [discussion.md](discussion.md) says how to read the tables.

"""


@dataclass(frozen=True)
class Section:
    """What the page shows of one study."""

    study: str
    note: str  # what a reader must know before the numbers
    intervals: str  # what the groups of the intervals are
    tables: dict[str, str]  # title, HTML
    notes: list[str] = field(default_factory=list)  # what could not be computed, and other warnings of the notebooks
    pictures: list[tuple[str, str]] = field(default_factory=list)  # caption, data URI
    notebooks: list[str] = field(default_factory=list)  # paths of executed notebooks, relative to the page
    gallery: str = ""  # path of the gallery, relative to the page; empty where there is none


def with_interval(row: pd.Series) -> str:
    """``value (low–high)``; the value alone where it has no interval, a dash where it is not defined."""
    if np.isnan(row["value"]):
        return "–"
    limits = "" if np.isnan(row["low"]) else f" ({row['low']:.3f}–{row['high']:.3f})"
    return f"{row['value']:.3f}{limits}"


def interval_note(summary: pd.DataFrame, study: str) -> str:
    """What the intervals in the tables of ``study`` are over: "Intervals are over 3 plates."; '' if not known."""
    shown = pd.MultiIndex.from_tuples([key for metrics in TABLES.values() for key in metrics])
    rows = summary[pd.MultiIndex.from_frame(summary[["metric", "level"]]).isin(shown) & (summary["study"] == study)]
    rows = rows.reindex(columns=SUMMARY).dropna(subset=["groups", "unit"])
    parts = []
    for unit, groups in rows.groupby("unit", sort=False)["groups"]:
        first, *rest = unit.split(" ", 1)
        number = " to ".join(f"{n:.0f}" for n in sorted({groups.min(), groups.max()}))
        parts.append(" ".join([number, first + "s" * (number != "1"), *rest]))
    return f"Intervals are over {', '.join(parts)}." if parts else ""


def scores_tables(summary: pd.DataFrame, study: str) -> dict[str, pd.DataFrame]:
    """The tables of ``TABLES`` that ``study`` has a row for; see ``scores_table``."""
    rows = summary[summary["study"] == study]
    tables = {title: scores_table(rows, metrics) for title, metrics in TABLES.items()}
    return {title: table for title, table in tables.items() if len(table)}


def scores_table(rows: pd.DataFrame, metrics: dict[Metric, str]) -> pd.DataFrame:
    """One row a method, one column a measured metric, ``value (low–high)``; sorted by the first metric."""
    columns, order = {}, []
    for (metric, level), title in metrics.items():
        chosen = rows[(rows["metric"] == metric) & (rows["level"] == level)]
        # scores of a second protocol are in summary.csv alone
        chosen = chosen.sort_values("protocol").drop_duplicates("method").sort_values("value", ascending=False)
        if len(chosen):
            columns[title] = pd.Series(
                chosen.apply(with_interval, axis=1).to_numpy(), chosen["method"].map(label), dtype=str
            )
            order += [name for name in columns[title].index if name not in order]
    return pd.DataFrame(columns, index=order).rename_axis("Method").fillna("–").reset_index()


def headline_table(summary: pd.DataFrame) -> pd.DataFrame:
    """The README's table: a row for each of ``HEADLINE_METHODS``, a column for each of ``HEADLINE``; values alone."""
    values = summary.drop_duplicates(["study", "metric", "level", "method"])
    values = values.set_index(["study", "metric", "level", "method"])["value"]
    rows = []
    for method in HEADLINE_METHODS:
        found = [values.get((*key, method + kind), np.nan) for *key, kind in HEADLINE]
        rows.append([label(method), *("–" if np.isnan(value) else f"{value:.3f}" for value in found)])
    return pd.DataFrame(rows, columns=["Method", *HEADLINE.values()])


def checks_table(checks: pd.DataFrame) -> pd.DataFrame:
    """One row a pooling, one column a MIL unit test: passes or fails, the score, ``(!)`` where it was not expected."""
    verdict = np.where(checks["passes"], "passes", "fails")
    surprise = np.where(checks["passes"] == checks["expected"], "", " (!)")
    cells = checks.assign(cell=verdict + checks["score"].map(" {:.2f}".format) + surprise)
    table = cells.pivot(index=["pooling", "why"], columns="check", values="cell").reset_index("why")
    table = table.loc[checks["pooling"].unique()].reset_index().rename_axis(columns=None)
    table["pooling"] = table["pooling"].map(label)
    return table[[*table.columns.drop("why"), "why"]]


def section(study: str, summary: pd.DataFrame, reports: Path) -> Section:
    """Everything the page shows of ``study``, from the folders in ``reports``."""
    paths = [
        path
        for kind in ("figures", "galleries")
        for pattern in ("*.png", "d*/*.png")  # dose and degrade have folders of their own
        for path in sorted((reports / kind / study).glob(pattern))
    ]
    uri = "data:image/png;base64,"
    pictures = [(path.stem.replace("_", " "), uri + base64.b64encode(path.read_bytes()).decode()) for path in paths]
    notebooks = [f"{study}/{path.name}" for path in sorted((reports / "html" / study).glob("*.html"))]
    screen = reports / "tables" / study / "screen.csv"
    facts = {"What is in the screen?": read_table(screen)} if screen.exists() else {}
    shown = facts | scores_tables(summary, study)
    tables = {title: table.to_html(index=False, border=0) for title, table in shown.items()}
    gallery = Path("galleries", study, "page", "index.html")
    link = f"../{gallery.as_posix()}" if (reports / gallery).exists() else ""
    notes = notes_in(reports / "executed" / study)
    intervals = interval_note(summary, study)
    return Section(study, NOTES.get(study, ""), intervals, tables, notes, pictures, notebooks, link)


def notes_in(executed: Path) -> list[str]:
    """The lines "Note: …" that the executed notebooks of a study print, each after the name of its notebook."""
    found = []
    for path in sorted(executed.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", [])]
        lines = "\n".join(texts).splitlines()
        found += [line.replace("Note", path.stem, 1) for line in lines if line.startswith("Note: ")]
    return list(dict.fromkeys(found))


def write_report(studies: list[str], summary: pd.DataFrame, checks: pd.DataFrame, reports: Path, path: Path) -> None:
    """Write the page about ``studies``; pictures are embedded, notebooks linked. ``checks``: the MIL unit tests."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    sections = [section(study, summary, reports) for study in studies]
    tests = checks_table(checks).to_html(index=False, border=0)
    with written_whole(path) as temporary:
        page = environment.get_template("report.html.j2").render(sections=sections, checks=tests)
        temporary.write_text(page, encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    lines = [" | ".join(map(str, row)) for row in [table.columns, ["---"] * table.shape[1], *table.to_numpy()]]
    return "\n".join(f"| {line} |" for line in lines)


def results_page(summary: pd.DataFrame) -> str:
    """docs/results.md: all tables of all studies."""
    blocks = []
    for study in summary["study"].unique():
        blocks += [f"## {study}", *([NOTES[study]] if study in NOTES else [])]
        blocks += [f"*{title}*\n\n{markdown(table)}" for title, table in scores_tables(summary, study).items()]
        blocks += [note] if (note := interval_note(summary, study)) else []
    return RESULTS + "\n\n".join(blocks) + "\n"


def between_marks(text: str, numbers: str) -> str:
    """``text`` with ``numbers`` in place of what stands between the two ``MARKS``."""
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{numbers}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def into_summary(scores: pd.DataFrame) -> pd.DataFrame:
    """summary.csv after its rows of these methods and studies were replaced by ``scores``."""
    old = read_table(SUMMARY_TABLE) if SUMMARY_TABLE.exists() else pd.DataFrame(columns=SUMMARY)
    summary = merged_summary(old, scores)
    write_table(summary, SUMMARY_TABLE)
    return summary


def report() -> None:
    """Merge the scores of this run's studies into summary.csv, and write the page from it."""
    studies = listed_studies()
    tables = [read_table(path) for study in studies for path in (REPORTS / "tables" / study).rglob("*scores.csv")]
    if not tables:
        raise StageError(f"report: no scores of {', '.join(studies)} in {REPORTS / 'tables'}; run 'dvc repro' first.")
    summary = into_summary(pd.concat(tables))
    checks = read_table(REPORTS / "tables" / "mil_unit_tests.csv")
    write_report(studies, summary, checks, REPORTS, REPORTS / "html" / "index.html")


def readme() -> None:
    """Bring README.md, docs/results.md and the pictures of docs/ up to the last run; others stay as they are."""
    summary = read_table(SUMMARY_TABLE)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {
        "README.md": between_marks(text, markdown(headline_table(summary))),
        "docs/results.md": results_page(summary),
    }
    for name, page in pages.items():
        with written_whole(ROOT / name) as temporary:
            temporary.write_text(page, encoding="utf-8")
    for name, copy in DOCS_PICTURES.items():
        if (REPORTS / name).exists():
            with written_whole(ROOT / "docs" / copy) as temporary, Image.open(REPORTS / name) as picture:
                picture.thumbnail((900, 900))  # px, as a page shows it
                picture.convert("RGB").quantize().save(temporary, optimize=True)  # 256 colours: half the bytes
