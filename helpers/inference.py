"""Trained networks made ready to answer fast.

What a network learns with is of no use when it answers: batch normalisation is then a factor and a constant, which the
convolution before it can take over, and half of the bits of each weight are enough. Both are done to a copy.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion

from helpers import devices

# Pixels of all crops that a CPU is given at once. What depthwise convolutions compute must stay in its cache.
_PIXELS_ON_CPU, _PIXELS_OF_DEPTHWISE_ON_CPU = 1_000_000, 250_000
_BYTES_PER_PIXEL = 1000  # of a photo in a large network, at its widest
_MOST_CROPS = 640


def number_format(device: torch.device, model: nn.Module, precision: str) -> torch.dtype:
    """Number format in which a network answers with `precision`, one of `devices.PRECISIONS`.

    As :func:`helpers.devices.number_format`, but that ``auto`` takes bfloat16 for networks with depthwise convolutions
    too, on a CPU with instructions for it: once normalisation is folded, it is twice as fast there.
    """
    if precision == "auto" and device.type == "cpu" and devices.has_bf16_instructions():
        return torch.bfloat16
    return devices.number_format(device, model, precision)


class Quick(nn.Module):
    """A copy of a network that answers fast.

    Parameters
    ----------
    network : Module
        In evaluation mode. It takes uint8 views of shape (n, 3, side, side), n more than any number, and gives a tensor
        of n rows, or several by name.
    image_size : int
        Side of the views, in pixels.
    precision : str
        One of `devices.PRECISIONS`.
    device : torch.device
    at_once : int
        Views that the device is given at once; 0: as many as suit it. On a GPU whose memory is full it is halved, and
        told.

    Notes
    -----
    In float32 the answers are those of the network up to rounding.
    """

    def __init__(
        self, network: nn.Module, image_size: int, precision: str, device: torch.device, at_once: int = 0
    ) -> None:
        super().__init__()
        self.device = device
        self.dtype = number_format(device, network, precision)
        suiting = at_once or crops_that_suit(device, network, image_size)
        self.at_once = suiting
        copied = copy.deepcopy(network).to(device).eval()
        fold(copied, torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device))
        self.network = copied.to(memory_format=torch.channels_last)
        if self.dtype != torch.float32:
            for layer in self.network.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):  # which autocast would else convert at every call
                    layer.to(self.dtype)

    @torch.inference_mode()
    def forward(self, views: Tensor) -> dict[str, Tensor]:
        """Answers by name, float32, on the device; a single one is called ``""``."""
        parts: list[dict[str, Tensor]] = []
        start = 0
        while start < len(views):
            taken = self.at_once
            try:
                parts.append(self._answer(views[start : start + taken]))
            except torch.cuda.OutOfMemoryError:
                if taken == 1:
                    raise
                self.at_once = taken // 2
                torch.cuda.empty_cache()
                print(f"the memory of the GPU is full with {taken} crops: going on with {self.at_once}", flush=True)
                continue
            start += taken
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _answer(self, views: Tensor) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            answer = self.network(views.to(self.device, non_blocking=True))
        named = answer if isinstance(answer, dict) else {"": answer}
        return {name: each.float() for name, each in named.items()}


def crops_that_suit(device: torch.device, model: nn.Module, image_size: int) -> int:
    """Views that a device is best given at once: what a CPU has the cache for, and another device the memory."""
    if device.type == "cuda":
        pixels = torch.cuda.mem_get_info(device)[0] // 2 // _BYTES_PER_PIXEL
    else:
        pixels = _PIXELS_OF_DEPTHWISE_ON_CPU if devices.is_depthwise(model) else _PIXELS_ON_CPU
    return int(min(max(pixels // image_size**2, 1), _MOST_CROPS))


def fold(network: nn.Module, example: Tensor) -> int:
    """Let convolutions do the batch normalisation that follows them, and tell how many do.

    Parameters
    ----------
    network : Module
        In evaluation mode; it is changed.
    example : Tensor
        What it is called with, to see whose output goes where. What is computed from it does not matter.

    Notes
    -----
    A normalisation is folded where what it is given is the very output of one convolution, and each of them is called
    once. The network is the same then up to rounding.
    """
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}

    def after_convolution(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        calls[layer] = calls.get(layer, 0) + 1
        made[id(output)] = layer, output  # kept, so that no other tensor gets its number

    def before_normalisation(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls[layer] = calls.get(layer, 0) + 1
        if id(given[0]) in made:
            pairs.append((made[id(given[0])][0], layer))

    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(after_convolution))
        elif type(layer) is nn.BatchNorm2d:  # others do more than that
            hooks.append(layer.register_forward_pre_hook(before_normalisation))
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    once = [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]
    for convolution, normalisation in once:
        _take_over(convolution, normalisation)
    _replace(network, {normalisation for _, normalisation in once}, nn.Identity)
    return len(once)


def _take_over(convolution: nn.Conv2d, normalisation: nn.BatchNorm2d) -> None:
    weight, bias = fusion.fuse_conv_bn_weights(
        *(convolution.weight, convolution.bias, normalisation.running_mean, normalisation.running_var),
        *(normalisation.eps, normalisation.weight, normalisation.bias),
    )
    convolution.weight, convolution.bias = weight, bias


def _replace(network: nn.Module, layers: set[nn.Module], made: Callable[[], nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in layers:
                setattr(parent, name, made())
