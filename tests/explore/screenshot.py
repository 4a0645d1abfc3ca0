"""``make screenshot``: docs/explorer.png, the explorer on a trained study, as JupyterLab shows it.

    python -m tests.explore.screenshot [STUDY]

STUDY is prepared and trained, such as ``simulated`` after ``make study``.
"""

import io
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

from milcnn.paths import ROOT
from tests.explore.lab import BROWSER, opened, started

CELL = "from milcnn.explore import explore\n\nexplore({study!r})"


def main(study: str) -> None:
    folder = Path(tempfile.mkdtemp())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.format(study=study))])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "explorer.ipynb")
    with started(folder) as address, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = opened(browser, address, "explorer.ipynb", [], width=1420, height=1500)
        page.wait_for_selector("img.milcnn-picture")
        page.get_by_label("cells", exact=True).click()
        page.wait_for_selector("table.dataTable tbody tr td:nth-child(2)")
        page.wait_for_timeout(3000)  # the picture with cells
        taken = page.locator(".jp-OutputArea-output").first.screenshot()
        browser.close()
    small = Image.open(io.BytesIO(taken)).convert("RGB").quantize(256)  # a third of the bytes
    small.save(ROOT / "docs" / "explorer.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:] or ["simulated"])
