import asyncio
import io
import json
import math
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from aiohttp import web as server_side
from hypothesis import example, given
from hypothesis import strategies as st

from helpers import metrics, photo_tables, street_photos, web

RECORDED = Path(__file__).parent / "recorded"
HERE = pd.DataFrame({"latitude": [52.1], "longitude": [5.1]})
SECRET = "MLY|1234567890|never-to-be-seen"


def recorded(name, **fields):
    """Answer of an interface as it was recorded."""
    return json.loads((RECORDED / f"{name}.json").read_text()) | fields


def said(answer, status=200, **headers):
    if isinstance(answer, server_side.Response):
        return answer
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return server_side.json_response(answer, status=status, headers=headers)


class Server:
    """An interface on this machine, which gives one answer after the other, the last one for ever."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.questions = []
        self.headers = []
        self.times = []

    async def answer(self, request):
        self.questions.append(dict(request.query))
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        answer = self.answers[min(len(self.questions), len(self.answers)) - 1]
        return said(answer(request) if callable(answer) else answer)


@contextmanager
def serving(*answers):
    server, loop = Server(answers), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def started():
        application = server_side.Application()
        application.router.add_route("*", "/{path:.*}", server.answer)
        runner = server_side.AppRunner(application)
        await runner.setup()
        site = server_side.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api"
        return runner

    runner = asyncio.run_coroutine_threadsafe(started(), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setattr(street_photos, "_ATTEMPTS", 3)
    monkeypatch.setattr(web, "_FIRST_PAUSE_S", 0)
    monkeypatch.setenv("MAPILLARY_TOKEN", SECRET)
    monkeypatch.delenv("PHOTO_GEOLOCATION_CONTACT", raising=False)


def collected(provider, *answers, places=HERE, radius_km=1.0, photos_per_place=50):
    with serving(*answers) as server:
        return street_photos.collect(provider, places, radius_km, photos_per_place, api=server.url), server


def commons(*answers, **settings):
    answers = answers or (recorded("commons_geosearch_1"), recorded("commons_geosearch_2"))
    return collected("commons", *answers, **settings)


def mapillary(*answers, **settings):
    return collected("mapillary", *(answers or (recorded("mapillary_images"),)), **settings)


# What comes out


def test_photos_of_commons_come_with_position_author_licence_and_attribution():
    found, _ = commons()
    assert found.rows.columns.tolist() == list(street_photos.COLUMNS)
    assert found.rows["id"].tolist() == [f"commons-500000{number}" for number in (1, 2, 3, 6, 8)]
    first, _, unknown, bridge, _ = found.rows.to_dict("records")
    assert first == {
        "id": "commons-5000001",
        "url": "https://upload.wikimedia.org/wikipedia/commons/thumb/0/00/Invented_street_1.jpg/960px-Invented_street_1.jpg",
        "latitude": 52.1001,
        "longitude": 5.1002,
        "author": "Example A",
        "licence": "CC BY-SA 4.0",
        "attribution": "Example A, CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0), "
        "via Wikimedia Commons, https://commons.wikimedia.org/?curid=5000001",
        "captured_at": "2019-06-01T14:03:22",
    }
    assert found.rows["captured_at"].tolist()[1:] == ["2020-02-29", "1998", "", "2019-06-01T14:03:22"]
    assert (unknown["author"], unknown["licence"]) == ("Unknown author", "Public domain")
    assert bridge["author"] == "Uploader_Example"


def test_photos_of_commons_that_cannot_be_used_are_counted_by_reason():
    found, _ = commons()
    assert found.left_out == {
        "no coordinates": ["commons-5000007"],
        "no free licence": ["commons-5000004", "commons-5000009"],
        "no photo by its type": ["commons-5000005"],
    }
    assert "drawings" in found.notes[0]


def test_html_of_an_author_becomes_plain_text():
    author, attribution = commons()[0].rows.set_index("id").loc["commons-5000008", ["author", "attribution"]]
    assert author == "Example B , town"
    assert attribution.startswith(
        "Photo: Example B, CC BY-SA 3.0 de (https://creativecommons.org/licenses/by-sa/3.0/de/"
    )


def test_photos_of_mapillary_come_with_position_author_licence_and_attribution():
    found, _ = mapillary()
    photos = found.rows.set_index("id")
    assert photos.loc["mapillary-700000000000100"].to_dict() == {
        "url": "https://scontent.example.org/m1/v/t6/invented-700000000000100?"
        "stp=s1024x768&ccb=10-5&oh=00_example&oe=6789ABCD&_nc_sid=201bca",
        "latitude": 52.10101,  # as reconstructed, not as the camera said
        "longitude": 5.10299,
        "author": "walker_b",
        "licence": "CC BY-SA 4.0",
        "attribution": "walker_b / Mapillary, CC BY-SA 4.0, https://www.mapillary.com/app/?pKey=700000000000100",
        "captured_at": "2021-02-06T10:24:19+00:00",
    }
    assert photos.loc["mapillary-700000000000101", ["latitude", "longitude"]].tolist() == [52.1012, 5.1031]
    nameless = photos.loc["mapillary-700000000000105"]
    assert nameless["attribution"] == "Mapillary, CC BY-SA 4.0, https://www.mapillary.com/app/?pKey=700000000000105"
    assert (nameless["author"], nameless["captured_at"]) == ("", "")
    assert "expire" in found.notes[0]


def test_photos_of_mapillary_that_cannot_be_used_are_counted_by_reason():
    found, _ = mapillary()
    drive = [f"mapillary-70000000000000{number}" for number in range(6)]
    assert found.left_out.pop("more of the same sequence") == [id for id in drive if id not in set(found.rows["id"])]
    assert len(set(drive) & set(found.rows["id"])) == street_photos.PHOTOS_PER_SEQUENCE
    assert found.left_out == {
        "no URL": ["mapillary-700000000000104"],
        "no coordinates": ["mapillary-700000000000103"],
        "outside the radius": ["mapillary-700000000000106"],
        "panorama": ["mapillary-700000000000102"],
    }


def test_every_photo_is_taken_or_counted_once():
    found, _ = mapillary(photos_per_place=2)
    counted = [id for ids in found.left_out.values() for id in ids]
    listed = [f"mapillary-{photo['id']}" for photo in recorded("mapillary_images")["data"]]
    assert sorted([*found.rows["id"], *counted]) == sorted(listed)
    assert len(found.rows) == 2


def test_which_photos_are_taken_does_not_depend_on_the_order_they_are_listed_in():
    images = recorded("mapillary_images")
    turned = {"data": images["data"][::-1]}
    one, other = mapillary(images, photos_per_place=3)[0], mapillary(turned, photos_per_place=3)[0]
    pd.testing.assert_frame_equal(one.rows, other.rows)
    assert one.left_out == other.left_out


def test_a_photo_near_two_places_is_there_once_and_what_one_place_leaves_the_next_may_take():
    twice = pd.concat([HERE, HERE], ignore_index=True)
    found, server = mapillary(places=twice, photos_per_place=3)
    assert len(server.questions) == 2
    assert found.rows["id"].is_unique
    assert len(found.rows) == 6  # all that can be used: three of one sequence, two of another, one alone
    assert "more than wanted at the place" not in found.left_out


def test_the_table_is_written_whole_and_reads_back(tmp_path):
    found, _ = commons()
    file = street_photos.write(found, tmp_path / "street.csv")
    assert [left.name for left in tmp_path.iterdir()] == ["street.csv"]
    pd.testing.assert_frame_equal(pd.read_csv(file, keep_default_na=False, dtype={"captured_at": str}), found.rows)
    assert b"\r" not in file.read_bytes()


def test_the_table_is_one_that_download_reads(tmp_path):
    for found, _ in (commons(), mapillary()):
        table = photo_tables.read(street_photos.write(found, tmp_path / "street.csv"), "url")
        assert table.left_out == {}
        pd.testing.assert_frame_equal(table.rows[found.rows.columns], found.rows, check_dtype=False)


def test_places_without_photos_are_said():
    found, _ = commons(recorded("commons_nothing"), places=pd.concat([HERE, HERE + 1]))
    assert found.rows.empty
    assert found.rows.columns.tolist() == list(street_photos.COLUMNS)
    assert found.notes[-1] == "2 of 2 places have no photos within 1 km"


# What is asked


def test_commons_is_asked_as_its_documentation_says_and_continued_to_the_end():
    _, server = commons(radius_km=0.5, photos_per_place=10)
    question, again = server.questions
    assert question["generator"] == "geosearch"
    assert question["ggscoord"] == "52.100000|5.100000"
    assert (question["ggsradius"], question["ggslimit"], question["ggsnamespace"]) == ("500", "40", "6")
    assert question["prop"] == "imageinfo|coordinates"
    assert question["maxlag"] == "5"
    assert again == question | recorded("commons_geosearch_1")["continue"]


def test_clients_say_who_they_are(monkeypatch):
    found, server = commons(recorded("commons_nothing"))
    assert server.headers[0]["User-Agent"] == web.USER_AGENT
    assert any("PHOTO_GEOLOCATION_CONTACT" in note for note in found.notes)
    assert "Authorization" not in server.headers[0]
    monkeypatch.setenv("PHOTO_GEOLOCATION_CONTACT", "lab@example.org")
    found, server = commons(recorded("commons_nothing"))
    assert "lab@example.org" in server.headers[0]["User-Agent"]
    assert not any("PHOTO_GEOLOCATION_CONTACT" in note for note in found.notes)


def test_no_more_is_asked_than_the_interfaces_allow():
    assert commons(photos_per_place=500)[1].questions[0]["ggslimit"] == "500"
    assert mapillary(photos_per_place=500)[1].questions[0]["limit"] == "2000"
    with serving(recorded("commons_nothing")) as server:
        street_photos.collect("commons", HERE, street_photos.MAX_RADIUS_KM, 1, api=server.url)
        street_photos.collect("commons", HERE, 0.01, 1, api=server.url)
    assert [question["ggsradius"] for question in server.questions] == ["10000", "10"]


@given(st.floats(-84.8, 84.8), st.floats(-180, 180), st.floats(0.01, street_photos.MAX_RADIUS_KM), st.floats(0, 6.3))
@example(0.0, 179.99999999999997, 6.0, 0.0)
def test_boxes_are_small_stay_on_the_map_and_hold_all_within_the_radius(latitude, longitude, radius_km, direction):
    boxes = street_photos.boxes(latitude, longitude, radius_km)
    for west, south, east, north in boxes:
        assert -180 <= west < east <= 180
        assert -90 < south < north < 90
        assert (round(east, 6) - round(west, 6)) * (round(north, 6) - round(south, 6)) < 0.01
    radius = 0.999 * radius_km / metrics.EARTH_RADIUS_KM
    start = math.radians(latitude)
    up = math.asin(math.sin(start) * math.cos(radius) + math.cos(start) * math.sin(radius) * math.cos(direction))
    across = math.atan2(
        math.sin(direction) * math.sin(radius) * math.cos(start), math.cos(radius) - math.sin(start) * math.sin(up)
    )
    up, across = math.degrees(up), (longitude + math.degrees(across) + 180) % 360 - 180
    tiny = 1e-9
    assert any(
        west - tiny <= across <= east + tiny and south - tiny <= up <= north + tiny
        for west, south, east, north in boxes
    )


def test_across_the_antimeridian_and_far_north_boxes_are_sent_whole_and_small():
    fiji = pd.DataFrame({"latitude": [-16.8], "longitude": [-179.999]})
    _, server = mapillary({"data": []}, places=fiji, radius_km=2)
    sides = sorted(tuple(map(float, question["bbox"].split(","))) for question in server.questions)
    assert [(round(west, 2), round(east, 2)) for west, _, east, _ in sides] == [(-180, -179.98), (179.98, 180)]
    svalbard = pd.DataFrame({"latitude": [78.2], "longitude": [15.6]})
    _, server = mapillary({"data": []}, places=svalbard, radius_km=10)
    west, south, east, north = np.array([question["bbox"].split(",") for question in server.questions], float).T
    assert len(west) > 10
    assert ((east - west) * (north - south) < 0.01).all()
    assert (west[1:] == east[:-1]).all()


def test_beyond_mapillarys_map_nothing_is_asked():
    pole = pd.DataFrame({"latitude": [-90.0], "longitude": [0.0]})
    found, server = mapillary(places=pole)
    assert server.questions == []
    assert found.notes[-1] == "1 of 1 places have no photos within 1 km"


# The token


def test_the_token_goes_in_the_header_and_nowhere_else(tmp_path, capsys):
    echo = recorded("mapillary_images")
    echo["paging"] = {"next": f"https://graph.mapillary.com/images?access_token={SECRET}"}
    echo["data"][6]["creator"]["username"] = f"echo {SECRET}"
    found, server = mapillary(echo)
    assert server.headers[0]["Authorization"] == f"OAuth {SECRET}"
    assert SECRET not in str(server.questions)
    written = street_photos.write(found, tmp_path / "street.csv").read_text()
    assert "echo TOKEN" in written
    assert SECRET not in written + str(found.left_out) + str(found.notes) + str(capsys.readouterr())


def test_no_exception_holds_the_token():
    bad = recorded("mapillary_error")
    bad["error"]["message"] += f" {SECRET}"
    answers = [
        lambda request: said(bad, 400),
        lambda request: request.transport.abort() or server_side.Response(),
        lambda request: server_side.Response(text=f"<html>{SECRET}</html>", content_type="text/html"),
        lambda request: server_side.Response(status=302, headers={"Location": f"http://127.0.0.1:1/{SECRET}"}),
    ]
    for answer in answers:
        with pytest.raises(street_photos.ApiError) as caught:
            mapillary(answer)
        error = caught.value
        text = io.StringIO()
        traceback.print_exception(error, file=text)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        assert SECRET not in text.getvalue() + repr(error) + repr(vars(error))


def test_without_a_token_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.setenv("MAPILLARY_TOKEN", " ")
    with pytest.raises(RuntimeError, match=r"mapillary\.com/dashboard/developers.*MAPILLARY_TOKEN"):
        street_photos.collect("mapillary", HERE, 1, 1)


def test_a_token_that_would_break_the_header_is_refused_unseen(monkeypatch):
    monkeypatch.setenv("MAPILLARY_TOKEN", "first\nInjected: header")
    with pytest.raises(RuntimeError, match="MAPILLARY_TOKEN holds spaces") as caught:
        street_photos.collect("mapillary", HERE, 1, 1)
    assert "Injected" not in str(caught.value)


def test_the_token_is_not_sent_in_the_clear_nor_after_a_redirect():
    with pytest.raises(ValueError, match="give an https address"):
        street_photos.collect("mapillary", HERE, 1, 1, api="http://graph.mapillary.example/images")
    with serving({"data": []}) as elsewhere:
        away = {"Location": elsewhere.url.replace("127.0.0.1", "localhost")}
        with pytest.raises(street_photos.ApiError, match="redirect: it leads to localhost"):
            mapillary(lambda request: server_side.Response(status=307, headers=away))
        assert elsewhere.questions
        assert not any("Authorization" in headers for headers in elsewhere.headers)


# Faults


def test_an_error_of_an_interface_is_raised_with_its_code():
    with pytest.raises(street_photos.ApiError, match=r"Mapillary \(127\.0\.0\.1\): 190: Invalid OAuth") as caught:
        mapillary(lambda request: said(recorded("mapillary_error"), 400))
    assert caught.value.code == "190"
    with pytest.raises(street_photos.ApiError, match="badvalue: Unrecognized value") as caught:
        commons(recorded("commons_error"))
    assert caught.value.code == "badvalue"


@pytest.mark.parametrize(
    "busy",
    [
        lambda request: said(recorded("commons_maxlag"), 200, Retry_After="0"),
        lambda request: said({}, 429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        lambda request: server_side.Response(status=503, text="<html>busy</html>", content_type="text/html"),
        lambda request: request.transport.abort() or server_side.Response(),
    ],
    ids=["maxlag", "429", "503", "reset"],
)
def test_a_busy_interface_is_asked_again(busy):
    found, server = commons(busy, busy, recorded("commons_nothing"))
    assert len(server.questions) == 3
    assert found.left_out == {}


@pytest.mark.parametrize(("answer", "status"), [(recorded("commons_maxlag"), 200), ({}, 429)], ids=["maxlag", "429"])
def test_a_pause_that_is_asked_for_is_kept(answer, status):
    _, server = commons(lambda request: said(answer, status, Retry_After="1"), recorded("commons_nothing"))
    first, again = server.times
    assert again - first >= 0.99


def test_a_pause_of_a_day_is_not_waited_for():
    with pytest.raises(street_photos.ApiError, match="asks to wait longer") as caught:
        commons(lambda request: said({}, 429, Retry_After="86400"))
    assert caught.value.temporary


def somewhere(request):
    """Answers for the place at 52.1° N, and fails for all others."""
    if not request.query["ggscoord"].startswith("52"):
        return said({}, 503)
    return recorded("commons_geosearch_2" if "iicontinue" in request.query else "commons_geosearch_1")


def test_a_place_without_an_answer_is_counted_and_the_others_are_kept():
    places = pd.DataFrame({"latitude": [10.0, 52.1, 20.0, 52.1, 30.0, 52.1], "longitude": 5.1})
    found, server = commons(somewhere, places=places)
    assert len(found.rows) == 5
    names = [f"place {latitude}.00000,5.10000" for latitude in (10, 20, 30)]
    assert {reason: places for reason, places in found.left_out.items() if "place" in places[0]} == {
        "no answer (HTTP 503)": names
    }
    assert len(server.questions) == 3 * (3 + 2)
    assert found.notes[-1].startswith("3 of 6 places had no answer")


def test_a_place_with_a_broken_answer_does_not_cost_the_others():
    def broken_elsewhere(request):
        return somewhere(request) if request.query["ggscoord"].startswith("52") else recorded("commons_error")

    found, _ = commons(broken_elsewhere, places=pd.DataFrame({"latitude": [52.1, 10.0], "longitude": 5.1}))
    assert len(found.rows) == 5
    assert found.left_out["no answer (badvalue)"] == ["place 10.00000,5.10000"]


def test_an_interface_that_goes_away_is_left_alone_and_what_it_gave_is_kept():
    found, server = commons(somewhere, places=pd.DataFrame({"latitude": [52.1, *range(10, 20)], "longitude": 5.1}))
    assert len(found.rows) == 5
    assert len(server.questions) == 2 + 3 * 3  # then three places, three attempts each
    assert len(found.left_out["no answer (HTTP 503)"]) == 3
    assert len(found.left_out["not asked, because the places before it had no answer"]) == 7


def test_an_interface_that_is_away_from_the_start_is_an_error():
    with serving(lambda request: said({}, 500)) as server:
        with pytest.raises(street_photos.ApiError, match="run this again later"):
            street_photos.collect(
                "commons", pd.DataFrame({"latitude": range(9), "longitude": 5.1}), 1, 1, api=server.url
            )
        assert len(server.questions) == 9


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            server_side.Response(text="<!DOCTYPE html><p>Log in", content_type="text/html"),
            "text/html came instead of a JSON",
        ),
        (server_side.Response(text="[" * 100_000, content_type="application/json"), "instead of a JSON object"),
        ([1, 2], "instead of a JSON object"),
        (server_side.Response(status=404, text="gone"), "HTTP 404: Not Found"),
        ({"batchcomplete": True, "continue": {"continue": "||"}}, "without an end"),
    ],
    ids=["html", "deep", "list", "404", "endless"],
)
def test_what_is_no_answer_is_an_error(answer, message):
    with pytest.raises(street_photos.ApiError, match=message):
        commons(lambda request: answer if isinstance(answer, dict | list) else answer_again(answer))


def answer_again(response):
    return server_side.Response(status=response.status, text=response.text, content_type=response.content_type)


def test_an_answer_without_bounds_is_cut(monkeypatch):
    monkeypatch.setattr(street_photos, "_MAX_ANSWER_BYTES", 10_000)
    with pytest.raises(street_photos.ApiError, match="too large"):
        commons(lambda request: server_side.Response(text=" " * 20_000, content_type="application/json"))


def test_mapillary_without_its_list_is_an_error():
    with pytest.raises(street_photos.ApiError, match="no list 'data'"):
        mapillary({"images": []})


IMAGE_FIELDS = ["mime", "thumburl", "user", "extmetadata", "Artist", "LicenseShortName", "DateTimeOriginal"]
odd = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(10**400), 10**400) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "username"]), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(street_photos._FIELDS.split(",")), odd), odd)
def test_records_of_any_shape_are_taken_or_given_a_reason(changed, alone):
    good = recorded("mapillary_images")["data"][0]
    for record in (good | changed, alone):
        photo = street_photos._mapillary_photo(record)
        assert photo.reason or (
            abs(photo.latitude) <= 90 and photo.url.startswith("https://") and photo.id[10:].isdigit()
        )
        assert str(photo.author).isprintable()


@given(
    st.dictionaries(st.sampled_from(IMAGE_FIELDS), odd),
    odd,
)
def test_pages_of_any_shape_are_taken_or_given_a_reason(changed, place):
    page = recorded("commons_geosearch_1")["query"]["pages"][0]
    about = page["imageinfo"][0]["extmetadata"] | changed
    for image in (page["imageinfo"][0] | changed, page["imageinfo"][0] | {"extmetadata": about}):
        for odd_page in (page | {"imageinfo": [image]}, page | {"coordinates": place}, page | {"imageinfo": place}):
            photo = street_photos._commons_photo("1", odd_page)
            assert photo.reason or (photo.url.startswith("https://") and photo.licence and photo.attribution)
            assert photo.author.isprintable()


@given(
    st.lists(st.sampled_from(["<", ">", "<![", "]]>", "<!--", "</", "b", " style='display:none'", "&#0;", "\u202e"]))
)
@example(["<![", "b", "["])
def test_any_markup_becomes_one_plain_line(pieces):
    text = street_photos._seen("Example <b>A</b> " + "".join(pieces))
    assert text.startswith("Example A")
    assert text.isprintable()


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("CC0", True),
        ("CC BY 4.0", True),
        ("cc-by-sa-3.0", True),
        ("CC BY-SA 2.5-2.0-1.0", True),
        ("CC BY-SA 3.0 de", True),
        ("Public domain", True),
        ("PD-old-70", True),
        ("CC BY-NC-SA 2.0", False),
        ("CC BY-ND 4.0", False),
        ("CC BY 2.0 NC", False),
        ("GFDL", False),
        ("Fair use", False),
        ("not in the public domain", False),
        ("", False),
    ],
)
def test_free_licences_are_told_from_others(licence, free):
    page = recorded("commons_geosearch_1")["query"]["pages"][0]
    page["imageinfo"][0]["extmetadata"]["LicenseShortName"]["value"] = licence
    assert street_photos._commons_photo("1", page).reason == ("" if free else "no free licence")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://user:secret@host.example/a.jpg", "https://h.example/a b", 7]
)
def test_addresses_that_are_none_are_not_passed_on(url):
    photo = recorded("mapillary_images")["data"][0] | {"thumb_1024_url": url}
    assert street_photos._mapillary_photo(photo).reason == "no URL"


@pytest.mark.parametrize(
    ("coordinates", "position"),
    [
        ([5.1, 52.1], (52.1, 5.1)),
        (["5.1", "52.1"], (52.1, 5.1)),
        ([0, 0], None),  # what devices write that do not know
        ([0, 51.5], (51.5, 0)),
        ([52.1, 95.1], None),
        ([math.nan, 52.1], None),
        ([10**400, 52.1], None),
        ([True, 52.1], None),
        ([5.1], None),
        ({"0": 5.1, "1": 52.1}, None),
    ],
)
def test_positions_that_are_none_are_not_passed_on(coordinates, position):
    photo = recorded("mapillary_images")["data"][0]
    photo |= {"geometry": {"type": "Point", "coordinates": coordinates}, "computed_geometry": None}
    read = street_photos._mapillary_photo(photo)
    if position:
        assert (read.reason, read.latitude, read.longitude) == ("", *position)
    else:
        assert read.reason == "no coordinates"


@pytest.mark.parametrize("deed", ["javascript:alert(1)", "https://creativecommons.org.example/by", None, 7])
def test_a_licence_is_linked_to_its_own_page_only(deed):
    page = recorded("commons_geosearch_1")["query"]["pages"][0]
    page["imageinfo"][0]["extmetadata"]["LicenseUrl"]["value"] = deed
    credit = "Example A, CC BY-SA 4.0, via Wikimedia Commons, https://commons.wikimedia.org/?curid=1"
    assert street_photos._commons_photo("1", page).attribution == credit


# What the caller gives


def test_places_are_drawn_where_people_live_and_come_again_with_the_seed():
    drawn = street_photos.places(40, seed=3)
    assert drawn.columns.tolist() == ["latitude", "longitude"]
    assert len(drawn.drop_duplicates()) == 40
    assert drawn["longitude"].between(-180, 180).all()
    assert drawn["longitude"].std() > 40  # all over the world
    pd.testing.assert_frame_equal(drawn, street_photos.places(40, seed=3))
    assert not drawn.equals(street_photos.places(40, seed=4))
    with pytest.raises(ValueError, match="ask for 1 to 25,000"):
        street_photos.places(0, seed=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provider": "wikimedia_commons"}, "no provider 'wikimedia_commons': did you mean 'commons'"),
        ({"radius_km": 10.1}, "radius_km is 10.1: give 0.01 to 10"),
        ({"radius_km": math.nan}, "radius_km is nan"),
        ({"photos_per_place": 0}, "photos_per_place is 0: give 1 to 500"),
        ({"places": HERE.rename(columns={"latitude": "lat"})}, "places have no latitude: give"),
        ({"places": HERE.head(0)}, "places have no rows"),
        ({"places": HERE + 90}, "place 1 is at latitude 142.1"),
        ({"places": HERE.astype(object).assign(longitude="east")}, "place 1 is at latitude 52.1, longitude nan"),
        ({"api": "commons.example"}, "give an https address"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_asked(change, message):
    given_values = {"provider": "commons", "places": HERE, "radius_km": 1, "photos_per_place": 1} | change
    with pytest.raises(ValueError, match=message):
        street_photos.collect(**given_values)


def test_collecting_works_where_an_event_loop_already_runs():
    async def cell():
        return commons()[0]

    assert len(asyncio.run(cell()).rows) == 5
