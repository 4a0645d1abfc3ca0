"""The page and the README say what summary.csv says."""

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from milcnn.evaluate.runs import SUMMARY
from milcnn.files import read_table
from milcnn.paths import ROOT
from milcnn.study import report


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
    tables = report.scores_tables(summary, "digits")
    assert list(tables) == ["Which class?", "Which cells?"]  # nothing is known of doses
    classes, cells = tables.values()
    assert classes["Method"].tolist() == ["mean", "max"]
    assert classes["Field accuracy"].tolist() == ["0.750 (0.100–0.900)", "0.500 (0.100–0.900)"]
    assert list(cells.columns) == ["Method", "Pixel average precision"]
    assert cells.to_numpy().tolist() == [["mean", "0.250 (0.100–0.900)"]]
    more = summary.iloc[:1].assign(level="well", method="max", value=0.25)
    table = report.scores_tables(pd.concat([summary, more]), "digits")["Which class?"]
    assert table["Well accuracy"].tolist() == ["–", "0.250 (0.100–0.900)"]
    again = summary.assign(protocol="field, half of it", value=0.0)
    pd.testing.assert_frame_equal(
        report.scores_tables(pd.concat([again, summary]), "digits")["Which class?"], tables["Which class?"]
    )


def test_a_value_without_an_interval_stands_alone_and_an_undefined_one_is_a_dash(summary):
    table = summary.astype({"value": float}).assign(low=np.nan, high=np.nan, groups=1, unit="source")
    table.loc[0, "value"] = np.nan
    shown = report.scores_tables(table, "digits")["Which class?"]
    assert shown["Field accuracy"].tolist() == ["0.750", "–"]
    assert report.interval_note(table, "digits") == "Intervals are over 1 source."


def test_the_note_names_the_groups_of_the_intervals(summary):
    assert report.interval_note(summary, "digits") == "Intervals are over 3 plates."
    more = summary.assign(groups=[3, 12, 9], unit=["plate", "well of one plate", "well of one plate"])
    assert report.interval_note(more, "digits") == "Intervals are over 3 plates, 9 to 12 wells of one plate."
    assert "Intervals are over 3 plates." in report.results_page(summary)
    older = summary.drop(columns=["groups", "unit", "seed_sd"])
    assert report.interval_note(older, "digits") == ""
    assert report.interval_note(summary, "simulated") == ""


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
    table = report.checks_table(checks)
    assert list(table.columns) == ["pooling", "share", "single", "why"]
    assert table.iloc[0].tolist() == ["max", "fails 0.40 (!)", "passes 0.97", "largest"]
    assert table.iloc[1]["single"] == "fails 0.50"


def test_page_needs_nothing_from_the_network_and_its_links_exist(summary, checks, tmp_path):
    (tmp_path / "html" / "digits").mkdir(parents=True)
    (tmp_path / "html" / "digits" / "02_train-max-0.html").write_text("<p>")
    (tmp_path / "figures" / "digits").mkdir(parents=True)
    (tmp_path / "figures" / "digits" / "1_error.png").write_bytes(b"png")
    report.write_report(["digits"], summary, checks, tmp_path, tmp_path / "html" / "index.html")
    page = BeautifulSoup((tmp_path / "html" / "index.html").read_text(), "html.parser")
    assert all(image["src"].startswith("data:") for image in page.find_all("img"))
    assert not page.find_all(["link", "script"])
    links = [a["href"] for a in page.find_all("a") if not a["href"].startswith("#")]
    assert links == ["digits/02_train-max-0.html"]
    assert all((tmp_path / "html" / link).exists() for link in links)
    assert "0.750 (0.100–0.900)" in page.get_text()
    assert "fails 0.40 (!)" in page.get_text()


def test_readme_and_results_have_the_numbers_of_the_summary_in_git():
    summary = read_table(ROOT / "reports" / "tables" / "summary.csv")
    readme = (ROOT / "README.md").read_text()
    assert report.between_marks(readme, report.markdown(report.headline_table(summary))) == readme
    assert report.results_page(summary) == (ROOT / "docs" / "results.md").read_text()


def test_only_what_stands_between_the_marks_changes():
    text = "before <!-- numbers: begin -->old<!-- numbers: end --> after"
    assert report.between_marks(text, "new") == "before <!-- numbers: begin -->\nnew\n<!-- numbers: end --> after"


def test_the_headline_table_has_a_dash_where_nothing_was_measured(summary):
    table = report.headline_table(summary.assign(method=summary["method"].replace("max", "noisy_and")))
    assert table["Method"].tolist()[:3] == ["Noisy-AND", "log-sum-exp", "mean"]
    assert table.iloc[0, 1:3].tolist() == ["0.500", "–"]
    assert table.iloc[2, 1:3].tolist() == ["0.750", "–"]


def test_a_study_that_is_no_benchmark_says_so_on_the_page_and_in_the_readme(summary, checks, tmp_path):
    table = summary.assign(study="bbbc021-sample")
    report.write_report(["bbbc021-sample"], table, checks, tmp_path, tmp_path / "index.html")
    assert "no benchmark" in (tmp_path / "index.html").read_text()
    assert "no benchmark" in report.results_page(table)
    assert "no benchmark" not in report.results_page(summary)


def test_the_page_links_the_gallery_of_a_study_that_has_one(summary, checks, tmp_path):
    gallery = tmp_path / "galleries" / "digits" / "page" / "index.html"
    gallery.parent.mkdir(parents=True)
    gallery.write_text("<p>")
    path = tmp_path / "html" / "index.html"
    report.write_report(
        ["digits", "mnist"], pd.concat([summary, summary.assign(study="mnist")]), checks, tmp_path, path
    )
    links = [a["href"] for a in BeautifulSoup(path.read_text(), "html.parser").find_all("a")]
    galleries = [link for link in links if link.endswith("page/index.html")]
    assert [(path.parent / link).resolve() for link in galleries] == [gallery]
