"""Pick the device and the number format that suit the machine."""

from contextlib import AbstractContextManager

import torch
from torch import nn

PRECISIONS = ("auto", "fp32", "bf16")


def best_device() -> torch.device:
    """A CUDA GPU if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def described(device: torch.device) -> str:
    """The device in words, for logs and manifests."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def autocast(device: torch.device, model: nn.Module, precision: str) -> AbstractContextManager[None]:
    """Context in which `model` computes with `precision`, one of :data:`PRECISIONS`.

    ``auto`` takes bfloat16 where the device gains by it: a GPU that has it, and a CPU with matrix tiles (AMX) for
    networks without depthwise convolutions, which run slower in bfloat16 there.
    """
    use = _gains_by_bf16(device, model) if precision == "auto" else precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use)


def _gains_by_bf16(device: torch.device, model: nn.Module) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    depthwise = any(isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 3 for layer in model.modules())
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported() and not depthwise
