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
    learned, judged = (_seen(network, listed[listed["split"] == split], photos) for split in ("train", "validation"))
    labels = {
        name: torch.from_numpy(each)
        for name, each in cells.labels_all(partitions, cells.leaf_ids(*learned.places.T)).items()
    }
    torch.manual_seed(settings.seed)  # with which training gives its heads their first weights
    outputs = {name: len(each) for name, each in partitions.items()}
    model = models.Geolocator(settings.architecture, outputs, "none").eval()
    model.backbone, model.mean, model.std = network.model.backbone, network.model.mean, network.model.std
    heads, read_out = model.heads, read_outs.ReadOut(partitions, torch.device("cpu"))
    optimizer = torch.optim.AdamW(heads.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = -(-len(learned.features) // settings.batch_size)
    best, kept = -1.0, heads.state_dict()
    for epoch in range(settings.epochs):
        shuffle = torch.Generator().manual_seed(settings.seed * 100_003 + epoch + 1)
        order = torch.randperm(len(learned.features), generator=shuffle)
        for step, numbers in enumerate(order.tensor_split(steps), epoch * steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * training.learning_rate_factor(settings, step, steps)
            scores = heads(learned.features[numbers])
            if product:
                scores[read_out.finest] = product_scores(scores, read_out)
            losses = [objectives.cross_entropy(each, labels[name][numbers]) for name, each in scores.items()]
            torch.stack([total / count.clamp(min=1) for total, count in losses]).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        within = _within_750_km(heads, read_out, judged)
        if within > best:
            best, kept = within, {name: each.clone() for name, each in heads.state_dict().items()}
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
    """Photos as a backbone sees them, and their places, float64 of shape (photos, 2)."""

    features: Tensor
    places: np.ndarray


def _seen(network: predict.Network, rows: pd.DataFrame, photos: Path) -> _Seen:
    rows = rows.reset_index(drop=True)
    found = features.of(
        *(network.model, rows, photos, network.image_size, "centre", network.precision),
        *(int(network.settings["batch_size"]), "features of photos to learn from"),
    )
    return _Seen(found, rows[["latitude", "longitude"]].to_numpy(np.float64))


@torch.no_grad()
def _within_750_km(heads: models.Heads, read_out: read_outs.ReadOut, judged: _Seen) -> float:
    fused = read_outs.fuse({name: scores.unsqueeze(1) for name, scores in heads(judged.features).items()})
    table = read_out.answers(fused)[1][read_out.models[-1]]
    placed = table["predicted_latitude"], table["predicted_longitude"]
    distance_km = metrics.great_circle_km(*judged.places.T, *placed)
    return float(dict(zip(metrics.SHARES, metrics.accuracy(distance_km), strict=True))["within_750km"])
