"""Where a photo was most likely taken, among the places of training photos.

A class is a guess as large as its cell, and its coordinate, the mean of its photos, may lie where nobody takes any.
Here every training photo is a place that the photo may be of. It weighs as much as the classes say, shared among the
photos of its class, and more the more it looks like the photo. The guess is the place from which the expected score is
highest: a real one, with much weight near it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from helpers import cells, metrics
from helpers.gallery import EVENLY, Gallery

_SITES = 4096  # that are weighed against one another; more photos than that share some
_ROWS_AT_ONCE = 256  # photos whose weights are held
_CANDIDATES = 256  # photos of a site that are weighed against one another
_STEPS, _LEAST_SHARE = 50, 1e-4  # of expectation maximisation; of photos, so that none is ruled out
_LEAST = 1e-30  # probability, so that none has an infinite logarithm
_PHOTOS_TO_FIT = 500
_SHARPNESSES = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0)
_TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
_ROUNDS = 3  # of fitting one number after the other
USUAL = (6.0, 4.0)
"""Sharpness and temperature where there are no validation photos to choose them by."""


class Found(NamedTuple):
    """What a search says of photos."""

    shares: Tensor
    """Probability of each of the finest classes, of shape (n, classes), float32."""
    place: NDArray[np.float64]
    """Latitude and longitude of the guesses, in degrees, of shape (n, 2): each that of a photo of the gallery."""


class Search:
    """Search among the photos of a gallery.

    Parameters
    ----------
    gallery : Gallery
    classes : int
        How many of the finest there are.
    device : torch.device
        Where the probabilities are.
    """

    def __init__(self, gallery: Gallery, classes: int, device: torch.device) -> None:
        self.gallery, self.classes, self.device = gallery, classes, device
        self.keys = gallery.keys.to(device)
        self.labels = torch.from_numpy(gallery.labels).to(device)
        counts = torch.bincount(self.labels, minlength=classes).clamp_min(1)
        self.log_shared = -counts[self.labels].float().log()
        site, coordinates = _sites(gallery.coordinates)
        self.site_of = torch.from_numpy(site).to(device)
        self.sites = len(coordinates)
        self.photos_of = torch.argsort(self.site_of, stable=True).split(torch.bincount(self.site_of).tolist())
        self.scores = score(_distances_km(coordinates, coordinates, device), gallery.reach)

    def __call__(self, query: Tensor, shares: Tensor) -> Found:
        """Search for photos.

        Parameters
        ----------
        query : Tensor of shape (n, directions)
            Whitened features, of length 1.
        shares : Tensor of shape (n, classes)
            Probability of each of the finest classes.
        """
        by_class, place = [], []
        for start in range(0, len(query), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            weight = self.weights(query[rows], shares[rows])
            by_class.append(weight.new_zeros((len(weight), self.classes)).index_add_(1, self.labels, weight))
            place.append(self.places(weight))
        if not by_class:
            return Found(shares.new_zeros((0, self.classes)), np.empty((0, 2)))
        return Found(torch.cat(by_class), np.concatenate(place))

    def weights(self, query: Tensor, shares: Tensor) -> Tensor:
        """Weight of each photo of the gallery, float32 of shape (n, photos); those of a photo sum to 1."""
        gallery = self.gallery
        return self._weights(query, shares, gallery.sharpness, gallery.temperature)

    def _weights(self, query: Tensor, shares: Tensor, sharpness: float, temperature: float) -> Tensor:
        by_class = (shares.float().clamp_min(_LEAST).log() / temperature).log_softmax(dim=1)
        alike = query.float() @ self.keys.T
        return alike.mul_(sharpness).add_(by_class.index_select(1, self.labels)).add_(self.log_shared).softmax(dim=1)

    def places(self, weight: Tensor) -> NDArray[np.float64]:
        """Place with the highest expected score under weights of the gallery's photos, of shape (n, 2), in degrees."""
        at_site = weight.new_zeros((len(weight), self.sites)).index_add_(1, self.site_of, weight)
        best = (at_site @ self.scores).argmax(dim=1)
        chosen = np.empty(len(weight), np.int64)
        for row, site in enumerate(best.tolist()):
            inside = self.photos_of[site]
            heaviest = inside[weight[row, inside].topk(min(_CANDIDATES, len(inside))).indices]
            chosen[row] = self._heart(heaviest, weight[row, heaviest])
        return self.gallery.coordinates[chosen]

    def _heart(self, photos: Tensor, weight: Tensor) -> int:
        """The one of some photos from which the expected score over all of them is highest."""
        if len(photos) == 1:
            return int(photos[0])
        coordinates = self.gallery.coordinates[photos.cpu().numpy()]
        if (coordinates == coordinates[0]).all():
            return int(photos[0])
        expected = score(_distances_km(coordinates, coordinates, self.device), self.gallery.reach) @ weight
        return int(photos[expected.argmax()])

    def fitted(self, query: Tensor, shares: Tensor, coordinates: NDArray[np.float64]) -> Gallery:
        """The gallery with what makes photos whose place is known most likely where they were taken.

        Parameters
        ----------
        query, shares
            As for a call, of validation photos.
        coordinates : float64 array of shape (n, 2)
            Where they were taken.

        Returns
        -------
        Gallery
            With other sharpness, temperature and reach, unless there are no photos to fit them by.
        """
        if not len(query):
            return self.gallery
        some = evenly(len(query))
        query, shares, coordinates = query[some], shares[some], coordinates[some]
        places = self.gallery.coordinates
        distance_km = torch.cat([_distances_km(coordinates[each], places, self.device) for each in _blocks(len(query))])
        (sharpness, temperature), reach = USUAL, EVENLY
        for _ in range(_ROUNDS):
            log = log_density(distance_km, reach)
            surprise = {each: self._surprise(query, shares, log, sharpness, each) for each in _TEMPERATURES}
            temperature = min(surprise, key=lambda each: surprise[each])
            surprise = {each: self._surprise(query, shares, log, each, temperature) for each in _SHARPNESSES}
            sharpness = min(surprise, key=lambda each: surprise[each])
            reach = _reach(self._weights(query, shares, sharpness, temperature), distance_km)
        return dataclasses.replace(self.gallery, sharpness=sharpness, temperature=temperature, reach=reach)

    def _surprise(self, query: Tensor, shares: Tensor, log: Tensor, sharpness: float, temperature: float) -> float:
        log_weight = self._weights(query, shares, sharpness, temperature).clamp_min(_LEAST).log()
        return -torch.logsumexp(log_weight + log, dim=1).mean().item()


def evenly(count: int) -> NDArray[np.int64]:
    """Numbers of the photos that sharpness, temperature and reach are fitted by, of so many: few will do.

    Examples
    --------
    >>> len(evenly(3)), len(evenly(100_000))
    (3, 500)
    """
    return np.unique(np.linspace(0, count - 1, min(count, _PHOTOS_TO_FIT)).astype(np.int64))


def score(distance_km: Tensor, reach: Sequence[float]) -> Tensor:
    """What a guess is worth that is so far from a photo which stands for the one asked about: from 1 to 0.

    The mean of the five accuracies that runs are judged by, made smooth: exp(-distance / threshold) for each of 1, 25,
    200, 750 and 2500 km. But a photo is not just where another stands for it. Where that is farther than a threshold,
    the guess is within it by chance alone, by the ratio of the areas.

    Parameters
    ----------
    distance_km : Tensor
    reach : sequence of float
        Shares of photos that are about as far as each threshold from what stands for them.

    Examples
    --------
    >>> at = torch.tensor([0.0, 100.0, 20000.0])
    >>> score(at, [1, 0, 0, 0, 0]).mul(100).round()  # photos are where others stand for them
    tensor([100.,  49.,   0.])
    >>> score(at, [0, 0, 0, 1, 0]).mul(100).round()  # or within a country
    tensor([41., 37.,  0.])
    """
    kilometres, worth = metrics.THRESHOLDS_KM, torch.zeros_like(distance_km)
    for number, km in enumerate(kilometres):
        certain = sum(reach[: number + 1])
        by_chance = reach[number] * sum((nearer / km) ** 2 / 2 for nearer in kilometres[:number])
        worth += (certain + by_chance) / len(kilometres) * torch.exp(-distance_km / km)
    return worth


def log_density(distance_km: Tensor, reach: Sequence[float]) -> Tensor:
    """Logarithm of the density, per square kilometre, of being so far from what stands for a photo.

    A mixture, with the shares of `reach`, of densities that fall to 1/e in 1, 25, 200, 750 and 2500 km, each of which
    holds 1 on the plane.
    """
    parts = [
        -distance_km / km + np.log(max(share, _LEAST) / (2 * np.pi * km**2))
        for km, share in zip(metrics.THRESHOLDS_KM, reach, strict=True)
    ]
    return torch.logsumexp(torch.stack(parts), dim=0)


def _reach(weight: Tensor, distance_km: Tensor) -> tuple[float, ...]:
    """Shares of the mixture under which photos are most likely where they are, by expectation maximisation."""
    parts = [(weight * torch.exp(-distance_km / km)).sum(dim=1) / (2 * np.pi * km**2) for km in metrics.THRESHOLDS_KM]
    density, shares = torch.stack(parts).double(), torch.tensor(EVENLY, dtype=torch.float64, device=weight.device)
    for _ in range(_STEPS):
        mixed = shares[:, None] * density
        shares = (mixed / mixed.sum(dim=0).clamp_min(_LEAST)).mean(dim=1).clamp_min(_LEAST_SHARE)
        shares = shares / shares.sum()
    return tuple(shares.tolist())


def _distances_km(places: NDArray[np.float64], others: NDArray[np.float64], device: torch.device) -> Tensor:
    """Great-circle distances, float32 of shape (places, others)."""
    here, there = (torch.from_numpy(metrics.unit_vectors(*each.T)) for each in (places, others))
    found = torch.empty(len(here), len(there))
    for rows in _blocks(len(here)):
        # In float64, in which the chord of places a kilometre apart is still right to a metre.
        chord = (2 - 2 * here[rows] @ there.T).clamp(0, 4).sqrt()
        found[rows] = (2 * metrics.EARTH_RADIUS_KM * (chord / 2).asin()).float()
    return found.to(device)


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _ROWS_AT_ONCE):
        yield slice(start, start + _ROWS_AT_ONCE)


def _sites(coordinates: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Site of each photo, and the sites' coordinates: the smallest S2 cells of which there are not too many."""
    leaves = cells.leaf_ids(*coordinates.T)
    for level in range(30, -1, -1):
        least = np.uint64(1) << np.uint64(2 * (30 - level))  # of a cell's id, its lowest bit
        ids = (leaves & ~(least - np.uint64(1))) | least
        unique, site = np.unique(ids, return_inverse=True)
        if len(unique) <= _SITES:
            break
    vectors = np.zeros((len(unique), 3))
    np.add.at(vectors, site, metrics.unit_vectors(*coordinates.T))
    x, y, z = functional.normalize(torch.from_numpy(vectors), dim=1).numpy().T
    return site.astype(np.int64), np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=1))
