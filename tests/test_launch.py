import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import descendants

from helpers import launch, notebooks, recipe, training

pytestmark = pytest.mark.alone

SETTINGS, RUNNING = recipe.of(notebooks.defaults("04_training/train"))


def test_the_error_of_the_child_is_raised_here(root):
    settings = dataclasses.replace(SETTINGS, dataset="nowhere")
    with pytest.raises(launch.TrainingFailed, match=r"MissingList: .*nowhere"):
        launch.train(training.Job(settings, RUNNING, root, root / "checkpoints"))
    assert "nowhere" in (root / "train.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="children end with a killed parent on Linux only")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(root, end):
    # A child that waits forever for its data list.
    (root / "data-lists").mkdir()
    os.mkfifo(root / "data-lists" / "toy-earth.csv")
    code = (
        "import pathlib, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from helpers import launch, notebooks, recipe, training;"
        f"root = pathlib.Path({str(root)!r});"
        "launch.train(training.Job(*recipe.of(notebooks.defaults('04_training/train')), root, root / 'checkpoints'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(descendants(parent.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        started = descendants(parent.pid)
        assert len(started) >= 2  # torchrun and its worker
        parent.send_signal(end)
        parent.wait(30)
        while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline + 30:
            time.sleep(0.2)
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    finally:
        parent.kill()


def test_somebody_who_watches_sees_the_loss_within_an_epoch(tmp_path):
    seen = []
    curves = launch._Curves(tmp_path / "metrics.jsonl", lambda table, steps: seen.append((len(table), steps)))
    curves.follow("loading\n")
    curves.follow("epoch 1/4: 5/20 steps (25 %), loss 3.250, 120 photos/s, 4 min left\n")
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 3.1}\n')
    curves.follow("epoch 1/4: loss 3.100, validation 2.9\n")
    assert [count for count, _ in seen] == [0, 1]
    assert seen[-1][1].to_dict("list") == {"epoch": [0.25], "train_loss": [3.25]}


@pytest.mark.parametrize("rendezvous", ["10.0.0.1", ":29400", "10.0.0.1:port"])
def test_a_rendezvous_is_an_address_and_a_port(rendezvous):
    with pytest.raises(ValueError, match="no address and port"):
        launch._torchrun(1, 2, 0, rendezvous)


@pytest.mark.parametrize("node", ["0", "2", "-1"])
def test_a_machine_that_joins_has_a_number_of_its_own(node):
    command = [sys.executable, "-m", "helpers.launch", "--nodes=2", f"--node={node}", "--rendezvous=127.0.0.1:29400"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--node is from 1 to 1" in refused.stderr
