"""Distances, accuracies and intervals: known values, properties, and the published table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import metrics, paths

LATITUDE = st.floats(-90, 90)
LONGITUDE = st.floats(-180, 180)
HALF_ROUND_KM = np.pi * 6371

# Per cent within 1, 25, 200, 750, 2500 km, and mean km, on the 237 photos of Im2GPS (Müller-Budack et al., 2018).
PUBLISHED = {
    "base-vgg-c_L-m": (7.6, 22.8, 35.0, 50.6, 66.7, 3356.84),
    "base-vgg_L-m": (8.9, 26.6, 36.7, 50.6, 65.8, 3342.11),
    "base_L-m": (13.5, 36.3, 50.6, 64.1, 79.7, 1999.38),
    "base_M-m": (13.5, 35.0, 49.8, 64.1, 79.7, 1827.76),
    "base_M-fstar": (15.2, 40.9, 51.5, 65.4, 78.5, 1905.31),
    "ISNs_M-fstar-S3": (16.9, 43.0, 51.9, 66.7, 80.2, 1732.86),
}


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


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_predictions_give_the_published_table_to_the_decimal(model):
    folder = paths.SOURCE.parent / "shared" / "published" / "results" / "im2gps"
    if not folder.is_dir():
        pytest.skip(f"the published predictions are not at {folder}")
    rows = (folder / f"{model}.csv").read_text().split("\n\n")[0]  # a summary follows after a blank line
    table = pd.DataFrame([line.split(",") for line in rows.splitlines()[1:]], columns=rows.split("\n", 1)[0].split(","))
    numbers = table.drop(columns="img_id").astype(float)
    distance = metrics.great_circle_km(
        numbers["gt_lat"], numbers["gt_long"], numbers["predicted_lat"], numbers["predicted_long"]
    )
    # The published distances are rounded to two places, the published coordinates to six.
    np.testing.assert_allclose(distance, numbers["great_circle_distance"], atol=0.0051)
    row = metrics.accuracy_table({model: distance}).iloc[0]
    assert row["photos"] == 237
    assert [round(100 * row[share], 1) for share in metrics.SHARES] == list(PUBLISHED[model][:5])
    assert round(row["mean_km"], 2) == PUBLISHED[model][5]


def errors_by_author(photos_each, authors, rng):
    """Photos of one author err alike."""
    typical = rng.lognormal(6, 2, size=authors)
    distance = np.minimum(np.repeat(typical, photos_each) * rng.lognormal(0, 0.1, photos_each * authors), 20_000)
    return distance, np.repeat([f"author {number}" for number in range(authors)], photos_each)


def test_bootstrap_equals_plainly_stacking_the_photos_of_the_drawn_authors():
    distance, author = errors_by_author(3, 20, np.random.default_rng(1))
    keep = np.arange(len(distance)) % 7 != 0  # so that authors differ in their number of photos
    distance, author = distance[keep], author[keep]
    # The module numbers known authors alphabetically and draws them by these very calls.
    names, rng, plain = np.unique(author), np.random.default_rng(7), []
    for _ in range(50):
        drawn = names[rng.integers(len(names), size=len(names))]
        sample = np.concatenate([distance[author == name] for name in drawn])
        plain.append([*metrics.accuracy(sample), np.median(sample), sample.mean()])
    low, high = np.quantile(plain, [0.025, 0.975], axis=0)
    intervals = metrics.author_bootstrap(distance, author, 50, seed=7)
    np.testing.assert_allclose(intervals["low"], low, rtol=1e-12)
    np.testing.assert_allclose(intervals["high"], high, rtol=1e-12)


def test_resampling_authors_gives_the_spread_that_fresh_authors_have():
    rng = np.random.default_rng(3)
    distance, author = errors_by_author(20, 60, rng)
    by_author = metrics.author_bootstrap(distance, author, seed=7).loc["within_750km"]
    by_photo = metrics.author_bootstrap(distance, [None] * len(distance), seed=7).loc["within_750km"]
    fresh = [metrics.accuracy(errors_by_author(20, 60, rng)[0])[3] for _ in range(400)]
    spread = np.subtract(*np.quantile(fresh, [0.975, 0.025]))
    assert by_author["high"] - by_author["low"] == pytest.approx(spread, rel=0.25)
    assert by_photo["high"] - by_photo["low"] < spread / 2


def test_photos_of_unknown_author_are_each_their_own_author():
    distance, _ = errors_by_author(1, 40, np.random.default_rng(5))
    unknown = metrics.author_bootstrap(distance, [None, np.nan, "", "  "] * 10, seed=7)
    # Alphabetical names in the order of distance number the authors as the module numbers unknown ones.
    alone = [f"{rank:03d}" for rank in np.argsort(np.argsort(distance))]
    pd.testing.assert_frame_equal(unknown, metrics.author_bootstrap(distance, alone, seed=7))


@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_intervals_depend_on_the_seed_alone_and_not_on_the_rows_order(random, seed):
    distance, author = errors_by_author(4, 12, np.random.default_rng(2))
    author = np.where(np.arange(len(author)) % 5 == 0, "", author)
    shuffled = random.sample(range(len(distance)), len(distance))
    one = metrics.author_bootstrap(distance, author, 20, seed=seed)
    two = metrics.author_bootstrap(distance[shuffled], author[shuffled], 20, seed=seed)
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert not one.equals(metrics.author_bootstrap(distance, author, 20, seed=seed + 1))


def test_interval_table_brackets_every_figure():
    distance, author = errors_by_author(5, 40, np.random.default_rng(4))
    models = {"f*": distance, "fine": np.minimum(distance * 1.5, 20_000)}
    table = metrics.interval_table(models, author, seed=7)
    plain = metrics.accuracy_table(models)
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    for figure in plain.columns[2:]:
        assert list(table.columns).index(f"{figure}_low") == list(table.columns).index(figure) + 1
        assert (table[f"{figure}_low"] <= table[figure]).all()
        assert (table[figure] <= table[f"{figure}_high"]).all()
    assert (table["median_km_high"] > table["median_km_low"]).all()


def test_one_author_gives_no_interval():
    assert metrics.author_bootstrap([1, 2, 3], ["ann"] * 3, seed=7).isna().all(axis=None)
    assert metrics.author_bootstrap([1], [None], seed=7).isna().all(axis=None)


def test_authors_must_match_photos():
    with pytest.raises(ValueError, match="3 distances but 2 authors"):
        metrics.author_bootstrap([1, 2, 3], ["ann", "bob"], seed=7)
    with pytest.raises(ValueError, match="0 resamples"):
        metrics.author_bootstrap([1, 2], ["ann", "bob"], 0, seed=7)


def test_the_markdown_table_gives_per_cent_with_intervals():
    table = metrics.interval_table({"f*": [0.5, 25, 300, 9000]}, ["ann", "ann", "bob", "cyd"], seed=7)
    head, _, row, *_ = metrics.markdown(table).splitlines()
    assert head == "| model | photos | 1 km | 25 km | 200 km | 750 km | 2,500 km | median km | mean km |"
    assert row.startswith("| f* | 4 | 25.0 [0.0, 50.0] | 50.0 [0.0, 100.0] |")
    assert row.endswith("| 162 | 2,331 |")


def test_confidence_quarters_are_equal_and_ordered():
    quarters = metrics.confidence_quarters(np.random.default_rng(1).random(400))
    assert pd.Series(quarters).value_counts().tolist() == [100] * 4
    assert len(metrics.confidence_quarters([0.5])) == 1
    assert len(metrics.confidence_quarters([])) == 0
