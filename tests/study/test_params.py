"""The contract between parameter files, notebooks, params.yaml and dvc.yaml."""

import papermill
import pytest
import yaml

from milcnn.columns import parse_method
from milcnn.network import pooling
from milcnn.parameters import SECTIONS, read_study
from milcnn.paths import ROOT
from milcnn.screens.sets.kinds import parse_settings
from milcnn.study.clean import clean
from milcnn.study.stage import checked

STUDIES = sorted(path.stem for path in (ROOT / "params").iterdir())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def notebook_of(stage: str):
    (path,) = (ROOT / "notebooks").glob(f"[0-9][0-9]_{stage}.ipynb")
    return path


@pytest.mark.parametrize("study", STUDIES)
def test_every_key_is_a_parameter_of_its_notebook_with_its_type(study):
    for stage, section in read_study(study).items():
        values = checked(notebook_of(stage), study, {})
        assert section.items() <= values.items()


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_holds_only_what_differs_from_the_notebooks(study):
    for stage, section in read_study(study).items():
        defaults = papermill.inspect_notebook(str(notebook_of(stage)))
        same = [key for key, value in section.items() if repr(value).replace("'", '"') == defaults[key]["default"]]
        assert not [
            key for key in same if key not in ("study", "screen", "segmentation")
        ]  # milcnn new writes all three


@pytest.mark.parametrize("study", [study for study in STUDIES if study != "sample"])
def test_a_study_has_all_sections_and_never_names_itself(study):
    assert set(read_study(study)) == set(SECTIONS)
    text = (ROOT / "params" / f"{study}.yaml").read_text()
    assert not [kind for kind in ("prepared", "cells", "models", "tables", "galleries") if f"{kind}/{study}" in text]


@pytest.mark.parametrize("study", STUDIES)
def test_screen_settings_are_those_of_the_screen(study):
    section = read_study(study)["prepare"]
    parse_settings(section["screen"], section["screen_settings"])


def test_params_yaml_names_studies_and_poolings_that_exist():
    assert set(PARAMS["studies"]) <= set(STUDIES)
    for method in PARAMS["runs"]["poolings"]:
        name, settings = parse_method(method)
        pooling.make(name, 3, **settings)


def test_baselines_learn_with_the_seeds_of_the_networks():
    assert PARAMS["baselines"]["seeds"] == PARAMS["runs"]["seeds"]


def test_the_commented_line_switches_on_all_of_the_papers_table():
    (line,) = [line for line in (ROOT / "params.yaml").read_text().splitlines() if line.startswith("  # poolings:")]
    methods = yaml.safe_load(line.removeprefix("  # "))["poolings"]
    made = [(name, settings) for name, settings in map(parse_method, methods)]
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
