import csv
import gzip
import io
import os
import pickle
import re
import socket
import subprocess
import sys
import urllib.request
import zipfile
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import data_lists, fetch, paths, photo_stores, shards, sources, toy_earth, web
from tests import photo_server

GPS_IFD = 0x8825


def jpeg(position=None, seed=0):
    """A small photo, with a position in its EXIF where one is given in whole degrees."""
    exif = Image.Exif()
    if position:
        latitude, longitude = position
        exif.get_ifd(GPS_IFD).update(
            {1: "NS"[latitude < 0], 2: (abs(latitude), 0, 0), 3: "EW"[longitude < 0], 4: (abs(longitude), 0, 0)}
        )
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif.tobytes())
    return buffer.getvalue()


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def zipped(file, files):
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


@contextmanager
def python_server(folder):
    """Address of Python's own web server over a folder."""
    code = (
        "import functools, http.server, os, threading\n"
        "threading.Timer(60, os._exit, [1]).start()\n"
        "handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=os.environ['FOLDER'])\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FOLDER": str(folder)},
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def _no_names_are_looked_up(monkeypatch):
    """Whatever a test does, it asks no name server, and it does not wait long for a server that is not there."""
    resolve = socket.getaddrinfo

    def numeric_only(host, *others, **named):
        if not re.fullmatch(r"[0-9.]+|[0-9a-f:]+", host or "127.0.0.1"):
            raise socket.gaierror(f"a test looked up {host}")
        return resolve(host, *others, **named)

    monkeypatch.setattr(socket, "getaddrinfo", numeric_only)
    web._resolves_privately.cache_clear()
    monkeypatch.setattr(web, "_FIRST_PAUSE_S", 0.01)


# What is what


def test_an_unknown_kind_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"kind is 'tabel': it must be one of auto, table.*\(table\?\)"):
        sources.find("x", kind="tabel")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the source is empty"),
        ("ftp://a.b/c.csv", "'ftp://a.b/c.csv' is no source: give an http or https URL, or a path"),
        ("https://me:secret@/x", "is no source|cannot be read"),
        ("https://8.8.8.8/photos.zip", "https://8.8.8.8/photos.zip is an archive on another machine: fetch it"),
    ],
)
def test_a_source_that_cannot_be_is_named(source, message):
    with pytest.raises(ValueError, match=message) as caught:
        sources.find(source)
    assert "secret" not in str(caught.value)


def test_a_source_that_is_not_there_suggests_the_nearest(tmp_path):
    (tmp_path / "places.csv").touch()
    with pytest.raises(ValueError, match=r"there is no '.*place\.csv': did you mean '.*places\.csv'\?"):
        sources.find(str(tmp_path / "place.csv"))
    with pytest.raises(ValueError, match=r"there is no '.*nowhere': correct the path"):
        sources.find(str(tmp_path / "nowhere"), kind="photos")
    with pytest.raises(ValueError, match=r"there is no '.*truth\.csv'"):
        sources.find(str(write(tmp_path, {"p/a.jpg": jpeg()}) / "p"), truth=str(tmp_path / "truth.csv"))


def test_a_file_of_no_kind_says_what_there_is(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match=r"notes\.md' is no source: give a table .*say kind='table'"):
        sources.find(str(tmp_path / "notes.md"))


def test_what_a_source_is_made_of_are_its_files_here(tmp_path):
    write(tmp_path, {"t.csv": "", "m.csv": "", "f/a.jpg": ""})
    sources_given = (str(tmp_path / "t.csv"), "", "https://8.8.8.8/x.csv", str(tmp_path / "f"), str(tmp_path / "m.csv"))
    assert sources.files(*sources_given) == {"t.csv": tmp_path / "t.csv", "m.csv": tmp_path / "m.csv"}


def test_the_embedded_dataset_gives_the_photos_of_its_list(root):
    with pytest.raises(data_lists.MissingList, match="papermill 01_data/make_list"):
        sources.find("toy-earth")
    sample = toy_earth.sample(3, seed=1)[["id", "path", "latitude", "longitude", "author"]]
    sample["sha256"] = fetch.render(sample, paths.photos("toy-earth"))
    rows = data_lists.build(sample, seed=1, validation_share=0, test_share=1)
    data_lists.write(rows, {}, paths.data_list("toy-earth"))
    found = sources.find("toy-earth")
    assert (found.kind, found.photo_root, found.local) == ("photos", paths.photos("toy-earth"), True)
    assert found.rows["id"].tolist() == rows["id"].tolist()
    assert (found.rows["split"] == "test").all()
    assert sorted(found.rows["path"]) == photo_stores.open_store(found.photo_root).names()
    with pytest.raises(ValueError, match="toy-earth knows where its photos are: leave out truth"):
        sources.find("toy-earth", truth="places.csv")


# A table of URLs

ROWS = "id,url,lat,lon,author\n1,http://127.0.0.1:9/1.jpg,1,2,ann\n2,http://127.0.0.1:9/2.jpg,,,bob\n"


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.CSV.gz"])
def test_a_table_gives_its_rows(tmp_path, name):
    text = ROWS.replace(",", "\t") if "tsv" in name else ROWS
    content = gzip.compress(text.encode()) if name.endswith("gz") else text
    found = sources.find(str(write(tmp_path, {name: content}) / name))
    assert (found.kind, found.local, found.photo_root, found.archives) == ("urls", True, None, ())
    assert found.rows.iloc[0].to_dict() == {
        "id": "1",
        "latitude": 1.0,
        "longitude": 2.0,
        "author": "ann",
        "url": "http://127.0.0.1:9/1.jpg",
    }
    assert found.left_out == {"coordinates missing or no numbers": ["2"]}
    assert found.notes == [f"{tmp_path / name} was taken as table: its name ends as one"]


@pytest.mark.parametrize(
    ("hosts", "local"),
    [
        (["127.0.0.1", "10.0.0.1:80"], True),
        (["127.0.0.1", "8.8.8.8"], False),
        (["8.8.8.8"], False),
        (["[::1]:80"], True),
        (["me:x@192.168.1.1"], True),
        (["8.8.8.8@192.168.1.1"], True),
        (["192.168.1.1@8.8.8.8"], False),
        (["localhost"], True),
    ],
)
def test_a_table_is_local_where_all_its_hosts_are(tmp_path, hosts, local):
    rows = "".join(f"{number},http://{host}/a{number}.jpg,1,2\n" for number, host in enumerate(hosts))
    assert sources.find(str(write(tmp_path, {"t.csv": "id,url,lat,lon\n" + rows}) / "t.csv")).local == local


@pytest.mark.parametrize(
    ("addresses", "local"), [(["10.1.2.3"], True), (["10.1.2.3", "8.8.8.8"], False), ([], True), (None, False)]
)
def test_a_name_is_local_where_all_its_addresses_are(tmp_path, monkeypatch, addresses, local):
    asked = []

    def resolve(host, port, *others, **named):
        asked.append(host)
        if addresses is None:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses or ["127.0.0.1"]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    rows = "".join(f"{number},http://photos.test/{number}.jpg,1,2\n" for number in range(5))
    assert sources.find(str(write(tmp_path, {"t.csv": "id,url,lat,lon\n" + rows}) / "t.csv")).local == local
    assert asked == ["photos.test"]  # once


def test_urls_and_coordinates_may_be_in_two_tables(tmp_path):
    write(
        tmp_path,
        {
            "urls.csv": "a/1.jpg,http://127.0.0.1/1.jpg\na/2.jpg,http://127.0.0.1/2.jpg\n",
            "meta.csv": "IMG_ID,AUTHOR,LAT,LON\na/1.jpg,ann,1,2\na/3.jpg,bob,1,2\n",
        },
    )
    found = sources.find(str(tmp_path / "urls.csv"), truth=str(tmp_path / "meta.csv"))
    assert found.rows[["id", "latitude", "author"]].to_numpy().tolist() == [["a/1", 1, "ann"]]
    assert found.left_out == {"no coordinates": ["a/2"], "no URL": ["a/3"]}
    assert found.notes[1:] == ["urls.csv has no headings: it was read as ids and URLs"]
    with pytest.raises(ValueError, match=r"urls\.csv' has no coordinates: give a table .* as truth"):
        sources.find(str(tmp_path / "urls.csv"))


def test_a_table_may_lie_on_a_server(tmp_path):
    write(tmp_path, {"t.csv": ROWS, "bad.csv": "a,b\n1,2\n"})
    with photo_server.running(tmp_path) as server:
        found = sources.find(server.url("t.csv"))
        assert found.rows["id"].tolist() == ["1"]
        assert found.local
        with pytest.raises(ValueError, match=r"table 'http://127.*/bad\.csv' has no column for url"):
            sources.find(server.url("bad.csv"))
        with pytest.raises(ValueError, match=r"absent\.csv cannot be read \(HTTP 404\): correct the address"):
            sources.find(server.url("absent.csv"))


# Photos that are here

PHOTOS = {
    "a/north.jpg": jpeg((48, 2), seed=1),
    "a/south.jpg": jpeg((-33, -70), seed=2),
    "nowhere.jpg": jpeg(seed=3),
    "beside.jpg": jpeg(seed=4),
    "beside.json": '{"lat": 1.5, "lng": 2.5, "country": "FR"}',
    "silent.jpg": jpeg((10, 20), seed=5),
    "silent.json": '{"title": "a photo whose JSON knows nothing"}',
    "broken.jpg": jpeg((10, 20), seed=6),
    "broken.json": '{"lat": 1.5,',
    "lonely.json": "{}",
    "huge.jpg": jpeg((10, 20), seed=7),
    "huge.json": b" " * (sources._MAX_JSON_BYTES + 1),
    "text.jpg": "no photo",
    "notes.txt": "",
    ".hidden.jpg": jpeg((1, 1)),
}
LEFT_OUT = {
    "JSON without photo": ["lonely.json"],
    "broken JSON": ["broken.jpg", "huge.jpg"],
    "hidden": [".hidden.jpg"],
    "no photo by its name (.txt)": ["notes.txt"],
    "no position in EXIF": ["nowhere.jpg"],
    "not a photo": ["text.jpg"],
}


def place(tmp_path, kind):
    folder = write(tmp_path / "photos", PHOTOS)
    if kind == "folder":
        return folder
    if kind == "zip":
        return zipped(tmp_path / "photos.zip", PHOTOS)
    subprocess.run(["tar", "-cf", tmp_path / "photos.tar", "-C", folder, "."], check=True)
    return tmp_path / "photos.tar"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_photos_that_are_here_know_where_they_were_taken(tmp_path, kind):
    found = sources.find(str(place(tmp_path, kind)))
    assert (found.kind, found.photo_root, found.local) == ("photos", place(tmp_path, kind), True)
    assert found.rows[["id", "path", "latitude", "longitude", "country"]].to_numpy().tolist() == [
        ["a/north", "a/north.jpg", 48, 2, ""],
        ["a/south", "a/south.jpg", -33, -70, ""],
        ["beside", "beside.jpg", 1.5, 2.5, "FR"],
        ["silent", "silent.jpg", 10, 20, ""],
    ]
    assert found.left_out == LEFT_OUT
    assert (found.rows["author"] == "").all()


def test_positions_do_not_depend_on_how_many_work_on_them(tmp_path, monkeypatch):
    folder = place(tmp_path, "folder")
    alone = sources.find(str(folder))
    monkeypatch.setattr(sources, "_PHOTOS_PER_TASK", 3)
    tasks = []

    def last_first(function, work, *_):
        tasks.extend(pickle.loads(pickle.dumps(work)))
        return [(number, function(task)) for number, task in reversed(list(enumerate(tasks)))]

    monkeypatch.setattr(sources.cluster, "mapped", last_first)  # whose own processes take seconds to start
    together = sources.find(str(folder))
    pd.testing.assert_frame_equal(together.rows, alone.rows)
    assert together.left_out == alone.left_out
    assert len(tasks) == 3


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_table_says_where_photos_were_taken(tmp_path, kind):
    truth = tmp_path / "truth.csv"
    rows = ["nowhere.jpg,1,2,ann", "a/north.jpg,3,4,bob", "absent.jpg,5,6,", "../a.jpg,5,6,", "nowhere.jpg,7,8,"]
    truth.write_text("\n".join(["path,lat,lon,author", *rows, "text.jpg,95,120,", ""]))
    found = sources.find(str(place(tmp_path, kind)), truth=str(truth))
    assert found.rows[["path", "latitude", "author"]].to_numpy().tolist() == [
        ["nowhere.jpg", 1, "ann"],
        ["a/north.jpg", 3, "bob"],
    ]
    assert found.left_out["missing"] == ["absent.jpg", "../a.jpg"]
    assert found.left_out["the path of an earlier row"] == ["nowhere.jpg"]
    assert found.left_out["latitude beyond ±90"] == ["text.jpg"]
    assert found.left_out["not in the truth"] == [
        "a/south.jpg",
        "beside.jpg",
        "broken.jpg",
        "huge.jpg",
        "silent.jpg",
        "text.jpg",
    ]


def test_what_must_not_be_read_in_an_archive_is_counted(tmp_path):
    file = zipped(tmp_path / "a.zip", {"../evil.jpg": jpeg((1, 1)), "/abs.jpg": jpeg((1, 1)), "good.jpg": jpeg((1, 1))})
    data = bytearray(zipped(tmp_path / "b.zip", {"bad.jpg": jpeg((1, 1)), "good.jpg": jpeg((1, 1))}).read_bytes())
    data[200] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(data)
    found = sources.find(str(file))
    assert found.rows["path"].tolist() == ["good.jpg"]
    assert found.left_out == {"unsafe path": ["../evil.jpg", "/abs.jpg"]}
    assert sources.find(str(tmp_path / "b.zip")).left_out == {"damaged in its archive": ["bad.jpg"]}


def test_a_folder_of_shards_knows_its_truth(tmp_path):
    rows = {"id": "a/1", "latitude": 1.0, "longitude": 2.0, "author": "ann", "licence": "CC0", "split": "test"}
    (tmp_path / "s").mkdir()
    with shards.ShardWriter(tmp_path / "s" / "shard-00000.tar") as shard:
        shard.add("a/1.jpg", jpeg(), rows)
        shard.add("a/2.jpg", jpeg(), rows | {"id": "a/2", "latitude": np.nan, "longitude": np.nan})
    found = sources.find(str(tmp_path / "s"))
    assert found.rows.iloc[0][[*rows, "path"]].to_dict() == rows | {"path": "a/1.jpg"}
    assert found.rows.columns.isin([*shards.TRUTH, "path"]).all()
    assert found.left_out == {"no coordinates": ["a/2.jpg"]}
    assert photo_stores.open_store(found.photo_root).read("a/1.jpg") == jpeg()


def test_a_place_without_photos_says_what_it_has(tmp_path):
    write(tmp_path, {"notes.txt": "", "more.txt": ""})
    with pytest.raises(
        ValueError, match=r"there is no photo in .*2 no photo by its name \(\.txt\) \('more\.txt', 'notes"
    ):
        sources.find(str(tmp_path))
    write(tmp_path, {"a.jpg": jpeg()})
    with pytest.raises(ValueError, match=r"no photo in .* say where .* given as truth .*1 no position in EXIF"):
        sources.find(str(tmp_path))


# A web index

PAIRS = {
    "top.jpg": jpeg(),
    "top.json": "{}",
    "deep/er/a b&c.jpg": jpeg(),
    "deep/er/a b&c.json": "{}",
    "deep/é#1?.JPG": jpeg(),
    "deep/é#1?.json": "{}",
    "deep/alone.jpg": jpeg(),
    "deep/lonely.json": "{}",
    "deep/two.jpg": jpeg(),
    "deep/two.png": jpeg(),
    "deep/two.json": "{}",
    "notes.txt": "",
}


@pytest.mark.parametrize("server", ["python", "ours"])
def test_a_web_index_is_followed_to_its_pairs(tmp_path, server):
    write(tmp_path, PAIRS)
    with (
        python_server(tmp_path) if server == "python" else photo_server.running(tmp_path) as address,
    ):
        base = address if server == "python" else address.url()
        found = sources.find(base, kind="auto" if server == "python" else "index")
        assert found.kind == "urls"
        assert found.local
        assert found.rows["id"].tolist() == ["deep/er/a b&c", "deep/two", "deep/é#1?", "top"]
        assert found.rows[["latitude", "longitude"]].isna().all(axis=None)
        assert found.rows["url"].iloc[1] == f"{base}deep/two.jpg"
        assert found.left_out == {
            "JSON without photo": ["deep/lonely"],
            "no photo by its name (.txt)": ["notes.txt"],
            "photo without JSON": ["deep/alone"],
            "the name of an earlier photo": ["deep/two.png"],
        }
        assert found.notes == (
            [f"{base} was taken as index: it is a URL without metadata tables"] if server == "python" else []
        )
        for row in found.rows.itertuples():
            stem = tmp_path / row.id
            with urllib.request.urlopen(row.json_url, timeout=10) as answer:
                assert answer.read() == stem.with_name(stem.name + ".json").read_bytes()
            with urllib.request.urlopen(row.url, timeout=10) as answer:
                assert answer.read() == jpeg()


def page(*links):
    return "<html><a name=top>x</a>" + "".join(f"<li><A class='x' HREF={link}>y</A>" for link in links)


def test_links_that_leave_the_index_are_counted_and_not_followed(tmp_path):
    hostile = [
        '"http://8.8.8.8/a.jpg"',
        "'//8.8.8.8/b.jpg'",
        '"../../secret/"',
        '"/other/"',
        '"javascript:alert(1)"',
        '"sub/../../secret/c.jpg"',
        '"%2e%2e/%2e%2e/secret/"',
        '"sub%2f..%2f..%2fsecret/"',
        '"mailto:a@b.c"',
        '"page?file=d.jpg"',
        '"http://[::1"',
    ]
    harmless = ["../", "'?C=M;O=A'", '"./"', '"#top"', '"/index/"']
    good = ['"a.jpg"', "a.json", "'/index/b.jpg'", '"./b.json"', "sub/"]
    write(
        tmp_path,
        {"index/index.html": page(*hostile, *harmless, *good), "index/sub/index.html": page("c.jpg", "c.json")},
    )
    write(tmp_path, {"secret/s.jpg": jpeg(), "secret/s.json": "{}", "other/o.jpg": jpeg()})
    with python_server(tmp_path) as base:
        found = sources.find(f"{base}index", kind="index")
    assert found.rows["id"].tolist() == ["a", "b", "sub/c"]
    assert len(found.left_out.pop("link that leaves the index")) == len(hostile)
    assert found.left_out == {}


def test_folders_that_contain_themselves_end_at_a_depth(tmp_path, monkeypatch):
    write(tmp_path, {"a.jpg": jpeg(), "a.json": "{}"})
    (tmp_path / "again").symlink_to(tmp_path)
    monkeypatch.setattr(sources, "_DEEPEST", 3)
    with python_server(tmp_path) as base:
        found = sources.find(base, kind="index")
    assert found.rows["id"].tolist() == ["a", "again/a", "again/again/a", "again/again/again/a"]
    assert found.left_out == {"folder deeper than 3": [f"{base}again/again/again/again/"]}


def test_a_web_index_may_not_have_endless_folders_or_pages(tmp_path, monkeypatch):
    write(tmp_path, {f"{number}/a.txt": "" for number in range(5)})
    with photo_server.running(tmp_path) as server:
        monkeypatch.setattr(sources, "_MOST_FOLDERS", 4)
        with pytest.raises(ValueError, match="has more than 4 folders: give one of them"):
            sources.find(server.url(), kind="index")
        monkeypatch.setattr(sources, "_MAX_PAGE_BYTES", 100)
        with pytest.raises(ValueError, match="cannot be read"):
            sources.find(server.url(), kind="index")
        monkeypatch.setattr(sources, "_MAX_PAGE_BYTES", 1 << 20)
        with pytest.raises(ValueError, match="cannot be read"):
            sources.find(server.url("endless/"), kind="index")


def test_a_folder_that_cannot_be_fetched_is_counted(tmp_path):
    write(tmp_path, {"index.html": page("a.jpg", "a.json", "gone/")})
    with python_server(tmp_path) as base:
        found = sources.find(base, kind="index")
    assert found.rows["id"].tolist() == ["a"]
    assert found.left_out == {"folder: HTTP 404": [f"{base}gone/"]}


def test_a_web_index_without_pairs_is_an_error_that_counts(tmp_path):
    write(tmp_path, {"a.jpg": jpeg(), "notes.txt": ""})
    with photo_server.running(tmp_path) as server:
        with pytest.raises(ValueError, match=r"lists no photo with a JSON beside it.*1 photo without JSON \('a'\)"):
            sources.find(server.url(), kind="index")
        with pytest.raises(ValueError, match=r"cannot be read \(HTTP 404\)"):
            sources.find(server.url("absent/"), kind="index")
        with pytest.raises(ValueError, match="kind index says itself where its photos are: leave out truth"):
            sources.find(server.url(), truth="x.csv", kind="index")
        with pytest.raises(ValueError, match="is no web index: give an http or https URL of a folder"):
            sources.find(server.url("?a=b"), kind="index")
    with pytest.raises(ValueError, match="is no web index"):
        sources.find(str(tmp_path), kind="index")


def test_tags_without_an_end_take_no_time(tmp_path):
    write(tmp_path, {"index.html": "<a " * 300_000 + "<a href=" + '"x' * 300_000 + " " * 300_000})
    with python_server(tmp_path) as base, pytest.raises(ValueError, match="lists no photo"):
        sources.find(base, kind="index")


# A dataset repository


@pytest.fixture
def repository(tmp_path):
    """Six photos in three zips with their metadata, as OpenStreetView-5M has them."""
    heading = ["id", "latitude", "longitude", "thumb_original_url", "country", "captured_at", "creator_id"]
    for split, numbers in (("train", [10, 11, 12, 13]), ("test", [14, 15])):
        with write(tmp_path, {f"{split}.csv": ""}).joinpath(f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [heading, *([n, n, n + 100, f"https://8.8.8.8/{n}", "FR", 1551265433000, n % 3] for n in numbers)]
            )
        for start in range(0, len(numbers), 2):
            folder = f"{start // 2:02d}"
            photos = {f"{folder}/{n}.jpg": jpeg(seed=n) for n in numbers[start : start + 2]}
            zipped(tmp_path / "images" / split / f"{folder}.zip", photos)
    return tmp_path


def check_repository(found, base):
    assert found.kind == "archives"
    assert found.archives == tuple(f"{base}/images/{name}.zip" for name in ("train/00", "train/01", "test/00"))
    assert found.local
    assert found.rows["id"].tolist() == ["10", "11", "12", "13", "14", "15"]
    assert found.rows["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert found.rows["author"].tolist() == ["1", "2", "0", "1", "2", "0"]
    assert found.rows["captured_at"].iloc[0] == "2019-02-27T11:03:53Z"
    assert "was taken as repository" in found.notes[0]


def test_a_repository_in_a_folder_lists_its_archives(repository):
    check_repository(sources.find(str(repository)), repository)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_repository_on_a_server_lists_its_archives(repository, slash):
    with python_server(repository) as base:
        check_repository(sources.find(base.rstrip("/") + slash), base.rstrip("/"))


def test_a_repository_may_lack_a_split_and_repeat_ids(repository):
    (repository / "train.csv").write_text((repository / "train.csv").read_text() + "14,1,2,,,,\n")
    found = sources.find(str(repository))
    assert found.rows["split"].tolist() == ["train"] * 5 + ["test"]
    assert found.left_out == {"the id of an earlier row": ["14"]}
    (repository / "train.csv").unlink()
    found = sources.find(str(repository), kind="repository")
    assert found.rows["id"].tolist() == ["14", "15"]
    assert found.archives == (str(repository / "images/test/00.zip"),)


def test_what_is_no_repository_says_what_it_lacks(repository):
    with pytest.raises(ValueError, match=r"is no repository: it has no table train\.csv or test\.csv"):
        sources.find(str(repository / "images"), kind="repository")
    for file in (repository / "images").rglob("*.zip"):
        file.unlink()
    with python_server(repository) as base:
        for place in (str(repository), base):
            with pytest.raises(ValueError, match=r"is no repository: it has no zips images/train/00\.zip"):
                sources.find(place, kind="repository")
    with pytest.raises(ValueError, match="cannot be read"):
        sources.find("http://127.0.0.1:9/", kind="repository")
