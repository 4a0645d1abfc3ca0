"""``milcnn export``: one folder of a trained run that a stranger can use without this repository."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milcnn import __version__
from milcnn.export.card import card_text, hashes
from milcnn.export.graphs import WholeOutput, facts_of_network, write_onnx
from milcnn.export.profiles import profiles_of_wells, write_h5ad
from milcnn.export.trained_run import TrainedRun, open_trained_run
from milcnn.export.zoo import write_full_package, write_maps_package
from milcnn.files import write_table


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path``, which takes its place when the block ends without an error."""
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("part", "old"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def export_run(folder: Path, prepared: Path, output: Path) -> TrainedRun:
    """Write ``output``, a folder with all that is exported of the run in ``folder`` of the study in ``prepared``.

    An earlier export there is replaced; another folder is not. Raises ValueError or FileNotFoundError in one sentence
    for a run that is not trained or not of this study, FileExistsError for a folder that is no export.
    """
    if output.exists() and any(output.iterdir()) and not (output / "model.onnx").exists():
        raise FileExistsError(f"{output}: has files and is no export; name another folder.")
    run = open_trained_run(folder, prepared)
    with folder_written_whole(output) as part:
        facts = facts_of_network(run.model, run.prepared.pixel_size, run.temperature)
        write_onnx(WholeOutput(run.model, run.temperature), part / "model.onnx", facts)
        wells = profiles_of_wells(run.predictions, run.prepared.fields, min(run.field_size))
        write_table(wells, part / "profiles.parquet")
        write_h5ad(wells, facts | {"run": folder.name, "version": __version__} | hashes(run), part / "profiles.h5ad")
        write_full_package(run, part / "zoo-full.zip")
        write_maps_package(run, part / "zoo-maps.zip")
        (part / "README.md").write_text(card_text(run), encoding="utf-8")
    return run
