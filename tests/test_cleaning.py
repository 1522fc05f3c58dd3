import dataclasses
import hashlib
import io
import itertools
import math
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile

import cv2
import imagehash
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from test_photos import ORIENTATION, encoded, png, textured

from helpers import cleaning, cluster, data_lists, paths, photo_stores, plots, toy_earth

OFF = cleaning.Settings(0, 0, 0, "keep")
CLOSED = b"\xff\xd9"
WORDS = st.integers(0, 2**64 - 1)
HALF = 0x0F0F_3C3C_5A5A_00FF  # half of its bits are set, as in the hash of a photo
NEAR, FARTHER = HALF ^ 0x0180, HALF ^ 0x03C0  # by 2 and 4 bits, and by 2 from each other
TRANSPOSE = Image.Transpose
AS_STORED = {  # by the orientation that EXIF gives
    2: TRANSPOSE.FLIP_LEFT_RIGHT,
    3: TRANSPOSE.ROTATE_180,
    4: TRANSPOSE.FLIP_TOP_BOTTOM,
    5: TRANSPOSE.TRANSPOSE,
    6: TRANSPOSE.ROTATE_90,
    7: TRANSPOSE.TRANSVERSE,
    8: TRANSPOSE.ROTATE_270,
}


def scene(number=0):
    return Image.open(io.BytesIO(toy_earth.render_jpeg(f"scene-{number}", 48.9, 2.3)))


def photo_of_scene(number):
    return toy_earth.render_jpeg(f"scene-{number}", 48.9, 2.3)


def listed(files, folder, **columns):
    """Photos in a folder, and the rows of their list."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    rows = pd.DataFrame({"id": [name.split(".")[0] for name in files], "path": list(files)})
    rows["sha256"] = [hashlib.sha256(data).hexdigest() for data in files.values()]
    return rows.assign(latitude=np.arange(len(rows)) / 10, longitude=2.3, **columns)


def measured(hashes, **columns):
    """Rows and measures of photos without a fault, but for what is given."""
    rows = pd.DataFrame({"id": [f"{number:05d}" for number in range(len(hashes))]})
    rows = rows.assign(path=rows["id"] + ".jpg", sha256=rows["id"], latitude=np.arange(len(rows)) / 100, longitude=0.0)
    measures = pd.DataFrame({"problem": "", "channel_variance": 4e3, "laplacian_variance": 2e3}, index=rows.index)
    measures["perceptual_hash"] = np.array(hashes, dtype=np.uint64)
    for name, values in columns.items():
        (rows if name in rows else measures)[name] = values
    return rows, measures


def bits_of(number, *others):
    return [(number ^ other).bit_count() for other in others]


@given(st.integers(2, 9), st.integers(2, 9), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_variance_of_the_laplacian_is_that_of_opencv(height, width, random):
    grey = np.array([random.randrange(256) for _ in range(height * width)], dtype=np.uint8).reshape(height, width)
    assert cleaning.laplacian_variance(grey) == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), abs=1e-9)


def test_the_largest_channel_variance_is_that_of_the_colours():
    image = textured().convert("YCbCr")
    luma, blue, red = np.asarray(image).astype(float).transpose(2, 0, 1)
    colours = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    assert cleaning.channel_variance(image) == pytest.approx(max(np.var(colour) for colour in colours))
    one_colour = Image.new("RGB", (64, 64), "red")
    one_colour.paste("black", (0, 0, 32, 64))
    assert cleaning.channel_variance(one_colour.convert("YCbCr")) == pytest.approx(127.5**2, rel=0.01)


@pytest.mark.parametrize("number", range(6))
def test_the_perceptual_hash_is_that_of_imagehash(number):
    for image in (textured(seed=number).convert("L"), scene(number).convert("L")):
        bits = imagehash.phash(image).hash
        assert cleaning.perceptual_hash(image) == int.from_bytes(np.packbits(bits).tobytes(), "big")


def test_a_flat_image_has_the_same_hash_on_every_machine():
    for shade in (0, 7, 128, 255):
        assert cleaning.perceptual_hash(Image.new("L", (200, 180), shade)) == (1 << 63 if shade else 0)


def test_measuring_keeps_to_one_thread():
    code = """if True:
        import time
        import numpy as np
        from PIL import Image
        from helpers import cleaning
        small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8), "YCbCr")
        everyone, alone = time.process_time(), time.thread_time()
        for _ in range(60):
            cleaning.channel_variance(small)
            cleaning.laplacian_variance(np.asarray(small.getchannel(0)))
            cleaning.perceptual_hash(small.getchannel(0))
        alone, everyone = time.thread_time() - alone, time.process_time() - everyone
        print(everyone / alone)
    """
    threads = {"OPENBLAS_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | threads, cwd=paths.SOURCE, capture_output=True, text=True
    )
    assert float(found.stdout) < 1.2, found.stderr


def test_black_blank_and_blurred_photos_measure_little():
    sharp = cleaning.measure_photo(encoded(scene()), "a")
    blurred = cleaning.measure_photo(encoded(scene().filter(ImageFilter.GaussianBlur(6))), "a")
    black = cleaning.measure_photo(encoded(Image.new("RGB", (300, 200), (3, 2, 4))), "a")
    blank = cleaning.measure_photo(encoded(Image.new("RGB", (300, 200), "orange")), "a")
    assert sharp.channel_variance > cleaning.Settings().min_channel_variance
    assert sharp.laplacian_variance > cleaning.Settings().min_laplacian_variance > blurred.laplacian_variance
    assert max(black.channel_variance, blank.channel_variance, blank.laplacian_variance) < 1


def test_one_threshold_holds_for_photos_of_any_size():
    whole, generator = Image.new("RGB", (1440, 1080)), np.random.default_rng(3)
    for _ in range(200):
        left, top, wide, high = generator.integers(0, 1200, 2).tolist() + generator.integers(20, 300, 2).tolist()
        whole.paste(tuple(generator.integers(0, 256, 3).tolist()), (left, top, left + wide, top + high))
    sizes = [(240, 180), (400, 300), (478, 359), (480, 360), (960, 720), (1440, 1080)]
    files = [encoded(whole.resize(size, Image.Resampling.LANCZOS), quality=95) for size in sizes]
    measures = [cleaning.measure_photo(file, "a") for file in files]
    for name in ("channel_variance", "laplacian_variance"):
        values = [getattr(measure, name) for measure in measures]
        assert max(values) < 1.5 * min(values), values
    assert [(measure.width, measure.height) for measure in measures] == sizes


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(scene(), format) for format in ("PNG", "BMP", "TIFF")),
        encoded(scene(), "WEBP", quality=95),
        encoded(scene(), quality=95, progressive=True),
        encoded(scene(), quality=95, keep_rgb=True),
        encoded(scene().convert("CMYK"), quality=95),
        encoded(scene().convert("RGBA"), "PNG"),
        png(np.asarray(scene()).astype(np.uint16) * 257, 2),
    ],
    ids=["PNG", "BMP", "TIFF", "WebP", "progressive", "RGB JPEG", "CMYK", "alpha", "16 bit"],
)
def test_what_a_photo_measures_hardly_depends_on_its_format(data):
    expected = cleaning.measure_photo(encoded(scene(), quality=95), "a")
    found = cleaning.measure_photo(data, "a")
    assert found[:3] == expected[:3]
    assert found.channel_variance == pytest.approx(expected.channel_variance, rel=0.02)
    assert found.laplacian_variance == pytest.approx(expected.laplacian_variance, rel=0.15)
    assert bits_of(found.perceptual_hash, expected.perceptual_hash)[0] <= 2


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_grey_photo_is_one_whose_colours_are_equal(format):
    found = cleaning.measure_photo(encoded(scene().convert("L"), format), "a")
    grey = np.asarray(scene().convert("L"), dtype=float)
    assert found.problem == ""
    assert found.channel_variance == pytest.approx(grey.var(), rel=0.02)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_measured_upright(format, orientation):
    upright = cleaning.measure_photo(encoded(scene()), "a")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = scene().transpose(AS_STORED[orientation]) if orientation > 1 else scene()
    found = cleaning.measure_photo(encoded(stored, format, exif=exif), "a")
    assert (found.width, found.height) == (upright.width, upright.height)
    assert bits_of(found.perceptual_hash, upright.perceptual_hash)[0] <= 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_damage_to_the_photo():
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    data = encoded(scene(), exif=exif)
    for garbage in (b"Exif\0\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\xff\xff\xff\xff"):
        found = cleaning.measure_photo(data.replace(exif.tobytes()[: len(garbage)], garbage), "a")
        assert found == cleaning.measure_photo(encoded(scene()), "a")


@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": "4:4:4"}, {"restart_marker_rows": 1}, {"progressive": True}],
    ids=["4:2:0", "4:4:4", "restarts", "progressive"],
)
@pytest.mark.parametrize("size", [(1000, 750), (500, 375), (200, 140)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCCK", "stored as RGB"])
def test_a_jpeg_whose_scan_was_cut_and_closed_decodes_only_in_part(options, size, mode):
    image = textured(*size).convert({"YCCK": "CMYK", "stored as RGB": "RGB"}.get(mode, mode))
    if mode != "RGB":
        options = options | {"subsampling": -1, "keep_rgb": mode == "stored as RGB"}
    data = encoded(image, **options)
    if mode == "YCCK":  # what the Adobe segment says last
        end_of_adobe = data.index(b"Adobe") + 12
        data = data[: end_of_adobe - 1] + b"\2" + data[end_of_adobe:]
    assert cleaning.measure_photo(data, "a").problem == ""
    for share in (0.3, 0.6, 0.9):
        cut = data[: int(len(data) * share)]
        assert cleaning.measure_photo(cut, "a").problem == "truncated"
        found = cleaning.measure_photo(cut + CLOSED, "a")
        # Where the cut is in a table between scans, the file cannot be decoded at all.
        assert found[:3] == (cleaning.PARTIAL, *size) or (found.problem == "truncated" and share == 0.3)


def test_a_large_progressive_jpeg_is_decoded_once(monkeypatch):
    data = encoded(textured(1600, 1440), progressive=True)
    scans = [place for place in range(len(data)) if data.startswith(b"\xff\xda", place)]
    decoded = []
    load = cleaning._small
    monkeypatch.setattr(cleaning, "_small", lambda image, colours: decoded.append(1) or load(image, colours))
    whole = cleaning.measure_photo(data, "a")
    assert (whole.problem, len(decoded)) == ("", 1)
    assert cleaning.measure_photo(data[: scans[-1] - 100] + CLOSED, "a").problem == cleaning.PARTIAL
    # The last scan is the one that cannot be told: nothing of what it lacks is measured.
    assert cleaning.measure_photo(data[: (scans[-1] + len(data)) // 2] + CLOSED, "a") == whole


def test_a_progressive_jpeg_that_was_cut_between_scans_decodes_only_in_part():
    data = encoded(textured(300, 200), progressive=True)
    scans = [place for place in range(len(data)) if data.startswith(b"\xff\xda", place)]
    assert len(scans) > 3
    for place in scans[1:]:
        assert cleaning.measure_photo(data[:place] + CLOSED, "a").problem == cleaning.PARTIAL


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}])
def test_grey_at_the_bottom_is_damage_if_it_is_the_grey_of_missing_data_and_as_wide_as_the_photo(options):
    for shade, left, height, problem in (
        (128, 0, 40, cleaning.PARTIAL),  # as in a photo that was damaged, and then encoded again
        (127, 0, 40, ""),
        (129, 0, 40, ""),
        (128, 200, 40, ""),
        (128, 0, 4, ""),
    ):
        image = textured(500, 376)
        image.paste((shade, shade, shade), (left, 376 - height, 500, 376))
        assert cleaning.measure_photo(encoded(image, **options), "a").problem == problem


def test_a_jpeg_with_something_behind_it_is_whole():
    for options in ({}, {"progressive": True}):
        for behind in (b"padding", b"\0" * 900, CLOSED):
            assert cleaning.measure_photo(encoded(textured(), **options) + behind, "a").problem == ""


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"GIF89a", "not a photo"),
        (encoded(Image.new("RGB", (8, 8))), "too small"),
        (encoded(Image.new("1", (400, 16)), "PNG"), "too narrow"),
        (encoded(Image.new("1", (10_001, 10_000)), "PNG"), "too large"),
        (encoded(textured())[:900], "truncated"),
        (encoded(textured())[:-1], "truncated"),
        (encoded(textured(), "PNG")[:900], "truncated"),
        (encoded(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"), "unsupported"),
    ],
    ids=["empty", "GIF", "8px", "strip", "100MP", "cut", "one byte short", "cut PNG", "float"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_decoded_has_the_reason_as_its_problem(data, problem):
    found = cleaning.measure_photo(data, "a")
    assert found.problem == problem
    assert math.isnan(found.channel_variance)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            *(encoded(textured(40, 30), name) for name in ("JPEG", "PNG")),
            *(encoded(textured(40, 30), progressive=True, keep_rgb=keep_rgb) for keep_rgb in (False, True)),
            encoded(textured(40, 30).convert("CMYK"), progressive=True),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_file_measures_something_or_has_a_problem(data, changes):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    found = cleaning.measure_photo(bytes(damaged), "a")
    assert found.problem != "" or (found.channel_variance >= 0 and found.laplacian_variance >= 0)


@pytest.fixture
def collection(tmp_path):
    """Photos, and the rows of their list, whose index says nothing."""
    files = {f"{number}.jpg": photo_of_scene(number) for number in range(6)}
    files |= {"6.png": encoded(scene(6), "PNG"), "7.jpg": photo_of_scene(7)[:-9], "8.jpg": photo_of_scene(0)}
    rows = listed(files, tmp_path / "photos")
    return rows.set_axis([10 * number for number in range(len(rows))])


def test_measures_are_those_of_each_photo_in_the_order_of_the_rows(collection, tmp_path):
    found = cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    assert found.index.equals(collection.index)
    for index, path in collection["path"].items():
        expected = cleaning.measure_photo((tmp_path / "photos" / path).read_bytes(), path)
        pd.testing.assert_series_equal(found.loc[index], pd.Series(expected._asdict()), check_names=False)
    other_way_round = cleaning.measure(collection[::-1], tmp_path / "photos", tmp_path / "other.parquet")
    pd.testing.assert_frame_equal(other_way_round, found[::-1])
    assert (tmp_path / "other.parquet").read_bytes() == (tmp_path / "kept.parquet").read_bytes()


def test_no_photo_is_looked_at_twice(collection, tmp_path, monkeypatch):
    kept, looked_at = tmp_path / "kept.parquet", []
    read = photo_stores.Folder.read
    monkeypatch.setattr(photo_stores.Folder, "read", lambda store, path: looked_at.append(path) or read(store, path))
    first = cleaning.measure(collection[:4], tmp_path / "photos", kept)
    assert sorted(looked_at) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    every = cleaning.measure(collection, tmp_path / "photos", kept)
    assert sorted(looked_at[4:]) == ["4.jpg", "5.jpg", "6.png", "7.jpg"]  # 8.jpg has the bytes of 0.jpg
    pd.testing.assert_frame_equal(every[:4], first)
    photo_stores.reopened.__globals__["_kept"].cache_clear()
    for file in (tmp_path / "photos").iterdir():
        file.unlink()
    derived = collection[2:5]
    pd.testing.assert_frame_equal(cleaning.measure(derived, tmp_path / "photos", kept), every[2:5])


def test_other_thresholds_need_no_photos(collection, tmp_path):
    measures = cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    for file in (tmp_path / "photos").iterdir():
        file.unlink()
    again = cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    few, more = (
        cleaning.judge(collection, again, dataclasses.replace(OFF, min_channel_variance=threshold))
        for threshold in (1, measures["channel_variance"].median())
    )
    assert len(few) < len(more)


def test_what_was_measured_is_kept_when_a_later_photo_is_missing(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(cleaning, "_PHOTOS_BETWEEN_SAVES", 3)
    last = collection.sort_values("sha256").iloc[-1]["path"]
    (tmp_path / "photos" / last).unlink()
    with pytest.raises(data_lists.MissingPhotos, match=rf"{last}' is missing: .* give the folder that holds"):
        cleaning.measure(collection[collection["id"] != "8"], tmp_path / "photos", tmp_path / "kept.parquet")
    assert len(pd.read_parquet(tmp_path / "kept.parquet")) in (3, 6)
    assert not list(tmp_path.glob(".*"))


def test_measures_of_another_version_are_taken_again(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(cleaning, "_VERSION", 0)
    cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    old = pd.read_parquet(tmp_path / "kept.parquet")
    old.assign(laplacian_variance=1.0).to_parquet(tmp_path / "kept.parquet")
    monkeypatch.undo()
    found = cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    assert found["laplacian_variance"].dropna().min() > 1


def test_a_damaged_file_of_measures_is_named(collection, tmp_path):
    kept = tmp_path / "kept.parquet"
    cleaning.measure(collection, tmp_path / "photos", kept)
    whole = kept.read_bytes()
    for damaged in (b"", b"PAR1 no parquet", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"kept\.parquet is damaged .* remove it, and the photos are measured again"
        ):
            cleaning.measure(collection, tmp_path / "photos", kept)
    pd.DataFrame({"sha256": ["0"]}).to_parquet(kept)
    with pytest.raises(ValueError, match="is damaged"):
        cleaning.measure(collection, tmp_path / "photos", kept)


def test_a_photo_that_changed_or_lies_elsewhere_is_refused(collection, tmp_path):
    (tmp_path / "photos" / "2.jpg").write_bytes(photo_of_scene(11))
    with pytest.raises(data_lists.ChangedPhoto, match=r"photo '2\.jpg' .* is not that of the list: restore it"):
        cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    outside = collection[:1].assign(path="../kept.parquet")
    with pytest.raises(ValueError, match="escapes the photo root"):
        cleaning.measure(outside, tmp_path / "photos", tmp_path / "kept.parquet")
    assert not (tmp_path / "kept.parquet").exists()


def test_only_a_photo_that_is_missing_has_to_be_put_there(collection, tmp_path):
    path = collection["path"].iloc[0]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.write(tmp_path / "photos" / path, path)
    for rows, says in ((collection[:1], "compressed by method 12"), (collection[1:2], "is missing: .* Put it below")):
        with pytest.raises(data_lists.MissingPhotos, match=says) as caught:
            cleaning.measure(rows, tmp_path / "photos.zip", tmp_path / "kept.parquet")
        assert ("Put it below" in str(caught.value)) == ("missing" in says)


def test_photos_in_a_zip_measure_what_loose_ones_do(collection, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in collection["path"]:
            archive.write(tmp_path / "photos" / path, path)
    loose = cleaning.measure(collection, tmp_path / "photos", tmp_path / "loose.parquet")
    zipped = cleaning.measure(collection, tmp_path / "photos.zip", tmp_path / "zipped.parquet")
    pd.testing.assert_frame_equal(zipped, loose)


def test_measures_are_the_same_when_a_worker_is_killed_midway(scheduler, tmp_path, monkeypatch):
    files = {f"{number}.jpg": photo_of_scene(number) for number in range(8)}
    listed(files, tmp_path / "photos")
    # Photos apart in their last bytes only, which decoders pass over: many to measure, few to render.
    files = {f"{number:04d}.jpg": files[f"{number % 8}.jpg"] + b"%04d" % number for number in range(1200)}
    rows = listed(files, tmp_path / "photos")
    expected = [cleaning.measure_photo(files[f"{number:04d}.jpg"], "a") for number in range(8)]
    monkeypatch.setattr(cluster, "_ITEMS_PER_TASK", 10)
    doomed, _ = scheduler(), scheduler()
    deadline = time.monotonic() + 60
    while cluster.cores() < 2:
        assert time.monotonic() < deadline, "the workers did not start"
    midway = threading.Event()
    seen = cluster._Tally.receive
    monkeypatch.setattr(cluster._Tally, "receive", lambda tally, event: midway.set() or seen(tally, event))
    killer = threading.Thread(target=lambda: (midway.wait(60), doomed.kill()), daemon=True)
    killer.start()
    found = cleaning.measure(rows, tmp_path / "photos", tmp_path / "kept.parquet")
    killer.join(60)
    assert doomed.wait() == -9
    assert found.to_numpy().tolist() == [list(expected[number % 8]) for number in range(1200)]
    assert cleaning.judge(rows, found, dataclasses.replace(OFF, near_identical_bits=1))["of"].nunique() == 8


def brute_force(hashes, bits):
    first = {value: hashes.index(value) for value in hashes}
    return sorted(
        (one, other, (hashes[one] ^ hashes[other]).bit_count())
        for one, other in itertools.combinations(range(len(hashes)), 2)
        if (hashes[one] ^ hashes[other]).bit_count() <= bits
        and one == first[hashes[one]]
        and (other == first[hashes[other]] or hashes[one] == hashes[other])
    )


@st.composite
def look_alikes(draw):
    """Hashes of which some are a few bits apart, and some equal."""
    hashes = draw(st.lists(WORDS, min_size=1, max_size=6))
    flips = draw(st.lists(st.tuples(st.integers(0, 99), st.lists(st.integers(0, 63), max_size=9)), max_size=14))
    for of, places in flips:
        hashes.append(hashes[of % len(hashes)] ^ sum(1 << place for place in set(places)))
    return hashes


@settings(deadline=None)
@given(look_alikes(), st.integers(0, cleaning.MOST_BITS - 1))
def test_near_identical_pairs_are_those_that_comparing_each_with_each_finds(hashes, bits):
    found = cleaning.near_identical(hashes, bits)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == brute_force(hashes, bits)


@pytest.mark.parametrize("agreeing", range(5))
@pytest.mark.parametrize("bits", [1, 4, 7])
def test_it_finds_the_same_in_however_many_bands_hashes_agree(monkeypatch, agreeing, bits):
    generator = np.random.default_rng(5)
    hashes = generator.integers(0, 2**64, 300, dtype=np.uint64)
    flipped = np.bitwise_or.reduce(np.uint64(1) << generator.integers(0, 64, (8, 300)).astype(np.uint64), axis=0)
    fewer = flipped & (flipped >> np.uint64(9))
    hashes = generator.permutation(np.concatenate([hashes, hashes ^ flipped, hashes ^ fewer]))
    monkeypatch.setattr(cleaning, "_work", lambda hashes, bits, candidate: candidate != agreeing)
    found = cleaning.near_identical(hashes, bits)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == brute_force(hashes.tolist(), bits)
    assert len(found[0])


def test_counting_bits_without_numpy_2_is_the_same(monkeypatch):
    values = np.random.default_rng(5).integers(0, 2**64, 100, dtype=np.uint64)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert cleaning._ones(values).tolist() == [value.bit_count() for value in values.tolist()]


def test_a_million_copies_make_a_million_pairs():
    hashes = np.full(1_000_001, 7, dtype=np.uint64)
    hashes[500_000] = 15
    first, second, distance = cleaning.near_identical(hashes, 4)
    assert len(first) == 1_000_000
    assert (first == 0).all()
    assert distance[second == 500_000].tolist() == [1]


def test_no_hashes_are_no_pairs_and_too_many_bits_are_refused():
    assert [len(column) for column in cleaning.near_identical([], 4)] == [0, 0, 0]
    for bits in (-1, 10):
        with pytest.raises(ValueError, match=rf"bits is {bits}: .* from 0 to 9, and near_identical_bits at most 10"):
            cleaning.near_identical([1], bits)


def test_too_many_pairs_are_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(cleaning, "_MOST_PAIRS", 44)
    look_alikes = [1 << place for place in range(10)]
    assert len(cleaning.near_identical(look_alikes[:9] * 9, 2)[0]) == 36 + 72
    with pytest.raises(ValueError, match=r"more than 44 pairs among 10 hashes .* lower near_identical_bits, or run"):
        cleaning.near_identical(look_alikes, 2)


@settings(deadline=None)
@given(look_alikes(), st.integers(0, cleaning.MOST_BITS - 1), st.integers(1, 8))
def test_what_stands_for_a_hash_is_the_first_that_was_kept_before_it(hashes, bits, pairs_at_once):
    expected = []
    for number, value in enumerate(hashes):
        near = (one for one in range(number) if expected[one] == (one, 0) and bits_of(value, hashes[one])[0] <= bits)
        one = next(near, number)
        expected.append((one, *bits_of(value, hashes[one])))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(cleaning, "_PAIRS_AT_ONCE", pairs_at_once)
        kept, distance = cleaning._stand_ins(np.array(hashes, dtype=np.uint64), bits)
    assert list(zip(kept.tolist(), distance.tolist(), strict=True)) == expected


@pytest.mark.parametrize("agreeing", range(4))
def test_what_stands_for_a_hash_is_the_same_in_however_many_bands_hashes_agree(monkeypatch, agreeing):
    generator = np.random.default_rng(5)
    frames = np.repeat(generator.integers(0, 2**64, 6, dtype=np.uint64), 40)
    for _ in range(4):
        frames ^= np.uint64(1) << generator.integers(0, 64, len(frames)).astype(np.uint64)
    frames = generator.permutation(frames)
    expected = [column.tolist() for column in cleaning._stand_ins(frames, 5)]
    monkeypatch.setattr(cleaning, "_PAIRS_AT_ONCE", 10)
    monkeypatch.setattr(cleaning, "_work", lambda hashes, bits, candidate: candidate != agreeing)
    assert [column.tolist() for column in cleaning._stand_ins(frames, 5)] == expected
    assert 6 < len(set(expected[0])) < 240


def test_photos_of_a_webcam_do_not_fill_the_memory():
    generator = np.random.default_rng(5)
    frames = np.full(30_000, HALF, dtype=np.uint64)
    for low, high in ((0, 16), (16, 32)):
        frames ^= np.uint64(3) << generator.integers(low, high - 1, len(frames)).astype(np.uint64)
        frames ^= np.uint64(1) << generator.integers(low, high, len(frames)).astype(np.uint64)
    tracemalloc.start()
    kept, _ = cleaning._stand_ins(frames, 5)
    shown = cleaning._pairs_apart(frames[:2000], range(12), 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(kept)) < len(frames) / 10
    assert sum(pairs for pairs, _ in shown.values()) > 1_500_000
    assert peak < 100 * 2**20


@settings(deadline=None)
@given(look_alikes(), st.integers(1, 5))
def test_pairs_apart_are_those_that_comparing_each_with_each_finds(hashes, rows_at_once):
    pairs = list(itertools.combinations(range(len(hashes)), 2))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(cleaning, "_ROWS_AT_ONCE", rows_at_once)
        found = cleaning._pairs_apart(np.array(hashes, dtype=np.uint64), range(1, 9), 3)
    for apart, (count, first) in found.items():
        expected = [list(pair) for pair in pairs if bits_of(hashes[pair[0]], hashes[pair[1]]) == [apart]]
        assert (count, first.tolist()) == (len(expected), expected[:3])


def test_every_reason_is_found_in_files(tmp_path):
    sharp = photo_of_scene(2)
    files = {
        "a-good.jpg": sharp,
        "b-cut.jpg": photo_of_scene(3)[:-40],
        "c-half.jpg": encoded(textured(300, 200))[:4000] + CLOSED,
        "d-text.jpg": b"<html>not found</html>",
        "e-black.jpg": encoded(Image.new("RGB", (300, 200), (2, 2, 2))),
        "f-blur.jpg": encoded(scene(4).filter(ImageFilter.GaussianBlur(9))),
        "g-copy.jpg": sharp,
        "h-smaller.jpg": encoded(scene(2).resize((140, 112)), quality=70),
        "i-there.jpg": photo_of_scene(5),
        "j-there-too.jpg": photo_of_scene(6),
    }
    rows = listed(files, tmp_path / "photos")
    rows.loc[rows["id"] == "j-there-too", "latitude"] = rows.loc[rows["id"] == "i-there", "latitude"].item()
    measures = cleaning.measure(rows, tmp_path / "photos", tmp_path / "kept.parquet")
    removed = cleaning.judge(rows, measures, cleaning.Settings())
    assert removed[["id", "reason", "of"]].to_numpy().tolist() == [
        ["b-cut", "truncated", ""],
        ["c-half", cleaning.PARTIAL, ""],
        ["d-text", "not a photo", ""],
        ["e-black", cleaning.DARK, ""],
        ["f-blur", cleaning.BLURRED, ""],
        ["g-copy", cleaning.EXACT_COPY, "a-good"],
        ["h-smaller", cleaning.NEAR_IDENTICAL, "a-good"],
        ["j-there-too", cleaning.SAME_COORDINATE, "i-there"],
    ]
    assert cleaning.DARK == "dark or blank"  # of white photos, too
    assert removed["path"].tolist() == [f"{name}.jpg" for name in removed["id"]]
    values = removed.set_index("id")["value"]
    assert values["e-black"] < 1
    assert values["f-blur"] < 30
    assert values["h-smaller"] in (0, 2, 4)
    assert values.drop(["e-black", "f-blur", "h-smaller"]).isna().all()
    table = cleaning.report(rows, removed)
    assert table["photos"].sum() == len(rows)
    assert table.iloc[0].tolist() == ["kept", "", 2]
    assert table["reason"].tolist()[1:] == [
        *("not a photo", "truncated", cleaning.PARTIAL, cleaning.DARK, cleaning.BLURRED),
        *(cleaning.EXACT_COPY, cleaning.NEAR_IDENTICAL, cleaning.SAME_COORDINATE),
    ]


def test_a_photo_goes_for_the_first_reason_that_applies():
    rows, measures = measured([HALF] * 4, sha256="same", latitude=0.0)
    measures.loc[0, ["channel_variance", "laplacian_variance"]] = 1
    measures.loc[1, "laplacian_variance"] = 1
    removed = cleaning.judge(rows, measures, cleaning.Settings())
    assert removed["reason"].tolist() == [cleaning.DARK, cleaning.BLURRED, cleaning.EXACT_COPY]
    assert removed["of"].tolist() == ["", "", "00002"]


def test_only_what_stays_removes_others():
    rows, measures = measured([HALF, NEAR, FARTHER])
    removed = cleaning.judge(rows, measures, dataclasses.replace(OFF, near_identical_bits=3))
    assert removed[["id", "value", "of"]].to_numpy().tolist() == [["00001", 2, "00000"]]


def test_thresholds_of_zero_and_keep_switch_filters_off():
    rows, measures = measured([HALF] * 3, latitude=0.0, channel_variance=0.0, laplacian_variance=0.0)
    assert cleaning.judge(rows, measures, OFF).empty
    assert list(cleaning.judge(rows, measures, OFF).columns) == ["id", "path", "reason", "value", "of"]
    assert cleaning.report(rows, cleaning.judge(rows, measures, OFF))["photos"].tolist() == [3]


def test_equal_hashes_are_one_bit_and_flat_images_are_not_compared():
    rows, measures = measured([HALF, HALF, NEAR, 1 << 63, 1 << 63])
    removed = cleaning.judge(rows, measures, dataclasses.replace(OFF, near_identical_bits=1))
    assert removed[["id", "value", "of"]].to_numpy().tolist() == [["00001", 0, "00000"]]
    assert cleaning.comparable(measures).tolist() == [True, True, True, False, False]


@st.composite
def hashes_of_photos(draw):
    """Hashes that have half of their bits set, a few bits apart."""
    sets = draw(st.lists(st.tuples(st.sets(st.integers(0, 7), max_size=4), st.integers(0, 7)), min_size=1, max_size=12))
    return [
        HALF ^ sum(1 << place for place in places) ^ sum(1 << 8 + (place + shift) % 8 for place in places)
        for places, shift in sets
    ]


@settings(max_examples=60, deadline=None)
@given(hashes_of_photos(), st.integers(1, cleaning.MOST_BITS), st.randoms(use_true_random=False))
def test_each_removed_photo_is_near_one_that_stays_and_the_order_of_rows_does_not_matter(hashes, bits, random):
    rows, measures = measured(hashes)
    chosen = dataclasses.replace(OFF, near_identical_bits=bits)
    removed = cleaning.judge(rows, measures, chosen)
    stays: list[int] = []
    expected = []
    for number in range(len(hashes)):
        of = [kept for kept in stays if (hashes[kept] ^ hashes[number]).bit_count() < bits]
        if of:
            expected.append((f"{number:05d}", f"{of[0]:05d}", (hashes[of[0]] ^ hashes[number]).bit_count()))
        else:
            stays.append(number)
    assert list(removed[["id", "of", "value"]].itertuples(index=False, name=None)) == expected
    order = list(range(len(hashes)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(cleaning.judge(rows.iloc[order], measures.iloc[order], chosen), removed)


@pytest.mark.parametrize("measure", ["channel_variance", "laplacian_variance"])
def test_a_threshold_that_leaves_nothing_shows_how_its_measure_is_distributed(measure):
    rows, measures = measured([HALF] * 5, **{measure: np.array([1.0, 2.0, 3.0, 4.0, 5.0])})
    with pytest.raises(
        ValueError, match=rf"min_{measure} 6 leaves none of 5 photos: choose a lower .*50 %: 3, .*100 %: 5"
    ):
        cleaning.judge(rows, measures, dataclasses.replace(OFF, **{f"min_{measure}": 6}))
    assert len(cleaning.judge(rows, measures, dataclasses.replace(OFF, **{f"min_{measure}": 5}))) == 4


def test_a_list_whose_photos_cannot_be_decoded_is_refused():
    rows, measures = measured([0] * 3, problem=["truncated", "empty", "truncated"])
    with pytest.raises(ValueError, match=r"none of the 3 photos can be decoded \(1 empty, 2 truncated\)"):
        cleaning.judge(rows, measures, OFF)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"min_channel_variance": -1.0}, "min_channel_variance is -1.0: it must be 0"),
        ({"min_laplacian_variance": math.nan}, "min_laplacian_variance is nan"),
        ({"near_identical_bits": 11}, "near_identical_bits is 11: it must be from 0, which .* to 10: "),
        ({"same_coordinate": "first"}, "same_coordinate is 'first': it must be one of remove, keep"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(OFF, **changed)


def test_photos_beside_a_threshold_are_the_nearest_ones(collection, tmp_path):
    measures = cleaning.measure(collection, tmp_path / "photos", tmp_path / "kept.parquet")
    values = measures["channel_variance"]
    for threshold, below in ((0.0, 0), (float(values.median()), int((values < values.median()).sum())), (1e6, 8)):
        sides = cleaning.beside_threshold(collection, values, threshold, tmp_path / "photos", count=3)
        assert [len(images) for images, _ in sides.values()] == [min(below, 3), min(8 - below, 3)]
        plots.photo_rows(sides)
    assert list(sides) == ["below 1e+06: 8 photos", "1e+06 or more: 0"]
    ((_, captions), _) = sides.values()
    assert captions == [f"{value:,.1f}" for value in sorted(values.dropna(), reverse=True)[:3]]


def test_pairs_beside_a_threshold_are_shown_by_distance(tmp_path):
    rows = listed({f"{number}.jpg": photo_of_scene(number) for number in range(4)}, tmp_path / "photos")
    _, measures = measured([HALF, NEAR, HALF ^ 0x3030, (1 << 64) - 1 - HALF])
    shown = cleaning.beside_bits(rows, measures, 4, tmp_path / "photos")
    assert {heading: sorted(ids) for heading, (_, ids) in shown.items()} == {
        "0 bits apart, taken for one photo: 0 pairs": [],
        "2 bits apart, taken for one photo: 1 pair": ["0", "1"],
        "4 bits apart, taken for two photos: 1 pair": ["0", "2"],
        "6 bits apart, taken for two photos: 1 pair": ["1", "2"],
    }
    plots.photo_rows(shown, columns=8, together=2)
