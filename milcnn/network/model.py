"""The MIL-CNN of Kraus 2016: a convolutional trunk, class maps, MIL pooling, a class layer.

    avgpool 3/2 · conv3-32 · conv3-64 · maxpool 3/2 · conv5-64 · maxpool 3/2 · conv3-128 · maxpool 3/2
    · conv3-128 · maxpool 3/2 · conv1-1000 · conv1-C → z · σ → p · pooling → P · linear C→C → y

Widths are the paper's Fig. 1; kernel sizes, strides and dropout follow a PyTorch re-implementation.
The modern alternative to this trunk is MONAI's ResNet-18, of the same stride.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

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

HEAD_START = 4.0  # diagonal of the class layer at the start, see MILCNN.initialise


class ModelSettings(Settings):
    """What a MIL-CNN is made of; kept inside its weight file.

    ``padding`` 0 is the paper's ("valid" convolutions: a 512 px field has 12 × 12 instances);
    ``same`` zero-pads each convolution, so that small fields have instances up to their border.
    The residual trunk pads always, has no dropout inside, and needs a normalisation.
    """

    study: str
    channels: list[str] = Field(min_length=1)
    classes: list[str] = Field(min_length=2)
    pooling: str = "noisy_and"
    multilabel: bool = False  # true: a field may have any number of labels, and y has a sigmoid each
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
    """What a forward pass gives for a batch of B fields and C classes."""

    scores: Tensor  # z (B, C, h, w), class maps before the sigmoid
    instances: Tensor  # p (B, C, h, w), in [0, 1]
    bags: Tensor  # P (B, C), in [0, 1]
    logits: Tensor  # y (B, C), before the softmax, or the sigmoid of a multi-label study
    profiles: Tensor  # (B, D), mean over the instances of the features that the scores are made from


class MILCNN(nn.Module):
    """``forward`` takes fields (B, channels, H, W) in any dtype and gives ``Output``.

    An optional ``mask`` (B, h, w) bool is true where an instance counts, as for empty regions.

    ``mean`` and ``std`` are those of each channel over the training fields, in the unit of the
    pixels; they belong to the weights, so a model needs nothing beside its file.
    """

    def __init__(self, settings: ModelSettings, mean: Sequence[float] = (), std: Sequence[float] = ()):
        super().__init__()
        self.settings = settings
        n_channels = len(settings.channels)
        if {len(mean), len(std)} - {0, n_channels}:
            raise ValueError(f"mean, std: {len(mean)} and {len(std)} values for {n_channels} channels.")
        self.register_buffer("mean", torch.tensor(mean or [0.0] * n_channels).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std or [1.0] * n_channels).view(-1, 1, 1))
        n_classes = len(settings.classes)
        name, pooling_settings = columns.parse_method(settings.pooling)
        self.trunk, n_features = (trunk if settings.trunk == "paper" else residual_trunk)(settings)
        self.scores = nn.Conv2d(n_features, n_classes, 1)
        self.pooling = pooling.make(name, n_classes, n_features, **pooling_settings)
        self.head = nn.Linear(n_classes, n_classes)
        self.initialise()

    def initialise(self) -> None:
        """He-normal convolutions; scores that start small; a class layer that starts as identity.

        With zero score bias Noisy-AND starts at p̄ = 0.5, far above b, where its slope is flat, and with a
        default head it learns slowly or not at all. So p starts at σ(start_bias) of the pooling, and y_i
        starts as a multiple of P_i.
        """
        for layer in self.trunk.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.xavier_normal_(self.scores.weight)
        nn.init.constant_(self.scores.bias, self.pooling.start_bias)
        with torch.no_grad():
            self.head.weight.copy_(HEAD_START * torch.eye(len(self.settings.classes)))
            self.head.bias.zero_()

    def probabilities(self, logits: Tensor) -> Tensor:
        """y (B, C) as probabilities: a softmax over the classes, or a sigmoid each when multi-label."""
        return logits.sigmoid() if self.settings.multilabel else logits.softmax(dim=1)

    def forward(self, fields: Tensor, mask: Tensor | None = None, *, averaged: bool = False) -> Output:
        features = self.features(fields, averaged=averaged)
        return self.pooled(features, self.scores(features), mask)

    def averaged(self, fields: Tensor) -> Tensor:
        """``fields`` behind the first part of the trunk: the paper's average, float32; another has none there.

        It learns nothing, so training takes it once a field and not once a step.
        """
        return self.trunk[0](fields)

    def features(self, fields: Tensor, *, averaged: bool = False) -> Tensor:
        """The last features of the trunk, (B, D, h, w). Raises ValueError for another number of channels.

        Pixels are standardised behind the trunk's first average: the same, on a quarter of them.
        ``averaged`` tells that ``fields`` are what the method of this name gives.
        """
        if fields.shape[1] != len(self.settings.channels):
            names = ", ".join(self.settings.channels)
            raise ValueError(f"fields: {fields.shape[1]} channels; this network was made for {names}.")
        pixels = fields if averaged else self.averaged(fields)
        standardised = (pixels.float() - self.mean) / self.std
        in_memory = memory_layout(fields.device, self.training, self.settings.width)
        return self.trunk[1:](standardised.contiguous(memory_format=in_memory))

    def pooled(self, features: Tensor, scores: Tensor, mask: Tensor | None = None) -> Output:
        """What follows the convolutions: ``features`` (B, D, h, w) and z (B, C, h, w) → the output."""
        with torch.autocast(features.device.type, enabled=False):  # long sums: never in bf16
            features, scores = features.float(), scores.float()
            instances = scores.sigmoid()
            bags = self.pooling(instances, mask, features)
            logits = self.head(bags)
            counts = features.new_ones(1, 1, features[0, 0].numel()) if mask is None else mask.flatten(1).unsqueeze(1)
            profiles = instance_mean(features.flatten(2), counts)
        return Output(scores, instances, bags, logits, profiles)


def memory_layout(device: torch.device, training: bool, width: float) -> torch.memory_format:
    """The order in memory in which a trunk of ``width`` is fastest on ``device``.

    Channels last, but for training more than half the paper's width on a CPU without AVX-512, whose backward
    convolutions take up to twice as long that way on large fields. Normalisation and max pooling, a third of the
    work of a narrow network, take less; ``benchmarks/layout.py`` has the numbers.
    """
    short_vectors = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512"
    return torch.contiguous_format if training and short_vectors and width > 0.5 else torch.channels_last


class Average(nn.AvgPool2d):
    """The average of windows of 3 px, 2 px apart, of fields (B, channels, H, W) in any dtype, float32."""

    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, fields: Tensor) -> Tensor:
        return super().forward(fields.float())


def trunk(settings: ModelSettings) -> tuple[nn.Sequential, int]:
    """The layers up to the 1000-wide one at ``width`` 1, and the number of its channels.

    The first does to every field the same, whatever is learnt, see ``MILCNN.averaged``.
    """

    def wide(channels: int) -> int:
        return max(1, round(channels * settings.width))

    def conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
        norm: list[nn.Module] = []
        if settings.normalisation == "batch":
            norm = [nn.BatchNorm2d(outputs)]
        elif settings.normalisation == "group":
            norm = [nn.GroupNorm(8 if outputs % 8 == 0 else 1, outputs)]
        padding = kernel // 2 if settings.padding == "same" else 0
        layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=not norm)
        return [layer, *norm]

    def pool() -> list[nn.Module]:
        # a maximum and a ReLU give the same in either order, and behind it the ReLU has a quarter to do
        return [nn.MaxPool2d(3, 2), nn.ReLU(inplace=True), nn.Dropout(settings.dropout)]

    c1, c2, c3, c4 = wide(32), wide(64), wide(128), wide(1000)
    layers = [Average(), *conv(len(settings.channels), c1, 3), nn.ReLU(inplace=True)]
    for inputs, outputs, kernel in ((c1, c2, 3), (c2, c2, 5), (c2, c3, 3), (c3, c3, 3)):
        layers += [*conv(inputs, outputs, kernel), *pool()]
    layers += [*conv(c3, c4, 1), nn.ReLU(inplace=True), nn.Dropout(settings.dropout_dense)]
    return nn.Sequential(*layers), c4


def residual_trunk(settings: ModelSettings) -> tuple[nn.Sequential, int]:
    """MONAI's ResNet-18 up to its last block and a dropout, and the number of its channels.

    Stride 32, 512 channels at ``width`` 1; as in ``trunk``, the first part learns nothing. Raises ImportError when
    MONAI is not installed.
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
    return nn.Sequential(nn.Identity(), *layers, nn.Dropout(settings.dropout_dense)), widths[-1]


def save_model(model: MILCNN, path: Path) -> None:
    """Write weights and settings as one safetensors file, whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(path) as temporary:
        save_file(weights, temporary, metadata={"settings": model.settings.model_dump_json()})


def load_model(path: Path, study: str | None = None, device: str | torch.device = "cpu") -> MILCNN:
    """The model in ``path``, in evaluation mode. Raises ValueError when it is of another study."""
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            settings = ModelSettings(**json.loads((file.metadata() or {})["settings"]))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, a file is no dict
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such checkpoint; train it first.") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint of milcnn ({error}).") from None
    if study is not None and settings.study != study:
        raise ValueError(f"{path}: is a checkpoint of study '{settings.study}', not '{study}'.")
    model = MILCNN(settings)
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := [name for name in own | found if own.get(name) != found.get(name)]:
        shapes = " and ".join(str(tuple(side[wrong[0]])) if wrong[0] in side else "none" for side in (found, own))
        raise ValueError(f"{path}: weights do not fit their settings: {wrong[0]} is {shapes}; train it again.")
    model.load_state_dict(weights)
    return model.to(device, memory_format=torch.channels_last).eval()
