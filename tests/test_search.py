"""A search weighs photos as its formula says, and names the place that a plain loop over all of them would."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from helpers import gallery, metrics, search

CPU = torch.device("cpu")
HERE = (1, 0, 0, 0, 0)  # a reach: photos are just where others stand for them
CLASSES = 5


def unit(count, directions, generator):
    return functional.normalize(torch.from_numpy(generator.normal(size=(count, directions))).float(), dim=1)


def some_places(count, generator):
    """Clusters of places, some at a pole and some on both sides of the date line."""
    centres = np.array([[52.5, 13.4], [89.9, 0.0], [-17.0, 179.95], [-33.9, 151.2], [0.0, 0.0], [-89.8, 120.0]])
    found = centres[generator.integers(len(centres), size=count)] + generator.normal(0, [0.3, 3.0], (count, 2))
    latitude = np.clip(found[:, 0], -90, 90)
    return np.column_stack([latitude, (found[:, 1] + 180) % 360 - 180]).round(2)


def some_gallery(count=60, seed=0, sharpness=6.0, temperature=2.0, places=None, directions=8):
    generator = np.random.default_rng(seed)
    places = some_places(count, generator) if places is None else np.asarray(places, dtype=np.float64)
    labels = np.arange(len(places)) % CLASSES
    keys = unit(len(places), directions, generator)
    return gallery.Gallery(keys, places, labels, sharpness, temperature, HERE)


def made(kept):
    return search.Search(kept, CLASSES, CPU)


def questions(count=7, seed=0, directions=8):
    generator = np.random.default_rng(seed + 1000)
    shares = torch.from_numpy(2 * generator.normal(size=(count, CLASSES))).float().softmax(dim=1)
    return unit(count, directions, generator), shares


def expected_scores(kept, weight):
    """Of naming each photo's place, by a plain product over all pairs, in float64."""
    distance_km = metrics.great_circle_km(*kept.coordinates.T[:, :, None], *kept.coordinates.T[:, None, :])
    good = np.mean([np.exp(-distance_km / km) for km in metrics.THRESHOLDS_KM], axis=0)
    return weight.double().numpy() @ good


def of_guess(kept, place, expected):
    """Expected score of each guess, which has to be the place of a photo."""
    found = []
    for row, (latitude, longitude) in enumerate(place):
        here = np.flatnonzero((kept.coordinates == (latitude, longitude)).all(axis=1))
        assert len(here)
        found.append(expected[row, here[0]])
    return np.array(found)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    count=st.integers(CLASSES, 80),
    sharpness=st.floats(0, 32),
    temperature=st.floats(0.5, 12),
)
def test_weights_are_those_of_the_formula_and_sum_to_one(seed, count, sharpness, temperature):
    kept = some_gallery(count, seed, sharpness, temperature)
    query, shares = questions(seed=seed)
    weight = made(kept).weights(query, shares)
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(7))
    of_class = shares.double() ** (1 / temperature)
    photos = np.bincount(kept.labels, minlength=CLASSES)[kept.labels]
    plain = of_class[:, kept.labels] / torch.from_numpy(photos) * (sharpness * (query @ kept.keys.T).double()).exp()
    torch.testing.assert_close(weight.double(), plain / plain.sum(dim=1, keepdim=True), rtol=1e-3, atol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), count=st.integers(CLASSES, 80))
def test_without_likeness_and_tempering_the_classes_keep_their_probabilities(seed, count):
    query, shares = questions(seed=seed)
    found = made(some_gallery(count, seed, sharpness=0.0, temperature=1.0))(query, shares)
    torch.testing.assert_close(found.shares, shares, rtol=1e-4, atol=1e-6)


def test_a_photo_that_is_one_of_the_gallery_is_placed_there():
    kept = some_gallery(60, sharpness=200.0, temperature=12.0)
    _, shares = questions(60)
    found = made(kept)(kept.keys, shares)
    np.testing.assert_array_equal(found.place, kept.coordinates)
    np.testing.assert_array_equal(found.shares.argmax(dim=1), kept.labels)


@settings(max_examples=30)
@given(seed=st.integers(0, 999), count=st.integers(CLASSES, 90), sharpness=st.sampled_from([0.0, 6.0, 32.0]))
def test_the_guess_is_the_place_that_a_plain_loop_over_all_photos_finds(seed, count, sharpness):
    kept = some_gallery(count, seed, sharpness)
    query, shares = questions(seed=seed)
    searching = made(kept)
    expected = expected_scores(kept, searching.weights(query, shares))
    of_guesses = of_guess(kept, searching(query, shares).place, expected)
    np.testing.assert_allclose(of_guesses, expected.max(axis=1), atol=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), sites=st.sampled_from([40, 120]), candidates=st.sampled_from([4, 256]))
def test_of_more_places_than_are_weighed_a_good_one_is_named(seed, sites, candidates):
    kept = some_gallery(400, seed, sharpness=6.0)
    query, shares = questions(seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_SITES", sites)
        patch.setattr(search, "_CANDIDATES", candidates)
        searching = made(kept)
        place = searching(query, shares).place
    assert searching.sites <= sites
    expected = expected_scores(kept, searching.weights(query, shares))
    share = of_guess(kept, place, expected) / expected.max(axis=1)
    assert share.min() > 0.6
    assert np.median(share) > 0.85


def test_places_that_share_a_site_lie_in_one_part_of_the_earth(monkeypatch):
    kept = some_gallery(400)
    monkeypatch.setattr(search, "_SITES", 40)
    site, coordinates = search._sites(kept.coordinates)
    assert set(site) == set(range(len(coordinates)))
    assert 6 <= len(coordinates) <= 40
    apart = metrics.great_circle_km(*kept.coordinates.T, *coordinates[site].T)
    assert apart.max() < 1500
    monkeypatch.setattr(search, "_SITES", 4096)
    site, coordinates = search._sites(kept.coordinates)
    distinct = np.unique(np.round(metrics.unit_vectors(*kept.coordinates.T), 9), axis=0)  # a pole has any longitude
    assert len(coordinates) == len(distinct)
    np.testing.assert_allclose(metrics.great_circle_km(*kept.coordinates.T, *coordinates[site].T), 0, atol=1e-3)


@pytest.mark.parametrize("sites", [4096, 6])
@pytest.mark.parametrize(
    "together",
    [
        [[10.0, 179.99], [10.0, -179.99]],
        [[89.99, 0.0], [89.99, 180.0]],
        [[-90.0, 12.0], [-89.99, -90.0]],
    ],
)
def test_places_across_the_date_line_and_at_a_pole_are_near_each_other(together, sites, monkeypatch):
    monkeypatch.setattr(search, "_SITES", sites)
    kept = some_gallery(places=[*together, [0.0, 0.0]], sharpness=0.0, temperature=1.0)
    # The lone place is the likeliest of the three, and the two together are likelier.
    shares = torch.tensor([[0.3, 0.3, 0.4, 0.0, 0.0]])
    (place,) = made(kept)(questions(1)[0], shares).place
    assert place.tolist() in together


def test_many_questions_are_answered_as_one_is(monkeypatch):
    searching = made(some_gallery())
    query, shares = questions(20)
    one_by_one = [searching(query[[row]], shares[[row]]) for row in range(20)]
    monkeypatch.setattr(search, "_ROWS_AT_ONCE", 3)
    found = searching(query, shares)
    np.testing.assert_array_equal(found.place, np.concatenate([each.place for each in one_by_one]))
    torch.testing.assert_close(found.shares, torch.cat([each.shares for each in one_by_one]))


def test_no_question_has_no_answer_and_certainty_is_no_infinity():
    searching = made(some_gallery())
    query, shares = questions(0)
    found = searching(query, shares)
    assert found.shares.shape == (0, CLASSES)
    assert found.place.shape == (0, 2)
    certain = torch.eye(CLASSES)
    found = searching(questions(CLASSES)[0], certain)
    torch.testing.assert_close(found.shares, certain, atol=1e-5, rtol=0)


def test_classes_without_a_photo_leave_their_share_to_the_others():
    kept = some_gallery(places=[[0.0, 0.0], [10.0, 10.0]], sharpness=0.0, temperature=1.0)
    found = made(kept)(questions(1)[0], torch.tensor([[0.1, 0.3, 0.2, 0.2, 0.2]]))
    torch.testing.assert_close(found.shares, torch.tensor([[0.25, 0.75, 0.0, 0.0, 0.0]]))


def world(likeness, right, count=300, seed=5):
    """Validation photos of a world: alike where they are near each other, or not; classes that are right so often."""
    generator = np.random.default_rng(seed)
    towns = np.array([[0.0, 0.0], [40.0, 20.0], [-30.0, 140.0], [60.0, -100.0], [10.0, 80.0]])
    quarters = 6  # of each town, a hundred kilometres apart: no class tells of them
    place = (np.repeat(towns, quarters, axis=0) + np.tile(np.linspace(0, 5, quarters), CLASSES)[:, None]).round(2)
    looks = unit(len(place), 16, generator)
    photos, asked = np.repeat(np.arange(len(place)), 3), generator.integers(len(place), size=count)

    def seen(of):
        found = looks[of] if likeness else unit(len(of), 16, generator)
        return functional.normalize(found + 0.02 * unit(len(of), 16, generator), dim=1)

    kept = gallery.Gallery(seen(photos), place[photos], photos // quarters, *search.USUAL)
    named = np.where(generator.random(count) < right, asked // quarters, generator.integers(CLASSES, size=count))
    shares = torch.full((count, CLASSES), 0.01)
    shares[torch.arange(count), torch.from_numpy(named)] = 0.96
    return search.Search(kept, CLASSES, CPU), seen(asked), shares, place[asked]


def test_where_likeness_decides_it_weighs_much_and_where_classes_do_little():
    alike, certain, doubtful = (
        searching.fitted(*asked) for searching, *asked in (world(True, 0.0), world(False, 1.0), world(False, 0.6))
    )
    assert alike.sharpness >= 16
    assert certain.sharpness == 0
    assert certain.temperature <= 1 < doubtful.temperature


def test_what_is_fitted_places_photos_better_than_what_is_usual():
    searching, query, shares, truth = world(True, 0.0)
    fitted = searching.fitted(query, shares, truth)
    places = [each(query, shares).place for each in (searching, search.Search(fitted, CLASSES, CPU))]
    usual, better = (metrics.accuracy(metrics.great_circle_km(*truth.T, *place.T)) for place in places)
    assert better[0] >= usual[0]
    assert better[0] > 0.95


def test_without_validation_photos_the_gallery_stays_as_it_is():
    searching = made(some_gallery())
    assert searching.fitted(*questions(0), np.empty((0, 2))) is searching.gallery


@pytest.mark.parametrize(("apart_km", "most"), [(0.0, 0), (30.0, 1), (300.0, 2), (1000.0, 3)])
def test_the_reach_says_how_far_photos_are_from_what_stands_for_them(apart_km, most):
    searching, query, shares, truth = world(True, 0.0)
    generator = np.random.default_rng(5)
    away = generator.uniform(0, 2 * np.pi, len(truth))
    degrees = apart_km / 111.2
    moved = truth + degrees * np.stack([np.sin(away), np.cos(away) / np.cos(np.radians(truth[:, 0]))], axis=1)
    reach = searching.fitted(query, shares, moved).reach
    assert sum(reach) == pytest.approx(1)
    assert int(np.argmax(reach)) == most


def test_a_guess_is_worth_less_the_farther_photos_are_from_what_stands_for_them():
    at = [search.score(torch.zeros(1), np.eye(5)[number].tolist()).item() for number in range(5)]
    assert at[0] == pytest.approx(1)
    assert at == sorted(at, reverse=True)
    assert at[4] < 0.3


def test_of_many_validation_photos_some_are_fitted_on_which_are_spread_over_all(monkeypatch):
    searching, query, shares, truth = world(True, 0.0)
    monkeypatch.setattr(search, "_PHOTOS_TO_FIT", 40)
    seen = []
    weights = searching._weights
    monkeypatch.setattr(searching, "_weights", lambda query, *rest: seen.append(len(query)) or weights(query, *rest))
    assert searching.fitted(query, shares, truth).sharpness >= 16
    assert set(seen) == {40}


@given(st.floats(0, 20000), st.floats(0, 20000))
def test_the_score_falls_with_distance_from_one(near, far):
    near, far = sorted([near, far])
    here, nearer, farther = search.score(torch.tensor([0.0, near, far]), HERE).tolist()
    assert here == pytest.approx(1)
    assert 1 >= nearer >= farther >= 0


def test_the_score_is_the_mean_of_smooth_accuracies():
    found = search.score(torch.tensor([1.0, 200.0]), HERE).double().numpy()
    expected = [np.mean([np.exp(-km / limit) for limit in (1, 25, 200, 750, 2500)]) for km in (1, 200)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_density_is_known_where_a_photo_is_and_holds_one_on_the_plane():
    known = np.mean([1 / (2 * np.pi * km**2) for km in (1, 25, 200, 750, 2500)])
    assert search.log_density(torch.zeros(1), gallery.EVENLY).exp().item() == pytest.approx(known, rel=1e-5)
    edges = np.concatenate([[0], np.geomspace(1e-4, 1e5, 20_001)])
    middle = (edges[1:] + edges[:-1]) / 2
    density = search.log_density(torch.from_numpy(middle), gallery.EVENLY).exp().numpy()
    assert (density * np.pi * (edges[1:] ** 2 - edges[:-1] ** 2)).sum() == pytest.approx(1, abs=1e-3)


def test_distances_are_those_of_the_metrics():
    generator = np.random.default_rng(1)
    places, others = some_places(300, generator), some_places(70, generator)
    found = search._distances_km(places, others, CPU)
    expected = metrics.great_circle_km(*places.T[:, :, None], *others.T[:, None, :])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
