"""Each check separates functions that respect an assumption from those that do not."""

import pytest
import torch

from milcnn.files import read_table
from milcnn.network import mil_unit_tests, pooling
from milcnn.paths import ROOT


def draw(name: str, test: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return mil_unit_tests.CHECKS[name].draw(200, torch.Generator().manual_seed(0), test)


def has(bags: torch.Tensor, corner: int) -> torch.Tensor:
    return (bags == corner).sum(dim=1)


@pytest.mark.parametrize("test", [False, True])
def test_the_concept_decides_and_poison_and_crowd_are_reversed_in_the_test(test):
    for name in ("single instance", "false frequency"):
        bags, labels = draw(name, test)
        assert torch.equal(has(bags, mil_unit_tests.CONCEPT), labels)
        assert 0 < labels.sum() < 200
    poison = has(draw("single instance", test)[0], mil_unit_tests.POISON)
    assert torch.equal(poison, labels if test else 1 - labels)
    crowd = has(bags, mil_unit_tests.CROWD)
    assert torch.equal(crowd > 5, (labels == 0) if test else (labels == 1))
    bags, labels = draw("threshold", test)
    share = has(bags, mil_unit_tests.CONCEPT) / bags.shape[1]
    assert torch.equal(share > 0.3, labels == 1)
    assert bags.shape[1] == (60 if test else 20)


def test_every_pooling_has_an_expectation():
    assert mil_unit_tests.EXPECTED.keys() == pooling.POOLINGS.keys()
    assert all(passing <= mil_unit_tests.CHECKS.keys() for passing, _ in mil_unit_tests.EXPECTED.values())


def test_the_committed_table_is_as_expected():
    table = read_table(ROOT / "reports" / "tables" / "mil_unit_tests.csv")
    assert set(table["pooling"]) == set(pooling.POOLINGS)
    assert (table["passes"] == table["expected"]).all(), table[table["passes"] != table["expected"]].to_string()
    assert (table["passes"] == (table["score"] >= mil_unit_tests.PASS)).all()


def test_two_functions_pass_the_expected_checks():
    table = mil_unit_tests.table(["max", "quantile"], seeds=[0])
    assert (table["passes"] == table["expected"]).all(), table.drop(columns="why").to_string()
    assert table.groupby("check")["passes"].agg(["any", "all"]).to_numpy().tolist() == [[True, False]] * 3


def test_a_check_is_the_same_twice_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    check = mil_unit_tests.CHECKS["threshold"]
    assert mil_unit_tests.run_check("mean", check) == mil_unit_tests.run_check("mean", check)
    assert torch.equal(torch.random.get_rng_state(), before)
