"""How fast the check of a screen's files is. It runs before any other work. Run by hand:

    python benchmarks/check.py --files 10002

Writes small 16-bit TIFFs, one file per channel: once in folders, once in one zip per plate. Checks both screens, and
one whose files are not there. ``peak_mb`` is the memory up to the end of each. Writes the times to
``benchmarks/results/check.json``, by the number of files. The check reads only the headers, so on a local disk the size
of the images does not matter.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from milcnn.files import write_json
from milcnn.screens.problems import ScreenError
from milcnn.screens.screen import Screen

RESULTS = Path(__file__).parent / "results" / "check.json"
CHANNELS = ["DAPI", "Tubulin", "Actin"]
SITES, WELLS = 4, 60  # sites per well, wells per plate


def write_plates(folder: Path, fields: int) -> pd.DataFrame:
    """The table of ``fields`` fields. Writes their files to folders in ``folder``, and copies to one zip per plate."""
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    rows = []
    for number in range(fields):
        plate, well, site = f"P{number // SITES // WELLS}", f"W{number // SITES % WELLS}", number % SITES
        paths = {f"Path_{channel}": f"{folder}/{plate}/{well}_{site}_{channel}.tif" for channel in CHANNELS}
        for path in paths.values():
            Path(path).parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, image)
        key = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site}
        rows.append({**key, "Metadata_Label": "ab"[number % 2], **paths})
    for plate in {row["Metadata_Plate"] for row in rows}:
        with zipfile.ZipFile(folder / f"{plate}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in (folder / plate).iterdir():
                archive.write(path, f"{plate}/{path.name}")
    return pd.DataFrame(rows)


def check_seconds(fields: pd.DataFrame) -> dict[str, float]:
    """Wall-clock and processor seconds of the check of ``fields``, and the peak memory of this process so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    with suppress(ScreenError):  # of the missing files
        Screen(fields=fields, channels=CHANNELS, classes=["a", "b"], read=lambda row: None, planes=1).check()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_002)
    count = parser.parse_args().files // len(CHANNELS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loose = write_plates(folder, count)
        paths = [f"Path_{channel}" for channel in CHANNELS]
        into_zip = {path: loose[path].str.replace(r"/(P\d+)/", r"/\1.zip/\1/", regex=True) for path in paths}
        zipped = loose.assign(**into_zip)
        absent = loose.assign(**{path: loose[path] + ".gone.tif" for path in paths})
        result = {
            "loose": check_seconds(loose),
            "in zips": check_seconds(zipped),
            "missing": check_seconds(absent),
            "machine": {
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "load_1_min": round(os.getloadavg()[0], 2),
                "python": platform.python_version(),
            },
        }
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    write_json({**old, f"{count * len(CHANNELS)} files": result}, RESULTS)
    print(result)


if __name__ == "__main__":
    main()
