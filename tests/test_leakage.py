"""What splits share is counted and told, and how far held-out photos are from training is exact."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data_lists, leakage, metrics, paths

NO_PAIRS = ((), ())
WRITTEN = Path("explored", "mine", "leakage.csv")
COORDINATE = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
SPLITS = ("train", "validation", "test")


def photos(split, latitude=None, longitude=None, author=None, **columns):
    """Rows of a list, far from one another and each by an author of its own unless said otherwise."""
    count = len(split)
    return pd.DataFrame(
        {
            "id": [f"{number:03d}" for number in range(count)],
            "path": [f"{number:03d}.jpg" for number in range(count)],
            "latitude": np.linspace(-60, 60, count) if latitude is None else latitude,
            "longitude": np.linspace(-170, 170, count) if longitude is None else longitude,
            "author": [f"author {number}" for number in range(count)] if author is None else author,
            "split": split,
            "sha256": [f"{number:064x}" for number in range(count)],
        }
        | columns
    )


def across_splits(rows, pairs):
    return leakage.groups_across_splits(rows, *(np.array(side, dtype=np.int64) for side in pairs))


def reported(rows, pairs=NO_PAIRS):
    table = leakage.report(rows, leakage.shared(rows), across_splits(rows, pairs), len(rows))
    return table.assign(what=table["what"].str.split(" ").str[:3].str.join(" ")).set_index("what")


# What is shared


def test_distances_that_are_known_are_not_measured_again():
    rows = photos(["train", "test", "validation"])
    assert leakage.shared(rows)["within 1 km of a training photo"] == 0
    told = pd.Series([0.5, 2.0], index=[1, 2])
    assert leakage.shared(rows, told)["within 1 km of a training photo"] == 0.5


def test_who_is_near_and_how_large_the_largest_group_is():
    rows = photos(
        ["train", "train", "test", "validation", "test"],
        [0.0, 40.0, 0.0089, 0.0091, -60.0],
        [20.0] * 5,
        ["ann", "ann", "bob", "cyd", ""],
    )
    leaks = leakage.shared(rows)
    assert leaks["within 1 km of a training photo"] == round(1 / 3, 4)  # 0.0089 degrees are 0.99 km, 0.0091 are 1.01
    assert leaks["largest linked group"] >= 2
    assert leakage.shared(rows.assign(split="test"))["within 1 km of a training photo"] == 0


def test_a_sound_list_is_reported_as_sound():
    table = reported(photos(["train", "validation", "test"]))
    assert table["value"].tolist() == [0, 0, 0, 0, 0, 1]
    assert table["among photos"].tolist() == [3] * 6
    assert table["ok"].tolist() == ["yes"] * 4 + ["", ""]


def test_where_nothing_was_looked_at_nothing_is_said_to_be_sound():
    rows = photos(["train", "validation", "test"], author=[""] * 3)
    table = leakage.report(rows, leakage.shared(rows), across_splits(rows, NO_PAIRS), 0)
    assert table["among photos"].tolist() == [0, 3, 3, 0, 3, 3]
    assert table["ok"].tolist() == ["", "yes", "yes", "", "", ""]


def test_all_that_splits_share_is_reported():
    rows = photos(
        ["train", "test", "validation", "train", "test", "test"],
        latitude=[10, 20, 30, 30, 40, 50],
        author=["ann", "ann", "bob", "bob", "", "ann"],
        sha256=list("abcdaf"),
    )
    rows.loc[[2, 3], "longitude"] = 7.0
    pairs = ([0, 1, 2], [3, 4, 5])  # only the last reaches into another split
    table = reported(rows, pairs)
    assert table.loc["authors in several", ["among photos", "value", "ok"]].tolist() == [5, 2, "no"]
    assert table.loc["places in several", ["value", "ok"]].tolist() == [1, "no"]
    assert table.loc["files in several", ["value", "ok"]].tolist() == [1, "no"]
    assert table.loc["near-identical groups in", ["value", "ok"]].tolist() == [1, "no"]
    assert table.loc["photos of unknown", ["value", "ok"]].tolist() == [1, ""]
    assert table.loc["photos in the", "value"] == 3  # ann's; bob's place links nobody else


def test_near_identical_photos_are_grouped_through_others_and_only_groups_of_several_splits_are_told():
    rows = photos(["train", "train", "test", "test", "test", "validation", "train"])
    pairs = ([0, 1, 3, 5], [1, 2, 4, 6])  # 0-1-2 reaches from training to test, 3-4 stays in test
    table = across_splits(rows, pairs)
    assert table[["group", "id", "split"]].to_numpy().tolist() == [
        [0, "000", "train"], [0, "001", "train"], [0, "002", "test"], [1, "005", "validation"], [1, "006", "train"]
    ]  # fmt: skip
    assert len(across_splits(rows, NO_PAIRS)) == 0


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=25), st.permutations(range(20)))
@settings(deadline=None)
def test_groups_do_not_depend_on_the_order_of_rows_or_pairs(pairs, order):
    rows = photos([SPLITS[number % 3] for number in range(20)])
    new_place = np.argsort(order)
    shuffled = [(new_place[second], new_place[first]) for first, second in reversed(pairs)]
    one = across_splits(rows, zip(*pairs, strict=True) if pairs else NO_PAIRS)
    two = across_splits(rows.iloc[order], zip(*shuffled, strict=True) if pairs else NO_PAIRS)
    pd.testing.assert_frame_equal(one, two)


def test_a_split_more_or_less_is_no_error():
    for split in (["train"], ["test"], ["train", "train"], ["test", "validation"]):
        rows = photos(split)
        distance = leakage.nearest_training_km(rows)
        assert distance.isna().all()
        assert reported(rows).loc["authors in several", "value"] == 0
        table = leakage.nearest_by_split(rows, distance)
        assert table["photos"].sum() == (np.array(split) != "train").sum()
        assert table.drop(columns="photos").isna().all(axis=None)
        leakage.refuse_shared_authors(rows, WRITTEN)


# Authors in two splits


def test_authors_in_two_splits_are_refused_by_name():
    rows = photos(["train", "test", "test", "validation"] * 5, author=[f"author {n // 4}" for n in range(20)])
    rows.attrs["made by"] = "papermill 01_data/make_list.ipynb out.ipynb -p dataset mine"
    with pytest.raises(leakage.SharedAuthors, match=r"5 author\(s\) in several splits") as caught:
        leakage.refuse_shared_authors(rows, WRITTEN)
    assert "'author 0': 2 test, 1 train, 1 validation;" in str(caught.value)
    assert "and 2 more)" in str(caught.value)
    assert re.search(r"make the list again: papermill .* -p dataset mine\. To look", str(caught.value))
    assert str(caught.value).endswith(str(WRITTEN))


def test_the_remedy_for_a_list_that_was_made_from_others_begins_with_the_first_of_them(root):
    rows = photos(["train", "test", "validation"], author=["ann", "ann", "bob"])
    data_lists.write(rows, {"dataset": "mine", "made by": "make it"}, paths.data_list("mine"))
    for parent, child in (("mine", "mine-enriched"), ("mine-enriched", "mine-clean")):
        data_lists.derive(data_lists.read(parent), data_lists.read(parent), child, f"make {child}", {})
    with pytest.raises(leakage.SharedAuthors) as caught:
        leakage.refuse_shared_authors(data_lists.read("mine-clean"), WRITTEN)
    assert "take the column split out of the table that 'mine' was made from, make 'mine' again" in str(caught.value)
    assert "up to this list: make mine-clean. To look" in str(caught.value)


def test_photos_of_unknown_author_are_no_author_in_two_splits():
    leakage.refuse_shared_authors(photos(["train", "test", "validation"], author=["", "", "ann"]), WRITTEN)
    with pytest.raises(leakage.SharedAuthors, match=r"1 author\(s\) in several splits \('ann': 1 test, 1 train\)\."):
        leakage.refuse_shared_authors(photos(["train", "test", "validation"], author=["ann", "ann", ""]), WRITTEN)


# Distance to the nearest training photo


def test_distances_of_photos_known_by_heart():
    # A quarter of the equator, a photo at the very place of another, and over the date line and the pole.
    rows = photos(
        ["train", "test", "validation", "train", "test", "test", "train"],
        [0, 0, 0, 10, 10, 89.5, 89.5],
        [0, 90, 0, 179.5, -179.5, 0, 180],
    )
    distance = leakage.nearest_training_km(rows)
    degree = np.pi * metrics.EARTH_RADIUS_KM / 180
    assert distance.index.tolist() == [1, 2, 4, 5]
    assert distance.tolist() == pytest.approx([89.5076 * degree, 0, 0.9848 * degree, degree], rel=1e-4, abs=1e-9)
    table = leakage.nearest_by_split(rows, distance)
    assert table.index.tolist() == ["validation", "test"]
    assert table["photos"].tolist() == [1, 3]
    assert table.loc["validation", "within_1km":"within_200km"].tolist() == [1, 1, 1]
    assert table.loc["test", "within_1km":"within_200km"].tolist() == pytest.approx([0, 0, 2 / 3])
    assert table.loc["test", "km_median"] == pytest.approx(degree, rel=1e-4)


def test_a_distance_that_is_a_threshold_is_within_it():
    distance = pd.Series([1.0, 25.0, 200.0, 200.1])
    table = leakage.nearest_by_split(photos(["test"] * 4), distance)
    assert table.loc["test", "within_1km":"within_200km"].tolist() == [0.25, 0.5, 0.75]
    assert table.loc["test", "km_median"] == 112.5


@given(st.lists(st.tuples(COORDINATE, st.sampled_from(SPLITS)), min_size=1, max_size=40), st.booleans())
@settings(max_examples=150, deadline=None)
def test_distances_are_those_of_trying_every_training_photo(drawn, crowded):
    coordinates, split = np.array([place for place, _ in drawn]), [name for _, name in drawn]
    if crowded:  # a few places, each of several photos
        coordinates = coordinates[np.arange(len(drawn)) % 3 % len(drawn)]
    rows = photos(split, *coordinates.T)
    distance = leakage.nearest_training_km(rows)
    training, held_out = (coordinates[(rows["split"] == "train") == wanted] for wanted in (True, False))
    assert distance.index.equals(rows.index[rows["split"] != "train"])
    if not len(training):
        assert distance.isna().all()
        return
    every = metrics.great_circle_km(*held_out.T[:, :, None], *training.T[:, None])
    # Almost opposite, chords tell places apart to a metre.
    np.testing.assert_allclose(distance, every.min(axis=1) if len(held_out) else [], rtol=0, atol=1e-3)


def test_the_order_of_rows_changes_nothing():
    generator = np.random.default_rng(7)
    rows = photos(
        generator.choice(SPLITS, 300),
        generator.uniform(-90, 90, 300),
        generator.uniform(-180, 180, 300),
        generator.choice(["", *"abcdefghij"], 300),
    )
    shuffled = rows.sample(frac=1, random_state=1)
    one, two = leakage.nearest_training_km(rows), leakage.nearest_training_km(shuffled)
    pd.testing.assert_series_equal(one, two.sort_index())
    pd.testing.assert_frame_equal(leakage.nearest_by_split(rows, one), leakage.nearest_by_split(shuffled, two))
    assert leakage.shared(rows) == leakage.shared(shuffled)
    errors = []
    for order in (rows, shuffled):
        with pytest.raises(leakage.SharedAuthors) as caught:
            leakage.refuse_shared_authors(order, WRITTEN)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_test_photos_are_compared_with_training_photos_of_any_list():
    training = photos(["train"] * 3, [0.0, 0.0, 50.0], [0.0, 1.0, 10.0], ["ann", "bob", ""])
    test = photos(["test"] * 3, [0.0001, 50.0, -30.0], [0.9, 10.0, 100.0], ["ann", "", "cyd"])
    table = leakage.of_test_photos(test, training)
    assert table["nearest_training_id"].tolist() == training["id"].to_numpy()[[1, 2, 1]].tolist()
    np.testing.assert_allclose(table["nearest_training_km"][:2], [11.1, 0], atol=0.1)
    assert table["author_in_training"].tolist() == [True, False, False]  # whose author is not known is nobody's
    assert table["place_in_training"].tolist() == [False, True, False]


def test_accuracy_without_neighbours_is_that_of_the_photos_left():
    rng = np.random.default_rng(3)
    author = rng.integers(20, size=200).astype(str)
    predictions = pd.DataFrame({"id": np.arange(200).astype(str), "author": author})
    predictions["distance_km"] = rng.uniform(0, 4000, 200)
    neighbours = pd.DataFrame({"id": predictions["id"], "nearest_training_km": rng.uniform(0, 100, 200)})
    neighbours["author_in_training"] = rng.random(200) < 0.3
    neighbours["place_in_training"] = rng.random(200) < 0.3
    table = leakage.accuracy_without(predictions, neighbours.sample(frac=1, random_state=1), 20, seed=7)
    table = table.set_index("kept")
    alone = ~(neighbours["author_in_training"] | neighbours["place_in_training"])
    assert table.loc["neither", "photos"] == alone.sum()
    assert table.loc["neither", "within_750km"] == (predictions.loc[alone, "distance_km"] <= 750).mean()
    assert table.loc["all test photos", "photos"] == 200
    assert "farther than 200 km from training" not in table.index  # of which there is none
    with pytest.raises(ValueError, match=r"1 ids are in one of them alone, such as '199'"):
        leakage.accuracy_without(predictions, neighbours.head(199), 20, seed=7)
