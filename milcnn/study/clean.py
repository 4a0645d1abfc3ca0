"""Copies of the notebooks without outputs: what a stage depends on, and what papermill runs."""

from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor

from milcnn.files import written_whole
from milcnn.paths import ROOT


def clean(source: Path, target: Path) -> None:
    """Write ``source`` without outputs, counts and volatile metadata; the tags of cells stay."""
    notebook = nbformat.read(source, as_version=4)
    notebook, _ = ClearOutputPreprocessor().preprocess(notebook, {})
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
    with written_whole(target) as temporary:
        nbformat.write(notebook, temporary)


def clean_notebooks() -> None:
    """Copy every notebook without outputs to ``build/notebooks``."""
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        clean(source, ROOT / "build" / "notebooks" / source.name)
