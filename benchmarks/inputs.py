"""Feeding a network: what the cores can decode, what a stream of batches reaches of it, and what spares the decoding.

``python -m benchmarks inputs`` prints the lines. The photos are made up and lie in the page cache, so no disk is
measured. Whatever is compared is read in turn, in one run, by as many worker processes.
"""

import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from benchmarks.photos import made_up
from benchmarks.shards import PHOTOS, write_both
from helpers import inputs, photo_stores, photos, raw_photos, shards

IMAGE_SIZE = 224
BATCH = 50  # photos
WARM_UP, BATCHES, RAW_BATCHES = 6, 12, 60  # measured in the middle of an endless stream
REPEATS = 5
LARGE_PHOTOS, COLOURED_PHOTOS = 12, 50
LARGE_GOAL, COLOUR_GOAL, RAW_GOAL = "ratio >= 1.3", "ratio >= 2", "ratio >= 6"


def main() -> None:
    """Print the figures."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about a minute."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, PHOTO_GEOLOCATION_ROOT=folder),
        ProcessPoolExecutor(inputs.default_workers(1)) as pool,
    ):
        loose, packed = Path(folder) / "loose", Path(folder) / "packed"
        listed = write_both(loose, packed)
        hashes = shards.Shards(packed).index.set_index("path")["sha256"]
        listed["sha256"] = hashes[listed["path"]].to_numpy()
        return [
            *ceilings(listed, loose, packed, pool),
            *raw(listed, loose),
            large(),
            turned_and_coloured(listed, loose),
        ]


def ceilings(listed: pd.DataFrame, loose: Path, packed: Path, pool: ProcessPoolExecutor) -> list[dict[str, Any]]:
    """Photos a second that come out of the stream, without a training, beside what the cores decode at most."""
    workers = inputs.default_workers(1)
    parts = [part.tolist() for part in np.array_split(listed["path"].to_numpy(object), workers)]

    def decoded() -> float:
        start = time.perf_counter()
        list(pool.map(_decode_all, [loose] * workers, parts))
        return PHOTOS / (time.perf_counter() - start)

    decoded()
    ways = (
        decoded,
        lambda: rate(listed, loose, "crop+flip", workers),
        lambda: rate(listed, packed, "crop+flip", workers),
    )
    limit, from_files, from_shards = in_turn(*ways)
    size = f"500 x 375 px to {IMAGE_SIZE} px, crop+flip, {workers} workers; reference: decoding and cropping alone"
    return [
        _row(f"stream of {kind}", size, found, limit)
        for kind, found in (("loose files", from_files), ("shards", from_shards))
    ]


def raw(listed: pd.DataFrame, loose: Path) -> list[dict[str, Any]]:
    """Photos a second out of decoded ones; and cropped too, which is else left to the device, by the workers."""
    workers = inputs.default_workers(1)
    cache = raw_photos.cached(listed, "benchmark", loose, IMAGE_SIZE)
    decoded, streamed, decoded_finished, finished = in_turn(
        lambda: rate(listed, loose, "crop+flip", workers),
        lambda: rate(listed, loose, "crop+flip", workers, cache=cache, batches=RAW_BATCHES),
        lambda: rate(listed, loose, "crop+flip", workers, finished=True),
        lambda: rate(listed, loose, "crop+flip", workers, cache=cache, finished=True),
    )
    size = f"{IMAGE_SIZE} px, crop+flip, {workers} workers; reference: JPEG of 500 x 375 px"
    return [
        _row("stream of decoded photos", size, streamed, decoded, RAW_GOAL),
        _row("the same for training on a CPU, whose workers crop", size, finished, decoded_finished),
    ]


def large() -> dict[str, Any]:
    """Views of large photos, decoded at a fraction of their scale, beside those of all pixels; one core."""
    files = [mosaic(seed) for seed in range(LARGE_PHOTOS)]

    def view(decode: Callable[[bytes], Tensor]) -> float:
        return per_second(files, lambda file: inputs.crop_and_flip(decode(file), IMAGE_SIZE, np.random.default_rng(1)))

    with one_thread():
        ours, reference = in_turn(
            lambda: view(lambda file: inputs.decode(file, "made up", IMAGE_SIZE)),
            lambda: view(lambda file: photos.decode(file, "made up")),
        )
    size = f"2000 x 1500 px to {IMAGE_SIZE} px, crop+flip, one core; reference: all pixels decoded"
    return _row("large JPEG at a fraction of its scale", size, ours, reference, LARGE_GOAL)


def turned_and_coloured(listed: pd.DataFrame, loose: Path) -> dict[str, Any]:
    """Turned and coloured views, by one sampling and one matrix, beside a pass for every step; one core."""
    some = listed[:COLOURED_PHOTOS]
    store = photo_stores.reopened(loose)

    def ours() -> float:
        return rate(some, loose, "crop+rotation+colour", 0, finished=True, batches=2, warm_up=1)

    def reference() -> float:
        generator = np.random.default_rng(1)
        return per_second(some["path"].tolist(), lambda path: stepwise(photos.read(store, path), generator))

    with one_thread():
        found, usual = in_turn(ours, reference)
    size = f"JPEG of 500 x 375 px to {IMAGE_SIZE} px, one core; reference: torchvision's transforms one by one"
    return _row("crop+rotation+colour", size, found, usual, COLOUR_GOAL)


def stepwise(photo: Tensor, generator: np.random.Generator) -> Tensor:
    """Crop, turn, and vary the colours, each by a transform of torchvision."""
    box, degrees, _, (brightness, contrast, saturation, hue) = inputs._drawn(
        photo.shape[-2], photo.shape[-1], "crop+rotation+colour", generator
    )
    side = inputs._cut_side(IMAGE_SIZE, "crop+rotation+colour")
    view = functional.resized_crop(photo, *box, [side, side])
    view = functional.rotate(view, degrees, interpolation=InterpolationMode.BILINEAR)
    view = functional.center_crop(view, [IMAGE_SIZE])
    view = functional.adjust_contrast(functional.adjust_brightness(view, brightness), contrast)
    return functional.adjust_hue(functional.adjust_saturation(view, saturation), hue)


def rate(
    listed: pd.DataFrame,
    photo_root: Path,
    view: str,
    workers: int,
    cache: raw_photos.RawPhotos | None = None,
    finished: bool = False,
    batches: int = BATCHES,
    warm_up: int = WARM_UP,
) -> float:
    """Photos a second of a stream that nobody keeps waiting."""
    requests = _endless(len(listed))
    with closing(inputs.stream(listed, photo_root, IMAGE_SIZE, view, requests, workers, 7, cache, finished)) as stream:
        for _ in range(warm_up):
            next(stream)
        start = time.perf_counter()
        for _ in itertools.islice(stream, batches):
            pass
        return batches * BATCH / (time.perf_counter() - start)


def mosaic(seed: int) -> bytes:
    """A JPEG of 2000 x 1500 px: sixteen made-up photos, so that it is as fine as they are."""
    tiles = [Image.open(io.BytesIO(made_up(seed * 16 + number))) for number in range(16)]
    whole = Image.new("RGB", (2000, 1500))
    for number, tile in enumerate(tiles):
        whole.paste(tile, (number % 4 * 500, number // 4 * 375))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def in_turn(*ways: Callable[[], float]) -> list[tuple[float, ...]]:
    """What ways give in each round, one after the other, so that what else the machine does meets all alike."""
    return list(zip(*(tuple(way() for way in ways) for _ in range(REPEATS)), strict=True))


def per_second(items: Sequence[Any], way: Callable[[Any], object]) -> float:
    """Items a second."""
    start = time.perf_counter()
    for item in items:
        way(item)
    return len(items) / (time.perf_counter() - start)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in a block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _decode_all(photo_root: Path, paths: Sequence[str]) -> None:
    torch.set_num_threads(1)
    store, generator = photo_stores.reopened(photo_root), np.random.default_rng(1)
    for path in paths:
        inputs.crop_and_flip(photos.read(store, path), IMAGE_SIZE, generator)


def _endless(photos: int) -> Iterator[tuple[int, Tensor]]:
    for epoch in itertools.count(1):
        order = torch.randperm(photos, generator=torch.Generator().manual_seed(epoch))
        yield from ((epoch, part) for part in order.split(BATCH))


def _row(name: str, size: str, ours: Sequence[float], reference: Sequence[float], goal: str = "") -> dict[str, Any]:
    return {
        "benchmark": name,
        "size": size,
        "ours": median(ours),
        "reference": median(reference),
        "unit": "photos/s",
        "ratio": median(rate / usual for rate, usual in zip(ours, reference, strict=True)),
        "goal": goal,
    }


if __name__ == "__main__":
    main()
