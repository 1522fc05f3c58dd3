"""The photos of a dataset, wherever they lie: loose in a folder, in a zip, in a tar.

Nothing is unpacked: a store lists what it holds, and reads one file at a time into memory. It can be pickled, and
used by threads and forked processes at once: archives are read with ``pread``, which moves no file position, and a
process that unpickles a store opens the files for itself.

What comes from outside is hostile: a name that leaves its folder, a link, an entry that lies about its size is never
read. ``names`` does not list it, and ``refused`` says why.
"""

import functools
import os
import re
import stat
import tarfile
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

MAX_BYTES = 1 << 28
"""Of one file, unpacked."""

# Not relative to the root of the store, or a trap for a shell, a log or another operating system.
UNSAFE_PATH = r"^/|/$|//|(?:^|/)\.\.?(?:/|$)|^[A-Za-z]:|\\|[\x00-\x1f\x7f]"
_UNSAFE_PATH = re.compile(UNSAFE_PATH)
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # the last are bytes of file names that are no UTF-8

UNWRITABLE = "name that no CSV file can hold"
UNSAFE = "unsafe path"
_TOO_LARGE = "too large"
_LINK = "link or device"
_TWICE = "occurs more than once"
_ENCRYPTED = "encrypted"
_OVERLAPPING = "overlaps another member"
_DAMAGED = "damaged in its archive"

_REMEDIES = {
    UNWRITABLE: "rename it and pack the archive again",
    UNSAFE: "pack the archive again, with paths relative to its top, '/' between folders and without '..'",
    _TOO_LARGE: f"a photo may have {MAX_BYTES >> 20} MiB: shrink it and pack the archive again",
    _LINK: "pack the archive again with the photos themselves",
    _TWICE: "pack the archive again with one of them",
    _ENCRYPTED: "pack the archive again without a password",
    _OVERLAPPING: "the archive is forged or damaged: get it again",
    _DAMAGED: "get the archive again",
}
ARCHIVE = re.compile(r"\.(zip|tar|tar\.\w+|t[gbx]z2?)$", re.IGNORECASE)
"""How archives are named."""
_COMPRESSED_TAR = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
_LOCAL_HEADER = 30  # bytes before the name of a member, by the specification of the zip format (APPNOTE 4.3.7)


class Unreadable(ValueError):
    """A file of a store that must not or cannot be read.

    Attributes
    ----------
    reason : str
        By which such files are counted, e.g. ``unsafe path`` or ``damaged in its archive``.
    """

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class PhotoStore(Protocol):
    """The photos of a dataset."""

    @property
    def refused(self) -> dict[str, list[str]]:
        """Names of what is there but is never read, by reason; complete once `names` was called."""
        ...

    def names(self) -> list[str]:
        """Paths of all files it holds, sorted, with ``/`` between folders."""
        ...

    def read(self, path: str) -> bytes:
        """Bytes of a file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the path leaves the store, or the file must not or cannot be read (`Unreadable`).
        """
        ...


PhotoRoot = Path | PhotoStore
"""Where photos are: what :func:`open_store` opens, or what it has opened."""


def open_store(photo_root: Path) -> PhotoStore:
    """The photos in a folder, a zip, a tar or a folder of shards.

    Parameters
    ----------
    photo_root : Path
        A folder that need not exist yet, or an archive that must.

    Raises
    ------
    FileNotFoundError
        If there is no such archive.
    ValueError
        If it is a file but no archive that can be read.
    """
    if any(file.suffix in (".parquet", ".tar") for file in photo_root.glob("shard-*")):
        from helpers import shards  # which opens the stores that it packs

        return shards.Shards(photo_root)
    archive = ARCHIVE.search(photo_root.name)
    if photo_root.is_file():
        if not archive:
            raise ValueError(f"{photo_root} is neither a folder nor a zip or tar: give one that holds photos")
        return Zip(photo_root) if archive[1].lower() == "zip" else Tar(photo_root)
    if archive and not photo_root.is_dir():
        raise FileNotFoundError(f"there is no archive {photo_root}: correct its path")
    return Folder(photo_root)


def reopened(photo_root: PhotoRoot) -> PhotoStore:
    """What :func:`open_store` opens, kept open for the next task of this process; what is open stays so.

    Listing an archive of millions takes longer than a task. One that changed meanwhile is opened anew.
    """
    if not isinstance(photo_root, Path):
        return photo_root
    return _kept(photo_root, photo_root.stat().st_mtime_ns if photo_root.exists() else 0)


@functools.lru_cache(maxsize=2)  # photos, and their segmentation maps
def _kept(photo_root: Path, changed_ns: int) -> PhotoStore:
    return open_store(photo_root)


def photo_names(store: PhotoStore) -> tuple[list[str], dict[str, list[str]]]:
    """Which files of a store are photos by their names, and what is passed over, by reason.

    Hidden files, among them those that a Mac adds to every archive, and those in hidden folders are no photos.

    Returns
    -------
    tuple
        Sorted paths of the photos; sorted names of everything else, by reason. A hidden folder is named once.
    """
    from helpers import photos  # brings torch, which a process that only reads does without

    found = []
    passed_over: dict[str, set[str]] = {}
    for path in store.names():
        suffix = os.path.splitext(path)[1].lower()
        if path.startswith(".") or "/." in path:
            passed_over.setdefault("hidden", set()).add(_hidden_part(path))
        elif suffix in photos.SUFFIXES:
            found.append(path)
        else:
            passed_over.setdefault(f"no photo by its name ({suffix or 'no suffix'})", set()).add(path)
    for reason, names in store.refused.items():
        passed_over.setdefault(reason, set()).update(names)
    return found, {reason: sorted(names) for reason, names in sorted(passed_over.items())}


class Folder:
    """Loose files below a folder.

    Parameters
    ----------
    root : Path
        Need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: dict[str, list[str]] = {}
        self._real_root = os.path.join(os.path.realpath(root), "")
        self._real_folders: dict[str, str] = {}  # they are few, the photos many

    def __reduce__(self) -> tuple[type["Folder"], tuple[Path]]:
        return Folder, (self.root,)

    def names(self) -> list[str]:
        """Paths of all files below the folder, sorted; folders that are links are not entered."""
        names = []
        self.refused = {}
        for folder, folders, files in os.walk(self.root, onerror=self._unlistable):
            inside = os.path.relpath(folder, self.root).replace(os.sep, "/") + "/"
            inside = "" if inside == "./" else inside
            links = {name for name in folders if os.path.islink(os.path.join(folder, name))}
            for name in (*links, *files):
                path = inside + name
                problem = "linked folder" if name in links else unsafe_name(path)
                if problem:
                    self.refused.setdefault(problem, []).append(_printable(path))
                else:
                    names.append(path)
        return sorted(names)

    def read(self, path: str) -> bytes:
        """Bytes of a file; see `PhotoStore.read`."""
        # Without blocking: a named pipe would be waited for.
        descriptor = os.open(self.locate(path), os.O_RDONLY | os.O_NONBLOCK)
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise FileNotFoundError(f"{path!r} below {self.root} is no file, but a folder or device: correct it")
            if state.st_size > MAX_BYTES:
                raise Unreadable(
                    f"the file {path!r} below {self.root} is larger than {MAX_BYTES >> 20} MiB: shrink it", _TOO_LARGE
                )
            return _read(descriptor, state.st_size)
        finally:
            os.close(descriptor)

    def locate(self, path: str) -> str:
        """The file of a path, which need not exist.

        Raises
        ------
        ValueError
            If the path leaves the folder, be it through a symbolic link.
        """
        folder, slash, name = path.rpartition("/")
        file = f"{self._real_folder(folder or slash)}/{name}"
        return self._checked(os.path.realpath(file), path) if name == ".." or os.path.islink(file) else file

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real_folders:
            real = os.path.realpath(os.path.join(self._real_root, folder))
            self._real_folders[folder] = self._checked(real, folder)
        return self._real_folders[folder]

    def _checked(self, file: str, path: str) -> str:
        if not os.path.join(file, "").startswith(self._real_root):
            raise Unreadable(
                f"photo {path!r} escapes the photo root {self.root}: move the photo below it and correct the path",
                UNSAFE,
            )
        return file

    def _unlistable(self, error: OSError) -> None:
        folder = os.path.relpath(error.filename, self.root)
        if folder == ".":
            raise error
        self.refused.setdefault(f"folder that cannot be listed ({error.strerror})", []).append(_printable(folder))


class _Member(NamedTuple):
    """Where the bytes of a file lie in an archive."""

    offset: int
    size: int
    packed_size: int
    method: int = zipfile.ZIP_STORED
    checksum: int = 0


class _Archive:
    """Files in an archive, read where they lie.

    Parameters
    ----------
    file : Path
        The archive.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._descriptor = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._members: dict[str, _Member] = {}
        self._problems: dict[str, str] = {}
        self._take(list(self._scanned()))

    def __reduce__(self) -> tuple[type["_Archive"], tuple[Path]]:
        return type(self), (self.file,)

    @property
    def refused(self) -> dict[str, list[str]]:
        """Names of members that are never read, by reason."""
        found: dict[str, list[str]] = {}
        for name, problem in sorted(self._problems.items()):
            found.setdefault(problem, []).append(_printable(name))
        return found

    def names(self) -> list[str]:
        """Paths of all files that may be read, sorted."""
        return sorted(self._members)

    def read(self, path: str) -> bytes:
        """Bytes of a file; see `PhotoStore.read`."""
        if path in self._members:
            return self._unpacked(path, self._members[path])
        if path in self._problems:
            raise self._unreadable(path, self._problems[path])
        raise FileNotFoundError(f"the archive {self.file} has no {path!r}: correct the path")

    def _scanned(self) -> Iterator[tuple[str, str, _Member]]:
        """Name, problem (``""`` for none) and place of every file."""
        raise NotImplementedError

    def _unpacked(self, path: str, member: _Member) -> bytes:
        raise NotImplementedError

    def _take(self, scanned: list[tuple[str, str, _Member]]) -> None:
        # Which of two is meant nobody knows, and readers of archives differ.
        occurrences = Counter(name for name, _, _ in scanned)
        end = os.fstat(self._descriptor).st_size
        for name, problem, member in scanned:
            problem = unsafe_name(name) or problem or (_TWICE if occurrences[name] > 1 else "")
            problem = problem or (_TOO_LARGE if not 0 <= member.size <= MAX_BYTES else "")
            problem = problem or (_DAMAGED if not 0 <= member.offset <= end - member.packed_size else "")
            if problem:
                self._problems.setdefault(name, problem)
            else:
                self._members[name] = member

    def _unreadable(self, path: str, reason: str) -> Unreadable:
        remedy = _REMEDIES.get(reason, "pack the archive again")
        return Unreadable(f"{path!r} in the archive {self.file} cannot be read ({reason}): {remedy}", reason)


class Zip(_Archive):
    """Files in a zip, stored or deflated.

    Raises
    ------
    ValueError
        If the file is no sound zip.
    """

    def _scanned(self) -> Iterator[tuple[str, str, _Member]]:
        try:
            with zipfile.ZipFile(self.file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OverflowError) as error:
            raise ValueError(f"{self.file} is no sound zip: {error}. Get or pack it again") from None
        overlapping = _overlapping(entries)
        for entry in entries:
            if not entry.filename.endswith("/"):  # `is_dir` of a damaged entry without a name is an IndexError
                member = _Member(
                    entry.header_offset, entry.file_size, entry.compress_size, entry.compress_type, entry.CRC
                )
                problem = _entry_problem(entry) or (_OVERLAPPING if entry.header_offset in overlapping else "")
                yield entry.orig_filename.removeprefix("./"), problem, member

    def _unpacked(self, path: str, member: _Member) -> bytes:
        header = os.pread(self._descriptor, _LOCAL_HEADER, member.offset)
        if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\3\4"):
            raise self._unreadable(path, _DAMAGED)
        start = _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        data = pread(self._descriptor, member.packed_size, member.offset + start)
        if member.method == zipfile.ZIP_DEFLATED:
            try:
                # One byte more than announced is enough to see that a bomb lied.
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
            except zlib.error:
                raise self._unreadable(path, _DAMAGED) from None
        if len(data) != member.size or zlib.crc32(data) != member.checksum:
            raise self._unreadable(path, _DAMAGED)
        return data


class Tar(_Archive):
    """Files in an uncompressed tar.

    Raises
    ------
    ValueError
        If the file is no sound tar, or a compressed one.
    """

    def _scanned(self) -> Iterator[tuple[str, str, _Member]]:
        tool = next((tool for magic, tool in _COMPRESSED_TAR.items() if self._at(0, 6).startswith(magic)), "")
        if tool:
            raise ValueError(f"{self.file} is compressed, so that no photo can be read by itself: {tool} it first")
        end = 0
        try:
            with tarfile.open(self.file, "r:") as archive:
                while (entry := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # millions of them would fill the memory
                    if entry.offset < end:
                        raise tarfile.ReadError("its members overlap")
                    end = entry.offset_data + max(entry.size, 0)
                    if not entry.isdir():
                        problem = "" if entry.isreg() and not entry.issparse() else _LINK
                        member = _Member(entry.offset_data, entry.size, entry.size)
                        yield entry.name.removeprefix("./"), problem, member
                end = archive.offset
        except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"{self.file} is no sound tar: {error}. Get or pack it again") from None
        # The module tarfile takes anything that is no header for the end, and would drop what follows in silence.
        if self._at(end, tarfile.BLOCKSIZE).strip(b"\0") or not self._at(end, 1):
            raise ValueError(f"{self.file} is damaged or cut off at byte {end}: get or pack it again")

    def _unpacked(self, path: str, member: _Member) -> bytes:
        data = pread(self._descriptor, member.size, member.offset)
        if len(data) != member.size:
            raise self._unreadable(path, _DAMAGED)
        return data

    def _at(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)


def _entry_problem(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return _LINK
    if entry.flag_bits & 1:
        return _ENCRYPTED
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {entry.compress_type}, not by deflate"
    # Deflate never adds more than this to what it cannot shrink; a larger one would be read into memory first.
    return _TOO_LARGE if entry.compress_size > entry.file_size + entry.file_size // 1000 + 1024 else ""


def _overlapping(entries: Iterable[zipfile.ZipInfo]) -> set[int]:
    """Offsets of members that reach into the next: a bomb that unpacks the same bytes again and again."""
    extents = sorted((entry.header_offset, entry.header_offset + entry.compress_size) for entry in entries)
    touching = [pair for pair in pairwise(extents) if pair[0][1] + _LOCAL_HEADER > pair[1][0]]
    return {offset for pair in touching for offset, _ in pair}


def unsafe_name(path: str) -> str:
    """Why a path must not be read, ``""`` if it may.

    Examples
    --------
    >>> unsafe_name("a/b.jpg"), unsafe_name("a/../b.jpg")
    ('', 'unsafe path')
    """
    if _UNWRITABLE.search(path):
        return UNWRITABLE
    return UNSAFE if not path or _UNSAFE_PATH.search(path) else ""


def _hidden_part(path: str) -> str:
    """A path up to what is hidden.

    Examples
    --------
    >>> _hidden_part("a/.git/objects/b.jpg")
    'a/.git'
    """
    parts = path.split("/")
    first = next(number for number, part in enumerate(parts) if part.startswith("."))
    return "/".join(parts[: first + 1])


def _printable(path: str) -> str:
    return ascii(path) if _UNWRITABLE.search(path) else path


def _read(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size)
    while len(data) < size:  # a signal, or a file that shrinks meanwhile
        more = os.read(descriptor, size - len(data))
        if not more:
            break
        data += more
    return data


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes of a file, or what there is of them."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:  # the end, or a file system that gives less than asked for
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
