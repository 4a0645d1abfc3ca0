"""How the committed outputs of the notebooks are held against a fresh run: see README, Testing."""

import os

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the committed outputs are those of a CPU


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Compare text, not what differs without meaning: HTML ids, progress bars, the bytes of images."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("text/html", "stderr", "image/png", "application/vnd.jupyter.widget-view+json")
