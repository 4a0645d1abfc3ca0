"""The report: a first page, a page a study, and how the run was made. Pictures are files that the pages load lazily."""

import json
import re
import shutil
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image

from milcnn.evaluate.runs import MAIN_METHOD, SUMMARY, merged_summary
from milcnn.export.card import card_text
from milcnn.export.trained_run import open_trained_run
from milcnn.files import read_table, write_table
from milcnn.parameters import StageError, listed_studies
from milcnn.paths import ROOT
from milcnn.study.pages import markdown_html, write_page
from milcnn.study.provenance import write_provenance
from milcnn.study.score_tables import (
    ANSWERS,
    ASKED,
    ASKED_OF_ALL,
    CERTAINTY,
    NOTES,
    TABLES,
    checks_table,
    interval_note,
    scores_tables,
    sentences,
)

REPORTS = ROOT / "reports"
SUMMARY_TABLE = REPORTS / "tables" / "summary.csv"
SCREEN = "What is in the screen?"
# where a picture stands on the page of its study, and what it shows; others come last, with their name
WHICH, BETTER, CELLS, DOSE = TABLES
LEARNED, SEEN, MORE = "How was it learned?", "Which fields and cells?", "More"
PICTURE_TEXTS = {
    WHICH: {
        "4_confusion": "Confusion of each method: the share of the fields of a true class (row) that is called each "
        "class (column). On the diagonal is what is right.",
        "1_error_by_fraction": "Test error of each method against the fraction of objects that carry the label.",
        "degradation": "Test accuracy of each method against four things that make a study harder: few responding "
        "cells, few or many cells a field, wrong training labels, few training fields.",
    },
    CELLS: {
        "localisation_panel": "One field: its true cells, the class map of every class, finer maps of its label, and "
        "the cells that the network outlines.",
        "localisation": "Five fields, from the best to the worst: the field with its true cells, the class map, the "
        "Jacobian map, and the cells that the network outlines.",
        "localisation_scores": "Scores of the maps: the networks and the supervised U-Net in colour; methods that know "
        "nothing, which a useful map must beat, in grey.",
        "5_localisation": "Average precision of the pixels, of the same methods.",
        "localisation_sanity": "Scores of the maps against the number of layers with random weights: a map that "
        "depends on what was learned falls to the dashed line, a random map.",
    },
    DOSE: {
        "dose_response": "Estimated responding fraction of each well against dose, one panel a compound, with Hill "
        "fits, 95 % bands, the true response and the true EC50.",
        "responding_fraction": "Estimated against true responding fraction: a point a field, a colour a phenotype.",
        "learned_thresholds": "The threshold b that Noisy-AND learned for each class, beside the mean probability in "
        "fields of the class and of others, and the true fraction.",
    },
    LEARNED: {
        "3_training_curves": "Training loss, validation loss and validation accuracy by epoch; bands span the seeds.",
        "2_pooling_curves": "P of the field against the mean probability of its instances, for each pooling function.",
    },
    SCREEN: {
        "fields": "Fields of each class, as they are after preparation.",
        "quality": "Focus, saturation and foreground of every field, plate by plate; a ring marks a flagged field.",
    },
    SEEN: {
        "ranked": "The best, the median and the worst test field of each class, with outlines in the colour of the "
        "class of the label, and of the class that was called.",
        "class_maps": "Fields with their outlines, and the map of each class beside them: black 0, yellow 1.",
        "cells": "The places with the highest probability of each class, one line a class.",
    },
}  # fmt: skip
MAIN_PICTURE = "6_methods"
MAIN_TEXT = (
    "All methods, the best on top, with 95 % intervals: one panel a score, one colour and marker a method. A hollow "
    "marker is a second row of its method: with controls of the plate, or segmentation as it comes. A number at the "
    "left edge is a method far below the others."
)


@dataclass(frozen=True)
class Picture:
    path: str  # relative to reports/
    size: tuple[int, int]  # width and height on a page, px
    text: str  # what it shows


@dataclass(frozen=True)
class Part:
    """What a page says to one question."""

    scores: str = ""  # a table of scores, HTML
    facts: str = ""  # another table, HTML
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """What the pages show of one study."""

    study: str
    asked: str  # the question
    note: str  # what a reader must know before the numbers
    intervals: str  # what the groups of the intervals are
    answers: list[str]
    certainty: list[str]
    parts: dict[str, Part]  # by question
    main: Picture | None  # all methods
    notes: list[str]  # what could not be computed, and other warnings of the notebooks
    notebooks: list[str]  # names of executed notebooks
    gallery: str  # path of the gallery, relative to reports/; empty where there is none
    card: str  # the model card of the main network, HTML; empty where it is not trained


def section(study: str, summary: pd.DataFrame, reports: Path) -> Section:
    """Everything the pages show of ``study``, from the folders in ``reports``."""
    screen = reports / "tables" / study / "screen.csv"
    scores = as_html(scores_tables(summary, study))
    facts = as_html({SCREEN: read_table(screen)} if screen.exists() else {})
    pictures = pictures_of(study, reports)
    main = pictures.pop(MAIN_PICTURE, None)
    parts = {}
    for question in dict.fromkeys([*TABLES, *PICTURE_TEXTS, MORE]):
        known = PICTURE_TEXTS.get(question, {})
        names = [name for name in (known if question != MORE else list(pictures)) if name in pictures]
        shown = [pictures.pop(name) for name in names]
        if (part := Part(scores.get(question, ""), facts.get(question, ""), shown)) != Part():
            parts[question] = part
    gallery = Path("galleries", study, "page", "index.html")
    return Section(
        study,
        ASKED.get(study, ASKED_OF_ALL),
        NOTES.get(study, ""),
        interval_note(summary, study),
        sentences(summary, study, ANSWERS),
        sentences(summary, study, CERTAINTY),
        parts,
        main,
        notes_in(reports / "executed" / study),
        [path.stem for path in sorted((reports / "html" / study).glob("*.html"))],
        gallery.as_posix() if (reports / gallery).exists() else "",
        model_card(study, reports.parent),
    )


def model_card(study: str, root: Path) -> str:
    """The card that ``milcnn export`` writes, as HTML; or why there is none."""
    folder, prepared = root / "models" / study / f"{MAIN_METHOD}-0", root / "data" / "prepared" / study
    if not (folder / "model.safetensors").exists() or not prepared.exists():
        return ""
    try:
        return markdown_html(card_text(open_trained_run(folder, prepared)), f"Model card of {study}")
    except (ValueError, FileNotFoundError) as error:
        return f"<p>{escape(str(error).replace(f'{root}/', ''))}</p>"


def as_html(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {title: table.to_html(index=False, border=0) for title, table in tables.items()}


def pictures_of(study: str, reports: Path) -> dict[str, Picture]:
    """The pictures of ``study`` by their names, as SVG where there is one."""
    texts = {name: text for known in PICTURE_TEXTS.values() for name, text in known.items()} | {MAIN_PICTURE: MAIN_TEXT}
    found = {}
    for kind in ("figures", "galleries"):
        for pattern in ("*.png", "d*/*.png"):  # dose and degrade have folders of their own
            for path in sorted((reports / kind / study).glob(pattern)):
                svg = path.with_suffix(".svg")
                shown = svg if svg.exists() else path
                text = texts.get(path.stem, path.stem.replace("_", " "))
                found[path.stem] = Picture(shown.relative_to(reports).as_posix(), size_of(shown), text)
    return found


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a figure on a page, in px of 1/96 inch."""
    if path.suffix == ".svg":
        width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', path.read_text(encoding="utf-8")[:2000])[:2]
        return round(float(width) * 96 / 72), round(float(height) * 96 / 72)
    with Image.open(path) as picture:
        scale = 96 / picture.info.get("dpi", (300, 300))[0]
        return round(picture.width * scale), round(picture.height * scale)


def notes_in(executed: Path) -> list[str]:
    """The lines "Note: …" that the executed notebooks of a study print, each after the name of its notebook."""
    found = []
    for path in sorted(executed.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", [])]
        lines = "\n".join(texts).splitlines()
        found += [line.replace("Note", path.stem, 1) for line in lines if line.startswith("Note: ")]
    return list(dict.fromkeys(found))


def write_report(studies: list[str], summary: pd.DataFrame, checks: pd.DataFrame, reports: Path) -> None:
    """Write ``reports/html/index.html`` and ``studies/<study>.html``. ``checks``: the MIL unit tests."""
    sections = [section(study, summary, reports) for study in studies]
    home = reports / "html"
    shutil.rmtree(home / "studies", ignore_errors=True)  # no page of a study that is not listed any more
    for one in sections:
        write_page(home / "studies" / f"{one.study}.html", "report_study.html.j2", section=one)
    tests = checks_table(checks).to_html(index=False, border=0)
    write_page(home / "index.html", "report.html.j2", sections=sections, checks=tests)


def into_summary(scores: pd.DataFrame) -> pd.DataFrame:
    """summary.csv after its rows of these methods and studies were replaced by ``scores``."""
    old = read_table(SUMMARY_TABLE) if SUMMARY_TABLE.exists() else pd.DataFrame(columns=SUMMARY)
    summary = merged_summary(old, scores)
    write_table(summary, SUMMARY_TABLE)
    return summary


def report() -> None:
    """Merge the scores of this run's studies into summary.csv, and write the pages from it."""
    studies = listed_studies()
    tables = [read_table(path) for study in studies for path in (REPORTS / "tables" / study).rglob("*scores.csv")]
    tables = [table for table in tables if len(table)]  # an empty one would turn the numbers of all into objects
    if not tables:
        raise StageError(f"report: no scores of {', '.join(studies)} in {REPORTS / 'tables'}; run 'dvc repro' first.")
    summary = into_summary(pd.concat(tables))
    checks = read_table(REPORTS / "tables" / "mil_unit_tests.csv")
    write_report(studies, summary, checks, REPORTS)
    write_provenance(studies, REPORTS)
