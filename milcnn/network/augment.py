"""Augmentation: a random crop, turn and reflection of each field; random gain, offset and absence of each channel."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from milcnn.columns import PLATE
from milcnn.prepare.prepared import Prepared
from milcnn.roles import reference_fields


@dataclass(frozen=True)
class Jitter:
    """Random brightness: x′ = m + (x − m) exp(g n) + o s n′ for each channel of a field, n and n′ ~ N(0, 1).

    ``mean`` m and ``std`` s (C, 1, 1) of the channels over the training fields, in the unit of the pixels. Then each
    channel is set to m with probability ``dropout``, as where it is missing; one always stays.
    """

    mean: Tensor
    std: Tensor
    gain: float  # g
    offset: float  # o, in standard deviations of the channel
    dropout: float = 0

    def draws(self, n: int, generator: torch.Generator) -> Tensor:
        """n, n′ and a number in [0, 1) for each channel of ``n`` fields, (n, 3, C, 1, 1) float32."""
        normal = torch.randn(n, 2, *self.mean.shape, generator=generator)
        return torch.cat([normal, torch.rand(n, 1, *self.mean.shape, generator=generator)], dim=1)

    def __call__(self, fields: Tensor, draws: Tensor) -> Tensor:
        """``fields`` (B, C, H, W), changed by their ``draws``; float32."""
        gains, offsets, kept = draws.to(fields.device).unbind(1)
        mean, std = self.mean.to(fields.device), self.std.to(fields.device)
        fields = torch.addcmul(mean + offsets * self.offset * std, fields.float() - mean, (gains * self.gain).exp())
        missing = (kept < self.dropout) & (kept < kept.amax(dim=1, keepdim=True))
        return torch.where(missing, mean, fields)


def jitter_of(prepared: Prepared, brightness: bool, dropout: float) -> Jitter | None:
    """The jitter that fits a study: by its ``plate_spread`` if ``brightness``. None where nothing changes."""
    gain, offset = plate_spread(prepared) if brightness else (0, 0)
    mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (prepared.mean, prepared.std))
    return Jitter(mean, std, gain, offset, dropout) if gain or offset or dropout else None


def plate_spread(prepared: Prepared) -> tuple[float, float]:
    """Gain g and offset o of ``Jitter``, which vary as they are expected to vary on the next plate of a study.

    g is the standard deviation of log s_pc over the training plates p, o that of m_pc / s_c: m_pc and s_pc are mean and
    standard deviation of channel c over the ``reference_fields`` of plate p, s_c the mean of s_pc. Both are root mean
    squares over the channels, times √(1 + 1/n) for the spread of a next plate about the mean of n. 0 for one plate:
    it does not tell how plates differ.
    """
    fields = prepared.fields
    levels = [prepared.channel_levels(own) for _, own in fields[reference_fields(fields)].groupby(PLATE)]
    if len(levels) < 2:
        return 0, 0
    means, stds = np.moveaxis(np.array(levels), 1, 0)  # (plates, C) each
    spreads = (values.var(axis=0, ddof=1).mean() for values in (np.log(stds), means / stds.mean(axis=0)))
    gain, offset = (math.sqrt(spread * (1 + 1 / len(levels))) for spread in spreads)
    return gain, offset


def check_crop(crop: int, height: int, width: int) -> None:
    """Raise ValueError when a crop of ``crop`` px is larger than a field."""
    if crop > min(height, width):
        raise ValueError(f"crop: {crop} px is more than a field of {height} × {width} px.")


def augmented(fields: Tensor, draws: Tensor, crop: int, dihedral: bool) -> Tensor:
    """Each field (B, channels, H, W) cropped, turned and reflected, on its device; float32 if anything changes.

    ``draws`` (B, 4) float in [0, 1) choose y and x of the crop of ``crop`` px (0: the whole field), the turn
    and the reflection. Raises ValueError when the crop is larger than the field.
    """
    if not crop and not dihedral:
        return fields
    height, width = fields.shape[-2:]
    check_crop(crop, height, width)
    side_y, side_x = (crop, crop) if crop else (height, width)
    quarter = 1 if side_y == side_x else 2  # a batch of fields that are not square allows half turns only

    def one(field: Tensor, draw: list[float]) -> Tensor:
        y, x = int(draw[0] * (height - side_y + 1)), int(draw[1] * (width - side_x + 1))
        field = field[:, y : y + side_y, x : x + side_x].float()
        if dihedral:
            field = field.rot90(quarter * int(draw[2] * 4), (1, 2))
            field = field.flip(2) if draw[3] < 0.5 else field
        return field

    return torch.stack([one(field, draw) for field, draw in zip(fields, draws.tolist(), strict=True)])
