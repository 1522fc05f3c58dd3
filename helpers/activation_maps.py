"""Class-activation maps for any architecture: what in a photo speaks for an answer of a network.

The last features that still lie somewhere in the photo are multiplied, one by one, with the gradient there of what the
network says of a class, and summed. Of a network that pools its last map and has a linear head, this is the
class-activation map of Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. For others it
is Grad-CAM (Selvaraju et al., ICCV 2017) without the mean of the gradients over the photo, which would be wrong where a
network does not pool (Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv 2011.08891, 2020). The tokens of a
vision transformer are taken in the same way, where the token that is read out attends to them for the last time.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.models import Geolocator

_MOST_EXTRA_TOKENS = 16  # that stand for no patch: of the class, of a teacher, registers


class Layer(NamedTuple):
    """A layer of a backbone whose features lie somewhere in the photo."""

    module: str
    """Its name in the backbone."""
    grid: tuple[int, int]
    """Positions from top to bottom, and from left to right."""
    extra_tokens: int | None
    """Tokens before those of the patches; None for a map."""
    channels_last: bool
    """Whether features are the last axis."""

    def by_position(self, output: Tensor) -> Tensor:
        """Its output as (n, positions, features)."""
        if self.extra_tokens is not None:
            return output[:, self.extra_tokens :]
        return output.flatten(1, 2) if self.channels_last else output.flatten(2).mT


def find_layer(model: Geolocator, image_size: int, channels: int = 3, below: str = "") -> Layer:
    """The last layer of a backbone whose features lie somewhere in a photo, and on which its answer depends.

    It is found by the shapes of what layers give, and by where a gradient arrives, with noise as a photo. So the
    patches that a vision transformer has after its last attention do not count: nothing reads them any more.

    Parameters
    ----------
    model : Geolocator
        In evaluation mode.
    image_size : int
        Side of the square views that are to be explained, in pixels.
    channels : int
        Of these.
    below : str
        Only modules of the backbone whose names begin with it are looked at, such as those of one of two branches.

    Raises
    ------
    ValueError
        If it has none with more than one position.

    Examples
    --------
    >>> find_layer(Geolocator("resnet18", {"fine": 9}, weights="none").eval(), 64)
    Layer(module='layer4', grid=(2, 2), extra_tokens=None, channels_last=False)
    """
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                outputs.pop(name, None)  # a module that is called again counts where it is called last
                outputs[name] = output

        return record

    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (1, channels, image_size, image_size), generator=generator)
    modules = {name: module for name, module in model.backbone.named_modules() if name.startswith(below)}
    handles = [module.register_forward_hook(recorder(name)) for name, module in modules.items()]
    try:
        with torch.enable_grad():
            features = model.features(noise.to(model.mean.device).float().requires_grad_())
            # A sum would have no gradient where features are normalised.
            score = (features * torch.randn(features.shape, generator=generator).to(features)).sum()
    finally:
        for handle in handles:
            handle.remove()
    for layer in reversed(_layers(outputs)):
        (gradient,) = torch.autograd.grad(score, outputs[layer.module], retain_graph=True, allow_unused=True)
        if gradient is not None and int((layer.by_position(gradient) != 0).any(dim=2).sum()) > 1:
            return layer
    raise ValueError(
        f"{model.architecture} has no features or tokens that lie somewhere in a photo of {image_size} pixels, so no "
        "map can say what in it speaks for a place: explain a run of another architecture, such as efficientnet_lite0"
    )


def _layers(outputs: Mapping[str, Tensor]) -> list[Layer]:
    """Those of which the output is one map, or the tokens of one, in the order in which they were computed."""
    found: list[Layer] = []
    grids: dict[tuple[int, int], set[int]] = {}  # with the numbers of features of the maps that have them
    lengths: set[int] = set()  # of rows of tokens
    for name, output in outputs.items():
        if output.ndim == 3:
            lengths.add(output.shape[1])
        layer = _as_map(name, output) or _as_tokens(name, output, grids)
        if layer is None:
            continue
        # What every token gives every other in attention only looks like a map.
        if layer.extra_tokens is None and layer.grid[0] in lengths:
            continue
        grids.setdefault(layer.grid, set()).add(layer.by_position(output).shape[2])
        found.append(layer)
    return found


def _as_map(name: str, output: Tensor) -> Layer | None:
    if output.ndim != 4 or len(output) != 1:  # more are windows of the photo
        return None
    for channels_last, (high, wide) in ((False, output.shape[2:]), (True, output.shape[1:3])):
        if high == wide > 1:
            return Layer(name, (high, wide), None, channels_last)
    return None


def _as_tokens(name: str, output: Tensor, grids: Mapping[tuple[int, int], set[int]]) -> Layer | None:
    """Tokens are a map that was flattened: as many positions, and as many features."""
    if output.ndim != 3 or len(output) != 1:
        return None
    extra = {
        output.shape[1] - high * wide: (high, wide)
        for (high, wide), features in grids.items()
        if output.shape[2] in features and 0 <= output.shape[1] - high * wide <= _MOST_EXTRA_TOKENS
    }
    return Layer(name, extra[min(extra)], min(extra), True) if extra else None


def evidence(model: Geolocator, layer: Layer, views: Tensor, score: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
    """How much each place of photos speaks for a score, or against it.

    Parameters
    ----------
    model : Geolocator
        In evaluation mode.
    layer : Layer
        From :func:`find_layer`.
    views : uint8 Tensor of shape (n, channels, side, side)
        On the device of the model.
    score : callable
        From the outputs of the heads, of shape (n, outputs), to a number for each photo, of shape (n,).

    Returns
    -------
    Tensor of float32, shape (n, side, side)
        The sum over the features of each times its gradient, interpolated between positions of the layer. Positive
        where it speaks for the score, negative where against it; the largest number of a photo, without its sign, is 1.

    Raises
    ------
    ValueError
        If the layer was found for views of another size.
    """
    kept: list[Tensor] = []

    def cut(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        kept[:] = [output.detach().requires_grad_()]
        torch.set_grad_enabled(True)  # from here on: what comes before needs no memory
        return kept[0].clone()  # which later layers may change

    handle = model.backbone.get_submodule(layer.module).register_forward_hook(cut)
    try:
        with torch.no_grad():
            total = score(model(views)).sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(total, kept)
    product = layer.by_position((kept[0] * gradient).detach()).sum(dim=2).float()
    if product.shape[1] != layer.grid[0] * layer.grid[1]:
        raise ValueError(
            f"photos of {views.shape[-1]} pixels have {product.shape[1]} positions in {layer.module} of "
            f"{model.architecture}, not {layer.grid[0]} x {layer.grid[1]}: find the layer again for their size"
        )
    return scaled(resized(product.unflatten(1, layer.grid), views.shape[-1]))


def resized(maps: Tensor, side: int) -> Tensor:
    """Square maps, interpolated to shape (n, side, side)."""
    return functional.interpolate(maps[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]


def shown(found: Tensor) -> Tensor:
    """Maps to look at: what speaks for the answer, from 0 to 1.

    Parameters
    ----------
    found : Tensor, shape (n, height, width)
        From :func:`evidence`. What speaks against the answer becomes 0. Nothing is made brighter: where all of a photo
        speaks against it, nothing is to be seen, and 1 is reached where nothing speaks more, for it or against it.

    Examples
    --------
    >>> shown(torch.tensor([[[-1.0, 0.5], [0.25, 0.0]]])).tolist()
    [[[0.0, 0.5], [0.25, 0.0]]]
    """
    return found.clamp_min(0)


def scaled(maps: Tensor) -> Tensor:
    """Maps of shape (n, height, width), each divided by its largest number without the sign."""
    most = maps.abs().amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(most > 0, most, 1)
