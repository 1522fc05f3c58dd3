"""Distances, accuracies and intervals: known values and properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import metrics

LATITUDE = st.floats(-90, 90)
LONGITUDE = st.floats(-180, 180)
HALF_ROUND_KM = np.pi * 6371


def chord_km(latitude_1, longitude_1, latitude_2, longitude_2):
    """Angle between unit vectors: another road to the same distance."""

    def vector(latitude, longitude):
        phi, lam = np.radians(latitude), np.radians(longitude)
        return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)

    one, two = vector(latitude_1, longitude_1), vector(latitude_2, longitude_2)
    return 6371 * np.arctan2(np.linalg.norm(np.cross(one, two), axis=-1), (one * two).sum(axis=-1))


@pytest.mark.parametrize(
    ("pair", "kilometres"),
    [
        ((0, 0, 0, 90), HALF_ROUND_KM / 2),
        ((0, 0, 1, 0), HALF_ROUND_KM / 180),
        ((90, 0, -90, 0), HALF_ROUND_KM),
        ((90, -120, 90, 55), 0),
        ((0, 0, 0, 180), HALF_ROUND_KM),
        ((33.5, 20, -33.5, -160), HALF_ROUND_KM),
        ((10, 180, 10, -180), 0),
        ((0, 179.5, 0, -179.5), HALF_ROUND_KM / 180),
        ((60, 0, 60, 180), HALF_ROUND_KM / 3),
    ],
)
def test_distance_has_known_values_at_poles_antipodes_and_the_date_line(pair, kilometres):
    assert metrics.great_circle_km(*pair) == pytest.approx(kilometres, abs=1e-9)


@given(LATITUDE, LONGITUDE, LATITUDE, LONGITUDE)
def test_distance_is_symmetric_bounded_and_equals_the_angle_between_vectors(lat_1, lon_1, lat_2, lon_2):
    distance = metrics.great_circle_km(lat_1, lon_1, lat_2, lon_2)
    assert distance == metrics.great_circle_km(lat_2, lon_2, lat_1, lon_1)
    assert 0 <= distance <= HALF_ROUND_KM + 1e-9
    assert distance == pytest.approx(chord_km(lat_1, lon_1, lat_2, lon_2), abs=1e-8)
    assert metrics.great_circle_km(lat_1, lon_1, lat_1, lon_1) == 0


@given(LATITUDE, LONGITUDE, st.floats(1e-7, 1e-3))
def test_distance_is_right_to_a_millimetre_close_to_the_antipode(latitude, longitude, north):
    latitude = latitude * 0.9
    opposite = longitude - 180 if longitude > 0 else longitude + 180
    distance = metrics.great_circle_km(latitude, longitude, -latitude + north, opposite)
    assert HALF_ROUND_KM - distance == pytest.approx(north * HALF_ROUND_KM / 180, abs=1e-6)


def test_distance_broadcasts_and_promotes_float32():
    truth = np.array([[48.85661], [35.67620]], dtype=np.float32)
    distance = metrics.great_circle_km(truth, np.float32(2.35222), np.array([1.0, 2.0, 3.0]), 4)
    assert distance.shape == (2, 3)
    assert distance.dtype == np.float64
    wide = metrics.great_circle_km(truth.astype(float), float(np.float32(2.35222)), [1.0, 2.0, 3.0], 4)
    np.testing.assert_array_equal(distance, wide)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 95], [0, 0], 0, 0), "latitude_1 number 1 is 95.0, not between -90 and 90 degrees: .*swapped"),
        ((0, 0, [np.nan], [0]), "latitude_2 number 0 is nan"),
        ((0, 0, 0, 180.001), "longitude_2 number 0 is 180.001"),
        ((0, -np.inf, 0, 0), "longitude_1 number 0 is -inf"),
    ],
)
def test_a_coordinate_that_is_none_names_itself(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.great_circle_km(*arguments)


def test_a_distance_equal_to_the_threshold_counts_and_the_next_float_does_not():
    edge = np.array(metrics.THRESHOLDS_KM, dtype=float)
    np.testing.assert_array_equal(metrics.accuracy(edge), [0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_array_equal(metrics.accuracy(np.nextafter(edge, np.inf)), [0, 0.2, 0.4, 0.6, 0.8])


def test_table_has_the_promised_columns_and_rows_in_the_given_order():
    table = metrics.accuracy_table({"f*": np.array([0, 10, 100, 20_000]), "coarse": pd.Series([3.0], index=[99])})
    assert list(table.columns) == [
        "model", "photos", "within_1km", "within_25km", "within_200km", "within_750km", "within_2500km", "median_km",
        "mean_km",
    ]  # fmt: skip
    assert table.iloc[0].to_list() == ["f*", 4, 0.25, 0.5, 0.75, 0.75, 0.75, 55, 5027.5]
    assert table.iloc[1].to_list() == ["coarse", 1, 0, 1, 1, 1, 1, 3, 3]


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        ({}, "no model"),
        ({"f*": []}, "model 'f\\*': no photo"),
        ({"f*": [1, np.nan]}, "model 'f\\*': distance number 1 is nan"),
        ({"f*": [-1]}, "distance number 0 is -1.0 km"),
        ({"f*": [np.inf]}, "distance number 0 is inf km"),
        ({"f*": [[1, 2]]}, "shape \\(1, 2\\)"),
    ],
)
def test_distances_that_are_none_are_refused(distances, message):
    with pytest.raises(ValueError, match=message):
        metrics.accuracy_table(distances)


def test_confidence_quarters_are_equal_and_ordered():
    quarters = metrics.confidence_quarters(np.random.default_rng(1).random(400))
    assert pd.Series(quarters).value_counts().tolist() == [100] * 4
    assert len(metrics.confidence_quarters([0.5])) == 1
    numbered = metrics.confidence_quarters(np.arange(403))
    assert numbered.tolist() == sorted(numbered)
    assert sorted(pd.Series(numbered).value_counts()) == [100, 101, 101, 101]
    assert len(metrics.confidence_quarters([])) == 0


@given(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9, np.nan]), max_size=30), st.randoms(use_true_random=False))
def test_equal_confidences_share_a_quarter_whatever_the_order_of_the_rows(confidence, random):
    order = random.sample(range(len(confidence)), len(confidence))
    quarters = metrics.confidence_quarters(confidence)
    shuffled = metrics.confidence_quarters(np.array(confidence)[order])
    assert shuffled.tolist() == quarters[order].tolist()
    assert (pd.Series(quarters).groupby(pd.Series(confidence, dtype=float), dropna=False).nunique() == 1).all()
    assert ((quarters == "no confidence") == np.isnan(confidence)).all()
