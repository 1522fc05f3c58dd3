"""Fetching photos from a server on this machine into shards, timed beside the raw limits in the same run.

``python -m benchmarks download`` prints three lines. The server (`tests.photo_server`) runs on the same cores. Photos
as they come are measured beside bare requests of aiohttp that keep nothing. Photos that are shrunk on arrival are
measured beside `photos.prepare` alone, on photos that lie in memory: the rate at which the cores decode, resize and
encode. All use one process per core, which has been started before, and take turns.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import pandas as pd
import torch

from helpers import cluster, download, photos
from tests import photo_server

REPEATS = 3
RATE_GOAL = 1000
RATIO_GOAL = 0.9
_CONNECTIONS = 16
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # to measure the cores, not how fast a disk syncs


def main() -> None:
    """Print the figures."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about three minutes."""
    with (
        cluster.kept(),
        ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool,
    ):
        return [
            _measured(pool, (500, 375), 0, photos_=12_000),
            _measured(pool, (1024, 768), 320, photos_=10_000),
            _measured(pool, (500, 375), 320, photos_=12_000),
        ]


def _measured(pool: ProcessPoolExecutor, size: tuple[int, int], short_side: int, photos_: int) -> dict[str, Any]:
    with photo_server.running(size=size, seconds=600) as server:
        _downloaded(server, 64, short_side)  # starts what is to be started
        limit = partial(_shrunk, pool, size, short_side) if short_side else partial(_requested, pool, server)
        limit(64)
        seconds = [(_downloaded(server, photos_, short_side), limit(photos_)) for _ in range(REPEATS)]
    kibibytes = len(photo_server.photo("/photos/0.jpg", size)) / 1024
    ours, reference = (photos_ / median(column) for column in zip(*seconds, strict=True))
    told = "as they come" if not short_side else f"shrunk to a short side of {short_side} px"
    goals = {(500, 0): f"ours >= {RATE_GOAL:,}", (1024, 320): f"ratio >= {RATIO_GOAL}"}
    return {
        "benchmark": f"download, {told}, all cores",
        "size": f"{photos_} photos of {size[0]} x {size[1]} px, {kibibytes:.0f} KiB each",
        "ours": ours,
        "reference": reference,
        "unit": "photos/s",
        "ratio": median(limit_seconds / our_seconds for our_seconds, limit_seconds in seconds),
        "goal": goals.get((size[0], short_side), ""),
    }


def _downloaded(server: photo_server.Server, photos_: int, short_side: int) -> float:
    """Seconds of a whole download into an empty folder."""
    ids = [f"{number:06d}" for number in range(photos_)]
    table = pd.DataFrame({"id": ids, "url": [server.url(f"photos/{name}.jpg") for name in ids]})
    table = table.assign(latitude=41.9, longitude=12.5, author="")
    found = download.Found("urls", table, None, (), True, {}, [])
    settings = download.Settings(short_side=short_side, connections_per_host=_CONNECTIONS)
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        start = time.perf_counter()
        report = download.run(found, Path(folder), settings)
        seconds = time.perf_counter() - start
    if report.fetched != photos_:
        raise RuntimeError(f"only {report.fetched} of {photos_} photos were fetched: {report.failed}")
    return seconds


def _requested(pool: ProcessPoolExecutor, server: photo_server.Server, photos_: int) -> float:
    """Seconds of bare requests, as many at a time as a download has."""
    addresses = [server.url(f"photos/{number:06d}.jpg") for number in range(photos_)]
    processes = os.cpu_count() or 1
    start = time.perf_counter()
    list(pool.map(_request_all, [addresses[process::processes] for process in range(processes)]))
    return time.perf_counter() - start


def _request_all(addresses: Sequence[str]) -> None:
    async def request() -> None:
        waiting = list(addresses)
        async with aiohttp.ClientSession() as session:

            async def lane() -> None:
                while waiting:
                    async with session.get(waiting.pop()) as response:
                        await response.read()

            await asyncio.gather(*(lane() for _ in range(_CONNECTIONS // (os.cpu_count() or 1))))

    asyncio.run(request())


def _shrunk(pool: ProcessPoolExecutor, size: tuple[int, int], short_side: int, photos_: int) -> float:
    """Seconds that shrinking takes alone."""
    processes = os.cpu_count() or 1
    start = time.perf_counter()
    list(pool.map(partial(_shrink, size, short_side), [photos_ // processes] * processes))
    return time.perf_counter() - start


def _shrink(size: tuple[int, int], short_side: int, photos_: int) -> None:
    torch.set_num_threads(1)
    files = [photo_server.photo(f"/photos/{number:06d}.jpg", size) for number in range(16)]
    for number in range(photos_):
        photos.prepare(files[number % len(files)], "made up", short_side)


if __name__ == "__main__":
    main()
