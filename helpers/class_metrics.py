"""How often the right country or region is named, and which are taken for one another."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers import bootstrap, data_lists, metrics, regions

TOP = (1, 3, 5)
"""A photo counts as right in the top k if its class is among the k likeliest."""
FIGURES = tuple(f"top_{k}" for k in TOP)
NO_GUESS = "none"
"""What a photo is counted as taken for where no class is named for it."""

_GUESSES = [f"guess_{rank}" for rank in range(1, max(TOP) + 1)]


@dataclass(frozen=True, eq=False)
class Judged:
    """Guesses of one kind of class beside the truth.

    Attributes
    ----------
    name
        ``country`` or ``region``.
    photos : DataFrame
        Those that lie in some country or region, sorted by id: ``id, author, truth, guess_1`` … ``guess_5``, the
        ``rank`` of the guess that is right (0 for none) and ``distance_km`` from where the photo was taken to what
        stands for its first guess, NaN where there is none.
    counts : dict of str to int
        Photos that are judged, photos ``nowhere``, which are left out, photos whose class the run does not know, which
        cannot be right, and classes of the run that no photo is of, which count nowhere.
    """

    name: str
    photos: pd.DataFrame
    counts: dict[str, int]

    @property
    def most_guesses(self) -> int:
        """Guesses that the photo with most has: without a second one, there is no top 3."""
        return int((self.photos[_GUESSES] != "").any().to_numpy().sum())


def true_keys(rows: pd.DataFrame, name: str) -> pd.Series:
    """Keys of the countries, or regions, that photos were taken in.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list with ``country`` and ``region`` as `exploring.located` returns them.
    name : str
        ``country`` or ``region``.

    Returns
    -------
    Series of str
        In the order of `rows`, "" for a photo that lies in none.

    Raises
    ------
    ValueError
        If no photo lies in a country, or region.

    Examples
    --------
    >>> true_keys(pd.DataFrame({"country": ["FR", ""], "region": ["Corsica", ""]}), "country").tolist()
    ['FR', '']
    """
    keys = regions.keys_of(rows, name)
    if (keys == "").all():
        raise ValueError(f"none of the {len(rows)} photos lies in a {name}: give a list with photos on land")
    return keys


def judge(rows: pd.DataFrame, guesses: pd.DataFrame, name: str, classes: Set[str] | None = None) -> Judged:
    """Compare guesses with the countries, or regions, that photos were taken in.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list with ``country`` and ``region`` as `exploring.located` returns them.
    guesses : DataFrame
        ``id`` and ``guess_1`` … ``guess_5`` of the same photos in any order, the likeliest first, "" where there are no
        more.
    name : str
        ``country`` or ``region``.
    classes : set of str, optional
        What the run can name: see `predict.nameable`; by default anything.

    Raises
    ------
    ValueError
        If photos and guesses differ, no photo lies in a country or region, or a guess is none.
    """
    truth = true_keys(rows, name)
    table = _joined(rows.assign(truth=truth)[["id", "author", "latitude", "longitude", "truth"]], guesses)
    nowhere = table["truth"] == ""
    table = table[~nowhere].sort_values("id", ignore_index=True)
    right = (table[_GUESSES].to_numpy() == table[["truth"]].to_numpy()).astype(bool)
    table["rank"] = np.where(right.any(axis=1), right.argmax(axis=1) + 1, 0)
    table["distance_km"] = _distance_km(table, name)
    present = set(table["truth"])
    counts = {"photos": len(table), "nowhere": int(nowhere.sum())}
    if classes is not None:
        counts["of no class of the run"] = int((~table["truth"].isin(classes)).sum())
        counts["classes of the run without a photo"] = len(classes - present)
    return Judged(name, table.drop(columns=["latitude", "longitude"]), counts)


def judge_all(
    rows: pd.DataFrame, named: Mapping[str, pd.DataFrame], classes: Mapping[str, Set[str]]
) -> dict[str, Judged]:
    """Judge all that a run names, as :func:`judge` does.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list with ``country`` and ``region``.
    named : mapping of str to DataFrame
        From :func:`helpers.predict.named`. What is under ``region`` are regions, all else are countries.
    classes : mapping of str to set of str
        From `predict.nameable`.
    """
    kinds = {level: level if level in regions.PARTITIONS else "country" for level in named}
    return {level: judge(rows, named[level], kind, classes.get(kind)) for level, kind in kinds.items()}


def accuracy_table(judged: Mapping[str, Judged], resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """How often the right class is named, with 95 % percentile intervals by resampling authors.

    Parameters
    ----------
    judged : mapping of str to Judged
        Results by what they are of; the keys become the column ``level``.
    resamples : int
        Number of draws, each of as many authors as there are, with replacement. Photos of an author are alike, and a
        photo whose author is unknown counts as an author of its own.
    seed : int
        The same seed and photos give the same intervals, in whatever order the photos come.

    Returns
    -------
    DataFrame
        One row per level: ``level, photos``, ``classes`` that the photos are of, ``top_1, top_3, top_5``, each followed
        by its ``…_low`` and ``…_high``, ``balanced_accuracy`` and ``median_km``. Shares are from 0 to 1; a top k above
        1 is NaN where a single class is named, and an interval where all photos are by one author.

    Notes
    -----
    The balanced accuracy is the mean over classes of the share of their photos that is named right: of all classes that
    photos are of, those that the run does not know included, and of no other. It has no interval: many classes are of a
    single author, whom a third of the draws leave out, and with him the class.

    Examples
    --------
    >>> rows = pd.DataFrame({"id": ["a", "b", "c"], "author": ["ann", "bob", "cyd"], "country": ["FR", "FR", "JP"]})
    >>> rows = rows.assign(latitude=[48.9, 43.3, 35.7], longitude=[2.4, 5.4, 139.7])
    >>> guesses = pd.DataFrame({"id": ["a", "b", "c"], "guess_1": ["FR", "JP", "JP"], "guess_2": ["JP", "FR", "FR"]})
    >>> guesses = guesses.assign(guess_3="", guess_4="", guess_5="")
    >>> table = accuracy_table({"country": judge(rows, guesses, "country")}, seed=7)
    >>> table[["top_1", "top_3", "balanced_accuracy"]].round(3).values.tolist()
    [[0.667, 1.0, 0.75]]
    """
    if resamples < 1:
        raise ValueError(f"{resamples} resamples: give at least 1 (1000 is usual)")
    rows = []
    for level, each in judged.items():
        hits, label = _hits(each), pd.factorize(each.photos["truth"], sort=True)[0]
        owner = bootstrap.author_numbers(each.photos["author"], np.arange(len(label)))  # photos are sorted by id
        low, high = _intervals(hits, owner, resamples, seed)
        row = {"level": level, "photos": len(label), "classes": int(label.max()) + 1}
        for number, figure in enumerate(FIGURES):
            row |= {figure: hits[number].mean(), f"{figure}_low": low[number], f"{figure}_high": high[number]}
        balanced = (np.bincount(label, weights=hits[0]) / np.bincount(label)).mean()
        rows.append(row | {"balanced_accuracy": balanced, "median_km": float(each.photos["distance_km"].median())})
    return pd.DataFrame(rows)


def per_class(judged: Judged) -> pd.DataFrame:
    """How often photos of each class are named right, and what they are taken for.

    Returns
    -------
    DataFrame
        A row for each class that a photo is of or is taken for, the ones with most photos first: ``key, title``;
        ``photos`` that are of it; ``top_1`` (recall) and ``top_5``, shares of them; ``guessed``, photos that are taken
        for it, and ``precision``, the share of them that are of it; ``taken_for``, the most frequent wrong first guess,
        and ``taken_for_photos``; ``median_km`` from its photos to what stands for their first guesses. NaN, and "",
        where there is nothing to tell.
    """
    photos = judged.photos
    of_class = photos.assign(top_1=photos["rank"] == 1, top_5=photos["rank"] > 0).groupby("truth")
    table = pd.DataFrame(
        {
            "photos": of_class.size(),
            "top_1": of_class["top_1"].mean(),
            "top_5": of_class["top_5"].mean() if judged.most_guesses > 1 else np.nan,
            "guessed": photos["guess_1"][photos["guess_1"] != ""].value_counts(),
            "median_km": of_class["distance_km"].median(),
        }
    )
    table[["photos", "guessed"]] = table[["photos", "guessed"]].fillna(0).astype(np.int64)
    right = (photos["truth"][photos["rank"] == 1]).value_counts().reindex(table.index, fill_value=0)
    table["precision"] = right / table["guessed"].where(table["guessed"] > 0)
    wrong = confusions(judged).groupby("truth").first()
    table["taken_for"] = wrong["guess"].reindex(table.index).fillna("")
    table["taken_for_photos"] = wrong["photos"].reindex(table.index, fill_value=0)
    table.insert(0, "title", regions.world(judged.name)["title"].reindex(table.index))
    ordered = table.rename_axis("key").sort_index().sort_values("photos", ascending=False, kind="stable").reset_index()
    columns = ("key", "title", "photos", "top_1", "top_5", "guessed", "precision", "taken_for", "taken_for_photos")
    return ordered[[*columns, "median_km"]]


def confusion_matrix(judged: Judged) -> pd.DataFrame:
    """Photos by the class that they are of, in rows, and their first guess, in columns.

    Returns
    -------
    DataFrame of int
        Rows and columns are the same classes, sorted: all that a photo is of or is taken for. A last column
        :data:`NO_GUESS` is there where it counts any.
    """
    truth, guess = judged.photos["truth"], judged.photos["guess_1"].replace("", NO_GUESS)
    matrix = pd.crosstab(truth, guess)
    keys = sorted((set(matrix.index) | set(matrix.columns)) - {NO_GUESS})
    columns = [*keys, NO_GUESS] if NO_GUESS in matrix else keys
    return matrix.reindex(index=keys, columns=columns, fill_value=0)


def confusions(judged: Judged) -> pd.DataFrame:
    """Pairs of a class and a wrong first guess, the most frequent first.

    Returns
    -------
    DataFrame
        ``truth, guess, photos``, and the ``share`` that these are of the photos of that class, from 0 to 1.
    """
    photos = judged.photos
    wrong = photos[photos["rank"] != 1].assign(guess=photos["guess_1"].replace("", NO_GUESS))
    pairs = wrong.groupby(["truth", "guess"]).size().rename("photos").reset_index()
    pairs["share"] = pairs["photos"] / pairs["truth"].map(photos["truth"].value_counts())
    order = ["photos", "share", "truth", "guess"]
    return pairs.sort_values(order, ascending=[False, False, True, True], ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """Table in Markdown: per cent named right, with 95 % intervals, and the median distance in km.

    Parameters
    ----------
    table : DataFrame
        From :func:`accuracy_table`.
    """
    titles = " | ".join(f"top {k}" for k in TOP)
    lines = [
        f"| what is named | photos | classes | {titles} | balanced | median km |",
        "|---|" + "---:|" * (len(TOP) + 4),
    ]
    for row in table.to_dict("records"):
        shares = [_percent(*(row[f"{figure}{end}"] for end in ("", "_low", "_high"))) for figure in FIGURES]
        shares.append(_percent(row["balanced_accuracy"], np.nan, np.nan))
        median = "" if np.isnan(row["median_km"]) else f"{row['median_km']:,.0f}"
        lines.append(f"| {row['level']} | {row['photos']:,} | {row['classes']:,} | {' | '.join(shares)} | {median} |")
    caption = "Per cent of the photos named right, with 95 % intervals bootstrapped over authors."
    return "\n".join([*lines, "", caption, ""])


def _percent(share: float, low: float, high: float) -> str:
    """Share in per cent with its interval, where there is one.

    Examples
    --------
    >>> _percent(0.5, 0.25, 0.752), _percent(0.5, np.nan, np.nan), _percent(np.nan, np.nan, np.nan)
    ('50.0 [25.0, 75.2]', '50.0', '')
    """
    interval = f" [{100 * low:.1f}, {100 * high:.1f}]" if low <= high else ""
    return "" if np.isnan(share) else f"{100 * share:.1f}{interval}"


def _joined(photos: pd.DataFrame, guesses: pd.DataFrame) -> pd.DataFrame:
    lacking = {"id", *_GUESSES} - set(guesses.columns)
    if lacking:
        raise ValueError(f"the guesses have no column {', '.join(sorted(lacking))}: give what predict.named returns")
    for what, ids in (("guesses", guesses["id"]), ("photos", photos["id"])):
        if ids.duplicated().any():
            raise ValueError(f"the {what} have the id {ids[ids.duplicated()].iloc[0]!r} more than once: keep one row")
    differing = sorted(set(photos["id"]) ^ set(guesses["id"]))
    if differing:
        raise ValueError(
            f"{len(differing)} ids are not in both the photos and the guesses: {data_lists.shown(differing)}. "
            "Name the photos of this list"
        )
    texts = guesses[["id", *_GUESSES]].fillna("")
    return photos.merge(texts, on="id").astype({column: object for column in ("truth", *_GUESSES)})


def _distance_km(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Distance to the coordinate of the first guess, NaN where there is none."""
    world = regions.world(name)
    for column in _GUESSES:
        strange = set(table[column]) - {""} - set(world.index)
        if strange:
            raise ValueError(f"{column} has what is no {name}: {data_lists.shown(sorted(strange))}")
    guessed = (table["guess_1"] != "").to_numpy()
    to = world.loc[table["guess_1"][guessed], ["latitude", "longitude"]].to_numpy(dtype=np.float64)
    at = table.loc[guessed, ["latitude", "longitude"]].to_numpy(dtype=np.float64)
    distance = np.full(len(table), np.nan)
    distance[guessed] = metrics.great_circle_km(*at.T, *to.T)
    return distance


def _hits(judged: Judged) -> NDArray[np.float64]:
    """Whether each photo is right in the top k, of shape (top k, photos); NaN where so many are never named."""
    rank = judged.photos["rank"].to_numpy()
    hits = np.array([(rank > 0) & (rank <= k) for k in TOP], dtype=np.float64)
    if judged.most_guesses < 2:
        hits[1:] = np.nan
    return hits


def _intervals(hits: NDArray[np.float64], owner: NDArray[np.intp], resamples: int, seed: int) -> NDArray[np.float64]:
    """2.5 % and 97.5 % quantiles of `FIGURES` over draws of authors."""
    authors = int(owner.max()) + 1
    if authors == 1:
        return np.full((2, len(FIGURES)), np.nan)
    photos = np.bincount(owner)
    right = np.array([np.bincount(owner, weights=row) for row in hits])
    drawn = [
        np.einsum("da,ka->dk", times, right) / times.dot(photos)[:, None]
        for times in bootstrap.author_draws(authors, resamples, seed)
    ]
    return np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
