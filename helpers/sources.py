"""Find the photos that a source offers: a table of URLs, a web index, a dataset repository, photos that are here.

Finding fetches tables, pages and headers, but no photo from elsewhere. What cannot be used is counted by reason.
"""

import asyncio
import difflib
import functools
import html
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pandas as pd

from helpers import cluster, data_lists, fetch, photo_stores, photo_tables, photos, web
from helpers.download import Found

KINDS = ("auto", "table", "index", "repository", "photos")

_TABLE = re.compile(r"\.(csv|tsv|txt)(\.gz)?$", re.IGNORECASE)
_PHOTO_OR_JSON = (*photos.SUFFIXES, ".json")
_SPLITS = ("train", "test")
_MOST_ARCHIVES = 10_000  # of a split, numbered from 00
_METADATA = {split: f"{split}.csv" for split in _SPLITS}
_ABSENT = (404, 410)
_REFUSALS = (*_ABSENT, 400, 401, 403, 405, 501)  # what a server may say to HEAD that has no such table
_MAX_JSON_BYTES = 1 << 20
_MOST_TABLE_BYTES = 1 << 34
_SECONDS_FOR_A_PAGE = 3600.0  # a page may be long and the way to it slow
_PHOTOS_PER_TASK = 5_000

# A folder of a million photos with their JSON makes a page of 200 MB.
_MAX_PAGE_BYTES = 1 << 29
_MOST_FOLDERS = 100_000
_DEEPEST = 16
_PAGES_AT_ONCE = 8
# Bounded, so that a page of tags which never end takes no longer than any other.
_HREF = re.compile(
    r"<a\s[^<>]{0,200}?href\s*=\s*(\"[^\"<>]{0,4000}\"|'[^'<>]{0,4000}'|[^\s\"'<>]{1,4000})", re.IGNORECASE
)
_PLAIN_NAME = re.compile(r"[\w.~-]*[\w~-][\w.~-]*/?", re.ASCII)  # and so no "..": most links are such
_OUTSIDE = "link that leaves the index"


def find(source: str, truth: str = "", kind: str = "auto") -> Found:
    """Find the photos that a source offers.

    Parameters
    ----------
    source : str
        By `kind`; a path, or an ``http`` or ``https`` URL. ``toy-earth`` stands for the photos of its data list.
    truth : str
        Path or URL of a table that says where the photos were taken, if `source` does not.
    kind : str
        ``table``: a table with a column of URLs, and the coordinates in it or, by id, in `truth`. ``index``: a web
        index that lists folders, photos and beside each photo a JSON of the same name with its position.
        ``repository``: a URL or folder with ``train.csv``, ``test.csv`` and zips ``images/train/00.zip`` ..., as
        OpenStreetView-5M has them. ``photos``: a folder, zip, tar or folder of shards on this machine; positions come
        from `truth` by path, or from a JSON beside the photo, or from EXIF. ``auto``: whichever it is.

    Returns
    -------
    Found

    Raises
    ------
    ValueError
        If there is no such source, it is of none of these kinds, or it has no photo that can be used.
    MissingList
        If ``toy-earth`` has no data list.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        raise ValueError(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}" + (f" ({near[0]}?)" if near else ""))
    if not source:
        raise ValueError("the source is empty: give a table, a folder, an archive or a URL")
    if data_lists.is_embedded(source):
        return _embedded(source, truth)
    notes = []
    if kind == "auto":
        kind, why = _guessed(source)
        notes.append(f"{web.without_password(source)} was taken as {kind}: {why}")
    find_in: dict[str, Callable[[str, str], Found]] = {
        "table": _table,
        "index": _index,
        "repository": _repository,
        "photos": _photos,
    }
    if truth and kind in ("index", "repository"):
        raise ValueError(f"a source of kind {kind} says itself where its photos are: leave out truth {truth!r}")
    found = find_in[kind](source, truth)
    return replace(found, notes=notes + found.notes)


def shown(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a notebook as they may be written down: without the passwords of addresses."""
    return {name: web.without_password(value) if type(value) is str else value for name, value in parameters.items()}


def files(*given: str) -> dict[str, Path]:
    """Those of the sources and truths `given` that are files on this machine, by their names."""
    paths = [Path(source).expanduser() for source in given if source and not _is_url(source)]
    return {path.name: path for path in paths if path.is_file()}


def _embedded(source: str, truth: str) -> Found:
    """Photos of the embedded dataset's list, rendered where they are absent."""
    if truth:
        raise ValueError(f"{source} knows where its photos are: leave out truth {truth!r}")
    rows = data_lists.read(source)
    photo_root = fetch.ensure(rows, source)
    return Found("photos", rows.drop(columns="sha256"), photo_root, local=True, notes=[f"the data list of {source}"])


def _guessed(source: str) -> tuple[str, str]:
    """Kind of a source, and why."""
    if _is_url(source):
        name = urlsplit(source).path
        if _TABLE.search(name):
            return "table", "the URL ends as one"
        if photo_stores.ARCHIVE.search(name):
            raise ValueError(
                f"{web.without_password(source)} is an archive on another machine: fetch it, and give its file"
            )
        metadata = _metadata_urls(source)
        if metadata:
            return "repository", f"it has {' and '.join(sorted(_METADATA[split] for split in metadata))}"
        return "index", "it is a URL without metadata tables"
    path = Path(source).expanduser()
    if path.is_dir():
        if any((path / name).is_file() for name in _METADATA.values()) and any(path.glob("images/*/*.zip")):
            return "repository", "it has metadata tables and zips in images"
        return "photos", "it is a folder"
    if not path.exists():
        raise ValueError(_not_there(source, path))
    if _TABLE.search(path.name):
        return "table", "its name ends as one"
    if photo_stores.ARCHIVE.search(path.name):
        return "photos", "it is an archive"
    raise ValueError(
        f"{source!r} is no source: give a table (.csv, .tsv, .txt, also .gz), a zip, a tar, a folder of photos or a "
        "URL. If it is a table of another name, say kind='table'"
    )


def _table(source: str, truth: str) -> Found:
    """A table with a column of URLs."""
    with _table_file(source) as file:
        table = photo_tables.read(file, "url")
    if truth:
        with _table_file(truth) as file:
            table = photo_tables.joined(table, photo_tables.read(file, "id"))
    elif table.rows["latitude"].isna().all():
        raise ValueError(
            f"the table {web.without_password(source)!r} has no coordinates: give a table with id, latitude and "
            "longitude as truth"
        )
    addresses = [address for address in (source, truth) if _is_url(address)]
    local = web.all_private([*web.hosts(pd.Series(addresses, dtype=str)), *web.hosts(table.rows["url"])])
    return Found("urls", table.rows, local=local, left_out=table.left_out, notes=table.notes)


@contextmanager
def _table_file(source: str) -> Iterator[Path]:
    """The file of a table, fetched if it is elsewhere."""
    if not _is_url(source):
        path = Path(source).expanduser()
        if not path.is_file():
            raise ValueError(_not_there(source, path))
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, urlsplit(source).path.rpartition("/")[2] or "table")
        _asked(source, lambda client: web.fetch_file(client, source, file, _MOST_TABLE_BYTES))
        try:
            yield file
        except ValueError as error:
            raise ValueError(str(error).replace(str(file), web.without_password(source))) from None


def _repository(source: str, truth: str) -> Found:
    """Metadata tables, and zips of the photos by split."""
    base = source.rstrip("/")
    if _is_url(source):
        metadata = _metadata_urls(source)
        archives = [url for split in metadata for url in _asked(base, functools.partial(_zips, base=base, split=split))]
    else:
        root = Path(base).expanduser()
        metadata = {split: str(root / name) for split, name in _METADATA.items() if (root / name).is_file()}
        archives = [str(file) for split in metadata for file in sorted(root.glob(f"images/{split}/*.zip"))]
    if not metadata or not archives:
        lacking = "zips images/train/00.zip, ..." if metadata else "table train.csv or test.csv"
        raise ValueError(f"{web.without_password(source)!r} is no repository: it has no {lacking}")
    tables = []
    for split, address in metadata.items():
        with _table_file(address) as file:
            table = photo_tables.read(file, "id")
        tables.append(table._replace(rows=table.rows.assign(split=split)))
    rows = pd.concat([table.rows for table in tables], ignore_index=True)
    rows = rows.fillna("")  # what only one of the tables has; coordinates are known of all
    repeated = rows["id"].duplicated()
    return Found(
        "archives",
        rows[~repeated].reset_index(drop=True),
        archives=tuple(archives),
        local=web.all_private(web.hosts(pd.Series([base]))) if _is_url(source) else True,
        left_out=photo_tables.merged(
            *(table.left_out for table in tables), {"the id of an earlier row": rows["id"][repeated].tolist()}
        ),
        notes=[note for table in tables for note in table.notes],
    )


def _metadata_urls(source: str) -> dict[str, str]:
    """Addresses of the metadata tables of a repository, by split."""
    base = source.rstrip("/")

    async def there(client: web.Client) -> dict[str, str]:
        urls = {split: f"{base}/{name}" for split, name in _METADATA.items()}
        return {split: url for split, url in urls.items() if await _exists(client, url, _REFUSALS)}

    return _asked(source, there)


async def _zips(client: web.Client, base: str, split: str) -> list[str]:
    found: list[str] = []
    while len(found) < _MOST_ARCHIVES:
        url = f"{base}/images/{split}/{len(found):02d}.zip"
        if not await _exists(client, url, _ABSENT):  # any other answer is an error, and not the end
            break
        found.append(url)
    return found


async def _exists(client: web.Client, url: str, absent: Collection[int]) -> bool:
    """Whether there is a file; statuses in `absent` say that there is none."""

    async def asked() -> bool:
        async with client.answer(url, method="HEAD"):
            return True

    try:
        return await client.persistently(url, asked)
    except web.Unfetched as failure:
        if failure.status in absent:
            return False
        raise


def _photos(source: str, truth: str) -> Found:
    """Photos on this machine."""
    photo_root = Path(source).expanduser()
    if not photo_root.exists():
        raise ValueError(_not_there(source, photo_root))
    store = photo_stores.open_store(photo_root)
    names, left_out = photo_stores.photo_names(store)
    if not names:
        raise ValueError(f"there is no photo in {source!r}: give what holds photos{_counted(left_out)}")
    notes: list[str] = []
    local = True
    if truth:
        with _table_file(truth) as file:
            table = photo_tables.read(file, "path")
        rows, unlisted = _matched(table.rows, names)
        left_out = photo_tables.merged(left_out, table.left_out, unlisted)
        notes = table.notes
        local = not _is_url(truth) or web.all_private(web.hosts(pd.Series([truth])))
    elif (index := getattr(store, "index", None)) is not None:  # shards know where their photos were taken
        nowhere = index["latitude"].isna() | index["longitude"].isna()
        left_out = photo_tables.merged(left_out, {photo_tables.NO_COORDINATES: index["path"][nowhere].tolist()})
        rows = index[~nowhere].drop(columns=["offset", "size", "sha256", "shard"]).reset_index(drop=True)
    else:
        rows, left_out = _positioned(photo_root, names, left_out)
    if not len(rows):
        raise ValueError(
            f"no photo in {source!r} can be used: say where they were taken in a table, given as truth"
            + _counted(left_out)
        )
    return Found("photos", rows, photo_root, local=local, left_out=left_out, notes=notes)


def _matched(rows: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Rows of a truth whose photos are there, and what has no counterpart."""
    is_there = rows["path"].isin(names)
    repeated = is_there & rows["path"].duplicated()
    same_id = is_there & ~repeated & rows["id"].where(is_there & ~repeated).duplicated()
    is_used = is_there & ~repeated & ~same_id
    left_out = {
        "missing": rows["path"][~is_there].tolist(),
        "the path of an earlier row": rows["path"][repeated].tolist(),
        "the id of an earlier row": rows["path"][same_id].tolist(),
        "not in the truth": sorted(set(names) - set(rows["path"])),
    }
    return rows[is_used].reset_index(drop=True), left_out


def _positioned(
    photo_root: Path, names: list[str], left_out: dict[str, list[str]]
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Photos whose JSON or EXIF says where they were taken, and what is left out then."""
    ids = photo_tables.ids(pd.Series(names, dtype=str))
    jsons = {name[: -len(".json")]: name for name in left_out.pop("no photo by its name (.json)", [])}
    beside = [jsons.get(name.rpartition(".")[0], "") for name in names]
    unused = sorted(set(jsons.values()) - set(beside))
    tasks = [
        _Unpositioned(
            photo_root, tuple(names[start : start + _PHOTOS_PER_TASK]), tuple(beside[start:][:_PHOTOS_PER_TASK])
        )
        for start in range(0, len(names), _PHOTOS_PER_TASK)
    ]
    told = dict(cluster.mapped(_positions, tasks, "reading positions", len(names)))
    rows = pd.concat([told[number] for number in range(len(tasks))], ignore_index=True)
    rows.insert(0, "id", ids)
    rows.insert(1, "path", names)
    rows = rows.fillna({column: "" for column in rows if column not in ("latitude", "longitude")})
    problems = {str(reason): those["path"].tolist() for reason, those in rows.groupby("problem") if reason}
    rows = rows[rows["problem"] == ""].drop(columns="problem").reset_index(drop=True)
    return rows, photo_tables.merged(left_out, {"JSON without photo": unused}, problems)


@dataclass(frozen=True)
class _Unpositioned:
    """Photos whose positions are to be read."""

    photo_root: Path
    names: tuple[str, ...]
    jsons: tuple[str, ...]


def _positions(task: _Unpositioned) -> pd.DataFrame:
    """What the JSON or EXIF of each photo says, and under ``problem`` why it says no position."""
    store = photo_stores.reopened(task.photo_root)
    rows = []
    for name, beside in zip(task.names, task.jsons, strict=True):
        row = {"latitude": np.nan, "longitude": np.nan, "author": "", "problem": ""}
        try:
            row |= _told(store, name, beside)
        except (photos.PhotoError, photo_stores.Unreadable) as error:
            row["problem"] = error.reason
        except FileNotFoundError:
            row["problem"] = "missing"
        except OSError as error:
            row["problem"] = f"cannot be read ({error.strerror})"
        except ValueError as error:  # of a JSON: its message is the reason
            row["problem"] = str(error)
        rows.append(row)
        cluster.done()
    return pd.DataFrame(rows)


def _told(store: photo_stores.PhotoStore, name: str, beside: str) -> dict[str, Any]:
    if beside:
        document = store.read(beside)
        if len(document) > _MAX_JSON_BYTES:
            raise ValueError("broken JSON")
        try:
            return photo_tables.from_json(document)
        except ValueError as error:
            if str(error) != photo_tables.NO_COORDINATES:
                raise
    data = store.read(name)
    position = photos.exif_position(data, name)
    if position is None:
        return {"problem": photos.NO_POSITION}
    return {"latitude": position[0], "longitude": position[1], "captured_at": photos.exif_time(data, name)}


def _index(source: str, truth: str) -> Found:
    """A web index of photo and JSON pairs."""
    parts = urlsplit(source)
    if not _is_url(source) or parts.query or parts.fragment:
        raise ValueError(f"{web.without_password(source)!r} is no web index: give an http or https URL of a folder")
    base = source.rstrip("/") + "/"
    crawl = _Crawl(base)
    _asked(base, crawl.run)
    rows, left_out = _paired(crawl.files, base)
    left_out = photo_tables.merged(crawl.left_out, left_out)
    if not len(rows):
        raise ValueError(
            f"{web.without_password(base)!r} lists no photo with a JSON beside it: give a web index of such pairs"
            + _counted(left_out)
        )
    return Found("urls", rows, local=web.all_private(web.hosts(pd.Series([base]))), left_out=left_out)


class _Crawl:
    """Files below a web index.

    Only links to what lies in the folder of a page are taken, so that no link leads out or back up; where folders
    contain themselves, depth and number are bounded.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.files: list[str] = []
        self.left_out: dict[str, list[str]] = {}

    async def run(self, client: web.Client) -> None:
        pages = [self.base]
        visited = {self.base}
        for _ in range(_DEEPEST + 1):
            folders: list[str] = []
            for start in range(0, len(pages), _PAGES_AT_ONCE):
                some = pages[start : start + _PAGES_AT_ONCE]
                for links in await asyncio.gather(*(self._page(client, page) for page in some)):
                    folders += [link for link in links if link not in visited]
                    visited.update(links)
                if len(visited) > _MOST_FOLDERS:
                    raise ValueError(
                        f"{web.without_password(self.base)} has more than {_MOST_FOLDERS} folders: give one of them, "
                        "or a table of URLs"
                    )
            pages = sorted(set(folders))
        self._leave_out(f"folder deeper than {_DEEPEST}", *pages)

    async def _page(self, client: web.Client, page: str) -> list[str]:
        """Take the files that a page lists; the folders that it lists."""
        try:
            text = (await client.get(page, _MAX_PAGE_BYTES)).decode(errors="replace")
        except web.Unfetched as failure:
            if page == self.base:
                raise
            self._leave_out(f"folder: {failure.reason}", page)
            return []
        folders = []
        for link in dict.fromkeys(match[1].strip("\"'") for match in _HREF.finditer(text)):
            target = _below(page, html.unescape(link).strip())
            if target is None:
                self._leave_out(_OUTSIDE, link)
            elif target.endswith("/"):
                folders.append(target)
            elif target:
                self.files.append(target)
        return folders

    def _leave_out(self, reason: str, *names: str) -> None:
        self.left_out.setdefault(reason, []).extend(map(web.without_password, names))


def _below(page: str, link: str) -> str | None:
    """Address of what a link names in the folder of a page; ``""`` for the page itself or its parent, None outside.

    Examples
    --------
    >>> _below("http://a.b/c/", "d%20e/"), _below("http://a.b/c/", "/c/f.jpg"), _below("http://a.b/c/", "?C=M;O=A")
    ('http://a.b/c/d%20e/', 'http://a.b/c/f.jpg', '')
    >>> [_below("http://a.b/c/", link) for link in ("//x.y/f", "../../d", "d/%2e%2e/../..%2f", "javascript:alert(1)")]
    [None, None, None, None]
    """
    if _PLAIN_NAME.fullmatch(link):
        return page + link
    try:
        target = urljoin(page, link)
        parts = urlsplit(target)
    except ValueError:
        return None
    address = target.partition("#")[0].partition("?")[0]
    if address in (page, urljoin(page, "..")):
        return ""
    inside = unquote(address.removeprefix(page))
    if not address.startswith(page) or parts.query or photo_stores.unsafe_name(inside.removesuffix("/")):
        return None
    return address


def _paired(files: Sequence[str], base: str) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Photos that have a JSON of the same name beside them, and what is none of these."""
    left_out: dict[str, list[str]] = {}
    pairs: dict[str, dict[str, str]] = {}
    for name, url in sorted((unquote(url.removeprefix(base)), url) for url in files):
        stem, dot, suffix = name.rpartition(".")
        suffix = f".{suffix.lower()}" if dot and "/" not in suffix else ""
        kind = "json" if suffix == ".json" else "photo"
        if suffix not in _PHOTO_OR_JSON:
            left_out.setdefault(f"no photo by its name ({suffix or 'no suffix'})", []).append(name)
        elif kind in pairs.setdefault(stem, {}):
            left_out.setdefault("the name of an earlier photo", []).append(name)
        else:
            pairs[stem][kind] = url
    whole = {stem: pair for stem, pair in pairs.items() if len(pair) == 2}
    for stem, pair in pairs.items():
        if len(pair) == 1:
            left_out.setdefault("photo without JSON" if "photo" in pair else "JSON without photo", []).append(stem)
    rows = pd.DataFrame(
        {
            "id": list(whole),
            "latitude": np.nan,
            "longitude": np.nan,
            "author": "",
            "url": [pair["photo"] for pair in whole.values()],
            "json_url": [pair["json"] for pair in whole.values()],
        }
    )
    return rows, left_out


def _asked(address: str, ask: Callable[[web.Client], Any]) -> Any:
    """What `ask` learns from a web server; private addresses may be asked if `address` is one."""

    async def asking() -> Any:
        local = web.all_private(web.hosts(pd.Series([address])))
        async with web.Client(local=local, connections_per_host=_PAGES_AT_ONCE, total_s=_SECONDS_FOR_A_PAGE) as client:
            return await ask(client)

    try:
        return web.run_async(asking())
    except web.Unfetched as failure:
        raise ValueError(
            f"{web.without_password(address)} cannot be read ({failure.reason}): correct the address, or try later"
        ) from None


def _is_url(source: str) -> bool:
    if "://" in source and not re.match("https?://[^/]", source, re.IGNORECASE):
        raise ValueError(f"{web.without_password(source)!r} is no source: give an http or https URL, or a path")
    return "://" in source


def _not_there(source: str, path: Path) -> str:
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"there is no {web.without_password(source)!r}: " + (
        f"did you mean {str(path.with_name(near[0]))!r}?" if near else "correct the path"
    )


def _counted(left_out: Mapping[str, list[str]]) -> str:
    return f" (left out: {data_lists.counted(left_out, named=True)})" if left_out else ""
