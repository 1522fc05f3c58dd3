"""Lists as batches of photos for PyTorch."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional

from helpers import photo_stores, photos

# Photos are shrunk to 8/7 of the network's input before a crop is cut: 256 to 224 in the ECCV 2018 paper.
SHORT_SIDE_TO_CROP = 8 / 7
CROP_AREA = (0.66, 1.0)  # share of the photo that a random crop keeps, as in the paper's PyTorch successor
CROP_ASPECT = (3 / 4, 4 / 3)
VIEWS = ("random", "centre", "five")


class PhotoViews(Dataset[Tensor]):
    """Photos of a list, each as the view that a network takes.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list; ``path`` is read.
    photo_root : Path
        What the paths are relative to: a folder of loose photos, a zip, a tar, or a folder of shards.
    image_size : int
        Side of the square view, in pixels.
    view : str
        ``random``: a random resized crop, mirrored half the time; ``centre``: the central crop; ``five``: the four
        corners and the centre, as a leading axis of length 5.
    seed, epoch : int
        Determine the random views, whatever the number of workers.

    Notes
    -----
    An item is a uint8 tensor of shape (3, size, size), or (5, 3, size, size) for ``five``. Photos stay uint8 until
    the device, where the network normalises them.
    """

    def __init__(
        self, rows: pd.DataFrame, photo_root: Path, image_size: int, view: str, seed: int = 0, epoch: int = 0
    ) -> None:
        self.paths = rows["path"].tolist()
        self.store = photo_stores.reopened(photo_root)
        self.image_size = image_size
        self.view = view
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        photo = photos.read(self.store, self.paths[index])
        if self.view == "random":
            return random_view(photo, self.image_size, np.random.default_rng((self.seed, self.epoch, index)))
        photo = photos.resize(photo, round(self.image_size * SHORT_SIDE_TO_CROP))
        if self.view == "centre":
            return functional.center_crop(photo, [self.image_size])
        return torch.stack(functional.five_crop(photo, [self.image_size]))


def random_view(photo: Tensor, image_size: int, generator: np.random.Generator) -> Tensor:
    """Random resized crop of a uint8 photo (3, height, width), mirrored half the time."""
    height, width = photo.shape[-2:]
    for _ in range(10):
        area = height * width * generator.uniform(*CROP_AREA)
        aspect = np.exp(generator.uniform(*np.log(CROP_ASPECT)))
        crop_height, crop_width = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            break
    else:  # a panorama that no such crop fits
        crop_height = crop_width = min(height, width)
    top = int(generator.integers(height - crop_height + 1))
    left = int(generator.integers(width - crop_width + 1))
    crop = functional.resized_crop(photo, top, left, crop_height, crop_width, [image_size, image_size])
    return functional.horizontal_flip(crop) if generator.random() < 0.5 else crop


def batches(views: PhotoViews, order: Sequence[int] | Tensor, batch_size: int) -> Iterable[Tensor]:
    """Batches of `views` in the given order, read ahead by worker processes."""
    # Two batches' worth of photos are read faster than workers start.
    workers = min(os.cpu_count() or 1, 16) if len(order) > 2 * batch_size else 0
    return DataLoader(
        torch.utils.data.Subset(views, [int(index) for index in order]),
        batch_size=batch_size,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
