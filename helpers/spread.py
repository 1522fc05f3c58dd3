"""From a network's answer to a distribution over the Earth: how far off a guess may be, and in which country.

A guess alone says nothing of how sure it is. Here the answer of a network, probabilities over classes or a vector,
becomes a distribution over places, from which follow the radius that holds a share of it, the share within a distance,
and the share of each country.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from helpers import cells, metrics, places, targets

HALF_ROUND_KM = float(np.pi * metrics.EARTH_RADIUS_KM)
"""No two places are farther apart: the radius that holds everything."""

SUMS = ("country", "continent")
"""What the probabilities of classes are summed to."""

_PLACES, _PLACES_OF_A_CLASS = 65_536, 64  # that stand for all classes, and for one at most
_PLACES_ELSEWHERE = 2048  # that stand for photos in no class, which are all over the Earth
_DISTANCES_AT_ONCE = 1 << 19  # 4 MB, which the processor's cache holds
_SHARPEST = 0.9999  # length of a vector beyond which rounding decides


class ClassSpread:
    """Probabilities over classes, spread over the places where the training photos of each class were taken.

    A class is as wide as its training photos are apart: up to 64 of them, fewer where classes are many, evenly chosen
    along the Hilbert curve, stand for it with equal shares. Photos that lie in no class, because too few others were
    taken near, are one more class in the end.

    Parameters
    ----------
    classes : Partition or Classes
        The finest ones that the network answers with.
    training_places : DataFrame
        ``latitude, longitude`` of the photos that it learned from. A class without one is where its coordinate is.
    has_elsewhere : bool
        Whether it learned from photos in no class: with a single partition it does not, and a place that lies in none
        was rounded across a border. Then nothing says where photos outside are.
    device : torch.device
        Where the probabilities are.
    """

    def __init__(
        self, classes: targets.Classes, training_places: pd.DataFrame, device: torch.device, has_elsewhere: bool = True
    ) -> None:
        place = training_places[["latitude", "longitude"]].to_numpy(np.float64)
        label = targets.labels(classes, *place.T)
        if not has_elsewhere:
            place, label = place[label >= 0], label[label >= 0]
        alone = np.setdiff1d(np.arange(len(classes)), label)
        place = np.concatenate([place, classes.coordinates[alone]])
        label = np.where(label < 0, len(classes), label)
        label = np.concatenate([label, alone])
        most = np.full(len(classes) + 1, max(1, min(_PLACES_OF_A_CLASS, _PLACES // len(classes))))
        most[-1] = _PLACES_ELSEWHERE
        chosen = _evenly(label, cells.leaf_ids(*place.T), most)
        owner, number = label[chosen], np.bincount(label[chosen], minlength=len(classes) + 1)
        self.device = torch.device("cpu") if device.type == "mps" else device  # which knows no float64
        self.vectors = self._tensor(metrics.unit_vectors(*place[chosen].T))
        self.owner = torch.from_numpy(owner).to(self.device)
        self.weight = self._tensor(1 / number[owner])
        self.has_elsewhere = bool(number[-1])
        self.country_codes, shares = _country_shares(classes, label, place)
        continent = places.countries()["continent"].reindex(self.country_codes).to_numpy(dtype=str)
        self.continent_names, number = np.unique(continent, return_inverse=True)
        in_continent = np.eye(len(self.continent_names))[number]
        self._sums = {"country": self._tensor(shares), "continent": self._tensor(shares @ in_continent)}

    def masses(self, shares: Tensor, outside: float) -> Tensor:
        """Probability of each class and, last, of none, of shape (n, classes + 1), float64.

        Parameters
        ----------
        shares : Tensor, shape (n, classes)
            Probabilities given that the photo lies in a class.
        outside : float
            Probability that it lies in none. Where no training photo does, nothing says where that would be, and it
            is left out.
        """
        inside = shares.to(self.device).double()
        inside = inside / inside.sum(dim=1, keepdim=True)
        outside = outside if self.has_elsewhere else 0.0
        return torch.cat([inside * (1 - outside), inside.new_full((len(inside), 1), outside)], dim=1)

    def nearer(self, masses: Tensor, place: ArrayLike, distance_km: ArrayLike) -> NDArray[np.float64]:
        """Share of the distribution that is nearer to each photo's guess than a distance.

        Parameters
        ----------
        masses : Tensor, shape (n, classes + 1)
            From :meth:`masses`.
        place : array_like of float, shape (n, 2)
            Latitude and longitude of the guesses, in degrees.
        distance_km : array_like of float, shape (n,) or (n, k)

        Returns
        -------
        ndarray of float64, shaped as `distance_km`
            The share that is strictly nearer: none is nearer than 0 km.
        """
        limits = self._tensor(np.asarray(distance_km, dtype=np.float64))
        columns = limits[:, None] if limits.ndim == 1 else limits
        found = torch.empty_like(columns)
        for rows, distance, weight in self._blocks(masses, place):
            for column in range(columns.shape[1]):
                found[rows, column] = (weight * (distance < columns[rows, column, None])).sum(dim=1)
        return found.reshape(limits.shape).clamp(0, 1).cpu().numpy()

    def radii(self, masses: Tensor, place: ArrayLike, levels: Sequence[float]) -> NDArray[np.float64]:
        """Radius around each photo's guess that holds a share of its distribution.

        Parameters
        ----------
        masses, place
            As in :meth:`nearer`.
        levels : sequence of float
            Shares. Above 1, nothing less than the whole Earth holds it.

        Returns
        -------
        ndarray of float64, shape (n, levels)
            Kilometres. A place at distance ``d`` is within the radius just where `nearer` gives ``d`` less than the
            level.
        """
        wanted = self._tensor(np.asarray(levels, dtype=np.float64))
        found = np.empty((len(masses), len(levels)))
        for rows, distance, weight in self._blocks(masses, place):
            distance, order = distance.sort(dim=1)
            upto = weight.gather(1, order).cumsum(dim=1)
            # Rounding may leave a sum just below 1, where the last place still holds all there is.
            number = torch.searchsorted(upto, wanted.expand(len(upto), -1).contiguous()).clamp_max(upto.shape[1] - 1)
            found[rows] = torch.where(wanted > 1, HALF_ROUND_KM, distance.gather(1, number)).cpu().numpy()
        return found

    def summed(self, masses: Tensor, kind: str) -> Tensor:
        """Probability of each country, or continent: the sum over the classes of their shares of it.

        Parameters
        ----------
        masses : Tensor, shape (n, classes + 1)
            From :meth:`masses`.
        kind : str
            One of :data:`SUMS`.

        Returns
        -------
        Tensor of float64, shape (n, names)
            In the order of :meth:`names`. What is at sea is in none, so a row may sum to less than 1.
        """
        return masses @ self._sums[kind]

    def names(self, kind: str) -> NDArray[np.str_]:
        """Codes of the countries, or names of the continents, that :meth:`summed` has."""
        return self.country_codes if kind == "country" else self.continent_names

    def _blocks(self, masses: Tensor, place: ArrayLike) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, and for each of them the distance of every place from the guess, and the place's share."""
        guess = self._tensor(metrics.unit_vectors(*np.asarray(place, dtype=np.float64).reshape(-1, 2).T))
        together = max(1, _DISTANCES_AT_ONCE // len(self.owner))
        for start in range(0, len(masses), together):
            rows = slice(start, start + together)
            chord = (2 - 2 * guess[rows] @ self.vectors.T).clamp(0, 4).sqrt()
            yield rows, HALF_ROUND_KM / np.pi * 2 * (chord / 2).asin(), masses[rows][:, self.owner] * self.weight

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(self.device)


class VectorSpread:
    """A vector as a distribution over the Earth: that of von Mises and Fisher, whose mean it is.

    The best answer to the squared error is the mean of the unit vectors of all places that a photo may be of; of the
    distributions with that mean, this one assumes least. Two plain numbers for latitude and longitude have no length,
    so their distribution is equally wide for every photo, and calibration alone says how wide.
    """

    def masses(self, vectors: Tensor) -> Tensor:
        """Concentration of each photo's distribution, of shape (n,), float64, from its vector's length.

        Notes
        -----
        The approximation of Banerjee et al., "Clustering on the Unit Hypersphere using von Mises-Fisher Distributions",
        JMLR 2005, section 4.
        """
        if vectors.shape[1] < 3:
            return torch.ones(len(vectors), dtype=torch.float64)
        length = vectors.cpu().double().norm(dim=1).clamp(1e-6, _SHARPEST)
        return length * (3 - length**2) / (1 - length**2)

    def surprise(self, masses: Tensor, distance_km: NDArray[np.float64]) -> float:
        """Mean over photos of minus the logarithm of the density, per steradian, where they were taken."""
        concentration, height = masses.numpy(), 1 - np.cos(distance_km / metrics.EARTH_RADIUS_KM)
        scale = np.log(concentration) - np.log(-2 * np.pi * np.expm1(-2 * concentration))
        return float(np.mean(concentration * height - scale))

    def nearer(self, masses: Tensor, place: ArrayLike, distance_km: ArrayLike) -> NDArray[np.float64]:
        """As :meth:`ClassSpread.nearer`; `place` does not matter."""
        concentration, distance = masses.numpy(), np.asarray(distance_km, dtype=np.float64)
        concentration = concentration.reshape(-1, *[1] * (distance.ndim - 1))
        height = 1 - np.cos(distance / metrics.EARTH_RADIUS_KM)
        return np.expm1(-concentration * height) / np.expm1(-2 * concentration)

    def radii(self, masses: Tensor, place: ArrayLike, levels: Sequence[float]) -> NDArray[np.float64]:
        """As :meth:`ClassSpread.radii`; `place` does not matter."""
        concentration = masses.numpy()[:, None]
        level = np.minimum(np.asarray(levels, dtype=np.float64), 1)
        height = -np.log1p(level * np.expm1(-2 * concentration)) / concentration
        return metrics.EARTH_RADIUS_KM * np.arccos(np.clip(1 - height, -1, 1))


Spread = ClassSpread | VectorSpread


def entropy_bits(masses: Tensor) -> NDArray[np.float64]:
    """Entropy of each row of probabilities: 0 for a single place, ``log2(n)`` for n equally likely ones.

    Examples
    --------
    >>> entropy_bits(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [0.0, 1.0]
    """
    return (torch.special.entr(masses.cpu().double()).sum(dim=1) / np.log(2)).numpy()


def _evenly(label: NDArray[np.int64], leaf: NDArray[np.uint64], most: NDArray[np.int64]) -> NDArray[np.intp]:
    """Rows of at most so many photos of each label, evenly along the Hilbert curve."""
    order = np.lexsort([leaf, label])
    count = np.bincount(label, minlength=len(most))
    taken = np.minimum(count, most)
    first = np.repeat(np.cumsum(count) - count, taken)
    rank = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    step = (rank + 0.5) * np.repeat(count / np.maximum(taken, 1), taken)
    return order[first + step.astype(np.intp)]


def _country_shares(
    classes: targets.Classes, label: NDArray[np.int64], place: NDArray[np.float64]
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Codes of countries, and which share of each class, of shape (classes + 1, countries), lies in them."""
    if isinstance(classes, cells.Partition):
        known = places.country_codes(*place.T)
    else:  # a class is of one country, whatever the rounding of the places at its border
        known = np.append(classes.countries, "")[label]
    codes, number = np.unique(known, return_inverse=True)
    shares = np.zeros((len(classes) + 1, len(codes)))
    np.add.at(shares, (label, number), 1)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    named = codes != ""
    return codes[named], shares[:, named]
