"""How sure a network may say it is: temperatures, a way to fuse views, and radii, fitted on validation photos alone.

A network is trained to be right, not to know how often it is. A few numbers mend that. None of them changes the place
or the class that is named, though the country with the largest sum can become another:

- a **temperature** for each partition (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017), the one
  number that flattens or sharpens its probabilities until they fit the validation photos best;
- the share of photos that lie **outside** all cells of the partition, where no cell can be right;
- a temperature for the **sums** over countries and continents, since mistakes between cells of one country are none;
- **levels**: to hold half of the photos, a radius may have to hold more or less than half of the network's distribution
  over the Earth. Which share it is, the validation photos say (conformal prediction: Vovk et al., "Algorithmic Learning
  in a Random World", 2005; on distributions: Chernozhukov et al., PNAS 2021).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from helpers import bootstrap, metrics, paths, places, read_outs, spread, targets

PROMISES = (0.5, 0.9)
"""Shares of the photos that a radius is to hold."""
LEAST_PHOTOS, LEAST_AUTHORS = 100, 10
"""With fewer validation photos, or photographers, chance would decide more than the network."""
MOST_PHOTOS = 5000
"""More validation photos would not tell more, and take memory for all classes of all of them."""
BINS = 15
"""Of the expected calibration error, as Guo et al. take them."""
UNCALIBRATED = "it was not asked for"

_PERCENT = np.arange(1, 100) / 100
_TEMPERATURES = (0.02, 50.0)  # beyond, a network is broken
_LEAST = 1e-30  # probability, so that none has an infinite logarithm


@dataclass(frozen=True)
class Calibration:
    """What was fitted for a network, or for several that answer together, and for one way to fuse their views.

    Attributes
    ----------
    fusion
        One of `read_outs.FUSIONS`.
    temperatures
        By model, such as ``fine`` or ``f*``; of vectors, what their length is divided by.
    outside
        Probability that a photo lies in no class, by model.
    sums
        Temperatures of the best founded model's sums, by `spread.SUMS`.
    levels
        Share of the distribution over the Earth that is to be held to hold 1 % … 99 % of the photos.
    photos, authors
        Of validation, that it was fitted on.
    reason
        Why it is not calibrated, "" where it is. Then temperatures are 1 and promises are levels.
    """

    fusion: str = "max"
    temperatures: dict[str, float] = field(default_factory=dict)
    outside: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    levels: tuple[float, ...] = tuple(_PERCENT.tolist())
    photos: int = 0
    authors: int = 0
    reason: str = UNCALIBRATED

    def tempered(self, model: str, shares: Tensor) -> Tensor:
        """Probabilities of the classes of a model, given that the photo lies in one, at its temperature."""
        return _at(self.temperatures.get(model, 1.0), shares)

    def masses(self, earth: spread.Spread, model: str, shares: Tensor) -> Tensor:
        """Distribution over the Earth from what a model says, as `spread` has it."""
        if isinstance(earth, spread.VectorSpread):
            return earth.masses(shares / self.temperatures.get(model, 1.0))
        return earth.masses(self.tempered(model, shares), self.outside.get(model, 0.0))

    def summed(self, earth: spread.ClassSpread, masses: Tensor, kind: str) -> Tensor:
        """Probability of each country, or continent, at the temperature of the sums."""
        plain, temperature = earth.summed(masses, kind), self.sums.get(kind, 1.0)
        return plain if temperature == 1 else _at(temperature, plain) * plain.sum(dim=1, keepdim=True)

    def inside(self, model: str) -> float:
        """Probability that a photo lies in a class of a model."""
        return 1 - self.outside.get(model, 0.0)

    def level(self, promise: float) -> float:
        """Share of the distribution over the Earth that holds a promised share of the photos."""
        return self.levels[round(100 * promise) - 1]

    def unfitted(self, reason: str) -> "Calibration":
        """The same temperatures for an answer whose sums and radii were not fitted, for a reason."""
        return replace(self, sums={}, levels=Calibration.levels, reason=self.reason or reason)

    def held(self, mass: ArrayLike) -> NDArray[np.float64]:
        """Share of photos that are held by a share of the distribution: what :meth:`level` says, read backwards."""
        return np.interp(np.asarray(mass, dtype=np.float64), [0.0, *self.levels, 1.0], [0.0, *_PERCENT, 1.0])


class Answer(NamedTuple):
    """What a network says of photos whose place is known, with their views fused in one way."""

    shares: dict[str, Tensor]
    """Probabilities of classes by model, from `read_outs.ReadOut.shares`, the best founded last."""
    place: NDArray[np.float64]
    """Latitude and longitude of the best founded guesses, of shape (n, 2)."""


class Truth(NamedTuple):
    """Where photos were taken, and who took them."""

    labels: dict[str, NDArray[np.int64]]
    """True class by model, -1 outside all classes; empty for coordinates."""
    place: NDArray[np.float64]
    author: NDArray[np.object_]


def truth(rows: pd.DataFrame, read_out: read_outs.ReadOut | read_outs.CoordinateReadOut) -> Truth:
    """True places and classes of the photos of a list."""
    place = rows[["latitude", "longitude"]].to_numpy(np.float64)
    labels = {}
    if isinstance(read_out, read_outs.ReadOut):
        by_name = {name: targets.labels(classes, *place.T) for name, classes in read_out.classes.items()}
        labels = {model: by_name.get(model, by_name[read_out.finest]) for model in read_out.models}
    author = rows["author"] if "author" in rows else pd.Series("", rows.index)
    return Truth(labels, place, author.to_numpy(object))


def fit(answers: Mapping[str, Answer], known: Truth, earth: spread.Spread) -> tuple[dict[str, Calibration], str]:
    """Fit a calibration for each way to fuse views, and choose one of them.

    Parameters
    ----------
    answers : mapping of str to Answer
        By fusion, for the same validation photos.
    known : Truth
        Of these.
    earth : Spread
        Of the network's finest classes, or its vectors.

    Returns
    -------
    calibrations : dict of str to Calibration
        By fusion. With too few photos they say so, and change nothing.
    best : str
        The fusion under which the validation photos are most likely, by the best founded model; ``max`` where they are
        too few to tell.
    """
    authors = int(bootstrap.author_numbers(known.author, np.arange(len(known.author))).max(initial=-1)) + 1
    reason = _too_few(known, authors)
    if reason:
        return {name: Calibration(name, reason=reason) for name in answers}, next(iter(answers))
    found, surprises = {}, {}
    distances = {name: metrics.great_circle_km(*known.place.T, *each.place.T) for name, each in answers.items()}
    for fusion, answer in answers.items():
        fitted = Calibration(fusion, photos=len(known.author), authors=authors, reason="")
        for model, label in known.labels.items():
            fitted.temperatures[model], surprises[fusion] = _temperature(answer.shares[model], label)
            fitted.outside[model] = float(((label < 0).sum() + 0.5) / (len(label) + 1))
        model, shares = list(answer.shares.items())[-1]
        if isinstance(earth, spread.VectorSpread):
            fitted.temperatures[model], surprises[fusion] = _vector_temperature(earth, shares, distances[fusion])
        else:
            masses = fitted.masses(earth, model, shares)
            for kind in spread.SUMS:
                fitted.sums[kind] = _temperature(earth.summed(masses, kind), _true_names(earth, known, kind))[0]
        nearer = nearer_than_truth(answer, known, earth, fitted)
        found[fusion] = replace(fitted, levels=_levels(nearer))
    return found, min(found, key=lambda fusion: surprises[fusion])


def nearer_than_truth(
    answer: Answer, known: Truth, earth: spread.Spread, calibration: Calibration
) -> NDArray[np.float64]:
    """Share of each photo's distribution over the Earth that is nearer to the guess than the truth is, shape (n,)."""
    model, shares = list(answer.shares.items())[-1]
    distance_km = metrics.great_circle_km(*known.place.T, *answer.place.T)
    return earth.nearer(calibration.masses(earth, model, shares), answer.place, distance_km)


def _true_names(earth: spread.ClassSpread, known: Truth, kind: str) -> NDArray[np.int64]:
    """Number of each photo's country, or continent, among those that are summed to; -1 for none of them."""
    true = places.country_codes(*known.place.T)
    if kind == "continent":
        true = places.countries()["continent"].reindex(true).fillna("").to_numpy(dtype=str)
    return pd.Index(earth.names(kind)).get_indexer(pd.Index(true)).astype(np.int64)


def _too_few(known: Truth, authors: int) -> str:
    photos = len(known.author)
    inside = min([photos, *((label >= 0).sum() for label in known.labels.values())])
    if photos < LEAST_PHOTOS or inside < LEAST_PHOTOS // 2 or authors < LEAST_AUTHORS:
        return (
            f"{photos} validation photos by {authors} authors, {inside} of them in a class, are too few to calibrate "
            f"on: it takes {LEAST_PHOTOS} by {LEAST_AUTHORS}, and half of them in a class"
        )
    return ""


def surprise(shares: Tensor, label: NDArray[np.int64]) -> float:
    """Mean over the photos that lie in a class of minus the logarithm of its probability, in nats; NaN for no photo."""
    labelled = np.flatnonzero(label >= 0)
    if not len(labelled):
        return float("nan")
    at_truth = shares[torch.from_numpy(labelled), torch.from_numpy(label[labelled])]
    return float(-at_truth.cpu().double().clamp_min(_LEAST).log().mean())


def _temperature(shares: Tensor, label: NDArray[np.int64]) -> tuple[float, float]:
    """Temperature under which the true classes are most likely, and their mean surprise in nats then."""
    labelled = torch.from_numpy(np.flatnonzero(label >= 0)).to(shares.device)
    true_class = torch.from_numpy(label[label >= 0]).to(shares.device)
    if not len(labelled):
        return 1.0, float("nan")
    logits = shares.index_select(0, labelled).clamp_min(_LEAST).log()
    return _least(lambda temperature: float(nn.functional.cross_entropy(logits / temperature, true_class)))


def _vector_temperature(
    earth: spread.VectorSpread, vectors: Tensor, distance_km: NDArray[np.float64]
) -> tuple[float, float]:
    return _least(lambda temperature: earth.surprise(earth.masses(vectors / temperature), distance_km))


def _least(surprise_at: Callable[[float], float]) -> tuple[float, float]:
    """Temperature under which the surprise is least, and that surprise."""
    bounds, options = np.log(_TEMPERATURES), {"xatol": 1e-3}
    found = minimize_scalar(lambda x: surprise_at(float(np.exp(x))), bounds=bounds, method="bounded", options=options)
    return float(np.exp(found.x)), float(found.fun)


def _at(temperature: float, shares: Tensor) -> Tensor:
    return shares if temperature == 1 else (shares.clamp_min(_LEAST).log() / temperature).softmax(dim=1)


def _levels(nearer: NDArray[np.float64]) -> tuple[float, ...]:
    """Levels that hold 1 % … 99 % of such photos.

    A photo is held where less than the level is nearer. Of n photos, the k-th smallest share with k = ⌈(n + 1) p⌉
    would hold another photo of the same kind with a probability of p or more; with fewer than k, only the whole Earth
    does. It holds nearly as many here, where temperatures and the epoch were chosen on the same photos, and some share
    an author.
    """
    ordered = np.append(np.sort(nearer), 1.0)
    rank = np.ceil((len(nearer) + 1) * _PERCENT - 1e-9).astype(int)
    return tuple(np.nextafter(ordered[np.minimum(rank - 1, len(nearer))], 2).tolist())


def write(calibrations: Mapping[str, tuple[dict[str, Calibration], str]], path: Path) -> None:
    """Write the calibrations of a run: by scene, or for ``all`` photos, what :func:`fit` gave."""
    table = {
        scene: {"fusion": best, "calibrations": {name: asdict(each) for name, each in by_fusion.items()}}
        for scene, (by_fusion, best) in calibrations.items()
    }
    with paths.replacing(path) as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n")


def read(path: Path) -> dict[str, tuple[dict[str, Calibration], str]]:
    """Read what :func:`write` wrote.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    try:
        table: dict[str, Any] = json.loads(path.read_text())
        return {
            scene: (
                {
                    name: Calibration(**{**each, "levels": tuple(map(float, each["levels"]))})
                    for name, each in found["calibrations"].items()
                },
                str(found["fusion"]),
            )
            for scene, found in table.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no calibration ({error}): make it again with 05_evaluation/calibrate.ipynb"
        ) from None


def expected_error(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: how far confidence and share of right guesses are apart, weighted over equal bins.

    Parameters
    ----------
    confidence : array_like of float, shape (n,)
        From 0 to 1.
    right : array_like of bool, shape (n,)
    bins : int
        Equally wide, from 0 to 1.

    Returns
    -------
    float
        From 0 to 1.

    Notes
    -----
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 5.

    Examples
    --------
    >>> expected_error([0.9, 0.9, 0.1, 0.1], [True, False, False, False])
    0.25
    """
    sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(sure) or sure.shape != hit.shape:
        raise ValueError(f"{len(sure)} confidences and {len(hit)} outcomes: give one of each per photo, at least one")
    bin_of = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gap = np.abs(np.bincount(bin_of, weights=sure - hit, minlength=bins))
    return float(gap.sum() / len(sure))


def reliability(
    confidence: ArrayLike,
    right: ArrayLike,
    author: ArrayLike,
    bins: int = 10,
    resamples: int = 1000,
    *,
    seed: int,
) -> pd.DataFrame:
    """How often guesses are right that are about equally sure: rows of a reliability diagram.

    Parameters
    ----------
    confidence : array_like of float, shape (n,)
    right : array_like of bool, shape (n,)
    author : array_like of str, shape (n,)
    bins : int
        Of about equally many photos; equal confidences share one.
    resamples, seed : int
        As in `bootstrap.share_intervals`.

    Returns
    -------
    DataFrame
        ``photos, confidence`` (mean), ``right`` (share), ``low, high`` (95 % interval), from the least sure on.
    """
    table = pd.DataFrame({"confidence": np.asarray(confidence, float), "right": np.asarray(right, bool)})
    table["author"] = np.asarray(author, dtype=object)
    rank = table["confidence"].rank(method="average") - 1
    rows = []
    for _, group in table.groupby((bins * rank / len(table)).astype(int)):
        low, high = bootstrap.share_intervals(group["right"], group["author"], resamples, seed=seed)
        rows.append([len(group), group["confidence"].mean(), group["right"].mean(), low, high])
    return pd.DataFrame(rows, columns=["photos", "confidence", "right", "low", "high"])
