"""Distributions over the Earth equal plain loops, and what they say agrees with itself."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import cells, metrics, regions, spread

DEVICE = torch.device("cpu")
LEVELS = [0.1, 0.5, 0.9, 0.99]


@pytest.fixture(scope="module")
def photos():
    """Photos of eight cities, and some that lie alone."""
    rng = np.random.default_rng(3)
    cities = rng.uniform([-50, -170], [60, 170], (8, 2))
    near = cities[rng.integers(8, size=600)] + rng.normal(0, 2.0, (600, 2))
    place = np.concatenate([near, rng.uniform([-60, -180], [70, 180], (25, 2))])
    return pd.DataFrame(place, columns=["latitude", "longitude"])


@pytest.fixture(scope="module")
def partition(photos):
    return cells.build(photos["latitude"], photos["longitude"], name="fine", min_photos=8, max_photos=60)


@pytest.fixture(scope="module")
def earth(partition, photos):
    return spread.ClassSpread(partition, photos, DEVICE)


def shares_of(partition, seed, rows=5):
    return (3 * torch.randn(rows, len(partition), generator=torch.Generator().manual_seed(seed))).softmax(1)


def places_of(partition, seed, rows=5):
    return partition.coordinates[np.random.default_rng(seed).integers(len(partition), size=rows)]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), limit=st.floats(0, 20015))
def test_the_mass_that_is_nearer_equals_a_plain_loop_over_all_photos(partition, photos, seed, limit):
    # So few photos that none is left out: each of a cell's n photos has an n-th of its probability.
    few = photos[::3]
    earth = spread.ClassSpread(partition, few, DEVICE)
    label = cells.labels(partition, cells.leaf_ids(few["latitude"], few["longitude"]))
    shares, place = shares_of(partition, seed, rows=1), places_of(partition, seed, rows=1)
    distance = metrics.great_circle_km(*place[0], few["latitude"], few["longitude"])
    expected = 0.2 * np.mean(distance[label < 0] < limit)
    for cell in range(len(partition)):
        own = distance[label == cell]
        alone = metrics.great_circle_km(*place[0], *partition.coordinates[cell])
        expected += 0.8 * float(shares[0, cell]) * np.mean(own < limit if len(own) else alone < limit)
    assert np.bincount(label + 1).max() <= 64
    found = earth.nearer(earth.masses(shares, 0.2), place, [limit])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), outside=st.floats(0, 0.5))
def test_a_radius_holds_its_level_and_no_smaller_one_does(earth, partition, seed, outside):
    masses, place = earth.masses(shares_of(partition, seed), outside), places_of(partition, seed)
    radii = earth.radii(masses, place, LEVELS)
    assert (np.diff(radii, axis=1) >= 0).all()
    assert (earth.nearer(masses, place, radii) < np.array(LEVELS)).all()
    assert (earth.nearer(masses, place, radii + 1e-3) >= np.array(LEVELS) - 1e-9).all()
    torch.testing.assert_close(masses.sum(1), torch.ones(5, dtype=torch.float64))
    np.testing.assert_allclose(masses[:, -1], outside)


def test_nothing_but_the_whole_earth_holds_more_than_there_is(earth, partition):
    masses = earth.masses(shares_of(partition, 1), 0.1)
    assert (earth.radii(masses, places_of(partition, 1), [np.nextafter(1, 2)]) == spread.HALF_ROUND_KM).all()


def test_a_cell_is_as_wide_as_its_photos_are_apart():
    ring = np.radians(np.arange(0, 360, 4))
    latitude, longitude = 48 + 0.5 * np.sin(ring), 9 + 0.5 * np.cos(ring)
    photos = pd.DataFrame({"latitude": latitude, "longitude": longitude})
    cell = cells.Partition(
        "fine", cells.ids_from_tokens(["47"]), np.array([90]), np.array([48.0]), np.array([9.0])
    )  # a sixteenth of a face
    earth = spread.ClassSpread(cell, photos, DEVICE)
    masses = earth.masses(torch.ones(1, 1), 0.0)
    ((inner, outer),) = earth.radii(masses, [[48.0, 9.0]], [0.01, 1.0])
    distance = metrics.great_circle_km(48, 9, latitude, longitude)
    assert distance.min() - 0.1 <= inner <= outer <= distance.max() + 0.1
    assert len(earth.owner) == 64  # of 90 photos
    assert not earth.has_elsewhere


def test_a_place_that_rounding_pushed_across_a_border_is_not_elsewhere(partition, photos):
    earth = spread.ClassSpread(partition, photos, DEVICE, has_elsewhere=False)
    masses = earth.masses(shares_of(partition, 1), 0.3)
    assert not earth.has_elsewhere
    assert (masses[:, -1] == 0).all()
    torch.testing.assert_close(masses.sum(1), torch.ones(5, dtype=torch.float64))


def test_a_class_without_training_photos_is_where_its_coordinate_is(partition, photos):
    kept = cells.labels(partition, cells.leaf_ids(photos["latitude"], photos["longitude"])) != 2
    earth = spread.ClassSpread(partition, photos[kept], DEVICE)
    certain = torch.zeros(1, len(partition))
    certain[0, 2] = 1
    radius = earth.radii(earth.masses(certain, 0.0), partition.coordinates[[2]], [0.9])
    assert radius[0, 0] < 1e-3


def test_the_order_of_training_photos_changes_nothing(partition, photos):
    shuffled = photos.sample(frac=1, random_state=1)
    one, two = (spread.ClassSpread(partition, each, DEVICE) for each in (photos, shuffled))
    masses, place = one.masses(shares_of(partition, 4), 0.1), places_of(partition, 4)
    np.testing.assert_array_equal(one.radii(masses, place, LEVELS), two.radii(masses, place, LEVELS))
    assert one.country_codes.tolist() == two.country_codes.tolist()


def test_countries_have_the_shares_of_the_photos_and_the_sea_has_none():
    lisbon, ocean = (38.72, -9.14), (38.7, -11.5)
    photos = pd.DataFrame([lisbon, lisbon, lisbon, ocean], columns=["latitude", "longitude"])
    partition = cells.build(photos["latitude"], photos["longitude"], name="fine", min_photos=1, max_photos=9)
    earth = spread.ClassSpread(partition, photos, DEVICE)
    assert len(partition) == 1
    assert earth.country_codes.tolist() == ["PT"]
    assert earth.summed(earth.masses(torch.ones(1, 1), 0.0), "country").item() == pytest.approx(0.75)


def test_a_country_is_certain_where_its_class_is():
    rows = pd.DataFrame({"country": ["FR", "JP"], "region": ["", ""]})
    classes = regions.build(rows, "country", min_photos=1)
    border = pd.DataFrame({"latitude": [48.58, 35.7], "longitude": [7.83, 139.7]})  # rounded across the Rhine
    earth = spread.ClassSpread(classes, border, DEVICE)
    found = earth.summed(earth.masses(torch.eye(2), 0.0), "country")
    assert earth.country_codes.tolist() == ["FR", "JP"]
    assert earth.names("continent").tolist() == ["Asia", "Europe"]
    assert earth.summed(earth.masses(torch.eye(2), 0.0), "continent").tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(found, torch.eye(2, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(length=st.floats(0.01, 0.99), level=st.floats(0.01, 0.99))
def test_a_vectors_radius_and_the_mass_within_it_agree(length, level):
    earth = spread.VectorSpread()
    masses = earth.masses(torch.tensor([[0.0, 0.0, length]]))
    radius = earth.radii(masses, [[90.0, 0.0]], [level])
    np.testing.assert_allclose(earth.nearer(masses, [[90.0, 0.0]], radius), level, rtol=1e-6)


@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.99])
def test_the_mean_of_a_vectors_distribution_is_the_vector(length):
    earth = spread.VectorSpread()
    masses = earth.masses(torch.tensor([[length, 0.0, 0.0]]))
    levels = (np.arange(2000) + 0.5) / 2000
    angle = earth.radii(masses, [[0.0, 0.0]], levels)[0] / metrics.EARTH_RADIUS_KM
    assert np.cos(angle).mean() == pytest.approx(length, abs=0.01)


def test_plain_coordinates_are_equally_wide_for_every_photo():
    earth = spread.VectorSpread()
    masses = earth.masses(torch.tensor([[0.1, 0.2], [3.0, -4.0]]))
    assert len(np.unique(earth.radii(masses, [[0.0, 0.0]] * 2, [0.5]))) == 1
