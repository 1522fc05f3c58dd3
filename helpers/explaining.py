"""What in a photo speaks for the place that a run names, and what is told beside it."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from helpers import (
    activation_maps,
    breakdown,
    cells,
    inputs,
    metrics,
    predict,
    progress,
    read_outs,
    regions,
    targets,
    two_branches,
)

CHOICES = ("random", "surest", "worst")
"""By what photos can be chosen."""


@dataclass(frozen=True)
class Explainer:
    """What explains the answers of a run; see :func:`explainer`.

    Attributes
    ----------
    layers : tuple of Layer
        Of each network of the run.
    level : str
        Model that answers, one of those of the read-out, such as ``f*``.
    """

    run: predict.Run
    layers: tuple[activation_maps.Layer, ...]
    read_out: read_outs.ReadOut | read_outs.CoordinateReadOut
    level: str

    @property
    def image_size(self) -> int:
        """Side of the views that are explained, in pixels: that of the network which takes the largest."""
        return max(network.image_size for network in self.run.networks)

    @property
    def score(self) -> str:
        """What :meth:`scores` are called."""
        of_classes = isinstance(self.read_out, read_outs.ReadOut)
        return "probability of the class" if of_classes else "reach towards the place"

    def view(self, photo: Tensor) -> Tensor:
        """The middle of a decoded photo, uint8 (3, height, width), of shape (1, 3, image_size, image_size)."""
        return inputs.centre(photo, self.image_size)[None]

    def named(self, answers: pd.DataFrame) -> Tensor:
        """What is to be explained: the classes of answers, or for coordinates the unit vectors of their places.

        Parameters
        ----------
        answers : DataFrame
            ``cell``, or ``predicted_latitude`` and ``predicted_longitude``, as `read_outs` gives them.
        """
        if isinstance(self.read_out, read_outs.ReadOut):
            return torch.tensor(answers["cell"].to_numpy(np.int64), device=self.run.device)
        vectors = metrics.unit_vectors(answers["predicted_latitude"], answers["predicted_longitude"])
        return torch.from_numpy(vectors).float().to(self.run.device)

    def evidence(self, views: Tensor, named: Tensor) -> Tensor:
        """How much each place of photos speaks for what is named, of shape (n, image_size, image_size).

        Parameters
        ----------
        views : uint8 Tensor of shape (n, channels, image_size, image_size)
            On any device; 3 channels, or 4 where it :attr:`needs_maps`.
        named : Tensor of shape (n,) or (n, 3)
            From :meth:`named`.

        Returns
        -------
        float32 Tensor of shape (n, image_size, image_size)
            From -1 to 1, as `activation_maps.evidence` gives it. Of several networks the mean.
        """
        found = []
        for (network, seen), layer in zip(self._seen(views), self.layers, strict=True):
            maps = activation_maps.evidence(network.model, layer, seen, lambda outputs: self._scores(outputs, named))
            found.append(activation_maps.resized(maps, views.shape[-1]))
        return activation_maps.scaled(torch.stack(found).mean(dim=0))

    def maps(self, views: Tensor, named: Tensor) -> Tensor:
        """What speaks for what is named, from 0 to 1: `activation_maps.shown` of :meth:`evidence`."""
        return activation_maps.shown(self.evidence(views, named))

    @torch.inference_mode()
    def scores(self, views: Tensor, named: Tensor) -> Tensor:
        """Probability of the class that is named, from these views alone and not calibrated, of shape (n,).

        Of several networks the mean. Of coordinates, how far the vector reaches towards the place that is named.
        """
        found = torch.stack([self._scores(network.model(seen), named) for network, seen in self._seen(views)])
        return (found.exp() if isinstance(self.read_out, read_outs.ReadOut) else found).mean(dim=0)

    @property
    def needs_maps(self) -> bool:
        """Whether a network looks at segmentation maps too: views then have their class numbers as a fourth channel."""
        return any(network.model.has_map_branch for network in self.run.networks)

    def _seen(self, views: Tensor) -> list[tuple[predict.Network, Tensor]]:
        """Each network with what it sees of views."""
        return [
            (network, inputs.resized(views[:, : network.model.channels], network.image_size).to(network.device))
            for network in self.run.networks
        ]

    def _scores(self, outputs: Mapping[str, Tensor], named: Tensor) -> Tensor:
        """Logarithm of the probability of classes, or the dot product with unit vectors."""
        if not isinstance(self.read_out, read_outs.ReadOut):
            return (outputs[targets.COORDINATES].float() * named).sum(dim=1)
        by_head = {name: outputs[name].float().log_softmax(dim=1) for name in self.read_out.classes}
        found = by_head[self.read_out.finest if self.level == read_outs.HIERARCHY else self.level]
        if self.level == read_outs.HIERARCHY:
            for name, ancestor in self.read_out.ancestors.items():
                found = found + by_head[name].index_select(1, ancestor)
            found = found.log_softmax(dim=1)
        return found.gather(1, named[:, None])[:, 0]


def explainer(run: predict.Run, level: str = "auto") -> Explainer:
    """What explains the answers of a run, found out before any photo is read.

    Parameters
    ----------
    run : Run
        From `predict.load`. Several networks that answer together are explained together.
    level : str
        Model that answers: a head, or ``f*``, which is all heads of cells; ``auto`` is the best founded of these. Of
        ``search`` that is explained as well: it is what the network itself says of the class that is named.

    Raises
    ------
    ValueError
        If the run has no such model, a network has no features that lie somewhere in the photo, or the run names two
        plain numbers for latitude and longitude, of which it can be neither more nor less sure.
    """
    read_out = read_outs.of(run.classes, run.device)
    if level == read_outs.SEARCH and run.searching:
        level = "auto"
    answering = read_outs.model(read_out.models, level)
    if not run.classes and run.networks[0].settings["classes"][targets.COORDINATES] < 3:
        raise ValueError(
            "the run names a latitude and a longitude, and nothing says how sure of them it is, so no place in a photo "
            "can speak for them: explain a run with classes, or one on coordinates with objective unit_vector_mse"
        )
    layers = tuple(_layer(network) for network in run.networks)
    return Explainer(run, layers, read_out, answering)


def _layer(network: predict.Network) -> activation_maps.Layer:
    """Of two branches, the layer is one of that which sees the photo."""
    model = network.model
    below = two_branches.OF_PHOTOS if model.has_map_branch else ""
    return activation_maps.find_layer(model, network.image_size, model.channels, below)


def explainers(runs: Mapping[str, predict.Run], level: str = "auto") -> dict[str, Explainer]:
    """An :func:`explainer` for each run that `predict.load` gave."""
    return {scene: explainer(run, level) for scene, run in runs.items()}


def described(explainers: Mapping[str, Explainer]) -> str:
    """Where the maps of some networks come from, in words, a line for each network."""
    lines = []
    for scene, each in explainers.items():
        for network, layer in zip(each.run.networks, each.layers, strict=True):
            high, wide = layer.grid
            what = "features" if layer.extra_tokens is None else "tokens"
            lines.append(
                f"{scene}: {network.model.architecture}, {what} of {layer.module} at {high} x {wide} places, "
                f"a photo's {network.image_size} pixels across"
            )
    return "\n".join(lines)


def choose(rows: pd.DataFrame, predictions: pd.DataFrame, which: str, count: int, seed: int) -> pd.DataFrame:
    """Rows of the photos that are to be explained.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    predictions : DataFrame
        From `predict.table`, for these photos: ``id, confidence, distance_km``.
    which : str
        One of :data:`CHOICES`: drawn at random, those that the run is surest of, or whose guesses are farthest off; or
        ids, separated by commas, which are all taken.
    count : int
        Most photos.
    seed : int
        Which ones are drawn, whatever the order of the rows.

    Raises
    ------
    ValueError
        If there is no such photo, naming the nearest id, or none would be taken.

    Examples
    --------
    >>> placed = pd.DataFrame({"id": list("abc"), "confidence": [0.2, 0.9, 0.5], "distance_km": [5.0, 1.0, 7.0]})
    >>> [choose(placed, placed, which, 2, seed=7)["id"].tolist() for which in ("surest", "worst", "c")]
    [['b', 'c'], ['c', 'a'], ['c']]
    """
    known = predictions.sort_values("id", ignore_index=True)
    if which not in CHOICES:
        ids = list(dict.fromkeys(name.strip() for name in which.split(",")))
        unknown = sorted(set(ids) - set(known["id"]))
        if unknown:
            nearest = difflib.get_close_matches(unknown[0], [*CHOICES, *known["id"]], n=1, cutoff=0)[0]
            raise ValueError(
                f"{unknown[0]!r} is no test photo, did you mean {nearest!r}? Set photos to {', '.join(CHOICES)}, or to "
                "ids of test photos, separated by commas"
            )
    elif count < 1:
        raise ValueError(f"{count} photos to explain: take at least one")
    elif which == "random":
        ids = known["id"].iloc[np.random.default_rng(seed).permutation(len(known))[:count]].tolist()
    else:
        column = "confidence" if which == "surest" else "distance_km"
        ids = known.sort_values(column, ascending=False, kind="stable")["id"].iloc[:count].tolist()
    return predict.in_order(rows, pd.DataFrame({"id": ids}))


class Explained(NamedTuple):
    """Photos as their networks see them, and what in them speaks for the answer; in the order of the photos."""

    views: list[NDArray[np.uint8]]
    """Of shape (side, side, channels)."""
    evidence: list[NDArray[np.float32]]
    """Of shape (side, side), from -1 to 1; see `activation_maps.evidence`."""

    @property
    def photos(self) -> list[NDArray[np.uint8]]:
        """The views to look at, of shape (side, side, 3)."""
        return [view[..., :3] for view in self.views]

    @property
    def maps(self) -> list[NDArray[np.float32]]:
        """What speaks for the answer, from 0 to 1."""
        return [activation_maps.shown(torch.from_numpy(found)[None])[0].numpy() for found in self.evidence]


def explain(
    explainers: Mapping[str, Explainer],
    rows: pd.DataFrame,
    photo_root: Path,
    answers: pd.DataFrame,
    batch_size: int,
) -> Explained:
    """Explain the answers for the photos of a list.

    Parameters
    ----------
    explainers : mapping of str to Explainer
        By scene, or for ``all`` photos, as `predict.load` gives the runs: a photo is explained by the networks that
        placed it.
    rows : DataFrame
        Rows of a data list; ``id, path`` and where there are several scenes ``scene``.
    photo_root : Path
        Folder that the paths are relative to.
    answers : DataFrame
        Of the explainers' level, from `predict.locate`, for the same photos in the same order.
    batch_size : int
        Photos that the device has room for.
    """
    views: dict[str, NDArray[np.uint8]] = {}
    found: dict[str, NDArray[np.float32]] = {}
    for explained, part, answer in routed(explainers, rows, answers):
        named, start = explained.named(answer), 0
        segmented = inputs.maps_of(part) if explained.needs_maps else None
        seen = inputs.PhotoViews(part, photo_root, explained.image_size, view="centre", maps=segmented)
        batches = inputs.batches(seen, range(len(part)), batch_size)
        total = -(-len(part) // batch_size)
        for batch in progress.track(batches, "explaining", total, unit=f"batches of {batch_size} photos"):
            ids = part["id"].iloc[start : start + len(batch)]
            maps = explained.evidence(batch, named[start : start + len(batch)]).cpu().numpy()
            views |= zip(ids, batch.movedim(1, -1).numpy(), strict=True)
            found |= zip(ids, maps, strict=True)
            start += len(batch)
    return Explained([views[name] for name in rows["id"]], [found[name] for name in rows["id"]])


def facts(explainers: Mapping[str, Explainer], rows: pd.DataFrame, placed: predict.Placed) -> pd.DataFrame:
    """What is told of each photo beside its map: the guess, how sure it is, and the truth.

    Parameters
    ----------
    explainers : mapping of str to Explainer
    rows : DataFrame
        As for :func:`explain`, with ``author, latitude, longitude`` and ``country, region`` from `exploring.located`.
    placed : Placed
        From `predict.locate`, for the same photos.

    Returns
    -------
    DataFrame
        In the order of `rows`: the columns of `breakdown.facts`; ``named``, the class in words; its ``confidence``; and
        ``radius_50_km, radius_90_km``, NaN unless the best founded model is explained, which they are of.
    """
    level = level_of(explainers)
    answer = placed.answers[level]
    best = level == list(placed.answers)[-1]
    predictions = predict.table(rows, {level: answer}, placed.spread if best else None)
    told = ["confidence", "radius_50_km", "radius_90_km"]
    known = predict.in_order(breakdown.facts(predictions, rows), rows)
    known[told] = predictions.reindex(columns=told).to_numpy(np.float64)
    names = [pd.Series(_names(each, part), index=ids["id"]) for each, ids, part in routed(explainers, rows, answer)]
    return known.assign(named=pd.concat(names).loc[rows["id"]].to_numpy())


def _names(explained: Explainer, answers: pd.DataFrame) -> list[str]:
    if not isinstance(explained.read_out, read_outs.ReadOut):
        place = answers[["predicted_latitude", "predicted_longitude"]].to_numpy()
        return [f"{latitude:.1f}, {longitude:.1f}" for latitude, longitude in place]
    classes, number = explained.read_out.classes_of(explained.level), answers["cell"].to_numpy(np.int64)
    if isinstance(classes, regions.Classes):
        return (classes.titles if classes.name == "country" else classes.keys)[number].tolist()
    return [f"cell {token}" for token in cells.tokens(classes.ids[number])]


def level_of(explainers: Mapping[str, Explainer]) -> str:
    """Model whose answers are explained, the same for all scenes."""
    return next(iter(explainers.values())).level


def routed(
    explainers: Mapping[str, Explainer], rows: pd.DataFrame, answers: pd.DataFrame
) -> Iterator[tuple[Explainer, pd.DataFrame, pd.DataFrame]]:
    """Each explainer with the photos that its run places, and their answers."""
    runs = {scene: each.run for scene, each in explainers.items()}
    for scene, part in predict.routed(runs, rows):
        yield explainers[scene], part, predict.in_order(answers, part)
