import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from helpers import metrics, objectives

PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
SMOOTHINGS_KM = st.sampled_from([1e-300, 0.1, 75.0, 1e4, 1e300])


def table(places):
    return torch.tensor(places, dtype=torch.float64).reshape(-1, 2)


def random_places(count, seed):
    generator = np.random.default_rng(seed)
    latitude = np.degrees(np.arcsin(generator.uniform(-1, 1, count)))
    return torch.from_numpy(np.column_stack([latitude, generator.uniform(-180, 180, count)]))


def random_scores(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mean(loss):
    total, count = loss
    return total / count


LABELS = torch.tensor([0, 1, -1, 3, 2, -1, 0])
PHOTOS = random_places(7, seed=2)
CENTROIDS = random_places(4, seed=3)
LOSSES = {
    "cross_entropy": lambda outputs, part: objectives.cross_entropy(outputs, LABELS[part]),
    "haversine_smoothed": lambda outputs, part: objectives.haversine_smoothed(
        outputs, LABELS[part], PHOTOS[part], CENTROIDS, 3000
    ),
    "unit_vector_mse": lambda outputs, part: objectives.unit_vector_mse(outputs, PHOTOS[part]),
    "degrees_mse": lambda outputs, part: objectives.degrees_mse(outputs, PHOTOS[part]),
}
OUTPUTS = {"cross_entropy": 4, "haversine_smoothed": 4, **objectives.COORDINATE_OBJECTIVES}


def test_every_objective_is_a_function_of_this_name():
    assert set(objectives.OBJECTIVES) == set(LOSSES)
    assert all(callable(getattr(objectives, name)) for name in objectives.OBJECTIVES)


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_sums_over_batches_give_the_loss_of_all_photos(objective):
    outputs = random_scores(7, OUTPUTS[objective])
    total, count = LOSSES[objective](outputs, slice(None))
    parts = [LOSSES[objective](outputs[part], part) for part in (slice(0, 1), slice(1, 5), slice(5, 7))]
    torch.testing.assert_close(sum(part for part, _ in parts), total)
    assert sum(number for _, number in parts) == count == (5 if objective in objectives.CLASS_OBJECTIVES else 7)


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_a_loss_is_two_scalars_and_a_batch_without_photos_costs_nothing(objective):
    total, count = LOSSES[objective](torch.empty(0, OUTPUTS[objective]), slice(0, 0))
    assert total.shape == count.shape == ()
    assert total == count == 0


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_scores_in_half_precision_give_a_loss_in_full(objective):
    outputs = random_scores(7, OUTPUTS[objective]).bfloat16().requires_grad_()
    total, _ = LOSSES[objective](outputs, slice(None))
    total.backward()
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, LOSSES[objective](outputs.float(), slice(None))[0])
    assert outputs.grad.isfinite().all()


def test_equal_scores_cost_the_logarithm_of_the_classes():
    labels = torch.tensor([0, 3, 5, 9])
    assert math.isclose(mean(objectives.cross_entropy(torch.zeros(4, 10), labels)), math.log(10), rel_tol=1e-6)
    smoothed = objectives.haversine_smoothed(torch.zeros(4, 10), labels, PHOTOS[:4], random_places(10, 5), 75)
    assert math.isclose(mean(smoothed), math.log(10), rel_tol=1e-6)


@pytest.mark.parametrize("objective", objectives.CLASS_OBJECTIVES)
def test_a_photo_without_a_class_changes_neither_loss_nor_gradient(objective):
    outputs = random_scores(7, 4).requires_grad_()
    total, count = LOSSES[objective](outputs, slice(None))
    total.backward()
    counted = LABELS >= 0
    expected, number = LOSSES[objective](outputs[counted], counted)
    torch.testing.assert_close(total, expected)
    assert count == number == 5
    assert not outputs.grad[~counted].any()
    assert outputs.grad[counted].all()


@pytest.mark.parametrize("objective", objectives.CLASS_OBJECTIVES)
def test_a_batch_without_classes_costs_nothing_and_has_a_gradient(objective):
    outputs = torch.zeros(2, 4, requires_grad=True)
    unlabelled = torch.tensor([2, 5])
    sums, counts = LOSSES[objective](outputs, unlabelled)
    loss = objectives.weighted_mean(sums[None], counts[None], torch.ones(1))
    loss.backward()
    assert loss == 0
    assert not outputs.grad.any()


def test_heads_are_weighted_and_each_has_a_mean_of_its_own():
    sums, counts = torch.tensor([6.0, 8.0, 0.0]), torch.tensor([3, 2, 0])
    assert objectives.weighted_mean(sums, counts, torch.tensor([1.0, 0.5, 7.0])) == 6 / 3 + 0.5 * 8 / 2


def test_the_smoothed_loss_is_the_cross_entropy_against_the_published_targets_normalised():
    smoothing_km = 3000
    distance_km = metrics.great_circle_km(*PHOTOS.numpy().T[:, :, None], *CENTROIDS.numpy().T[:, None, :])
    true_class = LABELS.numpy()
    counted = true_class >= 0
    true_km = distance_km[np.arange(7), true_class][:, None]
    weight = np.exp(-(distance_km - true_km) / smoothing_km)
    target = weight / weight.sum(axis=1, keepdims=True)
    scores = random_scores(7, 4)
    log_probability = scores.double().log_softmax(dim=1).numpy()
    expected = -(target * log_probability).sum(axis=1)[counted].sum()
    total, _ = objectives.haversine_smoothed(scores, LABELS, PHOTOS, CENTROIDS, smoothing_km)
    assert math.isclose(total, expected, rel_tol=1e-5)


@given(st.lists(PLACES, min_size=1, max_size=8), st.lists(PLACES, min_size=1, max_size=8), SMOOTHINGS_KM)
def test_smoothed_targets_sum_to_one_and_fall_with_distance(photos, centroids, smoothing_km):
    targets = objectives.smoothed_targets(table(photos), table(centroids), smoothing_km)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(len(photos)))
    nearest_first = objectives.great_circle_km(table(photos), table(centroids)).argsort(dim=1)
    assert (targets.gather(1, nearest_first).diff(dim=1) <= 0).all()


@given(st.lists(PLACES, min_size=1, max_size=8), st.lists(PLACES, min_size=1, max_size=8), SMOOTHINGS_KM)
def test_the_smoothed_loss_and_its_gradient_are_finite(photos, centroids, smoothing_km):
    scores = (100 * random_scores(len(photos), len(centroids))).requires_grad_()
    labels = torch.zeros(len(photos), dtype=torch.int64)
    total, _ = objectives.haversine_smoothed(scores, labels, table(photos), table(centroids), smoothing_km)
    total.backward()
    assert total.isfinite()
    assert scores.grad.isfinite().all()


def test_without_smoothing_the_nearest_class_is_the_target():
    photos, centroids, scores = random_places(20, 6), random_places(9, 7), random_scores(20, 9)
    distance_km = metrics.great_circle_km(*photos.numpy().T[:, :, None], *centroids.numpy().T[:, None, :])
    nearest = torch.from_numpy(distance_km.argmin(axis=1))
    # The class that a photo is counted to need not be the nearest: its own centroid may lie farther away.
    total, _ = objectives.haversine_smoothed(scores, (nearest + 1) % 9, photos, centroids, 1e-9)
    torch.testing.assert_close(total, functional.cross_entropy(scores, nearest, reduction="sum"))


def test_with_endless_smoothing_every_class_is_the_target():
    targets = objectives.smoothed_targets(random_places(20, 6), random_places(9, 7), 1e12)
    torch.testing.assert_close(targets, torch.full((20, 9), 1 / 9))
    assert torch.equal(objectives.smoothed_targets(PHOTOS, CENTROIDS, math.inf), torch.full((7, 4), 1 / 4))


@pytest.mark.parametrize("smoothing_km", [0, -75, math.nan])
def test_a_smoothing_that_is_no_distance_is_refused(smoothing_km):
    with pytest.raises(ValueError, match=r"smoothing_km is .* give a distance above 0"):
        objectives.smoothed_targets(PHOTOS, CENTROIDS, smoothing_km)


@given(count=st.integers(2, 40), seed=st.integers(0, 99))
def test_the_spacing_of_classes_is_the_median_distance_to_the_nearest_other(count, seed):
    places = random_places(count, seed)
    latitude, longitude = places.double().numpy().T
    apart = metrics.great_circle_km(latitude[:, None], longitude[:, None], latitude, longitude)
    np.fill_diagonal(apart, np.inf)
    expected = np.sort(apart.min(axis=1))[(count - 1) // 2]  # the lower one of two in the middle
    assert objectives.spacing_km(places) == pytest.approx(expected, rel=1e-3, abs=0.01)


def test_the_spacing_does_not_depend_on_how_many_classes_are_held_at_once(monkeypatch):
    places = random_places(50, 3)
    at_once = objectives.spacing_km(places)
    monkeypatch.setattr(objectives, "_CLASSES_AT_ONCE", 7)
    assert objectives.spacing_km(places) == pytest.approx(at_once)


@pytest.mark.parametrize("places", [[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]]])
def test_the_spacing_of_classes_at_one_place_can_still_be_a_smoothing(places):
    spacing_km = objectives.spacing_km(torch.tensor(places))
    assert spacing_km > 0
    targets = objectives.smoothed_targets(torch.tensor([[5.0, 5.0]]), torch.tensor(places), spacing_km)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(1))


def test_distances_on_the_device_are_those_of_the_metrics():
    near = PHOTOS.repeat(40, 1) + 10.0 ** torch.linspace(-6, 0, 280)[:, None] * random_scores(280, 2)
    near[:, 0].clamp_(-90, 90)
    near[:, 1].clamp_(-180, 180)
    others = torch.cat([PHOTOS, near, random_places(2000, 8)])
    true_km = metrics.great_circle_km(*PHOTOS.numpy().T[:, :, None], *others.numpy().T[:, None, :])
    for precision, near_m, far_m in [(torch.float64, 1, 10), (torch.float32, 5, 15)]:
        error_km = np.abs(objectives.great_circle_km(PHOTOS.to(precision), others.to(precision)).numpy() - true_km)
        assert error_km[true_km < 1000].max() < near_m / 1000
        assert error_km[true_km < 15_000].max() < far_m / 1000
    assert objectives.great_circle_km(PHOTOS, PHOTOS).diagonal().eq(0).all()


def test_opposite_places_are_half_way_round_the_earth():
    # Of these, some lie more than a diameter apart in float32.
    longitude = torch.arange(-180.0, 180.0)
    photos = torch.stack([torch.full((360,), 23.0), longitude], dim=1)
    antipodes = torch.stack([torch.full((360,), -23.0), longitude.roll(180)], dim=1)
    distance_km = objectives.great_circle_km(photos, antipodes).diagonal()
    half_way = torch.full((360,), math.pi * metrics.EARTH_RADIUS_KM)
    torch.testing.assert_close(distance_km, half_way, rtol=0, atol=10)


def test_unit_vectors_are_those_of_the_metrics():
    photos = random_places(50, 9)
    torch.testing.assert_close(
        objectives.unit_vectors(photos), torch.from_numpy(metrics.unit_vectors(*photos.numpy().T)).float()
    )


def test_two_degrees_across_the_date_line_are_far_for_degrees_and_near_for_unit_vectors():
    true_place = torch.tensor([[0.0, 179.0]])
    beyond, before = torch.tensor([[0.0, -179.0]]), torch.tensor([[0.0, 177.0]])
    assert math.isclose(mean(objectives.degrees_mse(before / 90, true_place)), 2**2 / 2, rel_tol=1e-4)
    assert math.isclose(mean(objectives.degrees_mse(beyond / 90, true_place)), 358**2 / 2, rel_tol=1e-4)
    on_the_sphere = [
        mean(objectives.unit_vector_mse(objectives.unit_vectors(answer), true_place)) for answer in (beyond, before)
    ]
    torch.testing.assert_close(*on_the_sphere, rtol=1e-4, atol=0)


@given(PLACES)
def test_the_right_place_costs_nothing_and_is_read_back(place):
    coordinates = table([place])
    vector = objectives.unit_vectors(coordinates)
    assert mean(objectives.unit_vector_mse(vector, coordinates)) < 1e-12
    assert mean(objectives.degrees_mse(coordinates / 90, coordinates)) < 1e-8
    latitude, longitude, length = objectives.place_of_vector(vector)
    assert metrics.great_circle_km(latitude, longitude, *place).item() < 0.005
    assert math.isclose(length, 1, abs_tol=1e-6)
    assert metrics.great_circle_km(*objectives.place_of_degrees(coordinates / 90), *place).item() < 0.005


@given(st.lists(st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 3), min_size=1, max_size=9))
def test_any_outputs_are_read_as_a_place_on_the_earth(outputs):
    outputs = torch.tensor(outputs)
    *vector_place, length = objectives.place_of_vector(outputs)
    assert ((length >= 0) & (length <= 1)).all()
    for latitude, longitude in (vector_place, objectives.place_of_degrees(outputs[:, :2])):
        assert (latitude.abs() <= 90).all()
        assert (longitude.abs() <= 180).all()


def test_a_longitude_comes_round_and_a_latitude_stops_at_the_pole():
    degrees = torch.tensor([[95.0, 181.0], [-95.0, -181.0], [0.0, 180.0], [0.0, -180.00002], [0.0, 720.0]])
    latitude, longitude = objectives.place_of_degrees(degrees / 90)
    torch.testing.assert_close(latitude, torch.tensor([90.0, -90.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(longitude, torch.tensor([-179.0, 179.0, -180.0, -180.0, 0.0]), rtol=1e-6, atol=1e-4)


def test_the_zero_vector_points_nowhere_with_no_confidence():
    latitude, longitude, length = objectives.place_of_vector(torch.zeros(1, 3))
    assert latitude == longitude == length == 0


def test_the_best_vector_for_photos_of_two_places_is_their_mean_and_its_length_says_how_close_they_are():
    for apart, length in [(0, 1), (60, math.cos(math.radians(30))), (120, 0.5), (180, 0)]:
        places = torch.tensor([[0.0, 10.0], [0.0, 10.0 + apart]])
        output = torch.zeros(1, 3, requires_grad=True)
        total, count = objectives.unit_vector_mse(output.expand(2, 3), places)
        (slope,) = torch.autograd.grad(total / count, output)
        best = -slope / 2  # of a parabola whose slope at 0 is -2 times the mean
        latitude, longitude, found = objectives.place_of_vector(best)
        assert math.isclose(found, length, abs_tol=1e-6)
        if apart < 180:
            assert latitude == 0
            assert math.isclose(longitude, 10 + apart / 2, abs_tol=1e-4)
