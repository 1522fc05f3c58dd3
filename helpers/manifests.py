"""Provenance of outputs: what made a folder, from what, and whether it still holds.

A stage writes its output folder in three steps: :func:`begin` gives a working folder, the notebook fills it, and
:func:`finish` adds ``manifest.json`` and puts the folder in its place in one move. So an output is there whole or not
at all, and its manifest names everything it was made from.
"""

import atexit
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import paths

_SOURCES = (".py", ".html", ".css", ".js")
_LIBRARIES = ("numpy", "pandas", "pillow", "torch", "torchvision", "s2sphere", "geopandas")


class StaleOutput(RuntimeError):
    """An output whose inputs have changed since it was made."""


@dataclass
class Output:
    """An output folder in the making."""

    folder: Path
    """Where to write."""
    target: Path
    """Where the finished folder will lie."""
    notebook: str
    parameters: dict[str, Any]
    inputs: dict[str, Path]
    code: dict[str, str]
    """What :func:`code_version` said at the start: an edit meanwhile is not what ran."""
    discard: Callable[[], None]
    outside: dict[str, Path] = field(default_factory=dict)
    """Files that are made too, but lie elsewhere."""
    counts: dict[str, Any] = field(default_factory=dict)
    """Row counts, and what was left out by reason."""
    started: float = field(default_factory=time.time)


def begin(
    target: Path, notebook: str, parameters: Mapping[str, Any], inputs: Mapping[str, Path] | None = None
) -> Output:
    """Start an output folder that `notebook` makes with `parameters` from the files `inputs`.

    What a process that was killed left behind is removed first; should this process end before :func:`finish`, the
    working folder is removed too, and an earlier finished output stays as it was.
    """
    for left in target.parent.glob(f".{target.name}.*.partial"):
        if not _runs_elsewhere(int(left.name.split(".")[-2])):
            shutil.rmtree(left, ignore_errors=True)
    working = target.with_name(f".{target.name}.{os.getpid()}.partial")
    working.mkdir(parents=True)
    discard = functools.partial(shutil.rmtree, working, ignore_errors=True)
    atexit.register(discard)
    return Output(working, target, notebook, dict(parameters), dict(inputs or {}), code_version(notebook), discard)


def finish(output: Output) -> Path:
    """Write the manifest, put the folder in its place, and return that place.

    From then on ``output.folder`` is that place: what a reader writes when running a cell again lands there, and
    finishing again renews the manifest.
    """
    manifest = {
        "notebook": output.notebook,
        "parameters": output.parameters,
        "inputs": {name: _described(path) for name, path in output.inputs.items()},
        "outside": {name: _described(path) for name, path in output.outside.items()},
        "counts": output.counts,
        "code": output.code,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "processor": f"{os.cpu_count()} x {platform.machine()}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - output.started, 1),
    }
    with paths.replacing(output.folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, default=str) + "\n")
    if output.folder != output.target:
        replaced = output.folder.with_suffix(".replaced")
        if output.target.exists():
            output.target.rename(replaced)
        output.folder.rename(output.target)
        shutil.rmtree(replaced, ignore_errors=True)
        atexit.unregister(output.discard)
        output.folder = output.target
    return output.target


def read(folder: Path) -> dict[str, Any]:
    """Manifest of an output folder.

    Raises
    ------
    FileNotFoundError
        If the folder has none, and so is not a finished output.
    """
    return json.loads((folder / "manifest.json").read_text())


def check(folder: Path, only: Collection[str] | None = None) -> None:
    """Raise :class:`StaleOutput` if an input of `folder`, or one of those named, has changed since it was made."""
    manifest = read(folder)
    for name, described in manifest["inputs"].items():
        if only is not None and name not in only:
            continue
        if not _is_unchanged(described):
            state = "has changed since" if (paths.root() / described["path"]).exists() else "is gone"
            raise StaleOutput(
                f"{_shown(folder)} was made from the {name} {described['path']}, which {state}. "
                f"Make it again: {command(manifest['notebook'], manifest['parameters'])}"
            )


def is_current(folder: Path, notebook: str, parameters: Mapping[str, Any]) -> bool:
    """Whether `folder` is what `notebook` would make now: same parameters, same inputs, same code."""
    try:
        manifest = read(folder)
        if manifest["code"]["sha256"] != code_version(notebook)["sha256"]:
            return False
        check(folder)
    except (FileNotFoundError, StaleOutput):
        return False
    unchanged = all(_is_unchanged(described) for described in manifest["outside"].values())
    return unchanged and manifest["parameters"] == json.loads(json.dumps(dict(parameters), default=str))


def command(notebook: str, parameters: Mapping[str, Any]) -> str:
    """Shell command that runs `notebook` with `parameters`.

    Examples
    --------
    >>> command("03_partitioning/build_cells", {"dataset": "my-photos", "photo_root": ""})
    'papermill 03_partitioning/build_cells.ipynb out.ipynb -p dataset my-photos'
    """
    given = "".join(f" -p {name} {value}" for name, value in parameters.items() if value != "")
    return f"papermill {notebook}.ipynb out.ipynb{given}"


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_version(notebook: str) -> dict[str, str]:
    """Commit of the checkout, and one hash over the sources of `helpers` and the notebook."""
    digest = hashlib.sha256()
    sources = [file for file in (paths.SOURCE / "helpers").rglob("*") if file.suffix in _SOURCES]
    for source in [*sorted(sources), paths.notebook(notebook)]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    git = ["git", "-C", str(paths.SOURCE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown: not a git checkout"
    return {"commit": commit, "sha256": digest.hexdigest()}


def _runs_elsewhere(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_unchanged(described: Mapping[str, str]) -> bool:
    path = paths.root() / described["path"]
    return path.exists() and fingerprint(path) == described["sha256"]


def _described(path: Path) -> dict[str, str]:
    return {"path": _shown(path), "sha256": fingerprint(path)}


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(paths.root())) if path.is_relative_to(paths.root()) else str(path)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
