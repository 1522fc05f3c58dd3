"""From photos to coordinates with confidence."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from helpers import cells, devices, inputs, metrics, progress
from helpers.models import Geolocator

HIERARCHY = "f*"  # the paper's name for reading the fine cell out with its coarse and middle ancestors


_LEAST = 1e-12  # so that levels which contradict each other with certainty do not multiply to nothing but zeros


class ReadOut:
    """What probabilities over cells say about the place: one answer per partition, and one over the hierarchy.

    Parameters
    ----------
    partitions : mapping of str to Partition
        From coarse to fine. With more than one, the hierarchy ``f*`` is read out too.
    device : torch.device
        Where the probabilities are.
    """

    def __init__(self, partitions: Mapping[str, cells.Partition], device: torch.device) -> None:
        self.partitions = dict(partitions)
        *coarser, finest = self.partitions
        self.finest = finest
        self.ancestors: dict[str, Tensor] = {}
        if coarser:
            ancestors = cells.hierarchy(self.partitions[finest], *(self.partitions[name] for name in coarser))
            self.ancestors = {
                name: torch.from_numpy(row).to(device) for name, row in zip(coarser, ancestors, strict=True)
            }

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the answers, the best founded last."""
        return (*self.partitions, HIERARCHY) if self.ancestors else tuple(self.partitions)

    def hierarchical(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Probability of each finest cell times those of its ancestors, renormalised, of shape (n, cells).

        The product is that of Müller-Budack et al., ECCV 2018, section 3.3, taken on probabilities, not on logits.
        """
        product = probabilities[self.finest].clamp_min(_LEAST)
        for name, ancestor in self.ancestors.items():
            product.mul_(probabilities[name].clamp_min(_LEAST).index_select(1, ancestor))
        return product.div_(product.sum(dim=1, keepdim=True))

    def __call__(self, probabilities: Mapping[str, Tensor]) -> dict[str, pd.DataFrame]:
        """Most likely cell of each photo.

        Parameters
        ----------
        probabilities : mapping of str to Tensor of shape (n, cells)
            By partition.

        Returns
        -------
        dict of str to DataFrame
            By model: ``predicted_latitude``, ``predicted_longitude`` (degrees), ``confidence`` (probability of the
            cell) and ``cell`` (class number in the partition, in the finest one for ``f*``), a row per photo.
        """
        answers = {}
        for model in self.models:
            shares = self.hierarchical(probabilities) if model == HIERARCHY else probabilities[model]
            confidence, best = shares.max(dim=1)
            partition = self.partitions[self.finest if model == HIERARCHY else model]
            cell = best.cpu().numpy()
            answers[model] = pd.DataFrame(
                {
                    "predicted_latitude": partition.latitude_mean[cell],
                    "predicted_longitude": partition.longitude_mean[cell],
                    "confidence": confidence.cpu().double().numpy(),
                    "cell": cell,
                }
            )
        return answers


def fuse_crops(logits: Tensor, crops: int) -> Tensor:
    """One distribution per photo from the logits of its crops.

    Softmax per crop, then the largest value over the crops, as the paper's PyTorch successor does, scaled to sum to 1.

    Parameters
    ----------
    logits : Tensor of shape (n * crops, cells)
        The crops of a photo one after another.
    crops : int
        Crops per photo.

    Examples
    --------
    >>> fuse_crops(torch.tensor([[0.0, 0.0], [100.0, 0.0]]), crops=2)
    tensor([[0.6667, 0.3333]])
    """
    best = logits.float().softmax(dim=1).unflatten(0, (-1, crops)).amax(dim=1)
    return best.div_(best.sum(dim=1, keepdim=True))


@dataclass(frozen=True)
class Run:
    """A trained network with what is needed to use it."""

    settings: dict[str, object]
    model: Geolocator
    partitions: dict[str, cells.Partition]
    training_places: pd.DataFrame
    device: torch.device


def load(folder: Path) -> Run:
    """Load the run that training left in `folder`, on the best device of this machine."""
    settings = json.loads((folder / "config.json").read_text())
    partitions = {name: cells.read(folder / "cells" / f"{name}.csv", name) for name in settings["classes"]}
    model = Geolocator(settings["architecture"], settings["classes"], weights="none")
    model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    device = devices.best_device()
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    training_places = pd.read_parquet(folder / "training_places.parquet")
    return Run(settings, model, partitions, training_places, device)


def locate(run: Run, rows: pd.DataFrame, photo_root: Path, batch_size: int = 64) -> dict[str, pd.DataFrame]:
    """Predict where the photos of a list were taken, from five crops each.

    Parameters
    ----------
    run : Run
        From :func:`load`.
    rows : DataFrame
        Rows of a data list; ``id`` and ``path`` are read.
    photo_root : Path
        Folder that the paths are relative to.
    batch_size : int
        Photos per batch, five crops each.

    Returns
    -------
    dict of str to DataFrame
        By model, see :class:`ReadOut`, with the ``id`` in front, in the order of `rows`.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    if rows.empty:
        raise ValueError("no photo to place: the list has no test photos; build it with a test_share above 0")
    read_out = ReadOut(run.partitions, run.device)
    parts: dict[str, list[pd.DataFrame]] = {model: [] for model in read_out.models}
    for probabilities in _probabilities(run, rows, photo_root, batch_size):
        for model, answers in read_out(probabilities).items():
            parts[model].append(answers)
    tables = {model: pd.concat(tables, ignore_index=True) for model, tables in parts.items()}
    for table in tables.values():
        table.insert(0, "id", rows["id"].to_numpy())
    return tables


def baselines(run: Run, rows: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Answers that see no photo: the place of a random training photo, and always the fullest of the finest cells."""
    places, finest = run.training_places, list(run.partitions.values())[-1]
    drawn = np.random.default_rng(seed).integers(len(places), size=len(rows))
    fullest = np.full(len(rows), finest.imgs_per_cell.argmax())
    coordinates = {
        metrics.RANDOM_TRAINING_PHOTO: places.to_numpy()[drawn],
        metrics.MOST_LIKELY_CELL: np.stack([finest.latitude_mean, finest.longitude_mean], axis=1)[fullest],
    }
    return {
        model: pd.DataFrame({"id": rows["id"], "predicted_latitude": pair[:, 0], "predicted_longitude": pair[:, 1]})
        for model, pair in coordinates.items()
    }


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
        and ``distance_km_<model>`` for every model.
    """
    best = [model for model in answers if "confidence" in answers[model]][-1]
    predictions = rows[["id", "author", "latitude", "longitude"]].merge(answers[best], on="id", validate="one_to_one")
    for model, answer in answers.items():
        predictions[f"distance_km_{model}"] = metrics.great_circle_km(
            rows["latitude"], rows["longitude"], answer["predicted_latitude"], answer["predicted_longitude"]
        )
    predictions.insert(6, "distance_km", predictions[f"distance_km_{best}"])
    return predictions


@torch.inference_mode()
def _probabilities(run: Run, rows: pd.DataFrame, photo_root: Path, batch_size: int) -> Iterator[dict[str, Tensor]]:
    views = inputs.PhotoViews(rows, photo_root, int(str(run.settings["image_size"])), view="five")
    batches = inputs.batches(views, range(len(rows)), batch_size)
    total = -(-len(rows) // batch_size)
    for photos in progress.track(batches, "predicting", total, unit=f"batches of {batch_size} photos"):
        crops = photos.shape[1]
        with devices.autocast(run.device, run.model, str(run.settings["precision"])):
            logits = run.model(photos.flatten(0, 1).to(run.device, non_blocking=True))
        yield {name: fuse_crops(scores, crops) for name, scores in logits.items()}
