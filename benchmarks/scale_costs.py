"""What one photo costs, step by step, measured on this machine in under three minutes.

``python -m benchmarks.scale_costs`` prints the table. The photos are made up: JPEGs of 640 x 480 px, and the same
shrunk. Everything has one core, and seconds are those that it works, which other work on the machine hardly lengthens.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from helpers import devices, inputs, photos, scene_classifier, shards
from helpers.models import Geolocator
from tests import photo_server

TABLE = Path(__file__).with_name("README.md")
IMAGE_SIZE = 224
SIDES = (320, 256)
"""Shorter sides that photos are shrunk to, in pixels."""
RECIPES = {
    "efficientnet_lite0, heads": ("efficientnet_lite0", "heads"),
    "efficientnet_lite0, all": ("efficientnet_lite0", "all"),
    "resnet50, all": ("resnet50", "all"),
}
"""Architecture, and the layers that are trained."""
PAPER_CELLS = {"coarse": 3298, "middle": 7202, "fine": 12893}
"""Classes of the paper's partitions."""
_PHOTOS, _BATCH, _BATCH_OF_FEATURES, _REPEATS = 64, 32, 128, 3
_SIZE = (640, 480)
_DOWNLOAD = re.compile(r"\| download, as they come, all cores \|[^|]*\| ([\d,]+) \|")
_MEASURED_ON = re.compile(r"^Measured on ([\d-]+), (\d+) cores", re.MULTILINE)


def main() -> None:
    """Print what was measured."""
    print(measure().to_string())


def measure() -> pd.DataFrame:
    """Costs of one photo, indexed by what costs: ``value``, ``unit``, and ``how`` it was found."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for one another look as if they worked
    try:
        with tempfile.TemporaryDirectory() as folder:
            costs = {**_downloading(), **_shrinking(), **_packing(Path(folder)), **_viewing(Path(folder))}
        views = torch.randint(0, 256, (_BATCH, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)
        costs |= _classifying(views)
        for architecture in dict.fromkeys(trained for trained, _ in RECIPES.values()):
            costs |= _of_architecture(architecture, views)
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame.from_dict(costs, orient="index", columns=["value", "unit", "how"]).rename_axis("cost")


def _downloading() -> dict[str, tuple[float, str, str]]:
    """Seconds that a core spends on a request, from the table of `benchmarks`, whose run takes minutes."""
    text = TABLE.read_text(encoding="utf-8")
    measured, rate = _MEASURED_ON.search(text), _DOWNLOAD.search(text)
    if not measured or not rate:
        raise ValueError(
            f"{TABLE} does not say how many photos a second were downloaded: make it again with make bench"
        )
    date, cores = measured.groups()
    seconds = int(cores) / int(rate[1].replace(",", ""))
    return {"request a photo": (seconds, "core seconds", f"benchmarks/README.md of {date}, with the server's share")}


def _shrinking() -> dict[str, tuple[float, str, str]]:
    originals = [photo_server.photo(f"/photos/{number}.jpg", _SIZE) for number in range(_PHOTOS)]
    costs = {"original": (_mean_bytes(originals), "bytes", f"made-up JPEG, {_SIZE[0]} x {_SIZE[1]} px")}
    for side in SIDES:
        seconds, shrunk = _timed(lambda side=side: [_shrunk(original, side) for original in originals])
        costs[f"shrink to {side} px"] = (seconds / _PHOTOS, "core seconds", "photos.prepare")
        costs[f"JPEG of {side} px"] = (_mean_bytes(shrunk), "bytes", "the same photos, shrunk")
    costs["raw square of 256 px"] = (3.0 * 256**2, "bytes", "a byte for each of three colours")
    return costs


def _packing(folder: Path) -> dict[str, tuple[float, str, str]]:
    photo = _shrunk(photo_server.photo("/photos/0.jpg", _SIZE), SIDES[0])
    names = [f"{number % 40:02d}/{number:06d}.jpg" for number in range(20 * _PHOTOS)]

    def pack() -> list[Path]:
        packed = Path(tempfile.mkdtemp(dir=folder))
        with shards.ShardWriter(packed / "shard-00000.tar") as shard:
            for name in names:
                shard.add(name, photo, {"id": name, "latitude": 1.5, "longitude": 2.5})
        return list(packed.iterdir())

    seconds, files = _timed(pack)
    beside = sum(file.stat().st_size for file in files) / len(names) - len(photo)
    return {
        "pack": (seconds / len(names), "core seconds", "shards.ShardWriter"),
        "tar header and index": (beside, "bytes", "beside each photo in a shard"),
    }


def _viewing(folder: Path) -> dict[str, tuple[float, str, str]]:
    """Photos from disk to what a network takes, on one core."""
    for number in range(_PHOTOS):
        photo = _shrunk(photo_server.photo(f"/photos/{number}.jpg", _SIZE), SIDES[0])
        (folder / f"{number}.jpg").write_bytes(photo)
    rows = pd.DataFrame({"path": [f"{number}.jpg" for number in range(_PHOTOS)]})
    costs = {}
    for what, view in (("view for training", "crop+flip"), ("centre view", "centre"), ("five crops", "five")):
        views = inputs.PhotoViews(rows, folder, IMAGE_SIZE, view)
        seconds, _ = _timed(lambda views=views: [views[number] for number in range(_PHOTOS)])
        costs[what] = (seconds / _PHOTOS, "core seconds", f"read and decode {SIDES[0]} px, PhotoViews {view!r}")
    return costs


def _classifying(views: Tensor) -> dict[str, tuple[float, str, str]]:
    network = scene_classifier.load().network

    def classify() -> None:
        with torch.inference_mode(), _autocast(network):
            network(views)

    return _of_network("scenes", classify, _operations(classify), _BATCH, "the embedded classifier")


def _of_architecture(architecture: str, views: Tensor) -> dict[str, tuple[float, str, str]]:
    model = Geolocator(architecture, PAPER_CELLS, weights="none").to(memory_format=torch.channels_last).eval()

    def features() -> Tensor:
        with torch.no_grad(), _autocast(model):
            return model.features(views).float()

    name = f"{architecture}: features"
    costs = _of_network(name, features, _operations(features), _BATCH, "without gradients")
    costs[f"{name} of a photo"] = (4.0 * model.feature_count, "bytes", "float32, as they are kept")
    for layers in (layers for trained, layers in RECIPES.values() if trained == architecture):
        given = features().repeat(_BATCH_OF_FEATURES // _BATCH, 1) if layers == "heads" else views
        costs |= _of_training(f"{architecture}, {layers}", model, layers == "heads", given)
    return costs


def _of_training(name: str, model: Geolocator, frozen: bool, given: Tensor) -> dict[str, tuple[float, str, str]]:
    trained, network = (model.heads, model.classify) if frozen else (model, model)
    labels = torch.zeros(len(given), dtype=torch.int64)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    # Backward is one more pass for the weights, and one for what they are given unless that is kept features. The
    # counter itself takes the backward pass of a depthwise convolution for that of a full one.
    operations = (2 if frozen else 3) * _operations(lambda: network(given))

    def step() -> None:
        with _autocast(model):
            losses = [functional.cross_entropy(scores, labels) for scores in network(given).values()]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        optimizer.step()

    model.train(not frozen)
    costs = _of_network(f"{name}: step", step, operations, len(given), "forward, backward and AdamW")
    model.eval()
    moments = [value for state in optimizer.state.values() for value in state.values()]
    checkpoint = 2 * _bytes(trained.state_dict().values()) + _bytes(moments)
    costs[f"{name}: gradients"] = (_bytes(trained.parameters()), "bytes", "float32, of the layers that are trained")
    costs[f"{name}: checkpoint"] = (checkpoint, "bytes", "of layers trained: weights, the best ones, AdamW's moments")
    return costs


def _of_network(
    name: str, work: Callable[[], object], operations: float, batch: int, how: str
) -> dict[str, tuple[float, str, str]]:
    seconds, _ = _timed(work)
    counted = "forward counted by torch.utils.flop_counter, a multiply-add as two"
    if "step" in name:
        counted += "; backward follows"
    return {
        name: (seconds / batch, "core seconds", f"{how}, batch {batch}, {IMAGE_SIZE} px"),
        f"{name}, operations": (operations / batch, "operations", counted),
    }


def _operations(forward: Callable[[], object]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


def _autocast(network: nn.Module) -> AbstractContextManager[None]:
    return devices.autocast(torch.device("cpu"), network, "auto")


def _shrunk(photo: bytes, side: int) -> bytes:
    return photos.prepare(photo, "made up", side).data


def _mean_bytes(files: Sequence[bytes]) -> float:
    return sum(map(len, files)) / len(files)


def _bytes(tensors: Iterable[Tensor]) -> float:
    return float(sum(each.numel() * each.element_size() for each in tensors))


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Core seconds, the median of several after one that is not counted, and what came out."""
    seconds, made = [], work()
    for _ in range(_REPEATS):
        started = time.process_time()
        made = work()
        seconds.append(time.process_time() - started)
    return median(seconds), made


if __name__ == "__main__":
    main()
