"""Seconds of the explorer on a large field and on large plates. Run by hand, on a quiet machine:

    python benchmarks/explorer.py [--repeats 7] [--cpu-time]

The field has 1024 × 1280 px and three channels; the network is the paper's at full width, with twelve classes (see
``benchmarks/maps.py``). *first* is the picture of a field that was not looked at before, with its class map, *cells*
the table that follows it. The other rows are what the user changes; each makes a new picture, with the map and
outlines, as bytes to send. ``plate`` is what the browser draws a plate from; ``browser`` is the time from then to the
plate drawn in headless Chromium, where there is one. Each row has the median. ``--cpu-time`` counts the processor
seconds of all threads, which other programs hardly change. Writes ``benchmarks/results/explorer.json``.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from maps import network, simulated_field

from milcnn.baselines.segment import SegmentSettings
from milcnn.explore import plate
from milcnn.explore import shown as what
from milcnn.explore.explorer import Explorer
from milcnn.files import write_json
from milcnn.network.memory import keep_freed_memory
from milcnn.network.predict import inference_copy
from milcnn.screens.names import in_letters

RESULTS = Path(__file__).parent / "results" / "explorer.json"
Clock = Callable[[], float]
SCRIPT = Path(plate.__file__).with_name("plate.js")


def opened() -> Explorer:
    """The explorer on eight fields of one plate, none of which was looked at."""
    pixels, model = simulated_field(1024, 1280)[0].numpy(), inference_copy(network())
    fields = pd.DataFrame(
        {"Metadata_Plate": "P", "Metadata_Well": [f"A{n + 1:02}" for n in range(8)], "Metadata_Site": 1}
    )
    own = model.settings
    shown = what.Shown(
        fields.assign(value=range(8)), lambda row: pixels, own.channels, own.classes, SegmentSettings(), 0.5, model
    )
    return Explorer(shown, None)


def seconds(do: Callable[[int], object], repeats: int, clock: Clock) -> float:
    """The median of ``repeats`` calls; each gets its number."""
    times = []
    for number in range(repeats):
        start = clock()
        do(number)
        times.append(clock() - start)
    return round(statistics.median(times), 3)


def field_rows(explorer: Explorer, repeats: int, clock: Clock) -> dict[str, float]:
    """Seconds of what the user does with a field."""
    channel, over = explorer.channels[0], explorer.map
    over.of.value = over.classes[0]
    explorer.tabs.selected_index = 1  # the table of cells is measured apart

    def first(number: int) -> None:
        for kept in (what.pixels_at, what.maps_at, what.cells_at):
            kept.cache_clear()
        explorer.go(number % 8)

    def cells(number: int) -> None:
        what.cells_at.cache_clear()
        what.cell_table(explorer.shown, explorer.row, 0, 0.5)

    rows = {"first": seconds(first, repeats, clock), "cells": seconds(cells, repeats, clock)}
    over.cells.value = True
    changes: dict[str, Callable[[int], object]] = {
        "channel": lambda number: channel.on.set_trait("value", not channel.on.value),
        "contrast": lambda number: channel.contrast.set_trait(
            "value", (channel.contrast.min, channel.contrast.max - number)
        ),
        "threshold": lambda number: over.threshold.set_trait("value", 0.1 + 0.01 * number),
        "class": lambda number: over.of.set_trait("value", over.classes[number % 2]),
        "zoom": lambda number: over.zoom.set_trait("value", 1.5 + 0.1 * number),
        "drag": lambda number: explorer.act({"kind": "drag", "x": 0.01, "y": 0.01}),
    }
    return rows | {name: seconds(do, repeats, clock) for name, do in changes.items()}


def plate_rows(rows: int, columns: int, repeats: int, clock: Clock) -> dict[str, float]:
    """Seconds to colour a plate, and to draw it in a browser."""
    wells = [in_letters(row, column) for row in range(rows) for column in range(columns)]
    fields = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": wells * 4, "value": np.arange(4.0 * len(wells))})
    view = plate.plate_view(fields, "P", "value", plate.well_values(fields, "value"))
    python = seconds(
        lambda _: plate.plate_view(fields, "P", "value", plate.well_values(fields, "value")), repeats, clock
    )
    return {"plate": python} | in_browser(view)


def in_browser(view: dict) -> dict[str, float]:
    """Seconds until the browser has laid out and painted a plate; empty without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        return {}
    script = SCRIPT.read_text(encoding="utf-8").replace("export default", "window.widget =")
    draw = """(plate) => new Promise((done) => {
        const start = performance.now();
        const model = { get: (name) => (name === "plate" ? plate : ""), on: () => {}, set: () => {} };
        widget.render({ model, el: document.body });
        requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000))) })"""
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_style_tag(path=str(SCRIPT.with_name("explore.css")))
        page.add_script_tag(content=script, type="module")
        taken = round(page.evaluate(draw, view), 3)
        browser.close()
    return {"browser": taken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, for a busy machine")
    arguments = parser.parse_args()
    repeats, clock = arguments.repeats, time.process_time if arguments.cpu_time else time.perf_counter
    keep_freed_memory()
    rows = {"field": field_rows(opened(), repeats, clock)}
    rows |= {str(r * c): plate_rows(r, c, repeats, clock) for r, c in ((8, 12), (16, 24), (32, 48))}
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    machine |= {
        "processor": platform.machine(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(rows, indent=2))
    write_json({"machine": machine, "clock": clock.__name__, "seconds": rows}, RESULTS)


if __name__ == "__main__":
    main()
