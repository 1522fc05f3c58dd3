"""Photos from elsewhere go down the same line: fetched by address, and real ones; bad ones stay at its start."""

import os
import re
import shutil

import numpy as np
import pandas as pd
import photo_server
import pytest
from headless import THRESHOLDS, papermill

from helpers import data_lists, paths

TINY = "toy-earth-tiny"  # of the fixture `tiny`


@pytest.fixture
def root(copied, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(copied))
    return copied


def test_a_collection_is_fetched_by_url_and_learned_from_in_shards(root, tmp_path):
    rows = data_lists.read(TINY)
    with photo_server.running(paths.photos(TINY)) as server:
        table = rows[["id", "author", "latitude", "longitude"]].assign(url=[server.url(path) for path in rows["path"]])
        table.loc[:2, "url"] = server.url("status/404/gone.jpg?") + table["id"]
        # As in the published tables: their spellings, and latitudes under the heading of longitudes.
        headings = {"id": "IMG_ID", "author": "AUTHOR", "latitude": "LON", "longitude": "LAT"}
        table.rename(columns=headings).to_csv(tmp_path / "table.csv", index=False)
        ended = papermill("01_data/download", tmp_path, dataset="fetched", source="table.csv", short_side=72)
        assert ended.returncode == 0, ended.stderr[-2000:]
        # A photo that got lost is fetched again from the address in the list.
        shards_before = sorted(paths.photos("fetched").glob("shard-*"))
        fetched = data_lists.read("fetched")
        shards_before[0].with_suffix(".tar").unlink()
        shards_before[0].with_suffix(".parquet").unlink()
        assert papermill("03_partitioning/build_cells", tmp_path, dataset="fetched", **THRESHOLDS).returncode == 0
        training = {"dataset": "fetched", "epochs": 1, "image_size": 56, "short_side": 64}
        first = papermill("04_training/train", tmp_path, **training, run_name="first")
        assert first.returncode == 0, first.stderr[-2000:]
        assert f"preparing {len(fetched)} photos of fetched" in (tmp_path / "out.ipynb").read_text()
    assert len(fetched) == len(rows) - 3
    np.testing.assert_allclose(fetched["latitude"], rows.set_index("id").loc[fetched["id"], "latitude"])
    missing = pd.read_csv(paths.download_notes("fetched") / "missing.csv")
    assert sorted(missing["id"]) == sorted(rows["id"][:3])
    assert set(missing["reason"]) == {"HTTP 404"}
    second = papermill("04_training/train", tmp_path, **training, run_name="second")
    assert second.returncode == 0, second.stderr[-2000:]
    assert f"reading {len(fetched)} photos prepared before" in (tmp_path / "out.ipynb").read_text()
    weights = [(paths.run(name) / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    assert papermill("05_evaluation/evaluate", tmp_path, run="first", dataset="fetched", resamples=20).returncode == 0


@pytest.fixture
def album(root, tmp_path):
    """A few photos outside the checkout, and the table that says where they were taken."""
    rows = data_lists.read(TINY).head(6)
    for path in rows["path"]:
        (tmp_path / "album" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.photos(TINY) / path, tmp_path / "album" / path)
    truth = rows[["id", "path", "latitude", "longitude"]].reset_index(drop=True)
    return tmp_path / "album", truth


def truncated(album, truth):
    (album / truth["path"][2]).write_bytes((album / truth["path"][2]).read_bytes()[:900])


def off_the_earth(album, truth):
    truth.loc[3, "latitude"] = 95.0


def escaping(album, truth):
    truth.loc[1, "path"] = "../secret.jpg"


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, r"1 of 6 photos cannot be used: .*truncated.*bad_photos='leave_out'"),
        (off_the_earth, r"latitude 95\.0, beyond ±90"),
        (escaping, r"'\.\./secret\.jpg' escapes the photo root"),
    ],
)
def test_a_list_of_bad_photos_is_refused_and_leaves_nothing(root, tmp_path, album, spoil, message):
    folder, truth = album
    spoil(folder, truth)
    truth.to_csv(tmp_path / "truth.csv", index=False)
    before = files(root)
    given = {"dataset": "album", "photo_root": folder, "truth": tmp_path / "truth.csv"}
    ended = papermill("01_data/make_list", tmp_path, **given)
    assert ended.returncode == 1
    assert re.search(message, ended.stderr), ended.stderr[-2000:]
    assert files(root) == before


def test_the_line_runs_on_real_photos(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path / "root"))
    truth = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str, "author": str})
    truth.sort_values(["author", "id"]).head(60).to_csv(tmp_path / "truth.csv", index=False)
    given = {"dataset": "real", "photo_root": str(shared / "photos")}
    assert papermill("01_data/make_list", tmp_path, **given, truth="truth.csv", seed=7).returncode == 0
    for notebook, parameters in [
        ("02_scenes/classify_scenes", {"scene_table": str(shared / "photos" / "photos.csv")}),
        ("03_partitioning/build_cells", {"min_photos": 1, "max_photos_coarse": 30, "max_photos_fine": 10}),
        ("04_training/train", {"run_name": "R", "epochs": 2}),
        ("05_evaluation/evaluate", {"run": "R", "resamples": 50}),
    ]:
        ended = papermill(notebook, tmp_path, **given, **parameters)
        assert ended.returncode == 0, ended.stderr[-2000:]
    table = pd.read_csv(paths.results("R", "real") / "accuracy.csv")
    assert (table["photos"] == (data_lists.read("real")["split"] == "test").sum()).all()
    assert os.environ["PHOTO_GEOLOCATION_ROOT"] == str(tmp_path / "root")
