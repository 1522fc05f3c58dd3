"""What a run is trained with, and how it is computed: the parameters of ``04_training/train.ipynb``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import (
    data_lists,
    devices,
    fetch,
    inputs,
    metrics,
    models,
    objectives,
    packing,
    paths,
    raw_photos,
    scenes,
    segmentation,
    targets,
    tracking,
)

BEST_BY = (*metrics.SHARES, "median_km", "validation_loss")
"""What may choose the epoch that is kept."""
PRESETS = ("auto", "search", "plain")
"""What a run answers by: classes and a search among its training photos, or its classes alone; or what it can."""
_MOST_MINUTES = 100_000  # which the system's timers can count
_MOST_SEED = 2**32 - 1
_THE_LESS_THE_BETTER = ("median_km", "validation_loss")
CHOICES = {
    "preset": PRESETS,
    "partition": targets.PARTITIONS,
    "train_layers": ("heads", "all"),
    "scene": ("all", *scenes.SCENES),
    "objective": ("auto", *objectives.OBJECTIVES),
    "augmentation": inputs.AUGMENTATIONS,
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "halving"),
    "precision": devices.PRECISIONS,
    "best_by": BEST_BY,
    "photo_cache": ("none", "raw"),
    "tracking": tracking.TRACKINGS,
}


@dataclass(frozen=True)
class Settings:
    """What a run is trained with: the parameters of ``04_training/train.ipynb``."""

    preset: str
    partition: str
    dataset: str
    photo_root: str
    short_side: int
    scene: str
    scene_threshold: float
    multitask: bool
    segmentation: bool
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
    ema_decay: float
    clip_norm: float
    best_by: str
    patience: int
    seed: int
    run_name: str

    def __post_init__(self) -> None:
        models.check_architecture(self.architecture)
        for name in ("learning_rate", "epochs", "batch_size", "image_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        factors = ("backbone_learning_rate_factor", "scene_loss_weight")
        numbers = ("short_side", "smoothing_km", "weight_decay", "warmup_epochs", "clip_norm", "patience", "seed")
        for name in (*numbers, *factors):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.scene_threshold < 1:
            raise ValueError(f"scene_threshold is a probability from 0 to below 1, not {self.scene_threshold}")
        if self.seed > _MOST_SEED:
            raise ValueError(f"seed is at most {_MOST_SEED:,}, not {self.seed}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is from 0 (no average) to below 1, such as 0.999, not {self.ema_decay}")
        if self.segmentation:
            models.check_map_branch(self.architecture)
            if self.train_layers == "heads":
                raise ValueError(
                    "segmentation joins two branches by layers that have to learn, which a frozen backbone cannot: set "
                    "train_layers to all"
                )
        coordinates = self.partition == targets.COORDINATES
        if coordinates and self.preset == "search":
            raise ValueError(
                "preset 'search' weighs the photos of classes, which partition 'coordinates' has none of: choose "
                "partition multi, or preset auto"
            )
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
    def searches(self) -> bool:
        """Whether training photos are kept to search among: ``auto`` does so wherever there are classes."""
        return self.preset == "search" or (self.preset == "auto" and self.partition != targets.COORDINATES)

    @property
    def has_scene_head(self) -> bool:
        """Whether the scene is learned beside the place: in a multi-task network, and as in TransLocator with maps."""
        return self.multitask or self.segmentation

    @property
    def learns_scenes(self) -> bool:
        """Whether the scenes of the photos matter."""
        return self.has_scene_head or self.scene != "all"

    @property
    def needs(self) -> tuple[str, ...]:
        """Notebooks whose outputs training reads, beside the list."""
        scenes_of = ("02_scenes/classify_scenes",) * self.learns_scenes
        maps_of = ("02_scenes/segment",) * self.segmentation
        return tuple(name for name in (targets.notebook(self.partition), *scenes_of, *maps_of) if name)


@dataclass(frozen=True)
class Running:
    """How a run is computed: what it learns does not depend on it, beyond rounding.

    Only ``accumulation``, like the number of devices, decides over how many photos batch normalisation takes its means.
    """

    devices: int
    nodes: int
    rendezvous: str
    accumulation: int
    workers: int
    photo_cache: str
    unreadable_photos: int
    compile: bool
    gradient_checkpointing: bool
    resume: bool
    checkpoint_minutes: float
    checkpoints_kept: int
    hang_minutes: float
    tracking: str

    def __post_init__(self) -> None:
        for name in ("nodes", "accumulation", "checkpoints_kept"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("devices", "workers", "unreadable_photos", "checkpoint_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 < self.hang_minutes <= _MOST_MINUTES:
            raise ValueError(f"hang_minutes is from above 0 to {_MOST_MINUTES:,}, not {self.hang_minutes}")
        if self.compile and self.gradient_checkpointing:
            raise ValueError("compile and gradient_checkpointing do not go together: choose one of them")
        if self.nodes > 1 and not self.rendezvous:
            raise ValueError(
                f"nodes is {self.nodes}, so rendezvous must say where they meet: the address of this machine and a "
                "free port of it, such as 10.0.0.1:29400"
            )


def merit(measured: Mapping[str, Any], best_by: str) -> list[float]:
    """How good an epoch was, the larger the better.

    Of several alike the one with the lower validation loss is better, and without validation photos that tell, the
    last.

    Examples
    --------
    >>> measured = {"epoch": 2, "within_750km": 0.25, "median_km": 900.0, "validation_loss": 3.5}
    >>> merit(measured, "within_750km"), merit(measured, "median_km")
    ([0.25, -3.5, 2], [-900.0, -3.5, 2])
    """
    sign = -1.0 if best_by in _THE_LESS_THE_BETTER else 1.0
    return [sign * measured.get(best_by, 0.0), -measured.get("validation_loss", 0.0), measured["epoch"]]


def of(parameters: Mapping[str, Any]) -> tuple[Settings, Running]:
    """Settings of a run, and how it is computed, from the parameters of the notebook."""
    settings, running = ({field.name: parameters[field.name] for field in fields(kind)} for kind in (Settings, Running))
    if settings["segmentation"] and running["photo_cache"] != "none":
        raise ValueError(
            "photo_cache keeps photos without their segmentation maps: set it to none, or segmentation to False"
        )
    tracking.check(running["tracking"])
    return Settings(**settings), Running(**running)


def sources(settings: Settings) -> dict[str, Path]:
    """Files that a run is made from, for its manifest."""
    files = {"data list": paths.data_list(settings.dataset)}
    if targets.heads(settings.partition):
        files["labels"] = targets.folder(settings.partition, settings.dataset) / "labels.parquet"
    if settings.weights not in ("default", "none"):
        files["weights"] = Path(settings.weights).expanduser()
    if settings.segmentation:
        files |= segmentation.recorded(settings.dataset)
    return {**files, **scenes.recorded(settings.dataset)} if settings.learns_scenes else files


def prepared(settings: Settings, running: Running, rows: pd.DataFrame) -> Settings:
    """Settings whose photos are sure to be there, as they are to be read.

    With ``short_side``, those are the ones that were shrunk to it into shards; with ``photo_cache``, they are decoded
    as well. Either is made once for a list, after which the others are not looked at any more.
    """
    settings = _with_photos(settings, rows)
    cache(settings, running)
    return settings


def cache(settings: Settings, running: Running) -> raw_photos.RawPhotos | None:
    """Decoded photos to learn from and to judge by, made if they are not there; None if none are wanted."""
    if running.photo_cache == "none" or settings.train_layers == "heads":  # whose backbone sees a photo once
        return None
    rows = data_lists.read(settings.dataset)
    rows = rows[rows["split"] != "test"].reset_index(drop=True)
    return raw_photos.cached(
        rows, settings.dataset, fetch.photo_folder(settings.dataset, settings.photo_root), settings.image_size
    )


def _with_photos(settings: Settings, rows: pd.DataFrame) -> Settings:
    if not settings.short_side or not packing.is_prepared(rows, settings.dataset, settings.short_side):
        fetch.ensure(rows, settings.dataset, settings.photo_root)
    if not settings.short_side:
        return settings
    photo_root = fetch.photo_folder(settings.dataset, settings.photo_root)
    shards = packing.prepared(rows, settings.dataset, photo_root, settings.short_side)
    return replace(settings, photo_root=str(shards))
