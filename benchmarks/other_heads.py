"""Heads that training does not offer, on the features of a run's backbone: more levels, or taught their product."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import cells, data_lists, features, metrics, models, objectives, predict, read_outs, recipe, training


def taught(
    run: predict.Run, dataset: str, photos: Path, partitions: Mapping[str, cells.Partition], product: bool
) -> predict.Run:
    """The run with other heads, which have learned as its own have, and answer without a search.

    Parameters
    ----------
    run : Run
        Of one network, whose backbone did not learn.
    dataset : str
        That it was trained on.
    photos : Path
        Folder of its photos.
    partitions : mapping of str to Partition
        From coarse to fine, each cell of the last one inside one of each of the others.
    product : bool
        Teach the product over the hierarchy, too, instead of the finest level by itself.
    """
    network = run.networks[0]
    settings = recipe.Settings(
        **{each.name: network.settings[each.name] for each in dataclasses.fields(recipe.Settings)}
    )
    listed = data_lists.read(dataset)
    learned, judged = (
        _seen(network, listed[listed["split"] == split].reset_index(drop=True), photos, partitions)
        for split in ("train", "validation")
    )
    learned = learned.some(torch.stack(list(learned.labels.values())).amax(dim=0) >= 0)  # others teach nothing
    torch.manual_seed(settings.seed)  # with which training gives its heads their first weights
    outputs = {name: len(each) for name, each in partitions.items()}
    model = models.Geolocator(settings.architecture, outputs, "none").eval()
    model.backbone, model.mean, model.std = network.model.backbone, network.model.mean, network.model.std
    heads, read_out = model.heads, read_outs.ReadOut(partitions, torch.device("cpu"))
    optimizer = torch.optim.AdamW(heads.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = -(-len(learned.features) // settings.batch_size)
    best: list[float] = []
    kept = heads.state_dict()
    for epoch in range(settings.epochs):
        shuffle = torch.Generator().manual_seed(settings.seed * 100_003 + epoch + 1)
        order = torch.randperm(len(learned.features), generator=shuffle)
        for step, numbers in enumerate(order.tensor_split(steps), epoch * steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * training.learning_rate_factor(settings, step, steps)
            _loss(heads, learned.some(numbers), read_out, product).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            loss = _loss(heads, judged, read_out, product).item()
        measured = {"epoch": epoch, **_shares_within(heads, judged, read_out), "validation_loss": loss}
        merit = recipe.merit(measured, settings.best_by)
        if merit > best:
            best, kept = merit, {name: each.clone() for name, each in heads.state_dict().items()}
    heads.load_state_dict(kept)
    networks = (dataclasses.replace(network, model=model),)
    return dataclasses.replace(run, networks=networks, classes=dict(partitions), searching=None)


def product_scores(scores: Mapping[str, Tensor], read_out: read_outs.ReadOut) -> Tensor:
    """Logits of the finest cells whose softmax is the product over the hierarchy, which :class:`ReadOut` reads out."""
    levels = {name: each.log_softmax(dim=1) for name, each in scores.items()}
    levels |= {name: levels[name].index_select(1, row) for name, row in read_out.ancestors.items()}
    return torch.stack(list(levels.values())).sum(dim=0)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Photos as a backbone sees them; their places, float64 of shape (photos, 2); and their labels by level."""

    features: Tensor
    places: Tensor
    labels: dict[str, Tensor]

    def some(self, wanted: Tensor) -> "_Seen":
        labels = {name: each[wanted] for name, each in self.labels.items()}
        return _Seen(self.features[wanted], self.places[wanted], labels)


def _seen(
    network: predict.Network, rows: pd.DataFrame, photos: Path, partitions: Mapping[str, cells.Partition]
) -> _Seen:
    found = features.of(
        *(network.model, rows, photos, network.image_size, "centre", network.precision),
        *(int(network.settings["batch_size"]), "features of photos to learn from"),
    )
    places = rows[["latitude", "longitude"]].to_numpy(np.float64)
    labels = cells.labels_all(partitions, cells.leaf_ids(*places.T))
    tensors = {name: torch.from_numpy(each) for name, each in labels.items()}
    return _Seen(found, torch.from_numpy(places), tensors)


def _loss(heads: models.Heads, seen: _Seen, read_out: read_outs.ReadOut, product: bool) -> Tensor:
    """Sum of the mean cross-entropies of the levels."""
    scores = heads(seen.features)
    if product:
        scores[read_out.finest] = product_scores(scores, read_out)
    losses = [objectives.cross_entropy(each, seen.labels[name]) for name, each in scores.items()]
    return torch.stack([total / count.clamp(min=1) for total, count in losses]).sum()


@torch.no_grad()
def _shares_within(heads: models.Heads, seen: _Seen, read_out: read_outs.ReadOut) -> dict[str, float]:
    fused = read_outs.fuse({name: scores.unsqueeze(1) for name, scores in heads(seen.features).items()})
    table = read_out.answers(fused)[1][read_out.models[-1]]
    placed = table["predicted_latitude"], table["predicted_longitude"]
    distance_km = metrics.great_circle_km(*seen.places.numpy().T, *placed)
    return dict(zip(metrics.SHARES, metrics.accuracy(distance_km).tolist(), strict=True))
