"""How far predictions are from the truth: great-circle distances, accuracies and their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_KM = 6371.0

# Thresholds and their names as in Weyand et al., "PlaNet", ECCV 2016, and every benchmark since.
THRESHOLDS_KM = (1, 25, 200, 750, 2500)
LEVELS = ("street", "city", "region", "country", "continent")
SHARES = tuple(f"within_{threshold}km" for threshold in THRESHOLDS_KM)

# Names of the two baselines in every table and plot.
RANDOM_TRAINING_PHOTO = "random training photo"
MOST_LIKELY_CELL = "most likely cell"


def great_circle_km(
    latitude_1: ArrayLike, longitude_1: ArrayLike, latitude_2: ArrayLike, longitude_2: ArrayLike
) -> NDArray[np.float64]:
    """Great-circle distance between coordinates on a sphere of radius 6371 km.

    Parameters
    ----------
    latitude_1, longitude_1, latitude_2, longitude_2 : array_like of float
        Degrees; latitude within ±90, longitude within ±180. The shapes broadcast. Computed in float64 whatever the
        input, for float32 errs by up to 0.3 km.

    Returns
    -------
    ndarray of float64
        Kilometres, between 0 and π · 6371.

    Raises
    ------
    ValueError
        If a coordinate is not finite or out of range.

    Notes
    -----
    The haversine formula, with the half-angle's cosine computed as carefully as its sine: ``arcsin`` alone loses
    decimetres for places that lie opposite each other.

    Examples
    --------
    >>> paris, tokyo = (48.8566, 2.3522), (35.6762, 139.6503)
    >>> round(float(great_circle_km(*paris, *tokyo)), 1)
    9711.7
    """
    phi_1, phi_2 = _radians(latitude_1, 90, "latitude_1"), _radians(latitude_2, 90, "latitude_2")
    half = (_radians(longitude_2, 180, "longitude_2") - _radians(longitude_1, 180, "longitude_1")) / 2
    across = np.cos(phi_1) * np.cos(phi_2)
    near = np.sin((phi_2 - phi_1) / 2) ** 2 + across * np.sin(half) ** 2
    far = np.sin((phi_2 + phi_1) / 2) ** 2 + across * np.cos(half) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arctan2(np.sqrt(near), np.sqrt(far)))


def unit_vectors(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Points on the unit sphere, of shape (n, 3), whose straight distances order like great-circle distances.

    Examples
    --------
    >>> unit_vectors([0, 90], [0, 0]).round(3)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    phi, lam = np.radians(np.asarray(latitude, dtype=np.float64)), np.radians(np.asarray(longitude, dtype=np.float64))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def chord_km(chord: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distance in km over a straight distance between :func:`unit_vectors`.

    Examples
    --------
    >>> chord_km(np.array([0.0, 2.0])).round(1).tolist()
    [0.0, 20015.1]
    """
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))


def accuracy(distance_km: ArrayLike, thresholds_km: Sequence[float] = THRESHOLDS_KM) -> NDArray[np.float64]:
    """Share of photos whose distance is at most each threshold.

    Parameters
    ----------
    distance_km : array_like of float, shape (n,)
        Distance of each photo's prediction from the truth.
    thresholds_km : sequence of float, shape (t,)

    Returns
    -------
    ndarray of float64, shape (t,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If there is no photo, or a distance is negative or not finite.

    Examples
    --------
    >>> accuracy([0.5, 25, 300, 9000])
    array([0.25, 0.5 , 0.5 , 0.75, 0.75])
    """
    distance = _distances(distance_km)
    return np.array([np.count_nonzero(distance <= threshold) for threshold in thresholds_km]) / len(distance)


def accuracy_table(distance_km: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Accuracies, median and mean distance, one row per model.

    Parameters
    ----------
    distance_km : mapping of str to array_like of float, shape (n,)
        Name of each model, and the distances of its predictions from the truth.

    Returns
    -------
    DataFrame
        Columns ``model, photos, within_1km … within_2500km`` (shares from 0 to 1), ``median_km, mean_km``; rows in
        the order of the mapping.

    Raises
    ------
    ValueError
        If there is no model, a model has no photo, or a distance is negative or not finite.

    Examples
    --------
    >>> accuracy_table({"f*": [0.5, 25, 300, 9000]}).to_csv(index=False).splitlines()[1]
    'f*,4,0.25,0.5,0.5,0.75,0.75,162.5,2331.375'
    """
    if not distance_km:
        raise ValueError("no model to tabulate: give the distances of at least one")
    rows = []
    for model, distances in distance_km.items():
        distance = _distances(distances, f"model {model!r}: ")
        shares = dict(zip(SHARES, accuracy(distance).tolist(), strict=True))
        middle, mean = float(np.median(distance)), float(distance.mean())
        rows.append({"model": model, "photos": len(distance), **shares, "median_km": middle, "mean_km": mean})
    return pd.DataFrame(rows)


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
    distance = _distances(distance_km)
    names = pd.Series(np.asarray(author, dtype=object))
    if len(names) != len(distance):
        raise ValueError(f"{len(distance)} distances but {len(names)} authors: give one author per photo")
    if resamples < 1:
        raise ValueError(f"{resamples} resamples: give at least 1 (1000 is usual)")
    text = names.where(names.notna(), "").astype(str).str.strip()
    known, name = pd.factorize(text.where(text != ""), sort=True)
    # Photos in an order of their own, nearest first, so that the rows' order changes no draw and no rounding.
    order = np.lexsort((known, distance))
    distance, owner = distance[order], known[order]
    unknown = owner < 0
    owner[unknown] = len(name) + np.arange(np.count_nonzero(unknown))
    authors = int(owner.max()) + 1

    columns = [np.ones(len(distance)), distance, *(distance <= threshold for threshold in THRESHOLDS_KM)]
    sums = np.stack([np.bincount(owner, weights=column, minlength=authors) for column in columns])
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(THRESHOLDS_KM) + 2))
    for row in drawn:
        times = np.bincount(rng.integers(authors, size=authors), minlength=authors)
        photos, total, *hits = np.einsum("a,ca->c", times, sums)  # not BLAS, whose threads change the rounding
        upto = np.cumsum(times[owner])
        # Both middle photos of the draw, as the median of an even number is their mean.
        middle = np.searchsorted(upto, [(upto[-1] - 1) // 2, upto[-1] // 2], side="right")
        row[:] = [*(hit / photos for hit in hits), distance[middle].mean(), total / photos]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if authors > 1 else np.full((2, drawn.shape[1]), np.nan)
    return pd.DataFrame({"low": low, "high": high}, index=[*SHARES, "median_km", "mean_km"])


def interval_table(
    distance_km: Mapping[str, ArrayLike], author: ArrayLike, resamples: int = 1000, *, seed: int
) -> pd.DataFrame:
    """Give :func:`accuracy_table` with the 95 % interval of every figure.

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
        The columns of :func:`accuracy_table`, each figure followed by its ``…_low`` and ``…_high``.

    Raises
    ------
    ValueError
        As in :func:`accuracy_table` and :func:`author_bootstrap`.

    Examples
    --------
    >>> table = interval_table({"f*": [0.5, 25, 300, 9000]}, ["ann", "ann", "bob", "cyd"], seed=7)
    >>> table[["within_25km", "within_25km_low", "within_25km_high"]].iloc[0].to_list()
    [0.5, 0.0, 1.0]
    """
    table = accuracy_table(distance_km)
    intervals = [author_bootstrap(distances, author, resamples, seed=seed) for distances in distance_km.values()]
    columns = {"model": table["model"], "photos": table["photos"]}
    for figure in intervals[0].index:
        columns[figure] = table[figure]
        for end in ("low", "high"):
            columns[f"{figure}_{end}"] = pd.Series([interval.loc[figure, end] for interval in intervals])
    return pd.DataFrame(columns)


def by_group(distance_km: ArrayLike, group: ArrayLike) -> pd.DataFrame:
    """Give :func:`accuracy_table` of each group of photos, such as their scenes; photos without a group are one.

    Examples
    --------
    >>> by_group([10, 600, 100], ["urban", "urban", None])[["group", "photos", "within_750km"]].to_numpy().tolist()
    [['unknown', 1, 1.0], ['urban', 2, 1.0]]
    """
    groups = pd.Series(np.asarray(group, dtype=object)).fillna("unknown")
    distances = pd.Series(np.asarray(distance_km, dtype=np.float64))
    table = accuracy_table({str(name): part for name, part in distances.groupby(groups)})
    return table.rename(columns={"model": "group"})


def confidence_quarters(confidence: ArrayLike) -> NDArray[np.object_]:
    """Name the quarter of the photos that each belongs to by the confidence of its guess, ties broken by order.

    Examples
    --------
    >>> confidence_quarters([0.9, 0.1, 0.2, 0.6]).tolist()
    ['4: most confident', '1: least confident', '2', '3']
    """
    names = np.array(["1: least confident", "2", "3", "4: most confident"], dtype=object)
    ranks = pd.Series(np.asarray(confidence, dtype=np.float64)).rank(method="first").to_numpy() - 1
    return names[(4 * ranks / max(len(ranks), 1)).astype(int)]


def markdown(intervals: pd.DataFrame) -> str:
    """Table in Markdown: per cent within each distance with 95 % intervals, and median and mean in km.

    Parameters
    ----------
    intervals : DataFrame
        From :func:`interval_table`.
    """
    lines = [
        f"| model | photos | {' | '.join(f'{km:,} km' for km in THRESHOLDS_KM)} | median km | mean km |",
        "|---|---:|" + "---:|" * (len(THRESHOLDS_KM) + 2),
    ]
    for row in intervals.to_dict("records"):
        shares = []
        for share in SHARES:
            low, high = 100 * row[f"{share}_low"], 100 * row[f"{share}_high"]
            interval = f" [{low:.1f}, {high:.1f}]" if low <= high else ""  # none for the photos of a single author
            shares.append(f"{100 * row[share]:.1f}{interval}")
        middle, mean = (f"{row[figure]:,.0f}" for figure in ("median_km", "mean_km"))
        lines.append(f"| {row['model']} | {row['photos']:,} | {' | '.join(shares)} | {middle} | {mean} |")
    caption = "Per cent of the photos within each great-circle distance, with 95 % intervals bootstrapped over authors."
    return "\n".join([*lines, "", caption, ""])


def _radians(degrees: ArrayLike, limit: float, name: str) -> NDArray[np.float64]:
    values = np.asarray(degrees, dtype=np.float64)
    wrong = ~(np.abs(values) <= limit)  # NaN is wrong too
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{name} number {first} is {values.flat[first]}, not between -{limit} and {limit} degrees: "
            "mend the coordinate (are latitude and longitude swapped?) or leave the photo out"
        )
    return np.radians(values)


def _distances(distance_km: ArrayLike, whose: str = "") -> NDArray[np.float64]:
    distance = np.asarray(distance_km, dtype=np.float64)
    if distance.ndim != 1:
        raise ValueError(f"{whose}distances have shape {distance.shape}: give one number per photo")
    if not len(distance):
        raise ValueError(f"{whose}no photo to judge: the list or the split is empty")
    wrong = ~((distance >= 0) & np.isfinite(distance))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{whose}distance number {first} is {distance[first]} km: every photo needs a prediction and a truth"
        )
    return distance
