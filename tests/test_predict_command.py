"""Photos are placed by a real command, from real files, with a run that knows nothing."""

import json
import os
import shutil
import subprocess
import sys

import finished_run
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import (
    devices,
    given_photos,
    paths,
    placing,
    predict,
    predict_command,
    prediction_files,
    progress,
    run_folders,
)

LATITUDE = (48.0, 51.0, 29.88)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A root with a run, and a folder of photos beside it, good and bad."""
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root / "lab"))
        finished_run.made("first")
        finished_run.made("coordinates", partition="coordinates", objective="degrees_mse")
        for scene in ("indoor", "natural", "urban"):
            finished_run.made(f"isn-{scene}", scene=scene)
        album = root / "album"
        album.mkdir()
        rng = np.random.default_rng(3)
        for number in range(4):
            picture(rng).save(album / f"{number}.jpg", quality=95)
        (album / "=1+1.jpg").write_bytes((album / "0.jpg").read_bytes())
        Image.open(album / "1.jpg").save(album / "with place.jpg", exif=position(), quality="keep")
        (album / "no photo.jpg").write_bytes(b"<html>" * 30)
        (album / "cut.jpg").write_bytes((album / "2.jpg").read_bytes()[:900])
        Image.new("1", (20_000, 10_000)).save(album / "huge.png")
        (album / "notes.txt").write_text("no photo")
        os.symlink("/etc/hostname", album / "out.jpg")
        yield root


def picture(rng):
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def position():
    exif = Image.Exif()
    exif[0x010E] = "SECRET-DESCRIPTION"
    exif[0x8825] = {1: "N", 2: LATITUDE, 3: "E", 4: (2.0, 17.0, 40.2)}
    return exif


@pytest.fixture
def lab(world, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(world / "lab"))
    monkeypatch.chdir(world)
    return world


def command(folder, *arguments):
    call = [sys.executable, "-m", "helpers.predict", *arguments]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True)


BAD = {
    "album/cut.jpg": "truncated",
    "album/huge.png": "too large",
    "album/no photo.jpg": "is no JPEG",
    "album/out.jpg": "link out of its folder",
}


def test_a_folder_is_placed_by_the_command_and_what_cannot_be_read_is_told(lab):
    ended = command(lab, "first", "album", "--output", "out/where.geojson", "--maps", "maps", "--batch-size", "2")
    assert ended.returncode == 0, ended.stderr
    assert predict_command.USE in ended.stderr
    assert "NOT calibrated" in ended.stderr
    assert "4 of 10 photos could not be read" in ended.stderr
    assert ended.stdout == ""
    text = (lab / "out" / "where.geojson").read_text("utf-8")
    features = {feature["id"]: feature for feature in json.loads(text)["features"]}
    assert len(features) == 10
    for name, why in BAD.items():
        assert why in features[name]["properties"]["error"]
        assert features[name]["geometry"] is None
    sound = [feature for name, feature in features.items() if name not in BAD]
    for feature in sound:
        properties = feature["properties"]
        assert properties["error"] is None
        assert properties["radius_50_km"] <= properties["radius_90_km"]
        assert len(properties["places"]) == 5
        assert properties["scene"] in ("indoor", "natural", "urban")
        assert properties["calibrated"] is False
    assert str(lab) not in text
    drawn = sorted(file.name for file in (lab / "maps").iterdir())
    assert len(drawn) == len(sound)
    assert any(name.endswith("-1-1.png") for name in drawn)  # of the photo =1+1.jpg
    assert Image.open(lab / "maps" / drawn[0]).width > 1000
    # What the EXIF says of the place changes nothing, and is nowhere.
    with_place, without = features["album/with place.jpg"], features["album/1.jpg"]
    assert with_place["geometry"] == without["geometry"]
    assert with_place["properties"] | {"id": ""} == without["properties"] | {"id": ""}
    assert not any(secret in text + ended.stderr for secret in ("48.858", "48.85", "SECRET"))


def test_without_an_output_the_guesses_are_text_with_their_radii(lab, capsys):
    assert predict_command.run(["coordinates", "album/0.jpg", "album/cut.jpg", "--no-scenes"]) == 0
    told = capsys.readouterr()
    assert "album/0.jpg\n" in told.out
    assert "how far off it may be is not known (not calibrated)" in told.out
    assert "album/cut.jpg\n  cannot be placed: photo 'album/cut.jpg' is truncated" in told.out
    assert predict_command.run(["first", "album/0.jpg", "--no-scenes"]) == 0
    told = capsys.readouterr().out
    assert told.count(" %  ") >= 5
    assert "within " in told
    assert " km with 90 %" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first", "album/*.gif"], r"no photo matches 'album/\*\.gif'"),
        (["nobody", "album"], "there is no run 'nobody'. There are: coordinates, first"),
        (["lab", "album"], "'lab' holds no trained run, for it has no model.safetensors"),
        (["first", "album", "--output", "where.xlsx"], "none of the suffixes"),
        (["first", "album", "--maps", "album/0.jpg"], "is no folder"),
        (["first", "album", "--device", "cuda"], "no device 'cuda'"),
        (["first", "album", "--runtime", "onnx", "--precision", "bf16"], "runtime 'onnx' computes on a CPU in fp32"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_read(lab, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(placing, "ready", lambda *_, **__: pytest.fail("the model was read"))
    assert predict_command.run(arguments) == 2
    assert message.replace("\\", "") in capsys.readouterr().err


def test_progress_and_what_else_is_said_is_kept_out_of_the_guesses(lab, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert predict_command.run(["first", "album/0.jpg", "--no-scenes"]) == 0
    told = capsys.readouterr()
    assert "placing: 1/1 batches" in told.err
    assert told.out.startswith("album/0.jpg\n")


def test_an_output_that_cannot_be_written_is_an_error_and_not_a_traceback(lab, capsys):
    (lab / "file").write_text("no folder")
    assert predict_command.run(["first", "album/0.jpg", "--no-scenes", "--output", "file/where.csv"]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_damaged_model_is_an_error_without_a_traceback(lab):
    shutil.copytree(paths.run("first"), lab / "damaged")
    (lab / "damaged" / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    ended = command(lab, "damaged", "album/0.jpg")
    assert ended.returncode == 2
    assert "error: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_where_nothing_could_be_read_the_status_says_so_and_the_table_is_there(lab, capsys):
    bad = list(BAD)
    assert predict_command.run(["first", *bad, "--output", "bad.csv"]) == 1
    table = pd.read_csv("bad.csv")
    assert table["id"].tolist() == bad
    assert table["error"].notna().all()
    assert table["latitude"].isna().all()


def test_photos_are_placed_as_the_notebooks_place_them(lab):
    found = run_folders.find("first")
    given = given_photos.find(["album/?.jpg"])
    placer = placing.ready(found, precision="fp32", tell_scenes=False, batch_size=3)
    exact = placer(given, distributions=True)
    placed = predict.locate(predict.load(found.folders, None), given.rows(), given, 2)
    answer = placed.answers["f*"]
    assert exact.table["id"].tolist() == answer["id"].tolist() == given.names()
    np.testing.assert_array_equal(exact.table["cell"].to_numpy(int), answer["cell"].to_numpy(int))
    np.testing.assert_allclose(exact.table["confidence"].astype(float), answer["confidence"], rtol=1e-3)
    np.testing.assert_allclose(exact.table["radius_90_km"].astype(float), placed.spread["radius_90_km"], rtol=1e-2)
    np.testing.assert_allclose(exact.distribution.groupby("id")["probability"].sum(), 1, rtol=1e-5)
    largest = exact.distribution.groupby("id", sort=False)["probability"].max()
    np.testing.assert_allclose(largest, exact.table["place_1_probability"].astype(float), rtol=1e-6)
    half = placing.ready(found, precision="bf16", tell_scenes=False)(given).table
    assert (half["confidence"] - exact.table["confidence"]).abs().max() < 0.02


def test_onnx_runtime_places_photos_as_pytorch_does(lab):
    given = given_photos.find(["album/?.jpg"])
    by_torch, by_onnx = (
        placing.ready(run_folders.find("first"), precision="fp32", runtime=runtime, tell_scenes=False)
        for runtime in placing.RUNTIMES
    )
    assert ", PyTorch, " in by_torch.described
    assert ", float32, ONNX Runtime, " in by_onnx.described
    expected, found = by_torch(given).table, by_onnx(given).table
    assert found["cell"].tolist() == expected["cell"].tolist()
    for column in ("confidence", "radius_50_km", "place_5_probability"):
        np.testing.assert_allclose(found[column].astype(float), expected[column].astype(float), rtol=1e-3)


def test_many_photos_go_through_workers_in_their_order_with_the_bad_among_them(lab):
    good, bad = (lab / "album" / "0.jpg").read_bytes(), b"no photo"
    files = {f"{number:03d}": bad if number % 7 == 3 else good for number in range(150)}
    placer = placing.ready(run_folders.find("first+first"), tell_scenes=False)
    found = placer(given_photos.of_bytes(files))
    assert found.table["id"].tolist() == list(files)
    unread = found.table["error"] != ""
    assert unread.tolist() == [number % 7 == 3 for number in range(150)]
    assert found.unread == unread.sum()
    assert found.table["latitude"][~unread].nunique() == 1
    assert found.table["latitude"][unread].isna().all()
    assert set(found.likeliest["id"]) == set(found.table["id"][~unread])


def test_networks_of_scenes_get_the_photos_of_their_scene(lab):
    given = given_photos.find(["album"])
    table = placing.ready(run_folders.find("isn-{scene}"))(given).table
    sound = table[table["error"] == ""]
    assert set(table["id"][table["error"] != ""]) == set(BAD)
    assert sound["scene"].isin(["indoor", "natural", "urban"]).all()
    for scene, part in sound.groupby("scene"):
        alone = placing.ready(run_folders.find(f"isn-{scene}"), tell_scenes=False)
        expected = alone(given_photos.find(part["id"].tolist())).table
        np.testing.assert_allclose(part["latitude"].astype(float), expected["latitude"].astype(float))


def test_a_kind_of_device_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no kind of device 'gpu': choose one of auto, cpu, cuda, mps"):
        devices.named("gpu")


def test_help_says_what_it_is_for(capsys):
    with pytest.raises(SystemExit):
        predict_command.run(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert predict_command.USE in told
    assert all(suffix in told for suffix in prediction_files.FORMS)
