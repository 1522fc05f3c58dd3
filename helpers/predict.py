"""From photos to coordinates with confidence."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import (
    calibration,
    devices,
    features,
    gallery,
    inputs,
    manifests,
    metrics,
    models,
    photo_stores,
    places,
    progress,
    read_outs,
    regions,
    search,
    segmentation,
    spread,
    targets,
)
from helpers.models import Geolocator
from helpers.scenes import SCENES

SUMS = "sums"
"""Names, in the place of a fusion, the countries and continents that the chosen answer is summed to."""
LIKELIEST_REGION = "country of the likeliest region"
GUESSES = 5  # that are kept of each photo's places, countries or regions

_PHOTOS_IN_MEMORY = 8192  # features of five crops each: 210 MB of 1,280 numbers


@dataclass(frozen=True)
class Network:
    """A trained network."""

    settings: dict[str, Any]
    model: Geolocator
    device: torch.device
    unreadable: tuple[str, ...] = ()
    """Ids of photos that training could not read."""
    palette: segmentation.Palette | None = None
    """Classes of the segmentation maps that it looks at beside the photos, if it does."""

    @property
    def image_size(self) -> int:
        """Side of the network's square input, in pixels."""
        return int(self.settings["image_size"])

    @property
    def precision(self) -> str:
        """Number format that it was trained with, one of :data:`helpers.devices.PRECISIONS`."""
        return str(self.settings["precision"])


@dataclass(frozen=True)
class Run:
    """A trained network, or several that answer together, with what is needed to use them.

    Attributes
    ----------
    classes : dict of str to Partition or Classes
        By head, from coarse to fine; empty for coordinates.
    training_places : DataFrame
        ``latitude, longitude`` of the photos that the first network learned from.
    calibrations : dict of str to Calibration
        By fusion.
    fusion : str
        The one that counts.
    searching : Search or None
        Among training photos, where the networks have galleries of them.
    """

    networks: tuple[Network, ...]
    classes: dict[str, targets.Classes]
    training_places: pd.DataFrame
    calibrations: dict[str, calibration.Calibration] = field(default_factory=dict)
    fusion: str = "max"
    searching: search.Search | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.networks[0].device

    @property
    def calibration(self) -> calibration.Calibration:
        """That of the fusion that counts."""
        return self.calibrations.get(self.fusion, calibration.Calibration(self.fusion))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of its answers, the best founded last."""
        return read_outs.models_of(self.classes, self.searching is not None)

    def read_out(self) -> read_outs.ReadOut | read_outs.CoordinateReadOut:
        """How the outputs of its networks are read."""
        return read_outs.of(self.classes, self.device, self.searching)

    @property
    def fusions(self) -> tuple[str, ...]:
        """Ways to fuse views that make a difference, the one that counts first."""
        others = tuple(name for name in read_outs.FUSIONS if name != self.fusion)
        return (self.fusion, *others) if self.classes else (self.fusion,)


class Placed(NamedTuple):
    """Where photos were taken, as a run has it: tables with an ``id``, in the order of the photos."""

    answers: dict[str, pd.DataFrame]
    """By model, the best founded last: ``predicted_latitude, predicted_longitude, confidence`` (calibrated where the
    run is), ``confidence_uncalibrated, cell``, where the truth is known ``right``, and the ``predicted_scene``."""
    fusions: dict[str, dict[str, pd.DataFrame]]
    """The same for each way to fuse crops and networks."""
    spread: pd.DataFrame
    """``radius_50_km`` and ``radius_90_km``, that are to hold the truth with 50 and 90 %; ``p_within_1km`` …, the
    probability that the guess is within a distance; ``entropy_bits`` of the classes. Of photos whose place is known
    also ``held_from`` and ``held_from_uncalibrated``, the least promise whose radius holds the truth; ``true_class``
    and its ``training_photos_of_true_class``."""
    likeliest: pd.DataFrame
    """The likeliest classes: ``rank, cell, latitude, longitude, probability, country, region``, a row for each."""
    countries: pd.DataFrame
    """The likeliest countries, as :func:`named` gives them."""
    continents: pd.DataFrame
    """The likeliest continents, in the same form; empty for coordinates."""


def load(
    folders: Mapping[str, Sequence[Path]],
    calibrated: Path | None = None,
    fusion: str = "auto",
    device: torch.device | None = None,
) -> dict[str, Run]:
    """Load runs that training left.

    Parameters
    ----------
    folders : mapping of str to sequence of Path
        ``all`` and the folder of a run, or of several that answer together; or each scene and those of its individual
        scene network.
    calibrated : Path, optional
        File from :func:`helpers.calibration.write`. Without it nothing is calibrated.
    fusion : str
        One of `read_outs.FUSIONS`, or ``auto``: as chosen on validation photos, the largest probability where there
        were too few.
    device : torch.device, optional
        By default the best one of this machine.

    Raises
    ------
    ValueError
        If a model is not of the architecture or the classes that its folder tells of, a network is given for another
        scene than its own, or networks that answer together, or those of the scenes, do not answer the same questions.
    """
    fitted = calibration.read(calibrated) if calibrated else {}
    device = device or devices.best_device()
    runs = {
        scene: _loaded(scene, paths, *fitted.get(scene, ({}, "max")), fusion, device)
        for scene, paths in folders.items()
    }
    for scene, run in runs.items():
        for folder, network in zip(folders[scene], run.networks, strict=True):
            if len(runs) > 1 and network.settings["scene"] not in (scene, "all"):
                raise ValueError(
                    f"{folder} was trained on photos of scene {network.settings['scene']!r}, so it is no network for "
                    f"{scene} photos: train one with -p scene {scene}"
                )
    if any(run.searching for run in runs.values()) and not all(run.searching for run in runs.values()):
        print("not all scenes have photos to search among: all of them are answered by classes", flush=True)
        runs = {scene: replace(run, searching=None) for scene, run in runs.items()}
    heads = {scene: list(_outputs_of(run.networks[0])) for scene, run in runs.items()}
    for scene, names in heads.items():
        if names != next(iter(heads.values())):
            raise ValueError(
                f"the networks of the scenes differ: {next(iter(heads))} has heads for "
                f"{', '.join(next(iter(heads.values())))}, {scene} for {', '.join(names)}; train all on one partition"
            )
    return runs


def _loaded(
    scene: str,
    folders: Sequence[Path],
    calibrations: dict[str, calibration.Calibration],
    best: str,
    fusion: str,
    device: torch.device,
) -> Run:
    networks, classes = zip(*(_network(folder, device) for folder in folders), strict=True)
    of_first = _answers_to(scene, folders[0], networks[0])
    for folder, network in zip(folders, networks, strict=True):
        differing = [name for name, value in _answers_to(scene, folder, network).items() if of_first.get(name) != value]
        if differing:
            raise ValueError(
                f"{folders[0].name} and {folder.name} cannot answer together, for they differ in "
                f"{', '.join(differing)}: train both on the same dataset, partition and scene"
            )
    places = pd.read_parquet(folders[0] / "training_places.parquet")
    by_default = fusion == "auto" or not classes[0]  # coordinates are fused in one way
    searching, searches = None, [read_outs.SEARCH in network.settings["classes"] for network in networks]
    kept = [_gallery(*each) for each in zip(folders, networks, classes, strict=True)] if all(searches) else []
    if kept and gallery.are_of_same_photos(kept):
        searching = search.Search(gallery.joined(kept), len(list(classes[0].values())[-1]), device)
    elif any(searches):
        names = " and ".join(folder.name for folder in folders)
        print(
            f"{names} have not kept the same photos to search among: together they answer by their classes", flush=True
        )
    return Run(networks, classes[0], places, calibrations, best if by_default else fusion, searching)


def _outputs_of(network: Network) -> dict[str, int]:
    """How many numbers its heads give, but for what a search compares photos by, which is nobody else's business."""
    return {name: count for name, count in network.settings["classes"].items() if name != read_outs.SEARCH}


def _gallery(folder: Path, network: Network, classes: Mapping[str, targets.Classes]) -> gallery.Gallery:
    """The photos that a network searches among, which it must be able to compare with others."""
    found, finest = gallery.read(folder / gallery.FILE), list(classes)[-1]
    directions = network.settings["classes"][read_outs.SEARCH]
    if found.keys.shape[1] != directions or found.labels.max() >= len(classes[finest]):
        raise ValueError(
            f"{folder / gallery.FILE} has photos with {found.keys.shape[1]} numbers and classes up to "
            f"{found.labels.max()}, but the network gives {directions} and there are {len(classes[finest])} classes: "
            "put the files of one run together again"
        )
    return found


def _answers_to(scene: str, folder: Path, network: Network) -> dict[str, object]:
    """What the answers of a network are about; photos of one scene may be placed by a network for all of them too."""
    wanted = ("dataset", "partition", *(["scene"] if scene == "all" else []))
    named: dict[str, object] = {name: network.settings[name] for name in wanted}
    outputs = _outputs_of(network)
    return named | {"classes": outputs} | targets.fingerprints(folder / "classes", outputs)


def _network(folder: Path, device: torch.device) -> tuple[Network, dict[str, targets.Classes]]:
    settings = json.loads((folder / "config.json").read_text())
    if "scene" not in settings:
        raise ValueError(f"{folder} was made by an older version: train it anew with 04_training/train.ipynb")
    classes = targets.read(folder / "classes", targets.heads(settings["partition"]))
    palette = segmentation.Palette.read(folder / segmentation.PALETTE) if settings.get("segmentation") else None
    colours = palette.colours if palette else None
    model = Geolocator(settings["architecture"], settings["classes"], "none", palette=colours)
    fingerprints = targets.fingerprints(folder / "classes", settings["classes"])
    if read_outs.SEARCH in settings["classes"]:
        file = folder / gallery.FILE
        if not file.is_file():
            raise ValueError(
                f"{file} is gone, with the photos that the run searches among: put it back, or train the run anew with "
                "04_training/train.ipynb"
            )
        fingerprints[read_outs.SEARCH] = manifests.fingerprint(file)
    models.restore(model, folder / "model.safetensors", fingerprints)
    if colours and model.palette[: len(colours)].tolist() != list(map(list, colours)):
        raise ValueError(
            f"{folder / segmentation.PALETTE} has other colours than the network has learned: put the files of one run "
            "together again"
        )
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    file = folder / "unreadable.csv"
    unreadable = tuple(pd.read_csv(file, dtype=str)["id"]) if file.exists() else ()
    return Network(settings, model, device, unreadable, palette), classes


def at_level(run: Run, level: str) -> Run:
    """A run that answers by one of its models alone.

    Its confidence is calibrated where the run's is. Its radii are not: those are fitted for the best founded model.

    Parameters
    ----------
    run : Run
    level : str
        One of the models of its read-out, such as ``coarse``; ``auto`` is the best founded one.

    Raises
    ------
    ValueError
        If there is no such model, naming the nearest.
    """
    answering = read_outs.model(run.models, level)
    if answering == run.models[-1]:
        return run
    reason = f"radii are fitted for {run.models[-1]}, not for {answering}"
    calibrations = {fusion: fitted.unfitted(reason) for fusion, fitted in run.calibrations.items()}
    classes = run.classes if answering == read_outs.HIERARCHY else {answering: run.classes[answering]}
    return replace(run, classes=classes, calibrations=calibrations, searching=None)


def of_preset(run: Run, preset: str) -> Run:
    """A run that answers as a preset has it.

    Parameters
    ----------
    run : Run
    preset : str
        One of `recipe.PRESETS`: ``plain`` is by its classes alone, ``search`` among its training photos too; ``auto``
        is what it was trained for.

    Raises
    ------
    ValueError
        If it is to search and has kept no photos.
    """
    if preset == "search" and run.searching is None:
        raise ValueError(
            "there are no photos to search among, or networks that answer together have kept different ones: train "
            "with 04_training/train.ipynb -p preset search, all on one list with one seed, or take preset auto or plain"
        )
    return at_level(run, read_outs.models_of(run.classes)[-1]) if preset == "plain" else run


def with_maps(runs: Mapping[str, Run], rows: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Rows of a data list with their segmentation maps, where a network looks at those.

    Parameters
    ----------
    runs : mapping of str to Run
        From :func:`load`.
    rows : DataFrame
        Rows of the list of `dataset`.
    dataset : str

    Raises
    ------
    MissingMaps, StaleOutput, ValueError
        As `segmentation.joined`, also if the maps are of another palette than those that a network has learned from.
    """
    for run in runs.values():
        for network in run.networks:
            if network.palette:
                rows = segmentation.joined(rows, dataset, network.palette)
    return rows


def locate(
    runs: Mapping[str, Run],
    rows: pd.DataFrame,
    photo_root: photo_stores.PhotoRoot,
    batch_size: int,
    answering: "Answering | None" = None,
) -> Placed:
    """Predict where the photos of a list were taken, from five crops each.

    Parameters
    ----------
    runs : mapping of str to Run
        From :func:`load`. With a network for each scene, a photo goes to that of its scene.
    rows : DataFrame
        Rows of a data list; ``id`` and ``path`` are read, ``scene`` where there are several networks, ``maps`` where a
        network looks at segmentation maps (:func:`with_maps`), and ``latitude`` and ``longitude`` where they are known,
        to say how much of the distribution is nearer than the truth.
    photo_root : Path or PhotoStore
        What the paths are relative to.
    batch_size : int
        Photos per batch, five crops each.
    answering : callable, optional
        What to call in the place of :func:`outputs`, with the same arguments.

    Raises
    ------
    ValueError
        If there are no rows, or a photo has no scene whose network could take it.
    """
    tables = _answered(runs, rows, photo_root, batch_size, _Placer, answering)
    answers: dict[str, dict[str, pd.DataFrame]] = {fusion: {} for fusion in ("", *read_outs.FUSIONS)}
    models = list(dict.fromkeys(model for kind, _, model in tables if kind == "answer"))
    for model in models:
        for fusion in answers:
            if ("answer", fusion, model) in tables:
                answers[fusion][model] = tables["answer", fusion, model]
    chosen = answers.pop("")
    likeliest = _long(tables["likeliest", "", ""])
    countries = tables["named", "", "country"]
    continents = tables.get(("named", "", "continent"), countries.iloc[:0])
    return Placed(chosen, answers, tables["spread", "", ""], likeliest, countries, continents)


def named(runs: Mapping[str, Run], rows: pd.DataFrame, photo_root: Path, batch_size: int) -> dict[str, pd.DataFrame]:
    """Name the likeliest countries of photos, and the likeliest regions where a run knows them.

    The probability of a country is the sum of those of its regions, or of its shares of the cells: a cell is in the
    countries that its training photos were taken in. What lies in no class is left out. A head of coordinates names a
    single country.

    Parameters
    ----------
    runs, rows, photo_root, batch_size
        As in :func:`locate`.

    Returns
    -------
    dict of str to DataFrame
        ``country``, and of a run on regions ``region`` and :data:`LIKELIEST_REGION`; each with the ``id``, the
        :data:`GUESSES` likeliest as ``guess_1`` ... (codes of countries, names of regions, "" where there are no
        more) and their probabilities ``p_1`` ..., in the order of `rows`.
    """
    tables = _answered(runs, rows, photo_root, batch_size, _Namer)
    return {level: table for (_, _, level), table in tables.items() if level != "continent"}


def nameable(runs: Mapping[str, Run]) -> dict[str, set[str]]:
    """Countries, and regions where there are any, that some network can name.

    Returns
    -------
    dict of str to set of str
        Keys by kind of class; a kind is missing where a network is not limited to any, or never names it.
    """
    found: dict[str, set[str]] = {}
    for run in runs.values():
        earth = earth_of(run)
        if not isinstance(earth, spread.ClassSpread):
            return {}
        found.setdefault("country", set()).update(earth.country_codes.tolist())
        finest = list(run.classes.values())[-1]
        if isinstance(finest, regions.Classes):
            found.setdefault(finest.name, set()).update(finest.keys.tolist())
    return found


def table(
    rows: pd.DataFrame, answers: Mapping[str, pd.DataFrame], spread_of: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per photo: the truth, the best founded answer, how sure it is, and how far off every answer is.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    answers : mapping of str to DataFrame
        Those of :class:`Placed`, the best founded last, and where wanted from :mod:`helpers.baselines` after them.
    spread_of : DataFrame, optional
        The table of that name of :class:`Placed`.

    Returns
    -------
    DataFrame
        ``id, author, latitude, longitude, predicted_latitude, predicted_longitude, distance_km, confidence, cell``,
        of a multi-task network ``predicted_scene``, the columns of `spread_of`, the ``scene`` where `rows` have it, and
        ``distance_km_<model>`` for every model.
    """
    best = [model for model in answers if "confidence" in answers[model]][-1]
    truth = rows[["id", "author", "latitude", "longitude"]]
    predictions = truth.merge(answers[best], on="id", validate="one_to_one")
    if spread_of is not None:
        predictions = predictions.merge(spread_of, on="id", validate="one_to_one")
    for model, answer in answers.items():
        predictions[f"distance_km_{model}"] = metrics.great_circle_km(
            rows["latitude"], rows["longitude"], answer["predicted_latitude"], answer["predicted_longitude"]
        )
    predictions.insert(6, "distance_km", predictions[f"distance_km_{best}"])
    return predictions.assign(scene=rows["scene"].to_numpy()) if "scene" in rows else predictions


def scene_agreement(predictions: pd.DataFrame) -> str:
    """How often the scene head of a multi-task network names the known scene, in words.

    Examples
    --------
    >>> scene_agreement(pd.DataFrame({"scene": ["urban", "indoor"], "predicted_scene": ["urban", "urban"]}))
    'its scene head agrees with the known scene of 50.0 % of 2 photos (indoor 0.0 % of 1, urban 100.0 % of 1)'
    >>> scene_agreement(pd.DataFrame({"scene": ["urban"]}))
    'the run has no scene head'
    """
    if "predicted_scene" not in predictions:
        return "the run has no scene head"
    known = predictions[predictions["scene"].notna()]
    if known.empty:
        return "the scenes of these photos are not known, so there is nothing to compare its scene head with"
    right = (known["scene"] == known["predicted_scene"]).groupby(known["scene"])
    by_scene = ", ".join(f"{scene} {100 * each.mean():.1f} % of {len(each):,}" for scene, each in right)
    agree = 100 * (known["scene"] == known["predicted_scene"]).mean()
    return f"its scene head agrees with the known scene of {agree:.1f} % of {len(known):,} photos ({by_scene})"


def routed(runs: Mapping[str, Run], rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each scene, or ``all``, with the photos that its networks place.

    Raises
    ------
    ValueError
        If there are no rows, or a photo has no scene whose network could take it.
    """
    if rows.empty:
        raise ValueError("no photo to place: the list has no test photos; build it with a test_share above 0")
    if len(runs) == 1:
        yield next(iter(runs)), rows
        return
    astray = rows["id"][~rows["scene"].isin(list(runs))]
    if len(astray):
        raise ValueError(
            f"{len(astray)} of {len(rows)} photos, such as {astray.iloc[0]!r}, have no known scene, so none of the "
            f"networks for {', '.join(runs)} can take them: classify them with 02_scenes/classify_scenes.ipynb"
        )
    for scene in runs:
        part = rows[rows["scene"] == scene]
        if len(part):
            yield scene, part


def confidences(rows: pd.DataFrame, placed: Placed) -> pd.DataFrame:
    """How sure every answer is, and whether it is right: a row for each photo, model and way to fuse views.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    placed : Placed
        From :func:`locate`, for the same photos.

    Returns
    -------
    DataFrame
        ``id``; ``fusion``, one of `read_outs.FUSIONS`, ``chosen``, or :data:`SUMS` of what was chosen; ``model``;
        ``confidence, confidence_uncalibrated``; ``right``, whether the class, country or continent is the true one,
        missing for coordinates and at sea; and ``distance_km``, missing for sums.
    """
    parts = []
    for fusion, answers in {"chosen": placed.answers, **placed.fusions}.items():
        for model, answer in answers.items():
            place = answer["predicted_latitude"], answer["predicted_longitude"]
            distance_km = metrics.great_circle_km(rows["latitude"], rows["longitude"], *place)
            table = answer.reindex(columns=["id", "confidence", "confidence_uncalibrated", "right"])
            parts.append(table.assign(fusion=fusion, model=model, distance_km=distance_km))
    if len(placed.continents):
        country = places.country_codes(rows["latitude"], rows["longitude"])
        continent = places.countries()["continent"].reindex(country).fillna("").to_numpy(dtype=str)
        for kind, sums, true in (("country", placed.countries, country), ("continent", placed.continents, continent)):
            right = pd.array(sums["guess_1"].to_numpy() == true, dtype="boolean")
            right[true == ""] = pd.NA  # at sea, where there is nothing to name
            table = pd.DataFrame({"id": sums["id"], "confidence": sums["p_1"], "right": right})
            sure = table.assign(confidence_uncalibrated=sums["p_1_uncalibrated"], distance_km=np.nan)
            parts.append(sure.assign(fusion=SUMS, model=f"{kind} (sum)"))
    table = pd.concat(parts, ignore_index=True).astype({"right": "boolean"})
    return table[["id", "fusion", "model", "confidence", "confidence_uncalibrated", "right", "distance_km"]]


_Key = tuple[str, str, str]  # kind of table, fusion, model or level
_Reader = Callable[[Mapping[str, Tensor], pd.DataFrame], dict[_Key, pd.DataFrame]]
Answering = Callable[[Run, pd.DataFrame, photo_stores.PhotoRoot, int], Iterator[dict[str, Tensor]]]
"""What :func:`outputs` is."""


def _answered(
    runs: Mapping[str, Run],
    rows: pd.DataFrame,
    photo_root: photo_stores.PhotoRoot,
    batch_size: int,
    reader: Callable[[Run], _Reader],
    answering: Answering | None = None,
) -> dict[_Key, pd.DataFrame]:
    """What `reader` makes of the outputs of each photo's networks, with the ``id`` in front, in the order of `rows`."""
    parts: dict[_Key, list[pd.DataFrame]] = {}
    for scene, part in routed(runs, rows):
        run = runs[scene]
        read, found, start = reader(run), dict[_Key, list[pd.DataFrame]](), 0
        for views in (answering or outputs)(run, part, photo_root, batch_size):
            count = len(next(iter(views.values())))
            for key, table in read(views, part.iloc[start : start + count]).items():
                found.setdefault(key, []).append(table)
            start += count
        for key, tables in found.items():
            together = pd.concat(tables, ignore_index=True)
            together.insert(0, "id", part["id"].to_numpy())
            parts.setdefault(key, []).append(together)
    return {key: in_order(pd.concat(tables), rows) for key, tables in parts.items()}


def in_order(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table in the order of the photos of a list, by ``id``."""
    return table.set_index("id").loc[rows["id"]].reset_index()


def outputs(
    run: Run, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, batch_size: int
) -> Iterator[dict[str, Tensor]]:
    """Outputs of the heads for each batch of photos, of shape (photos, views, outputs).

    A view is one of five crops, seen by one of the networks.

    Raises
    ------
    ValueError
        If a network gives numbers that are not finite.
    """
    streams = [_outputs(network, rows, photo_root, batch_size) for network in run.networks]
    for batch in zip(*streams, strict=True):
        yield read_outs.beside(batch)


@torch.inference_mode()
def _outputs(
    network: Network, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, batch_size: int
) -> Iterator[dict[str, Tensor]]:
    if network.settings["train_layers"] == "heads":  # the backbone is that of other runs too, which may have been asked
        together = max(1, _PHOTOS_IN_MEMORY // batch_size) * batch_size
        for start in range(0, len(rows), together):
            found = features.of(
                *(network.model, rows.iloc[start : start + together], photo_root, network.image_size, "five"),
                *(network.precision, batch_size, "features of photos to place"),
            )
            for batch in found.split(batch_size):
                yield _sound(network.model.classify(batch.flatten(0, 1).to(network.device)), batch.shape[1])
        return
    maps = inputs.maps_of(rows) if network.model.has_map_branch else None
    views = inputs.PhotoViews(rows, photo_root, network.image_size, view="five", maps=maps)
    batches = inputs.batches(views, range(len(rows)), batch_size)
    total = -(-len(rows) // batch_size)
    for photos in progress.track(batches, "predicting", total, unit=f"batches of {batch_size} photos"):
        with devices.autocast(network.device, network.model, network.precision):
            answered = network.model(photos.flatten(0, 1).to(network.device, non_blocking=True))
        yield _sound(answered, photos.shape[1])


def _sound(answered: Mapping[str, Tensor], crops: int) -> dict[str, Tensor]:
    for name, scores in answered.items():
        if not torch.isfinite(scores).all():
            raise ValueError(f"head {name!r} gives numbers that are not finite: train the run anew, it has diverged")
    return {name: scores.unflatten(0, (-1, crops)) for name, scores in answered.items()}


def earth_of(run: Run) -> spread.Spread:
    """How the answers of a run become distributions over the Earth."""
    if not run.classes:
        return spread.VectorSpread()
    return spread.ClassSpread(list(run.classes.values())[-1], run.training_places, run.device, len(run.classes) > 1)


class _Namer:
    """How the outputs of a run name countries and regions."""

    def __init__(self, run: Run) -> None:
        self.run, self.earth = run, earth_of(run)
        self.read_out = run.read_out()

    def __call__(self, views: Mapping[str, Tensor], rows: pd.DataFrame) -> dict[_Key, pd.DataFrame]:
        shares = self.read_out.shares(read_outs.fuse(views, self.run.fusion))
        return self.named(*list(shares.items())[-1])

    def named(self, model: str, shares: Tensor) -> dict[_Key, pd.DataFrame]:
        """Countries, and regions, by the answer of the best founded model."""
        if not isinstance(self.earth, spread.ClassSpread):
            answer = self.read_out({model: shares})[model]
            country = places.country_codes(answer["predicted_latitude"], answer["predicted_longitude"])
            return {("named", "", "country"): _guesses(torch.full((len(country), 1), torch.nan), country[:, None])}
        fitted = self.run.calibration
        masses = fitted.masses(self.earth, model, shares)
        raw = calibration.Calibration().masses(self.earth, model, shares)
        tables = {}
        for kind in spread.SUMS:
            sums, names = fitted.summed(self.earth, masses, kind).cpu(), self.earth.names(kind)
            tables[kind] = _likeliest(sums, names)
            if len(names):
                named = sums.argmax(dim=1, keepdim=True)
                before = self.earth.summed(raw, kind).cpu().gather(1, named)[:, 0]
                tables[kind]["p_1_uncalibrated"] = before.numpy()
        finest = list(self.run.classes.values())[-1]
        if isinstance(finest, regions.Classes) and finest.name == "region":
            inside = masses[:, :-1].cpu()
            best = inside.max(dim=1)
            tables["region"] = _likeliest(inside, finest.keys)
            tables[LIKELIEST_REGION] = _guesses(best.values[:, None], finest.countries[best.indices.numpy()][:, None])
        return {("named", "", level): table for level, table in tables.items()}


class _Placer(_Namer):
    """How the outputs of a run name places, and say how sure they are."""

    def __call__(self, views: Mapping[str, Tensor], rows: pd.DataFrame) -> dict[_Key, pd.DataFrame]:
        known = calibration.truth(rows, self.read_out) if {"latitude", "longitude"} <= set(rows.columns) else None
        tables: dict[_Key, pd.DataFrame] = {}
        for fusion in reversed(self.run.fusions):  # the one that counts is the last, and goes on below
            fused = read_outs.fuse(views, fusion)
            shares, read = self.read_out.answers(fused)
            for model, answer in read.items():
                tables["answer", fusion, model] = self._calibrated(fusion, model, shares[model], answer, known)
        for model in shares:
            tables["answer", "", model] = tables["answer", self.run.fusion, model]
        if targets.SCENE in fused:
            scene = np.array(SCENES)[fused[targets.SCENE].argmax(dim=1).cpu().numpy()]
            tables["answer", "", model] = tables["answer", "", model].assign(predicted_scene=scene)
        guess = tables["answer", "", model]
        tables["spread", "", ""] = self._spread(model, shares[model], guess, known)
        tables["likeliest", "", ""] = self._likeliest(model, shares[model], guess)
        return tables | self.named(model, shares[model])

    def _calibrated(
        self, fusion: str, model: str, shares: Tensor, answer: pd.DataFrame, known: calibration.Truth | None
    ) -> pd.DataFrame:
        """An answer with its confidence calibrated and, where the truth is known, whether it names the right class."""
        table = answer.assign(confidence_uncalibrated=answer["confidence"])
        fitted = self.run.calibrations.get(fusion)
        if fitted and self.run.classes:
            table["confidence"] = (
                fitted.inside(model) * fitted.tempered(model, shares).amax(dim=1).cpu().double().numpy()
            )
        return table.assign(right=table["cell"].to_numpy() == known.labels[model]) if known and known.labels else table

    def _spread(self, model: str, shares: Tensor, guess: pd.DataFrame, known: calibration.Truth | None) -> pd.DataFrame:
        fitted, place = self.run.calibration, guess[["predicted_latitude", "predicted_longitude"]].to_numpy(np.float64)
        masses = fitted.masses(self.earth, model, shares)
        radii = self.earth.radii(masses, place, [fitted.level(promise) for promise in calibration.PROMISES])
        limits = np.nextafter(np.tile(metrics.THRESHOLDS_KM, (len(place), 1)).astype(np.float64), np.inf)
        if known:  # beside the limits, for every look at the distances takes its time
            distance_km = metrics.great_circle_km(*known.place.T, *place.T)
            limits = np.column_stack([limits, distance_km])
        held = fitted.held(self.earth.nearer(masses, place, limits))
        table = pd.DataFrame(radii, columns=[f"radius_{100 * promise:.0f}_km" for promise in calibration.PROMISES])
        table[[f"p_{share}" for share in metrics.SHARES]] = held[:, : len(metrics.SHARES)]
        if fitted.reason and not self.run.classes and shares.shape[1] == 2:  # two plain numbers tell of no spread
            table[:] = np.nan
        table["entropy_bits"] = spread.entropy_bits(masses) if self.run.classes else np.nan
        if known:
            table["held_from"] = held[:, -1]
            raw = calibration.Calibration().masses(self.earth, model, shares)
            table["held_from_uncalibrated"] = self.earth.nearer(raw, place, distance_km)
        if known and known.labels:
            label = known.labels[model]
            photos = np.append(list(self.run.classes.values())[-1].training_photos, 0)
            table["true_class"] = pd.array(label, dtype="Int64")
            table.loc[label < 0, "true_class"] = pd.NA
            table["training_photos_of_true_class"] = photos[label]  # -1, none, finds the 0
        return table

    def _likeliest(self, model: str, shares: Tensor, guess: pd.DataFrame) -> pd.DataFrame:
        """The likeliest classes in columns, for :func:`_long`; of coordinates the guess alone."""
        if not isinstance(self.read_out, read_outs.ReadOut):
            place = guess[["predicted_latitude", "predicted_longitude"]]
            return place.set_axis(["latitude 1", "longitude 1"], axis=1).assign(
                **{"cell 1": -1, "probability 1": np.nan}
            )
        classes = self.read_out.classes_of(model)
        best = self.run.calibration.tempered(model, shares).topk(min(GUESSES, len(classes)), dim=1)
        probability = best.values.cpu().double().numpy() * self.run.calibration.inside(model)
        columns: dict[str, np.ndarray] = {}
        for rank, cell in enumerate(best.indices.cpu().numpy().T):
            columns |= {f"cell {rank + 1}": cell, f"probability {rank + 1}": probability[:, rank]}
            columns |= dict(
                zip([f"latitude {rank + 1}", f"longitude {rank + 1}"], classes.coordinates[cell].T, strict=True)
            )
        return pd.DataFrame(columns)


def _long(wide: pd.DataFrame) -> pd.DataFrame:
    """A row for each of the likeliest classes of each photo, with the country and the region of its coordinate."""
    ranks = [column.removeprefix("cell ") for column in wide.columns.tolist() if column.startswith("cell ")]
    columns = ["cell", "latitude", "longitude", "probability"]
    parts = [
        wide[["id", *(f"{name} {rank}" for name in columns)]].set_axis(["id", *columns], axis=1).assign(rank=int(rank))
        for rank in ranks
    ]
    table = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
    number = places.locate(table["latitude"], table["longitude"])
    named = places.regions()[["country", "region"]].to_numpy(dtype=object)
    country, region = np.vstack([named, ["", ""]])[number].T
    table["cell"] = table["cell"].astype("Int64").mask(table["cell"] < 0)
    return table.assign(country=country, region=region)[["id", "rank", *columns, "country", "region"]]


def _likeliest(shares: Tensor, names: np.ndarray) -> pd.DataFrame:
    best = shares.topk(min(GUESSES, len(names)), dim=1)
    return _guesses(best.values, np.asarray(names)[best.indices.numpy()])


def _guesses(shares: Tensor, names: np.ndarray) -> pd.DataFrame:
    columns: dict[str, object] = {}
    for guess in range(GUESSES):
        columns[f"guess_{guess + 1}"] = names[:, guess] if guess < names.shape[1] else np.full(len(names), "")
    for guess in range(GUESSES):
        known = guess < shares.shape[1]
        columns[f"p_{guess + 1}"] = shares[:, guess].double().numpy() if known else np.full(len(names), np.nan)
    return pd.DataFrame(columns)


def main() -> None:
    """``python -m helpers.predict RUN PHOTO ...``."""
    from helpers import predict_command  # which loads runs by this module

    predict_command.main()


if __name__ == "__main__":
    main()
