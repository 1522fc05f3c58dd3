"""The photos of a list as uint8 pixels in one memory-mapped file, decoded and shrunk once.

For a network that learns faster than the cores can decode, and photos that fit on a disk: 0.2 MB each for views of
224 px. Of each photo the file has the square that its central crop is cut from; the sides of a wide photo are lost.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers import cluster, inputs, packing, paths, photo_stores, photos, shards

_VERSION = 1  # of what is done to a photo, and of the files
_PHOTOS, _HASHES, _RECORD = "photos.npy", "sha256.npy", "decoded.json"
_PHOTOS_PER_TASK = 512


class RawPhotos:
    """Decoded photos in a folder that :func:`cached` made.

    Attributes
    ----------
    squares : ndarray of uint8, shape (n, side, side, 3)
        Memory-mapped, in the order of the hashes of the files that they were.
    failed : dict of int to str
        Why there is no such photo, by its place.

    Raises
    ------
    ValueError
        If the folder holds no finished cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            self.made_of, self.image_size = str(record["made of"]), int(record["image_size"])
            self.failed = {int(place): str(reason) for place, reason in record["failed"].items()}
            self.hashes: NDArray[np.bytes_] = np.load(folder / _HASHES)
            # As a plain array: each slice of a memory map costs several times as much.
            self.squares: NDArray[np.uint8] = np.asarray(np.load(folder / _PHOTOS, mmap_mode="r"))
        except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"{folder} holds no finished cache of photos ({error}): delete it") from None
        side = inputs.short_side(self.image_size)
        if self.squares.shape != (len(self.hashes), side, side, 3) or self.squares.dtype != np.uint8:
            raise ValueError(f"{folder / _PHOTOS} is not of {len(self.hashes)} photos of {side} px: delete {folder}")

    def __reduce__(self) -> tuple[type["RawPhotos"], tuple[Path]]:
        return RawPhotos, (self.folder,)

    def __len__(self) -> int:
        return len(self.squares)

    def places(
        self, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, image_size: int, view: str
    ) -> NDArray[np.int64]:
        """Where in the cache the photos of rows lie, by the hashes of their files.

        Raises
        ------
        ValueError
            If a photo is not there, or has changed, or the cache is not for such views.
        """
        if image_size != self.image_size or view == "five":
            raise ValueError(
                f"{self.folder} has photos for single crops of {self.image_size} px, not for {view!r} of {image_size} "
                "px: read the photos themselves, or make another cache"
            )
        wanted = shards.known_hashes(rows, photo_root)
        places = np.searchsorted(self.hashes, wanted)
        found = places < len(self)
        found[found] = self.hashes[places[found]] == wanted[found]
        if not found.all():
            raise ValueError(
                f"{(~found).sum()} of {len(rows)} photos are not in {self.folder}, the first of them "
                f"{rows['path'][~found].iloc[0]!r}: make a cache of this list, with this photo_root"
            )
        return places


def cached(rows: pd.DataFrame, dataset: str, photo_root: Path, image_size: int) -> RawPhotos:
    """The photos of a list, decoded once; made on all cores if they are not there.

    A photo is known by the hash of its file, and the folder is named after the hashes of all and the size: a list or a
    photo that changed has another one. A cache that was interrupted is made again from the beginning.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list, in any order; ``path`` and ``sha256`` are read.
    dataset : str
        Name of the dataset.
    photo_root : Path
        Where the photos are: anything that `photo_stores.open_store` opens.
    image_size : int
        Side of the views that are to be cut from them, in pixels.

    Returns
    -------
    RawPhotos
        Photos that cannot be read, or are not those of the list, are in its ``failed``; another call tries them again.

    Raises
    ------
    OSError
        If the disk has no room for the file.
    ValueError
        If it is not known what bytes the photos have.
    photo_stores.Unreadable
        If a path leaves the photo root.
    """
    photo_root = photo_root.expanduser().resolve()  # workers may be elsewhere
    made = _Wanted.of(rows, photo_root, image_size)
    folder = paths.shards(dataset) / f"raw-{made.digest[:12]}-{image_size}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with packing.alone(folder.with_name(f".{folder.name}.lock")):
        found = _opened(folder, made.digest)
        if found is None:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"decoding {len(made.hashes)} photos of {dataset} once into {folder}", flush=True)
            _make(folder, made)
        elif found.failed:  # perhaps they were away
            print(f"trying {len(found.failed)} photos again that could not be decoded into {folder}", flush=True)
            _record(folder, made, _decode(folder / _PHOTOS, made, np.fromiter(found.failed, np.int64)))
        else:
            print(f"reading {len(found)} photos decoded before in {folder}", flush=True)
        opened = RawPhotos(folder)
    if opened.failed:
        reasons = "; ".join(list(opened.failed.values())[:3])
        print(f"{len(opened.failed)} of {len(opened)} photos cannot be used: {reasons}", flush=True)
    return opened


@dataclasses.dataclass(frozen=True, eq=False)
class _Wanted:
    """The photos of a cache, each once, in the order of their hashes."""

    hashes: NDArray[np.bytes_]
    paths: pd.Series
    photo_root: Path
    image_size: int

    @classmethod
    def of(cls, rows: pd.DataFrame, photo_root: Path, image_size: int) -> "_Wanted":
        rows = rows.sort_values("path", ignore_index=True)  # of two photos with the same bytes the first is read
        hashes = shards.known_hashes(rows, photo_root)
        unknown = rows["path"][hashes == b""]
        if len(unknown):
            raise ValueError(
                f"{len(unknown)} of {len(rows)} photos have no known hash, the first of them {unknown.iloc[0]!r}: give "
                "the rows of a data list, and the photos that it names"
            )
        unique, first = np.unique(hashes, return_index=True)
        return cls(unique, rows["path"].iloc[first], photo_root, image_size)

    @functools.cached_property
    def digest(self) -> str:
        how = [_VERSION, self.image_size, inputs.SHORT_SIDE_TO_CROP]
        return hashlib.sha256(json.dumps(how).encode() + self.hashes.tobytes()).hexdigest()


def _opened(folder: Path, digest: str) -> RawPhotos | None:
    """The cache in a folder, None unless it is there, whole and the wanted one."""
    with contextlib.suppress(ValueError):
        found = RawPhotos(folder)
        return found if found.made_of == digest else None
    return None


def _make(folder: Path, wanted: _Wanted) -> None:
    folder.mkdir()
    side = inputs.short_side(wanted.image_size)
    with paths.replacing(folder / _PHOTOS) as temporary:
        squares = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(wanted.hashes), side, side, 3))
        _reserve(temporary, squares.nbytes)
        failed = _decode(temporary, wanted, np.arange(len(wanted.hashes)))
    with paths.replacing(folder / _HASHES) as temporary, temporary.open("wb") as file:
        np.save(file, wanted.hashes)
    _record(folder, wanted, failed)


def _record(folder: Path, wanted: _Wanted, failed: Mapping[int, str]) -> None:
    """Say what a folder holds, which makes it a finished cache."""
    record = {"made of": wanted.digest, "image_size": wanted.image_size, "failed": failed}
    with paths.replacing(folder / _RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def _reserve(file: Path, size: int) -> None:
    """Take the space that a file will need, so that no disk fills up when half of the photos are decoded."""
    free = shutil.disk_usage(file.parent).free
    try:
        if free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if hasattr(os, "posix_fallocate"):
            with file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return  # a file system that cannot reserve
        raise OSError(
            errno.ENOSPC,
            f"decoded photos need {size:,} bytes, {free:,} are free: make room, take fewer photos or a smaller "
            "image_size, or do without this cache",
            str(file.parent),
        ) from None


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    file: Path
    places: NDArray[np.int64]
    hashes: NDArray[np.bytes_]
    paths: Sequence[str]
    photo_root: Path
    image_size: int


def _decode(file: Path, wanted: _Wanted, places: NDArray[np.int64]) -> dict[int, str]:
    """Decode the photos of some places into a file, and say which fail and why."""
    parts = [places[start : start + _PHOTOS_PER_TASK] for start in range(0, len(places), _PHOTOS_PER_TASK)]
    tasks = [
        _Part(
            *(file, part, wanted.hashes[part], wanted.paths.iloc[part].tolist()),
            *(wanted.photo_root, wanted.image_size),
        )
        for part in parts
    ]
    failed: dict[int, str] = {}
    for _, found in cluster.mapped(_decode_part, tasks, "decoding", len(places)):
        failed |= found
    with file.open("rb") as decoded:  # before it is recorded: what a power cut leaves out would be black
        os.fsync(decoded.fileno())
    return dict(sorted(failed.items()))


def _decode_part(part: _Part) -> dict[int, str]:
    store = photo_stores.reopened(part.photo_root)
    squares = np.load(part.file, mmap_mode="r")
    failed = {}
    with part.file.open("r+b") as file:
        for place, sha256, path in zip(part.places.tolist(), part.hashes.tolist(), part.paths, strict=True):
            try:
                pixels = _pixels(store, path, sha256, part.image_size)
            except photos.PhotoError as error:
                failed[place] = str(error)
            else:
                file.seek(squares.offset + place * squares.strides[0])
                file.write(pixels)
            cluster.done()
    return failed


def _pixels(store: photo_stores.PhotoStore, path: str, sha256: bytes, image_size: int) -> bytes:
    data = photos.read_bytes(store, path)
    if hashlib.sha256(data).digest().rstrip(b"\0") != sha256:  # NumPy strips zeros from the end of bytes
        raise photos.PhotoError(
            f"photo {path!r} is not the one that the list names: restore it, or build the list again", "changed"
        )
    square = inputs.square(inputs.decode(data, path, image_size), image_size)
    return square.permute(1, 2, 0).numpy().tobytes()
