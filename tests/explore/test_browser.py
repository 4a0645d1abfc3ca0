"""The explorer in JupyterLab, in headless Chromium: what the user clicks changes the picture. No network is reached."""

import hashlib
import shutil

import nbformat
import pandas as pd
import pytest

from milcnn.paths import ROOT
from tests.explore.lab import BROWSER, PATIENCE, opened, outputs_of, started, without_outputs

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(sync_playwright is None, reason="playwright is not installed"),
]
PICTURE = "img.milcnn-picture >> nth=0"
EXPLORER = ".milcnn-explorer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """00_tour; and 07_explore on the sample's fields with wells A03 to A05, B03 … as on a plate of 96."""
    folder = tmp_path_factory.mktemp("lab")
    nbformat.write(without_outputs("00_tour.ipynb"), folder / "tour.ipynb")
    notebook = without_outputs("07_explore.ipynb")
    shutil.copytree(ROOT / "data" / "sample" / "prepared", folder / "prepared")
    fields = pd.read_csv(folder / "prepared" / "fields.csv", dtype=str)
    names = {f"test-{digit}": f"{'ABC'[(digit - 1) // 3]}0{3 + (digit - 1) % 3}" for digit in range(1, 10)}
    fields["Metadata_Well"] = fields["Metadata_Well"].replace(names)
    fields.to_csv(folder / "prepared" / "fields.csv", index=False)
    source = notebook.cells[2].source.replace('"data/sample/prepared"', repr(str(folder / "prepared")))
    notebook.cells[2].source = source.replace('"build/small/galleries"', repr(str(folder / "galleries")))
    nbformat.write(notebook, folder / "explore.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder):
    with started(folder) as address:
        yield address


class Seen:
    """The picture of a page: ``changed_by`` does something and waits for another one."""

    def __init__(self, page):
        self.page = page
        self.now = self.digest()

    def digest(self):
        """Of the pixels, not of the file: the browser has decoded it, again where the picture changed meanwhile."""
        script = """async (image) => {
            while (!(await image.decode().then(() => true, () => false))) {
                await new Promise((done) => setTimeout(done, 20)) }
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return canvas.toDataURL('image/png') }"""
        return hashlib.sha256(self.page.eval_on_selector("img.milcnn-picture", script).encode()).hexdigest()

    def changed_by(self, do, text=""):
        """Another picture is there, and its description has ``text``."""
        do()
        for _ in range(PATIENCE // 50):  # the kernel may still run the cells below
            found = self.digest()
            if found != self.now and text in self.page.get_attribute(PICTURE, "alt"):
                self.now = found
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no other picture with '{text}': {self.page.get_attribute(PICTURE, 'alt')}")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as tool:
        one = tool.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield one
        one.close()


def test_every_control_of_the_explorer_changes_the_picture(browser, lab, folder):
    asked = []
    page = opened(browser, lab, "explore.ipynb", asked)
    page.wait_for_selector(PICTURE)
    seen = Seen(page)
    seen.changed_by(lambda: page.click("[role=gridcell][data-name=B03]"), "B03")
    assert page.get_attribute("[role=gridcell][data-name=B03]", "aria-selected") == "true"
    seen.changed_by(lambda: page.keyboard.press("ArrowRight"), "test/B04/1")
    assert page.evaluate("document.activeElement.dataset.name") == "B04"
    labels = page.eval_on_selector_all("[role=gridcell]", "all => all.map((one) => one.ariaLabel)")
    assert len(labels) == 96
    assert all(labels)
    seen.changed_by(lambda: page.get_by_role("checkbox", name="digit").click(), "channels none")
    seen.changed_by(lambda: page.get_by_role("checkbox", name="digit").click())
    seen.changed_by(lambda: page.locator(".noUi-handle-upper").first.press("ArrowLeft"))  # contrast
    threshold = page.locator(".widget-hslider:has-text('Threshold') .noUi-handle")
    seen.changed_by(lambda: threshold.press("ArrowLeft"), "above 0.49")
    box = page.locator(PICTURE).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    seen.changed_by(lambda: page.mouse.wheel(0, -100), "zoom 1.")
    seen.changed_by(lambda: page.locator("table.dataTable tbody tr").first.click(), "zoom 4")
    page.locator(PICTURE).focus()
    seen.changed_by(lambda: page.keyboard.press("0"), "zoom 1.0")
    page.get_by_label("Mark as").select_option("bad quality")
    marks = folder / "galleries" / "marks.csv"
    for _ in range(100):
        page.wait_for_timeout(0 if marks.exists() else 100)
    assert marks.read_text().splitlines()[1] == "test,B04,1,bad quality,"
    assert [out["evalue"] for out in outputs_of(page) if out["output_type"] == "error"] == []
    assert asked == []
    page.close()


def test_the_tour_runs_from_top_to_bottom(browser, lab):
    asked = []
    page = opened(browser, lab, "tour.ipynb", asked)
    outputs = outputs_of(page)
    assert [out["evalue"] for out in outputs if out["output_type"] == "error"] == []
    assert len([out for out in outputs if "image/png" in out.get("data", {})]) == 2
    stored = nbformat.read(ROOT / "notebooks" / "00_tour.ipynb", as_version=4)
    texts = [out.text for cell in stored.cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert "".join("".join(out["text"]) for out in outputs if out["output_type"] == "stream") == "".join(texts)
    assert asked == []
    page.close()


def test_axe_finds_no_fault_in_the_explorer(browser, lab):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = opened(browser, lab, "explore.ipynb", [])
    page.wait_for_selector(PICTURE)
    for tab in ("Cells", "Worst fields first", "Nearest fields", "Top cells of the class"):
        page.get_by_role("tab", name=tab, exact=True).click()
        outputs_of(page)  # nothing is computed any more
        found = axe.run(page, context={"include": [[EXPLORER]]}).response["violations"]
        assert [(tab, one["id"], one["impact"], one["nodes"][0]["html"]) for one in found] == []
    page.close()
