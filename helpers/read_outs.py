"""What the outputs of a network say about the place: views fused, classes read out, levels multiplied."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import cells, objectives, targets

HIERARCHY = "f*"  # the paper's name for reading the fine cell out with its coarse and middle ancestors
FUSIONS = ("max", "mean", "product")
"""How several views of a photo, crops of it and networks that look at it, become one answer."""

_LEAST = 1e-12  # so that levels which contradict each other with certainty do not multiply to nothing but zeros


class ReadOut:
    """What probabilities over classes say about the place: one answer per partition, and one over the hierarchy.

    Parameters
    ----------
    classes : mapping of str to Partition or Classes
        Cells from coarse to fine, or countries, or regions. With more than one partition of cells, the hierarchy
        ``f*`` is read out too.
    device : torch.device
        Where the probabilities are.
    """

    def __init__(self, classes: Mapping[str, targets.Classes], device: torch.device) -> None:
        self.classes = dict(classes)
        *coarser, self.finest = self.classes
        self.ancestors: dict[str, Tensor] = {}
        partitions = {name: each for name, each in classes.items() if isinstance(each, cells.Partition)}
        if coarser:
            ancestors = cells.hierarchy(partitions[self.finest], *(partitions[name] for name in coarser))
            self.ancestors = {
                name: torch.from_numpy(row).to(device) for name, row in zip(coarser, ancestors, strict=True)
            }

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the answers, the best founded last."""
        return models_of(self.classes)

    def hierarchical(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Probability of each finest cell times those of its ancestors, renormalised, of shape (n, cells).

        The product is that of Müller-Budack et al., ECCV 2018, section 3.3, taken on probabilities, not on logits.
        """
        product = probabilities[self.finest].clamp_min(_LEAST)
        for name, ancestor in self.ancestors.items():
            product.mul_(probabilities[name].clamp_min(_LEAST).index_select(1, ancestor))
        return product.div_(product.sum(dim=1, keepdim=True))

    def shares(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probability of each class, of shape (n, classes), by each of :attr:`models`."""
        levels = {name: outputs[name] for name in self.classes}
        return {**levels, HIERARCHY: self.hierarchical(outputs)} if self.ancestors else levels

    def classes_of(self, model: str) -> targets.Classes:
        """Classes that one of :attr:`models` answers with."""
        return self.classes[self.finest if model == HIERARCHY else model]

    def __call__(self, shares: Mapping[str, Tensor]) -> dict[str, pd.DataFrame]:
        """Most likely class of each photo.

        Parameters
        ----------
        shares : mapping of str to Tensor of shape (n, classes)
            From :meth:`shares`.

        Returns
        -------
        dict of str to DataFrame
            By model: ``predicted_latitude``, ``predicted_longitude`` (degrees), ``confidence`` (probability of the
            class) and ``cell`` (class number in the partition, in the finest one for ``f*``), a row per photo.
        """
        answers = {}
        for model, probabilities in shares.items():
            confidence, best = probabilities.max(dim=1)
            cell = best.cpu().numpy()
            place = self.classes_of(model).coordinates[cell]
            answers[model] = pd.DataFrame(
                {
                    "predicted_latitude": place[:, 0],
                    "predicted_longitude": place[:, 1],
                    "confidence": confidence.cpu().double().numpy(),
                    "cell": pd.array(cell, dtype="Int64"),
                }
            )
        return answers


class CoordinateReadOut:
    """What a head of coordinates says about the place.

    Its confidence is the length of the vector that it gives: the best answer to the squared error is the mean of the
    unit vectors of all places that the photo may be of, which is the shorter the farther they lie apart. Two plain
    numbers for latitude and longitude tell of no confidence, so it is missing.
    """

    models = (targets.COORDINATES,)

    def shares(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The vectors, or latitudes and longitudes, as they are."""
        return {targets.COORDINATES: outputs[targets.COORDINATES].float()}

    def __call__(self, shares: Mapping[str, Tensor]) -> dict[str, pd.DataFrame]:
        """Place of each photo, with the columns of :class:`ReadOut`; no ``cell``."""
        found = shares[targets.COORDINATES]
        length: Tensor | None = None
        if found.shape[1] == 3:
            latitude, longitude, length = objectives.place_of_vector(found)
        else:
            latitude, longitude = objectives.place_of_degrees(found)
        return {
            targets.COORDINATES: pd.DataFrame(
                {
                    "predicted_latitude": latitude.cpu().double().numpy(),
                    "predicted_longitude": longitude.cpu().double().numpy(),
                    "confidence": np.nan if length is None else length.cpu().double().numpy(),
                    "cell": pd.array([pd.NA] * len(found), dtype="Int64"),
                }
            )
        }


def of(classes: Mapping[str, targets.Classes], device: torch.device) -> ReadOut | CoordinateReadOut:
    """How the outputs of a network are read: as classes where it has some, else as coordinates."""
    return ReadOut(classes, device) if classes else CoordinateReadOut()


def models_of(classes: Mapping[str, targets.Classes]) -> tuple[str, ...]:
    """Names of the answers of a run with such classes, the best founded last, without what it takes to answer."""
    names = tuple(classes) or CoordinateReadOut.models
    return (*names, HIERARCHY) if len(names) > 1 else names


def model(models: Sequence[str], level: str) -> str:
    """The one of a run's models that a level names; ``auto`` is the best founded one, which is the last.

    Raises
    ------
    ValueError
        If there is no such model, naming the nearest.
    """
    if level not in ("auto", *models):
        nearest = difflib.get_close_matches(level, models, n=1, cutoff=0)[0]
        raise ValueError(f"the run has no level {level!r}, did you mean {nearest!r}? It has: {', '.join(models)}")
    return models[-1] if level == "auto" else level


def fuse(outputs: Mapping[str, Tensor], fusion: str = "max") -> dict[str, Tensor]:
    """One answer per photo from the outputs for several views of it.

    Over classes: softmax for each view, then the largest probability over the views, as the paper's PyTorch successor
    takes it; their mean; or their product, of which the root is taken, so that it is as sure as one view. Scaled to sum
    to 1. Of coordinates the mean, whatever the fusion.

    Parameters
    ----------
    outputs : mapping of str to Tensor of shape (n, views, outputs)
        By head.
    fusion : str
        One of :data:`FUSIONS`.

    Returns
    -------
    dict of str to Tensor of shape (n, outputs)

    Examples
    --------
    >>> views = {"fine": torch.tensor([[[0.0, 0.0], [100.0, 0.0]]])}
    >>> fuse(views)["fine"], fuse(views, "mean")["fine"]
    (tensor([[0.6667, 0.3333]]), tensor([[0.7500, 0.2500]]))
    """
    if fusion not in FUSIONS:
        raise ValueError(f"no fusion {fusion!r}: choose one of {', '.join(FUSIONS)}")
    fused = {}
    for name, scores in outputs.items():
        if name == targets.COORDINATES:
            fused[name] = scores.float().mean(dim=1)
        elif fusion == "product":
            fused[name] = scores.float().log_softmax(dim=2).mean(dim=1).softmax(dim=1)
        else:
            shares = scores.float().softmax(dim=2)
            together = shares.amax(dim=1) if fusion == "max" else shares.mean(dim=1)
            fused[name] = together.div_(together.sum(dim=1, keepdim=True))
    return fused
