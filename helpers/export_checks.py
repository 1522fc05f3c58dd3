"""Whether an exported network answers as the network itself does, photo by photo."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import (
    calibrating,
    data_lists,
    export,
    inference,
    inputs,
    metrics,
    models,
    onnx_inference,
    photo_stores,
    predict,
    progress,
    read_outs,
    targets,
)
from helpers.predict import Run

SAME_PLACE_KM = 1.0
"""Coordinates that are nearer to each other are the same answer."""
_COMPARED = (export.FEATURES, models.SEARCH)
"""Outputs that photos are compared by, which say no place."""
_PHOTOS_AT_ONCE = 4  # in five crops each

_Outputs = Callable[[Tensor], Mapping[str, Tensor]]


def photos(runs: Mapping[str, Run], count: int, seed: int) -> pd.DataFrame:
    """Photos to compare answers on: test photos of the list that a run was trained on, else validation photos.

    Parameters
    ----------
    runs : mapping of str to Run
        From `predict.load`.
    count : int
        Of which so many are drawn, 0: all.
    seed : int
        Draws them.

    Returns
    -------
    DataFrame
        Rows of the data list, with their segmentation maps where the network looks at those.

    Raises
    ------
    ExportError
        If the list has neither test photos nor validation photos.
    """
    dataset = str(next(iter(runs.values())).networks[0].settings["dataset"])
    rows = data_lists.read(dataset)
    parts = [rows[rows["split"] == split] for split in ("test", "validation")]
    found = next((part for part in parts if len(part)), parts[0])
    found = found[~found["id"].isin(calibrating.unreadable(runs))].reset_index(drop=True)
    if found.empty:
        raise export.ExportError(
            f"the list of {dataset!r} has neither test photos nor validation photos to compare answers on: build it "
            "again with a test_share above 0"
        )
    if 0 < count < len(found):
        drawn = np.random.default_rng(seed).choice(len(found), count, replace=False)
        found = found.iloc[np.sort(drawn)].reset_index(drop=True)
    found = predict.with_maps(runs, found, dataset)
    found.attrs = rows.attrs
    return found


@torch.inference_mode()
def compare(
    run: Run, files: Mapping[str, Path], rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot
) -> pd.DataFrame:
    """Ask the network and its exported files about the same photos.

    Parameters
    ----------
    run : Run
        Of one network, on a CPU; it computes in float32 here.
    files : mapping of str to Path
        From :func:`helpers.export.write`: what is read is what lies there. Of programs of ``torch.export`` give none
        but what was just written, for PyTorch reads them with pickle.
    rows : DataFrame
        From :func:`photos`.
    photo_root : Path or PhotoStore
        What their paths are relative to.

    Returns
    -------
    DataFrame
        A row for each format, output and photo: ``format, output, id, difference, same``. The difference is the largest
        over five crops: for classes of the probabilities; for coordinates of the places, in km; for features, whitened
        or not, as a share of the largest one. ``same`` is whether the likeliest class of the five crops together is the
        same, or the place; missing for features.
    """
    (network,) = run.networks
    model = network.model
    maps = inputs.maps_of(rows) if model.has_map_branch else None
    views = inputs.PhotoViews(rows, photo_root, network.image_size, view="five", maps=maps)
    batches = inputs.batches(views, range(len(rows)), _PHOTOS_AT_ONCE)
    total = -(-len(rows) // _PHOTOS_AT_ONCE)
    asked = {name: _opened(name, file, run) for name, file in files.items()}
    parts: list[pd.DataFrame] = []
    start = 0
    for batch in progress.track(batches, "comparing", total, unit=f"batches of {_PHOTOS_AT_ONCE} photos"):
        crops = batch.flatten(0, 1)
        features = model.features(crops)
        expected = {**model.classify(features), export.FEATURES: features}
        ids = rows["id"].iloc[start : start + len(batch)].to_numpy(object)
        for name, answers in asked.items():
            found = answers(crops)
            for output in export.outputs(model):
                pair = [each[output].float().unflatten(0, (len(batch), -1)) for each in (expected, found)]
                parts.append(_compared(output, *pair).assign(format=name, output=output, id=ids))
        start += len(batch)
    together = pd.concat(parts, ignore_index=True).astype({"same": "boolean"})
    order = together[["format", "output"]].apply(lambda names: pd.factorize(names)[0])
    together = together.iloc[np.lexsort([order["output"], order["format"]])].reset_index(drop=True)
    return together[["format", "output", "id", "difference", "same"]]


def summary(compared: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """What was compared, a row for each format and output.

    Parameters
    ----------
    compared : DataFrame
        From :func:`compare`.
    tolerance : float
        Difference of a probability that counts for none; for features as a share of the largest.

    Returns
    -------
    DataFrame
        ``format, output, photos, same_answer`` (photos, missing for features), ``largest_difference, unit, allowed``
        and ``holds``.
    """
    table = (
        compared.groupby(["format", "output"], sort=False)
        .agg(
            photos=("id", "size"),
            same_answer=("same", lambda same: same.sum() if same.notna().all() else pd.NA),
            largest_difference=("difference", lambda each: each.max(skipna=False)),
        )
        .reset_index()
        .astype({"same_answer": "Int64"})
    )
    units = {targets.COORDINATES: "km", **dict.fromkeys(_COMPARED, "share of the largest")}
    table["unit"] = table["output"].map(units).fillna("probability")
    table["allowed"] = np.where(table["unit"] == "km", SAME_PLACE_KM, tolerance)
    same = (table["same_answer"] == table["photos"]).fillna(True)
    table["holds"] = same.astype(bool) & (table["largest_difference"] <= table["allowed"])
    return table


def confirm(table: pd.DataFrame) -> None:
    """Raise :class:`helpers.export.ExportError` unless all of a :func:`summary` holds, naming what does not."""
    failed = table[~table["holds"]]
    if len(failed):
        row = failed.iloc[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        same = "" if pd.isna(row["same_answer"]) else f"the same answer for {row['same_answer']} of {row['photos']}, "
        raise export.ExportError(
            f"{row['output']} of {export.FORMATS[row['format']]} is not what the network gives: {same}differences up "
            f"to {row['largest_difference']:.2g} ({row['unit']}), with {row['allowed']:g} allowed{others}. Nothing was "
            "kept: export with other versions of torch and onnxscript, or leave that format out"
        )


def _opened(name: str, file: Path, run: Run) -> _Outputs:
    if name == "pt2":
        return torch.export.load(file).module()
    (network,) = run.networks
    suiting = inference.crops_that_suit(run.device, network.model, network.image_size)
    return onnx_inference.OnnxNetwork(file, suiting)


def _compared(output: str, expected: Tensor, found: Tensor) -> pd.DataFrame:
    """Difference of answers, of shape (photos, crops, outputs), and whether they say the same."""
    if output in _COMPARED:
        difference = (found - expected).abs().amax(dim=(1, 2)) / expected.abs().max()
        return pd.DataFrame({"difference": difference.numpy(), "same": pd.NA})
    if output == targets.COORDINATES:
        read_out = read_outs.CoordinateReadOut()
        places = [read_out({output: read_outs.fuse({output: each})[output]})[output] for each in (expected, found)]
        ends = [place[f"predicted_{what}"] for place in places for what in ("latitude", "longitude")]
        distance_km = metrics.great_circle_km(*ends)
        return pd.DataFrame({"difference": distance_km, "same": distance_km <= SAME_PLACE_KM})
    difference = (found.softmax(dim=2) - expected.softmax(dim=2)).abs().amax(dim=(1, 2))
    likeliest = [read_outs.fuse({output: each})[output].argmax(dim=1) for each in (expected, found)]
    return pd.DataFrame({"difference": difference.numpy(), "same": (likeliest[0] == likeliest[1]).numpy()})
