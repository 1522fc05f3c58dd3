"""How dark and how blurred a photo is, timed beside the usual recipe; and near-identical pairs among a million hashes.

``python -m benchmarks cleaning`` prints the lines. The photos are those of :mod:`benchmarks.photos`, darkened and
blurred by various degrees. The reference decodes them in full with OpenCV and takes the same two variances. Both run on
one core, in turn, in the same process, and rank the photos alike or there is no figure. Seconds are those of the
processor, of all threads: a second core would count twice, and other work on the machine hardly does.
"""

import io
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from benchmarks.photos import made_up
from helpers import cleaning, photos

PHOTOS = 100
REPEATS = 7
GOAL = "ratio >= 5"
LEAST_RANK_CORRELATION = 0.95
HASHES = 1_000_000
PLANTED = 1000  # pairs
BITS = 5  # of the default, which takes photos that differ in fewer than 6 for one
GOAL_SECONDS = 30


def main() -> None:
    """Print the figures."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about half a minute.

    Raises
    ------
    RuntimeError
        If the two ways rank photos differently, or a planted pair is not found.
    """
    return [*_variances(), _near_identical()]


def ours(file: bytes) -> tuple[float, float]:
    """Both variances."""
    image = cleaning.reduced(photos.opened(file, "made up"), file, "made up")
    if image is None:
        raise RuntimeError("a made-up photo was taken for one that decodes only in part")
    return cleaning.channel_variance(image), cleaning.laplacian_variance(np.asarray(image.getchannel(0)))


def with_hash(file: bytes) -> tuple[float, float]:
    """All that is measured of a photo."""
    measured = cleaning.measure_photo(file, "made up")
    return measured.channel_variance, measured.laplacian_variance


def reference(file: bytes) -> tuple[float, float]:
    """The usual recipe."""
    image = cv2.imdecode(np.frombuffer(file, dtype=np.uint8), cv2.IMREAD_COLOR)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return float(image.var(axis=(0, 1)).max()), float(cv2.Laplacian(grey, cv2.CV_64F).var())


def varied(seed: int) -> bytes:
    """A JPEG of 500 x 375 px, more or less dark and more or less blurred."""
    generator = np.random.default_rng(seed)
    image = Image.open(io.BytesIO(made_up(seed))).filter(ImageFilter.GaussianBlur(generator.uniform(0, 4)))
    darkness = generator.uniform(0.05, 1)
    buffer = io.BytesIO()
    image.point(lambda value: round(darkness * value)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _variances() -> list[dict[str, Any]]:
    files = [varied(seed) for seed in range(PHOTOS)]
    cv_threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        ours_all, usual = (np.array([way(file) for file in files]) for way in (ours, reference))
        ranks = [spearmanr(ours_all[:, column], usual[:, column]).statistic for column in (0, 1)]
        if min(ranks) < LEAST_RANK_CORRELATION:
            raise RuntimeError(f"rank correlations of {ranks} with the reference: {LEAST_RANK_CORRELATION} is demanded")
        # In turn, so that what else the machine does meets all alike.
        seconds = [[_seconds(way, files) for way in (ours, with_hash, reference)] for _ in range(REPEATS)]
    finally:
        cv2.setNumThreads(cv_threads)
        torch.set_num_threads(torch_threads)
    size = f"{PHOTOS} photos of 500 x 375 px, {np.mean([len(file) for file in files]) / 1024:.0f} KiB each"
    correlation = f"rank correlation {ranks[0]:.3f}, {ranks[1]:.3f}"
    ratios = np.array([[row[2] / row[way] for row in seconds] for way in (0, 1)])
    return [
        {
            "benchmark": f"{benchmark} ({detail}; ratios {ratios[way].min():.1f} to {ratios[way].max():.1f})",
            "size": size,
            "ours": PHOTOS / median(row[way] for row in seconds),
            "reference": PHOTOS / median(row[2] for row in seconds),
            "unit": "photos/s",
            "ratio": float(np.median(ratios[way])),
            "goal": goal,
        }
        for way, benchmark, detail, goal in (
            (0, "dark and blurred, one core", correlation, GOAL),
            (1, "dark, blurred and perceptual hash, one core", f"{REPEATS} runs", None),
        )
    ]


def _near_identical() -> dict[str, Any]:
    generator = np.random.default_rng(7)
    hashes = generator.integers(0, 2**64, HASHES, dtype=np.uint64)
    first, second = generator.permutation(HASHES)[: 2 * PLANTED].reshape(2, -1)
    places = generator.permuted(np.tile(np.arange(64, dtype=np.uint64), (PLANTED, 1)), axis=1)[:, :BITS]
    hashes[second] = hashes[first] ^ np.bitwise_or.reduce(np.uint64(1) << places, axis=1)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        found = cleaning.near_identical(hashes, BITS)
        seconds.append(time.perf_counter() - start)
    pairs = set(zip(found[0].tolist(), found[1].tolist(), strict=True))
    planted = {(min(pair), max(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    if not planted <= pairs:
        raise RuntimeError(f"{len(planted - pairs)} of {PLANTED} planted pairs were not found")
    return {
        "benchmark": f"near-identical, at most {BITS} of 64 bits",
        "size": f"{HASHES:,} hashes, {PLANTED:,} pairs planted and found",
        "ours": median(seconds),
        "unit": "s",
        "goal": f"< {GOAL_SECONDS}",
    }


def _seconds(way: Callable[[bytes], tuple[float, float]], files: Sequence[bytes]) -> float:
    start = time.process_time()
    for file in files:
        way(file)
    return time.process_time() - start


if __name__ == "__main__":
    main()
