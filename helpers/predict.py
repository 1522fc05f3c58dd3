"""From photos to coordinates with confidence."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import cells, devices, features, inputs, metrics, models, objectives, places, progress, regions, targets
from helpers.models import Geolocator
from helpers.scenes import SCENES

HIERARCHY = "f*"  # the paper's name for reading the fine cell out with its coarse and middle ancestors
LIKELIEST_REGION = "country of the likeliest region"
GUESSES = 5  # that are kept of each photo's countries or regions

_PHOTOS_IN_MEMORY = 8192  # features of five crops each: 210 MB of 1,280 numbers
_LEAST = 1e-12  # so that levels which contradict each other with certainty do not multiply to nothing but zeros


class ReadOut:
    """What probabilities over classes say about the place: one answer per partition, and one over the hierarchy.

    Parameters
    ----------
    classes : mapping of str to Partition or Classes
        Cells from coarse to fine, or countries, or regions. With more than one partition of cells, the hierarchy
        ``f*`` is read out too.
    device : torch.device
        Where the probabilities are.
    """

    def __init__(self, classes: Mapping[str, targets.Classes], device: torch.device) -> None:
        self.classes = dict(classes)
        *coarser, self.finest = self.classes
        self.ancestors: dict[str, Tensor] = {}
        partitions = {name: each for name, each in classes.items() if isinstance(each, cells.Partition)}
        if coarser:
            ancestors = cells.hierarchy(partitions[self.finest], *(partitions[name] for name in coarser))
            self.ancestors = {
                name: torch.from_numpy(row).to(device) for name, row in zip(coarser, ancestors, strict=True)
            }

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the answers, the best founded last."""
        return (*self.classes, HIERARCHY) if self.ancestors else tuple(self.classes)

    def hierarchical(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Probability of each finest cell times those of its ancestors, renormalised, of shape (n, cells).

        The product is that of Müller-Budack et al., ECCV 2018, section 3.3, taken on probabilities, not on logits.
        """
        product = probabilities[self.finest].clamp_min(_LEAST)
        for name, ancestor in self.ancestors.items():
            product.mul_(probabilities[name].clamp_min(_LEAST).index_select(1, ancestor))
        return product.div_(product.sum(dim=1, keepdim=True))

    def best_founded(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Probability of each of the finest classes, of shape (n, classes), by the last of :attr:`models`."""
        return self.hierarchical(probabilities) if self.ancestors else probabilities[self.finest]

    def __call__(self, outputs: Mapping[str, Tensor]) -> dict[str, pd.DataFrame]:
        """Most likely class of each photo.

        Parameters
        ----------
        outputs : mapping of str to Tensor of shape (n, classes)
            Probabilities by partition, from :func:`fuse_crops`.

        Returns
        -------
        dict of str to DataFrame
            By model: ``predicted_latitude``, ``predicted_longitude`` (degrees), ``confidence`` (probability of the
            class) and ``cell`` (class number in the partition, in the finest one for ``f*``), a row per photo.
        """
        answers = {}
        for model in self.models:
            shares = self.hierarchical(outputs) if model == HIERARCHY else outputs[model]
            confidence, best = shares.max(dim=1)
            cell = best.cpu().numpy()
            place = self.classes[self.finest if model == HIERARCHY else model].coordinates[cell]
            answers[model] = pd.DataFrame(
                {
                    "predicted_latitude": place[:, 0],
                    "predicted_longitude": place[:, 1],
                    "confidence": confidence.cpu().double().numpy(),
                    "cell": pd.array(cell, dtype="Int64"),
                }
            )
        return answers


class CoordinateReadOut:
    """What a head of coordinates says about the place.

    Its confidence is the length of the vector that it gives: the best answer to the squared error is the mean of the
    unit vectors of all places that the photo may be of, which is the shorter the farther they lie apart. Two plain
    numbers for latitude and longitude tell of no confidence, so it is missing.
    """

    models = (targets.COORDINATES,)

    def __call__(self, outputs: Mapping[str, Tensor]) -> dict[str, pd.DataFrame]:
        """Place of each photo, with the columns of :class:`ReadOut`; no ``cell``."""
        found = outputs[targets.COORDINATES].float()
        length: Tensor | None = None
        if found.shape[1] == 3:
            latitude, longitude, length = objectives.place_of_vector(found)
        else:
            latitude, longitude = objectives.place_of_degrees(found)
        return {
            targets.COORDINATES: pd.DataFrame(
                {
                    "predicted_latitude": latitude.cpu().double().numpy(),
                    "predicted_longitude": longitude.cpu().double().numpy(),
                    "confidence": np.nan if length is None else length.cpu().double().numpy(),
                    "cell": pd.array([pd.NA] * len(found), dtype="Int64"),
                }
            )
        }


def read_out(classes: Mapping[str, targets.Classes], device: torch.device) -> ReadOut | CoordinateReadOut:
    """How the outputs of a network are read: as classes where it has some, else as coordinates."""
    return ReadOut(classes, device) if classes else CoordinateReadOut()


def fuse_crops(outputs: Mapping[str, Tensor], crops: int) -> dict[str, Tensor]:
    """One answer per photo from the outputs of its crops.

    Over classes: softmax per crop, then the largest value over the crops, as the paper's PyTorch successor does,
    scaled to sum to 1. Of coordinates: the mean.

    Parameters
    ----------
    outputs : mapping of str to Tensor of shape (n * crops, outputs)
        By head; the crops of a photo one after another.
    crops : int
        Crops per photo.

    Examples
    --------
    >>> fuse_crops({"fine": torch.tensor([[0.0, 0.0], [100.0, 0.0]])}, crops=2)
    {'fine': tensor([[0.6667, 0.3333]])}
    """
    fused = {}
    for name, scores in outputs.items():
        if name == targets.COORDINATES:
            fused[name] = scores.float().unflatten(0, (-1, crops)).mean(dim=1)
        else:
            best = scores.float().softmax(dim=1).unflatten(0, (-1, crops)).amax(dim=1)
            fused[name] = best.div_(best.sum(dim=1, keepdim=True))
    return fused


@dataclass(frozen=True)
class Run:
    """A trained network with what is needed to use it."""

    settings: dict[str, object]
    model: Geolocator
    classes: dict[str, targets.Classes]
    training_places: pd.DataFrame
    device: torch.device

    @property
    def image_size(self) -> int:
        """Side of the network's square input, in pixels."""
        return int(str(self.settings["image_size"]))

    @property
    def precision(self) -> str:
        """Number format that it was trained with, one of :data:`helpers.devices.PRECISIONS`."""
        return str(self.settings["precision"])


def load(folders: Mapping[str, Path]) -> dict[str, Run]:
    """Load runs that training left, on the best device of this machine.

    Parameters
    ----------
    folders : mapping of str to Path
        ``all`` and the folder of a run; or each scene and the folder of its individual scene network.

    Raises
    ------
    ValueError
        If a model is not of the architecture or the classes that its folder tells of, a network is given for another
        scene than its own, or the networks of the scenes do not answer the same questions.
    """
    runs = {scene: _loaded(folder) for scene, folder in folders.items()}
    for scene, run in runs.items():
        if len(runs) > 1 and run.settings["scene"] != scene:
            raise ValueError(
                f"{folders[scene]} was trained on photos of scene {run.settings['scene']!r}, so it is no network for "
                f"{scene} photos: train one with -p scene {scene}"
            )
    heads = {scene: list(run.model.heads) for scene, run in runs.items()}
    for scene, names in heads.items():
        if names != next(iter(heads.values())):
            raise ValueError(
                f"the networks of the scenes differ: {next(iter(heads))} has heads for "
                f"{', '.join(next(iter(heads.values())))}, {scene} for {', '.join(names)}; train all on one partition"
            )
    return runs


def _loaded(folder: Path) -> Run:
    settings = json.loads((folder / "config.json").read_text())
    if "scene" not in settings:
        raise ValueError(f"{folder} was made by an older version: train it anew with 04_training/train.ipynb")
    classes = targets.read(folder / "classes", targets.heads(settings["partition"]))
    model = Geolocator(settings["architecture"], settings["classes"], weights="none")
    models.restore(model, folder / "model.safetensors", targets.fingerprints(folder / "classes", settings["classes"]))
    device = devices.best_device()
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    return Run(settings, model, classes, pd.read_parquet(folder / "training_places.parquet"), device)


def locate(runs: Mapping[str, Run], rows: pd.DataFrame, photo_root: Path, batch_size: int) -> dict[str, pd.DataFrame]:
    """Predict where the photos of a list were taken, from five crops each.

    Parameters
    ----------
    runs : mapping of str to Run
        From :func:`load`. With a network for each scene, a photo goes to that of its scene.
    rows : DataFrame
        Rows of a data list; ``id`` and ``path`` are read, and ``scene`` where there are several networks.
    photo_root : Path
        Folder that the paths are relative to.
    batch_size : int
        Photos per batch, five crops each.

    Returns
    -------
    dict of str to DataFrame
        By model, see :class:`ReadOut`, with the ``id`` in front, in the order of `rows`; of a multi-task network with
        its ``predicted_scene``.

    Raises
    ------
    ValueError
        If there are no rows, or a photo has no scene whose network could take it.
    """
    return _answered(runs, rows, photo_root, batch_size, _placer)


def named(runs: Mapping[str, Run], rows: pd.DataFrame, photo_root: Path, batch_size: int) -> dict[str, pd.DataFrame]:
    """Name the likeliest countries of photos, and the likeliest regions where a run knows them.

    The probability of a country is the sum of those of its regions or cells. A cell is in the country where its
    training photos have their mean, in none far from every coast. A head of coordinates names a single country.

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
    return _answered(runs, rows, photo_root, batch_size, _namer)


def baselines(runs: Mapping[str, Run], rows: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Answers that see no photo: the place of a random training photo, and always the fullest of the finest classes.

    Coordinates have no classes, so there the second is missing.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[pd.DataFrame]] = {}
    for run, part in _routed(runs, rows):
        drawn = generator.integers(len(run.training_places), size=len(part))
        coordinates = {metrics.RANDOM_TRAINING_PHOTO: run.training_places.to_numpy()[drawn]}
        for name, finest in list(run.classes.items())[-1:]:
            kind = "cell" if isinstance(finest, cells.Partition) else name
            fullest = np.full(len(part), finest.training_photos.argmax())
            coordinates[metrics.MOST_LIKELY_CELL.replace("cell", kind)] = finest.coordinates[fullest]
        for model, pair in coordinates.items():
            columns = {"id": part["id"], "predicted_latitude": pair[:, 0], "predicted_longitude": pair[:, 1]}
            parts.setdefault(model, []).append(pd.DataFrame(columns))
    return {model: _in_order(pd.concat(tables), rows) for model, tables in parts.items()}


def table(rows: pd.DataFrame, answers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per photo: the truth, the best founded answer, and how far off every answer is.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    answers : mapping of str to DataFrame
        From :func:`locate`, the best founded last, and where wanted from :func:`baselines` after them.

    Returns
    -------
    DataFrame
        ``id, author, latitude, longitude, predicted_latitude, predicted_longitude, distance_km, confidence, cell``,
        of a multi-task network ``predicted_scene``, the ``scene`` where `rows` have it, and ``distance_km_<model>``
        for every model.
    """
    best = [model for model in answers if "confidence" in answers[model]][-1]
    truth = rows[["id", "author", "latitude", "longitude"]]
    predictions = truth.merge(answers[best], on="id", validate="one_to_one")
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


def _routed(runs: Mapping[str, Run], rows: pd.DataFrame) -> Iterator[tuple[Run, pd.DataFrame]]:
    """Each network with the photos that it places."""
    if rows.empty:
        raise ValueError("no photo to place: the list has no test photos; build it with a test_share above 0")
    if len(runs) == 1:
        yield next(iter(runs.values())), rows
        return
    astray = rows["id"][~rows["scene"].isin(list(runs))]
    if len(astray):
        raise ValueError(
            f"{len(astray)} of {len(rows)} photos, such as {astray.iloc[0]!r}, have no known scene, so none of the "
            f"networks for {', '.join(runs)} can take them: classify them with 02_scenes/classify_scenes.ipynb"
        )
    for scene, run in runs.items():
        part = rows[rows["scene"] == scene]
        if len(part):
            yield run, part


def _answered(
    runs: Mapping[str, Run],
    rows: pd.DataFrame,
    photo_root: Path,
    batch_size: int,
    reader: Callable[[Run], Callable[[Mapping[str, Tensor]], dict[str, pd.DataFrame]]],
) -> dict[str, pd.DataFrame]:
    """What `reader` makes of the outputs of each photo's network, with the ``id`` in front, in the order of `rows`."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for run, part in _routed(runs, rows):
        read, found = reader(run), dict[str, list[pd.DataFrame]]()
        for outputs in _outputs(run, part, photo_root, batch_size):
            for name, table in read(outputs).items():
                found.setdefault(name, []).append(table)
        for name, tables in found.items():
            together = pd.concat(tables, ignore_index=True)
            together.insert(0, "id", part["id"].to_numpy())
            parts.setdefault(name, []).append(together)
    return {name: _in_order(pd.concat(tables), rows) for name, tables in parts.items()}


def _in_order(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("id").loc[rows["id"]].reset_index()


@torch.inference_mode()
def _outputs(run: Run, rows: pd.DataFrame, photo_root: Path, batch_size: int) -> Iterator[dict[str, Tensor]]:
    """Outputs of the heads for each batch of photos, fused over five crops."""
    if run.settings["train_layers"] == "heads":  # the backbone is that of other runs too, which may have been asked
        for start in range(0, len(rows), _PHOTOS_IN_MEMORY):
            part = rows.iloc[start : start + _PHOTOS_IN_MEMORY]
            found = features.of(
                *(run.model, part, photo_root, run.image_size, "five"),
                *(run.precision, batch_size, "features of test photos"),
            )
            for batch in found.split(batch_size):
                yield _sound(run.model.classify(batch.flatten(0, 1).to(run.device)), batch.shape[1])
        return
    views = inputs.PhotoViews(rows, photo_root, run.image_size, view="five")
    batches = inputs.batches(views, range(len(rows)), batch_size)
    total = -(-len(rows) // batch_size)
    for photos in progress.track(batches, "predicting", total, unit=f"batches of {batch_size} photos"):
        with devices.autocast(run.device, run.model, run.precision):
            outputs = run.model(photos.flatten(0, 1).to(run.device, non_blocking=True))
        yield _sound(outputs, photos.shape[1])


def _sound(outputs: Mapping[str, Tensor], crops: int) -> dict[str, Tensor]:
    for name, scores in outputs.items():
        if not torch.isfinite(scores).all():
            raise ValueError(f"head {name!r} gives numbers that are not finite: train the run anew, it has diverged")
    return fuse_crops(outputs, crops)


def _placer(run: Run) -> Callable[[Mapping[str, Tensor]], dict[str, pd.DataFrame]]:
    """How the outputs of a network name places, and scenes where it has a head for them."""
    reader = read_out(run.classes, run.device)

    def place(outputs: Mapping[str, Tensor]) -> dict[str, pd.DataFrame]:
        answers = reader(outputs)
        if targets.SCENE in outputs:
            scene = np.array(SCENES)[outputs[targets.SCENE].argmax(dim=1).cpu().numpy()]
            answers = {model: table.assign(predicted_scene=scene) for model, table in answers.items()}
        return answers

    return place


def _namer(run: Run) -> Callable[[Mapping[str, Tensor]], dict[str, pd.DataFrame]]:
    """How the outputs of a network name countries and regions."""
    reader = read_out(run.classes, run.device)
    if isinstance(reader, CoordinateReadOut):
        return lambda outputs: {"country": _country_of_place(reader(outputs)[targets.COORDINATES])}
    finest = run.classes[reader.finest]
    if isinstance(finest, cells.Partition):
        countries = places.country_codes(*finest.coordinates.T)
        return lambda outputs: {"country": _likeliest(*_summed(reader.best_founded(outputs).cpu(), countries))}
    if finest.name == "country":
        return lambda outputs: {"country": _likeliest(outputs["country"].cpu(), finest.keys)}
    return lambda outputs: _named_regions(outputs["region"].cpu(), finest)


def _country_of_place(answer: pd.DataFrame) -> pd.DataFrame:
    country = places.country_codes(answer["predicted_latitude"], answer["predicted_longitude"])
    return _guesses(torch.full((len(country), 1), torch.nan), country[:, None])


def _named_regions(shares: Tensor, classes: regions.Classes) -> dict[str, pd.DataFrame]:
    best = shares.max(dim=1)
    return {
        "region": _likeliest(shares, classes.keys),
        "country": _likeliest(*_summed(shares, classes.countries)),
        LIKELIEST_REGION: _guesses(best.values[:, None], classes.countries[best.indices.numpy()][:, None]),
    }


def _summed(shares: Tensor, names: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Sums of the shares of classes that have the same name; classes without one are left out."""
    found, group = np.unique(names, return_inverse=True)
    sums = torch.zeros(len(shares), len(found)).index_add_(1, torch.from_numpy(group), shares.float())
    return sums[:, torch.from_numpy(found != "")], found[found != ""]


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
