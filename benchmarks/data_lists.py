"""Verifying the photos of a list, timed beside a plain loop over files.

``python -m benchmarks data_lists`` prints one line. The files hold random bytes in the size of small photos and lie in
the page cache for both ways, so that hashing and bookkeeping are measured, not the disk. Ours also checks that no path
leaves the photo root.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from helpers import data_lists

FILES = 4_000
FILE_BYTES = 25_000
FOLDERS = 40
REPEATS = 7


def main() -> None:
    """Print the figure."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about ten seconds."""
    with tempfile.TemporaryDirectory() as folder:
        photo_root = Path(folder)
        listed = made_up(photo_root)
        # In turn, so that what else the machine does meets both alike.
        seconds = [
            (_seconds(data_lists.verify, listed, photo_root), _seconds(reference, listed, photo_root))
            for _ in range(REPEATS)
        ]
    our_rate, reference_rate = (FILES / median(column) for column in zip(*seconds, strict=True))
    return [
        {
            "benchmark": "list verification",
            "size": f"{FILES} files of {FILE_BYTES // 1000} kB",
            "ours": our_rate,
            "reference": reference_rate,
            "unit": "files/s",
            "ratio": median(reference / ours for ours, reference in seconds),
        }
    ]


def reference(listed: pd.DataFrame, photo_root: Path) -> None:
    """Hash one file after the other."""
    for path, sha256 in zip(listed["path"], listed["sha256"], strict=True):
        with open(photo_root / path, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != sha256:
                raise ValueError(f"{path} has changed")


def made_up(photo_root: Path) -> pd.DataFrame:
    """Write the files and return their list."""
    generator = np.random.default_rng(0)
    listed = []
    for number in range(FILES):
        path = f"{number % FOLDERS:02d}/{number:05d}.jpg"
        (photo_root / path).parent.mkdir(exist_ok=True)
        content = generator.bytes(FILE_BYTES)
        (photo_root / path).write_bytes(content)
        listed.append((path, hashlib.sha256(content).hexdigest()))
    return pd.DataFrame(listed, columns=["path", "sha256"])


def _seconds(way: Callable[[pd.DataFrame, Path], None], listed: pd.DataFrame, photo_root: Path) -> float:
    start = time.perf_counter()
    way(listed, photo_root)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
