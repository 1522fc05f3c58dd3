"""The processes that train together, one for each device, on one machine or on several."""

import datetime
import faulthandler
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, distributed

from helpers import devices, progress

STACKS = "stack-*.txt"
"""Files of a run's folder in which processes that hung say where."""

# The watch of each process is what ends a training that hangs, because it knows where.
_BROKEN = re.compile(r"Connection (closed|reset|refused)|Broken pipe|gloo|NCCL", re.IGNORECASE)
_LONGEST_WAIT = datetime.timedelta(days=7)


class Lost(RuntimeError):
    """Another process that ended, which this one notices by its silence."""


@contextmanager
def noticing_losses() -> Iterator[None]:
    """Raise :class:`Lost` where the connection to another process breaks."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or _BROKEN.search(str(error)):
            raise Lost(f"another process ended, see its message: {str(error).splitlines()[0]}") from error
        raise


@dataclass(frozen=True)
class Processes:
    """This process among all that train together."""

    rank: int
    count: int
    on_this_machine: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def say(self, *words: object) -> None:
        """Print, if this process leads."""
        if self.leads:
            print(*words, flush=True)

    def share(self, total: int) -> slice:
        """The part of `total` items that is this process's.

        Examples
        --------
        >>> [Processes(rank, 3, 3, torch.device("cpu")).share(8) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
        """
        least, more = divmod(total, self.count)
        start = self.rank * least + min(self.rank, more)
        return slice(start, start + least + (self.rank < more))

    def summed(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over all processes; it is changed in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gathered(self, item: Any) -> list[Any]:
        """The items of all processes, by rank."""
        if self.count == 1:
            return [item]
        items: list[Any] = [None] * self.count
        distributed.all_gather_object(items, item)
        return items

    def told(self, item: Any) -> Any:
        """The item that the leading process has."""
        if self.count == 1:
            return item
        items = [item]
        distributed.broadcast_object_list(items, device=torch.device("cpu"))
        return items[0]

    def told_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """The tensors that the leading process has, one after the other, so that none is held twice."""
        if self.count == 1:
            return tensors or {}
        described = self.told({name: (each.shape, each.dtype) for name, each in (tensors or {}).items()})
        received = {}
        for name, (shape, dtype) in described.items():
            each = tensors[name].contiguous() if tensors else torch.empty(shape, dtype=dtype)
            distributed.broadcast(each, src=0)
            received[name] = each
        return received


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the other processes that ``torchrun`` has started, if it has.

    Raises
    ------
    ValueError
        If more processes were started on this machine than it has devices.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local, on_this_machine = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = devices.best_device()
    if on_this_machine > devices.count(device):
        raise ValueError(
            f"{on_this_machine} processes for {devices.count(device)} x {devices.described(device)}: start one for each"
        )
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(0, 1, 1, device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_LONGEST_WAIT)
    yield Processes(rank, count, on_this_machine, device)
    # Not after an error: it would wait for the others, which wait for this one.
    distributed.destroy_process_group()


class Watch:
    """Ends this process when it makes no progress, and leaves its stack.

    Notes
    -----
    The watch runs outside of Python, so it sees a process that hangs in a library too. What ends the others then (their
    ``torchrun`` does) makes them leave their stacks as well: the one that hangs is among them.
    """

    def __init__(self, file: TextIO, minutes: float) -> None:
        self._file, self._seconds = file, 60 * minutes

    def progressed(self) -> None:
        """Say that the process goes on."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)


@contextmanager
def watched(folder: Path, group: Processes, minutes: float) -> Iterator[Watch]:
    """Watch this process; see :class:`Watch`. Whatever `progress` is told of counts as progress.

    Parameters
    ----------
    folder : Path
        Where ``stack-<rank>.txt`` is left when a process hangs.
    group : Processes
    minutes : float
        Without progress after which the process is ended.
    """
    folder.mkdir(parents=True, exist_ok=True)  # on another machine
    path = folder / f"stack-{group.rank}.txt"
    with path.open("w") as file:
        faulthandler.register(signal.SIGTERM, file, all_threads=False, chain=True)
        watch = Watch(file, minutes)
        progress.listeners.append(watch.progressed)
        watch.progressed()
        try:
            yield watch
        finally:
            progress.listeners.remove(watch.progressed)
            faulthandler.cancel_dump_traceback_later()
            faulthandler.unregister(signal.SIGTERM)
            path.unlink(missing_ok=True)
