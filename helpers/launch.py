"""Start training from a notebook on every device of the machine, and of others that join.

Other machines join with ``python -m helpers.launch --nodes 2 --node 1 --rendezvous 10.0.0.1:29400``.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from helpers import devices, processes, progress, training

_SECONDS_TO_END = 15.0
_RAISED = re.compile(r"(?:\[rank\d+\]: ?)?(?:\w+\.)*([A-Z]\w*: .+)")
_DIED = re.compile(r"failed \(exitcode: -(\d+)\) local_rank: (\d+)")
_STEP = re.compile(r"epoch (\d+)/\d+: (\d+)/(\d+) steps \(.+\), loss ([\d.]+|nan|inf)")
_EPOCH = re.compile(r"epoch (\d+)/\d+: loss ")

Watcher = Callable[[pd.DataFrame, pd.DataFrame], None]
"""Is given what was measured by epoch, and ``epoch`` (with fractions) and ``train_loss`` within them."""


class TrainingFailed(RuntimeError):
    """The training processes ended with an error."""


def train(job: training.Job, watcher: Watcher | None = None) -> pd.DataFrame:
    """Train in child processes, one per device, and return the metrics by epoch.

    The children run under torchrun in a session of their own. Their output is shown as it comes and kept in
    ``train.log``. They end when this process is interrupted, terminated or killed.

    Raises
    ------
    ValueError
        If there are not as many devices as asked for.
    TrainingFailed
        With the error of the first process that failed, or the stacks of processes that hung.
    """
    running = job.running
    command = _torchrun(running.devices, running.nodes, 0, running.rendezvous)
    file, reports = job.folder / "job.json", job.folder / "reports"
    job.write(file)
    child = subprocess.Popen(
        [*command, "--log-dir", str(reports), "-m", "helpers.training", str(file)],
        env=progress.unwatched() | _threads(running.devices),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=training.end_with_parent,
    )
    (job.folder / training.AGENT).write_text(str(child.pid))
    tail: deque[str] = deque(maxlen=400)
    curves = _Curves(job.folder / "metrics.jsonl", watcher)
    try:
        with (job.folder / "train.log").open("w") as log:
            for line in child.stdout or ():
                log.write(line)
                log.flush()
                tail.append(line.rstrip())
                progress.show(line.rstrip())
                curves.follow(line)
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
        hung, died = _hung(job.folder, running.hang_minutes), _died(tail)
        cause = hung or died or _first_failure(job.folder) or _first_report(reports) or _raised(tail)
        raise TrainingFailed(cause or f"the training process ended with code {child.returncode}")
    file.unlink()
    (job.folder / training.AGENT).unlink()
    shutil.rmtree(reports, ignore_errors=True)
    return pd.read_json(job.folder / "metrics.jsonl", lines=True)


def _torchrun(wanted: int, nodes: int, node: int, rendezvous: str) -> list[str]:
    """Command that starts a process for each device here, up to the module that they run."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={_processes(wanted)}"]
    if nodes == 1:
        return [*command, "--standalone"]
    address, _, port = rendezvous.rpartition(":")
    if not address or not port.isdecimal():
        raise ValueError(f"rendezvous {rendezvous!r} is no address and port, such as 10.0.0.1:29400")
    meeting = (f"--nnodes={nodes}", f"--node-rank={node}", f"--master-addr={address}", f"--master-port={port}")
    return [*command, *meeting]


def _processes(wanted: int) -> int:
    """Number of processes for `wanted` devices; for 0, all GPUs, or one process that uses every core."""
    device = devices.best_device()
    available = devices.count(device)
    if wanted > available:
        kind = "core" if device.type == "cpu" else devices.described(device)
        raise ValueError(f"devices is {wanted}, but this machine has {available} x {kind}: take fewer, or 0 for all")
    return wanted or (available if device.type == "cuda" else 1)


def _threads(wanted: int) -> dict[str, str]:
    """Processes that share the cores must not each take all of them."""
    count = _processes(wanted)
    return {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // count, 1))} if count > 1 else {}


class _Curves:
    """Collects what the training says of its loss, for somebody who watches."""

    def __init__(self, file: Path, watcher: Watcher | None) -> None:
        self.file, self.watcher = file, watcher
        self.steps: list[tuple[float, float]] = []

    def follow(self, line: str) -> None:
        step = _STEP.match(line)
        if step:
            epoch, done, steps, loss = step.groups()
            self.steps.append((int(epoch) - 1 + int(done) / int(steps), float(loss)))
        if self.watcher and (step or _EPOCH.match(line)):
            measured = pd.read_json(self.file, lines=True) if self.file.exists() else pd.DataFrame()
            self.watcher(measured, pd.DataFrame(self.steps, columns=["epoch", "train_loss"]))


def _hung(folder: Path, minutes: float) -> str:
    """Where processes hung, if any did: the innermost call of each process."""
    stacks = {file.stem.removeprefix("stack-"): file.read_text() for file in sorted(folder.glob(processes.STACKS))}
    if not any(stack.startswith("Timeout") for stack in stacks.values()):
        return ""
    where = [
        f"process {rank}: {' < '.join(line.strip() for line in _main_thread(stack)[:4])}"
        for rank, stack in stacks.items()
        if stack
    ]
    for rank, stack in stacks.items():
        print(f"stack of process {rank}:\n{stack}", flush=True)
    return (
        f"no progress in {minutes:g} minutes (hang_minutes), so training was ended; each process was here: "
        f"{'; '.join(where)}"
    )


def _main_thread(stack: str) -> list[str]:
    """Calls of the main thread, the innermost first: the last thread that is named.

    Examples
    --------
    >>> stack = "Thread 0x1 (most recent call first):\\n  File a\\n\\nThread 0x2 (most recent call first):\\n  File b"
    >>> _main_thread(stack)
    ['  File b']
    """
    return re.split(r".*hread 0x\w+.*:\n", stack)[-1].rstrip().splitlines()


def _died(lines: Iterable[str]) -> str:
    """What killed a process that could not say it itself.

    Examples
    --------
    >>> _died(["E1120 api.py:1] failed (exitcode: -9) local_rank: 1 (pid: 7) of binary: python"])
    'process 1 of this machine was killed by SIGKILL; systems do so when memory runs out: lower batch_size or workers'
    """
    for line in lines:
        match = _DIED.search(line)
        if match and int(match[1]) != signal.SIGTERM:
            name = signal.Signals(int(match[1])).name
            memory = "; systems do so when memory runs out: lower batch_size or workers" if name == "SIGKILL" else ""
            return f"process {match[2]} of this machine was killed by {name}{memory}"
    return ""


def _first_failure(folder: Path) -> str:
    """Message of the process that failed first, on whatever machine; the others fail because it is gone."""
    told = [json.loads(file.read_text()) for file in folder.glob(training.FAILED)]
    return min(told, key=lambda each: (each["lost"], each["time"]))["message"] if told else ""


def _first_report(folder: Path) -> str:
    """The same, of processes of this machine that failed before they could tell."""
    reports = []
    for file in folder.rglob("error.json"):
        message = json.loads(file.read_text())["message"]
        if isinstance(message, dict):
            reports.append((int(message["extraInfo"]["timestamp"]), message["message"]))
    return min(reports)[1] if reports else ""


def _raised(lines: Iterable[str]) -> str:
    """Message of the exception that ended the first process to fail: the last one before torchrun's own report.

    Examples
    --------
    >>> log = ["ConnectionError: refused", "The above was the cause:", "[rank0]: helpers.models.WeightsError: none"]
    >>> _raised([*log, "E1120 api.py:1] failed (exitcode: 1) local_rank: 0", "elastic.ChildFailedError: main FAILED"])
    'WeightsError: none'
    """
    raised = ""
    for line in lines:
        if "failed (exitcode" in line:
            break
        match = _RAISED.match(line)
        raised = match[1] if match else raised
    return raised


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.launch",
        description="Join a training that 04_training/train.ipynb has started on another machine, with the same files.",
    )
    parser.add_argument("--nodes", type=int, required=True, help="machines in all, as the notebook was told")
    parser.add_argument("--node", type=int, required=True, help="number of this machine: 1, 2, ...")
    parser.add_argument("--rendezvous", required=True, help="address and port of the first machine, as it was told")
    parser.add_argument("--devices", type=int, default=0, help="how many of this machine to use, by default all")
    given = parser.parse_args()
    if not 0 < given.node < given.nodes:
        parser.error(f"--node is from 1 to {given.nodes - 1}; the notebook runs on machine 0")
    try:
        command = _torchrun(given.devices, given.nodes, given.node, given.rendezvous)
    except ValueError as error:
        parser.error(str(error))
    os.environ |= _threads(given.devices)
    os.execv(command[0], [*command, "-m", "helpers.training"])


if __name__ == "__main__":
    main()
