"""One run on many devices, and one that is ended again and again."""

import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import (
    checkpoints,
    data_lists,
    fetch,
    gallery,
    launch,
    notebooks,
    paths,
    processes,
    recipe,
    training,
)

pytestmark = pytest.mark.alone

DATASET = "toy-earth-tiny"
TIMES = re.compile("seconds|photos_per_second")


@pytest.fixture(scope="module")
def root(tiny):
    """Where a small toy-earth lies, with its photos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(tiny))
        fetch.ensure(data_lists.read(DATASET), DATASET, "")
        yield tiny


def parameters(**given):
    """Of a run of a second or two that has all that could be forgotten: dropout, augmentation, averaged weights."""
    small = {
        "dataset": DATASET,
        "preset": "plain",
        "architecture": "mobilenet_v3_small",
        "weights": "none",
        "train_layers": "all",
    }
    quick = {"image_size": 32, "batch_size": 16, "epochs": 2, "ema_decay": 0.9, "learning_rate": 1e-3}
    return {**notebooks.defaults("04_training/train"), **small, **quick, **given}


def job(folder, **given):
    folder.mkdir(exist_ok=True, parents=True)
    return training.Job(*recipe.of(parameters(**given)), folder, folder.parent / f"{folder.name}-checkpoints")


def curves(folder):
    table = pd.read_json(folder / "metrics.jsonl", lines=True)
    return table.drop(columns=[name for name in table if TIMES.search(name)])


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@given(st.integers(1, 300), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_each_photo_is_seen_exactly_once_per_epoch_in_an_order_that_devices_do_not_change(
    photos, steps, count, parts, seed
):
    steps = min(steps, photos)

    def order(count, parts, epochs=2):
        of_ranks = [
            list(training.shares(photos, steps, range(epochs * steps), seed, _group(rank, count), parts))
            for rank in range(count)
        ]
        return [torch.cat([numbers for _, numbers in each]).tolist() for each in zip(*of_ranks, strict=True)]

    alone = order(1, count * parts)
    assert order(count, parts) == alone
    for epoch in (alone[:steps], alone[steps:]):
        assert sorted(number for step in epoch for number in step) == list(range(photos))
    resumed = training.shares(photos, steps, range(steps // 2, 2 * steps), seed, _group(0, 1), count * parts)
    assert [numbers.tolist() for _, numbers in resumed] == alone[steps // 2 :]


def _group(rank, count):
    return processes.Processes(rank, count, count, torch.device("cpu"))


@pytest.fixture(scope="module")
def in_two_parts(root):
    """A run of one process with two parts a step."""
    training_job = job(root / "in-two-parts", accumulation=2)
    training.train_alone(training_job)
    return training_job.folder


def test_two_processes_learn_what_one_does_in_two_parts(root, in_two_parts):
    two = job(root / "two-processes", devices=2)
    returned = launch.train(two)
    ours, theirs = curves(two.folder), curves(in_two_parts)
    assert returned["epoch"].tolist() == [1, 2]
    np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=1e-4)
    np.testing.assert_allclose(ours["validation_loss"], theirs["validation_loss"], rtol=1e-3)
    np.testing.assert_allclose(ours["median_km"], theirs["median_km"], rtol=1e-2)
    assert json.loads((two.folder / "config.json").read_text())["trained_on"]["processes"] == 2
    assert not list(two.folder.glob(processes.STACKS))
    assert not two.checkpoints.exists()


def test_a_frozen_backbone_on_two_processes_gives_the_same_heads(root):
    frozen = {"architecture": "efficientnet_lite0", "weights": "default", "train_layers": "heads"}
    one, two = job(root / "heads-1", **frozen), job(root / "heads-2", devices=2, **frozen)
    launch.train(two)
    training.train_alone(one)
    np.testing.assert_allclose(curves(two.folder)["train_loss"], curves(one.folder)["train_loss"], rtol=1e-5)


@pytest.mark.parametrize("layers", ["heads", "all"])
def test_two_processes_keep_the_gallery_that_one_does(root, layers):
    searching = {"preset": "search", "train_layers": layers, "epochs": 1}
    searching |= {"architecture": "efficientnet_lite0", "weights": "default"} if layers == "heads" else {}
    one, two = (job(root / f"search-{layers}-{count}", devices=count, **searching) for count in (1, 2))
    launch.train(two)
    training.train_alone(dataclasses.replace(one, running=dataclasses.replace(one.running, accumulation=2)))
    ours, theirs = (gallery.read(each.folder / gallery.FILE) for each in (two, one))
    np.testing.assert_array_equal(ours.coordinates, theirs.coordinates)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.keys.shape == theirs.keys.shape
    # Directions may point either way; what is compared is how alike photos are.
    alike = [each.keys @ each.keys.T for each in (ours, theirs)]
    if layers == "heads":
        torch.testing.assert_close(*alike, atol=5e-3, rtol=0)
        assert (ours.sharpness, ours.temperature) == (theirs.sharpness, theirs.temperature)
    else:  # of a network that learns, whitening widens what two processes round otherwise
        others = ~torch.eye(len(ours.keys), dtype=torch.bool)
        assert torch.corrcoef(torch.stack([each[others] for each in alike]))[0, 1] > 0.5
    said = (two.folder / "train.log").read_text()
    assert "share of process 1" in said
    assert said.count("sharpness") == 1


def test_the_others_end_well_while_one_makes_the_gallery(root, tmp_path):
    run = job(tmp_path / "run", preset="search", epochs=1)
    run.write(run.folder / "job.json")
    code = """
add = training._Run._add_gallery
def slowly(run):
    time.sleep(5)
    add(run)
training._Run._add_gallery = slowly
training.main()
"""
    ended = _run_script(tmp_path / "script.py", run.folder, code)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((run.folder / "config.json").read_text())["trained_on"]["processes"] == 2
    assert (run.folder / gallery.FILE).exists()


def test_two_machines_train_together(root, in_two_parts):
    meeting = f"127.0.0.1:{_free_port()}"
    two = job(root / "two-machines", devices=1, nodes=2, rendezvous=meeting)
    with _joining(meeting) as other:
        launch.train(two)
        assert other.wait(60) == 0
    np.testing.assert_allclose(curves(two.folder)["train_loss"], curves(in_two_parts)["train_loss"], rtol=1e-4)


@contextlib.contextmanager
def _joining(meeting, **environment):
    """Another machine, as far as these processes can tell."""
    command = [
        sys.executable,
        "-m",
        "helpers.launch",
        "--nodes=2",
        "--node=1",
        f"--rendezvous={meeting}",
        "--devices=1",
    ]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}) as other:
        try:
            yield other
        finally:
            other.kill()


def _free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_a_machine_with_other_files_is_refused(root, tmp_path):
    shutil.copytree(root / "data-lists", tmp_path / "data-lists")
    shutil.copytree(paths.cells(DATASET), tmp_path / "03_partitioning" / "cells" / DATASET)
    labels = tmp_path / "03_partitioning" / "cells" / DATASET / "labels.parquet"
    pd.read_parquet(labels).iloc[::-1].to_parquet(labels)
    meeting = f"127.0.0.1:{_free_port()}"
    with (
        _joining(meeting, PHOTO_GEOLOCATION_ROOT=str(tmp_path)),
        pytest.raises(launch.TrainingFailed, match=r"process \d has another labels than process \d"),
    ):
        launch.train(job(root / "other-files", devices=1, nodes=2, rendezvous=meeting))


def test_more_processes_than_devices_are_refused(root):
    available = os.cpu_count()
    with pytest.raises(ValueError, match=f"devices is {available + 1}, but this machine has {available} x core"):
        launch.train(job(root / "many", devices=available + 1))


def _attempt(training_job, root):
    os.environ["PHOTO_GEOLOCATION_ROOT"] = str(root)
    torch.set_num_threads(1)
    training.train_alone(training_job)


def test_killed_at_any_moment_it_ends_bit_for_bit_as_if_never_killed(root):
    # A checkpoint at every step, so that kills meet writing as well as computing.
    often = {"checkpoint_minutes": 0.0, "epochs": 14, "workers": 1}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.training"])

    def start(folder, **given):
        attempt = job(root / folder, **often, **given)
        process = context.Process(target=_attempt, args=(attempt, root))
        process.start()
        return attempt, process

    whole, process = start("whole")
    process.join()
    assert process.exitcode == 0

    moments = random.Random(7)
    for kill in range(12):
        attempt, process = start("killed", resume=kill > 0)
        wanted = _newest_step(attempt.checkpoints) + moments.randint(1, 2)
        while process.is_alive() and _newest_step(attempt.checkpoints) < wanted:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.08))
        assert process.is_alive()  # else it was not killed in the middle
        process.kill()
        process.join()
    attempt, process = start("killed", resume=True)
    process.join()
    assert process.exitcode == 0
    assert weights(attempt.folder) == weights(whole.folder)
    pd.testing.assert_frame_equal(curves(attempt.folder), curves(whole.folder))
    assert not attempt.checkpoints.exists()


def _newest_step(folder):
    return max((int(file.stem.rpartition("-")[2]) for file in folder.glob(checkpoints.FILES)), default=0)


def _stopped(training_job, after):
    """Train until a number of steps are done, as if ended there."""

    class Ended(Exception):
        pass

    write, written = checkpoints.write, []

    def ending(*arguments):
        write(*arguments)
        written.append(arguments)
        if len(written) == after:
            raise Ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "write", ending)
        with pytest.raises(Ended):
            training.train_alone(training_job)


def test_what_one_process_began_two_go_on_with(root, in_two_parts):
    started = job(root / "moved", accumulation=2, checkpoint_minutes=0.0)
    _stopped(started, after=8)
    go_on = job(root / "moved", devices=2, resume=True)
    launch.train(go_on)
    assert "going on from step 8, in epoch 2" in (go_on.folder / "train.log").read_text()
    np.testing.assert_allclose(curves(go_on.folder)["train_loss"], curves(in_two_parts)["train_loss"], rtol=1e-4)


def test_a_checkpoint_of_other_parameters_is_refused_and_they_are_named(root):
    _stopped(job(root / "other", checkpoint_minutes=0.0), after=1)
    with pytest.raises(ValueError, match=r"learning_rate was 0.001, is 0.5; epochs was 2, is 9.*resume False"):
        training.train_alone(job(root / "other", resume=True, learning_rate=0.5, epochs=9))


def test_a_run_that_begins_anew_says_that_another_was_not_finished(root, capsys):
    _stopped(job(root / "anew", checkpoint_minutes=0.0), after=1)
    training.train_alone(job(root / "anew"))
    assert "set resume True" in capsys.readouterr().out


def test_it_goes_on_while_the_disk_is_full(root, in_two_parts, capsys):
    full = job(root / "full", accumulation=2, checkpoint_minutes=0.0)
    full.checkpoints.mkdir()
    full = dataclasses.replace(full, checkpoints=Path("/dev/full/checkpoints"))
    training.train_alone(full)
    assert "training goes on" in capsys.readouterr().out
    assert weights(full.folder) == weights(in_two_parts)


def test_the_root_cause_of_a_failed_process_names_its_photos(root):
    labels = paths.cells(DATASET) / "labels.parquet"
    table = pd.read_parquet(labels)
    rows = data_lists.read(DATASET)
    spoilt = rows[rows["split"] == "train"]["id"].iloc[0]
    broken = table.copy()
    broken.loc[broken["id"] == spoilt, "coarse"] = 9999
    try:
        broken.to_parquet(labels)
        with pytest.raises(
            launch.TrainingFailed, match=r"IndexError: Target 9999 is out of bounds.*process \d, epoch 1"
        ):
            launch.train(job(root / "failing", devices=2, batch_size=32))
    finally:
        table.to_parquet(labels)
    assert spoilt in (root / "failing" / "train.log").read_text()


def test_a_killed_process_is_named_and_one_goes_on_where_two_were(root, in_two_parts):
    run = job(root / "shot", devices=2, checkpoint_minutes=0.0)
    shots = threading.Thread(target=_shoot_a_worker, args=(run,))
    shots.start()
    with pytest.raises(launch.TrainingFailed, match=r"process 1 of this machine was killed by SIGKILL.*memory"):
        launch.train(run)
    shots.join()
    training.train_alone(job(root / "shot", accumulation=2, resume=True))
    np.testing.assert_allclose(curves(run.folder)["train_loss"], curves(in_two_parts)["train_loss"], rtol=1e-4)


def _shoot_a_worker(run):
    """Kill a process in the middle of the first epoch."""
    deadline = time.monotonic() + 120
    while _newest_step(run.checkpoints) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
            # Not its reading workers, which are forked from it.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            launched = b"torch.distributed.run" in Path(f"/proc/{parent}/cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if str(run.folder / "job.json").encode() in command and b"RANK=1" in environment and launched:
            os.kill(int(entry.name), signal.SIGKILL)


def test_a_process_that_hangs_is_ended_and_says_where(root, tmp_path):
    script = tmp_path / "hanging.py"
    script.write_text(
        f"""
import time
from pathlib import Path
import torch
from helpers import processes

def sleeping_for_ever():
    time.sleep(1000)

with processes.joined() as group, processes.watched(Path({str(tmp_path)!r}), group, minutes=0.05) as watch:
    watch.progressed()
    if group.rank == 1:
        sleeping_for_ever()
    group.summed(torch.ones(1))
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120)
    assert ended.returncode
    said = launch._hung(tmp_path, 0.05)
    assert "no progress in 0.05 minutes" in said
    assert re.search(r"process 0: .*all_reduce", said)
    assert re.search(r"process 1: .*sleeping_for_ever", said)


def _run_script(script, folder, code, processes_count=2):
    """Train in processes whose code is changed first."""
    script.write_text(
        f"from pathlib import Path\nfrom helpers import features, processes, training\nimport time, torch\n{code}"
    )
    job_file = folder / "job.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes_count}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, str(script), str(job_file)], env=environment, capture_output=True, timeout=180)


def test_a_process_that_hangs_while_photos_are_judged_is_ended(root, tmp_path):
    run = job(tmp_path / "run", hang_minutes=0.1)
    run.write(run.folder / "job.json")
    code = """
judged = training._Run._judged
def hanging(run):
    if run.group.rank == 1:
        time.sleep(1000)
    return judged(run)
training._Run._judged = hanging
training.main()
"""
    assert _run_script(tmp_path / "script.py", run.folder, code).returncode
    assert re.search(r"process 1: .*in hanging", launch._hung(run.folder, 0.1))


def test_a_loss_that_is_not_finite_is_laid_to_the_process_that_has_it(root, tmp_path):
    run = job(tmp_path / "run")
    run.write(run.folder / "job.json")
    code = """
parts = training._Run._parts
def spoilt(run, batch):
    found = parts(run, batch)
    if run.group.rank == 1 and run.state.step == 0:
        names = list(run.training.rows["id"].iloc[batch.numbers.numpy()])
        (run.folder / "guilty.txt").write_text("\\n".join(names))
        run.loss.summed = lambda answers, *rest: (torch.full((3,), float("nan"), requires_grad=True) * sum(
            each.sum() for each in answers.values()), None)
    return found
training._Run._parts = spoilt
training.main()
"""
    assert _run_script(tmp_path / "script.py", run.folder, code).returncode
    told = [json.loads(file.read_text())["message"] for file in run.folder.glob(training.FAILED)]
    guilty = (run.folder / "guilty.txt").read_text().splitlines()
    assert told
    assert all("its loss is nan" in message and guilty[0] in message for message in told)


def test_photos_that_cannot_be_read_are_left_out_and_named(root, tmp_path):
    rows = data_lists.read(DATASET)
    spoilt = pd.concat([rows[rows["split"] == split].iloc[3:4] for split in ("train", "validation")])
    whole = {paths.photos(DATASET) / path: (paths.photos(DATASET) / path).read_bytes() for path in spoilt["path"]}
    for layers in ("all", "heads"):
        run = job(tmp_path / layers, train_layers=layers, image_size=40)
        refused = job(tmp_path / f"{layers}-refused", train_layers=layers, image_size=40, unreadable_photos=0)
        try:
            for photo, data in whole.items():
                photo.write_bytes(data[: len(data) // 2])
            training.train_alone(run)
            with pytest.raises(ValueError, match=r"photos cannot be read, and unreadable_photos allows 0"):
                training.train_alone(refused)
        finally:
            for photo, data in whole.items():
                photo.write_bytes(data)
        left_out = pd.read_csv(run.folder / "unreadable.csv")
        assert left_out["id"].tolist() == sorted(spoilt["id"])
        assert curves(run.folder)["unreadable_photos"].tolist() == [2, 2]
        assert math.isfinite(curves(run.folder)["train_loss"].iloc[-1])
