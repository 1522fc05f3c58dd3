"""Training photos that a run keeps to search among: what they look like to its backbone, and where they were taken."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from helpers import metrics, models, paths

FILE = "gallery.safetensors"
"""Of a run's folder."""
MOST_PHOTOS = 100_000
"""That are kept, drawn at random from more: beyond, a search would take longer than the network."""
DIRECTIONS = 256
"""Directions in which features differ most, that are compared."""

EVENLY = (1 / len(metrics.THRESHOLDS_KM),) * len(metrics.THRESHOLDS_KM)
"""A reach of which nothing is known."""

_VERSION, _METADATA = 1, "gallery"
# As a share of the widest direction's spread, so that noise in narrow ones is not blown up.
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Gallery:
    """Training photos that lie in a class.

    Attributes
    ----------
    keys : float32 Tensor of shape (photos, directions)
        Whitened features, of length 1.
    coordinates : float64 array of shape (photos, 2)
        Latitude and longitude in degrees, rounded to two decimals.
    labels : int64 array of shape (photos,)
        Finest class of each.
    sharpness : float
        What similarity weighs, from `search.Search.fitted`.
    temperature : float
        What the classes' logarithms of probability are divided by, from `search.Search.fitted`.
    reach : tuple of float
        Shares of photos that are about 1, 25, 200, 750 and 2500 km from where a photo stands for them, from
        `search.Search.fitted`; they sum to 1.
    """

    keys: Tensor
    coordinates: NDArray[np.float64]
    labels: NDArray[np.int64]
    sharpness: float
    temperature: float
    reach: tuple[float, ...] = EVENLY


def whitening(features: Tensor) -> models.Projection:
    """Projection to the directions in which features differ most, each made to spread alike.

    Parameters
    ----------
    features : float32 Tensor of shape (n, features)
        Of training photos.

    Returns
    -------
    Projection
        To :data:`DIRECTIONS`, or to half as many as there are photos: along those in which few photos hardly differ,
        others may differ by much, and nothing else would count.

    Raises
    ------
    ValueError
        If there are none.

    Notes
    -----
    Principal components divided by their spread: what many photos have in common counts less then, and what sets them
    apart counts more (Jégou and Chum, "Negative Evidences and Co-occurences in Image Retrieval", ECCV 2012).
    """
    if not len(features):
        raise ValueError(
            "no training photo that lies in a class could be read, so there is none to search among: mend the photos, "
            "or set preset plain"
        )
    centred = features.double() - features.double().mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / max(len(features) - 1, 1))
    kept = max(1, min(DIRECTIONS, features.shape[1], len(features) // 2))
    spreads = variances.flip(0)[:kept].clamp_min(0).sqrt()
    floored = spreads + _LEAST_SPREAD * spreads[0].clamp_min(1e-12)
    projection = models.Projection(features.shape[1], kept)
    projection.mean.copy_(features.double().mean(dim=0))
    projection.weight.data.copy_((directions.flip(1)[:, :kept] / floored).T)
    return projection


def drawn(count: int, seed: int) -> NDArray[np.int64]:
    """Numbers of the photos that are kept of so many."""
    if count <= MOST_PHOTOS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST_PHOTOS, replace=False))


def write(gallery: Gallery, path: Path) -> None:
    """Keep a gallery, its keys in half precision."""
    tensors = {
        "keys": gallery.keys.half().contiguous(),
        "coordinates": torch.from_numpy(gallery.coordinates).contiguous(),
        "labels": torch.from_numpy(gallery.labels),
    }
    fitted = {"sharpness": gallery.sharpness, "temperature": gallery.temperature, "reach": gallery.reach}
    told = {"version": _VERSION, **fitted}
    with paths.replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {_METADATA: json.dumps(told, sort_keys=True)})


def read(path: Path) -> Gallery:
    """Read what :func:`write` kept.

    Raises
    ------
    ValueError
        If the file is gone, damaged, of another version of this code, or holds what no gallery does.
    """
    remedy = "train the run anew with 04_training/train.ipynb"
    try:
        with safetensors.safe_open(path, "pt") as opened:
            told = json.loads((opened.metadata() or {}).get(_METADATA, "{}"))
            told = told if isinstance(told, dict) else {}
            keys, coordinates, labels = (opened.get_tensor(name) for name in ("keys", "coordinates", "labels"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"the gallery {path} cannot be read ({error}): {remedy}") from error
    if told.get("version") != _VERSION:
        raise ValueError(f"the gallery {path} is of version {told.get('version')}, not {_VERSION}: {remedy}")
    count = len(keys)
    if keys.ndim != 2 or not count or coordinates.shape != (count, 2) or labels.shape != (count,):
        raise ValueError(f"the gallery {path} holds tables of different lengths: {remedy}")
    try:
        sharpness, temperature = float(told["sharpness"]), float(told["temperature"])
        reach = tuple(float(share) for share in told["reach"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the gallery {path} does not tell its sharpness, temperature and reach: {remedy}") from error
    found = Gallery(
        *(functional.normalize(keys.float(), dim=1), coordinates.double().numpy(), labels.long().numpy()),
        *(sharpness, temperature, reach),
    )
    limits = np.abs(found.coordinates) <= (90, 180)
    numbers = math.isfinite(sharpness) and 0 < temperature < math.inf and bool(found.keys.isfinite().all())
    shares = len(reach) == len(EVENLY) and min(reach) >= 0 and math.isclose(sum(reach), 1, abs_tol=1e-6)
    if not numbers or not shares or not limits.all() or found.labels.min() < 0:
        raise ValueError(f"the gallery {path} holds numbers that cannot be: {remedy}")
    return found


def are_of_same_photos(galleries: list[Gallery]) -> bool:
    """Whether all of them have photos of the same places and classes, in the same order."""
    first = galleries[0]
    return all(
        np.array_equal(first.labels, other.labels) and np.array_equal(first.coordinates, other.coordinates)
        for other in galleries[1:]
    )


def joined(galleries: list[Gallery]) -> Gallery:
    """The gallery of networks that answer together, whose keys lie side by side.

    Raises
    ------
    ValueError
        If they are not of the same photos.
    """
    if not are_of_same_photos(galleries):
        raise ValueError(
            "the networks have galleries of different photos, so they cannot search together: train both on the same "
            "list with the same seed"
        )
    first = galleries[0]
    keys = functional.normalize(torch.cat([each.keys for each in galleries], dim=1), dim=1)
    sharpness, temperature = (
        float(np.mean([getattr(each, name) for each in galleries])) for name in ("sharpness", "temperature")
    )
    reach = np.mean([each.reach for each in galleries], axis=0)
    return Gallery(keys, first.coordinates, first.labels, sharpness, temperature, tuple(reach.tolist()))
