"""Five crops and the hierarchy, beside look-ups in lists."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import cells, read_outs

PHOTOS, CROPS, REPEATS = 64, 5, 9
MIN_PHOTOS, MAX_PHOTOS = 5, {"coarse": 500, "middle": 200, "fine": 100}


def rows() -> list[dict[str, Any]]:
    partitions = _partitions()
    generator = torch.Generator().manual_seed(0)
    logits = {
        name: torch.randn(PHOTOS * CROPS, len(partition), generator=generator) for name, partition in partitions.items()
    }
    read_out = read_outs.ReadOut(partitions, torch.device("cpu"))
    coarse, middle, fine = partitions.values()
    ancestors = cells.hierarchy(fine, coarse, middle).T.tolist()
    coordinates = {
        name: list(zip(partition.latitude_mean, partition.longitude_mean, strict=True))
        for name, partition in partitions.items()
    }

    def ours() -> np.ndarray:
        views = {name: scores.unflatten(0, (-1, CROPS)) for name, scores in logits.items()}
        answers = read_out(read_out.shares(read_outs.fuse(views)))
        return answers[read_outs.HIERARCHY][["predicted_latitude", "predicted_longitude"]].to_numpy()

    def look_ups() -> np.ndarray:
        return np.array(_look_ups(logits, ancestors, coordinates)[read_outs.HIERARCHY])

    if not np.array_equal(ours(), look_ups()):
        raise RuntimeError("the two ways place photos differently")
    seconds, reference_seconds = _seconds(ours), _seconds(look_ups)
    return [
        {
            "benchmark": "five crops, hierarchy, coordinates",
            "size": f"{PHOTOS} photos, {len(coarse)} + {len(middle)} + {len(fine)} cells",
            "ours": PHOTOS / seconds,
            "reference": PHOTOS / reference_seconds,
            "unit": "photos/s",
            "ratio": reference_seconds / seconds,
            "goal": "ratio >= 4",
        }
    ]


def _look_ups(
    logits: dict[str, Tensor], ancestors: list[list[int]], coordinates: dict[str, list[tuple[float, float]]]
) -> dict[str, list[tuple[float, float]]]:
    """Plain PyTorch, photo by photo, with lists of ancestors and of coordinates."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*logits, read_outs.HIERARCHY)}
    of_coarse, of_middle = [list(column) for column in zip(*ancestors, strict=True)]
    for photo in range(PHOTOS):
        shares = {}
        for name, scores in logits.items():
            crops = [torch.softmax(scores[photo * CROPS + crop], dim=0) for crop in range(CROPS)]
            shares[name] = torch.stack(crops).max(dim=0).values
            shares[name] = shares[name] / shares[name].sum()
            found[name].append(coordinates[name][int(shares[name].argmax())])
        product = shares["coarse"][of_coarse] * shares["middle"][of_middle] * shares["fine"]
        found[read_outs.HIERARCHY].append(coordinates["fine"][int(product.argmax())])
    return found


def _partitions() -> dict[str, cells.Partition]:
    generator = np.random.default_rng(0)
    cities = generator.uniform([-50, -170], [60, 170], (600, 2))
    places = cities[generator.integers(600, size=400_000)] + generator.normal(0, 1, (400_000, 2))
    return cells.build_all(places[:, 0], places[:, 1], min_photos=MIN_PHOTOS, max_photos=MAX_PHOTOS)


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)
