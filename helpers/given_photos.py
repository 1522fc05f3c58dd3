"""The photos that somebody names: files, folders and globs, or bytes.

They are read where they lie, one at a time. A photo is called as it was given, so that a table of guesses holds no path
of this machine that its reader did not type.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers import data_lists, fetch, notebooks, photo_stores, photos

_SKIPPED = ("hidden", "no photo by its name")  # how the reasons begin of what nobody takes for a photo
_LINK = "link out of its folder"
_EXAMPLES = 8


class Source(NamedTuple):
    """Where the bytes of a photo are."""

    store: photo_stores.PhotoStore
    path: str
    """Within the store."""


class Given:
    """Photos by name, for whatever reads a store of photos.

    Parameters
    ----------
    sources : mapping of str to Source or bytes
        By the name that the photo is called by.
    errors : mapping of str to str
        Why photos that were named will not be read, by their name.
    passed_over : int
        Files that are no photos by their names, and were not opened.
    """

    def __init__(
        self, sources: Mapping[str, Source | bytes], errors: Mapping[str, str] | None = None, passed_over: int = 0
    ) -> None:
        self.sources = dict(sources)
        self.errors = dict(errors or {})
        self.passed_over = passed_over
        self.refused: dict[str, list[str]] = {}

    def names(self) -> list[str]:
        """Names of the photos that can be tried, in the order in which they were given."""
        return [name for name in self.sources if name not in self.errors]

    def rows(self) -> pd.DataFrame:
        """Rows as of a data list, ``id`` and ``path``, of the photos that can be tried."""
        return pd.DataFrame({"id": self.names(), "path": self.names()}, dtype=object)

    def read(self, path: str) -> bytes:
        """Bytes of a photo; see `photo_stores.PhotoStore.read`."""
        source = self.sources[path]
        if isinstance(source, bytes):
            return source
        try:
            return source.store.read(source.path)
        except photo_stores.Unreadable as error:
            # One link among many photos shall not stop the others, as it does where a list is at fault.
            reason = _LINK if error.reason == photo_stores.UNSAFE else error.reason
            raise photo_stores.Unreadable(f"photo {path!r} is not read: {reason}", reason) from None
        except OSError as error:  # whose own text has the whole path
            reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            said = error.strerror or "it is no file"
            raise photo_stores.Unreadable(f"photo {path!r} cannot be read: {said}", reason) from None


def find(given: Sequence[str | Path], base: Path = Path()) -> Given:
    """Photos that files, folders and globs name, each once, in the order given; of a folder sorted.

    Parameters
    ----------
    given : sequence of str or Path
        A file, a folder, which is searched to its depths, a zip or tar of photos, or a glob, in which ``**`` stands for
        any folders. What exists under a name is taken for no glob.
    base : Path
        What relative names are relative to.

    Returns
    -------
    Given
        Files that are no photos by their names are passed over, unless they are named themselves. What is named and is
        not there, is no photo, or has a name that no table can hold, is told of in ``errors``.

    Raises
    ------
    ValueError
        If a glob or a folder has no photo, or nothing is given.
    """
    found = _Found(base)
    for each in map(str, given):
        name = os.path.expanduser(each)
        place = base / name
        if place.is_dir() or (place.is_file() and photo_stores.ARCHIVE.search(name)):
            if not found.take_store(name, place):
                raise ValueError(f"there is no photo in {each!r}: photos are files {_suffixes()}")
        elif os.path.lexists(place) or not glob.has_magic(name):
            found.take_file(name)
        elif not found.take_glob(name):
            raise ValueError(f"no photo matches {each!r}: correct the pattern; photos are files {_suffixes()}")
    if not found.sources:
        raise ValueError("no photo is given: name files, folders or globs")
    return Given(found.sources, found.errors, len(found.passed_over))


def of_bytes(files: Mapping[str, bytes]) -> Given:
    """Photos that are in memory, by what they are to be called."""
    return Given(files)


def asked_for(wanted: str, first: int = 0) -> Given:
    """Photos that the parameter of a notebook names; for an empty one a few test photos of toy-earth.

    Parameters
    ----------
    wanted : str
        A file, a folder or a glob.
    first : int
        Photos to take at most, 0: all; of toy-earth 8.
    """
    if wanted:
        found = find([wanted])
        names = list(found.sources)[: first or None]
        errors = {name: why for name, why in found.errors.items() if name in names}
        return Given({name: found.sources[name] for name in names}, errors, found.passed_over)
    notebooks.require_list(data_lists.EMBEDDED)
    rows = data_lists.read(data_lists.EMBEDDED)
    test = rows[rows["split"] == "test"].head(first or _EXAMPLES)
    return find(test["path"].tolist(), base=fetch.ensure(test, data_lists.EMBEDDED))


class _Found:
    """What was found so far, each file once."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.sources: dict[str, Source] = {}
        self.errors: dict[str, str] = {}
        self.passed_over: set[str] = set()
        self.files: set[str] = set()

    def take_store(self, name: str, place: Path) -> bool:
        """Take the photos of a folder or an archive, and tell whether there are any."""
        store = photo_stores.open_store(place)
        names, others = photo_stores.photo_names(store)
        for path in names:
            self._take(os.path.join(name, path), Source(store, path), os.path.realpath(place / path))
        refused = {path: reason for reason, paths in others.items() for path in paths}
        for path, reason in refused.items():
            inside = os.path.join(name, path)
            if reason.startswith(_SKIPPED) or not _is_photo(path.strip("'")):
                self.passed_over.add(inside)
            else:
                self._take(inside, Source(store, path), inside)
                self.errors[inside] = f"photo {inside!r} is not read: {reason}"
        return bool(names) or not self.passed_over.issuperset(os.path.join(name, path) for path in refused)

    def take_glob(self, name: str) -> bool:
        """Take the photos that match a glob, and tell whether there are any."""
        matches = [match for match in glob.glob(name, root_dir=self.base, recursive=True) if _is_photo(match)]
        for match in sorted(matches):
            self.take_file(match)
        return bool(matches)

    def take_file(self, name: str) -> None:
        """Take a single file."""
        place = self.base / name
        source = Source(photo_stores.Folder(place.parent), place.name)
        if photo_stores.unsafe_name(name) == photo_stores.UNWRITABLE:
            name = ascii(name)
            self.errors[name] = f"photo {name} is not read: {photo_stores.UNWRITABLE}"
        elif not _is_photo(name):
            self.errors[name] = (
                f"{name!r} is not opened, for it is no photo by its name: photos are files {_suffixes()}"
            )
        self._take(name, source, os.path.realpath(place))

    def _take(self, name: str, source: Source, file: str) -> None:
        if file not in self.files:
            self.files.add(file)
            self.sources.setdefault(name, source)


def _is_photo(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in photos.SUFFIXES


def _suffixes() -> str:
    return ", ".join(photos.SUFFIXES)
