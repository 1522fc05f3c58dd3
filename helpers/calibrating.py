"""Calibrate runs on the validation photos of their data list."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from helpers import calibration, data_lists, fetch, metrics, predict, read_outs, scenes
from helpers.predict import Run

_PLACE = ["predicted_latitude", "predicted_longitude"]


class Fitted(NamedTuple):
    """What was fitted, and what it changes."""

    calibrations: dict[str, tuple[dict[str, calibration.Calibration], str]]
    """By scene, or for ``all`` photos: calibrations by fusion, and the fusion that was chosen."""
    comparison: pd.DataFrame
    """A row for each scene, fusion and model: ``scene, fusion, chosen, model, photos, within_200km, within_750km``,
    ``temperature, outside`` and, before and after, ``nats`` (the mean surprise at the true class) and ``error`` (the
    expected calibration error). Missing where nothing was fitted, or for coordinates."""
    confidences: pd.DataFrame
    """A row for each photo and model, with the views fused as chosen: ``scene, model, id, author, right, confidence,
    confidence_uncalibrated``; empty for coordinates."""

    @property
    def reasons(self) -> dict[str, str]:
        """Why nothing was fitted, by scene, where nothing was."""
        return {scene: found[best].reason for scene, (found, best) in self.calibrations.items() if found[best].reason}


def validation_photos(runs: Mapping[str, Run], seed: int) -> pd.DataFrame:
    """Photos to calibrate on: the validation photos of the list that the runs were trained on.

    Parameters
    ----------
    runs : mapping of str to Run
        From `predict.load`.
    seed : int
        Draws `calibration.MOST_PHOTOS` of them where there are more.

    Returns
    -------
    DataFrame
        Rows of the data list, with their scenes where these are known.
    """
    settings = next(iter(runs.values())).networks[0].settings
    dataset = str(settings["dataset"])
    rows = data_lists.read(dataset)
    found = rows[rows["split"] == "validation"].reset_index(drop=True)
    found = predict.with_maps(runs, scenes.joined(found, dataset), dataset)
    if len(runs) == 1 and settings["scene"] != "all":
        print(
            f"photos of scene {settings['scene']!r} alone are calibrated on: the others were not its to learn",
            flush=True,
        )
    slots = list(runs) if len(runs) > 1 else [settings["scene"]]
    found = _without(found, found["id"].isin(unreadable(runs)), "could not be read in training")
    if slots != ["all"]:
        found = _without(found, ~found["scene"].isin(slots), f"are of no scene of {', '.join(slots)}")
    if len(found) > calibration.MOST_PHOTOS:
        print(f"{calibration.MOST_PHOTOS:,} of {len(found):,} validation photos, drawn at random, are used", flush=True)
        drawn = np.random.default_rng(seed).choice(len(found), calibration.MOST_PHOTOS, replace=False)
        found = found.iloc[np.sort(drawn)].reset_index(drop=True)
    found.attrs = rows.attrs
    return found


def unreadable(runs: Mapping[str, Run]) -> set[str]:
    """Ids of photos that training could not read and left out."""
    return {name for run in runs.values() for network in run.networks for name in network.unreadable}


def find_photos(rows: pd.DataFrame, dataset: str, photo_root: str) -> tuple[pd.DataFrame, Path]:
    """Photos to calibrate on that are there: all or, which is said, none; and their folder."""
    try:
        return rows, fetch.ensure(rows, dataset, photo_root)
    except data_lists.MissingPhotos as error:
        print(f"nothing to calibrate on: {error}", flush=True)
        return rows.iloc[:0], fetch.photo_folder(dataset, photo_root)


def _without(rows: pd.DataFrame, left_out: pd.Series, why: str) -> pd.DataFrame:
    if left_out.any():
        print(f"{left_out.sum():,} of {len(rows):,} validation photos {why} and are left out", flush=True)
    return rows[~left_out].reset_index(drop=True)


def calibrate(runs: Mapping[str, Run], rows: pd.DataFrame, photo_root: Path, batch_size: int) -> Fitted:
    """Fit temperatures and levels for each way to fuse views, and choose the way that suits the validation photos best.

    Parameters
    ----------
    runs : mapping of str to Run
    rows : DataFrame
        From :func:`validation_photos`; there may be none.
    photo_root : Path
        Folder of the photos.
    batch_size : int
        Photos per batch, five crops each.
    """
    calibrations, comparison, confidences = {}, [], []
    parts = dict(predict.routed(runs, rows)) if len(rows) else {}
    for scene, run in runs.items():
        part = parts.get(scene, rows.iloc[:0])
        answers = _answers(run, part, photo_root, batch_size)
        read_out = run.read_out()
        known = calibration.truth(part, read_out)
        found, best = calibration.fit(answers, known, predict.earth_of(run))
        calibrations[scene] = found, best
        for fusion, answer in answers.items():
            for model, shares in answer.shares.items():
                judged = _judged(model, shares, found[fusion], known)
                row = {"scene": scene, "fusion": fusion, "chosen": fusion == best, "model": model}
                place = answer.place if model == run.models[-1] else _place(read_out, model, shares)
                comparison.append(row | _row(model, shares, place, found[fusion], known, judged))
                if fusion == best and known.labels:
                    judged = judged.assign(scene=scene, model=model, id=part["id"].to_numpy(), author=known.author)
                    confidences.append(judged)
    columns = ["scene", "model", "id", "author", "right", "confidence", "confidence_uncalibrated"]
    table = pd.concat(confidences)[columns] if confidences else pd.DataFrame(columns=columns)
    return Fitted(calibrations, pd.DataFrame(comparison), table.reset_index(drop=True))


def described(fitted: Fitted) -> pd.DataFrame:
    """What was fitted, for reading: a row for each scene, the share that a radius holds for each promise."""
    rows = []
    for scene, (found, best) in fitted.calibrations.items():
        each = found[best]
        levels = {f"held to hold {100 * promise:.0f} %": each.level(promise) for promise in calibration.PROMISES}
        rows.append({"scene": scene, "photos": each.photos, "authors": each.authors, "fusion": best, **levels})
    return pd.DataFrame(rows)


def _answers(run: Run, rows: pd.DataFrame, photo_root: Path, batch_size: int) -> dict[str, calibration.Answer]:
    """Answers for photos by fusion, all of them together."""
    read_out = run.read_out()
    fused: dict[str, list[dict[str, torch.Tensor]]] = {fusion: [] for fusion in run.fusions}
    for views in predict.outputs(run, rows, photo_root, batch_size) if len(rows) else ():
        for fusion, parts in fused.items():
            parts.append({name: each.cpu() for name, each in read_outs.fuse(views, fusion).items()})
    answers = {}
    for fusion, parts in fused.items():
        if not parts:
            answers[fusion] = calibration.Answer({}, np.empty((0, 2)))
            continue
        together = {name: torch.cat([part[name] for part in parts]).to(run.device) for name in parts[0]}
        shares, tables = read_out.answers(together)
        answers[fusion] = calibration.Answer(shares, tables[read_out.models[-1]][_PLACE].to_numpy(np.float64))
    return answers


def _place(
    read_out: read_outs.ReadOut | read_outs.CoordinateReadOut, model: str, shares: torch.Tensor
) -> NDArray[np.float64]:
    """Coordinates of the likeliest classes, of shape (n, 2)."""
    return read_out({model: shares})[model][_PLACE].to_numpy(np.float64)


def _judged(
    model: str, shares: torch.Tensor, fitted: calibration.Calibration, known: calibration.Truth
) -> pd.DataFrame:
    if not known.labels:
        return pd.DataFrame()
    raw, best = shares.max(dim=1)
    sure = fitted.tempered(model, shares).amax(dim=1).cpu().double().numpy() * fitted.inside(model)
    right = best.cpu().numpy() == known.labels[model]
    return pd.DataFrame({"right": right, "confidence": sure, "confidence_uncalibrated": raw.cpu().double().numpy()})


def _row(
    model: str,
    shares: torch.Tensor,
    place: NDArray[np.float64],
    fitted: calibration.Calibration,
    known: calibration.Truth,
    judged: pd.DataFrame,
) -> dict[str, object]:
    """Figures of one model under one fusion."""
    distance_km = metrics.great_circle_km(*known.place.T, *place.T)
    accuracy = dict(zip(metrics.SHARES, metrics.accuracy(distance_km), strict=True))
    row = {"photos": len(shares), "within_200km": accuracy["within_200km"], "within_750km": accuracy["within_750km"]}
    if not known.labels:
        return row
    label = known.labels[model]
    before = calibration.surprise(shares, label)
    error = calibration.expected_error(judged["confidence_uncalibrated"], judged["right"])
    row |= {"temperature": np.nan, "outside": np.nan, "nats_before": before, "nats_after": np.nan}
    row |= {"error_before": error, "error_after": np.nan}
    if not fitted.reason:
        row |= {"temperature": fitted.temperatures[model], "outside": fitted.outside[model]}
        row |= {"nats_after": calibration.surprise(fitted.tempered(model, shares), label)}
        row |= {"error_after": calibration.expected_error(judged["confidence"], judged["right"])}
    return row
