"""How fast report and gallery open in headless Chromium, and their pictures in docs/. Run after the study:

    python benchmarks/pages.py [--study simulated] [--pictures]

A row a page: bytes, milliseconds from the request to the first view (the paint with the first text or picture; median
of new tabs), and its width on a phone of 390 px. Of the gallery, repeated to 2,000 fields with a thumbnail each, also
the milliseconds until a filter, all fields again, and the order by score are on screen. ``--pictures`` writes
docs/report.png and docs/gallery.png instead.
"""

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from throughput import machine

from milcnn.files import write_json
from milcnn.paths import ROOT

HTML, RESULTS = ROOT / "reports" / "html", Path(__file__).parent / "results" / "pages.json"
FIELDS, REPEATS, PHONE, SIZE = 2000, 5, 390, {"width": 1200, "height": 850}
FIRST_VIEW = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
UNTIL_SHOWN = """async what => {
  const start = performance.now();
  eval(what);
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""
INPUT = "form.elements.{0}.dispatchEvent(new Event('input', {{bubbles: true}}))"
ACTIONS = {
    "filter": "form.elements.label.selectedIndex = 1; " + INPUT.format("label"),
    "all again": "form.reset()",
    "order": "form.elements.order.value = 'worst'; " + INPUT.format("order"),
}


def repeated(gallery: Path, folder: Path) -> Path:
    """The page of ``gallery`` with ``FIELDS`` fields, and a thumbnail for each, in ``folder``."""
    page = (gallery / "index.html").read_text(encoding="utf-8")
    items = re.findall(r'<li class="field".*?</li>', page, re.DOTALL)
    (folder / "thumbs").mkdir()
    many = []
    for number in range(FIELDS):
        name = f"thumbs/{number % len(items):05}.webp"
        shutil.copy(gallery / name, folder / f"thumbs/{number:05}.webp")
        many.append(items[number % len(items)].replace(name, f"thumbs/{number:05}.webp"))
    path = folder / "index.html"
    path.write_text(page.replace("\n".join(items), "\n".join(many)), encoding="utf-8")
    return path


def opened(browser: Browser, path: Path, width: int = SIZE["width"]) -> Page:
    page = browser.new_context(offline=True, viewport=SIZE | {"width": width}).new_page()
    page.goto(path.as_uri())
    page.wait_for_function(f"{FIRST_VIEW} > 0")
    return page


def row_of(browser: Browser, name: str, path: Path) -> dict[str, object]:
    tabs = [opened(browser, path) for _ in range(REPEATS)]
    row: dict[str, object] = {"page": name, "bytes": path.stat().st_size}
    row["first view, ms"] = round(median(tab.evaluate(FIRST_VIEW) for tab in tabs))
    row["width on a phone, px"] = opened(browser, path, PHONE).evaluate("document.documentElement.scrollWidth")
    if str(FIELDS) in name:
        for action, what in ACTIONS.items():
            row[f"{action}, ms"] = round(median(tab.evaluate(UNTIL_SHOWN, what) for tab in tabs))
    return row


def picture(page: Page, path: Path) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize().save(path, optimize=True)  # 256 colours: half the bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="simulated")
    parser.add_argument("--pictures", action="store_true")
    arguments = parser.parse_args()
    gallery = ROOT / "reports" / "galleries" / arguments.study / "page"
    study = HTML / "studies" / f"{arguments.study}.html"
    paths = {"report": HTML / "index.html", "study": study, "run": HTML / "run.html", "gallery": gallery / "index.html"}
    paths |= {path.stem: path for path in sorted((HTML / arguments.study).glob("0[357]*.html"))}
    own = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        if arguments.pictures:
            shown = opened(browser, study)
            shown.set_viewport_size(SIZE | {"height": 1100})
            picture(shown, ROOT / "docs" / "report.png")
            shown = opened(browser, paths["gallery"])
            shown.locator("form").scroll_into_view_if_needed()
            shown.evaluate("document.querySelector('#fields-head').scrollIntoView()")
            picture(shown, ROOT / "docs" / "gallery.png")
            return
        paths[f"gallery of {FIELDS} fields"] = repeated(gallery, Path(folder))
        rows = [row_of(browser, name, path) for name, path in paths.items()]
        facts = machine(torch.device("cpu")) | {"browser": browser.version}
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, na_rep="–"))
    write_json({"machine": facts, "rows": rows}, RESULTS)


if __name__ == "__main__":
    main()
