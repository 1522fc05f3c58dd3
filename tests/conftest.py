"""What tests share: an output folder of their own, a Dask scheduler, and the real photos where there are some."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import cluster, paths

SHARED = paths.SOURCE.parent / "shared"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data lists and outputs, so that the checkout stays clean."""
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real photos and published tables."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name!r} beside the checkout: real photos and published tables are not there")
    return SHARED


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen]]:
    """A scheduler in a process of its own, whose address the environment names, and a call that starts a worker."""
    children = []

    def started(*command):
        child = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        children.append(child)
        return child

    file = tmp_path / "scheduler.json"
    started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    deadline = time.monotonic() + 60
    while not file.exists() or not re.search(r"tcp://127[^\"]*", file.read_text()):
        assert time.monotonic() < deadline, "the scheduler did not start"
        time.sleep(0.05)
    address = re.search(r"tcp://127[^\"]*", file.read_text())[0]
    monkeypatch.setenv(cluster.SCHEDULER, address)
    yield lambda: started(
        "dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"
    )
    for child in children:
        child.kill()
        child.wait()
