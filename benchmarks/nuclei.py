"""Object F1 at IoU 0.5 of the classical segmentation on the labelled nuclei of DSB 2018 (BBBC038 stage 1, corrected).

    MILCNN_MIRROR=… python benchmarks/nuclei.py

The images are in ``masks/dsb2018`` beside the mirror. Every second image of its index, from the first, served to choose
the defaults of ``SegmentSettings``. The other images are scored here. Writes ``benchmarks/results/nuclei.json``.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.io import imread

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.evaluate.intervals import interval
from milcnn.files import write_json
from milcnn.localise.agreement import object_f1

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
    print(pd.DataFrame(rows).to_string(index=False))
    write_json({"images": len(pairs), "rows": rows}, RESULTS)


if __name__ == "__main__":
    main()
