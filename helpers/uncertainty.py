"""Whether a run knows how sure it may be, on photos that had no part in training or calibration."""

from typing import Any

import numpy as np
import pandas as pd

from helpers import bootstrap, calibration, metrics

BEFORE, AFTER = "before", "after"
"""Calibration."""

_LEAST_ANSWERED = 20  # of fewer photos a share says nothing


def chosen(confidences: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Confidences of the answers that count, and of the countries and continents that they are summed to.

    Parameters
    ----------
    confidences : DataFrame
        From `predict.confidences`.
    predictions : DataFrame
        From `predict.table`, of the same photos.

    Returns
    -------
    DataFrame
        ``id, model, author, right, confidence, confidence_uncalibrated``; empty for coordinates, which name no class.

    Raises
    ------
    ValueError
        If the two are not of the same photos.
    """
    _refuse_other_photos(confidences, predictions)
    kept = confidences[confidences["fusion"].isin(["chosen", "sums"]) & confidences["right"].notna()]
    table = kept.merge(predictions[["id", "author"]], on="id", validate="many_to_one")
    return table[["id", "model", "author", "right", "confidence", "confidence_uncalibrated"]].astype({"right": bool})


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Expected calibration error of each model, before and after calibration.

    Parameters
    ----------
    table : DataFrame
        From :func:`chosen`, or the confidences of `calibrating.Fitted`.

    Returns
    -------
    DataFrame
        ``model, photos, right`` (share), mean ``confidence_before`` and ``confidence_after``, ``error_before`` and
        ``error_after``, all but the photos from 0 to 1.
    """
    rows = []
    for model, each in table.groupby("model", sort=False):
        row: dict[str, Any] = {"model": model, "photos": len(each), "right": each["right"].mean()}
        row |= {f"confidence_{BEFORE}": each["confidence_uncalibrated"].mean()}
        row |= {f"confidence_{AFTER}": each["confidence"].mean()}
        row |= {f"error_{BEFORE}": calibration.expected_error(each["confidence_uncalibrated"], each["right"])}
        row |= {f"error_{AFTER}": calibration.expected_error(each["confidence"], each["right"])}
        rows.append(row)
    columns = ["model", "photos", "right", "confidence_before", "confidence_after", "error_before", "error_after"]
    return pd.DataFrame(rows, columns=columns)


def reliability(table: pd.DataFrame, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """Rows of a reliability diagram for each model, before and after calibration.

    Parameters
    ----------
    table : DataFrame
        From :func:`chosen`, or the confidences of `calibrating.Fitted`.
    resamples, seed : int
        As in `bootstrap.share_intervals`.

    Returns
    -------
    DataFrame
        ``model, calibration`` (:data:`BEFORE` or :data:`AFTER`), ``error``, and the columns of
        `calibration.reliability`.
    """
    parts = []
    for model, each in table.groupby("model", sort=False):
        for when, column in ((BEFORE, "confidence_uncalibrated"), (AFTER, "confidence")):
            rows = calibration.reliability(each[column], each["right"], each["author"], resamples=resamples, seed=seed)
            error = calibration.expected_error(each[column], each["right"])
            parts.append(rows.assign(model=model, calibration=when, error=error))
    columns = ["model", "calibration", "error", "photos", "confidence", "right", "low", "high"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def coverage(predictions: pd.DataFrame, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """What radii promise to hold, and what they hold, before and after calibration.

    Parameters
    ----------
    predictions : DataFrame
        From `predict.table`; ``held_from`` and ``held_from_uncalibrated`` are read.
    resamples, seed : int
        As in `bootstrap.share_intervals`.

    Returns
    -------
    DataFrame
        ``calibration, promised, held, low, high``, shares from 0 to 1, for promises of 5 to 95 %.
    """
    promises = np.arange(1, 20) / 20
    parts = []
    for when, column in ((BEFORE, "held_from_uncalibrated"), (AFTER, "held_from")):
        hits = predictions[column].to_numpy(np.float64)[:, None] < promises
        low, high = bootstrap.share_intervals(hits, predictions["author"], resamples, seed=seed)
        table = pd.DataFrame({"promised": promises, "held": hits.mean(axis=0), "low": low, "high": high})
        parts.append(table.assign(calibration=when))
    return pd.concat(parts, ignore_index=True)[["calibration", "promised", "held", "low", "high"]]


def coverage_markdown(held: pd.DataFrame) -> str:
    """Table in Markdown of what the radii for 50 and 90 % hold, before calibration and after.

    Parameters
    ----------
    held : DataFrame
        From :func:`coverage`.
    """
    lines = ["| promised | held before calibration | held after |", "|---:|---:|---:|"]
    for promise in calibration.PROMISES:
        rows = held[np.isclose(held["promised"], promise)].set_index("calibration")
        cells = [_percent(rows.loc[when].to_dict()) for when in (BEFORE, AFTER)]
        lines.append(f"| {100 * promise:.0f} % | {' | '.join(cells)} |")
    caption = "Per cent of the photos within the radius, with 95 % intervals bootstrapped over authors."
    return "\n".join([*lines, "", caption, ""])


def abstention(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy where only the surest guesses are given.

    Parameters
    ----------
    predictions : DataFrame
        From `predict.table`.

    Returns
    -------
    DataFrame
        For each per cent of the photos, but for less than 20 of them: ``answered`` (share), ``least_confidence`` among
        these, ``within_1km`` … ``within_2500km, median_km``. Empty where guesses have no confidence.
    """
    columns = ["answered", "least_confidence", *metrics.SHARES, "median_km"]
    known = predictions[predictions["confidence"].notna()]
    surest = known.sort_values(["confidence", "id"], ascending=[False, True])
    rows = []
    for percent in range(1, 101):
        count = round(len(surest) * percent / 100)
        if count < _LEAST_ANSWERED:
            continue
        distance = surest["distance_km"].to_numpy()[:count]
        least = surest["confidence"].iloc[count - 1]
        rows.append([count / len(surest), least, *metrics.accuracy(distance), float(np.median(distance))])
    return pd.DataFrame(rows, columns=columns)


def fusions(confidences: pd.DataFrame, predictions: pd.DataFrame, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """Ways to fuse crops and networks, on the same photos and networks, beside the one that was chosen.

    Parameters
    ----------
    confidences : DataFrame
        From `predict.confidences`; the last model counts.
    predictions : DataFrame
        From `predict.table`, of the same photos.
    resamples, seed : int
        As in `bootstrap.paired_differences`.

    Returns
    -------
    DataFrame
        ``fusion, within_1km`` … ``within_2500km, median_km``, the expected calibration ``error`` after calibration, and
        ``difference_750km, low, high`` from the one chosen; missing for that one.
    """
    _refuse_other_photos(confidences, predictions)
    of_places = confidences[confidences["distance_km"].notna()]
    best = of_places[of_places["model"] == of_places["model"].iloc[-1]]
    distances = best.pivot(index="id", columns="fusion", values="distance_km").loc[predictions["id"]]
    differences = bootstrap.paired_differences(
        {str(name): distances[name] for name in distances},
        predictions["author"],
        resamples,
        seed=seed,
        reference="chosen",
    )
    differences = differences[differences["figure"] == "within_750km"].set_index("model")
    rows = []
    for fusion in best["fusion"].unique():
        each = best[best["fusion"] == fusion]
        table = metrics.accuracy_table({fusion: distances[fusion]}).rename(columns={"model": "fusion"})
        named = each["right"].notna().all()
        table["error"] = calibration.expected_error(each["confidence"], each["right"]) if named else np.nan
        compared = differences.reindex([fusion])[["difference", "low", "high"]].to_numpy()
        table[["difference_750km", "low", "high"]] = compared
        rows.append(table.drop(columns=["photos", "mean_km"]))
    return pd.concat(rows, ignore_index=True)


def _refuse_other_photos(confidences: pd.DataFrame, predictions: pd.DataFrame) -> None:
    differing = set(confidences["id"]) ^ set(predictions["id"])
    if differing:
        raise ValueError(
            f"confidences and predictions are of other photos: {len(differing)} ids are in one of them alone, such as "
            f"{min(differing)!r}. Evaluate the run again with 05_evaluation/evaluate.ipynb"
        )


def _percent(row: dict[Any, Any]) -> str:
    interval = f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" if row["low"] <= row["high"] else ""
    return f"{100 * row['held']:.1f}{interval}"
