"""What tests share: an output folder of their own, a Dask scheduler, and the real photos where there are some."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from matplotlib.figure import Figure

from helpers import (
    cells,
    cluster,
    data_lists,
    datasets,
    exploring,
    fetch,
    manifests,
    paths,
    regions,
    scenes,
    segmenters,
    targets,
)

SHARED = paths.SOURCE.parent / "shared"

# How long an example takes says how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the file that takes longest begin first: side by side, the others are done meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_line.py")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root with `toy-earth-tiny`: its photos, list, classes and scenes, made by calls instead of notebooks."""
    root, dataset = tmp_path_factory.mktemp("tiny"), "toy-earth-tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        made = datasets.make_list(dataset, photo_count=150, seed=7, validation_share=0.2, test_share=0.1)
        data_lists.write(made.rows, made.header, paths.data_list(dataset))
        photos = data_lists.read(dataset)
        train = photos[photos["split"] == "train"]
        sizes = {"coarse": 40, "middle": 20, "fine": 10}
        partitions = cells.build_all(train["latitude"], train["longitude"], min_photos=1, max_photos=sizes)
        for name, partition in partitions.items():
            cells.write(partition, paths.cells(dataset) / f"{name}.csv")
        cells.label_table(photos, partitions).to_parquet(paths.cells(dataset) / "labels.parquet")
        located = exploring.located(photos)
        classes = {name: regions.build(located[photos["split"] == "train"], name, 1) for name in regions.PARTITIONS}
        targets.write(classes, paths.regions(dataset))
        regions.label_table(located, classes).to_parquet(paths.regions(dataset) / "labels.parquet")
        output = manifests.begin(paths.scenes(dataset), "02_scenes/classify_scenes", {}, scenes.sources(dataset, ""))
        scenes.known(photos, dataset, "").to_parquet(output.folder / "scenes.parquet")
        manifests.finish(output)
        recorded_maps(dataset)
    return root


@pytest.fixture(scope="module")
def copied(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of it with its photos, for what makes runs and changes photos: other tests share the first."""
    root = shutil.copytree(tiny, tmp_path_factory.mktemp("copied"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        fetch.ensure(data_lists.read("toy-earth-tiny"), "toy-earth-tiny")
        yield root


def recorded_maps(dataset: str) -> segmenters.Made:
    """Segmentation maps of a rendered dataset, made by calls instead of the notebook."""
    chosen, inputs = segmenters.load(segmenters.RENDERER), {"data list": paths.data_list(dataset)}
    output = manifests.begin(paths.segmentations(dataset), "02_scenes/segment", {"dataset": dataset}, inputs)
    made = segmenters.make(data_lists.read(dataset), dataset, paths.photos(dataset), chosen, short_side=256)
    segmenters.record(made, chosen, 256, output.folder)
    manifests.finish(output)
    return made


@pytest.fixture(scope="session")
def assert_fits() -> Callable[[Figure, float], None]:
    """A check that nothing of a figure is cut off."""

    def check(figure: Figure, width: float) -> None:
        assert figure.get_figwidth() == width
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox()
        assert drawn.x0 > -0.03
        assert drawn.x1 < width + 0.03
        assert drawn.y0 > -0.03
        assert drawn.y1 < figure.get_figheight() + 0.03

    return check


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, todo = [], [pid]
    while todo:
        todo += children.get(todo.pop(), [])
        found = found + [child for child in todo if child not in found]
    return found


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
