"""pyproject.toml, requirements.lock and environment.yml say the same."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from milcnn.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().split()
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_every_direct_dependency_is_locked_at_a_version_it_allows():
    versions = locked()
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_torch_is_pinned():
    assert locked()["torch"] == Version("2.13.0")


def test_every_direct_dependency_has_its_reason():
    block = re.search(r"\ndependencies = \[\n(.*?)\n\]", (ROOT / "pyproject.toml").read_text(), re.S)[1]
    assert len(block.splitlines()) == len(PROJECT["dependencies"])
    assert all(re.search(r'",\s+# \w+', line) for line in block.splitlines())


def test_conda_environment_installs_the_lock_and_a_fitting_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *plain, pip = environment["dependencies"]
    assert f"python{PROJECT['requires-python']}" in plain
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
