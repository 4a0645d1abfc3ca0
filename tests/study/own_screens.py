"""Four small screens of files, as users bring them, and a study run through all its stages within this process."""

import contextlib
import io
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from milcnn.study import stage

SHORT = {"prepare": {"workers": 1}, "train": {"width": 0.125, "epochs": 1, "crop": 0}}  # seconds instead of minutes
SHORT |= {"baselines": {"workers": 1}, "localise": {"fields_per_class": 2}}


def stages(baselines: list[str]) -> list[tuple[str, dict]]:
    """The notebooks of a study in their order, with what ``dvc.yaml`` gives them."""
    runs = {"poolings": ["noisy_and"], "seeds": [0]}
    return [
        ("prepare", {}),
        ("train", {"pooling": "noisy_and", "seed": 0}),
        ("train", {"pooling": "noisy_and", "seed": 0, "condition": "shuffled"}),
        ("baselines", {"baselines": baselines, "seeds": [0]}),
        ("compare", {**runs, "baselines": baselines, "conditions": ["shuffled"]}),
        ("localise", {**runs, "conditions": ["shuffled"]}),
        ("explore", runs),
        ("figures", {}),
    ]


def blobs(rng: np.random.Generator, side: int, n: int, radius: float, top: int) -> np.ndarray:
    """A field (side, side) float of noise and ``n`` round cells."""
    y, x = np.mgrid[:side, :side]
    field = rng.normal(0.05 * top, 0.01 * top, (side, side))
    for cy, cx in rng.uniform(8, side - 8, (n, 2)):
        field += 0.6 * top * np.exp(-(((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2)))
    return field.clip(0, top)


def table_of(rows: list[dict], folder: Path) -> Path:
    path = folder / "fields.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def one_channel(folder: Path) -> dict[str, Path]:
    """8-bit PNG, one plate, two classes, no controls; two fields are black and two have no cell."""
    rng, rows = np.random.default_rng(1), []
    for number in range(20):
        label = ("round", "small")[number // 2 % 2]  # a well has one label
        field = blobs(rng, 64, 4, 5 if label == "round" else 2.5, 255)
        if number in (0, 1):
            field = np.zeros((64, 64))
        if number in (2, 7):
            field = rng.normal(12, 2, (64, 64)).clip(0)
        Image.fromarray(field.astype(np.uint8)).save(folder / f"{number}.png")
        key = {"Metadata_Plate": "P1", "Metadata_Well": f"B{number // 2 + 1:02d}", "Metadata_Site": number % 2 + 1}
        rows.append(key | {"Metadata_Label": label, "Path_GFP": f"{number}.png"})
    return {"table": table_of(rows, folder)}


def stacks(folder: Path) -> dict[str, Path]:
    """ImageJ stacks of two channels, one plate, one field a well, four classes, of which one has three fields."""
    rng, rows = np.random.default_rng(2), []
    labels = ["a"] * 7 + ["b"] * 7 + ["c"] * 7 + ["d"] * 3
    for number, label in enumerate(labels):
        planes = [blobs(rng, 64, 3 + labels.index(label) // 4, 4, 4000) for _ in range(2)]
        tifffile.imwrite(
            folder / f"{number}.tif", np.stack(planes).astype(np.uint16), imagej=True, metadata={"axes": "CYX"}
        )
        key = {"Metadata_Plate": "P1", "Metadata_Well": f"{'BCD'[number // 8]}{number % 8 + 1:02d}", "Metadata_Site": 1}
        pages = {f"{kind}_{name}": (f"{number}.tif", place)[kind == "Page"]
                 for kind in ("Path", "Page") for place, name in enumerate(("DNA", "Actin"))}  # fmt: skip
        rows.append(key | {"Metadata_Label": label} | pages)
    return {"table": table_of(rows, folder)}


def six_channels(folder: Path) -> dict[str, Path]:
    """Three plates, six channels, labels by a platemap of which DMSO is one; a well of each plate has no label."""
    rng, rows = np.random.default_rng(3), []
    names = ["DNA", "ER", "RNA", "AGP", "Mito", "BF"]
    layout = {"B02": "DMSO", "B03": "DMSO", "C02": "taxol", "C03": "taxol", "D02": ""}
    for plate in ("P1", "P2", "P3"):
        for well, label in layout.items():
            key = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": 1}
            for name in names:
                field = blobs(rng, 64, 3, 6 if label == "taxol" else 4, 3000)
                tifffile.imwrite(folder / f"{plate}-{well}-{name}.tif", field.astype(np.uint16))
            rows.append(key | {f"Path_{name}": f"{plate}-{well}-{name}.tif" for name in names})
    platemap = folder / "platemap.csv"
    compounds = [{"Metadata_Well": well, "Metadata_Compound": label or "?", "Metadata_Label": label}
                 for well, label in layout.items()]  # fmt: skip
    pd.DataFrame(compounds).to_csv(platemap, index=False)
    return {"table": table_of(rows, folder), "platemap": platemap}


def noise(folder: Path) -> dict[str, Path]:
    """Noise of odd size under two labels, some fields with both."""
    rng, rows = np.random.default_rng(4), []
    for number in range(18):
        tifffile.imwrite(folder / f"{number}.tif", rng.poisson(100, (67, 91)).astype(np.uint16))
        label = ("left", "right", "left|right")[number % 3]
        key = {"Metadata_Plate": "P1", "Metadata_Well": f"C{number + 1:02d}", "Metadata_Site": 1}
        rows.append(key | {"Metadata_Label": label, "Path_DNA": f"{number}.tif"})
    return {"table": table_of(rows, folder)}


def run_notebook(name: str, study: str, root: Path, **overrides: object) -> str:
    """Run a notebook's code cells in this process; return what they print, which also becomes an executed notebook."""
    notebook = next((Path(stage.__file__).parents[2] / "notebooks").glob(f"[0-9][0-9]_{name}.ipynb"))
    values = stage.checked(notebook, study, {}) | {"workers": 1, "device": "cpu"}
    known = stage.parameters_of(notebook).model_fields
    values = {key: value for key, value in (values | overrides).items() if key in known}
    space: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        for cell in nbformat.read(notebook, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, f"{notebook.stem}/{cell.id}", "exec"), space)
                if "parameters" in cell.metadata.get("tags", []):
                    space |= values
    plt.close("all")
    text = printed.getvalue()
    output = nbformat.v4.new_output("stream", text=text)
    executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    label = "-".join([notebook.stem, *map(str, overrides.values())])[:60].replace("/", "_")
    path = root / "reports" / "executed" / study / f"{label}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, path)
    return text
