"""The table of datasets.

A record says what a dataset is, under which licence, how to cite it and how to list its photos with their truth;
`make_list` makes a data list of any of them. To add a dataset, add a record.
"""

import csv
import dataclasses
import difflib
import functools
import hashlib
import math
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from helpers import data_lists, fetch, manifests, paths, photos, toy_earth

BAD_PHOTOS = ("error", "leave_out")

_HEADINGS = {
    "path": "path file filename filepath image imagefile imagename imagepath img imgid imgname imgpath photo photopath",
    "latitude": "latitude lat gpslat gpslatitude",
    "longitude": "longitude lon lng long gpslon gpslng gpslong gpslongitude",
    "author": "author authorid creator owner ownerid ownernsid photographer user userid username usernsid",
    "id": "id imageid photoid",
    "split": "split subset",
    "url": "url imageurl photourl",
    "licence": "licence license",
    "country": "country countrycode",
    "region": "region",
    "captured_at": "capturedat datetaken timetaken",
}
"""Spellings of headings that people use, in lower case without spaces, underscores and the like."""

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # the last are bytes of file names that are no UTF-8
_NO_POSITION = "no position in EXIF"
_BROKEN_POSITION = "broken position in EXIF"


class Listed(NamedTuple):
    """Photos of a dataset with their truth, before they are split."""

    photos: pd.DataFrame
    """What `data_lists.build` takes."""
    left_out: dict[str, list[str]]
    """Names of what cannot be used, by reason."""


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
    if root.is_dir():
        return dataclasses.replace(FOLDER, name=paths.checked_name(dataset))
    if photo_root:
        raise ValueError(f"photo_root {str(photo_root)!r} is no folder: give the folder that holds the photos")
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
        Folder of the photos, by default the dataset's own.
    truth : str or Path, optional
        CSV file that says where the photos of a folder were taken, see `read_truth`; by default their EXIF says it.
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
    leaks = data_lists.leakage(rows)
    header = {
        "dataset": dataset,
        "source": entry.title + (f", truth from {truth.name}" if truth else ""),
        "licence": entry.licence,
        "cite": entry.citation,
        "made by": manifests.command("01_data/make_list", parameters),
        "left out": _counted(listed.left_out) or "nothing",
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
    rows, unused = (read_truth(truth), {}) if truth else _photos_below(photo_root)
    data_lists.check_names(rows)
    if truth:
        data_lists.refuse_swapped(rows)
        problem = _coordinate_problems(rows)
    else:
        problem = pd.Series("", index=rows.index)
    judge = functools.partial(_judged, data_lists.locator(photo_root), with_position=not truth)
    checked = rows[problem == ""]
    judged = pd.DataFrame(
        data_lists.in_threads(judge, checked["path"].tolist(), "checking"), index=checked.index, columns=_Judged._fields
    )
    problem.update(judged["problem"])
    for column in ["sha256"] if truth else ["sha256", "latitude", "longitude", "captured_at"]:
        rows[column] = judged[column]

    problems = {reason: sorted(rows["path"][problem == reason]) for reason in sorted(set(problem) - {""})}
    bad = {reason: names for reason, names in problems.items() if reason not in (_NO_POSITION, _BROKEN_POSITION)}
    if bad and bad_photos == "error":
        raise BadPhotos(
            f"{sum(map(len, bad.values()))} of {len(rows)} photos cannot be used: {_counted(bad, named=True)}. "
            + (f"Paths are relative to the photo root {photo_root}. " if "missing" in bad else "")
            + "Mend or remove them, or leave them out with bad_photos='leave_out', which counts them",
            bad,
        )
    if (problem != "").all():
        raise BadPhotos(
            f"none of the {len(rows)} photos can be used: {_counted(problems, named=True)}. "
            + ("Mend them" if truth else "Say where they were taken in a CSV file, given as truth"),
            problems,
        )
    return Listed(rows[problem == ""], unused | problems)


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


def read_truth(path: Path) -> pd.DataFrame:
    """Read where photos were taken from a CSV file in the headings that people use.

    Parameters
    ----------
    path : Path
        A CSV file in UTF-8 with the columns path, latitude and longitude and where known author, id, split, url,
        licence, country, region and captured_at; lines before the headings that begin with ``#`` are comments. Case,
        spaces and underscores in headings do not matter, and `_HEADINGS` lists the spellings. Other columns are not
        read.

    Returns
    -------
    DataFrame
        The columns found under our names. Everything is text but the coordinates, NaN where they are no numbers.
        ``path`` is relative to the photo root; ``id`` is by default the path without its suffix.

    Raises
    ------
    ValueError
        If the file is no CSV, or a needed column is missing or could be several.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"truth {str(path)!r} cannot be read: {error.strerror}") from None
    body = re.sub(rb"\A(?:\xef\xbb\xbf)?(?:#[^\n]*\n)*", b"", content)
    headings = next(csv.reader([body.partition(b"\n")[0].decode(errors="replace")]), [])
    found = _recognised(headings, path)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(body),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(found.values()), column_types=dict.fromkeys(found.values(), pa.string())
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"truth {str(path)!r} is no sound CSV file in UTF-8: {error}. Mend or export it again"
        ) from None
    rows = table.rename_columns(list(found)).to_pandas()
    rows["path"] = rows["path"].str.replace("\\", "/", regex=False).str.removeprefix("./")
    if "id" not in rows:
        rows["id"] = _ids(rows["path"])
    if "author" not in rows:
        rows["author"] = ""
    for column in ("latitude", "longitude"):
        rows[column] = pd.to_numeric(rows[column], errors="coerce").astype(float)
    return rows


class _Judged(NamedTuple):
    problem: str
    sha256: str = ""
    latitude: float = math.nan
    longitude: float = math.nan
    captured_at: str = ""


def _judged(locate: Callable[[str], str], path: str, with_position: bool) -> _Judged:
    """Hash a photo and decode it whole, because only that shows whether it is truncated."""
    try:
        data = photos.read_bytes(Path(locate(path)), path)
        photos.decode(data, path)
        position = photos.exif_position(data, path) if with_position else (math.nan, math.nan)
    except photos.PhotoError as error:
        return _Judged(error.reason)
    if position is None:
        return _Judged(_NO_POSITION)
    captured_at = photos.exif_time(data, path) if with_position else ""
    return _Judged("", hashlib.sha256(data).hexdigest(), *position, captured_at)


def _photos_below(photo_root: Path) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Photos below a folder, by their names, and what was passed over, by reason."""
    names = []
    unused: dict[str, list[str]] = {}
    for folder, folders, files in os.walk(photo_root):
        for name in [*folders, *files]:
            path = os.path.relpath(os.path.join(folder, name), photo_root).replace(os.sep, "/")
            suffix = os.path.splitext(name)[1].lower()
            if _UNWRITABLE.search(path):
                unused.setdefault("name that no CSV file can hold", []).append(ascii(path))
            elif name.startswith("."):
                unused.setdefault("hidden", []).append(path)
            elif name in folders:
                if os.path.islink(os.path.join(folder, name)):
                    unused.setdefault("linked folder", []).append(path)
            elif suffix in photos.SUFFIXES:
                names.append(path)
            else:
                unused.setdefault(f"no photo by its name ({suffix or 'no suffix'})", []).append(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
    unused = {reason: sorted(found) for reason, found in sorted(unused.items())}
    if not names:
        raise BadPhotos(
            f"there is no photo below {photo_root}: give the folder that holds the photos as photo_root"
            + (f" (passed over: {_counted(unused, named=True)})" if unused else ""),
            unused,
        )
    rows = pd.DataFrame({"path": sorted(names), "author": ""})
    rows.insert(0, "id", _ids(rows["path"]))
    return rows, unused


def _ids(names: pd.Series) -> pd.Series:
    """Paths without their suffixes, but where two photos differ in nothing else."""
    stems = names.map(lambda name: posixpath.splitext(name)[0])
    return stems.mask(stems.duplicated(keep=False), names)


def _recognised(headings: list[str], path: Path) -> dict[str, str]:
    """Our column names, and the headings of a CSV file that mean them."""

    def plain(heading: str) -> str:
        return re.sub("[^a-z0-9]", "", heading.lower())

    found = {}
    for column, spellings in _HEADINGS.items():
        matches = [heading for heading in headings if plain(heading) in spellings.split()]
        exact = [heading for heading in matches if plain(heading) == plain(column)]
        if len(matches) > 1 and len(exact) != 1:
            raise ValueError(
                f"truth {str(path)!r} has several columns that could be {column}: {', '.join(matches)}. Rename the "
                f"right one to {column}, or remove the others"
            )
        if matches:
            found[column] = (exact or matches)[0]
    missing = [column for column in ("path", "latitude", "longitude") if column not in found]
    if missing:
        raise ValueError(
            f"truth {str(path)!r} has no column for {', '.join(missing)}. It has: {', '.join(headings) or 'nothing'}. "
            "It needs path, latitude and longitude, separated by commas"
        )
    return found


def _coordinate_problems(rows: pd.DataFrame) -> pd.Series:
    """What is wrong with the coordinates of each photo, "" for nothing."""
    problem = pd.Series("", index=rows.index)
    problem[rows["longitude"].abs() > 180] = "longitude beyond ±180"
    problem[rows["latitude"].abs() > 90] = "latitude beyond ±90"
    problem[rows[["latitude", "longitude"]].isna().any(axis=1)] = "coordinates missing or no numbers"
    return problem


def _counted(names: Mapping[str, list[str]], named: bool = False) -> str:
    """Counts by reason, e.g. ``2 truncated ('a.jpg', 'b.jpg'), 1 empty ('c.jpg')``."""
    return ", ".join(
        f"{len(found)} {reason}" + (f" ({data_lists.shown(found)})" if named else "") for reason, found in names.items()
    )
