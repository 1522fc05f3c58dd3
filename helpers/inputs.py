"""Lists as batches of photos for PyTorch.

Photos stay uint8 from the file to the device. What a network takes of one, a view, is made in two steps: worker
processes decode, shrink and cut, and :func:`finish` turns and colours whole batches, on the device that trains if that
is a GPU.
"""

import functools
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import InterpolationMode, functional

from helpers import photo_stores, photos, segmentation

if TYPE_CHECKING:
    from helpers.raw_photos import RawPhotos

# Photos are shrunk to 8/7 of the network's input before a crop is cut: 256 to 224 in the ECCV 2018 paper.
SHORT_SIDE_TO_CROP = 8 / 7
CROP_AREA = (0.66, 1.0)  # share of the photo that a random crop keeps, as in the paper's PyTorch successor
CROP_ASPECT = (3 / 4, 4 / 3)
MAX_ROTATION_DEGREES = 10.0  # as in Lost & Found
# Ours: as much as cameras and hours of the day differ, and little of hue, for soil and plants tell a place by it.
BRIGHTNESS, CONTRAST, SATURATION = (0.8, 1.2), (0.8, 1.2), (0.8, 1.2)  # factors
HUE = (-0.02, 0.02)  # turns of the colour circle
_TURNED = "crop+rotation+colour"
_RANDOM = ("crop+flip", _TURNED)
AUGMENTATIONS = ("none", *_RANDOM)
VIEWS = ("centre", "five", *AUGMENTATIONS)

# Pixels that the shorter side of a decoded photo keeps for each of the view, where there are as many: the smallest
# random crop, 0.7 of it, is then hardly enlarged, and a central view differs by about 1/255 from that of all pixels.
_DECODED_TO_VIEW = 1.6
_MOST_WORKERS = 16
_BATCHES_AHEAD = 2  # for each worker
_WORTH_WORKERS = 2  # batches: the photos of fewer are read faster than workers start
_PHOTOS_IN_CACHE = 4  # of the processor, while they are finished
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
_MATRIX = 6  # of a row of draws; what follows are factors of brightness, contrast and saturation, and turns of hue

_Item = TypeVar("_Item")


class Batch(NamedTuple):
    """What of a request could be read."""

    numbers: Tensor
    """int64, shape (k,): positions in the list, in the order asked for."""
    photos: Tensor
    """uint8, shape (k, channels, side, side), or (k, 5, channels, side, side) for ``five``: what :func:`finish` makes
    views of."""
    draws: Tensor | None
    """float32, shape (k, 6 or 10): what is left to :func:`finish`; None if nothing is."""
    failed: list[tuple[int, str]]
    """Positions of the photos that could not be read, and why."""


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
    maps : Path or PhotoStore, optional
        Segmentation maps of the photos, if they are to come with them; see :func:`maps_of`.

    Raises
    ------
    ValueError
        If there is no such view.

    Notes
    -----
    An item is a uint8 tensor of shape (channels, size, size), or (5, channels, size, size) for ``five``. The channels
    are red, green and blue, and with a map its class numbers. Photos stay uint8 until the device, where the network
    normalises them. Training reads its views by :func:`stream`; they are the same.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        photo_root: photo_stores.PhotoRoot,
        image_size: int,
        view: str,
        seed: int = 0,
        epoch: int = 0,
        maps: photo_stores.PhotoRoot | None = None,
    ) -> None:
        _check_view(view)
        self.paths = rows["path"].tolist()
        self.store = photo_stores.reopened(photo_root)
        self.maps = None if maps is None else photo_stores.reopened(maps)
        self.image_size = image_size
        self.view = view
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        photo = _read(self.store, self.maps, self.paths[index], self.image_size)
        return _view(photo, self.image_size, self.view, _generator(self.seed, self.epoch, index))


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
            _view(photo, image_size, augmentation, _generator(seed, epoch, 0)).permute(1, 2, 0).numpy()
            for epoch in range(1, 2 if augmentation == "none" else count + 1)
        ]
        for augmentation in AUGMENTATIONS
    }


def crop_and_flip(photo: Tensor, image_size: int, generator: np.random.Generator) -> Tensor:
    """Random resized crop of a uint8 photo (3, height, width), mirrored half the time."""
    return _view(photo, image_size, "crop+flip", generator)


def crop_rotate_and_colour(photo: Tensor, image_size: int, generator: np.random.Generator) -> Tensor:
    """Random resized crop of a uint8 photo (3, height, width), turned by up to 10 degrees, its colours varied.

    Nothing is made up for the corners: the turned view lies inside the random crop, of which it shows all at 0 and
    three quarters at 10 degrees. It is not mirrored, so that writing and the side of the road stay what they are.
    """
    return _view(photo, image_size, _TURNED, generator)


def batches(views: Dataset[_Item], order: Sequence[int] | Tensor, batch_size: int) -> Iterable[_Item]:
    """Batches of `views` in the given order, read ahead by worker processes: like an item, with an axis before."""
    requests = [part.tolist() for part in torch.as_tensor(order).split(batch_size)]
    return _read_ahead(views, requests, workers_worth(len(order), batch_size))


def stream(
    rows: pd.DataFrame,
    photo_root: photo_stores.PhotoRoot,
    image_size: int,
    view: str,
    requests: Iterable[tuple[int, Tensor]],
    workers: int,
    seed: int,
    cache: "RawPhotos | None" = None,
    finished: bool = False,
    maps: photo_stores.PhotoRoot | None = None,
) -> Generator[Batch, None, None]:
    """Photos for a whole training, batch by batch, read ahead by worker processes that live as long as it does.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list; ``path`` is read, and with a `cache` ``sha256``. It stays in this process: a
        worker is sent the paths of a batch, so memory does not grow with workers times photos.
    photo_root : Path or PhotoStore
        Anything that `photo_stores.open_store` opens, or has opened.
    image_size : int
        Side of the square views, in pixels.
    view : str
        See :class:`PhotoViews`.
    requests : iterable of (int, int64 Tensor)
        Epoch, and positions in `rows`: a batch each. May be endless; it is asked for a few batches ahead.
    workers : int
        Processes that read, see :func:`default_workers`, or threads where a cache leaves nothing but copying; 0 reads
        in this process, when a batch is asked for.
    seed : int
        With the epoch and the position of a photo it determines the random view.
    cache : RawPhotos, optional
        What to take the photos from instead, already decoded, see `raw_photos.cached`.
    finished : bool
        Whether the workers call :func:`finish`. For training on a CPU, where the threads of this process would wait for
        one another, step by step, whenever a worker needs a core.
    maps : Path or PhotoStore, optional
        Segmentation maps of the photos, if they are to come with them; see :func:`maps_of`. A photo without one cannot
        be read.

    Yields
    ------
    Batch
        In the order of the requests; :func:`finish` makes the views of it. In pinned memory where there is CUDA.

    Raises
    ------
    ValueError
        If there is no such view, or the cache does not serve it, does not hold the photos, or is to come with maps.
    photo_stores.Unreadable
        If a path leaves the photo root. Of photos that cannot be read, a batch tells in ``failed``.

    Notes
    -----
    Workers end when the iterator is closed or thrown away, and within seconds when this process is killed. An error
    other than a photo's is raised with a note that names the photo; of a worker it comes with the worker's traceback,
    in which the note is.
    """
    _check_view(view)
    collate = functools.partial(_finished, view, image_size) if finished else _as_it_is
    if cache is not None:
        if maps is not None:
            raise ValueError("decoded photos are kept without segmentation maps: read the photos themselves")
        places = cache.places(rows, photo_root, image_size, view)
        wanted = (_Request(epoch, numbers.numpy(), places[numbers.numpy()]) for epoch, numbers in requests)
        answers = _CachedBatches(cache, image_size, view, seed)
        # To hand copies from process to process would take longer than to make them.
        return _streamed(answers, wanted, workers, collate) if finished else _copied(answers, wanted, workers)
    # By Arrow, because a list of Python strings takes several times the memory.
    paths = pa.array(rows["path"], pa.large_string())
    asked = (_Request(epoch, numbers.numpy(), paths.take(numbers.numpy()).to_pylist()) for epoch, numbers in requests)
    return _streamed(_DecodedBatches(photo_root, image_size, view, seed, maps), asked, workers, collate)


@torch.no_grad()
def finish(photos: Tensor, draws: Tensor | None, view: str, image_size: int) -> Tensor:
    """Views of a batch, made on the device where its photos are.

    A photo is sampled once, bilinearly, through crop, mirroring and rotation together. Its colours change by one
    matrix: brightness, contrast about the mean grey of the view, saturation, and a hue rotation about the grey axis.

    Parameters
    ----------
    photos, draws : Tensor
        Of a :class:`Batch`, on one device; without draws the photos are the views already.
    view : str
        What the batch was asked for as.
    image_size : int
        Side of a view, in pixels.

    Returns
    -------
    uint8 Tensor of shape (k, channels, image_size, image_size)
        On the same device. On one kind of device the view of a photo does not depend on the others of its batch.
    """
    if draws is None:
        return photos
    views = photos.new_empty((len(photos), photos.shape[1], image_size, image_size))
    if not len(photos):
        return views
    together = _PHOTOS_IN_CACHE if photos.device.type == "cpu" else len(photos)
    for part, drawn, target in zip(photos.split(together), draws.split(together), views.split(together), strict=True):
        sampled = _sampled(part, drawn[:, :_MATRIX], image_size)
        if view == _TURNED:
            sampled[:, :3] = _coloured(sampled[:, :3], drawn[:, _MATRIX:]).to(torch.uint8)
        target.copy_(sampled)
    return views


def maps_of(rows: pd.DataFrame) -> Path:
    """Folder of the segmentation maps that rows of a data list tell of, once `segmentation.joined` has added them.

    Raises
    ------
    ValueError
        If they tell of none, or of several.
    """
    folders = rows["maps"].unique().tolist() if "maps" in rows else []
    if len(folders) != 1:
        raise ValueError(
            "the network looks at segmentation maps too, and these photos come with none: make maps of their list "
            "(02_scenes/segment.ipynb), and join them with helpers.segmentation.joined"
        )
    return Path(folders[0])


def default_workers(processes: int = 0) -> int:
    """Worker processes for each of the training processes of this machine.

    Parameters
    ----------
    processes : int
        Training processes on this machine; 0: as many as torchrun started.

    Returns
    -------
    int
        An even share of the cores that this process may use, 1 at least and 16 at most.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // (processes or int(os.environ.get("LOCAL_WORLD_SIZE", 1))), 1), _MOST_WORKERS)


def workers_worth(photos: int, batch_size: int) -> int:
    """Worker processes for so many photos: none for few."""
    return default_workers() if photos > _WORTH_WORKERS * batch_size else 0


def short_side(image_size: int) -> int:
    """Pixels that the shorter side of a photo has when central views are cut from it."""
    return round(image_size * SHORT_SIDE_TO_CROP)


def decode(data: bytes, name: str, image_size: int) -> Tensor:
    """Decode a photo with the pixels that views of `image_size` need; see `photos.decode`."""
    return photos.decode(data, name, math.ceil(image_size * _DECODED_TO_VIEW))


def square(photo: Tensor, image_size: int) -> Tensor:
    """The middle of a photo, shrunk: a square of 8/7 of the view, uint8, whose centre is the photo's central view."""
    shrunk = _shrunk(photo, image_size)
    side = min(shrunk.shape[-2:])
    margin = _middle(side, image_size)
    top, left = (_middle(length, image_size) - margin for length in shrunk.shape[-2:])
    return shrunk[:, top : top + side, left : left + side]


def centre(photo: Tensor, image_size: int) -> Tensor:
    """The central view of a uint8 photo (3, height, width): what training is judged by, and the last of five crops."""
    return functional.center_crop(_shrunk(photo, image_size), [image_size])


class _Request(NamedTuple):
    epoch: int
    numbers: NDArray[np.int64]
    sources: Sequence[str] | NDArray[np.int64]
    """Paths of the photos, or their places in the cache."""


class _DecodedBatches(Dataset[Batch]):
    """Answers requests for photos that lie in files."""

    def __init__(
        self,
        photo_root: photo_stores.PhotoRoot,
        image_size: int,
        view: str,
        seed: int,
        maps: photo_stores.PhotoRoot | None,
    ) -> None:
        self.store = photo_stores.reopened(photo_root)  # before workers are forked, so that they share its index
        self.maps = None if maps is None else photo_stores.reopened(maps)
        self.image_size, self.view, self.seed = image_size, view, seed

    def __getitems__(self, request: _Request) -> Batch:
        numbers, cuts, draws, failed = [], [], [], []
        for number, path in zip(request.numbers.tolist(), request.sources, strict=True):
            try:
                photo = _read(self.store, self.maps, path, self.image_size)
                cut, drawn = _cut(photo, self.image_size, self.view, _generator(self.seed, request.epoch, number))
            except photos.PhotoError as error:
                failed.append((number, str(error)))
                continue
            except Exception as error:
                error.add_note(f"while reading photo {path!r}")
                raise
            numbers.append(number)
            cuts.append(cut)
            draws.append(drawn)
        side = _cut_side(self.image_size, self.view)
        crops = (5,) if self.view == "five" else ()
        channels = 3 if self.maps is None else 4
        together = np.empty((len(cuts), *crops, side, side, channels), np.uint8)
        for target, cut in zip(together, cuts, strict=True):
            target[:] = cut.movedim(-3, -1).numpy()
        return _batch(numbers, together, draws if self.view == _TURNED else None, failed)


class _CachedBatches(Dataset[Batch]):
    """Answers requests for photos that lie in a cache as squares, the crops of which are left to :func:`finish`."""

    def __init__(self, cache: "RawPhotos", image_size: int, view: str, seed: int) -> None:
        self.cache = cache
        self.view, self.seed = view, seed
        self.side = cache.squares.shape[1] if view in _RANDOM else image_size
        self.start = _middle(cache.squares.shape[1], self.side)

    def __getitems__(self, request: _Request) -> Batch:
        places = np.asarray(request.sources, np.int64)
        sound = ~np.isin(places, list(self.cache.failed))
        unsound = zip(request.numbers[~sound].tolist(), places[~sound].tolist(), strict=True)
        failed = [(number, self.cache.failed[place]) for number, place in unsound]
        numbers = request.numbers[sound].tolist()
        together = np.empty((len(numbers), self.side, self.side, 3), np.uint8)
        inside = slice(self.start, self.start + self.side)
        for target, place in zip(together, places[sound].tolist(), strict=True):
            target[:] = self.cache.squares[place, inside, inside]
        draws = [self._draws(request.epoch, number) for number in numbers] if self.view in _RANDOM else None
        return _batch(numbers, together, draws, failed)

    def _draws(self, epoch: int, number: int) -> list[float]:
        drawn = _drawn(self.side, self.side, self.view, _generator(self.seed, epoch, number))
        return [*_matrix(drawn.box, self.side, drawn.degrees, drawn.mirrored), *drawn.colours]


def _batch(
    numbers: list[int], together: NDArray[np.uint8], draws: list[list[float]] | None, failed: list[tuple[int, str]]
) -> Batch:
    """A batch of photos whose colours are the last axis in memory, as convolutions like them."""
    drawn = None if draws is None else torch.tensor(draws, dtype=torch.float32)
    return Batch(torch.tensor(numbers, dtype=torch.int64), torch.from_numpy(together).movedim(-1, -3), drawn, failed)


def _streamed(
    answers: Dataset[Batch], requests: Iterable[_Request], workers: int, collate: Callable[[Batch], Batch]
) -> Generator[Batch, None, None]:
    for batch in _read_ahead(answers, requests, workers, collate):
        yield batch._replace(failed=[(number, reason) for number, reason in batch.failed])  # lists, once pinned


def _copied(answers: _CachedBatches, requests: Iterable[_Request], workers: int) -> Generator[Batch, None, None]:
    """Answers to requests in their order, made ahead by threads."""
    threads = ThreadPoolExecutor(max(workers, 1))
    ahead: deque[Future[Batch]] = deque()
    try:
        for request in requests:
            ahead.append(threads.submit(answers.__getitems__, request))
            if len(ahead) > _BATCHES_AHEAD * workers:
                yield _pinned(ahead.popleft().result())
        while ahead:
            yield _pinned(ahead.popleft().result())
    finally:
        threads.shutdown(cancel_futures=True)


def _pinned(batch: Batch) -> Batch:
    return batch._replace(photos=batch.photos.pin_memory()) if torch.cuda.is_available() else batch


def _read_ahead(
    views: Dataset[_Item], requests: Iterable[Any], workers: int, collate: Callable[[Any], Any] | None = None
) -> Iterable[_Item]:
    """What `views` answer to requests, in their order."""
    return DataLoader(
        views,
        batch_sampler=requests,
        num_workers=workers,
        # Forked workers share the index of shards, and see when their parent is gone; those of a fork server do not.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        prefetch_factor=_BATCHES_AHEAD if workers else None,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else it would draw from the one that training draws from
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _finished(view: str, image_size: int, batch: Batch) -> Batch:
    return batch._replace(photos=finish(batch.photos, batch.draws, view, image_size), draws=None)


def _view(photo: Tensor, image_size: int, view: str, generator: np.random.Generator) -> Tensor:
    cut, draws = _cut(photo, image_size, view, generator)
    return finish(cut[None], torch.tensor([draws]), view, image_size)[0] if draws else cut


def _cut(photo: Tensor, image_size: int, view: str, generator: np.random.Generator) -> tuple[Tensor, list[float]]:
    """What is made of a photo where it is decoded, and what is left to :func:`finish`."""
    if view == "five":
        return torch.stack(functional.five_crop(_shrunk(photo, image_size), [image_size])), []
    if view not in _RANDOM:
        return centre(photo, image_size), []
    height, width = photo.shape[-2:]
    drawn = _drawn(height, width, view, generator)
    side = _cut_side(image_size, view)
    crop = _by_channel(photo, lambda part, how: functional.resized_crop(part, *drawn.box, [side, side], how))
    if view == _TURNED:
        return crop, [*_matrix((0, 0, side, side), side, drawn.degrees), *drawn.colours]
    return functional.horizontal_flip(crop) if drawn.mirrored else crop, []


def _cut_side(image_size: int, view: str) -> int:
    """Side of what is cut of a photo: more than the view where that is turned, so that it can be as sharp."""
    if view != _TURNED:
        return image_size
    turn = math.radians(MAX_ROTATION_DEGREES)
    return image_size + 2 * math.ceil((image_size - 1) * (math.cos(turn) + math.sin(turn) - 1) / 2)


class _Drawn(NamedTuple):
    """What chance says of one view."""

    box: tuple[int, int, int, int]
    degrees: float
    mirrored: bool
    colours: list[float]
    """Brightness, contrast, saturation, hue; none for a view that keeps its colours."""


def _drawn(height: int, width: int, view: str, generator: np.random.Generator) -> _Drawn:
    box = _crop_box(height, width, generator)
    if view != _TURNED:
        return _Drawn(box, 0.0, generator.random() < 0.5, [])
    degrees = generator.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES)
    return _Drawn(
        box, degrees, False, [generator.uniform(*bounds) for bounds in (BRIGHTNESS, CONTRAST, SATURATION, HUE)]
    )


def _crop_box(height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop."""
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


def _matrix(box: tuple[int, int, int, int], side: int, degrees: float, mirrored: bool = False) -> list[float]:
    """From places in a view to places in a square photo of `side` pixels, both from -1 to 1: 2 x 3 numbers, by rows.

    The view is turned, and made so much smaller that its corners stay inside the box.
    """
    top, left, height, width = box
    turn = math.radians(degrees)
    smaller = 1 / (math.cos(turn) + abs(math.sin(turn)))
    cosine, sine = smaller * math.cos(turn), smaller * math.sin(turn)
    across, down, flip = width / side, height / side, -1 if mirrored else 1
    return [
        *(flip * across * cosine, -across * sine, (2 * left + width) / side - 1),
        *(flip * down * sine, down * cosine, (2 * top + height) / side - 1),
    ]


def _sampled(photos: Tensor, matrices: Tensor, image_size: int) -> Tensor:
    along = (2 * torch.arange(image_size, device=photos.device) + 1) / image_size - 1
    factors = matrices.view(-1, 2, 3, 1, 1)
    # By single steps, here and below: a matrix product rounds differently for another number of photos.
    places = [
        factors[:, axis, 0] * along + factors[:, axis, 1] * along[:, None] + factors[:, axis, 2] for axis in (0, 1)
    ]
    # Where a crop is enlarged, its outermost pixels lie within half a pixel of the border.
    grid = torch.stack(places, dim=-1)

    def sampled(part: Tensor, how: InterpolationMode) -> Tensor:
        mode = "bilinear" if how == InterpolationMode.BILINEAR else "nearest"
        return nn.functional.grid_sample(part.float(), grid, mode, padding_mode="border", align_corners=False)

    return _by_channel(photos, sampled).round_().to(torch.uint8)


def _coloured(views: Tensor, colours: Tensor) -> Tensor:
    brightness, contrast, saturation, hue = colours[:, :, None, None].unbind(1)
    luma = colours.new_tensor(_LUMA)
    # Summed as integers, whose sum does not depend on the order.
    means = views.sum((2, 3), dtype=torch.int64) / (views.shape[2] * views.shape[3])
    grey = (means * luma).sum(1)[:, None, None]
    matrix = brightness * contrast * (saturation * _hue_rotation(2 * math.pi * hue) + (1 - saturation) * luma)
    constant = (brightness * (1 - contrast) * grey)[..., None]
    pixels = views.float()
    coloured = torch.addcmul(constant, matrix[:, :, 0, None, None], pixels[:, :1])
    for channel in (1, 2):
        coloured.addcmul_(matrix[:, :, channel, None, None], pixels[:, channel : channel + 1])
    return coloured.clamp_(0, 255).round_()


def _hue_rotation(turn: Tensor) -> Tensor:
    """Rotations of red, green and blue about the axis of greys, by (k, 1, 1) radians."""
    to_next = turn.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    cosine = turn.cos()
    return cosine * torch.eye(3, device=turn.device) + (1 - cosine) / 3 + turn.sin() * to_next


def resized(pictures: Tensor, short_side: int) -> Tensor:
    """Photos (..., channels, height, width) so that the shorter side has so many pixels; see `photos.resize`."""
    return _by_channel(pictures, lambda part, how: photos.resize(part, short_side, how))


def _shrunk(photo: Tensor, image_size: int) -> Tensor:
    return resized(photo, short_side(image_size))


def _by_channel(pictures: Tensor, resample: Callable[[Tensor, InterpolationMode], Tensor]) -> Tensor:
    """Pictures sampled anew: their colours smoothly, and their class numbers, between which nothing is, as they are."""
    colours = resample(pictures[..., :3, :, :], InterpolationMode.BILINEAR)
    if pictures.shape[-3] == 3:
        return colours
    return torch.cat([colours, resample(pictures[..., 3:, :, :], InterpolationMode.NEAREST_EXACT)], dim=-3)


def _read(store: photo_stores.PhotoStore, maps: photo_stores.PhotoStore | None, path: str, image_size: int) -> Tensor:
    """A photo, with the class numbers of its segmentation map as a fourth channel where there are maps."""
    photo = decode(photos.read_bytes(store, path), path, image_size)
    if maps is None:
        return photo
    return torch.cat([photo, segmentation.read(maps, path, (photo.shape[1], photo.shape[2]))])


def _middle(length: int, part: int) -> int:
    """Where the middle part of a length begins, as `functional.center_crop` rounds it.

    Examples
    --------
    >>> [_middle(length, 224) for length in (256, 257, 259)]
    [16, 16, 18]
    """
    return round((length - part) / 2)


def _generator(seed: int, epoch: int, number: int) -> np.random.Generator:
    return np.random.default_rng((seed, epoch, number))


def _check_view(view: str) -> None:
    if view not in VIEWS:
        raise ValueError(f"no view {view!r}: choose one of {', '.join(VIEWS)}")
