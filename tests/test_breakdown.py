"""Photos are grouped by what they are of and where they lie, and no group pretends to an interval that it has not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import bootstrap, breakdown, data_lists, enriching, exploring, metrics

PARIS, MUNICH, HONOLULU, SAHARA, ATLANTIC = (48.86, 2.35), (48.14, 11.58), (21.3, -157.85), (23.5, 10.0), (0.0, -30.0)


def predicted(truth, guesses, **columns):
    """Predictions for photos at `truth`, of so many authors as photos unless columns say otherwise."""
    (latitude, longitude), (predicted_latitude, predicted_longitude) = np.array(truth).T, np.array(guesses).T
    count = len(latitude)
    names = {"id": [f"{number:03d}" for number in range(count)], "author": [f"by {number}" for number in range(count)]}
    places = {"latitude": latitude, "longitude": longitude}
    guess = {"predicted_latitude": predicted_latitude, "predicted_longitude": predicted_longitude}
    distance_km = metrics.great_circle_km(latitude, longitude, predicted_latitude, predicted_longitude)
    return pd.DataFrame({**names, **places, **guess, "distance_km": distance_km, **columns})


def listed(predictions):
    """Located rows of the list that predictions are of, in another order."""
    rows = predictions[["id", "author", "latitude", "longitude"]].assign(split="test", path=predictions["id"])
    return enriching.enrich(rows[::-1]).rows


def some(photos, seed=7):
    """Facts about photos of a few countries and scenes, by few authors and some unknown ones."""
    rng = np.random.default_rng(seed)
    authors = np.where(rng.random(photos) < 0.2, "", rng.choice(list("abcdefgh"), photos))
    scene = rng.choice(["indoor", "natural", "urban"], photos)
    return pd.DataFrame(
        {
            "id": [f"{number:04d}" for number in range(photos)],
            "author": authors,
            "distance_km": np.exp(rng.normal(6, 2, photos)).clip(0, 20_000).round(1),
            "country": rng.choice(["Chad", "Fiji", "Peru"], photos, p=[0.2, 0.1, 0.7]),
            "scene": pd.Categorical(scene, ["indoor", "natural", "urban", breakdown.UNKNOWN_SCENE], ordered=True),
        }
    )


def test_facts_follow_from_the_coordinates():
    truth = [PARIS, MUNICH, HONOLULU, SAHARA, ATLANTIC]
    predictions = predicted(truth, [MUNICH, MUNICH, PARIS, ATLANTIC, SAHARA])
    facts = breakdown.facts(predictions.iloc[[3, 0, 4, 2, 1]], listed(predictions))
    assert facts["id"].tolist() == ["000", "001", "002", "003", "004"]
    assert facts["country"].tolist() == ["France", "Germany", "United States", "Algeria", "no country"]
    assert facts["guessed_country"].tolist() == ["Germany", "Germany", "France", "no country", "Algeria"]
    assert facts["continent"].tolist() == ["Europe", "Europe", "North America", "Africa", "no country"]
    assert facts["region"].tolist()[1:3] == ["Bayern, Germany", "Hawaii, United States"]
    assert facts["region"].tolist()[4] == exploring.NAMELESS["region"]
    town, remote = breakdown.SETTLEMENTS[0], breakdown.SETTLEMENTS[2]
    assert facts["settlement"].tolist() == [town, town, town, remote, remote]
    pd.testing.assert_series_equal(facts["distance_km"], predictions["distance_km"])


def test_the_limits_of_a_town_belong_to_it(monkeypatch):
    predictions = predicted([PARIS] * 5, [PARIS] * 5)
    distances = np.array([0.0, 5.0, np.nextafter(5, 6), 25.0, np.nextafter(25, 26)])
    monkeypatch.setattr(breakdown, "town_km", lambda latitude, longitude: distances)
    facts = breakdown.facts(predictions, listed(predictions))
    assert facts["settlement"].cat.codes.tolist() == [0, 0, 1, 1, 2]


def test_photos_that_are_all_at_sea_are_in_no_country():
    predictions = predicted([ATLANTIC, (1.0, -30.0)], [ATLANTIC, ATLANTIC])
    table = breakdown.by_factor(breakdown.facts(predictions, listed(predictions)), 10, seed=7).set_index("factor")
    assert table["group"].to_dict() == {
        "all": "all photos",
        "continent": "no country",
        "country": "no country",
        "region": "no region",
        "settlement": "remote (> 25 km)",
    }


def test_an_unknown_scene_and_a_place_in_no_class_are_groups_of_their_own():
    columns = {
        "scene": ["urban", None, "indoor", "urban", "indoor", None],
        "training_photos_of_true_class": pd.array([700, 0, None, 52, 52, 51], dtype="Int64"),
    }
    predictions = predicted([PARIS] * 6, [PARIS] * 6, **columns)
    facts = breakdown.facts(predictions, listed(predictions))
    assert breakdown.left_out(facts) == {}
    table = breakdown.by_factor(facts, 10, seed=7)
    groups = {factor: rows.set_index("group")["photos"].to_dict() for factor, rows in table.groupby("factor")}
    assert list(groups["scene"].items()) == [("indoor", 2), ("urban", 2), ("unknown scene", 2)]
    assert list(groups["training_density"].items()) == [("in no class", 2), ("51 to 52", 3), ("700", 1)]


def test_what_is_not_known_is_left_out_and_said():
    predictions = predicted([PARIS, MUNICH], [PARIS, PARIS], scene=[None, None])
    facts = breakdown.facts(predictions, listed(predictions))
    assert {factor: reason.split(" ")[0] for factor, reason in breakdown.left_out(facts).items()} == {
        "scene": "no",
        "training_density": "the",
    }
    table = breakdown.by_factor(facts, 10, seed=7)
    assert table["factor"].unique().tolist() == ["all", "continent", "country", "region", "settlement"]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40))
def test_every_number_is_in_the_band_of_its_name_and_equal_numbers_in_one(numbers):
    bands = breakdown.density_bands(numbers)
    assert len(bands.categories) <= 4
    assert bands.categories[0] == breakdown.NO_CLASS
    codes = np.asarray(bands.codes)
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    for number, band in zip(numbers, bands, strict=True):
        least, _, most = band.partition(" to ")
        assert band == breakdown.NO_CLASS if number == 0 else int(least) <= number <= int(most or least)
    known = codes[codes > 0]
    if len(set(numbers) - {0}) == len(known) >= 3:
        assert np.ptp(np.bincount(known)[1:]) <= 2  # thirds, where no two numbers are equal


def test_each_group_is_judged_as_if_it_were_alone():
    facts = some(300)
    table = breakdown.by_factor(facts, 50, seed=7)
    assert table["factor"].unique().tolist() == ["all", "scene", "country"]
    for row in table.to_dict("records"):
        part = facts if row["factor"] == "all" else facts[facts[row["factor"]] == row["group"]]
        figures = metrics.accuracy_table({"": part["distance_km"]}).iloc[0]
        intervals = bootstrap.author_bootstrap(part["distance_km"], part["author"], 50, seed=7)
        named = part.loc[part["author"] != "", "author"].nunique()
        assert row["authors"] == named + (part["author"] == "").sum()
        assert row["photos"] == len(part)
        for figure in metrics.FIGURES:
            assert row[figure] == pytest.approx(figures[figure])
            assert [row[f"{figure}_low"], row[f"{figure}_high"]] == intervals.loc[figure].tolist()
            assert row[f"{figure}_low"] <= row[f"{figure}_high"]


def test_ordered_groups_keep_their_order_and_others_go_by_their_photos():
    facts = some(300).assign(region=["x", "b", "a"] * 100)
    facts.loc[0, "region"] = "b"
    table = breakdown.by_factor(facts, 5, seed=7)
    groups = table.groupby("factor")["group"].agg(list)
    assert groups["scene"] == ["indoor", "natural", "urban"]
    assert groups["country"] == ["Peru", "Chad", "Fiji"]
    assert groups["region"] == ["b", "a", "x"]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(60)), st.integers(0, 3))
def test_no_figure_depends_on_the_order_of_the_photos(order, seed):
    facts = some(60)
    one = breakdown.by_factor(facts, 5, seed=seed)
    two = breakdown.by_factor(facts.iloc[order], 5, seed=seed)
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    pd.testing.assert_frame_equal(breakdown.best(facts), breakdown.best(facts.iloc[order]))
    pd.testing.assert_frame_equal(breakdown.worst(facts), breakdown.worst(facts.iloc[order]))


@pytest.mark.parametrize(
    ("photos", "authors", "known"), [(20, 5, True), (19, 19, False), (40, 4, False), (30, 1, False)]
)
def test_few_photos_or_authors_have_figures_and_no_interval(photos, authors, known):
    author = [f"by {number % authors}" for number in range(photos)]
    facts = pd.DataFrame({"author": author, "distance_km": np.arange(photos) * 100.0, "country": "Fiji"})
    table = breakdown.by_factor(facts, 10, seed=7)
    assert table[list(metrics.FIGURES)].notna().all(axis=None)
    assert table.filter(regex="_(low|high)$").notna().all(axis=None) == known
    assert table.filter(regex="_(low|high)$").isna().all(axis=None) != known
    assert table["authors"].tolist() == [authors, authors]
    assert (f"| Fiji | {photos} {breakdown.FEW} |" in breakdown.markdown(table, "country")) != known


def test_draws_are_the_same_in_blocks_of_any_size():
    rng = np.random.default_rng(7)
    alone = [np.bincount(rng.integers(11, size=11), minlength=11) for _ in range(9)]
    for most in (1, 4, 100):
        np.testing.assert_array_equal(np.concatenate(list(bootstrap.author_draws(11, 9, seed=7, most=most))), alone)


def test_the_best_and_the_worst_are_ordered_by_distance_and_id_and_share_no_photo():
    facts = pd.DataFrame({"id": list("gfedcba"), "distance_km": [5.0, 1, 1, 3, 9, 9, 2]})
    assert breakdown.best(facts, 3)["id"].tolist() == ["e", "f", "a"]
    assert breakdown.worst(facts, 3)["id"].tolist() == ["b", "c", "g"]
    assert breakdown.best(facts)["id"].tolist() == ["e", "f", "a"]
    assert not set(breakdown.best(facts)["id"]) & set(breakdown.worst(facts)["id"])
    assert breakdown.best(facts[:1])["id"].tolist() == breakdown.worst(facts[:1])["id"].tolist() == ["g"]


def test_the_table_in_markdown_marks_what_is_few_and_counts_what_is_not_shown():
    facts = some(300).assign(country=["a|b"] * 290 + ["c"] * 6 + ["d"] * 4)
    table = breakdown.by_factor(facts, 20, seed=7)
    head, _, first, second, _, caption, *_ = breakdown.markdown(table, "country", shown=2).splitlines()
    assert head.startswith("| country | photos | authors | 1 km |")
    row = table[table["group"] == "a|b"].iloc[0]
    share, median = (
        f"{row[figure]:.0f} [{row[f'{figure}_low']:.0f}, {row[f'{figure}_high']:.0f}]"
        for figure in ("within_1km", "median_km")
    )
    assert first.startswith(f"| a\\|b | 290 | {row['authors']} | ")
    assert first.endswith(f"| {median} |")
    assert share != median
    assert second.startswith(f"| c | 6 {breakdown.FEW} | ")
    assert "[" not in second
    assert "none of fewer than 20 photos or 5 authors. Not shown: 1 more, with 4 photos." in caption
    assert breakdown.FEW not in breakdown.markdown(table, "scene")
    assert "| all photos | 300 |" in breakdown.markdown(table, "all")
    with pytest.raises(ValueError, match="no factor 'region': it has all, scene, country"):
        breakdown.markdown(table, "region")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda predictions, rows: (predictions[1:], rows),
            r"different lists: of the ids, 1 only among the test photos of the list \('000'\)\. Evaluate the run on",
        ),
        (
            lambda predictions, rows: (predictions.assign(id=[f"x{number}" for number in range(5)]), rows),
            r"5 only among the predictions \('x0', 'x1', 'x2' and 2 more\) and 5 only among the test photos",
        ),
        (
            lambda predictions, rows: (predictions.assign(latitude=predictions["latitude"] + [0, 1, 0, 0, 0]), rows),
            r"different lists: 1 photos lie elsewhere in the list than the predictions say \('001'\)\. Evaluate",
        ),
        (
            lambda predictions, rows: (predictions, pd.concat([rows, rows[:1]])),
            "photos have the id '004' more than once",
        ),
        (lambda predictions, rows: (predictions.assign(id="0"), rows), "predictions have the id '0' more than once"),
        (
            lambda predictions, rows: (predictions.drop(columns="distance_km"), rows),
            r"predictions have no column distance_km: give what evaluate\.ipynb writes",
        ),
        (
            lambda predictions, rows: (predictions, rows.drop(columns=["country", "region"])),
            r"photos have no column country, region: give what exploring\.located returns",
        ),
    ],
)
def test_predictions_and_truth_of_different_lists_are_refused(change, message):
    predictions = predicted([PARIS] * 5, [MUNICH] * 5)
    rows = listed(predictions)
    assert data_lists.LOCATED in rows.attrs
    with pytest.raises(ValueError, match=message):
        breakdown.facts(*change(predictions, rows))


def test_no_photo_and_no_resample_are_refused():
    with pytest.raises(ValueError, match="0 photos and 10 resamples"):
        breakdown.by_factor(some(3)[:0], 10, seed=7)
    with pytest.raises(ValueError, match="3 photos and 0 resamples"):
        breakdown.by_factor(some(3), 0, seed=7)
