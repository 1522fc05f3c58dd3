"""Intervals and paired differences: plain resampling, properties, what the order of rows must not change."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import bootstrap, metrics


def errors_by_author(photos_each, authors, rng):
    """Photos of one author err alike."""
    typical = rng.lognormal(6, 2, size=authors)
    distance = np.minimum(np.repeat(typical, photos_each) * rng.lognormal(0, 0.1, photos_each * authors), 20_000)
    return distance, np.repeat([f"author {number}" for number in range(authors)], photos_each)


def two_models(rng, authors=25, photos_each=4):
    one, author = errors_by_author(photos_each, authors, rng)
    two = np.minimum(one * rng.lognormal(0.2, 0.4, len(one)), 20_000)
    return {"one": one, "two": two}, author


def figures_of(distance):
    return np.array([*metrics.accuracy(distance), np.median(distance), distance.mean()])


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
    found = bootstrap.author_bootstrap(distance, author, 50, seed=7)
    np.testing.assert_allclose(found["low"], low, rtol=1e-12)
    np.testing.assert_allclose(found["high"], high, rtol=1e-12)


def test_resampling_authors_gives_the_spread_that_fresh_authors_have():
    rng = np.random.default_rng(3)
    distance, author = errors_by_author(20, 60, rng)
    by_author = bootstrap.author_bootstrap(distance, author, seed=7).loc["within_750km"]
    by_photo = bootstrap.author_bootstrap(distance, [None] * len(distance), seed=7).loc["within_750km"]
    fresh = [metrics.accuracy(errors_by_author(20, 60, rng)[0])[3] for _ in range(400)]
    spread = np.subtract(*np.quantile(fresh, [0.975, 0.025]))
    assert by_author["high"] - by_author["low"] == pytest.approx(spread, rel=0.25)
    assert by_photo["high"] - by_photo["low"] < spread / 2


def test_photos_of_unknown_author_are_each_their_own_author():
    distance, _ = errors_by_author(1, 40, np.random.default_rng(5))
    unknown = bootstrap.author_bootstrap(distance, [None, np.nan, "", "  "] * 10, seed=7)
    # Alphabetical names in the order of distance number the authors as the module numbers unknown ones.
    alone = [f"{rank:03d}" for rank in np.argsort(np.argsort(distance))]
    pd.testing.assert_frame_equal(unknown, bootstrap.author_bootstrap(distance, alone, seed=7))


@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_intervals_depend_on_the_seed_alone_and_not_on_the_rows_order(random, seed):
    distance, author = errors_by_author(4, 12, np.random.default_rng(2))
    author = np.where(np.arange(len(author)) % 5 == 0, "", author)
    shuffled = random.sample(range(len(distance)), len(distance))
    one = bootstrap.author_bootstrap(distance, author, 20, seed=seed)
    two = bootstrap.author_bootstrap(distance[shuffled], author[shuffled], 20, seed=seed)
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert not one.equals(bootstrap.author_bootstrap(distance, author, 20, seed=seed + 1))


def test_interval_table_brackets_every_figure():
    distance, author = errors_by_author(5, 40, np.random.default_rng(4))
    models = {"f*": distance, "fine": np.minimum(distance * 1.5, 20_000)}
    table = bootstrap.interval_table(models, author, seed=7)
    plain = metrics.accuracy_table(models)
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    for figure in plain.columns[2:]:
        assert list(table.columns).index(f"{figure}_low") == list(table.columns).index(figure) + 1
        assert (table[f"{figure}_low"] <= table[figure]).all()
        assert (table[figure] <= table[f"{figure}_high"]).all()
    assert (table["median_km_high"] > table["median_km_low"]).all()


def test_one_author_gives_no_interval():
    assert bootstrap.author_bootstrap([1, 2, 3], ["ann"] * 3, seed=7).isna().all(axis=None)
    assert bootstrap.author_bootstrap([1], [None], seed=7).isna().all(axis=None)


def test_authors_must_match_photos():
    with pytest.raises(ValueError, match="3 distances but 2 authors"):
        bootstrap.author_bootstrap([1, 2, 3], ["ann", "bob"], seed=7)
    with pytest.raises(ValueError, match="0 resamples"):
        bootstrap.author_bootstrap([1, 2], ["ann", "bob"], 0, seed=7)


def test_the_markdown_table_gives_per_cent_with_intervals():
    table = bootstrap.interval_table({"f*": [0.5, 25, 300, 9000]}, ["ann", "ann", "bob", "cyd"], seed=7)
    head, _, row, *_ = bootstrap.markdown(table).splitlines()
    assert head == "| model | photos | 1 km | 25 km | 200 km | 750 km | 2,500 km | median km | mean km |"
    assert row.startswith("| f* | 4 | 25.0 [0.0, 50.0] | 50.0 [0.0, 100.0] |")
    assert row.endswith("| 162 | 2,331 |")


@given(st.lists(st.sampled_from(["ann", " bob", "", None, "cyd "]), min_size=1), st.randoms(use_true_random=False))
def test_authors_are_numbered_without_gaps_and_unknown_ones_in_the_order_asked_for(author, random):
    order = random.sample(range(len(author)), len(author))
    number = bootstrap.author_numbers(author, order)
    assert sorted(set(number)) == list(range(number.max() + 1))
    names = [(name or "").strip() for name in author]
    known = sorted(set(names) - {""})
    assert [number[photo] for photo in order if not names[photo]] == list(range(len(known), number.max() + 1))
    assert all(number[photo] == known.index(name) for photo, name in enumerate(names) if name)


def test_paired_differences_equal_plainly_judging_both_models_on_the_same_drawn_authors():
    models, author = two_models(np.random.default_rng(1))
    keep = np.arange(len(author)) % 7 != 0  # so that authors differ in their number of photos
    models, author = {model: distance[keep] for model, distance in models.items()}, author[keep]
    names, rng, plain = np.unique(author), np.random.default_rng(7), []
    for _ in range(50):
        drawn = names[rng.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(author == name) for name in drawn])
        plain.append(figures_of(models["one"][rows]) - figures_of(models["two"][rows]))
    low, high = np.quantile(plain, [0.025, 0.975], axis=0)
    table = bootstrap.paired_differences(models, author, 50, seed=7)
    assert table["figure"].tolist() == list(metrics.FIGURES)
    np.testing.assert_allclose(table["low"], low, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["high"], high, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["difference"], figures_of(models["one"]) - figures_of(models["two"]))
    contrary = np.minimum((np.array(plain) <= 0).sum(axis=0), (np.array(plain) >= 0).sum(axis=0))
    np.testing.assert_allclose(table["p_value"], np.minimum(2 * (contrary + 1) / 51, 1))
    assert table["excludes_0"].tolist() == [bool(lo > 0 or hi < 0) for lo, hi in zip(low, high, strict=True)]
    assert table["excludes_0"].any()


@given(st.integers(0, 2**32), st.floats(0.5, 2), st.integers(1, 120))
@settings(max_examples=40, deadline=None)
def test_a_p_value_below_5_per_cent_goes_with_an_interval_that_excludes_0(seed, worse, resamples):
    distance, author = errors_by_author(2, 20, np.random.default_rng(seed))
    models = {"one": distance, "two": np.minimum(distance * worse * np.linspace(0.5, 1.5, 40), 20_000)}
    table = bootstrap.paired_differences(models, author, resamples, seed=7)
    assert table["p_value"].between(min(2 / (resamples + 1), 1), 1).all()
    assert table.loc[table["p_value"] < 0.05, "excludes_0"].all()


def test_between_equal_models_p_values_are_small_as_often_as_they_say():
    rng = np.random.default_rng(11)
    found = []
    for _ in range(200):
        typical = np.repeat(rng.lognormal(6, 1, 40), 3)  # authors differ, and models do not
        models = {name: typical * rng.lognormal(0, 1, 120) for name in ("one", "two")}
        table = bootstrap.paired_differences(models, np.repeat(np.arange(40), 3), 100, seed=7)
        found.append(table.set_index("figure").loc["within_750km", "p_value"])
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.1
    assert 0.4 < np.mean(np.array(found) < 0.5) < 0.6


@given(st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), max_size=8), st.randoms(use_true_random=False))
def test_holm_rejects_step_by_step_what_it_should(p_values, random):
    corrected = bootstrap.holm(p_values)
    known = sorted(p for p in p_values if not np.isnan(p))
    for level in (0.01, 0.05, 0.3):
        # Plainly: the smallest is tested at level / n, the next at level / (n - 1), until one fails.
        passed = 0
        while passed < len(known) and known[passed] * (len(known) - passed) <= level:
            passed += 1
        assert (corrected <= level).sum() == passed
    np.testing.assert_array_equal(np.isnan(corrected), np.isnan(np.array(p_values, dtype=float)))
    order = random.sample(range(len(p_values)), len(p_values))
    np.testing.assert_array_equal(bootstrap.holm([p_values[number] for number in order]), corrected[order])


def test_a_pair_is_told_apart_where_the_intervals_of_its_models_overlap():
    rng = np.random.default_rng(4)
    distance, author = errors_by_author(4, 40, rng)
    models = {"good": distance, "bad": np.minimum(distance * 1.1 + 1, 20_000)}
    intervals = bootstrap.interval_table(models, author, 200, seed=7).set_index("model")
    assert intervals.loc["good", "mean_km_high"] > intervals.loc["bad", "mean_km_low"]
    pair = bootstrap.paired_differences(models, author, 200, seed=7).set_index("figure")
    assert pair.loc["mean_km", "excludes_0"]
    assert pair.loc["mean_km", "high"] < 0


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_paired_differences_do_not_depend_on_the_rows_order_nor_on_other_models(random):
    models, author = two_models(np.random.default_rng(2), authors=12)
    author = np.where(np.arange(len(author)) % 5 == 0, "", author)
    order = random.sample(range(len(author)), len(author))
    one = bootstrap.paired_differences(models, author, 5, seed=7)
    shuffled = {model: distance[order] for model, distance in models.items()} | {"three": models["one"][order] / 2}
    two = bootstrap.paired_differences(shuffled, author[order], 5, seed=7)
    pd.testing.assert_frame_equal(one, two[: len(one)], check_exact=True)
    against = bootstrap.paired_differences(shuffled, author[order], 5, seed=7, reference="two")
    pd.testing.assert_frame_equal(one, against[: len(one)], check_exact=True)
    assert against["model"].unique().tolist() == ["one", "three"]
    assert two[["model", "other"]].drop_duplicates().to_numpy().tolist() == [
        ["one", "two"], ["one", "three"], ["two", "three"],
    ]  # fmt: skip


def test_a_model_does_not_differ_from_itself_and_an_exchanged_pair_only_in_sign():
    models, author = two_models(np.random.default_rng(3))
    same = bootstrap.paired_differences({"a": models["one"], "b": models["one"]}, author, 20, seed=7)
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)
    assert not same["excludes_0"].any()
    assert (same["p_value"] == 1).all()
    there = bootstrap.paired_differences(models, author, 20, seed=7)
    back = bootstrap.paired_differences({"two": models["two"], "one": models["one"]}, author, 20, seed=7)
    np.testing.assert_allclose(back[["difference", "low", "high"]], -there[["difference", "high", "low"]], atol=1e-9)


def test_a_pair_is_compared_on_the_photos_that_both_have():
    models, author = two_models(np.random.default_rng(5))
    missing = {"one": np.where(np.arange(100) < 10, np.nan, models["one"]), "two": models["two"].copy()}
    missing["two"][90:] = np.nan
    table = bootstrap.paired_differences(missing, author, 20, seed=7)
    assert (table["photos"] == 80).all()
    shared = bootstrap.paired_differences({m: d[10:90] for m, d in models.items()}, author[10:90], 20, seed=7)
    pd.testing.assert_frame_equal(table, shared, check_exact=True)


def test_pairs_of_one_author_have_no_interval_and_one_model_has_no_pair():
    table = bootstrap.paired_differences({"a": [1.0, 2.0], "b": [2.0, 3.0]}, ["ann", "ann"], seed=7)
    assert table[["low", "high", "p_value"]].isna().all(axis=None)
    assert not table["excludes_0"].any()
    assert "nan" not in bootstrap.differences_markdown(table)
    alone = bootstrap.paired_differences({"a": [1.0, 2.0]}, ["ann", "bob"], seed=7)
    assert alone.empty
    assert list(alone.columns) == list(table.columns)
    assert bootstrap.differences_markdown(alone).startswith("One model")


@pytest.mark.parametrize(
    ("models", "author", "message"),
    [
        ({"a": [1, 2], "b": [1]}, ["ann", "bob"], "models 'a' and 'b' have 2 and 1 distances, and there are 2 authors"),
        ({"a": [1, np.nan], "b": [np.nan, 1]}, ["ann", "bob"], "models 'a' and 'b' share no photo"),
        ({"a": [1, -1], "b": [1, 1]}, ["ann", "bob"], "model 'a': distance number 1 is -1.0 km"),
        ({"a": [1, 1], "c": [1, 1]}, ["ann", "bob"], "no model 'b' to compare with: there are a, c"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(models, author, message):
    with pytest.raises(ValueError, match=message):
        bootstrap.paired_differences(models, author, 5, seed=7, reference="b")


def test_the_markdown_of_differences_is_bold_where_an_interval_excludes_0():
    authors = [f"author {number}" for number in range(20)]
    models = {"near": np.full(20, 10.0), "far": np.full(20, 300.0)}
    head, _, row, *_ = bootstrap.differences_markdown(
        bootstrap.paired_differences(models, authors, 20, seed=7)
    ).splitlines()
    assert head.startswith("| model | compared with | photos | 1 km | 25 km |")
    assert row == (
        "| near | far | 20 | +0.0 [+0.0, +0.0] | **+100.0** [+100.0, +100.0] | **+100.0** [+100.0, +100.0] "
        "| +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] | **-290** [-290, -290] | **-290** [-290, -290] |"
    )


def test_markdown_shows_names_with_bars_and_what_stands_out_and_bold_can_be_what_is_significant():
    authors = [f"author {number}" for number in range(20)]
    models = {"near | <b>": np.full(20, 10.0), "far": np.full(20, 300.0)}
    table = bootstrap.interval_table(models, authors, 20, seed=7)
    looks = {("near | <b>", "within_25km"): "**{}**", ("far", "mean_km"): "{}?"}
    *_, near, far, _, _ = bootstrap.markdown(table, looks).splitlines()
    assert near.startswith(r"| near \| \<b> | 20 | 0.0 [0.0, 0.0] | **100.0** [100.0, 100.0] | 100.0 [100.0, 100.0] |")
    assert far.endswith("| 300 | 300? |")
    differences = bootstrap.paired_differences(models, authors, 20, seed=7)
    text = bootstrap.differences_markdown(differences.assign(significant=differences["figure"] == "median_km"))
    assert text.splitlines()[2].count("**") == 2
    assert "**-290** [-290, -290] | -290 [-290, -290] |" in text
    assert "bold where a difference is significant at 5 %, by Holm's correction for each column." in text
