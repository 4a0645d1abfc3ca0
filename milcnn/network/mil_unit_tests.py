"""Checks of what a pooling function can learn, as in the unit tests of Raff and Holt 2023 (arXiv 2310.17867).

On small synthetic bags, a method that respects an assumption of multiple instance learning succeeds, and one that takes
a shortcut fails. An instance is a point near one of four corners of R⁴: *background*, which is everywhere; the
*concept*, which decides; *poison* and *crowd*, which only tempt. A small network scores each instance, the pooling
function makes P of the bag, and the loss is the cross-entropy of P. The concept decides alike in training and in test;
what poison and crowd hint at is reversed in the test.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple, cast

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


class Check(NamedTuple):
    """``draw(n, generator, test)`` gives ``n`` bags (n, N) of corners and labels (n,) of 0 and 1."""

    draw: Callable[[int, torch.Generator, bool], tuple[Tensor, Tensor]]
    score: Callable[[Tensor, Tensor], float]  # labels and P of the test bags → at best 1


def counted(labels: Tensor, size: int, counts: dict[int, Tensor]) -> Tensor:
    """Bags (n, ``size``) with ``counts`` (n,) of each corner; the rest is background."""
    bags = torch.full((len(labels), size), BACKGROUND)
    place, start = torch.arange(size), torch.zeros(len(labels), 1)
    for corner, count in counts.items():
        bags[(place >= start) & (place < start + count[:, None])] = corner
        start = start + count[:, None]
    return bags


def single_instance(n: int, generator: torch.Generator, test: bool) -> tuple[Tensor, Tensor]:
    """Positive: one concept. In training poison marks the negative bags, in test the positive ones."""
    labels = torch.randint(2, (n,), generator=generator)
    return counted(labels, 20, {CONCEPT: labels, POISON: labels if test else 1 - labels}), labels


def false_frequency(n: int, generator: torch.Generator, test: bool) -> tuple[Tensor, Tensor]:
    """Positive: one concept. In training a harmless crowd is larger in the positive bags, in test smaller."""
    labels = torch.randint(2, (n,), generator=generator)
    crowded = 1 - labels if test else labels
    return counted(labels, 20, {CONCEPT: labels, CROWD: 2 + 6 * crowded}), labels


def threshold(n: int, generator: torch.Generator, test: bool) -> tuple[Tensor, Tensor]:
    """35 to 65 % of a positive bag are the concept, 5 to 25 % of a negative one. Test bags are three times as large."""
    labels = torch.randint(2, (n,), generator=generator)
    size = 60 if test else 20
    low, width = torch.where(labels == 1, 0.35, 0.05), torch.where(labels == 1, 0.3, 0.2)
    share = low + width * torch.rand(n, generator=generator)
    return counted(labels, size, {CONCEPT: (share * size).round()}), labels


CHECKS = {
    "single instance": Check(single_instance, roc_auc_score),
    "threshold": Check(threshold, lambda labels, P: balanced_accuracy_score(labels, P > 0.5)),
    "false frequency": Check(false_frequency, roc_auc_score),
}
SINGLE, SHARE, CROWDS = CHECKS
EVIDENCE = "No instance can lower P. Evidence adds up, so a larger bag is positive at a smaller share."
ATTENDS = "The weight depends on the kind of instance, not on the number. Poison can take all the weight."
# the checks that each function passes at its defaults, and why: from the formulas and a first run. If a new table
# differs, a function or a check has changed
EXPECTED: dict[str, tuple[set[str], str]] = {
    "noisy_and": (
        {SINGLE, SHARE},
        "It learns a threshold on the mean of p. A low threshold detects one instance in twenty. "
        "It depends on how many instances look positive, so a harmless crowd misleads it.",
    ),
    "noisy_or": ({SINGLE, CROWDS}, EVIDENCE),
    "isr": ({SINGLE, CROWDS}, EVIDENCE),
    "generalized_mean": (set(), "It is a mean. It is not steep enough for one instance, and has no threshold."),
    "log_sum_exp": ({SINGLE}, "Large p have the most weight, so one can decide. Many medium p can outweigh it."),
    "max": ({SINGLE, CROWDS}, "Only the largest p counts. No instance can lower it, and it cannot measure a share."),
    "mean": (set(), "Every instance has the same weight. Poison cancels the concept, and a crowd outweighs it."),
    "top_k": (set(), "The two largest p of twenty count. One instance is too few, and a share of a third is not seen."),
    "quantile": ({SHARE}, "It learns a threshold on the share. One instance of many does not move a quantile."),
    "softmax": ({SINGLE, CROWDS}, "It is close to the largest p. It has no threshold."),
    "power": ({SINGLE}, "An instance with p = 0 has no weight, so poison has no effect. A crowd has weight."),
    "autopool": ({SHARE}, "It learns how steep it is. In training the shortcuts work as well as the concept."),
    "attention": ({CROWDS}, ATTENDS),
    "gated_attention": ({CROWDS}, ATTENDS),
}


def run_check(method: str, check: Check, seed: int = 0) -> float:
    """Score on the test bags of ``check`` of ``method``, as ``columns.parse_method`` reads it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        name, settings = columns.parse_method(method)
        function, scores = pooling.make(name, 1, 4, **settings), nn.Conv1d(4, 1, 1)
    with torch.no_grad():
        scores.weight.zero_()
        cast(Tensor, scores.bias).fill_(function.start_bias)

    def pooled(bags: Tensor) -> Tensor:
        instances = F.one_hot(bags, 4).float() + NOISE * torch.randn(*bags.shape, 4, generator=generator)
        features = instances.transpose(1, 2)  # (B, 4, N)
        return function(scores(features), features=features)[:, 0]

    optimiser = torch.optim.Adam([*function.parameters(), *scores.parameters()], RATE)
    for _ in range(STEPS):
        bags, labels = check.draw(BAGS, generator, False)
        loss = F.binary_cross_entropy_with_logits(pooled(bags), labels.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        bags, labels = check.draw(400, generator, True)
        return float(check.score(labels, pooled(bags).sigmoid()))


def table(methods: list[str], seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """A row for each method and check: ``pooling``, ``check``, ``score`` (the lowest over ``seeds``), ``passes``
    (score ≥ 0.9), and ``expected`` and ``why`` of the pooling function at its defaults.
    """
    rows = []
    for method, (name, check) in product(methods, CHECKS.items()):
        passing, why = EXPECTED[columns.parse_method(method)[0]]
        score = min(run_check(method, check, seed) for seed in seeds)
        rows.append((method, name, score, score >= PASS, name in passing, why))
    return pd.DataFrame(rows, columns=["pooling", "check", "score", "passes", "expected", "why"])


def write_unit_tests() -> None:
    """Write the table of all pooling functions to reports/tables/mil_unit_tests.csv."""
    torch.set_num_threads(1)  # these bags are too small for a second thread
    write_table(table(list(pooling.POOLINGS)), ROOT / "reports" / "tables" / "mil_unit_tests.csv")
