"""Simulated players of known skill get the figures that they must, intervals cover, and what does not count is told."""

import json

import finished_run
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from helpers import data_lists, games, human_baseline, manifests, metrics, notebooks, paths, places, plots

DATASET, RUN = "holidays", "holidays-multi"
DEGREE_KM = np.pi * metrics.EARTH_RADIUS_KM / 180
HOSTILE = "<b>|*x*"


def a_list(photos=12, changed=False):
    """A list of photos along the equator, the last one at sea, by three authors and two unknown."""
    rows = pd.DataFrame({"id": [f"p{number:02d}" for number in range(photos)]})
    rows["path"] = rows["id"] + ".jpg"
    rows["latitude"], rows["longitude"] = 0.5 + 0.001 * changed, np.linspace(12, 38, photos)
    rows.loc[photos - 1, "longitude"] = -30.0
    rows["author"] = ["", "", *(f"author {number % 3}" for number in range(photos - 2))]
    rows["split"], rows["sha256"] = "test", [f"{number:064x}" for number in range(photos)]
    data_lists.write(rows, {"dataset": DATASET}, paths.data_list(DATASET))
    return data_lists.read(DATASET)


def evaluated(rows, degrees=2.0, run=RUN, countries=True):
    """Results of a run that is so many degrees off everywhere, and names the right country second."""
    finished_run.made(run)
    inputs = {"data list": paths.data_list(DATASET), f"run {run}": paths.run(run) / "model.safetensors"}
    output = manifests.begin(paths.results(run, DATASET), "05_evaluation/evaluate", {"run": run}, inputs)
    table = rows[["id", "author", "latitude", "longitude"]].copy()
    table["predicted_latitude"], table["predicted_longitude"] = rows["latitude"] + degrees, rows["longitude"]
    table["distance_km"] = table["distance_km_f*"] = degrees * DEGREE_KM
    table.to_parquet(output.folder / "predictions.parquet", index=False)
    if countries:
        named = pd.DataFrame({"id": rows["id"], "guess_1": "FR"})
        named["guess_2"] = places.country_codes(rows["latitude"], rows["longitude"])
        named[["guess_3", "guess_4", "guess_5"]] = ""
        named.to_parquet(output.folder / "countries.parquet", index=False)
    manifests.finish(output)


def plays(player, rows, degrees=None, most=99):
    """A simulated player, who is so many degrees off everywhere, or names the true country first."""
    truth = rows.set_index("id")
    for _ in range(most):
        asked = games.ask(player, rows, "first", 112)
        if asked is None:
            return
        at = truth.loc[asked.photo]
        code = places.country_codes([at["latitude"]], [at["longitude"]])[0]
        given = (
            {"countries": [code or "FR"]} if degrees is None else {"place": (at["latitude"] - degrees, at["longitude"])}
        )
        games.answer(asked.number, player, **given)


@pytest.fixture
def rows(root):
    made = a_list()
    evaluated(made)
    return made


def one(table, **wanted):
    """The row of a table with these values."""
    found = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_players_of_known_skill_get_known_figures(rows):
    plays(HOSTILE, rows, degrees=1.0)
    plays("bob", rows, degrees=10.0, most=4)
    plays("cyd", rows)
    baseline = human_baseline.gathered(DATASET)
    assert set(baseline.rounds["player"]) == {"player 1", "player 2", "player 3"}
    table = human_baseline.accuracy(baseline, 50, seed=7)
    ann = {"rounds_of": "player 1", "who": human_baseline.PEOPLE}
    assert one(table, **ann, figure="within_200km")[["rounds", "value", "low", "high"]].tolist() == [12, 1, 1, 1]
    assert one(table, **ann, figure="within_25km")["value"] == 0
    assert one(table, **ann, figure="median_km")["value"] == pytest.approx(DEGREE_KM)
    model = {"rounds_of": "player 1", "who": RUN}
    assert one(table, **model, figure="median_km")["value"] == pytest.approx(2 * DEGREE_KM)
    assert one(table, **model, figure="top_1")[["rounds", "value"]].tolist() == [11, 0]
    assert one(table, **model, figure="top_3")["value"] == 1
    everyone = {"rounds_of": human_baseline.ALL_PLAYERS, "who": human_baseline.PEOPLE}
    assert one(table, **everyone, figure="within_200km")[["rounds", "value"]].tolist() == [16, 0.75]
    cyd = {"rounds_of": "player 3", "who": human_baseline.PEOPLE}
    assert one(table, **cyd, figure="top_1")[["rounds", "value"]].tolist() == [11, 1]
    assert not ((table["rounds_of"] == "player 3") & (table["figure"] == "median_km")).any()


def test_people_are_compared_with_models_on_the_same_rounds(rows):
    evaluated(rows, 0.5, "better", countries=False)
    plays("ann", rows, degrees=1.0, most=6)
    plays("bob", rows, degrees=10.0, most=2)
    baseline = human_baseline.gathered(DATASET, f"{RUN}, better")
    differences = human_baseline.differences(baseline, 50, seed=7)
    ann = one(differences, rounds_of="player 1", model=RUN, figure="median_km")
    np.testing.assert_allclose(ann[["difference", "low", "high"]].astype(float), -DEGREE_KM)
    assert ann["excludes_0"]
    better = one(differences, rounds_of="player 1", model="better", figure="median_km")
    assert better["difference"] == pytest.approx(DEGREE_KM / 2)
    # Without a list of countries, a run names the one that its guess lies in, and no others.
    assert not ((differences["model"] == "better") & (differences["figure"] == "top_3")).any()
    assert ((differences["model"] == "better") & (differences["figure"] == "top_1")).any()
    nearer = human_baseline.nearer(baseline, 50, seed=7)
    assert one(nearer, rounds_of="all players", model=RUN)[["rounds", "nearer"]].tolist() == [8, 0.75]
    assert one(nearer, rounds_of="all players", model="better")["nearer"] == 0


def test_tables_tell_how_many_rounds_each_figure_is_of(rows):
    plays("ann", rows, degrees=1.0, most=6)
    plays("ann", rows)
    baseline = human_baseline.gathered(DATASET)
    table = human_baseline.markdown(human_baseline.accuracy(baseline, 20, seed=7), 1).splitlines()
    cells = dict(zip(table[0].split(" | "), table[2].split(" | "), strict=True))
    assert (cells["places"], cells["on land"], cells["200 km"]) == ("6", "11", "100.0 [100.0, 100.0]")
    compared = human_baseline.differences_markdown(
        human_baseline.differences(baseline, 20, seed=7), human_baseline.nearer(baseline, 20, seed=7)
    ).splitlines()
    cells = dict(zip(compared[0].split(" | "), compared[2].split(" | "), strict=True))
    assert (cells["nearer"], cells["median km"]) == ("100.0 [100.0, 100.0]", "**-111** [-111, -111]")


def test_equally_near_counts_half(rows):
    plays("ann", rows, degrees=2.0)
    baseline = human_baseline.gathered(DATASET)
    baseline.models[RUN]["distance_km"] = baseline.rounds["distance_km"]
    assert human_baseline.nearer(baseline, 20, seed=7)["nearer"].tolist() == [0.5]


def test_names_are_hidden_unless_asked_for_and_are_text(rows):
    plays(HOSTILE, rows, degrees=1.0, most=3)
    plays("bob", rows, degrees=1.0, most=3)
    hidden, shown = human_baseline.gathered(DATASET), human_baseline.gathered(DATASET, show_names=True)
    assert hidden.rounds["player"].unique().tolist() == ["player 1", "player 2"]
    assert shown.rounds["player"].unique().tolist() == [HOSTILE, "bob"]
    written = human_baseline.markdown(human_baseline.accuracy(shown, 20, seed=7), 2)
    assert "\\<b\\>\\|\\*x\\*" in written
    assert "<b>" not in written
    assert "resample authors of photos" in written


def test_rounds_that_do_not_count_are_counted_by_reason(rows):
    plays("ann", rows, degrees=1.0, most=3)
    games.ask("ann", rows, "first", 112)
    changed = a_list(changed=True)
    evaluated(changed[changed["id"] > "p05"])
    plays("bob", changed, degrees=1.0)
    baseline = human_baseline.gathered(DATASET)
    assert baseline.left_out == {
        "not answered": 1,
        "on another version of the list": 3,
        "photo not placed by every run": 6,
    }
    assert len(baseline.rounds) == 6


def test_without_games_it_says_what_to_do(rows):
    with pytest.raises(notebooks.MissingInput, match=r"nobody has played on holidays yet.*`make app`"):
        human_baseline.gathered(DATASET)
    games.ask("ann", rows, "first", 112)
    with pytest.raises(notebooks.MissingInput, match=r"none of the 1 rounds on holidays counts \(1 not answered"):
        human_baseline.gathered(DATASET)


def test_without_an_evaluation_it_names_the_command(root):
    plays("ann", a_list(), degrees=1.0, most=1)
    with pytest.raises(notebooks.MissingInput, match=r"papermill 05_evaluation/evaluate\.ipynb"):
        human_baseline.gathered(DATASET)


def simulated(players, authors, rng, own=0.2, of_photos=0.2):
    """Rounds of players on the photos of authors, of a world where people are nearer with a probability of 0.5."""
    skill, ease = rng.normal(0, own, players), rng.normal(0, of_photos, authors)
    player, author = np.meshgrid(np.arange(players), np.arange(authors), indexing="ij")
    chance = (0.5 + skill[player] + ease[author]).clip(0, 1).ravel()
    near = rng.random(chance.size) < chance
    rounds = pd.DataFrame({"player": player.ravel().astype(str), "author": author.ravel().astype(str)})
    rounds["photo"], rounds["distance_km"] = rounds["author"], np.where(near, 10.0, 1000.0)
    rounds[list(human_baseline.COUNTRIES)] = np.nan
    model = rounds[["distance_km", *human_baseline.COUNTRIES]].assign(distance_km=100.0)
    return human_baseline.Baseline(rounds, {"model": model}, {}, {})


def covered(players, worlds=120):
    """Share of worlds whose interval of how often people are nearer holds the true 0.5."""
    rng = np.random.default_rng(7)
    found = [human_baseline.nearer(simulated(players, 30, rng), 200, seed=7).iloc[0] for _ in range(worlds)]
    return np.mean([row["low"] <= 0.5 <= row["high"] for row in found])


def test_intervals_over_players_and_authors_hold_the_truth():
    assert covered(players=12) >= 0.9


def test_intervals_over_authors_alone_would_not_tell_of_other_players(monkeypatch):
    monkeypatch.setattr(human_baseline, "FEWEST_PLAYERS", 99)
    assert covered(players=12) < 0.85


def test_an_author_with_all_photos_gives_no_interval():
    baseline = simulated(6, 1, np.random.default_rng(3))
    table = human_baseline.accuracy(baseline, 20, seed=7)
    assert table[["low", "high"]].isna().all().all()
    assert "[" not in human_baseline.markdown(table, 6).split("\n\n")[0]
    human_baseline.differences_markdown(
        human_baseline.differences(baseline, 20, seed=7), human_baseline.nearer(baseline, 20, seed=7)
    )
    plots.human_baseline_plot(table[table["rounds_of"] == "all players"])


def test_the_same_seed_gives_the_same_intervals_and_whole_rounds():
    baseline = simulated(6, 9, np.random.default_rng(3))
    one, two = (human_baseline.accuracy(baseline, 60, seed=7) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert not human_baseline.accuracy(baseline, 60, seed=8)["low"].equals(one["low"])
    with pytest.raises(ValueError, match="at least 1"):
        human_baseline.accuracy(baseline, 0, seed=7)


@pytest.mark.parametrize("width", [plots.SINGLE_COLUMN, plots.DOUBLE_COLUMN])
def test_the_figure_names_all_and_keeps_within_its_page(width):
    baseline = simulated(6, 30, np.random.default_rng(3))
    rounds, models = baseline.rounds, baseline.models
    for name in human_baseline.COUNTRIES:
        rounds[name], models["model"][name] = 0.3, 0.4
    models["another model with a name that is so long that no line of a single column could hold it"] = models["model"]
    table = human_baseline.accuracy(baseline, 60, seed=7)
    figure = plots.human_baseline_plot(table[table["rounds_of"] == "all players"], "Simulated players", width=width)
    figure.canvas.draw()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.02
    assert box.x1 <= width + 0.02
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Within each distance (% of 180 rounds)", "Right country (% of 180 rounds)"]
    assert len(figure.legends[0].get_texts()) == 3
    plt.close("all")


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no share to draw"):
        plots.human_baseline_plot(pd.DataFrame(columns=["who", "figure", "rounds", "value", "low", "high"]))


@pytest.mark.parametrize("degrees", [1.0, None])
def test_the_notebook_writes_what_it_promises(rows, degrees):
    plays("ann", rows, degrees=degrees, most=5)
    folder = notebooks.run("06_demo/human_baseline", {"dataset": DATASET, "resamples": 20})
    files = {"accuracy.csv", "accuracy.md", "accuracy.png", "paired.csv", "paired.md", "nearer.csv", "rounds.csv"}
    assert files | {"map.png", "manifest.json", "human_baseline.ipynb"} <= {file.name for file in folder.iterdir()}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["rounds"] == 5
    assert "ann" not in "".join(file.read_text() for file in folder.glob("*.csv"))
    assert "data list" in manifest["inputs"]
