"""Pick the devices and the number format that suit the machine."""

import os
from contextlib import AbstractContextManager

import torch
from torch import nn

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
KINDS = ("auto", "cpu", "cuda", "mps")


def best_device() -> torch.device:
    """A CUDA GPU if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def named(name: str) -> torch.device:
    """The device of a kind, ``cpu``, ``cuda`` or ``mps``, or the best one for ``auto``.

    Raises
    ------
    ValueError
        If there is no such kind of device, or none of it here.

    Examples
    --------
    >>> named("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return best_device()
    if name not in KINDS:
        raise ValueError(f"no kind of device {name!r}: choose one of {', '.join(KINDS)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[name]:
        raise ValueError(f"this machine has no device {name!r} that PyTorch could use: choose cpu, or auto")
    return torch.device(name)


def count(device: torch.device) -> int:
    """How many processes can train on devices of this kind here: one on each GPU, or on each core."""
    if device.type == "cuda":
        return torch.cuda.device_count()
    return (os.cpu_count() or 1) if device.type == "cpu" else 1


def described(device: torch.device) -> str:
    """The device in words, for logs and manifests."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def number_format(device: torch.device, model: nn.Module, precision: str) -> torch.dtype:
    """Number format in which `model` computes with `precision`, one of :data:`PRECISIONS`.

    ``auto`` takes the half precision that the device gains by: on a GPU bfloat16, or float16 where it has none; on a
    CPU with instructions for it (AMX, AVX-512 BF16) bfloat16, except for networks with depthwise convolutions, which
    run slower in it there.
    """
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    gains = device.type == "cpu" and has_bf16_instructions() and not is_depthwise(model)
    return torch.bfloat16 if gains else torch.float32


def autocast(device: torch.device, model: nn.Module, precision: str) -> AbstractContextManager[None]:
    """Context in which `model` computes in its :func:`number_format`."""
    dtype = number_format(device, model, precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def is_depthwise(model: nn.Module) -> bool:
    """Whether a network has depthwise convolutions, which memory limits more than arithmetic."""
    return any(isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 3 for layer in model.modules())


def has_bf16_instructions() -> bool:
    """Whether this CPU computes in bfloat16 itself."""
    known = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # the second not in every release
    return any(getattr(torch.cpu, name, bool)() for name in known)
