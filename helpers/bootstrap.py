"""How far the accuracies of models would move with other photographers: intervals by resampling authors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from helpers import metrics

_NUMBERS_AT_ONCE = 1 << 20  # 8 MB


def author_bootstrap(distance_km: ArrayLike, author: ArrayLike, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """95 % percentile intervals of the accuracies, the median and the mean, by resampling authors.

    Photos of one author are alike (one trip, one camera), so to resample photos would give intervals that are too
    narrow: Im2GPS3k has 2,997 photos by 198 authors.

    Parameters
    ----------
    distance_km : array_like of float, shape (n,)
    author : array_like of str, shape (n,)
        A photo whose author is missing or blank counts as an author of its own.
    resamples : int
        Number of draws, each of as many authors as there are, with replacement.
    seed : int
        The same seed and photos give the same intervals, in whatever order the photos come.

    Returns
    -------
    DataFrame
        One row per ``within_1km … within_2500km, median_km, mean_km``; columns ``low, high``. NaN where all
        photos are by one author, since nothing then tells how far another author's would lie.

    Raises
    ------
    ValueError
        If the lengths differ, there is no photo, or a distance is negative or not finite.

    Examples
    --------
    >>> intervals = author_bootstrap([0.5, 25, 300, 9000], ["ann", "ann", "bob", None], seed=7)
    >>> intervals.loc["within_25km"].to_list()
    [0.0, 1.0]
    """
    drawn = _drawn_figures([metrics.checked_distances(distance_km)], author, resamples, seed)[0]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return pd.DataFrame({"low": low, "high": high}, index=list(metrics.FIGURES))


def paired_differences(
    distance_km: Mapping[str, ArrayLike],
    author: ArrayLike,
    resamples: int = 1000,
    *,
    seed: int,
    reference: str | None = None,
) -> pd.DataFrame:
    """How much models differ on the same photos, with 95 % percentile intervals by resampling authors.

    Both models of a pair are judged on the same draws. Photos that are hard for one are mostly hard for the other, so
    a difference can be certain though the intervals of the two models overlap.

    Parameters
    ----------
    distance_km : mapping of str to array_like of float, shape (n,)
        Name of each model, and the distances of its predictions for the same n photos; NaN where it has none. A pair is
        compared on the photos that both have.
    author : array_like of str, shape (n,)
    resamples, seed : int
        As in :func:`author_bootstrap`.
    reference : str, optional
        Model to compare every other one with; by default every pair is compared.

    Returns
    -------
    DataFrame
        Columns ``model, other, figure, photos, difference, low, high, excludes_0, p_value``, a row for each pair and
        each of ``within_1km … within_2500km, median_km, mean_km``. ``difference`` is the figure of ``model`` minus that
        of ``other``; ``excludes_0`` says whether its interval lies on one side of 0. The interval and the p-value are
        NaN where all photos are by one author. No rows for a single model.

    Raises
    ------
    ValueError
        If there is no model `reference`, a pair shares no photo, or as in :func:`author_bootstrap`.

    Notes
    -----
    The p-value is two-sided and turns the interval round: twice the share of draws in which the difference is 0 or of
    the other sign. One is added to these draws and to all (Davison & Hinkley, *Bootstrap Methods and their
    Application*, 1997, chapter 4), so no p-value is below 2 / (resamples + 1): 0.002 of 1,000 draws. Below 0.05 the
    interval excludes 0.

    Examples
    --------
    >>> models = {"one": [0.5, 25, 300, 9000], "two": [0.7, 26, 300, 9100]}
    >>> table = paired_differences(models, ["ann", "ann", "bob", "cyd"], seed=7)
    >>> table.loc[table["figure"] == "within_25km", ["model", "other", "difference", "low", "high"]].values.tolist()
    [['one', 'two', 0.25, 0.0, 0.5]]
    """
    if reference is not None and reference not in distance_km:
        raise ValueError(f"no model {reference!r} to compare with: there are {', '.join(distance_km)}")
    distances = {model: np.asarray(values, dtype=np.float64) for model, values in distance_km.items()}
    names = np.asarray(author, dtype=object)
    if reference is None:
        pairs = list(combinations(distances, 2))
    else:
        pairs = [(model, reference) for model in distances if model != reference]
    parts = [_compared(model, other, distances, names, resamples, seed) for model, other in pairs]
    columns = ["model", "other", "figure", "photos", "difference", "low", "high", "excludes_0", "p_value"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _compared(
    model: str,
    other: str,
    distance_km: Mapping[str, NDArray[np.float64]],
    author: NDArray[np.object_],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Rows of :func:`paired_differences` for one pair."""
    one, two = distance_km[model], distance_km[other]
    if not one.shape == two.shape == author.shape:
        raise ValueError(
            f"models {model!r} and {other!r} have {len(one)} and {len(two)} distances, and there are {len(author)} "
            "authors: give one of each per photo, NaN for a photo that a model has no prediction for"
        )
    shared = ~(np.isnan(one) | np.isnan(two))
    if not shared.any():
        raise ValueError(f"models {model!r} and {other!r} share no photo: compare models on the same photos")
    pair = [
        metrics.checked_distances(values[shared], f"model {name!r}: ") for name, values in ((model, one), (other, two))
    ]
    # Sorted, so that the rows' order changes no rounding.
    judged = metrics.accuracy_table({"one": np.sort(pair[0]), "two": np.sort(pair[1])})[
        list(metrics.FIGURES)
    ].to_numpy()
    drawn = _drawn_figures(pair, author[shared], resamples, seed)
    drawn = drawn[0] - drawn[1]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    contrary = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    p_value = np.where(np.isnan(low), np.nan, np.minimum(2 * (contrary + 1) / (resamples + 1), 1))
    rows = {"model": model, "other": other, "figure": metrics.FIGURES, "photos": int(shared.sum())}
    differences = {"difference": judged[0] - judged[1], "low": low, "high": high, "excludes_0": (low > 0) | (high < 0)}
    return pd.DataFrame({**rows, **differences, "p_value": p_value})


def holm(p_value: ArrayLike) -> NDArray[np.float64]:
    """P-values corrected for how many there are, since of many differences some exclude 0 by chance.

    Parameters
    ----------
    p_value : array_like of float, shape (n,)
        Of all comparisons that are made; NaN for one that could not be made, which does not count.

    Returns
    -------
    ndarray of float64, shape (n,)
        The smallest times n, the next times n - 1 and so on, none smaller than the one before it, none above 1.

    Notes
    -----
    Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of Statistics 6, 1979. It
    holds however the comparisons depend on one another, as they do here: all are with one model, on the same photos.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_value, dtype=np.float64)
    corrected = np.full(given.shape, np.nan)
    order = np.argsort(given, kind="stable")[: np.count_nonzero(~np.isnan(given))]
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def _drawn_figures(
    distances: Sequence[NDArray[np.float64]], author: ArrayLike, resamples: int, seed: int
) -> NDArray[np.float64]:
    """`metrics.FIGURES` of each model for each draw of authors, of shape (models, resamples, figures).

    All models are judged on the same draws. NaN where all photos are by one author.
    """
    if len(distances[0]) != np.size(author):
        raise ValueError(f"{len(distances[0])} distances but {np.size(author)} authors: give one author per photo")
    # By distance and not by row, so that the rows' order changes no draw.
    owner = author_numbers(author, np.lexsort(distances[::-1]))
    if resamples < 1:
        raise ValueError(f"{resamples} resamples: give at least 1 (1000 is usual)")
    authors = int(owner.max()) + 1
    drawn = np.full((len(distances), resamples, len(metrics.FIGURES)), np.nan)
    if authors == 1:
        return drawn
    # Photos in an order of their own, nearest first, so that the rows' order changes no rounding.
    orders = [np.lexsort((owner, distance)) for distance in distances]
    models = [(distance[order], owner[order]) for distance, order in zip(distances, orders, strict=True)]
    sums = [_author_sums(distance, owner, authors) for distance, owner in models]
    blocks = [
        np.stack([_figures(times, *model, sums[number]) for number, model in enumerate(models)])
        for times in author_draws(authors, resamples, seed, most=_NUMBERS_AT_ONCE // len(owner))
    ]
    return np.concatenate(blocks, axis=1)


def _figures(
    times: NDArray[np.float64], distance: NDArray[np.float64], owner: NDArray[np.intp], sums: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`metrics.FIGURES` of photos, nearest first, for draws in which each author occurs so many times."""
    # Not BLAS, whose threads change the rounding.
    photos, total, *hits = np.einsum("da,ca->cd", times, sums)
    upto = np.cumsum(times[:, owner], axis=1)
    # Both middle photos of the draw, as the median of an even number is their mean.
    middle = [(upto <= rank[:, None]).sum(axis=1) for rank in ((photos - 1) // 2, photos // 2)]
    return np.column_stack([*(hit / photos for hit in hits), distance[middle].mean(axis=0), total / photos])


def author_draws(
    authors: int, resamples: int, seed: int, most: int = _NUMBERS_AT_ONCE
) -> Iterator[NDArray[np.float64]]:
    """How often each author occurs in draws of as many authors as there are, with replacement.

    Parameters
    ----------
    authors, resamples, seed : int
    most : int
        Draws in a block; fewer where a block would have more than a million numbers. It changes no draw.

    Yields
    ------
    ndarray of float64, shape (draws, authors)
        The next block of the draws.

    Examples
    --------
    >>> blocks = list(author_draws(3, 5, seed=7, most=2))
    >>> [len(block) for block in blocks], np.concatenate(blocks).sum(axis=1).tolist()
    ([2, 2, 1], [3.0, 3.0, 3.0, 3.0, 3.0])
    """
    rng = np.random.default_rng(seed)
    most = max(min(most, _NUMBERS_AT_ONCE // authors), 1)
    for start in range(0, resamples, most):
        draws = min(most, resamples - start)
        picked = rng.integers(authors, size=(draws, authors)) + authors * np.arange(draws)[:, None]
        yield np.bincount(picked.ravel(), minlength=draws * authors).reshape(draws, authors).astype(np.float64)


def share_intervals(hits: ArrayLike, author: ArrayLike, resamples: int = 1000, *, seed: int) -> NDArray[np.float64]:
    """95 % percentile intervals of shares of photos, by resampling authors.

    Parameters
    ----------
    hits : array_like of bool, shape (n,) or (n, k)
        Whether each photo counts, for each of k shares.
    author : array_like of str, shape (n,)
    resamples, seed : int
        As in :func:`author_bootstrap`.

    Returns
    -------
    ndarray of float64, shape (2,) or (2, k)
        Lower and upper ends, from 0 to 1; NaN where all photos are by one author.

    Examples
    --------
    >>> share_intervals([True, True, False, True], ["ann", "ann", "bob", "cyd"], seed=7).tolist()
    [0.0, 1.0]
    """
    counted = np.asarray(hits, dtype=np.float64)
    columns = counted.reshape(len(counted), -1)
    if not len(counted) or resamples < 1:
        raise ValueError(f"{len(counted)} photos and {resamples} resamples: give at least one of each")
    owner = author_numbers(author, np.lexsort(columns.T))  # by value, so that the rows' order changes no draw
    authors = int(owner.max()) + 1
    if authors == 1:
        return np.full((2, *counted.shape[1:]), np.nan)
    photos = np.bincount(owner)
    sums = np.stack([np.bincount(owner, weights=column, minlength=authors) for column in columns.T])
    blocks = author_draws(authors, resamples, seed)
    drawn = np.concatenate([times @ sums.T / (times @ photos)[:, None] for times in blocks])  # of whole numbers: exact
    return np.quantile(drawn, [0.025, 0.975], axis=0).reshape(2, *counted.shape[1:])


def author_numbers(author: ArrayLike, order: ArrayLike) -> NDArray[np.intp]:
    """Number of each photo's author: the known alphabetically, then each photo of unknown author.

    Parameters
    ----------
    author : array_like of str, shape (n,)
        A photo whose author is missing or blank counts as an author of its own.
    order : array_like of int, shape (n,)
        All photos, in the order in which those of unknown author are numbered.

    Returns
    -------
    ndarray of int, shape (n,)
        From 0 on, without gaps.

    Examples
    --------
    >>> author_numbers(["bob", None, "ann", " ", "bob "], order=[4, 3, 2, 1, 0]).tolist()
    [1, 3, 0, 2, 1]
    """
    names = pd.Series(np.asarray(author, dtype=object))
    text = names.where(names.notna(), "").astype(str).str.strip()
    owner, name = pd.factorize(text.where(text != ""), sort=True)
    photos = np.asarray(order)
    unknown = photos[owner[photos] < 0]
    owner[unknown] = len(name) + np.arange(len(unknown))
    return owner


def _author_sums(distance: NDArray[np.float64], owner: NDArray[np.intp], authors: int) -> NDArray[np.float64]:
    """Photos, summed distance, and photos within each threshold of each author, of shape (2 + thresholds, authors)."""
    columns = [np.ones(len(distance)), distance, *(distance <= threshold for threshold in metrics.THRESHOLDS_KM)]
    return np.stack([np.bincount(owner, weights=column, minlength=authors) for column in columns])


def interval_table(
    distance_km: Mapping[str, ArrayLike], author: ArrayLike, resamples: int = 1000, *, seed: int
) -> pd.DataFrame:
    """Give :func:`helpers.metrics.accuracy_table` with the 95 % interval of every figure.

    Parameters
    ----------
    distance_km : mapping of str to array_like of float, shape (n,)
        Name of each model, and the distances of its predictions for the same n photos.
    author : array_like of str, shape (n,)
    resamples, seed : int
        As in :func:`author_bootstrap`.

    Returns
    -------
    DataFrame
        The columns of :func:`helpers.metrics.accuracy_table`, each figure followed by its ``…_low`` and ``…_high``.

    Raises
    ------
    ValueError
        As in :func:`helpers.metrics.accuracy_table` and :func:`author_bootstrap`.

    Examples
    --------
    >>> table = interval_table({"f*": [0.5, 25, 300, 9000]}, ["ann", "ann", "bob", "cyd"], seed=7)
    >>> table[["within_25km", "within_25km_low", "within_25km_high"]].iloc[0].to_list()
    [0.5, 0.0, 1.0]
    """
    table = metrics.accuracy_table(distance_km)
    intervals = [author_bootstrap(distances, author, resamples, seed=seed) for distances in distance_km.values()]
    columns = {"model": table["model"], "photos": table["photos"]}
    for figure in intervals[0].index:
        columns[figure] = table[figure]
        for end in ("low", "high"):
            columns[f"{figure}_{end}"] = pd.Series([interval.loc[figure, end] for interval in intervals])
    return pd.DataFrame(columns)


def markdown(intervals: pd.DataFrame, looks: Mapping[tuple[str, str], str] | None = None) -> str:
    """Table in Markdown: per cent within each distance with 95 % intervals, and median and mean in km.

    Parameters
    ----------
    intervals : DataFrame
        From :func:`interval_table`.
    looks : mapping of (str, str) to str, optional
        By model and figure, how those are written that stand out, such as ``"**{}**"``.
    """
    written = {} if looks is None else looks
    lines = [
        f"| model | photos | {' | '.join(f'{km:,} km' for km in metrics.THRESHOLDS_KM)} | median km | mean km |",
        "|---|---:|" + "---:|" * (len(metrics.THRESHOLDS_KM) + 2),
    ]
    for row in intervals.to_dict("records"):
        cells = []
        for figure in metrics.FIGURES:
            is_share = figure in metrics.SHARES
            text = f"{100 * row[figure]:.1f}" if is_share else f"{row[figure]:,.0f}"
            low, high = 100 * row[f"{figure}_low"], 100 * row[f"{figure}_high"]
            # None for the photos of a single author.
            interval = f" [{low:.1f}, {high:.1f}]" if is_share and low <= high else ""
            cells.append(written.get((row["model"], figure), "{}").format(text) + interval)
        lines.append(f"| {_cell(row['model'])} | {row['photos']:,} | {' | '.join(cells)} |")
    caption = "Per cent of the photos within each great-circle distance, with 95 % intervals bootstrapped over authors."
    return "\n".join([*lines, "", caption, ""])


def differences_markdown(differences: pd.DataFrame) -> str:
    """Table in Markdown of what models differ by: a row for each pair, bold where the interval excludes 0.

    Parameters
    ----------
    differences : DataFrame
        From :func:`paired_differences`. If it has a column ``significant``, that decides what is bold.
    """
    if differences.empty:
        return "One model: there is none to compare it with.\n"
    headings = [
        "model",
        "compared with",
        "photos",
        *(f"{km:,} km" for km in metrics.THRESHOLDS_KM),
        "median km",
        "mean km",
    ]
    bold, meaning = "excludes_0", "they exclude 0"
    if "significant" in differences:
        bold, meaning = "significant", "a difference is significant at 5 %, by Holm's correction for each column"
    lines = [f"| {' | '.join(headings)} |", "|---|---|---:|" + "---:|" * len(metrics.FIGURES)]
    for (model, other), rows in differences.groupby(["model", "other"], sort=False):
        cells = [_difference(row, bold) for row in rows.to_dict("records")]
        lines.append(
            f"| {_cell(str(model))} | {_cell(str(other))} | {rows['photos'].iloc[0]:,} | {' | '.join(cells)} |"
        )
    caption = (
        "Figures of the model minus those of the one it is compared with, on the photos that both have: percentage "
        f"points, and km for median and mean. 95 % intervals bootstrapped over authors; bold where {meaning}."
    )
    return "\n".join([*lines, "", caption, ""])


def _difference(row: Mapping[Any, Any], bold: str) -> str:
    is_share = row["figure"] in metrics.SHARES
    difference, low, high = ((100 if is_share else 1) * row[column] for column in ("difference", "low", "high"))
    form = "+.1f" if is_share else "+,.0f"
    interval = f" [{low:{form}}, {high:{form}}]" if low <= high else ""  # none for the photos of a single author
    return f"**{difference:{form}}**{interval}" if row[bold] else f"{difference:{form}}{interval}"


def _cell(name: str) -> str:
    """A model's name as the text of one cell of a table in Markdown."""
    return re.sub(r"([|<])", r"\\\1", " ".join(name.split()))
