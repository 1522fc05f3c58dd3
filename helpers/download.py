"""Fetch the photos that a source names straight into shards.

A run asks for what is neither in a shard of the folder nor recorded as gone. Photos are judged and shrunk as they
arrive and appended to a shard; why a row gave no photo goes into a journal beside it. Both are written in whole pieces,
so a run that was killed at any moment continues: nothing that was stored or recorded is asked for again.
"""

import asyncio
import errno
import hashlib
import io
import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.json
import pyarrow.parquet as pq
import torch
from yarl import URL

from helpers import cluster, data_lists, packing, paths, photo_stores, photo_tables, photos, shards, web

Result = TypeVar("Result")


_JOURNALS = "shard-*.jsonl"
_SETTLED = "download.json"
_ASKED = ".asked.parquet"  # the rows of a run, a row group for each task
_NOTICES = ".hosts"  # what the tasks of a run tell each other
_CLAIMS = ".claims"  # which archive of a run gives which ids
_LATEST = "truth.parquet"
_LOCK = ".download.lock"
_NUMBERED = re.compile(r"\.?shard-(\d+)\.")
_ENTRY = pa.schema(
    [("id", pa.string()), ("url", pa.string()), ("reason", pa.string()), ("status", pa.int64()), ("final", pa.bool_())]
)
_ROWS_PER_GROUP = 100_000  # where tasks search all rows
_FEWEST_PER_TASK = 250  # photos: fewer take less time than starting a process
_TASKS_PER_CORE = 2
_LANES_PER_CONNECTION = 4  # rows under way to a host; those that wait for another attempt need no connection
_MOST_LANES = 256
_PHOTOS_IN_MEMORY = 64  # as they came, in one process
_PHOTOS_AT_ONCE = 16  # of an archive, where each may be as large as a store allows
_SAME_PHOTO = 5  # addresses that gave the same bytes: what they gave is no photo of a place
_MAX_JSON_BYTES = 1 << 20
_MAX_NAME = 120  # characters of a file name
_SECONDS_FOR_OTHERS = 60  # that processes of a killed run have to end
_NEVER_PHOTOS = {"too small", "too narrow", "too large", "unsupported"}  # other photos may have been hurt on their way
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RESERVED_NAME = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)$")
_FLICKR_NAME = re.compile(r"^(.*/\d+_[0-9a-f]+)(?:_[a-z0-9]{1,2})?(\.jpg)$")
_SIZE_SUFFIX = re.compile(r"_[a-z0-9]{1,2}")
_HTML = re.compile(rb"\s*(?:<!doctype html|<html|<head|<body)", re.IGNORECASE)


class DiskFull(RuntimeError):
    """There is no space left for what is fetched."""


class Busy(RuntimeError):
    """Another process downloads into the same folder."""


@dataclass(frozen=True)
class Found:
    """What a source offers."""

    kind: str
    """``urls``: rows have ``url`` (and ``json_url`` where a JSON says the position); ``photos``: rows have ``path``,
    read from `photo_root`; ``archives``: rows are metadata by id, and the photos lie in `archives`."""
    rows: pd.DataFrame
    """``id``, ``latitude``, ``longitude`` (NaN where a JSON still has to say), ``author``, and what else is known."""
    photo_root: Path | None = None
    """Folder or archive of ``photos``."""
    archives: tuple[str, ...] = ()
    """URLs or paths of zips."""
    local: bool = False
    """Whether the source and all of its hosts are on this machine or a private network, which may then be asked."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names of what cannot be used, by reason."""
    notes: list[str] = field(default_factory=list)
    """What was mended and decided, in words."""


@dataclass(frozen=True)
class Settings:
    """How to fetch."""

    short_side: int = 320
    """Pixels that the shorter side of a photo may have; 0 keeps photos as they come."""
    size_suffix: str = ""
    """Which size of a Flickr photo to ask for first, e.g. ``_z`` for 640 px."""
    connections_per_host: int = 16
    attempts: int = 5
    timeout_s: float = 30.0
    """Longest silence of a host."""
    max_photo_mb: int = 32
    """Mebibytes that a photo may have as it comes."""
    photos_per_shard: int = 10_000

    def __post_init__(self) -> None:
        if self.size_suffix and not _SIZE_SUFFIX.fullmatch(self.size_suffix):
            raise ValueError(f"size_suffix is {self.size_suffix!r}: give one of Flickr's, e.g. '_z' or '_b', or ''")
        most = photo_stores.MAX_BYTES >> 20
        for name, lowest, highest in (
            ("short_side", 0, math.inf),
            ("connections_per_host", 1, math.inf),
            ("attempts", 1, math.inf),
            ("timeout_s", 0.001, math.inf),
            ("max_photo_mb", 1, most),
            ("photos_per_shard", 1, math.inf),
        ):
            if not lowest <= getattr(self, name) <= highest:
                limits = f"from {lowest} to {highest}" if highest < math.inf else f"{lowest} or more"
                raise ValueError(f"{name} is {getattr(self, name)}: it must be {limits}")


@dataclass(frozen=True)
class Report:
    """What a run did."""

    wanted: int
    """Rows of the source."""
    there_before: int
    fetched: int
    received_bytes: int
    stored_bytes: int
    seconds: float
    missing: pd.DataFrame
    """``id, url, reason, status, final`` of every row without a photo; `final` ones are not asked for again."""
    notes: tuple[str, ...] = ()
    """Archives that could not be read, and what else is not about one row."""

    @property
    def gone(self) -> dict[str, int]:
        """Numbers of rows whose photo will never come, by reason."""
        return self._counted(self.missing["final"])

    @property
    def failed(self) -> dict[str, int]:
        """Numbers of rows that the next run asks for again, by reason."""
        return self._counted(~self.missing["final"])

    @property
    def rate(self) -> float:
        """Fetched photos per second."""
        return self.fetched / self.seconds if self.seconds else 0.0

    def table(self) -> pd.DataFrame:
        """A row per outcome: ``outcome, reason, photos``; they add up to `wanted`."""
        rows = [("there before", "", self.there_before), ("fetched", "", self.fetched)]
        rows += [("gone", reason, count) for reason, count in self.gone.items()]
        rows += [("failed, asked again by the next run", reason, count) for reason, count in self.failed.items()]
        return pd.DataFrame(rows, columns=["outcome", "reason", "photos"])

    def _counted(self, chosen: pd.Series) -> dict[str, int]:
        return {str(reason): int(count) for reason, count in self.missing["reason"][chosen].value_counts().items()}


def run(found: Found, folder: Path, settings: Settings) -> Report:
    """Fetch the photos that a source names into shards; run again, it continues.

    Parameters
    ----------
    found : sources.Found
        What the source has.
    folder : Path
        Of the shards and their journals, for one source and one preparation.
    settings : Settings
        How to fetch.

    Returns
    -------
    Report
        What is there now, and what is missing and why.

    Raises
    ------
    Busy
        If another process downloads into the folder.
    DiskFull
        If the disk is full. What was fetched is kept.
    ValueError
        If the folder holds photos that were prepared in another way, or an id occurs twice.
    shards.DamagedShard
        If a shard in the folder is damaged.
    """
    twice = found.rows["id"][found.rows["id"].duplicated()]
    if len(twice):
        raise ValueError(f"the id {twice.iloc[0]!r} occurs more than once in the source: keep one row, or rename")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), _naming_a_full_disk(folder):
        _settle(folder, settings)
        _seal(folder)
        started, before = time.monotonic(), _held(folder)
        results: list[_Result] = []
        if found.kind == "photos":
            entries = _packed(found, folder, settings)
        else:
            results, entries = _fetch(found, folder, settings, before), _journalled(folder)
        _note_truth(found.rows, folder)
        return _report(found, _held(folder), before, entries, results, time.monotonic() - started)


def with_latest_truth(index: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """What is known of fetched photos, as the source said when it was asked last.

    Parameters
    ----------
    index : DataFrame
        From `shards.Shards.index`: what the source said when each photo was fetched.
    folder : Path
        Of the shards.

    Returns
    -------
    DataFrame
        As `index`, but with the truth that a corrected table has for photos which were fetched before, and those of
        `data_lists.SCENE_COLUMNS` that the source has.
    """
    if not (folder / _LATEST).exists():
        return index
    latest = pd.read_parquet(folder / _LATEST)
    latest = index[["id"]].merge(latest, on="id", how="left", validate="one_to_one")
    known = index.reindex(columns=index.columns.union(latest.columns, sort=False), fill_value="")
    for name in latest.columns.drop("id"):
        said = latest[name].notna().to_numpy() & (latest[name] != "").to_numpy()
        known[name] = known[name].mask(said, latest[name].to_numpy())
    return known


def placeholders(index: pd.DataFrame) -> list[str]:
    """Ids of photos that are no photo of a place: the very same picture came from several addresses.

    Parameters
    ----------
    index : DataFrame
        Columns ``id, url, sha256``, as in `shards.Shards.index`.

    Examples
    --------
    >>> placeholders(pd.DataFrame({"id": list("abcdef"), "url": list("uvwxyz"), "sha256": ["0"] * 5 + ["1"]}))
    ['a', 'b', 'c', 'd', 'e']
    """
    known = index[index["url"] != ""]
    repeated = known[known.duplicated("sha256", keep=False)]
    addresses = repeated.groupby("sha256")["url"].nunique()
    return repeated["id"][repeated["sha256"].isin(addresses.index[addresses >= _SAME_PHOTO])].tolist()


def photo_path(photo_id: str, suffix: str) -> str:
    """Path of a fetched photo in its shard: safe on every system, another one for every id.

    Examples
    --------
    >>> photo_path("3f/a9/3657285366.jpg", ".jpg")
    '05/3f%2Fa9%2F3657285366%2Ejpg.jpg'
    """
    digest = hashlib.sha256(photo_id.encode()).hexdigest()
    name = quote(photo_id, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(name) > _MAX_NAME:
        name = f"{name[:_MAX_NAME]}+{digest}"  # no quoted id has a "+"
    if _RESERVED_NAME.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return f"{digest[:2]}/{name}{suffix}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("ab") as file:
        try:
            shards.lock(file.fileno())
        except BlockingIOError:
            raise Busy(f"another process downloads into {folder}: let it end, or end it, first") from None
        yield


@contextmanager
def _naming_a_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise DiskFull(
            f"the disk of {folder} is full ({os.strerror(error.errno or 0)}): free some space and run this again, "
            "which continues"
        ) from None


def _settle(folder: Path, settings: Settings) -> None:
    """Write down how the photos of a folder are prepared, or raise ``ValueError`` if they are in another way."""
    how = {"short_side": settings.short_side, "quality": photos.JPEG_QUALITY, "size_suffix": settings.size_suffix}
    file = folder / _SETTLED
    settled = json.loads(file.read_bytes()) if file.exists() else how
    differing = [f"{name} {settled.get(name)!r}, not {how[name]!r}" for name in how if settled.get(name) != how[name]]
    if differing:
        raise ValueError(
            f"{folder} holds photos fetched in another way ({', '.join(differing)}): ask for the same, or download "
            "into another folder"
        )
    with paths.replacing(file) as temporary:
        temporary.write_text(json.dumps(how, indent=2) + "\n")


def _seal(folder: Path) -> None:
    """Finish the shards of a run that was killed, once its processes have ended."""
    deadline = time.monotonic() + _SECONDS_FOR_OTHERS
    shards.seal_partials(folder)
    while any(folder.glob(shards.PARTIALS)):
        if time.monotonic() > deadline:
            raise Busy(f"processes of an earlier download still write into {folder}: let them end, or end them, first")
        time.sleep(0.2)
        shards.seal_partials(folder)
    for left in (_NOTICES, _CLAIMS, _ASKED):
        (folder / left).unlink(missing_ok=True)


def _held(folder: Path) -> pd.DataFrame:
    """What is in the shards: ``id, url, sha256, size``."""
    shards.Shards(folder)  # judges them
    columns = ["id", "url", "sha256", "size"]
    indices = [str(index) for index in sorted(folder.glob(shards.INDICES))]
    if not indices:
        return pd.DataFrame({name: pd.Series([], dtype="int64" if name == "size" else "str") for name in columns})
    return pa.dataset.dataset(indices).to_table(columns=columns).to_pandas()


def _packed(found: Found, folder: Path, settings: Settings) -> pd.DataFrame:
    """Pack photos that are here already; entries for those that cannot be used."""
    if found.photo_root is None:
        raise ValueError("the source has photos but no photo_root: say where they are")
    if found.photo_root.resolve() == folder.resolve():
        raise ValueError(f"the source lies in {folder}, where its shards would go: give the dataset another name")
    done = packing.pack(found.rows, found.photo_root, folder, settings.short_side, settings.photos_per_shard)
    reasons = {path: reason for reason, left_out in done.left_out.items() for path in left_out}
    unused = found.rows[found.rows["path"].isin(list(reasons))]
    return _keys(unused).assign(reason=unused["path"].map(reasons).to_numpy(), status=0, final=False)


def _fetch(found: Found, folder: Path, settings: Settings, before: pd.DataFrame) -> list["_Result"]:
    """Fetch what is neither there nor gone."""
    journalled = _journalled(folder)
    rows = _remaining(found.rows, before, journalled)
    if found.kind == "archives":
        return _fetch_archives(found, folder, settings, rows, journalled)
    size = _photos_per_task(len(rows), settings.photos_per_shard)
    count = -(-len(rows) // size)
    first, workers = _first_free_number(folder), _workers(count, settings)
    tasks = [_Task(folder, first + group, settings, found.local, workers, group=group) for group in range(count)]
    with _asked(rows, folder, size):
        done = cluster.mapped(_fetch_shard, tasks, "downloading", len(rows), at_once=workers)
        return [result for _, result in done]


def _fetch_archives(
    found: Found, folder: Path, settings: Settings, rows: pd.DataFrame, journalled: pd.DataFrame
) -> list["_Result"]:
    # An archive that was read for other rows may hold photos of these.
    read = f"read for {hashlib.sha256(chr(0).join(found.rows['id'].sort_values()).encode()).hexdigest()[:16]}"
    entries = journalled[(journalled["id"] == "") & (journalled["reason"] == read)]
    # But not if its photos, whose number stands for a status, were in a shard that was deleted since.
    shards_there = {index.stem for index in folder.glob(shards.INDICES)}
    finished = set(entries["url"][(entries["status"] == 0) | entries["shard"].isin(shards_there)])
    waiting = [archive for archive in dict.fromkeys(found.archives) if web.without_password(archive) not in finished]
    first, workers = _first_free_number(folder), _workers(len(waiting), settings)
    tasks = [
        _Task(folder, first + number, settings, found.local, workers, archive=archive, read=read)
        for number, archive in enumerate(waiting)
    ]
    with _asked(rows, folder, _ROWS_PER_GROUP):
        done = cluster.mapped(_fetch_archive, tasks, "downloading", len(tasks), "archives", at_once=workers)
        return [result for _, result in done]


def _note_truth(rows: pd.DataFrame, folder: Path) -> None:
    # Shards of photos that have no scenes are as they were before there were such columns: scenes are only noted here.
    columns = (*shards.TRUTH, *data_lists.SCENE_COLUMNS)
    truth = rows[[name for name in columns if name in rows and name != "url"]]
    with paths.replacing(folder / _LATEST) as temporary:
        truth.to_parquet(temporary, index=False, compression="zstd")


def _workers(tasks: int, settings: Settings) -> int:
    """Number of tasks that run at a time: no more than a host may have connections, which they share out."""
    return min(tasks, cluster.cores(), settings.connections_per_host) if tasks > 1 else 1


def _remaining(rows: pd.DataFrame, before: pd.DataFrame, journalled: pd.DataFrame) -> pd.DataFrame:
    """Rows to ask for, sorted by id; ``url`` without passwords, ``address`` with them."""
    rows = rows.drop(columns=[name for name in rows if name not in (*shards.TRUTH, "json_url")])
    if "url" in rows:
        rows = rows.assign(address=rows["url"].fillna(""), url=web.without_passwords(rows["url"].fillna("")))
    rows = rows[~rows["id"].isin(before["id"])]
    rows = rows[~_entries_for(rows, journalled)["final"].to_numpy()]
    return rows.sort_values("id", ignore_index=True)


def _keys(rows: pd.DataFrame) -> pd.DataFrame:
    """What journals know rows by."""
    return pd.DataFrame(
        {"id": rows["id"], "url": web.without_passwords(rows["url"].fillna("")) if "url" in rows else ""}
    )


def _entries_for(rows: pd.DataFrame, journalled: pd.DataFrame) -> pd.DataFrame:
    """For each row the latest entry that is about it and its ``url``."""
    latest = journalled[_ENTRY.names].drop_duplicates(["id", "url"], keep="last")
    entries = _keys(rows).merge(latest, on=["id", "url"], how="left")
    return entries.assign(
        reason=entries["reason"].fillna(""),
        status=entries["status"].fillna(0).astype("int64"),
        final=entries["final"].eq(True),
    )


def _photos_per_task(photos: int, photos_per_shard: int) -> int:
    """Enough tasks to keep all cores busy to the end, but none that is not worth a process."""
    even = -(-photos // (_TASKS_PER_CORE * (os.cpu_count() or 1)))
    return max(min(max(even, _FEWEST_PER_TASK), photos_per_shard), 1)


def _first_free_number(folder: Path) -> int:
    numbers = [int(match[1]) for file in folder.iterdir() if (match := _NUMBERED.match(file.name))]
    return max(numbers, default=-1) + 1


@contextmanager
def _asked(rows: pd.DataFrame, folder: Path, rows_per_group: int) -> Iterator[None]:
    """Lay the rows of a run where its tasks find them: a task that carried its rows would be as heavy as they are."""
    file = folder / _ASKED
    try:
        with paths.replacing(file) as temporary:
            temporary.touch(mode=0o600)  # addresses may hold passwords
            pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), temporary, row_group_size=rows_per_group)
        yield
    finally:
        file.unlink(missing_ok=True)


def _report(
    found: Found,
    held: pd.DataFrame,
    before: pd.DataFrame,
    entries: pd.DataFrame,
    results: Sequence["_Result"],
    seconds: float,
) -> Report:
    ids = found.rows["id"]
    no_photos, unread = placeholders(held), any(not result.read for result in results)
    there = ids[ids.isin(held["id"]) & ~ids.isin(no_photos)]
    new = there[~there.isin(before["id"])]
    missing = _entries_for(found.rows[~ids.isin(there)], entries)
    unreal, unexplained = missing["id"].isin(no_photos), missing["reason"] == ""
    missing["reason"] = missing["reason"].mask(unexplained, "archive not read" if unread else "not in the archives")
    missing["reason"] = missing["reason"].mask(unreal, web.PLACEHOLDER)
    missing["final"] |= unreal | (unexplained & (not unread))
    return Report(
        wanted=len(ids),
        there_before=len(there) - len(new),
        fetched=len(new),
        received_bytes=sum(result.received_bytes for result in results),
        stored_bytes=int(held["size"][held["id"].isin(new)].sum()),
        seconds=seconds,
        missing=missing.sort_values("id", ignore_index=True),
        notes=tuple(sorted(result.note for result in results if result.note)),
    )


class _Journal:
    """Appends why rows gave no photo, a JSON line for each, which a kill leaves whole or cut, never mixed."""

    def __init__(self, file: Path) -> None:
        whole = _whole_lines(file)
        self.ids = {json.loads(line)["id"] for line in whole.splitlines()}
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, len(whole))

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)

    def add(self, photo_id: str, url: str, failure: web.Unfetched) -> None:
        entry = (photo_id, url, failure.reason, failure.status, failure.final)
        rest = json.dumps(dict(zip(_ENTRY.names, entry, strict=True))).encode() + b"\n"
        end = os.fstat(self._file).st_size
        try:
            while rest:  # once, but where a disk is about to fill up
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, end)
            raise


def _whole_lines(file: Path) -> bytes:
    content = file.read_bytes() if file.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def _journalled(folder: Path) -> pd.DataFrame:
    """The entries of all journals, older ones first."""
    options = pa.json.ParseOptions(explicit_schema=_ENTRY, unexpected_field_behavior="error")
    tables = [_ENTRY.empty_table().append_column("shard", pa.array([], pa.string()))]
    for file in sorted(folder.glob(_JOURNALS), key=lambda file: (len(file.name), file.name)):
        lines = _whole_lines(file)
        if lines:
            try:
                block = pa.json.ReadOptions(block_size=max(len(lines), 1 << 20))  # no line is longer than that
                table = pa.json.read_json(io.BytesIO(lines), block, options)
            except pa.ArrowInvalid as error:
                raise ValueError(
                    f"{file} is damaged: {error}. Delete it and run this again, which asks for its rows once more"
                ) from None
            tables.append(table.append_column("shard", pa.array([file.stem] * len(table), pa.string())))
    return pa.concat_tables(tables).to_pandas()


@dataclass(frozen=True)
class _Task:
    """One shard to make, of the rows of a row group or of the photos in an archive."""

    folder: Path
    number: int
    settings: Settings
    local: bool
    workers: int
    """Tasks that run at a time."""
    group: int = 0
    archive: str = ""
    read: str = ""
    """What the journal says of an archive that was read to its end."""

    @property
    def tar(self) -> Path:
        return self.folder / f"shard-{self.number:05d}.tar"

    @property
    def threads(self) -> int:
        """For archives, of which there may be fewer than cores."""
        return max(1, (os.cpu_count() or 1) // self.workers)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the archive has to be fetched."""
        return re.match("https?://", self.archive, re.IGNORECASE) is not None

    @property
    def archive_file(self) -> Path:
        """Where the archive is, or goes."""
        name = f".{hashlib.sha256(self.archive.encode()).hexdigest()[:16]}.archive.zip"
        return self.folder / name if self.is_elsewhere else Path(self.archive)

    def client(self) -> web.Client:
        return web.Client(
            local=self.local,
            connections_per_host=self.settings.connections_per_host // self.workers,
            attempts=self.settings.attempts,
            timeout_s=self.settings.timeout_s,
            seed=self.number,
            notices=self.folder / _NOTICES,
        )


class _Result(NamedTuple):
    """What a task did that no shard or journal tells."""

    received_bytes: int = 0
    note: str = ""
    read: bool = True
    """Whether the archive was."""


def _fetch_shard(task: _Task) -> _Result:
    """Fetch the photos of one row group."""
    rows = pq.ParquetFile(task.folder / _ASKED).read_row_group(task.group).to_pylist()
    with _making(task) as (shard, journal):
        known = shard.held.keys() | journal.ids
        cluster.done(len(known))
        rows = [row for row in rows if row["id"] not in known]
        return _Result(web.run_async(_fetched(task, rows, shard, journal)))


@contextmanager
def _making(task: _Task) -> Iterator[tuple[shards.ShardWriter, "_Journal"]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a photo is too little work for several
    try:
        with (
            _naming_a_full_disk(task.folder),
            shards.ShardWriter(task.tar, patience_s=_SECONDS_FOR_OTHERS) as shard,  # first: its lock is that of both
            _Journal(task.tar.with_suffix(".jsonl")) as journal,
        ):
            yield shard, journal
    finally:
        torch.set_num_threads(threads)


async def _fetched(
    task: _Task,
    rows: Sequence[dict[str, Any]],
    shard: shards.ShardWriter,
    journal: "_Journal",
) -> int:
    async with task.client() as client:
        fetcher = _Fetcher(client, task.settings, shard, journal)
        await fetcher.fetch(rows)
        return fetcher.received


class _Fetcher:
    """Brings the photos of rows into a shard."""

    def __init__(
        self,
        client: web.Client,
        settings: Settings,
        shard: shards.ShardWriter,
        journal: "_Journal",
    ) -> None:
        self.client = client
        self.settings = settings
        self.shard = shard
        self.journal = journal
        self.received = 0
        self._in_memory = asyncio.Semaphore(_PHOTOS_IN_MEMORY)

    async def fetch(self, rows: Sequence[dict[str, Any]]) -> None:
        hosts: dict[str, deque[dict[str, Any]]] = {}
        for row in rows:
            hosts.setdefault(row["address"].partition("//")[2].partition("/")[0], deque()).append(row)
        # A host that pauses or does not answer keeps its own lanes waiting, not those of others.
        turns = range(_LANES_PER_CONNECTION * self.client.connections_per_host)
        waiting = deque(queue for turn in turns for queue in hosts.values() if turn < len(queue))
        await asyncio.gather(*(self._lane(waiting) for _ in range(min(_MOST_LANES, len(waiting)))))

    async def _lane(self, hosts: deque[deque[dict[str, Any]]]) -> None:
        while hosts:
            rows = hosts.popleft()
            while rows:
                row = rows.popleft()
                try:
                    await self._photo(row)
                except web.Unfetched as failure:
                    self.journal.add(row["id"], row["url"], failure)
                cluster.done()

    async def _photo(self, row: dict[str, Any]) -> None:
        if row.get("json_url"):
            row = row | _truth(await self.client.get(row["json_url"], _MAX_JSON_BYTES)) | {"url": row["url"]}
        address = web.parsed(row["address"])
        sized = web.parsed(_of_size(row["address"], self.settings.size_suffix))
        try:
            await self.client.persistently(sized, lambda: self._attempt(sized, row))
        except web.Unfetched as failure:
            if not failure.final or sized == address:  # there is no photo of this size, or none any more
                raise
            await self.client.persistently(address, lambda: self._attempt(address, row))

    async def _attempt(self, address: URL, row: dict[str, Any]) -> None:
        # In this order, so that a host which is slow to answer keeps no others waiting.
        async with self.client.answer(address) as response, self._in_memory:
            photo = await web.body(response, self.settings.max_photo_mb << 20)
        self.received += len(photo)
        # Here, not in a thread: every core has a process, and handing over costs more than it brings. What the other
        # connections bring meanwhile waits in their sockets.
        reason = _kept(self.shard, _prepared(photo, row["id"], self.settings.short_side), row)
        if reason:
            raise web.Unfetched(reason, 200)


def _prepared(photo: bytes, photo_id: str, short_side: int) -> photos.Prepared:
    """A photo as it is kept; raises `web.Unfetched` if it cannot serve."""
    try:
        return photos.prepare(photo, photo_id, short_side)
    except photos.PhotoError as error:
        reason = "HTML instead of a photo" if error.reason == "not a photo" and _HTML.match(photo) else error.reason
        raise web.Unfetched(reason, 200, final=error.reason in _NEVER_PHOTOS) from None


def _kept(shard: shards.ShardWriter, photo: photos.Prepared, row: dict[str, Any]) -> str:
    """Append a photo to a shard; the reason if that cannot be."""
    try:
        shard.add(photo_path(row["id"], photo.suffix), photo.data, row)
    except ValueError:  # of ids and truths that no index should hold
        return "truth too long or unwritable"
    return ""


def _of_size(address: str, suffix: str) -> str:
    """Address of another size of a Flickr photo; any other address stays as it is.

    Examples
    --------
    >>> _of_size("https://live.staticflickr.com/3/1234567890_abcdef0123_b.jpg", "_z")
    'https://live.staticflickr.com/3/1234567890_abcdef0123_z.jpg'
    >>> _of_size("https://example.org/rome_1.jpg", "_z")
    'https://example.org/rome_1.jpg'
    """
    return _FLICKR_NAME.sub(rf"\g<1>{suffix}\g<2>", address) if suffix else address


def _truth(content: bytes) -> dict[str, Any]:
    try:
        return photo_tables.from_json(content)
    except ValueError as error:
        raise web.Unfetched(str(error), 200) from None


def _fetch_archive(task: _Task) -> _Result:
    """Take the photos of one archive."""
    name, file, received = web.without_password(task.archive), task.archive_file, 0
    with _making(task) as (shard, journal):
        cluster.done()
        try:
            if task.is_elsewhere:
                received = web.run_async(_brought(task))
            unlisted = _take(file, task, shard, journal)
        except web.Unfetched as failure:
            journal.add("", name, failure)
            return _Result(received, f"{name} was not read: {failure.reason}", False)
    # Only now, when its photos lie in a finished shard.
    with _Journal(task.tar.with_suffix(".jsonl")) as journal:
        journal.add("", name, web.Unfetched(task.read, status=len(shard.held), final=True))
    if task.is_elsewhere:
        file.unlink()
    return _Result(received, f"{name}: {unlisted} photos that the table does not list" if unlisted else "")


async def _brought(task: _Task) -> int:
    async with task.client() as client:
        return await web.fetch_file(client, task.archive, task.archive_file)


def _take(file: Path, task: _Task, shard: shards.ShardWriter, journal: "_Journal") -> int:
    """Put the photos of an archive that rows ask for into the shard; the number of its other photos."""
    try:
        store = photo_stores.open_store(file)
        names, passed_over = photo_stores.photo_names(store)
    except (FileNotFoundError, ValueError):
        if task.is_elsewhere:
            file.unlink(missing_ok=True)  # or the next run would go on where this damage ends
        raise web.Unfetched("no sound archive") from None
    files = {Path(name).stem: name for name in reversed(names)}
    refused = {Path(name).stem: reason for reason, some in passed_over.items() for name in some}
    named = pa.array([*files, *refused], pa.string())
    rows = pa.dataset.dataset(task.folder / _ASKED).to_table(filter=pc.field("id").isin(named)).to_pylist()
    own = _claimed(task, [row["id"] for row in rows])
    waiting = [row for row in rows if row["id"] in own - shard.held.keys() - journal.ids]

    def prepared(row: dict[str, Any]) -> photos.Prepared | str:
        if row["id"] not in files:
            return refused[row["id"]]
        try:
            photo = store.read(files[row["id"]])
            if len(photo) > task.settings.max_photo_mb << 20:
                return f"larger than {task.settings.max_photo_mb} MiB"
            return _prepared(photo, row["id"], task.settings.short_side)
        except (photo_stores.Unreadable, web.Unfetched) as error:
            return error.reason

    with ThreadPoolExecutor(task.threads) as pool:
        for start in range(0, len(waiting), _PHOTOS_AT_ONCE):
            some = waiting[start : start + _PHOTOS_AT_ONCE]
            for row, photo in zip(some, pool.map(prepared, some), strict=True):
                reason = photo if isinstance(photo, str) else _kept(shard, photo, row)
                if reason:  # final: the archive will not change
                    journal.add(row["id"], row.get("url") or "", web.Unfetched(reason, final=True))
    return len(files.keys() - {row["id"] for row in rows} - shard.held.keys())


def _claimed(task: _Task, ids: list[str]) -> set[str]:
    """Those of `ids` that no other archive of this run has claimed: a photo may lie in several."""
    own = set(ids)
    with (task.folder / _CLAIMS).open("a+b") as file:
        shards.lock(file.fileno(), wait=True)
        file.seek(0)
        for line in file:
            number, others = json.loads(line)
            if number == task.number:
                return own
            own.difference_update(others)
        file.write(json.dumps([task.number, sorted(own)]).encode() + b"\n")
    return own
