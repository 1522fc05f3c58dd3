"""Country and height of a coordinate, from the files in ``helpers/world``."""

from functools import cache
from pathlib import Path

import geopandas
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from PIL import Image

_WORLD = Path(__file__).resolve().parent / "world"


@cache
def countries() -> geopandas.GeoDataFrame:
    """Outlines of the countries: ``code`` (ISO 3166-1 alpha-2, else Natural Earth's), ``name``, ``continent``."""
    return geopandas.read_parquet(_WORLD / "countries.parquet")


@cache
def _elevation() -> NDArray[np.uint16]:
    return np.asarray(Image.open(_WORLD / "elevation.png"), dtype=np.uint16)


def country(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.object_]:
    """Code of the country that holds each coordinate, or the nearest country for one at sea.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.

    Returns
    -------
    ndarray of str, shape (n,)
        Codes of :func:`countries`.

    Notes
    -----
    Outlines are those of a 1:50 m map: within about a kilometre of a border the neighbour may be named.

    Examples
    --------
    >>> country([48.86, -33.9, 35.7], [2.35, 18.4, 139.7])
    array(['FR', 'ZA', 'JP'], dtype=object)
    """
    points = shapely.points(np.asarray(longitude, dtype=float), np.asarray(latitude, dtype=float))
    table = countries()
    tree = table.sindex
    point, polygon = tree.query(points, predicate="within")
    index = np.full(len(points), -1)
    index[point] = polygon
    at_sea = np.flatnonzero(index < 0)
    if len(at_sea):
        point, polygon = tree.nearest(points[at_sea], return_all=False)
        index[at_sea[point]] = polygon
    return table["code"].to_numpy(dtype=object)[index]


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
