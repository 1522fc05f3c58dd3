"""Training photos a second: what a frozen backbone saves, and ours beside the plain recipe.

The plain recipe: float32 and the default memory layout on a CPU with Pillow in the main process; on a GPU the float16
of 2020 (autocast, a gradient scaler) with torchvision transforms on Pillow in six workers. Ours is the training loop as
the notebook starts it, from the files to the optimiser. Both learn from the same JPEGs, in turn, in one process.
"""

import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as torchvision_models
from torchvision import transforms

from benchmarks import photos as benchmark_photos
from helpers import cells, data_lists, datasets, devices, inputs, models, notebooks, paths, recipe, training

DATASET, PHOTOS = "toy-earth-benchmark", 1500
# Of a CPU; a GPU takes more at once. Goals: the ratio to the plain recipe on each.
NETWORKS = {"resnet50": (2.0, 2.0), "mobilenet_v3_large": (1.5, 2.0)}
BATCH, STEPS = (16, 3), (128, 30)  # photos and timed steps, on a CPU and on a GPU
REPEATS = 3
CLASSES = 500
IMAGE_SIZE = 224
# Dense half precision, 10^12 operations a second, from the makers' data sheets.
PEAK_TFLOPS = {"T4": 65, "V100": 125, "A100": 312, "L4": 121, "H100": 989, "H200": 989}


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHOTO_GEOLOCATION_ROOT"] = folder
        try:
            return [*_frozen(Path(folder)), *_beside_plain(Path(folder))]
        finally:
            del os.environ["PHOTO_GEOLOCATION_ROOT"]


def _frozen(folder: Path) -> list[dict[str, Any]]:
    made = datasets.make_list(DATASET, photo_count=PHOTOS, seed=7)
    _write(made.rows, made.header)
    given = {"dataset": DATASET, "epochs": 6}
    heads = _measured(given, folder / "heads")
    settings, _ = recipe.of({**notebooks.defaults("04_training/train"), **given})
    photos = int((data_lists.read(DATASET)["split"] == "train").sum())
    all_layers = _measured({**given, "epochs": 2, "train_layers": "all"}, folder / "all")
    size = f"{photos} photos, {settings.architecture} at {settings.image_size} px"
    later = heads["seconds"].iloc[1:].median()
    return [
        {
            "benchmark": "training, frozen backbone: a later epoch beside the first",
            "size": size,
            "ours": photos / later,
            "reference": photos / heads["seconds"].iloc[0],
            "unit": "photos/s",
            "ratio": heads["seconds"].iloc[0] / later,
            "goal": "ratio >= 20",
        },
        {
            "benchmark": "training, all layers, with validation",
            "size": size,
            "ours": photos / all_layers["seconds"].iloc[-1],
            "unit": "photos/s",
            "goal": "",
        },
    ]


def _beside_plain(folder: Path) -> list[dict[str, Any]]:
    device = devices.best_device()
    on_gpu = device.type == "cuda"
    batch, steps = STEPS if on_gpu else BATCH
    files = _photos(folder / "photos", batch * steps)
    found = []
    for architecture, goals in NETWORKS.items():
        given = {"dataset": "photos", "photo_root": str(folder / "photos"), "architecture": architecture}
        given |= {"weights": "none", "train_layers": "all", "image_size": IMAGE_SIZE, "batch_size": batch}
        given |= {"partition": "coarse", "epochs": 2, "warmup_epochs": 0.0, "objective": "cross_entropy"}
        ours, plain, synthetic, waits = [], [], [], []
        for repeat in range(REPEATS):
            measured = _measured(given, folder / f"{architecture}-{repeat}").iloc[-1]
            ours.append(measured["photos_per_second"])
            phases = sum(measured[f"seconds_{phase}"] for phase in training.PHASES)
            waits.append(measured["seconds_input"] / phases)
            plain.append(_plain_rate(architecture, files, batch, device))
            synthetic.append(_synthetic_rate(architecture, batch, steps, device))
        size = f"batches of {batch} JPEGs of 500 x 375 px at {IMAGE_SIZE} px"
        flops = _flops_per_photo(architecture) * median(ours)
        found += [
            {
                "benchmark": f"training {architecture}, reference: the plain recipe",
                "size": size,
                "ours": median(ours),
                "reference": median(plain),
                "unit": "photos/s",
                "ratio": median(one / other for one, other in zip(ours, plain, strict=True)),
                "goal": f"ratio >= {goals[on_gpu]:g}",
            },
            {
                "benchmark": f"training {architecture}, reference: the same step on numbers held on the device",
                "size": size,
                "ours": median(ours),
                "reference": median(synthetic),
                "unit": "photos/s",
                "ratio": median(one / other for one, other in zip(ours, synthetic, strict=True)),
                "goal": "ratio >= 0.9" if on_gpu else "",
            },
            {
                "benchmark": f"training {architecture}: waiting for input{_utilisation(device, flops)}",
                "size": size,
                "ours": 100 * median(waits),
                "unit": "% of the step",
                "goal": "< 5",
            },
        ]
    return found


def _photos(folder: Path, count: int) -> list[Path]:
    """JPEGs, a list of them that has so many training photos, and cells."""
    folder.mkdir()
    seen = [benchmark_photos.made_up(seed) for seed in range(min(count, 48))]
    made = datasets.make_list(DATASET, photo_count=2 * count, seed=7).rows
    training_rows = made[made["split"] == "train"].iloc[:count]
    kept = pd.concat([training_rows, made[made["split"] == "validation"].iloc[:2]]).sort_values("id")
    photos = [seen[number % len(seen)] for number in range(len(kept))]
    hashes = [hashlib.sha256(photo).hexdigest() for photo in photos]
    kept = kept.assign(path=[f"{name}.jpg" for name in kept["id"]], sha256=hashes)
    for path, photo in zip(kept["path"], photos, strict=True):
        (folder / path).write_bytes(photo)
    _write(kept, {"dataset": "photos"}, name="photos")
    return [folder / path for path in kept["path"]][:count]


def _write(rows: pd.DataFrame, header: Mapping[str, Any], name: str = DATASET) -> None:
    data_lists.write(rows, header, paths.data_list(name))
    photos = data_lists.read(name)
    train = photos[photos["split"] == "train"]
    sizes = {"coarse": 200, "middle": 100, "fine": 50}
    partitions = cells.build_all(train["latitude"], train["longitude"], min_photos=1, max_photos=sizes)
    for each, partition in partitions.items():
        cells.write(partition, paths.cells(name) / f"{each}.csv")
    cells.label_table(photos, partitions).to_parquet(paths.cells(name) / "labels.parquet")


def _measured(given: dict[str, Any], folder: Path) -> pd.DataFrame:
    """What a run measures of itself, by epoch."""
    folder.mkdir()
    settings, running = recipe.of({**notebooks.defaults("04_training/train"), **given})
    training.train_alone(training.Job(settings, running, folder, folder / "checkpoints"))
    return pd.read_json(folder / "metrics.jsonl", lines=True)


class _Plain(Dataset[tuple[Tensor, int]]):
    """Photos as the usual chain of transforms gives them."""

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(IMAGE_SIZE, inputs.CROP_AREA),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.files[number]).convert("RGB")), number % CLASSES


def _plain_rate(architecture: str, files: Sequence[Path], batch: int, device: torch.device) -> float:
    """Photos a second, without the first step."""
    on_gpu = device.type == "cuda"
    torch.backends.cudnn.benchmark = on_gpu
    model = torchvision_models.get_model(architecture, num_classes=CLASSES).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)
    loader = DataLoader(_Plain([*files[:batch], *files]), batch, num_workers=6 if on_gpu else 0, pin_memory=on_gpu)
    for step, (photos, labels) in enumerate(loader):
        with torch.autocast(device.type, torch.float16, enabled=on_gpu):
            loss = nn.functional.cross_entropy(model(photos.to(device)), labels.to(device))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()
        if step == 0:
            started = time.perf_counter()
    return len(files) / (time.perf_counter() - started)


def _synthetic_rate(architecture: str, batch: int, steps: int, device: torch.device) -> float:
    """Photos a second of our step where no photo is read, without the first step."""
    model = models.Geolocator(architecture, {"coarse": CLASSES}, "none").to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    photos = torch.randint(256, (batch, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8, device=device)
    labels = torch.arange(batch, device=device)

    def learn(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            with devices.autocast(device, model, "auto"):
                answers = model(photos)
            nn.functional.cross_entropy(answers["coarse"].float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        _finish(device)
        return time.perf_counter() - started

    learn(1)
    return batch * steps / learn(steps)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _flops_per_photo(architecture: str) -> int:
    """Floating-point operations of a step: the forward pass, and twice as many backward."""
    with torch.device("meta"):
        model = torchvision_models.get_model(architecture, num_classes=CLASSES)
        photo = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    with FlopCounterMode(display=False) as counter:
        model.eval()(photo)
    return 3 * counter.get_total_flops()


def _utilisation(device: torch.device, flops: float) -> str:
    name = devices.described(device)
    words = re.split(r"[^A-Z0-9]+", name.upper()) if device.type == "cuda" else []
    peak = next((peak for gpu, peak in PEAK_TFLOPS.items() if gpu in words), None)
    share = f", {flops / peak / 1e10:.0f} % of the {name}'s peak" if peak else ""
    return f" ({flops / 1e12:.3g} TFLOP/s{share})"


if __name__ == "__main__":
    sys.exit("python -m benchmarks training")
