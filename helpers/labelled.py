"""Photos of one split with what is to be learned of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from helpers import data_lists, fetch, scenes, segmentation, targets
from helpers.recipe import Settings


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

    def some(self, numbers: NDArray[np.int64]) -> "Photos":
        """Those with these numbers."""
        labels = {name: column[numbers] for name, column in self.labels.items()}
        return Photos(self.rows.iloc[numbers].reset_index(drop=True), labels, self.coordinates[numbers], self.root)


def read_split(settings: Settings, split: str) -> Photos:
    """Photos of a split that can be learned from or judged by.

    A training photo without a class in any partition teaches nothing and is not read. An individual scene network
    learns from the photos whose scene has a probability above the threshold, and is judged by those that would be
    given to it: whose most likely scene it is.
    """
    # Part by part, for each process of a training holds its own: of a long list, no more than this split.
    parts = [part[part["split"] == split] for part in data_lists.parts(settings.dataset)]
    rows = pd.concat(parts, ignore_index=True)
    rows.attrs.update(parts[0].attrs)
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
        if settings.has_scene_head:
            labels[targets.SCENE] = pd.Categorical(seen["scene"], scenes.SCENES).codes.astype(np.int64)
        if settings.scene != "all":
            likely = (seen[f"p_{settings.scene}"] > settings.scene_threshold).to_numpy(dtype=bool)
            wanted &= likely if split == "train" else (seen["scene"] == settings.scene).to_numpy(dtype=bool)
    rows = rows[wanted].reset_index(drop=True)
    if settings.segmentation:
        rows = segmentation.joined(rows, settings.dataset)
    return Photos(
        rows,
        {name: torch.from_numpy(column[wanted]) for name, column in labels.items()},
        torch.from_numpy(rows[["latitude", "longitude"]].to_numpy(np.float32)),
        fetch.photo_folder(settings.dataset, settings.photo_root),
    )


def check(
    settings: Settings,
    classes: Mapping[str, targets.Classes],
    training: Photos,
    validation: Photos,
    say: Callable[[str], None],
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
        say("no validation photo has a class, so their loss says nothing")
    for name, each in classes.items():
        absent = {
            split: len(each) - len(np.unique(photos.labels[name][photos.labels[name] >= 0]))
            for split, photos in (("training", training), ("validation", validation))
        }
        said = ", ".join(f"{count} without a {split} photo" for split, count in absent.items() if count)
        if said:
            say(f"of {len(each)} classes of {name}: {said}")
