"""The sample's run exported once, and environments of other people."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from milcnn.export.run_folder import export_run
from milcnn.export.trained_run import open_trained_run
from milcnn.paths import ROOT

RUN = ROOT / "data" / "sample" / "models" / "noisy_and-0"
PREPARED = ROOT / "data" / "sample" / "prepared"


@pytest.fixture(scope="session")
def run():
    return open_trained_run(RUN, PREPARED)


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """The folder that ``milcnn export`` writes of the sample's run."""
    folder = tmp_path_factory.mktemp("export") / "digits"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and onnxscript about themselves
        export_run(RUN, PREPARED, folder)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """A function that makes a new virtual environment with ``packages`` alone, and gives its interpreter.

    The test is skipped where the packages cannot be had, such as without a network. Nothing is left afterwards.
    """
    folders = []

    def make(*packages: str) -> Path:
        folders.append(folder := tmp_path_factory.mktemp("environment"))
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        interpreter = folder / "bin" / "python"
        command = [interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip cannot install {' '.join(packages)}: {done.stderr.strip().splitlines()[-1]}")
        return interpreter

    yield make
    for folder in folders:
        shutil.rmtree(folder)
