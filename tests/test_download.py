import asyncio
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import threading
import time
import zipfile
from itertools import pairwise

import pandas as pd
import photo_server
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import cluster, download, photos, shards, web

pytestmark = pytest.mark.alone

PLAIN = download.Settings(short_side=0)
# What fails fails at once.
HASTY = download.Settings(short_side=0, attempts=1, timeout_s=0.4, max_photo_mb=1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(web, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.delenv(cluster.SCHEDULER, raising=False)


@pytest.fixture(scope="module")
def server():
    with photo_server.running() as running:
        yield running


def found(server, names, **fields):
    """A table of URLs whose ids are the paths."""
    urls = [server.url(name) for name in names]
    rows = pd.DataFrame({"id": list(names), "url": urls, "latitude": 41.9, "longitude": 12.5, "author": "Ada"})
    return download.Found(**{"kind": "urls", "rows": rows, "local": True, **fields})


def stored(folder):
    """Bytes of the photos in a folder of shards, by id."""
    store = shards.Shards(folder)
    return {row.id: store.read(row.path) for row in store.index.itertuples()}


def reasons(report):
    return dict(zip(report.missing["id"], report.missing["reason"], strict=True))


def asked(server, names):
    counts = server.requests()
    return {name: counts["/" + name] for name in names}


def test_photos_arrive_as_they_were_sent_with_their_truth(server, tmp_path):
    names = [f"photos/arrive-{number}.jpg" for number in range(30)]
    report = download.run(found(server, names), tmp_path, PLAIN)
    assert stored(tmp_path) == {name: photo_server.photo("/" + name) for name in names}
    row = shards.Shards(tmp_path).index.set_index("id").loc[names[7]]
    assert (row["latitude"], row["longitude"], row["author"], row["url"]) == (41.9, 12.5, "Ada", server.url(names[7]))
    assert row["sha256"] == hashlib.sha256(photo_server.photo("/" + names[7])).hexdigest()
    assert (report.wanted, report.there_before, report.fetched, len(report.missing)) == (30, 0, 30, 0)
    total = sum(len(photo_server.photo("/" + name)) for name in names)
    assert (report.received_bytes, report.stored_bytes) == (total, total)
    assert report.rate == report.fetched / report.seconds
    assert "photo-geolocation-lab" in server.headers()["user-agent"]


def test_photos_are_shrunk_as_they_arrive(server, tmp_path):
    download.run(found(server, ["photos/large.jpg"]), tmp_path, download.Settings(short_side=32))
    prepared = photos.prepare(photo_server.photo("/photos/large.jpg"), "large", 32)
    assert stored(tmp_path) == {"photos/large.jpg": prepared.data}


def test_nothing_is_asked_for_twice(server, tmp_path):
    names = [f"photos/once-{number}.jpg" for number in range(9)] + ["status/404/once.jpg", "status/410/once.jpg"]
    download.run(found(server, names[3:]), tmp_path, PLAIN)
    report = download.run(found(server, names), tmp_path, PLAIN)
    assert set(asked(server, names).values()) == {1}
    assert (report.there_before, report.fetched, report.gone) == (6, 3, {"HTTP 404": 1, "HTTP 410": 1})
    again = download.run(found(server, names), tmp_path, PLAIN)
    assert (again.there_before, again.fetched, again.gone) == (9, 0, report.gone)
    assert set(asked(server, names).values()) == {1}


def test_a_row_that_is_gone_is_asked_for_again_at_another_address(server, tmp_path):
    first = found(server, ["status/404/moved.jpg"])
    download.run(first, tmp_path, PLAIN)
    moved = dataclasses.replace(first, rows=first.rows.assign(url=server.url("photos/moved.jpg")))
    assert download.run(moved, tmp_path, PLAIN).fetched == 1


@pytest.mark.parametrize(
    ("name", "reason", "status", "final"),
    [
        ("status/403/a.jpg", "HTTP 403", 403, True),
        ("status/404/a.jpg", "HTTP 404", 404, True),
        ("status/410/a.jpg", "HTTP 410", 410, True),
        ("status/451/a.jpg", "HTTP 451", 451, True),
        ("status/401/a.jpg", "HTTP 401", 401, False),
        ("status/500/a.jpg", "HTTP 500", 500, False),
        ("placeholder/a.jpg", "placeholder", 302, True),
        ("silent/a.jpg", "time-out", 0, False),
        ("drip/a.jpg", "time-out", 0, False),
        ("cut/a.jpg", "truncated", 0, False),
        ("cut-chunked/a.jpg", "truncated", 0, False),
        ("half/a.jpg", "truncated", 200, False),
        ("huge/a.jpg", "larger than 1 MiB", 200, False),
        ("endless/a.jpg", "larger than 1 MiB", 200, False),
        ("html/a.jpg", "HTML instead of a photo", 200, False),
        ("text/a.jpg", "not a photo", 200, False),
        ("empty/a.jpg", "empty", 200, False),
        ("hops/6/a.jpg", "too many redirects", 302, False),
        ("loop/a.jpg", "too many redirects", 302, False),
        ("to/ftp%3A%2F%2F127.0.0.1%2Fa.jpg", "unusable redirect", 302, False),
        ("to/http%3A%2F%2F%5B", "unusable redirect", 302, False),
        ("reset/a.jpg", "connection lost", 0, False),
    ],
)
def test_what_is_no_photo_is_counted_by_its_reason(server, tmp_path, name, reason, status, final):
    report = download.run(found(server, [name, "photos/beside.jpg"]), tmp_path, HASTY)
    assert report.missing.to_dict("records") == [
        {"id": name, "url": server.url(name), "reason": reason, "status": status, "final": final}
    ]
    assert (report.gone, report.failed) == (({reason: 1}, {}) if final else ({}, {reason: 1}))
    assert list(stored(tmp_path)) == ["photos/beside.jpg"]
    before = server.requests()
    download.run(found(server, [name]), tmp_path, HASTY)
    assert (server.requests() == before) == final


def test_addresses_that_cannot_be_asked_are_counted(server, tmp_path):
    addresses = ["http://[::1", "ftp://127.0.0.1/a.jpg", "", "http://nowhere.invalid/a.jpg", "http://127.0.0.1:1/a.jpg"]
    table = found(server, list("abcde"))
    report = download.run(dataclasses.replace(table, rows=table.rows.assign(url=addresses)), tmp_path, HASTY)
    assert list(reasons(report).values()) == [*["unusable URL"] * 3, "host name does not resolve", "cannot connect"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_what_may_come_later_is_asked_for_again(server, tmp_path, status):
    names = [f"first/{status}/2/a.jpg", f"first/{status}/3/b.jpg"]
    report = download.run(found(server, names), tmp_path, dataclasses.replace(PLAIN, attempts=3))
    assert reasons(report) == {names[1]: f"HTTP {status}"}
    assert asked(server, names) == {names[0]: 3, names[1]: 3}
    assert download.run(found(server, names), tmp_path, PLAIN).fetched == 1


@pytest.mark.parametrize("wait", ["1", "1date"])
def test_retry_after_pauses_the_whole_host_and_no_other(tmp_path, wait):
    with photo_server.running() as busy, photo_server.running() as idle:
        names = [f"first/429/1/{wait}/a.jpg", *(f"photos/{number:03d}.jpg" for number in range(40))]
        table = found(busy, names)
        others = found(idle, [f"slow/20/{number}" for number in range(20)])
        rows = pd.concat([table.rows, others.rows], ignore_index=True)
        settings = dataclasses.replace(PLAIN, connections_per_host=1)
        report = download.run(dataclasses.replace(table, rows=rows), tmp_path, settings)
        assert report.fetched == len(rows)
        times = [at for _, at in busy.log()]
        longest, pause = max((after - before, before) for before, after in pairwise(times))
        assert longest >= 1
        assert sum(pause < at < pause + longest for _, at in idle.log()) >= 10


def test_a_host_that_asks_to_wait_too_long_is_left_alone(tmp_path):
    with photo_server.running() as server:
        names = ["always/503/1000/a.jpg", *(f"photos/{number}.jpg" for number in range(10))]
        settings = dataclasses.replace(PLAIN, connections_per_host=1)
        report = download.run(found(server, names), tmp_path, settings)
        assert report.failed == {"host asks to wait longer than 120 s": 11}
        assert server.requests().total() == 1


def test_no_more_requests_are_under_way_to_a_host_than_allowed(tmp_path):
    with photo_server.running() as server:
        names = [f"slow/10/{number}.jpg" for number in range(60)]
        download.run(found(server, names), tmp_path, dataclasses.replace(PLAIN, connections_per_host=3))
        assert server.most_at_once() == 3


def test_a_host_that_dies_midway_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_SECONDS_UNTIL_GIVEN_UP", 0.05)
    with photo_server.running(dies_after=20) as dying, photo_server.running() as living:
        table = found(dying, [f"photos/{number}.jpg" for number in range(200)])
        others = found(living, [f"photos/other-{number}.jpg" for number in range(20)])
        rows = pd.concat([table.rows, others.rows], ignore_index=True)
        settings = dataclasses.replace(PLAIN, connections_per_host=2, attempts=5)
        report = download.run(dataclasses.replace(table, rows=rows), tmp_path, settings)
    assert set(others.rows["id"]) < set(stored(tmp_path))
    assert report.failed["host does not answer"] >= 100  # without one attempt each
    assert report.fetched + sum(report.failed.values()) == 220
    assert not report.gone


def test_a_moment_of_trouble_does_not_end_a_download(tmp_path):
    with photo_server.running() as server:
        names = [f"first/503/1/{number}.jpg" for number in range(200)]  # so that the first requests all fail
        report = download.run(found(server, names), tmp_path, PLAIN)
        assert (report.fetched, len(report.missing)) == (200, 0)
        assert set(server.requests().values()) == {2}


def test_a_host_that_does_not_answer_keeps_no_other_waiting(server, tmp_path):
    silent = found(server, [f"silent/{number}.jpg" for number in range(100)])
    with photo_server.running() as quick:
        answering = found(quick, [f"photos/{number}.jpg" for number in range(100)])
        rows = pd.concat([silent.rows, answering.rows], ignore_index=True)
        settings = dataclasses.replace(HASTY, timeout_s=2.0, connections_per_host=32)
        started = time.monotonic()
        report = download.run(dataclasses.replace(silent, rows=rows), tmp_path, settings)
        last = max(at for _, at in quick.log()) - min(at for _, at in quick.log())
    assert report.fetched == 100
    assert last < 2.0 < time.monotonic() - started


def test_several_redirects_are_followed(server, tmp_path):
    download.run(found(server, ["hops/5/a.jpg"]), tmp_path, PLAIN)
    assert stored(tmp_path) == {"hops/5/a.jpg": photo_server.photo("/photos/a.jpg")}


PRIVATE = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "0.0.0.0", "localhost"),
    *("localhost.", "LOCALHOST", "a.localhost", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254"),
    *("100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]"),
    *("[fe80::1]", "[fd00::1]", "[ff02::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "①②⑦.⓪.⓪.①", "0"),
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused_however_they_are_spelt(server, tmp_path, host):
    table = found(server, ["a"], local=False)
    address = f"http://{host}:{server.port}/photos/private.jpg"
    report = download.run(dataclasses.replace(table, rows=table.rows.assign(url=address)), tmp_path, HASTY)
    assert reasons(report) == {"a": "local or private address"}
    assert "/photos/private.jpg" not in server.requests()


@pytest.mark.parametrize("host", ["8.8.8.8", "live.staticflickr.com", "[2606:4700::1111]", "[64:ff9b::808:808]", "d.e"])
def test_public_addresses_are_not_private(host):
    assert not web.is_private(host)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_spelling_is_the_same(address):
    private = web.is_private(str(address))
    assert web.is_private(str(int(address))) == private
    assert web.is_private(hex(int(address))) == private
    assert web.is_private(f"::ffff:{address}") == private


@pytest.mark.parametrize("target", ["http://127.0.0.2", "http://169.254.169.254", "http://[::1]", "http://2130706433"])
def test_a_redirect_to_a_private_address_is_refused(server, tmp_path, monkeypatch, target):
    # As if the server were on the internet.
    private = web.is_private
    monkeypatch.setattr(web, "is_private", lambda host: host != "127.0.0.1" and private(host))
    name = f"to/{target.replace(':', '%3A').replace('/', '%2F')}%3A{server.port}%2Fphotos%2Fredirected.jpg"
    report = download.run(found(server, [name, "photos/public.jpg"], local=False), tmp_path, HASTY)
    assert reasons(report) == {name: "local or private address"}
    assert list(stored(tmp_path)) == ["photos/public.jpg"]
    assert "/photos/redirected.jpg" not in server.requests()


def test_a_name_that_resolves_to_a_private_address_is_refused(server, tmp_path, monkeypatch):
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    table = found(server, ["a"])
    rows = table.rows.assign(url=f"http://photos.example:{server.port}/photos/rebound.jpg")
    report = download.run(dataclasses.replace(table, rows=rows, local=False), tmp_path / "public", HASTY)
    assert reasons(report) == {"a": "local or private address"}
    assert "/photos/rebound.jpg" not in server.requests()
    assert download.run(dataclasses.replace(table, rows=rows), tmp_path / "local", HASTY).fetched == 1


def test_passwords_are_sent_but_never_written(server, tmp_path):
    table = found(server, ["a", "b"])
    host = f"http://ada:secret@127.0.0.1:{server.port}"
    rows = table.rows.assign(url=[f"{host}/photos/password.jpg", f"{host}/status/500/a.jpg"])
    report = download.run(dataclasses.replace(table, rows=rows), tmp_path, HASTY)
    assert server.headers()["authorization"].startswith("Basic ")
    assert report.fetched == 1
    assert "secret" not in report.missing.to_csv()
    assert not [file for file in tmp_path.iterdir() if b"secret" in file.read_bytes()]
    assert shards.Shards(tmp_path).index["url"].tolist() == [server.url("photos/password.jpg")]


def test_the_same_bytes_from_many_addresses_are_a_placeholder(server, tmp_path):
    names = [*(f"same/{number}.jpg" for number in range(5)), "photos/real.jpg"]
    few = download.run(found(server, [*names[1:5], names[5]]), tmp_path / "few", PLAIN)
    assert (few.fetched, few.gone) == (5, {})  # somebody may have uploaded a photo twice
    report = download.run(found(server, names), tmp_path / "many", PLAIN)
    assert (report.fetched, report.gone) == (1, {"placeholder": 5})
    assert sorted(download.placeholders(shards.Shards(tmp_path / "many").index)) == names[:5]
    again = download.run(found(server, names), tmp_path / "many", PLAIN)
    assert (again.there_before, again.fetched, again.gone) == (1, 0, {"placeholder": 5})
    assert asked(server, names[:1]) == {names[0]: 1}


def test_photos_that_can_never_serve_are_not_asked_for_again(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "tiny.jpg").write_bytes(photo_server.photo("/", (8, 8)))
    (tmp_path / "files" / "narrow.jpg").write_bytes(photo_server.photo("/", (16, 400)))
    with photo_server.running(tmp_path / "files") as server:
        table = found(server, ["tiny.jpg", "narrow.jpg"])
        for _ in range(2):
            report = download.run(table, tmp_path / "shards", PLAIN)
            assert report.gone == {"too small": 1, "too narrow": 1}
        assert set(server.requests().values()) == {1}


def test_another_size_of_a_flickr_photo_is_asked_for_first(server, tmp_path):
    names = ["photos/1234567890_abcdef0123.jpg", "photos/9_abcdef_b.jpg", "status/404/7_abcdef_b.jpg", "photos/a_b.jpg"]
    settings = dataclasses.replace(PLAIN, size_suffix="_z")
    report = download.run(found(server, names), tmp_path, settings)
    assert reasons(report) == {names[2]: "HTTP 404"}
    counts = server.requests()
    assert counts["/photos/1234567890_abcdef0123_z.jpg"] == counts["/photos/9_abcdef_z.jpg"] == 1
    assert counts["/status/404/7_abcdef_z.jpg"] == counts["/status/404/7_abcdef_b.jpg"] == 1
    assert counts["/photos/a_b.jpg"] == 1
    assert counts["/photos/1234567890_abcdef0123.jpg"] == 0
    assert shards.Shards(tmp_path).index["url"].str.endswith("_z.jpg").sum() == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"lat": 41.9, "lng": 12.5, "country": "IT"}', (41.9, 12.5, "IT")),
        ('{"Latitude": "41.9", "Longitude": "12.5"}', (41.9, 12.5, "")),
        ('{"position": {"lat": -1, "lon": 2}}', (-1, 2, "")),
        ('{"location": {"latitude": 1, "long": 2}, "lat": null}', (1, 2, "")),
        ('{"coordinates": {"lat": 1e0, "lng": " 2 "}}', (1, 2, "")),
        ('{"lat": 91, "lng": 0}', "latitude beyond ±90"),
        ('{"lat": 0, "lng": 0}', "0° N 0° E, which means unknown"),
        ('{"lat": NaN, "lng": 1}', "coordinates missing or no numbers"),
        ('{"lat": true, "lng": 1}', "no coordinates"),
        ('{"lat": "north", "lng": 1}', "coordinates missing or no numbers"),
        ("{}", "no coordinates"),
        ("[1, 2]", "broken JSON"),
        ('{"lat": 1', "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("\udcff", "broken JSON"),
    ],
)
def test_a_json_beside_a_photo_says_where_it_was_taken(tmp_path, content, expected):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.json").write_bytes(content.encode(errors="surrogateescape"))
    (tmp_path / "files" / "a.jpg").write_bytes(photo_server.photo("/a.jpg"))
    with photo_server.running(tmp_path / "files") as server:
        table = found(server, ["a.jpg"])
        rows = table.rows.assign(json_url=server.url("a.json"), latitude=float("nan"), longitude=float("nan"))
        report = download.run(dataclasses.replace(table, rows=rows), tmp_path / "shards", HASTY)
        if isinstance(expected, str):
            assert report.failed == {expected: 1}
            assert server.requests()["/a.jpg"] == 0
        else:
            (row,) = shards.Shards(tmp_path / "shards").index.to_dict("records")
            assert (row["latitude"], row["longitude"], row["country"]) == expected
            assert row["author"] == "Ada"


ODD_IDS = [
    "a",
    "a.jpg",
    "a.png",
    "A",
    "con",
    "nul.txt",
    "../../x",
    "x" * 300,
    "x" * 299 + "y",
    "~",
    ".",
    "ä/ö",
    "%",
    "+",
]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True))
def test_paths_are_safe_and_differ_for_every_id(ids):
    ids = list(dict.fromkeys(ids + ODD_IDS))
    made = [download.photo_path(photo_id, ".jpg") for photo_id in ids]
    assert len(set(made)) == len(ids)
    for path in made:
        folder, name = path.split("/")
        assert len(folder) == 2
        assert name.isascii()
        assert len(name) < 255
        assert name.count(".") == 1
        assert not set(name) & set('<>:"\\|?* ~')
        assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


def test_photos_with_odd_ids_are_stored(server, tmp_path):
    table = found(server, [f"photos/odd-{number}.jpg" for number in range(len(ODD_IDS))])
    download.run(dataclasses.replace(table, rows=table.rows.assign(id=ODD_IDS)), tmp_path, PLAIN)
    assert set(stored(tmp_path)) == set(ODD_IDS)


def test_a_truth_that_no_index_can_hold_costs_only_its_photo(server, tmp_path):
    table = found(server, ["photos/long-truth.jpg", "photos/short-truth.jpg"])
    rows = table.rows.assign(author=["x" * (2 << 20), "Ada"])
    report = download.run(dataclasses.replace(table, rows=rows), tmp_path, HASTY)
    assert reasons(report) == {"photos/long-truth.jpg": "truth too long or unwritable"}
    assert report.fetched == 1


def test_an_id_that_occurs_twice_is_an_error(server, tmp_path):
    with pytest.raises(ValueError, match=r"'photos/a\.jpg' occurs more than once"):
        download.run(found(server, ["photos/a.jpg"] * 2), tmp_path, PLAIN)


def test_a_folder_of_photos_prepared_in_another_way_is_refused(server, tmp_path):
    download.run(found(server, ["photos/prepared.jpg"]), tmp_path, PLAIN)
    with pytest.raises(ValueError, match="short_side 0, not 320"):
        download.run(found(server, ["photos/other.jpg"]), tmp_path, download.Settings())


@pytest.mark.parametrize(
    "wrong", [{"short_side": -1}, {"size_suffix": "/../"}, {"attempts": 0}, {"max_photo_mb": 1000}, {"timeout_s": 0}]
)
def test_settings_that_cannot_be_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        download.Settings(**wrong)


def test_a_second_download_into_a_folder_is_refused(server, tmp_path):
    with download._alone(tmp_path), pytest.raises(download.Busy, match=r"another process downloads into .*let it end"):
        download.run(found(server, ["photos/a.jpg"]), tmp_path, PLAIN)


def test_a_cut_line_of_a_journal_is_ignored_and_a_damaged_journal_named(server, tmp_path):
    table = found(server, ["status/404/journal-1.jpg", "status/404/journal-2.jpg"])
    download.run(table, tmp_path, PLAIN)
    (journal,) = tmp_path.glob("*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-5])
    assert download.run(table, tmp_path, PLAIN).gone == {"HTTP 404": 2}
    assert sorted(asked(server, table.rows["id"]).values()) == [1, 2]
    journal.write_bytes(b"no JSON\n")
    with pytest.raises(ValueError, match=rf"{journal.name} is damaged.*Delete it"):
        download.run(table, tmp_path, PLAIN)


def test_a_shard_that_was_deleted_is_fetched_again(server, tmp_path):
    names = [f"photos/deleted-{number}.jpg" for number in range(4)]
    download.run(found(server, names[:2]), tmp_path, PLAIN)
    download.run(found(server, names), tmp_path, PLAIN)
    (tmp_path / "shard-00000.tar").unlink()
    with pytest.raises(shards.DamagedShard, match="2 photos"):
        download.run(found(server, names), tmp_path, PLAIN)
    (tmp_path / "shard-00000.parquet").unlink()
    assert download.run(found(server, names), tmp_path, PLAIN).fetched == 2
    assert set(stored(tmp_path)) == set(names)


def test_the_outcomes_of_a_report_add_up(server, tmp_path):
    names = ["photos/sum-1.jpg", "photos/sum-2.jpg", "status/404/sum.jpg", "html/sum.jpg"]
    download.run(found(server, names[:1]), tmp_path, HASTY)
    report = download.run(found(server, names), tmp_path, HASTY)
    assert report.table().to_dict("list") == {
        "outcome": ["there before", "fetched", "gone", "failed, asked again by the next run"],
        "reason": ["", "", "HTTP 404", "HTML instead of a photo"],
        "photos": [1, 1, 1, 1],
    }


def test_a_download_runs_in_a_notebook_whose_loop_runs_already(server, tmp_path):
    async def cell():
        return download.run(found(server, ["photos/notebook.jpg"]), tmp_path, PLAIN)

    assert asyncio.run(cell()).fetched == 1


def download_in_child(rows, folder):
    web._FIRST_PAUSE_S = 0.02
    download._FEWEST_PER_TASK = 1_000_000  # so that this process is the one that fetches
    download.run(download.Found("urls", rows, local=True), folder, PLAIN)


def download_onto_a_full_disk(rows, folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    with pytest.raises(download.DiskFull, match=rf"disk of {folder} is full .*: free some space and run this again"):
        download_in_child(rows, folder)


@pytest.fixture(scope="module")
def children():
    """Starts processes that have everything imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.download", "helpers.sources", "test_download"])
    return context


def recorded(folder, copy):
    """Ids in shards and journals as a process that was killed left them."""
    shutil.copytree(folder, copy)
    shards.seal_partials(copy)
    ids = set(shards.Shards(copy).index["id"])
    for journal in copy.glob("*.jsonl"):
        ids |= {json.loads(line)["id"] for line in journal.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"}
    return ids


def test_a_download_that_is_killed_again_and_again_loses_nothing_and_fetches_nothing_twice(tmp_path, children):
    pictures = [f"slow/5/{number:03d}.jpg" for number in range(400)]
    gone = [f"status/404/{number:03d}.jpg" for number in range(100)]
    generator = random.Random(3)
    folder, kept = tmp_path / "shards", {}
    with photo_server.running() as server:
        table = found(server, pictures + gone)
        for kill in range(6):
            before, enough = server.requests().total(), generator.randint(1, 90)
            child = children.Process(target=download_in_child, args=(table.rows, folder))
            child.start()
            deadline = time.monotonic() + 60
            while server.requests().total() < before + enough and time.monotonic() < deadline:
                time.sleep(0.001)
            child.kill()
            child.join()
            assert child.exitcode == -signal.SIGKILL
            counts = server.requests()
            kept |= {name: counts["/" + name] for name in recorded(folder, tmp_path / f"copy-{kill}")}
        last = children.Process(target=download_in_child, args=(table.rows, folder))
        last.start()
        last.join()
        counts = server.requests()
        report = download.run(table, folder, PLAIN)
        assert server.requests() == counts
    assert len(kept) > 100
    assert {name: counts["/" + name] for name in kept} == kept
    assert set(stored(folder)) == set(pictures)
    assert (report.there_before, report.gone) == (400, {"HTTP 404": 100})


def test_a_full_disk_is_named_and_the_next_run_continues(tmp_path, children):
    names = [f"photos/disk-{number:03d}.jpg" for number in range(120)]
    with photo_server.running() as server:
        table = found(server, names)
        child = children.Process(target=download_onto_a_full_disk, args=(table.rows, tmp_path))
        child.start()
        child.join()
        assert child.exitcode == 0
        report = download.run(table, tmp_path, PLAIN)
        assert 0 < report.there_before < 120
        assert report.there_before + report.fetched == 120
        assert sum(server.requests().values()) <= 120 + download._PHOTOS_IN_MEMORY
    assert set(stored(tmp_path)) == set(names)


@pytest.fixture(scope="module")
def scheduler():
    """Address of the scheduler of two workers."""
    with cluster.kept():
        yield os.environ[cluster.SCHEDULER]


@pytest.fixture
def workers(scheduler, monkeypatch):
    monkeypatch.setenv(cluster.SCHEDULER, scheduler)


def test_workers_fetch_what_one_process_does_even_if_one_of_them_is_killed(tmp_path, monkeypatch, scheduler):
    names = [f"slow/5/{number:03d}.jpg" for number in range(200)]
    names += [f"status/404/{number}.jpg" for number in range(8)] + [f"html/{number}.jpg" for number in range(8)]
    with photo_server.running() as server:
        table = found(server, names)
        alone = download.run(table, tmp_path / "alone", PLAIN)
        before = server.requests().total()

        def kill_one_worker():
            while server.requests().total() < before + 30:
                time.sleep(0.005)
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # which others of them may have ended meanwhile
                    if "spawn_main" in str(child.cmdline()):
                        child.kill()
                        killed.append(child.pid)
                        return

        killed = []
        monkeypatch.setattr(download, "_FEWEST_PER_TASK", 54)
        monkeypatch.setenv(cluster.SCHEDULER, scheduler)
        killer = threading.Thread(target=kill_one_worker, daemon=True)
        killer.start()
        together = download.run(table, tmp_path / "together", PLAIN)
        killer.join(60)
    assert killed
    assert stored(tmp_path / "together") == stored(tmp_path / "alone")
    assert len(list((tmp_path / "together").glob("*.tar"))) == 4
    pd.testing.assert_frame_equal(together.missing, alone.missing)
    assert (together.fetched, together.gone, together.failed) == (alone.fetched, alone.gone, alone.failed)


def test_processes_share_the_connections_to_a_host_and_the_pauses_it_asks_for(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_FEWEST_PER_TASK", 10)
    monkeypatch.setenv(cluster.SCHEDULER, scheduler)
    with photo_server.running() as server:
        names = [f"slow/10/{number}.jpg" for number in range(80)]
        one = dataclasses.replace(PLAIN, connections_per_host=1)
        assert download.run(found(server, names), tmp_path / "one", one).fetched == 80
        assert server.most_at_once() == 1
    with photo_server.running() as server:
        names = [f"slow/20/{number}.jpg" for number in range(400)] + ["first/429/1/3/x.jpg"]
        assert download.run(found(server, names), tmp_path / "two", PLAIN).fetched == 401
        log = server.log()
    (asked_to_wait, _) = (at for path, at in log if path.startswith("/first"))
    # A process looks once a second whether another one was asked to wait.
    assert not [path for path, at in log if asked_to_wait + 1.3 < at < asked_to_wait + 2.9]


def test_corrected_truth_is_what_a_list_takes(server, tmp_path):
    table = found(server, ["photos/a.jpg", "photos/b.jpg"])
    download.run(table, tmp_path, PLAIN)
    corrected = dataclasses.replace(table, rows=table.rows.assign(latitude=[41.9, 55.0], author=["Ada", "Bob"]))
    assert download.run(corrected, tmp_path, PLAIN).there_before == 2
    known = download.with_latest_truth(shards.Shards(tmp_path).index, tmp_path).set_index("id")
    assert known.loc["photos/b.jpg", ["latitude", "longitude", "author"]].tolist() == [55.0, 12.5, "Bob"]
    assert known.loc["photos/a.jpg", "author"] == "Ada"


def test_a_source_within_its_own_destination_is_refused(tmp_path):
    (tmp_path / "1.jpg").write_bytes(photo_server.photo("/1"))
    rows = pd.DataFrame({"id": ["1"], "path": ["1.jpg"], "latitude": 1.0, "longitude": 2.0, "author": ""})
    with pytest.raises(ValueError, match="give the dataset another name"):
        download.run(download.Found("photos", rows, photo_root=tmp_path), tmp_path, PLAIN)


def zipped(file, photos_):
    with zipfile.ZipFile(file, "w") as archive:
        for name, photo in photos_.items():
            archive.writestr(name, photo)


def listed(ids):
    return pd.DataFrame({"id": ids, "latitude": 1.0, "longitude": 2.0, "author": "", "country": "IT"})


@pytest.fixture
def archives(tmp_path):
    """Two zips and what is in them."""
    folder = tmp_path / "archives"
    folder.mkdir()
    pictures = {str(number): photo_server.photo(f"/{number}") for number in range(8)}
    zipped(folder / "00.zip", {f"00/{name}.jpg": pictures[name] for name in "0123"} | {"00/broken.jpg": b"\xff\xd8"})
    zipped(folder / "01.zip", {f"01/{name}.jpg": pictures[name] for name in "34567"})
    return folder, pictures


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("kind", ["remote", "local"])
def test_photos_are_taken_out_of_archives_once(archives, tmp_path, kind):
    folder, pictures = archives
    with photo_server.running(folder) as server:
        addresses = tuple(server.url(name) if kind == "remote" else str(folder / name) for name in ("00.zip", "01.zip"))
        wanted = [name for name in pictures if name != "7"]
        rows = listed([*wanted, "broken", "absent"])
        table = download.Found("archives", rows, archives=addresses, local=True)
        for fetched in (7, 0):
            report = download.run(table, tmp_path / "shards", PLAIN)
            assert (report.there_before, report.fetched) == (7 - fetched, fetched)
            assert reasons(report) == {"absent": "not in the archives", "broken": "truncated"}
            assert report.gone == {"not in the archives": 1, "truncated": 1}
        assert stored(tmp_path / "shards") == {name: pictures[name] for name in wanted}
        assert set(shards.Shards(tmp_path / "shards").index["country"]) == {"IT"}
        expected = {"/00.zip": 1, "/01.zip": 1} if kind == "remote" else {}
        assert server.requests() == expected
        # Other rows may be in archives that were read before.
        more = dataclasses.replace(table, rows=listed([*pictures, "broken", "absent"]))
        assert download.run(more, tmp_path / "shards", PLAIN).fetched == 1
    assert set(folder.iterdir()) == {folder / "00.zip", folder / "01.zip"}
    assert not [file for file in (tmp_path / "shards").iterdir() if file.suffix == ".zip"]


@pytest.mark.usefixtures("workers")
def test_archives_that_cannot_be_read_are_named(archives, tmp_path):
    folder, _ = archives
    damaged = (folder / "01.zip").read_bytes()[:2000]
    (folder / "01.zip").write_bytes(damaged)
    with photo_server.running(folder) as server:
        addresses = (server.url("00.zip"), server.url("01.zip"), server.url("02.zip"))
        table = download.Found("archives", listed(list("01234567")), archives=addresses, local=True)
        report = download.run(table, tmp_path / "shards", HASTY)
        assert report.fetched == 4
        assert report.failed == {"archive not read": 4}
        assert [note.partition(" was not read: ") for note in report.notes[1:]] == [
            (addresses[1], " was not read: ", "no sound archive"),
            (addresses[2], " was not read: ", "HTTP 404"),
        ]
        assert "1 photos that the table does not list" in report.notes[0]
        download.run(table, tmp_path / "shards", HASTY)
        assert server.requests()["/00.zip"] == 1
        assert server.requests()["/01.zip"] == 2


def test_a_large_file_is_fetched_from_where_it_was_cut(tmp_path):
    content = random.Random(1).randbytes(300_000)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.zip").write_bytes(content)
    target = tmp_path / "a.zip"

    def fetch(server, name="a.zip"):
        async def fetched():
            async with web.Client(local=True, attempts=2) as client:
                return await web.fetch_file(client, server.url(name), target)

        return web.run_async(fetched())

    with photo_server.running(tmp_path / "files") as server:
        for start in (0, 1, 299_999, 300_000):
            target.write_bytes(content[:start])
            assert fetch(server) == 300_000 - start
            assert target.read_bytes() == content
            assert server.headers().get("range") == (f"bytes={start}-" if start else None)
        target.write_bytes(bytes(300_001))  # of another file
        fetch(server)
        assert target.read_bytes() == content
        target.unlink()
        with pytest.raises(web.Unfetched, match="truncated"):
            fetch(server, "cut/a.zip")


def test_photos_that_are_here_already_are_packed(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in "abc":
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(photo_server.photo(name))
    (tmp_path / "photos" / "d.jpg").write_bytes(b"no photo")
    rows = listed(list("abcd")).assign(path=[f"{name}.jpg" for name in "abcd"])
    table = download.Found("photos", rows, photo_root=tmp_path / "photos", local=True)
    for fetched in (3, 0):
        report = download.run(table, tmp_path / "shards", PLAIN)
        assert (report.there_before, report.fetched, report.failed) == (3 - fetched, fetched, {"not a photo": 1})
        assert reasons(report) == {"d": "not a photo"}
    assert stored(tmp_path / "shards") == {name: photo_server.photo(name) for name in "abc"}


def test_the_photos_of_a_deleted_shard_are_taken_out_of_their_archive_again(archives, tmp_path):
    folder, pictures = archives
    with photo_server.running(folder) as server:
        rows = listed(list("0123"))
        table = download.Found("archives", rows, archives=(server.url("00.zip"),), local=True)
        assert download.run(table, tmp_path / "shards", PLAIN).fetched == 4
        for file in (tmp_path / "shards").glob("shard-*.[tp]ar*"):
            file.unlink()
        assert download.run(table, tmp_path / "shards", PLAIN).fetched == 4
        assert stored(tmp_path / "shards") == {name: pictures[name] for name in "0123"}
        assert server.requests()["/00.zip"] == 2


def test_a_json_does_not_say_where_its_photo_was_fetched_from(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.json").write_text('{"lat": 1, "lng": 2, "url": "https://example.org/elsewhere"}')
    (tmp_path / "files" / "a.jpg").write_bytes(photo_server.photo("/a.jpg"))
    with photo_server.running(tmp_path / "files") as server:
        table = found(server, ["a.jpg"])
        rows = table.rows.assign(json_url=server.url("a.json"))
        download.run(dataclasses.replace(table, rows=rows), tmp_path / "shards", PLAIN)
        assert shards.Shards(tmp_path / "shards").index["url"].tolist() == [server.url("a.jpg")]


@pytest.mark.parametrize("status", [403, 410])
def test_a_size_that_a_server_refuses_is_asked_for_as_the_table_says(tmp_path, status):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "1_a.jpg").write_bytes(photo_server.photo("/1"))
    with photo_server.running(tmp_path / "files") as server:
        table = found(server, [f"status/{status}/1_a.jpg"])
        rows = table.rows.assign(url=server.url("1_a.jpg"))
        report = download.run(
            dataclasses.replace(table, rows=rows), tmp_path / "shards", dataclasses.replace(PLAIN, size_suffix="_z")
        )
        assert (report.fetched, server.requests()["/1_a_z.jpg"]) == (1, 1)
