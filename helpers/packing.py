"""Put the photos of a list into shards, and take them out again.

``python -m helpers.packing`` packs a dataset into a few large files, fit for a Drive, unpacks them, and checks them.
:func:`prepared` keeps the photos of a list in the size that training takes. A task is a shard, and a shard that is
there is not made again, so what was interrupted goes on.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from helpers import cluster, data_lists, notebooks, paths, photo_stores, photos, shards

PREPARED, PACKING = "prepared.json", "packing.json"

_SECONDS_FOR_A_DYING_WORKER = 60
_WEIGHED_PHOTOS = 64  # to know how many fill a shard


class Packed(NamedTuple):
    """What was packed, or unpacked."""

    photos: int
    left_out: dict[str, list[str]]
    """Paths of photos that cannot be used, by reason."""
    bytes: int


def pack(rows: pd.DataFrame, photo_root: Path, folder: Path, short_side: int, photos_per_shard: int) -> Packed:
    """Pack the photos of a list into shards, a task per shard.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list: ``id``, ``path`` and what is known of `TRUTH`. With ``sha256``, every photo must be the one
        that the list names; without, a photo that cannot be used is left out.
    photo_root : Path
        Where the photos are: anything that `photo_stores.open_store` opens.
    folder : Path
        Of the shards. Those that are there are kept, so that packing can be continued.
    short_side : int
        Pixels that the shorter side may have; 0 keeps the photos as they are. See `photos.prepare`.
    photos_per_shard : int
        Sorted by id, the photos ``k * photos_per_shard`` and following are in shard ``k``.

    Returns
    -------
    Packed
        Photos in the shards, what was left out, and bytes of the shards.

    Raises
    ------
    MissingPhotos
        If photos of the list are not there.
    ChangedPhoto
        If the bytes of photos are not those that the list names.
    PhotoError
        If a photo of the list cannot be used.
    ValueError
        If the folder holds shards of something else, or of a list or source that has changed since, or the rows are
        not sound.
    """
    photo_root, folder = (path.expanduser().resolve() for path in (photo_root, folder))  # workers may be elsewhere
    data_lists.check_names(rows)
    _check_short_side(short_side)
    if photos_per_shard < 1:
        raise ValueError(f"photos_per_shard is {photos_per_shard}: a shard needs at least 1 photo")
    known = [name for name in ("path", "sha256", *shards.TRUTH) if name in rows]
    rows = rows[known].sort_values("id", ignore_index=True)
    how: dict[str, object] = {**_preparation(short_side), "photos_per_shard": photos_per_shard, "rows": _digest(rows)}
    _settle(folder, how | {"photos": len(rows)} if "sha256" in rows else how)
    tasks = [
        _Packing(rows[start : start + photos_per_shard], photo_root, folder / f"shard-{number:05d}.tar", short_side)
        for number, start in enumerate(range(0, len(rows), photos_per_shard))
    ]
    results = dict(cluster.mapped(_pack_shard, tasks, "packing", total=len(rows)))
    return _summed([results[number] for number in range(len(tasks))])


def prepared(rows: pd.DataFrame, dataset: str, photo_root: Path, short_side: int) -> Path:
    """Folder of shards with the photos of a list as training takes them; made if it is not there.

    The folder is named after the fingerprint of the list and the preparation, so that a second run with the same finds
    it, and one with another does not.

    Parameters
    ----------
    rows : DataFrame
        From `data_lists.read`.
    dataset : str
        Name of the dataset.
    photo_root : Path
        Where the photos are; not looked at if they are prepared already.
    short_side : int
        Pixels that the shorter side may have; 0 keeps the photos as they are.

    Returns
    -------
    Path
        A photo root in which the paths of the list are found.

    Raises
    ------
    MissingPhotos, ChangedPhoto, PhotoError, DamagedShard
        See `pack` and `Shards`.
    """
    if len(rows) != int(rows.attrs["rows"]):
        raise ValueError(f"{len(rows)} of {rows.attrs['rows']} rows of the list are given: prepare all of them")
    folder, wanted = _preparation_of(rows, dataset, short_side)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock")):
        record = _recorded(folder / PREPARED)
        if record not in ({}, wanted):
            shutil.rmtree(folder)
        elif record and len(shards.Shards(folder)) == len(rows):
            print(f"reading {len(rows)} photos prepared before in {folder}", flush=True)
            return folder
        print(f"preparing {len(rows)} photos of {dataset} in {folder}", flush=True)
        pack(rows, photo_root, folder, short_side, _photos_per_cached_shard(len(rows)))
        _record(folder / PREPARED, wanted)
    return folder


def is_prepared(rows: pd.DataFrame, dataset: str, short_side: int) -> bool:
    """Whether :func:`prepared` will find the photos of a list, and so needs no others."""
    folder, wanted = _preparation_of(rows, dataset, short_side)
    return _recorded(folder / PREPARED) == wanted


def _preparation_of(rows: pd.DataFrame, dataset: str, short_side: int) -> tuple[Path, dict[str, object]]:
    """Folder of the prepared photos of a list, and what is recorded there when they are."""
    fingerprint = str(rows.attrs["fingerprint"])
    folder = paths.shards(dataset) / f"{fingerprint[:12]}-{short_side}"
    return folder, {"fingerprint": fingerprint, **_preparation(short_side), "photos": len(rows)}


def unpack(folder: Path, destination: Path) -> Packed:
    """Write the photos of shards as loose files, each verified.

    Parameters
    ----------
    folder : Path
        With the shards.
    destination : Path
        Photo root for the paths of the list. Photos that are there already are kept.

    Returns
    -------
    Packed
        Photos now at `destination`, and their bytes.

    Raises
    ------
    DamagedShard
        If a photo is not what its index says.
    ChangedPhoto
        If another file is where a photo belongs; it is not replaced.
    ValueError
        If there are no shards, or not all that were packed, or a path leaves `destination`.
    """
    folder, destination = (path.expanduser().resolve() for path in (folder, destination))
    store = _whole(folder)
    tasks = [_Unpacking(tar, destination) for tar in sorted(folder.glob(shards.TARS))]
    return _summed([result for _, result in cluster.mapped(_unpack_shard, tasks, "unpacking", total=len(store))])


def pack_dataset(
    dataset: str, rows: pd.DataFrame, photo_root: Path, folder: Path, short_side: int, megabytes: int
) -> Packed:
    """Pack a dataset, its photos and its list, into a few large files, e.g. for a Drive.

    Parameters
    ----------
    dataset : str
        Name of a dataset that has a list.
    rows : DataFrame
        Its list, from `data_lists.read`.
    photo_root : Path
        Where its photos are.
    folder : Path
        Where the files go. The list is among them; where photos are shrunk it names the hashes of the shrunk ones.
    short_side : int
        Pixels that the shorter side may have; 0 keeps the photos as they are.
    megabytes : int
        What a file holds, roughly.

    Returns
    -------
    Packed
        See `pack`.
    """
    folder = folder.expanduser().resolve()
    packed = pack(rows, photo_root, folder, short_side, _photos_that_fill(megabytes, rows, photo_root, short_side))
    source = paths.data_list(dataset)
    if not short_side:
        with paths.replacing(folder / source.name) as temporary:
            shutil.copyfile(source, temporary)
        return packed
    index = shards.Shards(folder).index.set_index("id")
    shrunk = rows.assign(sha256=index.loc[rows["id"], "sha256"].to_numpy())
    # Without how the photos can be fetched: they would not come in this size.
    former = ("rows", "fingerprint", "fetched with")
    header = {str(key): value for key, value in rows.attrs.items() if key not in former}
    header["prepared"] = (
        f"short side of {short_side} px at most, from the list with fingerprint {rows.attrs['fingerprint']}"
    )
    data_lists.write(shrunk, header, folder / source.name)
    return packed


def destination(dataset: str, folder: str) -> Path:
    """Where the files of a dataset go: `folder`, or by default (``""``) a folder beside its prepared photos."""
    return Path(folder).expanduser().resolve() if folder else paths.shards(dataset) / "packed"


@dataclasses.dataclass(frozen=True, eq=False)
class _Packing:
    rows: pd.DataFrame
    photo_root: Path
    tar: Path
    short_side: int


@dataclasses.dataclass(frozen=True)
class _Unpacking:
    tar: Path
    destination: Path


def _pack_shard(task: _Packing) -> Packed:
    wanted = task.rows["id"].tolist()
    if shards.ids_in(task.tar) == wanted:
        cluster.done(len(wanted))
        return Packed(len(wanted), {}, task.tar.stat().st_size)
    store = photo_stores.reopened(task.photo_root)
    listed = "sha256" in task.rows
    problems: dict[str, list[str]] = {}
    with shards.ShardWriter(task.tar, _SECONDS_FOR_A_DYING_WORKER) as shard:
        _refuse_foreign(shard, wanted)
        for row in cast(list[dict[str, Any]], task.rows.to_dict("records")):
            cluster.done()
            if row["id"] in shard.held:
                continue
            path = row["path"]
            try:
                data = store.read(path)
                if listed and hashlib.sha256(data).hexdigest() != row["sha256"]:
                    problems.setdefault("changed", []).append(path)
                    continue
                photo = photos.prepare(data, path, task.short_side).data
            except FileNotFoundError:
                problems.setdefault("missing", []).append(path)
            except (photos.PhotoError, photo_stores.Unreadable) as error:
                if listed:
                    raise
                problems.setdefault(error.reason, []).append(path)
            else:
                shard.add(path, photo, row)
        if listed:
            _refuse_incomplete(problems, len(task.rows), task)
    size = task.tar.stat().st_size if shard.held else 0
    return Packed(len(shard.held), problems, size)


def _unpack_shard(task: _Unpacking) -> Packed:
    folder = photo_stores.Folder(task.destination)
    foreign, count, size = [], 0, 0
    for path, photo, sha256 in shards.photos_in(task.tar):
        count, size = count + 1, size + len(photo)
        cluster.done()
        target = Path(folder.locate(path))
        if not os.path.lexists(target):
            with paths.replacing(target) as temporary:
                temporary.write_bytes(photo)
        elif hashlib.sha256(folder.read(path)).hexdigest() != sha256:
            foreign.append(path)
    if foreign:
        raise data_lists.ChangedPhoto(
            f"{len(foreign)} files below {task.destination} are not the photos of {task.tar.name} that belong there: "
            f"{data_lists.shown(foreign)}. Move them away, or unpack into another folder"
        )
    return Packed(count, {}, size)


def _refuse_foreign(shard: shards.ShardWriter, wanted: Sequence[str]) -> None:
    foreign = sorted(shard.held.keys() - set(wanted))
    if foreign:
        raise ValueError(
            f"{shard.path} holds {len(foreign)} photos that do not belong there: {data_lists.shown(foreign)}. "
            "Pack into another folder, or delete this one"
        )


def _refuse_incomplete(problems: Mapping[str, list[str]], total: int, task: _Packing) -> None:
    missing, changed = problems.get("missing", []), problems.get("changed", [])
    if missing:
        raise data_lists.MissingPhotos(
            f"{len(missing)} of {total} photos for {task.tar.name} are not in {task.photo_root}: "
            f"{data_lists.shown(missing)}. Put them there, or give what holds them as photo_root"
        )
    if changed:
        raise data_lists.ChangedPhoto(
            f"{len(changed)} of {total} photos for {task.tar.name} are not those of the list: "
            f"{data_lists.shown(changed)}. Restore them in {task.photo_root}, or build the list again: "
            f"{task.rows.attrs.get('made by') or data_lists.build_command('NAME')}"
        )


def _whole(folder: Path) -> shards.Shards:
    """Shards of a folder that has some, and all of them."""
    store = shards.Shards(folder)
    growing = sorted(folder.glob(shards.PARTIALS))
    if growing:
        raise ValueError(
            f"{growing[0]} is not finished: let the process that writes it end, or run "
            f"`python -m helpers.packing check {folder}`, which finishes what was interrupted"
        )
    if not len(store):
        raise ValueError(f"there are no shards in {folder}: give the folder that they were packed into")
    lacking, total, names = _gaps(folder, store)
    if lacking:
        raise ValueError(
            f"{lacking} of {total} photos that belong in {folder} are not there (first {data_lists.shown(names)}): "
            "copy the files again, or run the packing again, which goes on where it was"
        )
    return store


def _gaps(folder: Path, store: shards.Shards) -> tuple[int, int, list[str]]:
    """How many photos lack, of how many, and the first files that lack some; or photos, where only a list tells."""
    record = _recorded(folder / PACKING)
    total, size = record.get("photos"), record.get("photos_per_shard")
    if isinstance(total, int) and isinstance(size, int) and size > 0:
        numbers = range(-(-total // size) if total > len(store) else 0)
        tars = ((folder / f"shard-{number:05d}.tar", min(size, total - number * size)) for number in numbers)
        short = (tar.name for tar, photos in tars if len(shards.ids_in(tar)) < photos)
        return max(total - len(store), 0), total, list(itertools.islice(short, 3))
    absent, total = [], 0
    for file in _lists(folder):
        listed = data_lists.read(file)["path"]
        total += len(listed)
        absent += listed[~listed.isin(store.names())].tolist()
    return len(absent), total, absent[:3]


def _lists(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.csv*") if file.name != shards.DAMAGED)


def _summed(results: Sequence[Packed]) -> Packed:
    left_out: dict[str, list[str]] = {}
    for result in results:
        for reason, names in result.left_out.items():
            left_out.setdefault(reason, []).extend(names)
    left_out = {reason: sorted(names) for reason, names in sorted(left_out.items())}
    return Packed(sum(result.photos for result in results), left_out, sum(result.bytes for result in results))


def _check_short_side(short_side: int) -> None:
    if short_side < 0:
        raise ValueError(f"short_side is {short_side}: give a number of pixels, or 0 to keep the photos as they are")


def _preparation(short_side: int) -> dict[str, int]:
    return {"short_side": short_side, "quality": photos.JPEG_QUALITY}


def _photos_per_cached_shard(photos: int) -> int:
    """Enough shards for many cores, few enough to be opened at once, whatever the machine.

    Examples
    --------
    >>> [_photos_per_cached_shard(photos) for photos in (1_000, 100_000, 5_000_000)]
    [256, 1563, 10000]
    """
    return min(max(-(-photos // 64), 256), 10_000)


def _photos_that_fill(megabytes: int, rows: pd.DataFrame, photo_root: Path, short_side: int) -> int:
    """How many photos fill a shard, judged by some of them; the same for the same photos."""
    _check_short_side(short_side)
    if megabytes < 1:
        raise ValueError(f"megabytes is {megabytes}: a file needs at least 1")
    store = photo_stores.open_store(photo_root)
    chosen = rows["path"].iloc[np.linspace(0, len(rows) - 1, min(len(rows), _WEIGHED_PHOTOS)).astype(int)]
    sizes = []
    # A photo that cannot be read is named by the packing.
    for path in chosen:
        with contextlib.suppress(FileNotFoundError, photos.PhotoError, photo_stores.Unreadable):
            sizes.append(len(photos.prepare(store.read(path), path, short_side).data))
    mean = sum(sizes) / len(sizes) if sizes else photo_stores.MAX_BYTES
    return max(1, int(megabytes * 1e6 / (mean + 4 * tarfile.BLOCKSIZE)))


def _digest(rows: pd.DataFrame) -> str:
    """Hash of all that goes into the shards beside the photos."""
    digest = hashlib.sha256(",".join(rows.columns).encode())
    digest.update(pd.util.hash_pandas_object(rows, index=False, categorize=False).to_numpy().tobytes())
    return digest.hexdigest()


def _settle(folder: Path, how: Mapping[str, object]) -> None:
    """Write down how a folder is packed, or raise ``ValueError`` if it is packed in another way."""
    record = _recorded(folder / PACKING)
    if not record and (any(folder.glob(shards.TARS)) or any(folder.glob(shards.PARTIALS))):
        raise ValueError(f"{folder} holds shards that were not packed from a list: pack into another folder")
    differing = [f"{name} {record.get(name)}, not {how[name]}" for name in how if record.get(name) != how[name]]
    if record and record.get("rows") != how["rows"]:
        raise ValueError(
            f"the list, or the source, changed since its photos were packed into {folder}: pack into another folder, "
            "or delete this one"
        )
    if record and differing:
        raise ValueError(
            f"{folder} holds photos packed in another way ({', '.join(differing)}): pack into another folder, or "
            "delete this one"
        )
    if not record:
        _record(folder / PACKING, how)


def _recorded(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _record(file: Path, record: Mapping[str, object]) -> None:
    with paths.replacing(file) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process of this machine is in this block with the same lock, a file."""
    with lock.open("ab") as file:
        try:
            shards.lock(file.fileno())
        except BlockingIOError:
            print("waiting for another process that prepares the same photos", flush=True)
            shards.lock(file.fileno(), wait=True)
        yield


def main() -> None:
    """``python -m helpers.packing pack | unpack | check``."""
    parser = argparse.ArgumentParser(prog="python -m helpers.packing", description="Photos in a few large files.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="pack a dataset, its photos and its list")
    packing.add_argument("dataset")
    packing.add_argument("folder", type=Path, help="where the files go")
    packing.add_argument("--photo-root", default="", help="where the photos are, by default the dataset's own folder")
    packing.add_argument("--short-side", type=int, default=0, help="shrink the photos to so many pixels")
    packing.add_argument("--megabytes", type=int, default=2000, help="per file, roughly")
    unpacking = commands.add_parser("unpack", help="write the photos as loose files")
    unpacking.add_argument("folder", type=Path)
    unpacking.add_argument("destination", type=Path)
    checking = commands.add_parser("check", help="finish what was interrupted, and compare every photo with its hash")
    checking.add_argument("folder", type=Path)
    given = parser.parse_args()
    try:
        print(_ran(given))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(str(error))


def _ran(given: argparse.Namespace) -> str:
    from helpers import fetch  # which packs what it fetches

    given.folder = given.folder.expanduser().resolve()
    if given.command == "unpack":
        unpacked = unpack(given.folder, given.destination)
        lists = ", ".join(str(file) for file in _lists(given.folder))
        return f"unpacked {unpacked.photos} photos, {unpacked.bytes / 1e9:.2f} GB, into {given.destination}" + (
            f"; their list is {lists}: copy it into {paths.root() / 'data-lists'}" if lists else ""
        )
    if given.command == "check":
        shards.seal_partials(given.folder)
        shards.check(given.folder)
        return f"{len(_whole(given.folder))} photos in {given.folder} are as they were packed"
    notebooks.require_list(given.dataset)
    rows = data_lists.read(given.dataset)
    photo_root = fetch.ensure(rows, given.dataset, given.photo_root)
    packed = pack_dataset(given.dataset, rows, photo_root, given.folder, given.short_side, given.megabytes)
    files = [file for file in given.folder.iterdir() if not file.name.startswith(".")]
    size = sum(file.stat().st_size for file in files)
    return f"packed {packed.photos} photos into {len(files)} files in {given.folder}, {size / 1e9:.2f} GB"


if __name__ == "__main__":
    main()
