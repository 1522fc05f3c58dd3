"""Feeding a network from shards, timed beside loose files; and opening shards of five million photos.

``python -m benchmarks shards`` prints the lines. A loader reads the same photos both ways and makes random views of
224 px of them in two worker processes; files lie in the page cache for both ways, so that finding, reading and decoding
are measured, not the disk. The five million are rows of indices whose tars are empty files of the right size.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader

from benchmarks.photos import made_up
from helpers import inputs, paths, shards

PHOTOS = 1_000
PHOTOS_PER_SHARD = 250
IMAGE_SIZE = 224
WORKERS = 2
REPEATS = 7
GOAL = "ratio >= 0.95"
ROWS = 5_000_000
ROWS_PER_SHARD = 10_000
SECONDS_GOAL, GIB_GOAL = "<= 15", "<= 2.5"


def main() -> None:
    """Print the figures."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about a minute and a half.

    Raises
    ------
    RuntimeError
        If the two ways give different views.
    """
    return [feeding(), *opening()]


def feeding() -> dict[str, Any]:
    """Photos a second, from shards and loose."""
    with tempfile.TemporaryDirectory() as folder:
        loose, packed = Path(folder) / "loose", Path(folder) / "packed"
        listed = write_both(loose, packed)
        ours, reference = (inputs.PhotoViews(listed, root, IMAGE_SIZE, "crop+flip") for root in (packed, loose))
        if not all(torch.equal(ours[row], reference[row]) for row in range(0, PHOTOS, 50)):
            raise RuntimeError("photos from shards give other views than the same photos loose")
        _seconds(ours), _seconds(reference)
        # In turn, so that what else the machine does meets both alike.
        seconds = [(_seconds(ours), _seconds(reference)) for _ in range(REPEATS)]
        size = sum(file.stat().st_size for file in loose.rglob("*.jpg")) / PHOTOS
    our_rate, reference_rate = (PHOTOS / median(column) for column in zip(*seconds, strict=True))
    return {
        "benchmark": f"feeding from shards, {WORKERS} workers",
        "size": f"{PHOTOS} photos of 500 x 375 px, {size / 1024:.0f} KiB each, reference: loose files",
        "ours": our_rate,
        "reference": reference_rate,
        "unit": "photos/s",
        "ratio": median(reference / ours for ours, reference in seconds),
        "goal": GOAL,
    }


def opening() -> list[dict[str, Any]]:
    """Seconds and memory of a fresh process that opens shards and finds a photo in them."""
    with tempfile.TemporaryDirectory() as folder:
        write_indices(Path(folder))
        code = f"from benchmarks import shards; shards.report_opening({folder!r})"
        command = [sys.executable, "-c", code]
        said = subprocess.run(command, cwd=paths.SOURCE, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds, gib = map(float, said.split())
    size = f"{ROWS:,} photos in {ROWS // ROWS_PER_SHARD} shards"
    return [
        {
            "benchmark": f"opening shards, {what}",
            "size": size,
            "ours": value,
            "unit": unit,
            "goal": goal,
        }
        for what, value, unit, goal in (
            ("time", seconds, "s", SECONDS_GOAL),
            ("memory of the process", gib, "GiB", GIB_GOAL),
        )
    ]


def report_opening(folder: str) -> None:
    """Print seconds, and GiB at the peak of this process."""
    start = time.perf_counter()
    store = shards.Shards(Path(folder))
    seconds = time.perf_counter() - start
    if len(store) != ROWS or len(store.read(path_of(0))) != 25_000:
        raise RuntimeError("the shards do not hold what was written")
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20))


def write_both(loose: Path, packed: Path) -> pd.DataFrame:
    """Write the same photos loose and into shards; their rows, in an order unlike that on the disk."""
    listed = []
    for first in range(0, PHOTOS, PHOTOS_PER_SHARD):
        with shards.ShardWriter(packed / f"shard-{first // PHOTOS_PER_SHARD:05d}.tar") as shard:
            for number in range(first, first + PHOTOS_PER_SHARD):
                path, photo = f"{number % 40:02d}/{number:05d}.jpg", made_up(number)
                (loose / path).parent.mkdir(parents=True, exist_ok=True)
                (loose / path).write_bytes(photo)
                shard.add(path, photo, {"id": number})
                listed.append(path)
    order = np.random.default_rng(0).permutation(PHOTOS)
    return pd.DataFrame({"path": np.array(listed)[order]})


def write_indices(folder: Path) -> None:
    """Write the indices of many shards, as if those were full."""
    generator = np.random.default_rng(0)
    size = np.full(ROWS_PER_SHARD, 25_000)
    offset = np.cumsum(size + 2_048) - size
    tar_bytes = int(offset[-1] + size[-1] + 4_096)
    for shard in range(ROWS // ROWS_PER_SHARD):
        numbers = np.arange(shard * ROWS_PER_SHARD, (shard + 1) * ROWS_PER_SHARD)
        path = [path_of(number) for number in numbers]
        known = {
            "path": path,
            "offset": offset,
            "size": size,
            "sha256": _digests(generator),
            "id": path,
            "latitude": generator.uniform(-90, 90, ROWS_PER_SHARD),
            "longitude": generator.uniform(-180, 180, ROWS_PER_SHARD),
            "url": pc.binary_join_element_wise("https://photos.example/1234/", pa.array(path), ""),
        }
        schema = shards._SCHEMA.with_metadata({shards._TAR_BYTES: str(tar_bytes).encode()})
        columns = [pa.array(known.get(field.name, [""] * ROWS_PER_SHARD), field.type) for field in schema]
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), folder / f"shard-{shard:05d}.parquet")
        with (folder / f"shard-{shard:05d}.tar").open("wb") as tar:
            os.truncate(tar.fileno(), tar_bytes)


def path_of(number: int) -> str:
    """Scattered over the order of paths, as ids of photos are."""
    scattered = f"{number * 2_654_435_761 % (1 << 40):010x}"
    return f"{scattered[:2]}/{scattered}.jpg"


def _digests(generator: np.random.Generator) -> list[str]:
    digits = generator.bytes(32 * ROWS_PER_SHARD).hex()
    return [digits[start : start + 64] for start in range(0, len(digits), 64)]


def _seconds(views: inputs.PhotoViews) -> float:
    start = time.perf_counter()
    for _ in DataLoader(views, batch_size=50, num_workers=WORKERS):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
