"""How far predictions are from the truth: great-circle distances and accuracies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_KM = 6371.0

# Thresholds and their names as in Weyand et al., "PlaNet", ECCV 2016, and every benchmark since.
THRESHOLDS_KM = (1, 25, 200, 750, 2500)
LEVELS = ("street", "city", "region", "country", "continent")
SHARES = tuple(f"within_{threshold}km" for threshold in THRESHOLDS_KM)
FIGURES = (*SHARES, "median_km", "mean_km")

# Names of the baselines in every table and plot.
RANDOM_TRAINING_PHOTO = "random training photo"
MOST_LIKELY_CELL = "most likely cell"
NEAREST_NEIGHBOUR = "nearest neighbour"
SHUFFLED_LABELS = "shuffled labels"


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
    distance = checked_distances(distance_km)
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
        distance = checked_distances(distances, f"model {model!r}: ")
        shares = dict(zip(SHARES, accuracy(distance).tolist(), strict=True))
        middle, mean = float(np.median(distance)), float(distance.mean())
        rows.append({"model": model, "photos": len(distance), **shares, "median_km": middle, "mean_km": mean})
    return pd.DataFrame(rows)


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


def quarters(values: ArrayLike, least: str, most: str, none: str) -> NDArray[np.object_]:
    """Name the quarter of the photos that each belongs to by a number that it has.

    Equal numbers share a quarter, so that the rows' order changes none; quarters then differ in size.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        NaN for photos that have no number.
    least, most, none : str
        What the first and the last quarter, and photos without a number, are called.

    Examples
    --------
    >>> quarters([0.9, 0.1, 0.2, 0.6, np.nan], "least sure", "surest", "no confidence").tolist()
    ['4: surest', '1: least sure', '2', '3', 'no confidence']
    >>> quarters([0.5, 0.9, 0.5, 0.5], "least sure", "surest", "no confidence").tolist()
    ['2', '4: surest', '2', '2']
    """
    names = np.array([f"1: {least}", "2", "3", f"4: {most}", none], dtype=object)
    ranks = pd.Series(np.asarray(values, dtype=np.float64)).rank(method="average") - 1
    quarter = 4 * ranks / max(ranks.count(), 1)
    return names[quarter.fillna(4).astype(int)]


def confidence_quarters(confidence: ArrayLike) -> NDArray[np.object_]:
    """Give :func:`quarters` of photos by the confidence of their guess; plain latitude and longitude have none.

    Examples
    --------
    >>> confidence_quarters([0.9, 0.1, 0.2, 0.6]).tolist()
    ['4: most confident', '1: least confident', '2', '3']
    """
    return quarters(confidence, "least confident", "most confident", "no confidence")


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


def checked_distances(distance_km: ArrayLike, whose: str = "") -> NDArray[np.float64]:
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
