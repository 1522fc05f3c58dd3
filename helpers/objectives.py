"""Losses."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    """Sum over partitions of the mean cross-entropy over the photos that have a cell in that partition.

    Parameters
    ----------
    logits : mapping of str to Tensor of shape (n, classes)
        By partition.
    labels : mapping of str to int64 Tensor of shape (n,)
        Class numbers, -1 for a photo outside all cells, which then does not count in that partition.

    Returns
    -------
    Tensor
        A scalar; 0 for a batch without any labelled photo.

    Examples
    --------
    >>> logits = {"coarse": torch.zeros(3, 4), "fine": torch.zeros(3, 8)}
    >>> loss = cross_entropy(logits, {"coarse": torch.tensor([0, 1, -1]), "fine": torch.tensor([7, -1, -1])})
    >>> round(loss.exp().item(), 4)
    32.0
    """
    total = torch.zeros((), device=next(iter(logits.values())).device)
    for name, scores in logits.items():
        summed = functional.cross_entropy(scores.float(), labels[name], ignore_index=-1, reduction="sum")
        total = total + summed / (labels[name] >= 0).sum().clamp(min=1)
    return total
