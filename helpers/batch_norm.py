"""Batch normalisation where a batch is computed in parts, or twice."""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from helpers.processes import Processes


class Statistics:
    """Running statistics of a network whose batches are computed in parts, one after the other or side by side.

    Each part is normalised by itself. The running statistics move once a batch, by the mean of what each part
    alone would have moved them by: so it is the same whether two processes compute a part each, or one computes both.

    Parameters
    ----------
    network : Module
    group : Processes
    parts : int
        That each process computes one after the other.
    """

    def __init__(self, network: nn.Module, group: Processes, parts: int) -> None:
        self.group, self.parts = group, parts * group.count
        layers = _layers(network) if self.parts > 1 else []
        self.counters = [layer.num_batches_tracked for layer in layers if layer.num_batches_tracked is not None]
        self.counted_too_often = parts - 1
        self.running = [
            each for layer in layers for each in (layer.running_mean, layer.running_var) if each is not None
        ]
        self.before: list[torch.Tensor] = []
        self.moved: list[torch.Tensor] = []

    def begin(self) -> None:
        """Before the first part of a batch."""
        self.before = [each.clone() for each in self.running]
        self.moved = [torch.zeros_like(each) for each in self.running]

    def end_part(self) -> None:
        """After the forward pass of each part."""
        for running, before, moved in zip(self.running, self.before, self.moved, strict=True):
            moved += running
            running.copy_(before)

    def end(self) -> None:
        """After the last part of a batch."""
        if not self.running:
            return
        together = self.group.summed(torch.cat([each.flatten() for each in self.moved])) / self.parts
        for running, moved in zip(self.running, together.split([each.numel() for each in self.running]), strict=True):
            running.copy_(moved.view_as(running))
        for counter in self.counters:
            counter -= self.counted_too_often


def recompute_in_backward(network: nn.Module) -> None:
    """Keep of each block of a network its input alone, and compute the rest again in the backward pass.

    It saves most of the memory for a third more time, and changes no number: the second time, no statistics move.

    Raises
    ------
    ValueError
        If the network has no blocks in a row.
    """
    blocks = list(_blocks(network))
    if not blocks:
        raise ValueError(f"{type(network).__name__} has no blocks to recompute: leave gradient_checkpointing off")
    for block in blocks:
        block.forward = functools.partial(
            checkpoint, block.forward, use_reentrant=False, context_fn=functools.partial(_contexts, block)
        )


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _unmoved(block)


@contextmanager
def _unmoved(block: nn.Module) -> Iterator[None]:
    layers = [(layer, layer.momentum) for layer in _layers(block) if layer.training and layer.track_running_stats]
    for layer, _ in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in layers:
            layer.momentum = momentum
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked -= 1


def _layers(network: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost of the modules that follow one another and hold others."""
    in_a_row = isinstance(network, (nn.Sequential, nn.ModuleList))
    for child in network.children():
        if in_a_row and any(True for _ in child.children()) and any(True for _ in child.parameters()):
            yield child
        else:
            yield from _blocks(child)
