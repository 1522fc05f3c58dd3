"""Scenes of the embedded world per second on one core: facts, drawing and JPEG.

``python -m benchmarks toy_earth`` prints the figures. Processor time of this process is measured, so that other work on
the machine does not count.
"""

import io
import time
from statistics import median
from typing import Any

from PIL import Image

from helpers import toy_earth

PHOTOS = 1000
REPEATS = 3


def main() -> None:
    """Print every figure."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about fifteen seconds."""
    sample = toy_earth.sample(PHOTOS, seed=1)
    photos = list(zip(sample["id"], sample["latitude"], sample["longitude"], strict=True))
    for photo in photos[:20]:  # rasters, towns and noise are loaded once per process
        toy_earth.render_jpeg(*photo)
    rates, bytes_a_photo = [], 0
    for _ in range(REPEATS):
        start = time.process_time()
        jpegs = [toy_earth.render_jpeg(*photo) for photo in photos]
        rates.append(PHOTOS / (time.process_time() - start))
        bytes_a_photo = sum(map(len, jpegs)) // PHOTOS
    with Image.open(io.BytesIO(jpegs[0])) as picture:
        size = f"{PHOTOS} scenes, short side {min(picture.size)} px, {bytes_a_photo / 1000:.1f} kB each"
    start = time.process_time()
    toy_earth.sample(100_000, seed=1)
    sampled = 100_000 / (time.process_time() - start)
    return [
        _row("toy-earth: facts, drawing, JPEG", size, median(rates), "scenes/s per core", "≥ 200"),
        _row("toy-earth: a sample with its facts", "100,000 photos", sampled, "photos/s per core", None),
    ]


def _row(benchmark: str, size: str, ours: float, unit: str, goal: str | None) -> dict[str, Any]:
    # Without a reference: there is nothing like it to compare with.
    return {"benchmark": benchmark, "size": size, "ours": ours, "unit": unit, "goal": goal}


if __name__ == "__main__":
    main()
