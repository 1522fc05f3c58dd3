"""Get the bytes a list names.

An absent photo is fetched from its dataset's source and compared with the list. A dataset without a source has its
photos where the user put them, so an absent photo is an error.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers import cluster, data_lists, download, paths, photo_stores, shards, toy_earth, web

_RECIPE = "fetched with"


class _Scene(NamedTuple):
    id: str
    latitude: float
    longitude: float
    file: Path
    sha256: str  # what the list says, "" while there is no list


def photo_folder(dataset: str, photo_root: str | Path | None) -> Path:
    """Folder of a dataset's photos: `photo_root` if given, else its own, or that of the dataset it was made from."""
    return Path(photo_root).expanduser().resolve() if photo_root else paths.photos(data_lists.photos_of(dataset))


def ensure(rows: pd.DataFrame, dataset: str, photo_root: str | Path | None = None) -> Path:
    """Make sure that every photo of a list is there with the bytes that the list names.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    dataset : str
        Name of the dataset. The absent photos of ``toy-earth`` are rendered, those of a downloaded one fetched.
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
    if not photo_root and _RECIPE in rows.attrs:
        _fetch_absent(rows, root)
    elif data_lists.has_rendered_photos(dataset):
        locate = photo_stores.Folder(root).locate
        absent = rows[[not os.path.exists(locate(path)) for path in rows["path"]]]
        if len(absent):
            print(f"rendering {len(absent)} photos of {dataset} into {root}", flush=True)
            render(absent, root)
    data_lists.verify(rows, root)
    return root


def recipe(kind: str, settings: download.Settings) -> dict[str, str]:
    """Line for the header of a list that tells :func:`ensure` how to fetch a photo again, if that can be done.

    Examples
    --------
    >>> recipe("urls", download.Settings(short_side=320))
    {'fetched with': '{"short_side": 320, "size_suffix": "", "connections_per_host": 16}'}
    >>> recipe("photos", download.Settings())
    {}
    """
    known = {name: getattr(settings, name) for name in ("short_side", "size_suffix", "connections_per_host")}
    return {_RECIPE: json.dumps(known)} if kind == "urls" else {}


def _fetch_absent(rows: pd.DataFrame, folder: Path) -> None:
    """Fetch photos that a downloaded list names and its folder lacks, unless loose photos lie there."""
    folder.mkdir(parents=True, exist_ok=True)
    store = photo_stores.open_store(folder)
    if isinstance(store, photo_stores.Folder) and photo_stores.photo_names(store)[0]:
        return
    absent = rows[(rows["url"] != "") & ~rows["path"].isin(set(store.names()))]
    if len(absent):
        print(f"fetching {len(absent)} photos of the list into {folder}", flush=True)
        known = [name for name in shards.TRUTH if name in absent and name != "split"]
        named = download.Found("urls", absent[known], local=web.all_private(web.hosts(absent["url"])))
        try:
            settings = download.Settings(**json.loads(rows.attrs[_RECIPE]))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"the header of the list says nothing sound under {_RECIPE!r} ({error}): restore the list"
            ) from None
        download.run(named, folder, settings)


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
    locate = photo_stores.Folder(photo_root).locate
    files = [Path(locate(path)) for path in rows["path"]]
    expected = rows["sha256"] if "sha256" in rows else [""] * len(rows)
    columns = (rows["id"], rows["latitude"], rows["longitude"], files, expected)
    scenes = [_Scene(*values) for values in zip(*columns, strict=True)]
    digests = cluster.each(_rendered, scenes, "rendering")
    differing = [scene.id for scene, digest in zip(scenes, digests, strict=True) if scene.sha256 not in ("", digest)]
    if differing:
        raise data_lists.ChangedPhoto(
            f"{len(differing)} of {len(scenes)} rendered photos are not those of the list: "
            f"{data_lists.shown(differing)}. The library versions here differ from those that the list was built with: "
            f"install those of poetry.lock, or build the list again: "
            f"{rows.attrs.get('made by') or data_lists.build_command(data_lists.EMBEDDED)}"
        )
    return digests


def _rendered(scene: _Scene) -> str:
    photo = toy_earth.render_jpeg(scene.id, scene.latitude, scene.longitude)
    digest = hashlib.sha256(photo).hexdigest()
    if scene.sha256 in ("", digest):
        with paths.replacing(scene.file) as temporary:
            temporary.write_bytes(photo)
    return digest
