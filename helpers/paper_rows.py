"""Evaluated runs as the rows of the paper's table (Müller-Budack et al., ECCV 2018), under the names it gives them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import data_lists, notebooks, paths, scenes

BEST_BASE = "base(M, f*)"
"""Row that every other one is compared with: one network for all photos, read out over the hierarchy."""

_LETTERS = {"coarse": "c", "middle": "m", "fine": "f", "f*": "f*", "search": "search"}
_TRACKS = ("country", "region", "coordinates")
_OF_THE_PAPER = ("auto", "cross_entropy")
_DISTANCE = "distance_km_"
_TRUTH = ["id", "author", "latitude", "longitude"]


class Evaluated(NamedTuple):
    """A run that was evaluated on a dataset."""

    run: str
    settings: dict[str, Any]
    """Its parameters of training; of several networks, those of the first."""
    predictions: pd.DataFrame
    """Sorted by id."""
    files: dict[str, Path]
    """What this was read from."""


class Rows(NamedTuple):
    """Rows of the table."""

    distance_km: dict[str, pd.Series]
    """By name of the row: how far off its guesses are, in the order of `author`."""
    author: pd.Series
    sources: pd.DataFrame
    """Columns ``model, run, read_out, kind``: the run behind each row, the answer of it that the row is of, and whether
    that is the run's ``best`` answer, an ``other`` one, or a ``baseline`` that sees no photo."""

    @property
    def baselines(self) -> list[str]:
        """Names of the rows that see no photo."""
        return self.sources.loc[self.sources["kind"] == "baseline", "model"].tolist()

    @property
    def drawn(self) -> list[str]:
        """Names of the rows for a figure: of each run the best founded of the answers that were published, which a
        search is not, and of each kind of baseline the first."""
        is_baseline, searches = self.sources["kind"] == "baseline", self.sources["read_out"] == "search"
        published = self.sources[~is_baseline & ~searches].drop_duplicates("run", keep="last")
        shown = pd.concat([published, self.sources[is_baseline].drop_duplicates("read_out")])
        return shown["model"].tolist()

    @property
    def reference(self) -> str:
        """Name of the row that others are compared with: `BEST_BASE`, or the first row where no run has that."""
        base = (name for name in self.distance_km if name.partition(" of ")[0] == BEST_BASE)
        return next(base, next(iter(self.distance_km)))


def names(runs: str) -> list[str]:
    """Names of runs, from a list with commas.

    Raises
    ------
    notebooks.ParameterError
        If there is none, or one comes twice.

    Examples
    --------
    >>> names("toy-earth-multi, toy-earth-multi-{scene}")
    ['toy-earth-multi', 'toy-earth-multi-{scene}']
    """
    found = [name.strip() for name in runs.split(",") if name.strip()]
    twice = [name for name in found if found.count(name) > 1]
    if not found or twice:
        problem = f"names {twice[0]!r} twice" if twice else "is empty"
        raise notebooks.ParameterError(
            f"runs {problem}: give names of 04_training/runs, each once, with commas between"
        )
    return found


def evaluated(run: str, dataset: str) -> Evaluated:
    """Read what a run was evaluated to on a dataset.

    Parameters
    ----------
    run : str
        Name of a run, or with ``{scene}`` in it of the networks of individual scenes together; ``+`` joins networks
        that answer together.
    dataset : str

    Raises
    ------
    notebooks.MissingInput
        Naming the command, if the run was not evaluated on the dataset, or something has changed since.
    ValueError
        If the predictions lack a column.
    """
    folder = notebooks.require("05_evaluation/evaluate", run=run, dataset=dataset)
    files = {
        f"predictions of {run}": folder / "predictions.parquet",
        f"settings of {run}": paths.run(run.partition("+")[0].replace("{scene}", scenes.SCENES[0])) / "config.json",
    }
    predictions_file, settings_file = files.values()
    predictions = pd.read_parquet(predictions_file)
    missing = [name for name in _TRUTH if name not in predictions]
    if missing or not predictions.columns.str.startswith(_DISTANCE).any():
        raise ValueError(
            f"{predictions_file} has no column {', '.join(missing) or _DISTANCE + '<model>'}: evaluate {run!r} again"
        )
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    return Evaluated(run, settings, predictions.sort_values("id", ignore_index=True), files)


def rows(evaluations: Sequence[Evaluated]) -> Rows:
    """Rows of the table, in the order of the runs, baselines last.

    Parameters
    ----------
    evaluations : sequence of Evaluated
        Of the same photos.

    Returns
    -------
    Rows
        A name that several runs would have is followed by the run's; baselines that are the same for several runs are
        one row.

    Raises
    ------
    ValueError
        If a run was evaluated on other photos than the first.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        _refuse_other_photos(first, other)
    found = pd.DataFrame(
        [row for evaluation in evaluations for row in _found(evaluation)],
        columns=["model", "run", "read_out", "kind", "distance_km"],
    )
    is_baseline = found["kind"] == "baseline"
    content = found["distance_km"].map(lambda distance: distance.to_numpy().tobytes())
    repeated = is_baseline & pd.DataFrame({"model": found["model"], "content": content}).duplicated()
    found = pd.concat([found[~is_baseline], found[is_baseline & ~repeated]], ignore_index=True)
    shared = found["model"].duplicated(keep=False)
    found["model"] = found["model"].where(~shared, found["model"] + " of " + found["run"])
    distance_km = dict(zip(found["model"], found["distance_km"], strict=True))
    return Rows(distance_km, first.predictions["author"], found.drop(columns="distance_km"))


def row_name(read_out: str, settings: Mapping[str, Any], run: str = "") -> str:
    """Name that the paper gives to an answer of a run.

    Parameters
    ----------
    read_out : str
        ``coarse``, ``middle``, ``fine``, ``f*``, ``country``, ``region``, ``coordinates`` or ``search``.
    settings : mapping
        The run's parameters of training: ``partition``, and where they are there ``scene, multitask, segmentation,
        objective``.
    run : str
        The run's name, which has ``{scene}`` in it for the networks of individual scenes together, and ``+`` between
        those of networks that answer together.

    Examples
    --------
    >>> row_name("fine", {"partition": "fine"}), row_name("f*", {"partition": "multi"})
    ('base(L, f)', 'base(M, f*)')
    >>> row_name("f*", {"partition": "multi", "scene": "indoor"}, run="toy-earth-multi-{scene}")
    'ISN(M, f*, S3)'
    >>> row_name("f*", {"partition": "multi", "multitask": True})
    'MTN(M, f*)'
    >>> row_name("f*", {"partition": "multi", "segmentation": True})
    'TransLocator(M, f*)'
    >>> row_name("f*", {"partition": "multi"}, run="seed-1+seed-2")
    'base(M, f*) (2 together)'
    >>> row_name("search", {"partition": "multi"}), row_name("search", {"partition": "country"})
    ('base(M, search)', 'country (search)')
    >>> row_name("region", {"partition": "region", "objective": "haversine_smoothed"})
    'region (haversine smoothed)'
    """
    scene, objective = settings.get("scene", "all"), settings.get("objective", "auto")
    segmentation = bool(settings.get("segmentation", False))
    multitask = bool(settings.get("multitask", False)) or segmentation
    photos = "S3" if "{scene}" in run else f"{scene} only" if scene != "all" else ""
    if read_out in _LETTERS and settings["partition"] not in _TRACKS:
        network = "TransLocator" if segmentation else "MTN" if multitask else "ISN" if photos else "base"
        heads = "M" if settings["partition"] == "multi" else "L"
        name = f"{network}({', '.join(filter(None, [heads, _LETTERS[read_out], photos]))})"
        details = [] if objective in _OF_THE_PAPER else [objective]
    else:
        searches = read_out == "search"
        name = settings["partition"] if searches else read_out
        branches = ["scene head"] * multitask + ["segmentation"] * segmentation
        details = [*[read_out] * searches, *filter(None, [photos]), *branches, *[objective] * (objective != "auto")]
    networks = run.count("+") + 1
    details += [f"{networks} together"] * (networks > 1)
    words = ", ".join(details).replace("_", " ").replace("mse", "MSE")
    return f"{name} ({words})" if details else name


def _found(evaluation: Evaluated) -> list[tuple[str, str, str, str, pd.Series]]:
    """Rows of one run: name, run, read-out, kind, distances."""
    columns = [name for name in evaluation.predictions.columns.tolist() if name.startswith(_DISTANCE)]
    read_outs = [name.removeprefix(_DISTANCE) for name in columns]
    sees_photos = [name for name in read_outs if name in _LETTERS or name in _TRACKS]
    found = []
    for column, read_out in zip(columns, read_outs, strict=True):
        kind = "baseline" if read_out not in sees_photos else "best" if read_out == sees_photos[-1] else "other"
        is_answer = kind != "baseline"
        name = row_name(read_out, evaluation.settings, evaluation.run) if is_answer else read_out
        found.append((name, evaluation.run, read_out, kind, evaluation.predictions[column]))
    return found


def _refuse_other_photos(first: Evaluated, other: Evaluated) -> None:
    one, two = (evaluation.predictions for evaluation in (first, other))
    remedy = f"evaluate both on the same list: papermill 05_evaluation/evaluate.ipynb out.ipynb -p run {other.run}"
    ids = pd.Index(one["id"]), pd.Index(two["id"])
    for those, ours, whose in ((ids[0].difference(ids[1]), first, other), (ids[1].difference(ids[0]), other, first)):
        if len(those):
            raise ValueError(
                f"run {whose.run!r} has no prediction for {len(those)} of the {len(ours.predictions)} photos that "
                f"{ours.run!r} was evaluated on ({data_lists.shown(those.tolist())}): {remedy}"
            )
    moved = (one[["latitude", "longitude"]].to_numpy() != two[["latitude", "longitude"]].to_numpy()).any(axis=1)
    if moved.any():
        raise ValueError(
            f"runs {first.run!r} and {other.run!r} were evaluated with {np.count_nonzero(moved)} photos at different "
            f"true places ({data_lists.shown(one['id'][moved].tolist())}): {remedy}"
        )
