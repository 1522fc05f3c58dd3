"""Partitions, labels and hierarchy as one would write them with s2sphere, photo by photo.

Slow and plain on purpose: `helpers.cells` must give the same, cell for cell and label for label, and the benchmark
times the two side by side.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from s2sphere import CellId, LatLng


@dataclass
class Cell:
    """One class: the training photos in a cell, and the mean of their coordinates in degrees."""

    photos: list[int]
    latitude_mean: float
    longitude_mean: float


def leaves(latitude: Iterable[float], longitude: Iterable[float]) -> list[CellId]:
    """The leaf cell of every photo."""
    return [CellId.from_lat_lng(LatLng.from_degrees(*place)) for place in zip(latitude, longitude, strict=True)]


def build(
    leaf_cells: list[CellId], latitude: list[float], longitude: list[float], min_photos: int, max_photos: int
) -> dict[CellId, Cell]:
    """The cells of one partition, sorted by id."""
    photos_in = _grouped(leaf_cells, range(len(leaf_cells)), level=2)
    for level in range(3, 31):
        photos_in = {cell: photos for cell, photos in photos_in.items() if len(photos) > min_photos}
        for cell in [cell for cell, photos in photos_in.items() if len(photos) > max_photos]:
            photos_in |= _grouped(leaf_cells, photos_in.pop(cell), level)
    return {
        cell: Cell(
            photos,
            math.fsum(latitude[photo] for photo in photos) / len(photos),
            math.fsum(longitude[photo] for photo in photos) / len(photos),
        )
        for cell, photos in sorted(photos_in.items())
        if len(photos) > min_photos
    }


def labels(partition: dict[CellId, Cell], leaf_cells: list[CellId]) -> list[int]:
    """The class label of every photo, -1 outside all cells."""
    label_of = {cell: label for label, cell in enumerate(partition)}
    return [_label(label_of, leaf) for leaf in leaf_cells]


def hierarchy(fine: dict[CellId, Cell], coarse: dict[CellId, Cell]) -> list[int]:
    """For every fine cell, the class label of the coarse cell that it lies in."""
    return labels(coarse, list(fine))


def _grouped(leaf_cells: list[CellId], photos: Iterable[int], level: int) -> dict[CellId, list[int]]:
    groups = defaultdict(list)
    for photo in photos:
        groups[leaf_cells[photo].parent(level)].append(photo)
    return dict(groups)


def _label(label_of: dict[CellId, int], cell: CellId) -> int:
    for level in range(2, cell.level() + 1):
        label = label_of.get(cell.parent(level))
        if label is not None:
            return label
    return -1
