"""Where photos of somebody's were taken: from files, or bytes, to a table.

A run is made ready once, by :func:`ready`, and then places any number of photos: in a batch, for a notebook, and for an
app that is asked again and again. Of a photo nothing is looked at but its pixels: what its EXIF says of its place is
not read.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import (
    devices,
    export,
    inference,
    inputs,
    onnx_inference,
    photo_stores,
    photos,
    places,
    predict,
    progress,
    read_outs,
    scene_classifier,
    segmenters,
)
from helpers.given_photos import Given, of_bytes
from helpers.run_folders import Found
from helpers.segmenters import Segmenter

CROPS = 5
RUNTIMES = ("torch", "onnx")
"""What can compute the answers of networks."""
PLACES = predict.GUESSES
"""Likeliest places that are told of each photo."""
OF_PLACES = ("latitude", "longitude", "probability", "country", "region")
"""What is told of each of them."""
COLUMNS = (
    *("id", "latitude", "longitude", "country", "region", "cell", "confidence", "radius_50_km", "radius_90_km"),
    *("scene", *(f"place_{rank}_{what}" for rank in range(1, PLACES + 1) for what in OF_PLACES)),
    *("calibrated", "error"),
)
"""Of a table of placed photos."""
_PHOTOS_READ_OUT = 64  # at once
_PHOTOS_READ = 16  # at once, so that there soon is something to compute
_WORTH_WORKERS = 32  # photos: fewer are read faster than workers start


_Answering = inference.Quick | onnx_inference.OnnxNetwork


class Predictions(NamedTuple):
    """Where photos were taken, as a run has it."""

    table: pd.DataFrame
    """:data:`COLUMNS`, a row for each photo that was given, in that order. One that could not be read has nothing but
    its ``id`` and the ``error``."""
    likeliest: pd.DataFrame
    """The likeliest places of each photo that could be read, a row for each: ``id, rank, cell, latitude, longitude,
    probability, country, region``."""
    distribution: pd.DataFrame | None
    """Where asked for, ``id, cell, latitude, longitude, probability`` of all classes; none for coordinates."""

    @property
    def unread(self) -> int:
        """Photos that could not be read."""
        return int((self.table["error"] != "").sum())


@dataclasses.dataclass
class Placer:
    """A run that is ready to place photos; see :func:`ready`."""

    runs: dict[str, predict.Run]
    networks: Mapping[int, _Answering]
    """By the identity of the network that each answers for."""
    classifier: scene_classifier.Classifier | None
    remark: str
    """Why it is not calibrated, "" where it is."""
    segmenters: dict[int, tuple[Segmenter, int]] = dataclasses.field(default_factory=dict)
    """Those that make the maps which a network looks at beside the photos, with the short side of these, by its id."""

    def run_of(self, scene: str) -> predict.Run:
        """The networks that a photo of a scene is placed by."""
        return self.runs[scene] if len(self.runs) > 1 else next(iter(self.runs.values()))

    def remark_on(self, scene: str, level: str, crops: int) -> str:
        """Why an answer is not calibrated, in a sentence; "" where it is, or claims nothing that could be."""
        run = self.run_of(scene)
        if run.calibration.reason:
            return f"Not calibrated, so distances and per cents may promise too much: {self.remark}."
        if crops != CROPS:
            return "Not calibrated: distances and per cents are fitted for five crops."
        answering = predict.at_level(run, level)
        if not answering.calibration.reason:
            return ""
        return f"Distances are not calibrated at this level, per cents are: {answering.calibration.reason}."

    @property
    def described(self) -> str:
        """Device, number format, what computes, and size of a batch in words."""
        quick = next(iter(self.networks.values()))
        dtype = str(quick.dtype).removeprefix("torch.")
        photos_at_once = max(1, quick.at_once // CROPS)
        return f"{devices.described(quick.device)}, {dtype}, {quick.runtime}, {photos_at_once} photos at once"

    def __call__(
        self, given: Given, distributions: bool = False, *, level: str = "auto", crops: int = CROPS
    ) -> Predictions:
        """Place photos.

        Parameters
        ----------
        given : Given
            From :func:`helpers.given_photos.find` or `of_bytes`.
        distributions : bool
            Whether to give the probabilities of all classes too.
        level : str
            Model that answers, see :func:`helpers.predict.at_level`.
        crops : int
            Views of a photo: five, as in the paper, or 1, its middle alone. Radii and confidence are fitted for five.

        Raises
        ------
        ValueError
            If the run has no such level, or there are neither five nor one crops.
        """
        if crops not in (1, CROPS):
            raise ValueError(f"a photo is looked at in {CROPS} crops or in 1, not in {crops}")
        runs = {scene: _of_crops(predict.at_level(run, level), crops) for scene, run in self.runs.items()}
        rows = given.rows()
        errors = dict(given.errors)
        if len(rows) and self.classifier:
            quick = 2 * _PHOTOS_READ_OUT if self.classifier.device.type != "cpu" else 8
            found = scene_classifier.classify(rows, given, self.classifier, quick)
            rows["scene"] = found["scene"].to_numpy(object)
            unread = rows["id"][rows["scene"].isna()]
            errors |= {name: _why(given, name) for name in unread}
            rows = rows[~rows["id"].isin(unread)].reset_index(drop=True)
        if rows.empty:
            return Predictions(_with_errors(pd.DataFrame(columns=list(COLUMNS)), given, errors), _nothing(), None)
        stream = _Stream(self.networks, self._maps(rows, given), {}, [] if distributions else None, crops)
        placed = predict.locate(runs, rows, given, _PHOTOS_READ_OUT, stream)
        errors |= stream.unread
        likeliest = placed.likeliest[~placed.likeliest["id"].isin(errors)].reset_index(drop=True)
        table = _table(rows, placed, _are_calibrated(runs, rows))
        distribution = None
        if stream.distributions:
            distribution = pd.concat(stream.distributions, ignore_index=True)
            distribution = distribution[~distribution["id"].isin(errors)].reset_index(drop=True)
        return Predictions(_with_errors(table, given, errors), likeliest, distribution)

    def _maps(self, rows: pd.DataFrame, given: Given) -> dict[int, Given]:
        """Segmentation maps of the photos, for each network that looks at them."""
        return {
            network: of_bytes(segmenters.maps_of(rows, given, segmenter, short_side))
            for network, (segmenter, short_side) in self.segmenters.items()
        }


def _of_crops(run: predict.Run, crops: int) -> predict.Run:
    if crops == CROPS:
        return run
    calibrations = {name: fitted.unfitted("it is fitted for five crops") for name, fitted in run.calibrations.items()}
    return dataclasses.replace(run, calibrations=calibrations)


def _are_calibrated(runs: Mapping[str, predict.Run], rows: pd.DataFrame) -> np.ndarray:
    calibrated = {scene: not run.calibration.reason for scene, run in runs.items()}
    if len(runs) == 1:
        return np.full(len(rows), next(iter(calibrated.values())))
    return rows["scene"].map(calibrated).to_numpy(bool)


def ready(
    found: Found,
    *,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torch",
    batch_size: int = 0,
    fusion: str = "auto",
    preset: str = "auto",
    tell_scenes: bool = True,
    segmenter_weights: str = "default",
) -> Placer:
    """Make a run ready to place photos.

    Parameters
    ----------
    found : Found
        From :func:`helpers.run_folders.find`.
    device : str
        One of `devices.KINDS`.
    precision : str
        One of `devices.PRECISIONS`; ``auto`` takes what the device gains by. Calibrations are fitted to what the
        notebooks compute with; answers in half precision differ from that by less than it matters, those of fp32 not
        at all.
    runtime : str
        One of :data:`RUNTIMES`. ``onnx`` is ONNX Runtime, on a CPU: faster than PyTorch in float32, slower than it in
        bfloat16 where there are instructions for that. It takes the exported file of a run where there is one, see
        :mod:`helpers.export`. Scenes and segmentation maps are by PyTorch either way.
    batch_size : int
        Photos, five crops each, that the device is given at once; 0: as many as suit it.
    fusion : str
        As for :func:`helpers.predict.load`.
    preset : str
        As for :func:`helpers.predict.of_preset`.
    tell_scenes : bool
        Whether to classify the scenes of photos where the run does not: that takes longer than placing them with a
        small network. Individual scene networks need the scenes anyway.
    segmenter_weights : str
        For a run that looks at segmentation maps too: file with the weights of the network that made those it has
        learned from, which makes the maps of these photos on the way; ``default`` where they were torchvision's.

    Raises
    ------
    ValueError
        If there is no such device here, the runtime does not serve it or computes in no such format, the run cannot be
        read, or it looks at maps that cannot be made.
    """
    chosen = device_of(runtime, device, precision)
    loaded = predict.load(found.folders, found.calibration, fusion, chosen)
    runs = {scene: predict.of_preset(run, preset) for scene, run in loaded.items()}
    looking = {
        id(network): segmenters.of_run(folder, segmenter_weights)
        for scene, run in runs.items()
        for folder, network in zip(found.folders[scene], run.networks, strict=True)
        if network.palette
    }
    at_once = CROPS * batch_size
    networks: dict[int, _Answering] = {
        id(network): onnx_inference.of_run(folder, network.model, network.image_size, at_once)
        if runtime == "onnx"
        else inference.Quick(network.model, network.image_size, precision, chosen, at_once)
        for scene, run in runs.items()
        for folder, network in zip(found.folders[scene], run.networks, strict=True)
    }
    heads = {scene: "scene" in run.networks[0].model.heads for scene, run in runs.items()}
    classifier = None
    if len(runs) > 1 or (tell_scenes and not all(heads.values())):
        classifier = quick_classifier(chosen, precision)
    reasons = {run.calibration.reason for run in runs.values()} - {""}
    return Placer(runs, networks, classifier, found.remark or "; ".join(sorted(reasons)), looking)


def device_of(runtime: str, device: str, precision: str) -> torch.device:
    """The device that answers with a runtime.

    Raises
    ------
    ValueError
        If there is no such runtime or device, the runtime is not installed, or it does not compute so.

    Examples
    --------
    >>> device_of("torch", "cpu", "bf16")
    device(type='cpu')
    >>> device_of("onnx", "cuda", "auto")
    Traceback (most recent call last):
    ...
    ValueError: runtime 'onnx' computes on a CPU in fp32, not on 'cuda' in 'auto': choose these, or runtime torch
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"there is no runtime {runtime!r}: choose one of {', '.join(RUNTIMES)}")
    if runtime == "torch":
        return devices.named(device)
    if device not in ("auto", "cpu") or precision not in ("auto", "fp32"):
        raise ValueError(
            f"runtime 'onnx' computes on a CPU in fp32, not on {device!r} in {precision!r}: choose these, or runtime "
            "torch"
        )
    export.require_packages("onnxruntime")
    return devices.named("cpu")


def quick_classifier(device: torch.device, precision: str) -> scene_classifier.Classifier:
    """The embedded classifier of scenes, made to answer fast."""
    embedded = scene_classifier.load()
    quick = inference.Quick(embedded.network, scene_classifier.IMAGE_SIZE, precision, device)
    number_format = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[quick.dtype]
    network = cast(scene_classifier.SceneNetwork, quick.network)
    return dataclasses.replace(embedded, network=network, device=device, precision=number_format)


@dataclasses.dataclass
class _Stream:
    """Outputs of networks for photos of which some may be unreadable, in the place of `predict.outputs`."""

    networks: Mapping[int, _Answering]
    maps: Mapping[int, Given]
    unread: dict[str, str]
    """Takes the photos that cannot be read, and why. In their place a black one is answered, and not shown."""
    distributions: list[pd.DataFrame] | None
    crops: int

    def __call__(
        self, run: predict.Run, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, batch_size: int
    ) -> Iterator[dict[str, Tensor]]:
        streams = [self._answers(network, rows, photo_root, batch_size) for network in run.networks]
        start = 0
        for batch in zip(*streams, strict=True):
            views = read_outs.beside(batch)
            count = len(next(iter(views.values())))
            if self.distributions is not None and run.classes:
                self.distributions.append(_distribution(run, views, rows["id"].iloc[start : start + count]))
            start += count
            yield views

    def _answers(
        self, network: predict.Network, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, batch_size: int
    ) -> Iterator[dict[str, Tensor]]:
        parts = [part for batch in torch.arange(len(rows)).split(batch_size) for part in batch.split(_PHOTOS_READ)]
        requests = [(0, part) for part in parts]
        workers = inputs.default_workers() if len(rows) > _WORTH_WORKERS else 0
        maps = self.maps.get(id(network))
        view = "five" if self.crops > 1 else "centre"
        batches = inputs.stream(rows, photo_root, network.image_size, view, requests, workers, seed=0, maps=maps)
        answers: list[dict[str, Tensor]] = []
        done = answered_before = 0
        for batch in progress.track(batches, "placing", len(requests), unit=f"batches of {_PHOTOS_READ} photos"):
            views = batch.photos
            if batch.failed:
                self.unread |= {rows["id"].iloc[number]: why for number, why in batch.failed}
                views = _with_black(batch)
            answers.append(self.networks[id(network)](views.flatten(0, -4)))
            done += len(views)
            if done - answered_before == batch_size or done == len(rows):
                together = {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}
                yield {name: _sound(scores).unflatten(0, (-1, self.crops)) for name, scores in together.items()}
                answers, answered_before = [], done


def _with_black(batch: inputs.Batch) -> Tensor:
    """Views of a batch with a black photo wherever one could not be read."""
    failed = [number for number, _ in batch.failed]
    asked = torch.tensor(sorted([*batch.numbers.tolist(), *failed]))
    views = batch.photos.new_zeros((len(asked), *batch.photos.shape[1:]))
    views[torch.isin(asked, batch.numbers)] = batch.photos
    return views


def _sound(scores: Tensor) -> Tensor:
    if not torch.isfinite(scores).all():
        raise ValueError("the network gives numbers that are not finite: try --precision fp32, or train the run anew")
    return scores


def _distribution(run: predict.Run, views: Mapping[str, Tensor], ids: pd.Series) -> pd.DataFrame:
    read_out = run.read_out()
    model, shares = list(read_out.shares(read_outs.fuse(views, run.fusion)).items())[-1]
    probability = run.calibration.tempered(model, shares).cpu().double().numpy() * run.calibration.inside(model)
    classes = list(run.classes.values())[-1]
    count = len(classes)
    return pd.DataFrame(
        {
            "id": np.repeat(ids.to_numpy(object), count),
            "cell": np.tile(np.arange(count), len(ids)),
            "latitude": np.tile(classes.coordinates[:, 0], len(ids)),
            "longitude": np.tile(classes.coordinates[:, 1], len(ids)),
            "probability": probability.ravel(),
        }
    )


def _table(rows: pd.DataFrame, placed: predict.Placed, calibrated: np.ndarray) -> pd.DataFrame:
    answer = list(placed.answers.values())[-1]
    ids = rows["id"].to_numpy(object)
    radii = placed.spread[["radius_50_km", "radius_90_km"]]
    number = places.locate(answer["predicted_latitude"], answer["predicted_longitude"])
    named = places.regions()[["country", "region"]].to_numpy(dtype=object)
    country, region = np.vstack([named, ["", ""]])[number].T
    table = pd.DataFrame({"id": ids, "latitude": answer["predicted_latitude"].to_numpy()})
    table["longitude"] = answer["predicted_longitude"].to_numpy()
    table["country"], table["region"] = _country_names(country), _within_country(region)
    table["cell"], table["confidence"] = answer["cell"].to_numpy(), answer["confidence"].to_numpy()
    table[radii.columns] = radii.to_numpy()
    scene = answer["predicted_scene"] if "predicted_scene" in answer else rows.get("scene")
    table["scene"] = "" if scene is None else scene.to_numpy(object)
    country, region = placed.likeliest[["country", "region"]].to_numpy(object).T
    likeliest = placed.likeliest.assign(country=_country_names(country), region=_within_country(region))
    for rank in range(1, PLACES + 1):
        of_rank = likeliest[likeliest["rank"] == rank].set_index("id").reindex(ids)
        for what in OF_PLACES:
            column = of_rank[what]
            table[f"place_{rank}_{what}"] = (column.fillna("") if what in ("country", "region") else column).to_numpy()
    return table.assign(calibrated=calibrated, error="")


def _country_names(codes: np.ndarray) -> np.ndarray:
    return places.countries()["name"].reindex(codes).fillna("").to_numpy(object)


def _within_country(regions: np.ndarray) -> np.ndarray:
    """Names of regions without that of the country behind them."""
    return pd.Series(regions, dtype=object).str.rpartition(", ")[0].to_numpy(object)


def _with_errors(table: pd.DataFrame, given: Given, errors: Mapping[str, str]) -> pd.DataFrame:
    """A table with a row for each photo that was given, in that order; nothing but the error where there is one."""
    kept = table[~table["id"].isin(errors)].set_index("id").reindex(list(given.sources))
    whole = kept.rename_axis("id").reset_index()[list(COLUMNS)]
    whole["error"] = [errors.get(name, "") for name in whole["id"]]
    words = [
        "country",
        "region",
        "scene",
        *(f"place_{n}_{what}" for n in range(1, PLACES + 1) for what in ("country", "region")),
    ]
    whole[words] = whole[words].fillna("")
    return whole.astype({"cell": "Int64", "calibrated": "boolean"} | {column: float for column in _numbers()})


def _numbers() -> list[str]:
    whole = [column for column in COLUMNS if column.endswith(("latitude", "longitude", "probability", "_km"))]
    return [*whole, "confidence"]


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=["id", "rank", "cell", "latitude", "longitude", "probability", "country", "region"])


def _why(given: Given, name: str) -> str:
    """Why a photo that the classifier of scenes could not read cannot be read."""
    try:
        inputs.decode(photos.read_bytes(given, name), name, scene_classifier.IMAGE_SIZE)
    except photos.PhotoError as error:
        return str(error)
    return f"photo {name!r} could not be read a moment ago: try again"
