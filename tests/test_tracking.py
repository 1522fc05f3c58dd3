"""What is logged offline is there, and nothing else: read from the file that would be sent."""

import getpass
import hashlib
import json
import shutil
import socket
import struct
import sys
from pathlib import Path

import pandas as pd
import pytest
from wandb.proto import wandb_internal_pb2

from helpers import data_lists, manifests, notebooks, paths, recipe, tracking, training

TINY = "toy-earth-tiny"  # of the fixture `tiny`
BLOCK = 32_768


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Root with a run on the tiny toy-earth."""
    root = tmp_path_factory.mktemp("tracked")
    shutil.copytree(tiny, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        given = {
            "dataset": TINY,
            "image_size": 64,
            "batch_size": 32,
            "epochs": 2,
            "run_name": "first",
            "preset": "plain",
        }
        given["photo_root"] = str(paths.photos(TINY))
        settings, running = recipe.of({**notebooks.defaults("04_training/train"), **given})
        output = manifests.begin(paths.run("first"), "04_training/train", given, recipe.sources(settings))
        training.train_alone(training.Job(settings, running, output.folder, root / "checkpoints"))
        output.counts = {"training photos": 107}
        manifests.finish(output)
    return root


@pytest.fixture
def run(trained, monkeypatch):
    """The run, where nothing of W&B is set."""
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(trained))
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return paths.run("first")


@pytest.fixture(scope="module")
def logged(trained, tmp_path_factory):
    """A copy of the run that was logged, by a user with an empty home; what was there before; and the home."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(trained))
        patch.setenv("HOME", str(home))
        for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY"):
            patch.delenv(name, raising=False)
        run = Path(shutil.copytree(paths.run("first"), paths.run("second")))
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        tracking.log_run(run, "wandb")
    return run, before, home


def records(file):
    """Records of a transaction log of W&B, which is a LevelDB log: blocks of fragments with checksum, length, kind."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    at, parts, found = 7, [], []
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # full, or the last of several
            found.append(wandb_internal_pb2.Record.FromString(b"".join(parts)))
            parts = []
    return found


def test_parameters_curves_classes_weights_and_test_list_are_logged(trained, logged, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(trained))
    run, before, _ = logged
    assert {path: path.read_bytes() for path in before} == before
    (log,) = run.glob("wandb/offline-run-*/*.wandb")
    told = records(log)

    sent = next(record.run for record in told if record.HasField("run"))
    assert (sent.project, sent.display_name) == ("photo-geolocation-lab", "second")
    config = {item.key: json.loads(item.value_json) for item in sent.config.update}
    kept = json.loads((run / "config.json").read_text())
    assert {name: config[name] for name in kept} == kept
    assert config["fingerprints"]["data list"] == manifests.fingerprint(paths.data_list(TINY))

    curves = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    history = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in told
        if record.HasField("history")
    ]
    assert [{name: row[name] for name in curves[0]} for row in history] == curves

    files = {}
    for record in told:
        if record.WhichOneof("record_type") == "request" and record.request.HasField("log_artifact"):
            artifact = record.request.log_artifact.artifact
        elif record.HasField("artifact"):
            artifact = record.artifact
        else:
            continue
        files[artifact.name] = {entry.path: entry for entry in artifact.manifest.contents}
    assert {name: set(each) for name, each in files.items()} == {
        "second-weights": {"model.safetensors", "config.json"},
        "second-label-mapping": {"coarse.csv", "middle.csv", "fine.csv"},
        "second-test-list": {"test_list.csv"},
    }
    for each in files.values():
        for entry in each.values():  # what will be sent is there, found from the folder of the run
            assert (run / entry.local_path).stat().st_size == entry.size
            assert not entry.local_path.startswith("/")
    rows = data_lists.read(TINY)
    sent_list = pd.read_csv(run / "wandb" / "test_list.csv", dtype=str)
    assert list(sent_list) == ["id", "latitude", "longitude", "sha256"]
    assert sent_list["id"].tolist() == rows[rows["split"] == "test"]["id"].tolist()


def test_nothing_of_the_machine_is_kept(trained, logged, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(trained))
    run, _, home = logged
    kept = b"".join(path.read_bytes() for path in (run / "wandb").rglob("*") if path.is_file())
    names = [name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4]  # shorter ones occur anyway
    words = [str(paths.SOURCE), str(paths.root()), str(home), "git@", "github", ".ipynb", *names]
    assert [word for word in words if word.encode() in kept] == []
    photos = [path.read_bytes() for path in sorted(paths.photos(TINY).rglob("*.jpg"))]
    assert photos
    assert not [photo for photo in photos if photo in kept]
    assert not list(home.iterdir())
    assert not list((run / "wandb").glob("debug*"))


def test_without_tracking_nothing_is_written(run):
    tracking.log_run(run, "none")
    assert not (run / "wandb").exists()


def test_a_run_that_cannot_be_logged_stays_as_it_was(run, monkeypatch):
    weights = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    path = paths.data_list(TINY)
    original = path.read_bytes()
    try:
        path.write_bytes(original + b"\n")
        with pytest.raises(
            tracking.TrackingFailed, match=r"is finished, but .*data list .*has changed.*tracking first"
        ):
            tracking.log_run(run, "wandb")
    finally:
        path.write_bytes(original)
    assert hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest() == weights
    assert not (run / "wandb").exists()


def test_what_is_lacking_is_said_before_any_work(monkeypatch):
    parameters = notebooks.defaults("04_training/train")
    monkeypatch.setenv("WANDB_MODE", "onlin")
    recipe.of(parameters)
    with pytest.raises(ValueError, match="WANDB_MODE is 'onlin': set it to one of offline, online"):
        recipe.of({**parameters, "tracking": "wandb"})
    with pytest.raises(ValueError, match="no tracking 'mlflow': choose one of none, wandb"):
        recipe.of({**parameters, "tracking": "mlflow"})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[wandb\]"'):
        recipe.of({**parameters, "tracking": "wandb"})


def test_a_library_that_cannot_keep_quiet_is_refused(monkeypatch):
    class Old:
        __version__ = "0.17.0"
        Settings = type("Settings", (), {"disable_git": True})

    monkeypatch.setitem(sys.modules, "wandb", Old)
    with pytest.raises(ImportError, match=r"this wandb, 0\.17\.0, cannot be told to keep quiet .*x_disable_meta"):
        tracking.check("wandb")


def test_how_a_run_is_logged_is_not_what_it_learns():
    defaults = notebooks.defaults("04_training/train")
    assert recipe.of(defaults)[0] == recipe.of({**defaults, "tracking": "wandb"})[0]
