"""Start training from a notebook on every device of the machine."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from helpers import progress, training

_SECONDS_TO_END = 15.0
_RAISED = re.compile(r"(?:\[rank\d+\]: ?)?(?:\w+\.)*([A-Z]\w*: .+)")


class TrainingFailed(RuntimeError):
    """The training process ended with an error."""


def train(settings: training.Settings, folder: Path, processes: int = 1) -> pd.DataFrame:
    """Train in `processes` child processes, one per device, and return the metrics by epoch.

    The children run under torchrun in a session of their own. Their output is shown as it comes and kept in
    ``train.log``. They end when this process is interrupted, terminated or killed.

    Raises
    ------
    TrainingFailed
        With the error of the first process that failed.
    """
    settings_file = folder / "settings.json"
    settings_file.write_text(json.dumps(asdict(settings)))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"),
        *("-m", "helpers.training", str(settings_file), str(folder)),
    ]
    child = subprocess.Popen(
        command,
        env=progress.unwatched(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=training.end_with_parent,
    )
    tail: deque[str] = deque(maxlen=400)
    try:
        with (folder / "train.log").open("w") as log:
            for line in child.stdout or ():
                log.write(line)
                tail.append(line.rstrip())
                progress.show(line.rstrip())
        child.wait()
    finally:
        if child.poll() is None:
            child.terminate()  # torchrun passes it on to its workers, which a kill would leave behind
            try:
                child.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if child.returncode:
        raise TrainingFailed(_cause(tail) or f"the training process ended with code {child.returncode}")
    settings_file.unlink()
    return pd.read_json(folder / "metrics.jsonl", lines=True)


def _cause(lines: Iterable[str]) -> str:
    """Message of the exception that ended the first process to fail: the last one before torchrun's own report.

    Examples
    --------
    >>> log = ["ConnectionError: refused", "The above was the cause:", "[rank0]: helpers.models.WeightsError: none"]
    >>> _cause([*log, "E1120 api.py:1] failed (exitcode: 1) local_rank: 0", "elastic.ChildFailedError: main FAILED"])
    'WeightsError: none'
    """
    raised = ""
    for line in lines:
        if "failed (exitcode" in line:
            break
        match = _RAISED.match(line)
        raised = match[1] if match else raised
    return raised
