"""Trained networks made ready to answer fast.

What a network learns with is of no use when it answers: batch normalisation is then a factor and a constant, which the
convolution before it can take over, as it can the ReLU that follows; and half of the bits of each weight are enough.
All of it is done to a copy.
"""

import copy
import functools

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion

from helpers import devices

# Pixels of all crops that a CPU is given at once. What depthwise convolutions compute must stay in its cache.
_PIXELS_ON_CPU, _PIXELS_OF_DEPTHWISE_ON_CPU = 1_000_000, 250_000
_BYTES_PER_PIXEL = 1000  # of a photo in a large network, at its widest
_MOST_CROPS = 640
# What oneDNN calls them, with their limits.
_CLAMPS: dict[type[nn.Module], tuple[str, list[float]]] = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}


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
        In evaluation mode. It takes uint8 views of shape (n, channels, side, side), n any number, and gives a tensor
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

    runtime = "PyTorch"

    def __init__(
        self, network: nn.Module, image_size: int, precision: str, device: torch.device, at_once: int = 0
    ) -> None:
        super().__init__()
        self.device = device
        self.dtype = number_format(device, network, precision)
        suiting = at_once or crops_that_suit(device, network, image_size)
        self.at_once = suiting
        copied = copy.deepcopy(network).to(device).eval()
        shape = (1, getattr(network, "channels", 3), image_size, image_size)
        example = torch.zeros(shape, dtype=torch.uint8, device=device)
        fold(copied, example)
        clamp_at_once(copied, example)
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
    pairs = _followed(network, example, (nn.BatchNorm2d,))
    for convolution, layer in pairs:
        fused = fusion.fuse_conv_bn_eval(convolution, layer)  # type: ignore[type-var, arg-type]
        convolution.weight, convolution.bias = fused.weight, fused.bias
    _leave_out(network, [normalisation for _, normalisation in pairs])
    return len(pairs)


def clamp_at_once(network: nn.Module, example: Tensor) -> int:
    """Let convolutions on a CPU do the ReLU that follows them while their outputs are still in its cache.

    Parameters, and what it returns, are those of :func:`fold`. Nothing is done where this build of PyTorch has no
    oneDNN, whose operator that is.
    """
    if example.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return 0
    pairs = [
        (convolution, activation)
        for convolution, activation in _followed(network, example, tuple(_CLAMPS))
        if convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    ]
    for convolution, activation in pairs:
        convolve = functools.partial(_convolved_and_clamped, convolution, *_CLAMPS[type(activation)])
        convolution._conv_forward = convolve  # type: ignore[method-assign]  # what its `forward` calls, padded or not
    _leave_out(network, [activation for _, activation in pairs])
    return len(pairs)


def _convolved_and_clamped(
    layer: nn.Conv2d, clamp: str, limits: list[float], given: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        *(given.to(weight.dtype), weight, bias, layer.padding, layer.stride, layer.dilation, layer.groups),
        *(clamp, limits, ""),
    )


def _followed(
    network: nn.Module, example: Tensor, kinds: tuple[type[nn.Module], ...]
) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions, each with the layer of the kinds that takes its very output; both are called once."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []
    calls: dict[nn.Module, int] = {}

    def after_convolution(layer: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        calls[layer] = calls.get(layer, 0) + 1
        made[id(output)] = layer, output  # kept, so that no other tensor gets its number

    def before(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls[layer] = calls.get(layer, 0) + 1
        if id(given[0]) in made:
            pairs.append((made[id(given[0])][0], layer))

    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(after_convolution))
        elif type(layer) in kinds:  # what is derived from them does more
            hooks.append(layer.register_forward_pre_hook(before))
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _leave_out(network: nn.Module, layers: list[nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if any(child is layer for layer in layers):
                setattr(parent, name, nn.Identity())
