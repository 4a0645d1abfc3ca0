"""Pooling functions against hand-computed values, against each other, and at their extremes."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

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


def probability(function: pooling.Pooling, p: torch.Tensor, mask=None, features=None) -> torch.Tensor:
    """P (B, C), from p in place of z."""
    return function(p.logit(), mask, p if features is None else features).sigmoid()


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
    assert probability(function, p)[0, 0].item() == pytest.approx(EXPECTED[method], rel=1e-6)


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
    torch.testing.assert_close(probability(function, p, features=h)[0], expected)


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
def test_attention_starts_as_the_mean_and_refuses_other_features(name):
    p, h = uniform(2, 3, 5, 5), uniform(2, 7, 5, 5)
    function = pooling.make(name, 3, n_features=7).double()
    torch.testing.assert_close(probability(function, p, features=h), p.mean(dim=(2, 3)))
    with pytest.raises(ValueError, match=r"features: 3 .* needs 7"):
        function(p)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_weights_are_binomial(q):
    p = uniform(1, 1, 50)
    expected = binom.pmf(np.arange(50), 49, q) @ p[0, 0].sort().values.numpy()
    assert probability(pooling.make("quantile", 1, q=q).double(), p).item() == pytest.approx(expected, rel=1e-6)


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
    function, z, h = make(method, 3, n_features=4), uniform(2, 3, 9).logit(), uniform(2, 4, 9, seed=1)
    mask = torch.tensor([[True] * 9, [True, False, True, True, False, False, True, True, False]])
    z = z.masked_fill(~mask[:, None], math.inf).requires_grad_()
    pooled = function(z, mask, h)
    alone = function(z[1:, :, mask[1]], features=h[1:, :, mask[1]])
    torch.testing.assert_close(pooled[1:], alone)
    torch.testing.assert_close(pooled[:1], function(z[:1], features=h[:1]))
    (gradient,) = torch.autograd.grad(pooled.sum(), z)
    assert (gradient[1][:, ~mask[1]] == 0).all()
    zeroed = z.detach().masked_fill(~mask[:, None], -math.inf)
    torch.testing.assert_close(function(zeroed, mask, h), pooled.detach())


@pytest.mark.parametrize("method", METHODS)
def test_a_masked_instance_may_be_no_number(method):
    function, p, h = make(method, 3, n_features=4), uniform(2, 3, 9), uniform(2, 4, 9, seed=1)
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    spoiled = (x.masked_fill(~mask[:, None], math.nan) for x in (p, h))
    torch.testing.assert_close(function(next(spoiled), mask, next(spoiled)), function(p, mask, h))


@pytest.mark.parametrize("mask", [torch.ones(2, 1, dtype=torch.bool), torch.ones(2, 9), torch.ones(2, 3, 9).bool()])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(ValueError, match=r"mask: .* give bool, of the shape of z without its classes"):
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
    assert gradcheck(lambda p, h, *_: probability(function, p, mask, h), (p, h, *parameters))


@pytest.mark.parametrize("n", [1, 49, 10_000])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-6, 0.5, 1.0])
@pytest.mark.parametrize("method", [*METHODS, *(f"generalized_mean-r{r}" for r in (1, 5, 8, 20))])
def test_finite_at_the_extremes(method, value, n):
    """In float32, as the model computes: Z and its gradients are finite, for all instances alike or one of many."""
    for values in (torch.full((1, 2, n), value), torch.tensor([value] + [0.1] * (n - 1)).expand(1, 2, n)):
        function, z = make(method, 2).float(), values.logit().requires_grad_()
        Z = function(z)
        Z.sum().backward()
        assert Z.isfinite().all()
        assert z.grad.isfinite().all()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in function.parameters())
        if value in (0.0, 1.0) and values.amin() == values.amax():
            assert Z.sigmoid().tolist()[0] == pytest.approx([value] * 2, abs=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_more_probable_instances_never_lower_the_bag(method):
    """Except by weights that depend on p: there only the function's range is promised."""
    function, p = make(method, 2, n_features=3), uniform(8, 2, 20)
    h = uniform(8, 3, 20, seed=1)
    more = p + (1 - p) * 0.3
    lower, higher = probability(function, p, features=h), probability(function, more, features=h)
    if not isinstance(function, modern.Weighted) or isinstance(function, pooling.Attention):
        assert (higher > lower).all()
    assert ((lower >= 0) & (lower <= 1)).all()
    if method.split("-")[0] not in ("noisy_and", "noisy_or", "isr"):
        assert ((lower > p.amin(2) - 1e-9) & (lower < p.amax(2) + 1e-9)).all()  # all others are means of a kind


class NoFloat64(TorchDispatchMode):
    """As on Apple's MPS: an operation that makes float64 off the CPU fails."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                assert tensor.device.type == "cpu", func
        return result


@pytest.mark.parametrize("method", METHODS)
def test_no_function_needs_float64_on_the_device(method, monkeypatch):
    """The device is ``meta``, whose tensors have a shape and a dtype, and no values to bring back."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.ones(self.shape, dtype=self.dtype))
    function, p = make(method, 2).float().to("meta"), torch.empty(1, 2, 9, device="meta")
    with NoFloat64():
        Z = function(p)
    assert (Z.device.type, Z.dtype, Z.shape) == ("meta", torch.float32, (1, 2))


def test_known_before_you_start():
    """576 instances at 0.01: the evidence that Noisy-OR and ISR sum up, and others do not."""
    p = torch.full((1, 1, 24, 24), 0.01)
    for name, P in (("noisy_or", 0.997), ("isr", 0.853), ("max", 0.01)):
        assert probability(pooling.make(name, 1), p).item() == pytest.approx(P, abs=5e-4)


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
        assert 0 <= probability(noisy_and, uniform(1, 1, 5)).item() <= 1
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
    ours, expected = (probability(make(name, 2), p) for name in (method, limit))
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)


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


# ---------------------------------------------------------------------------- gradients against many digits


def mean(values) -> mpmath.mpf:
    return mpmath.fsum(values) / len(values)


def weighted(p: list, weights: list) -> mpmath.mpf:
    return mpmath.fsum(w * own for w, own in zip(weights, p, strict=True)) / mpmath.fsum(weights)


def noisy_and(p: list, a: int = 10) -> mpmath.mpf:
    b = 1 / (1 + mpmath.exp(-mpmath.mpf(float(torch.tensor(math.log(0.1 / 0.9))))))
    low, high, middle = (1 / (1 + mpmath.exp(-a * (x - b))) for x in (0, 1, mean(p)))
    return (middle - low) / (high - low)


def quantile(p: list, q: float = 0.9) -> mpmath.mpf:
    n, odds = len(p) - 1, mpmath.exp(mpmath.mpf(float(torch.tensor(math.log(q / (1 - q))))))
    return weighted(sorted(p), [mpmath.binomial(n, k) * odds**k for k in range(n + 1)])


FORMULAS = {
    "noisy_and": noisy_and,
    "noisy_and-learn_a1": noisy_and,
    "noisy_or": lambda p: 1 - mpmath.fprod(1 - own for own in p),
    "isr": lambda p: 1 - 1 / (1 + mpmath.fsum(own / (1 - own) for own in p)),
    "generalized_mean": lambda p: mean([own**2.5 for own in p]) ** (1 / mpmath.mpf(2.5)),
    "generalized_mean-r20": lambda p: mean([own**20 for own in p]) ** (1 / mpmath.mpf(20)),
    "log_sum_exp": lambda p: mpmath.log(mean([mpmath.exp(5 * own) for own in p])) / 5,
    "max": max,
    "mean": mean,
    "top_k": max,  # a tenth of twelve instances is one
    "top_k-share0.5": lambda p: mean(sorted(p)[-len(p) // 2 :]),
    "quantile": quantile,
    "softmax": lambda p: weighted(p, [mpmath.exp(5 * own) for own in p]),
    "power": lambda p: weighted(p, p),
    "autopool": lambda p: weighted(p, [mpmath.exp(own) for own in p]),
    "attention": mean,  # at its start
    "gated_attention": mean,
}


def exact_gradient(formula, z: list[float], target: int) -> list[float]:
    """∂/∂z_j of −log P, or of −log(1 − P) for ``target`` 0, by differences of numbers with 400 digits."""
    with mpmath.workdps(400):
        step = mpmath.mpf(10) ** -40

        def loss(moved: int | None) -> mpmath.mpf:
            P = formula([1 / (1 + mpmath.exp(-(mpmath.mpf(x) + step * (j == moved)))) for j, x in enumerate(z)])
            return -mpmath.log(P if target else 1 - P)

        start = loss(None)
        return [float((loss(j) - start) / step) for j in range(len(z))]


def test_every_function_has_a_formula():
    assert {method.split("-")[0] for method in FORMULAS} == set(ALL)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("middle", [-40.0, -18.4, 0.0, 18.4, 40.0])  # p = 4e-18, 1e-8, 0.5, 1 − 1e-8, 1 − 4e-18
@pytest.mark.parametrize("method", FORMULAS)
def test_gradients_of_the_loss_are_exact_in_float32(method, middle, target):
    """A P that is rounded has a gradient up to 10⁴ times too large, and clipping makes the step that one field."""
    torch.manual_seed(0)
    name, settings = columns.parse_method(method)
    z = (middle + torch.linspace(-1, 1, 12)).requires_grad_()
    Z = pooling.make(name, 1, **settings)(z.view(1, 1, -1))
    F.binary_cross_entropy_with_logits(Z, torch.full_like(Z, target)).backward()
    expected = torch.tensor(exact_gradient(FORMULAS[method], z.tolist(), target))
    torch.testing.assert_close(z.grad, expected, rtol=1e-3, atol=max(1e-6, 1e-4 * float(expected.abs().max())))
