import errno
import hashlib
import itertools
import os
import pickle
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from helpers import cluster, inputs, packing, paths, photo_stores, raw_photos, shards

SIZE = 56
SIZES = [(160, 128), (128, 160), (601, 128), (129, 333), (40, 40), (64, 65), (90, 91), (1000, 901)]


@pytest.fixture
def album(root):
    """Photos of many shapes, and their rows."""
    folder = root / "album"
    folder.mkdir()
    generator = np.random.default_rng(2)
    rows = []
    for number, size in enumerate(SIZES):
        image = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size)
        image.save(folder / f"{number}.jpg", quality=90)
        rows.append(row(folder, f"{number}.jpg"))
    return folder, pd.DataFrame(rows)


def row(folder, path):
    return {"id": f"id-{path}", "path": path, "sha256": hashlib.sha256((folder / path).read_bytes()).hexdigest()}


def cached(album, image_size=SIZE):
    folder, rows = album
    return raw_photos.cached(rows, "mine", folder, image_size)


def batch(album, view, cache, image_size=SIZE, numbers=None, workers=0, finished=False):
    folder, rows = album
    requests = [(3, torch.arange(len(rows)) if numbers is None else torch.tensor(numbers))]
    [found] = inputs.stream(rows, folder, image_size, view, requests, workers, 7, cache, finished)
    return found


@pytest.mark.parametrize("image_size", [56, 48, 113])
@pytest.mark.parametrize("workers", [0, 1])
def test_central_views_are_those_of_the_photos_bit_for_bit(album, image_size, workers):
    cache = cached(album, image_size)
    for view in ("centre", "none"):
        raw, decoded = (batch(album, view, some, image_size, [5, 2, 7, 0], workers) for some in (cache, None))
        assert raw.draws is None
        assert raw.numbers.tolist() == [5, 2, 7, 0]
        assert torch.equal(raw.photos, decoded.photos)


def test_random_crops_are_cut_from_the_squares(album):
    cache = cached(album)
    found = batch(album, "crop+flip", cache, workers=1)
    views = inputs.finish(found.photos, found.draws, "crop+flip", SIZE)
    assert views.shape == (len(SIZES), 3, SIZE, SIZE)
    for number, (square, view) in enumerate(zip(found.photos, views, strict=True)):
        resized = inputs.crop_and_flip(square, SIZE, inputs._generator(7, 3, number))  # antialiased, in one step
        assert (resized.float() - view.float()).abs().mean() < 1
        assert (resized.flip(-1).float() - view.float()).abs().mean() > 3


def test_turned_views_are_cut_from_the_squares(album):
    cache = cached(album)
    found = batch(album, "crop+rotation+colour", cache)
    views = inputs.finish(found.photos, found.draws, "crop+rotation+colour", SIZE)
    for number, (square, view) in enumerate(zip(found.photos, views, strict=True)):
        turned = inputs.crop_rotate_and_colour(square, SIZE, inputs._generator(7, 3, number))
        assert (turned.float() - view.float()).abs().mean() < 1


@pytest.mark.parametrize("view", ["crop+flip", "crop+rotation+colour", "centre"])
def test_workers_that_finish_the_views_give_the_same(album, view):
    cache = cached(album)
    left, finished = (batch(album, view, cache, workers=1, finished=finished) for finished in (False, True))
    assert finished.draws is None
    assert torch.equal(finished.photos, inputs.finish(left.photos, left.draws, view, SIZE))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_endless_stream_of_decoded_photos_keeps_its_order_and_can_be_closed(album, workers):
    folder, rows = album
    asked = itertools.count()
    requests = ((epoch, torch.tensor([epoch % 8, 0])) for epoch in asked)
    before = threading.active_count()
    stream = inputs.stream(rows, folder, SIZE, "crop+flip", requests, workers, 7, cached(album))
    found = list(itertools.islice(stream, 20))
    stream.close()
    assert [batch.numbers[0].item() for batch in found] == [number % 8 for number in range(20)]
    assert not torch.equal(found[0].draws[0], found[8].draws[0])  # another epoch
    assert next(asked) <= 20 + 2 * workers + 1
    assert threading.active_count() == before


def test_a_square_is_the_middle_of_a_photo(album):
    cache = cached(album)
    places = cache.places(album[1], album[0], SIZE, "centre")
    photo = inputs.decode((album[0] / "2.jpg").read_bytes(), "2.jpg", SIZE)
    expected = functional.center_crop(inputs._shrunk(photo, SIZE), [64])
    assert cache.squares.shape == (len(SIZES), 64, 64, 3)
    assert np.array_equal(cache.squares[places[2]], expected.permute(1, 2, 0).numpy())


def test_a_second_call_reads_no_photo(album, capsys):
    first = cached(album)
    photo = first.squares[3].copy()
    for file in album[0].iterdir():
        file.write_bytes(b"")
    second = raw_photos.cached(album[1].sample(frac=1, random_state=1), "mine", album[0], SIZE)
    assert second.folder == first.folder
    assert np.array_equal(second.squares[3], photo)
    assert f"reading 8 photos decoded before in {second.folder}" in capsys.readouterr().out


def test_photos_with_the_same_bytes_are_kept_once(album):
    folder, rows = album
    shutil.copy(folder / "0.jpg", folder / "twin.jpg")
    twins = pd.DataFrame([row(folder, "twin.jpg"), *rows.to_dict("records")])
    cache = raw_photos.cached(twins, "mine", folder, SIZE)
    assert len(cache) == len(SIZES)
    found = batch((folder, twins), "centre", cache)
    assert torch.equal(found.photos[0], found.photos[1])


def test_a_part_of_a_list_is_served_and_other_photos_are_refused(album):
    folder, rows = album
    cache = raw_photos.cached(rows[:5], "mine", folder, SIZE)
    assert torch.equal(
        batch((folder, rows[2:4]), "centre", cache).photos, batch((folder, rows[2:4]), "centre", None).photos
    )
    with pytest.raises(
        ValueError, match=r"3 of 6 photos are not in .*raw-.*, the first of them '5\.jpg': make a cache"
    ):
        batch((folder, rows[2:]), "centre", cache)
    with pytest.raises(ValueError, match=r"1 of 1 photos are not in"):
        batch((folder, rows[:1].assign(sha256="")), "centre", cache)


def test_a_changed_list_or_size_has_another_cache(album):
    folder, rows = album
    Image.new("RGB", (70, 70)).save(folder / "0.jpg")
    changed = pd.DataFrame([row(folder, "0.jpg"), *rows[1:].to_dict("records")])
    folders = {raw_photos.cached(some, "mine", folder, size).folder for some, size in ((changed, SIZE), (changed, 48))}
    assert cached(album).folder not in folders
    assert len(folders) == 2


def test_photos_that_fail_are_reported_and_tried_again(album, capsys):
    folder, rows = album
    sound = {name: (folder / name).read_bytes() for name in ("1.jpg", "3.jpg")}
    (folder / "1.jpg").unlink()
    (folder / "3.jpg").write_bytes(sound["3.jpg"] + b" ")
    (folder / "6.jpg").write_bytes((folder / "6.jpg").read_bytes()[:300])
    rows.loc[6, "sha256"] = row(folder, "6.jpg")["sha256"]
    cache = cached(album)
    assert "3 of 8 photos cannot be used: photo" in capsys.readouterr().out
    found = batch(album, "crop+flip", cache, numbers=[6, 0, 3, 1, 2])
    assert found.numbers.tolist() == [0, 2]
    assert [number for number, _ in found.failed] == [6, 3, 1]
    for (_, reason), said in zip(
        found.failed,
        ["'6.jpg' is truncated", "'3.jpg' is not the one that the list names", "'1.jpg' is missing"],
        strict=True,
    ):
        assert said in reason
    for name, data in sound.items():
        (folder / name).write_bytes(data)
    found = batch(album, "centre", cached(album), numbers=[6, 0, 3, 1, 2])
    assert [number for number, _ in found.failed] == [6]
    assert torch.equal(found.photos, batch(album, "centre", None, numbers=[0, 3, 1, 2]).photos)


def cut(folder):
    os.truncate(folder / "photos.npy", 20_000)


def without_record(folder):
    (folder / "decoded.json").unlink()
    (folder / ".photos.npy.1234.partial").write_bytes(b"of a process that was killed")


def with_a_broken_record(folder):
    (folder / "decoded.json").write_text("[")


def with_another_record(folder):
    (folder / "decoded.json").write_text((folder / "decoded.json").read_text().replace('"made of": "', '"made of": "0'))


def of_fewer_photos(folder):
    np.save(folder / "sha256.npy", np.load(folder / "sha256.npy")[:-1])


@pytest.mark.parametrize("damage", [cut, without_record, with_a_broken_record, with_another_record, of_fewer_photos])
def test_a_cache_that_is_not_the_wanted_one_in_full_is_made_anew(album, damage):
    cache = cached(album)
    expected = cache.squares.copy()
    damage(cache.folder)
    again = cached(album)
    assert np.array_equal(again.squares, expected)
    assert sorted(file.name for file in again.folder.iterdir()) == ["decoded.json", "photos.npy", "sha256.npy"]


def test_a_disk_without_room_is_said_before_anything_is_decoded(album, monkeypatch):
    needed = f"{len(SIZES) * 64 * 64 * 3:,} bytes"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6 - 500, 500))
        with pytest.raises(OSError, match=f"decoded photos need {needed}, 500 are free: make room"):
            cached(album)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        with pytest.raises(OSError, match=f"decoded photos need {needed}"):
            cached(album)
    assert not [file for file in paths.shards("mine").rglob("*") if "photos.npy" in file.name]
    assert len(cached(album)) == len(SIZES)


def no_room(*arguments):
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_long_list_is_decoded_in_tasks_that_can_be_sent_to_any_worker(album, monkeypatch):
    (album[0] / "5.jpg").unlink()
    whole = cached(album)
    squares, failed = whole.squares.copy(), whole.failed
    shutil.rmtree(paths.shards("mine"))
    sent = []

    def mapped_in_any_order(function, tasks, label, total):
        sent.extend(tasks)
        results = [(number, function(pickle.loads(pickle.dumps(task)))) for number, task in enumerate(tasks)]
        return iter(results[::-1])

    monkeypatch.setattr(cluster, "mapped", mapped_in_any_order)
    monkeypatch.setattr(raw_photos, "_PHOTOS_PER_TASK", 3)
    again = cached(album)
    assert len(sent) == 3
    assert np.array_equal(again.squares, squares)
    assert again.failed == failed


def test_photos_that_were_shrunk_into_shards_are_others(album, root):
    folder, rows = album
    packed = root / "packed"
    full = rows.assign(latitude=1.0, longitude=2.0, author="", split="train")
    packing.pack(full, folder, packed, short_side=80, photos_per_shard=100)
    cache = raw_photos.cached(rows, "mine", packed, SIZE)
    assert cache.folder != cached(album).folder
    assert torch.equal(batch((packed, rows), "centre", cache).photos, batch((packed, rows), "centre", None).photos)
    with pytest.raises(ValueError, match="are not in"):
        batch((folder, rows), "centre", cache)


def test_a_view_that_the_squares_do_not_hold_is_refused(album):
    cache = cached(album)
    for view, image_size in (("five", SIZE), ("centre", 48)):
        with pytest.raises(ValueError, match=rf"single crops of 56 px, not for '{view}' of {image_size} px"):
            batch(album, view, cache, image_size)


def test_photos_without_known_bytes_are_refused(album):
    album[1].loc[4, "sha256"] = ""
    with pytest.raises(ValueError, match=r"1 of 8 photos have no known hash, the first of them '4\.jpg'"):
        cached(album)


def test_a_path_that_leaves_the_photo_root_stops_everything(album):
    album[1].loc[4, "path"] = "../4.jpg"
    with pytest.raises(photo_stores.Unreadable, match="escapes the photo root"):
        cached(album)
    assert not list(paths.shards("mine").rglob("*.npy*"))


def test_a_folder_without_a_cache_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no finished cache of photos"):
        raw_photos.RawPhotos(tmp_path)


def test_hashes_that_end_in_zeros_are_known(album, monkeypatch):
    """NumPy strips them."""
    folder, rows = album
    digest = bytes(31 * [7]) + b"\0"
    rows = rows[:1].assign(sha256=digest.hex())
    monkeypatch.setattr(hashlib, "sha256", lambda data: Digest(digest))
    assert shards.known_hashes(rows, folder)[0] == digest.rstrip(b"\0")
    assert raw_photos._pixels(photo_stores.Folder(folder), "0.jpg", digest.rstrip(b"\0"), SIZE)


class Digest:
    def __init__(self, value):
        self.value = value

    def digest(self):
        return self.value
