"""What the splits of a list share, which makes a test easier than it looks.

A photo in the test split measures what a model has learnt of the world only if the model has not seen its neighbour:
another photo of the same author, of the same place, or the same photo under another name.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from helpers import bootstrap, cells, metrics

SHARED_AUTHORS = ("error", "tell")
"""What to do about a list whose authors are in several splits."""
NEAR_KM = metrics.THRESHOLDS_KM[:3]  # beyond, a neighbour in training is no help

_PLACE_LEVEL = 13  # S2 cells of about 1.1 km
_COORDINATE = ["latitude", "longitude"]


class SharedAuthors(ValueError):
    """A list with photos of one author in several splits."""


def shared(rows: pd.DataFrame, distance_km: pd.Series | None = None) -> dict[str, int | float]:
    """What the splits of a list share, in numbers.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    distance_km : Series, optional
        What :func:`nearest_training_km` returned for them, where that is known already.

    Returns
    -------
    dict
        Numbers of ``authors in several splits`` and ``places in several splits`` (S2 cells of level 13); photos in the
        ``largest linked group``, which authors and places tie together; and, as a share from 0 to 1 of the validation
        and test photos, those ``within 1 km of a training photo``.
    """
    distance_km = nearest_training_km(rows) if distance_km is None else distance_km
    return {
        "authors in several splits": _in_several_splits(rows[rows["author"] != ""], "author"),
        "places in several splits": _in_several_splits(rows, places(rows)),
        "largest linked group": int(np.bincount(linked_groups(rows)).max()),
        "within 1 km of a training photo": round(float((distance_km <= 1).sum() / max(len(distance_km), 1)), 4),
    }


def report(
    rows: pd.DataFrame, numbers: Mapping[str, int | float], near_identical: pd.DataFrame, compared: int
) -> pd.DataFrame:
    """What the splits of a list share, beside what they should.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    numbers : mapping
        What :func:`shared` returned for them.
    near_identical : DataFrame
        What :func:`groups_across_splits` returned for pairs of near-identical photos.
    compared : int
        Number of photos whose pixels were compared to find those.

    Returns
    -------
    DataFrame
        Columns ``what``; ``among photos``, of how many it is told; ``value``; ``should be`` (0, or empty where
        no number is wrong, or nothing was looked at); and ``ok`` (``yes``, ``no`` or empty).
    """
    known = int((rows["author"] != "").sum())
    table = [
        ("authors in several splits", known, numbers["authors in several splits"], 0),
        ("places in several splits (cells of 1 km)", len(rows), numbers["places in several splits"], 0),
        ("files in several splits, byte for byte", len(rows), _in_several_splits(rows, "sha256"), 0),
        ("near-identical groups in several splits", compared, near_identical["group"].nunique(), 0),
        ("photos of unknown author", len(rows), len(rows) - known, ""),
        ("photos in the largest linked group", len(rows), numbers["largest linked group"], ""),
    ]
    frame = pd.DataFrame(table, columns=["what", "among photos", "value", "should be"])
    sound = np.where(frame["value"] == frame["should be"], "yes", "no")
    is_judged = (frame["should be"] != "") & (frame["among photos"] > 0)  # no photo looked at is no good news
    return frame.assign(ok=np.where(is_judged, sound, ""))


def refuse_shared_authors(rows: pd.DataFrame, written: Path) -> None:
    """Raise :class:`SharedAuthors` if photos of one author are in several splits, naming the first of those authors.

    Splits that are made here keep authors apart, so these were given with the photos: by mistake, or because they are
    published so and numbers on them are to be compared.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    written : Path
        File with what :func:`report` returned for them.
    """
    known = rows[rows["author"] != ""]
    splits = known.groupby("author")["split"].nunique()
    authors = splits.index[splits > 1]
    if not len(authors):
        return
    shown = authors[:3]
    named = "; ".join(f"{author!r}: {_counts(known.loc[known['author'] == author, 'split'])}" for author in shown)
    more = f", and {len(authors) - len(shown):,} more" if len(authors) > len(shown) else ""
    raise SharedAuthors(
        f"{len(authors):,} author(s) in several splits ({named}{more}). A model would be tested on photographers that "
        f"it was trained on. {_how_to_split(rows.attrs)}. To look at a published split as it is: -p shared_authors "
        f"tell. All that the splits share: {written}"
    )


def nearest_training_km(rows: pd.DataFrame) -> pd.Series:
    """Great-circle distance of each validation and test photo to the nearest training photo.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.

    Returns
    -------
    Series of float64
        Kilometres, with the index of the held-out rows; missing if there is no training photo.

    Examples
    --------
    >>> equator = {"latitude": [0.0, 0.0, 0.0], "longitude": [0.0, 10.0, 170.0]}
    >>> nearest_training_km(pd.DataFrame({**equator, "split": ["train", "test", "train"]})).round(1).tolist()
    [1111.9]
    """
    in_training = (rows["split"] == "train").to_numpy()
    return _nearest(rows[~in_training], rows[in_training])[0]


def of_test_photos(test: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """What photos share with those that a run has learned from, which may be of another list.

    Parameters
    ----------
    test, training : DataFrame
        Rows of data lists.

    Returns
    -------
    DataFrame
        ``id``; ``nearest_training_id`` and ``nearest_training_km``, of the training photo that was taken nearest;
        ``author_in_training``, false where the author is not known; and ``place_in_training``, whether a training photo
        lies in the same S2 cell of level 13, about 1.1 km wide.

    Examples
    --------
    >>> photos = pd.DataFrame({"id": ["a"], "author": ["ann"], "latitude": [0.0], "longitude": [0.0]})
    >>> of_test_photos(photos.assign(id="b"), photos).values.tolist()
    [['b', 'a', 0.0, True, True]]
    """
    distance_km, nearest = _nearest(test, training)
    return pd.DataFrame(
        {
            "id": test["id"].to_numpy(),
            "nearest_training_id": nearest,
            "nearest_training_km": distance_km.to_numpy(),
            "author_in_training": (test["author"].isin(training["author"]) & (test["author"] != "")).to_numpy(),
            "place_in_training": np.isin(places(test), places(training)),
        }
    )


def accuracy_without(
    predictions: pd.DataFrame, neighbours: pd.DataFrame, resamples: int = 1000, *, seed: int
) -> pd.DataFrame:
    """Accuracy after test photos were removed that share something with training.

    Parameters
    ----------
    predictions : DataFrame
        ``id, author, distance_km``.
    neighbours : DataFrame
        From :func:`of_test_photos`, of the same photos.
    resamples, seed : int
        As in `bootstrap.author_bootstrap`.

    Returns
    -------
    DataFrame
        ``kept``, and the columns of `bootstrap.interval_table` from ``photos`` on; a row for each way to remove photos
        that leaves any.

    Raises
    ------
    ValueError
        If the two are not of the same photos.
    """
    differing = set(predictions["id"]) ^ set(neighbours["id"])
    if differing:
        raise ValueError(
            f"predictions and neighbours are of other photos: {len(differing)} ids are in one of them alone, such as "
            f"{min(differing)!r}. Evaluate the run again with 05_evaluation/evaluate.ipynb"
        )
    table = predictions[["id", "author", "distance_km"]].merge(neighbours, on="id", validate="one_to_one")
    author, place = table["author_in_training"], table["place_in_training"]
    kept = {
        "all test photos": author | True,
        "no author of training": ~author,
        "no place of training": ~place,
        "neither": ~author & ~place,
    }
    kept |= {f"farther than {near:,} km from training": table["nearest_training_km"] > near for near in NEAR_KM}
    parts = []
    for name, rows in kept.items():
        if rows.any():
            distance_km = {name: table.loc[rows, "distance_km"]}
            parts.append(bootstrap.interval_table(distance_km, table.loc[rows, "author"], resamples, seed=seed))
    return pd.concat(parts, ignore_index=True).rename(columns={"model": "kept"})


def _nearest(held_out: pd.DataFrame, training: pd.DataFrame) -> tuple[pd.Series, NDArray[np.object_]]:
    """Distance of each photo to the nearest training photo, and the id of that."""
    # A coordinate that many photos have would be a leaf of the tree as long as they are many.
    training = training.drop_duplicates(_COORDINATE)
    if not len(training) or not len(held_out):
        return pd.Series(np.nan, held_out.index, name="nearest_training_km"), np.full(len(held_out), "", dtype=object)
    tree = cKDTree(metrics.unit_vectors(training["latitude"], training["longitude"]))
    _, nearest = tree.query(metrics.unit_vectors(held_out["latitude"], held_out["longitude"]), workers=-1)
    # Its own distance, of chords, loses metres where places lie almost opposite each other.
    place = training[_COORDINATE].to_numpy()[nearest]
    distance = metrics.great_circle_km(*held_out[_COORDINATE].to_numpy().T, *place.T)
    ids = training["id"].to_numpy(dtype=object) if "id" in training else training.index.to_numpy(dtype=object)
    return pd.Series(distance, held_out.index, name="nearest_training_km"), ids[nearest]


def nearest_by_split(rows: pd.DataFrame, distance_km: pd.Series) -> pd.DataFrame:
    """How far the photos of each held-out split are from training.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    distance_km : Series
        What :func:`nearest_training_km` returned for them.

    Returns
    -------
    DataFrame
        A row for validation and for test, where there are any: ``photos``, the shares from 0 to 1 ``within_1km``,
        ``within_25km`` and ``within_200km``, and the quantiles ``km_5_percent``, ``km_median`` and ``km_95_percent``;
        missing if there is no training photo.
    """
    table = {}
    for split in ("validation", "test"):
        distances = distance_km[rows.loc[distance_km.index, "split"] == split]
        if not len(distances):
            continue
        low, median, high = distances.quantile([0.05, 0.5, 0.95])
        near = {f"within_{limit}km": float((distances <= limit).mean()) for limit in NEAR_KM}
        shares = near if distances.notna().all() else dict.fromkeys(near, np.nan)
        quantiles = {"km_5_percent": low, "km_median": median, "km_95_percent": high}
        table[split] = {"photos": len(distances), **shares, **quantiles}
    columns = ["photos", *(f"within_{near}km" for near in NEAR_KM), "km_5_percent", "km_median", "km_95_percent"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("split")


def groups_across_splits(rows: pd.DataFrame, first: NDArray[np.integer], second: NDArray[np.integer]) -> pd.DataFrame:
    """Groups of photos that pairs link, directly or through others, and that are in several splits.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list, the ones that were compared.
    first, second : ndarray of int, shape (pairs,)
        Positions in `rows` of both photos of each pair, such as `cleaning.near_identical` returns them.

    Returns
    -------
    DataFrame
        Columns ``group, id, path, split, author``, a row for each photo of such a group, sorted by group and id. Groups
        are numbered from 0 by their smallest id, so that nothing depends on the order of `rows`.
    """
    edges = (np.ones(len(first), dtype=np.int8), (first, second))
    _, group = connected_components(coo_array(edges, shape=(len(rows), len(rows))), directed=False)
    members = rows[["id", "path", "split", "author"]].assign(group=group)
    members = members[members.groupby("group")["split"].transform("nunique") > 1].sort_values("id", ignore_index=True)
    members["group"] = pd.factorize(members["group"])[0]
    return members.sort_values(["group", "id"], ignore_index=True)[["group", "id", "path", "split", "author"]]


def linked_groups(rows: pd.DataFrame) -> NDArray[np.int32]:
    """Number of the group of each photo: what authors and places link, directly or through others."""
    authors, _ = pd.factorize(rows["author"].where(rows["author"] != "", None))  # -1 where unknown
    place, _ = pd.factorize(places(rows))
    known = authors >= 0
    first_place = authors.max(initial=-1) + 1
    nodes = first_place + place.max() + 1
    edges = (np.ones(known.sum(), dtype=np.int8), (authors[known], first_place + place[known]))
    _, group_of_node = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
    return group_of_node[first_place + place]


def places(rows: pd.DataFrame) -> NDArray[np.uint64]:
    """S2 cell of level 13 (about 1.1 km) that each photo was taken in, as the leading bits of its id."""
    leaves = cells.leaf_ids(rows["latitude"].to_numpy(), rows["longitude"].to_numpy())
    return leaves >> np.uint64(2 * (30 - _PLACE_LEVEL) + 1)


def _in_several_splits(rows: pd.DataFrame, by: str | NDArray[np.uint64]) -> int:
    return int((rows.groupby(by)["split"].nunique() > 1).sum())


def _how_to_split(header: Mapping[Hashable, str]) -> str:
    """How to make a list again with splits that keep authors apart, by its header."""
    command = f": {header['made by']}" if "made by" in header else ""
    if "made from" not in header:
        return f"Take the column split out of the table that the list was made from, and make the list again{command}"
    first = header["photos of"]
    return (
        f"The splits are those of the list {first!r}: take the column split out of the table that {first!r} was made "
        f"from, make {first!r} again, and then what was made from it, up to this list{command}"
    )


def _counts(split: pd.Series) -> str:
    return ", ".join(f"{photos:,} {name}" for name, photos in split.value_counts().sort_index().items())
