"""Training photos a second, and what a frozen backbone saves after the first epoch."""

import dataclasses
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from helpers import cells, data_lists, datasets, notebooks, paths, training

DATASET, PHOTOS = "toy-earth-benchmark", 1500


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHOTO_GEOLOCATION_ROOT"] = folder
        try:
            _make_inputs()
            settings = training.Settings(**{**notebooks.defaults("04_training/train"), "dataset": DATASET, "epochs": 6})
            heads = _seconds_by_epoch(settings, Path(folder) / "heads")
            everything = dataclasses.replace(settings, train_layers="all", epochs=2)
            all_layers = _seconds_by_epoch(everything, Path(folder) / "all")
            photos = len(training.read_split(settings, "train"))
        finally:
            del os.environ["PHOTO_GEOLOCATION_ROOT"]
    size = f"{photos} photos, {settings.architecture} at {settings.image_size} px"
    later = median(heads[1:])
    return [
        {
            "benchmark": "training, frozen backbone: a later epoch beside the first",
            "size": size,
            "ours": photos / later,
            "reference": photos / heads[0],
            "unit": "photos/s",
            "ratio": heads[0] / later,
            "goal": "ratio >= 20",
        },
        {
            "benchmark": "training, all layers, with validation",
            "size": size,
            "ours": photos / median(all_layers),
            "unit": "photos/s",
            "goal": "",
        },
    ]


def _make_inputs() -> None:
    made = datasets.make_list(DATASET, photo_count=PHOTOS, seed=7)
    data_lists.write(made.rows, made.header, paths.data_list(DATASET))
    photos = data_lists.read(DATASET)
    train = photos[photos["split"] == "train"]
    sizes = {"coarse": 200, "middle": 100, "fine": 50}
    partitions = cells.build_all(train["latitude"], train["longitude"], min_photos=5, max_photos=sizes)
    for name, partition in partitions.items():
        cells.write(partition, paths.cells(DATASET) / f"{name}.csv")
    cells.label_table(photos, partitions).to_parquet(paths.cells(DATASET) / "labels.parquet")


def _seconds_by_epoch(settings: training.Settings, folder: Path) -> list[float]:
    folder.mkdir()
    training.train(settings, folder)
    return pd.read_json(folder / "metrics.jsonl", lines=True)["seconds"].tolist()
