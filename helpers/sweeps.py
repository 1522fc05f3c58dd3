"""Try many parameters of training, and find which do best on validation photos.

``04_training/sweep.ipynb`` starts a sweep and its workers. Others join with ``python -m helpers.sweeps NAME``, from any
machine that shares the disk and reaches the database.

An Optuna study in a database hands out the trials, so that no two workers take the same one. What a trial found is in
its folder too: a study that is lost is made anew from there, and nothing is trained twice.
"""

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from helpers import (
    checkpoints,
    devices,
    inputs,
    manifests,
    notebooks,
    paths,
    progress,
    recipe,
    search_spaces,
    training,
    trials,
)
from helpers.recipe import Running, Settings

try:
    import optuna
    import sqlalchemy
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ImportError(f'a sweep needs Optuna: pip install -e ".[sweeps]" in this checkout ({error})') from error

PRUNINGS = ("none", "median")
STORAGE = "SWEEP_STORAGE"
"""Environment variable with the URL of a database, for those with a password in it."""

_DATABASE = "study.db"
_FILE = "sweep.json"
_LOCK = "sweep.lock"
_SECONDS_TO_END = 30.0  # torchrun is given half of it
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_TO_LOCK = 5.0  # that a worker may take from its trial to the lock on its folder
_SECONDS_BETWEEN_EPOCH_LINES = 30.0
_HEARTBEAT, _GRACE = 10, 60  # seconds: when a worker of another machine is thought to have ended
_WAITS = (1, 2, 4, 8, 16)  # seconds, for a database that does not answer
_ROUNDS_IN_VAIN = 3
_LOST = 75  # exit status of a worker whose database is gone
_PLACE, _REASON, _SWEEP = "place", "reason", "sweep"  # attributes in the database
# The last is what Optuna raises for what is not in a database any more.
_DATABASE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError, KeyError)


class SweepFailed(RuntimeError):
    """A sweep that cannot go on."""


class _TrialFailed(RuntimeError):
    """A trial that failed; the sweep goes on."""


@dataclass(frozen=True)
class Sweep:
    """What is tried, and how it is computed."""

    name: str
    preset: str
    trials: int
    pruning: str
    settings: Settings
    """Of every trial, but for the parameters of the preset."""
    running: Running
    parallel_trials: int
    devices_per_trial: int
    storage: str = field(default="", repr=False)
    """URL of a database, which may hold a password; empty: a file."""

    def __post_init__(self) -> None:
        if self.preset not in search_spaces.PRESETS:
            raise ValueError(f"no preset {self.preset!r}: choose one of {', '.join(search_spaces.PRESETS)}")
        if self.pruning not in PRUNINGS:
            raise ValueError(f"no pruning {self.pruning!r}: choose one of {', '.join(PRUNINGS)}")
        for name in ("trials", "parallel_trials", "devices_per_trial"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        wanted = self.space.train_layers
        if wanted and self.settings.train_layers != wanted:
            raise ValueError(
                f"preset {self.preset!r} varies what matters with train_layers {wanted!r} alone: set it, or choose "
                "another preset"
            )

    @property
    def space(self) -> search_spaces.SearchSpace:
        return search_spaces.PRESETS[self.preset]

    @property
    def points(self) -> list[dict[str, Any]]:
        """Parameters of the trials, empty for those that are sampled."""
        return self.space.points() if self.space.grid else [{} for _ in range(self.trials)]

    @property
    def folder(self) -> Path:
        """With all of the sweep."""
        return paths.sweep(self.name)

    @property
    def trial_folder(self) -> Path:
        """With a folder for each trial."""
        return self.folder / "trials"

    @property
    def url(self) -> str:
        """Of its database."""
        return self.storage or f"sqlite:///{self.folder / _DATABASE}"

    @property
    def direction(self) -> optuna.study.StudyDirection:
        more_is_better = recipe.merit({self.settings.best_by: 1.0, "epoch": 0}, self.settings.best_by)[0] > 0
        return optuna.study.StudyDirection.MAXIMIZE if more_is_better else optuna.study.StudyDirection.MINIMIZE

    def identity(self) -> dict[str, Any]:
        """What must be the same to go on with a sweep."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in self.space.parameters}
        folders = {"photo_root": "", "weights": Path(self.settings.weights).name}
        files = {f"the {name}": manifests.fingerprint(path) for name, path in recipe.sources(self.settings).items()}
        varied = {"preset": self.preset, "pruning": self.pruning, "its parameters": self.space.parameters}
        return json.loads(json.dumps({**settings, **varied, **folders, **files}))


def choices() -> dict[str, tuple[str, ...]]:
    """Words that the parameters of ``04_training/sweep.ipynb`` take."""
    known = notebooks.defaults("04_training/sweep")
    own = {"preset": tuple(search_spaces.PRESETS), "pruning": PRUNINGS}
    return {name: tuple(words) for name, words in recipe.CHOICES.items() if name in known} | own


def of(parameters: Mapping[str, Any]) -> Sweep:
    """A sweep from the parameters of ``04_training/sweep.ipynb``; what it does not name is as in ``train.ipynb``.

    Raises
    ------
    ValueError
        For parameters that do not go together, or a password where an executed notebook would keep it.
    """
    given = {**notebooks.defaults("04_training/train"), **parameters, "run_name": "", "workers": 0}
    # Of a sweep the preset says what varies; a search among training photos comes with training the best of it anew.
    settings, running = recipe.of({**given, "preset": "plain"})
    storage = checked_url(given["storage"]) or os.environ.get(STORAGE, "")
    gpus = _gpus()
    if given["devices_per_trial"] > max(len(gpus), 1):
        raise ValueError(f"devices_per_trial is {given['devices_per_trial']}, but this machine has {len(gpus)} GPUs")
    together = given["parallel_trials"] or max(len(gpus) // max(given["devices_per_trial"], 1), 1)
    readers = inputs.default_workers(together * given["devices_per_trial"]) if together > 1 else 0
    own = {name: given[name] for name in ("preset", "trials", "pruning", "devices_per_trial")}
    return Sweep(
        name=paths.sweep(notebooks.sweep_name(given)).name,
        settings=settings,
        running=replace(running, workers=readers),
        parallel_trials=together,
        storage=storage,
        **own,
    )


def prepared(sweep: Sweep, rows: pd.DataFrame) -> Sweep:
    """A sweep whose photos are sure to be there; see :func:`helpers.recipe.prepared`.

    Raises
    ------
    ValueError
        If there are no validation photos.
    """
    if not (rows["split"] == "validation").any():
        raise ValueError(
            f"{sweep.settings.dataset} has no validation photos, which alone choose between trials: make its list "
            "with a validation_share"
        )
    return replace(sweep, settings=recipe.prepared(sweep.settings, sweep.running, rows))


def checked_url(url: str) -> str:
    """The URL of a database, sure to hold no password, because what is given here is shown and kept.

    Examples
    --------
    >>> checked_url("postgresql://anna@db.example/sweeps")
    'postgresql://anna@db.example/sweeps'
    >>> checked_url("postgresql://anna:secret@db.example/sweeps")
    Traceback (most recent call last):
    ...
    ValueError: storage holds a password, which would be kept with what this writes: change that password, and give ...
    """
    if not url:
        return ""
    parsed = _parsed(url)
    if parsed.password or any("pass" in name.lower() for name in parsed.query):
        raise ValueError(
            "storage holds a password, which would be kept with what this writes: change that password, and give the "
            f"URL in the environment variable {STORAGE}, or leave the password to the driver (~/.pgpass, ~/.my.cnf)"
        )
    return url


def run(sweep: Sweep) -> pd.DataFrame:
    """Run the trials that a sweep still lacks, and return what all of them found.

    Workers are processes of their own that end with this one. A trial that fails is recorded and the sweep goes on; a
    worker that dies, or a database that is lost, costs no trial that is finished.

    Returns
    -------
    DataFrame
        From :func:`helpers.trials.table`.

    Raises
    ------
    ValueError
        If an earlier sweep of this name was another one.
    SweepFailed
        If it is being run already, its database cannot be reached, no trial goes on, or all have failed.
    """
    with _running_alone(sweep):
        _remember(sweep)
        in_vain, before, last_words = 0, -1, ""
        while True:
            done, waiting, under_way = _arranged(sweep)
            if not waiting and not under_way:
                break
            if not waiting:  # of workers elsewhere
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                continue
            in_vain, before = in_vain + 1 if done == before else 0, done
            if in_vain == _ROUNDS_IN_VAIN:
                raise SweepFailed(f"its workers end without finishing a trial, the last one with: {last_words}")
            # What a frozen backbone says of photos is kept, so let one worker ask for it, and not all at once.
            first_alone = sweep.settings.train_layers == "heads" and not done
            count = 1 if first_alone else min(waiting, sweep.parallel_trials)
            last_words = _workers(sweep, count, 1 if first_alone else len(sweep.points))
    found = trials.found(sweep.trial_folder).values()
    if not trials.best(found, sweep.settings.best_by):
        reasons = " / ".join(dict.fromkeys(trial.reason for trial in found))
        raise SweepFailed(f"none of the {len(found)} trials of {sweep.name} came to its end: {reasons}")
    return trials.table(found, sweep.settings.best_by)


def importances(sweep: Sweep) -> pd.Series:
    """How much each parameter matters for being among the best tenth of the trials, as shares; empty if too few tell.

    Notes
    -----
    Watanabe, Bansal, Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces
    (IJCAI 2023), as Optuna computes it.
    """
    study = _study(sweep)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2 or len({trial.value for trial in complete}) == 1:
        return pd.Series(dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return pd.Series(found, dtype=float)


def command(sweep: Sweep, table: pd.DataFrame) -> str:
    """Shell command that trains the best parameters as a run of their own."""
    defaults = notebooks.defaults("04_training/train")
    best = {name: table[name].iloc[0] for name in sweep.space.parameters}
    given = {**asdict(sweep.settings), **best, "preset": defaults["preset"], "run_name": f"{sweep.name}-best"}
    return manifests.command(
        "04_training/train", {name: value for name, value in given.items() if value != defaults[name]}
    )


def work(sweep: Sweep, most: int = sys.maxsize) -> None:
    """Take trials of a sweep, one after the other, until none is waiting, or `most` were taken."""
    study, taken = _study(sweep), 0
    while taken < most and study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        try:
            study.optimize(functools.partial(_objective, sweep), n_trials=1, catch=(_TrialFailed,))
        except AssertionError as error:  # of Optuna, where it cannot write what it can still read
            if isinstance(error.__context__, _DATABASE_ERRORS):
                raise error.__context__ from None
            raise
        taken += 1


def _objective(sweep: Sweep, trial: optuna.Trial) -> float:
    place = trial.user_attrs.get(_PLACE)
    if place is None:
        raise _TrialFailed("the last trial that waited was taken by another worker")
    # By place, so that what a trial is given does not depend on who takes it.
    seed = (sweep.settings.seed * 1_000_003 + place) % 2**32
    trial.study.sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=False, constant_liar=sweep.parallel_trials > 1
    )
    parameters = sweep.space.suggested(trial)
    folder = trials.folder_of(sweep.trial_folder, place)
    try:
        with trials.locked(folder):
            found = trials.Trial.read(folder)
            if found is None or not found.is_finished or found.parameters != parameters:
                told = _told(sweep, trial, place)
                found = trials.train(folder, place, parameters, sweep.settings, sweep.running, told)
                trials.keep_best(sweep.trial_folder, sweep.settings.best_by)
                print(_line(sweep, found), flush=True)
            else:
                for epoch, value in found.by_epoch.items():
                    trial.report(value, epoch)
    except (SystemExit, KeyboardInterrupt):
        with contextlib.suppress(*_DATABASE_ERRORS):
            trial.study.tell(trial, state=TrialState.FAIL)
        sys.exit(128 + signal.SIGTERM)
    if found.state == trials.FAILED:
        trial.set_user_attr(_REASON, found.reason)
        raise _TrialFailed(found.reason)
    if found.state == trials.PRUNED:
        raise optuna.TrialPruned
    return found.measured[sweep.settings.best_by]


def _told(sweep: Sweep, trial: optuna.Trial, place: int) -> Callable[[int, float], None]:
    """What listens to the epochs of a trial; a database that is lost meanwhile does not end it."""
    spoken = time.monotonic()

    def told(epoch: int, value: float) -> None:
        nonlocal spoken
        if time.monotonic() - spoken > _SECONDS_BETWEEN_EPOCH_LINES:
            spoken = time.monotonic()
            measure = _measure(sweep.settings.best_by, value)
            print(f"trial {place}: epoch {epoch} of {sweep.settings.epochs}, {measure}", flush=True)
        pruned = False
        with contextlib.suppress(*_DATABASE_ERRORS):
            trial.report(value, epoch)
            pruned = sweep.pruning == "median" and trial.should_prune()
        if pruned and epoch < sweep.settings.epochs:
            raise trials.Pruned

    return told


def _line(sweep: Sweep, trial: trials.Trial) -> str:
    values = ", ".join(f"{name} {_short(value)}" for name, value in trial.parameters.items())
    told = f"trial {trial.place} ({values})"
    if trial.state == trials.FAILED:
        return f"{told} failed after {progress.duration(trial.seconds)}: {trial.reason}"
    measure = _measure(sweep.settings.best_by, trial.measured[sweep.settings.best_by])
    pruned = "pruned, " if trial.state == trials.PRUNED else ""
    return f"{told}: {pruned}{measure} in epoch {trial.epoch}, {progress.duration(trial.seconds)}"


def _measure(best_by: str, value: float) -> str:
    if best_by.startswith("within_"):
        return f"{best_by} {100 * value:.1f} %"
    return f"{best_by} {value:,.0f}" if best_by == "median_km" else f"{best_by} {value:.3f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def _running_alone(sweep: Sweep) -> Iterator[None]:
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with (sweep.folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SweepFailed(
                f"sweep {sweep.name!r} is being run already; to give it another worker: python -m helpers.sweeps "
                f"{sweep.name}"
            ) from error
        yield


def _remember(sweep: Sweep) -> None:
    """Write what the sweep is, for its workers and for those who go on with it."""
    file, identity = sweep.folder / _FILE, sweep.identity()
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged ({error}): delete {sweep.folder}, or choose another sweep_name"
            ) from error
        _refuse_another(sweep, before, identity, f"delete {sweep.folder}")
    job = {"settings": asdict(sweep.settings), "running": asdict(sweep.running), "identity": identity}
    rest = {each.name: getattr(sweep, each.name) for each in dataclasses.fields(sweep)}
    rest.pop("storage")
    with paths.replacing(file) as temporary:
        temporary.write_text(json.dumps(rest | job, indent=1) + "\n", encoding="utf-8")


def _refuse_another(sweep: Sweep, before: Mapping[str, Any], now: Mapping[str, Any], remedy: str) -> None:
    differing = checkpoints.differences(checkpoints.Checkpoint(dict(before), {"step": 0}), now)
    if differing:
        raise ValueError(
            f"sweep {sweep.name!r} was begun with other settings: {'; '.join(differing)}. Go on with those, choose "
            f"another sweep_name, or {remedy} to begin anew"
        )


def _remembered(name: str, storage: str) -> Sweep:
    """The sweep of a name, as the notebook has begun it."""
    file = paths.sweep(name) / _FILE
    if not file.exists():
        raise ValueError(f"there is no sweep {name!r} yet ({file}): begin it with 04_training/sweep.ipynb")
    told = json.loads(file.read_text(encoding="utf-8"))
    identity = told.pop("identity")
    given = told | {"settings": Settings(**told["settings"]), "running": Running(**told["running"])}
    sweep = Sweep(**given, storage=storage)
    _refuse_another(sweep, identity, sweep.identity(), "bring its files back")
    return sweep


def _arranged(sweep: Sweep) -> tuple[int, int, int]:
    """Have every trial that is not finished wait or be under way, and count those done, waiting and under way."""
    for seconds in (*_WAITS, None):
        try:
            return _arrange(_study(sweep, begin=True), sweep)
        except _DATABASE_ERRORS as error:
            # Neither SQLite's errors that pass, which are a kind of their own, nor those of other databases.
            if not sweep.storage and sqlalchemy.exc.DatabaseError in (type(error), type(error.__cause__)):
                _set_aside(sweep, error)
            if seconds is None:
                raise SweepFailed(
                    f"the database of sweep {sweep.name!r} cannot be used ({_first_line(error)}). What its trials "
                    f"found is kept in {sweep.trial_folder}: run the notebook again when the database is back, or with "
                    "another"
                ) from None  # for it may hold a password
            print(f"the database does not answer ({_first_line(error)}): asking again in {seconds} s", flush=True)
            time.sleep(seconds)
    raise AssertionError("unreachable")


def _set_aside(sweep: Sweep, error: Exception) -> None:
    file = sweep.folder / _DATABASE
    if file.exists():
        file.replace(file.with_suffix(".damaged"))
        print(
            f"{file} is damaged ({_first_line(error)}): it is set aside, and made anew from {sweep.trial_folder}",
            flush=True,
        )


def _arrange(study: optuna.Study, sweep: Sweep) -> tuple[int, int, int]:
    found = trials.found(sweep.trial_folder)
    if sweep.storage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
    waiting, under_way, done = set(), set(), set()
    for trial in study.get_trials(deepcopy=False):
        place = trial.user_attrs.get(_PLACE)
        if trial.state == TrialState.WAITING:
            waiting.add(place)
        elif trial.state == TrialState.RUNNING and not _was_left(sweep, trial):
            under_way.add(place)
        elif trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state != TrialState.FAIL or _REASON in trial.user_attrs:
            done.add(place)
    done &= {place for place, trial in found.items() if trial.is_finished}
    for place, point in enumerate(sweep.points):
        if place not in waiting | under_way | done:
            known = point or (found[place].parameters if place in found else {})
            study.enqueue_trial(known, user_attrs={_PLACE: place})
            waiting.add(place)
    return len(done), len(waiting), len(under_way)


def _was_left(sweep: Sweep, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the worker that took a trial has ended; of a database for many machines, Optuna's heartbeats tell."""
    if sweep.storage or trial.datetime_start is None:
        return False
    taken = (datetime.datetime.now() - trial.datetime_start).total_seconds()
    folder = trials.folder_of(sweep.trial_folder, trial.user_attrs.get(_PLACE, 0))
    return taken > _SECONDS_TO_LOCK and not trials.is_locked(folder)


def _study(sweep: Sweep, begin: bool = False) -> optuna.Study:
    """The study in the database; to `begin` makes it if it is not there."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = _parsed(sweep.url)
    is_file = url.get_backend_name() == "sqlite"
    storage = optuna.storages.RDBStorage(
        sweep.url,
        engine_kwargs={"connect_args": {"timeout": 60}} if is_file else None,
        heartbeat_interval=_HEARTBEAT if sweep.storage else None,
        grace_period=_GRACE if sweep.storage else None,
    )
    if is_file:
        _one_at_a_time(storage.engine)
    # Nothing is drawn from this sampler: each trial has one of its own.
    options: dict[str, Any] = {"sampler": optuna.samplers.RandomSampler(seed=0)}
    options["pruner"] = optuna.pruners.MedianPruner(n_warmup_steps=max(sweep.settings.epochs // 4, 1))
    if not begin:
        return optuna.load_study(study_name=sweep.name, storage=storage, **options)
    study = optuna.create_study(
        study_name=sweep.name, storage=storage, direction=sweep.direction, load_if_exists=True, **options
    )
    before = study.user_attrs.get(_SWEEP)
    if before is None and study.get_trials(deepcopy=False):
        raise ValueError(f"the database has a study {sweep.name!r} of something else: choose another sweep_name")
    if before is None:
        study.set_user_attr(_SWEEP, sweep.identity())
    else:
        remedy = f"optuna.delete_study(study_name={sweep.name!r}, ...) from the database"
        _refuse_another(sweep, before, sweep.identity(), remedy)
    return study


def _one_at_a_time(engine: sqlalchemy.Engine) -> None:
    """Have SQLite lock its file from the beginning of a transaction, or two workers could read that a trial waits."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # else Python's driver begins transactions when it thinks fit

    @sqlalchemy.event.listens_for(engine, "begin")
    def begun(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()


def _parsed(url: str) -> sqlalchemy.URL:
    try:
        parsed = sqlalchemy.engine.make_url(url)
        parsed.get_dialect()
        return parsed
    except SQLAlchemyError:
        example = "postgresql://user@host/database"
        raise ValueError(f"storage is no URL of a database such as {example}") from None  # which would show it


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).partition("\n")[0]


def _gpus() -> list[str]:
    """Names of the GPUs that processes started here may use."""
    device = devices.best_device()
    if device.type != "cuda":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(devices.count(device))]


def environments(workers: int, devices_per_trial: int, gpus: list[str], cores: int) -> list[dict[str, str]]:
    """What to add to the environment of each worker, so that they share the machine out.

    Examples
    --------
    >>> environments(2, 2, ["0", "1", "2", "3"], cores=64)
    [{'CUDA_VISIBLE_DEVICES': '0,1'}, {'CUDA_VISIBLE_DEVICES': '2,3'}]
    >>> environments(2, 1, [], cores=8)
    [{'OMP_NUM_THREADS': '4'}, {'OMP_NUM_THREADS': '4'}]
    """
    if not gpus:
        return [{"OMP_NUM_THREADS": str(max(cores // workers, 1))} if workers > 1 else {} for _ in range(workers)]
    taken = [
        [(each * devices_per_trial + number) % len(gpus) for number in range(devices_per_trial)]
        for each in range(workers)
    ]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[number] for number in numbers)} for numbers in taken]


def _workers(sweep: Sweep, count: int, most: int) -> str:
    """Run workers of `most` trials each until they end, show what they say, and return the last words if one failed."""
    shares = environments(count, sweep.devices_per_trial, _gpus(), os.cpu_count() or 1)
    own = {STORAGE: sweep.storage} if sweep.storage else {}
    read, write = os.pipe()
    children: list[subprocess.Popen[bytes]] = []
    last: deque[str] = deque(maxlen=1)
    try:
        for share in shares:
            child = subprocess.Popen(
                [sys.executable, "-m", "helpers.sweeps", sweep.name, "--trials", str(most)],
                env=progress.unwatched() | own | share,
                stdout=write,
                stderr=write,
                start_new_session=True,
                preexec_fn=training.end_with_parent,
            )
            children.append(child)
        os.close(write)
        with os.fdopen(read, errors="replace") as lines:
            for line in lines:
                print(line.rstrip(), flush=True)
                last.append(line.rstrip())
        ended = [child.wait() for child in children]
    finally:
        _end(children)
    failed = [status for status in ended if status]
    return f"{last[0] if last else 'nothing said'} (exit status {failed[-1]})" if failed else ""


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.sweeps",
        description="Take trials of a sweep that 04_training/sweep.ipynb has begun, until none waits.",
    )
    parser.add_argument("name", help="of the sweep")
    parser.add_argument("--trials", type=int, default=sys.maxsize, help="to take at most, by default all that wait")
    parser.add_argument(
        "--storage", default="", help=f"URL of its database; by default ${STORAGE}, else the sweep's file"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        storage = checked_url(given.storage) or os.environ.get(STORAGE, "")
        work(_remembered(given.name, storage), given.trials)
    except ValueError as error:
        parser.error(str(error))
    except _DATABASE_ERRORS as error:
        print(f"the database of the sweep is lost: {_first_line(error)}", flush=True)
        sys.exit(_LOST)


if __name__ == "__main__":
    main()
