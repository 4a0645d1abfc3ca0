"""Pooling functions against hand-computed values, against each other, and at their extremes."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch.autograd import gradcheck

from milcnn import columns
from milcnn.network import pooling
from milcnn.network.pooling import modern

ALL = sorted(pooling.POOLINGS)
METHODS = [*ALL, "noisy_and-learn_a1"]


def make(method: str, n_classes: int, n_features: int | None = None, seed: int = 0) -> pooling.Pooling:
    """In float64, with attention that has left its start, where it is the mean."""
    name, settings = columns.parse_method(method)
    torch.manual_seed(seed)
    function = pooling.make(name, n_classes, n_features, **settings).double()
    if isinstance(function, pooling.Attention):
        torch.nn.init.normal_(function.weights.weight)
    return function


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


HALF = [0.2, 0.4, 0.9]  # mean 0.5
EXPECTED = {
    "noisy_and": (sigma(4.0) - sigma(-1.0)) / (sigma(9.0) - sigma(-1.0)),
    "noisy_and-a5-b0.5": (sigma(0.0) - sigma(-2.5)) / (sigma(2.5) - sigma(-2.5)),  # one half
    "noisy_and-a7.5-b0.3-learn_a1": (sigma(1.5) - sigma(-2.25)) / (sigma(5.25) - sigma(-2.25)),
    "noisy_or": 1 - 0.8 * 0.6 * 0.1,
    "isr": (0.25 + 2 / 3 + 9) / (1 + 0.25 + 2 / 3 + 9),
    "generalized_mean-r2": math.sqrt((0.04 + 0.16 + 0.81) / 3),
    "generalized_mean-r1": 0.5,
    "log_sum_exp-r2": 0.5 * math.log((math.exp(0.4) + math.exp(0.8) + math.exp(1.8)) / 3),
    "max": 0.9,
    "mean": 0.5,
    "top_k": 0.9,
    "top_k-share0.67": 0.65,
    "top_k-share1": 0.5,
    "quantile-q0.5": 0.25 * 0.2 + 0.5 * 0.4 + 0.25 * 0.9,
    "quantile-q0.25": (9 * 0.2 + 6 * 0.4 + 1 * 0.9) / 16,
    "softmax-r1": sum(p * math.exp(p) for p in HALF) / sum(math.exp(p) for p in HALF),
    "softmax": sum(p * math.exp(5 * p) for p in HALF) / sum(math.exp(5 * p) for p in HALF),
    "power": (0.04 + 0.16 + 0.81) / 1.5,
    "power-r2": (0.008 + 0.064 + 0.729) / (0.04 + 0.16 + 0.81),
    "autopool-r0": 0.5,
    "autopool-r3": sum(p * math.exp(3 * p) for p in HALF) / sum(math.exp(3 * p) for p in HALF),
}


@pytest.mark.parametrize("method", EXPECTED)
def test_hand_computed(method):
    name, settings = columns.parse_method(method)
    function = pooling.make(name, 2, **settings).double()
    p = torch.tensor([HALF, [0.5, 0.5, 0.5]], dtype=torch.float64)[None]
    assert function(p)[0, 0].item() == pytest.approx(EXPECTED[method], rel=1e-6)


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
def test_attention_is_the_formula_of_its_paper(name):
    function = make(name, 2, n_features=3)
    p, h = uniform(1, 2, 4), uniform(1, 3, 4, seed=1)
    V, d = function.content.weight, function.content.bias[:, None]
    v, e = function.weights.weight, function.weights.bias[:, None]
    inside = torch.tanh(V @ h[0] + d)
    if name == "gated_attention":
        inside = inside * torch.sigmoid(function.gate.weight @ h[0] + function.gate.bias[:, None])
    weights = torch.exp(v @ inside + e)
    expected = (weights * p[0]).sum(1) / weights.sum(1)
    torch.testing.assert_close(function(p, features=h)[0], expected)


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
def test_attention_starts_as_the_mean_and_refuses_other_features(name):
    p, h = uniform(2, 3, 5, 5), uniform(2, 7, 5, 5)
    function = pooling.make(name, 3, n_features=7).double()
    torch.testing.assert_close(function(p, features=h), p.mean(dim=(2, 3)))
    with pytest.raises(ValueError, match=r"features: 3 .* needs 7"):
        function(p)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_weights_are_binomial(q):
    p = uniform(1, 1, 50)
    expected = binom.pmf(np.arange(50), 49, q) @ p[0, 0].sort().values.numpy()
    assert pooling.make("quantile", 1, q=q).double()(p).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_order_of_instances_and_shape_do_not_matter(method):
    function, p = make(method, 3), uniform(2, 3, 4, 5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    flat = p.flatten(2)
    assert function(p).shape == (2, 3)
    torch.testing.assert_close(function(p), function(flat))
    torch.testing.assert_close(function(p), function(flat[:, :, order]))


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_items_one_by_one(method):
    function, p, h = make(method, 3, n_features=4), uniform(4, 3, 9), uniform(4, 4, 9, seed=1)
    one_by_one = torch.cat([function(p[i : i + 1], features=h[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(function(p, features=h), one_by_one)


@pytest.mark.parametrize("method", METHODS)
def test_a_masked_instance_never_counts(method):
    """Its value changes nothing, and it gets no gradient."""
    function, p, h = make(method, 3, n_features=4), uniform(2, 3, 9), uniform(2, 4, 9, seed=1)
    mask = torch.tensor([[True] * 9, [True, False, True, True, False, False, True, True, False]])
    p = p.masked_fill(~mask[:, None], 1.0).requires_grad_()
    pooled = function(p, mask, h)
    alone = function(p[1:, :, mask[1]], features=h[1:, :, mask[1]])
    torch.testing.assert_close(pooled[1:], alone)
    torch.testing.assert_close(pooled[:1], function(p[:1], features=h[:1]))
    (gradient,) = torch.autograd.grad(pooled.sum(), p)
    assert (gradient[1][:, ~mask[1]] == 0).all()
    zeroed = p.detach().masked_fill(~mask[:, None], 0.0)
    torch.testing.assert_close(function(zeroed, mask, h), pooled.detach())


@pytest.mark.parametrize("method", METHODS)
def test_a_masked_instance_may_be_no_number(method):
    function, p, h = make(method, 3, n_features=4), uniform(2, 3, 9), uniform(2, 4, 9, seed=1)
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    spoiled = (x.masked_fill(~mask[:, None], math.nan) for x in (p, h))
    torch.testing.assert_close(function(next(spoiled), mask, next(spoiled)), function(p, mask, h))


@pytest.mark.parametrize("mask", [torch.ones(2, 1, dtype=torch.bool), torch.ones(2, 9), torch.ones(2, 3, 9).bool()])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(ValueError, match=r"mask: .* give bool, of the shape of p without its classes"):
        make("mean", 3)(uniform(2, 3, 9), mask)


def test_a_bag_without_instances_is_refused():
    with pytest.raises(ValueError, match="mask: a bag has no instance"):
        make("mean", 1)(uniform(2, 1, 3), torch.tensor([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize("method", METHODS)
def test_gradients(method):
    function = make(method, 2, n_features=3)
    p, h = (0.05 + 0.9 * uniform(2, 2, 6)).requires_grad_(), uniform(2, 3, 6, seed=1).requires_grad_()
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, True]])
    parameters = [weight for weight in function.parameters() if weight.numel() < 20]
    assert gradcheck(lambda p, h, *_: function(p, mask, h), (p, h, *parameters))


@pytest.mark.parametrize("n", [1, 49, 10_000])
@pytest.mark.parametrize("value", [0.0, 1e-6, 0.5, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_finite_at_the_extremes(method, value, n):
    """In float32, as the model computes: P in [0, 1], gradients finite; no instance or all of them."""
    function = make(method, 2).float()
    p = torch.full((1, 2, n), value, requires_grad=True)
    pooled = function(p)
    pooled.sum().backward()
    assert ((pooled >= 0) & (pooled <= 1)).all()
    assert p.grad.isfinite().all()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in function.parameters())
    if value in (0.0, 1.0):
        assert pooled.tolist()[0] == pytest.approx([value] * 2, abs=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_more_probable_instances_never_lower_the_bag(method):
    """Except by weights that depend on p: there only the function's range is promised."""
    function, p = make(method, 2, n_features=3), uniform(8, 2, 20)
    h = uniform(8, 3, 20, seed=1)
    more = p + (1 - p) * 0.3
    lower, higher = function(p, features=h), function(more, features=h)
    if not isinstance(function, modern.Weighted) or isinstance(function, pooling.Attention):
        assert (higher > lower).all()
    assert ((lower >= 0) & (lower <= 1)).all()
    if method.split("-")[0] not in ("noisy_and", "noisy_or", "isr"):
        assert ((lower >= p.amin(2)) & (lower <= p.amax(2))).all()  # all others are means of a kind


def test_known_before_you_start():
    """576 instances at 0.01: the evidence that Noisy-OR and ISR sum up, and others do not."""
    p = torch.full((1, 1, 24, 24), 0.01)
    assert pooling.make("noisy_or", 1)(p).item() == pytest.approx(0.997, abs=5e-4)
    assert pooling.make("isr", 1)(p).item() == pytest.approx(0.853, abs=5e-4)
    assert pooling.make("max", 1)(p).item() == pytest.approx(0.01)


def test_learned_parameters_stay_in_their_range():
    noisy_and = pooling.make("noisy_and", 1, learn_a=1).double()
    quantile = pooling.make("quantile", 1).double()
    for free in (-30.0, 30.0):
        with torch.no_grad():
            noisy_and.b_logit.fill_(free)
            noisy_and.log_a.fill_(free / 10)
            quantile.q_logit.fill_(free)
        assert 0 < noisy_and.b.item() < 1
        assert noisy_and.a.item() > 0
        assert 0 < quantile.q.item() < 1
        assert 0 <= noisy_and(uniform(1, 1, 5)).item() <= 1
    assert [name for name, _ in pooling.make("noisy_and", 1).named_parameters()] == ["b_logit"]


@pytest.mark.parametrize(
    ("method", "limit", "tolerance"),
    [
        ("generalized_mean-r1", "mean", 1e-9),
        ("log_sum_exp-r0.001", "mean", 1e-3),
        ("softmax-r0.001", "mean", 1e-3),
        ("power-r0.001", "mean", 5e-3),
        ("generalized_mean-r500", "max", 1e-2),
        ("log_sum_exp-r1000", "max", 1e-2),
        ("softmax-r1000", "max", 1e-3),
        ("power-r1000", "max", 1e-3),
        ("top_k-share0.01", "max", 1e-9),
        ("quantile-q0.99999", "max", 1e-3),
    ],
)
def test_limits(method, limit, tolerance):
    p = uniform(4, 2, 30)
    torch.testing.assert_close(make(method, 2)(p), make(limit, 2)(p), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("median", "pooling: 'median' is not one of"),
        ("noisy_and-b0", "b: 0.0 is not between 0 and 1"),
        ("noisy_and-a0", "a: 0.0 is not above 0"),
        ("noisy_and-learn_a2", "learn_a: 2.0 is neither"),
        ("generalized_mean-r0", "r: 0.0 is not above 0"),
        ("top_k-share2", "share: 2.0 is not above 0 and at most 1"),
        ("quantile-q1", "q: 1.0 is not between 0 and 1"),
        ("mean-r2", "pooling 'mean' has no setting r; it has none"),
        ("noisy_and-r2", "pooling 'noisy_and' has no setting r; it has a, b, learn_a"),
        ("noisy_and-a", "'noisy_and-a' is not a name with settings"),
    ],
)
def test_bad_settings_are_named(method, message):
    with pytest.raises(ValueError, match=message):
        make(method, 2)
