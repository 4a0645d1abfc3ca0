"""How well the classical segmentation finds real nuclei, and how many real fields it takes for blank.

    MILCNN_MIRROR=… python benchmarks/nuclei.py

Object F1 at IoU 0.5 is of the labelled nuclei of DSB 2018 (BBBC038 stage 1, corrected), in ``masks/dsb2018`` beside the
mirror. Every second image of its index, from the first, served to choose the defaults of ``SegmentSettings``. The other
images are scored here. Fields with cells are those of DSB 2018, of BBBC016 (confluent, without a background) and the
tiles of ``micronuclei`` with at least 50 px of nuclei. Writes ``benchmarks/results/nuclei.json``.
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.io import imread

from milcnn.baselines.foreground import has_signal
from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.evaluate.intervals import interval
from milcnn.files import write_json
from milcnn.localise.agreement import object_f1
from milcnn.screens.images import read_plane
from milcnn.screens.sets.kinds import open_screen

RESULTS = Path(__file__).parent / "results" / "nuclei.json"


def main() -> None:
    folder = Path(os.environ["MILCNN_MIRROR"]).parent / "masks" / "dsb2018"
    names = pd.read_csv(folder / "index.csv")["name"].iloc[1::2]
    pairs = [tuple(imread(folder / kind / f"{name}.png") for kind in ("images", "labels")) for name in names]
    rows = []
    for method in ("otsu", "local"):
        settings = SegmentSettings(threshold=method)
        f1 = np.array([object_f1(truth, segment(image[None], ["DNA"], settings)[0]) for image, truth in pairs])
        low, high = interval(f1)
        rows.append({"threshold": method, "f1": round(f1.mean(), 3), "low": round(low, 3), "high": round(high, 3)})
    blank = [blank_row("dsb2018", [image for image, _ in pairs]), blank_row("bbbc016", confluent_fields())]
    blank.append(blank_row("micronuclei", tiles_with_nuclei()))
    print(pd.DataFrame(rows).to_string(index=False))
    print(pd.DataFrame(blank).to_string(index=False))
    write_json({"images": len(pairs), "rows": rows, "blank": blank}, RESULTS)


def blank_row(name: str, images: list[np.ndarray]) -> dict[str, str | int]:
    return {"fields": name, "with_cells": len(images), "taken_for_blank": sum(not has_signal(one) for one in images)}


def confluent_fields() -> list[np.ndarray]:
    path = Path(os.environ["MILCNN_MIRROR"]) / "bbbc016" / "BBBC016_v1_images.zip"
    names = zipfile.ZipFile(path).namelist()
    return [read_plane(f"{path}/{name}") for name in names if name.lower().endswith("d2.tif")]  # GFP


def tiles_with_nuclei() -> list[np.ndarray]:
    screen = open_screen("micronuclei", source="mirror")
    rows = [row for _, row in screen.fields.iterrows() if (screen.truth(row) > 0).sum() >= 50]
    return [screen.read(row)[0] for row in rows]


if __name__ == "__main__":
    main()
