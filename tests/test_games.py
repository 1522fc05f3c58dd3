"""Rounds are asked in an order of their own, stored once and never lost, whoever plays, and however it ends."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import games, metrics, paths


def a_list(photos=12, dataset="holidays", fingerprint="f1", **attrs):
    """A list of photos on a line from Gabon to Kenya, the last two at sea; every third is no test photo."""
    rows = pd.DataFrame({"id": [f"p{number:02d}" for number in range(photos)]})
    rows["latitude"], rows["longitude"] = 0.5, np.linspace(10, 39, photos)
    rows.loc[photos - 2 :, "longitude"] = [60.0, -30.0]
    rows["author"] = [f"author {number % 4}" for number in range(photos)]
    rows["split"] = np.where(np.arange(photos) % 3 == 0, "train", "test")
    rows.attrs = {"dataset": dataset, "fingerprint": fingerprint, **attrs}
    return rows


PHOTOS = a_list()
TESTED = set(PHOTOS["id"][PHOTOS["split"] == "test"])
HOSTILE = ["<script>alert(1)</script>", "'; DROP TABLE rounds; --", "Ωμέγα 🙂", "क\u200dष", "]]>&amp;\"'"]


def played(player, photos=PHOTOS, run="first", most=99):
    """Ids of the photos that a simulated player is shown until there are no more, or no more wanted."""
    shown = []
    while len(shown) < most and (asked := games.ask(player, photos, run, 112)):
        shown.append(asked.photo)
        games.answer(asked.number, player, place=(0.0, 20.0))
    return shown


def test_a_player_sees_each_test_photo_once_in_an_order_of_their_own(root):
    first, second = played("ann"), played("bob")
    assert sorted(first) == sorted(second) == sorted(TESTED)
    assert first != second
    assert games.ask("ann", PHOTOS, "first", 112) is None
    paths.games().unlink()
    assert played("ann") == first


def test_a_reload_shows_the_same_photo(root):
    asked = games.ask("ann", PHOTOS, "first", 112)
    assert [games.ask("ann", PHOTOS, "first", size) for size in (112, 224)] == [asked, asked]
    assert asked.answered == ""
    assert asked.image_size == 112


def test_lists_that_share_photos_never_show_one_twice(root):
    others = a_list(dataset="holidays-clean", fingerprint="f2", **{"photos of": "holidays"})
    first = played("ann", most=3)
    assert set(played("ann", others)) == TESTED - set(first)
    assert set(played("ann", a_list(dataset="other", fingerprint="f3"))) == TESTED


def test_another_list_or_another_run_asks_anew_and_forgets_nothing(root):
    asked = games.ask("ann", PHOTOS, "first", 112)
    changed = games.ask("ann", a_list(fingerprint="f2"), "first", 112)
    other_run = games.ask("ann", PHOTOS, "second", 112)
    assert len({asked.photo, changed.photo, other_run.photo}) == 3
    assert games.ask("ann", PHOTOS, "first", 112) == asked


def test_a_list_without_test_photos_is_refused(root):
    with pytest.raises(ValueError, match="no test photos to play with"):
        games.ask("ann", PHOTOS[PHOTOS["split"] == "train"], "first", 112)


def test_the_first_answer_counts(root):
    asked = games.ask("ann", PHOTOS, "first", 112)
    first = games.answer(asked.number, "ann", place=(1.5, -2.5), model=(3.0, 4.0))
    assert (first.latitude, first.longitude, first.model_latitude, first.model_longitude) == (1.5, -2.5, 3.0, 4.0)
    assert first.answered >= first.asked
    assert games.answer(asked.number, "ann", countries=["FR"]) == first
    assert games.find(asked.number, "ann") == first
    assert games.ask("ann", PHOTOS, "first", 112).number != asked.number


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a place or countries"),
        ({"place": (0, 0), "countries": ["FR"]}, "a place or countries"),
        ({"place": (90.1, 0)}, "latitude"),
        ({"place": (0, -180.5)}, "longitude"),
        ({"place": (float("nan"), 0)}, "latitude"),
        ({"place": ("1", 0)}, "latitude"),
        ({"place": (True, 0)}, "latitude"),
        ({"countries": ["FR", "FR"]}, "different"),
        ({"countries": ["Atlantis"]}, "'Atlantis' is the code of none"),
        ({"countries": ["FR", "DE", "IT", "ES", "PT", "GB"]}, "there are 6"),
    ],
)
def test_what_is_no_answer_is_refused_and_the_round_stays_open(root, given, message):
    asked = games.ask("ann", PHOTOS, "first", 112)
    with pytest.raises(games.Refused, match=message):
        games.answer(asked.number, "ann", **given)
    assert games.find(asked.number, "ann") == asked


def test_a_round_is_its_players_alone(root):
    asked = games.ask("ann", PHOTOS, "first", 112)
    for number, player in ((asked.number, "bob"), (asked.number + 1, "ann"), (-1, "ann")):
        with pytest.raises(games.Refused, match="has no round"):
            games.answer(number, player, place=(0, 0))
        with pytest.raises(games.Refused, match="has no round"):
            games.find(number, player)
    assert games.find(asked.number, "ann").answered == ""


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 40, "é" * 40])
def test_any_name_that_can_be_read_is_taken_as_it_is(root, name):
    player = games.checked_player(f" {name}\n")
    asked = games.ask(player, PHOTOS, "first", 112)
    games.answer(asked.number, player, countries=["NA"])
    assert games.rounds("holidays")["player"].tolist() == [name]


@pytest.mark.parametrize(
    "name", ["", "  ", "All players", "x" * 41, "a\nb", "a\0b", "\u202eabc", "a\u2028b", "\u200d", "\ud800", 7, None]
)
def test_names_that_cannot_be_read_are_refused(name):
    with pytest.raises(games.Refused, match="name"):
        games.checked_player(name)


@given(st.text(max_size=60))
def test_a_name_that_is_taken_stays_itself(name):
    try:
        taken = games.checked_player(name)
    except games.Refused:
        return
    assert games.checked_player(taken) == taken
    assert 1 <= len(taken) <= games.LONGEST_NAME
    assert taken.isprintable() or "\u200c" in taken or "\u200d" in taken or not taken.isascii()


def test_countries_are_understood_in_any_usual_spelling():
    names = ["côte d'ivoire", "Deutschland", "USA", "United Kindom", "Namibia"]
    assert games.understood(names) == ["CI", "DE", "US", "GB", "NA"]
    for names, message in [
        (["Slovania"], "did you mean Slovenia, Slovakia"),
        (["France", "Frankreich"], "France is named twice"),
        (["", " "], "one to 5 countries"),
        (["a", "b", "c", "d", "e", "f"], "one to 5 countries"),
        (["<script>"], "no country is called '<script>'"),
        (["x" * 10_000], "no country is called"),
    ]:
        with pytest.raises(games.Refused, match=message):
            games.understood(names)


def test_answers_are_scored_against_the_truth(root):
    truth = PHOTOS.set_index("id")
    answers = [{"place": (0.5, 10.0), "model": (0.5, 11.0)}, {"countries": ["FR", "UG", "DE"]}]
    answers += [{"countries": ["FR", "DE", "IT", "KE"]}, {"place": (0.0, -30.0)}]
    for each in answers:
        asked = games.ask("ann", PHOTOS, "first", 112)
        games.answer(asked.number, "ann", **each)
    games.ask("ann", PHOTOS, "first", 112)
    table = games.scored(games.rounds("holidays"), PHOTOS)
    assert len(games.rounds("holidays")) == 5
    assert len(table) == 4
    at = truth.loc[table["photo"]].reset_index()
    placed = table["latitude"].notna()
    expected = metrics.great_circle_km(
        at["latitude"], at["longitude"], table["latitude"].fillna(0), table["longitude"].fillna(0)
    )
    np.testing.assert_allclose(table["distance_km"], np.where(placed, expected, np.nan))
    assert table["author"].tolist() == at["author"].tolist()
    assert np.isfinite(table["model_distance_km"]).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("photo", "given", "right"),
    [
        ("p01", {"countries": ["FR", "GA"]}, [0, 1, 1]),
        ("p01", {"countries": ["FR", "IT", "ES", "PT", "GA"]}, [0, 0, 1]),
        ("p01", {"countries": ["FR"]}, [0, 0, 0]),
        ("p01", {"place": (-0.8, 11.5)}, [1, 1, 1]),
        ("p01", {"place": (48.8, 2.3)}, [0, 0, 0]),
        ("p01", {"place": (0.0, -30.0)}, [0, 0, 0]),
        ("p10", {"countries": ["KE"]}, [np.nan] * 3),
    ],
)
def test_a_country_is_right_where_it_stands(root, photo, given, right):
    one = PHOTOS[PHOTOS["id"] == photo].assign(split="test")
    asked = games.ask("ann", one, "first", 112)
    games.answer(asked.number, "ann", **given)
    table = games.scored(games.rounds("holidays"), one)
    assert table["true_country"].tolist() == [{"p01": "GA", "p10": ""}[photo]]
    np.testing.assert_array_equal(table[["top_1", "top_3", "top_5"]].to_numpy()[0], right)


def test_no_games_are_an_empty_table_and_make_no_file(root):
    assert games.scored(games.rounds("holidays"), PHOTOS).empty
    assert not paths.games().exists()


def _plays(root, player, photos, ready):
    os.environ["PHOTO_GEOLOCATION_ROOT"] = str(root)
    ready.wait()
    while asked := games.ask(player, photos, "first", 112):
        games.answer(asked.number, player, place=(0.0, 0.0))


def test_processes_that_start_at_once_and_play_one_name_share_its_rounds(root):
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(4)
    players = ["ann", "ann", "bob", "bob"]
    children = [context.Process(target=_plays, args=(root, player, PHOTOS, ready)) for player in players]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    table = games.rounds("holidays")
    assert (table["answered"] != "").all()
    for player in ("ann", "bob"):
        assert sorted(table["photo"][table["player"] == player]) == sorted(TESTED)


def test_threads_that_ask_and_answer_at_once_agree(root):
    asked, answered = [], []

    def plays(longitude):
        asked.append(games.ask("ann", PHOTOS, "first", 112))
        answered.append(games.answer(asked[0].number, "ann", place=(0.0, longitude)))

    threads = [threading.Thread(target=plays, args=(float(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answered)) == 1
    assert len(answered) == 8


KILLED = """
import pandas as pd, sys
from helpers import games
photos = pd.read_json(sys.stdin)
photos.attrs = {"dataset": "holidays", "fingerprint": "f1"}
print("ready", flush=True)
for number in range(10**6):
    asked = games.ask(f"player {number}", photos, "first", 112)
    games.answer(asked.number, asked.player, place=(0.0, 0.0))
    print(asked.number, flush=True)
"""


def test_a_killed_process_leaves_whole_rounds_alone(root):
    child = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdin.write(PHOTOS.to_json())
    child.stdin.close()
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGKILL)
    told = [int(line) for line in child.stdout.read().splitlines()]
    child.wait()
    table = games.rounds("holidays")
    assert set(told) <= set(table["number"][table["answered"] != ""])
    assert table["number"].tolist() == list(range(1, len(table) + 1))
    assert (table["latitude"].notna() == (table["answered"] != "")).all()
    assert games.ask("ann", PHOTOS, "first", 112).number == len(table) + 1
    with sqlite3.connect(paths.games()) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_busy_is_waited_for(root):
    games.ask("ann", PHOTOS, "first", 112)
    database = sqlite3.connect(paths.games(), isolation_level=None, check_same_thread=False)
    database.execute("BEGIN IMMEDIATE")
    threading.Timer(0.4, lambda: database.execute("COMMIT")).start()
    assert games.ask("bob", PHOTOS, "first", 112).player == "bob"
    database.close()


def test_a_file_of_something_else_is_refused_and_kept(root):
    paths.games().parent.mkdir()
    paths.games().write_bytes(b"no database at all, " * 100)
    with pytest.raises(ValueError, match="holds no games, it is no SQLite file: move it away"):
        games.ask("ann", PHOTOS, "first", 112)
    assert paths.games().read_bytes().startswith(b"no database")
    paths.games().unlink()
    with sqlite3.connect(paths.games()) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(ValueError, match="a database of something else: move it away"):
        games.rounds("holidays")


def test_games_of_a_later_form_are_refused(root):
    games.ask("ann", PHOTOS, "first", 112)
    with sqlite3.connect(paths.games()) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(ValueError, match="games in form 2, this code knows form 1"):
        games.rounds("holidays")
