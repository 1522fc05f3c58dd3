import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import launch, notebooks, training

SETTINGS = training.Settings(**notebooks.defaults("04_training/train"))


def test_the_error_of_the_child_is_raised_here(root):
    settings = dataclasses.replace(SETTINGS, dataset="nowhere")
    with pytest.raises(launch.TrainingFailed, match=r"MissingList: .*nowhere"):
        launch.train(settings, root)
    assert "nowhere" in (root / "train.log").read_text()


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, todo = [], [pid]
    while todo:
        todo += children.get(todo.pop(), [])
        found = found + [child for child in todo if child not in found]
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="children end with a killed parent on Linux only")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(root, end):
    # A child that waits forever for its data list.
    (root / "data-lists").mkdir()
    os.mkfifo(root / "data-lists" / "toy-earth.csv")
    code = (
        "import pathlib, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from helpers import launch, training, notebooks;"
        "settings = training.Settings(**notebooks.defaults('04_training/train'));"
        f"launch.train(settings, pathlib.Path({str(root)!r}))"
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
