"""Maps: how much each pixel of a field supports a class.

Every map is called as ``(model, fields, class_index)``: fields (B, channels, H, W) in the dtype of the images, and one
class for all or one a field, (B,). It gives (B, H, W) float32, ≥ 0, in absolute units: it is not divided by the largest
value of a field, so a field without the class stays dark.

Maps that go back through the network start from one signal: P_i · p_ij at the scores z_ij of class i, 0 elsewhere
(Kraus 2016, section 3.5; at z, since a saturated sigmoid would stop it at p). A field without an instance raises
ValueError, or with ``pad`` is continued by reflection.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn

from milcnn.localise.geometry import axis_centres, enlarged, instance_centres, padded_to_instance, stride_of
from milcnn.network.model import MILCNN, Output

Mapping = Callable[[MILCNN, Tensor, int | Tensor], Tensor]
EVIDENCE_STRIDE = 8  # px: in both trunks the finest features that separate kinds of cells


def class_selector(fields: Tensor, class_index: int | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pair of indices (B,), (B,) that takes class i of each field out of a (B, C, …) tensor."""
    return torch.arange(len(fields), device=device), torch.as_tensor(class_index, device=device).expand(len(fields))


@torch.inference_mode()
def class_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """The instance probabilities p_ij of class i, linear between the centres of the instances, in [0, 1]."""
    fields, inside = padded_to_instance(model, fields, pad)
    output = model.eval()(fields.to(model.mean.device))
    chosen = output.instances[class_selector(fields, class_index, model.mean.device)]
    size = fields.shape[-2:]
    return enlarged(chosen, *instance_centres(model, size), size)[:, *inside]


@torch.inference_mode()
def all_class_maps(model: MILCNN, fields: Tensor) -> Tensor:
    """``class_map`` of every class in one pass, (B, classes, H, W)."""
    fields, _ = padded_to_instance(model, fields)
    instances = model.eval()(fields.to(model.mean.device)).instances
    size = fields.shape[-2:]
    return enlarged(instances.flatten(0, 1), *instance_centres(model, size), size).unflatten(0, instances.shape[:2])


def start_signal(output: Output, chosen: tuple[Tensor, Tensor]) -> Tensor:
    """P_i · p_ij at the instances of class i, 0 elsewhere, (B, C, h, w); a constant for autograd."""
    start = torch.zeros_like(output.scores)
    start[chosen] = (output.bags[chosen][:, None, None] * output.instances[chosen]).detach()
    return start


def jacobian_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """Guided back-propagation of class i to the pixels (Kraus 2016, section 3.5; Springenberg 2014).

    Each ReLU passes only positive derivatives back. The derivative by the standardised pixels is summed over channels;
    negative sums are set to 0.
    """
    fields, inside = padded_to_instance(model, fields, pad)
    with guided(model):
        _, gradient = features_and_gradient(model, fields, class_index, depth=0)
    return (gradient * model.std).sum(dim=1).clamp(min=0)[:, *inside]  # by the standardised pixels


@contextmanager
def guided(model: nn.Module) -> Iterator[None]:
    """Every ReLU of ``model`` passes only positive derivatives back: they are clipped at its output."""

    def rectify(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        made.register_hook(lambda derivative: derivative.clamp(min=0))

    hooks = [module.register_forward_hook(rectify) for module in model.modules() if isinstance(module, nn.ReLU)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def layer_cam(
    model: MILCNN, fields: Tensor, class_index: int | Tensor, *, stride: int = EVIDENCE_STRIDE, pad: bool = False
) -> Tensor:
    """LayerCAM of the last features A_k of ``stride`` (Jiang 2021): ReLU(Σ_k ReLU(∂/∂A_kj) · A_kj) / stride².

    One value stands for stride² pixels. Where max pooling ends a stride, A_k are the features before the ReLU that
    follows. Negative features have no gradient, so the map is the same. Raises ValueError for a stride that the trunk
    does not have.
    """
    fields, inside = padded_to_instance(model, fields, pad)
    depth = depth_of(model.trunk, stride)
    features, gradient = features_and_gradient(model, fields, class_index, depth)
    density = (gradient.clamp(min=0) * features).sum(dim=1).clamp(min=0) / stride**2
    ys, xs = (axis_centres(model.trunk[:depth], length) for length in fields.shape[-2:])
    return enlarged(density, ys, xs, fields.shape[-2:])[:, *inside]


def depth_of(trunk: nn.Sequential, stride: int) -> int:
    """The number of parts of ``trunk`` after which its features have ``stride`` for the last time."""
    strides = list(accumulate((stride_of(part) for part in trunk), mul))
    if stride not in strides:
        choices = ", ".join(map(str, sorted(set(strides))))
        raise ValueError(f"stride: the trunk has no features of stride {stride}; use one of {choices}.")
    return len(strides) - strides[::-1].index(stride)


def features_and_gradient(
    model: MILCNN, fields: Tensor, class_index: int | Tensor, depth: int
) -> tuple[Tensor, Tensor]:
    """Features (B, K, h, w) after ``depth`` parts of the trunk (0: the pixels), and the derivative of Σ start · z."""
    model.eval()
    pixels = fields.to(model.mean.device).float().detach().requires_grad_()  # for a model with frozen weights
    kept = [pixels]
    hooks = [part.register_forward_hook(lambda part, x, y: kept.append(y)) for part in list(model.trunk)[:depth][-1:]]
    try:
        with torch.enable_grad():
            output = model(pixels)
            start = start_signal(output, class_selector(pixels, class_index, pixels.device))
            (gradient,) = torch.autograd.grad(output.scores, kept[-1], start)
    finally:
        for hook in hooks:
            hook.remove()
    return kept[-1].detach(), gradient
