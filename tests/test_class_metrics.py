"""Accuracies over classes agree with scikit-learn, with loops and with what can be counted by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score, top_k_accuracy_score

from helpers import class_metrics, metrics, places, regions

CODES = ["AT", "BR", "DE", "FR", "JP", "NA", "US"]
GUESSES = [f"guess_{rank}" for rank in range(1, 6)]


def rows_of(truth: list[str], authors: list[str] | None = None) -> pd.DataFrame:
    """Rows of a list in countries, each photo at its country's centroid, in the sea at 0, -30."""
    known = places.countries().reindex(truth)
    return pd.DataFrame(
        {
            "id": [f"{number:04d}" for number in range(len(truth))],
            "author": authors or [f"author {number}" for number in range(len(truth))],
            "latitude": known["latitude"].fillna(0).to_numpy(),
            "longitude": known["longitude"].fillna(-30).to_numpy(),
            "country": truth,
            "region": "",
        }
    )


def guesses_of(guesses: list[list[str]]) -> pd.DataFrame:
    table = pd.DataFrame([[*row, *[""] * (5 - len(row))] for row in guesses], columns=GUESSES)
    table.insert(0, "id", [f"{number:04d}" for number in range(len(guesses))])
    return table


def scored(photos: int, seed: int = 7) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Photos of an uneven choice of countries, their guesses, and the scores that these follow from."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(CODES), size=photos, p=np.arange(len(CODES), 0, -1) / 28)
    scores = rng.normal(size=(photos, len(CODES))) + 1.3 * np.eye(len(CODES))[truth]
    order = np.argsort(-scores, axis=1)[:, :5]
    authors = [f"author {number}" for number in rng.integers(0, 30, photos)]
    return rows_of(np.array(CODES)[truth].tolist(), authors), guesses_of(np.array(CODES)[order].tolist()), scores


def figures(rows: pd.DataFrame, guesses: pd.DataFrame, resamples: int = 50, seed: int = 7) -> pd.Series:
    judged = class_metrics.judge(rows, guesses, "country")
    return class_metrics.accuracy_table({"country": judged}, resamples, seed=seed).iloc[0]


def test_accuracies_are_those_of_scikit_learn() -> None:
    rows, guesses, scores = scored(300)
    found = figures(rows, guesses)
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(rows["country"], scores, k=k, labels=CODES)
        assert found[f"top_{k}"] == pytest.approx(expected, abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(rows["country"], guesses["guess_1"]))
    assert found[["photos", "classes"]].tolist() == [300, 7]


def test_recall_and_precision_of_each_class_are_those_of_scikit_learn() -> None:
    rows, guesses, _ = scored(300)
    table = class_metrics.per_class(class_metrics.judge(rows, guesses, "country")).set_index("key")
    truth, guess = rows["country"], guesses["guess_1"]
    labels = table.index.tolist()
    np.testing.assert_allclose(table["top_1"], recall_score(truth, guess, labels=labels, average=None))
    np.testing.assert_allclose(table["precision"], precision_score(truth, guess, labels=labels, average=None))
    among_five = guesses[GUESSES].eq(truth, axis=0).any(axis=1)
    for code, row in table.iterrows():
        assert row["photos"] == (truth == code).sum()
        assert row["guessed"] == (guess == code).sum()
        assert row["top_5"] == pytest.approx(among_five[truth == code].mean())
        wrong = guess[(truth == code) & (guess != code)].value_counts()
        assert row["taken_for_photos"] == wrong.max()
        assert row["taken_for"] in wrong.index[wrong == wrong.max()]
    assert table["photos"].is_monotonic_decreasing
    assert table.loc["NA", "title"] == "Namibia"


@settings(max_examples=30)
@given(st.permutations(range(40)), st.integers(0, 3))
def test_no_figure_depends_on_the_order_of_the_photos(order: list[int], seed: int) -> None:
    rows, guesses, _ = scored(40)
    rows.loc[::3, "author"] = ""  # each an author of its own
    pd.testing.assert_series_equal(
        figures(rows, guesses, seed=seed), figures(rows.iloc[order], guesses.iloc[order[::-1]], seed=seed)
    )


def test_intervals_are_quantiles_over_draws_of_whole_authors() -> None:
    rows, guesses, _ = scored(60)
    found = figures(rows, guesses, resamples=400)
    truth, guess = rows["country"].to_numpy(), guesses["guess_1"].to_numpy()
    number, authors = pd.factorize(rows["author"], sort=True)
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(400):
        picked = rng.integers(len(authors), size=len(authors))
        photos = np.concatenate([np.flatnonzero(number == author) for author in picked])
        drawn.append((truth[photos] == guess[photos]).mean())
    assert found[["top_1_low", "top_1_high"]].tolist() == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_an_author_with_many_photos_makes_the_interval_wider() -> None:
    truth, guess = ["FR"] * 40 + ["DE"] * 40, [["FR"]] * 40 + [["FR"]] * 40
    alone = figures(rows_of(truth), guesses_of(guess), resamples=300)
    few = figures(rows_of(truth, [f"author {n // 20}" for n in range(80)]), guesses_of(guess), resamples=300)
    assert few["top_1_high"] - few["top_1_low"] > 2 * (alone["top_1_high"] - alone["top_1_low"])


def test_photos_of_a_single_author_have_no_interval() -> None:
    found = figures(rows_of(["FR", "DE"], ["ann", " ann "]), guesses_of([["FR"], ["FR"]]))
    assert found["top_1"] == found["balanced_accuracy"] == 0.5
    assert found.filter(regex="_low|_high").isna().all()


def test_a_photo_of_an_unknown_author_is_by_an_author_of_its_own() -> None:
    guesses = guesses_of([["FR", "DE"], ["FR", "DE"], ["FR", "DE"]])
    unknown = figures(rows_of(["FR", "DE", "DE"]).assign(author=["", None, " "]), guesses)
    pd.testing.assert_series_equal(unknown, figures(rows_of(["FR", "DE", "DE"], ["ann", "bob", "cyd"]), guesses))


def test_a_photo_of_a_country_that_the_run_does_not_know_is_wrong_and_counted() -> None:
    rows, guesses = rows_of(["FR", "FR", "JP"]), guesses_of([["FR", "DE"], ["FR", "DE"], ["FR", "DE"]])
    judged = class_metrics.judge(rows, guesses, "country", {"FR", "DE", "US"})
    assert judged.counts == {
        "photos": 3,
        "nowhere": 0,
        "of no class of the run": 1,
        "classes of the run without a photo": 2,
    }
    found = class_metrics.accuracy_table({"country": judged}, 10, seed=7).iloc[0]
    assert found["top_1"] == found["top_5"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == 0.5  # Japan counts, Germany and the United States do not


def test_a_photo_at_sea_is_left_out_and_counted() -> None:
    rows, guesses = rows_of(["FR", "", "JP", ""]), guesses_of([["FR", "JP"], ["FR", "JP"], ["JP", "FR"], [""]])
    judged = class_metrics.judge(rows, guesses, "country")
    assert judged.counts == {"photos": 2, "nowhere": 2}
    assert judged.photos["id"].tolist() == ["0000", "0002"]
    assert figures(rows, guesses)["top_1"] == 1
    with pytest.raises(ValueError, match="none of the 2 photos lies in a country"):
        class_metrics.judge(rows_of(["", ""]), guesses_of([["FR"], ["FR"]]), "country")
    assert class_metrics.true_keys(rows, "country").tolist() == ["FR", "", "JP", ""]
    with pytest.raises(ValueError, match="none of the 4 photos lies in a region: give a list with photos on land"):
        class_metrics.true_keys(rows, "region")


def test_where_a_single_country_is_named_there_is_no_top_3() -> None:
    found = figures(rows_of(["FR", "JP", "JP"]), guesses_of([["FR"], [""], ["FR"]]))
    assert found["top_1"] == pytest.approx(1 / 3)
    assert found[["top_3", "top_5", "top_3_low", "top_5_high"]].isna().all()
    assert found["balanced_accuracy"] == 0.5
    table = class_metrics.per_class(class_metrics.judge(rows_of(["FR", "JP"]), guesses_of([["FR"], [""]]), "country"))
    assert table["top_5"].isna().all()


def test_distances_lead_to_what_stands_for_the_first_guess() -> None:
    rows, guesses = rows_of(["FR", "FR", "JP"]), guesses_of([["FR"], ["JP"], [""]])
    judged = class_metrics.judge(rows, guesses, "country")
    france, japan = places.countries().loc[["FR", "JP"], ["latitude", "longitude"]].to_numpy()
    apart = float(metrics.great_circle_km(*france, *japan))
    np.testing.assert_allclose(judged.photos["distance_km"], [0, apart, np.nan])
    assert class_metrics.accuracy_table({"country": judged}, 1, seed=7)["median_km"].tolist() == [apart / 2]
    assert class_metrics.per_class(judged)["median_km"].round(6).tolist()[0] == round(apart / 2, 6)


def test_regions_are_judged_by_their_names() -> None:
    world = regions.world("region")
    named = ["Bayern, Germany", "Hawaii, United States"]
    at = world.loc[named, ["latitude", "longitude"]].to_numpy()
    rows = rows_of(["DE", "US"]).assign(region=named, latitude=at[:, 0], longitude=at[:, 1])
    both = guesses_of([["Bayern, Germany", "Hawaii, United States"], ["Bayern, Germany", "Hawaii, United States"]])
    countries = guesses_of([["DE"], ["DE"]])
    levels = {"region": both, "country": countries, "country of the likeliest region": countries}
    judged = class_metrics.judge_all(rows, levels, {"country": {"DE"}})
    assert {level: each.name for level, each in judged.items()} == {
        "region": "region",
        "country": "country",
        "country of the likeliest region": "country",
    }
    assert judged["country"].counts["of no class of the run"] == 1
    table = class_metrics.accuracy_table(judged, 20, seed=7)
    assert table["level"].tolist() == list(levels)
    assert table["top_1"].tolist() == [0.5, 0.5, 0.5]
    assert table["top_3"].tolist()[0] == 1
    assert class_metrics.per_class(judged["region"])["title"].tolist() == named


def test_the_confusion_matrix_and_the_pairs_count_every_photo() -> None:
    rows, guesses, _ = scored(300)
    guesses.loc[:4, GUESSES] = ""
    judged = class_metrics.judge(rows, guesses, "country")
    matrix, pairs = class_metrics.confusion_matrix(judged), class_metrics.confusions(judged)
    assert matrix.index.tolist() == sorted(CODES)
    assert matrix.columns.tolist() == [*sorted(CODES), "none"]
    assert matrix.to_numpy().sum() == 300
    assert matrix["none"].sum() == 5
    for code in CODES:
        for other in CODES:
            expected = ((rows["country"] == code) & (guesses["guess_1"] == other)).sum()
            assert matrix.loc[code, other] == expected
    assert pairs["photos"].sum() == 300 - np.trace(matrix)
    assert pairs["photos"].is_monotonic_decreasing
    for pair in pairs.itertuples():
        assert pair.photos == matrix.loc[pair.truth, pair.guess]
        assert pair.share == pytest.approx(pair.photos / matrix.loc[pair.truth].sum())


def test_what_is_always_right_has_no_confusion_and_what_is_never_guessed_no_precision() -> None:
    right = class_metrics.judge(rows_of(["FR", "JP"]), guesses_of([["FR"], ["JP"]]), "country")
    assert class_metrics.confusions(right).empty
    assert class_metrics.per_class(right)["taken_for"].tolist() == ["", ""]
    wrong = class_metrics.per_class(class_metrics.judge(rows_of(["FR"]), guesses_of([["JP"]]), "country"))
    assert wrong["key"].tolist() == ["FR", "JP"]
    assert wrong["photos"].tolist() == [1, 0]
    assert wrong["precision"].isna().tolist() == [True, False]
    assert wrong["top_1"].isna().tolist() == [False, True]
    assert wrong["taken_for"].tolist() == ["JP", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows, guesses: (rows, guesses.drop(columns="guess_4")), "no column guess_4"),
        (lambda rows, guesses: (rows[:2], guesses), "1 ids are not in both the photos and the guesses: '0002'"),
        (lambda rows, guesses: (rows, guesses[1:]), "1 ids are not in both the photos and the guesses: '0000'"),
        (lambda rows, guesses: (rows, guesses.assign(id="0000")), "guesses have the id '0000' more than once"),
        (lambda rows, guesses: (rows.assign(id="0001"), guesses), "photos have the id '0001' more than once"),
        (lambda rows, guesses: (rows, guesses.assign(guess_2="Gaul")), "guess_2 has what is no country: 'Gaul'"),
        (lambda rows, guesses: (rows.assign(country="Gaul"), guesses), "names what is no country here: 'Gaul'"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, message: str) -> None:
    rows, guesses = change(rows_of(["FR", "JP", "DE"]), guesses_of([["FR"], ["JP"], ["DE"]]))
    with pytest.raises(ValueError, match=message):
        class_metrics.judge(rows, guesses, "country")


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="0 resamples"):
        figures(rows_of(["FR"]), guesses_of([["FR"]]), resamples=0)


def test_the_table_in_markdown_has_per_cent_intervals_and_blanks_for_what_is_not_there() -> None:
    rows, guesses, _ = scored(300)
    judged = {
        "country": class_metrics.judge(rows, guesses, "country"),
        "one": class_metrics.judge(rows_of(["FR"]), guesses_of([["FR"]]), "country"),
    }
    table = class_metrics.accuracy_table(judged, 20, seed=7)
    lines = class_metrics.markdown(table).splitlines()
    first = table.iloc[0]
    shown = f"{100 * first['top_1']:.1f} [{100 * first['top_1_low']:.1f}, {100 * first['top_1_high']:.1f}]"
    assert lines[2].split(" | ")[:4] == ["| country", "300", "7", shown]
    assert lines[3] == "| one | 1 | 1 | 100.0 |  |  | 100.0 | 0 |"
    assert {line.count("|") for line in lines[:4]} == {9}
