"""Segmentation maps: what each pixel of a photo shows.

A map is a grey picture of its photo's shape, though not always of its size, whose values are places in a
:class:`Palette`. ``02_scenes/segment.ipynb`` makes the maps of a dataset, once, in shards; a network with a
segmentation branch reads them beside the photos.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from helpers import manifests, paths, photo_stores, photos

Colour = tuple[int, int, int]

PALETTE, MAPS, SHARES = "palette.csv", "maps.json", "shares.parquet"
"""Files of a dataset's folder: the classes, where the maps lie with what made them, and the share of each class."""

MOST_CLASSES = 256
"""That a grey pixel can name."""
_EXAMPLE_PIXELS = 160


class MissingMaps(FileNotFoundError):
    """Segmentation maps that were not made, or are those of other photos."""


@dataclass(frozen=True)
class Palette:
    """Classes that pixels are of, and the colours that stand for them.

    Examples
    --------
    >>> Palette.of(["sky", "road"]).colours
    ((0, 0, 0), (128, 0, 0))
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Palette":
        """Classes in the colours of PASCAL VOC, whose rule gives as many as are wanted."""
        return cls(tuple(names), tuple(map(_voc_colour, range(len(names)))))

    @classmethod
    def read(cls, file: Path) -> "Palette":
        """Read what :meth:`write` wrote, or a file of one's own: ``name`` and, where they matter, ``red, green, blue``.

        Raises
        ------
        ValueError
            If there is no such file, or it does not name from 2 to 256 classes, each once, in colours from 0 to 255.
        """
        try:
            table = pd.read_csv(file, dtype={"name": str}, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read as a table of classes ({error}): it needs a column name") from None
        if "name" not in table:
            raise ValueError(f"{file} has no column name: give a class in each row, in the order of their numbers")
        names = table["name"].tolist()
        if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names) or "" in names:
            raise ValueError(f"{file} must name from 2 to {MOST_CLASSES} classes, each once: it has {len(names)} rows")
        if not {"red", "green", "blue"} <= set(table):
            return cls.of(names)
        colours = table[["red", "green", "blue"]].apply(pd.to_numeric, errors="coerce")
        if not colours.isin(range(256)).all(axis=None):
            raise ValueError(f"{file} has colours that are no whole numbers from 0 to 255: correct or leave them out")
        return cls(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in colours.to_numpy()))

    def write(self, file: Path) -> None:
        """Write ``number, name, red, green, blue``, a row for each class."""
        table = pd.DataFrame(self.colours, columns=["red", "green", "blue"])
        table.insert(0, "name", self.names)
        with paths.replacing(file) as temporary:
            table.rename_axis("number").to_csv(temporary)

    def coloured(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Maps of class numbers as pictures, with red, green and blue as a new last axis."""
        table = np.zeros((MOST_CLASSES, 3), np.uint8)
        table[: len(self.colours)] = self.colours
        return table[classes]


def _voc_colour(number: int) -> Colour:
    """The bits of the number, by turns, become the highest bits of red, green and blue."""
    red, green, blue = (
        sum((number >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3)
    )
    return red, green, blue


def _difference(found: Palette, wanted: Palette) -> str:
    if found.names == wanted.names:
        return "the classes are the same, the colours are not"
    differing = [name for name in (*wanted.names, *found.names) if (name in found.names) != (name in wanted.names)]
    return f"{len(found.names)} classes, not {len(wanted.names)}; {', '.join(differing[:3]) or 'in another order'}"


def recorded(dataset: str) -> dict[str, Path]:
    """Files by which a manifest knows the maps of a dataset; nothing if ``02_scenes/segment.ipynb`` has not run.

    Raises
    ------
    StaleOutput
        If the data list or the segmenter has changed since.
    """
    folder = paths.segmentations(dataset)
    if not (folder / "manifest.json").exists():
        return {}
    manifests.check(folder)
    return {"segmentation maps": folder / MAPS, "palette": folder / PALETTE}


def palette(dataset: str) -> Palette:
    """Classes of the recorded maps of a dataset."""
    return Palette.read(paths.segmentations(dataset) / PALETTE)


def keep(dataset: str, run_folder: Path) -> None:
    """Write into the folder of a run what its maps are of, and what made them."""
    folder = paths.segmentations(dataset)
    palette(dataset).write(run_folder / PALETTE)
    told = json.loads((folder / MAPS).read_text())
    told.pop("folder")
    (run_folder / MAPS).write_text(json.dumps(told, indent=2) + "\n")


def joined(rows: pd.DataFrame, dataset: str, palette: Palette | None = None) -> pd.DataFrame:
    """Rows of a data list with ``maps``, the folder of shards that holds the maps of the photos.

    Parameters
    ----------
    rows : DataFrame
        Rows of the data list of `dataset`, or some of them.
    dataset : str
    palette : Palette, optional
        That the maps must have.

    Raises
    ------
    MissingMaps
        If ``02_scenes/segment.ipynb`` has not run for the dataset, its maps were deleted, or they are of other photos.
    StaleOutput
        If the data list or the segmenter has changed since.
    ValueError
        If the maps are of another palette.
    """
    remedy = manifests.command("02_scenes/segment", {"dataset": dataset})
    files = recorded(dataset)
    if not files:
        raise MissingMaps(f"the segmentation maps of {dataset!r} are not there yet. Make them first: {remedy}")
    found = Palette.read(files["palette"])
    if palette and found != palette:
        raise ValueError(
            f"the segmentation maps of {dataset!r} are of another palette than those that were learned from: "
            f"{_difference(found, palette)}. Make them with the same segmenter: {remedy}"
        )
    folder = paths.root() / json.loads(files["segmentation maps"].read_text())["folder"]
    held = pd.read_parquet(files["palette"].with_name(SHARES), columns=["id"])["id"]
    absent = rows["id"][~rows["id"].isin(held)]
    if len(absent):
        raise MissingMaps(
            f"the segmentation maps of {dataset!r} are those of another list: {len(absent)} of {len(rows)} photos have "
            f"none, the first of them {absent.iloc[0]!r}. Make them again: {remedy}"
        )
    if not folder.is_dir():
        raise MissingMaps(f"the segmentation maps of {dataset!r} were deleted. Make them again: {remedy}")
    with_maps = rows.assign(maps=str(folder))
    with_maps.attrs = rows.attrs
    return with_maps


def read(store: photo_stores.PhotoStore, path: str, shape: tuple[int, int]) -> Tensor:
    """The map of a photo, stretched to the photo.

    Parameters
    ----------
    store : PhotoStore
        Of maps.
    path : str
        Of the photo.
    shape : tuple of int
        Height and width of the photo.

    Returns
    -------
    Tensor
        Class numbers, uint8, of shape (1, height, width).

    Raises
    ------
    PhotoError
        If the photo has no map, or one that is not of its shape.
    """
    name = f"the segmentation map of {path}"
    try:
        data = photos.read_bytes(store, path)
    except photos.PhotoError as error:
        raise photos.PhotoError(f"{name} is missing or damaged: {error}", "no segmentation map") from None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            across, along = image.size
            fits = max(across / along * shape[0] / shape[1], along / across * shape[1] / shape[0])
            if image.mode != "L" or fits > 1 + 2 / min(image.size):  # each side is rounded to a pixel
                raise photos.PhotoError(
                    f"{name} is {across} x {along} pixels ({image.mode}), which is not the shape of the photo",
                    "no segmentation map",
                )
            classes = torch.from_numpy(np.array(image))
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, photos.PhotoError):
            raise
        raise photos.PhotoError(f"{name} cannot be decoded", "no segmentation map") from None
    return nn.functional.interpolate(classes[None, None], list(shape), mode="nearest-exact")[0]


def examples(
    rows: pd.DataFrame, photo_root: Path, folder: Path, palette: Palette, count: int, seed: int
) -> dict[str, list[NDArray[np.uint8]]]:
    """Photos, drawn at random among those that can be read, each with its map in the palette's colours."""
    stores = [photo_stores.open_store(root) for root in (photo_root, folder)]
    found: dict[str, list[NDArray[np.uint8]]] = {"photo": [], "segmentation map": []}
    for path in rows["path"].iloc[np.random.default_rng(seed).permutation(len(rows))]:
        try:
            photo = photos.resize(photos.read(stores[0], path, _EXAMPLE_PIXELS), _EXAMPLE_PIXELS)
            classes = read(stores[1], path, (photo.shape[1], photo.shape[2]))[0]
        except photos.PhotoError:
            continue
        found["photo"].append(photo.permute(1, 2, 0).numpy())
        found["segmentation map"].append(palette.coloured(classes.numpy()))
        if len(found["photo"]) == count:
            break
    return found
