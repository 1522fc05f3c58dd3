"""What a data list holds: its countries, its regions, and a few photos of each."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers import data_lists, enriching, photo_stores, photos, places

NAMELESS = {"country": enriching.NONE, "region": "no region"}
"""What photos are counted under that were taken in none, such as at sea."""


def located(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a list with the columns ``country`` and ``region`` as `enriching.enrich` finds them.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list. Those of one that was enriched, or made from such a one, are returned as they are.
    """
    return rows if data_lists.LOCATED in rows.attrs else enriching.enrich(rows).rows


def country_names(codes: pd.Series) -> pd.Series:
    """English names of countries; a code that is not known stays as it is.

    Examples
    --------
    >>> country_names(pd.Series(["FR", "XK", "Atlantis", ""])).tolist()
    ['France', 'Kosovo', 'Atlantis', '']
    """
    return codes.map(places.countries()["name"]).fillna(codes)


def counts(names: pd.Series, split: pd.Series) -> pd.DataFrame:
    """Number of photos by country or region, and split.

    Parameters
    ----------
    names : Series of str
        Country or region of each photo, "" for none; its name is that of the index that is returned.
    split : Series of str
        Split of each photo.

    Returns
    -------
    DataFrame
        ``photos``, ``share`` from 0 to 1, and the photos of each split that there is; the most frequent first, and
        photos without a name among them as "".
    """
    by_split = pd.crosstab(names, split.rename(None))
    by_split = by_split[[name for name in data_lists.SPLITS if name in by_split]]
    photos = by_split.sum(axis=1)
    table = by_split.assign(photos=photos, share=photos / max(len(names), 1))
    ordered = table.sort_index().sort_values("photos", ascending=False, kind="stable")
    return ordered[["photos", "share", *by_split.columns]]


def photos_by_region(rows: pd.DataFrame, photo_root: Path) -> dict[str, tuple[list[NDArray[np.uint8]], list[str]]]:
    """Photos of each region, for :func:`helpers.plots.photo_rows`.

    Parameters
    ----------
    rows : DataFrame
        What :func:`sampled` returned.
    photo_root : Path
        Where the photos are, all of them sound.

    Returns
    -------
    dict
        Small copies of the photos, and as captions their ids.
    """
    store = photo_stores.open_store(photo_root)
    return {
        str(region) or NAMELESS["region"]: (photos.thumbnails(store, shown["path"]), shown["id"].tolist())
        for region, shown in rows.groupby("region", sort=False)
    }


def sampled(rows: pd.DataFrame, regions: int, photos_each: int, seed: int) -> pd.DataFrame:
    """Photos of the regions that have most.

    Parameters
    ----------
    rows : DataFrame
        What :func:`located` returned.
    regions : int
        How many; photos without a region count as one.
    photos_each : int
        Most photos of each.
    seed : int
        Decides which.

    Returns
    -------
    DataFrame
        Those rows, region by region, the same ones whatever the order of `rows`.
    """
    frequent = counts(rows["region"], rows["split"]).index[:regions]
    mixed = rows[rows["region"].isin(frequent)].sort_values("id").sample(frac=1, random_state=seed)
    drawn = mixed.groupby("region").head(photos_each)
    rank = pd.Series(range(len(frequent)), frequent)
    return drawn.iloc[drawn["region"].map(rank).argsort(kind="stable")]
