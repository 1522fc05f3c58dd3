"""Photos as tar shards in webdataset layout, with an index of offsets.

A folder of shards holds ``shard-00000.tar``, ``shard-00001.tar``, ... and beside each a Parquet file that says where in
the tar each photo lies, its hash and its truth. Any reader of webdataset opens the tars; this one reads a single photo
with ``pread``, without unpacking anything.

A shard grows as ``.shard-00000.tar.partial``, photo by photo, and is renamed when it is whole: a process that is killed
loses at most the photo that it was writing, and the next one goes on.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import math
import os
import re
import resource
import tarfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from helpers import data_lists, paths, photo_stores, progress

TRUTH = (
    "id",
    "latitude",
    "longitude",
    "author",
    "url",
    "licence",
    "attribution",
    "country",
    "region",
    "captured_at",
    "split",
)
"""What is known of a photo beside its bytes."""

INDICES, TARS, PARTIALS = "shard-*.parquet", "shard-*.tar", ".shard-*.tar.partial"
DAMAGED = "damaged.csv"

_NUMBERS = ("latitude", "longitude")
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        *((name, pa.float64() if name in _NUMBERS else pa.string()) for name in TRUTH),
    ]
)
_TAR_BYTES = b"tar_bytes"  # in the metadata of an index
_UNSAFE_PATH = re.compile(rf"{photo_stores.UNSAFE_PATH}|[\ud800-\udfff]")
_MOST_PATH_BYTES = 4096
_MOST_SIDECAR_BYTES = 1 << 20
_MOST_EXTENDED_BYTES = 1 << 14  # of a header that holds a long name
_LONGEST_PLAIN_NAME = 100  # characters that a header has room for
_BLOCK = tarfile.TarInfo("").tobuf(tarfile.PAX_FORMAT)
_END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)
_SUFFIXES = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
}
_FILES_BESIDE_SHARDS = 256  # that a process has open
_SECONDS_BETWEEN_TRIES = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_ROWS_AT_ONCE = 1024  # of an index
_INDEX_BYTES = 1 << 28  # that an index may have, unpacked, even where its tar is gone


class DamagedShard(ValueError):
    """A shard that is not what its index says, or not what is written here."""


class BusyShard(RuntimeError):
    """A shard that another process is writing."""


class ShardWriter:
    """Writes one shard; a context manager.

    An unfinished or finished shard that is there is continued, without the last photo if that was cut off. Should the
    ``with`` block raise, what was written stays for the next writer.

    Parameters
    ----------
    path : Path
        The finished shard, ``.../shard-00012.tar``.
    patience_s : float
        Seconds to wait for another writer of the shard, such as a worker that is just dying.

    Attributes
    ----------
    held : dict
        The photos in it: rows of its index, by id.

    Raises
    ------
    BusyShard
        If another writer keeps the shard open.
    DamagedShard
        If there is a finished shard which is damaged.
    """

    def __init__(self, path: Path, patience_s: float = 0) -> None:
        self.path = path
        self.held: dict[str, dict[str, Any]] = {}
        self._paths: set[str] = set()
        self._end = 0
        self._partial = path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._finished = False
        self._file = self._open(patience_s)
        try:
            self._continue()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def add(self, path: str, photo: bytes, truth: Mapping[str, object]) -> None:
        """Append a photo. When this returns, the photo is kept, whatever happens to the process.

        Parameters
        ----------
        path : str
            Of the photo in its data list.
        photo : bytes
            The file.
        truth : mapping
            What is known of `TRUTH`, an ``id`` at least.

        Raises
        ------
        ValueError
            If the id or path is unsafe or in the shard already, or photo or truth is too large.
        OSError
            If it cannot be written, e.g. because the disk is full. What was written before stays.
        """
        row = _row(path, photo, truth)
        if row["id"] in self.held or path in self._paths:
            raise ValueError(f"photo {path!r} with id {row['id']!r} is in {self.path} already: add each photo once")
        sample, start = _sample(row, photo)
        if self._finished:
            self._reopen()
        self._append(sample)
        self._hold(row | {"offset": self._end + start}, self._end + len(sample))

    def close(self) -> None:
        """Finish the shard and write its index; a shard without photos vanishes."""
        if self._file < 0:
            return
        try:
            if self.held and not self._finished:
                self._append(_END_OF_ARCHIVE)
                os.fsync(self._file)
                os.replace(self._partial, self.path)
                _sync(self.path.parent)
            if self.held and not (self._finished and _index(self.path).exists()):
                _write_index(self.path, list(self.held.values()), self._end + len(_END_OF_ARCHIVE))
        finally:
            self._abandon()

    def _open(self, patience_s: float) -> int:
        self._finished = self.path.exists()
        if self._finished:
            try:
                return _locked(self.path, os.O_RDWR, patience_s)
            except FileNotFoundError:  # its writer went on with it while this one waited
                return self._open(patience_s)
        file = _locked(self._partial, os.O_RDWR | os.O_CREAT, patience_s)
        if self.path.exists() and not os.fstat(file).st_size:  # another process finished it while this one waited
            self._partial.unlink()
            os.close(file)
            return self._open(patience_s)
        return file

    def _continue(self) -> None:
        if self.path.exists() and self._partial.exists() and self._partial.stat().st_size:
            raise DamagedShard(f"{self._partial} lies beside the finished {self.path}: delete one of them")
        if self._finished:
            for end, row in _finished_samples(self._file, self.path):
                self._hold(row, end)
            if not self.held:
                raise _damaged(self.path, "it holds no photo")
            return
        # What follows the last whole photo is the one that was being written.
        with contextlib.suppress(DamagedShard):
            for end, row in _samples(self._file, self._partial):
                self._hold(row, end)
        os.ftruncate(self._file, self._end)

    def _reopen(self) -> None:
        """Make a finished shard one that grows."""
        _index(self.path).unlink(missing_ok=True)
        os.replace(self.path, self._partial)
        os.ftruncate(self._file, self._end)
        self._finished = False

    def _hold(self, row: dict[str, Any], end: int) -> None:
        self.held[row["id"]] = row
        self._paths.add(row["path"])
        self._end = end

    def _append(self, data: bytes) -> None:
        rest, position = memoryview(data), self._end
        try:
            while rest:  # once, but where a disk is about to fill up
                written = os.pwrite(self._file, rest, position)
                rest, position = rest[written:], position + written
        except OSError as error:
            with contextlib.suppress(OSError):  # the next writer would cut it off as well
                os.ftruncate(self._file, self._end)
            raise OSError(error.errno, error.strerror, str(self._partial)) from None

    def _abandon(self) -> None:
        if self._file >= 0:
            if not self.held and not self._finished:
                self._partial.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1


class Shards:
    """The photos in a folder of shards: a `photo_stores.PhotoStore`.

    Parameters
    ----------
    folder : Path
        With shards and their indices.

    Raises
    ------
    DamagedShard
        If a shard is missing, cut off or without an index, or an index is no sound one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: dict[str, list[str]] = {}  # shards that hold what must not be read are not opened at all
        self._tars = [index.with_suffix(".tar") for index in sorted(folder.glob(INDICES))]
        unindexed = sorted({*folder.glob(TARS)} - {*self._tars})
        if unindexed:
            raise DamagedShard(
                f"{unindexed[0]} has no index {_index(unindexed[0]).name}: "
                f"`python -m helpers.packing check {folder}` makes it"
            )
        columns = self._columns(("path", "offset", "size"))
        self._paths = _SortedText(columns["path"])
        self._shard, self._offset, self._size = (columns[name].to_numpy() for name in ("shard", "offset", "size"))
        self._refuse_doubles()
        self._files: dict[int, Any] = {}
        _allow_open_files(len(self._tars))

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path]]:
        return Shards, (self.folder,)

    def __len__(self) -> int:
        return len(self._paths)

    @functools.cached_property
    def index(self) -> pd.DataFrame:
        """A row per photo, sorted by path: ``path, offset, size`` (bytes), ``sha256``, `TRUTH`, and ``shard``."""
        columns = self._columns(_SCHEMA.names)
        tars = pa.array([tar.name for tar in self._tars], pa.large_string())
        columns["shard"] = tars.take(columns["shard"])
        return pd.DataFrame({name: columns.pop(name).to_pandas() for name in list(columns)})

    def names(self) -> list[str]:
        """Paths of all photos, sorted."""
        return self._paths.array.to_pylist()

    def photos_of(self, shard: str) -> list[str]:
        """Paths of the photos in one shard, e.g. ``shard-00003.tar``, in its order."""
        return _read_index(_index(self.folder / shard), ("path",))["path"].to_pylist()

    def read(self, path: str) -> bytes:
        """Bytes of a photo.

        Raises
        ------
        FileNotFoundError
            If no shard holds it.
        ValueError
            If the path leaves the folder.
        DamagedShard
            If the shard was cut off meanwhile.
        """
        row = self._row_of(path)
        if row < 0 and _UNSAFE_PATH.search(path):
            raise photo_stores.Unreadable(
                f"photo {path!r} escapes the shards in {self.folder}: correct the path", photo_stores.UNSAFE
            )
        if row < 0:
            raise FileNotFoundError(f"no shard in {self.folder} holds the photo {path!r}: correct the path, or pack it")
        return self._read(row, path)

    def check(self) -> None:
        """Compare every photo with its hash; see :func:`check`."""
        check(self.folder)

    def _columns(self, names: Sequence[str]) -> dict[str, pa.Array]:
        """Columns of all indices, ``path`` among them, and ``shard``, the number of the shard, sorted by path."""

        def one(number: int) -> pa.Table:
            table = _read_index(_index(self._tars[number]), names)
            if "size" in names:
                _check_tar(self._tars[number], table)
            return table.append_column("shard", pa.array(np.full(len(table), number, np.int32)))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            tables = list(pool.map(one, range(len(self._tars))))
        schema = pa.schema([*(_SCHEMA.field(name) for name in names), ("shard", pa.int32())])
        table = pa.concat_tables(tables) if tables else schema.empty_table()
        unsorted = dict(zip(table.column_names, table.columns, strict=True))
        del table, tables
        order = pc.sort_indices(_large(unsorted["path"]))
        # One column after the other, so that little more than one is held twice.
        return {name: _large(unsorted.pop(name)).take(order) for name in list(unsorted)}

    def _refuse_doubles(self) -> None:
        held = self._paths.array
        if len(held) < 2:
            return
        same = pc.equal(held[1:], held[:-1])
        if pc.any(same).as_py():
            row = pc.index(same, True).as_py()
            shards = {self._tars[self._shard[row]].name, self._tars[self._shard[row + 1]].name}
            raise DamagedShard(
                f"the photo {held[row].as_py()!r} is twice in {self.folder}, in {' and '.join(sorted(shards))}: "
                "delete one of them with its index"
            )

    def _row_of(self, path: str) -> int:
        try:
            encoded = path.encode()
        except UnicodeEncodeError:
            return -1
        row = bisect_left(self._paths, encoded)
        return row if row < len(self) and self._paths[row] == encoded else -1

    def _read(self, row: int, path: str) -> bytes:
        number = int(self._shard[row])
        file = self._files.get(number)
        if file is None:
            # Another thread may be as fast; the file that is not kept is closed with its last reference.
            file = self._files.setdefault(number, self._opened(number))
        return _read_at(file.fileno(), self._tars[number], path, int(self._offset[row]), int(self._size[row]))

    def _opened(self, number: int) -> Any:
        try:
            return open(self._tars[number], "rb", buffering=0)
        except FileNotFoundError:
            raise _missing(self._tars[number], self.photos_of(self._tars[number].name)) from None


class _SortedText(Sequence[bytes]):
    """Text as UTF-8 in one block of memory, which forked workers share; the items of a list would be copied on use."""

    def __init__(self, array: pa.LargeStringArray) -> None:
        self.array = array
        _, ends, data = array.buffers()
        self._ends = memoryview(ends).cast("q") if len(array) else memoryview(b"")
        self._data = memoryview(data) if data is not None else memoryview(b"")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self.array):
            raise IndexError(row)
        row += self.array.offset
        return bytes(self._data[self._ends[row] : self._ends[row + 1]])


def _large(column: pa.ChunkedArray) -> pa.Array:
    """A column in one block, of text that may exceed 2 GiB."""
    array = column.cast(pa.large_string()) if column.type == pa.string() else column
    combined = array.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def known_hashes(rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot) -> NDArray[np.bytes_]:
    """SHA-256 of the bytes that a photo root holds of each photo of a list; empty where it is not known.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list; ``path`` is read, and ``sha256`` if there is one.
    photo_root : Path
        Anything that `photo_stores.open_store` opens. The hashes of shards are those of their index, because a photo
        that was shrunk into a shard is another one than the photo that the list names.

    Returns
    -------
    ndarray of bytes, shape (n,)
        32 bytes each.
    """
    listed = rows["sha256"] if "sha256" in rows else pd.Series("", index=rows.index)
    store = photo_stores.reopened(photo_root)
    if isinstance(store, Shards):
        listed = store.index.set_index("path")["sha256"].reindex(rows["path"])
    sound = listed.astype(str).str.fullmatch("[0-9a-f]{64}").to_numpy(bool)
    hashes = np.zeros(len(rows), "S32")
    hashes[sound] = np.frombuffer(bytes.fromhex("".join(listed[sound])), "S32")
    return hashes


def ids_in(tar: Path) -> list[str]:
    """Ids of the photos in a finished shard, in its order; none if it is not there or not finished.

    Raises
    ------
    DamagedShard
        If the shard is not what its index says.
    """
    if not (tar.exists() and _index(tar).exists()):
        return []
    table = _read_index(_index(tar), ("path", "offset", "size", "id"))
    _check_tar(tar, table)
    return table["id"].to_pylist()


def photos_in(tar: Path) -> Iterator[tuple[str, bytes, str]]:
    """Path, bytes and hash of each photo in a finished shard, in its order.

    Raises
    ------
    DamagedShard
        If a photo is not what the index says.
    """
    table = _read_index(_index(tar), ("path", "offset", "size", "sha256"))
    _check_tar(tar, table)
    with open(tar, "rb", buffering=0) as file:
        for path, offset, size, sha256 in zip(*(column.to_pylist() for column in table.columns), strict=True):
            photo = _read_at(file.fileno(), tar, path, offset, size)
            if _UNSAFE_PATH.search(path) or hashlib.sha256(photo).hexdigest() != sha256:
                raise _damaged(tar, f"the photo {path!r} is not that of its index", table["path"].to_pylist())
            yield path, photo, sha256


def seal_partials(folder: Path) -> None:
    """Finish the shards of processes that were killed; one that is being written is left alone.

    Raises
    ------
    DamagedShard
        If a whole shard lacks its index and is not as it was written.
    """
    partials = {
        partial.with_name(partial.name.removeprefix(".").removesuffix(".partial")) for partial in folder.glob(PARTIALS)
    }
    for tar in sorted(partials.union(tar for tar in folder.glob(TARS) if not _index(tar).exists())):
        with contextlib.suppress(BusyShard):
            ShardWriter(tar).close()


def check(folder: Path) -> None:
    """Compare every photo in a folder of shards with its hash.

    Raises
    ------
    DamagedShard
        If a shard is not what its index says. The file ``damaged.csv`` in the folder then names all photos of such
        shards: ``id, path, shard``.
    """
    tars = [index.with_suffix(".tar") for index in sorted(folder.glob(INDICES))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(progress.track(pool.map(_problem, tars), "checking", len(tars), "shards"))
    problems = {tar: problem for tar, problem in zip(tars, found, strict=True) if problem}
    if not problems:
        (folder / DAMAGED).unlink(missing_ok=True)
        return
    with paths.replacing(folder / DAMAGED) as temporary:
        pd.concat([_named(tar) for tar in problems]).to_csv(temporary, index=False)
    raise DamagedShard(f"{'; '.join(problems.values())}. {folder / DAMAGED} names all of them")


def _problem(tar: Path) -> str:
    """What is wrong with a shard, ``""`` for nothing."""
    try:
        for _ in photos_in(tar):
            pass
    except DamagedShard as error:
        return str(error)
    return ""


def _named(tar: Path) -> pd.DataFrame:
    """Which photos a shard held, as far as its index can be read."""
    try:
        rows = _read_index(_index(tar), ("id", "path")).to_pandas()
    except DamagedShard:
        rows = pd.DataFrame({"id": [""], "path": [""]})
    return rows.assign(shard=tar.name)


def _locked(path: Path, flags: int, patience_s: float = 0) -> int:
    """Descriptor of a shard that no other process writes meanwhile."""
    deadline = time.monotonic() + patience_s
    while True:
        file = os.open(path, flags, 0o644)
        try:
            lock(file)
            if os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise BusyShard(f"{path} is being written by another process: let it end, or end it, first") from None
            time.sleep(_SECONDS_BETWEEN_TRIES)
        os.close(file)  # by now it may be another, or have another name


def lock(file: int, wait: bool = False) -> None:
    """Lock an open file against other processes, where its file system has locks.

    Where it has none, as a mounted Drive may, the work goes on without. That is safe as long as one process drives the
    work on a folder, which is how it is meant: a shard is one task, and a task is with one worker at a time. Only a
    second download or packing into the same folder would not be noticed.

    Parameters
    ----------
    file : int
        Its descriptor.
    wait : bool
        Whether to wait until no other process has it locked.

    Raises
    ------
    BlockingIOError
        If another process has it locked, unless to `wait`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _allow_open_files(shards: int) -> None:
    """Allow this process to keep every shard open, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = shards + _FILES_BESIDE_SHARDS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


def _index(tar: Path) -> Path:
    return tar.with_suffix(".parquet")


def _write_index(tar: Path, rows: list[dict[str, Any]], tar_bytes: int) -> None:
    """Write the index of a shard whose lock is held."""
    index = _index(tar)
    for left in index.parent.glob(f".{index.name}.*.partial"):  # of a process that was killed here
        left.unlink(missing_ok=True)
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({_TAR_BYTES: str(tar_bytes).encode()}))
    with paths.replacing(index) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    _sync(index.parent)


def _read_index(index: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of an index; the size of its tar is in the metadata."""
    try:
        # All that an index says is in its tar as well, so one that unpacks to more is a bomb.
        room = max(_size(index.with_suffix(".tar")), _INDEX_BYTES)
        with pq.ParquetFile(index) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            tar_bytes = int((schema.metadata or {}).get(_TAR_BYTES, b""))
            # A tar has three blocks at least per photo.
            if not schema.equals(_SCHEMA) or rows > tar_bytes // (3 * tarfile.BLOCKSIZE):
                raise ValueError("its columns or its number of rows are not those of an index")
            if sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)) > room:
                raise ValueError("it unpacks to more than its tar holds")
            batches = []
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(columns), use_threads=False):
                room -= batch.nbytes
                if room < 0:
                    raise ValueError("it unpacks to more than its tar holds")
                batches.append(batch.select(list(columns)))
            return pa.Table.from_batches(batches, pa.schema([_SCHEMA.field(name) for name in columns], schema.metadata))
    except FileNotFoundError:
        raise DamagedShard(
            f"there is no index {index}: run what made the shard {index.with_suffix('.tar').name} again"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedShard(
            f"{index} is no sound index of a shard: {error}. Delete it and run what made it again, which writes it anew"
        ) from None


def _check_tar(tar: Path, table: pa.Table) -> None:
    """Raise `DamagedShard` unless the tar has the size that its index says, and the photos lie in it."""
    tar_bytes, found = int(table.schema.metadata[_TAR_BYTES]), _size(tar)
    if found < 0:
        raise _missing(tar, table["path"].to_pylist())
    if found != tar_bytes:
        raise _damaged(tar, f"it has {found} bytes, {tar_bytes} when it was indexed", table["path"].to_pylist())
    offset, size = table["offset"].to_numpy(), table["size"].to_numpy()
    if (offset < 0).any() or (size < 0).any() or (offset > tar_bytes - size).any() or table["path"].null_count:
        raise _damaged(tar, "its index points outside it", [])
    if (size > photo_stores.MAX_BYTES).any():
        raise _damaged(tar, f"its index names a photo of more than {photo_stores.MAX_BYTES >> 20} MiB", [])


def _size(file: Path) -> int:
    """Bytes of a file, -1 if it is not there."""
    return file.stat().st_size if file.exists() else -1


def _missing(tar: Path, held: Sequence[str]) -> DamagedShard:
    return DamagedShard(
        f"{tar} is gone, with {len(held)} photos: {data_lists.shown(held)}. Put it back, or delete "
        f"{_index(tar).name} and run the download, or the packing, again: it gets just these"
    )


def _damaged(tar: Path, problem: str, held: Sequence[str] = ()) -> DamagedShard:
    return DamagedShard(_damage(tar, problem, held))


def _damage(tar: Path, problem: str, held: Sequence[str]) -> str:
    photos = f"It held {len(held)} photos: {data_lists.shown(held)}. " if held else ""
    return (
        f"{tar} is damaged: {problem}. {photos}Delete {tar.name} and {_index(tar).name} and run the download, or the "
        "packing, again: it gets just these photos"
    )


def _read_at(descriptor: int, tar: Path, path: str, offset: int, size: int) -> bytes:
    photo = photo_stores.pread(descriptor, size, offset)
    if len(photo) < size:
        held = _read_index(_index(tar), ("path",))["path"].to_pylist()
        raise _damaged(tar, f"it ends within the photo {path!r}", held)
    return photo


def _row(path: str, photo: bytes, truth: Mapping[str, object]) -> dict[str, Any]:
    """Row of the index, at offset 0."""
    if not path or _UNSAFE_PATH.search(path) or len(path.encode()) > _MOST_PATH_BYTES:
        raise ValueError(
            f"the path {path[:300]!r} is unsafe or too long: give one relative to the photo root, with '/' between "
            f"folders, without '..' and of {_MOST_PATH_BYTES} bytes at most"
        )
    if len(photo) > photo_stores.MAX_BYTES:
        raise ValueError(f"photo {path!r} has more than {photo_stores.MAX_BYTES >> 20} MiB: shrink it")
    row: dict[str, Any] = {
        "path": path,
        "offset": 0,
        "size": len(photo),
        "sha256": hashlib.sha256(photo).hexdigest(),
        **{name: _number(truth.get(name)) if name in _NUMBERS else _text(truth.get(name)) for name in TRUTH},
    }
    if not row["id"] or row["id"] != str(truth["id"]):
        raise ValueError(f"photo {path!r} has the id {truth.get('id')!r}: give it one that can be written as text")
    return row


def _text(value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    return str(value).encode("utf-8", "replace").decode()  # half a surrogate pair can be in JSON, and nowhere else


def _number(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)


def _key(path: str) -> str:
    """Name of a photo's members without their suffixes: another one for every path.

    Readers of webdataset group by what is before the first dot of a name, and skip names that begin like ``__meta__``.

    Examples
    --------
    >>> _key("rome/1.jpg"), _key("rome/1.2.jpg"), _key("rome/1.png"), _key("rome/1.png.jpg")
    ('rome/1', 'rome/1%2E2', 'rome/1%2Epng%', 'rome/1%2Epng')
    """
    folder, slash, name = path.replace("%", "%25").rpartition("/")
    stem = name.removesuffix(".jpg")
    key = folder + slash + (stem.replace(".", "%2E") if stem and stem != name else name.replace(".", "%2E") + "%")
    return f"%5F{key[1:]}" if key.startswith("__") else key


def _suffix(photo: bytes) -> str:
    return next((suffix for signature, suffix in _SUFFIXES.items() if photo.startswith(signature)), ".bin")


def _sidecar(row: Mapping[str, Any]) -> bytes:
    known = {name: row[name] for name in TRUTH if row[name] != "" and row[name] == row[name]}
    if math.inf in map(abs, (row[name] for name in _NUMBERS)):
        raise ValueError(f"photo {row['path']!r} has an infinite coordinate: correct it, or leave it out")
    sidecar = json.dumps({"path": row["path"], "sha256": row["sha256"], **known}, ensure_ascii=False).encode()
    if len(sidecar) > _MOST_SIDECAR_BYTES:
        raise ValueError(f"the truth of photo {row['path']!r} has more than 1 MiB: shorten it")
    return sidecar


def _sample(row: Mapping[str, Any], photo: bytes) -> tuple[bytes, int]:
    """A photo and its truth as two members of a tar, and where in them the photo begins."""
    key, sidecar = _key(row["path"]), _sidecar(row)
    head = _header(key + _suffix(photo), len(photo))
    between = _padding(len(photo)) + _header(f"{key}.json", len(sidecar))
    return b"".join((head, photo, between, sidecar, _padding(len(sidecar)))), len(head)


def _header(name: str, size: int) -> bytes:
    # All fields but name, size and checksum are constants, so that the same photos give the same bytes.
    if len(name) > _LONGEST_PLAIN_NAME or not name.isascii():
        member = tarfile.TarInfo(name)
        member.size = size
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    # What the above gives for a plain name, in a fifth of the time, which counts when photos come by the thousand.
    block = b"".join((name.encode().ljust(100, b"\0"), _BLOCK[100:124], b"%011o\0" % size, _BLOCK[136:148], b" " * 8))
    block += _BLOCK[156:]
    return b"".join((block[:148], b"%06o\0 " % sum(block), block[156:]))


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


class _Member(NamedTuple):
    name: str
    offset: int
    size: int
    end: int


def _finished_samples(file: int, tar: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The photos of a whole shard; raises `DamagedShard` unless it ends as it should."""
    end = 0
    for end, row in _samples(file, tar):
        yield end, row
    if os.pread(file, 2 * len(_END_OF_ARCHIVE), end) != _END_OF_ARCHIVE:
        raise _damaged(tar, f"it should end after byte {end}")


def _samples(file: int, tar: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """End of each photo with its truth, and its row of the index; raises `DamagedShard` where one is not as written."""
    members = _members(file, tar)
    for member in members:
        sidecar = next(members, None)
        if sidecar is None:
            raise _damaged(tar, f"{member.name!r} has no JSON after it")
        if sidecar.size > _MOST_SIDECAR_BYTES:
            raise _damaged(tar, f"{sidecar.name!r} claims {sidecar.size} bytes")
        photo = photo_stores.pread(file, member.size, member.offset)
        written = photo_stores.pread(file, sidecar.size, sidecar.offset)
        try:
            fields = json.loads(written)
            row = _row(fields["path"], photo, fields)
            # The JSON names the hash: a photo that changed makes another.
            sound = _sidecar(row) == written
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            sound = False
        if not sound:
            raise _damaged(tar, f"{member.name!r} and {sidecar.name!r} are not as they were written")
        key = _key(row["path"])
        if (member.name, sidecar.name) != (key + _suffix(photo), f"{key}.json"):
            raise _damaged(tar, f"{member.name!r} and {sidecar.name!r} are not the names for photo {row['path']!r}")
        yield sidecar.end, row | {"offset": member.offset}


def _members(file: int, tar: Path) -> Iterator[_Member]:
    """Members of a tar that holds plain files alone; raises `DamagedShard` at anything else."""
    size = os.fstat(file).st_size
    position, long_name = 0, ""
    while position < size:
        block = os.pread(file, tarfile.BLOCKSIZE, position)
        if block == bytes(tarfile.BLOCKSIZE):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _damaged(tar, f"there is no header at byte {position} ({error})") from None
        offset = position + tarfile.BLOCKSIZE
        extended = info.type == tarfile.XHDTYPE
        name = long_name or info.name
        if not 0 <= info.size <= (_MOST_EXTENDED_BYTES if extended else photo_stores.MAX_BYTES):
            raise _damaged(tar, f"{name!r} claims {info.size} bytes")
        position = offset + info.size + len(_padding(info.size))
        if position > size:
            raise _damaged(tar, f"{name!r} is cut off")
        if extended and not long_name:
            long_name = _long_name(os.pread(file, info.size, offset), tar)
            continue
        if info.type != tarfile.REGTYPE:
            raise _damaged(tar, f"{name!r} is a link, a device, a folder or the like")
        yield _Member(name, offset, info.size, position)
        long_name = ""


def _long_name(extended: bytes, tar: Path) -> str:
    """Name in an extended header, which holds nothing else here."""
    record = re.fullmatch(rb"(\d{1,9}) path=([^\n\0]+)\n", extended)
    if not record or int(record[1]) != len(extended):
        raise _damaged(tar, "an extended header holds more than a name")
    return record[2].decode("utf-8", "surrogateescape")
