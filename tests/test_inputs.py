import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import inputs
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
    ("view", "shape"), [("random", (3, 56, 56)), ("centre", (3, 56, 56)), ("five", (5, 3, 56, 56))]
)
def test_every_view_has_the_networks_size_whatever_the_photos(folder, view, shape):
    views = PhotoViews(ROWS, folder, 56, view)
    assert all(views[number].shape == shape and views[number].dtype == torch.uint8 for number in range(4))


def test_the_centre_view_is_the_fifth_crop(folder):
    centre, five = PhotoViews(ROWS, folder, 56, "centre"), PhotoViews(ROWS, folder, 56, "five")
    assert torch.equal(centre[0], five[0][4])


def digest(views, order, batch_size=2):
    joined = b"".join(batch.numpy().tobytes() for batch in inputs.batches(views, order, batch_size))
    return hashlib.sha256(joined).hexdigest()


def test_random_views_depend_on_seed_and_epoch_alone(folder, monkeypatch):
    rows = pd.concat([ROWS] * 3, ignore_index=True)
    views = PhotoViews(rows, folder, 56, "random", seed=7, epoch=1)
    with_workers = digest(views, range(12))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert digest(views, range(12)) == with_workers
    assert digest(PhotoViews(rows, folder, 56, "random", seed=8, epoch=1), range(12)) != with_workers
    assert digest(PhotoViews(rows, folder, 56, "random", seed=7, epoch=2), range(12)) != with_workers


def test_batches_keep_the_order_and_the_last_short_one(folder):
    views = PhotoViews(ROWS, folder, 56, "centre")
    batches = list(inputs.batches(views, torch.tensor([2, 0, 3]), 2))
    assert [len(batch) for batch in batches] == [2, 1]
    assert torch.equal(batches[0][1], views[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_a_random_view_never_leaves_the_photo(height, width, seed):
    photo = torch.full((3, height, width), 200, dtype=torch.uint8)
    view = inputs.random_view(photo, 24, np.random.default_rng(seed))
    assert view.shape == (3, 24, 24)
    assert (view == 200).all()


def test_half_of_the_random_views_are_mirrored():
    photo = torch.arange(64, dtype=torch.uint8).expand(3, 64, 64)
    mirrored = [
        bool(view[0, 0, 0] > view[0, 0, -1])
        for view in (inputs.random_view(photo, 32, np.random.default_rng(seed)) for seed in range(400))
    ]
    assert 0.4 < np.mean(mirrored) < 0.6
