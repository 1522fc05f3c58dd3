import io
import os
import pickle
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import photo_stores


def jpeg(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


PHOTOS = {f"{'ab'[number % 2]}/photo {number}é.jpg": jpeg(number) for number in range(6)} | {"top.jpg": jpeg(9)}


def loose(files, folder):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(files, file, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


def tarred(files, file, mode="w", **fields):
    """A tar of `files`, whose entries get other `fields` where asked, e.g. ``type``."""
    with tarfile.open(file, mode, format=fields.pop("format", tarfile.PAX_FORMAT)) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(data))
    return file


@pytest.fixture(params=["folder", "stored.zip", "deflated.zip", "pax.tar", "gnu.tar"])
def store(request, tmp_path):
    """The same photos, in every way they may lie."""
    place = tmp_path / request.param
    match request.param:
        case "folder":
            loose(PHOTOS, place)
        case "stored.zip":
            zipped(PHOTOS, place, zipfile.ZIP_STORED)
        case "deflated.zip":
            zipped(PHOTOS, place)
        case "pax.tar":
            tarred(PHOTOS, place)
        case "gnu.tar":
            tarred(PHOTOS, place, format=tarfile.GNU_FORMAT)
    return photo_stores.open_store(place)


def contents(store):
    return {name: store.read(name) for name in store.names()}


# What every store does


def test_every_store_gives_the_same_photos(store):
    assert contents(store) == PHOTOS
    assert store.names() == sorted(PHOTOS)
    assert store.refused == {}


def test_an_absent_photo_is_named(store):
    for path in ("a/absent.jpg", "absent/photo 0é.jpg", "", "a"):
        with pytest.raises(FileNotFoundError, match=path or "''"):
            store.read(path)


def test_threads_and_forked_processes_read_at_once(store):
    names = store.names() * 30
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(store.read, names)) == [PHOTOS[name] for name in names]
    readers, writers = zip(*(os.pipe() for _ in range(3)), strict=True)
    children = []
    for writer in writers:
        child = os.fork()
        if child == 0:
            right = all(store.read(name) == PHOTOS[name] for name in names)
            os.write(writer, b"right" if right else b"wrong")
            os._exit(0)
        children.append(child)
    assert [os.read(reader, 5) for reader in readers] == [b"right"] * 3
    for child, *pipe in zip(children, readers, writers, strict=True):
        os.waitpid(child, 0)
        for descriptor in pipe:
            os.close(descriptor)


def test_a_pickled_store_is_small_and_reads_in_a_process_of_its_own(store):
    data = pickle.dumps(store)
    assert len(data) < 500
    code = (
        "import pickle, sys; store = pickle.load(sys.stdin.buffer)\n"
        "pickle.dump({name: store.read(name) for name in store.names()}, sys.stdout.buffer)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert pickle.loads(done.stdout) == PHOTOS


def test_files_are_closed_with_their_store(tmp_path):
    file = zipped(PHOTOS, tmp_path / "a.zip")
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else pytest.skip("no /proc on this system")
    for _ in range(5):
        photo_stores.Zip(file).read("top.jpg")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_stores_open_without_torch():
    code = "import sys; from helpers import photo_stores; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_stays_open_for_the_next_task_until_its_photos_change(tmp_path):
    file = zipped({"a.jpg": b"1"}, tmp_path / "a.zip")
    store = photo_stores.reopened(file)
    assert photo_stores.reopened(file) is store
    zipped({"b.jpg": b"2"}, file)
    os.utime(file, (1, 1))
    assert contents(photo_stores.reopened(file)) == {"b.jpg": b"2"}
    assert isinstance(photo_stores.reopened(tmp_path / "later"), photo_stores.Folder)


# What a place is


def test_shards_without_an_index_are_not_taken_for_loose_files(tmp_path):
    tarred({"a.jpg": jpeg(1)}, tmp_path / "shard-00000.tar")
    with pytest.raises(ValueError, match=r"shard-00000\.tar has no index .*helpers\.packing check"):
        photo_stores.open_store(tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_absent_archive_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"there is no archive .*{name}: correct its path"):
        photo_stores.open_store(tmp_path / name)


def test_a_folder_that_is_not_there_yet_holds_no_photo(tmp_path):
    with pytest.raises(FileNotFoundError):
        photo_stores.open_store(tmp_path / "later").read("a.jpg")
    with pytest.raises(FileNotFoundError, match="later"):
        photo_stores.open_store(tmp_path / "later").names()


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    assert contents(photo_stores.open_store(loose(PHOTOS, tmp_path / "photos.zip"))) == PHOTOS


@pytest.mark.parametrize("name", ["photos.csv", "photo.jpg"])
def test_a_file_that_is_no_archive_is_named(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name} is neither a folder nor a zip or tar"):
        photo_stores.open_store(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\5\6" + b"\xff" * 18, b"x" * 5000])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_a_file_that_only_says_it_is_an_archive_is_named(tmp_path, content, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.{suffix} is no sound {suffix}: .*Get or pack it again"):
        photo_stores.open_store(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(("mode", "tool"), [("w:gz", "gunzip"), ("w:bz2", "bunzip2"), ("w:xz", "unxz")])
def test_a_compressed_tar_names_the_tool_that_opens_it(tmp_path, mode, tool):
    file = tarred(PHOTOS, tmp_path / f"a.tar.{mode[2:]}", mode)
    with pytest.raises(ValueError, match=rf"a\.tar\.\w+ is compressed.*: {tool} it first"):
        photo_stores.open_store(file)


# Which files are photos


def test_files_that_are_no_photos_by_name_are_counted(tmp_path):
    files = dict.fromkeys(
        [
            "a.JPG",
            "b/c.png",
            "b/notes.txt",
            "README",
            ".DS_Store",
            "b/.git/x.jpg",
            "b/.git/y/z.jpg",
            "__MACOSX/._a.jpg",
        ],
        b"",
    )
    expected = {
        "hidden": [".DS_Store", "__MACOSX/._a.jpg", "b/.git"],
        "no photo by its name (.txt)": ["b/notes.txt"],
        "no photo by its name (no suffix)": ["README"],
    }
    for place in (loose(files, tmp_path / "f"), zipped(files, tmp_path / "a.zip"), tarred(files, tmp_path / "a.tar")):
        assert photo_stores.photo_names(photo_stores.open_store(place)) == (["a.JPG", "b/c.png"], expected)


def test_names_that_no_list_can_hold_are_refused(tmp_path):
    files = {"a.jpg": b"1", "line\nbreak.jpg": b"2", "back\\slash.jpg": b"3"}
    folder = loose(files, tmp_path / "f")
    (folder / os.fsdecode(b"latin\xe9.jpg")).write_bytes(b"4")
    found, passed_over = photo_stores.photo_names(photo_stores.Folder(folder))
    assert found == ["a.jpg"]
    assert passed_over == {
        "name that no CSV file can hold": ["'latin\\udce9.jpg'", "'line\\nbreak.jpg'"],
        "unsafe path": ["back\\slash.jpg"],
    }


# A folder


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "out/secret.jpg", "link.jpg"])
def test_no_path_leaves_a_folder(tmp_path, path):
    loose({"secret.jpg": b"secret"}, tmp_path)
    folder = loose(PHOTOS, tmp_path / "f")
    (folder / "out").symlink_to(tmp_path)
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(ValueError, match="escapes the photo root") as caught:
        photo_stores.Folder(folder).read(path)
    assert caught.value.reason == "unsafe path"


def test_links_inside_a_folder_are_followed_and_linked_folders_are_not_listed(tmp_path):
    loose(PHOTOS, tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "again.jpg").symlink_to(tmp_path / "top.jpg")
    store = photo_stores.Folder(tmp_path)
    assert store.names() == sorted([*PHOTOS, "again.jpg"])
    assert store.refused == {"linked folder": ["linked"]}
    assert store.read("again.jpg") == PHOTOS["top.jpg"]
    assert store.read("linked/photo 0é.jpg") == PHOTOS["a/photo 0é.jpg"]


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(FileNotFoundError, match=r"'pipe\.jpg' .* is no file"):
        photo_stores.Folder(tmp_path).read("pipe.jpg")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(photo_stores.MAX_BYTES + 1)  # a hole, which takes no space
    with pytest.raises(ValueError, match=r"'a\.jpg' .* is larger than 256 MiB") as caught:
        photo_stores.Folder(tmp_path).read("a.jpg")
    assert caught.value.reason == "too large"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_counted(tmp_path):
    loose(PHOTOS, tmp_path)
    (tmp_path / "a").chmod(0)
    store = photo_stores.Folder(tmp_path)
    assert [name for name in store.names() if name.startswith("a/")] == []
    assert store.refused == {"folder that cannot be listed (Permission denied)": ["a"]}
    (tmp_path / "a").chmod(0o700)


# Archives from strangers


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "b/../../a.jpg", "C:/a.jpg", "c:a.jpg", "b\\a.jpg", "b//a.jpg"]
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_whose_path_leaves_the_archive_is_refused_and_the_others_are_read(tmp_path, pack, name):
    store = photo_stores.open_store(pack({name: b"evil", **PHOTOS}, tmp_path / f"a.{pack.__name__[:3]}"))
    assert contents(store) == PHOTOS
    assert store.refused == {"unsafe path": [name]}
    with pytest.raises(ValueError, match=r"unsafe path.*pack the archive again, with paths relative"):
        store.read(name)


def test_a_leading_dot_is_no_danger(tmp_path):
    store = photo_stores.open_store(tarred({f"./{name}": data for name, data in PHOTOS.items()}, tmp_path / "a.tar"))
    assert contents(store) == PHOTOS


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("link.jpg")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(zipped(PHOTOS, tmp_path / "a.zip"), "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    store = photo_stores.open_store(tmp_path / "a.zip")
    assert contents(store) == PHOTOS
    assert store.refused == {"link or device": ["link.jpg"]}
    with pytest.raises(ValueError, match=r"'link\.jpg' in the archive .*a\.zip cannot be read \(link or device\)"):
        store.read("link.jpg")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_devices_and_sparse_files_in_a_tar_are_refused(tmp_path, kind):
    file = tarred({"link.jpg": b""}, tmp_path / "a.tar", type=kind, linkname="top.jpg")
    tarred(PHOTOS, file, "a")
    store = photo_stores.open_store(file)
    assert contents(store) == PHOTOS
    assert store.refused == {"link or device": ["link.jpg"]}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_name_that_occurs_twice_is_refused(tmp_path, pack):
    file = pack(PHOTOS, tmp_path / f"a.{pack.__name__[:3]}")
    if pack is zipped:
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("top.jpg", b"other")
    else:
        tarred({"top.jpg": b"other"}, file, "a")
    store = photo_stores.open_store(file)
    assert store.refused == {"occurs more than once": ["top.jpg"]}
    assert "top.jpg" not in store.names()


def patched(file, old, new):
    data = file.read_bytes()
    assert data.count(old) >= 1
    file.write_bytes(data.replace(old, new))
    return file


def test_a_bomb_that_says_its_size_is_refused_by_the_directory(tmp_path):
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.jpg", "w") as member:
        for _ in range(257):
            member.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 20
    assert photo_stores.open_store(file).refused == {"too large": ["bomb.jpg"]}


def test_a_bomb_that_lies_about_its_size_is_stopped_there(tmp_path):
    bomb = bytes(1 << 24)
    file = zipped({"bomb.jpg": bomb}, tmp_path / "a.zip")
    patched(file, struct.pack("<I", len(bomb)), struct.pack("<I", 30_000))  # of the 16,307 that it has packed
    store = photo_stores.open_store(file)
    code = (
        "import pathlib, resource, sys\n"
        "from helpers import photo_stores\n"
        f"store = photo_stores.open_store(pathlib.Path({str(file)!r}))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: store.read('bomb.jpg')\n"
        "except ValueError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 << 10  # KiB
    with pytest.raises(ValueError, match="damaged in its archive"):
        store.read("bomb.jpg")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    file = zipped({"a.jpg": bytes(9000), "b.jpg": bytes(9001), "good.jpg": b"good"}, tmp_path / "a.zip")
    data = file.read_bytes()
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"b.jpg"))
    file.write_bytes(data[: entry + 42] + struct.pack("<I", 0) + data[entry + 46 :])  # where its bytes lie
    store = photo_stores.open_store(file)
    assert store.refused == {"overlaps another member": ["a.jpg", "b.jpg"]}
    assert contents(store) == {"good.jpg": b"good"}


def test_encrypted_and_oddly_compressed_members_are_refused(tmp_path):
    file = zipped({"lzma.jpg": b"1"}, tmp_path / "a.zip", zipfile.ZIP_LZMA)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("secret.jpg", b"2")
        archive.writestr("good.jpg", b"3")
    data = bytearray(file.read_bytes())
    data[data.rindex(b"PK\1\2", 0, data.rindex(b"secret.jpg")) + 8] |= 1
    file.write_bytes(data)
    store = photo_stores.open_store(file)
    assert store.refused == {"compressed by method 14, not by deflate": ["lzma.jpg"], "encrypted": ["secret.jpg"]}
    assert contents(store) == {"good.jpg": b"3"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named_and_the_others_are_read(tmp_path, method):
    file = zipped({"a.jpg": b"photo of a cat " * 9, "b.jpg": b"photo of a dog"}, tmp_path / "a.zip", method)
    data = bytearray(file.read_bytes())
    data[30 + len("a.jpg") + 3] ^= 0xFF
    file.write_bytes(data)
    store = photo_stores.open_store(file)
    with pytest.raises(
        ValueError, match=r"'a\.jpg' in the archive .*damaged in its archive\): get the archive"
    ) as error:
        store.read("a.jpg")
    assert error.value.reason == "damaged in its archive"
    assert store.read("b.jpg") == b"photo of a dog"


@pytest.mark.parametrize("lost", [1, 600, 1500, 9000, 10240])
def test_a_tar_that_was_cut_off_is_named_and_nothing_of_it_dropped_in_silence(tmp_path, lost):
    file = tarred(PHOTOS, tmp_path / "a.tar")
    content = file.read_bytes().rstrip(b"\0")
    file.write_bytes(content[:-lost])
    with pytest.raises(ValueError, match=r"a\.tar is (no sound tar|damaged or cut off)"):
        photo_stores.open_store(file)


def test_a_tar_with_a_damaged_header_is_named(tmp_path):
    file = tarred(PHOTOS, tmp_path / "a.tar", format=tarfile.GNU_FORMAT)
    patched(file, b"top.jpg", b"tip.jpg")  # its checksum no longer fits
    with pytest.raises(ValueError, match=r"a\.tar is damaged or cut off at byte \d+: get or pack it again"):
        photo_stores.open_store(file)


def test_a_tar_that_runs_backwards_is_named(tmp_path):
    file = tarred({"a.jpg": b"1", "b.jpg": b"2"}, tmp_path / "a.tar", format=tarfile.GNU_FORMAT)
    data = bytearray(file.read_bytes())
    data[1024 + 124 : 1024 + 136] = b"\xff" * 10 + struct.pack(
        ">h", -512
    )  # a size below zero: it is followed by itself
    data[1024 + 148 : 1024 + 156] = b" " * 8
    data[1024 + 148 : 1024 + 155] = b"%06o\0" % sum(data[1024:1536])
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tar is no sound tar"):
        photo_stores.open_store(file)


def test_a_tar_of_headers_stacked_on_headers_is_named(tmp_path):
    header = tarfile.TarInfo("a.jpg")
    header.type, header.size = tarfile.XHDTYPE, 8
    (tmp_path / "a.tar").write_bytes((header.tobuf(tarfile.USTAR_FORMAT) + b"8 a=bcd\n".ljust(512, b"\0")) * 5000)
    with pytest.raises(ValueError, match=r"a\.tar is no sound tar: .* Get or pack it again"):
        photo_stores.open_store(tmp_path / "a.tar")


@contextmanager
def named_if_refused(name):
    """Let a ValueError pass that names the object; any other error is one."""
    try:
        yield
    except ValueError as error:
        if name not in str(error):
            raise


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_damaged_anywhere_gives_right_photos_or_errors(tmp_path, pack):
    file = pack({"a.jpg": b"photo of a cat " * 20, "b/c.jpg": b"photo of a dog"}, tmp_path / f"a.{pack.__name__[:3]}")
    sound = file.read_bytes()

    @given(st.integers(0, len(sound.rstrip(b"\0"))), st.binary(min_size=1, max_size=4), st.booleans())
    @example(207, b"\0", False)  # a zip's photo without a name
    @settings(max_examples=200, deadline=None)
    def check(position, noise, cut):
        file.write_bytes(sound[:position] + noise + (b"" if cut else sound[position + len(noise) :]))
        names = []
        with named_if_refused(str(file)):
            store = photo_stores.open_store(file)
            names = store.names()
        for name in names:
            with named_if_refused(repr(name)):
                data = store.read(name)
                assert pack is tarred or data in (b"photo of a cat " * 20, b"photo of a dog")  # a tar has no checksums

    check()
