"""The training loop, as a module that ``torchrun -m`` starts.

It reads top to bottom: settings, what is learned from, the loop, what is kept. ``helpers.launch`` starts it from a
notebook.
"""

import argparse
import ctypes
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

from helpers import cells, data_lists, devices, fetch, inputs, metrics, objectives, packing, paths, predict, progress
from helpers.models import ARCHITECTURES, Geolocator

CHOICES = {
    "partition": (*cells.PARTITIONS, "multi"),
    "architecture": ARCHITECTURES,
    "train_layers": ("heads", "all"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "halving"),
    "precision": devices.PRECISIONS,
}
# Shares of the epochs after which the rate is halved: 4, 8, 12, 13, 14 of 15 in the paper's PyTorch successor.
_HALVINGS = (4 / 15, 8 / 15, 12 / 15, 13 / 15, 14 / 15)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass(frozen=True)
class Settings:
    """What a run is trained with: the parameters of ``04_training/train.ipynb``."""

    partition: str
    dataset: str
    photo_root: str
    short_side: int
    architecture: str
    weights: str
    train_layers: str
    backbone_learning_rate_factor: float
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup_epochs: float
    epochs: int
    batch_size: int
    image_size: int
    precision: str
    seed: int
    run_name: str

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch_size", "image_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("short_side", "weight_decay", "warmup_epochs", "backbone_learning_rate_factor", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        shortest = round(self.image_size * inputs.SHORT_SIDE_TO_CROP)
        if 0 < self.short_side < shortest:
            raise ValueError(
                f"short_side {self.short_side} is too small for views of image_size {self.image_size}, which are cut "
                f"from {shortest} pixels: set it to {shortest} or more, or to 0 to read the photos as they are"
            )
        if self.weights not in ("default", "none") and not Path(self.weights).expanduser().is_file():
            raise ValueError(
                f"weights {self.weights!r} is no file: it takes 'default', 'none' or the file of a state dict"
            )

    @property
    def partitions(self) -> tuple[str, ...]:
        """Names of the partitions that get a head."""
        return cells.PARTITIONS if self.partition == "multi" else (self.partition,)


def prepared(settings: Settings, rows: pd.DataFrame) -> Settings:
    """Settings whose photos are sure to be there: with ``short_side``, those that were shrunk to it into shards.

    Shrunk photos are made once for a list; after that the others are not looked at any more.
    """
    if not settings.short_side or not packing.is_prepared(rows, settings.dataset, settings.short_side):
        fetch.ensure(rows, settings.dataset, settings.photo_root)
    if not settings.short_side:
        return settings
    photo_root = fetch.photo_folder(settings.dataset, settings.photo_root)
    shards = packing.prepared(rows, settings.dataset, photo_root, settings.short_side)
    return replace(settings, photo_root=str(shards))


@dataclass(frozen=True)
class Photos:
    """Photos of one split with their labels."""

    rows: pd.DataFrame
    labels: dict[str, Tensor]
    root: Path

    def __len__(self) -> int:
        return len(self.rows)


def read_split(settings: Settings, split: str) -> Photos:
    """Photos of a split that can be learned from or judged by.

    A training photo outside all cells of all partitions teaches nothing and is not read.
    """
    rows = data_lists.read(settings.dataset)
    labels = pd.read_parquet(paths.cells(settings.dataset) / "labels.parquet")
    rows = rows.merge(labels, on="id", how="left", validate="one_to_one")
    rows = rows[rows["split"] == split]
    label_columns = rows[list(settings.partitions)].astype("Int64").fillna(-1).astype(np.int64)
    if split == "train":
        labelled = (label_columns >= 0).any(axis=1)
        rows, label_columns = rows[labelled], label_columns[labelled]
    root = fetch.photo_folder(settings.dataset, settings.photo_root)
    by_partition = {name: torch.from_numpy(label_columns[name].to_numpy(copy=True)) for name in settings.partitions}
    return Photos(rows.reset_index(drop=True), by_partition, root)


def learning_rate_factor(settings: Settings, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate at a step: linear warm-up, then the schedule."""
    epoch = step / steps_per_epoch
    if epoch < settings.warmup_epochs:
        return (step + 1) / (settings.warmup_epochs * steps_per_epoch + 1)
    if settings.schedule == "halving":
        return 0.5 ** sum(epoch >= share * settings.epochs for share in _HALVINGS)
    done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def train(settings: Settings, folder: Path) -> None:
    """Train a run and write model, configuration, cells and metrics into `folder`."""
    torch.manual_seed(settings.seed)
    device = devices.best_device()
    training, validation = read_split(settings, "train"), read_split(settings, "validation")
    if not len(training):
        raise ValueError(
            f"dataset {settings.dataset!r} has no training photo in any cell: check the split column of its list, "
            "or build the cells with a smaller min_photos"
        )
    partitions = {name: cells.read(paths.cells(settings.dataset) / f"{name}.csv", name) for name in settings.partitions}
    classes = {name: len(partition) for name, partition in partitions.items()}
    model = Geolocator(settings.architecture, classes, settings.weights)
    model = model.to(device).to(memory_format=torch.channels_last)
    read_out = predict.ReadOut(partitions, device)
    _try_out(model, settings, device)
    labels = {name: column.to(device) for name, column in training.labels.items()}
    print(
        f"{settings.architecture} on {devices.described(device)}: {len(training)} training photos, "
        f"{len(validation)} validation photos, {' + '.join(f'{n} {name}' for name, n in classes.items())} cells",
        flush=True,
    )
    if not any((column >= 0).any() for column in validation.labels.values()):
        print("no validation photo lies in a cell, so the weights of the last epoch are kept", flush=True)

    started = time.monotonic()
    frozen = settings.train_layers == "heads"
    if frozen:
        # A frozen backbone says the same of a photo in every epoch: ask it once.
        model.requires_grad_(False).eval()
        model.heads.requires_grad_(True)
        training_features = _features(model, training, settings, device, "features of training photos")
        validation_features = _features(model, validation, settings, device, "features of validation photos")
    network: Callable[[Tensor], dict[str, Tensor]] = model.classify if frozen else model

    def training_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        shuffle = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
        order = torch.randperm(len(training), generator=shuffle)
        if frozen:
            yield from ((index, training_features[index]) for index in order.split(settings.batch_size))
        else:
            views = inputs.PhotoViews(training.rows, training.root, settings.image_size, "random", settings.seed, epoch)
            photos = inputs.batches(views, order, settings.batch_size)
            yield from zip(order.split(settings.batch_size), photos, strict=True)

    def validation_logits() -> Iterator[dict[str, Tensor]]:
        if frozen:
            yield from (network(features) for features in validation_features.split(settings.batch_size))
        else:
            for photos in _centre_views(validation, settings, device, "validating"):
                with devices.autocast(device, model, settings.precision):
                    logits = network(photos)
                yield logits

    optimizer = _optimizer(model, settings)
    steps_per_epoch = math.ceil(len(training) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(settings, step, steps_per_epoch)
    )
    best_loss = math.inf

    for epoch in range(1, settings.epochs + 1):
        model.train(not frozen)
        rate = optimizer.param_groups[0]["lr"]
        total_sums, total_counts = torch.zeros(2, len(partitions), device=device)
        steps = progress.track(training_batches(epoch), f"epoch {epoch}", steps_per_epoch, unit="batches")
        for index, batch in steps:
            with devices.autocast(device, model, settings.precision):
                logits = network(batch.to(device, non_blocking=True))
            index = index.to(device)
            in_batch = {name: column[index] for name, column in labels.items()}
            sums, counts = objectives.summed_cross_entropy(logits, in_batch)
            optimizer.zero_grad(set_to_none=True)
            objectives.mean_over_labelled(sums, counts).backward()
            optimizer.step()
            schedule.step()
            total_sums += sums.detach()
            total_counts += counts

        model.eval()
        train_loss = objectives.mean_over_labelled(total_sums, total_counts).item()
        judged = _judge(validation_logits(), validation, read_out, device) if len(validation) else {}
        if not math.isfinite(train_loss + judged.get("validation_loss", 0.0)):
            raise FloatingPointError(f"the loss is no longer finite in epoch {epoch}: lower the learning_rate")
        seconds = time.monotonic() - started
        started = time.monotonic()
        measured = {
            "epoch": epoch,
            "step": epoch * steps_per_epoch,
            "learning_rate": rate,
            "train_loss": train_loss,
            **judged,
            "seconds": round(seconds, 3),
        }
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(measured) + "\n")
        print(_epoch_line(measured, settings.epochs), flush=True)
        # Without labelled validation photos the last epoch is kept, else the one that explains them best.
        if judged.get("validation_loss", -epoch) < best_loss:
            best_loss = judged.get("validation_loss", -epoch)
            weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
            with paths.replacing(folder / "model.safetensors") as file_path:
                safetensors.torch.save_file(weights, file_path)

    for name, partition in partitions.items():
        cells.write(partition, folder / "cells" / f"{name}.csv")
    # Rounded to about a kilometre: they serve a baseline, and a shared run should not tell where its owner lives.
    places = training.rows[["latitude", "longitude"]].round(2)
    places.to_parquet(folder / "training_places.parquet", index=False)
    config = {**asdict(settings), "photo_root": "", "classes": classes}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _optimizer(model: Geolocator, settings: Settings) -> torch.optim.Optimizer:
    groups = [{"params": list(model.heads.parameters()), "lr": settings.learning_rate}]
    if settings.train_layers == "all":
        slower = settings.learning_rate * settings.backbone_learning_rate_factor
        groups.append({"params": list(model.backbone.parameters()), "lr": slower})
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def _try_out(model: Geolocator, settings: Settings, device: torch.device) -> None:
    """Let an architecture that cannot take photos of this size say so before any work is done."""
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, settings.image_size, settings.image_size, dtype=torch.uint8, device=device))
    except (AssertionError, RuntimeError) as error:  # torchvision's vision transformers assert
        raise ValueError(
            f"{settings.architecture} cannot take photos of image_size {settings.image_size}: {error}"
        ) from error


def _centre_views(photos: Photos, settings: Settings, device: torch.device, label: str) -> Iterator[Tensor]:
    views = inputs.PhotoViews(photos.rows, photos.root, settings.image_size, "centre")
    batches = inputs.batches(views, range(len(photos)), settings.batch_size)
    total = math.ceil(len(photos) / settings.batch_size)
    for batch in progress.track(batches, label, total, unit=f"batches of {settings.batch_size} photos"):
        yield batch.to(device, non_blocking=True)


@torch.no_grad()
def _features(model: Geolocator, photos: Photos, settings: Settings, device: torch.device, label: str) -> Tensor:
    if not len(photos):
        return torch.empty(0, device=device)
    with devices.autocast(device, model, settings.precision):
        return torch.cat([model.features(batch).float() for batch in _centre_views(photos, settings, device, label)])


@torch.no_grad()
def _judge(
    logits: Iterator[dict[str, Tensor]], photos: Photos, read_out: predict.ReadOut, device: torch.device
) -> dict[str, float]:
    """Great-circle accuracy on `photos`, of the hierarchy where there is one, and the loss if any has a cell."""
    total_sums, total_counts = torch.zeros(2, len(photos.labels), device=device)
    done, answers = 0, []
    for batch in logits:
        count = len(next(iter(batch.values())))
        labels = {name: column[done : done + count].to(device) for name, column in photos.labels.items()}
        sums, counts = objectives.summed_cross_entropy(batch, labels)
        total_sums += sums
        total_counts += counts
        done += count
        probabilities = {name: scores.float().softmax(dim=1) for name, scores in batch.items()}
        answers.append(read_out(probabilities)[read_out.models[-1]])
    table = pd.concat(answers)
    distance_km = metrics.great_circle_km(
        photos.rows["latitude"], photos.rows["longitude"], table["predicted_latitude"], table["predicted_longitude"]
    )
    shares = dict(zip(metrics.SHARES, metrics.accuracy(distance_km).tolist(), strict=True))
    judged = {**shares, "median_km": float(np.median(distance_km))}
    if total_counts.any():
        judged["validation_loss"] = objectives.mean_over_labelled(total_sums, total_counts).item()
    return judged


def best_epoch(curves: pd.DataFrame) -> int:
    """Epoch whose weights were kept: the one with the lowest validation loss, the last one without validation."""
    chosen = curves["validation_loss"].argmin() if "validation_loss" in curves else -1
    return int(curves["epoch"].iloc[chosen])


def model_card(settings: Settings, curves: pd.DataFrame, training_photos: int) -> str:
    """What a run is, how well it did in validation, and what it must not be used for, in Markdown."""
    best = curves[curves["epoch"] == best_epoch(curves)].iloc[0]
    judged = "no validation photos"
    if "median_km" in curves:
        shares = ", ".join(f"{100 * best[f'within_{km}km']:.1f} % within {km:,} km" for km in metrics.THRESHOLDS_KM)
        judged = f"{shares}; half of the guesses are more than {best['median_km']:,.0f} km off"
    return f"""# Model card

**What it is.** A network that guesses where on Earth a photo was taken: {settings.architecture} with heads for
{", ".join(settings.partitions)} cells, trained on {training_photos:,} photos of dataset `{settings.dataset}`
(train_layers: {settings.train_layers}).

**How good it is.** On validation photos, one crop, at the epoch that was kept: {judged}. Evaluate it on photos like
yours with `05_evaluation/evaluate.ipynb`. Its confidence is the probability that it gives to the cell it names, and is
not calibrated. It knows best what was photographed most, and is worse for the rest of the world.

**Intended use.** Research and teaching on how places look and what models learn of it; sorting one's own photos;
checking claims about the place of a public photo, by people who weigh a guess as a guess.

**Out of scope.** Tracking, surveillance or identification of people; finding where a person lives, works or stays;
security-sensitive, military or law-enforcement use; any decision about a person.
"""


def _epoch_line(measured: dict[str, float], epochs: int) -> str:
    line = f"epoch {measured['epoch']}/{epochs}: loss {measured['train_loss']:.2f}"
    if "median_km" in measured:
        shares = "/".join(f"{100 * measured[f'within_{km}km']:.1f}" for km in metrics.THRESHOLDS_KM[2:])
        line += f", validation {measured.get('validation_loss', math.nan):.2f}, median {measured['median_km']:.0f} km"
        line += f", {shares} % within {'/'.join(map(str, metrics.THRESHOLDS_KM[2:]))} km"
    return f"{line}, {measured['seconds']:.1f} s"


def end_with_parent() -> None:
    """Have Linux terminate this process when the one that started it ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@record
def main() -> None:
    end_with_parent()
    parser = argparse.ArgumentParser(description="Train a run; 04_training/train.ipynb calls this.")
    parser.add_argument("settings", type=Path, help="JSON file with the settings")
    parser.add_argument("folder", type=Path, help="folder to write the run into")
    arguments = parser.parse_args()
    train(Settings(**json.loads(arguments.settings.read_text())), arguments.folder)


if __name__ == "__main__":
    main()
