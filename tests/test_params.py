"""The contract between parameter files, notebooks, params.yaml and dvc.yaml."""

import papermill
import pytest
import yaml

from milcnn import pooling
from milcnn.clean import clean
from milcnn.paths import ROOT
from milcnn.screens.kinds import SCREENS
from milcnn.stage import checked

FILES = sorted((ROOT / "params").glob("*/*.yaml"))


def notebook_of(stage: str):
    (path,) = (ROOT / "notebooks").glob(f"0?_{stage}.ipynb")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_key_is_a_parameter_of_its_notebook_with_its_type(path):
    values = checked(notebook_of(path.stem), path, {})
    assert values == yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", [p for p in FILES if p.stem == "prepare"], ids=lambda path: path.parent.name)
def test_screen_settings_are_those_of_the_screen(path):
    values = yaml.safe_load(path.read_text())
    settings, _ = SCREENS[values["screen"]]
    settings(**values["screen_settings"])


@pytest.mark.parametrize("path", [p for p in FILES if p.stem == "compare"], ids=lambda path: path.parent.name)
def test_the_protocol_is_what_the_split_keeps_apart(path):
    kind = yaml.safe_load(path.with_name("prepare.yaml").read_text()).get("split", {}).get("kind", "given")
    assert kind == "given" or yaml.safe_load(path.read_text())["protocol"] == kind


@pytest.mark.parametrize("path", [p for p in FILES if p.stem == "localise"], ids=lambda path: path.parent.name)
def test_the_classical_floor_is_the_segmentation_of_the_rivals(path):
    own, rivals = (yaml.safe_load(p.read_text()) for p in (path, path.with_stem("baselines")))
    assert own["segmentation"] == rivals["segmentation"]


def test_params_yaml_names_studies_and_poolings_that_exist():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for study in params["studies"]:
        assert (ROOT / "params" / study / "prepare.yaml").exists()
    for method in params["runs"]["poolings"]:
        name, settings = pooling.parse(method)
        pooling.make(name, 3, **settings)


def test_rivals_learn_with_the_seeds_of_the_networks():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert params["rivals"]["seeds"] == params["runs"]["seeds"]


def test_the_commented_line_switches_on_all_of_the_papers_table():
    (line,) = [line for line in (ROOT / "params.yaml").read_text().splitlines() if line.startswith("  # poolings:")]
    methods = yaml.safe_load(line.removeprefix("  # "))["poolings"]
    made = [(name, settings) for name, settings in map(pooling.parse, methods)]
    names = [name for name, _ in made]
    assert {name: names.count(name) for name in names} == {
        "noisy_and": 3, "noisy_or": 1, "isr": 1, "generalized_mean": 3, "log_sum_exp": 3, "max": 1, "mean": 1,
    }  # fmt: skip
    functions = [pooling.make(name, 1, **settings) for name, settings in made]
    assert sorted(f.a for f in functions if hasattr(f, "a")) == [5, 7.5, 10]
    assert sorted(f.r for f in functions if hasattr(f, "r")) == [1, 1, 2.5, 2.5, 5, 5]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_parameters_are_typed_and_plain(path):
    for name, entry in papermill.inspect_notebook(str(path)).items():
        assert entry["inferred_type_name"] in {"str", "int", "float", "bool", "dict", "list[str]", "list[int]"}, name


def test_a_clean_copy_keeps_tags_and_loses_outputs(tmp_path):
    clean(ROOT / "notebooks" / "02_train.ipynb", tmp_path / "copy.ipynb")
    text = (tmp_path / "copy.ipynb").read_text()
    assert papermill.inspect_notebook(str(tmp_path / "copy.ipynb"))["seed"]["default"] == "0"
    assert '"output_type"' not in text
