"""The page as people use it: a real process, a real browser, real files, good and bad."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import browsing
import finished_run
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import (
    app,
    app_photos,
    demo,
    given_photos,
    metrics,
    paths,
    placing,
    prediction_files,
    run_folders,
    toy_earth,
)

HTML_NAME = '<img src=x onerror="document.title=1">.jpg'
SECRET = "SECRET-DESCRIPTION"
LATITUDE, LONGITUDE = 48.8584, 2.2945


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A root with runs that know nothing, and photos of all kinds beside it."""
    folder = tmp_path_factory.mktemp("demo")
    album = folder / "album"
    for made in (album, folder / "many", folder / "home", folder / "temporary"):
        made.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(folder / "lab"))
        finished_run.made("older", partition="coordinates", objective="degrees_mse")
        finished_run.made("first", image_size=64)
        rng = np.random.default_rng(3)
        for number in range(50):
            picture(rng).save(folder / "many" / f"{number:02d}.jpg", quality=90)
        picture(rng).save(album / "plain.jpg", quality=95)
        picture(rng).save(album / HTML_NAME, quality=95)
        picture(rng).save(album / "with place.jpg", exif=position(), quality=95)
        noise = rng.integers(0, 256, (2900, 4000, 3), dtype=np.uint8)
        Image.fromarray(noise).save(album / "30 MB.jpg", quality=99, subsampling=0)
        (album / "no photo.jpg").write_bytes(b"<html>" * 30)
        Image.new("1", (20_000, 10_000)).save(album / "huge.png")
        (folder / "secret.txt").write_text("what nobody may read")
        yield folder


def picture(rng):
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def position():
    exif = Image.Exif()
    exif[0x010E] = SECRET
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 30.24), 3: "E", 4: (2.0, 17.0, 40.2)}
    return exif


@pytest.fixture
def lab(world, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(world / "lab"))
    return world


@contextlib.contextmanager
def serving(world, *arguments, root=None):
    """Address of a real process that serves the page, and what it asked other machines for."""
    with browsing.outside() as (proxy, asked):
        own = {
            "PHOTO_GEOLOCATION_ROOT": str(root or world / "lab"),
            "HOME": str(world / "home"),
            "TMPDIR": str(world / "temporary"),
            "NO_PROXY": "127.0.0.1,localhost",
            **{name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")},
        }
        call = [sys.executable, "-m", "helpers.demo", "--port", str(browsing.free_port()), *arguments]
        with subprocess.Popen(
            call,
            cwd=paths.SOURCE,
            env={**os.environ, **own},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                    break
            else:
                raise AssertionError(said)
            threading.Thread(target=process.stdout.read, daemon=True).start()  # or a full pipe would stop it
            try:
                yield found.group(), asked, process
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(30)


@pytest.fixture(scope="module")
def server(world):
    with serving(world) as (address, asked, _):
        yield address
        assert asked == [], "the app has asked another machine"


@pytest.fixture(scope="module")
def chromium():
    with browsing.chromium() as opened:
        yield opened
        assert opened.asked == [], "a page has asked another machine"


@pytest.fixture
def page(chromium, server):
    """The page, open; whatever it asks another machine for, and whatever goes wrong in it, fails the test."""
    with opened(chromium, server) as found:
        yield found


@contextlib.contextmanager
def opened(chromium, server, **look):
    context = chromium.browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True, **look)
    found = context.new_page()
    elsewhere, wrong = [], []
    found.on("request", lambda request: elsewhere.append(request.url) if is_elsewhere(request.url, server) else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.goto(server)
    found.wait_for_selector(".photos[data-ready]", timeout=60_000)
    yield found
    assert (elsewhere, wrong) == ([], [])
    context.close()


def is_elsewhere(url, server):
    return not url.startswith((server, "data:", "blob:"))


def place(page, *files):
    """Give the page files, and wait until all are placed or refused."""
    page.set_input_files("#photos-files", [str(file) for file in files])
    wait(page)


def wait(page):
    page.wait_for_function(
        "/placed\\b(?!.*being)/.test(document.querySelector('.photos .status').textContent)"
        " && document.querySelector('.photos progress').hidden",
        timeout=120_000,
    )


def expected(lab, file, **asked):
    """What the command would say of a file."""
    placer = placing.ready(run_folders.find("first"))
    return placer(given_photos.of_bytes({file.name: file.read_bytes()}), **asked).table


def test_a_photo_is_placed_as_by_the_command_and_can_be_taken_away_as_files(page, lab):
    file = lab / "album" / "plain.jpg"
    place(page, file)
    row = expected(lab, file).iloc[0]
    assert page.inner_text(".place").startswith(f"{row['region']}, {row['country']}")
    assert "with 50 % probability" in page.inner_text(".sure")
    assert "Not calibrated" in page.inner_text(".remark")
    assert page.locator(".top li").count() == 5
    assert page.locator(".map .place").count() == 5
    assert page.locator(".map path").count() > 5  # areas and cells
    with page.expect_download() as csv:
        page.click(".csv")
    with page.expect_download() as geojson:
        page.click(".geojson")
    ours = prediction_files.as_csv(expected(lab, file))
    pd.testing.assert_frame_equal(pd.read_csv(csv.value.path()), pd.read_csv(io.StringIO(ours)), rtol=1e-3)
    (feature,) = json.loads(geojson.value.path().read_text())["features"]
    assert feature["geometry"]["coordinates"] == pytest.approx([row["longitude"], row["latitude"]], abs=1e-4)


def test_files_of_all_kinds_get_an_answer_each(page, lab):
    names = ["plain.jpg", HTML_NAME, "30 MB.jpg", "no photo.jpg", "huge.png"]
    files = [lab / "album" / name for name in names]
    assert files[2].stat().st_size > 30e6
    title = page.title()
    place(page, *files)
    assert page.inner_text(".status").startswith("3 photos placed, 2 not")
    buttons = page.locator(".strip button")
    labels = [buttons.nth(number).get_attribute("aria-label") for number in range(5)]
    assert labels[1].startswith(HTML_NAME)
    assert "is no JPEG" in labels[3]
    assert "100 million pixels" in labels[4]
    assert page.title() == title  # no name has become a part of the page
    assert page.locator("img[src=x]").count() == 0
    buttons.nth(4).click()
    assert "100 million pixels" in page.inner_text(".hint")
    with page.expect_download() as download:
        page.click(".csv")
    told = pd.read_csv(download.value.path(), keep_default_na=False)
    assert told["id"].tolist() == names
    assert told["error"].ne("").tolist() == [False, False, False, True, True]


def test_a_photo_can_be_dropped_anywhere_on_the_page_and_zoomed_to(page, lab):
    data = base64.b64encode((lab / "album" / "plain.jpg").read_bytes()).decode()
    page.evaluate(
        """(data) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
          const look = { bubbles: true, cancelable: true, dataTransfer };
          document.querySelector("h1").dispatchEvent(new DragEvent("drop", look));
        }""",
        data,
    )
    wait(page)
    assert page.inner_text(".status") == "1 photo placed."
    stroked = 'document.querySelectorAll(\'.map path[fill="#D55E00"][stroke="#D55E00"]\').length'
    assert page.evaluate(stroked) == 0
    for _ in range(6):
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_timeout(350)
    assert page.evaluate(stroked) > 0  # near by, cells have outlines
    assert page.locator(".map .place.guess").is_visible()


def test_a_file_that_is_too_big_is_refused_before_it_is_sent(page, world):
    big = world / "big.jpg"
    with big.open("wb") as file:
        file.truncate(46 * 2**20)
    page.set_input_files("#photos-files", str(big))
    assert "46 MB, and 45 are the most" in page.locator(".strip button").get_attribute("aria-label")
    big.unlink()


def test_fifty_photos_at_once_are_placed_and_nothing_jumps(page, lab):
    page.evaluate(
        "window.shifts = []; new PerformanceObserver((list) => { for (const entry of list.getEntries())"
        " if (!entry.hadRecentInput) shifts.push(entry.value); }).observe({type: 'layout-shift', buffered: true})"
    )
    place(page, *sorted((lab / "many").iterdir()))
    assert page.inner_text(".status") == "50 photos placed."
    assert page.locator(".strip img").count() == 50
    assert sum(page.evaluate("shifts")) < 0.1  # what Core Web Vitals call good


def test_photos_that_got_no_answer_wait_and_can_be_asked_about_again(page, lab):
    page.route("**/component_server**", lambda route: route.abort())
    page.set_input_files("#photos-files", [str(file) for file in sorted((lab / "many").iterdir())[:3]])
    page.get_by_role("button", name="Try again").wait_for()
    assert "3 photos not placed yet" in page.inner_text(".status")
    page.unroute("**/component_server**")
    page.get_by_role("button", name="Try again").click()
    wait(page)
    assert page.inner_text(".status") == "3 photos placed."
    assert page.get_by_role("button", name="Try again").is_hidden()


def test_a_run_that_is_chosen_and_left_at_once_leaves_its_levels_behind(page, lab):
    place(page, lab / "album" / "plain.jpg")
    page.select_option("[name=run]", "older")
    page.select_option("[name=run]", "first")
    page.wait_for_function("!document.querySelector('[name=level]').disabled")
    wait(page)
    assert page.inner_text(".status") == "1 photo placed."
    assert page.locator("[name=level] option").all_inner_texts() == ["f*", "fine", "middle", "coarse"]


def test_a_position_in_the_file_is_for_its_error_alone(page, lab):
    place(page, lab / "album" / "plain.jpg")
    assert page.locator("button.truth").is_hidden()
    file = lab / "album" / "with place.jpg"
    page.click(".clear")
    place(page, file)
    assert page.inner_text(".far") == ""
    assert page.locator(".map .place.truth").count() == 0
    page.click("button.truth")
    row = expected(lab, file).iloc[0]
    far = metrics.great_circle_km(LATITUDE, LONGITUDE, row["latitude"], row["longitude"])
    assert f"{far:,.0f} km from where the file says" in page.inner_text(".far")
    assert page.locator(".map .place.truth").count() == 1
    shown = page.locator(".view img").get_attribute("src")
    assert page.locator(".strip img").get_attribute("src") == shown
    copy = base64.b64decode(shown.split(",")[1])
    assert SECRET.encode() not in copy
    assert not Image.open(io.BytesIO(copy)).getexif()


def test_what_speaks_for_the_place_is_shown_on_request(page, lab):
    place(page, lab / "album" / "plain.jpg")
    before = page.locator(".view img").get_attribute("src")
    page.click(".explain")
    page.wait_for_selector(".explain[aria-pressed=true]", timeout=60_000)
    assert page.locator(".view img").get_attribute("src") != before
    assert "speaks for" in page.locator(".view img").get_attribute("alt")
    page.click(".explain")
    assert page.locator(".view img").get_attribute("src") == before


@pytest.mark.parametrize("level", ["coarse", "middle", "fine"])
def test_a_level_is_that_of_the_command(page, lab, level):
    file = lab / "album" / "plain.jpg"
    place(page, file)
    page.select_option("[name=level]", level)
    wait(page)
    row = expected(lab, file, level=level).iloc[0]
    assert page.inner_text(".place").startswith(f"{row['region']}, {row['country']}")
    assert f"({abs(row['latitude']):.2f}°" in page.inner_text(".place")


def test_one_crop_and_another_run_can_be_asked(page, lab):
    file = lab / "album" / "plain.jpg"
    place(page, file)
    page.select_option("[name=crops]", "1")
    wait(page)
    assert f"({abs(expected(lab, file, crops=1).iloc[0]['latitude']):.2f}°" in page.inner_text(".place")
    page.select_option("[name=run]", "older")
    page.wait_for_function("!document.querySelector('[name=level]').disabled")
    wait(page)
    assert page.locator("[name=level] option").all_inner_texts() == ["coordinates"]
    assert "not known" in page.inner_text(".sure")  # two plain numbers say nothing of how sure they are
    page.click(".explain")
    page.wait_for_function("/explain a run with classes/.test(document.querySelector('.photos .status').textContent)")


def test_the_keyboard_is_enough(page, lab):
    place(page, *sorted((lab / "many").iterdir())[:3])
    page.locator(".strip button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("01.jpg")
    page.focus(".map")
    where = "JSON.stringify(document.querySelector('.map .place').getBoundingClientRect())"
    before = page.evaluate(where)
    page.keyboard.press("+")
    page.wait_for_function(f"(before) => {where} !== before", arg=before)
    reached = set()
    page.focus("#photos-files")
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.name || String(document.activeElement.className)"))
    assert {"run", "level", "crops", "explain", "csv", "geojson", "clear"} <= reached


def test_everything_has_a_name_for_a_screen_reader(page, lab):
    place(page, lab / "album" / "plain.jpg")
    nameless = page.evaluate(
        """[...document.querySelectorAll('.photos :is(input, select, button, progress, [role=application])')]
        .filter((each) => !(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length))
        .map((each) => each.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert page.locator(".photos img:not([alt])").count() == 0
    assert page.locator("[role=status]").count() >= 1


def test_a_phone_shows_all_of_it(chromium, server, lab):
    with opened(chromium, server) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        place(page, *sorted((lab / "many").iterdir())[:5])
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".map").bounding_box()["width"] > 310
        page.set_viewport_size({"width": 1000, "height": 740})
        page.wait_for_function(
            """() => {
              const [map, all] = [".map", "section.photos"].map((part) => document.querySelector(part));
              return innerWidth === 1000 && map.getBoundingClientRect().right <= all.getBoundingClientRect().right + 1;
            }"""
        )
        page.set_viewport_size({"width": 360, "height": 740})
        for name in ("Where is this?", "Play", "Share"):
            page.get_by_role("tab", name=name).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_after_the_session_nothing_of_a_photo_is_on_the_disk(world, chromium, server):
    with opened(chromium, server) as page:
        place(page, world / "album" / "with place.jpg", world / "many" / "00.jpg")
    marks = [(world / "album" / "with place.jpg").read_bytes()[-400:], SECRET.encode(), b"with place"]
    for folder in ("lab", "home", "temporary"):
        for file in (world / folder).rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert not any(mark in content for mark in marks), file


def ask(server, method, path, body=b"", **headers):
    """Status and body of a request whose path is sent as it is."""
    host = re.search(r"//([^/]+)/", server).group(1)
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    given = {"Host": host, "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def routes():
    """Paths of all that Gradio would answer."""
    with demo.page("first") as blocks:
        pass
    from gradio.routes import App

    made = App.create_app(blocks)
    paths_of = [route.path for route in made.routes if hasattr(route, "path")]
    for route in made.routes:  # FastAPI keeps the routes of a router together
        for inner in getattr(getattr(route, "original_router", None), "routes", ()):
            paths_of.append(inner.path if inner.path.startswith("/gradio_api") else f"/gradio_api{inner.path}")
    assert {"/gradio_api/file={path_or_url:path}", "/static/{path:path}"} <= set(paths_of)
    return sorted(set(paths_of))


def test_no_route_gives_a_file(lab, server):
    secret = lab / "secret.txt"
    climb = "../" * 12
    wanted = [str(secret), f"{climb}{secret}".replace("//", "/"), f"{climb}etc/passwd", "/etc/passwd"]
    wanted += [name.replace("/", "%2f") for name in wanted] + [name.replace(".", "%2e") for name in wanted]
    tried = 0
    for route in routes():
        for name in wanted if "{" in route else [""]:
            path = re.sub(r"\{[^}]*\}", lambda _, name=name: name, route)
            for method in ("GET", "POST", "HEAD"):
                if "heartbeat" in route or "queue/data" in route:  # answers that go on and on
                    continue
                status, body = ask(server, method, path or "/")
                assert b"what nobody may read" not in body, path
                assert b"root:" not in body, path
                assert status != 200 or "{" not in route or not name, (method, path)
                tried += 1
    assert tried > 300


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/gradio_api/upload", {"Content_Type": "multipart/form-data; boundary=x"}, 404),
        ("GET", "/gradio_api/proxy=http://example.com/", {}, 404),
        ("GET", "/gradio_api/file=http://example.com/", {}, 404),
        ("GET", "/monitoring", {}, 404),
        ("GET", "/", {"Host": "evil.example:7860"}, 403),
        ("GET", "/", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", "/", {"Host": "localhost"}, 200),
        ("GET", "/", {"Host": "[::1]:7860"}, 200),
        (
            "POST",
            "/gradio_api/component_server",
            {"Content_Type": "application/json", "Sec_Fetch_Site": "cross-site"},
            403,
        ),
        ("POST", "/gradio_api/component_server", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
        (
            "POST",
            "/gradio_api/component_server",
            {"Content_Type": "application/json", "Content_Length": "99999999"},
            413,
        ),
    ],
)
def test_what_the_page_does_not_need_is_refused(server, method, path, headers, status):
    assert ask(server, method, path, **headers)[0] == status


def test_a_body_that_does_not_tell_its_length_is_bounded_too(server):
    host = re.search(r"//([^/]+)/", server).group(1)
    connection = http.client.HTTPConnection(host, timeout=60)
    chunks = (b" " * 2**20 for _ in range(80))
    with contextlib.suppress(ConnectionError):
        connection.request(
            "POST", "/gradio_api/component_server", chunks, {"Content-Type": "application/json"}, encode_chunked=True
        )
        assert connection.getresponse().status >= 400
    assert ask(server, "GET", "/")[0] == 200


def test_a_page_may_ask_no_other_machine(server):
    host = re.search(r"//([^/]+)/", server).group(1)
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request("GET", "/")
    policy = connection.getresponse().headers["content-security-policy"]
    assert "default-src 'self' data: blob:" in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "no photo came"),
        ({"name": "a.jpg", "data": 7}, "no photo came"),
        ({"name": "a.jpg", "data": "%%%"}, "came damaged"),
        ({"name": "a.jpg", "data": "é"}, "came damaged"),
        (["a.jpg"], "no request of this page"),
        ({"name": "a.jpg", "data": "", "run": "../../etc"}, "no such run"),
        ({"name": "a.jpg", "data": "", "level": "finest"}, "no level 'finest'"),
        ({"name": "a.jpg", "data": "", "level": ["f*"]}, "no level"),
        ({"name": "a.jpg", "data": "", "crops": 3}, "5 crops or in 1"),
    ],
)
def test_a_forged_question_is_refused(lab, asked, why):
    answer = app.answering(app_photos.Photos("first").place, app_photos.Refusal)(asked)
    assert list(answer) == ["error"]
    assert why in answer["error"].lower()


def test_questions_wait_for_one_another_and_not_more_than_a_few(lab):
    photos = app_photos.Photos("first")
    data = base64.b64encode((lab / "many" / "00.jpg").read_bytes()).decode()
    place = app.answering(photos.place, app_photos.Refusal)
    answers = []
    with photos._turn:  # as if one were being answered
        threads = [
            threading.Thread(target=lambda: answers.append(place({"name": "a.jpg", "data": data})))
            for _ in range(app_photos.WAITING + 4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.5)
    for thread in threads:
        thread.join(60)
    refused = [answer for answer in answers if "error" in answer]
    assert len(answers) == len(threads)
    assert len(refused) == 4
    assert "waiting already" in refused[0]["error"]


def test_a_run_that_is_trained_anew_answers_anew(tmp_path, monkeypatch, lab):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path))
    finished_run.made("again", image_size=64)
    photos = app_photos.Photos("again")
    data = (lab / "many" / "00.jpg").read_bytes()
    before = photos.guess("a.jpg", data)
    torch.manual_seed(77)
    finished_run.made("again", image_size=64)
    torch.manual_seed(78)
    after = photos.guess("a.jpg", data)
    placed = placing.ready(run_folders.find("again"))(given_photos.of_bytes({"a.jpg": data})).table.iloc[0]
    assert (after["latitude"], after["confidence"]) == (placed["latitude"], placed["confidence"])
    assert after["confidence"] != before["confidence"]


def test_the_process_of_the_page_asks_no_other_machine():
    code = """
import socket
from helpers import app
app.ask_nobody_else()
with socket.create_server(("127.0.0.1", 0)) as here:
    socket.create_connection(here.getsockname()).close()
for address in (("192.0.2.1", 80), ("weights.example", 443)):
    try:
        socket.create_connection(address, timeout=3)
    except PermissionError as error:
        print("refused", error)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=paths.SOURCE, capture_output=True, text=True, timeout=60)
    assert ended.stdout.count("refused this page asks no other machine") == 2, ended.stderr


def test_the_newest_run_answers_unless_another_is_named(lab):
    assert demo.usual_run() == "first"
    assert run_folders.there() == ["first", "older"]


def test_without_a_run_that_of_the_embedded_dataset_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path))
    wanted = []
    monkeypatch.setattr(run_folders, "required", wanted.append)  # it would train for minutes
    assert demo.usual_run() == "toy-earth-multi"
    assert wanted == ["toy-earth-multi"]


def test_a_run_that_is_not_there_ends_it_with_a_remedy(lab):
    ended = subprocess.run(
        [sys.executable, "-m", "helpers.demo", "--run", "nothing"], cwd=paths.SOURCE, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "there is no run 'nothing'. There are: first, older" in ended.stderr


def test_an_interrupt_ends_it(world):
    before = set((world / "temporary").iterdir())
    with serving(world) as (_, _, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert set((world / "temporary").iterdir()) == before


def test_pictures_of_the_page(world, chromium, tmp_path):
    """Of rendered photos; kept in the folder that SCREENSHOTS names, for the README: see `make screenshots`."""
    kept = os.environ.get("SCREENSHOTS")
    stages = paths.SOURCE if kept else world / "lab"  # with the run of `make demo`, or one that knows nothing
    album, root = tmp_path / "album", tmp_path / "root"
    album.mkdir()
    root.mkdir()
    for stage in stages.iterdir():
        if stage.is_dir() and stage.name != "06_demo":  # whose games are those of people
            (root / stage.name).symlink_to(stage)
    for number, place_of in enumerate([(48.86, 2.35), (35.68, 139.77), (-33.92, 18.42), (40.71, -74.0)]):
        (album / f"{number}.jpg").write_bytes(toy_earth.render_jpeg(f"street-{number}", *place_of))
    run = "toy-earth-multi" if kept else "first"
    pictures = {}
    with serving(world, "--run", run, root=root) as (address, *_), opened(chromium, address) as page:
        place(page, *sorted(album.iterdir()))
        page.locator(".strip button").nth(1).click()
        page.wait_for_timeout(500)  # for the map to come to rest
        pictures["app-photos.png"] = page.screenshot(full_page=True)
        page.get_by_role("tab", name="Play").click()
        page.locator(".game .start").wait_for(state="visible")
        if kept:
            page.locator(".game .name").fill("somebody")
            page.get_by_role("button", name="Play").click()
            page.locator(".game .photo[src]").wait_for()
            box = page.locator(".game .map").bounding_box()
            page.mouse.click(box["x"] + 0.55 * box["width"], box["y"] + 0.3 * box["height"])
            page.get_by_role("button", name="This is my answer").click()
            page.locator(".game .result").wait_for(state="visible")
            page.wait_for_timeout(500)
        pictures["app-game.png"] = page.screenshot(full_page=True)
        page.get_by_role("tab", name="Share").click()
        page.wait_for_selector(".share[data-ready]")
        assert page.locator("section.share").is_visible()
    for name, picture in pictures.items():
        assert Image.open(io.BytesIO(picture)).width == 1280
        if kept:
            (paths.SOURCE / kept / name).write_bytes(picture)
