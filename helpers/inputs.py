"""Lists as batches of photos for PyTorch."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from helpers import photo_stores, photos

# Photos are shrunk to 8/7 of the network's input before a crop is cut: 256 to 224 in the ECCV 2018 paper.
SHORT_SIDE_TO_CROP = 8 / 7
CROP_AREA = (0.66, 1.0)  # share of the photo that a random crop keeps, as in the paper's PyTorch successor
CROP_ASPECT = (3 / 4, 4 / 3)
MAX_ROTATION_DEGREES = 10.0  # as in Lost & Found
# Ours: as much as cameras and hours of the day differ, and little of hue, for soil and plants tell a place by it.
BRIGHTNESS, CONTRAST, SATURATION = (0.8, 1.2), (0.8, 1.2), (0.8, 1.2)  # factors
HUE = (-0.02, 0.02)  # turns of the colour circle
AUGMENTATIONS = ("none", "crop+flip", "crop+rotation+colour")
VIEWS = ("centre", "five", *AUGMENTATIONS)

_Item = TypeVar("_Item")


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
        ``centre``: the central crop; ``five``: the four corners and the centre, as a leading axis of length 5; or an
        augmentation: ``none``, which is the centre, ``crop+flip`` (:func:`crop_and_flip`) or ``crop+rotation+colour``
        (:func:`crop_rotate_and_colour`).
    seed, epoch : int
        Determine the random views, whatever the number of workers.

    Raises
    ------
    ValueError
        If there is no such view.

    Notes
    -----
    An item is a uint8 tensor of shape (3, size, size), or (5, 3, size, size) for ``five``. Photos stay uint8 until
    the device, where the network normalises them.
    """

    def __init__(
        self, rows: pd.DataFrame, photo_root: Path, image_size: int, view: str, seed: int = 0, epoch: int = 0
    ) -> None:
        if view not in VIEWS:
            raise ValueError(f"no view {view!r}: choose one of {', '.join(VIEWS)}")
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
        if self.view == "five":
            return torch.stack(functional.five_crop(_shrunk(photo, self.image_size), [self.image_size]))
        return _view(photo, self.image_size, self.view, np.random.default_rng((self.seed, self.epoch, index)))


def augmented(photo: Tensor, image_size: int, seed: int, count: int) -> dict[str, list[NDArray[np.uint8]]]:
    """Views of a photo as the network sees them in the first epochs, for :func:`helpers.plots.augmentation_rows`.

    Parameters
    ----------
    photo : uint8 Tensor of shape (3, height, width)
    image_size : int
        Side of a view, in pixels.
    seed : int
    count : int
        Number of epochs.

    Returns
    -------
    dict of str to list of ndarray of uint8, shape (image_size, image_size, 3)
        By augmentation; of ``none`` a single view, for all epochs see the same.
    """
    return {
        augmentation: [
            _view(photo, image_size, augmentation, np.random.default_rng((seed, epoch, 0))).permute(1, 2, 0).numpy()
            for epoch in range(1, 2 if augmentation == "none" else count + 1)
        ]
        for augmentation in AUGMENTATIONS
    }


def crop_and_flip(photo: Tensor, image_size: int, generator: np.random.Generator) -> Tensor:
    """Random resized crop of a uint8 photo (3, height, width), mirrored half the time."""
    crop = functional.resized_crop(photo, *_crop_box(photo, generator), [image_size, image_size])
    return functional.horizontal_flip(crop) if generator.random() < 0.5 else crop


def crop_rotate_and_colour(photo: Tensor, image_size: int, generator: np.random.Generator) -> Tensor:
    """Random resized crop of a uint8 photo (3, height, width), turned by up to 10 degrees, its colours varied.

    Nothing is made up for the corners: the turned view lies inside the random crop, of which it shows all at 0 and
    three quarters at 10 degrees. It is not mirrored, so that writing and the side of the road stay what they are.
    """
    box = _crop_box(photo, generator)
    degrees = generator.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES)
    turn = math.radians(abs(degrees))
    margin = math.ceil((image_size - 1) * (math.cos(turn) + math.sin(turn) - 1) / 2)
    view = functional.resized_crop(photo, *box, [image_size + 2 * margin] * 2)
    view = functional.rotate(view, degrees, interpolation=InterpolationMode.BILINEAR)
    view = view[:, margin : margin + image_size, margin : margin + image_size]
    view = functional.adjust_brightness(view, generator.uniform(*BRIGHTNESS))
    view = functional.adjust_contrast(view, generator.uniform(*CONTRAST))
    view = functional.adjust_saturation(view, generator.uniform(*SATURATION))
    return functional.adjust_hue(view, generator.uniform(*HUE))


def batches(views: Dataset[_Item], order: Sequence[int] | Tensor, batch_size: int) -> Iterable[_Item]:
    """Batches of `views` in the given order, read ahead by worker processes: like an item, with an axis before."""
    # Two batches' worth of photos are read faster than workers start.
    workers = min(os.cpu_count() or 1, 16) if len(order) > 2 * batch_size else 0
    return DataLoader(
        torch.utils.data.Subset(views, torch.as_tensor(order).tolist()),
        batch_size=batch_size,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


def _view(photo: Tensor, image_size: int, view: str, generator: np.random.Generator) -> Tensor:
    if view == "crop+flip":
        return crop_and_flip(photo, image_size, generator)
    if view == "crop+rotation+colour":
        return crop_rotate_and_colour(photo, image_size, generator)
    return functional.center_crop(_shrunk(photo, image_size), [image_size])


def _shrunk(photo: Tensor, image_size: int) -> Tensor:
    return photos.resize(photo, round(image_size * SHORT_SIDE_TO_CROP))


def _crop_box(photo: Tensor, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop."""
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
    return top, left, crop_height, crop_width
