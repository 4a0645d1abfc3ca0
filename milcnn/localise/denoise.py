"""Denoise a map: the most probable mask under a Markov random field on the pixel grid.

A mask x, 0 or 1 at each pixel i, has the energy

    E(x) = Σ_i −log p_i(x_i) + Σ_(i,j) w_ij · [x_i ≠ x_j],    w_ij = β · exp(−|I_i − I_j|² / (2 σ²))

with p_i(1) = p_i the map and p_i(0) = 1 − p_i, over the pairs (i, j) of 4-neighbours. The second term is the
contrast-sensitive Potts model of Boykov and Jolly 2001: the border of a mask costs little at an edge of the image I.
Loopy belief propagation (min-sum) minimises E, as in Kraus 2016. Its settings are not published; these are our choice.
With two labels a message is one number,

    m_ij = clip(ρ δ_i − m_ji, −w_ij, w_ij),    δ_i = log p_i / (1 − p_i) + Σ_k m_ki,

and pixel i belongs to the mask where δ_i > 0. ρ = 1 is Pearl's rule. ρ = 1/2 is its tree-reweighted form (Wainwright,
Jaakkola and Willsky 2005) for the rows and the columns of the grid: it does not overcount loops, and comes nearer to
the optimum. The best mask of all iterations is kept, so its energy is never above that of the thresholded map.
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from milcnn.settings import Settings

RHO = 0.5  # ρ
SURE = 1e-6  # p is clipped to [SURE, 1 − SURE]: −log 0 has no finite energy
LOOK = 5  # iterations between two looks at the mask
STILL = 1e-5  # nats; messages that change less have converged


class DenoiseSettings(Settings):
    """The strength of the neighbourhood, and how long messages are passed."""

    smoothness: float = Field(default=2.0, ge=0)  # β in nats: the cost of a border between equal pixels
    contrast: float = Field(default=1.0, gt=0)  # σ in root mean squares of the field's differences between neighbours
    damping: float = Field(default=0.1, ge=0, lt=1)  # share of the old message in the new one, against oscillation
    iterations: int = Field(default=60, ge=1)  # at the most


class Denoised(NamedTuple):
    """What ``denoise`` gives for B fields; energies in nats."""

    mask: Tensor  # (B, H, W) bool
    energy_before: Tensor  # (B,), of the map above one half
    energy_after: Tensor  # (B,), of ``mask``, never above ``energy_before``


class Grid(NamedTuple):
    """The terms of the energy: θ = log p / (1 − p), and the weights of the pairs."""

    theta: Tensor  # (B, H, W)
    across: Tensor  # (B, H, W − 1), of a pixel and its right neighbour
    down: Tensor  # (B, H − 1, W), of a pixel and the one below


@torch.inference_mode()
def denoise(maps: Tensor, fields: Tensor, settings: DenoiseSettings | None = None) -> Denoised:
    """The mask of low energy of each of ``maps`` (B, H, W) in [0, 1], given ``fields`` (B, C, H, W) of any dtype.

    A map of 0, as on a blank field, has an empty mask. Raises ValueError where a map is not within [0, 1].
    """
    settings = settings or DenoiseSettings()
    if not ((maps >= 0) & (maps <= 1)).all():
        raise ValueError("denoise: a map has values outside of [0, 1]; call masks.as_probability first.")
    probability = maps.float().clamp(SURE, 1 - SURE)
    grid = Grid(probability.logit(), *pair_weights(fields.to(maps.device), settings))
    constant = -torch.log1p(-probability).sum(dim=(1, 2), dtype=torch.float64)  # the energy of an empty mask
    mask, before, after = min_sum(grid, settings)
    return Denoised(mask, constant + before, constant + after)


def pair_weights(fields: Tensor, settings: DenoiseSettings) -> tuple[Tensor, Tensor]:
    """w of each pair, (B, H, W − 1) and (B, H − 1, W), from ``fields`` (B, C, H, W).

    Each channel is divided by its standard deviation in the field, and σ² is measured in the mean of
    |I_i − I_j|² of the field, as in GrabCut (Rother 2004): neither gain nor offset of a channel matters.
    """
    values = fields.float()
    spread = values.std(dim=(2, 3), keepdim=True)
    values = values / torch.where(spread > 0, spread, 1)  # a constant channel has no edges
    across, down = (values.diff(dim=axis).square().sum(dim=1) for axis in (3, 2))
    total = across.sum(dim=(1, 2)) + down.sum(dim=(1, 2))
    scale = 2 * settings.contrast**2 * total / (across[0].numel() + down[0].numel())
    scale = torch.where(scale > 0, scale, 1)[:, None, None]
    return settings.smoothness * torch.exp(-across / scale), settings.smoothness * torch.exp(-down / scale)


def min_sum(grid: Grid, settings: DenoiseSettings) -> Denoised:
    """The result of ``denoise``, with energies minus that of the empty mask; stops when messages have converged."""
    messages = [torch.zeros_like(weight) for weight in (grid.across, grid.across, grid.down, grid.down)]
    best = grid.theta > 0
    before = least = energy(grid, best)
    for iteration in range(1, settings.iterations + 1):
        old, messages = messages, pass_messages(grid, messages, settings.damping)
        if iteration % LOOK and iteration < settings.iterations:
            continue
        mask = belief(grid, messages) > 0
        new = energy(grid, mask)
        best = torch.where((new < least)[:, None, None], mask, best)
        least = torch.minimum(new, least)
        if all(torch.allclose(*pair, rtol=0, atol=STILL) for pair in zip(messages, old, strict=True)):
            break
    return Denoised(best, before, least)


def belief(grid: Grid, messages: list[Tensor]) -> Tensor:
    """δ (B, H, W): θ and the messages that a pixel gets, which are those to the right, left, below and above it."""
    right, left, below, above = messages
    total = grid.theta.clone()
    total[..., 1:] += right
    total[..., :-1] += left
    total[:, 1:] += below
    total[:, :-1] += above
    return total


def pass_messages(grid: Grid, messages: list[Tensor], damping: float) -> list[Tensor]:
    """All messages of the next iteration from those of the last, every pixel at once."""
    right, left, below, above = messages
    delta = RHO * belief(grid, messages)
    # a message leaves out what its receiver has sent before
    sent = (delta[..., :-1] - left, delta[..., 1:] - right, delta[:, :-1] - above, delta[:, 1:] - below)
    weights = (grid.across, grid.across, grid.down, grid.down)
    fresh = [torch.clamp(value, -weight, weight) for value, weight in zip(sent, weights, strict=True)]
    return [new.lerp_(old, damping) for new, old in zip(fresh, messages, strict=True)]


def energy(grid: Grid, mask: Tensor) -> Tensor:
    """E of ``mask`` (B, H, W) bool less that of the empty mask, (B,) float64: −Σ θ x + Σ w [x ≠ x']."""
    data = -(grid.theta * mask).sum(dim=(1, 2), dtype=torch.float64)
    across = (grid.across * (mask[..., 1:] != mask[..., :-1])).sum(dim=(1, 2), dtype=torch.float64)
    down = (grid.down * (mask[:, 1:] != mask[:, :-1])).sum(dim=(1, 2), dtype=torch.float64)
    return data + across + down
