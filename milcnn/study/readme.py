"""The numbers and pictures of README.md, docs/results.md and docs/: all from summary.csv and the last run."""

import numpy as np
import pandas as pd
from PIL import Image

from milcnn.evaluate.runs import CONTROLS
from milcnn.figures.labels import label
from milcnn.files import read_table, written_whole
from milcnn.paths import ROOT
from milcnn.study.report import REPORTS, SUMMARY_TABLE
from milcnn.study.score_tables import NOTES, interval_note, scores_tables

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
# a picture of the last run, in reports/, and its copy in docs/
DOCS_PICTURES = {
    "figures/digits/1_error_by_fraction.png": "figure_1.png",
    "figures/mnist/1_error_by_fraction.png": "mnist.png",
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


def headline_table(summary: pd.DataFrame) -> pd.DataFrame:
    """The README's table: a row for each of ``HEADLINE_METHODS``, a column for each of ``HEADLINE``; values alone."""
    values = summary.drop_duplicates(["study", "metric", "level", "method"])
    values = values.set_index(["study", "metric", "level", "method"])["value"]
    rows = []
    for method in HEADLINE_METHODS:
        found = [values.get((*key, method + kind), np.nan) for *key, kind in HEADLINE]
        rows.append([label(method), *("–" if np.isnan(value) else f"{value:.3f}" for value in found)])
    return pd.DataFrame(rows, columns=["Method", *HEADLINE.values()])


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
