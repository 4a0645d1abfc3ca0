"""What several test files share."""

import shutil
import sys

import matplotlib.pyplot as plt
import pytest
import torch

from milcnn.figures.style import use_style
from milcnn.network.model import MILCNN, ModelSettings

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as in milcnn.study.stage: 2 s less to import nbformat


@pytest.fixture
def style():
    """The style of the study, and no figure left open."""
    with plt.rc_context():
        use_style()
        yield
        plt.close("all")


@pytest.fixture(scope="module")
def model() -> MILCNN:
    """A small network of two channels and three classes, with its first weights."""
    torch.manual_seed(0)
    settings = ModelSettings(
        study="s", channels=["a", "b"], classes=["x", "y", "z"], width=0.1, padding="same", dropout=0, dropout_dense=0
    )
    return MILCNN(settings, mean=[3.0, 1.0], std=[2.0, 4.0]).eval()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium. A test that needs it is skipped where there is none. Mark such tests ``browser``."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
    with api.sync_playwright() as playwright:
        own = shutil.which("chromium") or shutil.which("google-chrome")  # else the one that playwright has installed
        try:
            started = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no browser (try 'playwright install chromium'): {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """A tab without a network. After the test, nothing may have been asked of one, and no script may have failed."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 850})
    page, asked, failed = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    context.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert failed == []
