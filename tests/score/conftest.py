"""Loose TIFF plates of a known network's kind of fields: those of data/sample."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared
from milcnn.score.plan import ScoreSettings

RUN = ROOT / "data/sample/models/noisy_and-0"
PREPARED = ROOT / "data/sample/prepared"
PLATES = ["Q1", "Q2"]


def write_plates(folder, plates, wells=10):
    """``wells`` fields a plate, unevenly lit, each with another gain; the first three wells are controls."""
    ready = load_prepared(PREPARED)
    fields = ready.pixels(ready.fields)[:, 0].astype(np.float64)
    light = np.linspace(0.7, 1.3, fields.shape[2])
    rows = []
    for number, plate in enumerate(plates):
        for well in range(wells):
            name = f"{plate}_{well}.tif"
            pixels = fields[(number * wells + well) % len(fields)] * light * (1 + number) + 20
            tifffile.imwrite(folder / name, pixels.round().astype(np.uint16))
            compound = "DMSO" if well < 3 else f"c{well}"
            rows.append((plate, f"A{well + 1:02}", 1, compound, name))
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Compound", "Path_digit"]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(folder / "fields.csv", index=False)
    return table


@pytest.fixture
def plates(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    write_plates(folder, PLATES)
    return folder


def study_with(tmp_path, **settings):
    """The sample's prepared study, as if its fields had been prepared with ``settings``."""
    folder = tmp_path / "study"
    shutil.copytree(PREPARED, folder)
    facts = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps(facts | {"settings": facts["settings"] | settings}))
    return folder


def settings_for(plates, output, prepared=PREPARED, **more) -> ScoreSettings:
    screen = {"table": str(plates / "fields.csv"), "channels": ["digit"]}
    return ScoreSettings(prepared=str(prepared), runs=[str(RUN)], output=str(output), screen=screen, threads=1, **more)
