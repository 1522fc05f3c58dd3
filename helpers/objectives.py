"""Losses."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def summed_cross_entropy(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropy over the photos that have a cell, and their number, in each partition.

    Added up over batches they give the loss of all photos, whatever the batches.

    Parameters
    ----------
    logits : mapping of str to Tensor of shape (n, classes)
        By partition.
    labels : mapping of str to int64 Tensor of shape (n,)
        Class numbers, -1 for a photo outside all cells, which then does not count in that partition.

    Returns
    -------
    sums, counts : Tensor of shape (partitions,)
        In the order of `logits`.

    Examples
    --------
    >>> logits = {"coarse": torch.zeros(3, 4), "fine": torch.zeros(3, 8)}
    >>> labels = {"coarse": torch.tensor([0, 1, -1]), "fine": torch.tensor([7, -1, -1])}
    >>> round(mean_over_labelled(*summed_cross_entropy(logits, labels)).exp().item(), 4)
    32.0
    """
    sums = [
        functional.cross_entropy(scores.float(), labels[name], ignore_index=-1, reduction="sum")
        for name, scores in logits.items()
    ]
    return torch.stack(sums), torch.stack([(labels[name] >= 0).sum() for name in logits])


def mean_over_labelled(sums: Tensor, counts: Tensor) -> Tensor:
    """Sum over partitions of the means of :func:`summed_cross_entropy`, a scalar; 0 without any labelled photo."""
    return (sums / counts.clamp(min=1)).sum()
