import contextlib
import errno
import fcntl
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import stat
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import data_lists, packing, photo_stores, shards

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def jpeg(seed, size=(40, 30), kind="JPEG"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


PHOTOS = {f"rome/{number}.{number % 3}.jpg": jpeg(number) for number in range(6)} | {
    "rome/é 7.jpg": jpeg(7),
    "rome/7.png": jpeg(8, kind="PNG"),
    f"{'long ' * 30}/9.jpeg": jpeg(9),
}


def truth(path, **known):
    return {"id": f"id of {path}", "latitude": 41.9, "longitude": -12.5, "author": "ann"} | known


def written(folder, files=PHOTOS, number=0):
    """A finished shard of `files`."""
    tar = folder / f"shard-{number:05d}.tar"
    with shards.ShardWriter(tar) as shard:
        for path, photo in files.items():
            shard.add(path, photo, truth(path))
    return tar


def reindex(tar):
    """Make the index of a shard anew, from the shard alone."""
    tar.with_suffix(".parquet").unlink(missing_ok=True)
    shards.ShardWriter(tar).close()


def loose(folder, files=PHOTOS):
    for path, photo in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(photo)
    return folder


def listed(files=PHOTOS):
    """The rows of a data list of `files`."""
    rows = [
        truth(path) | {"path": path, "sha256": hashlib.sha256(photo).hexdigest(), "longitude": float(number)}
        for number, (path, photo) in enumerate(files.items())
    ]
    return data_lists.build(pd.DataFrame(rows), seed=1, validation_share=0, test_share=0)


def everything(store):
    return {path: store.read(path) for path in store.names()}


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- written and read ---


def test_what_is_written_is_read(tmp_path):
    written(tmp_path)
    store = shards.Shards(tmp_path)
    assert everything(store) == PHOTOS
    assert len(store) == len(PHOTOS)
    assert store.photos_of("shard-00000.tar") == list(PHOTOS)
    store.check()


def test_the_index_holds_the_truth_sorted_by_path(tmp_path):
    with shards.ShardWriter(tmp_path / "shard-00000.tar") as shard:
        shard.add("b.jpg", jpeg(1), {"id": 17, "latitude": None, "author": None, "country": float("nan")})
    with shards.ShardWriter(tmp_path / "shard-00001.tar") as shard:
        shard.add("a.jpg", jpeg(2), {"id": "a", "latitude": -0.1, "longitude": 1 / 3, "licence": "CC0", "unknown": 5})
    index = shards.Shards(tmp_path).index
    assert index["path"].tolist() == ["a.jpg", "b.jpg"]
    assert index["shard"].tolist() == ["shard-00001.tar", "shard-00000.tar"]
    assert index["id"].tolist() == ["a", "17"]
    assert index["latitude"][0] == -0.1
    assert index["longitude"][0] == 1 / 3
    assert np.isnan(index["latitude"][1])
    assert index["author"].tolist() == ["", ""]
    assert index["country"].tolist() == ["", ""]
    assert index["licence"].tolist() == ["CC0", ""]
    assert index["sha256"].tolist() == [hashlib.sha256(jpeg(seed)).hexdigest() for seed in (2, 1)]
    assert list(index.columns) == ["path", "offset", "size", "sha256", *shards.TRUTH, "shard"]


def test_any_reader_of_webdataset_opens_them(tmp_path):
    files = PHOTOS | {
        "__meta__/1.jpg": jpeg(11),
        "1.jpg": jpeg(12),
        "1.png": jpeg(13, kind="PNG"),
        "1.png.jpg": jpeg(14),
    }
    tar = written(tmp_path, files)
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    assert len({sample["__key__"] for sample in samples}) == len(files)
    for sample, (path, photo) in zip(samples, files.items(), strict=True):
        known = {"path": path, "sha256": hashlib.sha256(photo).hexdigest(), **truth(path)}
        assert json.loads(sample["json"]) == known
        suffix = "png" if photo.startswith(b"\x89PNG") else "jpg"
        assert sample[suffix] == photo
        assert set(sample) == {"json", suffix, "__key__", "__url__", "__local_path__"} & set(sample)


def test_tarfile_reads_plain_files_with_nothing_of_the_machine_in_them(tmp_path):
    with tarfile.open(written(tmp_path)) as archive:
        members = archive.getmembers()
    assert len(members) == 2 * len(PHOTOS)
    assert {(member.isreg(), member.mode, member.uid, member.mtime, member.uname) for member in members} == {
        (True, 0o644, 0, 0, "")
    }


def test_the_same_photos_in_the_same_order_give_the_same_bytes(tmp_path):
    assert contents(written(tmp_path / "a").parent) == contents(written(tmp_path / "b").parent)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=300),
        st.binary(max_size=3000),
        min_size=1,
        max_size=8,
    ),
    st.text(max_size=2000),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_id_truth_and_size_comes_back_or_is_refused(tmp_path_factory, files, author, latitude):
    folder = tmp_path_factory.mktemp("any")
    taken = {}
    with shards.ShardWriter(folder / "shard-00000.tar") as shard:
        for name, photo in files.items():
            for path in (name, f"{name}.jpg", f"a/{name}.png"):
                known = {"id": path, "latitude": latitude, "author": author}
                if shards._UNSAFE_PATH.search(path):
                    with pytest.raises(ValueError, match="unsafe"):
                        shard.add(path, photo, known)
                elif path not in taken:
                    shard.add(path, photo, known)
                    taken[path] = photo
    store = shards.Shards(folder)
    assert everything(store) == taken
    assert len({shards._key(path) for path in taken}) == len(taken)
    if taken:
        assert set(store.index["latitude"]) == {latitude}
        assert set(store.index["author"]) == {author.encode(errors="replace").decode()}
        before = contents(folder)
        reindex(folder / "shard-00000.tar")
        assert contents(folder) == before


@given(st.lists(st.text("a.%_/", min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_no_two_paths_have_one_key(pair):
    assert shards._key(pair[0]) != shards._key(pair[1])


@pytest.mark.parametrize("path", ["", "../a.jpg", "/a.jpg", "a/../b.jpg", "C:a.jpg", "a\\b.jpg", "a\nb.jpg", "\ud800"])
def test_an_unsafe_path_is_refused(tmp_path, path):
    with shards.ShardWriter(tmp_path / "shard-00000.tar") as shard, pytest.raises(ValueError, match="unsafe"):
        shard.add(path, jpeg(1), truth(path))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("known", [{"id": ""}, {"id": None}, {"id": "\udfff"}, {}])
def test_a_photo_without_a_sound_id_is_refused(tmp_path, known):
    with (
        shards.ShardWriter(tmp_path / "shard-00000.tar") as shard,
        pytest.raises(ValueError, match=r"'a.jpg' has the id"),
    ):
        shard.add("a.jpg", jpeg(1), known)


def test_a_photo_is_added_once(tmp_path):
    with shards.ShardWriter(tmp_path / "shard-00000.tar") as shard:
        shard.add("a.jpg", jpeg(1), {"id": "a"})
        for path, known in (("b.jpg", {"id": "a"}), ("a.jpg", {"id": "b"})):
            with pytest.raises(ValueError, match="already"):
                shard.add(path, jpeg(2), known)
    assert everything(shards.Shards(tmp_path)) == {"a.jpg": jpeg(1)}


def test_truth_that_no_index_should_hold_is_refused(tmp_path):
    with shards.ShardWriter(tmp_path / "shard-00000.tar") as shard:
        with pytest.raises(ValueError, match=r"'a.jpg' has an infinite coordinate"):
            shard.add("a.jpg", jpeg(1), {"id": "a", "latitude": float("-inf")})
        with pytest.raises(ValueError, match=r"truth of photo 'a.jpg' has more than 1 MiB"):
            shard.add("a.jpg", jpeg(1), {"id": "a", "attribution": "a" * (1 << 20)})
        with pytest.raises(ValueError, match="too long"):
            shard.add("a/" * 3000 + "a.jpg", jpeg(1), {"id": "a"})
        shard.add("a.jpg", jpeg(1), {"id": "a", "latitude": pd.NA, "author": pd.NA})
    assert shards.Shards(tmp_path).index["author"].tolist() == [""]


def test_a_shard_without_photos_leaves_nothing(tmp_path):
    with shards.ShardWriter(tmp_path / "shard-00000.tar"):
        pass
    assert contents(tmp_path) == {}
    assert everything(shards.Shards(tmp_path)) == {}
    assert len(shards.Shards(tmp_path).index) == 0


def test_absent_photos_and_paths_that_escape_are_errors(tmp_path):
    written(tmp_path)
    store = shards.Shards(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'rome/none.jpg'"):
        store.read("rome/none.jpg")
    for path in ("../rome/1.1.jpg", "/etc/passwd", "\ud800"):
        with pytest.raises(ValueError, match="escapes"):
            store.read(path)


def test_threads_forked_and_other_processes_read_one_store(tmp_path):
    written(tmp_path)
    store = shards.Shards(tmp_path)
    assert everything(pickle.loads(pickle.dumps(store))) == PHOTOS
    assert len(pickle.dumps(store)) < 500
    names = list(PHOTOS) * 50
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store.read, names)) == [PHOTOS[name] for name in names]
    with FORK.Pool(2) as pool:
        assert pool.map(store.read, names) == [PHOTOS[name] for name in names]


def test_the_same_photos_loose_zipped_and_in_shards_are_the_same_bytes(tmp_path):
    loose(tmp_path / "loose")
    written(tmp_path / "shards")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path, photo in PHOTOS.items():
            archive.writestr(path, photo)
    roots = [tmp_path / name for name in ("loose", "shards", "photos.zip")]
    assert [everything(photo_stores.open_store(root)) for root in roots] == [PHOTOS] * 3
    assert isinstance(photo_stores.open_store(roots[1]), shards.Shards)
    packed = []
    for root in roots:
        packing.pack(listed(), root, tmp_path / f"from {root.name}", 16, 100)
        packed.append(contents(tmp_path / f"from {root.name}"))
    assert packed[0] == packed[1] == packed[2]


# --- interrupted ---


def test_what_was_added_before_a_failure_is_kept_and_continued(tmp_path):
    tar = tmp_path / "shard-00000.tar"
    with contextlib.suppress(KeyError), shards.ShardWriter(tar) as shard:
        shard.add("a.jpg", jpeg(1), {"id": "a"})
        raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == [".shard-00000.tar.partial"]
    with shards.ShardWriter(tar) as shard:
        assert shard.held["a"]["path"] == "a.jpg"
        shard.add("b.jpg", jpeg(2), {"id": "b"})
    assert everything(shards.Shards(tmp_path)) == {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}
    assert sorted(contents(tmp_path)) == ["shard-00000.parquet", "shard-00000.tar"]


@pytest.fixture
def memory(tmp_path):
    """A folder for thousands of small writes, in memory where that is to be had."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_a_shard_cut_at_any_byte_keeps_exactly_its_whole_photos(memory):
    partial, tar = memory / ".shard-00000.tar.partial", memory / "shard-00000.tar"
    shard = shards.ShardWriter(tar)
    ends = [0]
    for path in ("a.jpg", "é.jpg"):
        shard.add(path, path.encode() * 40, {"id": path})
        ends.append(partial.stat().st_size)
    shard.close()
    whole = tar.read_bytes()
    tar.unlink()
    (memory / "shard-00000.parquet").unlink()
    for length in range(len(whole) + 1):
        partial.write_bytes(whole[:length])
        shard = shards.ShardWriter(tar)
        photos_held = sum(end <= length for end in ends[1:])
        assert list(shard.held) == ["a.jpg", "é.jpg"][:photos_held]
        assert partial.read_bytes() == whole[: ends[photos_held]]
        shard._abandon()


def test_a_photo_that_changed_within_a_partial_is_not_kept(tmp_path):
    tar = written(tmp_path)
    content = bytearray(tar.read_bytes())
    offset = shards.Shards(tmp_path).index.set_index("path")["offset"][list(PHOTOS)[4]]
    content[offset + 50] ^= 1
    for file in list(tmp_path.iterdir()):
        file.unlink()
    (tmp_path / ".shard-00000.tar.partial").write_bytes(content)
    with shards.ShardWriter(tar) as shard:
        assert [row["path"] for row in shard.held.values()] == list(PHOTOS)[:4]


def write_and_say(tar, files, said):
    with shards.ShardWriter(tar) as shard:
        for path, photo in files.items():
            if truth(path)["id"] not in shard.held:
                shard.add(path, photo, truth(path))
                os.write(said, b".")


def test_a_writer_killed_again_and_again_loses_nothing_and_repeats_nothing(tmp_path):
    files = {f"{number}.jpg": random.Random(number).randbytes(number * 997 % 60_000) for number in range(300)}
    tar = tmp_path / "killed" / "shard-00000.tar"
    moment = random.Random(5)
    added = kills = 0
    while not tar.exists():
        heard, said = os.pipe()
        child = FORK.Process(target=write_and_say, args=(tar, files, said))
        child.start()
        os.close(said)
        for _ in range(moment.randrange(25)):
            if not os.read(heard, 1):
                break
            added += 1
        child.kill()
        child.join()
        added += len(b"".join(iter(lambda: os.read(heard, 4096), b"")))  # noqa: B023
        os.close(heard)
        kills += child.exitcode == -signal.SIGKILL
        if not tar.exists():
            shard = shards.ShardWriter(tar)
            assert added <= len(shard.held) <= added + 1
            added = len(shard.held)
            shard._abandon()
    assert kills > 5
    shards.seal_partials(tar.parent)
    assert everything(shards.Shards(tar.parent)) == files
    assert contents(tar.parent) == contents(written(tmp_path / "at once", files).parent)


def test_partials_are_sealed_but_not_those_that_are_being_written(tmp_path):
    for number in (0, 1):
        shard = shards.ShardWriter(tmp_path / f"shard-{number:05d}.tar")
        shard.add(f"{number}.jpg", jpeg(number), {"id": number})
        if number == 0:
            shard._abandon()
    (tmp_path / ".shard-00002.tar.partial").write_bytes(b"")
    written(tmp_path, number=3)
    (tmp_path / "shard-00003.parquet").unlink()
    shards.seal_partials(tmp_path)
    assert sorted(contents(tmp_path)) == [
        ".shard-00001.tar.partial", "shard-00000.parquet", "shard-00000.tar", "shard-00003.parquet", "shard-00003.tar",
    ]  # fmt: skip
    shard.close()
    assert len(shards.Shards(tmp_path)) == 2 + len(PHOTOS)


def test_two_writers_of_one_shard_are_one_too_many(tmp_path):
    tar = tmp_path / "shard-00000.tar"
    with shards.ShardWriter(tar) as shard:
        shard.add("a.jpg", jpeg(1), {"id": "a"})
        with pytest.raises(shards.BusyShard, match="another process"):
            shards.ShardWriter(tar)
        shard.add("b.jpg", jpeg(2), {"id": "b"})
    assert len(shards.Shards(tmp_path)) == 2


@pytest.mark.parametrize("ending", [shards.ShardWriter._abandon, shards.ShardWriter.close])
def test_a_writer_waits_for_one_that_is_ending(tmp_path, ending):
    first = shards.ShardWriter(tmp_path / "shard-00000.tar")
    first.add("a.jpg", jpeg(1), {"id": "a"})
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(shards.ShardWriter, first.path, 60)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        ending(first)
        with second.result(timeout=60) as shard:
            assert list(shard.held) == ["a"]
            shard.add("b.jpg", jpeg(2), {"id": "b"})
    assert everything(shards.Shards(tmp_path)) == {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}
    assert sorted(contents(tmp_path)) == ["shard-00000.parquet", "shard-00000.tar"]


def test_a_writer_waits_for_one_that_goes_on_with_a_finished_shard(tmp_path):
    first = shards.ShardWriter(written(tmp_path, {"a.jpg": jpeg(1)}))
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(shards.ShardWriter, first.path, 60)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        first.add("b.jpg", jpeg(2), {"id": "b"})
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        first.close()
        with second.result(timeout=60) as shard:
            assert [row["path"] for row in shard.held.values()] == ["a.jpg", "b.jpg"]


def test_a_shard_that_is_continued_at_that_moment_is_not_sealed(tmp_path, monkeypatch):
    first = shards.ShardWriter(written(tmp_path, {"a.jpg": jpeg(1)}))
    (tmp_path / "shard-00000.parquet").unlink()
    locked = shards._locked

    def continued_meanwhile(path, *arguments):
        if first.path.exists():
            first.add("b.jpg", jpeg(2), {"id": "b"})
        return locked(path, *arguments)

    monkeypatch.setattr(shards, "_locked", continued_meanwhile)
    shards.seal_partials(tmp_path)
    assert list(contents(tmp_path)) == [".shard-00000.tar.partial"]
    first.close()
    assert everything(shards.Shards(tmp_path)) == {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_shards_are_written_where_the_file_system_knows_no_locks(tmp_path, monkeypatch, number):
    def refused(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    written(tmp_path)
    assert everything(shards.Shards(tmp_path)) == PHOTOS
    number = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        written(tmp_path, number=1)


def test_shards_are_written_where_the_file_system_syncs_no_folders(tmp_path, monkeypatch):
    sync = os.fsync

    def refused(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    written(tmp_path)
    assert everything(shards.Shards(tmp_path)) == PHOTOS


def test_a_finished_shard_is_continued(tmp_path):
    tar = written(tmp_path / "twice", dict(itertools.islice(PHOTOS.items(), 3)))
    with shards.ShardWriter(tar) as shard:
        assert len(shard.held) == 3
        for path, photo in itertools.islice(PHOTOS.items(), 3, None):
            shard.add(path, photo, truth(path))
    assert contents(tar.parent) == contents(written(tmp_path / "once").parent)


def test_a_partial_beside_a_finished_shard_is_an_error(tmp_path):
    tar = written(tmp_path)
    (tmp_path / ".shard-00000.tar.partial").write_bytes(tar.read_bytes())
    with pytest.raises(shards.DamagedShard, match="delete one"):
        shards.ShardWriter(tar)
    assert everything(shards.Shards(tmp_path)) == PHOTOS


def fill_up(tar, said):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        with shards.ShardWriter(tar) as shard:
            for number in range(100):
                shard.add(f"{number}.jpg", bytes(15_000), {"id": number})
    except OSError as error:
        os.write(said, f"{error.errno} {error.filename} {tar.parent.joinpath(error.filename).stat().st_size}".encode())


def test_a_disk_that_fills_is_an_error_that_names_the_file_and_keeps_what_was_written(tmp_path):
    tar = tmp_path / "shard-00000.tar"
    heard, said = os.pipe()
    child = FORK.Process(target=fill_up, args=(tar, said))
    child.start()
    child.join()
    os.close(said)
    number, name, size = os.read(heard, 1000).decode().split()
    os.close(heard)
    assert int(number) == errno.EFBIG
    assert name == str(tmp_path / ".shard-00000.tar.partial")
    with shards.ShardWriter(tar) as shard:
        assert len(shard.held) == 5  # of 17 kB each
        assert shard._end == int(size)


# --- damaged and hostile ---


def test_a_damaged_photo_is_named_with_its_shard_and_what_it_held(tmp_path):
    tar = written(tmp_path)
    written(tmp_path, {"paris/1.jpg": jpeg(20)}, number=1)
    content = bytearray(tar.read_bytes())
    store = shards.Shards(tmp_path)
    content[store.index.set_index("path")["offset"]["rome/7.png"]] ^= 1
    tar.write_bytes(content)
    (tmp_path / "shard-00002.parquet").write_bytes(b"no index")
    written(tmp_path, {"oslo/1.jpg": jpeg(21), "oslo/2.jpg": jpeg(22)}, number=3).unlink()
    with pytest.raises(
        shards.DamagedShard, match=r"; .*shard-00002.parquet is no.*; .*shard-00003.tar is gone.*damaged\.csv"
    ):
        shards.check(tmp_path)
    named = pd.read_csv(tmp_path / "damaged.csv", keep_default_na=False)
    paths_of = named.groupby("shard")["path"].apply(list).to_dict()
    assert paths_of == {
        "shard-00000.tar": list(PHOTOS), "shard-00002.tar": [""], "shard-00003.tar": ["oslo/1.jpg", "oslo/2.jpg"],
    }  # fmt: skip
    assert named["id"].tolist() == [truth(path)["id"] if path else "" for path in named["path"]]
    for index in ("shard-00002.parquet", "shard-00003.parquet"):
        (tmp_path / index).unlink()
    with pytest.raises(
        shards.DamagedShard, match=r"shard-00000.tar is damaged: the photo 'rome/7.png' .* held 9 photos: 'rome/0"
    ) as caught:
        shards.Shards(tmp_path).check()
    assert "shard-00001" not in str(caught.value)
    assert "Delete shard-00000.tar and shard-00000.parquet" in str(caught.value)
    with pytest.raises(shards.DamagedShard, match=r"'rome/7%2Epng%.png' and .* as they were written"):
        reindex(tar)
    with pytest.raises(shards.DamagedShard):
        shards.ShardWriter(tar)
    assert tar.read_bytes() == bytes(content)


def test_a_shard_that_is_cut_off_or_gone_or_without_index_is_named_at_opening(tmp_path):
    tar = written(tmp_path)
    store = shards.Shards(tmp_path)
    os.truncate(tar, 2000)
    with pytest.raises(shards.DamagedShard, match=r"2000 bytes.* held 9 photos: 'rome/0.0.jpg'"):
        shards.Shards(tmp_path)
    with pytest.raises(shards.DamagedShard, match=r"ends within the photo 'rome/7.png'.* held 9"):
        store.read("rome/7.png")
    tar.unlink()
    with pytest.raises(
        shards.DamagedShard, match=r"shard-00000.tar is gone, with 9 photos.* delete shard-00000.parquet"
    ):
        shards.Shards(tmp_path)
    written(tmp_path)
    (tmp_path / "shard-00000.parquet").unlink()
    with pytest.raises(shards.DamagedShard, match=r"has no index .*python -m helpers\.packing check"):
        shards.Shards(tmp_path)


def test_an_index_made_anew_is_the_one_that_was_written(tmp_path):
    tar = written(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "shard-00000.parquet").unlink()
    (tmp_path / ".shard-00000.parquet.123.partial").write_bytes(b"of a process that was killed")
    reindex(tar)
    assert contents(tmp_path) == before


def forged(folder, *members):
    """A shard of one sound photo and then `members`, each a name, its content and fields of its header."""
    tar = written(folder, {"a.jpg": jpeg(1)})
    whole = tar.read_bytes()[: -len(shards._END_OF_ARCHIVE)]
    for name, content, fields in members:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        for field, value in fields.items():
            setattr(entry, field, value)
        whole += entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    tar.write_bytes(whole + shards._END_OF_ARCHIVE)
    (folder / "shard-00000.parquet").unlink()
    return tar


def sidecar(path, photo=b"photo", **more):
    return json.dumps({"path": path, "sha256": hashlib.sha256(photo).hexdigest(), "id": "b", **more}).encode()


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("b.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "'b.jpg' is a link"),
        ([("b.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "a.jpg"})], "'b.jpg' is a link"),
        ([("b.jpg", b"", {"type": tarfile.CHRTYPE})], "'b.jpg' is a link, a device"),
        ([("b", b"", {"type": tarfile.DIRTYPE})], "is a link, a device, a folder"),
        ([("b.jpg", b"photo", {"size": 1 << 40})], f"'b.jpg' claims {1 << 40} bytes"),
        ([("b.jpg", b"photo", {"size": -512})], "'b.jpg' claims -512 bytes"),
        ([("b.jpg", b"photo", {"size": 100_000})], "'b.jpg' is cut off"),
        ([("b.jpg", b"photo", {})], "'b.jpg' has no JSON"),
        (
            [("../b.bin", b"photo", {}), ("../b.json", sidecar("../b.jpg"), {})],
            r"'\.\./b\.bin' and .* as they were written",
        ),
        ([("../b.bin", b"photo", {}), ("b.json", sidecar("b.jpg"), {})], r"'\.\./b\.bin' and .* not the names"),
        ([("/b.bin", b"photo", {}), ("b.json", sidecar("b.jpg"), {})], r"'/b\.bin' and .* not the names"),
        ([("b.bin", b"other", {}), ("b.json", sidecar("b.jpg"), {})], "as they were written"),
        ([("b.bin", b"photo", {}), ("b.json", b"[" * 100_000, {})], "as they were written"),
        ([("b.bin", b"photo", {}), ("b.json", b"[]", {})], "as they were written"),
        ([("b.bin", b"photo", {}), ("b.json", sidecar("b.jpg", latitude="north"), {})], "as they were written"),
        ([("b.bin", b"photo", {}), ("b.json", sidecar("b.jpg", latitude=10**400), {})], "as they were written"),
        ([("b.bin", b"photo", {}), ("b.json", sidecar("b.jpg", author=["x", "y"]), {})], "as they were written"),
        ([("b.bin", b"photo", {}), ("b.json", bytes(2 << 20), {})], "'b.json' claims 2097152 bytes"),
        ([("b.jpg", b"19 path=../evil.jpg", {"type": tarfile.XHDTYPE})], "extended header"),
        ([("b.jpg", bytes(1 << 15), {"type": tarfile.XHDTYPE})], "'b.jpg' claims 32768 bytes"),
    ],
)
def test_a_hostile_shard_is_refused_and_the_member_named(tmp_path, members, problem):
    tar = forged(tmp_path, *members)
    with pytest.raises(shards.DamagedShard, match=problem):
        reindex(tar)
    assert list(contents(tmp_path)) == ["shard-00000.tar"]


def test_a_shard_without_a_photo_is_not_indexed(tmp_path):
    (tmp_path / "shard-00000.tar").write_bytes(shards._END_OF_ARCHIVE)
    with pytest.raises(shards.DamagedShard, match=r"shard-00000.tar is damaged: it holds no photo"):
        shards.seal_partials(tmp_path)


def test_what_follows_the_end_of_a_shard_is_not_passed_over(tmp_path):
    tar = written(tmp_path)
    with tar.open("ab") as file:
        file.write(b"more")
    with pytest.raises(shards.DamagedShard, match="should end after byte"):
        reindex(tar)
    tar.write_bytes(b"no tar at all" * 100)
    with pytest.raises(shards.DamagedShard, match="no header at byte 0"):
        reindex(tar)


def reindexed(folder, **columns):
    """Replace columns of an index, as a hostile sender would."""
    index = folder / "shard-00000.parquet"
    table = pq.read_table(index)
    for name, value in columns.items():
        number = table.column_names.index(name)
        table = table.set_column(number, table.schema.field(name), pa.array([value] * len(table), table[name].type))
    pq.write_table(table, index)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"offset": -1}, "points outside"),
        ({"offset": 1 << 62}, "points outside"),
        ({"size": 1 << 62}, "points outside"),
        ({"size": -5}, "points outside"),
        ({"path": None}, "points outside"),
        ({"path": "same.jpg"}, "'same.jpg' is twice"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, columns, problem):
    written(tmp_path)
    reindexed(tmp_path, **columns)
    with pytest.raises(shards.DamagedShard, match=problem):
        shards.Shards(tmp_path)


@pytest.mark.parametrize("repeated", [True, False])
def test_an_index_that_unpacks_to_more_than_its_tar_is_refused(tmp_path, monkeypatch, repeated):
    written(tmp_path, {"a.jpg": jpeg(1)})
    index = tmp_path / "shard-00000.parquet"
    row = pq.read_table(index).to_pylist()[0]
    rows = [row | {"path": f"{number:04d}"} for number in range(2000)]
    rows = [row | {"author": "x" * 10_000} for row in rows]
    table = pa.Table.from_pylist(rows, shards._SCHEMA.with_metadata({shards._TAR_BYTES: b"%d" % (1 << 50)}))
    pq.write_table(table, index, compression="zstd", use_dictionary=repeated)
    assert index.stat().st_size < 100_000
    monkeypatch.setattr(shards, "_INDEX_BYTES", 1 << 22)
    if not repeated:
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)  # it says its size, and is not even unpacked
    with pytest.raises(shards.DamagedShard, match=r"no sound index of a shard: it unpacks to more than its tar holds"):
        shards._read_index(index, ("path", "author"))
    with pytest.raises(shards.DamagedShard):
        shards.Shards(tmp_path)


def test_an_index_that_is_none_is_refused(tmp_path):
    written(tmp_path)
    index = tmp_path / "shard-00000.parquet"
    metadata = pq.read_schema(index).metadata
    for content in (b"", b"PAR1 but no more", None):
        if content is None:
            pq.write_table(pa.table({"path": ["a"] * 10**6}).replace_schema_metadata(metadata), index)
        else:
            index.write_bytes(content)
        with pytest.raises(shards.DamagedShard, match=r"shard-00000.parquet is no sound index.*Delete it"):
            shards.Shards(tmp_path)
