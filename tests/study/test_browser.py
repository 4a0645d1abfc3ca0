"""Report and gallery in a browser, without a network: they open, sort, filter, print, and axe finds no fault."""

import pandas as pd
import pytest
from PIL import Image

from milcnn.figures.compare import levels
from milcnn.figures.style import save_figure, use_style
from milcnn.files import read_table
from milcnn.paths import ROOT
from milcnn.study import provenance, report
from milcnn.study.notebook_page import write_notebook
from tests.study.test_gallery_page import many
from tests.study.test_report import with_a_trained_run

pytestmark = pytest.mark.browser
STUDY = "simulated"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """The table of 2,000 fields, and the path of their page."""
    return many(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Every kind of page, made of the tables in git and of a committed notebook: names and paths."""
    folder = tmp_path_factory.mktemp("site") / "reports"
    with_a_trained_run(folder.parent, STUDY)
    summary = read_table(ROOT / "reports" / "tables" / "summary.csv")
    use_style()
    save_figure(levels(summary[summary["study"] == STUDY]), folder / "figures" / STUDY, "6_methods")
    (folder / "galleries" / STUDY).mkdir(parents=True)
    Image.new("RGB", (600, 300), "navy").save(folder / "galleries" / STUDY / "cells.png")
    html = folder / "html"
    write_notebook(ROOT / "notebooks" / "06_figures.ipynb", html / STUDY / "06_figures.html")
    checks = read_table(ROOT / "reports" / "tables" / "mil_unit_tests.csv")
    report.write_report([STUDY], summary, checks, folder)
    provenance.write_provenance([STUDY], folder)
    paths = {"index": "index.html", "study": f"studies/{STUDY}.html", "run": "run.html"}
    paths["notebook"] = f"{STUDY}/06_figures.html"
    _, gallery = many(tmp_path_factory.mktemp("small"), n=9)  # axe takes long for many fields
    return {name: html / path for name, path in paths.items()} | {"gallery": gallery}


PAGES = pytest.mark.parametrize("name", ["index", "study", "run", "notebook", "gallery"])


@PAGES
def test_axe_finds_no_fault(tab, site, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    tab.goto(site[name].as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = axe.run(tab).response["violations"]
    assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found] == []


@PAGES
def test_no_page_is_wider_than_a_phone(tab, site, name):
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.goto(site[name].as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_links_and_pictures_of_the_report_are_there_and_are_described(tab, site):
    for name in ("index", "study"):
        tab.goto(site[name].as_uri())
        links = tab.eval_on_selector_all("a", "all => all.map(a => a.href.split('#')[0])")
        assert [link for link in links if not (site[name].parent / link.removeprefix("file://")).exists()] == []
        for picture in tab.query_selector_all("img"):
            assert len(picture.get_attribute("alt")) > 20
            picture.scroll_into_view_if_needed()
            assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth; }") > 100


def column(tab, name):
    """The texts below a heading of the first table of scores, row by row."""
    table = tab.locator(".scores table").first
    at = next(n for n, head in enumerate(table.locator("th").all_inner_texts()) if head.startswith(name))
    return pd.Series(table.locator(f"tbody td:nth-child({at + 1})").all_inner_texts())


def test_a_click_on_a_heading_sorts_and_dashes_stay_last(tab, site):
    tab.goto(site["study"].as_uri())
    tab.click("summary")
    tab.locator(".scores th button").first.click()
    names = column(tab, "Method").tolist()
    assert names == sorted(names, key=str.casefold)
    heading = tab.locator(".scores th", has_text="Treatment accuracy").first
    for order, high_first in (("descending", True), ("ascending", False)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == order
        shown = column(tab, "Treatment accuracy")
        numbers = shown[shown != "–"].str.split().str[0].astype(float)
        assert 0 < len(numbers) < len(shown)
        assert numbers.tolist() == sorted(numbers, reverse=high_first)
        assert numbers.index.max() == len(numbers) - 1  # no dash before a number


def test_rows_are_filtered_by_the_name_of_the_method(tab, site):
    tab.goto(site["study"].as_uri())
    tab.click("summary")
    tab.fill(".filter input", "with CONTROLS")
    shown = tab.locator(".scores tbody tr:visible td:first-child").all_inner_texts()
    assert "Noisy-AND, with controls" in shown
    assert all("with controls" in name for name in shown)
    tab.fill(".filter input", "")
    assert "Noisy-AND" in tab.locator(".scores tbody tr:visible td:first-child").all_inner_texts()


def test_print_opens_the_tables(tab, site):
    tab.goto(site["study"].as_uri())
    assert not tab.locator(".scores").first.is_visible()
    tab.pdf()
    assert tab.locator(".scores").first.is_visible()


def test_2000_fields_are_filtered_sorted_and_enlarged(tab, gallery):
    table, path = gallery
    tab.goto(path.as_uri())
    assert tab.inner_text("#count") == "2000 of 2000 fields"
    plate = sorted(table["Metadata_Plate"].unique())[3]
    wanted = {"label": "b", "right": "no", "plate": plate, "order": "worst"}
    for name, value in wanted.items():
        tab.select_option(f"select[name={name}]", value)
    chosen = table[(table["Metadata_Label"] == "b") & (table["correct"] == 0) & (table["Metadata_Plate"] == plate)]
    assert tab.inner_text("#count") == f"{len(chosen)} of 2000 fields"
    assert tab.locator(".field:visible").count() == len(chosen)
    worst, second = (row for _, row in chosen.sort_values("score").iloc[:2].iterrows())
    tab.locator(".field:visible button").first.click()
    assert tab.inner_text("#title").endswith(f"score {worst['score']:.2f}")
    tab.keyboard.press("ArrowRight")
    assert f"Field {plate} {second['Metadata_Well']} 1: label b" in tab.inner_text("#title")


def test_more_fields_are_shown_as_one_scrolls_until_all_are(tab, gallery):
    tab.goto(gallery[1].as_uri())
    shown = "document.querySelectorAll('.field:not([hidden])').length"
    assert tab.evaluate(shown) < 500
    # at the end again before the page is drawn, as with a key that is held
    tab.evaluate(
        "{ const end = () => scrollTo(0, document.body.scrollHeight);"
        " new MutationObserver(end).observe(document.body, {attributeFilter: ['hidden'], subtree: true}); end(); }"
    )
    tab.wait_for_function(f"{shown} == 2000")
    assert not tab.locator("#more").is_visible()
