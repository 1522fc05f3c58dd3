"""What enriching, balancing and looking for leaks cost in a list of a million photos.

``python -m benchmarks.list_steps`` prints one line per step. Coordinates are those of `benchmarks.places`; authors and
splits are made up.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import places
from helpers import balancing, enriching, leakage

SIZE = 1_000_000
PHOTOS_PER_AUTHOR = 40


def main() -> None:
    """Print every figure."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about half a minute."""
    photos = synthetic(SIZE)
    enriching.enrich(photos[:10_000])  # draws the maps, which takes seconds once
    enriched: list[pd.DataFrame] = []
    settings = {"min_share": 0.0075, "slack": 0.8, "max_photos_per_country": 0, "seed": 7}
    steps: dict[str, Callable[[], Any]] = {
        "enrich: country and region of every row, maps drawn before": lambda: enriched.append(
            enriching.enrich(photos).rows
        ),
        "balance: uniform over countries": lambda: balancing.balance(
            enriched[0], balancing.target_shares("uniform", enriched[0]["country"]), **settings
        ),
        "explore: authors and places in several splits": lambda: leakage.shared(photos),
        "explore: distance to the nearest training photo": lambda: leakage.nearest_training_km(photos),
    }
    return [_timed(what, step) for what, step in steps.items()]


def synthetic(size: int) -> pd.DataFrame:
    """Rows of a list, always the same."""
    latitude, longitude = places.coordinates(size)
    number = np.arange(size)
    generator = np.random.default_rng(1)
    split = generator.choice(["train", "validation", "test"], size // PHOTOS_PER_AUTHOR + 1, p=[0.8, 0.1, 0.1])
    identity = [hashlib.sha256(str(photo).encode()).hexdigest() for photo in number]
    return pd.DataFrame(
        {
            "id": identity,
            "path": identity,
            "latitude": latitude,
            "longitude": longitude,
            "author": (number // PHOTOS_PER_AUTHOR).astype(str),
            "split": split[number // PHOTOS_PER_AUTHOR],
            "sha256": identity,
        }
    )


def _timed(what: str, step: Callable[[], Any]) -> dict[str, Any]:
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    size = f"{SIZE:,} photos"
    return {
        "benchmark": what,
        "size": size,
        "ours": seconds,
        "unit": "s",
    }


if __name__ == "__main__":
    main()
