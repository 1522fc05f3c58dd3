"""The table of datasets.

A record says what a dataset is, under which licence, how to cite it and how to list its photos with their truth;
`make_list` makes a data list of any of them. To add a dataset, add a record.
"""

import dataclasses
import difflib
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers import (
    cluster,
    data_lists,
    download,
    fetch,
    leakage,
    manifests,
    paths,
    photo_stores,
    photo_tables,
    photos,
    shards,
    toy_earth,
    web,
)

BAD_PHOTOS = ("error", "leave_out")

_BROKEN_POSITION = "broken position in EXIF"


class Listed(NamedTuple):
    """Photos of a dataset with their truth, before they are split."""

    photos: pd.DataFrame
    """What `data_lists.build` takes."""
    left_out: dict[str, list[str]]
    """Names of what cannot be used, by reason."""
    notes: Sequence[str] = ()
    """What was mended, in words."""


class Made(NamedTuple):
    """A data list, ready to be written."""

    rows: pd.DataFrame
    header: dict[str, str]
    left_out: dict[str, list[str]]
    """Names of what was left out, by reason."""


class BadPhotos(ValueError):
    """Photos or their truth that cannot be used.

    Attributes
    ----------
    problems : dict
        Names of the photos, by reason.
    """

    def __init__(self, message: str, problems: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.problems = dict(problems or {})


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What to know about a dataset."""

    name: str
    title: str
    licence: str
    citation: str
    list_photos: Callable[..., Listed]
    """Called with the keywords ``photo_root, truth, photo_count, seed, bad_photos`` of `make_list`."""


def record(dataset: str, photo_root: str | Path | None = None) -> Dataset:
    """Record of a dataset; any name with a folder of photos is a ``folder``.

    Raises
    ------
    ValueError
        If there is neither such a record nor a folder; names the nearest dataset.
    """
    if data_lists.is_embedded(dataset):
        return TOY_EARTH
    root = fetch.photo_folder(dataset, photo_root)
    if root.exists():
        return PUBLISHED.get(dataset) or dataclasses.replace(FOLDER, name=paths.checked_name(dataset))
    if photo_root:
        raise ValueError(
            f"there is no photo_root {str(photo_root)!r}: give the folder or archive that holds the photos"
        )
    near = difflib.get_close_matches(dataset, [TOY_EARTH.name], n=1)
    raise ValueError(
        f"unknown dataset {dataset!r}"
        + (f": did you mean {near[0]!r}?" if near else ".")
        + f" For photos of your own, give their folder as photo_root, or put them into {root}"
    )


def make_list(
    dataset: str,
    *,
    photo_root: str | Path | None = None,
    truth: str | Path | None = None,
    photo_count: int = 0,
    seed: int = 0,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    bad_photos: str = "error",
) -> Made:
    """Make the data list of a dataset, after decoding and hashing every photo.

    Parameters
    ----------
    dataset : str
        ``toy-earth``, or any name for a folder of photos.
    photo_root : str or Path, optional
        Folder, zip, tar or shards with the photos, by default the dataset's own folder.
    truth : str or Path, optional
        CSV file that says where the photos of a folder were taken, see `photo_tables.read`; by default their EXIF, or
        the index of shards, says it.
    photo_count : int
        Number of photos of ``toy-earth``.
    seed : int
        Decides which places ``toy-earth`` has, and the splits.
    validation_share, test_share : float
        See `data_lists.build`.
    bad_photos : str
        ``error``: a photo that cannot be used is an error that names it; ``leave_out``: it is left out and counted.

    Returns
    -------
    Made
        Write it with ``data_lists.write(made.rows, made.header, paths.data_list(dataset))``.

    Raises
    ------
    BadPhotos
        If photos cannot be used and `bad_photos` is ``error``, or if none is left.
    ValueError
        If the dataset, the truth, or the list that they make is not sound.
    """
    if bad_photos not in BAD_PHOTOS:
        raise ValueError(f"bad_photos is {bad_photos!r}: it must be one of {', '.join(BAD_PHOTOS)}")
    entry = record(dataset, photo_root)
    truth = Path(truth).expanduser() if truth else None
    listed = entry.list_photos(
        photo_root=fetch.photo_folder(dataset, photo_root),
        truth=truth,
        photo_count=photo_count,
        seed=seed,
        bad_photos=bad_photos,
    )
    rows = data_lists.build(listed.photos, seed=seed, validation_share=validation_share, test_share=test_share)
    # Without the folders of photos and truth, which would make the list differ from one machine to the next.
    parameters = {
        "dataset": dataset,
        "photo_root": "" if entry is TOY_EARTH else "DIR",
        "truth": truth.name if truth else "",
        "photo_count": photo_count if entry is TOY_EARTH else "",
        "seed": seed,
        "validation_share": validation_share,
        "test_share": test_share,
        "bad_photos": bad_photos,
    }
    leaks = leakage.shared(rows)
    header = {
        "dataset": dataset,
        "source": entry.title + (f", truth from {truth.name}" if truth else ""),
        "licence": entry.licence,
        "cite": entry.citation,
        "made by": manifests.command("01_data/make_list", parameters),
        "left out": data_lists.counted(listed.left_out) or "nothing",
        **({"mended": "; ".join(listed.notes)} if listed.notes else {}),
        "leakage": ", ".join(f"{what}: {value}" for what, value in leaks.items()),
    }
    return Made(rows, header, listed.left_out)


def list_toy_earth(
    *, photo_root: Path, truth: Path | None, photo_count: int, seed: int, bad_photos: str = "error"
) -> Listed:
    """Sample places of ``toy-earth`` and render their photos, also those that are there: a list holds no old ones."""
    if truth:
        raise ValueError(
            f"toy-earth knows where its photos are: leave out truth {str(truth)!r}, or name another dataset"
        )
    if photo_count < 1:
        raise ValueError(f"photo_count is {photo_count}: toy-earth needs at least 1 photo")
    foreign = [file.name for file in photo_root.iterdir() if len(file.name) != 2] if photo_root.is_dir() else []
    if foreign:
        raise ValueError(
            f"photo_root {str(photo_root)!r} holds {foreign[0]!r}, which is not of toy-earth: give its scenes another "
            "folder, or name the dataset of photos of your own"
        )
    sample = toy_earth.sample(photo_count, seed)
    known = [name for name in (*data_lists.COLUMNS, *data_lists.OPTIONAL_COLUMNS) if name in sample]
    return Listed(sample[known].assign(sha256=fetch.render(sample, photo_root)), {})


def list_folder(
    *, photo_root: Path, truth: Path | None, bad_photos: str, photo_count: int = 0, seed: int = 0
) -> Listed:
    """List the photos of a folder: those of a CSV file, or all below it whose EXIF says where they were taken.

    Photos whose EXIF gives no position, hidden files and files that are no photos by their name are left out under
    either policy of `bad_photos`, because folders are full of them.
    """
    store = photo_stores.open_store(photo_root)
    if isinstance(store, shards.Shards) and not truth:
        return _from_shards(store)
    listed = _from_table(truth) if truth else _photos_below(store, photo_root)
    rows = listed.photos
    data_lists.check_names(rows)
    judge = functools.partial(_judged, photo_root, with_position=not truth)
    judged = pd.DataFrame(
        cluster.each(judge, rows["path"].tolist(), "checking"), index=rows.index, columns=_Judged._fields
    )
    problem = judged["problem"]
    for column in ["sha256"] if truth else ["sha256", "latitude", "longitude", "captured_at"]:
        rows[column] = judged[column]

    problems = {reason: sorted(rows["path"][problem == reason]) for reason in sorted(set(problem) - {""})}
    of_table = listed.left_out if truth else {}
    total = len(rows) + sum(map(len, of_table.values()))
    usual = (photos.NO_POSITION, _BROKEN_POSITION)  # in any folder
    bad = photo_tables.merged(of_table, problems)
    bad = {reason: names for reason, names in sorted(bad.items()) if reason not in usual}
    if bad and bad_photos == "error":
        raise BadPhotos(
            f"{sum(map(len, bad.values()))} of {total} photos cannot be used: {data_lists.counted(bad, named=True)}. "
            + (f"Paths are relative to the photo root {photo_root}. " if "missing" in bad else "")
            + "Mend or remove them, or leave them out with bad_photos='leave_out', which counts them",
            bad,
        )
    if (problem != "").all():
        raise BadPhotos(
            f"none of the {total} photos can be used: {data_lists.counted(problems, named=True)}. "
            + ("Mend them" if truth else "Say where they were taken in a CSV file, given as truth"),
            problems,
        )
    left_out = dict(sorted(photo_tables.merged(listed.left_out, problems).items()))
    return Listed(rows[problem == ""], left_out, listed.notes)


TOY_EARTH = Dataset(
    name=data_lists.EMBEDDED,
    title="scenes rendered from facts about places that exist",
    licence="Apache-2.0",
    citation="this project",
    list_photos=list_toy_earth,
)
FOLDER = Dataset(
    name="folder",
    title="a folder of photos",
    licence="as the photos' owners say",
    citation="as the photos' owners say",
    list_photos=list_folder,
)
_FLICKR = "Creative Commons, each photo its own (Flickr)"
_YFCC = "Thomee et al., YFCC100M: The New Data in Multimedia Research, Communications of the ACM 59(2), 2016"
_IM2GPS = "Hays and Efros, IM2GPS: estimating geographic information from a single image, CVPR 2008"
_REVISITED = "Vo, Jacobs and Hays, Revisiting IM2GPS in the Deep Learning Era, ICCV 2017"
_OSV = "Astruc et al., OpenStreetView-5M: The Many Roads to Global Visual Geolocation, CVPR 2024"
PUBLISHED = {
    name: dataclasses.replace(FOLDER, name=name, title=title, licence=licence, citation=citation)
    for name, title, licence, citation in (
        ("mp16", "MediaEval Placing Task 2016, a part of YFCC100M", _FLICKR, _YFCC),
        ("yfcc25600", "25,600 photos of YFCC100M", _FLICKR, _YFCC),
        ("yfcc4k", "YFCC4k, photos of YFCC100M", _FLICKR, _REVISITED),
        ("im2gps", "Im2GPS test set", "as the photos' owners say", _IM2GPS),
        ("im2gps3k", "Im2GPS3k test set", "as the photos' owners say", _REVISITED),
        ("osv5m", "OpenStreetView-5M", "CC BY-SA 4.0", _OSV),
    )
}
"""Published collections, as `download` fetches them or as a folder; each has its licence and what to cite."""


class _Judged(NamedTuple):
    problem: str
    sha256: str = ""
    latitude: float = math.nan
    longitude: float = math.nan
    captured_at: str = ""


def _judged(photo_root: Path, path: str, with_position: bool) -> _Judged:
    """Hash a photo and decode it whole, because only that shows whether it is truncated."""
    try:
        data = photos.read_bytes(photo_stores.reopened(photo_root), path)
        photos.decode(data, path)
        position = photos.exif_position(data, path) if with_position else (math.nan, math.nan)
    except photos.PhotoError as error:
        return _Judged(error.reason)
    if position is None:
        return _Judged(photos.NO_POSITION)
    captured_at = photos.exif_time(data, path) if with_position else ""
    return _Judged("", hashlib.sha256(data).hexdigest(), *position, captured_at)


def _from_table(truth: Path) -> Listed:
    table = photo_tables.read(truth, "path")
    columns = [name for name in table.rows if name in (*data_lists.COLUMNS, *data_lists.OPTIONAL_COLUMNS)]
    return Listed(table.rows[columns], table.left_out, table.notes)


def _photos_below(store: photo_stores.PhotoStore, photo_root: Path) -> Listed:
    """Photos of a store, by their names, and what was passed over."""
    names, unused = photo_stores.photo_names(store)
    if not names:
        raise BadPhotos(
            f"there is no photo below {photo_root}: give the folder that holds the photos as photo_root"
            + (f" (passed over: {data_lists.counted(unused, named=True)})" if unused else ""),
            unused,
        )
    rows = pd.DataFrame({"path": names, "author": ""})
    rows.insert(0, "id", photo_tables.ids(rows["path"]))
    return Listed(rows, unused)


def _from_shards(store: shards.Shards) -> Listed:
    """What shards know of their photos, each of which was judged when it was packed."""
    rows = download.with_latest_truth(store.index, store.folder)
    placeholder = rows["id"].isin(download.placeholders(rows))
    nowhere = rows[["latitude", "longitude"]].isna().any(axis=1)
    left_out = {
        web.PLACEHOLDER: rows["path"][placeholder].tolist(),
        photo_tables.NO_COORDINATES: rows["path"][nowhere & ~placeholder].tolist(),
    }
    rows = rows[~placeholder & ~nowhere]
    columns = [name for name in (*data_lists.COLUMNS, *data_lists.OPTIONAL_COLUMNS) if name in rows and name != "split"]
    if (rows["split"] != "").all():
        columns.append("split")
    return Listed(rows[columns], photo_tables.merged(left_out))
