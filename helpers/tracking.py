"""Log finished runs to Weights & Biases.

Offline unless the environment variable ``WANDB_MODE`` says ``online``: what is logged then lies in the run's folder, in
``wandb/``, and goes nowhere by itself. ``python -m helpers.tracking RUN`` logs a run that was trained without it.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers import data_lists, manifests, paths, progress

TRACKINGS = ("none", "wandb")
_MODES = ("offline", "online", "disabled")
_FOLDER = "wandb"
_TEST_LIST = "test_list.csv"
_WEIGHTS = ("model.safetensors", "config.json", "gallery.safetensors")  # the last of a run that searches alone
_TEST_COLUMNS = ["id", "latitude", "longitude", "sha256"]  # no authors, no names of folders
# Nothing of the machine, its user, its code, or what else it does.
_PRIVATE: dict[str, Any] = {
    **{"disable_git": True, "disable_code": True, "save_code": False, "disable_job_creation": True, "console": "off"},
    **{"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False},
    **{"host": "", "username": "", "email": "", "program": "", "program_relpath": "", "program_abspath": ""},
}


class TrackingFailed(RuntimeError):
    """A run that is finished, but could not be logged."""


def check(tracking: str) -> None:
    """Raise before any work if a run could not be logged.

    Raises
    ------
    ImportError, ValueError
        If ``wandb`` is not there, is too old to keep quiet about the machine, or is told an unknown mode.
    """
    if tracking == "none":
        return
    if tracking not in TRACKINGS:
        raise ValueError(f"no tracking {tracking!r}: choose one of {', '.join(TRACKINGS)}")
    _wandb()
    if _mode() not in _MODES:
        raise ValueError(f"WANDB_MODE is {_mode()!r}: set it to one of {', '.join(_MODES)}, or not at all")


def log_run(run: Path, tracking: str) -> None:
    """Log a finished run, unless `tracking` is ``none``: settings, curves, classes, weights and the test list.

    It is done in a process of its own, which changes nothing of the run but adds the folder ``wandb``.

    Raises
    ------
    TrackingFailed
        The run itself is whole, and can be logged again.
    """
    check(tracking)
    if tracking == "none":
        return
    command = [sys.executable, "-m", "helpers.tracking", run.name]
    ended = subprocess.run(command, env=progress.unwatched(), capture_output=True, text=True)
    print(ended.stdout.rstrip(), flush=True)
    if ended.returncode:
        last = (ended.stderr.strip() or ended.stdout.strip() or "nothing said").splitlines()[-1]
        raise TrackingFailed(
            f"run {run.name} is finished, but could not be logged: {last}. To try again: python -m helpers.tracking "
            f"{run.name}"
        )


def log_run_here(run: Path) -> None:
    """Log a finished run in this process, from within its folder, so that all paths are relative to it.

    Raises
    ------
    FileNotFoundError
        If there is no such run.
    StaleOutput
        If its data list has changed since, so that its test photos may be others.
    """
    manifests.check(run, ["data list"])
    wandb = _wandb()
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    curves = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    files = {name: described["sha256"] for name, described in manifest["inputs"].items()}
    rows = data_lists.read(config["dataset"])
    test = rows[rows["split"] == "test"].reindex(columns=_TEST_COLUMNS)
    os.chdir(run)
    for kind in ("DATA", "CACHE", "CONFIG"):  # else in the home of the user
        os.environ[f"WANDB_{kind}_DIR"] = str(Path(_FOLDER) / kind.lower())
    Path(_FOLDER).mkdir(exist_ok=True)
    test_list = Path(_FOLDER) / _TEST_LIST
    with paths.replacing(test_list) as temporary:
        test.to_csv(temporary, index=False)
    settings = wandb.Settings(mode=_mode(), root_dir=".", silent=_mode() == "offline", **_PRIVATE)
    project = os.environ.get("WANDB_PROJECT", "photo-geolocation-lab")
    logged = {**config, "fingerprints": files, "counts": manifest["counts"]}
    tracked = wandb.init(project=project, name=run.name, config=logged, settings=settings)
    tracked.define_metric("*", step_metric="epoch")
    for measured in curves:
        tracked.log(measured)
    artifacts: Mapping[str, tuple[str, list[Path]]] = {
        "weights": ("model", [Path(name) for name in _WEIGHTS if Path(name).exists()]),
        "label-mapping": ("classes", sorted(Path("classes").glob("*.csv"))),
        "test-list": ("dataset", [test_list]),
    }
    for name, (kind, of_artifact) in artifacts.items():
        artifact = wandb.Artifact(f"{run.name}-{name}"[-128:], kind)
        for file in of_artifact:
            artifact.add_file(str(file), name=file.name, policy="immutable", skip_cache=True)  # it is not copied
        if of_artifact:
            tracked.log_artifact(artifact)
    tracked.finish()
    # Its logs name folders of this machine, and nothing is left in the others.
    folder = Path(_FOLDER)
    for left in [*folder.glob("*/logs"), *(folder / name for name in ("data", "cache", "config"))]:
        shutil.rmtree(left, ignore_errors=True)
    for link in folder.glob("debug*.log"):
        link.unlink()
    if _mode() == "offline":
        print(f"logged offline; to send it: cd {run} && wandb sync {_FOLDER}/offline-run-*", flush=True)


def _mode() -> str:
    return os.environ.get("WANDB_MODE") or "offline"


def _wandb() -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError(
            f'tracking "wandb" needs Weights & Biases: pip install -e ".[wandb]" in this checkout ({error})'
        ) from error
    unknown = [name for name in _PRIVATE if not hasattr(wandb.Settings(), name)]
    if unknown:
        raise ImportError(
            f"this wandb, {wandb.__version__}, cannot be told to keep quiet about the machine (it has no "
            f"{', '.join(unknown)}): pip install --upgrade wandb"
        )
    return wandb


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.tracking",
        description="Log a finished run to Weights & Biases, offline unless WANDB_MODE says online.",
    )
    parser.add_argument("run", help="its name")
    given = parser.parse_args()
    try:
        log_run_here(paths.run(given.run))
    except (ImportError, ValueError, FileNotFoundError, manifests.StaleOutput) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
