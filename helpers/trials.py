"""Train one trial of a sweep, in a folder that keeps what it found.

What a trial found is in ``trial.json``, whatever becomes of the database that leads the sweep.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import checkpoints, launch, metrics, model_cards, paths, recipe, training
from helpers.recipe import Running, Settings

RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
"""States of a trial; all but the first are final."""
FILE = "trial.json"
_LOCK = "lock"
_CHECKPOINTS = "checkpoints"
_MEASURES = (*metrics.SHARES, "median_km", "validation_loss", "train_loss")
_OF_A_RUN = ("model.safetensors", "training_places.parquet", "classes")  # kept of the best trial alone


class Pruned(Exception):
    """A trial that is not worth going on with."""


@dataclass(frozen=True)
class Trial:
    """What became of a trial."""

    place: int
    """Among the trials of its sweep, from 0; it names the folder."""
    state: str
    parameters: dict[str, Any]
    """Those that the sweep varies."""
    by_epoch: dict[int, float] = field(default_factory=dict)
    """The measure that the sweep goes by, after each epoch."""
    measured: dict[str, float] = field(default_factory=dict)
    """All measures of the epoch that was kept."""
    epoch: int = 0
    """The one that was kept."""
    seconds: float = 0.0
    reason: str = ""
    """Why it failed."""

    @classmethod
    def read(cls, folder: Path) -> "Trial | None":
        """The trial of a folder; None if it has none that can be read, which is said."""
        file = folder / FILE
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            by_epoch = {int(epoch): float(value) for epoch, value in told.pop("by_epoch").items()}
            return cls(**told, by_epoch=by_epoch)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            print(f"{file} is damaged ({error}): its trial is trained again", flush=True)
            return None

    def write(self, folder: Path) -> None:
        with paths.replacing(folder / FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @property
    def is_finished(self) -> bool:
        return self.state != RUNNING


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Work on a trial's folder when nobody else does any more; the lock ends with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine works on a trial."""
    if not (folder / _LOCK).exists():
        return False
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def train(
    folder: Path,
    place: int,
    parameters: Mapping[str, Any],
    settings: Settings,
    running: Running,
    told: Callable[[int, float], None],
) -> Trial:
    """Train a trial, and leave what it found in its folder.

    One that was interrupted goes on from its newest checkpoint.

    Parameters
    ----------
    folder : Path
        Of the trial, which this process has :func:`locked`.
    place : int
    parameters : mapping
        What the sweep varies; they take the place of those of `settings`.
    settings : Settings
    running : Running
    told : callable
        Is given each epoch with the measure that `settings` choose by; it raises :class:`Pruned` to end the trial.

    Returns
    -------
    Trial
        Also if training failed.
    """
    _clear(folder)
    Trial(place, RUNNING, dict(parameters)).write(folder)
    file, started, seen = folder / "metrics.jsonl", time.monotonic(), 0

    def watch(measured: pd.DataFrame, within: pd.DataFrame) -> None:
        nonlocal seen
        for row in measured.iloc[seen:].to_dict("records"):
            seen += 1
            if settings.best_by in row:
                told(int(row["epoch"]), float(row[settings.best_by]))

    state, reason = COMPLETE, ""
    try:
        wanted = replace(settings, **parameters, run_name=f"trial-{place:04d}")
        resumes = any((folder / _CHECKPOINTS).glob(checkpoints.FILES))
        job = training.Job(wanted, replace(running, resume=resumes), folder, folder / _CHECKPOINTS)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # train.log has it all
            launch.train(job, watch)
    except Pruned:
        state = PRUNED
    except (launch.TrainingFailed, ValueError) as error:
        state, reason = FAILED, str(error)
    curves = pd.read_json(file, lines=True) if file.exists() else pd.DataFrame()
    if state != FAILED and settings.best_by not in curves:
        state, reason = FAILED, f"no validation photo tells its {settings.best_by}"
    trial = Trial(place, state, dict(parameters), seconds=round(time.monotonic() - started, 1), reason=reason)
    if state != FAILED:
        epoch = model_cards.best_epoch(curves)
        kept = curves[curves["epoch"] == epoch].iloc[0]
        trial = replace(
            trial,
            by_epoch={int(row["epoch"]): float(row[settings.best_by]) for _, row in curves.iterrows()},
            measured={name: float(kept[name]) for name in _MEASURES if name in kept},
            epoch=epoch,
        )
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    trial.write(folder)
    return trial


def found(folder: Path) -> dict[int, Trial]:
    """Trials of a sweep by their places, from the folder that holds theirs."""
    read = [Trial.read(each.parent) for each in sorted(folder.glob(f"*/{FILE}"))]
    return {trial.place: trial for trial in read if trial}


def best(trials: Iterable[Trial], best_by: str) -> Trial | None:
    """The trial that did best, of several alike the one with the lower validation loss, then the first.

    Examples
    --------
    >>> some = [Trial(n, COMPLETE, {}, measured={"within_750km": value}) for n, value in enumerate([0.1, 0.3, 0.3])]
    >>> best([*some, Trial(3, FAILED, {})], "within_750km").place
    1
    """
    complete = [trial for trial in trials if trial.state == COMPLETE]

    def merit(trial: Trial) -> list[float]:
        return [*recipe.merit(trial.measured | {"epoch": 0}, best_by), -trial.place]

    return max(complete, key=merit, default=None)


def keep_best(folder: Path, best_by: str) -> None:
    """Delete the weights of finished trials but those of the best; their curves, logs and results stay.

    Trials that finish at the same time may both do it: what is the best of all is the best of any that were seen.
    """
    trials = found(folder)
    chosen = best(trials.values(), best_by)
    for place, trial in trials.items():
        if trial.is_finished and trial != chosen:
            for name in _OF_A_RUN:
                path = folder_of(folder, place) / name
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def folder_of(folder: Path, place: int) -> Path:
    """Folder of one trial in that of all."""
    return folder / f"{place:04d}"


def table(trials: Iterable[Trial], best_by: str) -> pd.DataFrame:
    """A row for each finished trial, the best first; below them those that were pruned or failed.

    Parameters
    ----------
    trials : iterable of Trial
    best_by : str
        The measure that the sweep goes by.

    Returns
    -------
    DataFrame
        ``trial, state``, the parameters, the measures of the epoch that was kept, ``epoch, seconds, reason``.
    """
    rows, left = [], [trial for trial in trials if trial.is_finished]
    while chosen := best(left, best_by):
        rows.append(chosen)
        left.remove(chosen)
    rows += sorted(left, key=lambda trial: (trial.state != PRUNED, trial.place))
    columns = [
        {"trial": trial.place, "state": trial.state, **trial.parameters, **trial.measured, "epoch": trial.epoch}
        | {"seconds": trial.seconds, "reason": trial.reason}
        for trial in rows
    ]
    made = pd.DataFrame(columns)
    last = [name for name in ("epoch", "seconds", "reason") if name in made]
    return made[[name for name in made if name not in last] + last]


def _clear(folder: Path) -> None:
    """Remove what an interrupted attempt left, but for what it can go on from."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != _CHECKPOINTS:
            shutil.rmtree(path)
        elif path.is_file() and path.name != _LOCK:
            path.unlink()
