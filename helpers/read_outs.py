"""What the outputs of a network say about the place: views fused, classes read out, levels multiplied."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from helpers import cells, models, objectives, search, targets

SEARCH = models.SEARCH
"""Name of the answer that a search among training photos gives."""
HIERARCHY = "f*"  # the paper's name for reading the fine cell out with its coarse and middle ancestors
FUSIONS = ("max", "mean", "product")
"""How several views of a photo, crops of it and networks that look at it, become one answer."""

_PLACE = ("predicted_latitude", "predicted_longitude")
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
    searching : Search, optional
        Among training photos: one more answer, and the best founded.
    """

    def __init__(
        self,
        classes: Mapping[str, targets.Classes],
        device: torch.device,
        searching: search.Search | None = None,
    ) -> None:
        self.classes, self.searching = dict(classes), searching
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
        return models_of(self.classes, self.searching is not None)

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
        return self._shares_and_place(outputs)[0]

    def answers(self, outputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, pd.DataFrame]]:
        """Probability of each class, and the place, by each of :attr:`models`.

        Parameters
        ----------
        outputs : mapping of str to Tensor of shape (n, outputs)
            By head, from :func:`fuse`.

        Returns
        -------
        shares : dict of str to Tensor of shape (n, classes)
        tables : dict of str to DataFrame
            As a call gives them. A search names a place of its own, which need not lie in the likeliest cell.
        """
        shares, place = self._shares_and_place(outputs)
        tables = self(shares)
        if place is not None:
            tables[SEARCH] = tables[SEARCH].assign(**dict(zip(_PLACE, place.T, strict=True)))
        return shares, tables

    def _shares_and_place(self, outputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], NDArray[np.float64] | None]:
        shares = {name: outputs[name] for name in self.classes}
        if self.ancestors:
            shares[HIERARCHY] = self.hierarchical(outputs)
        if self.searching is None:
            return shares, None
        found = self.searching(outputs[SEARCH], list(shares.values())[-1])
        return {**shares, SEARCH: found.shares}, found.place

    def classes_of(self, model: str) -> targets.Classes:
        """Classes that one of :attr:`models` answers with."""
        return self.classes[self.finest if model in (HIERARCHY, SEARCH) else model]

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

    def answers(self, outputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, pd.DataFrame]]:
        """As :meth:`ReadOut.answers`."""
        shares = self.shares(outputs)
        return shares, self(shares)

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


def of(
    classes: Mapping[str, targets.Classes], device: torch.device, searching: search.Search | None = None
) -> ReadOut | CoordinateReadOut:
    """How the outputs of a network are read: as classes where it has some, else as coordinates."""
    return ReadOut(classes, device, searching) if classes else CoordinateReadOut()


def models_of(classes: Mapping[str, targets.Classes], searches: bool = False) -> tuple[str, ...]:
    """Names of the answers of a run with such classes, the best founded last, without what it takes to answer."""
    names = tuple(classes) or CoordinateReadOut.models
    hierarchy = (HIERARCHY,) if len(names) > 1 else ()
    return (*names, *hierarchy, *(SEARCH,) * searches)


def model(known: Sequence[str], level: str) -> str:
    """The one of a run's models that a level names; ``auto`` is the best founded one, which is the last.

    Raises
    ------
    ValueError
        If there is no such model, naming the nearest.
    """
    if level not in ("auto", *known):
        nearest = difflib.get_close_matches(level, known, n=1, cutoff=0)[0]
        raise ValueError(f"the run has no level {level!r}, did you mean {nearest!r}? It has: {', '.join(known)}")
    return known[-1] if level == "auto" else level


def beside(networks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Outputs of networks that see the same photos, each of shape (n, views, outputs), as views of one.

    What is searched by lies side by side instead, scaled to length 1 for each: a training photo has to look alike to
    all of them. What only some of them give is left out.
    """
    together = {}
    for name in [name for name in networks[0] if all(name in each for each in networks)]:
        parts = [each[name] for each in networks]
        if name == SEARCH:
            together[name] = torch.cat([functional.normalize(part.float(), dim=2) for part in parts], dim=2)
        else:
            together[name] = torch.cat(parts, dim=1)
    return together


def fuse(outputs: Mapping[str, Tensor], fusion: str = "max") -> dict[str, Tensor]:
    """One answer per photo from the outputs for several views of it.

    Over classes: softmax for each view, then the largest probability over the views, as the paper's PyTorch successor
    takes it; their mean; or their product, of which the root is taken, so that it is as sure as one view. Scaled to sum
    to 1. Of coordinates the mean, whatever the fusion; so of what is searched by, scaled to length 1.

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
        elif name == SEARCH:
            fused[name] = functional.normalize(scores.float().mean(dim=1), dim=1)
        elif fusion == "product":
            fused[name] = scores.float().log_softmax(dim=2).mean(dim=1).softmax(dim=1)
        else:
            shares = scores.float().softmax(dim=2)
            together = shares.amax(dim=1) if fusion == "max" else shares.mean(dim=1)
            fused[name] = together.div_(together.sum(dim=1, keepdim=True))
    return fused
