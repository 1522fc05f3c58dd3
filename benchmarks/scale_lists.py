"""A made-up list of any length through list, partition and labels, each step in a process of its own.

``python -m benchmarks.scale simulate`` runs it and keeps what was measured. The photos are made up: ids like Flickr's,
places around towns where people live, authors of very different diligence, hashes of nothing. What is not simulated is
how authors and places are kept in one split: that links photos across the whole list, which `data_lists.build` does in
memory; here an author's number says which split it belongs to.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from helpers import cells, data_lists, paths

PAPER_PHOTOS = 4_723_695
"""Photos that the thresholds of the paper's partitions were chosen for."""
VALIDATION_SHARE = TEST_SHARE = 0.01
_ROWS_PER_PART = 500_000
_PHOTOS_PER_AUTHOR = 40
_SCATTERED, _AT_THE_CENTRE = 0.05, 0.02  # shares of the photos
_BYTES_PER_ROW = 200  # on disk, while the list is written
_LIST, _LABELS = "made-up.csv", "labels.parquet"
IN_MEMORY = "in memory"


def simulate(rows: int, folder: Path, seed: int, in_memory: bool) -> dict[str, Any]:
    """Take a made-up list through every step.

    Parameters
    ----------
    rows : int
        Photos.
    folder : Path
        Where the list may lie meanwhile: 200 bytes a photo, which are free again at the end.
    seed : int
    in_memory : bool
        Whether to read, partition and label it in memory, too, and compare: about 500 bytes a photo.

    Returns
    -------
    dict
        ``rows``, ``seed``, ``cells`` by partition, and by step ``seconds``, ``core_seconds`` (which other work on the
        machine does not lengthen), ``peak_bytes`` of memory and ``bytes`` on disk.

    Raises
    ------
    ValueError
        If the disk has too little room.
    RuntimeError
        If a step fails, or both ways differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, rows * _BYTES_PER_ROW
    if free < needed:
        raise ValueError(
            f"a made-up list of {rows:,} rows needs {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are "
            "free: give another folder, or fewer rows"
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix="made-up-") as working:
        steps = {name: _in_child(name, Path(working), rows, seed) for name in STEPS if in_memory or name != IN_MEMORY}
        if in_memory:
            _compare(Path(working))
        found = {name: len(cells.read(Path(working) / f"{name}.csv", name)) for name in cells.PARTITIONS}
    return {"rows": rows, "seed": seed, "cells": found, "steps": steps}


def thresholds(photos: int) -> tuple[int, dict[str, int]]:
    """``min_photos`` and ``max_photos`` of partitions with as many cells as the paper's have, whatever the photos.

    Examples
    --------
    >>> thresholds(PAPER_PHOTOS)
    (50, {'coarse': 5000, 'middle': 2000, 'fine': 1000})
    """
    factor = photos / PAPER_PHOTOS
    largest = {name: max(2, round(limit * factor)) for name, limit in cells.PAPER_MAX_PHOTOS.items()}
    return max(1, round(cells.PAPER_MIN_PHOTOS * factor)), largest


def made_up(rows: int, seed: int) -> Iterator[pd.DataFrame]:
    """Photos of a list, part by part, in the order of their ids; always the same for a seed and a number of rows."""
    from helpers import toy_earth_facts

    towns = toy_earth_facts.towns()
    weight = np.cumsum(towns["population"].to_numpy(np.float64) ** 0.75)
    centres = towns[["latitude", "longitude"]].to_numpy(np.float64)
    for start in range(0, rows, _ROWS_PER_PART):
        generator = np.random.default_rng((seed, start))
        count = min(_ROWS_PER_PART, rows - start)
        town = np.searchsorted(weight, generator.random(count) * weight[-1], side="right")
        latitude, longitude = _around(centres[town], generator)
        author = (generator.random(count) ** 3 * max(1, rows // _PHOTOS_PER_AUTHOR)).astype(np.int64)
        numbers = (np.arange(start, start + count) * 97) + generator.integers(0, 97, count)
        ids = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 11, "0")
        folders = [pc.utf8_slice_codeunits(ids, begin, end) for begin, end in ((9, 11), (7, 9))]
        columns = {
            "id": ids,
            "path": pc.binary_join_element_wise(*folders, pc.binary_join_element_wise(ids, ".jpg", ""), "/"),
            "latitude": latitude,
            "longitude": longitude,
            "author": pc.binary_join_element_wise(pc.utf8_lpad(pa.array(author).cast(pa.string()), 8, "0"), "@N00", ""),
            "split": pa.array(data_lists.SPLITS).take(pa.array(_splits(author, seed))),
            "sha256": _hex_digits(generator, count),
        }
        yield pa.table(columns).to_pandas()


def _around(centres: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places near towns: half of them within some two kilometres, few far out, and some anywhere on the sphere."""
    count = len(centres)
    spread = generator.lognormal(-4, 1.5, count) * (generator.random(count) >= _AT_THE_CENTRE)
    places = centres + spread[:, None] * generator.standard_normal((count, 2))
    scattered = np.flatnonzero(generator.random(count) < _SCATTERED)
    places[scattered, 0] = np.degrees(np.arcsin(generator.uniform(-1, 1, len(scattered))))
    places[scattered, 1] = generator.uniform(-180, 180, len(scattered))
    return np.clip(places[:, 0], -90, 90).round(6), ((places[:, 1] + 180) % 360 - 180).round(6)


def _splits(author: np.ndarray, seed: int) -> np.ndarray:
    """Number of the split of each photo, the same for all photos of an author."""
    mixed = (author.astype(np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    share = (mixed >> np.uint64(11)) * 2.0**-53
    return (share < VALIDATION_SHARE + TEST_SHARE).astype(np.int64) + (share < TEST_SHARE)


def _hex_digits(generator: np.random.Generator, count: int) -> pa.Array:
    """64 hexadecimal digits for each photo."""
    pairs = np.array([f"{byte:02x}" for byte in range(256)], "S2")
    digits = pairs[np.frombuffer(generator.bytes(32 * count), np.uint8)]
    offsets = np.arange(0, 64 * count + 1, 64, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(digits))


def _in_child(name: str, working: Path, rows: int, seed: int) -> dict[str, float]:
    print(f"{rows:,} rows: {name} ...", flush=True)
    command = [sys.executable, "-m", "benchmarks.scale_lists", name, str(working), str(rows), str(seed)]
    child = subprocess.run(command, cwd=paths.SOURCE, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        raise RuntimeError(f"the step {name!r} of {rows:,} made-up rows failed, see above")
    measured = json.loads(child.stdout.splitlines()[-1])
    print(
        "  {seconds:,.1f} s, {gib:.2f} GiB at most".format(**measured, gib=measured["peak_bytes"] / 2**30), flush=True
    )
    return measured


def _compare(working: Path) -> None:
    """Raise ``RuntimeError`` unless both ways gave the same, to the bit."""
    for file in (f"{name}.csv" for name in cells.PARTITIONS):
        if (working / file).read_bytes() != (working / IN_MEMORY / file).read_bytes():
            raise RuntimeError(f"part by part, {file} is another one than in memory")
    if not pq.read_table(working / _LABELS).equals(pq.read_table(working / IN_MEMORY / _LABELS)):
        raise RuntimeError("part by part, other labels were found than in memory")


def _write(working: Path, rows: int, seed: int) -> list[Path]:
    shares = {"validation_share": VALIDATION_SHARE, "test_share": TEST_SHARE}
    parts = (data_lists.build(part, seed=seed, **shares) for part in made_up(rows, seed))
    return [data_lists.write(parts, {"dataset": "made-up", "source": "none: made up", "seed": seed}, working / _LIST)]


def _read(working: Path, rows: int, seed: int) -> list[Path]:
    if sum(map(len, data_lists.parts(_list(working)))) != rows:
        raise RuntimeError(f"{_list(working)} does not have the {rows} rows that were written")
    return []


def _partition(working: Path, rows: int, seed: int) -> list[Path]:
    return _write_partitions(data_lists.coordinates(_list(working), "train"), rows, working)


def _label(working: Path, rows: int, seed: int) -> list[Path]:
    partitions = {name: cells.read(working / f"{name}.csv", name) for name in cells.PARTITIONS}
    parts = data_lists.parts(_list(working), ("id", "latitude", "longitude", "split"))
    cells.write_labels(parts, partitions, working / _LABELS)
    return [working / _LABELS]


def _in_memory(working: Path, rows: int, seed: int) -> list[Path]:
    """All that follows the writing, with the whole list in memory."""
    photos = data_lists.read(_list(working))
    files = _write_partitions(photos[photos["split"] == "train"], rows, working / IN_MEMORY)
    partitions = {name: cells.read(working / IN_MEMORY / f"{name}.csv", name) for name in cells.PARTITIONS}
    cells.label_table(photos, partitions).to_parquet(working / IN_MEMORY / _LABELS, index=False)
    return [*files, working / IN_MEMORY / _LABELS]


def _write_partitions(training: pd.DataFrame, rows: int, folder: Path) -> list[Path]:
    min_photos, max_photos = thresholds(rows)
    partitions = cells.build_all(
        training["latitude"], training["longitude"], min_photos=min_photos, max_photos=max_photos
    )
    cells.hierarchy(partitions["fine"], partitions["coarse"], partitions["middle"])
    for name, partition in partitions.items():
        cells.write(partition, folder / f"{name}.csv")
    return [folder / f"{name}.csv" for name in partitions]


def _list(working: Path) -> Path:
    compressed = working / f"{_LIST}.gz"
    return compressed if compressed.exists() else working / _LIST


STEPS: dict[str, Callable[[Path, int, int], list[Path]]] = {
    "write the list": _write,
    "read it and check": _read,
    "three partitions": _partition,
    "label every photo": _label,
    IN_MEMORY: _in_memory,
}


def peak_bytes() -> int:
    """Most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # the other counts what the process that started this one held
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if "VmHWM" in line)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def main() -> None:
    """Run one step in this process, and print what it took as JSON."""
    name, working, rows, seed = sys.argv[1:]
    started = time.perf_counter()
    files = STEPS[name](Path(working), int(rows), int(seed))
    measured = {
        "seconds": time.perf_counter() - started,
        "core_seconds": time.process_time(),
        "peak_bytes": peak_bytes(),
        "bytes": sum(file.stat().st_size for file in files),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
