import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from test_shards import (
    FORK,
    PHOTOS,
    contents,
    everything,
    jpeg,
    listed,
    loose,
    reindexed,
    written,
)

from helpers import cluster, data_lists, datasets, download, notebooks, packing, paths, photos, shards

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def mapped_here(function, tasks, *arguments, **named):
    yield from ((number, function(task)) for number, task in enumerate(tasks))


@pytest.fixture
def inline(monkeypatch):
    """Tasks run in this process, because starting a cluster takes seconds."""
    monkeypatch.setattr(cluster, "mapped", mapped_here)


def remove_shard(folder, number):
    for suffix in ("tar", "parquet"):
        (folder / f"shard-{number:05d}.{suffix}").unlink()


def test_a_hostile_index_writes_nothing_outside_the_destination(tmp_path):
    written(tmp_path / "shards", {"a.jpg": jpeg(1)})
    reindexed(tmp_path / "shards", path="../evil.jpg")
    with pytest.raises(shards.DamagedShard, match=r"'\.\./evil\.jpg' is not that of its index"):
        packing.unpack(tmp_path / "shards", tmp_path / "loose")
    reindexed(tmp_path / "shards", path="link/evil.jpg")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="escapes"):
        packing.unpack(tmp_path / "shards", tmp_path / "loose")
    assert not list(tmp_path.rglob("evil*"))


# --- packed ---


def test_a_list_is_packed_in_its_order_by_every_core_and_nothing_twice(tmp_path, monkeypatch):
    rows, root, folder = listed(), loose(tmp_path / "loose"), tmp_path / "shards"
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "mapped", mapped_here)
        packing.pack(rows, root, folder, 0, 4)
    for number in (0, 2):
        remove_shard(folder, number)
    for path in rows["path"][4:8]:
        (root / path).unlink()  # a shard that is there is not made again
    packed = packing.pack(rows.sample(frac=1, random_state=1), root, folder, 0, 4)
    tars = sorted(folder.glob("*.tar"))
    assert packed == (len(rows), {}, sum(tar.stat().st_size for tar in tars))
    store = shards.Shards(folder)
    assert everything(store) == PHOTOS
    assert [len(store.photos_of(tar.name)) for tar in tars] == [4, 4, 1]
    assert [path for tar in tars for path in store.photos_of(tar.name)] == rows["path"].tolist()
    index = store.index.sort_values("id", ignore_index=True)
    for column in ("id", "path", "latitude", "longitude", "author", "split", "sha256"):
        assert index[column].tolist() == rows[column].tolist()


def test_a_list_that_is_packed_is_not_read_again(tmp_path):
    rows, root = listed(), loose(tmp_path / "loose")
    packed = packing.pack(rows, root, tmp_path / "shards", 0, 100)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "shards").iterdir()}
    assert packing.pack(rows, tmp_path / "no photos here", tmp_path / "shards", 0, 100) == packed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "shards").iterdir()} == before


def test_photos_are_shrunk_as_they_would_be_for_training(tmp_path):
    packing.pack(listed(), loose(tmp_path / "loose"), tmp_path / "shards", 20, 100)
    index = shards.Shards(tmp_path / "shards").index.set_index("path")
    for path, photo in everything(shards.Shards(tmp_path / "shards")).items():
        assert photo == photos.prepare(PHOTOS[path], path, 20).data
        assert Image.open(io.BytesIO(photo)).size == (26, 20)
        assert index.loc[path, "sha256"] == hashlib.sha256(photo).hexdigest()


def test_missing_and_changed_photos_of_a_list_are_named(tmp_path):
    root = loose(tmp_path / "loose")
    (root / "rome/1.1.jpg").unlink()
    (root / "rome/2.2.jpg").write_bytes(jpeg(99))
    with pytest.raises(data_lists.MissingPhotos, match=r"1 of 9 photos .*'rome/1.1.jpg'"):
        packing.pack(listed(), root, tmp_path / "shards", 0, 100)
    loose(tmp_path / "loose", {"rome/1.1.jpg": PHOTOS["rome/1.1.jpg"]})
    with pytest.raises(data_lists.ChangedPhoto, match=r"1 of 9 photos .*'rome/2.2.jpg'"):
        packing.pack(listed(), root, tmp_path / "shards", 0, 100)
    loose(tmp_path / "loose")
    assert packing.pack(listed(), root, tmp_path / "shards", 0, 100).photos == 9


def test_a_photo_of_a_list_that_cannot_be_used_is_an_error(tmp_path):
    files = PHOTOS | {"half.jpg": jpeg(1)[:-300]}
    with pytest.raises(photos.PhotoError, match=r"'half.jpg' is truncated"):
        packing.pack(listed(files), loose(tmp_path / "loose", files), tmp_path / "shards", 0, 100)


def test_photos_without_hashes_are_left_out_by_reason_each_time(tmp_path):
    files = PHOTOS | {
        "half.jpg": jpeg(1)[:-300],
        "tiny.png": jpeg(1, (5, 5), "PNG"),
        "gone.jpg": b"",
        "page.jpg": b"<html>",
    }
    root = loose(tmp_path / "loose", files)
    rows = listed(files).drop(columns="sha256")
    (root / "gone.jpg").unlink()
    reasons = {
        "missing": ["gone.jpg"],
        "not a photo": ["page.jpg"],
        "too small": ["tiny.png"],
        "truncated": ["half.jpg"],
    }
    for _ in range(2):
        packed = packing.pack(rows, root, tmp_path / "shards", 0, 100)
        assert (packed.photos, packed.left_out) == (len(PHOTOS), reasons)
        assert everything(shards.Shards(tmp_path / "shards")) == PHOTOS
    (root / "half.jpg").write_bytes(jpeg(1))
    assert packing.pack(rows, root, tmp_path / "shards", 0, 100).photos == len(PHOTOS) + 1


def test_shards_of_other_photos_or_another_preparation_are_not_mixed(tmp_path):
    root = loose(tmp_path / "loose")
    packing.pack(listed(), root, tmp_path / "shards", 0, 100)
    before = contents(tmp_path / "shards")
    with pytest.raises(ValueError, match=r"another way \(short_side 0, not 20\)"):
        packing.pack(listed(), root, tmp_path / "shards", 20, 100)
    written(tmp_path / "downloaded", {"b.jpg": jpeg(1)})
    with pytest.raises(ValueError, match="not packed from a list"):
        packing.pack(listed(), root, tmp_path / "downloaded", 0, 100)
    assert everything(shards.Shards(tmp_path / "shards")) == PHOTOS
    assert contents(tmp_path / "shards") == before


CHANGES = {
    "another photo": lambda rows: rows.assign(sha256=["0" * 64, *rows["sha256"][1:]]),
    "another position": lambda rows: rows.assign(latitude=[-1.0, *rows["latitude"][1:]]),
    "another id": lambda rows: rows.assign(id=["new", *rows["id"][1:]]),
    "a photo less": lambda rows: rows[:-1],
    "no longer an author": lambda rows: rows.drop(columns="author"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_list_that_changed_is_not_packed_over_what_it_was(inline, tmp_path, change):
    rows, root, folder = listed(), loose(tmp_path / "loose"), tmp_path / "shards"
    packing.pack(rows, root, folder, 0, 4)
    before = contents(folder)
    with pytest.raises(
        ValueError, match=r"the list, or the source, changed since .* pack into another folder, or delete"
    ):
        packing.pack(CHANGES[change](rows), root, folder, 0, 4)
    assert contents(folder) == before
    packing.pack(rows.sample(frac=1, random_state=1).assign(unknown="column"), root, folder, 0, 4)
    assert contents(folder) == before


def test_a_raw_folder_that_gained_a_photo_is_imported_into_another_folder(tmp_path):
    root, rows = loose(tmp_path / "loose"), listed().drop(columns="sha256")
    found = download.Found("photos", rows[:-1], root)
    download.run(found, tmp_path / "shards", download.Settings(short_side=0))
    before = {file.name: file.read_bytes() for file in (tmp_path / "shards").glob("shard-*")}
    with pytest.raises(ValueError, match="the source, changed since its photos were packed"):
        download.run(dataclasses.replace(found, rows=rows), tmp_path / "shards", download.Settings(short_side=0))
    assert {file.name: file.read_bytes() for file in (tmp_path / "shards").glob("shard-*")} == before
    assert download.run(found, tmp_path / "shards", download.Settings(short_side=0)).fetched == 0


def test_tasks_find_relative_folders_wherever_their_worker_runs(tmp_path, monkeypatch):
    def elsewhere(function, tasks, *arguments, **named):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        yield from mapped_here(function, tasks)
        monkeypatch.chdir(tmp_path)

    monkeypatch.setattr(cluster, "mapped", elsewhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    loose(tmp_path / "loose")
    packing.pack(listed(), Path("loose"), Path("shards"), 0, 4)
    packing.unpack(Path("shards"), Path("~/unpacked"))
    assert contents(tmp_path / "unpacked") == PHOTOS
    assert contents(tmp_path / "elsewhere") == {}


def pack_until_killed(rows, root, folder, photos_before):
    add = shards.ShardWriter.add
    left = iter(range(photos_before))

    def killed(*arguments):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        add(*arguments)

    shards.ShardWriter.add = killed
    packing.pack(rows, root, folder, 0, 100)


def test_packing_that_was_killed_goes_on_where_it_was(tmp_path):
    rows, root = listed(), loose(tmp_path / "loose")
    for photos_before in (3, 4):
        child = FORK.Process(target=pack_until_killed, args=(rows, root, tmp_path / "killed", photos_before))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    for path in rows["path"][:7]:
        (root / path).unlink()  # they are not read again
    assert packing.pack(rows, root, tmp_path / "killed", 0, 100).photos == len(rows)
    packing.pack(rows, loose(root), tmp_path / "at once", 0, 100)
    assert contents(tmp_path / "killed") == contents(tmp_path / "at once")


# --- the cache ---


@pytest.fixture
def dataset(root):
    loose(root / "01_data" / "photos" / "mine")
    data_lists.write(listed(), {"dataset": "mine"}, paths.data_list("mine"))
    return data_lists.read("mine")


def test_prepared_photos_are_read_again_by_a_run_with_the_same_preparation_only(dataset, capsys):
    photo_root = paths.photos("mine")
    folder = packing.prepared(dataset, "mine", photo_root, 20)
    assert folder == paths.shards("mine") / f"{dataset.attrs['fingerprint'][:12]}-20"
    assert "preparing 9 photos of mine" in capsys.readouterr().out
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert packing.prepared(dataset, "mine", photo_root / "is not looked at", 20) == folder
    assert "reading 9 photos prepared before" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert packing.prepared(dataset, "mine", photo_root, 24) != folder
    assert "preparing 9 photos" in capsys.readouterr().out
    other = dataset.copy()
    other.attrs["fingerprint"] = "0" * 64
    assert packing.prepared(other, "mine", photo_root, 20) != folder
    assert "preparing 9 photos" in capsys.readouterr().out


def test_a_preparation_that_is_not_the_wanted_one_in_full_is_made_anew(dataset, capsys):
    folder = packing.prepared(dataset, "mine", paths.photos("mine"), 20)
    record = json.loads((folder / "prepared.json").read_text())
    for wrong in ({**record, "quality": 10}, {**record, "fingerprint": record["fingerprint"][:12] + "0" * 52}):
        (folder / "prepared.json").write_text(json.dumps(wrong))
        (folder / "packing.json").unlink()
        packing.prepared(dataset, "mine", paths.photos("mine"), 20)
        assert capsys.readouterr().out.splitlines()[-1].startswith("preparing")
        assert json.loads((folder / "prepared.json").read_text()) == record


def test_relative_photos_are_prepared(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(paths.photos("mine").parent)
    tasks = []

    def noted(function, some, *arguments, **named):
        tasks.extend(some)
        yield from mapped_here(function, some)

    monkeypatch.setattr(cluster, "mapped", noted)
    packing.prepared(dataset, "mine", Path("mine"), 20)
    assert [task.photo_root for task in tasks] == [paths.photos("mine")]


def test_photos_are_prepared_where_the_file_system_knows_no_locks(dataset, monkeypatch):
    def refused(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert everything(shards.Shards(packing.prepared(dataset, "mine", paths.photos("mine"), 0))) == PHOTOS


def test_a_part_of_a_list_is_not_taken_for_the_whole(dataset):
    with pytest.raises(ValueError, match="4 of 9 rows"):
        packing.prepared(dataset[:4], "mine", paths.photos("mine"), 20)


def test_a_damaged_shard_of_the_cache_is_made_again_once_it_is_deleted(dataset):
    folder = packing.prepared(dataset, "mine", paths.photos("mine"), 0)
    os.truncate(folder / "shard-00000.tar", 1000)
    with pytest.raises(shards.DamagedShard, match=r"Delete shard-00000.tar and shard-00000.parquet"):
        packing.prepared(dataset, "mine", paths.photos("mine"), 0)
    (folder / "shard-00000.tar").unlink()
    (folder / "shard-00000.parquet").unlink()
    packing.prepared(dataset, "mine", paths.photos("mine"), 0)
    assert everything(shards.Shards(folder)) == PHOTOS


def prepare_and_say(rows, said):
    os.dup2(said, sys.__stdout__.fileno())
    sys.stdout = sys.__stdout__
    packing.prepared(rows, "mine", paths.photos("mine"), 0)


def test_processes_that_prepare_at_once_do_it_once(dataset):
    heard, said = os.pipe()
    children = [FORK.Process(target=prepare_and_say, args=(dataset, said)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    os.close(said)
    with open(heard) as output:
        lines = output.read()
    assert [child.exitcode for child in children] == [0] * 4
    assert lines.count("preparing 9 photos") == 1
    assert lines.count("reading 9 photos prepared before") == 3


# --- unpacked, and the command ---


def test_shards_are_unpacked_verified_and_what_is_there_is_kept(tmp_path):
    tar = written(tmp_path / "shards")
    destination = tmp_path / "loose"
    assert packing.unpack(tar.parent, destination)[:2] == (len(PHOTOS), {})
    assert contents(destination) == PHOTOS
    kept, lost = destination / "rome/0.0.jpg", destination / "rome/1.1.jpg"
    os.utime(kept, (1, 1))
    lost.unlink()
    packing.unpack(tar.parent, destination)
    assert contents(destination) == PHOTOS
    assert kept.stat().st_mtime == 1
    kept.write_bytes(b"a file of the user's")
    with pytest.raises(data_lists.ChangedPhoto, match=r"1 files .*'rome/0.0.jpg'"):
        packing.unpack(tar.parent, destination)
    assert kept.read_bytes() == b"a file of the user's"


def test_a_damaged_photo_is_not_unpacked(tmp_path):
    tar = written(tmp_path / "shards")
    content = bytearray(tar.read_bytes())
    content[shards.Shards(tmp_path / "shards").index.set_index("path")["offset"]["rome/7.png"]] ^= 1
    tar.write_bytes(content)
    with pytest.raises(shards.DamagedShard, match=r"'rome/7.png' is not that of its index"):
        packing.unpack(tmp_path / "shards", tmp_path / "loose")
    assert not (tmp_path / "loose/rome/7.png").exists()
    assert not list(tmp_path.rglob("*.partial"))


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["shards", *map(str, arguments)])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        packing.main()
    return out.getvalue()


def test_a_dataset_is_packed_for_a_drive_checked_and_unpacked(dataset, tmp_path, monkeypatch):
    drive, local = tmp_path / "drive", tmp_path / "local"
    assert "packed 9 photos into 4 files" in command(monkeypatch, "pack", "mine", drive)
    assert (drive / "mine.csv").read_bytes() == paths.data_list("mine").read_bytes()
    assert "9 photos" in command(monkeypatch, "check", drive)
    said = command(monkeypatch, "unpack", drive, local)
    assert "unpacked 9 photos" in said
    assert str(drive / "mine.csv") in said
    assert contents(local) == PHOTOS


@pytest.mark.parametrize("known_from", ["packing.json", "mine.csv"])
def test_a_pack_with_a_file_missing_is_neither_sound_nor_unpacked(inline, dataset, tmp_path, monkeypatch, known_from):
    folder = tmp_path / "drive"
    packing.pack(dataset, paths.photos("mine"), folder, 0, 4)
    gone = sorted(shards.Shards(folder).photos_of("shard-00001.tar"))
    (folder / "mine.csv").write_bytes(paths.data_list("mine").read_bytes())
    remove_shard(folder, 1)
    (folder / ({"packing.json", "mine.csv"} - {known_from}).pop()).unlink()
    named = "shard-00001.tar" if known_from == "packing.json" else data_lists.shown(gone)[1:5]
    for arguments in (("check", folder), ("unpack", folder, tmp_path / "local")):
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, *arguments)
        assert "4 of 9 photos that belong in" in str(caught.value)
        assert named in str(caught.value)
    assert not (tmp_path / "local").exists()
    if known_from == "packing.json":
        packing.pack(dataset, paths.photos("mine"), folder, 0, 4)
        assert "9 photos" in command(monkeypatch, "check", folder)


def test_a_last_shard_that_was_cut_short_is_named(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shards.ShardWriter, "close", shards.ShardWriter._abandon)
    with contextlib.suppress(FileNotFoundError):
        packing.pack(dataset[:4], paths.photos("mine"), tmp_path / "drive", 0, 100)
    monkeypatch.undo()
    packing._record(tmp_path / "drive" / "packing.json", {"photos": 9, "photos_per_shard": 100})
    with pytest.raises(SystemExit, match=r"\.shard-00000\.tar\.partial is not finished: .* or run .* check"):
        command(monkeypatch, "unpack", tmp_path / "drive", tmp_path / "local")
    with pytest.raises(SystemExit, match=r"5 of 9 photos that belong in .* are not there .*shard-00000\.tar"):
        command(monkeypatch, "check", tmp_path / "drive")


@pytest.mark.parametrize("record", ['{"photos": 1000000000000000000, "photos_per_shard": 1}', "[", '{"photos": "x"}'])
def test_a_forged_record_is_no_trap(tmp_path, record):
    written(tmp_path)
    (tmp_path / "packing.json").write_text(record)
    if "1000" in record:
        with pytest.raises(ValueError, match=r"\(first 'shard-00001.tar', 'shard-00002.tar', 'shard-00003.tar'\)"):
            packing.unpack(tmp_path, tmp_path / "loose")
    else:
        assert packing.unpack(tmp_path, tmp_path / "loose").photos == 9


def test_a_damaged_pack_names_all_its_photos_until_it_is_mended(inline, dataset, tmp_path, monkeypatch):
    packing.pack(dataset, paths.photos("mine"), tmp_path, 0, 4)
    held = shards.Shards(tmp_path).photos_of("shard-00001.tar")
    os.truncate(tmp_path / "shard-00001.tar", 2000)
    with pytest.raises(SystemExit, match=r"shard-00001.tar is damaged.*damaged.csv names all of them"):
        command(monkeypatch, "check", tmp_path)
    assert pd.read_csv(tmp_path / "damaged.csv")["path"].tolist() == held
    remove_shard(tmp_path, 1)
    packing.pack(dataset, paths.photos("mine"), tmp_path, 0, 4)
    assert "damaged.csv" not in command(monkeypatch, "unpack", tmp_path, tmp_path / "local")
    assert "9 photos" in command(monkeypatch, "check", tmp_path)
    assert not (tmp_path / "damaged.csv").exists()


def test_the_list_of_the_embedded_dataset_is_made_before_it_is_packed(root, tmp_path, monkeypatch):
    def made(notebook, given):
        assert (notebook, given) == ("01_data/make_list", {"dataset": "toy-earth"})
        small = datasets.make_list("toy-earth", photo_count=20)
        data_lists.write(small.rows, small.header, paths.data_list("toy-earth"))

    monkeypatch.setattr(notebooks, "_run_in_child", made)
    assert "packed 20 photos" in command(monkeypatch, "pack", "toy-earth", tmp_path / "drive")


def test_the_list_that_goes_with_shrunk_photos_names_their_hashes(dataset, tmp_path, monkeypatch):
    data_lists.write(dataset, {"dataset": "mine", "fetched with": "{}", "cite": "ann"}, paths.data_list("mine"))
    command(monkeypatch, "pack", "mine", tmp_path / "drive", "--short-side", 20, "--photo-root", paths.photos("mine"))
    command(monkeypatch, "unpack", tmp_path / "drive", tmp_path / "local")
    rows = data_lists.read(tmp_path / "drive" / "mine.csv")
    data_lists.verify(rows, tmp_path / "local")
    assert rows.drop(columns="sha256").equals(dataset.drop(columns="sha256"))
    assert dataset.attrs["fingerprint"] in rows.attrs["prepared"]
    assert rows.attrs["cite"] == "ann"
    assert "fetched with" not in rows.attrs


def test_a_file_holds_about_as_much_as_asked(dataset, tmp_path):
    files = {f"{number:02d}.jpg": jpeg(number, (1000, 400)) for number in range(8)}
    rows = listed(files)
    per_shard = packing._photos_that_fill(1, rows, loose(tmp_path / "loose", files), 0)
    size = sum(map(len, files.values())) / len(files)
    assert per_shard == int(1e6 / (size + 2048)) == 4


def test_a_check_indexes_what_lacks_an_index(tmp_path):
    written(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "shard-00000.parquet").unlink()
    code = [sys.executable, "-m", "helpers.packing", "check", str(tmp_path)]
    ended = subprocess.run(code, cwd=paths.SOURCE, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert contents(tmp_path) == before
    os.truncate(tmp_path / "shard-00000.tar", 2000)
    ended = subprocess.run(code, cwd=paths.SOURCE, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "shard-00000.tar is damaged" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pack", "nowhere", "out"), "no list"),
        (("pack", "mine", "out", "--megabytes", "0"), "megabytes is 0"),
        (("pack", "mine", "out", "--short-side", "-3"), "short_side is -3"),
        (("unpack", "out", "in"), "no shards in .*out"),
        (("check", "out"), "no shards in .*out"),
    ],
)
def test_errors_of_the_command_are_one_line(dataset, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=said) as caught:
        command(monkeypatch, *arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("out"))
