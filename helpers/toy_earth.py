"""The embedded dataset: rendered street-level scenes of places that exist.

A coordinate has facts (:mod:`helpers.toy_earth_facts`), facts have looks (:mod:`helpers.toy_earth_styles`), and a photo
adds a moment and a subject (:mod:`helpers.toy_earth_scenes`), drawn with :mod:`helpers.toy_earth_drawing`. It is a
known world for tests and demonstrations, never a photo benchmark.
"""

import hashlib
import io
import math
import random
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

from helpers import toy_earth_drawing as drawing
from helpers import toy_earth_facts as world
from helpers import toy_earth_scenes as composition
from helpers.toy_earth_facts import facts

__all__ = ["KINDS", "facts", "render", "render_jpeg", "render_kinds", "sample", "scenes"]

KINDS = drawing.KINDS

JPEG_QUALITY = 88


# Where people take photos


def sample(count: int, seed: int) -> pd.DataFrame:
    """Draw photos of the embedded world: who took them, where, and of what.

    Parameters
    ----------
    count : int
        Number of photos.
    seed : int
        Same count and seed, same table.

    Returns
    -------
    DataFrame, `count` rows
        Columns ``id, path, latitude, longitude, author, country, scene``. Authors have 3 to 40 photos, most of them
        few; they stay at a place for a while, mostly near home, and travel now and then.

    Raises
    ------
    ValueError
        If `count` is below 1 or has more than six digits.
    """
    if not 1 <= count <= 10**6:
        raise ValueError(f"count is {count}: ask for 1 to 1,000,000 photos of toy-earth")
    rng = np.random.default_rng([seed, count])
    author = _authors(count, rng)
    latitude, longitude = _positions(author, rng)
    ids = np.array([f"toy-{seed}-{index:06d}" for index in range(count)], dtype=object)
    known = facts(latitude, longitude)
    key = _keys(ids)
    return pd.DataFrame(
        {
            "id": ids,
            "path": [
                f"{shard:02x}/{name}.jpg" for shard, name in zip((key & np.uint64(255)).tolist(), ids, strict=True)
            ],
            "latitude": latitude,
            "longitude": longitude,
            "author": [f"author-{number:04d}" for number in author],
            "country": known["country"],
            "scene": _scenes(key, known),
        }
    )


def scenes(ids: Iterable[str], latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.object_]:
    """Scene class of photos, known without rendering them.

    Parameters
    ----------
    ids : iterable of str, n of them
    latitude, longitude : array_like of float, shape (n,)
        Degrees.

    Returns
    -------
    ndarray of str, shape (n,)
        ``indoor``, ``natural`` or ``urban``.
    """
    return _scenes(_keys(np.array(list(ids), dtype=object)), facts(latitude, longitude))


def _scenes(key: NDArray[np.uint64], known: pd.DataFrame) -> NDArray[np.object_]:
    subject = composition.subjects(key, known["density"].to_numpy(), known["coast"].to_numpy())
    return np.array([composition.SUBJECTS[name] for name in subject], dtype=object)


def _authors(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Author of each photo; the number of photos of an author has a heavy tail (Pareto, exponent 1.1)."""
    photos = np.minimum(3 * rng.random(count // 3 + 1) ** (-1 / 1.1), 40).astype(int)
    return np.repeat(np.arange(len(photos)), photos)[:count]


def _positions(author: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    towns = world.towns()
    weight = towns["population"].to_numpy(dtype=float) ** 0.75
    by_country = towns["country"].to_numpy()
    share = pd.Series(weight).groupby(by_country).transform("sum") / weight.sum()
    weight *= np.minimum(1, 0.05 / share.to_numpy())  # no country above about a twentieth, so the whole world is there
    cumulative = np.cumsum(weight) / weight.sum()

    def anywhere(number: int) -> NDArray[np.int64]:
        return np.searchsorted(cumulative, rng.random(number), side="right").clip(max=len(towns) - 1)

    # A stop is a stay at one place: a new one begins with each author and then with every fourth photo or so.
    first = np.r_[True, author[1:] != author[:-1]]
    stop = np.cumsum(first | (rng.random(len(author)) < 0.25)) - 1
    stops = stop[-1] + 1
    home = anywhere(author[-1] + 1)[author[np.r_[True, stop[1:] != stop[:-1]]]]
    _, near = world.town_tree().query(world.town_tree().data[home], k=8)
    nearby = near[np.arange(stops), (rng.random(stops) * near.shape[1]).astype(int)]
    dice = rng.random(stops)
    town = np.where(dice < 0.45, home, np.where(dice < 0.8, nearby, anywhere(stops)))
    centre = towns[["latitude", "longitude"]].to_numpy()[town]
    around = _jitter(centre, 0.1 * 300 ** rng.random(stops), rng)  # 0.1 to 30 km, evenly on a logarithmic scale
    at_sea = world.climate(around[:, 0], around[:, 1]) == world.OCEAN
    around[at_sea] = centre[at_sea]
    spot = around[stop]
    again = rng.random(len(author)) < 0.3  # the same spot as before, to the metre
    moved = _jitter(spot, 0.3 * rng.random(len(author)), rng)
    latitude, longitude = np.round(np.where(again[:, None], spot, moved), 5).T
    return latitude, longitude


def _jitter(points: NDArray[np.float64], radius_km: ArrayLike, rng: np.random.Generator) -> NDArray[np.float64]:
    turn = 2 * math.pi * rng.random(len(points))
    degrees = np.asarray(radius_km) / 111.2
    north = np.clip(points[:, 0] + degrees * np.sin(turn), -89.9, 89.9)
    east = points[:, 1] + degrees * np.cos(turn) / np.cos(np.radians(north))
    return np.column_stack([north, (east + 180) % 360 - 180])


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _keys(ids: NDArray[np.object_]) -> NDArray[np.uint64]:
    return np.fromiter(map(_key, ids), np.uint64, len(ids))


# From the view to the file


def _develop(view: drawing.View, scene: composition.Scene) -> Image.Image:
    """What lies between the scene and the file: rain or snow in the air, focus, exposure, grain."""
    uniform = scene.uniform
    outdoors = scene.subject not in ("room", "table")
    if outdoors and scene.weather == "rain":
        for _ in range(60 if not scene.snow else 130):
            x, y = int(uniform() * view.width), int(uniform() * view.height)
            if scene.snow:
                view.glaze.ellipse((x, y, x + 3, y + 3), (248, 250, 252, 210))
            else:
                view.glaze.line((x, y, x - 3, y + 16), (222, 228, 236, 90), 1)
    picture = view.image.reduce(2)
    if uniform() < 0.04:
        picture = picture.filter(ImageFilter.BoxBlur(1))
    exposure, warmth = 236 + int(44 * uniform()), int(16 * uniform()) - 8
    pixels = np.asarray(picture).astype(np.int32)
    pixels *= np.array([exposure + warmth, exposure, exposure - warmth], np.int32)
    top, left = int(uniform() * 96), int(uniform() * 96)
    noise = drawing.grain()[top : top + picture.height, left : left + picture.width]
    pixels += (noise * (40 if view.light.night else 16 + int(36 * uniform() * uniform()))).astype(np.int32)[
        ..., None
    ] * 4
    return Image.fromarray((pixels >> 8).clip(0, 255).astype(np.uint8))


def render(id: str, latitude: float, longitude: float) -> Image.Image:
    """Draw the scene that a photo of this name shows at this coordinate.

    Parameters
    ----------
    id : str
        Decides date, weather, subject and every other chance.
    latitude, longitude : float
        Degrees, -90 to 90 and -180 to 180.

    Returns
    -------
    Image
        RGB, 160 x 128 or 128 x 160 pixels, the same on every call.

    Raises
    ------
    ValueError
        If the coordinate is not on the Earth.
    """
    scene = _scene(id, latitude, longitude)
    return _develop(composition.draw(scene), scene)


def render_kinds(id: str, latitude: float, longitude: float) -> Image.Image:
    """What each pixel of :func:`render` shows: a map of a known world, before weather, focus and grain.

    Parameters
    ----------
    id : str
    latitude, longitude : float
        Degrees.

    Returns
    -------
    Image
        Grey (mode ``L``), of the size of the photo; its values are places in :data:`KINDS`.

    Raises
    ------
    ValueError
        If the coordinate is not on the Earth.

    Examples
    --------
    >>> kinds = render_kinds("a street", 48.86, 2.35)
    >>> [KINDS[kinds.getpixel(place)] for place in ((64, 3), (64, 155))]
    ['sky', 'road']
    """
    kinds = composition.draw(_scene(id, latitude, longitude), mapped=True).kinds
    return Image.fromarray(np.asarray(kinds)[::2, ::2])  # drawn at twice the size


def _scene(id: str, latitude: float, longitude: float) -> composition.Scene:
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError(
            f"photo {id!r} has latitude {latitude}, longitude {longitude}: give degrees within ±90 and ±180"
        )
    key, place = _key(id), world.place(latitude, longitude)
    subject = composition.subjects(np.array([key], np.uint64), np.array([place.density]), np.array([place.coast]))[0]
    # Python promises the same random() from the same seed in every version; NumPy does not.
    return composition.moment(place, subject, random.Random(key).random)


def render_jpeg(id: str, latitude: float, longitude: float) -> bytes:
    """The scene of :func:`render` as a JPEG file of fixed settings."""
    buffer = io.BytesIO()
    render(id, latitude, longitude).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=2)
    return buffer.getvalue()
