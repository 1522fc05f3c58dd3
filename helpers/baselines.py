"""Answers to compare a run with: some that see no photo, and some that see what it sees and learn nothing.

What a run knows is what it has beyond them. Shuffled labels show what its heads make of its features when there is
nothing to be learned, and the nearest neighbour what the features alone are good for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from helpers import (
    calibrating,
    cells,
    data_lists,
    features,
    fetch,
    metrics,
    objectives,
    predict,
    read_outs,
    scenes,
    targets,
)
from helpers.predict import Run

_EPOCHS, _BATCH, _RATE, _DECAY = 10, 128, 1e-3, 0.1  # of heads on shuffled labels, as 04_training/train has them
_SIMILARITIES_AT_ONCE = 1 << 25
_PHOTOS_AT_ONCE = 1024  # whose probabilities of all classes are held


class Learned(NamedTuple):
    """Photos that a run has learned from."""

    rows: pd.DataFrame
    """All of them, with their scenes where these are known."""
    asked: pd.DataFrame
    """Those whose features are asked for."""


def blind(runs: Mapping[str, Run], rows: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Answers that see no photo: the place of a random training photo, and always the fullest of the finest classes.

    Parameters
    ----------
    runs : mapping of str to Run
        From `predict.load`.
    rows : DataFrame
        Rows of a data list.
    seed : int
        Draws the training photos.

    Returns
    -------
    dict of str to DataFrame
        ``id, predicted_latitude, predicted_longitude``. Coordinates have no classes, so there the second is missing.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[pd.DataFrame]] = {}
    for scene, part in predict.routed(runs, rows):
        run = runs[scene]
        drawn = generator.integers(len(run.training_places), size=len(part))
        coordinates = {metrics.RANDOM_TRAINING_PHOTO: run.training_places.to_numpy()[drawn]}
        for name, finest in list(run.classes.items())[-1:]:
            kind = "cell" if isinstance(finest, cells.Partition) else name
            fullest = np.full(len(part), finest.training_photos.argmax())
            coordinates[metrics.MOST_LIKELY_CELL.replace("cell", kind)] = finest.coordinates[fullest]
        for model, pair in coordinates.items():
            parts.setdefault(model, []).append(_answer(part, pair))
    return {model: predict.in_order(pd.concat(tables), rows) for model, tables in parts.items()}


def learned(runs: Mapping[str, Run], most: int, seed: int) -> Learned:
    """Training photos of the list that runs were trained on; of a network of one scene, those of that scene.

    Parameters
    ----------
    runs : mapping of str to Run
    most : int
        Of more photos, so many are drawn for what needs their features.
    seed : int
        Draws them.
    """
    settings = next(iter(runs.values())).networks[0].settings
    dataset = str(settings["dataset"])
    photos = data_lists.read(dataset)
    in_training = (photos["split"] == "train") & ~photos["id"].isin(calibrating.unreadable(runs))
    rows = scenes.joined(photos[in_training].reset_index(drop=True), dataset)
    rows = predict.with_maps(runs, rows, dataset)
    if len(runs) == 1 and settings["scene"] != "all":
        rows = rows[rows["scene"] == settings["scene"]].reset_index(drop=True)
    rows.attrs = photos.attrs
    if len(rows) <= most:
        return Learned(rows, rows)
    drawn = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    asked = rows.iloc[np.sort(drawn)].reset_index(drop=True)
    asked.attrs = photos.attrs
    return Learned(rows, asked)


def seeing_where_possible(
    runs: Mapping[str, Run],
    asked: pd.DataFrame,
    asked_root: str,
    rows: pd.DataFrame,
    photo_root: Path,
    batch_size: int,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """As :func:`seeing`, and without an answer, which is said, where the training photos are not there.

    `asked_root` is their ``photo_root``, empty for the dataset's own folder.
    """
    dataset = str(next(iter(runs.values())).networks[0].settings["dataset"])
    try:
        folder = fetch.ensure(asked, dataset, asked_root)
    except data_lists.MissingPhotos as error:
        print(f"no {metrics.NEAREST_NEIGHBOUR} and no {metrics.SHUFFLED_LABELS}, which need training photos: {error}")
        return {}, pd.DataFrame(columns=["id", "neighbour_id", "neighbour_similarity"])
    return seeing(runs, asked, folder, rows, photo_root, batch_size, seed)


def seeing(
    runs: Mapping[str, Run],
    asked: pd.DataFrame,
    asked_root: Path,
    rows: pd.DataFrame,
    photo_root: Path,
    batch_size: int,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Answers from the run's own features: the nearest training photo's place, and heads that learned shuffled labels.

    Parameters
    ----------
    runs : mapping of str to Run
    asked : DataFrame
        Training photos, from :func:`learned`; of runs on individual scenes, each has those of its scene.
    asked_root : Path
        Folder of these.
    rows : DataFrame
        Photos to place.
    photo_root : Path
        Folder of these.
    batch_size : int
    seed : int
        Shuffles the labels, and begins the heads.

    Returns
    -------
    answers : dict of str to DataFrame
        ``id, predicted_latitude, predicted_longitude``.
    neighbours : DataFrame
        ``id, neighbour_id, neighbour_similarity``, the cosine between the features of both, in the order of `rows`.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for scene, part in predict.routed(runs, rows):
        run = runs[scene]
        known = asked[asked["scene"] == scene].reset_index(drop=True) if len(runs) > 1 else asked
        if known.empty:
            raise ValueError(
                f"none of the {len(asked)} training photos whose features are asked for is for the {scene} network: "
                "raise neighbours_among"
            )
        taught, weights = _features(run, known, asked_root, batch_size, "features of training photos")
        seen, _ = _features(run, part, photo_root, batch_size, "features of photos to compare", weights)
        number, similarity = _nearest(nn.functional.normalize(seen), nn.functional.normalize(taught))
        place = known[["latitude", "longitude"]].to_numpy(np.float64)
        parts.setdefault(metrics.NEAREST_NEIGHBOUR, []).append(_answer(part, place[number]))
        parts.setdefault(metrics.SHUFFLED_LABELS, []).append(_answer(part, _shuffled(run, taught, place, seen, seed)))
        found = {"id": part["id"], "neighbour_id": known["id"].to_numpy()[number], "neighbour_similarity": similarity}
        parts.setdefault("", []).append(pd.DataFrame(found))
    neighbours = predict.in_order(pd.concat(parts.pop("")), rows)
    return {model: predict.in_order(pd.concat(tables), rows) for model, tables in parts.items()}, neighbours


def _features(
    run: Run, rows: pd.DataFrame, photo_root: Path, batch_size: int, label: str, weights: Sequence[float] = ()
) -> tuple[Tensor, list[float]]:
    """Features of the central crop, those of several networks side by side, and by what each was divided.

    By default by the mean length of its features for these photos, so that all networks weigh the same.
    """
    found, divisors = [], list(weights)
    for number, network in enumerate(run.networks):
        asked = (network.model, rows, photo_root, network.image_size, "centre", network.precision, batch_size, label)
        each = features.of(*asked)
        if not weights:
            divisors.append(max(float(each.norm(dim=1).mean()), 1e-12))
        found.append(each / divisors[number])
    return torch.cat(found, dim=1), divisors


def _nearest(seen: Tensor, taught: Tensor) -> tuple[np.ndarray, np.ndarray]:
    together = max(1, _SIMILARITIES_AT_ONCE // max(len(taught), 1))
    best = [(part @ taught.T).max(dim=1) for part in seen.split(together)]
    indices, values = (torch.cat([getattr(each, name) for each in best]) for name in ("indices", "values"))
    return indices.numpy(), values.double().numpy()


def _shuffled(run: Run, taught: Tensor, place: np.ndarray, seen: Tensor, seed: int) -> np.ndarray:
    """Guesses of heads that learned from labels which were dealt out to the training photos anew."""
    generator = torch.Generator().manual_seed(seed)
    dealt = place[torch.randperm(len(place), generator=generator).numpy()]
    coordinates = torch.from_numpy(dealt).float()
    labels = {name: torch.from_numpy(targets.labels(each, *dealt.T)) for name, each in run.classes.items()}
    outputs = {name: len(each) for name, each in run.classes.items()}
    if not outputs:
        outputs = {targets.COORDINATES: int(run.networks[0].settings["classes"][targets.COORDINATES])}
    squared = objectives.degrees_mse if outputs.get(targets.COORDINATES) == 2 else objectives.unit_vector_mse
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = nn.ModuleDict({name: nn.Linear(taught.shape[1], count) for name, count in outputs.items()})
    heads.to(run.device)
    optimizer = torch.optim.AdamW(heads.parameters(), _RATE, weight_decay=_DECAY)
    for _ in range(_EPOCHS):
        for numbers in torch.randperm(len(taught), generator=generator).split(_BATCH):
            losses = []
            for name, head in heads.items():
                scores = head(taught[numbers].to(run.device))
                if name == targets.COORDINATES:
                    total, count = squared(scores, coordinates[numbers].to(run.device))
                else:
                    total, count = objectives.cross_entropy(scores, labels[name][numbers].to(run.device))
                losses.append(total / count.clamp_min(1))
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
    read_out, places = read_outs.of(run.classes, run.device), []
    with torch.inference_mode():
        for batch in seen.split(_PHOTOS_AT_ONCE):
            views = {name: head(batch.to(run.device)).unsqueeze(1) for name, head in heads.items()}
            guess = read_out(read_out.shares(read_outs.fuse(views)))[read_out.models[-1]]
            places.append(guess[["predicted_latitude", "predicted_longitude"]].to_numpy(np.float64))
    return np.concatenate(places)


def _answer(rows: pd.DataFrame, place: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": rows["id"].to_numpy(), "predicted_latitude": place[:, 0], "predicted_longitude": place[:, 1]}
    )
