"""Checks of what a pooling function can learn, after the algorithmic unit tests of Raff and Holt 2023
(arXiv 2310.17867): small synthetic bags on which a method that respects an assumption of multiple
instance learning succeeds, and one that takes a short cut fails.

An instance is a point near one of four corners of R⁴: *background*, which is everywhere, the *concept*
that decides, and two that only tempt. A small network scores each instance, the pooling function
makes P of the bag, and the cross-entropy of P is all it learns from. What decides is the same in
training and in test; what tempts is turned round.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from milcnn import columns
from milcnn.files import write_table
from milcnn.network import pooling
from milcnn.paths import ROOT

BACKGROUND, CONCEPT, POISON, CROWD = range(4)
NOISE = 0.15  # standard deviation of an instance about its corner
PASS = 0.9  # least score on the test bags
STEPS, BAGS, RATE = 300, 32, 0.1


@dataclass(frozen=True)
class Check:
    """``draw(n, generator, test)`` gives ``n`` bags (n, N) of corners and labels (n,) of 0 and 1."""

    question: str
    draw: Callable[[int, torch.Generator, bool], tuple[Tensor, Tensor]]
    score: Callable[[Tensor, Tensor], float]  # labels and P of the test bags → at best 1


def counted(labels: Tensor, size: int, counts: dict[int, Tensor]) -> Tensor:
    """Bags (n, ``size``) of corners that hold ``counts`` (n,) of each; the rest is background."""
    bags = torch.full((len(labels), size), BACKGROUND)
    place, start = torch.arange(size), torch.zeros(len(labels), 1)
    for corner, count in counts.items():
        bags[(place >= start) & (place < start + count[:, None])] = corner
        start = start + count[:, None]
    return bags


def coin(n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (n,), generator=generator)


def single_instance(n: int, generator: torch.Generator, test: bool) -> tuple[Tensor, Tensor]:
    """Positive: one concept. In training a poison marks the negative bags, in test the positive ones."""
    labels = coin(n, generator)
    poisoned = labels if test else 1 - labels
    return counted(labels, 20, {CONCEPT: labels, POISON: poisoned}), labels


def false_frequency(n: int, generator: torch.Generator, test: bool) -> tuple[Tensor, Tensor]:
    """Positive: one concept. In training a harmless crowd is larger in the positive bags, in test smaller."""
    labels = coin(n, generator)
    crowded = 1 - labels if test else labels
    return counted(labels, 20, {CONCEPT: labels, CROWD: 2 + 6 * crowded}), labels


def threshold(n: int, generator: torch.Generator, test: bool) -> tuple[Tensor, Tensor]:
    """35 to 65 % of the instances of a positive bag show the concept, 5 to 25 % of a negative one.

    Test bags are three times as large.
    """
    labels = coin(n, generator)
    size = 60 if test else 20
    low, width = torch.where(labels == 1, 0.35, 0.05), torch.where(labels == 1, 0.3, 0.2)
    share = low + width * torch.rand(n, generator=generator)
    return counted(labels, size, {CONCEPT: (share * size).round()}), labels


def auc(labels: Tensor, P: Tensor) -> float:
    return float(roc_auc_score(labels, P))


def balanced_score(labels: Tensor, P: Tensor) -> float:
    return float(balanced_accuracy_score(labels, P > 0.5))


CHECKS = {
    "single instance": Check("does one positive instance decide?", single_instance, auc),
    "threshold": Check("does the share of positive instances decide, in bags of any size?", threshold, balanced_score),
    "false frequency": Check("does the number of harmless instances not decide?", false_frequency, auc),
}

SINGLE, SHARE, CROWDS = CHECKS
# which checks a function passes at its defaults, and why; written down from the formulas and a first run, so a
# difference says that a function, or a check, has changed
EXPECTED: dict[str, tuple[set[str], str]] = {
    "noisy_and": (
        {SINGLE, SHARE},
        "a threshold on p̄, learnt: low enough, one instance in twenty is above it, as it "
        "is not for the mean; counts are what it looks at, harmless ones too",
    ),
    "noisy_or": ({SINGLE, CROWDS}, "no instance can lower P; evidence adds up, so larger bags need a smaller share"),
    "isr": ({SINGLE, CROWDS}, "no instance can lower P; evidence adds up, so larger bags need a smaller share"),
    "generalized_mean": (set(), "a mean that is not steep enough for one instance, and knows no threshold"),
    "log_sum_exp": ({SINGLE}, "large p weigh most, so one can decide, but a crowd of middling p can outvote it"),
    "max": ({SINGLE, CROWDS}, "only the largest p counts: no instance lowers it, and no share is seen"),
    "mean": (set(), "every instance has an equal say: poison cancels the concept, a crowd outvotes it"),
    "top_k": (set(), "two of twenty instances count, so one is outvoted and a share of a third is not seen"),
    "quantile": ({SHARE}, "a learnt threshold on the share; one instance of many is no quantile"),
    "softmax": ({SINGLE, CROWDS}, "close to the largest p, with a slope for the others; knows no threshold"),
    "power": ({SINGLE}, "an instance at p = 0 has no weight, so poison is nothing; a crowd has"),
    "autopool": ({SHARE}, "learns how steep to be, and in training the short cuts are as good as the concept"),
    "attention": ({CROWDS}, "weighs by what an instance is, not by how many: poison can take all the weight"),
    "gated_attention": ({CROWDS}, "weighs by what an instance is, not by how many: poison can take all the weight"),
}


def run_check(method: str, check: Check, seed: int = 0) -> float:
    """Score of ``method`` (as pooling.parse reads it) on the test bags of ``check``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        name, settings = columns.parse_method(method)
        function, scores = pooling.make(name, 1, 4, **settings), nn.Conv1d(4, 1, 1)
    nn.init.zeros_(scores.weight)
    nn.init.constant_(scores.bias, function.start_bias)

    def pooled(bags: Tensor) -> Tensor:
        instances = F.one_hot(bags, 4).float() + NOISE * torch.randn(*bags.shape, 4, generator=generator)
        features = instances.transpose(1, 2)  # (B, 4, N)
        return function(scores(features).sigmoid(), features=features)[:, 0]

    optimiser = torch.optim.Adam([*function.parameters(), *scores.parameters()], RATE)
    for _ in range(STEPS):
        bags, labels = check.draw(BAGS, generator, False)
        loss = F.binary_cross_entropy(pooled(bags), labels.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        bags, labels = check.draw(400, generator, True)
        return check.score(labels, pooled(bags))


def table(methods: list[str], seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """One row a method and check: ``pooling``, ``check``, ``score`` (the worst of ``seeds``), ``passes``
    (score ≥ 0.9), ``expected`` and ``why``, for the name of the pooling function at its defaults.
    """
    rows = []
    for method in methods:
        passing, why = EXPECTED[columns.parse_method(method)[0]]
        for name, check in CHECKS.items():
            score = min(run_check(method, check, seed) for seed in seeds)
            facts = {"score": score, "passes": score >= PASS, "expected": name in passing, "why": why}
            rows.append({"pooling": method, "check": name} | facts)
    return pd.DataFrame(rows)


def write_unit_tests() -> None:
    """Write the table of all pooling functions to reports/tables/mil_unit_tests.csv."""
    torch.set_num_threads(1)  # the bags are so small that a second thread only waits
    write_table(table(list(pooling.POOLINGS)), ROOT / "reports" / "tables" / "mil_unit_tests.csv")
