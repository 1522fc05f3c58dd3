"""The folders that a run's name, or the path of its folder, stands for, with its calibration.

Nothing is made on the way, and no data list is needed: the folder of a run is enough, wherever it lies.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from helpers import manifests, notebooks, paths
from helpers.scenes import SCENES

MODEL, CALIBRATION = "model.safetensors", "calibration.json"
_NEEDED = ("config.json", "training_places.parquet")


class Found(NamedTuple):
    """A run, or several that answer together."""

    folders: dict[str, list[Path]]
    """Those for ``all`` photos, or for each scene's, as :func:`helpers.predict.load` takes them."""
    calibration: Path | None
    remark: str
    """Why there is no calibration, with the command that makes one; "" where there is one."""


def find(run: str) -> Found:
    """Find a run.

    Parameters
    ----------
    run : str
        Name of a folder in ``04_training/runs``, or path of a folder that may lie anywhere. ``{scene}`` in it stands
        for the networks of the three scenes, ``+`` joins networks that answer together.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no trained model in it.

    Notes
    -----
    A calibration is taken from the folder of the run, ``calibration.json``, or from ``05_evaluation/calibrations``
    if it was made for these very weights: of two runs of one name, the other's would be wrong.
    """
    whole = Path(run).expanduser().is_dir()  # a path may have a + in it
    names = [run] if whole else run.split("+")
    slots = SCENES if "{scene}" in run else ("all",)
    folders = {slot: [_folder(name.replace("{scene}", slot)) for name in names] for slot in slots}
    every = [folder for slot in folders.values() for folder in slot]
    beside = every[0] / CALIBRATION
    if len(every) == 1 and beside.is_file():
        return Found(folders, beside, "")
    kept = paths.calibration(name(run))
    if not (kept / CALIBRATION).is_file():
        ours = all(folder.parent == paths.run("any").parent for folder in every)
        how = manifests.command("05_evaluation/calibrate", {"run": run}) if ours else f"put its {CALIBRATION} beside it"
        return Found(folders, None, f"there is no calibration of this run. To have one: {how}")
    if not _was_made_for(kept, every):
        return Found(folders, None, f"the calibration in {kept.name} is that of other weights, and is not used")
    return Found(folders, kept / CALIBRATION, "")


def there() -> list[str]:
    """Names of the finished runs, the newest first; those of the three scenes also as one, with ``{scene}``."""
    folders = [folder for folder in paths.run("any").parent.glob("*") if not _absent(folder)]
    newest = sorted(folders, key=lambda folder: (-(folder / MODEL).stat().st_mtime_ns, folder.name))
    names = [folder.name for folder in newest]
    together = [name.removesuffix(SCENES[0]) for name in names if name.endswith(f"-{SCENES[0]}")]
    return names + [f"{stem}{{scene}}" for stem in together if all(f"{stem}{scene}" in names for scene in SCENES)]


def required(run: str, batch_size: int = 64) -> Found:
    """As :func:`find`, in a notebook: what the name of a run stands for is made, and calibrated, on the way.

    What may be trained on the way is what :func:`helpers.notebooks.require_runs` allows. A path is taken as it is.
    """
    if "/" in run:
        return find(run)
    folders = notebooks.require_runs(run)
    dataset = notebooks.trained_on(folders)
    return Found(folders, notebooks.require_calibration(run, folders, dataset, "", batch_size), "")


def name(run: str) -> str:
    """Name of a run that is given by its name or its path.

    Examples
    --------
    >>> name("first+second"), name("/mnt/shared/ours"), name("shared/isn-{scene}+first")
    ('first+second', 'ours', 'isn-{scene}+first')
    """
    return "+".join(Path(part).name for part in run.split("+"))


def _folder(given: str) -> Path:
    named = Path(given).expanduser()
    is_path = named.is_dir() or "/" in given or given in (".", "..")
    folder = named.resolve() if is_path else paths.run(given)
    if not folder.is_dir():
        names = sorted(there()) if not is_path else []
        known = f" There are: {', '.join(names)}." if names else ""
        raise FileNotFoundError(
            f"there is no run {given!r}.{known} Train one with 04_training/train.ipynb, or give the path of its folder"
        )
    absent = _absent(folder)
    if absent:
        raise FileNotFoundError(
            f"the folder {given!r} holds no trained run, for it has no {' and no '.join(absent)}: give the folder that "
            "04_training/train.ipynb has finished"
        )
    return folder


def _absent(folder: Path) -> list[str]:
    """Files without which a folder holds no run."""
    return [file for file in (MODEL, *_NEEDED) if not (folder / file).is_file()]


def _was_made_for(kept: Path, folders: Sequence[Path]) -> bool:
    try:
        inputs: Mapping[str, Mapping[str, str]] = manifests.read(kept)["inputs"]
        recorded = [inputs[f"run {folder.name}"]["sha256"] for folder in folders]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return recorded == [manifests.fingerprint(folder / MODEL) for folder in folders]
