"""Train beside a Drive: what a dataset needs comes from there once, what training makes goes there at intervals.

A Drive is any folder that outlives this machine. In its folder ``photo-geolocation-lab`` everything lies where a
checkout has it, and the packed photos of a dataset in ``shards/<dataset>/``. ``run_colab.sh`` ends in this module.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from helpers import data_lists, manifests, notebooks, paths, shards

FOLDER = "photo-geolocation-lab"
NOTEBOOK = "04_training/train"
NOT_ON_THE_DRIVE = 3
"""Exit status of a training that went well, but is not whole on the Drive."""

_SECONDS_TO_END = 30.0
_BYTES_TO_SPARE = 1 << 30  # that copies leave on a disk, for checkpoints and caches
_BYTES_AT_ONCE = 1 << 24


class DriveError(OSError):
    """A Drive that cannot be used."""


def train(arguments: Sequence[str], drive: Path | None, minutes: float) -> int:
    """Run the training notebook through papermill, and keep what it makes on a Drive.

    Parameters
    ----------
    arguments : sequence of str
        For papermill, such as ``["-p", "partition", "multi"]``.
    drive : Path or None
        The mounted Drive; None to train without.
    minutes : float
        Between two times that checkpoints and the executed notebook are written to the Drive.

    Returns
    -------
    int
        Exit status: that of papermill, or `NOT_ON_THE_DRIVE`.

    Raises
    ------
    notebooks.ParameterError
        For a parameter that the notebook does not have, or a value that it cannot take, before anything is copied.
    DriveError
        If the Drive is not there or cannot be read at the start, or this machine has no room for what it holds.
    """
    given, parameters = chosen(arguments)
    run = notebooks.OUTPUTS[NOTEBOOK](vars(parameters))
    executed = run.with_name(f"{run.name}.ipynb")  # papermill writes it after every cell
    mirror = Mirror(home(drive), run.name) if drive else None
    more = _fetched(mirror, given, parameters) if mirror else []
    if is_finished(run, vars(parameters)):
        print(f"{run} is finished: to train anew, give another run_name, or move it away (from the Drive too)")
        return 0 if mirror is None or mirror.end(finished=True) else NOT_ON_THE_DRIVE
    if "resume" not in given and _checkpoints(paths.checkpoints(run.name)):
        more += ["-p", "resume", "True"]
    run.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "papermill", str(paths.notebook(NOTEBOOK)), str(executed), "--no-progress-bar"]
    command += ["--stdout-file", "-", "--stderr-file", "-", *arguments, *more]
    status = 1
    try:
        status = _attended(command, 60 * minutes, mirror.write_back if mirror else lambda: None)
    finally:
        finished = status == 0 and is_finished(run, vars(parameters))
        if finished:
            executed.replace(run / f"{Path(NOTEBOOK).name}.ipynb")
        if mirror and not mirror.end(finished):
            status = status or NOT_ON_THE_DRIVE
    return status


def chosen(arguments: Sequence[str]) -> tuple[dict[str, Any], SimpleNamespace]:
    """Parameters that papermill's `arguments` give, and all parameters of the training notebook, checked.

    Papermill itself is asked, so that files of parameters and everything else that it takes are understood.
    """
    import click
    from papermill import cli

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.ipynb"
        options = ["--prepare-only", "--log-level", "ERROR", *arguments]
        try:
            cli.papermill([str(paths.notebook(NOTEBOOK)), str(prepared), *options], standalone_mode=False)
        except click.ClickException as error:
            raise notebooks.ParameterError(f"papermill does not take this: {error.format_message()}") from None
        content = json.loads(prepared.read_text(encoding="utf-8"))
    from helpers import recipe  # takes seconds, which a call with wrong arguments need not wait for

    given = content["metadata"]["papermill"]["parameters"]
    # As the notebook will see it: its parameters, with those on top that papermill has injected.
    variables = {**notebooks.defaults(NOTEBOOK), **given, "In": ["".join(cell["source"]) for cell in content["cells"]]}
    return given, notebooks.parameters(NOTEBOOK, variables, **recipe.CHOICES)


def home(drive: Path) -> Path:
    """The project's folder on a mounted Drive, made if it is not there yet."""
    folder = drive / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DriveError(
            f"the Drive {drive} cannot be used ({error}): mount it first, name another folder with --drive, or train "
            'without one, --drive ""'
        ) from error
    return folder


def _fetched(mirror: "Mirror", given: dict[str, Any], parameters: SimpleNamespace) -> list[str]:
    """Copy what the Drive has to this machine, and return what papermill must know of it."""
    try:
        bring(mirror.home, parameters.dataset)
        photo_root = "" if "photo_root" in given else bring_photos(mirror.home, parameters.dataset)
        mirror.restore(checkpoints="resume" not in given or parameters.resume)
    except DriveError:
        raise
    except OSError as error:
        raise DriveError(
            f"the Drive {mirror.home.parent} cannot be copied from ({error}): see that it is mounted and that this "
            "disk has room, and start again, which goes on where it was"
        ) from error
    return ["-r", "photo_root", photo_root] if photo_root else []  # raw, lest a folder named 2024 become a number


def bring(drive_home: Path, dataset: str) -> None:
    """Copy the list of a dataset, its scenes and its classes from the Drive, as far as this machine lacks them."""
    listed = paths.data_list(dataset)
    if not listed.exists():
        # The list that was packed with the photos names their hashes, which differ where photos were shrunk.
        folders = (drive_home / "shards" / dataset, drive_home / listed.parent.relative_to(paths.root()))
        lists = [folder / f"{dataset}.csv{suffix}" for folder in folders for suffix in ("", ".gz")]
        source = next((file for file in lists if file.is_file()), None)
        if source:
            _bring_files({source: listed.with_name(source.name)})
    for folder in (paths.scenes(dataset), paths.cells(dataset), paths.regions(dataset)):
        source = _at(drive_home, folder)
        if (source / "manifest.json").is_file() and not folder.exists():
            _bring_folder(source, folder)


def bring_photos(drive_home: Path, dataset: str) -> str:
    """Copy the packed photos of a dataset, or of the one that its list was made from, from the Drive.

    What was interrupted goes on with the next file, and what is here already is found.

    Returns
    -------
    str
        Folder of the copies; empty if the Drive has no such photos.
    """
    names = dict.fromkeys((dataset, data_lists.photos_of(dataset)))
    packed = next((drive_home / "shards" / name for name in names if _has_shards(drive_home / "shards" / name)), None)
    if packed is None:
        return ""
    if any(packed.glob(shards.PARTIALS)):
        raise DriveError(f"{packed} is still being packed: let `make pack` end, or start it again, it goes on")
    folder = paths.shards(packed.name) / "from_drive"
    wanted = {file: folder / file.name for file in packed.iterdir() if file.is_file() and not file.name.startswith(".")}
    for foreign in {*folder.glob("*")} - {*wanted.values()}:
        foreign.unlink()
    _bring_files(wanted)
    print(f"photos of {dataset}: {folder}", flush=True)
    return str(folder)


def _has_shards(folder: Path) -> bool:
    return any(folder.glob(shards.TARS))


def _bring_files(files: dict[Path, Path]) -> None:
    missing = {source: target for source, target in files.items() if not _is_copy(target, source)}
    if not missing:
        return
    target = next(iter(missing.values()))
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(file.stat().st_size for file in missing), shutil.disk_usage(target.parent).free
    if needed + _BYTES_TO_SPARE > free:
        raise DriveError(
            f"{needed / 1e9:.1f} GB are to be copied to {target.parent}, where {free / 1e9:.1f} GB are free and "
            f"{_BYTES_TO_SPARE / 1e9:.1f} GB must stay so: make room, name a folder on a larger disk in "
            "PHOTO_GEOLOCATION_ROOT, or pack the photos smaller (make pack SHORT_SIDE=...)"
        )
    for number, (source, target) in enumerate(sorted(missing.items()), 1):
        size = source.stat().st_size / 1e6
        print(f"copying from the Drive, {number} of {len(missing)}: {source.name}, {size:,.1f} MB", flush=True)
        _copy(source, target)


def _bring_folder(source: Path, target: Path) -> None:
    print(f"copying from the Drive: {target.relative_to(paths.root())}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    _copy_folder(source, target)


@dataclass
class Mirror:
    """A run here, and what there is of it on the Drive."""

    home: Path
    run_name: str
    failure: str = ""
    """Why the last attempt to write back failed."""
    written: dict[str, int] = field(default_factory=dict)
    """Time of change, in nanoseconds, of each file here when it was last the same on the Drive."""

    def restore(self, checkpoints: bool) -> None:
        """Copy the run to this machine if it is finished, and with `checkpoints` those that are newer than here."""
        run = paths.run(self.run_name)
        if (_at(self.home, run) / "manifest.json").is_file() and not run.exists():
            _bring_folder(_at(self.home, run), run)
        here = paths.checkpoints(self.run_name)
        newest = max((file.name for file in _checkpoints(here)), default="")
        newer = [file for file in _checkpoints(_at(self.home, here)) if file.name > newest]
        if checkpoints and newer:
            _bring_files({file: here / file.name for file in newer})
            self.written |= {file.name: (here / file.name).stat().st_mtime_ns for file in newer}

    def write_back(self) -> bool:
        """Write what is new of an unfinished run to the Drive; whether that went well."""
        return self._attempt(self._write_checkpoints, "training goes on here, and the Drive is tried again")

    def end(self, finished: bool) -> bool:
        """Write the finished run to the Drive, or what there is of an unfinished one; whether that went well."""
        if not finished:
            return self._attempt(self._write_checkpoints, self._remedy())
        return self._attempt(self._write_run, self._remedy())

    def _remedy(self) -> str:
        folders = {paths.checkpoints(self.run_name), paths.run(self.run_name)}
        there = " and ".join(str(folder) for folder in sorted(folders) if folder.exists())
        return f"what was trained is in {there or paths.root()}: copy it, or start the same command again"

    def _attempt(self, write: Callable[[], None], consequence: str) -> bool:
        try:
            write()
        except OSError as error:
            self.failure = str(error)
            print(f"the Drive does not take {self.run_name} ({error}): {consequence}", flush=True)
            return False
        if self.failure:
            print("the Drive is back: everything so far is there", flush=True)
        self.failure = ""
        return True

    def _write_checkpoints(self) -> None:
        here = paths.checkpoints(self.run_name)
        newest_first = _checkpoints(here)[::-1]
        if newest_first:
            there = self._made(_at(self.home, here))
            for left in there.glob(".*.partial"):
                left.unlink()
            for file in newest_first:
                self._write(file, there / file.name)
            # Only now, so that there is always one to go on from.
            for old in {*_checkpoints(there)} - {there / file.name for file in newest_first}:
                old.unlink()
        executed = paths.run(self.run_name).with_name(f"{self.run_name}.ipynb")
        if _is_whole_notebook(executed):
            self._write(executed, self._made(_at(self.home, executed.parent)) / executed.name)

    def _write_run(self) -> None:
        run = paths.run(self.run_name)
        there = _at(self.home, run)
        self._made(there.parent)
        if not _is_copy(there / "manifest.json", run / "manifest.json"):
            _copy_folder(run, there)
        there.with_name(f"{run.name}.ipynb").unlink(missing_ok=True)
        checkpoints = _at(self.home, paths.checkpoints(self.run_name))
        if checkpoints.exists():
            shutil.rmtree(checkpoints)
        print(f"on the Drive: {there}", flush=True)

    def _write(self, file: Path, target: Path) -> None:
        try:
            changed = file.stat().st_mtime_ns
            if self.written.get(file.name) != changed or not target.exists():
                _copy(file, target)
                self.written[file.name] = changed
        except FileNotFoundError:
            if file.exists():
                raise
            # Training has replaced it by a newer one meanwhile.

    def _made(self, folder: Path) -> Path:
        """Make a folder on the Drive; never the project's own, for where that is gone, so is the Drive."""
        for name in reversed([folder, *folder.parents][: len(folder.relative_to(self.home).parts)]):
            name.mkdir(exist_ok=True)
        return folder


def is_finished(run: Path, parameters: dict[str, Any]) -> bool:
    """Whether a run is there that learned with these parameters; how it was computed does not matter."""
    from helpers import recipe

    try:
        made_with = manifests.read(run)["parameters"]
    except FileNotFoundError:
        return False
    learned = {each.name for each in fields(recipe.Settings)} - {"photo_root", "run_name"}
    return all(made_with.get(name) == parameters[name] for name in learned)


def _at(drive_home: Path, here: Path) -> Path:
    """Where the Drive has what lies at `here` on this machine."""
    return drive_home / here.relative_to(paths.root())


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, the oldest first."""
    from helpers import checkpoints  # brings torch

    # A Drive that cannot be read must not look like one without checkpoints, as it would by `Path.glob`.
    names = os.listdir(folder) if folder.exists() else []
    return [folder / name for name in sorted(fnmatch.filter(names, checkpoints.FILES))]


def _is_whole_notebook(file: Path) -> bool:
    """Whether a notebook is there, and not just being written."""
    try:
        json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _is_copy(target: Path, source: Path) -> bool:
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        return False
    return source.stat().st_size > _BYTES_AT_ONCE or target.read_bytes() == source.read_bytes()


def _copy(source: Path, target: Path) -> None:
    """Copy a file into a folder that is there; `target` is the old file or the new one, never a half."""
    temporary = target.with_name(f".{target.name}.partial")
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, _BYTES_AT_ONCE)
            writer.flush()
            os.fsync(writer.fileno())
            expected, size = os.fstat(reader.fileno()).st_size, os.fstat(writer.fileno()).st_size
        if size != expected:
            raise OSError(f"{size} of {expected} bytes of {source.name} arrived")
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder; `target` is the old folder or the new one, never a half."""
    temporary, replaced = (target.with_name(f".{target.name}.{state}") for state in ("partial", "replaced"))
    for left in (temporary, replaced):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    for file in sorted(source.rglob("*")):
        copy = temporary / file.relative_to(source)
        if file.is_dir():
            copy.mkdir()
        elif file.is_file() and not file.is_symlink():
            _copy(file, copy)
    if target.exists():
        target.rename(replaced)
    temporary.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def _attended(command: Sequence[str], seconds: float, every: Callable[[], object]) -> int:
    """Run a command and call `every` at intervals; it ends with this process, however that ends.

    Returns
    -------
    int
        Its exit status.
    """
    from helpers import training

    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=training.end_with_parent
    )
    try:
        while True:
            try:
                return child.wait(seconds)
            except subprocess.TimeoutExpired:
                every()
    finally:
        if child.poll() is None:
            child.terminate()  # papermill ends its kernel then, which ends the training
            try:
                child.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _end(signal_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal_number)


def main() -> None:
    """``python -m helpers.drive``, which ``run_colab.sh`` calls."""
    parser = argparse.ArgumentParser(prog="python -m helpers.drive", description="Train beside a Drive.")
    parser.add_argument("--drive", default="", help="folder of the mounted Drive; empty: none")
    parser.add_argument("--minutes", type=float, default=10.0, help="between two times of writing to the Drive")
    parser.add_argument("arguments", nargs="*", help="after --, for papermill")
    given = parser.parse_args()
    if not 0 < given.minutes < float("inf"):
        parser.error(f"--minutes is {given.minutes}: it must be above 0")
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    drive = Path(given.drive).expanduser().resolve() if given.drive else None
    try:
        sys.exit(train(given.arguments, drive, given.minutes))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
