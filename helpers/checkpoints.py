"""What an unfinished run goes on from after whatever ended it.

A checkpoint is one safetensors file: weights, their moving average, the best weights so far, the state of the
optimiser, and in its metadata the step and all that is counted. Random choices are functions of seed, epoch and step,
so there is no state of random numbers to keep, of whatever process.
"""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from helpers import paths

FILES = "checkpoint-*.safetensors"
_HALVES = ".*"  # what killed processes were writing, here or in safetensors
_METADATA, _CHECKSUM = "checkpoint", "crc32"


class DamagedCheckpoint(ValueError):
    """A checkpoint that is not whole, or of something else."""


@dataclass
class Checkpoint:
    """State of a run between two steps.

    Attributes
    ----------
    settings : dict
        What the run is trained with; one with others cannot go on from here.
    progress : dict
        JSON: the step and all that is counted.
    tensors : dict of str to Tensor
        On any device.
    """

    settings: dict[str, Any]
    progress: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return int(self.progress["step"])


def write(checkpoint: Checkpoint, folder: Path, kept: int) -> bool:
    """Keep a checkpoint, and of those before it the newest, `kept` in all; none of a later step.

    Returns
    -------
    bool
        Whether it could be written. If not, say because the disk is full, the earlier ones stay, and the reason is
        printed: training goes on.
    """
    tensors = {name: each.detach().cpu().contiguous() for name, each in checkpoint.tensors.items()}
    metadata = {
        _METADATA: json.dumps({"settings": checkpoint.settings, "progress": checkpoint.progress}),
        _CHECKSUM: str(_checksum(tensors)),
    }
    file = folder / f"checkpoint-{checkpoint.step:09d}.safetensors"
    try:
        with paths.replacing(file) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata)
            _sync(temporary)
        _sync(folder)
        # Later ones are of a run that this one replaces, or damaged.
        later = [each for each in folder.glob(FILES) if each.name > file.name]
        earlier = sorted(each for each in folder.glob(FILES) if each.name <= file.name)
        for old in [*later, *earlier[:-kept], *folder.glob(_HALVES)]:
            old.unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:  # the latter is how its writer says that a disk is full
        newest = max((each.name for each in folder.glob(FILES)), default="none")
        print(
            f"no checkpoint at step {checkpoint.step:,}, because {file} cannot be written ({error}): training goes on; "
            f"make room there, else the newest checkpoint stays {newest}",
            flush=True,
        )
        return False
    return True


def newest(folder: Path) -> Checkpoint | None:
    """The newest sound checkpoint of a folder; None if it has none.

    One that is damaged is passed over, with a word.
    """
    for file in sorted(folder.glob(FILES), reverse=True):
        try:
            return read(file)
        except DamagedCheckpoint as error:
            print(f"{error}: falling back to the one before", flush=True)
    return None


def read(file: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    DamagedCheckpoint
        If it was cut off, changed, or is something else.
    """
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        kept = json.loads(metadata[_METADATA])
        sound = int(metadata[_CHECKSUM]) == _checksum(tensors)
        checkpoint = Checkpoint(kept["settings"], kept["progress"], tensors)
        checkpoint.step  # noqa: B018 - must be there
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise DamagedCheckpoint(f"{file} is damaged ({error})") from error
    if not sound:
        raise DamagedCheckpoint(f"{file} is damaged (its checksum is that of other numbers)")
    return checkpoint


def differences(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> list[str]:
    """What a checkpoint was trained with that is otherwise in `settings`.

    Examples
    --------
    >>> differences(Checkpoint({"epochs": 5, "seed": 7}, {"step": 0}), {"epochs": 9, "seed": 7})
    ['epochs was 5, is 9']
    """
    kept, now = checkpoint.settings, json.loads(json.dumps(dict(settings)))
    names = [*now, *(name for name in kept if name not in now)]
    return [f"{name} was {kept.get(name)!r}, is {now.get(name)!r}" for name in names if kept.get(name) != now.get(name)]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser, by number of the parameter and name of the value."""
    return {
        f"{number}.{name}": value
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser over the same parameters the state that :func:`optimizer_tensors` gave."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:  # fused optimisers go through memory, so it must lie as the weights do
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def delete(folder: Path) -> None:
    """Delete the checkpoints of a run that is done."""
    for file in [*folder.glob(FILES), *folder.glob(_HALVES)]:
        file.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    checksum = 0
    for name in sorted(tensors):
        each = tensors[name].contiguous()
        checksum = zlib.crc32(name.encode() + str((each.shape, each.dtype)).encode(), checksum)
        checksum = zlib.crc32(each.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
