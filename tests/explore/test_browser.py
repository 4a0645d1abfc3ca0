"""The explorer in JupyterLab, in headless Chromium: what the user clicks changes the picture. No network is reached."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys

import nbformat
import pandas as pd
import pytest

from milcnn.paths import ROOT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(sync_playwright is None, reason="playwright is not installed"),
]
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells') }"
PICTURE = "img.milcnn-picture >> nth=0"
PATIENCE = 120_000  # ms, on a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """07_explore as it is, and on the sample's fields with wells A03 to A05, B03 … as on a plate of 96."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(ROOT / "notebooks" / "07_explore.ipynb", as_version=4)
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
    """The address of a JupyterLab on ``folder``, with the kernel of this interpreter."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kernel = folder / "kernels" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    options = ["--ServerApp.port_retries=0", "--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}"]
    options += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    paths = os.pathsep.join(filter(None, [str(folder / "kernels"), os.environ.get("JUPYTER_PATH", "")]))
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(
            [*command, *options],
            stdout=log,
            stderr=log,
            env=os.environ | {"JUPYTER_PATH": paths, "PYTHONPATH": str(ROOT)},
        )
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


def opened(browser, lab, name, asked):
    """The notebook ``name``, run from top to bottom, once there is a picture. ``asked`` collects addresses."""
    page = browser.new_page(viewport={"width": 1400, "height": 1200})
    page.set_default_timeout(PATIENCE)

    def allow(route):
        asked.append(route.request.url)
        if route.request.url.startswith((lab, "data:", "blob:")):
            route.continue_()
        else:
            route.abort()

    page.route("**/*", allow)
    for _ in range(240):
        try:
            page.goto(f"{lab}/lab/tree/{name}?token=t")
            break
        except Exception:  # the server is not up yet
            page.wait_for_timeout(250)
    page.wait_for_function(IDLE)
    page.evaluate(RUN_ALL)
    page.wait_for_selector(PICTURE)
    return page


class Seen:
    """The picture of a page: ``changed_by`` does something and waits for another one."""

    def __init__(self, page):
        self.page = page
        self.now = self.digest()

    def digest(self):
        """Of the pixels, not of the file: the browser has decoded it."""
        script = """async (image) => {
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return canvas.toDataURL('image/png') }"""
        return hashlib.sha256(self.page.eval_on_selector("img.milcnn-picture", script).encode()).hexdigest()

    def changed_by(self, do, text=""):
        """Another picture is there, and its description has ``text``."""
        do()
        for _ in range(600):
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
    assert [address for address in asked if not address.startswith((lab, "data:", "blob:"))] == []
    page.close()
