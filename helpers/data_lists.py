"""Build, write, read and verify data lists.

A data list says which photos a dataset has, where each was taken, which split it belongs to, and the hash of its
bytes. It is a CSV file sorted by ``id``, under a commented header that names its source, its licence and how it was
made, with a fingerprint of the rows. Building and reading are different calls, and reading never writes.
"""

import csv
import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from helpers import cells, manifests, metrics, paths, progress

COLUMNS = ("id", "path", "latitude", "longitude", "author", "split", "sha256")
OPTIONAL_COLUMNS = ("url", "licence", "country", "region", "captured_at")
SPLITS = ("train", "validation", "test")
EMBEDDED = "toy-earth"
"""The dataset that needs no photos of the user's; ``toy-earth-<anything>`` is one too, of another size or seed."""

_PLACE_LEVEL = 13  # S2 cells of about 1.1 km
_NEAR_KM = 1.0
_COORDINATES = {"latitude": 90, "longitude": 180}
# Not relative to the photo root, or a trap for a shell, a log or another operating system.
_UNSAFE_PATH = r"^/|/$|//|(?:^|/)\.\.?(?:/|$)|^[A-Za-z]:|\\|[\x00-\x1f\x7f]"
_NAMES_SHOWN = 3

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
        Columns ``id, path, latitude, longitude, author, sha256`` and where known ``url, licence, country, region,
        captured_at``, in any order. ``path`` is relative to the photo root, ``author`` is empty where unknown. A column
        ``split`` is taken as it is; `leakage` then says what it shares.
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
        coordinate is missing or out of range, columns look swapped, or there are too few groups for the splits.

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
    rows = pd.DataFrame(index=pd.RangeIndex(len(photos)))
    for column in (*COLUMNS, *OPTIONAL_COLUMNS):
        if column in _COORDINATES:
            rows[column] = pd.to_numeric(photos[column], errors="coerce").to_numpy(np.float64)
        elif column in photos:
            rows[column] = photos[column].fillna("").astype(str).to_numpy()
    rows = rows.sort_values("id", ignore_index=True)
    check_names(rows)
    refuse_swapped(rows)
    _check_coordinates(rows)
    if "split" not in rows:
        splits = _assigned_splits(rows, seed, validation_share, test_share)
        rows.insert(COLUMNS.index("split"), "split", splits)
    rows = rows.drop(columns=[name for name in OPTIONAL_COLUMNS if name in rows and (rows[name] == "").all()])
    _check_text(rows)
    return rows


def leakage(rows: pd.DataFrame) -> dict[str, int | float]:
    """What the splits of a list share, which makes a test easier than it looks.

    Returns
    -------
    dict
        Numbers of ``authors in several splits`` and ``places in several splits`` (S2 cells of level 13); photos in the
        ``largest linked group``, which authors and places tie together; and, as a share from 0 to 1 of the validation
        and test photos, those ``within 1 km of a training photo``.
    """
    place = _places(rows)
    known = (rows["author"] != "").to_numpy()
    in_training = (rows["split"] == "train").to_numpy()
    near = 0.0
    if in_training.any() and not in_training.all():
        vectors = metrics.unit_vectors(rows["latitude"], rows["longitude"])
        distance, _ = cKDTree(vectors[in_training]).query(vectors[~in_training], workers=-1)
        near = float((distance <= 2 * np.sin(_NEAR_KM / metrics.EARTH_RADIUS_KM / 2)).mean())
    return {
        "authors in several splits": int((rows[known].groupby("author")["split"].nunique() > 1).sum()),
        "places in several splits": int((rows.groupby(place)["split"].nunique() > 1).sum()),
        "largest linked group": int(np.bincount(_linked(rows)).max()),
        "within 1 km of a training photo": round(near, 4),
    }


def write(rows: pd.DataFrame, header: Mapping[str, object], path: Path) -> None:
    """Write a list: its header, the number of rows, their fingerprint, and the rows.

    Parameters
    ----------
    rows : DataFrame
        What `build` returned.
    header : mapping
        What to know about the list, such as ``dataset``, ``source``, ``licence`` and ``made by``.
    path : Path
        ``data-lists/<dataset>.csv``; replaced in one move.
    """
    body = _csv(rows)
    lines = {**header, "rows": len(rows), "fingerprint": hashlib.sha256(body).hexdigest()}
    comments = "".join(f"# {key}: {' '.join(str(value).split())}\n" for key, value in lines.items())
    with paths.replacing(path) as temporary:
        temporary.write_bytes(comments.encode() + body)


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
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingList(_how_to_build(path)) from None
    header, body = _parted(content)
    if header.get("fingerprint") != hashlib.sha256(body).hexdigest():
        raise EditedList(
            f"{path} was edited by hand or damaged: its rows are not those that its fingerprint names. Restore it, or "
            f"build it again: {header.get('made by') or build_command(path.stem)}. "
            "To change rows, change the truth that it is built from"
        )
    rows = _rows(body, path)
    try:
        check_names(rows)
        _check_coordinates(rows)
        _check_text(rows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    rows.attrs.update(header)
    return rows


def verify(rows: pd.DataFrame, photo_root: Path) -> None:
    """Check that every photo of a list is below `photo_root` with the bytes that the list names.

    Raises
    ------
    ValueError
        If a path leaves the photo root, be it through a symbolic link.
    MissingPhotos
        If a photo is not there.
    ChangedPhoto
        If the bytes of a photo are not those that the list names.
    """
    locate = locator(photo_root)

    def digest(path: str) -> str | None:
        try:
            with open(locate(path), "rb", buffering=0) as file:
                return hashlib.sha256(file.read()).hexdigest()
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


def locator(photo_root: Path) -> Callable[[str], str]:
    """Function that gives the file of a photo, for the path that a list has for it.

    The function raises ``ValueError`` if the path leaves the photo root, be it through a symbolic link.
    """
    root = os.path.join(os.path.realpath(photo_root), "")

    def checked(file: str, path: str) -> str:
        if not os.path.join(file, "").startswith(root):
            raise ValueError(
                f"photo {path!r} escapes the photo root {photo_root}: move the photo below it and correct the path"
            )
        return file

    @functools.cache  # the folders are few, the photos many
    def real_folder(folder: str) -> str:
        return checked(os.path.realpath(os.path.join(root, folder)), folder)

    def locate(path: str) -> str:
        folder, slash, name = path.rpartition("/")
        file = f"{real_folder(folder or slash)}/{name}"
        return checked(os.path.realpath(file), path) if name == ".." or os.path.islink(file) else file

    return locate


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
    """Raise ``ValueError`` unless there are rows, whose ids and paths are sound and occur once."""
    if not len(rows):
        raise ValueError("the list is empty: it needs at least one photo")
    for column in ("id", "path"):
        values = rows[column]
        if (values == "").any():
            raise ValueError(f"row {int((values == '').to_numpy().argmax()) + 1} has no {column}: fill it in")
        if values.duplicated().any():
            raise ValueError(
                f"the {column} {values[values.duplicated()].iloc[0]!r} occurs more than once: keep one row, or rename"
            )
    controls = rows["id"].str.contains(r"[\x00-\x1f\x7f]", regex=True)
    if controls.any():
        raise ValueError(f"the id {rows['id'][controls].iloc[0]!r} holds a control character: rename it")
    unsafe = rows["path"].str.contains(_UNSAFE_PATH, regex=True)
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


def shown(names: Sequence[str] | pd.Series) -> str:
    """The first few of `names`, for errors.

    Examples
    --------
    >>> shown(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    "'a.jpg', 'b.jpg', 'c.jpg' and 2 more"
    """
    listed = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return listed if len(names) <= _NAMES_SHOWN else f"{listed} and {len(names) - _NAMES_SHOWN} more"


def _check_coordinates(rows: pd.DataFrame) -> None:
    for column, limit in _COORDINATES.items():
        outside = ~(rows[column].abs() <= limit)  # also true of NaN
        if outside.any():
            first = rows[outside].iloc[0]
            raise ValueError(
                f"photo {first['id']!r} has {column} {first[column]}: it must be a number from -{limit} to {limit}"
            )


def _check_text(rows: pd.DataFrame) -> None:
    for column, valid, what in (
        ("split", rows["split"].isin(SPLITS), f"one of {', '.join(SPLITS)}"),
        ("sha256", rows["sha256"].str.fullmatch("[0-9a-f]{64}"), "64 hex digits"),
    ):
        if not valid.all():
            first = rows[~valid].iloc[0]
            raise ValueError(f"photo {first['id']!r} has the {column} {first[column]!r}: it must be {what}")


def _assigned_splits(rows: pd.DataFrame, seed: int, validation_share: float, test_share: float) -> NDArray[np.object_]:
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
    group, _ = pd.factorize(_linked(rows))
    sizes = np.bincount(group)
    if len(sizes) < len(asked):
        raise ValueError(
            f"the photos form {len(sizes)} group(s) that share no author and no place, too few for {len(asked)} "
            "splits: set validation_share or test_share to 0 (test_share 1 makes a list for evaluation only), or give "
            "the splits in a column 'split'"
        )
    first_ids = rows["id"].to_numpy(dtype=object)[np.unique(group, return_index=True)[1]]
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
    return split_of[group]


def _linked(rows: pd.DataFrame) -> NDArray[np.int32]:
    """Number of the group of each photo: what authors and places link, directly or through others."""
    authors, _ = pd.factorize(rows["author"].where(rows["author"] != "", None))  # -1 where unknown
    places, _ = pd.factorize(_places(rows))
    known = authors >= 0
    first_place = authors.max(initial=-1) + 1
    nodes = first_place + places.max() + 1
    edges = (np.ones(known.sum(), dtype=np.int8), (authors[known], first_place + places[known]))
    _, group_of_node = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
    return group_of_node[first_place + places]


def _places(rows: pd.DataFrame) -> NDArray[np.uint64]:
    """S2 cells of `_PLACE_LEVEL`, as the leading bits of the ids."""
    leaves = cells.leaf_ids(rows["latitude"].to_numpy(), rows["longitude"].to_numpy())
    return leaves >> np.uint64(2 * (30 - _PLACE_LEVEL) + 1)


def _csv(rows: pd.DataFrame) -> bytes:
    """Rows as CSV. Quotes only where they are needed, which pyarrow's own writer cannot; no Python loop over cells."""
    columns = []
    for name in rows.columns:
        if name in _COORDINATES:
            columns.append(pc.cast(pa.array(rows[name]), pa.string()))
            continue
        text = pa.array(rows[name], pa.string())
        quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
        columns.append(pc.if_else(pc.match_substring_regex(text, '[",\r\n]'), quoted, text))
    lines = pc.binary_join_element_wise(*columns, ",").to_pylist()
    return "\n".join([",".join(rows.columns), *lines, ""]).encode()


def _parted(content: bytes) -> tuple[dict[str, str], bytes]:
    """Header and rows of a list."""
    header = {}
    start = 0
    while content.startswith(b"#", start):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        key, _, value = content[start + 1 : end].decode(errors="replace").partition(":")
        header[key.strip()] = value.strip()
        start = end + 1
    return header, content[start:]


def _rows(body: bytes, path: Path) -> pd.DataFrame:
    names = next(csv.reader([body[: body.find(b"\n")].decode(errors="replace")]), [])
    known = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in names]
    if names != known or not set(COLUMNS) <= set(names):
        raise ValueError(f"{path} has the columns {', '.join(names)}: a list has {', '.join(COLUMNS)} in this order")
    types = {name: pa.float64() if name in _COORDINATES else pa.string() for name in names}
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(body), convert_options=pyarrow.csv.ConvertOptions(column_types=types)
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged: {error}. Build it again: {build_command(path.stem)}") from None
    return table.to_pandas()


def build_command(dataset: str) -> str:
    parameters = {"dataset": dataset} if is_embedded(dataset) else {"dataset": dataset, "photo_root": "DIR"}
    return manifests.command("01_data/make_list", parameters)


def _how_to_build(path: Path) -> str:
    known = sorted({EMBEDDED, *(file.stem for file in path.parent.glob("*.csv"))} - {path.stem})
    near = difflib.get_close_matches(path.stem, known, n=1)
    return (
        f"there is no list {path} of dataset {path.stem!r}. "
        + (f"Did you mean {near[0]!r}? " if near else "")
        + f"01_data/make_list.ipynb builds it: {build_command(path.stem)}"
    )
