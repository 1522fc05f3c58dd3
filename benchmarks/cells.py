"""From a CSV of coordinates to three partitions and every photo's labels, timed beside plain s2sphere.

``python -m benchmarks.cells`` prints one line per figure. The photos are made up, clustered like real ones: cities of
very different size, some spots photographed again and again, and a scatter between. Both ways read the same file, and
must find the same cells and labels, or the benchmark stops.
"""

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv

from helpers import cells
from tests import s2_reference

SIZES_WITH_REFERENCE = (100_000, 1_000_000)
SIZE_ALONE = 4_700_000  # about the photos of MP-16
REPEATS = 3


def main() -> None:
    """Print every figure, or with a file as argument those of `ours` on it, measured in this process."""
    if len(sys.argv) > 1:
        seconds, _ = _timed(ours, Path(sys.argv[1]))
        print(json.dumps({"seconds": seconds, "peak_gib": _peak_gib()}))
        return
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about two minutes, nearly all of it s2sphere on a million photos."""
    with tempfile.TemporaryDirectory() as folder:
        # First the figures in fresh processes: Linux hands the memory peak of a parent on to its child.
        figures = _alone(Path(folder) / "photos.csv", SIZE_ALONE)
        return [_beside_reference(Path(folder) / "photos.csv", size) for size in SIZES_WITH_REFERENCE] + figures


def ours(path: Path) -> tuple[dict[str, cells.Partition], dict[str, np.ndarray]]:
    """Partitions and labels from a CSV file, with `helpers.cells`."""
    types = {"latitude": pyarrow.float64(), "longitude": pyarrow.float64()}
    photos = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
    latitude, longitude = photos["latitude"].to_numpy(), photos["longitude"].to_numpy()
    leaves = cells.leaf_ids(latitude, longitude)
    partitions = cells.build_all(
        latitude, longitude, min_photos=cells.PAPER_MIN_PHOTOS, max_photos=cells.PAPER_MAX_PHOTOS, leaves=leaves
    )
    return partitions, cells.labels_all(partitions, leaves)


def reference(path: Path) -> tuple[dict[str, dict], dict[str, list[int]]]:
    """Partitions and labels from a CSV file, with s2sphere."""
    with path.open(newline="") as file:
        places = [(float(row["latitude"]), float(row["longitude"])) for row in csv.DictReader(file)]
    latitude, longitude = [place[0] for place in places], [place[1] for place in places]
    leaves = s2_reference.leaves(latitude, longitude)
    partitions = {
        name: s2_reference.build(leaves, latitude, longitude, cells.PAPER_MIN_PHOTOS, limit)
        for name, limit in cells.PAPER_MAX_PHOTOS.items()
    }
    return partitions, {name: s2_reference.labels(partition, leaves) for name, partition in partitions.items()}


def write_photos(path: Path, size: int) -> None:
    """Write `size` made-up coordinates, always the same, clustered like those of photos."""
    generator = np.random.default_rng(0)
    cities = 4_000
    city_latitude = np.clip(generator.normal(38, 18, cities), -55, 70)
    city_longitude = generator.uniform(-180, 180, cities)
    fame = 1 / np.arange(1, cities + 1)
    city = generator.choice(cities, size, p=fame / fame.sum())
    spread = generator.lognormal(-4, 1.5, size)  # degrees: half of a city's photos within 2 km
    latitude = city_latitude[city] + spread * generator.standard_normal(size)
    longitude = city_longitude[city] + spread * generator.standard_normal(size)

    scattered = generator.random(size) < 0.1
    latitude[scattered] = np.degrees(np.arcsin(generator.uniform(-1, 1, scattered.sum())))
    longitude[scattered] = generator.uniform(-180, 180, scattered.sum())
    spot = generator.random(size) < 0.02  # exactly the same coordinate: a city's default place
    latitude[spot], longitude[spot] = city_latitude[city[spot]], city_longitude[city[spot]]
    longitude = (longitude + 180) % 360 - 180
    photos = {"latitude": np.clip(latitude, -90, 90).round(6), "longitude": longitude.round(6)}
    pyarrow.csv.write_csv(pyarrow.table(photos), path)


def _beside_reference(path: Path, size: int) -> dict[str, Any]:
    write_photos(path, size)
    print(f"{size:,} photos: three partitions and labels with s2sphere, up to two minutes", flush=True)
    # Ours before and after, so that both ways meet the same load of the machine.
    times = [_timed(ours, path)[0] for _ in range(REPEATS)]
    reference_seconds, (reference_partitions, reference_labels) = _timed(reference, path)
    times += [_timed(ours, path)[0] for _ in range(REPEATS)]
    partitions, labels = ours(path)
    for name, partition in partitions.items():
        expected = reference_partitions[name]
        same = (
            partition.ids.tolist() == [cell.id() for cell in expected]
            and partition.imgs_per_cell.tolist() == [len(cell.photos) for cell in expected.values()]
            and partition.latitude_mean.tolist() == [cell.latitude_mean for cell in expected.values()]
            and partition.longitude_mean.tolist() == [cell.longitude_mean for cell in expected.values()]
            and labels[name].tolist() == reference_labels[name]
        )
        if not same:
            raise RuntimeError(f"partition {name!r} of {size:,} photos differs from that of s2sphere")
    return {
        "benchmark": "three partitions and labels from a CSV",
        "size": f"{size:,} photos",
        "ours": size / median(times),
        "reference": size / reference_seconds,
        "unit": "coordinates/s",
        "ratio": reference_seconds / median(times),
        "goal": "ratio >= 150" if size >= 1_000_000 else None,
    }


def _alone(path: Path, size: int) -> list[dict[str, Any]]:
    write_photos(path, size)
    figures = []
    for _ in range(REPEATS):
        command = [sys.executable, "-m", "benchmarks.cells", str(path)]
        figures.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    common = {"benchmark": "three partitions and labels from a CSV", "size": f"{size:,} photos"}
    seconds, gib = (median(figure[key] for figure in figures) for key in ("seconds", "peak_gib"))
    print(f"{size:,} photos: {seconds:.2f} s, {gib:.2f} GiB at most", flush=True)
    return [
        {**common, "ours": seconds, "unit": "s", "goal": "< 6"},
        {**common, "ours": gib, "unit": "GiB at most", "goal": "< 1.5"},
    ]


def _timed(call: Callable[[Path], Any], path: Path) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call(path)
    return time.perf_counter() - start, result


def _peak_gib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)  # macOS counts bytes, Linux KiB


if __name__ == "__main__":
    main()
