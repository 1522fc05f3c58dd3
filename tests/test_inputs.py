import hashlib
import math
from colorsys import rgb_to_hsv

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import inputs, photo_stores, photos
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
    monkeypatch.setattr("os.cpu_count", lambda: 1)
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
