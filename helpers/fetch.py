"""Get the bytes a list names.

An absent photo is fetched from its dataset's source and compared with the list before it is kept. A dataset without a
source here has its photos where the user put them, so an absent photo is an error.
"""

import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers import data_lists, paths, progress, toy_earth

_ROWS_PER_TASK = 64
_WORTH_PROCESSES = 1000  # rendering fewer takes less time than starting Python on every core


class _Scene(NamedTuple):
    id: str
    latitude: float
    longitude: float
    file: Path
    sha256: str  # what the list says, "" while there is no list


def photo_folder(dataset: str, photo_root: str | Path | None) -> Path:
    """Folder of a dataset's photos: `photo_root` if one is given, else the dataset's own."""
    return Path(photo_root).expanduser().resolve() if photo_root else paths.photos(dataset)


def ensure(rows: pd.DataFrame, dataset: str, photo_root: str | Path | None = None) -> Path:
    """Make sure that every photo of a list is there with the bytes that the list names.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    dataset : str
        Name of the dataset. The absent photos of ``toy-earth`` are rendered.
    photo_root : str or Path, optional
        Folder of the photos, by default the dataset's own.

    Returns
    -------
    Path
        The folder that the paths of the list are relative to.

    Raises
    ------
    MissingPhotos
        If a photo is absent and the dataset has no source.
    ChangedPhoto
        If the bytes of a photo are not those that the list names.
    ValueError
        If a path leaves the photo root.
    """
    root = photo_folder(dataset, photo_root)
    if data_lists.is_embedded(dataset):
        locate = data_lists.locator(root)
        absent = rows[[not os.path.exists(locate(path)) for path in rows["path"]]]
        if len(absent):
            print(f"rendering {len(absent)} photos of {dataset} into {root}", flush=True)
            render(absent, root)
    data_lists.verify(rows, root)
    return root


def render(rows: pd.DataFrame, photo_root: Path) -> list[str]:
    """Render photos of ``toy-earth`` on all cores.

    Parameters
    ----------
    rows : DataFrame
        Columns ``id, path, latitude, longitude``, and ``sha256`` where the photos are already in a list.
    photo_root : Path
        Where the photos go; one that is there is replaced.

    Returns
    -------
    list of str
        SHA-256 of each photo, in the order of `rows`.

    Raises
    ------
    ChangedPhoto
        If a photo does not come out as the list says. It is not kept.
    """
    locate = data_lists.locator(photo_root)
    files = [Path(locate(path)) for path in rows["path"]]
    expected = rows["sha256"] if "sha256" in rows else [""] * len(rows)
    columns = (rows["id"], rows["latitude"], rows["longitude"], files, expected)
    scenes = [_Scene(*values) for values in zip(*columns, strict=True)]
    tasks = [scenes[start : start + _ROWS_PER_TASK] for start in range(0, len(scenes), _ROWS_PER_TASK)]
    if len(scenes) < _WORTH_PROCESSES:
        digests = list(progress.track(chain.from_iterable(map(_rendered, tasks)), "rendering", total=len(scenes)))
    else:
        # Spawned, because a process that has started threads (torch, pyarrow) cannot be forked safely.
        pool = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))
        try:
            done = chain.from_iterable(pool.map(_rendered, tasks))
            digests = list(progress.track(done, "rendering", total=len(scenes)))
        finally:
            pool.shutdown(cancel_futures=True)  # so that an interrupt does not wait for all that was left to do
    differing = [scene.id for scene, digest in zip(scenes, digests, strict=True) if scene.sha256 not in ("", digest)]
    if differing:
        raise data_lists.ChangedPhoto(
            f"{len(differing)} of {len(scenes)} rendered photos are not those of the list: "
            f"{data_lists.shown(differing)}. The library versions here differ from those that the list was built with: "
            f"install those of poetry.lock, or build the list again: "
            f"{rows.attrs.get('made by') or data_lists.build_command(data_lists.EMBEDDED)}"
        )
    return digests


def _rendered(scenes: list[_Scene]) -> list[str]:
    digests = []
    for scene in scenes:
        photo = toy_earth.render_jpeg(scene.id, scene.latitude, scene.longitude)
        digests.append(hashlib.sha256(photo).hexdigest())
        if scene.sha256 in ("", digests[-1]):
            with paths.replacing(scene.file) as temporary:
                temporary.write_bytes(photo)
    return digests
