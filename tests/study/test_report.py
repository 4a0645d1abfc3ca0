"""The pages and the README say what summary.csv says."""

import base64
import io
import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from milcnn.evaluate.runs import SUMMARY
from milcnn.files import read_table, write_table
from milcnn.paths import ROOT
from milcnn.study import costs, notebook_page, provenance, readme, report, score_tables
from milcnn.study.pages import markdown_html


@pytest.fixture
def summary():
    rows = [
        ("accuracy", "field", "max", 0.5),
        ("accuracy", "field", "mean", 0.75),
        ("average_precision", "pixel", "mean", 0.25),
    ]
    facts = {
        "study": "digits",
        "protocol": "field",
        "low": 0.1,
        "high": 0.9,
        "n": 4,
        "groups": 3,
        "unit": "plate",
        "seeds": 2,
        "seed_sd": 0.01,
    }
    table = pd.DataFrame([dict(zip(("metric", "level", "method", "value"), row, strict=True)) | facts for row in rows])
    return table[SUMMARY]


def test_scores_tables_have_the_best_method_first_and_a_dash_where_nothing_was_measured(summary):
    tables = score_tables.scores_tables(summary, "digits")
    assert list(tables) == ["Which class?", "Which cells?"]  # nothing is known of doses
    classes, cells = tables.values()
    assert classes["Method"].tolist() == ["mean", "max"]
    assert classes["Field accuracy"].tolist() == ["0.750 (0.100–0.900)", "0.500 (0.100–0.900)"]
    assert list(cells.columns) == ["Method", "Pixel average precision"]
    assert cells.to_numpy().tolist() == [["mean", "0.250 (0.100–0.900)"]]
    more = summary.iloc[:1].assign(level="well", method="max", value=0.25)
    table = score_tables.scores_tables(pd.concat([summary, more]), "digits")["Which class?"]
    assert table["Well accuracy"].tolist() == ["–", "0.250 (0.100–0.900)"]
    again = summary.assign(protocol="field, half of it", value=0.0)
    pd.testing.assert_frame_equal(
        score_tables.scores_tables(pd.concat([again, summary]), "digits")["Which class?"], tables["Which class?"]
    )


def test_a_value_without_an_interval_stands_alone_and_an_undefined_one_is_a_dash(summary):
    table = summary.astype({"value": float}).assign(low=np.nan, high=np.nan, groups=1, unit="source")
    table.loc[0, "value"] = np.nan
    shown = score_tables.scores_tables(table, "digits")["Which class?"]
    assert shown["Field accuracy"].tolist() == ["0.750", "–"]
    assert score_tables.interval_note(table, "digits") == "Intervals are over 1 source."


def test_the_note_names_the_groups_of_the_intervals(summary):
    assert score_tables.interval_note(summary, "digits") == "Intervals are over 3 plates."
    more = summary.assign(groups=[3, 12, 9], unit=["plate", "well of one plate", "well of one plate"])
    assert score_tables.interval_note(more, "digits") == "Intervals are over 3 plates, 9 to 12 wells of one plate."
    assert "Intervals are over 3 plates." in readme.results_page(summary)
    older = summary.drop(columns=["groups", "unit", "seed_sd"])
    assert score_tables.interval_note(older, "digits") == ""
    assert score_tables.interval_note(summary, "simulated") == ""


@pytest.fixture
def checks():
    rows = [
        ("max", "single", 0.97, True, True),
        ("max", "share", 0.4, False, True),
        ("mean", "single", 0.5, False, False),
    ]
    table = pd.DataFrame(rows, columns=["pooling", "check", "score", "passes", "expected"])
    return table.assign(why=table["pooling"].map({"max": "largest", "mean": "equal say"}))


def test_checks_table_marks_what_was_not_expected(checks):
    table = score_tables.checks_table(checks)
    assert list(table.columns) == ["pooling", "share", "single", "why"]
    assert table.iloc[0].tolist() == ["max", "fails 0.40 (!)", "passes 0.97", "largest"]
    assert table.iloc[1]["single"] == "fails 0.50"


@pytest.fixture
def reports(tmp_path):
    """A folder like ``reports/`` with an executed notebook, a figure as PNG and SVG, a picture of a gallery."""
    for path, content in {
        "html/digits/02_train-max-0.html": "<p>",
        "html/studies/of_an_earlier_run.html": "<p>",
        "figures/digits/1_error_by_fraction.svg": '<svg width="72pt" height="144pt">',
        "galleries/digits/page/index.html": "<p>",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    for name in ("figures/digits/1_error_by_fraction", "galleries/digits/own_picture"):
        Image.new("RGB", (600, 300)).save(tmp_path / f"{name}.png", dpi=(300, 300))
    return tmp_path


def test_pages_need_nothing_from_the_network_and_their_links_and_pictures_exist(summary, checks, reports):
    report.write_report(["digits"], summary, checks, reports)
    for name, count in {"index.html": 0, "studies/digits.html": 2}.items():
        path = reports / "html" / name
        page = BeautifulSoup(path.read_text(), "html.parser")
        assert not page.find_all("link")
        assert not [script for script in page.find_all("script") if script.get("src")]
        links = [a["href"] for a in page.find_all("a") if not a["href"].startswith("#")]
        missing = {link for link in links if not (path.parent / link).exists()}
        assert {Path(link).name for link in missing} == {"run.html"}  # write_provenance writes it
        assert all(image["loading"] == "lazy" for image in page.find_all("img"))
        assert len(page.find_all("img")) == count
    assert [path.name for path in (reports / "html" / "studies").iterdir()] == ["digits.html"]


def test_a_study_s_page_has_its_tables_notebooks_and_pictures_with_what_they_show(summary, checks, reports):
    report.write_report(["digits"], summary, checks, reports)
    page = BeautifulSoup((reports / "html" / "studies" / "digits.html").read_text(), "html.parser")
    assert "0.750 (0.100–0.900)" in page.get_text()
    assert "02_train-max-0" in page.get_text()
    figure, picture = page.find_all("img")
    assert figure["src"] == "../../figures/digits/1_error_by_fraction.svg"  # not the PNG beside it
    assert (figure["width"], figure["height"]) == ("96", "192")  # of 72 × 144 pt
    assert figure["alt"].startswith("Test error of each method")
    assert (picture["width"], picture["height"]) == ("192", "96")  # of 600 px, 300 an inch
    assert picture["alt"] == "own picture"
    index = (reports / "html" / "index.html").read_text()
    assert "fails 0.40 (!)" in index
    assert len(index) < 1e6


def with_a_trained_run(root: Path, study: str) -> None:
    """The run and the fields of the sample, where the report looks for those of ``study``."""
    shutil.copytree(ROOT / "data" / "sample" / "models" / "noisy_and-0", root / "models" / study / "noisy_and-0")
    shutil.copytree(ROOT / "data" / "sample" / "prepared", root / "data" / "prepared" / study)


def test_a_study_s_page_has_the_card_that_is_exported(summary, checks, tmp_path):
    with_a_trained_run(tmp_path, "digits")
    report.write_report(["digits"], summary, checks, tmp_path / "reports")
    html = tmp_path / "reports" / "html"
    page = BeautifulSoup((html / "studies" / "digits.html").read_text(), "html.parser")
    card = page.find(id="card").find_next("details")
    assert [head.get_text() for head in card.find_all("h3")] == ["digits-noisy_and-0"]
    assert {"Scores on the test fields", "Cost", "Licence"} <= {head.get_text() for head in card.find_all("h4")}
    assert not card.find_all(["h1", "h2"])
    test = read_table(ROOT / "data/sample/models/noisy_and-0/predictions.csv").query("Metadata_Split == 'test'")
    cells = [[cell.get_text() for cell in row.find_all("td")] for row in card.find_all("tr")]
    (accuracy,) = [row[1] for row in cells if row[:1] == ["accuracy"]]
    assert accuracy == f"{(test['Metadata_Label'] == test['predicted'].astype(str)).mean():.3f}"
    assert "model-index" not in card.get_text()  # the head for the hub
    assert "studies/digits.html#card" in (html / "index.html").read_text()


def test_a_card_that_cannot_be_written_is_told_on_the_page(summary, checks, tmp_path):
    with_a_trained_run(tmp_path, "digits")
    (tmp_path / "models" / "digits" / "noisy_and-0" / "predictions.csv").write_text("Metadata_Split\ntest\n")
    report.write_report(["digits"], summary, checks, tmp_path / "reports")
    text = (tmp_path / "reports" / "html" / "studies" / "digits.html").read_text()
    assert "<p>models/digits/noisy_and-0/predictions.csv: has no validation or no test fields" in text


def test_markdown_becomes_html_without_its_head_and_its_tags():
    text = "---\na: 1\n---\n# x\n\n| a |\n|---|\n| <b> |\n\n```python\nprint(1)\n```\n"
    page = BeautifulSoup(markdown_html(text, "of <x>"), "html.parser")
    assert page.get_text().split() == ["x", "a", "<b>", "print(1)"]
    assert page.div["aria-label"] == "of <x>, table 1"
    assert (page.h3.get_text(), page.pre["tabindex"], page.b) == ("x", "0", None)


def test_two_runs_write_the_same_bytes(summary, checks, reports):
    written = []
    for _ in range(2):
        report.write_report(["digits"], summary, checks, reports)
        written.append([(reports / "html" / name).read_bytes() for name in ("index.html", "studies/digits.html")])
    assert written[0] == written[1]


def test_the_answer_stands_before_the_tables_and_says_how_sure_it_is(summary):
    rows = [
        ("accuracy", "noisy_and", 0.7, 0.6, 0.8),
        ("accuracy", "mean", 0.9, 0.8, 0.95),
        ("accuracy_difference", "noisy_and-best_baseline", 0.1, 0.05, 0.15),
        ("fresh_accuracy_difference", "noisy_and-best_baseline", 0.1, -0.05, 0.15),
    ]
    facts = summary.iloc[0].to_dict()
    names = ("metric", "method", "value", "low", "high")
    table = pd.DataFrame([facts | dict(zip(names, row, strict=True)) for row in rows])
    (answer,) = score_tables.sentences(table, "digits", score_tables.ANSWERS)
    assert answer == (
        "Noisy-AND is right in 0.700 (0.600–0.800) of the test fields; the highest of all methods is mean, 0.900."
    )
    first, fresh = score_tables.sentences(table, "digits", score_tables.CERTAINTY)
    assert "0.100 (0.050–0.150): it is better." in first
    assert "cannot tell the two apart." in fresh
    worse = table.assign(value=-table["value"], low=-table["high"], high=-table["low"])
    assert "it is worse." in score_tables.sentences(worse, "digits", score_tables.CERTAINTY)[0]
    alone = table.assign(low=np.nan, high=np.nan)
    assert "of one group alone" in score_tables.sentences(alone, "digits", score_tables.CERTAINTY)[0]
    assert score_tables.sentences(table, "simulated", score_tables.ANSWERS) == []


def test_a_study_without_true_cells_leaves_the_numbers_of_the_summary_short(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REPORTS", tmp_path)
    monkeypatch.setattr(report, "SUMMARY_TABLE", tmp_path / "tables" / "summary.csv")
    monkeypatch.setattr(report, "listed_studies", lambda: ["mine"])
    for name in ("write_report", "write_provenance"):
        monkeypatch.setattr(report, name, lambda *_: None)
    row = {"study": "mine", "method": "mean", "protocol": "plate", "level": "field", "metric": "accuracy", "value": 1.0}
    row |= {"low": 1 / 3, "high": 1.0, "n": 4, "groups": 2, "unit": "plate", "seeds": 1, "seed_sd": np.nan}
    rows = pd.DataFrame([row, row | {"method": "max", "value": 0.5}])
    write_table(rows, tmp_path / "tables" / "mine" / "scores.csv")
    write_table(pd.DataFrame([row])[:0], tmp_path / "tables" / "mine" / "localisation_scores.csv")
    write_table(pd.DataFrame(columns=["pooling"]), tmp_path / "tables" / "mil_unit_tests.csv")
    report.report()
    line = (tmp_path / "tables" / "summary.csv").read_text().splitlines()[2]
    assert line == "mine,mean,plate,field,accuracy,1,0.333333,1,4,2,plate,1,"


def test_no_two_columns_of_a_published_table_have_one_title():
    for study, rows in read_table(report.SUMMARY_TABLE).groupby("study"):
        there = set(zip(rows["metric"], rows["level"], strict=True))
        for metrics in score_tables.TABLES.values():
            titles = [title for key, title in metrics.items() if key in there]
            assert len(titles) == len(set(titles)), study


def test_readme_and_results_have_the_numbers_of_the_summary_in_git():
    summary = read_table(ROOT / "reports" / "tables" / "summary.csv")
    text = (ROOT / "README.md").read_text()
    assert readme.between_marks(text, readme.markdown(readme.headline_table(summary))) == text
    assert readme.results_page(summary) == (ROOT / "docs" / "results.md").read_text()


def test_only_what_stands_between_the_marks_changes():
    text = "before <!-- numbers: begin -->old<!-- numbers: end --> after"
    assert readme.between_marks(text, "new") == "before <!-- numbers: begin -->\nnew\n<!-- numbers: end --> after"


def test_the_headline_table_has_a_dash_where_nothing_was_measured(summary):
    table = readme.headline_table(summary.assign(method=summary["method"].replace("max", "noisy_and")))
    assert table["Method"].tolist()[:3] == ["Noisy-AND", "log-sum-exp", "mean"]
    assert table.iloc[0, 1:3].tolist() == ["0.500", "–"]
    assert table.iloc[2, 1:3].tolist() == ["0.750", "–"]


def test_a_study_that_is_no_benchmark_says_so_on_its_pages_and_in_the_results(summary, checks, tmp_path):
    table = summary.assign(study="bbbc021-sample")
    report.write_report(["bbbc021-sample"], table, checks, tmp_path)
    for name in ("index.html", "studies/bbbc021-sample.html"):
        assert "no benchmark" in (tmp_path / "html" / name).read_text()
    assert "no benchmark" in readme.results_page(table)
    assert "no benchmark" not in readme.results_page(summary)


def test_the_page_links_the_gallery_of_a_study_that_has_one(summary, checks, reports):
    both = pd.concat([summary, summary.assign(study="mnist")])
    report.write_report(["digits", "mnist"], both, checks, reports)
    path = reports / "html" / "index.html"
    links = [a["href"] for a in BeautifulSoup(path.read_text(), "html.parser").find_all("a")]
    galleries = [link for link in links if link.endswith("page/index.html")]
    assert [(path.parent / link).resolve() for link in galleries] == [reports / "galleries/digits/page/index.html"]


def test_how_the_run_was_made_has_seconds_hashes_and_parameters(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "digits.yaml").write_text("train:\n  epochs: 77 # <b>\n")
    out = {"path": "data/prepared/digits", "md5": "abc.dir", "size": 12}
    other = out | {"path": "data/prepared/digits-more"}
    stages = {"prepare@digits": {"outs": [out]}, "train@digits-max-0": {}, "prepare@digits-more": {"outs": [other]}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.setattr(costs, "STAGES", tmp_path)
    for stage, study in {"train@digits-max-0": "digits", "train@mnist-max-0": "mnist", "clean": ""}.items():
        noted = {"began": "2026-01-02 03:04:05", "seconds": 90.0, "cpu_seconds": 60.0, "peak_mib": 512}
        (tmp_path / f"{stage}.json").write_text(json.dumps(noted | {"stage": stage, "study": study}))
    provenance.write_provenance(["digits"], tmp_path / "reports")
    html = (tmp_path / "reports" / "html" / "run.html").read_text()
    page = BeautifulSoup(html, "html.parser")
    heads = {head.get_text(): head.find_next("table") for head in page.find_all("h2")}
    rows = {name: [[td.get_text() for td in tr.find_all("td")] for tr in table.find_all("tr")[1:]]
            for name, table in heads.items() if table}  # fmt: skip
    of_all, of_digits = rows["Minutes and memory"]
    assert of_all == ["", "clean", "1", "1.5", "1.0", "512"]
    assert of_digits == ["digits", "train", "1", "1.5", "1.0", "512"]
    each = pd.read_csv(tmp_path / "reports" / "html" / "stages.csv")
    assert each["stage"].tolist() == ["clean", "train@digits-max-0"]
    assert [row[1] for row in rows["Seconds and memory of each stage"]] == each["stage"].tolist()
    assert "took 2 CPU-minutes" in html
    assert rows["Data, models and results"] == [["prepare@digits", "data/prepared/digits", "abc.dir", "12"]]
    assert "2026-01-02 03:04:05" in html
    assert "epochs: 77 # &lt;b&gt;" in html
    assert "requirements.lock" not in html  # there is none


def test_an_executed_notebook_is_small_and_its_pictures_are_described(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    png = base64.b64encode(written.getvalue()).decode()
    output = new_output("display_data", {"image/png": png})
    cells = [new_markdown_cell("# Title\n\n**How** many\n`cells`?"), new_code_cell("1 < 2", outputs=[output])]
    source = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=cells), source)
    notebook_page.write_notebook(source, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert len(text) < len(png) / 2
    page = BeautifulSoup(text, "html.parser")
    assert page.img["alt"] == "How many cells?"
    shown = Image.open(io.BytesIO(base64.b64decode(page.img["src"].removeprefix("data:image/webp;base64,"))))
    assert (shown.format, shown.size) == ("WEBP", (300, 300))
    assert page.title.string == "a"
    assert "1 < 2" in page.get_text()
    assert "http" not in text.replace(page.img["src"], "")
