"""Maps, against guided back-propagation written out by hand; masks and their scores."""

import numpy as np
import pytest
import torch
from torch import nn

from milcnn.localise.maps import jacobian_map
from milcnn.localise.masks import otsu_mask
from milcnn.localise.scores import pixel_average_precision


@pytest.fixture(scope="module")
def fields():
    return torch.rand(2, 2, 96, 96, generator=torch.Generator().manual_seed(1)) * 8


class GuidedReLU(torch.autograd.Function):
    """The rule of Springenberg 2014: pass a derivative where both it and the input are positive."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x > 0) * (grad > 0)


def jacobian_by_hand(model, fields, index):
    pixels = ((fields - model.mean) / model.std).requires_grad_()
    x = pixels
    for layer in model.trunk:
        x = GuidedReLU.apply(x) if isinstance(layer, nn.ReLU) else layer(x)
    z = model.scores(x)
    p = z.sigmoid()
    start = torch.zeros_like(z)
    start[:, index] = (model.pooling(z).sigmoid()[:, index, None, None] * p[:, index]).detach()
    (gradient,) = torch.autograd.grad((z * start).sum(), pixels)
    return gradient.sum(1).clamp(min=0)


def test_jacobian_map_is_guided_back_propagation_by_hand(model, fields):
    expected = jacobian_by_hand(model, fields, 1)
    assert expected.max() > 0
    torch.testing.assert_close(jacobian_map(model, fields, 1), expected, rtol=1e-4, atol=1e-8)


def test_average_precision_by_hand():
    truth = np.array([[1, 0], [1, 0]], bool)
    # ranked: true, false, true, false → precision 1 at recall ½, 2/3 at recall 1
    assert pixel_average_precision(truth, np.array([[4, 3], [2, 1]])) == pytest.approx((1 + 2 / 3) / 2)
    assert pixel_average_precision(truth, np.zeros((2, 2))) == pytest.approx(0.5)
    assert np.isnan(pixel_average_precision(np.zeros((2, 2), bool), np.ones((2, 2))))


def test_otsu_splits_two_levels_and_a_constant_map_has_no_mask():
    levels = np.array([[0.1, 0.12, 0.9], [0.11, 0.88, 0.1]])
    assert otsu_mask(levels).tolist() == [[False, False, True], [False, True, False]]
    assert not otsu_mask(np.full((3, 3), 0.7)).any()
