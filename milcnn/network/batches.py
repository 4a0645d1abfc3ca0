"""Batches for training: which fields a step sees, and where they come from.

Every random choice depends on (seed, epoch, step) alone, never on earlier draws or on the process that
draws. So a run can be resumed exactly, and several processes share one batch.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from milcnn.columns import LABEL, LABEL_MARK, UNKNOWN
from milcnn.network.augment import Jitter
from milcnn.prepare.prepared import Prepared

CHUNK = 64  # fields prepared at once


def seed_of(*key: int) -> int:
    """A seed for torch that differs for every ``key`` of non-negative integers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def targets_of(prepared: Prepared, rows: pd.DataFrame, multilabel: bool) -> Tensor:
    """Class index of each of ``rows``, (B,) int64; in a multi-label study (B, C) float32 of 0, 1 and NaN.

    A multi-label ``Metadata_Label`` lists any number of classes, as ``NUCLEI|CYTOPLASM``; the classes that
    ``Metadata_Unknown`` lists are NaN. Raises ValueError for a name that is not a class.
    """
    if not multilabel:
        refuse_other_classes(prepared, LABEL, rows[LABEL].dropna().unique())
        return torch.from_numpy(prepared.targets(rows))
    targets = class_columns(prepared, rows, LABEL)
    if UNKNOWN in rows:
        targets[class_columns(prepared, rows, UNKNOWN) == 1] = torch.nan
    return targets


def class_columns(prepared: Prepared, rows: pd.DataFrame, column: str) -> Tensor:
    """Whether ``column`` of ``rows`` lists each class, (B, C) float32 of 0 and 1."""
    listed = rows[column].fillna("").astype(str).str.get_dummies(LABEL_MARK)
    refuse_other_classes(prepared, column, listed.columns)
    return torch.tensor(listed.reindex(columns=prepared.classes, fill_value=0).to_numpy(np.float32))


def refuse_other_classes(prepared: Prepared, column: str, names: Iterable[str]) -> None:
    if others := sorted({*names} - {*prepared.classes, ""}):
        raise ValueError(f"{prepared.folder / 'fields.csv'}: {column}: no such class: {', '.join(others)}.")


@dataclass(frozen=True)
class Plates(Dataset):
    """Row indices → raw pixels (B, channels, H, W), read from the memory-mapped plates."""

    prepared: Prepared
    rows: pd.DataFrame

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self.prepared.pixels(self.rows.iloc[indices.numpy()]))


@dataclass(frozen=True)
class FieldBatches:
    """The fields of a split: their table ``rows``, and ``targets`` on the CPU.

    ``source`` is a tensor of all inputs on ``device``, or the plates when the fields do not fit there. Batches
    from the plates go through ``first``, the part of a network that learns nothing; the tensor went through it
    already.
    """

    rows: pd.DataFrame
    targets: Tensor
    device: torch.device
    source: Tensor | Plates
    first: Callable[[Tensor], Tensor]
    jitter: Jitter | None = None  # in training

    def __len__(self) -> int:
        return len(self.targets)

    def side(self, pixels: int) -> int:
        """Length of a row of ``pixels`` raw pixels after ``first``."""
        return self.first(torch.zeros(1, 1, pixels, pixels)).shape[-1]

    def batches(self, indices: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (B, …) after ``first`` and targets, on the device, for each tensor of row indices."""
        inputs: Iterator[Tensor]
        if isinstance(source := self.source, Tensor):
            inputs = (source[batch.to(self.device)] for batch in indices)
        else:
            on_gpu = self.device.type == "cuda"
            workers = min(8, psutil.cpu_count() or 1) if on_gpu else 0  # on a CPU they would only compete
            loader = DataLoader(source, batch_size=None, sampler=indices, num_workers=workers, pin_memory=on_gpu)
            inputs = (self.first(raw.to(self.device, non_blocking=True)) for raw in loader)
        for batch, values in zip(indices, inputs, strict=True):
            yield values, self.targets[batch].to(self.device)


def open_batches(
    prepared: Prepared,
    split: str,
    multilabel: bool,
    device: torch.device,
    data: Literal["auto", "device", "stream"],
    first: Callable[[Tensor], Tensor],
) -> FieldBatches:
    """The fields of ``split``. They lie on the device if ``data`` is device, or if it is auto and they fill at most
    half of its free memory. Raises ValueError when the split has no field.
    """
    rows = prepared.of(split)
    if rows.empty:
        raise ValueError(f"{prepared.folder / 'fields.csv'}: no field in split '{split}'.")
    source: Tensor | Plates = (plates := Plates(prepared, rows))
    needed = prepared.pixels(rows.iloc[:1]).nbytes * len(rows)
    if data == "device" or (data == "auto" and needed <= free_memory(device) / 2):
        # in chunks: ``first`` may need more memory than its result
        source = torch.cat([first(plates[chunk].to(device)) for chunk in torch.arange(len(rows)).split(CHUNK)])
    return FieldBatches(rows, targets_of(prepared, rows, multilabel), device, source, first)


def free_memory(device: torch.device) -> int:
    """Bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def epoch_order(targets: Tensor, n: int, balanced: bool, generator: torch.Generator) -> Tensor:
    """Row indices of the ``n`` fields of one epoch, (n,) int64, in random order.

    ``balanced`` takes the same number from every class (± 1) and repeats a field only once its class is used up;
    with classes of equal size this is one plain pass over all fields. A multi-label field counts in each
    class that it is known to have; fields that are known to have none are one more class. Not balanced, all training
    fields are one class.
    """
    if not balanced:
        groups = [torch.arange(len(targets))]
    elif targets.ndim == 1:
        groups = [(targets == label).nonzero()[:, 0] for label in targets.unique()]
    else:
        known = targets.nan_to_num()
        members = torch.cat([known, 1 - known.amax(1, keepdim=True)], dim=1)
        groups = [column.nonzero()[:, 0] for column in members.T if column.any()]
    quota = torch.full((len(groups),), n // len(groups))
    quota[torch.randperm(len(groups), generator=generator)[: n % len(groups)]] += 1

    def draw(group: Tensor, count: int) -> Tensor:
        passes = -(-count // len(group))
        parts = [group[torch.randperm(len(group), generator=generator)] for _ in range(passes)]
        return torch.cat([*parts, group[:0]])[:count]

    chosen = torch.cat([draw(group, int(count)) for group, count in zip(groups, quota, strict=True)])
    return chosen[torch.randperm(n, generator=generator)]
