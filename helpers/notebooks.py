"""Run a notebook with checked parameters.

Within a notebook, :func:`parameters` checks what papermill or a reader has set, and :func:`require` names the output of
an earlier stage. From a shell, ``python -m helpers.notebooks 04_training/train -p partition multi`` runs a notebook,
keeps the executed copy beside what it made, and does nothing where that is still current.
"""

import argparse
import ast
import difflib
import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from helpers import data_lists, manifests, paths, progress

# What each notebook makes: the folder that holds its manifest.
OUTPUTS: dict[str, Callable[[Mapping[str, Any]], Path]] = {
    "01_data/collect": lambda p: paths.collected(p["dataset"]),
    "01_data/download": lambda p: paths.download_notes(p["dataset"]),
    "01_data/make_list": lambda p: paths.list_notes(p["dataset"]),
    "01_data/pack": lambda p: paths.pack_notes(p["dataset"]),
    "01_data/enrich": lambda p: paths.enriched(data_lists.new_name(p["dataset"], p["new_dataset"], "enriched")),
    "01_data/clean": lambda p: paths.cleaned(data_lists.new_name(p["dataset"], p["new_dataset"], "clean")),
    "01_data/balance": lambda p: paths.balanced(data_lists.new_name(p["dataset"], p["new_dataset"], "balanced")),
    "01_data/explore": lambda p: paths.explored(p["dataset"]),
    "02_scenes/classify_scenes": lambda p: paths.scenes(p["dataset"]),
    "02_scenes/segment": lambda p: paths.segmentations(p["dataset"]),
    "03_partitioning/build_cells": lambda p: paths.cells(p["dataset"]),
    "03_partitioning/build_regions": lambda p: paths.regions(p["dataset"]),
    "04_training/train": lambda p: paths.run(p["run_name"] or default_run_name(**_naming(p), preset=p["preset"])),
    "04_training/sweep": lambda p: paths.sweep(sweep_name(p)) / "results",
    "04_training/export": lambda p: paths.exported(p["run"]),
    "05_evaluation/calibrate": lambda p: paths.calibration(p["run"]),
    "05_evaluation/evaluate": lambda p: paths.results(p["run"], p["dataset"]),
    "05_evaluation/evaluate_countries": lambda p: paths.countries(p["run"], p["dataset"]),
    "05_evaluation/predict": lambda p: paths.predictions(p["run"], p["name"]),
    "05_evaluation/uncertainty": lambda p: paths.uncertainty(p["run"], p["dataset"]),
    "05_evaluation/breakdown": lambda p: paths.breakdown(p["run"], p["dataset"]),
    "05_evaluation/explain": lambda p: paths.explanations(p["run"], p["dataset"]),
    "05_evaluation/leakage": lambda p: paths.leakage(p["run"], p["dataset"]),
    "05_evaluation/report": lambda p: paths.report(p["run"], p["dataset"]),
    "05_evaluation/compare_runs": lambda p: paths.comparison(p["dataset"]),
    "05_evaluation/paper_table": lambda p: paths.paper_table(p["dataset"]),
    "05_evaluation/published_results": lambda p: paths.published(),
    "06_demo/human_baseline": lambda p: paths.human_baseline(p["dataset"]),
    "06_demo/share": lambda p: paths.page(p["run"], p["dataset"]),
}
_INJECTED = "# Parameters\n"  # papermill begins the cell that it injects with this line


class ParameterError(ValueError):
    """A parameter that a notebook does not have, or a value that it cannot take."""


class MissingInput(FileNotFoundError):
    """An output of an earlier stage that is not there."""


def default_run_name(
    dataset: str,
    partition: str,
    scene: str = "all",
    multitask: bool = False,
    segmentation: bool = False,
    objective: str = "auto",
    preset: str = "auto",
) -> str:
    """Name of a run that is given none.

    Examples
    --------
    >>> default_run_name("toy-earth", "multi"), default_run_name("toy-earth", "multi", scene="urban")
    ('toy-earth-multi', 'toy-earth-multi-urban')
    >>> default_run_name("toy-earth", "multi", multitask=True)
    'toy-earth-multi-mtn'
    >>> default_run_name("toy-earth", "multi", preset="plain")
    'toy-earth-multi-plain'
    >>> default_run_name("toy-earth", "coordinates", objective="degrees_mse")
    'toy-earth-coordinates-degrees_mse'
    """
    network = [objective] * (objective != "auto") + [scene] * (scene != "all") + ["mtn"] * multitask
    network += ["segmentation"] * segmentation + ["plain"] * (preset == "plain")
    return "-".join([dataset, partition, *network])


_NAMING = ("dataset", "partition", "scene", "multitask", "segmentation", "objective")


def _naming(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameters[name] for name in _NAMING}


def sweep_name(parameters: Mapping[str, Any]) -> str:
    """Name of a sweep with the parameters of ``04_training/sweep``."""
    return parameters["sweep_name"] or f"{default_run_name(**_naming(parameters))}-{parameters['preset']}"


def defaults(notebook: str) -> dict[str, Any]:
    """Parameters of a source notebook with their defaults, in the order in which it lists them."""
    cells = json.loads(paths.notebook(notebook).read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook}.ipynb has {len(tagged)} cells tagged 'parameters', it needs exactly one")
    return {
        name: ast.literal_eval(statement.value)
        for statement in ast.parse("".join(tagged[0]["source"])).body
        if isinstance(statement, ast.Assign)
        for name in _assigned(statement)
    }


def parameters(notebook: str, variables: Mapping[str, Any], **choices: Iterable[str]) -> SimpleNamespace:
    """Check the parameters of the notebook that calls this, before any work starts.

    Parameters
    ----------
    notebook : str
        Which notebook it is, e.g. ``"04_training/train"``.
    variables : mapping
        The notebook's ``globals()``.
    **choices : iterable of str
        Words that a parameter can take, for those that take words.

    Returns
    -------
    types.SimpleNamespace
        The parameters as attributes, each of the type of its default.

    Raises
    ------
    ParameterError
        For a parameter that papermill has injected but the notebook does not have, for a value of the wrong type, and
        for a word that is not among the choices. The nearest valid one is named.
    """
    known = defaults(notebook)
    injected = next((source for source in reversed(variables.get("In", [])) if source.startswith(_INJECTED)), "")
    given = [name for statement in ast.parse(injected).body for name in _assigned(statement)]
    return SimpleNamespace(**_checked(notebook, known, {name: variables[name] for name in [*known, *given]}, choices))


def require(notebook: str, checked: Collection[str] | None = None, **given: Any) -> Path:
    """Folder that an earlier stage's `notebook` makes, sure to be there and up to date.

    Parameters
    ----------
    notebook : str
        Which one, e.g. ``"03_partitioning/build_cells"``.
    checked : collection of str, optional
        Inputs that must not have changed since, by default all that its manifest names.
    **given
        Parameters that it needs.

    Raises
    ------
    MissingInput
        Naming the command, for any dataset but the embedded one, whose missing or stale outputs are made on the way. So
        are calibrations, which leave nothing to choose.
    """
    folder = OUTPUTS[notebook]({**defaults(notebook), "dataset": "", **given})
    try:
        manifests.check(folder, checked)
        return folder
    except FileNotFoundError:
        problem = f"{folder.relative_to(paths.root())} is not there yet"
        remedy = f". Make it first: {manifests.command(notebook, given)}"
    except manifests.StaleOutput as stale:
        problem, remedy = str(stale), ""
        # To make again what was there, not what the defaults make.
        given = {**manifests.read(folder)["parameters"], **given}
    if given.get("dataset") != data_lists.EMBEDDED and notebook != "05_evaluation/calibrate":
        raise MissingInput(problem + remedy)
    print(f"{problem}. Running {notebook}.ipynb for {given.get('dataset') or given['run']} on the way", flush=True)
    _run_in_child(notebook, given)
    return folder


def require_list(dataset: str) -> Path:
    """Data list of a dataset; that of the embedded one is made on the way, any other is left to its reader to miss."""
    path = paths.data_list(dataset)
    if dataset == data_lists.EMBEDDED and not path.exists():
        print(
            f"{path.relative_to(paths.root())} is not there yet. Running 01_data/make_list.ipynb on the way", flush=True
        )
        _run_in_child("01_data/make_list", {"dataset": dataset})
    return path


def require_runs(run_name: str, dataset: str = "") -> dict[str, list[Path]]:
    """Folders of what a run's name stands for: those of ``all`` photos, or of each scene's.

    A run of the embedded dataset under its default name is trained on the way. A run carries its classes, so only its
    data list must not have changed: else photos that it was trained on could by now be test photos.

    Parameters
    ----------
    run_name : str
        With ``{scene}`` in it, the individual scene networks for indoor, natural and urban photos; with ``+``, networks
        that answer together.
    dataset : str
        Whose photos they are to place, by default those of the list that they were trained on. The scenes of its photos
        must be up to date where there are any, and there where networks of scenes need them; so must segmentation maps,
        where a network looks at them.

    Raises
    ------
    MissingInput
        Naming the command.
    """
    from helpers.scenes import SCENES

    names = run_name.split("+")
    by_scene = "{scene}" in run_name
    slots = SCENES if by_scene else ("all",)
    found = {
        slot: [
            _require_run(name.replace("{scene}", slot), {"scene": slot} if "{scene}" in name else {}) for name in names
        ]
        for slot in slots
    }
    dataset = dataset or trained_on(found)
    if by_scene or (paths.scenes(dataset) / "manifest.json").exists():
        require("02_scenes/classify_scenes", dataset=dataset)
    if any(_settings(folder).get("segmentation") for folders in found.values() for folder in folders):
        require("02_scenes/segment", dataset=dataset)
    return found


def trained_on(run_folders: Mapping[str, Sequence[Path]]) -> str:
    """Dataset that the runs of some folders, from :func:`require_runs`, were trained on."""
    return str(_settings(next(iter(run_folders.values()))[0])["dataset"])


def _settings(run_folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((run_folder / "config.json").read_text())
    return settings


def weights_of(run_folders: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Files with the weights of runs, for a manifest."""
    folders = [folder for slot in run_folders.values() for folder in slot]
    return {f"run {folder.name}": folder / "model.safetensors" for folder in folders}


def require_calibration(
    run_name: str, run_folders: Mapping[str, Sequence[Path]], dataset: str, root: str, batch_size: int
) -> Path:
    """File with how a run was calibrated, made on the way: nothing is left to choose.

    Parameters
    ----------
    run_name : str
    run_folders : mapping
        From :func:`require_runs`.
    dataset, root : str
        Dataset to be evaluated, and its ``photo_root``, which holds the validation photos if the run is of the same.
    batch_size : int
        Photos that the device has room for.
    """
    own_root = {"photo_root": root} if root and trained_on(run_folders) == dataset else {}
    folder = require("05_evaluation/calibrate", run=run_name, batch_size=batch_size, **own_root)
    return folder / "calibration.json"


def _require_run(run_name: str, given: Mapping[str, Any]) -> Path:
    named_after = _default_run(run_name)
    try:
        return require("04_training/train", ["data list"], **(named_after or given), run_name=run_name)
    except MissingInput as missing:
        remark = "" if named_after else ", with the parameters that it is to have"
        raise MissingInput(f"{missing}{remark}") from None


def _default_run(run_name: str) -> dict[str, Any]:
    """Parameters of a run on the embedded dataset that is named after them; none for any other name."""
    from helpers import recipe, targets  # takes a second, which most notebooks need not wait for
    from helpers.scenes import SCENES

    varied = (targets.PARTITIONS, ("all", *SCENES), (False, True), recipe.PRESETS)
    for partition, scene, multitask, preset in itertools.product(*varied):
        if run_name == default_run_name(data_lists.EMBEDDED, partition, scene, multitask, preset=preset):
            naming = {"partition": partition, "scene": scene, "multitask": multitask, "preset": preset}
            return {"dataset": data_lists.EMBEDDED, **naming}
    return {}


def _run_in_child(notebook: str, given: Mapping[str, Any]) -> None:
    call = [sys.executable, "-m", "helpers.notebooks", notebook]
    for name, value in given.items():
        call += ["-p", name, str(value)]
    with subprocess.Popen(
        call, env=progress.unwatched(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        for line in child.stdout or ():
            progress.show(line.rstrip())
    if child.returncode:
        raise RuntimeError(f"{notebook}.ipynb failed, see above")


def run(notebook: str, given: Mapping[str, Any]) -> Path:
    """Run a notebook headless unless its output is current, and return its output folder.

    The executed copy is kept in that folder. What the notebook prints appears as it is printed.

    Raises
    ------
    ParameterError
        Before anything starts, for an unknown parameter or a value of the wrong type.
    papermill.PapermillExecutionError
        If a cell fails.
    """
    import papermill  # takes a second, which the notebooks that only check their parameters need not wait for

    all_parameters = _checked(notebook, defaults(notebook), {**defaults(notebook), **given}, {})
    folder = OUTPUTS[notebook](all_parameters)
    if _can_tell(notebook, all_parameters) and manifests.is_current(folder, notebook, all_parameters):
        print(f"{notebook}: {folder.relative_to(paths.root())} is current", flush=True)
        return folder
    print(f"{notebook}: running", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        executed = Path(temporary) / f"{Path(notebook).name}.ipynb"
        papermill.execute_notebook(
            paths.notebook(notebook),
            executed,
            parameters=dict(given),
            progress_bar=False,
            stdout_file=sys.stdout,
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which else warns of its plain local sockets
        )
        shutil.move(executed, folder)
    return folder


def _can_tell(notebook: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a manifest tells all that an output depends on: servers, folders, Drives and games change without it.

    Nor does it tell that `explore` has refused a list, which it does after its report is written.
    """
    data = {f"01_data/{name}" for name in ("collect", "download", "pack", "explore")}
    beyond = {
        *data,
        "06_demo/human_baseline",
        *(f"05_evaluation/{name}" for name in ("published_results", "compare_runs", "predict")),
    }
    return notebook not in beyond and (notebook != "01_data/make_list" or data_lists.is_embedded(parameters["dataset"]))


def _assigned(statement: ast.stmt) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _checked(
    notebook: str, known: Mapping[str, Any], given: Mapping[str, Any], choices: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    for name in given:
        if name not in known:
            raise ParameterError(
                f"{notebook}.ipynb has no parameter {name!r}{_nearest(name, known)}. It has: {', '.join(known)}"
            )
    checked = {name: _converted(name, given[name], default) for name, default in known.items()}
    for name, words in choices.items():
        if checked[name] not in words:
            raise ParameterError(
                f"{name} cannot be {checked[name]!r}{_nearest(checked[name], words)}. It takes: {', '.join(words)}"
            )
    return checked


def _converted(name: str, value: Any, default: Any) -> Any:
    # papermill's -p makes numbers of words that look like numbers, and leaves `true` a word.
    kind = type(default)
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is float and type(value) is int:
        value = float(value)
    if kind is str and type(value) is int:
        value = str(value)
    if type(value) is not kind or (kind in (int, float) and not 0 <= value < math.inf):
        raise ParameterError(f"{name} takes {_KINDS[kind]} such as {default!r}, not {value!r}")
    return value


_KINDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number, not negative,",
    float: "a number, not negative,",
    str: "text (with papermill's -r in place of -p, where it looks like a number)",
}


def _nearest(word: str, words: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(word), list(words), n=1)
    return f", did you mean {nearest[0]!r}?" if nearest else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.notebooks", description="Run a notebook unless its output is current."
    )
    parser.add_argument("notebook", choices=OUTPUTS)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters")
    arguments = parser.parse_args()
    given = {name: _literal(value) for name, value in arguments.parameters}
    try:
        run(arguments.notebook, given)
    except ParameterError as error:
        sys.exit(str(error))


def _literal(word: str) -> Any:
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return value if isinstance(value, bool | int | float) else word


if __name__ == "__main__":
    main()
