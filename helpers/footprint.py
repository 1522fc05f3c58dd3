"""What a network takes: memory, time to answer, and the energy of its training."""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors
import torch

from helpers import devices, features
from helpers.predict import Network, Run

BOARD_WATTS = {
    "H100 80GB HBM3": 700,  # SXM
    "H100 PCIe": 350,
    "A100-SXM4-40GB": 400,
    "A100-SXM4-80GB": 400,
    "A100-PCIE-40GB": 250,
    "A100 80GB PCIe": 300,
    "Tesla V100-SXM2-16GB": 300,
    "Tesla V100-SXM2-32GB": 300,
    "Tesla T4": 70,
    "L4": 72,
    "A10": 150,
    "GeForce RTX 4090": 450,
    "GeForce RTX 3090": 350,
}
"""Greatest power of a board in watts, as its data sheet has it, by the whole name that PyTorch gives the device but
for NVIDIA in front: a Ti, a laptop's or an A10G, of nearly the same name, is another board."""
WATTS_PER_CORE = 15
"""Of a processor: an assumption, about what a core of a server has of its package's power."""

_NO_PARAMETERS = ("running_mean", "running_var")  # what batch normalisation has counted
_FLOATS = ("F64", "F32", "F16", "BF16")


class Size(NamedTuple):
    """How large a model is."""

    parameters: int
    file_bytes: int


class Power(NamedTuple):
    """What the devices of a run may have drawn."""

    watts: float | None
    """Of all of them together; None where nothing is known."""
    basis: str
    """Where the number is from, or why there is none."""


@dataclass(frozen=True)
class Speed:
    """How fast a network answers, measured."""

    photos_per_second: float
    device: str
    number_format: str
    photos: int
    """That were answered at once, five crops each."""
    repeats: int

    def __str__(self) -> str:
        return (
            f"{self.photos_per_second:,.1f} photos/s, the network alone on five crops each ({self.device}, "
            f"{self.number_format}; {self.photos} photos at once, median of {self.repeats} times)"
        )


def size(file: Path) -> Size:
    """Size of the model in a ``.safetensors`` file, of which only the head is read.

    Parameters are the numbers that were learned, or could have been: what batch normalisation counts is none.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save_file({"weight": torch.zeros(3, 4), "bias": torch.zeros(3), "norm.running_mean": torch.zeros(3)}, file)
    >>> size(file).parameters
    15
    """
    parameters = 0
    with safetensors.safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118, it is no mapping
            kept = opened.get_slice(name)
            if kept.get_dtype() in _FLOATS and not name.endswith(_NO_PARAMETERS):
                parameters += torch.Size(kept.get_shape()).numel()
    return Size(parameters, file.stat().st_size)


def power(device: str, processes: int) -> Power:
    """Power of the devices that a run was trained on.

    Parameters
    ----------
    device : str
        As :func:`helpers.devices.described` names it.
    processes : int
        Of the training, one on each device; on a CPU they share its cores.

    Examples
    --------
    >>> power("NVIDIA H100 80GB HBM3", 8).watts, power("cpu, 4 threads", 1).watts
    (5600, 60)
    >>> power("NVIDIA A10G", 1)
    Power(watts=None, basis="the power of a device 'NVIDIA A10G' is not known here")
    """
    threads = re.fullmatch(r"cpu, (\d+) threads?", device)
    if threads:
        cores = int(threads[1]) * processes
        return Power(WATTS_PER_CORE * cores, f"{WATTS_PER_CORE} W for each of {cores} cores, which is an assumption")
    watts = BOARD_WATTS.get(device.removeprefix("NVIDIA "))
    if watts is None:
        return Power(None, f"the power of a device {device!r} is not known here")
    return Power(watts * processes, f"{watts} W for each of {processes} boards, the most that its data sheet allows")


def kwh(seconds: float, watts: float) -> float:
    """Energy in kilowatt-hours.

    Examples
    --------
    >>> kwh(7200, 500)
    1.0
    """
    return seconds / 3600 * watts / 1000


@torch.inference_mode()
def prediction_speed(network: Network, photos: int = 4, repeats: int = 5) -> Speed:
    """Measure how fast a network answers on its device, without what reading and decoding of photos takes.

    Parameters
    ----------
    network : Network
        From :func:`helpers.predict.load`.
    photos : int
        To answer at once: their five crops of random pixels.
    repeats : int
        Times to measure, after one that does not count. The median counts.
    """
    shape = (photos * features.VIEWS["five"], network.model.channels, network.image_size, network.image_size)
    generator = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(network.device)
    taken = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        with devices.autocast(network.device, network.model, network.precision):
            answered = network.model(crops)
        # The answers are there only when they have come to the CPU: a GPU is given work and not waited for.
        _ = [scores.cpu() for scores in answered.values()]
        taken.append(time.perf_counter() - started)
    number_format = devices.number_format(network.device, network.model, network.precision)
    rate = photos / max(statistics.median(taken[1:]), 1e-9)
    return Speed(rate, devices.described(network.device), str(number_format).removeprefix("torch."), photos, repeats)


def prediction_speeds(run_folders: Mapping[str, Sequence[Path]], runs: Mapping[str, Run]) -> dict[str, Speed]:
    """Measure :func:`prediction_speed` of each network.

    Parameters
    ----------
    run_folders : mapping of str to sequence of Path
        From :func:`helpers.notebooks.require_runs`.
    runs : mapping of str to Run
        What :func:`helpers.predict.load` gave for them.

    Returns
    -------
    dict of str to Speed
        By the name of the network's folder.
    """
    networks = {
        folder.name: network
        for slot, folders in run_folders.items()
        for folder, network in zip(folders, runs[slot].networks, strict=True)
    }
    return {name: prediction_speed(network) for name, network in networks.items()}
