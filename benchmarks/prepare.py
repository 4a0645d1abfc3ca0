"""How fast fields are prepared, and in how much memory. Run by hand:

    python benchmarks/prepare.py --kind lzw --fields 240 --plates 2 --illumination mean --scaling control

Writes synthetic 16-bit fields of 3 channels, 1024 × 1280 px by default: TIFFs, one per channel, uncompressed or in LZW,
or OME-Zarr images, one chunk per channel (blosc). Prepares them in a new process and appends the result to
``benchmarks/results/prepare.json``. ``--files`` is the number of fields on disk; if there are more fields, they use the
same files again. On a machine that others use, compare CPU seconds.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import tifffile
import zarr
from scipy.ndimage import gaussian_filter

from milcnn.files import write_json
from milcnn.prepare import fields
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.splits import SplitSettings
from milcnn.screens.images import read_field
from milcnn.screens.screen import Screen

RESULTS = Path(__file__).parent / "results" / "prepare.json"
CHANNELS = ["DAPI", "Tubulin", "Actin"]


def write_images(folder: Path, count: int, shape: tuple[int, int], kind: str) -> None:
    """``count`` fields of blurred spots under uneven light, with camera noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices(shape) / np.array(shape)[:, None, None] - 0.5
    light = 1 - 0.6 * (y**2 + x**2)
    for number in range(count):
        field = []
        for _ in CHANNELS:
            spots = np.zeros(shape, np.float32)
            spots[tuple(rng.integers(0, length, 200) for length in shape)] = 4e5
            image = light * (400 + gaussian_filter(spots, 9)) + rng.normal(0, 20, shape)
            field.append(image.clip(0, 65535).astype(np.uint16))
        if kind == "zarr":
            write_zarr(folder / f"{number}.zarr", np.stack(field))
            continue
        for channel, image in zip(CHANNELS, field, strict=True):
            name = folder / f"{number}_{channel}.tif"
            tifffile.imwrite(name, image, compression=None if kind == "uncompressed" else kind)


def write_zarr(path: Path, field: np.ndarray) -> None:
    """An OME-Zarr 0.4 image (C, H, W), its channels named."""
    scale = {"type": "scale", "scale": [1.0, 0.5, 0.5]}
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx")]
    levels = [{"path": "0", "coordinateTransformations": [scale]}]
    names = [
        {
            "label": name,
            "color": "FFFFFF",
            "window": dict.fromkeys(["start", "min"], 0) | dict.fromkeys(["end", "max"], 65535),
        }
        for name in CHANNELS
    ]
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs.update(
        {"multiscales": [{"version": "0.4", "axes": axes, "datasets": levels}], "omero": {"channels": names}}
    )
    group.create_array(
        "0", data=field, chunks=(1, *field.shape[1:]), chunk_key_encoding={"name": "v2", "separator": "/"}
    )


def image_screen(folder: Path, arguments: argparse.Namespace) -> Screen:
    """A screen of ``arguments.fields`` fields, divided among the plates. Every eighth well is a control."""
    number = np.arange(arguments.fields)
    plate = number * arguments.plates // arguments.fields
    well = number // 4
    table = pd.DataFrame(
        {
            "Metadata_Plate": [f"P{index}" for index in plate],
            "Metadata_Well": [f"W{index}" for index in well],
            "Metadata_Site": number % 4 + 1,
            "Metadata_Label": np.where(well % 2, "a", "b"),
            "Metadata_Control": well % 8 == 0,
        }
    )
    for channel in CHANNELS:
        ending = ".zarr" if arguments.kind == "zarr" else f"_{channel}.tif"
        table[f"Path_{channel}"] = [str(folder / f"{index % arguments.files}{ending}") for index in number]
    return Screen(fields=table, channels=CHANNELS, classes=["a", "b"], read=lambda row: read_field(row, CHANNELS))


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Prepare once, in this process: wall-clock and CPU seconds, and peak memory."""
    screen = image_screen(folder, arguments)
    settings = PrepareSettings(
        illumination=arguments.illumination,
        scaling=arguments.scaling,
        downscale=arguments.downscale,
        workers=arguments.workers,
    )
    before, start, spent = peak_memory(), time.perf_counter(), os.times()
    fields.prepare(screen, "benchmark", folder / "prepared", settings, SplitSettings(kind="well"))
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.user + after.system - spent.user - spent.system
    return {
        "fields_per_second": round(arguments.fields / wall, 2),
        "fields_per_cpu_second": round(arguments.fields / cpu, 2),
        "cpu_ms_per_field": round(1000 * cpu / arguments.fields, 1),
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "peak_memory_gb": round(peak_memory(), 3),
        "memory_before_gb": round(before, 3),
    }


def peak_memory() -> float:
    """Peak memory of this process so far, GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def machine() -> dict[str, object]:
    """Hardware and software versions."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": model,
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tifffile": tifffile.__version__,
        "load_1_min_before": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["uncompressed", "lzw", "zarr"], default="uncompressed")
    parser.add_argument("--fields", type=int, default=240)
    parser.add_argument("--plates", type=int, default=2)
    parser.add_argument("--files", type=int, default=120, help="number of fields to write as TIFFs")
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 1280], help="px, height and width")
    parser.add_argument("--illumination", default="none")
    parser.add_argument("--scaling", default="none")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--scratch", help="where to put the temporary files")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # folder of the images; set in the process to measure
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(measure(Path(arguments.inside), arguments)))
        return
    about = machine()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        write_images(Path(name), min(arguments.files, arguments.fields), tuple(arguments.size), arguments.kind)
        command = [sys.executable, __file__, *sys.argv[1:], "--inside", name]
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("inside", "scratch")}
    for key, value in result.items():
        print(f"{key:22} {value}")
    print(f"{about['cpu']}, {about['cores']} cores, load before {about['load_1_min_before']}")
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    write_json([*old, {"settings": settings, "result": result, "machine": about}], RESULTS)


if __name__ == "__main__":
    main()
