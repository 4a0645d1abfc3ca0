"""The whole graph, on a tiny study, in a copy of the repository."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from milcnn.paths import ROOT

TINY = {
    # one worker: each process more loads the libraries once more
    "prepare": {
        "workers": 1,
        "screen_settings": {"size": 96, "fields_per_class": {"train": 2, "validation": 1, "test": 1}},
    },
    "baselines": {"workers": 1},
    "train": {"width": 0.125, "epochs": 4, "batch_size": 6},
    "localise": {"fields_per_class": 1, "least_lift": 0.0, "unet": {"steps": 2, "turned": False}},
}


def run(folder: Path, *words: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where the command milcnn is
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(folder),
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def dvc(folder: Path, *words: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *words)


def dvc_in_process(folder: Path, *words: str) -> str:
    return run(folder, sys.executable, "-m", "tests.study.in_process", *words)


def changed(folder: Path) -> set[str]:
    """The stages that a ``dvc repro`` would run first, but for the look at the inputs, which always runs."""
    return {name for name in json.loads(dvc(folder, "status", "--json")) if not name.startswith("inventory")}


def edit(path: Path, changes: dict) -> None:
    """Change keys of a YAML file; of a section of it, keys of that."""
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        whole = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = content[key] | value if whole else value
    path.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository as a clone would have it, its digits study made tiny, reproduced once."""
    folder = tmp_path_factory.mktemp("copy")
    files = set(run(ROOT, "git", "ls-files", "-co", "--exclude-standard", "-z").split("\0"))
    for name in files - {"", "dvc.lock"}:  # without the lock every stage is new
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "-q")
    edit(folder / "params" / "digits.yaml", TINY)
    tiny = {"studies": ["digits"], "shuffled": [0], "runs": {"poolings": ["noisy_and"], "seeds": [0]}}
    tiny |= {"baselines": {"baselines": ["boosting", "cell_mean"], "seeds": [0]}}
    edit(folder / "params.yaml", tiny | {"label_noise": {"conditions": ["noise20"]}})
    other = pd.DataFrame(
        [{"study": "elsewhere", "method": "max", "metric": "accuracy", "level": "field", "value": 0.5}]
    )
    columns = (folder / "reports/tables/summary.csv").read_text().splitlines()[0].split(",")
    other.reindex(columns=columns).to_csv(folder / "reports/tables/summary.csv", index=False)
    dvc_in_process(folder, "repro")
    return folder


def test_summary_has_the_rows_of_this_run_and_keeps_those_of_other_studies(copy):
    summary = pd.read_csv(copy / "reports/tables/summary.csv")
    rows = set(summary[["study", "method", "metric", "level"]].itertuples(index=False, name=None))
    assert ("elsewhere", "max", "accuracy", "field") in rows
    assert ("digits", "noisy_and", "accuracy", "field") in rows
    assert ("digits", "noisy_and", "average_precision", "pixel") in rows
    digits = summary[summary["study"] == "digits"]
    assert {"noisy_and", "boosting", "cell_mean", "noisy_and-best_baseline", "noisy_and_shuffled"} < set(
        digits["method"]
    )
    assert {"unet", "random_map", "all_foreground", "otsu", "classical"} < set(digits["method"])
    digits = digits.dropna(subset="low")  # one group has no interval
    assert digits["value"].between(digits["low"], digits["high"]).all()


def test_report_shows_figures_and_links_every_executed_notebook(copy):
    page = (copy / "reports/html/studies/digits.html").read_text()
    assert page.count("<img ") == len(list((copy / "reports").glob("*/digits/*.png"))) > 5
    for notebook in (copy / "reports/html/digits").glob("*.html"):
        assert f'href="../digits/{notebook.name}"' in page


def test_metrics_say_what_the_table_says(copy):
    shown = dvc(copy, "metrics", "show", "--json")
    scores = pd.read_csv(copy / "reports/tables/digits/scores.csv").set_index(["method", "metric"])
    accuracy = yaml.safe_load(shown)[""]["data"]["reports/metrics/digits.json"]["data"]["noisy_and"]["accuracy"]
    assert accuracy == pytest.approx(scores.loc[("noisy_and", "accuracy"), "value"], abs=1e-4)


def test_a_second_repro_does_nothing(copy):
    ran = [line for line in dvc(copy, "repro").splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'inventory@digits':"]


def test_a_longer_list_of_poolings_trains_only_what_is_new(copy):
    before = (copy / "params.yaml").read_text()
    edit(copy / "params.yaml", {"runs": {"poolings": ["noisy_and", "max"], "seeds": [0]}})
    planned = dvc(copy, "repro", "--dry")
    (copy / "params.yaml").write_text(before)
    assert "train@digits-max-0" in planned
    assert "train@digits-noisy_and-0" not in planned.replace("Stage 'train@digits-noisy_and-0' didn't change", "")


def test_an_output_saved_in_a_notebook_does_not_retrain(copy):
    path = copy / "notebooks" / "02_train.ipynb"
    before = path.read_text()
    path.write_text(before.replace('"execution_count": 1,', '"execution_count": 41,', 1))
    assert path.read_text() != before
    assert "Running stage 'clean'" in dvc(copy, "repro", "clean")
    assert not changed(copy)


@pytest.mark.parametrize(
    ("section", "change", "stages"),
    [
        ("train", {"epochs": 5}, {"train@digits-noisy_and-0", "shuffled@digits-0", "label_noise@digits-noise20"}),
        ("localise", {"fields_per_class": 2}, {"localise@digits"}),
    ],
)
def test_a_changed_line_of_a_study_runs_the_stages_of_its_section_alone(copy, section, change, stages):
    path = copy / "params" / "digits.yaml"
    before = path.read_text()
    edit(path, {section: change})
    found = changed(copy)
    path.write_text(before)
    assert found == stages
    assert not changed(copy)


def write_screen(folder: Path) -> None:
    """Two plates of eight wells, DMSO and drug in turn, a file a field."""
    folder.mkdir()
    rows = [(f"P{plate}", f"B{well:02d}", 1, ("DMSO", "drug")[well % 2]) for plate in (1, 2) for well in range(1, 9)]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Label"])
    table["Path_DNA"] = [f"{plate}-{well}.tif" for plate, well, *_ in rows]
    for number, name in enumerate(table["Path_DNA"]):
        tifffile.imwrite(folder / name, np.random.default_rng(number).integers(100, 900, (40, 40), np.uint16))
    table.to_csv(folder / "fields.csv", index=False)


def test_a_corrected_label_and_a_replaced_image_are_prepared_again(copy):
    params, table = (copy / "params.yaml").read_text(), copy / "screen" / "fields.csv"
    write_screen(copy / "screen")
    run(copy, "milcnn", "new", "mine", "--table", str(table))
    assert "prepare@mine" in dvc(copy, "repro", "prepare@mine")
    labels = pd.read_csv(copy / "data/prepared/mine/fields.csv")["Metadata_Label"].value_counts().to_dict()
    assert labels == {"DMSO": 8, "drug": 8}
    table.write_text(table.read_text().replace("B01,1,drug", "B01,1,DMSO"))
    dvc_in_process(copy, "repro", "prepare@mine")
    labels = pd.read_csv(copy / "data/prepared/mine/fields.csv")["Metadata_Label"].value_counts().to_dict()
    assert labels == {"DMSO": 10, "drug": 6}
    assert "Running stage 'prepare@mine'" not in dvc(copy, "repro", "prepare@mine")
    tifffile.imwrite(copy / "screen" / "P1-B01.tif", np.full((40, 40), 7000, np.uint16))
    dvc(copy, "repro", "inventory@mine")
    assert "prepare@mine" in changed(copy)
    (copy / "params.yaml").write_text(params)
