"""The game in a real browser: it tells nothing before the answer, loses nothing, and takes no forged request."""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import browsing
import finished_run
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import app_game, data_lists, games, given_photos, manifests, paths, placing, run_folders

DATASET, SIZE = "toy-earth-tiny", 96
HOSTILE = "<img src=x onerror='document.title=1'>"
SERVER = """
import sys
from helpers import app, app_game, given_photos, placing, run_folders
import gradio

placer = placing.ready(run_folders.find("first"), device="cpu", tell_scenes=False)
with gradio.Blocks(fill_width=True) as page:
    app_game.part("first", lambda name, data: placer(given_photos.of_bytes({name: data})).table.iloc[0])
app.serve(page, port=int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def world(tiny, tmp_path_factory):
    """Root with rendered photos and a run that has not learned anything."""
    root = tmp_path_factory.mktemp("game")
    for folder in ("data-lists", f"01_data/photos/{DATASET}"):
        shutil.copytree(tiny / folder, root / folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        finished_run.made("first", dataset=DATASET, image_size=SIZE)
    return root


@pytest.fixture
def root(world, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(world))
    shutil.rmtree(world / "06_demo", ignore_errors=True)
    shutil.rmtree(world / "05_evaluation", ignore_errors=True)
    return world


@pytest.fixture(scope="module")
def place(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(world))
        placer = placing.ready(run_folders.find("first"), device="cpu", tell_scenes=False)
    return lambda name, data: placer(given_photos.of_bytes({name: data})).table.iloc[0]


@pytest.fixture
def game(root, place):
    return app_game.Game("first", place)


@contextlib.contextmanager
def serving(root, port):
    """A process that serves the game."""
    environment = os.environ | {"PHOTO_GEOLOCATION_ROOT": str(root)}
    command = [sys.executable, "-c", SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        try:
            assert child.stdout.readline().startswith("open http")
            yield f"http://127.0.0.1:{port}/"
        finally:
            child.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def browser():
    with browsing.chromium() as found:
        yield found


def playable():
    rows = data_lists.read(DATASET)
    return rows[rows["split"] == "test"].reset_index(drop=True)


def enter(page, address, player):
    page.goto(address)
    page.locator(".game .start").wait_for(state="visible")
    page.locator(".game .name").fill(player)
    page.get_by_role("button", name="Play").click()
    page.locator(".geolocation-map").wait_for()


def click_map(page, across=0.5, down=0.5):
    box = page.locator(".game .map").bounding_box()
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])


def told(page):
    """All that the server answered to the page's functions, as it comes in."""
    bodies = []
    page.on(
        "response", lambda answer: bodies.append((answer.request.post_data, answer.text())) if watched(answer) else 0
    )
    return bodies


def watched(answer):
    return "component_server" in answer.url


def test_a_whole_game_by_mouse_by_keyboard_and_beyond_a_restart(root, browser):
    port, context = browsing.free_port(), browser.browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    heard = told(page)
    with serving(root, port) as address:
        enter(page, address, "Ann")
        first = page.locator(".game .photo").get_attribute("src")
        assert page.locator(".game .heading").inner_text() == "Photo 1: where was it taken?"
        assert page.locator(".game .send").is_disabled()
        secrets = playable()
        asked = games.rounds(DATASET).iloc[0]
        before = "".join(text for _, text in heard)
        for name in ("id", "path", "sha256", "latitude", "longitude"):
            assert str(secrets.loc[secrets["id"] == asked["photo"], name].iloc[0]) not in before
        page.reload()
        page.locator(".geolocation-map").wait_for()
        page.locator(".game .photo[src]").wait_for()
        assert page.locator(".game .photo").get_attribute("src") == first
        click_map(page, 0.6, 0.4)
        page.locator(".game .person").first.wait_for()
        click_map(page, 0.5, 0.4)
        page.get_by_role("button", name="This is my answer").click()
        page.locator(".game .result").wait_for(state="visible")
        lines = page.locator(".game .lines").inner_text()
        assert "Taken in" in lines
        assert "The model:" in lines
        assert "It is not calibrated" in lines
        assert page.locator(".game .map .truth").count() == 1
        assert "1 photo played." in page.locator(".game .points").inner_text()
        assert page.evaluate("document.activeElement.className") == "verdict"
    page.get_by_role("button", name="Next photo").click()
    page.get_by_text("The page gets no answer").wait_for()
    with serving(root, port):
        # From here on by keyboard alone.
        page.locator(".game .next").focus()
        page.keyboard.press("Enter")
        page.get_by_text("Photo 2:").wait_for()
        assert page.evaluate("document.activeElement.className") == "heading"
        while "map" not in page.evaluate("document.activeElement.className"):
            page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(400)
        page.keyboard.press("Enter")
        page.get_by_text("Chosen:").wait_for()
        while "send" not in page.evaluate("document.activeElement.className"):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator(".game .result").wait_for(state="visible")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_text("Photo 3:").wait_for()
        page.get_by_label("up to five countries").focus()
        page.keyboard.press("Space")
        page.get_by_label("Likeliest").fill("Slovania")
        page.keyboard.press("Enter")
        page.get_by_text("No country is called 'Slovania': did you mean Slovenia").wait_for()
        page.get_by_label("Likeliest").fill("Deutschland")
        page.get_by_label("Second").fill("USA")
        page.keyboard.press("Enter")
        page.get_by_text("You: Germany, United States").wait_for()
    table = games.rounds(DATASET)
    assert table["player"].tolist() == ["Ann"] * 3
    assert (table["answered"] != "").all()
    assert table["countries"].tolist() == ["", "", "DE US"]
    assert table["photo"].is_unique
    assert browser.asked == []
    context.close()


def test_two_players_at_once_on_small_screens_with_names_that_are_text(root, browser):
    contexts = [browser.browser.new_context(viewport={"width": 360, "height": 740}) for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    with serving(root, browsing.free_port()) as address:
        for page, player in zip(pages, (HOSTILE, "Ωμέγα"), strict=True):
            enter(page, address, player)
            page.get_by_text("Photo 1:").wait_for()
        for page in pages:
            page.locator(".game .map").scroll_into_view_if_needed()
            click_map(page)
            page.locator(".game .send:enabled").click()
        for page in pages:
            page.locator(".game .result").wait_for(state="visible")
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            page.get_by_role("button", name="Change").click()
            page.locator(".game .start").wait_for(state="visible")
            assert page.evaluate("document.documentElement.scrollWidth") == 360
        pages[0].locator(".game .name").fill("\u202e")
        pages[0].get_by_role("button", name="Play").click()
        pages[0].get_by_text("A name is one line").wait_for()
        assert pages[0].locator(".game .player").text_content() == HOSTILE
        assert pages[0].locator(".game .who img").count() == 0
        assert pages[0].title() != "1"
    assert sorted(games.rounds(DATASET)["player"]) == sorted([HOSTILE, "Ωμέγα"])
    assert browser.asked == []
    for context in contexts:
        context.close()


def test_forged_requests_are_refused_by_the_server_itself(root):
    with serving(root, browsing.free_port()) as address:
        host = address.removeprefix("http://").strip("/")

        def sent(function, data, **headers):
            link = http.client.HTTPConnection(host, timeout=60)
            link.request("GET", "/config")
            config = json.loads(link.getresponse().read())
            number = next(each["id"] for each in config["components"] if each["type"] == "html")
            body = {"data": data, "fn_name": function, "component_id": number, "session_hash": "forged"}
            headers = {"Content-Type": "application/json", **headers}
            link.request("POST", "/gradio_api/component_server/", json.dumps(body), headers)
            answer = link.getresponse()
            return answer.status, answer.read().decode()

        status, text = sent("ask", {"player": "Ann", "dataset": DATASET})
        assert status == 200
        number = json.loads(text)["round"]
        other = {"player": "Bob", "round": number, "place": [0, 0]}
        assert "has no round" in json.loads(sent("answer", other)[1])["error"]
        assert sent("answer", {**other, "player": "Ann"}, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        assert sent("serve", {})[0] == 404
        assert sent("ask", [1, 2])[1].startswith('{"error":"This is no request')
        assert games.find(number, "Ann").answered == ""


PLACE = {"player": "Ann", "round": 1, "place": [0, 0]}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({**PLACE, "round": True}, "no round"),
        ({**PLACE, "round": 1.0}, "no round"),
        ({**PLACE, "round": 2**70}, "no round"),
        ({**PLACE, "round": -1}, "no round"),
        ({**PLACE, "round": 7}, "has no round 7"),
        ({**PLACE, "player": "Bob"}, "has no round 1"),
        ({**PLACE, "player": ["Ann"]}, "a name is text"),
        ({**PLACE, "place": None}, "there is no answer"),
        ({**PLACE, "place": "here"}, "there is no answer"),
        ({**PLACE, "place": [0, 0, 0]}, "there is no answer"),
        ({**PLACE, "place": [91, 0]}, "latitude"),
        ({**PLACE, "place": [0, float("inf")]}, "longitude"),
        ({**PLACE, "place": [{}, 0]}, "latitude"),
        ({**PLACE, "countries": ["France"]}, "name one to 5 countries"),
        ({**PLACE, "place": None, "countries": "France"}, "name one to 5 countries"),
        ({**PLACE, "place": None, "countries": [7]}, "name one to 5 countries"),
        ({**PLACE, "place": None, "countries": ["x" * 101]}, "name one to 5 countries"),
        ({**PLACE, "place": None, "countries": ["France"] * 6}, "name one to 5 countries"),
        ({**PLACE, "place": None, "countries": []}, "name one to 5 countries"),
    ],
)
def test_an_answer_that_is_none_is_refused(game, request_, message):
    game.ask({"player": "Ann", "dataset": DATASET})
    with pytest.raises(games.Refused, match=message):
        game.answer(request_)
    assert games.find(1, "Ann").answered == ""


@pytest.mark.parametrize("dataset", ["nowhere", "../../etc/passwd", "", None, 7, "x" * 500, "a\0b"])
def test_a_dataset_that_is_none_is_refused(game, dataset):
    with pytest.raises(games.Refused, match=r"cannot be played|is missing"):
        game.ask({"player": "Ann", "dataset": dataset})
    assert games.rounds(DATASET).empty


def test_the_picture_is_of_the_models_resolution_and_of_pixels_alone(game):
    asked = game.ask({"player": "Ann", "dataset": DATASET})
    head, _, encoded = asked["picture"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert head == "data:image/jpeg;base64"
    assert min(picture.size) == SIZE
    assert picture.format == "JPEG"
    assert len(picture.getexif()) == 0
    assert all(name.startswith("jfif") for name in picture.info)
    assert set(asked) == {"player", "points", "round", "heading", "picture", "shown"}


def test_exif_does_not_reach_the_page():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "a secret description"
    Image.new("RGB", (64, 48), "red").save(file, "JPEG", exif=exif, comment=b"a secret comment")
    sent = base64.b64decode(app_game._picture(file.getvalue(), 32).partition(",")[2])
    assert b"secret" in file.getvalue()
    assert b"secret" not in sent
    assert Image.open(io.BytesIO(sent)).size == (42, 32)


def test_a_second_answer_gives_the_first_result(game):
    number = game.ask({"player": "Ann", "dataset": DATASET})["round"]
    first = game.answer({"player": "Ann", "round": number, "place": [1, 2]})
    assert game.answer({"player": "Ann", "round": number, "place": [50, 60]}) == first
    json.dumps(first, allow_nan=False)


def test_after_the_last_photo_it_is_said(game):
    while "done" not in (asked := game.ask({"player": "Ann", "dataset": DATASET})):
        game.answer({"player": "Ann", "round": asked["round"], "countries": ["France"]})
    assert asked["done"] == f"You have seen all {len(playable())} test photos of {DATASET}."


def test_only_lists_with_test_photos_are_offered(game, root):
    rows = data_lists.read(DATASET)
    train = rows[rows["split"] == "train"]
    data_lists.write(train, {"dataset": "no-tests"}, paths.data_list("no-tests"))
    (root / "data-lists" / "broken.csv").write_text("nothing\n")
    try:
        started = game.start({})
    finally:
        for name in ("no-tests", "broken"):
            paths.data_list(name).unlink()
    assert started["datasets"] == [{"name": DATASET, "photos": len(playable())}]
    assert started["chosen"] == DATASET
    assert "Namibia" in started["countries"]


def evaluated(moved=1.0, fusion="auto", **counts):
    """Predictions as the evaluation leaves them, a degree north of the truth."""
    rows = playable()
    inputs = {"data list": paths.data_list(DATASET), "run first": paths.run("first") / "model.safetensors"}
    given = {"fusion": fusion}
    output = manifests.begin(paths.results("first", DATASET), "05_evaluation/evaluate", given, inputs)
    table = rows[["id", "latitude", "longitude"]].assign(
        predicted_latitude=rows["latitude"] + moved, predicted_longitude=rows["longitude"]
    )
    table.assign(radius_50_km=100.0, radius_90_km=900.0).to_parquet(output.folder / "predictions.parquet")
    output.counts = counts
    manifests.finish(output)


def test_guesses_of_the_evaluation_are_used_while_they_are_of_these_weights(root):
    asked_for = []

    def place(name, data):
        asked_for.append(hashlib.sha256(data).hexdigest())
        numbers = {"latitude": 0.0, "longitude": 0.0, "radius_50_km": np.nan, "radius_90_km": np.nan}
        return pd.Series(numbers | {"calibrated": True, "error": ""})

    game = app_game.Game("first", place)
    evaluated()

    def played():
        number = game.ask({"player": "Ann", "dataset": DATASET})["round"]
        return " ".join(game.answer({"player": "Ann", "round": number, "place": [0, 0]})["lines"])

    assert "The model: 111 km away" in played()
    assert "within 100 km with a probability of 50 %, 900 km with 90 %." in played()
    assert asked_for == []
    evaluated(fusion="mean")  # which the page does not take
    assert "The model said" not in played()
    game.weights = [paths.run("first") / "config.json"]  # of another training
    evaluated()
    assert "The model said" not in played()
    last = games.rounds(DATASET).iloc[-1]["photo"]
    assert asked_for[-1] == playable().set_index("id").loc[last, "sha256"]


def test_a_photo_that_cannot_be_shown_is_passed_over_and_its_name_stays_untold(game, root, place, capsys):
    game.ask({"player": "Ann", "dataset": DATASET})
    photo = games.rounds(DATASET).iloc[0]["photo"]
    path = playable().set_index("id").loc[photo, "path"]
    file = paths.photos(DATASET) / path
    kept = file.read_bytes()
    try:
        file.write_bytes(kept[:-9] + b"otherwise")
        told = game.ask({"player": "Ann", "dataset": DATASET})
        assert path not in json.dumps(told)
        assert path in capsys.readouterr().err
        (asked,) = games.rounds(DATASET)["photo"]
        assert asked != photo
        file.unlink()  # a rendered one is rendered again
        again = app_game.Game("first", place)
        games.drop(int(games.rounds(DATASET).iloc[0]["number"]))
        again.ask({"player": "Ann", "dataset": DATASET})
        assert games.rounds(DATASET)["photo"].tolist() == [photo]
        assert file.read_bytes() == kept
    finally:
        file.write_bytes(kept)


def test_a_photo_of_a_list_of_ones_own_is_not_fetched(game, root, monkeypatch, capsys):
    monkeypatch.setattr(data_lists, "has_rendered_photos", lambda dataset: False)
    for path in playable()["path"]:
        (paths.photos(DATASET) / path).rename(paths.photos(DATASET) / f"{path}.away")
    try:
        told = game.ask({"player": "Ann", "dataset": DATASET})
    finally:
        for path in playable()["path"]:
            (paths.photos(DATASET) / f"{path}.away").rename(paths.photos(DATASET) / path)
    assert f"{len(playable())} cannot be shown" in told["done"]
    assert "fetch it with 01_data/download.ipynb" in capsys.readouterr().err
    assert games.rounds(DATASET).empty


def test_a_model_that_cannot_be_asked_is_the_hosts_to_mend(root):
    def fails(name, data):
        raise ValueError("the weights are gone")

    told = app_game.Game("first", fails).ask({"player": "Ann", "dataset": DATASET})
    assert "cannot be shown" in told["done"]
