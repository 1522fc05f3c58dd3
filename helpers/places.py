"""Country, region and height of a coordinate, from the files in ``helpers/world``.

Regions are the states and provinces of Natural Earth at 1:10 m. A country is what its regions belong to, so the two
never disagree.
"""

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.spatial import cKDTree

from helpers import cluster, metrics

NOWHERE = -1
"""Number of the region of a coordinate that has none."""
OFFSHORE_KM = 22.224
"""How far out a coordinate still belongs to a coast: 12 nautical miles, a territorial sea (UN Convention on the Law
of the Sea, article 3)."""

_WORLD = Path(__file__).resolve().parent / "world"
_BOXES_PER_DEGREE = 4
_ROWS, _COLUMNS = 180 * _BOXES_PER_DEGREE, 360 * _BOXES_PER_DEGREE
_MIXED = -2  # of a box that an outline runs through
_PIECE_KM = 2.0
_COORDINATES_PER_TASK = 500_000


@cache
def outlines() -> geopandas.GeoDataFrame:
    """Outlines of the countries for maps, at 1:50 m: ``code``, ``name``, ``continent``."""
    return geopandas.read_parquet(_WORLD / "outlines.parquet")


@cache
def regions() -> geopandas.GeoDataFrame:
    """States and provinces of the world, at 1:10 m.

    Returns
    -------
    GeoDataFrame
        ``region``, its name and its country's, e.g. ``Bayern, Germany``, which is unique; ``country``, a code of
        :func:`countries`; ``latitude, longitude`` of its centroid on the sphere, which can lie outside of it, in
        degrees; and its ``geometry``. A region is called by its row.
    """
    return geopandas.read_parquet(_WORLD / "regions.parquet")


@cache
def countries() -> pd.DataFrame:
    """Countries of the world by their code.

    Returns
    -------
    DataFrame
        ``name`` (English, unique), ``continent``, and ``latitude, longitude`` of the place with the least mean distance
        to its regions, in degrees. The index is the code of ISO 3166-1 alpha-2; ``XK`` of Kosovo; or the three letters
        that Natural Earth gives to what ISO has no code for, such as ``CYN``, Northern Cyprus, and ``SOL``, Somaliland.
    """
    # Else the code of Namibia would be read as "not available".
    return pd.read_csv(_WORLD / "countries.csv", index_col="code", keep_default_na=False)


@cache
def _elevation() -> NDArray[np.uint16]:
    return np.asarray(Image.open(_WORLD / "elevation.png"), dtype=np.uint16)


def locate(latitude: ArrayLike, longitude: ArrayLike, limit_km: float = OFFSHORE_KM) -> NDArray[np.int32]:
    """Number of the region that holds each coordinate, or of the nearest one for a coordinate off the coast.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees; NaN where unknown.
    limit_km : float
        Great-circle distance to the nearest region beyond which a coordinate has none.

    Returns
    -------
    ndarray of int32, shape (n,)
        Rows of :func:`regions`; `NOWHERE` in the middle of an ocean, and where the coordinate is unknown.

    Examples
    --------
    >>> regions()["region"].iloc[locate([48.14, 21.29], [11.58, -157.85])].tolist()
    ['Bayern, Germany', 'Hawaii, United States']
    >>> locate([0.0, float("nan")], [-30.0, 5.0]).tolist()
    [-1, -1]
    """
    return _located(_Task(*_known(latitude, longitude), limit_km)).region


def country_codes(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.str_]:
    """Code of the country of each coordinate, "" where :func:`locate` finds no region.

    Examples
    --------
    >>> country_codes([48.86, 0.0], [2.35, -30.0]).tolist()
    ['FR', '']
    """
    region = locate(latitude, longitude)
    codes = regions()["country"].to_numpy(dtype=str)
    return np.where(region == NOWHERE, "", codes[region])


def locate_all(
    latitude: ArrayLike, longitude: ArrayLike, limit_km: float = OFFSHORE_KM
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """As :func:`locate`, on the workers of a Dask scheduler if the environment names one, and with the distance.

    Returns
    -------
    region : ndarray of int32, shape (n,)
    offshore_km : ndarray of float64, shape (n,)
        Great-circle distance to it: 0 within it, infinite where there is none.
    """
    latitude, longitude = _known(latitude, longitude)
    # Where there is no cluster yet, starting processes, each of which draws the coasts anew, would take longer than ten
    # million coordinates do in this one.
    size = _COORDINATES_PER_TASK if cluster.SCHEDULER in os.environ else max(len(latitude), 1)
    starts = range(0, max(len(latitude), 1), size)
    tasks = [_Task(latitude[start : start + size], longitude[start : start + size], limit_km) for start in starts]
    done = dict(cluster.mapped(_located, tasks, "locating", len(latitude), "coordinates"))
    parts = [done[number] for number in range(len(tasks))]
    return np.concatenate([part.region for part in parts]), np.concatenate([part.offshore_km for part in parts])


def nearest_centroid(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.int64]:
    """Number of the region whose centroid is nearest to each coordinate.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.

    Returns
    -------
    ndarray of int64, shape (n,)
        Rows of :func:`regions`.

    Examples
    --------
    >>> regions()["region"].iloc[nearest_centroid([-33.4], [-70.6])].tolist()
    ['Región Metropolitana de Santiago, Chile']
    """
    # Chords grow with arcs, so the tree of the solid ball finds what is nearest on the sphere. In float32 it would not.
    return _centroids().query(metrics.unit_vectors(latitude, longitude))[1]


def elevation_m(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Mean height above the sea of the quarter-degree grid cell around each coordinate, in metres, 0 at sea.

    Examples
    --------
    >>> lhasa, amsterdam = elevation_m([29.65, 52.37], [91.1, 4.9])
    >>> bool(lhasa > 3500), bool(amsterdam < 30)
    (True, True)
    """
    grid = _elevation()
    row = ((90 - np.asarray(latitude, dtype=float)) * grid.shape[0] / 180).astype(int).clip(0, grid.shape[0] - 1)
    column = ((np.asarray(longitude, dtype=float) + 180) * grid.shape[1] / 360).astype(int) % grid.shape[1]
    return grid[row, column].astype(np.float64)


class _Task(NamedTuple):
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    limit_km: float


class _Located(NamedTuple):
    region: NDArray[np.int32]
    offshore_km: NDArray[np.float64]


class _Boxes(NamedTuple):
    """The world in boxes of a quarter degree, most of which lie within one region, or in none."""

    region: NDArray[np.int32]
    """Of each box: a region, `NOWHERE` or `_MIXED`."""
    candidates: NDArray[np.int32]
    """Regions whose outlines run through the mixed boxes, box after box."""
    first: NDArray[np.int64]
    """Of each box: where its candidates begin,"""
    touching: NDArray[np.int64]
    """and how many there are."""


class _Coast(NamedTuple):
    """Outlines that no two regions share, in pieces of `_PIECE_KM` at most, as unit vectors."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    region: NDArray[np.int32]
    middles: cKDTree


def _known(latitude: ArrayLike, longitude: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates as arrays, NaN in both where one is missing.

    Raises
    ------
    ValueError
        If a latitude is beyond 90 degrees, or a longitude beyond 180.
    """
    latitude, longitude = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    unknown = np.isnan(latitude) | np.isnan(longitude)
    outside = ~unknown & ((np.abs(latitude) > 90) | (np.abs(longitude) > 180))
    if outside.any():
        first = int(outside.argmax())
        raise ValueError(
            f"coordinate number {first} is {latitude[first]}, {longitude[first]}: latitudes go from -90 to 90 and "
            "longitudes from -180 to 180, correct it"
        )
    return np.where(unknown, np.nan, latitude), np.where(unknown, np.nan, longitude)


def _located(task: _Task) -> _Located:
    known = ~np.isnan(task.latitude)
    latitude, longitude = task.latitude[known], task.longitude[known]
    region = np.full(len(task.latitude), NOWHERE, dtype=np.int32)
    distance_km = np.full(len(region), np.inf)
    region[known] = _holding(latitude, longitude)
    distance_km[region >= 0] = 0
    at_sea = np.flatnonzero(known & (region < 0))
    if len(at_sea) and task.limit_km > 0:
        vectors = metrics.unit_vectors(task.latitude[at_sea], task.longitude[at_sea])
        region[at_sea], distance_km[at_sea] = _nearest(vectors, task.limit_km)
    cluster.done(len(region))
    return _Located(region, distance_km)


def _holding(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.int32]:
    """The first region that holds each coordinate, within it or on its border, else `NOWHERE`.

    Only for coordinates in boxes that an outline runs through is anything tested.
    """
    boxes = _boxes()
    box = _box(latitude, longitude)
    region = boxes.region[box]
    mixed = np.flatnonzero(region == _MIXED)
    count = boxes.touching[box[mixed]]
    coordinate = np.repeat(mixed, count)
    candidate = boxes.candidates[np.repeat(boxes.first[box[mixed]], count) + _ranges(count)]
    inside = shapely.intersects_xy(_shapes()[candidate], longitude[coordinate], latitude[coordinate])
    region[mixed] = NOWHERE
    # Backwards, so that of the neighbours at a border, which photos rounded to whole degrees lie on, the first is
    # written last.
    region[coordinate[inside][::-1]] = candidate[inside][::-1]
    return region


def _nearest(vectors: NDArray[np.float64], limit_km: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The region with the nearest coast, and the distance to it in km, if within the limit."""
    coast = _coast()
    region = np.full(len(vectors), NOWHERE, dtype=np.int32)
    distance_km = np.full(len(vectors), np.inf)
    # The nearest piece may have its middle half a piece further away than the nearest middle is.
    reach = _chord(limit_km + _PIECE_KM / 2)
    chord, _ = coast.middles.query(vectors, distance_upper_bound=reach)
    near = np.flatnonzero(np.isfinite(chord))
    pieces = coast.middles.query_ball_point(
        vectors[near], _chord(metrics.chord_km(chord[near]) + _PIECE_KM / 2) + 1e-12
    )
    count = np.array([len(found) for found in pieces], dtype=np.int64)
    if not len(count):
        return region, distance_km
    piece = np.concatenate([np.asarray(found, dtype=np.int64) for found in pieces])
    point = np.repeat(near, count)

    start, along = coast.start[piece], coast.end[piece] - coast.start[piece]
    length = (along**2).sum(axis=1)
    ahead = ((vectors[point] - start) * along).sum(axis=1)
    share = np.divide(ahead, length, out=np.zeros_like(length), where=length > 0).clip(0, 1)
    found_km = metrics.chord_km(np.linalg.norm(vectors[point] - start - share[:, None] * along, axis=1))
    order = np.lexsort([coast.region[piece], found_km, point])
    first = order[np.r_[True, np.diff(point[order]) > 0]]
    first = first[found_km[first] <= limit_km]
    region[point[first]], distance_km[point[first]] = coast.region[piece[first]], found_km[first]
    return region, distance_km


@cache
def _shapes() -> NDArray[np.object_]:
    shapes = regions().geometry.to_numpy()
    shapely.prepare(shapes)
    return np.asarray(shapes, dtype=object)


@cache
def _centroids() -> cKDTree:
    return cKDTree(metrics.unit_vectors(regions()["latitude"], regions()["longitude"]))


@cache
def _boxes() -> _Boxes:
    start, end, owner = _edges()
    # In steps of half a box, so that each lies in the boxes of its ends, or in the two beside both.
    parts = np.ceil(np.abs(end - start).max(axis=1) * 2 * _BOXES_PER_DEGREE).astype(np.int64).clip(min=1)
    start, end, owner = _split(start, end, owner, parts)
    (row, column), (row_of_end, column_of_end) = _row_column(*start.T[::-1]), _row_column(*end.T[::-1])
    touched = [rows * _COLUMNS + columns for rows in (row, row_of_end) for columns in (column, column_of_end)]
    pairs = np.unique(np.concatenate(touched) * len(regions()) + np.tile(owner, 4))
    box, candidates = np.divmod(pairs, len(regions()))
    count = np.bincount(box, minlength=_ROWS * _COLUMNS)

    # No outline runs between neighbours in a row that none touches: one test tells of all of them.
    free = (count == 0).reshape(_ROWS, _COLUMNS)
    begins = free & ~np.pad(free, ((0, 0), (1, 0)))[:, :-1]
    row, column = np.nonzero(begins)
    centres = shapely.points((column + 0.5) / _BOXES_PER_DEGREE - 180, (row + 0.5) / _BOXES_PER_DEGREE - 90)
    holding, centre = shapely.STRtree(centres).query(_shapes(), predicate="contains")
    of_run = np.full(len(centres), NOWHERE, dtype=np.int32)
    of_run[centre[::-1]] = holding[::-1]
    run = np.cumsum(begins) - 1
    region = np.where(free.ravel(), of_run[run], _MIXED).astype(np.int32)
    return _Boxes(region, candidates.astype(np.int32), np.cumsum(count) - count, count)


@cache
def _coast() -> _Coast:
    start, end, owner = _edges()
    # What two regions share is no coast. Outlines are drawn both ways along it, between the very same points.
    _, point = np.unique(np.concatenate([start, end]), axis=0, return_inverse=True)
    ends = np.sort(point.reshape(2, -1), axis=0).astype(np.int64)
    _, edge, times = np.unique(ends[0] * len(point) + ends[1], return_inverse=True, return_counts=True)
    alone = times[edge] == 1
    start, end, owner = start[alone], end[alone], owner[alone]
    length_km = metrics.chord_km(np.linalg.norm(_vectors(end) - _vectors(start), axis=1))
    start, end, owner = _split(start, end, owner, np.ceil(length_km / _PIECE_KM).astype(np.int64).clip(min=1))
    middles = cKDTree(_vectors((start + end) / 2))
    return _Coast(_vectors(start), _vectors(end), owner.astype(np.int32), middles)


def _edges() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Start and end of every edge of the outlines (longitude, latitude), and the region it is of."""
    part, owner = shapely.get_parts(_shapes(), return_index=True)
    ring, part_of_ring = shapely.get_rings(part, return_index=True)
    points, ring_of_point = shapely.get_coordinates(ring, return_index=True)
    inside = ring_of_point[1:] == ring_of_point[:-1]
    return points[:-1][inside], points[1:][inside], owner[part_of_ring[ring_of_point[1:][inside]]]


def _split(
    start: NDArray[np.float64], end: NDArray[np.float64], owner: NDArray[np.int64], parts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Edges in `parts` equal parts each."""
    edge, number = np.repeat(np.arange(len(parts)), parts), _ranges(parts)[:, None]
    step = ((end - start) / parts[:, None])[edge]
    return start[edge] + number * step, start[edge] + (number + 1) * step, owner[edge]


def _ranges(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2, ... for each of the counts, one after the other.

    Examples
    --------
    >>> _ranges(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _box(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.int64]:
    row, column = _row_column(latitude, longitude)
    return row * _COLUMNS + column


def _row_column(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    row = np.floor((latitude + 90) * _BOXES_PER_DEGREE).astype(np.int64).clip(0, _ROWS - 1)
    column = np.floor((longitude + 180) * _BOXES_PER_DEGREE).astype(np.int64).clip(0, _COLUMNS - 1)
    return row, column


def _vectors(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    return metrics.unit_vectors(degrees[:, 1], degrees[:, 0])


def _chord(kilometres: ArrayLike) -> NDArray[np.float64]:
    """Length of the straight line through the Earth, in radii, between the ends of an arc."""
    return 2 * np.sin(np.minimum(np.asarray(kilometres) / (2 * metrics.EARTH_RADIUS_KM), np.pi / 2))
