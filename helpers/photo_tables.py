"""Read tables of photos in the headings that people use.

A table says of each photo where it was taken, and by a path, a URL or an id which photo that is: YFCC100M, MP-16,
OpenStreetView-5M, the published benchmarks, or a CSV file of one's own. Tables are read a piece at a time and kept in
columns. Rows that cannot be used are left out and counted by reason; the others stay.
"""

import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import ArrayLike, NDArray

from helpers import data_lists

LOCATORS = ("path", "url", "id")

NO_COORDINATES = "no coordinates"

_HEADINGS = {
    "path": "path file filename filepath image imagefile imagename imagepath img imgid imgname imgpath photo photopath",
    "latitude": "latitude lat gpslat gpslatitude",
    "longitude": "longitude lon lng long gpslon gpslng gpslong gpslongitude",
    "author": "author authorid creator creatorid owner ownerid ownernsid photographer uid user userid usernsid",
    "attribution": "attribution credit creatorusername ownername unickname usernickname username",
    "id": "id imageid photoid",
    "split": "split subset",
    "url": "url downloadurl imageurl imgurl originalurl photourl thumboriginalurl",
    "licence": "licence license licencename licensename",
    "country": "country countrycode",
    "region": "region",
    "captured_at": "capturedat datetaken timetaken",
    **{column: column.replace("_", "") for column in data_lists.SCENE_COLUMNS},
}
"""Spellings of headings that people use, in lower case without spaces, underscores and the like."""
_JSON_TEXTS = ("author", "attribution", "url", "licence", "country", "region", "captured_at")
_NEEDED = {"path": ("path", "latitude", "longitude"), "url": ("url",), "id": ("id", "latitude", "longitude")}

_FEWEST_BEYOND = 3  # latitudes beyond ±90° that show exchanged headings: fewer may be slips
_SEPARATORS = ",;\t"
_BLOCK = 1 << 24  # bytes that are read at a time, and the longest line
_MOST_TEXT = 1000  # characters of a text in a JSON
_LONGEST_ROW = 1 << 16  # bytes over which a quoted value may spread its lines
_MOST_BYTES = 1 << 34  # of a table, unpacked
_MOST_UNPACKED = 200  # bytes of text from one of a gzip; tables come to 30
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_EPOCH_MS = r"^[0-9]{12,13}$"  # from 1973 to 2286
_SUFFIX = r"([^/.][^/]*)\.[^/.]*$"  # what posixpath.splitext takes for one
_PHOTO_SUFFIX = r"(?i)\.(jpe?g|png|webp|tiff?|bmp)$"
_CONTROL = r"[\x00-\x1f\x7f]"
_URL = r"(?i)https?://[^/\x00-\x20][^\x00-\x1f\x7f]*"
_URL_AROUND_PATH = r"(?is)^https?://[^/?#]*/?([^?#]*).*$"
_POSITION_PROBLEMS = np.array(
    [
        "",
        "coordinates missing or no numbers",
        "latitude beyond ±90",
        "longitude beyond ±180",
        "0° N 0° E, which means unknown",
    ],
    dtype=object,
)

_WRONG_COLUMNS = "wrong number of columns"
_UNBALANCED = "unbalanced quotes"
_OPEN = "open quotes"  # that a later line may close
_NUL = "NUL bytes"


class PhotoTable(NamedTuple):
    """Photos of a table that can be used, and what cannot."""

    rows: pd.DataFrame
    """Columns under our names. Everything is text but the coordinates, which are float64 degrees."""
    left_out: dict[str, list[str]]
    """Names of rows that cannot be used, by reason: paths, ids, or ``line 7`` where there are none."""
    notes: list[str]
    """What was mended, in words."""


def read(path: Path, locates: str) -> PhotoTable:
    """Read where photos were taken from a table in the headings that people use.

    Parameters
    ----------
    path : Path
        A table with commas, semicolons or tabs, in UTF-8, or UTF-16 with its byte order mark, or one of these packed
        with gzip. Lines before the headings that begin with ``#`` are comments. Case, spaces and underscores in
        headings do not matter, and `_HEADINGS` lists the spellings; other columns are not read.
    locates : str
        The column that says which photo a row is about: ``path``, relative to the photo root; ``url``; or ``id``, for a
        table to be joined to one of URLs (:func:`joined`).

    Returns
    -------
    PhotoTable
        ``id``, ``latitude``, ``longitude``, ``author``, what `locates` names, and what else the table knows of
        ``attribution, split, url, licence, country, region, captured_at`` and `data_lists.SCENE_COLUMNS`. Where there
        is no id, it is the path or the URL's path without its suffix. A table of URLs may have no coordinates; they are
        NaN then.

    Raises
    ------
    ValueError
        If the file is no table, a needed column is missing or could be several, headings may be swapped, a scene is
        none, or no row can be used.

    Notes
    -----
    Left out are rows with the wrong number of columns, unbalanced quotes or NUL bytes, rows without two coordinates
    in range, and those at exactly 0° N 0° E, which devices write when they do not know. Of rows with the same id or
    URL the first is kept. Paths are not judged here: a table of one's own photos that names one twice is an error to
    mend.

    Headings of latitude and longitude that were exchanged, as in the published tables of Im2GPS, are put right: they
    were where a tenth of the latitudes or more lie beyond ±90° and every row is right the other way round, but for rows
    that are wrong both ways. Where these latitudes are one or two, they may as well be slips, and the table is refused.
    """
    if locates not in LOCATORS:
        raise ValueError(f"locates is {locates!r}: it must be one of {', '.join(LOCATORS)}")
    rows, left_out, notes = _columns_read(path, locates)
    rows = _identified(rows, locates)
    located = "latitude" in rows
    if located:
        rows, exchanged = _exchanged(rows, path)
        if exchanged:
            notes.append(f"the headings of latitude and longitude of {path.name} are swapped: they were exchanged")
    else:
        rows = rows.assign(latitude=np.nan, longitude=np.nan)
    problem = _problems(rows, locates, located)
    unusable = rows[problem != ""]
    for reason, those in unusable.groupby(problem[problem != ""]):
        names = those["path" if locates == "path" else "id"]
        left_out[str(reason)] = names.where(names != "", [f"row {number + 1}" for number in those.index]).tolist()
    if len(unusable):
        rows = rows[problem == ""].reset_index(drop=True)
    if not len(rows):
        what = f": {_counted(left_out)}. Mend them" if left_out else ": give one with rows below the headings"
        raise ValueError(f"the table {str(path)!r} has no row that can be used{what}")
    try:
        data_lists.check_scenes(rows)  # here, because a download would take days to come to the list
    except ValueError as error:
        raise ValueError(f"table {str(path)!r}: {error}") from None
    return PhotoTable(rows, left_out, notes)


def joined(urls: PhotoTable, truth: PhotoTable) -> PhotoTable:
    """Give the rows of a table of URLs the truth that another table has by id.

    Ids match with or without the suffix of a photo, because published tables have both.

    Parameters
    ----------
    urls, truth : PhotoTable
        Read with ``locates="url"`` and ``locates="id"``.

    Returns
    -------
    PhotoTable
        Ids and URLs of `urls`; everything else from `truth`, and from `urls` what `truth` does not know. Counted as
        left out are ids without truth (``no coordinates``) and ids of the truth without a URL (``no URL``).

    Raises
    ------
    ValueError
        If the two have no id in common.
    """
    wanted, known = (_keys(table.rows["id"]) for table in (urls, truth))
    found = pc.index_in(wanted, value_set=known)
    has_truth = pc.is_valid(found).to_numpy(zero_copy_only=False)
    if not has_truth.any():
        raise ValueError(
            f"the tables have no id in common: one has {urls.rows['id'].iloc[0]!r}, the other "
            f"{truth.rows['id'].iloc[0]!r}: give two that belong together"
        )
    rows = urls.rows[has_truth].reset_index(drop=True)
    facts = truth.rows.iloc[pc.drop_null(found).to_numpy(zero_copy_only=False)].reset_index(drop=True)
    for column in facts.columns.difference(["id", "url"]):
        known_only_here = facts[column] == ""
        rows[column] = facts[column].mask(known_only_here, rows[column]) if column in rows else facts[column]
    has_url = pc.is_in(known, value_set=wanted).to_numpy(zero_copy_only=False)
    left_out = merged(
        urls.left_out,
        truth.left_out,
        {NO_COORDINATES: urls.rows["id"][~has_truth].tolist(), "no URL": truth.rows["id"][~has_url].tolist()},
    )
    return PhotoTable(rows, left_out, [*urls.notes, *truth.notes])


def merged(*left_out: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Names by reason, from several.

    Examples
    --------
    >>> merged({"gone": ["a"]}, {"gone": ["b"], "empty": []})
    {'gone': ['a', 'b']}
    """
    together: dict[str, list[str]] = {}
    for reason, names in chain.from_iterable(part.items() for part in left_out):
        if names:
            together.setdefault(reason, []).extend(names)
    return together


def ids(names: pd.Series) -> pd.Series:
    """Paths without their suffixes, but where two differ in nothing else.

    Examples
    --------
    >>> ids(pd.Series(["a/1.jpg", "b/2.jpg", "b/2.png"])).tolist()
    ['a/1', 'b/2.jpg', 'b/2.png']
    """
    stems = pc.replace_substring_regex(pa.array(names, pa.string()), _SUFFIX, r"\1").to_pandas()
    found = pd.Series(stems.to_numpy(), names.index, names.dtype)
    # Again, because a name that keeps its suffix may be what another is without its own: a.jpg, a.png, a.jpg.jpg.
    while (shared := found.duplicated(keep=False) & (found != names)).any():
        found = found.mask(shared, names)
    return found


def from_json(document: bytes) -> dict[str, Any]:
    """What a JSON file beside a photo says of it, in the headings that people use.

    Parameters
    ----------
    document : bytes
        An object that holds latitude and longitude, itself or in an object within it.

    Returns
    -------
    dict
        ``latitude`` and ``longitude`` in degrees, and as text what else is known of ``author, attribution, url,
        licence, country, region, captured_at``.

    Raises
    ------
    ValueError
        If it is no such object; the message is a reason to count by: ``broken JSON``, ``no coordinates``, or what is
        wrong with the coordinates.

    Examples
    --------
    >>> from_json(b'{"country": "FR", "position": {"lat": 48.5, "lng": "2.25"}}')
    {'country': 'FR', 'latitude': 48.5, 'longitude': 2.25}
    """
    try:
        record = json.loads(document)
    except (ValueError, RecursionError):
        raise ValueError("broken JSON") from None
    if not isinstance(record, dict):
        raise ValueError("broken JSON")
    known: dict[str, Any] = {}
    for values in (record, *(value for value in record.values() if isinstance(value, dict))):
        simple = {key: value for key, value in values.items() if type(value) in (str, int, float)}
        known = {column: simple[headings[0]] for column, headings in _matches(list(simple)).items()} | known
    if not {"latitude", "longitude"} <= known.keys():
        raise ValueError(NO_COORDINATES)
    try:
        latitude, longitude = float(known["latitude"]), float(known["longitude"])
    except (ValueError, OverflowError):
        latitude = longitude = np.nan
    problem = position_problems(latitude, longitude).item()
    if problem:
        raise ValueError(problem)
    texts = {
        column: re.sub(_CONTROL, " ", str(known[column]))[:_MOST_TEXT] for column in known if column in _JSON_TEXTS
    }
    if "captured_at" in texts:
        texts["captured_at"] = _times(pa.chunked_array([[texts["captured_at"]]]))[0].as_py()
    return texts | {"latitude": latitude, "longitude": longitude}


def position_problems(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.object_]:
    """What is wrong with positions in degrees, ``""`` for nothing; in the shape of the coordinates.

    Examples
    --------
    >>> position_problems([48.5, 95, 0], [2.25, 2, 0]).tolist()
    ['', 'latitude beyond ±90', '0° N 0° E, which means unknown']
    """
    latitude, longitude = np.asarray(latitude), np.asarray(longitude)
    conditions = [
        np.isnan(latitude) | np.isnan(longitude),
        np.abs(latitude) > 90,
        np.abs(longitude) > 180,
        (latitude == 0) & (longitude == 0),
    ]
    # Numbers first: texts of this length would take half a GiB for five million rows.
    return np.asarray(_POSITION_PROBLEMS[np.select(conditions, range(1, 5))], dtype=object)


class _Layout(NamedTuple):
    """How the rows of a table are to be read."""

    found: dict[str, int]
    """Number of each of our columns."""
    columns: int
    separator: str
    has_headings: bool = True


class _BadLines:
    """Lines that are no rows, by reason."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def add(self, reason: str, line: int) -> None:
        self.lines.setdefault(reason, []).append(f"line {line}")


def _columns_read(path: Path, locates: str) -> tuple[pd.DataFrame, dict[str, list[str]], list[str]]:
    """The columns of a table that we know, what is no row of it, and notes."""
    bad = _BadLines()
    notes: list[str] = []
    try:
        with _unpacked(path) as stream:
            pieces = _pieces(stream)
            first = next(pieces, b"")
            prelude = re.match(rb"(?:(?:#[^\n]*|[ \t\r]*)\n)*", first)
            start = prelude.end() if prelude else 0
            heading = first[start : first.find(b"\n", start) + 1]
            layout = _layout(heading, path, locates)
            line = first.count(b"\n", 0, start) + 1
            if layout.has_headings:
                start, line = start + len(heading), line + 1
            else:
                notes.append(f"{path.name} has no headings: it was read as ids and URLs")
            tables = [_parsed(rows, at, layout, bad) for rows, at in _sound(pieces, first[start:], line, layout, bad)]
    except OSError as error:
        raise ValueError(f"table {str(path)!r} cannot be read: {error.strerror or error}") from None
    except (pa.ArrowInvalid, UnicodeError, csv.Error, EOFError, zlib.error, _Refused) as error:
        raise ValueError(
            f"table {str(path)!r} is no sound CSV file in UTF-8: {error}. Mend or export it again"
        ) from None
    empty = pa.table({name: pa.array([], pa.string()) for name in layout.found})
    table = pa.concat_tables(tables) if tables else _typed(empty)
    return table.to_pandas(), bad.lines, notes


class _Refused(ValueError):
    """Bytes that are not read as a table."""


@contextmanager
def _unpacked(path: Path) -> Iterator[Callable[[int], bytes]]:
    """Function that reads the next bytes of a file, unpacked where it is a gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        unpacked: BinaryIO = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
        total = 0

        def read_next(size: int) -> bytes:
            nonlocal total
            data = unpacked.read(size)
            total += len(data)
            if total > _MOST_BYTES or (packed and total > _BLOCK and total > _MOST_UNPACKED * file.tell()):
                raise _Refused(f"it unpacks to more than {total >> 20} MiB, which no table does")
            return data

        yield read_next


def _pieces(read_next: Callable[[int], bytes]) -> Iterator[bytes]:
    """Text in UTF-8 without a byte order mark, in pieces of whole lines."""
    rest = b""
    for block in _in_utf8(read_next):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        elif len(rest) > _BLOCK:
            raise _Refused(f"it has a line of more than {_BLOCK >> 20} MiB")
        else:
            rest += block
    if rest:
        yield rest + b"\n"


def _in_utf8(read_next: Callable[[int], bytes]) -> Iterator[bytes]:
    block = read_next(_BLOCK)
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")()
        while block:
            yield decoder.decode(block).encode()
            block = read_next(_BLOCK)
        decoder.decode(b"", final=True)
        return
    if block[:4].count(0) >= 2:
        raise _Refused("it looks like UTF-16 or UTF-32 without the mark that says so")
    block = block.removeprefix(codecs.BOM_UTF8)
    while block:
        yield block
        block = read_next(_BLOCK)


def _layout(heading: bytes, path: Path, locates: str) -> _Layout:
    text = heading.decode(errors="replace").strip("\r\n")
    fields, separator = max(
        ((next(csv.reader([text], delimiter=separator), []), separator) for separator in _SEPARATORS),
        key=lambda pair: len(pair[0]),  # the first of equals
    )
    addresses = [number for number, field in enumerate(fields) if re.match("https?://", field)]
    if locates == "url" and len(addresses) == 1 and len(fields) <= 2:
        found = {"url": addresses[0]} | ({"path": 1 - addresses[0]} if len(fields) == 2 else {})
        return _Layout(found, len(fields), separator, has_headings=False)
    found = _recognised(fields, path, locates)
    return _Layout(found, len(fields), separator)


def _recognised(headings: list[str], path: Path, locates: str) -> dict[str, int]:
    """Our column names, and the numbers of the columns of a table that they mean."""
    found = {}
    for column, matches in _matches(headings).items():
        if column == "path" and locates != "path" and "id" in found:
            continue
        exact = [heading for heading in matches if _plain(heading) == _plain(column)]
        if len(matches) > 1 and len(exact) != 1:
            raise ValueError(
                f"table {str(path)!r} has several columns that could be {column}: {', '.join(matches)}. Rename the "
                f"right one to {column}, or remove the others"
            )
        found[column] = headings.index((exact or matches)[0])
    if "attribution" in found:
        found.setdefault("author", found["attribution"])  # a name tells people apart where no id does
    needed = _NEEDED[locates]
    if found.keys() & {"latitude", "longitude"}:
        needed = tuple(dict.fromkeys((*needed, "latitude", "longitude")))
    missing = [column for column in needed if column not in found and (column != "id" or "path" not in found)]
    if missing:
        raise ValueError(
            f"table {str(path)!r} has no column for {', '.join(missing)}. It has: {', '.join(headings) or 'nothing'}. "
            f"It needs {', '.join(needed[:-1])}{' and ' if needed[:-1] else ''}{needed[-1]}"
        )
    return found


def _matches(headings: list[str]) -> dict[str, list[str]]:
    """Headings that could mean each of our columns; ids first."""
    found = {}
    for column in sorted(_HEADINGS, key="id".__ne__):
        matches = [heading for heading in headings if _plain(heading) in _HEADINGS[column].split()]
        if matches:
            found[column] = matches
    return found


def _plain(heading: str) -> str:
    return re.sub("[^a-z0-9]", "", heading.lower())


def _sound(
    pieces: Iterator[bytes], first: bytes, line: int, layout: _Layout, bad: _BadLines
) -> Iterator[tuple[bytes, int]]:
    """Pieces of a table in which every quoted value ends, and the number of the line that each begins with."""
    rest = b""
    last = False
    following = chain([first], pieces)
    piece = next(following, b"")
    while not last:
        coming = next(following, b"")
        last = not coming
        text = rest + piece
        _check_encoding(text, line)
        if b"\0" in text or _has_open_quotes(text):
            rows, rest = _mended(text, line, layout, bad, last)
            yield rows, 0
        else:
            rest = b""
            yield text, line
        line += text.count(b"\n") - rest.count(b"\n")
        piece = coming


def _check_encoding(text: bytes, line: int) -> None:
    """Refuse what is not in UTF-8, also in columns that are not read: pyarrow would drop such rows in silence."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line += text.count(b"\n", 0, error.start)
        raise _Refused(f"line {line} is not in UTF-8") from None


def _has_open_quotes(text: bytes) -> bool:
    """Whether a line holds an odd number of quotes."""
    if b'"' not in text:
        return False
    characters = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(characters == ord('"'))
    ends = np.searchsorted(quotes, np.flatnonzero(characters == ord("\n")))
    return bool((np.diff(ends, prepend=0) % 2).any())


def _mended(text: bytes, line: int, layout: _Layout, bad: _BadLines, last: bool) -> tuple[bytes, bytes]:
    """The rows of a text, also those of several lines, without what is no row; and the begin of a row that may go on.

    A quote that nothing closes would swallow all rows up to the next one: such a line is left out by itself.
    """
    lines = re.findall(rb"[^\n]*\n", text)
    good: list[bytes] = []
    number = 0
    while number < len(lines):
        problem, taken = _row_problem(lines, number, layout)
        if problem == _OPEN and not last and sum(map(len, lines[number : number + taken])) < _LONGEST_ROW:
            return b"".join(good), b"".join(lines[number:])
        if problem:
            bad.add(_UNBALANCED if problem == _OPEN or taken > 1 else problem, line + number)
            taken = 1
        else:
            good += lines[number : number + taken]
        number += taken
    return b"".join(good), b""


def _row_problem(lines: list[bytes], number: int, layout: _Layout) -> tuple[str, int]:
    """What is wrong with the row that begins in a line, ``""`` for nothing, and how many lines it takes."""
    if not lines[number].strip():
        return "", 1
    if b"\0" in lines[number]:
        return _NUL, 1
    reader = csv.reader(_following(lines, number), delimiter=layout.separator, strict=True)
    try:
        fields = next(reader)
    except csv.Error as error:
        # More lines can end a quoted value, and mend nothing else.
        return _OPEN if "end of data" in str(error) else _UNBALANCED, reader.line_num
    taken = reader.line_num
    if any(b"\0" in line for line in lines[number : number + taken]):
        return _NUL, taken
    return "" if len(fields) == layout.columns else _WRONG_COLUMNS, taken


def _following(lines: list[bytes], number: int) -> Iterator[str]:
    """Lines from a number on, as long as they may be one row; the reader asks for no more than it needs."""
    size = 0
    while number < len(lines) and size < _LONGEST_ROW:
        size += len(lines[number])
        # Any byte is a character of Latin-1, so that only the structure is judged.
        yield lines[number].decode("latin-1")
        number += 1


def _parsed(text: bytes, line: int, layout: _Layout, bad: _BadLines) -> pa.Table:
    """Rows of a text as a table of the columns that we know; `line` is the number of its first."""
    names = [str(number) for number in range(layout.columns)]
    included = [names[number] for number in dict.fromkeys(layout.found.values())]

    def left_out(row: Any) -> str:
        bad.add(_WRONG_COLUMNS, line + row.number - 1)
        return "skip"

    table = pyarrow.csv.read_csv(
        pa.BufferReader(text or b"\n"),
        # One thread, because only then rows have numbers; the block, because a row may be as long as that.
        pyarrow.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 1),
        pyarrow.csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True, invalid_row_handler=left_out),
        pyarrow.csv.ConvertOptions(include_columns=included, column_types=dict.fromkeys(included, pa.string())),
    )
    return _typed(pa.table({column: table[names[number]] for column, number in layout.found.items()}))


def _typed(table: pa.Table) -> pa.Table:
    for number, name in enumerate(table.column_names):
        values = pc.utf8_trim_whitespace(table[name])
        if name in ("latitude", "longitude"):
            is_number = pc.match_substring_regex(values, _NUMBER)
            values = pc.cast(pc.if_else(is_number, pc.utf8_ltrim(values, "+"), None), pa.float64())
        elif name == "captured_at":
            values = _times(values)
        elif name == "path":
            values = pc.replace_substring_regex(pc.replace_substring(values, "\\", "/"), r"^\./", "")
        table = table.set_column(number, name, values)
    return table


def _times(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in ISO 8601 where they are milliseconds since 1970; others as they are."""
    is_epoch = pc.match_substring_regex(values, _EPOCH_MS)
    if not pc.any(is_epoch).as_py():
        return values
    moments = pc.cast(pc.cast(pc.if_else(is_epoch, values, None), pa.int64()), pa.timestamp("ms"))
    return pc.coalesce(pc.strftime(pc.cast(moments, pa.timestamp("s"), safe=False), "%Y-%m-%dT%H:%M:%SZ"), values)


def _identified(rows: pd.DataFrame, locates: str) -> pd.DataFrame:
    """Rows with an id and an author."""
    if "id" not in rows:
        names = rows["path"] if "path" in rows else rows["url"].str.replace(_URL_AROUND_PATH, r"\1", regex=True)
        rows = rows.assign(id=ids(names))
    if "author" not in rows:
        rows = rows.assign(author="")
    return rows.drop(columns="path") if "path" in rows and locates != "path" else rows


def _exchanged(rows: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, bool]:
    """Rows with latitude and longitude exchanged where their headings were, and whether they were."""
    latitude, longitude = np.abs(rows["latitude"].to_numpy()), np.abs(rows["longitude"].to_numpy())
    # A row that is wrong both ways says nothing.
    judged = (latitude <= 180) & (longitude <= 180) & ~((latitude > 90) & (longitude > 90))
    beyond = judged & (latitude > 90)
    if 10 * beyond.sum() < max(judged.sum(), 1) or (judged & (longitude > 90)).any():
        return rows, False
    if beyond.sum() < _FEWEST_BEYOND:
        first = rows[beyond].iloc[0]
        raise ValueError(
            f"row {first['id']!r} of the table {str(path)!r} has latitude {first['latitude']}, beyond ±90, and the "
            "rows would be right with the columns exchanged: the headings latitude and longitude look swapped. If so, "
            "exchange them; if not, correct the values"
        )
    return rows.rename(columns={"latitude": "longitude", "longitude": "latitude"}), True


def _problems(rows: pd.DataFrame, locates: str, located: bool) -> pd.Series:
    """What is wrong with each row, ``""`` for nothing."""
    problem = pd.Series("", index=rows.index, dtype=object)
    if located:
        problem[:] = position_problems(rows["latitude"], rows["longitude"])
    if locates == "path":
        return problem
    if locates == "url":
        problem[~rows["url"].str.fullmatch(_URL)] = "no http or https URL"
    problem[rows["id"].str.contains(_CONTROL, regex=True)] = "id with a control character"
    problem[rows["id"] == ""] = "no id"
    for column in ("url", "id") if locates == "url" else ("id",):
        usable = rows[column][problem == ""]
        problem[usable.index[usable.duplicated()]] = f"the {column} of an earlier row"
    return problem


def _keys(names: pd.Series) -> pa.Array:
    return pc.replace_substring_regex(pa.array(names, pa.string()), _PHOTO_SUFFIX, "")


def _counted(left_out: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {reason} ({names[0]!r})" for reason, names in left_out.items())
