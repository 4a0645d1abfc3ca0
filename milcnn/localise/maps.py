"""Maps: how much each pixel of a field speaks for a class.

Every map is called as ``(model, fields, class_index)``: fields (B, channels, H, W) in the dtype of the
images, and one class for all or one a field, (B,). It gives (B, H, W) float32, ≥ 0, in absolute
units: nothing is divided by the largest value of a field, so a field without the class stays dark.

Maps that go back through the network start from one signal, P_i · p_ij at the scores z_ij of class i
and 0 elsewhere (Kraus 2016, section 3.5; at z, not at p, where a saturated sigmoid would stop it).
A field without an instance is refused by ValueError, or with ``pad`` continued by reflection.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor, nn

from milcnn.localise.geometry import axis_centres, enlarged, instance_centres, padded_to_instance, stride_of
from milcnn.network.model import MILCNN, Output

Mapping = Callable[[MILCNN, Tensor, int | Tensor], Tensor]
EVIDENCE_STRIDE = 8  # px: in both trunks the finest features that still know the kind of a cell


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


def pixel_gradient(model: MILCNN, fields: Tensor, class_index: int | Tensor) -> Tensor:
    """Derivative of Σ start · z with respect to the standardised pixels, (B, channels, H, W)."""
    model.eval()
    pixels = fields.to(model.mean.device).float().detach().requires_grad_()
    with torch.enable_grad():
        output = model(pixels)
        start = start_signal(output, class_selector(pixels, class_index, pixels.device))
        (gradient,) = torch.autograd.grad(output.scores, pixels, start)
    return gradient * model.std


def gradient_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """Absolute derivative with respect to the standardised pixels, summed over channels (Simonyan 2014)."""
    fields, inside = padded_to_instance(model, fields, pad)
    return pixel_gradient(model, fields, class_index).abs().sum(dim=1)[:, *inside]


def jacobian_map(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """Guided back-propagation of class i to the pixels (Kraus 2016, section 3.5; Springenberg 2014).

    Each ReLU rectifies the derivative on its way down. The derivative with respect to the standardised
    pixels is summed over channels, and what is negative (less pixel, more class) is set to 0.
    """
    fields, inside = padded_to_instance(model, fields, pad)
    with guided(model):
        gradient = pixel_gradient(model, fields, class_index)
    return gradient.sum(dim=1).clamp(min=0)[:, *inside]


@contextmanager
def guided(model: nn.Module) -> Iterator[None]:
    """Within the block every ReLU of ``model`` passes only positive derivatives back.

    They are rectified above the ReLU, at its output: then it may work in place, and no copy is made.
    """

    def rectify(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        made.register_hook(lambda derivative: derivative.clamp(min=0))

    hooks = [module.register_forward_hook(rectify) for module in model.modules() if isinstance(module, nn.ReLU)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def grad_cam(model: MILCNN, fields: Tensor, class_index: int | Tensor, *, pad: bool = False) -> Tensor:
    """Grad-CAM of the last features A_k (Selvaraju 2017): ReLU(Σ_k mean_j(∂/∂A_kj) · A_k)."""
    fields, inside = padded_to_instance(model, fields, pad)
    ((features, gradient),) = features_and_gradients(model, fields, class_index, [len(model.trunk)])
    maps = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).clamp(min=0)
    size = fields.shape[-2:]
    return enlarged(maps, *instance_centres(model, size), size)[:, *inside]


def layer_cam(
    model: MILCNN,
    fields: Tensor,
    class_index: int | Tensor,
    *,
    strides: Sequence[int] = (EVIDENCE_STRIDE,),
    pad: bool = False,
) -> Tensor:
    """LayerCAM of the last features A_k of each of ``strides`` (Jiang 2021): ReLU(Σ_k ReLU(∂/∂A_kj) · A_kj).

    The map of a stride s is divided by s², the pixels that one of its values stands for, which makes
    maps of several strides comparable; their mean is taken. (The fusion of Jiang 2021 divides by the
    largest value of each field, and would light up a field without the class.) Where a maximum ends a stride, the
    features are those before the ReLU behind it: negative ones have no gradient, so the map is the same.
    """
    fields, inside = padded_to_instance(model, fields, pad)
    depths = [depth_of(model.trunk, stride) for stride in strides]
    size = fields.shape[-2:]
    maps = []
    for depth, pair in zip(depths, features_and_gradients(model, fields, class_index, depths), strict=True):
        features, gradient = pair
        part = model.trunk[:depth]
        density = (gradient.clamp(min=0) * features).sum(dim=1).clamp(min=0) / stride_of(part) ** 2
        maps.append(enlarged(density, *(axis_centres(part, length) for length in size), size))
    return torch.stack(maps).mean(dim=0)[:, *inside]


def depth_of(trunk: nn.Sequential, stride: int) -> int:
    """The number of parts of ``trunk`` behind which its features have ``stride`` for the last time."""
    strides = list(accumulate((stride_of(part) for part in trunk), lambda one, next: one * next))
    if stride not in strides:
        raise ValueError(f"strides: {stride} is none of the trunk's, {', '.join(map(str, sorted(set(strides))))}.")
    return len(strides) - strides[::-1].index(stride)


def features_and_gradients(
    model: MILCNN, fields: Tensor, class_index: int | Tensor, depths: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """Features (B, K, h, w) behind the first ``depths`` parts of the trunk, and the derivative of Σ start · z."""
    model.eval()
    pixels = fields.to(model.mean.device).float().detach().requires_grad_()  # for a model whose weights are frozen
    kept: dict[int, Tensor] = {}
    hooks = [
        model.trunk[depth - 1].register_forward_hook(lambda part, given, made, depth=depth: kept.update({depth: made}))
        for depth in depths
    ]
    try:
        with torch.enable_grad():
            output = model(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    features = [kept[depth] for depth in depths]
    start = start_signal(output, class_selector(pixels, class_index, pixels.device))
    gradients = torch.autograd.grad(output.scores, features, start)
    return [(made.detach(), gradient) for made, gradient in zip(features, gradients, strict=True)]
