"""A JupyterLab on a folder, and its notebooks in headless Chromium; no other address is reached."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from milcnn.paths import ROOT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells') }"
CELLS = "[...jupyterapp.shell.currentWidget.content.model.cells].filter((cell) => cell.type === 'code')"
ALL_RAN = f"() => {CELLS}.every((cell) => cell.executionState !== 'running' && cell.executionCount)"
PATIENCE = 120_000  # ms, on a busy machine
OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=t",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]


def write_kernel(folder: Path) -> Path:
    """A Jupyter folder with one kernel, the interpreter that runs this."""
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}))
    return folder


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab on ``folder``, which ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(write_kernel(folder / "jupyter")), os.environ.get("JUPYTER_PATH", "")]
    own = {"JUPYTER_PATH": os.pathsep.join(filter(None, paths)), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jupyterlab", f"--port={port}", f"--ServerApp.root_dir={folder}", *OPTIONS]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def opened(browser, address, name, asked, width=1400, height=1200):
    """The notebook ``name``, which runs from top to bottom. ``asked`` collects what the page asks for elsewhere."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)

    def allow(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    page.route("**/*", allow)
    for _ in range(240):
        try:
            page.goto(f"{address}/lab/tree/{name}?token=t&reset")
            break
        except Exception:  # the server is not up yet
            page.wait_for_timeout(250)
    page.wait_for_function(IDLE)
    page.evaluate(RUN_ALL)
    return page


def outputs_of(page) -> list[dict]:
    """The outputs of all cells of the notebook, once all have run."""
    page.wait_for_function(ALL_RAN)
    page.wait_for_function(IDLE)
    return [out for cell in page.evaluate(f"{CELLS}.map((cell) => cell.outputs.toJSON())") for out in cell]


def without_outputs(name: str):
    """A notebook of the study as if nobody had run it."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook
