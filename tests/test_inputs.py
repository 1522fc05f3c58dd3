import contextlib
import hashlib
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from colorsys import rgb_to_hsv

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from helpers import inputs, paths, photo_stores, photos, shards
from helpers.inputs import PhotoViews


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(1)
    for number, size in enumerate([(160, 128), (128, 160), (600, 128), (40, 40)]):
        Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


ROWS = pd.DataFrame({"path": [f"{number}.png" for number in range(4)]})


@pytest.mark.parametrize(
    ("view", "shape"),
    [("five", (5, 3, 56, 56)), *((view, (3, 56, 56)) for view in ("centre", *inputs.AUGMENTATIONS))],
)
def test_every_view_has_the_networks_size_whatever_the_photos(folder, view, shape):
    views = PhotoViews(ROWS, folder, 56, view)
    assert all(views[number].shape == shape and views[number].dtype == torch.uint8 for number in range(4))


def test_the_centre_view_is_the_fifth_crop(folder):
    centre, five = PhotoViews(ROWS, folder, 56, "centre"), PhotoViews(ROWS, folder, 56, "five")
    assert torch.equal(centre[0], five[0][4])


def test_without_augmentation_a_photo_is_seen_by_its_centre(folder):
    assert torch.equal(PhotoViews(ROWS, folder, 56, "none", epoch=3)[2], PhotoViews(ROWS, folder, 56, "centre")[2])


def test_a_view_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match=r"no view 'crop\+rotation': choose one of .*crop\+rotation\+colour"):
        PhotoViews(ROWS, folder, 56, "crop+rotation")


def digest(views, order, batch_size=2):
    joined = b"".join(batch.numpy().tobytes() for batch in inputs.batches(views, order, batch_size))
    return hashlib.sha256(joined).hexdigest()


@pytest.mark.parametrize("augmentation", inputs.AUGMENTATIONS[1:])
def test_augmented_views_depend_on_seed_and_epoch_alone(folder, augmentation, monkeypatch):
    rows = pd.concat([ROWS] * 3, ignore_index=True)
    views = PhotoViews(rows, folder, 56, augmentation, seed=7, epoch=1)
    with_workers = digest(views, range(12))
    monkeypatch.setattr(inputs, "default_workers", lambda: 0)
    torch.manual_seed(99)
    assert digest(views, range(12)) == with_workers
    assert digest(PhotoViews(rows, folder, 56, augmentation, seed=8, epoch=1), range(12)) != with_workers
    assert digest(PhotoViews(rows, folder, 56, augmentation, seed=7, epoch=2), range(12)) != with_workers


def test_batches_keep_the_order_and_the_last_short_one(folder):
    views = PhotoViews(ROWS, folder, 56, "centre")
    batches = list(inputs.batches(views, torch.tensor([2, 0, 3]), 2))
    assert [len(batch) for batch in batches] == [2, 1]
    assert torch.equal(batches[0][1], views[0])


@pytest.mark.parametrize("augment", [inputs.crop_and_flip, inputs.crop_rotate_and_colour])
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 48), st.integers(0, 2**32))
def test_an_augmented_view_shows_nothing_but_the_photo(augment, height, width, image_size, seed):
    photo = torch.tensor([200, 120, 60], dtype=torch.uint8)[:, None, None].expand(3, height, width)
    view = augment(photo, image_size, np.random.default_rng(seed))
    assert view.shape == (3, image_size, image_size)
    assert view.dtype == torch.uint8
    assert (view == view[:, :1, :1]).all()


def test_half_of_the_views_of_crop_and_flip_are_mirrored():
    photo = torch.arange(64, dtype=torch.uint8).expand(3, 64, 64)
    mirrored = [
        bool(view[0, 0, 0] > view[0, 0, -1])
        for view in (inputs.crop_and_flip(photo, 32, np.random.default_rng(seed)) for seed in range(400))
    ]
    assert 0.4 < np.mean(mirrored) < 0.6


def test_views_of_crop_rotation_and_colour_are_turned_both_ways_by_ten_degrees_at_most_and_never_mirrored():
    ramp = torch.arange(40, 200).to(torch.uint8)
    photo = torch.stack([ramp.expand(160, 160)] * 3)  # brighter to the right
    turned = []
    for seed in range(60):
        view = inputs.crop_rotate_and_colour(photo, 48, np.random.default_rng(seed))[0].float()
        turned.append(math.degrees(math.atan2(view.diff(dim=0).mean(), view.diff(dim=1).mean())))
    assert -11 < min(turned) < -8
    assert 8 < max(turned) < 11


def test_colours_vary_within_their_bounds_and_hue_hardly():
    colour = (150, 120, 60)
    photo = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    hue, *others = rgb_to_hsv(*colour)
    views = [inputs.crop_rotate_and_colour(photo, 4, np.random.default_rng(seed))[:, 0, 0] for seed in range(100)]
    hues, *others_found = np.transpose([rgb_to_hsv(*view.tolist()) for view in views])
    assert 0.01 < np.abs(hues - hue).max() < inputs.HUE[1] + 0.01
    for original, found in zip(others, others_found, strict=True):  # saturation and value
        assert 0.6 * original < found.min() < 0.9 * original
        assert 1.1 * original < found.max() < 1.45 * original


def test_augmented_photos_are_what_the_network_sees_epoch_by_epoch(folder):
    photo = photos.read(photo_stores.reopened(folder), "0.png")
    views = inputs.augmented(photo, 56, seed=7, count=3)
    assert [(name, len(images)) for name, images in views.items()] == [
        ("none", 1),
        ("crop+flip", 3),
        ("crop+rotation+colour", 3),
    ]
    for name, images in views.items():
        for epoch, image in enumerate(images, start=1):
            seen = PhotoViews(ROWS, folder, 56, name, seed=7, epoch=epoch)[0]
            np.testing.assert_array_equal(image, seen.permute(1, 2, 0).numpy())


# --- what is left to the device ---

AS_IT_IS = [1, 0, 0, 0, 1, 0]
TURNED = "crop+rotation+colour"


def textured(height, width, seed=0):
    """Smooth shades with some grain, as a photo tensor."""
    generator = np.random.default_rng(seed)
    smooth = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
    grain = generator.normal(0, 6, (height, width, 3))
    return torch.from_numpy(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)).permute(2, 0, 1)


def coloured(photo, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    draws = torch.tensor([[*AS_IT_IS, brightness, contrast, saturation, hue]])
    return inputs.finish(photo[None], draws, TURNED, photo.shape[-1])[0]


def test_a_view_without_draws_is_finished():
    photo = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert inputs.finish(photo, None, "crop+flip", 8) is photo


def test_factors_of_one_and_no_turn_change_nothing():
    photo = textured(40, 40)
    assert torch.equal(coloured(photo), photo)


def test_brightness_is_a_factor():
    photo = textured(40, 40)
    assert torch.equal(coloured(photo, brightness=1.25), (photo * 1.25).clamp(max=255).round().to(torch.uint8))


def test_contrast_is_about_the_mean_grey():
    photo = textured(40, 40).clamp(60, 190)
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (photo * luma).sum(0).mean()
    expected = (grey + 0.5 * (photo - grey)).round()
    assert (coloured(photo, contrast=0.5).float() - expected).abs().max() <= 1


def test_saturation_and_hue_leave_greys_alone():
    photo = textured(40, 40)[:1].expand(3, 40, 40)
    assert torch.equal(coloured(photo, saturation=0.3, hue=0.2), photo)


def test_without_saturation_only_luma_is_left():
    view = coloured(textured(40, 40), saturation=0)
    assert torch.equal(view[0], view[1])
    assert torch.equal(view[0], view[2])


def test_a_third_of_a_turn_makes_red_green_and_green_blue():
    photo = textured(40, 40)
    assert torch.equal(coloured(photo, hue=1 / 3), photo[[2, 0, 1]])


def test_the_matrix_does_what_torchvision_does_step_by_step():
    for seed in range(5):
        photo = textured(60, 60, seed).clamp(70, 180)  # where no step clips
        changed = functional.adjust_brightness(photo, 1.1)
        changed = functional.adjust_contrast(changed, 0.9)
        changed = functional.adjust_saturation(changed, 1.1)
        # Which cuts off fractions in each step.
        assert (coloured(photo, 1.1, 0.9, 1.1).float() - changed.float()).abs().mean() < 1.5


@pytest.mark.parametrize("degrees", [-10, -3, 0, 7, 10])
def test_a_turned_view_is_the_middle_of_the_turned_crop(degrees):
    side, size = inputs._cut_side(112, TURNED), 112
    smooth = photos.resize(textured(7, 7), side)
    draws = torch.tensor([[*inputs._matrix((0, 0, side, side), side, degrees), 1, 1, 1, 0]])
    view = inputs.finish(smooth[None], draws, TURNED, size)[0]

    def difference(degrees):
        turn = math.radians(abs(degrees))
        margin = math.ceil((size - 1) * (math.cos(turn) + math.sin(turn) - 1) / 2)
        expected = functional.resize(smooth, [size + 2 * margin] * 2)
        expected = functional.rotate(expected, degrees, interpolation=InterpolationMode.BILINEAR)
        return (view.float() - functional.center_crop(expected, [size]).float()).abs().mean()

    assert difference(degrees) < 1.5
    assert degrees == 0 or difference(-degrees) > 4


@given(
    st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 34)] * 2),
    st.floats(-10, 10),
    st.booleans(),
    st.integers(1, 40),
)
def test_corners_of_a_turned_view_stay_inside_the_box(box, degrees, mirrored, size):
    top, left, height, width = box
    matrix = np.reshape(inputs._matrix(box, 64, degrees, mirrored), (2, 3))
    for corner in itertools.product((-1, 1), repeat=2):
        x, y = (matrix @ [*corner, 1] + 1) * 32
        assert left - 1e-6 <= x <= left + width + 1e-6
        assert top - 1e-6 <= y <= top + height + 1e-6


def test_a_mirrored_box_is_the_box_mirrored():
    photo = textured(64, 64)[None]
    plain, mirrored = (
        inputs.finish(photo, torch.tensor([inputs._matrix((4, 9, 40, 50), 64, 0, flip)]), "crop+flip", 32)
        for flip in (False, True)
    )
    assert (plain.flip(-1).float() - mirrored.float()).abs().max() <= 1  # which is how ties are rounded


# --- large photos ---


def detailed(height, width, seed):
    """A photo with detail of every size that a view shows."""
    generator = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128.0)
    for cells, strength in ((5, 60), (40, 25), (160, 15), (400, 10)):
        shades = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image += (np.asarray(shades.resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1) * strength
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    for number, size in enumerate([(1500, 2000), (700, 900), (500, 375)]):
        image = detailed(*size, seed=number)
        image.save(folder / f"{number}.jpg", quality=90)
    return folder


def test_views_of_large_photos_differ_by_about_one_grey_level_from_those_of_all_their_pixels(large):
    for number, image_size in ((0, 224), (0, 112), (1, 112)):
        view = PhotoViews(pd.DataFrame({"path": [f"{number}.jpg"]}), large, image_size, "centre")[0]
        whole = photos.resize(photos.read(photo_stores.reopened(large), f"{number}.jpg"), image_size * 8 // 7)
        difference = (view.float() - functional.center_crop(whole, [image_size]).float()).abs().mean()
        assert 0 < difference < 1.5


def test_views_of_small_photos_are_made_of_all_their_pixels(large):
    whole = photos.read(photo_stores.reopened(large), "2.jpg")
    for view in ("centre", "crop+flip", TURNED):
        seen = PhotoViews(pd.DataFrame({"path": ["2.jpg"]}), large, 112, view, seed=3)[0]
        assert torch.equal(seen, inputs._view(whole, 112, view, inputs._generator(3, 0, 0)))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_the_middle_of_the_square_is_the_central_view(height, width, image_size):
    photo = textured(max(height, 16), max(width, 16))
    square = inputs.square(photo, image_size)
    assert square.shape == (3, *[inputs.short_side(image_size)] * 2)
    centre = inputs._view(photo, image_size, "centre", inputs._generator(0, 0, 0))
    assert torch.equal(functional.center_crop(square, [image_size]), centre)


# --- the stream ---


def streamed(rows, root, view, requests, workers=0, finished=False):
    asked = ((epoch, torch.tensor(numbers, dtype=torch.int64)) for epoch, numbers in requests)
    return inputs.stream(rows, root, 56, view, asked, workers, seed=7, finished=finished)


@pytest.mark.parametrize(("workers", "finished"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("view", ["five", "centre", "crop+flip", TURNED])
def test_a_stream_gives_the_views_of_the_photos_asked_for_in_that_order(folder, view, workers, finished):
    requests = [(1, [2, 0]), (1, [3, 1, 2, 0, 1, 3]), (1, []), (2, [2, 3])]
    batches = list(streamed(ROWS, folder, view, requests, workers, finished))
    assert all(batch.draws is None for batch in batches) is (finished or view != TURNED)
    assert [batch.numbers.tolist() for batch in batches] == [numbers for _, numbers in requests]
    for batch, (epoch, numbers) in zip(batches, requests, strict=True):
        seen = inputs.finish(batch.photos, batch.draws, view, 56)
        single = PhotoViews(ROWS, folder, 56, view, seed=7, epoch=epoch)
        assert seen.dtype == torch.uint8
        assert seen.shape == (len(numbers), *single[0].shape)
        assert batch.failed == []
        for number, photo in zip(numbers, seen, strict=True):
            assert torch.equal(photo, single[number])


def test_an_endless_stream_is_asked_for_a_few_batches_ahead(folder):
    asked = itertools.count()
    stream = streamed(ROWS, folder, "centre", ((epoch, [epoch % 4]) for epoch in asked), workers=2)
    numbers = [batch.numbers.item() for batch in itertools.islice(stream, 9)]
    assert numbers == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    stream.close()
    assert next(asked) < 9 + 8


def test_photos_that_cannot_be_read_are_named_and_the_others_come(folder, tmp_path):
    (tmp_path / "0.png").write_bytes((folder / "0.png").read_bytes())
    (tmp_path / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    for workers in (0, 1):
        first, second = streamed(ROWS[:3], tmp_path, TURNED, [(1, [2, 0, 1]), (1, [1])], workers)
        assert first.numbers.tolist() == [0]
        assert [number for number, _ in first.failed] == [2, 1]
        assert "photo '2.png' is missing" in first.failed[0][1]
        assert "photo '1.png' is truncated or damaged" in first.failed[1][1]
        assert second.numbers.tolist() == []
        assert inputs.finish(second.photos, second.draws, TURNED, 56).shape == (0, 3, 56, 56)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_path_that_leaves_the_photo_root_stops_everything(folder, workers):
    rows = pd.DataFrame({"path": ["0.png", "../secret.png"]})
    with pytest.raises(photo_stores.Unreadable, match=r"escapes the photo root(.|\n)*'\.\./secret\.png'"):
        list(streamed(rows, folder, "centre", [(1, [0]), (1, [1])], workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_that_is_no_photos_names_the_photo(folder, tmp_path, workers):
    with shards.ShardWriter(tmp_path / "shard-00000.tar") as shard:
        for path in ROWS["path"]:
            shard.add(path, (folder / path).read_bytes(), {"id": path})
    stream = streamed(ROWS, tmp_path, "centre", [(1, [0, 3])], workers)
    os.truncate(tmp_path / "shard-00000.tar", 2000)  # after the store was opened
    with pytest.raises(shards.DamagedShard, match=r"while reading photo '0\.png'"):
        list(stream)


def test_photos_of_shards_are_streamed_like_loose_ones(folder, tmp_path):
    with shards.ShardWriter(tmp_path / "shard-00000.tar") as shard:
        for path in ROWS["path"]:
            shard.add(path, (folder / path).read_bytes(), {"id": path})
    packed, loose = (next(streamed(ROWS, root, "crop+flip", [(1, [3, 1])], 1)) for root in (tmp_path, folder))
    assert torch.equal(packed.photos, loose.photos)


def test_what_workers_get_does_not_grow_with_the_list(folder):
    rows = pd.DataFrame({"path": [f"{number}.png" for number in range(100_000)]})
    sent = []

    def noted(dataset, requests, workers, collate):
        sent.append(len(pickle.dumps((dataset, next(iter(requests))))))
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_streamed", noted)
        for some in (rows[:100], rows):
            streamed(some, folder, "centre", [(1, range(64))])
    assert sent[0] == sent[1] < 3000


def test_reading_ahead_leaves_the_random_numbers_of_training_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(streamed(ROWS, folder, "crop+flip", [(1, [0])], workers=1))
    list(inputs.batches(PhotoViews(ROWS, folder, 56, "centre"), range(4), 1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("end", ["closed", "thrown away", "failed"])
def test_workers_end_when_nobody_asks_any_more(folder, end):
    before = set(multiprocessing.active_children())
    stream = streamed(ROWS, folder, "centre", ((1, [0]) for _ in itertools.count()), workers=2)
    next(stream)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    if end == "closed":
        stream.close()
    elif end == "failed":
        with contextlib.suppress(ZeroDivisionError), contextlib.closing(stream):
            next(stream)
            1 / 0  # noqa: B018
    del stream
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive()


def test_workers_of_a_process_that_is_killed_end(folder):
    code = f"""
import itertools, multiprocessing, sys, pathlib
import pandas as pd, torch
import torch.utils.data._utils.worker as worker
from helpers import inputs
worker.MP_STATUS_CHECK_INTERVAL = 0.2  # seconds, of PyTorch's own watch on its parent
rows = pd.DataFrame({{"path": ["0.png"]}})
requests = ((1, torch.tensor([0])) for _ in itertools.count())
stream = inputs.stream(rows, pathlib.Path({str(folder)!r}), 56, "centre", requests, 2, seed=7)
next(stream)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=paths.SOURCE, text=True, stdin=-1, stdout=-1) as parent:
        workers = [int(process) for process in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(runs(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlive what started them"
        time.sleep(0.05)


def runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_are_a_share_of_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(40), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [inputs.default_workers(processes) for processes in (0, 1, 2, 4, 8, 64)] == [16, 16, 16, 10, 5, 1]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert inputs.default_workers() == 5
    assert inputs.workers_worth(128, 64) == 0
    assert inputs.workers_worth(129, 64) == 5


def test_a_stream_of_a_view_that_is_not_there_is_refused_at_once(folder):
    with pytest.raises(ValueError, match="no view 'colour': choose one of centre, five"):
        streamed(ROWS, folder, "colour", [])
