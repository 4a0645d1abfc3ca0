"""The model card: what a network is, how well it does and on what, from the files of its run."""

import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from ruamel.yaml import YAML
from torch.utils.flop_counter import FlopCounterMode

from milcnn.columns import BATCH, COMPOUND, FRESH, LABEL, PLATE, SETS, SPLIT, labels_of
from milcnn.evaluate.runs import of_split
from milcnn.evaluate.scores import calls_of, class_rows, score_rows
from milcnn.export.graphs import example_pixels
from milcnn.export.trained_run import TrainedRun
from milcnn.localise.geometry import least_side
from milcnn.paths import ROOT
from milcnn.score.unseen import conformal_level

SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "mean_average_precision": "mean average precision",
    "roc_auc": "ROC AUC",
    "ece": "expected calibration error",
}
# of the data that the code draws or that README.md names; by the first word of the study's name
LICENCES = {"digits": "BSD-3-Clause", "simulated": "MIT", "micronuclei": "MIT", "bbbc016": "CC-BY-3.0"}
RAW = {"illumination": "none", "scaling": "none", "downscale": 1, "crop": []}  # settings that keep the pixels


def licence_of(study: str) -> str | None:
    """The SPDX name of the licence of the images of a ``study``, None where it is the user's to say."""
    return LICENCES.get(study.split("-")[0])


def card_text(run: TrainedRun) -> str:
    """The model card of ``run``: Markdown, with the head that the Hugging Face hub reads."""
    environment = Environment(
        loader=PackageLoader("milcnn.export", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"quoted": json.dumps, "digits": lambda value: "–" if np.isnan(value) else f"{value:.3f}"}
    return environment.get_template("card.md.j2").render(card_values(run))


def card_values(run: TrainedRun) -> dict[str, Any]:
    """What the template of the card asks for."""
    own, ready = run.model.settings, run.prepared
    cited = citation()
    return {
        "run": run,
        "settings": own,
        "classes": class_table(run),
        "scores": card_scores(run),
        "plates": plates_by_set(ready.fields),
        "hashes": hashes(run),
        "changes": {key: value for key, value in ready.settings.items() if key in RAW and value != RAW[key]},
        "untested": untested(run),
        "sets": sets_of_classes(run),
        "unseen": unseen_rows(own.study),
        "licence": licence_of(own.study),
        "citation": cited,
        "paper": cited["references"][0],
        "weights": sum(tensor.numel() for tensor in run.model.parameters()),
        "multiply_adds": multiply_adds(run),
        "least_side": least_side(run.model.trunk),
    }


def citation() -> dict[str, Any]:
    """What CITATION.cff says."""
    return YAML(typ="safe", pure=True).load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def hashes(run: TrainedRun) -> dict[str, str]:
    """The SHA-256 of the files that fix the network, the fields and the split."""
    files = [run.folder / "model.safetensors", run.folder / "predictions.csv"]
    files += [run.prepared.folder / name for name in ("prepared.json", "fields.csv")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plates_by_set(fields: pd.DataFrame) -> pd.DataFrame:
    """The numbers of fields and plates in each set that has some: ``set``, ``fields``, ``plates``."""
    sets = fields[fields[SPLIT].isin([*SETS, FRESH])].groupby(SPLIT)[PLATE].agg(fields="size", plates="nunique")
    return sets.reindex([name for name in (*SETS, FRESH) if name in sets.index]).rename_axis("set").reset_index()


def card_scores(run: TrainedRun) -> pd.DataFrame:
    """The scores of the test fields, a row each of ``SCORES``: ``name``, ``metric``, ``value``, ``low``, ``high``."""
    test = of_split(run.predictions, "test")
    table = score_rows(test, list(SCORES), run.prepared.study, run.prepared.protocol, "field")
    return table.assign(name=table["metric"].map(SCORES))


def class_table(run: TrainedRun) -> pd.DataFrame:
    """A row a class: ``name``, its numbers of ``train`` and scored ``test`` fields, average precision, interval."""
    fields, test = run.prepared.fields, of_split(run.predictions, "test")
    rows = class_rows(test, run.prepared.study, run.prepared.protocol)
    names = rows["metric"].str.removeprefix("average_precision_")
    numbers = {
        split: names.map(label_numbers(part[LABEL], run.prepared.multilabel)).fillna(0).astype(int)
        for split, part in (("train", fields[fields[SPLIT] == "train"]), ("test", test))
    }
    return rows.assign(name=names, **numbers)


def label_numbers(labels: pd.Series, multilabel: bool) -> dict[str, int]:
    """How many fields carry each label."""
    return dict(Counter(name for label in labels for name in labels_of(label, multilabel)))


def untested(run: TrainedRun) -> list[str]:
    """Sentences on what the test fields cannot tell, or can, from the table of fields."""
    fields, said = run.prepared.fields, []
    train, test = (fields[fields[SPLIT] == split] for split in ("train", "test"))
    for column, many in ((PLATE, "plates"), (BATCH, "batches"), (COMPOUND, "compounds")):
        if column not in fields:
            said.append(f"Other {many}: the study does not name {many}.")
            continue
        tested = set(test[column].dropna())
        shared = len(tested & set(train[column]))
        said.append(f"Other {many}: {shared} of the {len(tested)} {many} of test fields have training fields too.")
    return said


def sets_of_classes(run: TrainedRun) -> dict[str, float]:
    """Of ``set_90``, see ``score.unseen``: the least y, and on test fields the share right and the mean size."""
    held = run.predictions[run.predictions[SPLIT] == "validation"]
    least, calls = conformal_level(held), calls_of(of_split(run.predictions, "test"))
    named = calls.y >= least
    return {"least": least, "right": named[calls.truth > 0].mean(), "size": named.sum(axis=1).mean()}


def unseen_rows(study: str) -> pd.DataFrame:
    """The rows of ``benchmarks/unseen.py STUDY``, a phenotype each; empty where it was not run."""
    path = ROOT / "benchmarks" / "results" / f"unseen-{study}.json"
    return pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else [])


def multiply_adds(run: TrainedRun) -> int:
    """Multiplications and additions for one field of the study, by torch's counter."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run.model(example_pixels(run.model, run.field_size, 1))
    return counter.get_total_flops()
