import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import drive, notebooks, paths

RUN = "toy-earth-multi"


@pytest.fixture
def mirror(root, tmp_path):
    """A Drive beside an empty machine."""
    (tmp_path / "drive").mkdir()
    return drive.Mirror(drive.home(tmp_path / "drive"), RUN)


def checkpoint(step, content="weights"):
    file = paths.checkpoints(RUN) / f"checkpoint-{step:09d}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def on_drive(mirror, folder="04_training/checkpoints/" + RUN):
    found = mirror.home / folder
    return {file.name: file.read_text() for file in found.iterdir()} if found.exists() else {}


def finish_run(text="{}"):
    run = paths.run(RUN)
    (run / "classes").mkdir(parents=True, exist_ok=True)
    (run / "classes" / "fine.csv").write_text("hex_id")
    (run / "manifest.json").write_text(text)
    return run


def lost(monkeypatch, tmp_path):
    """The machine is gone, and another stands in its place."""
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path / "another"))


def test_a_new_machine_gets_the_checkpoints_that_the_last_one_left(mirror, tmp_path, monkeypatch):
    checkpoint(10, "ten")
    checkpoint(20, "twenty")
    (paths.checkpoints(RUN) / ".checkpoint-000000030.safetensors.7.partial").write_text("half")
    assert mirror.write_back()
    lost(monkeypatch, tmp_path)
    drive.Mirror(mirror.home, RUN).restore(checkpoints=True)
    kept = {file.name: file.read_text() for file in paths.checkpoints(RUN).iterdir()}
    assert kept == {"checkpoint-000000010.safetensors": "ten", "checkpoint-000000020.safetensors": "twenty"}


def test_old_checkpoints_leave_the_drive_once_a_newer_one_is_there(mirror, monkeypatch):
    old = checkpoint(10)
    mirror.write_back()
    old.unlink()
    checkpoint(20)
    copy = drive._copy

    def with_a_look(source, target):
        assert "checkpoint-000000010.safetensors" in on_drive(mirror)
        copy(source, target)

    monkeypatch.setattr(drive, "_copy", with_a_look)
    assert mirror.write_back()
    assert list(on_drive(mirror)) == ["checkpoint-000000020.safetensors"]


def test_without_checkpoints_here_those_on_the_drive_stay(mirror):
    file = checkpoint(10)
    mirror.write_back()
    file.unlink()
    assert mirror.write_back()
    assert list(on_drive(mirror)) == [file.name]


def test_a_checkpoint_of_the_same_step_and_size_by_another_training_is_written_anew(mirror):
    checkpoint(10, "first")
    drive.Mirror(mirror.home, RUN).write_back()
    file = checkpoint(10, "other")
    drive.Mirror(mirror.home, RUN).write_back()
    assert on_drive(mirror) == {file.name: "other"}


def test_what_did_not_change_is_not_written_again(mirror):
    file = checkpoint(10)
    mirror.write_back()
    copied = mirror.home / "04_training" / "checkpoints" / RUN / file.name
    before = copied.stat().st_ino
    mirror.write_back()
    assert copied.stat().st_ino == before


def test_newer_checkpoints_of_this_machine_are_not_mixed_with_older_ones(mirror):
    checkpoint(10)
    mirror.write_back()
    (paths.checkpoints(RUN) / "checkpoint-000000010.safetensors").unlink()
    checkpoint(20)
    drive.Mirror(mirror.home, RUN).restore(checkpoints=True)
    assert [file.name for file in paths.checkpoints(RUN).iterdir()] == ["checkpoint-000000020.safetensors"]


@pytest.mark.parametrize("is_unmounted", [True, False])
def test_a_drive_that_vanishes_is_told_of_tried_again_and_never_made_anew(mirror, tmp_path, capsys, is_unmounted):
    there, away = tmp_path / "drive", tmp_path / "away"
    checkpoint(10)
    there.rename(away)
    if is_unmounted:
        there.mkdir()  # the empty place where it was mounted
    assert not mirror.write_back()
    assert "training goes on here, and the Drive is tried again" in capsys.readouterr().out
    assert not mirror.end(finished=False)
    assert f"what was trained is in {paths.checkpoints(RUN)}: copy it" in capsys.readouterr().out
    assert there.exists() == is_unmounted
    assert not is_unmounted or not any(there.iterdir())
    if is_unmounted:
        there.rmdir()
    away.rename(there)
    assert mirror.write_back()
    assert "the Drive is back" in capsys.readouterr().out
    assert list(on_drive(mirror)) == ["checkpoint-000000010.safetensors"]


def test_a_full_drive_keeps_what_it_has_and_no_half(mirror, monkeypatch, capsys):
    checkpoint(10)
    mirror.write_back()
    checkpoint(20, "x" * 100)

    def full(reader, writer, _):
        writer.write(reader.read(50))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(drive.shutil, "copyfileobj", full)
        assert not mirror.write_back()
    assert "No space left" in capsys.readouterr().out
    assert on_drive(mirror) == {"checkpoint-000000010.safetensors": "weights"}
    assert mirror.write_back()
    assert len(on_drive(mirror)) == 2


def test_a_copy_that_lost_bytes_is_refused(tmp_path, monkeypatch):
    (tmp_path / "whole").write_bytes(b"x" * 100)
    monkeypatch.setattr(drive.shutil, "copyfileobj", lambda reader, writer, _: writer.write(reader.read(50)))
    with pytest.raises(OSError, match="50 of 100 bytes of whole arrived"):
        drive._copy(tmp_path / "whole", tmp_path / "copy")
    assert [file.name for file in tmp_path.iterdir()] == ["whole"]


def test_what_a_killed_process_left_on_the_drive_is_swept(mirror):
    checkpoint(10)
    mirror.write_back()
    (mirror.home / "04_training" / "checkpoints" / RUN / ".checkpoint-000000007.safetensors.partial").write_text("half")
    drive.Mirror(mirror.home, RUN).write_back()
    assert list(on_drive(mirror)) == ["checkpoint-000000010.safetensors"]


def test_a_notebook_that_is_just_being_written_waits(mirror):
    executed = paths.run(RUN).with_name(f"{RUN}.ipynb")
    executed.parent.mkdir(parents=True)
    executed.write_text('{"cells": [')
    assert mirror.write_back()
    assert on_drive(mirror, "04_training/runs") == {}
    executed.write_text('{"cells": []}')
    assert mirror.write_back()
    assert on_drive(mirror, "04_training/runs") == {f"{RUN}.ipynb": '{"cells": []}'}


def test_a_finished_run_takes_the_place_of_its_checkpoints_on_the_drive(mirror, tmp_path, monkeypatch, capsys):
    checkpoint(10)
    executed = paths.run(RUN).with_name(f"{RUN}.ipynb")
    executed.parent.mkdir(parents=True)
    executed.write_text("{}")
    mirror.write_back()
    for text in ('{"seed": 7}', '{"seed": 8}'):  # the second replaces the first
        finish_run(text)
        assert mirror.end(finished=True)
        there = mirror.home / "04_training" / "runs"
        assert [file.name for file in there.iterdir()] == [RUN]
        assert (there / RUN / "manifest.json").read_text() == text
    assert str(there / RUN) in capsys.readouterr().out
    assert not (mirror.home / "04_training" / "checkpoints" / RUN).exists()
    lost(monkeypatch, tmp_path)
    drive.Mirror(mirror.home, RUN).restore(checkpoints=True)
    assert (paths.run(RUN) / "classes" / "fine.csv").read_text() == "hex_id"


def test_a_run_is_finished_if_it_learned_with_these_parameters_wherever_and_however(root):
    parameters = notebooks.defaults(drive.NOTEBOOK)
    assert not drive.is_finished(paths.run(RUN), parameters)
    run = finish_run(json.dumps({"parameters": {**parameters, "photo_root": "/elsewhere", "resume": True}}))
    assert drive.is_finished(run, parameters)
    assert not drive.is_finished(run, {**parameters, "epochs": parameters["epochs"] + 1})


def packed(home, dataset):
    """Shards on the Drive, as far as copying looks at them."""
    folder = home / "shards" / dataset
    folder.mkdir(parents=True)
    files = {"shard-00000.tar": "photos", "shard-00000.parquet": "index", "packing.json": "{}", f"{dataset}.csv": "#\n"}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_packed_photos_are_copied_once_and_follow_the_drive(mirror, monkeypatch, capsys):
    there = packed(mirror.home, "mine")
    drive.bring(mirror.home, "mine")
    here = Path(drive.bring_photos(mirror.home, "mine"))
    assert {file.name: file.read_text() for file in here.iterdir()} == {
        file.name: file.read_text() for file in there.iterdir()
    }
    assert paths.data_list("mine").read_text() == "#\n"
    capsys.readouterr()
    assert drive.bring_photos(mirror.home, "mine") == str(here)
    assert "copying" not in capsys.readouterr().out
    # What was interrupted has a part of the files, and a half one under another name.
    (here / "shard-00000.tar").unlink()
    (here / ".shard-00000.tar.partial").write_text("ph")
    (there / "packing.json").write_text("[]")
    drive.bring_photos(mirror.home, "mine")
    copied = capsys.readouterr().out
    assert "1 of 2: packing.json" in copied
    assert "2 of 2: shard-00000.tar" in copied
    assert sorted(file.name for file in here.iterdir()) == sorted(file.name for file in there.iterdir())


def test_a_list_and_classes_of_this_machine_stay(mirror):
    for home, text in ((paths.root(), "here"), (mirror.home, "drive")):
        (home / "data-lists").mkdir(parents=True)
        (home / "data-lists" / "mine.csv").write_text(text)
        (home / "03_partitioning" / "cells" / "mine").mkdir(parents=True)
        (home / "03_partitioning" / "cells" / "mine" / "manifest.json").write_text(text)
    scenes = mirror.home / "02_scenes" / "scenes" / "mine"
    scenes.mkdir(parents=True)
    (scenes / "manifest.json").write_text("drive")
    drive.bring(mirror.home, "mine")
    assert paths.data_list("mine").read_text() == "here"
    assert (paths.cells("mine") / "manifest.json").read_text() == "here"
    assert (paths.scenes("mine") / "manifest.json").read_text() == "drive"


def test_photos_that_have_no_room_are_refused_before_the_first_is_copied(mirror, monkeypatch):
    packed(mirror.home, "mine")
    monkeypatch.setattr(drive, "_BYTES_TO_SPARE", 1 << 60)
    with pytest.raises(drive.DriveError, match=r"GB are free .*PHOTO_GEOLOCATION_ROOT"):
        drive.bring_photos(mirror.home, "mine")
    assert not list(paths.shards("mine").rglob("*.*"))


def test_photos_that_are_still_being_packed_are_refused(mirror):
    (packed(mirror.home, "mine") / ".shard-00001.tar.partial").write_text("")
    with pytest.raises(drive.DriveError, match="still being packed: let `make pack` end"):
        drive.bring_photos(mirror.home, "mine")


def test_a_drive_that_is_not_there_is_named(tmp_path):
    with pytest.raises(drive.DriveError, match=r"nowhere cannot be used .*mount it first"):
        drive.home(tmp_path / "nowhere")


def test_parameters_are_read_as_papermill_reads_them(tmp_path):
    (tmp_path / "more.yaml").write_text("epochs: 9\nseed: 3\n")
    arguments = ["-f", str(tmp_path / "more.yaml"), "-p", "epochs", "4", "-r", "run_name", "2024", "--cwd", "."]
    given, parameters = drive.chosen(arguments)
    assert given == {"epochs": 4, "seed": 3, "run_name": "2024"}
    assert (parameters.epochs, parameters.seed, parameters.run_name) == (4, 3, "2024")
    assert parameters.dataset == "toy-earth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "epoch", "3"], "no parameter 'epoch', did you mean 'epochs'"),
        (["-p", "partition", "mutli"], "did you mean 'multi'"),
        (["multi"], "papermill does not take this: .*multi"),
        (["-p", "epochs"], "papermill does not take this"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_copied(arguments, message):
    with pytest.raises(notebooks.ParameterError, match=message):
        drive.chosen(arguments)


def test_a_command_is_attended_to_its_end():
    calls = []
    assert (
        drive._attended([sys.executable, "-c", "import time; time.sleep(0.5); exit(7)"], 0.1, lambda: calls.append(1))
        == 7
    )
    assert calls


@pytest.mark.skipif(sys.platform != "linux", reason="children end with a killed parent on Linux only")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_command_outlives_the_one_who_attends_it(tmp_path, end):
    pid_file = tmp_path / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = (
        "import signal, sys; from helpers import drive\n"
        "for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(each, drive._end)\n"
        f"drive._attended([sys.executable, '-c', {child!r}], 600, lambda: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=paths.SOURCE)
    try:
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        parent.send_signal(end)
        status = parent.wait(30)
        assert status == (-end if end == signal.SIGKILL else 128 + end)
        while Path(f"/proc/{pid_file.read_text()}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid_file.read_text()}").exists()
    finally:
        parent.kill()
        parent.wait()
