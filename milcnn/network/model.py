"""The MIL-CNN of Kraus 2016: a convolutional trunk, class maps, MIL pooling, a class layer.

    avgpool 3/2 · conv3-32 · conv3-64 · maxpool 3/2 · conv5-64 · maxpool 3/2 · conv3-128 · maxpool 3/2
    · conv3-128 · maxpool 3/2 · conv1-1000 · conv1-C → z · σ → p · pooling → P · linear C→C → y

Widths are the paper's Fig. 1; kernel sizes, strides and dropout follow a PyTorch re-implementation.
The modern alternative to this trunk is MONAI's ResNet-18, of the same stride.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, cast

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from milcnn import columns
from milcnn.files import written_whole
from milcnn.network import pooling
from milcnn.network.pooling.base import instance_mean
from milcnn.settings import Settings

# Denormals appear as gradients vanish, and slow a CPU tenfold. This reaches only the threads that torch starts later:
# so here, when a process imports its first network, before it computes.
torch.set_flush_denormal(True)
HEAD_START = 4.0  # diagonal of the class layer at the start, see MILNetwork
Net = TypeVar("Net", bound="MILNetwork")


class ModelSettings(Settings):
    """The parts of a MIL-CNN, kept in its weight file.

    ``padding`` valid is the paper's: a 512 px field has 12 × 12 instances. ``same`` pads each convolution with zeros:
    small fields then have instances up to their border. The residual trunk always pads, has no dropout inside, and
    needs a normalisation.
    """

    study: str
    channels: list[str] = Field(min_length=1)
    classes: list[str] = Field(min_length=2)
    pooling: str = "noisy_and"
    multilabel: bool = False  # true: any number of labels a field, and a sigmoid for each class of y
    trunk: Literal["paper", "residual"] = "paper"
    width: float = Field(1.0, gt=0, le=4)  # 1 is the paper's 32-64-64-128-128-1000
    normalisation: Literal["none", "batch", "group"] = "none"
    padding: Literal["valid", "same"] = "valid"
    dropout: float = Field(0.2, ge=0, lt=1)  # after each max pooling
    dropout_dense: float = Field(0.5, ge=0, lt=1)  # after the 1000-wide layer

    @model_validator(mode="after")
    def normalised(self) -> "ModelSettings":
        if self.trunk == "residual" and self.normalisation == "none":
            raise ValueError("trunk 'residual' needs normalisation 'batch' or 'group'")
        return self


class Output(NamedTuple):
    """What a network returns for a batch of B fields and C classes."""

    scores: Tensor  # z (B, C, h, w), class maps before the sigmoid
    instances: Tensor  # p (B, C, h, w), in [0, 1]
    bag_scores: Tensor  # Z (B, C), before the sigmoid
    bags: Tensor  # P (B, C), in [0, 1]
    logits: Tensor  # y (B, C), before the softmax, or the sigmoid of a multi-label study
    profiles: Tensor  # (B, D), mean over the instances of the features before the scores


class MILNetwork(nn.Module):
    """Scores, pooling and class layer after a trunk of instance features: the MIL-CNN, or MIL on measured cells.

    A zero score bias makes Noisy-AND start at p̄ = 0.5, far above b, where its slope is flat. With a default class layer
    it then learns slowly or not at all. So p starts at σ(start_bias) of the pooling, and y_i at a multiple of P_i.
    """

    def __init__(self, trunk: nn.Sequential, scores: nn.Conv2d | nn.Linear, function: pooling.Pooling, n_classes: int):
        super().__init__()
        self.trunk, self.scores, self.pooling, self.head = trunk, scores, function, nn.Linear(n_classes, n_classes)
        with torch.no_grad():
            cast(Tensor, scores.bias).fill_(function.start_bias)
            self.head.weight.copy_(HEAD_START * torch.eye(n_classes))
            self.head.bias.zero_()

    def averaged(self, inputs: Tensor) -> Tensor:
        """``inputs`` after the first part of the network, if that learns nothing: training then computes it once."""
        return inputs

    def forward(self, inputs: Tensor, mask: Tensor | None = None, *, averaged: bool = False) -> Output:
        """``averaged`` says that ``inputs`` come from the method of this name."""
        raise NotImplementedError

    def pooled(self, features: Tensor, scores: Tensor, mask: Tensor | None = None) -> Output:
        """Output for ``features`` (B, D, h, w) and z (B, C, h, w), or (B, D, N) and (B, C, N)."""
        with torch.autocast(features.device.type, enabled=False):  # long sums: never in bf16
            features, scores = features.float(), scores.float()
            instances = scores.sigmoid()
            bag_scores = self.pooling(scores, mask, features)
            bags = bag_scores.sigmoid()
            logits = self.head(bags)
            counts = features.new_ones(1, 1, features[0, 0].numel()) if mask is None else mask.flatten(1).unsqueeze(1)
            profiles = instance_mean(features.flatten(2), counts)
        return Output(scores, instances, bag_scores, bags, logits, profiles)


class MILCNN(MILNetwork):
    """``forward`` takes fields (B, channels, H, W) in any dtype and returns ``Output``.

    The optional ``mask`` (B, h, w) bool is true where an instance counts. ``mean`` and ``std`` are those of each
    channel over the training fields, in the unit of the pixels. They are saved with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ModelSettings, mean: Sequence[float] = (), std: Sequence[float] = ()):
        n_channels, n_classes = len(settings.channels), len(settings.classes)
        if {len(mean), len(std)} - {0, n_channels}:
            raise ValueError(f"mean, std: {len(mean)} and {len(std)} values for {n_channels} channels.")
        name, pooling_settings = columns.parse_method(settings.pooling)
        layers, n_features = (trunk if settings.trunk == "paper" else residual_trunk)(settings)
        scores = nn.Conv2d(n_features, n_classes, 1)
        super().__init__(layers, scores, pooling.make(name, n_classes, n_features, **pooling_settings), n_classes)
        self.settings = settings
        self.register_buffer("mean", torch.tensor(mean or [0.0] * n_channels).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std or [1.0] * n_channels).view(-1, 1, 1))
        for layer in layers.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.xavier_normal_(scores.weight)

    def probabilities(self, logits: Tensor) -> Tensor:
        """y (B, C) as probabilities: a softmax over the classes, or a sigmoid each when multi-label."""
        return logits.sigmoid() if self.settings.multilabel else logits.softmax(dim=1)

    def forward(self, fields: Tensor, mask: Tensor | None = None, *, averaged: bool = False) -> Output:
        features = self.features(fields, averaged=averaged)
        return self.pooled(features, self.scores(features), mask)

    def averaged(self, fields: Tensor) -> Tensor:
        """The average pooling at the start of the paper's trunk, float32; the residual trunk has none."""
        return self.trunk[0](fields)

    def features(self, fields: Tensor, *, averaged: bool = False) -> Tensor:
        """The last features of the trunk, (B, D, h, w). Raises ValueError for another number of channels.

        Pixels are standardised after the trunk's average: the result is the same, on a quarter of the pixels.
        """
        if fields.shape[1] != len(self.settings.channels):
            names = ", ".join(self.settings.channels)
            raise ValueError(f"fields: {fields.shape[1]} channels; this network was made for {names}.")
        pixels = fields if averaged else self.averaged(fields)
        standardised = (pixels.float() - self.mean) / self.std
        layout = memory_layout(fields.device, self.training, self.settings.width)
        return self.trunk[1:](standardised.contiguous(memory_format=layout))


def memory_layout(device: torch.device, training: bool, width: float) -> torch.memory_format:
    """The order in memory in which a trunk of ``width`` is fastest on ``device``.

    That is channels last, with one exception: on a CPU without AVX-512, the backward convolutions of more than half the
    paper's width take up to twice as long that way on large fields. ``benchmarks/layout.py`` has the numbers.
    """
    short_vectors = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512"
    return torch.contiguous_format if training and short_vectors and width > 0.5 else torch.channels_last


class Average(nn.AvgPool2d):
    """Average of 3 px windows, 2 px apart, of fields (B, channels, H, W) in any dtype; gives float32."""

    def forward(self, fields: Tensor) -> Tensor:
        return super().forward(fields.float())


class Dropout(nn.Dropout):
    """Dropout at a rate that is a multiple of 1/256: on a CPU a random byte an element, in a third of torch's time."""

    def forward(self, features: Tensor) -> Tensor:
        if not (self.training and self.p) or features.device.type != "cpu":
            return super().forward(features)
        least = round(256 * self.p)
        draws = torch.empty(-(-features.numel() // 8), dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
        layout = torch.empty_like(features, dtype=torch.uint8).stride()
        return features * (draws.as_strided(features.shape, layout) >= least) * (256 / (256 - least))


def trunk(settings: ModelSettings) -> tuple[nn.Sequential, int]:
    """The layers up to the last, 1000 wide at ``width`` 1, and its number of channels. The first learns nothing."""

    def wide(channels: int) -> int:
        return max(1, round(channels * settings.width))

    def conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
        padding = kernel // 2 if settings.padding == "same" else 0
        layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=settings.normalisation == "none")
        if settings.normalisation == "none":
            return [layer]
        groups = 8 if outputs % 8 == 0 else 1
        return [layer, nn.BatchNorm2d(outputs) if settings.normalisation == "batch" else nn.GroupNorm(groups, outputs)]

    def pool() -> list[nn.Module]:
        # maximum and ReLU give the same in either order; after the maximum, the ReLU has a quarter of the pixels
        return [nn.MaxPool2d(3, 2), nn.ReLU(inplace=True), Dropout(settings.dropout)]

    c1, c2, c3, c4 = wide(32), wide(64), wide(128), wide(1000)
    layers = [Average(3, 2), *conv(len(settings.channels), c1, 3), nn.ReLU(inplace=True)]
    for inputs, outputs, kernel in ((c1, c2, 3), (c2, c2, 5), (c2, c3, 3), (c3, c3, 3)):
        layers += [*conv(inputs, outputs, kernel), *pool()]
    layers += [*conv(c3, c4, 1), nn.ReLU(inplace=True), Dropout(settings.dropout_dense)]
    return nn.Sequential(*layers), c4


def residual_trunk(settings: ModelSettings) -> tuple[nn.Sequential, int]:
    """MONAI's ResNet-18 up to its last block, a dropout, and its number of channels: 512 at ``width`` 1; stride 32.

    As in ``trunk``, the first part learns nothing. Raises ImportError when MONAI is not installed.
    """
    try:
        from monai.networks.nets.resnet import ResNet
    except ImportError:
        raise ImportError("trunk 'residual' needs MONAI; run 'pip install monai', or use trunk 'paper'.") from None
    widths = [max(8, 8 * round(channels * settings.width / 8)) for channels in (64, 128, 256, 512)]
    norm = "batch" if settings.normalisation == "batch" else ("group", {"num_groups": 8})
    whole = ResNet(
        "basic", [2, 2, 2, 2], widths, spatial_dims=2, n_input_channels=len(settings.channels),
        conv1_t_stride=2, feed_forward=False, bias_downsample=False, norm=norm,
    )  # fmt: skip
    layers = [layer for name, layer in whole.named_children() if name != "avgpool"]
    return nn.Sequential(nn.Identity(), *layers, Dropout(settings.dropout_dense)), widths[-1]


def save_model(model: MILCNN, path: Path) -> None:
    """Write weights and settings to one safetensors file, completely or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(path) as temporary:
        save_file(weights, temporary, metadata={"settings": model.settings.model_dump_json()})


def load_model(path: Path, study: str | None = None, device: str | torch.device = "cpu") -> MILCNN:
    """The model in ``path``, in evaluation mode. Raises ValueError for a model of another study."""
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            settings = ModelSettings(**json.loads((file.metadata() or {})["settings"]))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, a file is no dict
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such checkpoint; train it first.") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint of milcnn ({error}).") from None
    if study is not None and settings.study != study:
        raise ValueError(f"{path}: this is a checkpoint of study '{settings.study}', not '{study}'.")
    model = MILCNN(settings)
    own, saved = ({name: tuple(t.shape) for name, t in side.items()} for side in (model.state_dict(), weights))
    if wrong := [name for name in own | saved if own.get(name) != saved.get(name)]:
        shapes = " and ".join(str(side.get(wrong[0], "none")) for side in (saved, own))
        raise ValueError(f"{path}: weights do not fit their settings: {wrong[0]} is {shapes}; train it again.")
    model.load_state_dict(weights)
    return moved(model, torch.device(device), torch.channels_last).eval()


def moved(model: Net, device: torch.device, layout: torch.memory_format) -> Net:
    """``model`` on ``device``, its weights in ``layout``."""
    return model.to(device, memory_format=layout)  # type: ignore[call-overload]  # not in torch's stubs
