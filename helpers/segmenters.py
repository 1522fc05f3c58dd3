"""What makes segmentation maps: the renderer of the embedded world, or a segmentation network of torchvision."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from helpers import (
    cluster,
    data_lists,
    devices,
    inputs,
    models,
    paths,
    photo_stores,
    photos,
    progress,
    shards,
    toy_earth,
)
from helpers.models import WeightsError
from helpers.segmentation import MAPS, MOST_CLASSES, PALETTE, SHARES, Palette

RENDERER = "renderer"
"""Segmenter of ``toy-earth``, which knows what it has drawn."""
DEFAULT_NETWORK = "deeplabv3_mobilenet_v3_large"
NETWORKS: tuple[str, ...] = tuple(torchvision.models.list_models(torchvision.models.segmentation))
SEGMENTERS = ("auto", RENDERER, *NETWORKS)

RENDERED = Palette(
    toy_earth.KINDS,
    (
        (134, 190, 229), (214, 204, 138), (168, 160, 150), (0, 92, 160), (72, 72, 76), (196, 188, 182), (196, 84, 30),
        (0, 138, 100), (190, 92, 150), (240, 200, 40), (112, 82, 150),
    ),
)  # fmt: skip
"""Classes of the embedded world."""

_MAPS_PER_SHARD = 2048
_VERSION = 1  # of what a segmenter makes of a photo
_LEAST_SIDE = 32  # pixels that make one of the deepest features
_MOST_TOGETHER = 16  # photos of one size that a network is given at once
_SECONDS_FOR_A_DYING_WRITER = 60.0


@dataclass(frozen=True)
class Segmenter:
    """What tells what each pixel of a photo shows."""

    name: str
    palette: Palette
    network: nn.Module | None
    """On its device, or None for the renderer."""
    files: dict[str, Path]
    """What it was read from, for a manifest."""

    @property
    def weights(self) -> str:
        """SHA-256 of the network's weights, whichever file they came from."""
        digest = hashlib.sha256()
        for name, tensor in self.network.state_dict().items() if self.network else ():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest() if self.network else ""


def chosen(segmenter: str, dataset: str) -> str:
    """Name of a segmenter; ``auto`` is the renderer where it has drawn the photos, else a torchvision network.

    Raises
    ------
    ValueError
        If the renderer is asked of photos that it has not drawn.
    """
    rendered = data_lists.has_rendered_photos(dataset)
    if segmenter == RENDERER and not rendered:
        raise ValueError(f"{RENDERER} knows its own photos alone, not those of {dataset!r}: take a network, or auto")
    return (RENDERER if rendered else DEFAULT_NETWORK) if segmenter == "auto" else segmenter


def load(name: str, weights: str = "default", classes: str = "", allow_pickle: bool = False) -> Segmenter:
    """Read a segmenter.

    Parameters
    ----------
    name : str
        :data:`RENDERER`, or one of :data:`NETWORKS`.
    weights : str
        Of the network: ``default``, which torchvision fetches once and which knows the 21 classes of PASCAL VOC, or a
        file with a state dict.
    classes : str
        File with the names of the classes of such a file, see :meth:`Palette.read`. Without it, 21 classes are taken
        for those of PASCAL VOC.
    allow_pickle : bool
        Whether that file may be a pickle (``.pth``), of which nothing but tensors is read.

    Raises
    ------
    WeightsError
        If the weights cannot be had, do not fit, or have classes that nothing names.
    ValueError
        If the renderer is given weights or classes.
    """
    if name == RENDERER:
        if weights != "default" or classes:
            raise ValueError("the renderer needs neither weights nor classes: leave them out, or name a network")
        return Segmenter(RENDERER, RENDERED, None, {})
    known = torchvision.models.get_model_weights(name).DEFAULT
    files = {}
    if weights == "default":
        if classes:
            raise ValueError("classes are those of a file of weights: name that as well, or leave them out")
        palette = Palette.of(known.meta["categories"])
        try:
            network = torchvision.models.get_model(name, weights=known)
        except (OSError, RuntimeError) as error:  # the latter if what came has another hash
            raise WeightsError(
                f"the weights of {name} could not be had ({error}). Give a local file of them as weights"
            ) from error
    else:
        files["segmenter"] = file = models.weights_file(weights)
        tensors = models.read_tensors(file, allow_pickle)
        outputs = _outputs(tensors, file)
        if classes:
            files["classes"] = Path(classes).expanduser()
            palette = Palette.read(files["classes"])
        elif outputs == len(known.meta["categories"]):
            palette = Palette.of(known.meta["categories"])
        else:
            raise WeightsError(f"{file} tells {outputs} classes apart: name them in a file, given as classes")
        if outputs != len(palette.names):
            raise WeightsError(f"{file} tells {outputs} classes apart, but {classes} names {len(palette.names)}")
        auxiliary = {"aux_loss": True} if any(key.startswith("aux_classifier.") for key in tensors) else {}
        network = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=outputs, **auxiliary
        )
        models.load_state(network, tensors, str(file))
    device = devices.best_device()
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    return Segmenter(name, palette, network.requires_grad_(False), files)


class Made(NamedTuple):
    """Maps of the photos of a list."""

    folder: Path
    """Of their shards."""
    shares: pd.DataFrame
    """``id`` and, for each class, the share of the photo that it has; missing for a photo that could not be read."""
    left_out: dict[str, list[str]]
    """Ids of photos without a map, by reason."""


def make(rows: pd.DataFrame, dataset: str, photo_root: Path, segmenter: Segmenter, short_side: int) -> Made:
    """Make the maps of all photos of a list, or take those that are there.

    Parameters
    ----------
    rows : DataFrame
        From `data_lists.read`: all rows of the list.
    dataset : str
    photo_root : Path
        Where the photos are; the renderer does not look at them.
    segmenter : Segmenter
        From :func:`load`.
    short_side : int
        Pixels of the shorter side of the photo that a network is shown, and of its map. The renderer's maps are of the
        size of its photos.

    Notes
    -----
    The folder is named after the list and the segmenter, so that maps of another of either are never taken for them.
    An interrupted run goes on where it ended.
    """
    if short_side < _LEAST_SIDE:
        raise ValueError(f"short_side is {short_side}: a segmentation network needs {_LEAST_SIDE} pixels at least")
    folder = paths.maps(dataset) / f"{rows.attrs['fingerprint'][:12]}-{_digest(segmenter, short_side)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows.sort_values("id", ignore_index=True)
    tasks = [
        _Task(rows[start : start + _MAPS_PER_SHARD], folder / f"shard-{number:05d}.tar", photo_root, short_side)
        for number, start in enumerate(range(0, len(rows), _MAPS_PER_SHARD))
    ]
    if segmenter.network is None:
        results = dict(cluster.mapped(_render_shard, tasks, "drawing maps", total=len(rows)))
        parts = [results[number] for number in range(len(tasks))]
    else:
        with progress.counting("segmenting", len(rows), "photos") as count:
            parts = [_segment_shard(task, segmenter.network, count) for task in tasks]
    left_out: dict[str, list[str]] = {}
    for part in parts:
        for reason, ids in part.left_out.items():
            left_out.setdefault(reason, []).extend(ids)
    names = dict(enumerate(segmenter.palette.names))
    shares = pd.concat([part.shares for part in parts])[list(names)].rename(columns=names)
    return Made(folder, shares.reindex(rows["path"]).reset_index(drop=True).assign(id=rows["id"]), left_out)


def counted(made: Made) -> dict[str, int]:
    """Numbers of photos with a map, and of those without one by why."""
    left_out = {reason: len(ids) for reason, ids in sorted(made.left_out.items())}
    return {"photos": len(made.shares), "maps": len(made.shares) - sum(left_out.values()), **left_out}


def record(made: Made, segmenter: Segmenter, short_side: int, folder: Path) -> None:
    """Write what tells of the maps into the output folder of a dataset."""
    segmenter.palette.write(folder / PALETTE)
    made.shares.to_parquet(folder / SHARES, index=False)
    told = {"folder": str(made.folder.relative_to(paths.root())), "segmenter": segmenter.name}
    told |= {"weights": segmenter.weights}
    (folder / MAPS).write_text(json.dumps(told | {"short_side": short_side}, indent=2) + "\n")


def of_run(folder: Path, weights: str = "default", allow_pickle: bool = False) -> tuple[Segmenter, int]:
    """The segmenter whose maps a run has learned from, and the short side that its photos have.

    Parameters
    ----------
    folder : Path
        Of the run.
    weights : str
        Of the segmenter: the file that it had, or ``default`` where those of torchvision were used.
    allow_pickle : bool
        As for :func:`load`.

    Raises
    ------
    ValueError
        If the maps were drawn by the renderer, which knows no other photos, or the weights are not those that were
        used.
    """
    told = json.loads((folder / MAPS).read_text())
    if told["segmenter"] == RENDERER:
        raise ValueError(
            f"{folder.name} looks at segmentation maps too, and has learned from those of the renderer of toy-earth, "
            "which knows no other photos: place photos of a list of toy-earth with 05_evaluation/evaluate.ipynb"
        )
    segmenter = load(told["segmenter"], weights, "" if weights == "default" else str(folder / PALETTE), allow_pickle)
    if segmenter.weights != told["weights"]:
        raise ValueError(
            f"{folder.name} looks at segmentation maps by a {told['segmenter']} with other weights than {weights!r}: "
            "name the file of those that made the maps it has learned from"
        )
    return segmenter, int(told["short_side"])


def maps_of(
    rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, segmenter: Segmenter, short_side: int
) -> dict[str, bytes]:
    """Maps of a few photos as files in memory, by the ``path`` of the photo; none of those that cannot be read."""
    if segmenter.network is None:
        raise ValueError("the renderer knows its own photos alone")
    found = {}
    for numbers, pictures in _alike(_shrunk(rows, photo_root, short_side), rows["id"], {}):
        for number, classes in zip(numbers, segment(segmenter.network, pictures), strict=True):
            found[str(rows["path"].iloc[number])] = _png(classes.numpy())
    return found


def normalised(pictures: Tensor) -> Tensor:
    """Photos, uint8 of shape (n, 3, height, width), as a segmentation network of torchvision takes them."""
    mean, std = (
        torch.tensor(each, device=pictures.device).view(3, 1, 1) for each in (models.IMAGENET_MEAN, models.IMAGENET_STD)
    )
    return ((pictures / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def segment(network: nn.Module, pictures: Tensor) -> Tensor:
    """Class numbers of the pixels of photos.

    Parameters
    ----------
    network : nn.Module
        A segmentation network of torchvision.
    pictures : Tensor
        uint8, of shape (n, 3, height, width).

    Returns
    -------
    Tensor
        uint8, of shape (n, height, width), on the CPU.
    """
    device = next(network.parameters()).device
    given = normalised(pictures.to(device))
    with devices.autocast(device, network, "auto"):
        return network(given)["out"].argmax(dim=1).to(torch.uint8).cpu()


class _Task(NamedTuple):
    rows: pd.DataFrame
    tar: Path
    photo_root: Path
    short_side: int


class _Shard(NamedTuple):
    left_out: dict[str, list[str]]
    shares: pd.DataFrame
    """Of each number in the maps, by path."""


def _render_shard(task: _Task) -> _Shard:
    """Draw the maps of a shard; the renderer leaves none out."""
    with shards.ShardWriter(task.tar, _SECONDS_FOR_A_DYING_WRITER) as shard:
        for name, path, latitude, longitude in task.rows[["id", "path", "latitude", "longitude"]].values.tolist():
            if name not in shard.held:
                kinds = toy_earth.render_kinds(name, latitude, longitude)
                shard.add(path, _png(np.asarray(kinds)), {"id": name})
            cluster.done()
    return _Shard({}, _shares(task.tar))


def _segment_shard(task: _Task, network: nn.Module, count: Callable[[int], None]) -> _Shard:
    """Make the maps of a shard, and name the photos that cannot be read, by reason."""
    left_out: dict[str, list[str]] = {}
    with shards.ShardWriter(task.tar, _SECONDS_FOR_A_DYING_WRITER) as shard:
        asked = task.rows[~task.rows["id"].isin(list(shard.held))].reset_index(drop=True)
        count(len(task.rows) - len(asked))
        for numbers, pictures in _alike(_shrunk(asked, task.photo_root, task.short_side), asked["id"], left_out):
            for number, classes in zip(numbers, segment(network, pictures), strict=True):
                shard.add(asked["path"].iloc[number], _png(classes.numpy()), {"id": asked["id"].iloc[number]})
            count(len(numbers))
    return _Shard(left_out, _shares(task.tar))


class _Shrunk(Dataset[Tensor | photos.PhotoError]):
    """Photos of a list, shrunk, each in its own shape; of one that cannot be read, the error."""

    def __init__(self, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, short_side: int) -> None:
        self.paths, self.short_side = rows["path"].tolist(), short_side
        self.store = photo_stores.reopened(photo_root)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | photos.PhotoError:
        try:
            return photos.resize(photos.read(self.store, self.paths[index], self.short_side), self.short_side)
        except photos.PhotoError as error:
            return error


def _shrunk(
    rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, short_side: int
) -> Iterator[Tensor | photos.PhotoError]:
    workers = inputs.workers_worth(len(rows), _MOST_TOGETHER)
    return iter(DataLoader(_Shrunk(rows, photo_root, short_side), batch_size=None, num_workers=workers))


def _alike(
    pictures: Iterator[Tensor | photos.PhotoError], ids: pd.Series, left_out: dict[str, list[str]]
) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers of photos of one shape, and these photos, as soon as there are enough or all were read."""
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
    for number, picture in enumerate(pictures):
        if isinstance(picture, photos.PhotoError):
            left_out.setdefault(picture.reason, []).append(ids.iloc[number])
            continue
        of_shape = waiting.setdefault(tuple(picture.shape), [])
        of_shape.append((number, picture))
        if len(of_shape) == _MOST_TOGETHER:
            yield _together(waiting.pop(tuple(picture.shape)))
    yield from map(_together, waiting.values())


def _together(numbered: list[tuple[int, Tensor]]) -> tuple[list[int], Tensor]:
    return [number for number, _ in numbered], torch.stack([picture for _, picture in numbered])


def _shares(tar: Path) -> pd.DataFrame:
    found, shares = [], []
    for path, data, _ in shards.photos_in(tar) if tar.exists() else ():
        classes = np.asarray(Image.open(io.BytesIO(data)))
        shares.append(np.bincount(classes.ravel(), minlength=MOST_CLASSES) / classes.size)
        found.append(path)
    return pd.DataFrame(np.array(shares, np.float32).reshape(-1, MOST_CLASSES), index=pd.Index(found, dtype=object))


def _png(classes: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(classes).save(buffer, "PNG")
    return buffer.getvalue()


def _outputs(tensors: Mapping[str, Tensor], file: Path) -> int:
    """Number of classes of a state dict: of the last layer of its classifier, as DeepLab, FCN and LR-ASPP call it."""
    last = next((name for name in ("classifier.4.weight", "classifier.high_classifier.weight") if name in tensors), "")
    if not last:
        raise WeightsError(f"{file} has no classifier, so it is no segmentation network of torchvision")
    return len(tensors[last])


def _digest(segmenter: Segmenter, short_side: int) -> str:
    """What the maps of one folder have in common."""
    size = 0 if segmenter.network is None else short_side  # the renderer's are of the size of its photos
    told = [segmenter.name, segmenter.weights, segmenter.palette.names, segmenter.palette.colours, size, _VERSION]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
