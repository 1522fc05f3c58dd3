"""Build, write, read and verify data lists.

A data list says which photos a dataset has, where each was taken, which split it belongs to, and the hash of its
bytes. It is a CSV file sorted by ``id``, under a commented header that names its source, its licence and how it was
made, with a fingerprint of the rows. Very long lists are compressed. Building and reading are different calls, and
reading never writes.

Nothing here loops over rows in Python, and text stays in Arrow's memory: a list of five million photos fits a laptop.
A longer one is written from parts, and read as parts, of which one at a time is in memory.
"""

import csv
import difflib
import gzip
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from helpers import leakage, manifests, paths, photo_stores, progress

COLUMNS = ("id", "path", "latitude", "longitude", "author", "split", "sha256")
_SCENE_CLASSES = {"s3_label": 3, "s16_label": 16, "s365_label": 365}
_SCENE_PROBABILITIES = ("prob_indoor", "prob_natural", "prob_urban")
SCENE_COLUMNS = (*_SCENE_CLASSES, *_SCENE_PROBABILITIES)
"""Scenes that a published table has, under its names: numbers of classes, and probabilities; "" where unknown."""
OPTIONAL_COLUMNS = ("url", "licence", "attribution", "country", "region", "captured_at", *SCENE_COLUMNS)
SPLITS = ("train", "validation", "test")
EMBEDDED = "toy-earth"
"""The dataset that needs no photos of the user's; ``toy-earth-<anything>`` is one too, of another size or seed."""
LOCATED = "located"
"""Line of a list's header, and key of its ``attrs``, that says that its countries and regions follow from its
coordinates."""

_COORDINATES = {"latitude": 90, "longitude": 180}
_NAMES_SHOWN = 3
_PHOTOS_OF, _MADE_FROM = "photos of", "made from"
_INHERITED = ("source", "licence", "cite", "fetched with")
_NOTEBOOK_OF = {"enriched": "01_data/enrich", "clean": "01_data/clean", "balanced": "01_data/balance"}
_COMPRESSED_FROM = 200_000  # rows, about 50 MB
_ROWS_PER_CHUNK = 200_000
_BYTES_PER_PART = 1 << 26  # of text, about 400,000 rows

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_embedded(dataset: str) -> bool:
    """Whether the photos of a dataset are rendered here.

    Examples
    --------
    >>> is_embedded("toy-earth"), is_embedded("toy-earth-64k"), is_embedded("toy-earthling")
    (True, True, False)
    """
    return dataset == EMBEDDED or dataset.startswith(f"{EMBEDDED}-")


class MissingList(FileNotFoundError):
    """A dataset without a list."""


class EditedList(ValueError):
    """A list whose rows are not those that its fingerprint names."""


class MissingPhotos(FileNotFoundError):
    """Photos of a list that are not below the photo root."""


class ChangedPhoto(ValueError):
    """Photos whose bytes are not those that the list names."""


def build(photos: pd.DataFrame, *, seed: int, validation_share: float, test_share: float) -> pd.DataFrame:
    """Make the rows of a data list from photos and their truth.

    Parameters
    ----------
    photos : DataFrame
        Columns ``id, path, latitude, longitude, author, sha256`` and where known those of
        `OPTIONAL_COLUMNS`, in any order. ``path`` is relative to the photo root, ``author`` is empty where unknown. A
        column ``split`` is taken as it is; `leakage.shared` then says what it shares.
    seed : int
        Decides which photos go into which split.
    validation_share, test_share : float
        From 0 to 1, of the photos. ``test_share=1`` makes a list for evaluation only.

    Returns
    -------
    DataFrame
        `COLUMNS` and those of `OPTIONAL_COLUMNS` that hold anything, sorted by ``id``. The rows do not depend on the
        order of `photos`.

    Raises
    ------
    ValueError
        If there are no photos, a column is missing, an id or path occurs twice, a path leaves the photo root, a
        coordinate is missing or out of range, a scene is none, columns look swapped, or there are too few groups for
        the splits.

    Notes
    -----
    Photos that share an author, or a place (an S2 cell of level 13, about 1.1 km), stay in one split, and so does
    whatever they are linked to through other photos: an author or a spot in two splits inflates every accuracy. The
    groups are taken in a random order; each goes into validation if it fits into what that still lacks, else into
    test if it fits, else into training. Photos of unknown author are grouped by place only.
    """
    missing = set(COLUMNS) - {"split"} - set(photos.columns)
    if missing:
        raise ValueError(f"a list needs the column(s) {', '.join(sorted(missing))}: add them to the photos")
    unknown = set(photos.columns) - set(COLUMNS) - set(OPTIONAL_COLUMNS)
    if unknown:
        raise ValueError(f"a list has no column {', '.join(sorted(unknown))}: remove what it does not know")
    # One column after the other, so that little more than one is held twice.
    order = pc.sort_indices(_text(photos["id"]))
    columns: dict[str, pd.Series] = {}
    for column in (*COLUMNS, *OPTIONAL_COLUMNS):
        if column in _COORDINATES:
            numbers = pd.to_numeric(photos[column], errors="coerce").to_numpy(np.float64)
            columns[column] = pd.Series(numbers[order.to_numpy()])
        elif column in photos:
            columns[column] = _text(photos[column]).take(order).to_pandas()
    rows = pd.DataFrame(columns)
    del columns
    check_names(rows)
    refuse_swapped(rows)
    _check_coordinates(rows)
    if "split" not in rows:
        splits = _assigned_splits(rows, seed, validation_share, test_share)
        rows.insert(COLUMNS.index("split"), "split", splits)
    for name in OPTIONAL_COLUMNS:
        if name in rows and (rows[name] == "").all():
            del rows[name]
    _check_text(rows)
    return rows


def write(rows: pd.DataFrame | Iterable[pd.DataFrame], header: Mapping[str, object], path: Path) -> Path:
    """Write a list: its header, the number of rows, their fingerprint, and the rows.

    Parameters
    ----------
    rows : DataFrame or iterable of DataFrame
        What `build` returned. Of a list that does not fit in memory: its parts, each from `build` with its splits
        given, in the order of their ids. That no path occurs in two parts is for whoever makes them to see to.
    header : mapping
        What to know about the list, such as ``dataset``, ``source``, ``licence`` and ``made by``.
    path : Path
        ``data-lists/<dataset>.csv``; replaced in one move. While it is written, it takes its size on disk twice.

    Returns
    -------
    Path
        The file: a list of 200,000 rows or more is compressed, and has ``.gz`` after its name.

    Raises
    ------
    ValueError
        If the ids do not ascend, parts differ in their columns, or there is none.
    """
    parts = iter([rows] if isinstance(rows, pd.DataFrame) else rows)
    first: list[pd.DataFrame] = []
    while sum(map(len, first)) < _COMPRESSED_FROM and (part := next(parts, None)) is not None:
        first.append(part)
    if not first:
        raise ValueError("the list has no part: it needs at least one")
    plain = path.with_name(path.name.removesuffix(".gz"))
    compressed = path.with_name(f"{plain.name}.gz")
    is_long = sum(map(len, first)) >= _COMPRESSED_FROM
    path, other = (compressed, plain) if is_long else (plain, compressed)
    with paths.replacing(path) as temporary:
        # The fingerprint stands above the rows and is known after them.
        with tempfile.TemporaryFile(dir=path.parent) as body, temporary.open("wb") as file:
            with _compressing(body, path) as stream:
                count, fingerprint = _write_rows(chain(first, parts), stream)
            lines = {**header, "rows": count, "fingerprint": fingerprint}
            with _compressing(file, path) as stream:
                stream.writelines(f"# {key}: {' '.join(str(value).split())}\n".encode() for key, value in lines.items())
            body.seek(0)
            shutil.copyfileobj(body, file, 1 << 20)
        other.unlink(missing_ok=True)  # before the new one is in place: better no list than two
    return path


def new_name(dataset: str, new_dataset: str, suffix: str) -> str:
    """Name of a list that is made from another: the one that is given, or one that says what was done.

    Raises
    ------
    ValueError
        If there is a list of that name which was not made from `dataset`, and would be lost; or if it is a name of
        rendered photos for others.

    Examples
    --------
    >>> new_name("mine", "", "clean"), new_name("mine", "sharp", "clean")
    ('mine-clean', 'sharp')
    """
    name = paths.checked_name(new_dataset or f"{dataset}-{suffix}")
    _refuse_other_lists(name, dataset)
    return name


def derive(rows: pd.DataFrame, parent: pd.DataFrame, dataset: str, made_by: str, notes: Mapping[str, object]) -> Path:
    """Write a list that is made from another, and shares its photos.

    Parameters
    ----------
    rows : DataFrame
        Rows of `parent`, or some of them, with columns of `OPTIONAL_COLUMNS` added or filled.
    parent : DataFrame
        What `read` returned.
    dataset : str
        Name of the new list, from `new_name`.
    made_by : str
        Command that makes it.
    notes : mapping
        What else its header says, such as what was left out.

    Returns
    -------
    Path
        The file. Its header keeps source and licence, and names the list that it was made from with its fingerprint,
        and the dataset whose folder holds the photos.

    Raises
    ------
    ValueError
        If there are no rows, or `dataset` has a list that was not made from `parent`.
    """
    _refuse_other_lists(dataset, parent.attrs["dataset"])
    check_names(rows)
    header: dict[str, object] = {"dataset": dataset}
    for key, holder in (*((key, parent) for key in _INHERITED), (LOCATED, rows)):
        if key in holder.attrs:
            header[key] = holder.attrs[key]
    header |= {
        _PHOTOS_OF: parent.attrs.get(_PHOTOS_OF) or parent.attrs["dataset"],
        _MADE_FROM: f"{parent.attrs['dataset']}, fingerprint {parent.attrs['fingerprint']}",
        "made by": made_by,
        **notes,
        "leakage": ", ".join(f"{what}: {value}" for what, value in leakage.shared(rows).items()),
    }
    columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in rows]
    return write(rows[columns].sort_values("id", ignore_index=True), header, paths.data_list(dataset))


def photos_of(dataset: str) -> str:
    """The dataset whose folder holds the photos of a list: itself, or the one that the list was made from."""
    return _read_header(dataset).get(_PHOTOS_OF) or dataset


def has_rendered_photos(dataset: str) -> bool:
    """Whether the photos of a list, or of the one that it was made from, are rendered here."""
    return is_embedded(photos_of(dataset))


def _refuse_other_lists(name: str, parent: str) -> None:
    if is_embedded(name) and not has_rendered_photos(parent):
        raise ValueError(
            f"new_dataset is {name!r}, but lists of that name have rendered photos, and those of {parent!r} are not: "
            "choose another name"
        )
    replaced = paths.data_list(name)
    if name == parent or (replaced.exists() and _read_header(name).get(_MADE_FROM, "").partition(",")[0] != parent):
        raise ValueError(
            f"new_dataset is {name!r}, but the list {replaced} is another one than would be made from {parent!r}: "
            "name a new list, or remove that one"
        )


def _read_header(dataset: str) -> dict[str, str]:
    """Header of a list, empty where there is no list."""
    path = paths.data_list(dataset)
    if not path.exists():
        return {}
    with path.open("rb") as file, _Hashing(gzip.open(file) if path.suffix == ".gz" else file) as stream:
        return _header(stream)


def read(dataset: str | Path) -> pd.DataFrame:
    """Read the list of a dataset.

    Parameters
    ----------
    dataset : str or Path
        Name of a dataset, or the path of a list.

    Returns
    -------
    DataFrame
        The rows; the header is in ``attrs``. Coordinates are float64, everything else is text.

    Raises
    ------
    MissingList
        If there is no such list; names the command that builds it.
    EditedList
        If the rows are not those that the fingerprint names.
    ValueError
        If a row holds what no list may hold.
    """
    path = dataset if isinstance(dataset, Path) else paths.data_list(dataset)
    with _opened(path) as (stream, header):
        rows = _table(pa.PythonFile(stream, "r"), _headings(stream, path), path)
        _check(rows, path)
    rows.attrs.update(header)
    return rows


def parts(dataset: str | Path, columns: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """Read the list of a dataset part by part, so that a list of any length fits in memory.

    Parameters
    ----------
    dataset : str or Path
        Name of a dataset, or the path of a list.
    columns : sequence of str
        Which ones to read, by default all: the fewer, the faster.

    Yields
    ------
    DataFrame
        The next rows, about 400,000; one after the other they are what `read` returns, with its index.

    Raises
    ------
    MissingList, EditedList, ValueError
        As `read` does, but for a path that occurs in two parts, which is not noticed; and if the ids do not ascend.
        Whether the rows are those that the fingerprint names is known after the last part: what was made of the parts
        before it holds only if no error comes.
    """
    path = dataset if isinstance(dataset, Path) else paths.data_list(dataset)
    done, last = 0, ""
    with _opened(path) as (stream, header):
        names = _headings(stream, path)
        absent = set(columns) - set(names)
        if absent:
            raise ValueError(f"{path} has no column {', '.join(sorted(absent))}: it has {', '.join(names)}")
        wanted = [name for name in names if not columns or name in columns]
        for block in _whole_rows(stream, path):
            rows = _table(pa.BufferReader(block), names, path, {"id", *wanted})
            last = _check(rows, path, last)
            rows.index = pd.RangeIndex(done, done + len(rows))
            rows.attrs.update(header)
            done += len(rows)
            yield rows[wanted]
        if not done:
            raise ValueError(f"{path}: the list is empty: it needs at least one photo")


def coordinates(dataset: str | Path, split: str) -> pd.DataFrame:
    """Latitude and longitude of the photos of a split, from a list of any length: 16 bytes a photo stay in memory."""
    found = {name: np.empty(0) for name in _COORDINATES}
    for part in parts(dataset, (*found, "split")):
        chosen = part.loc[part["split"] == split, list(found)]
        for name, values in found.items():
            values.resize(len(values) + len(chosen), refcheck=False)  # in place, where joining arrays holds all twice
            values[len(values) - len(chosen) :] = chosen[name]
    return pd.DataFrame(found, copy=False)


def verify(rows: pd.DataFrame, photo_root: Path) -> None:
    """Check that every photo of a list is below `photo_root` with the bytes that the list names.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    photo_root : Path
        A folder of loose photos, a zip, a tar, or a folder of shards.

    Raises
    ------
    ValueError
        If a path leaves the photo root, be it through a symbolic link, or a shard is damaged.
    MissingPhotos
        If a photo is not there.
    ChangedPhoto
        If the bytes of a photo are not those that the list names.
    """
    store = photo_stores.open_store(photo_root)

    def digest(path: str) -> str | None:
        try:
            return hashlib.sha256(store.read(path)).hexdigest()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            return None

    names = rows["path"].tolist()
    digests = pd.Series(list(in_threads(digest, names, "verifying")), index=rows.index, dtype=object)
    absent = rows["path"][digests.isna()]
    if len(absent):
        raise MissingPhotos(
            f"{len(absent)} of {len(rows)} photos of the list cannot be read below {photo_root}: {shown(absent)}. "
            "Put them there, or give the folder that holds them as photo_root"
        )
    changed = rows["path"][digests != rows["sha256"]]
    if len(changed):
        raise ChangedPhoto(
            f"{len(changed)} of {len(rows)} photos below {photo_root} are not those of the list: {shown(changed)}. "
            f"Restore them, or build the list again: {rows.attrs.get('made by') or build_command('NAME')}"
        )


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    """Yield ``function(item)`` in order while threads work on all items, showing progress under `label`."""
    # Chunks, because a task costs as much as hashing a small photo; not too long, so that cores finish together.
    size = max(1, min(256, len(items) // 64))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        done = pool.map(lambda chunk: [function(item) for item in chunk], chunks)
        yield from progress.track(chain.from_iterable(done), label, total=len(items))
    finally:
        pool.shutdown(cancel_futures=True)  # so that an interrupt does not wait for the whole list


def check_names(rows: pd.DataFrame) -> None:
    """Raise ``ValueError`` unless there are rows, whose ids, and paths where read, are sound and occur once."""
    if not len(rows):
        raise ValueError("the list is empty: it needs at least one photo")
    for column in ("id", "path") if "path" in rows else ("id",):
        values = rows[column]
        if (values == "").any():
            raise ValueError(f"row {int((values == '').to_numpy().argmax()) + 1} has no {column}: fill it in")
        repeated = _repeated(values)
        if repeated is not None:
            raise ValueError(f"the {column} {repeated!r} occurs more than once: keep one row, or rename")
    controls = rows["id"].str.contains(r"[\x00-\x1f\x7f]", regex=True)
    if controls.any():
        raise ValueError(f"the id {rows['id'][controls].iloc[0]!r} holds a control character: rename it")
    if "path" not in rows:
        return
    unsafe = rows["path"].str.contains(photo_stores.UNSAFE_PATH, regex=True)
    if unsafe.any():
        raise ValueError(
            f"the path {rows['path'][unsafe].iloc[0]!r} escapes the photo root or is unsafe: give paths relative "
            "to the photo root, with '/' between folders and without '..'"
        )


def refuse_swapped(rows: pd.DataFrame) -> None:
    """Raise ``ValueError`` if the columns latitude and longitude look exchanged.

    They do when a tenth of the latitudes or more lie beyond ±90° and every row would be right the other way round.
    """
    latitude, longitude = np.abs(rows["latitude"].to_numpy()), np.abs(rows["longitude"].to_numpy())
    beyond = latitude > 90
    if 10 * beyond.sum() >= max(len(rows), 1) and (latitude[beyond] <= 180).all() and not (longitude > 90).any():
        first = rows[beyond].iloc[0]
        raise ValueError(
            f"photo {first['id']!r} has latitude {first['latitude']}, beyond ±90, and every row would be right with "
            "the columns exchanged: the headings latitude and longitude look swapped. If so, exchange them; if not, "
            "correct the values"
        )


def check_scenes(rows: pd.DataFrame) -> None:
    """Raise ``ValueError`` unless those of `SCENE_COLUMNS` that there are hold what a published table does, or ""."""
    for column in (name for name in SCENE_COLUMNS if name in rows):
        values = rows[column]
        if column in _SCENE_CLASSES:
            last = _SCENE_CLASSES[column] - 1
            valid, what = values.isin([str(label) for label in range(last + 1)]), f"a whole number from 0 to {last}"
        else:
            # Published probabilities exceed 1 by rounding.
            valid, what = pd.to_numeric(values, errors="coerce").between(0, 1 + 1e-6), "a probability from 0 to 1"
        wrong = ~valid & (values != "")
        if wrong.any():
            first = rows[wrong].iloc[0]
            raise ValueError(
                f"photo {first['id']!r} has the {column} {first[column]!r}: it must be {what}, or empty where unknown"
            )


def shown(names: Sequence[str] | pd.Series) -> str:
    """The first few of `names`, for errors.

    Examples
    --------
    >>> shown(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    "'a.jpg', 'b.jpg', 'c.jpg' and 2 more"
    """
    listed = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} and {len(names) - _NAMES_SHOWN} more"


def in_words(numbers: Mapping[str, int] | pd.Series) -> str:
    """Numbers by what they are of, for errors and headers.

    Examples
    --------
    >>> in_words({"dark": 3, "blurred": 2})
    '3 dark, 2 blurred'
    """
    return ", ".join(f"{number} {what}" for what, number in numbers.items())


def counted(names: Mapping[str, list[str]], named: bool = False) -> str:
    """Counts by reason, for errors and headers.

    Examples
    --------
    >>> counted({"truncated": ["a.jpg", "b.jpg"], "empty": ["c.jpg"]}, named=True)
    "2 truncated ('a.jpg', 'b.jpg'), 1 empty ('c.jpg')"
    """
    return ", ".join(
        f"{len(found)} {reason}" + (f" ({shown(found)})" if named else "") for reason, found in names.items()
    )


def _check(rows: pd.DataFrame, path: Path, last: str = "") -> str:
    """Check those columns of a list that were read, and that ids ascend from `last` on; give the last of them."""
    try:
        check_names(rows)
        _check_coordinates(rows)
        _check_text(rows)
        return _last_of_ascending(rows["id"], last)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_coordinates(rows: pd.DataFrame) -> None:
    for column, limit in _COORDINATES.items():
        if column not in rows:
            continue
        outside = ~(rows[column].abs() <= limit)  # also true of NaN
        if outside.any():
            first = rows[outside].iloc[0]
            raise ValueError(
                f"photo {first['id']!r} has {column} {first[column]}: it must be a number from -{limit} to {limit}"
            )


def _check_text(rows: pd.DataFrame) -> None:
    for column, is_valid, what in (
        ("split", lambda values: values.isin(SPLITS), f"one of {', '.join(SPLITS)}"),
        ("sha256", lambda values: values.str.fullmatch("[0-9a-f]{64}"), "64 hex digits"),
    ):
        if column in rows and not (valid := is_valid(rows[column])).all():
            first = rows[~valid].iloc[0]
            raise ValueError(f"photo {first['id']!r} has the {column} {first[column]!r}: it must be {what}")
    check_scenes(rows)


def _assigned_splits(rows: pd.DataFrame, seed: int, validation_share: float, test_share: float) -> pd.Series:
    if test_share == 1:  # takes all, whatever the default of the other is
        validation_share = 0
    shares = {"validation": validation_share, "test": test_share, "train": 1 - validation_share - test_share}
    shares = {name: 0.0 if abs(share) < 1e-9 else share for name, share in shares.items()}
    if not all(0 <= share <= 1 for share in shares.values()):
        raise ValueError(
            f"validation_share {validation_share} and test_share {test_share}: "
            "each must be from 0 to 1, and together 1 at most"
        )
    asked = [name for name in shares if shares[name] > 0]
    remainder = asked[-1]

    # The rows are sorted by id, so that a group's number follows from its smallest id and not from the order of rows.
    group, _ = pd.factorize(leakage.linked_groups(rows))
    sizes = np.bincount(group)
    if len(sizes) < len(asked):
        raise ValueError(
            f"the photos form {len(sizes)} group(s) that share no author and no place, too few for {len(asked)} "
            "splits: set validation_share or test_share to 0 (test_share 1 makes a list for evaluation only), or give "
            "the splits in a column 'split'"
        )
    first_ids = rows["id"].iloc[np.unique(group, return_index=True)[1]]
    keys = [hashlib.sha256(f"{seed} {first_id}".encode()).digest() for first_id in first_ids]
    order = sorted(range(len(sizes)), key=keys.__getitem__)

    lacking = {name: round(shares[name] * len(rows)) for name in asked if name != remainder}
    split_of = np.full(len(sizes), remainder, dtype=object)
    for number in order:
        size = int(sizes[number])
        name = next((name for name, lacks in lacking.items() if size <= lacks), None)
        if name is not None:
            split_of[number] = name
            lacking[name] -= size
        if not any(lacking.values()):
            break
    for empty in (name for name in asked if not (split_of == name).any()):
        giving = [name for name in asked if (split_of == name).sum() > 1]
        candidates = [number for number in order if split_of[number] in giving]
        split_of[min(candidates, key=sizes.__getitem__)] = empty
    return _text(pd.Series(split_of)).take(pa.array(group)).to_pandas()


def _text(values: pd.Series) -> pa.Array:
    """Values as text in Arrow's memory, "" where there are none."""
    array = pa.array(values if isinstance(values.dtype, pd.StringDtype) else values.fillna("").astype(str))
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return pc.fill_null(array.cast(pa.large_string()), "")


def _repeated(values: pd.Series) -> str | None:
    """The first value, in alphabetical order, that occurs more than once."""
    ordered = _text(values)
    if pc.all(pc.less(ordered[:-1], ordered[1:])).as_py():  # as the ids of a list are
        return None
    # Sorting takes a third of the memory of a hash table.
    ordered = ordered.take(pc.sort_indices(ordered))
    equal = pc.equal(ordered[1:], ordered[:-1])
    return ordered[pc.index(equal, True).as_py()].as_py() if pc.any(equal).as_py() else None


def _write_rows(parts: Iterable[pd.DataFrame], stream: BinaryIO | gzip.GzipFile) -> tuple[int, str]:
    """Write rows as CSV, and give their number and their fingerprint."""
    digest = hashlib.sha256()
    count, last, heading = 0, "", b""
    for part in parts:
        last = _last_of_ascending(part["id"], last)
        chunks = _csv(part)
        columns = next(chunks)
        if heading not in (b"", columns):
            raise ValueError(
                f"a part of the list has the columns {columns.decode().strip()}, those before it "
                f"{heading.decode().strip()}: give every part the same"
            )
        for chunk in chunks if heading else chain([columns], chunks):
            digest.update(chunk)
            stream.write(chunk)
        heading = columns
        count += len(part)
    return count, digest.hexdigest()


def _last_of_ascending(ids: pd.Series, last: str) -> str:
    """The last of `ids`, once they are sure to ascend from `last` on."""
    if not len(ids):
        return last
    values = _text(ids)
    before = pa.concat_arrays([pa.array([last], values.type), values[:-1]])
    falls = pc.index(pc.less(before, values), False).as_py()
    if falls >= 0:
        raise ValueError(
            f"the id {values[falls].as_py()!r} comes after {before[falls].as_py()!r}: sort the list by id, each once"
        )
    return values[-1].as_py()


def _csv(rows: pd.DataFrame) -> Iterator[bytes]:
    """Rows as CSV, in chunks. Quotes only where they are needed, which pyarrow's own writer cannot."""
    yield f"{','.join(rows.columns)}\n".encode()
    for start in range(0, len(rows), _ROWS_PER_CHUNK):
        columns = []
        for name in rows.columns:
            values = rows[name].iloc[start : start + _ROWS_PER_CHUNK]
            if name in _COORDINATES:
                columns.append(pc.cast(pa.array(values), pa.string()))
                continue
            text = _text(values).cast(pa.string())
            quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
            columns.append(pc.if_else(pc.match_substring_regex(text, '[",\r\n]'), quoted, text))
        columns[-1] = pc.binary_join_element_wise(columns[-1], "\n", "")
        lines = pc.binary_join_element_wise(*columns, ",")
        length = pc.sum(pc.binary_length(lines)).as_py()
        yield lines.buffers()[2][:length].to_pybytes()  # an Arrow array of text is its text, one after the other


@contextmanager
def _compressing(file: BinaryIO, path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    if path.suffix != ".gz":
        yield file
        return
    # Without a name and a time in it, equal lists are equal files; the hashes in a list hardly shrink, so 1 is enough.
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream:
        yield stream


class _Hashing(io.RawIOBase):
    """Hashes what is read of a list, after its header."""

    def __init__(self, stream: gzip.GzipFile | io.BufferedReader) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def comment(self) -> bytes:
        """The next line of the header, or nothing."""
        peeked = self.stream.peek(1)[:1]
        return self.stream.readline() if peeked == b"#" else b""

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.digest.update(data)
        return data

    def drain(self) -> None:
        """Read, and hash, what is left."""
        while self.read(1 << 20):
            pass

    def headings(self) -> bytes:
        """The first line of the rows."""
        line = self.stream.readline()
        self.digest.update(line)
        return line.rstrip(b"\r\n")


def _header(stream: _Hashing) -> dict[str, str]:
    header = {}
    while line := stream.comment():
        key, _, value = line[1:].decode(errors="replace").partition(":")
        header[key.strip()] = value.strip()
    return header


@contextmanager
def _opened(path: Path) -> Iterator[tuple[_Hashing, dict[str, str]]]:
    """A list, read up to its header; at the end, what was read of its rows must be what its fingerprint names."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise MissingList(_how_to_build(path)) from None
    with file, _Hashing(gzip.open(file) if path.suffix == ".gz" else file) as stream:
        header: dict[str, str] = {}
        problem = None
        try:
            header = _header(stream)
            try:
                yield stream, header
            except ValueError as error:  # but whether the bytes are those that were written comes first
                problem = error
                stream.drain()
            intact = header.get("fingerprint") == stream.digest.hexdigest()
        except (EOFError, zlib.error, gzip.BadGzipFile):
            intact = False
    if not intact:
        raise EditedList(
            f"{path} was edited by hand or damaged: its rows are not those that its fingerprint names. Restore it, "
            f"or build it again: {header.get('made by') or build_command(_dataset(path))}. "
            "To change rows, change the truth that it is built from"
        )
    if problem:
        raise problem


def _headings(stream: _Hashing, path: Path) -> list[str]:
    names = next(csv.reader([stream.headings().decode(errors="replace")]), [])
    known = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in names]
    if names != known or not set(COLUMNS) <= set(names):
        raise ValueError(f"{path} has the columns {', '.join(names)}: a list has {', '.join(COLUMNS)} in this order")
    return names


def _whole_rows(stream: _Hashing, path: Path) -> Iterator[bytes]:
    """Text of the rows, in blocks that end where a row does: at an end of a line that no quotes are open at."""
    left, text = b"", b"-"
    while text:
        text = stream.read(_BYTES_PER_PART)
        block = left + text
        end = block.rfind(b"\n") + 1 if text else len(block)
        quotes = block.count(b'"', 0, end)
        while quotes % 2 and text:  # line by line backwards, over which only the line's own quotes are counted
            line = block.rfind(b"\n", 0, end - 1) + 1
            quotes -= block.count(b'"', line, end)
            end = line
        left = block[end:]
        if len(left) > 2 * _BYTES_PER_PART:
            raise ValueError(
                f"{path} is damaged: a row is longer than {2 * _BYTES_PER_PART:,} bytes. Restore the list, or build it "
                "again"
            )
        if end:
            yield block[:end]


def _table(source: pa.NativeFile, names: list[str], path: Path, wanted: Collection[str] = ()) -> pd.DataFrame:
    """Parse rows, of the columns `names`; only those wanted, by default all."""
    types = {name: pa.float64() if name in _COORDINATES else pa.large_string() for name in names}
    try:
        table = pyarrow.csv.read_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=[name for name in names if name in wanted]
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged: {error}. Build it again: {build_command(_dataset(path))}") from None
    return table.to_pandas(split_blocks=True, self_destruct=True)


def _dataset(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def build_command(dataset: str) -> str:
    parameters = {"dataset": dataset} if is_embedded(dataset) else {"dataset": dataset, "photo_root": "DIR"}
    return manifests.command("01_data/make_list", parameters)


def _how_to_build(path: Path) -> str:
    name = _dataset(path)
    known = sorted({EMBEDDED, *map(_dataset, path.parent.glob("*.csv*"))} - {name})
    near = difflib.get_close_matches(name, known, n=1)
    parent, _, suffix = name.rpartition("-")
    notebook, command = "01_data/make_list", build_command(name)
    if parent and suffix in _NOTEBOOK_OF:
        notebook = _NOTEBOOK_OF[suffix]
        command = manifests.command(notebook, {"dataset": parent})
    return (
        f"there is no list {path} of dataset {name!r}. "
        + (f"Did you mean {near[0]!r}? " if near else "")
        + f"{notebook}.ipynb builds it: {command}"
    )
