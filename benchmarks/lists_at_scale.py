"""A list of five million photos: built, split, fingerprinted, written, and read.

``python -m benchmarks lists_at_scale`` prints the figures. The photos are made up: authors as uneven as Flickr's,
places around towns that many authors share, so that grouping by author and place has as much to link as in a real
collection. It runs in a process of its own, whose peak memory is that of the list alone.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

ROWS = 5_000_000
GOAL_SECONDS = 180
GOAL_GIB = 4


def main() -> None:
    """Measure in this process, and print seconds and GiB as JSON."""
    from helpers import data_lists

    photos = made_up(ROWS)
    before = _peak_gib()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        rows = data_lists.build(photos, seed=7, validation_share=0.01, test_share=0.01)
        built = time.perf_counter()
        del photos
        path = data_lists.write(rows, {"dataset": "five-million"}, Path(folder) / "five-million.csv")
        written = time.perf_counter()
        splits = rows["split"].value_counts().to_dict()
        del rows
        read = data_lists.read(path)
        ended = time.perf_counter()
        stored = path.stat().st_size
    figures = {
        "build and split": built - started,
        "fingerprint and write": written - built,
        "read and check": ended - written,
        "whole": ended - started,
        "photos before the call, GiB": before,
        "peak, GiB": _peak_gib(),
        "stored, MB": stored / 1e6,
        "rows": len(read),
        "splits": splits,
    }
    print(json.dumps(figures))


def rows() -> list[dict[str, Any]]:
    """Measure: about a minute."""
    child = subprocess.run([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(child.stdout.splitlines()[-1])
    size = f"{figures['rows']:,} photos, {figures['stored, MB']:,.0f} MB on disk"

    def row(what: str, value: float, unit: str, goal: str | None) -> dict[str, Any]:
        return {
            "benchmark": f"list: {what}",
            "size": size,
            "ours": value,
            "unit": unit,
            "goal": goal,
        }

    parts = [row(part, figures[part], "s", None) for part in ("build and split", "fingerprint and write")]
    return [
        *parts,
        row("read and check", figures["read and check"], "s", None),
        row("built, split, fingerprinted, written and read", figures["whole"], "s", f"< {GOAL_SECONDS}"),
        row("peak memory of all of it", figures["peak, GiB"], "GiB", f"< {GOAL_GIB}"),
    ]


def made_up(count: int) -> pd.DataFrame:
    """Photos with ids like Flickr's, in no order."""
    generator = np.random.default_rng(0)
    numbers = generator.permutation(count).astype(np.uint64) * np.uint64(2_654_435_761) % np.uint64(10**10)
    digits = pd.Series(numbers).astype("string[pyarrow]").str.zfill(10)
    ids = digits + "_" + pd.Series(np.arange(count)).astype("string[pyarrow]")
    authors = (generator.pareto(0.8, count) * 50).astype(np.int64) % 250_000
    towns = generator.integers(0, 20_000, count)
    latitudes, longitudes = generator.uniform(-50, 65, 20_000), generator.uniform(-180, 180, 20_000)
    sha256 = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(1000)]
    return pd.DataFrame(
        {
            "id": ids,
            "path": digits.str.slice(0, 2) + "/" + ids + ".jpg",
            "latitude": np.clip(latitudes[towns] + generator.normal(0, 0.2, count), -90, 90).round(6),
            "longitude": np.clip(longitudes[towns] + generator.normal(0, 0.2, count), -180, 180).round(6),
            "author": pd.Series(authors).astype("string[pyarrow]") + "@N00",
            "sha256": pd.Series(pa.array(sha256, pa.string()).take(pa.array(np.arange(count) % 1000))),
            "url": "https://live.staticflickr.com/65535/" + ids + "_abcdef0123.jpg",
            "licence": "CC BY 2.0",
        }
    )


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    main()
