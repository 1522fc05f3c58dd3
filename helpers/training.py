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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

from helpers import (
    data_lists,
    devices,
    features,
    fetch,
    inputs,
    metrics,
    models,
    objectives,
    packing,
    paths,
    predict,
    progress,
    scenes,
    targets,
)
from helpers.models import Geolocator

CHOICES = {
    "partition": targets.PARTITIONS,
    "train_layers": ("heads", "all"),
    "scene": ("all", *scenes.SCENES),
    "objective": ("auto", *objectives.OBJECTIVES),
    "augmentation": inputs.AUGMENTATIONS,
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
    scene: str
    scene_threshold: float
    multitask: bool
    scene_loss_weight: float
    objective: str
    smoothing_km: float
    architecture: str
    weights: str
    allow_pickle: bool
    train_layers: str
    backbone_learning_rate_factor: float
    augmentation: str
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
        models.check_architecture(self.architecture)
        for name in ("learning_rate", "epochs", "batch_size", "image_size", "smoothing_km"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        factors = ("backbone_learning_rate_factor", "scene_loss_weight")
        for name in ("short_side", "weight_decay", "warmup_epochs", "seed", *factors):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.scene_threshold < 1:
            raise ValueError(f"scene_threshold is a probability from 0 to below 1, not {self.scene_threshold}")
        coordinates = self.partition == targets.COORDINATES
        fitting = objectives.COORDINATE_OBJECTIVES if coordinates else objectives.CLASS_OBJECTIVES
        if self.loss not in fitting:
            raise ValueError(
                f"objective {self.objective!r} does not go with partition {self.partition!r}, which takes auto, "
                f"{', '.join(fitting)}"
            )
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
    def loss(self) -> str:
        """The objective; what ``auto`` stands for is that of the paper which the partition comes from."""
        if self.objective != "auto":
            return self.objective
        usual = {"region": "haversine_smoothed", targets.COORDINATES: "unit_vector_mse"}
        return usual.get(self.partition, "cross_entropy")

    @property
    def learns_scenes(self) -> bool:
        """Whether the scenes of the photos matter."""
        return self.multitask or self.scene != "all"

    @property
    def needs(self) -> tuple[str, ...]:
        """Notebooks whose outputs training reads, beside the list."""
        classify = ("02_scenes/classify_scenes",) * self.learns_scenes
        return tuple(name for name in (targets.notebook(self.partition), *classify) if name)


def sources(settings: Settings) -> dict[str, Path]:
    """Files that a run is made from, for its manifest."""
    files = {"data list": paths.data_list(settings.dataset)}
    if targets.heads(settings.partition):
        files["labels"] = targets.folder(settings.partition, settings.dataset) / "labels.parquet"
    if settings.weights not in ("default", "none"):
        files["weights"] = Path(settings.weights).expanduser()
    return {**files, **scenes.recorded(settings.dataset)} if settings.learns_scenes else files


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
    """Photos of one split with what is to be learned of them.

    Attributes
    ----------
    labels : dict of str to int64 Tensor of shape (n,)
        Class numbers by head, -1 for none.
    coordinates : float32 Tensor of shape (n, 2)
        True latitude and longitude in degrees.
    """

    rows: pd.DataFrame
    labels: dict[str, Tensor]
    coordinates: Tensor
    root: Path

    def __len__(self) -> int:
        return len(self.rows)


def read_split(settings: Settings, split: str) -> Photos:
    """Photos of a split that can be learned from or judged by.

    A training photo without a class in any partition teaches nothing and is not read. An individual scene network
    learns from the photos whose scene has a probability above the threshold, and is judged by those that would be
    given to it: whose most likely scene it is.
    """
    rows = data_lists.read(settings.dataset)
    rows = rows[rows["split"] == split].reset_index(drop=True)
    heads = list(targets.heads(settings.partition))
    wanted = np.ones(len(rows), dtype=bool)
    labels = {}
    if heads:
        file = targets.folder(settings.partition, settings.dataset) / "labels.parquet"
        table = pd.read_parquet(file)
        absent = rows["id"][~rows["id"].isin(table["id"])]
        if len(absent):
            raise ValueError(
                f"{file} has the labels of another list than {settings.dataset!r}: it lacks {len(absent)} of its "
                f"{len(rows)} {split} photos, the first of them {absent.iloc[0]!r}. Make it again with "
                f"{targets.notebook(settings.partition)}.ipynb"
            )
        merged = rows[["id"]].merge(table, on="id", how="left", validate="one_to_one")[heads]
        labels = {name: merged[name].astype("Int64").fillna(-1).to_numpy(np.int64) for name in heads}
        if split == "train":
            wanted = np.any([column >= 0 for column in labels.values()], axis=0)
    if settings.learns_scenes:
        seen = scenes.table(rows, settings.dataset)
        if settings.multitask:
            labels[targets.SCENE] = pd.Categorical(seen["scene"], scenes.SCENES).codes.astype(np.int64)
        if settings.scene != "all":
            likely = (seen[f"p_{settings.scene}"] > settings.scene_threshold).to_numpy(dtype=bool)
            wanted &= likely if split == "train" else (seen["scene"] == settings.scene).to_numpy(dtype=bool)
    rows = rows[wanted].reset_index(drop=True)
    return Photos(
        rows,
        {name: torch.from_numpy(column[wanted]) for name, column in labels.items()},
        torch.from_numpy(rows[["latitude", "longitude"]].to_numpy(np.float32)),
        fetch.photo_folder(settings.dataset, settings.photo_root),
    )


class Loss:
    """Loss of a run: the weighted sum over its heads of their means over the photos that count.

    Parameters
    ----------
    settings : Settings
    classes : mapping of str to Partition or Classes
        By head.
    device : torch.device
    """

    def __init__(self, settings: Settings, classes: Mapping[str, targets.Classes], device: torch.device) -> None:
        self.settings = settings
        self.places = {
            name: torch.tensor(each.coordinates, dtype=torch.float32, device=device) for name, each in classes.items()
        }

    def summed(
        self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], coordinates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of the loss over the photos that count, and their number, for each head: two tensors (heads,)."""
        parts = [self._of_head(name, scores, labels, coordinates) for name, scores in outputs.items()]
        sums, counts = zip(*parts, strict=True)
        return torch.stack(sums), torch.stack(counts)

    def mean(self, sums: Tensor, counts: Tensor, heads: Iterable[str]) -> Tensor:
        """Weighted sum of the means of :meth:`summed`, a scalar."""
        weights = [self.settings.scene_loss_weight if name == targets.SCENE else 1.0 for name in heads]
        return objectives.weighted_mean(sums, counts, sums.new_tensor(weights))

    def _of_head(
        self, name: str, scores: Tensor, labels: Mapping[str, Tensor], coordinates: Tensor
    ) -> tuple[Tensor, Tensor]:
        if name == targets.COORDINATES:
            error = objectives.degrees_mse if self.settings.loss == "degrees_mse" else objectives.unit_vector_mse
            return error(scores, coordinates)
        if name == targets.SCENE or self.settings.loss == "cross_entropy":
            return objectives.cross_entropy(scores, labels[name])
        return objectives.haversine_smoothed(
            scores, labels[name], coordinates, self.places[name], self.settings.smoothing_km
        )


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
    """Train a run and write model, configuration, classes and metrics into `folder`."""
    torch.manual_seed(settings.seed)
    device = devices.best_device()
    training, validation = read_split(settings, "train"), read_split(settings, "validation")
    classes = targets.read(targets.folder(settings.partition, settings.dataset), targets.heads(settings.partition))
    _check_photos(settings, classes, training, validation)
    targets.write(classes, folder / "classes")
    outputs = _outputs(settings, classes)
    fingerprints = targets.fingerprints(folder / "classes", outputs)
    model = Geolocator(settings.architecture, outputs, settings.weights, settings.allow_pickle)
    models.take_heads(model, settings.weights, fingerprints)
    model = model.to(device).to(memory_format=torch.channels_last)
    loss = Loss(settings, classes, device)
    read_out = predict.read_out(classes, device)
    _try_out(model, settings, device)
    labels = {name: column.to(device) for name, column in training.labels.items()}
    coordinates = training.coordinates.to(device)
    print(
        f"{settings.architecture} on {devices.described(device)}: {len(training)} training photos, "
        f"{len(validation)} validation photos, {settings.loss} over "
        f"{' + '.join(f'{count} {name}' for name, count in outputs.items())} outputs",
        flush=True,
    )

    started = time.monotonic()
    frozen = settings.train_layers == "heads"
    if frozen:
        # A frozen backbone says the same of a photo in every epoch: ask it once.
        model.requires_grad_(False).eval()
        model.heads.requires_grad_(True)
        training_features = _features(model, training, settings, "features of training photos")
        validation_features = _features(model, validation, settings, "features of validation photos")
    network: Callable[[Tensor], dict[str, Tensor]] = model.classify if frozen else model

    def training_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        shuffle = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
        order = torch.randperm(len(training), generator=shuffle)
        if frozen:
            yield from ((index, training_features[index]) for index in order.split(settings.batch_size))
        else:
            views = inputs.PhotoViews(
                training.rows, training.root, settings.image_size, settings.augmentation, settings.seed, epoch
            )
            photos = inputs.batches(views, order, settings.batch_size)
            yield from zip(order.split(settings.batch_size), photos, strict=True)

    def validation_outputs() -> Iterator[dict[str, Tensor]]:
        if frozen:
            yield from (network(batch.to(device)) for batch in validation_features.split(settings.batch_size))
        else:
            for photos in _centre_views(validation, settings, device, "validating"):
                with devices.autocast(device, model, settings.precision):
                    answers = network(photos)
                yield answers

    optimizer = _optimizer(model, settings)
    steps_per_epoch = math.ceil(len(training) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(settings, step, steps_per_epoch)
    )
    best_loss = math.inf

    for epoch in range(1, settings.epochs + 1):
        model.train(not frozen)
        rate = optimizer.param_groups[0]["lr"]
        total_sums = torch.zeros(len(outputs), dtype=torch.float64)
        total_counts = torch.zeros(len(outputs), dtype=torch.int64)
        steps = progress.track(training_batches(epoch), f"epoch {epoch}", steps_per_epoch, unit="batches")
        for index, batch in steps:
            with devices.autocast(device, model, settings.precision):
                answers = network(batch.to(device, non_blocking=True))
            index = index.to(device)
            in_batch = {name: column[index] for name, column in labels.items()}
            sums, counts = loss.summed(answers, in_batch, coordinates[index])
            batch_loss = loss.mean(sums, counts, outputs)
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()
            # With no limit nothing is clipped: this asks for the norm alone, before it can spoil the weights.
            gradient = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf)
            if not torch.isfinite(batch_loss + gradient):
                raise _not_finite(batch_loss.item(), training.rows["id"].iloc[index.cpu().numpy()], epoch)
            optimizer.step()
            schedule.step()
            total_sums += sums.detach().cpu()
            total_counts += counts.cpu()

        model.eval()
        if not all(torch.isfinite(weights).all() for weights in model.state_dict().values()):
            raise FloatingPointError(f"the weights are no longer finite after epoch {epoch}: lower the learning_rate")
        judged = _judge(validation_outputs(), validation, loss, read_out, device) if len(validation) else {}
        if not math.isfinite(judged.get("validation_loss", 0.0)):
            raise FloatingPointError(f"the validation loss is not finite in epoch {epoch}: lower the learning_rate")
        seconds = time.monotonic() - started
        started = time.monotonic()
        measured = {
            "epoch": epoch,
            "step": epoch * steps_per_epoch,
            "learning_rate": rate,
            "train_loss": loss.mean(total_sums, total_counts, outputs).item(),
            **judged,
            "seconds": round(seconds, 3),
        }
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(measured) + "\n")
        print(_epoch_line(measured, settings.epochs), flush=True)
        # Without validation photos that count the last epoch is kept, else the one that explains them best.
        if judged.get("validation_loss", -epoch) < best_loss:
            best_loss = judged.get("validation_loss", -epoch)
            models.save(model, folder / "model.safetensors", fingerprints)

    # Rounded to about a kilometre: they serve a baseline, and a shared run should not tell where its owner lives.
    places = training.rows[["latitude", "longitude"]].round(2)
    places.to_parquet(folder / "training_places.parquet", index=False)
    # Without folders: a shared run should not tell of its owner's machine.
    elsewhere = {"photo_root": "", "weights": Path(settings.weights).name}
    config = {**asdict(settings), **elsewhere, "objective": settings.loss, "classes": outputs}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _outputs(settings: Settings, classes: Mapping[str, targets.Classes]) -> dict[str, int]:
    """Heads of the network, with their numbers of outputs."""
    outputs = {name: len(each) for name, each in classes.items()}
    if settings.partition == targets.COORDINATES:
        outputs[targets.COORDINATES] = objectives.COORDINATE_OBJECTIVES[settings.loss]
    return {**outputs, targets.SCENE: len(scenes.SCENES)} if settings.multitask else outputs


def _check_photos(
    settings: Settings, classes: Mapping[str, targets.Classes], training: Photos, validation: Photos
) -> None:
    """Refuse a split that nothing can be learned from, and say which classes a split lacks."""
    if not len(training):
        wanted = f" with a class of {settings.partition!r}" if classes else ""
        remedies = ["check the split column of its list"]
        if classes:
            remedies.append(f"make its classes anew with a smaller min_photos ({targets.notebook(settings.partition)})")
        if settings.scene != "all":
            wanted += f" whose scene is {settings.scene} with a probability above {settings.scene_threshold}"
            remedies.append("lower scene_threshold")
        raise ValueError(f"dataset {settings.dataset!r} has no training photo{wanted}: {', or '.join(remedies)}")
    if classes and not any((validation.labels[name] >= 0).any() for name in classes):
        print("no validation photo has a class, so the weights of the last epoch are kept", flush=True)
    for name, each in classes.items():
        absent = {
            split: len(each) - len(np.unique(photos.labels[name][photos.labels[name] >= 0]))
            for split, photos in (("training", training), ("validation", validation))
        }
        said = ", ".join(f"{count} without a {split} photo" for split, count in absent.items() if count)
        if said:
            print(f"of {len(each)} classes of {name}: {said}", flush=True)


def _not_finite(loss: float, ids: pd.Series, epoch: int) -> FloatingPointError:
    what = "its gradient is not finite" if math.isfinite(loss) else f"its loss is {loss}"
    print(f"photos of the batch that stops training, because {what}: {', '.join(ids)}", flush=True)
    return FloatingPointError(
        f"a batch of epoch {epoch} cannot be learned from, because {what}: photos {data_lists.shown(list(ids))} (all "
        "are named in train.log). Lower the learning_rate, or take a photo out that is always among them"
    )


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


def _features(model: Geolocator, photos: Photos, settings: Settings, label: str) -> Tensor:
    return features.of(
        model, photos.rows, photos.root, settings.image_size, "centre", settings.precision, settings.batch_size, label
    )


@torch.no_grad()
def _judge(
    answers: Iterator[dict[str, Tensor]],
    photos: Photos,
    loss: Loss,
    read_out: predict.ReadOut | predict.CoordinateReadOut,
    device: torch.device,
) -> dict[str, float]:
    """Great-circle accuracy on `photos` of the best founded answer, and the loss if any photo has a class."""
    totals, done, found = torch.zeros(2, 1, dtype=torch.float64), 0, []
    heads: list[str] = []
    for outputs in answers:
        heads, batch = list(outputs), slice(done, done + len(next(iter(outputs.values()))))
        labels = {name: column[batch].to(device) for name, column in photos.labels.items()}
        summed = loss.summed(outputs, labels, photos.coordinates[batch].to(device))
        totals = totals + torch.stack([part.cpu().double() for part in summed])
        done = batch.stop
        found.append(read_out(predict.fuse_crops(outputs, crops=1))[read_out.models[-1]])
    table = pd.concat(found)
    distance_km = metrics.great_circle_km(
        photos.rows["latitude"], photos.rows["longitude"], table["predicted_latitude"], table["predicted_longitude"]
    )
    shares = dict(zip(metrics.SHARES, metrics.accuracy(distance_km).tolist(), strict=True))
    judged = {**shares, "median_km": float(np.median(distance_km))}
    sums, counts = totals
    # Scenes alone say nothing of the place, so they do not choose the weights.
    if any(count for name, count in zip(heads, counts, strict=True) if name != targets.SCENE):
        judged["validation_loss"] = loss.mean(sums, counts, heads).item()
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

**What it is.** {_what(settings)}, learned from {training_photos:,} photos of dataset `{settings.dataset}`
({settings.architecture}, train_layers: {settings.train_layers}, objective: {settings.loss}).

**How good it is.** On validation photos, one crop, at the epoch that was kept: {judged}. Evaluate it on photos like
yours with `05_evaluation/evaluate.ipynb`. {_confidence(settings)} It knows best what was photographed most, and is
worse for the rest of the world.

**Intended use.** Research and teaching on how places look and what models learn of it; sorting one's own photos;
checking claims about the place of a public photo, by people who weigh a guess as a guess.

**Out of scope.** Tracking, surveillance or identification of people; finding where a person lives, works or stays;
security-sensitive, military or law-enforcement use; any decision about a person.
"""


def _what(settings: Settings) -> str:
    answer = {"country": "the country", "region": "the state or province", targets.COORDINATES: "the coordinates"}
    kinds = ", ".join(targets.heads(settings.partition))
    what = f"A network that guesses {answer.get(settings.partition, f'the cell ({kinds})')} where a photo was taken"
    if settings.scene != "all":
        what += f", for photos of {settings.scene} scenes"
    return f"{what}, and its scene (indoor, natural, urban)" if settings.multitask else what


def _confidence(settings: Settings) -> str:
    if settings.loss == "degrees_mse":
        return "It gives no confidence: it names one place for every photo, however little the photo shows."
    if settings.partition == targets.COORDINATES:
        return "Its confidence is the length of the vector it gives, which is short where it wavers; not calibrated."
    return "Its confidence is the probability that it gives to the class it names, and is not calibrated."


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
